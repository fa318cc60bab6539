"""Summaries: exact, and the same however the rows are cut."""

import datetime as dt
import math
import statistics
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from baton.data.statistics import SAMPLE_ROWS, ColumnStatistics, Summary, merge, profile, summarise

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "x": st.none() | FLOATS,
            "text": st.none() | st.text(max_size=3),
            "flag": st.none() | st.booleans(),
            "when": st.none() | st.datetimes(),
            "bytes": st.none() | st.binary(max_size=3),
        }
    ),
    max_size=30,
)
SCHEMA = pa.schema(
    {
        "x": pa.float64(),
        "text": pa.string(),
        "flag": pa.bool_(),
        "when": pa.timestamp("us"),
        "bytes": pa.binary(),
    }
)


def table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, SCHEMA)


def one(numbers) -> ColumnStatistics:
    return summarise(pa.table({"x": pa.array(numbers, pa.float64())})).columns["x"]


@settings(deadline=None)
@given(st.lists(FLOATS, min_size=1))
@example([1e16, 1.0, -1e16])
@example([1e9 + 1e-6, 1e9, 1e9 - 1e-6])
@example([1e200, -1e200])
@example([1e-200, 3e-200])
@example([5e-324, 0.0])
@example([1.7976931348623157e308] * 3 + [-1.7976931348623157e308])
def test_moments_are_exact(numbers):
    column = one(numbers)
    assert column.mean == float(sum(map(Fraction, numbers)) / len(numbers))
    assert math.isclose(column.std, statistics.pstdev(numbers), rel_tol=1e-15)
    assert (column.low, column.high) == (min(numbers), max(numbers))


def test_missing_numbers_do_not_count():
    column = one([None, 1.0, None, 4.0])
    assert (column.rows, column.missing, column.present) == (4, 2, 2)
    assert (column.mean, column.std) == (2.5, 1.5)
    empty = one([None, None])
    assert (empty.mean, empty.std, empty.low, empty.high) == (0.0, 0.0, None, None)


def test_other_kinds_of_columns():
    rows = [
        {"text": "b", "flag": True, "when": dt.datetime(1970, 1, 1, 0, 0, 2), "bytes": b"1"},
        {"text": "b"},
    ]
    found = summarise(table(rows))
    assert found.rows == 2
    assert found.columns["text"].counts == {"b": 2}
    assert (found.columns["flag"].mean, found.columns["flag"].missing) == (1.0, 1)
    assert found.columns["when"].mean == 2e6
    assert (found.columns["bytes"].rows, found.columns["bytes"].missing) == (2, 1)
    assert "bytes" not in found.sample.column_names
    assert found.values("when").tolist() == [2e6]


@settings(deadline=None)
@given(ROWS, st.lists(st.integers(0, 30)), st.randoms())
def test_any_cut_of_any_order_adds_up_to_the_whole(rows, cuts, random):
    whole = summarise(table(rows))
    bounds = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
    shuffled = table(random.sample(rows, len(rows)))
    parts = [summarise(shuffled.slice(a, b - a)) for a, b in zip([0, *bounds], bounds, strict=False)]  # one empty
    random.shuffle(parts)
    total = merge(parts)
    assert total.columns == whole.columns
    assert total.sample.equals(whole.sample)


@settings(deadline=None)
@given(ROWS)
def test_a_summary_survives_its_bytes(rows):
    whole = summarise(table(rows))
    again = Summary.deserialise(whole.serialise())
    assert again.columns == whole.columns
    assert again.sample.equals(whole.sample)
    assert again.serialise() == whole.serialise()


def test_the_sample_is_bounded_and_does_not_depend_on_the_cut():
    count = SAMPLE_ROWS + 20_000
    rows = pa.table({"x": np.random.default_rng(0).normal(size=count)})
    whole = summarise(rows)
    assert whole.sample.num_rows == SAMPLE_ROWS and whole.rows == count
    parts = [summarise(rows.slice(a, 50_000)) for a in (100_000, 0, 50_000)]
    assert merge(parts).sample.equals(whole.sample)
    assert abs(np.median(whole.values("x"))) < 0.02


def test_values_are_sorted_and_present():
    rows = pa.table({"x": pa.array([3.0, None, 1.0, 2.0])})
    assert summarise(rows).values("x").tolist() == [1.0, 2.0, 3.0]


def test_moments_far_from_today():
    stamps = pa.array([dt.datetime(9999, 12, 31, 23, 59, 59, 999999), dt.datetime(1, 1, 1)], pa.timestamp("us"))
    found = summarise(pa.table({"t": stamps}))
    assert found.columns["t"].high == pytest.approx(253402300799999999)
    assert len(found.values("t")) == 2


def test_a_profile_is_plain_values():
    rows = pa.table({"x": [0.0, 1.0, 2.0, None], "text": ["b", "a", "b", None], "none": pa.nulls(4, pa.float64())})
    found = profile(summarise(rows), top=1)
    assert found["text"] == {"rows": 4, "missing": 1, "distinct": 2, "top": {"b": 2}}
    assert found["none"] == {"rows": 4, "missing": 4}
    x = found["x"]
    assert (x["mean"], x["min"], x["max"], x["quantiles"]["0.5"]) == (1.0, 0.0, 2.0, 1.0)


def test_a_profile_of_a_column_that_the_sample_lacks():
    """A column with few values among many rows may have none of them among the lowest hashes."""
    rows = summarise(pa.table({"x": [1.0, 3.0]}))
    found = profile(Summary(rows.columns, rows.sample.slice(0, 0)))
    assert found["x"] == {"rows": 2, "missing": 0, "mean": 2.0, "std": 1.0, "min": 1.0, "max": 3.0}


def test_infinite_numbers_are_not_summed():
    assert summarise(pa.table({"x": [1.0, float("inf")]})).columns["x"].total == one([1.0]).total
