"""Numbers and moments as people read them."""

import pytest

from baton import formatting

DAY = 86_400_000_000  # µs
SHARES = [(0, "0 %"), (1, "100 %"), (1e-9, "<0.1 %"), (0.9999, ">99.9 %"), (0.5, "50.0 %")]


@pytest.mark.parametrize(("value", "text"), [(3.0, "3"), (-0.0, "0"), (1234567.0, "1234567"), (0.1234567, "0.123457")])
def test_an_exact_number_has_six_digits_and_whole_ones_all_of_theirs(value, text):
    assert formatting.exact_text(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.00001, "1e-05"), (12345.6, "12,346"), (3.14159, "3.142"), (2.0, "2")])
def test_a_number_has_about_four_digits(value, text):
    assert formatting.number_text(value) == text


def test_moments_have_a_time_of_day_unless_it_is_midnight():
    assert formatting.date_text(19_723 * DAY) == formatting.moment_text(19_723 * DAY) == "2024-01-01"
    assert formatting.date_text(19_723 * DAY + 3_660_000_000) == "2024-01-01 01:01"
    assert formatting.day_text(19_723 * DAY + 3_660_000_000) == "2024-01-01"
    assert formatting.date_text(1e30) == "1e+30"


@pytest.mark.parametrize(("share", "text"), SHARES)
def test_a_share_is_never_rounded_to_nothing_or_everything(share, text):
    assert formatting.percent_text(share) == text


@pytest.mark.parametrize(("counts", "most", "text"), [
    ({}, None, ""),
    ({"a": 1200, "b": 1}, None, "1,200 a, 1 b"),
    ({"a": 3, "b": 2, "c": 1}, 3, "3 a, 2 b, 1 c"),
    ({"a": 3, "b": 2, "c": 1, "d": 1}, 2, "3 a, 2 b, 2 for other reasons"),
])  # fmt: skip
def test_counts_beyond_so_many_are_put_together(counts, most, text):
    assert formatting.counts_text(counts, most) == text
