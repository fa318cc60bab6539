"""Raw test rows in parts: of bounded size, in order, the same rows that the table has."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from baton.data import raw_rows, row_parts
from baton.data.ingestion import outputs
from baton.data.raw_rows import RawRows


@pytest.fixture
def table() -> pa.Table:
    return pa.table({"number": np.arange(100), "text": [f"row {n}" for n in range(100)]})


@pytest.fixture
def rows(tmp_path, table) -> RawRows:
    """The table in two files, of row groups of 30 and of 7 rows."""
    for name, part, size in (("a", table.slice(0, 60), 30), ("b", table.slice(60), 7)):
        pq.write_table(part, tmp_path / f"{name}.parquet", row_group_size=size)
    return RawRows((tmp_path / "a.parquet", tmp_path / "b.parquet"))


@pytest.mark.parametrize("size", [1, 7, 32, 100, 1000])
def test_parts_are_as_large_as_asked_for_and_all_rows_in_order(rows, table, size):
    parts = list(rows.parts(size))
    assert [part.num_rows for part in parts[:-1]] == [size] * (len(parts) - 1) and parts[-1].num_rows <= size
    assert pa.concat_tables(parts).equals(table) and rows.num_rows == 100
    assert pa.concat_tables(list(row_parts.parts(table, size))).equals(table)


def test_of_large_rows_a_part_holds_fewer(rows, table, monkeypatch):
    monkeypatch.setattr(raw_rows, "PART_BYTES", 200)
    monkeypatch.setattr(raw_rows, "ALIGNED", 4)
    parts = list(rows.parts())
    assert max(part.num_rows for part in parts) <= 16 and {part.num_rows % 4 for part in parts} == {0}
    assert pa.concat_tables(parts).equals(table)


def test_rows_are_taken_in_the_order_asked_for_and_other_groups_are_not_read(rows, table, monkeypatch):
    read, pieces = [], raw_rows._pieces
    monkeypatch.setattr(raw_rows, "_pieces", lambda f, group, *rest: read.append(group) or pieces(f, group, *rest))
    numbers = np.array([95, 3, 95, 60])
    assert rows.take(numbers).equals(table.take(pa.array(numbers))) and read == [0, 0, 5]
    assert rows.take(np.zeros(0, int)).num_rows == 0 and read == [0, 0, 5]
    with pytest.raises(IndexError, match=r"There are 100 rows\. Received: 3 to 100"):
        rows.take(np.array([100, 3]))


def test_no_row_is_one_empty_part(tmp_path, table):
    pq.write_table(table.slice(0, 0), tmp_path / "none.parquet")
    assert [part.schema for part in RawRows((tmp_path / "none.parquet",)).parts()] == [table.schema]


def test_pictures_are_written_in_small_row_groups():
    assert outputs.raw_rows(9, 9 * 16 << 20) == 2
    assert outputs.raw_rows(9, 72) == 1 << 17
