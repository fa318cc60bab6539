"""What is set aside is counted, adds up over parts, and is no more than the config allows."""

from collections import Counter

import pytest
import tiny

from baton.data import columns
from baton.data.ingestion import quarantine
from baton.data.ingestion.quarantine import Quarantine
from baton.errors import BadInput

MISSING, UNSEEN = columns.missing_target("y"), quarantine.unseen_class("y")


def held(columns_of: dict[str, str] | None = None, **reasons: int) -> Quarantine:
    return Quarantine(Counter(reasons), {}, columns_of or {})


def test_parts_add_up_and_the_least_example_stays():
    one = Quarantine(Counter(a=2, b=1), {"a": "'7'", "b": "'x'"}, {"a": "n"})
    other = Quarantine(Counter(a=3, c=4), {"a": "'5'", "c": "'z'"}, {"c": "m"})
    both = one + other
    assert both == other + one
    assert (both.rows, both.reasons) == (10, {"a": 5, "b": 1, "c": 4})
    assert both.examples == {"a": "'5'", "b": "'x'", "c": "'z'"} and both.columns == {"a": "n", "c": "m"}
    assert one.examples == {"a": "'7'", "b": "'x'"}  # as it was


@pytest.mark.parametrize(("key", "reasons"), [
    ("rows", {"x is infinite": 11}),
    ("rows", {MISSING: 5, "x is infinite": 6}),
    ("unreadable_targets", {"y is not a number": 11}),
    ("unreadable_targets", {"y is not a number": 6, "y is infinite": 5}),
])  # fmt: skip
def test_one_row_more_than_the_share_is_refused(key, reasons):
    config = tiny.config(data={"max_quarantine": {"rows": 1, "unreadable_targets": 1, key: 0.1}})
    whose = dict.fromkeys(reasons, "y") | {"x is infinite": "x"}
    most, *_ = reasons
    allowed = {**reasons, most: reasons[most] - 1}
    quarantine.check(config, held(whose, **allowed), 100)
    with pytest.raises(BadInput, match=rf"11 of 100 rows .* data\.max_quarantine\.{key} allows 10\.0 %"):
        quarantine.check(config, held(whose, **reasons), 100)


@pytest.mark.parametrize("reason", [MISSING, UNSEEN, "x is infinite", "a line"])
def test_what_can_be_read_is_no_unreadable_target(reason):
    config = tiny.config(data={"max_quarantine": {"rows": 1, "unreadable_targets": 0}})
    whose = {MISSING: "y", UNSEEN: "y", "x is infinite": "x"}
    quarantine.check(config, held(whose, **{reason: 60}), 100)


def test_an_empty_split_is_refused_with_what_was_left_out():
    quarantine.check_splits({"train": 1, "validation": 1, "test": 1}, Quarantine())
    with pytest.raises(
        BadInput, match=r"The validation and test split would be empty.* 8 usable rows and 0 quarantined$"
    ):
        quarantine.check_splits({"train": 8, "validation": 0, "test": 0}, Quarantine())
    with pytest.raises(BadInput, match=r"Received: 9 usable rows and 2 quarantined: x is infinite \(2 rows\)$"):
        quarantine.check_splits({"train": 8, "validation": 1, "test": 0}, held(**{"x is infinite": 2}))
