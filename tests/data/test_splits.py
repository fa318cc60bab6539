"""The split is a function of a row's typed values, and of nothing else."""

import datetime as dt
import json
import math
from collections import Counter

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


def planned(table: pa.Table, data: Data, cuts=()) -> tuple[np.ndarray, split.Plan]:
    """A typed table, and where it is cut into parts → the split of each row, and the plan; parts change nothing."""
    hashes = split.row_hash(table)
    deciding = split.unit_hash(table, data, hashes)
    ends = sorted({0, *cuts, table.num_rows})
    spans = list(zip(ends, ends[1:], strict=False))
    tallies = [split.tally(table.slice(a, b - a), deciding[a:b], data) for a, b in spans]
    tallies = [split.Tally.of(json.loads(json.dumps(tally.to_dict()))) for tally in tallies]
    total = sum(tallies, split.Tally(bool(data.group)))
    counts = [split.recurring(deciding[a:b], total.frequent) for a, b in spans]
    plan = split.plan(total, sum(counts, Counter()), data)
    plan = split.Plan.of(json.loads(json.dumps(plan.to_dict())))
    before, places = Counter(), []
    for (a, b), count in zip(spans, counts, strict=True):
        places.append(plan.place(table.slice(a, b - a), deciding[a:b], data, before))
        before += count
    return np.concatenate(places), plan


def placed(table: pa.Table, data: Data, cuts=()) -> np.ndarray:
    return planned(table, data, cuts)[0]


TABLE = typed(rows(2000))


def test_the_order_of_rows_moves_none():
    order = np.random.default_rng(0).permutation(TABLE.num_rows)
    assert (placed(TABLE.take(order), DATA) == placed(TABLE, DATA)[order]).all()


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
    table = table.append_column("y", table["a"])
    found = np.bincount(placed(table, chosen), minlength=3)
    assert found.sum() == count
    for number, share in zip(found, shares, strict=True):
        assert abs(number - share * count) <= 5 * math.sqrt(count * share * (1 - share))


def test_ids_alone_decide():
    other = TABLE.set_column(0, "x", pc.add(TABLE["x"], 1.0))
    by_id = data(id=["when", "n"])
    assert (placed(TABLE, by_id) == placed(other, by_id)).all()
    assert (placed(TABLE, by_id) == placed(TABLE, data(id=["n", "when"]))).all()
    assert (placed(TABLE, DATA) != placed(other, DATA)).any()


@settings(deadline=None)
@given(st.lists(st.integers(-5, 30), min_size=1, max_size=200))
def test_time_is_cut_in_order_and_ties_stay_together(seconds):
    moments, counts = np.unique(np.array(seconds, float), return_counts=True)
    found = split.by_time(np.array(seconds, float), split.time_limits(moments, counts, DATA))
    order = np.argsort(seconds, kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    assert all(len(set(found[np.array(seconds) == moment])) == 1 for moment in moments)
    assert set(found) == {0, 1, 2} or len(moments) < 3


def test_time_without_ties_keeps_the_shares():
    limits = split.time_limits(np.arange(1000.0), np.ones(1000, int), DATA)
    assert np.bincount(split.by_time(np.arange(1000.0), limits)).tolist() == [800, 100, 100]


# What a split promises


def classes_table(seed: int, rows: int, classes: int, distinct: int) -> pa.Table:
    """Rows of classes of very different size, of so many distinct rows a class at most."""
    rng = np.random.default_rng(seed)
    share = 0.5 ** np.arange(classes)
    y = rng.choice([f"c{i}" for i in range(classes)], rows, p=share / share.sum())
    return pa.table({"x": rng.integers(0, distinct, rows).astype(float), "y": y})


tables = st.builds(
    classes_table, st.integers(0, 10**6), st.sampled_from([3, 12, 40, 150, 700, 2500, 12_000]), st.integers(2, 9),
    st.sampled_from([2, 30, 10**9]),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(tables, st.lists(st.integers(1, 11_999), max_size=4), st.integers(0, 999))
def test_neither_the_cut_nor_the_order_moves_a_row(table, cuts, seed):
    config = data(task="multiclass")
    whole, plan = planned(table, config)
    cuts = [cut for cut in cuts if cut < table.num_rows]
    assert (placed(table, config, cuts) == whole).all()
    order = np.random.default_rng(seed).permutation(table.num_rows)
    taken = table.take(pa.array(order))
    other = placed(taken, config, cuts)
    if not plan.spread:
        assert (other == whole[order]).all()
    assert bag(taken, other) == bag(table, whole)  # which of equal rows is which does not matter


def bag(table: pa.Table, places: np.ndarray) -> Counter:
    return Counter(zip(*table.to_pydict().values(), places.tolist(), strict=True))


@settings(deadline=None, max_examples=60)
@given(tables)
def test_a_class_of_ten_rows_is_in_every_split_and_small_tables_are_split_exactly(table):
    found = placed(table, data(task="multiclass"))
    y = table["y"].to_numpy(zero_copy_only=False)
    for name, count in Counter(y.tolist()).items():
        sizes = np.bincount(found[y == name], minlength=3)
        assert sizes[0] >= 1 and (count < 10 or sizes.min() >= 1)
        if count >= 10 and table.num_rows < 10_000 and len(set(table["x"].to_pylist())) > 5000:
            assert np.abs(sizes - count * np.array([0.8, 0.1, 0.1])).max() <= 1
    if len(set(zip(*table.to_pydict().values(), strict=True))) >= 12:
        assert np.bincount(found, minlength=3).min() >= 1


@pytest.mark.parametrize("rows", [10, 36, 100, 500, 1999, 5000, 9999])
def test_a_regression_of_few_rows_is_split_exactly_and_by_ranges(rows):
    rng = np.random.default_rng(rows)
    table = pa.table({"x": rng.normal(size=rows), "y": rng.lognormal(0, 2, rows)})
    found = placed(table, data(task="regression"))
    sizes = np.bincount(found, minlength=3)
    assert np.abs(sizes - rows * np.array([0.8, 0.1, 0.1])).max() <= 1.5
    if 500 <= rows < 2000:
        y = table["y"].to_numpy()
        high = y > np.quantile(y, 0.9)
        assert np.abs(np.bincount(found[high], minlength=3) - high.sum() * np.array([0.8, 0.1, 0.1])).max() <= 2


@pytest.mark.parametrize("task", ["multiclass", "regression"])
@pytest.mark.parametrize("rows", [10_000, 40_000])
def test_of_many_rows_hardly_one_moves_when_others_are_added(task, rows):
    rng = np.random.default_rng(rows)
    more = rows * 11 // 10
    labels = rng.choice([f"c{i}" for i in range(40)], more, p=np.array([0.5, *[0.5 / 39] * 39]))
    y = labels if task == "multiclass" else rng.normal(size=more)
    table = pa.table({"x": rng.normal(size=more), "y": y})
    before, after = placed(table.slice(0, rows), data(task=task)), placed(table, data(task=task))
    assert (before != after[:rows]).mean() <= 0.005


def test_of_few_rows_few_move_when_others_are_added():
    rng = np.random.default_rng(2)
    table = pa.table({"x": rng.normal(size=1100), "y": rng.choice(["a", "b"], 1100)})
    assert (placed(table.slice(0, 1000), DATA) != placed(table, DATA)[:1000]).mean() <= 0.03


@settings(deadline=None, max_examples=60)
@given(st.integers(3, 60), st.integers(0, 10**6), st.sampled_from([1.0, 6.0]))
def test_groups_are_dealt_out_whole_and_no_split_is_empty(groups, seed, skew):
    rng = np.random.default_rng(seed)
    share = rng.random(groups) ** skew
    g = np.concatenate([np.arange(groups), rng.choice(groups, 600, p=share / share.sum())])
    pure = rng.choice(["p", "n"], groups)[g]  # a class a group
    table = pa.table({"x": rng.normal(size=len(g)), "g": g.astype(str), "y": pure})
    config = data(group="g")
    found = placed(table, config, cuts=(100, 350))
    assert (found == placed(table, config)).all()
    for group in range(groups):
        assert len(set(found[g == group])) == 1
    assert set(found) == {0, 1, 2}
    for name in ("p", "n"):
        if len(set(g[pure == name])) >= 10:
            assert set(found[pure == name]) == {0, 1, 2}


def test_very_many_groups_go_by_their_hash():
    rng = np.random.default_rng(4)
    g = rng.integers(0, 30_000, 90_000)
    table = pa.table({"x": rng.normal(size=len(g)), "g": g, "y": rng.choice(["p", "n"], len(g))})
    found, plan = planned(table, data(group="g"), cuts=(40_000,))
    assert not plan.units and np.abs(np.bincount(found) / len(g) - [0.8, 0.1, 0.1]).max() < 0.01


@pytest.mark.parametrize("rows", [600, 4000, 30_000])
def test_of_few_distinct_rows_copies_are_spread_and_that_is_said(rows):
    rng = np.random.default_rng(6)
    table = pa.table({"x": rng.integers(0, 12, rows).astype(float), "y": rng.choice(["p", "n"], rows)})
    found, plan = planned(table, DATA, cuts=(rows // 3, rows // 2))
    assert np.abs(np.bincount(found) / rows - [0.8, 0.1, 0.1]).max() < 0.01
    for index in range(3):
        assert len(set(table["x"].filter(pa.array(found == index)).to_pylist())) == 12
    (sentence,) = split.words(plan, rows)
    assert f"{rows:,} of {rows:,} rows are copies of 24 rows; they are spread" in sentence


@pytest.mark.parametrize(("rows", "distinct"), [(2000, 1000), (30_000, 3000)])
def test_equal_rows_stay_together_where_the_splits_are_sound(rows, distinct):
    rng = np.random.default_rng(7)
    x = rng.integers(0, distinct, rows)
    table = pa.table({"x": x.astype(float), "y": np.where(x % 2, "p", "n")})
    found, plan = planned(table, DATA)
    assert not plan.spread and not split.words(plan, rows)
    assert all(len(set(found[x == value])) <= 1 for value in range(0, distinct, 50))


def test_ids_are_never_spread():
    table = pa.table({"i": ["a"] * 500 + ["b"] * 100 + [str(n) for n in range(400)], "y": ["p", "n"] * 500})
    found, plan = planned(table, data(id=["i"]))
    assert not plan.spread and len(set(found[:500])) == len(set(found[500:600])) == 1


def test_a_column_may_say_the_split():
    cells = pa.chunked_array([["train", " Val", "TEST", "dev", "validation", "holdout", None]])
    places, unknown = split.by_column(cells)
    assert places[:5].tolist() == [0, 1, 2, 1, 1] and unknown.tolist() == [False] * 5 + [True] * 2


@pytest.mark.parametrize("rows", [560, 12_000])
def test_a_picture_that_is_most_rows_is_in_train_wherever_its_hash_lies(rows):
    table = pa.table({"y": ["ab"[i % 30 < 15] for i in range(rows)]})
    hashes = np.random.default_rng(rows).integers(0, 2**64, rows, np.uint64)
    pictures = Data(source="-", target="y", task="image")
    for first in range(2**60, 2**64, 2**61):
        deciding = np.where(np.arange(rows) < 0.7 * rows, np.uint64(first), hashes)
        tally = split.tally(table, deciding, pictures)
        plan = split.plan(tally, split.recurring(deciding, tally.frequent), pictures)
        places = plan.place(table, deciding, pictures)
        assert places[0] == 0 and set(places[deciding != first].tolist()) == {0, 1, 2}


def test_of_few_pictures_all_of_which_are_many_rows_every_split_has_one():
    table = pa.table({"y": list("abab") * 20})
    pictures = Data(source="-", target="y", task="image")
    deciding = np.array([5, 6, 7, 8] * 20, np.uint64)
    tally = split.tally(table, deciding, pictures)
    plan = split.plan(tally, Counter(), pictures)
    assert set(plan.place(table, deciding, pictures).tolist()) == {0, 1, 2}


def test_a_hash_on_the_edge_of_two_splits_is_in_the_later_one():
    """As a limit of a stratum is: a row that is placed by shares and one that is placed by limits agree."""
    hashes = np.array([0, 2**63 - 2048, 2**63, 3 * 2**62 - 2048, 3 * 2**62], np.uint64)
    table = pa.table({"x": range(5), "y": ["yes"] * 5})
    assert split.Plan((0.5, 0.25, 0.25)).place(table, hashes, DATA).tolist() == [0, 0, 1, 1, 2]
    assert list(split.Plan((0.5, 0.25, 0.25)).keeping({}, {int(h): "yes" for h in hashes}).units.values()) == [
        0, 0, 1, 1, 2
    ]  # fmt: skip
