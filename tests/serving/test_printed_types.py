"""A CSV column is typed in the predictions only if every cell prints back as it came, on both engines."""

import datetime
from itertools import permutations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baton.data.columns import Column
from baton.data.sources import files
from baton.serving import printed_types
from baton.serving.printed_types import ARROW_TYPE

ALL = frozenset(ARROW_TYPE)
COLUMNS = [Column("n", "numeric", "long"), Column("x", "numeric", "double"), Column("b", "boolean", "boolean"),
           Column("t", "datetime", "datetime"), Column("c", "categorical", "string")]  # fmt: skip


def held(*cells: str | None) -> set[str]:
    table = pa.table({"a": pa.array(cells, pa.string())})
    return set(printed_types.holding(table, {"a": ALL})["a"])


def printed(values: pa.ChunkedArray, type_: str) -> list[str | None]:
    """What Python prints of a typed column."""
    write = repr if type_ == "double" else str
    return [None if value is None else write(value) for value in values.to_pylist()]


@pytest.mark.parametrize(("type_", "cells"), [
    ("long", ["0", "-1", "7", "501", str(2**63 - 1), str(-(2**63)), "1000000000000000000", None]),
    ("double", ["2.0", "0.1", "-0.0", "0.0", "1e-05", "0.0001", "-12.5", "1e+16", "1234567890123456.0", "1e+300", "inf",
                "0.30000000000000004", "5e-324", "1.7976931348623157e+308", "0.5", None]),
    ("boolean", ["True", "False", None]),
    ("date", ["0001-01-01", "9999-12-31", "2024-02-29", "2000-02-29", "1582-10-10", None]),
    ("datetime", ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "2024-02-29 12:00:00.000001", None]),
])  # fmt: skip
def test_these_cells_are_of_one_type_and_print_back(type_, cells):
    assert held(*cells) == {type_}
    table = printed_types.with_types(pa.table({"a": cells}), {"a": ARROW_TYPE[type_]})
    assert table.schema.field("a").type == ARROW_TYPE[type_]
    assert printed(table["a"], type_) == cells


@pytest.mark.parametrize("cell", [
    "00501", "-0", "+3", "1_000", " 1", "1 ", "9223372036854775808", "-9223372036854775809", "1,5", "1,000",
    "3.50", "3.", ".5", "1e5", "1E-05", "1e-5", "0.00001", "10000000000000000.0", "12345678901234567.0", "nan", "NaN",
    "Infinity", "1.00000000000000001", "0x1p3",
    "true", "TRUE", "yes", "NA", " ", "٣",
    "2023-02-29", "1900-02-29", "2024-13-01", "2024-00-10", "2024-04-31", "2024-01-00", "0000-01-01", "2024-1-1",
    "2024-01-01T00:00:00", "2024-01-01 00:00", "2024-01-01 24:00:00", "2024-01-01 00:00:60", "2024-01-01 00:00:00.5",
    "2024-01-01 00:00:00.000000", "2024-01-01 00:00:00Z", "2024-01-01 00:00:00+02:00", "2023-02-29 00:00:00",
])  # fmt: skip
def test_one_such_cell_makes_a_column_text(cell):
    assert held(cell) == set()
    for good in ("7", "2.5", "True", "2024-01-01", "2024-01-01 10:00:00"):
        assert held(good, None, cell) == set()


def test_no_cell_fits_every_type_and_two_sorts_fit_none():
    assert held(None, None) == held() == ALL
    assert [held(*pair) for pair in permutations(["1", "1.5", "True", "2024-01-01", "2024-01-01 10:00:00"], 2)] == [
        set()
    ] * 20


def test_any_double_that_python_prints_is_one_and_another_spelling_is_not():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**63, 20_000).view(np.float64)
    near = [rng.normal(size=20_000), rng.normal(size=20_000).round(3), 10.0 ** rng.uniform(-6, 18, 20_000)]
    for values in (bits[np.isfinite(bits)], *near):
        cells = [repr(value) for value in values.tolist()]
        assert held(*cells) == {"double"}
        assert pc.cast(pa.array(cells), pa.float64()).equals(pa.array(values))
        assert not any("double" in held(f"{cell}0") for cell in cells[:500] if "." in cell and "e" not in cell)


TRICKY = ["", "0", "-0", "00", "1", "1.0", "1.50", "1e5", "1e+16", "true", "True", "2024-02-29", "2023-02-29", "NA",
          "2024-02-29 01:02:03", "2024-02-29 01:02:03.000000", "2024-02-29T01:02:03"]  # fmt: skip
CELLS = st.sampled_from(TRICKY) | st.integers(-(2**70), 2**70).map(str) | st.floats().map(repr) | st.text(max_size=4)
CELLS |= st.datetimes().map(str) | st.dates().map(str) | st.booleans().map(str)


@settings(deadline=None, max_examples=500)
@given(st.lists(CELLS | st.none(), min_size=1, max_size=4))
def test_whatever_is_typed_prints_back(cells):
    types = held(*cells)
    for type_ in types:
        table = printed_types.with_types(pa.table({"a": pa.array(cells, pa.string())}), {"a": ARROW_TYPE[type_]})
        assert printed(table["a"], type_) == cells
    assert len(types) <= 1 or all(cell is None for cell in cells)


def test_parts_merge_to_what_holds_in_all_in_any_order():
    types = {"a": ALL, "b": ALL}
    tables = [pa.table({"a": pa.array(a, pa.string()), "b": pa.array(b, pa.string())}) for a, b in (
        (["1", "2"], ["1.5", None]), ([None, None], ["2.5", "nan"]), (["3", None], ["1.0", "1.0"]))]  # fmt: skip
    parts = [printed_types.holding(table, types) for table in tables]
    for order in permutations(parts):
        assert printed_types.merge(order, types) == {"a": frozenset({"long"}), "b": frozenset()}
    assert printed_types.merge([], types) == types


def of_files(folder, *texts: str) -> dict[str, str]:
    for number, text in enumerate(texts):
        (folder / f"{number}.csv").write_text(text)
    source = files.resolve(str(folder))
    types = printed_types.of_source(source, printed_types.candidates(source.schema(), COLUMNS))
    return {name: str(type_) for name, type_ in printed_types.chosen(types, COLUMNS).items()}


@pytest.mark.parametrize(("texts", "expected"), [
    (["n,x,b,t,c,z\n1,2.0,True,2024-01-01,a,1\n"],
     {"n": "int64", "x": "double", "b": "bool", "t": "date32[day]"}),
    (["n,x,b,t,c\n1,2.0,True,2024-01-01 01:02:03,a\n", "c,t,b,x,n\n,,,,\n"],  # columns in another order
     {"n": "int64", "x": "double", "b": "bool", "t": "timestamp[us]"}),
    (["n,x,b,t,c\n1,2.0,True,2024-01-01,a\n", "n,x,b,t,c\n01,2,1,2024-01-01 00:00:00,a\n"], {}),
    (["n,x,b,t,c\n5,7,,,a\n"], {"n": "int64", "x": "int64", "b": "bool", "t": "timestamp[us]"}),
    (["n,x,b,t,c"], {"n": "int64", "x": "double", "b": "bool", "t": "timestamp[us]"}),
    (["n,x\n1,2.5\n1,2,3\nx\n2,\n"], {"n": "int64", "x": "double"}),  # lines that are no rows don't count
    (['n,x\n"1","2.5"\n"",""\n'], {"n": "int64", "x": "double"}),
    (["n,x\n1,2.5\n\n"], {"n": "int64", "x": "double"}),
])  # fmt: skip
def test_all_files_of_a_source_decide(tmp_path, texts, expected):
    assert of_files(tmp_path, *texts) == expected


def test_a_cell_far_down_decides_too(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CSV_BLOCK_BYTES", 1 << 10)
    rows = "".join(f"{i},{i}.5\n" for i in range(5000))
    assert of_files(tmp_path, f"n,x\n{rows}00501,1.0\n") == {"x": "double"}


def test_a_file_that_cannot_be_read_is_for_the_pass_that_scores_to_name(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"n,x\n1,\xe9\n")
    types = {"n": frozenset({"long"}), "x": frozenset({"double"})}
    assert printed_types.of_source(files.resolve(str(tmp_path)), types) == {}


def test_dates_of_all_years_are_those_of_python():
    days = [datetime.date.fromordinal(n) for n in range(1, 3652060, 5003)]
    table = printed_types.with_types(pa.table({"a": [str(day) for day in days]}), {"a": pa.date32()})
    assert held(*map(str, days)) == {"date"} and table["a"].to_pylist() == days
