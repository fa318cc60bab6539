"""The split is a function of a row's typed values, and of nothing else."""

import datetime as dt
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baton.config.schema import Data, Split
from baton.data import cell_counts, columns, recognition
from baton.data import splits as split
from baton.data.sources import files

DATA = Data(source="-", target="y", task="binary")


def data(**values) -> Data:
    return Data(**{**DATA.model_dump(exclude_unset=True), **values})


def rows(count: int) -> pa.Table:
    """Rows of every kind, with missing cells."""
    rng = np.random.default_rng(3)
    start = dt.datetime(2024, 1, 1)
    return pa.table(
        {
            "x": pa.array(rng.normal(size=count) * 10.0 ** rng.integers(-9, 9, count), mask=rng.random(count) < 0.1),
            "n": rng.integers(-9, 9, count),
            "text": pa.array(rng.choice(['a,"b"', "é", " c ", "line\nbreak", None], count).tolist(), pa.string()),
            "flag": rng.random(count) < 0.5,
            "when": [start + dt.timedelta(seconds=int(s)) for s in rng.integers(0, 10**7, count)],
            "y": rng.choice(["yes", "no"], count),
        }
    )


def typed(table: pa.Table) -> pa.Table:
    found = recognition.infer(table.schema, cell_counts.counts(table, DATA), DATA)
    return columns.typed(table, found, "y")[0]


TABLE = typed(rows(2000))


def test_the_order_of_rows_moves_none():
    order = np.random.default_rng(0).permutation(TABLE.num_rows)
    assert (split.by_hash(TABLE.take(order), DATA) == split.by_hash(TABLE, DATA)[order]).all()


def test_the_order_of_columns_moves_none():
    assert (split.row_hash(TABLE.select(TABLE.column_names[::-1])) == split.row_hash(TABLE)).all()


@settings(deadline=None)
@given(st.lists(st.integers(0, 2000)))
def test_the_cut_moves_no_row(cuts):
    bounds = sorted({0, *cuts, 2000})
    parts = [TABLE.slice(a, b - a) for a, b in zip(bounds, bounds[1:], strict=False)]
    hashes = split.row_hash(TABLE)
    assert (np.concatenate([split.row_hash(part) for part in parts]) == hashes).all()
    assert (split.row_hash(pa.concat_tables(parts)) == hashes).all()


def test_the_format_moves_no_row(tmp_path):
    raw = rows(2000)
    pq.write_table(raw, tmp_path / "rows.parquet", row_group_size=300)
    as_text = raw.set_column(4, "when", pc.strftime(raw["when"], "%Y-%m-%dT%H:%M:%S"))
    csv.write_csv(as_text, tmp_path / "rows.csv")
    read = [typed(files.resolve(str(tmp_path / name)).table()) for name in ("rows.parquet", "rows.csv")]
    assert read[0].equals(read[1])
    assert (split.row_hash(read[0]) == split.row_hash(read[1])).all()


@pytest.mark.parametrize("column", TABLE.column_names)
def test_every_column_counts(column):
    last = TABLE[column].take([1999] * 2000)
    other = TABLE.set_column(TABLE.column_names.index(column), column, last)
    changed = ~pc.equal(TABLE[column], other[column]).fill_null(False).to_numpy()
    assert changed.any()
    assert (split.row_hash(TABLE) != split.row_hash(other))[changed].all()


def test_missing_is_neither_zero_nor_empty():
    for present, absent in [(0.0, pa.float64()), ("", pa.string()), (False, pa.bool_())]:
        hashes = split.row_hash(pa.table({"a": pa.array([present, None], absent)}))
        assert hashes[0] != hashes[1]


def test_minus_zero_is_zero():
    assert len(set(split.row_hash(pa.table({"a": [0.0, -0.0]})))) == 1


def test_the_hash_never_changes():
    """A dataset split by one release must not be split otherwise by the next."""
    when = pa.array([dt.datetime(2024, 1, 1)], pa.timestamp("us"))
    table = pa.table({"a": [1.5], "b": ["x"], "c": [True], "d": when})
    assert split.row_hash(table).tolist() == [11463796828714146662]


@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.05, 0.9, 0.05)])
def test_shares(shares):
    count = 40_000
    table = pa.table({"a": np.arange(count, dtype=float)})
    chosen = data(split=Split(train=shares[0], validation=shares[1], test=shares[2]))
    found = np.bincount(split.by_hash(table, chosen), minlength=3)
    assert found.sum() == count
    for number, share in zip(found, shares, strict=True):
        assert abs(number - share * count) <= 5 * math.sqrt(count * share * (1 - share))


def test_a_group_never_straddles():
    rng = np.random.default_rng(1)
    table = pa.table({"a": rng.normal(size=5000), "g": rng.integers(0, 200, 5000).astype(str)})
    splits = split.by_hash(table, data(group="g", id=["a"]))
    per_group = pa.table({"g": table["g"], "s": splits}).group_by("g").aggregate([("s", "count_distinct")])
    assert set(per_group["s_count_distinct"].to_pylist()) == {1}
    assert set(splits) == {0, 1, 2}


def test_ids_alone_decide():
    other = TABLE.set_column(0, "x", pc.add(TABLE["x"], 1.0))
    by_id = data(id=["when", "n"])
    assert (split.by_hash(TABLE, by_id) == split.by_hash(other, by_id)).all()
    assert (split.by_hash(TABLE, by_id) == split.by_hash(TABLE, data(id=["n", "when"]))).all()
    assert (split.by_hash(TABLE, DATA) != split.by_hash(other, DATA)).any()


@settings(deadline=None)
@given(st.lists(st.integers(-5, 30), min_size=1, max_size=200))
def test_time_is_cut_in_order_and_ties_stay_together(seconds):
    times = pa.chunked_array([pa.array(seconds, pa.int64()).cast(pa.timestamp("us"))])
    moments, counts = np.unique(seconds, return_counts=True)
    found = split.by_time(times, split.time_limits(moments, counts, DATA))
    order = np.argsort(seconds, kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    assert all(len(set(found[np.array(seconds) == moment])) == 1 for moment in moments)
    for last, share in ((0, 0.8), (1, 0.9)):
        done, ties = (found <= last).sum(), counts.max()
        assert share * len(seconds) - 1e-9 <= done < share * len(seconds) + ties + 1e-9


def test_time_without_ties_keeps_the_shares():
    times = pa.chunked_array([pa.array(range(1000), pa.int64()).cast(pa.timestamp("us"))])
    limits = split.time_limits(np.arange(1000), np.ones(1000, int), DATA)
    assert np.bincount(split.by_time(times, limits)).tolist() == [800, 100, 100]
