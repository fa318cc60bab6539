"""How often test rows were asked, and what that leaves: the error adds up to what is allowed, rows are known again."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from baton import names
from baton.data.columns import Column
from baton.registry import looks
from baton.registry.looks import Look, Sketch


@given(st.floats(0.5, 0.999), st.integers(1, 2000))
@settings(max_examples=40, deadline=None)
def test_the_errors_of_all_looks_and_what_is_left_are_what_is_allowed(confidence, number):
    spent = sum(Look(k, confidence).tail for k in range(1, number + 1))
    assert spent + Look(number, confidence).left == pytest.approx(1 - confidence)


def test_the_first_look_is_the_interval_of_one_look_and_later_ones_are_wider():
    levels = [Look(k).level for k in range(1, 101)]
    assert levels[0] == pytest.approx(0.95) and levels == sorted(levels) and levels[-1] < 1
    expected = {"looks": 3, "confidence": 0.95, "interval": 1 - 0.1 / 12, "error_left": 0.0125}
    assert Look(3).to_dict() == pytest.approx(expected)


def of_rows(numbers) -> Sketch:
    """The sketch of a table of rows that differ by one number, which is no target of theirs."""
    table = pa.table({"x1": np.asarray(numbers, float), "y": np.zeros(len(numbers))})
    columns = [Column(name, "numeric", "double") for name in ("x1", "y")]
    return looks.sketch(table, SimpleNamespace(features=columns[:1], target_column=columns[1]))


@given(st.sets(st.integers(0, 300), max_size=200), st.sets(st.integers(0, 300), max_size=200), st.randoms())
@settings(max_examples=40, deadline=None)
def test_of_few_rows_the_overlap_is_exact_in_any_order_and_however_often_they_occur(one, other, random):
    shuffled = [*one, *list(one)[:3]]
    random.shuffle(shuffled)
    expected = len(one & other) / len(one) if one else 0.0
    assert looks.overlap(of_rows(shuffled), of_rows(list(other))) == pytest.approx(expected)


@pytest.mark.parametrize("shared", [0, 1000, 5000, 9000, 10_000])
def test_of_many_rows_it_is_estimated(shared):
    present, past = of_rows(range(10_000)), of_rows(range(10_000 - shared, 20_000 - shared))
    assert looks.overlap(present, past) == pytest.approx(shared / 10_000, abs=0.12)


def test_a_part_and_a_whole_are_told_apart():
    part, whole = of_rows(range(3000)), of_rows(range(10_000))
    assert looks.overlap(part, whole) > 0.75 and looks.overlap(whole, part) < 0.45


def test_an_estimate_is_no_more_than_all():
    few, many = Sketch(10, "", np.arange(9, dtype=np.uint32)), Sketch(1000, "", np.arange(9, dtype=np.uint32))
    assert looks.overlap(few, many) == 1


def test_half_of_the_rows_is_not_most_of_them():
    halves = [looks.count([version("a", of_rows(range(rows)))], "new", "f", of_rows(range(100))) for rows in (50, 51)]
    assert halves == [1, 2]


def test_a_sketch_comes_back_from_its_tag_which_any_store_holds():
    kept = of_rows(range(10_000))
    tag = kept.to_tag()
    again = Sketch.of_tag(tag)
    assert len(tag) < 1500 and again is not None
    assert (again.rows, again.targets, again.hashes.tolist()) == (kept.rows, kept.targets, kept.hashes.tolist())


@pytest.mark.parametrize("tag", ["", "{}", "[]", "3", '{"rows": 1, "targets": "", "hashes": "!"}', '{"rows": null}'])
def test_a_tag_that_was_edited_by_hand_is_no_sketch(tag):
    assert Sketch.of_tag(tag) is None


def test_targets_that_differ_make_rows_known_under_other_columns(regression):
    _, dataset = regression
    raw, preprocessor = dataset.raw_test(), dataset.preprocessor
    fewer = SimpleNamespace(features=preprocessor.features[1:], target_column=preprocessor.target_column)
    whole, part = looks.sketch(raw, preprocessor), looks.sketch(raw, fewer)
    assert not set(whole.hashes) & set(part.hashes) and looks.overlap(whole, part) == 1
    some = looks.sketch(raw.slice(1), fewer)
    assert looks.overlap(whole, some) == 0


def test_targets_that_repeat_do_not(binary):
    _, dataset = binary
    assert looks.sketch(dataset.raw_test(), dataset.preprocessor).targets == ""


def version(content: str, sketch: Sketch | None = None, **tags: str) -> SimpleNamespace:
    held = {names.TAG_OUTPUT: content, **tags}
    return SimpleNamespace(version="1", tags=held | ({names.TAG_TEST_ROWS: sketch.to_tag()} if sketch else {}))


PRESENT = of_rows(range(1000))


@pytest.mark.parametrize(("past", "number"), [
    ([], 1),
    ([version("a", PRESENT)], 2),
    ([version("a", PRESENT), version("b", PRESENT), version("a", PRESENT)], 3),
    ([version("new", PRESENT)], 1),  # itself, asked again
    ([version("a", PRESENT), version("new", PRESENT)], 2),
    ([version("a", of_rows(range(300, 1300)))], 2),  # most rows stay
    ([version("a", of_rows(range(800, 1800)))], 1),  # most are new
    ([version("a", of_rows(range(5000)))], 2),  # a part of what was asked
    ([version("a", **{names.TAG_FINGERPRINT: "f", "test_rmse": "1"})], 2),  # from before there were sketches
    ([version("a", **{names.TAG_FINGERPRINT: "other", "test_rmse": "1"})], 1),
    ([version("a", **{names.TAG_FINGERPRINT: "f"})], 1),  # its predictions were not finite: nothing was seen
])  # fmt: skip
def test_looks_are_different_models_that_were_asked_about_most_of_these_rows(past, number):
    assert looks.count(past, "new", "f", PRESENT) == number


def test_a_hundred_versions_are_counted_in_no_time(regression):
    sketch = looks.sketch(regression[1].raw_test(), regression[1].preprocessor)
    assert looks.count([version(str(i), sketch) for i in range(100)], "new", "f", sketch) == 101
    assert sketch.rows == regression[1].rows["test"] <= tiny.ROWS
