"""The table of columns, and what a person must know of them: from rows, by the local engine, and from a sample."""

import json

import numpy as np
import pyarrow as pa
import pytest
import tiny

from baton import names
from baton.config.schema import Data
from baton.data import cell_counts, overview, recognition
from baton.data.overview import explained_share

ROWS = 400
RNG = np.random.default_rng(9)
X = RNG.normal(size=ROWS).round(4)


def table_of(folder, task: str = "regression", data: dict | None = None, **columns) -> dict:
    """Columns beside x and a target y → columns.json of their dataset."""
    columns.setdefault("y", (X + RNG.normal(size=ROWS)).round(4))
    _, dataset = tiny.build(pa.table({"x": X, **columns}), folder, task, data=data or {})
    return json.loads((dataset.folder / names.COLUMNS).read_text())


def line(table: dict, name: str) -> dict:
    return next(entry for entry in table["columns"] if entry["name"] == name)


def test_every_column_of_the_source_has_a_line_in_its_order(tmp_path):
    price = [f"{value:,.2f}" for value in RNG.uniform(500, 5000, ROWS)]
    city = ["Oslo", "Rome", None, "Rome"] * (ROWS // 4)
    table = table_of(
        tmp_path, data={"drop": ["note"]}, price=price, note=["n"] * ROWS, city=city, __index_level_0__=range(ROWS)
    )
    assert [entry["name"] for entry in table["columns"]] == ["x", "price", "note", "city", "__index_level_0__", "y"]
    assert line(table, "note") == {"name": "note", "kind": "not used", "why": "data.drop", "missing": None,
                                   "unknown": None, "example": ""}  # fmt: skip
    assert line(table, "__index_level_0__")["why"] == "pandas' index"
    assert line(table, "city") == {"name": "city", "kind": "categorical", "why": "text", "missing": 0.25,
                                   "unknown": 0.0, "example": "'Rome'"}  # fmt: skip
    assert line(table, "price")["kind"] == "numeric" and "," in line(table, "price")["example"]
    assert table["warnings"] == ["price: read as numbers with ',' between thousands."]


SUSPICIOUS = {
    "nearly unique": ({"ref": [f"r{i}" for i in range(ROWS)]},
                      "ref: 400 different texts in 400 rows; if it names a row, set data.id: [ref] or"),
    "counts the rows": ({"n": range(7, 7 + ROWS)}, "n: it counts the rows, from 7 to 406; if it names a row, set"),
    "counts the rows in text": ({"n": [str(i) for i in range(ROWS)]}, "n: it counts the rows, from 0 to 399;"),
    "an index of pandas": ({"Unnamed: 0": RNG.normal(size=ROWS)}, "Unnamed: 0: pandas calls an index so"),
    "hardly recurs": ({"c": [f"w{i // 2}" for i in range(ROWS)]},
                      "% of the cells of new rows are unknown to the model, for its 200 texts hardly recur."),
    "a header that is a row": ({"5.1": X, "3.5": X, "2": X}, "The header looks like a row (x, 5.1, 3.5, 2, y)"),
}  # fmt: skip


@pytest.mark.parametrize("case", SUSPICIOUS)
def test_what_is_suspicious_is_warned_of_once(tmp_path, case):
    columns, words = SUSPICIOUS[case]
    warnings = table_of(tmp_path, **columns)["warnings"]
    assert len([warning for warning in warnings if words in warning]) == len(warnings) == 1


@pytest.mark.parametrize("columns", [
    {"n": RNG.integers(0, 10**6, ROWS)}, {"c": RNG.choice(list("abcdef"), ROWS)}, {"flag": RNG.random(ROWS) < 0.5},
    {"year": RNG.integers(1990, 2024, ROWS)},
])  # fmt: skip
def test_ordinary_columns_are_not_warned_of(tmp_path, columns):
    assert table_of(tmp_path, **columns)["warnings"] == []


def test_identifiers_and_what_is_dropped_are_not_warned_of(tmp_path):
    refs = [f"r{i}" for i in range(ROWS)]
    assert table_of(tmp_path, data={"id": ["ref"], "drop": ["other"]}, ref=refs, other=refs)["warnings"] == []


LEAKS = {
    "a number in another unit": ("regression", lambda y: y * 1.8 + 32),
    "a bent number": ("regression", lambda y: np.exp(y / 3)),
    "a class in other words": ("multiclass", lambda y: np.select([y == "a", y == "b"], ["first", "second"], "third")),
    "a number of a class": ("multiclass", lambda y: np.select([y == "a", y == "b"], [1.0, 2.0], 3.0)),
    "a number that a class parts": ("multiclass", lambda y: np.select([y == "a", y == "b"], [0, 10], 20) + X / 10),
}  # fmt: skip


@pytest.mark.parametrize("case", LEAKS)
def test_a_column_that_alone_tells_the_target_is_warned_of(tmp_path, case):
    task, leak = LEAKS[case]
    y = RNG.normal(size=ROWS) if task == "regression" else RNG.choice(["a", "b", "c"], ROWS)
    warnings = table_of(tmp_path, task, y=y, leak=leak(y))["warnings"]
    assert len(warnings) == 1 and warnings[0].startswith("leak: alone it tells ")
    assert warnings[0].endswith("of y's variation; if it is not known when a row is scored, set data.drop: [leak].")


@pytest.mark.parametrize(("noise", "low", "high"), [(0.0, 0.99, 1.0), (0.5, 0.7, 0.87), (100.0, -0.1, 0.1)])
def test_the_explained_share_is_about_that_of_the_best_prediction(noise, low, high):
    x = np.random.default_rng(1).normal(size=5000)
    y = x + noise * np.random.default_rng(2).normal(size=5000)
    assert low <= explained_share(pa.array(x), y[:, None]) <= high
    codes = np.floor(x * 3)
    y = codes / 3 + noise * np.random.default_rng(2).normal(size=5000)
    assert low <= explained_share(pa.array(codes.astype(int).astype(str)), y[:, None]) <= high


def test_the_explained_share_of_little_is_none():
    y = np.arange(100.0)[:, None]
    assert explained_share(pa.array([None] * 60 + list(range(40))), y) == 0.0
    assert explained_share(pa.array(range(100)), np.zeros((100, 1))) == 0.0


def test_a_sample_tells_the_kinds_but_no_splits():
    data = Data(source="-", target="y", task="binary")
    table = pa.table({"a": ["1,163.74", "985", None, "12"] * 25, "y": ["p", "n"] * 50})
    counted = cell_counts.counts(table, data)
    found = overview.of_sample(recognition.recognise(table.schema, counted, data), counted, table.column_names)
    assert line(found, "a") == {
        "name": "a", "kind": "numeric", "why": "all its cells are numbers with ',' between thousands",
        "missing": 0.25, "unknown": None, "example": "'1,163.74'",
    }  # fmt: skip
    assert found["warnings"] == ["a: read as numbers with ',' between thousands."]
