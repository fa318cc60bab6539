"""The parts of a source that Spark's tasks work on: kept for the passes that follow, and never mixed up."""

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from baton.data.ingestion import spark, stages, task_parts
from baton.data.ingestion.part_files import PartFiles
from baton.data.ingestion.rows import CheckedRows
from baton.data.ingestion.task_parts import Kept, Piece, TaskParts
from baton.data.sources import files
from baton.errors import BatonError

ROWS = 100


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A CSV file of four parts."""
    monkeypatch.setattr(files, "PART_ROWS", 25)
    csv.write_csv(pa.table({"x": [f"text {row}" for row in range(ROWS)]}), tmp_path / "rows.csv")
    (tmp_path / "kept").mkdir()
    return files.resolve(str(tmp_path / "rows.csv"))


def task(source, folder, **kept) -> TaskParts:
    """A task whose piece is the source, the eighth of them."""
    schema = source.schema()
    return TaskParts(iter([Piece(7, lambda: source.parts(schema), source)]), Kept(folder / "kept", **kept))


def texts(parts: TaskParts) -> list[str]:
    return [text for cells in parts.each(lambda work: work.raw.column("x").to_pylist()) for text in cells]


def test_text_is_parsed_once_and_a_task_that_is_tried_again_gives_the_same(source, tmp_path):
    expected = [f"text {row}" for row in range(ROWS)]
    assert texts(task(source, tmp_path, text=True)) == expected
    assert texts(task(source, tmp_path, text=True)) == expected
    third = task(source, tmp_path, text=True)
    source.files[0].unlink()
    assert texts(third) == expected


@pytest.mark.parametrize("times", [0, 1])
def test_what_is_too_much_to_keep_is_read_again(source, tmp_path, monkeypatch, times):
    monkeypatch.setattr(task_parts, "KEPT_TIMES", times)
    for _ in range(2):
        assert texts(task(source, tmp_path, text=bool(times))) == [f"text {row}" for row in range(ROWS)]
    assert not [*(tmp_path / "kept").glob("*.parts")]


def test_what_was_found_under_other_columns_or_another_plan_is_not_taken(source, tmp_path):
    def keeps(work):
        size = work.raw.num_rows
        work.keep_places(np.zeros(size, np.int8))
        hashes = np.arange(size, dtype=np.uint64)
        work.keep_rows(CheckedRows(pa.table({"x": np.zeros(size)}), pa.nulls(size, pa.string()), hashes, hashes))

    [*task(source, tmp_path, text=True, columns=1, plan=1).each(keeps)]
    for kept, places, rows in (((1, 1), True, True), ((2, 1), True, False), ((1, 2), False, True)):
        parts = task(source, tmp_path, text=True, columns=kept[0], plan=kept[1])
        found = [*parts.each(lambda work: (work.places is not None, work.rows is not None))]
        assert found == [(places, rows)] * 4


def test_a_part_that_fails_names_its_file_and_rows(source, tmp_path):
    def fails(work):
        if work.part.first == 50:
            raise ValueError("no")

    with pytest.raises(BatonError, match=r"rows\.csv, rows 51 to 75: ValueError: no"):
        [*task(source, tmp_path, text=True).each(fails)]


def test_pieces_of_a_row_group_hold_its_rows_in_their_order_and_name_them(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PART_ROWS", 10)
    pq.write_table(pa.table({"x": range(ROWS)}), tmp_path / "x.parquet", row_group_size=60)
    source = files.resolve(str(tmp_path / "x.parquet"))
    pieces = source.pieces(6)
    parts = [part for piece in pieces for part in piece.parts(source.schema())]
    assert len(pieces) == 6 and [x for part in parts for x in part.table["x"].to_pylist()] == [*range(ROWS)]
    assert all(part.table["x"].to_pylist() == [*range(part.first, part.first + part.rows)] for part in parts)


def test_workers_that_do_not_share_the_folder_are_an_error(tmp_path):
    file = spark.OutputFile("x.parquet", stages.TEST, "kept", 0, [10], pa.schema([("x", pa.int64())]))
    with pytest.raises(BatonError, match=r"is not the same folder to all of Spark's workers: .* Set warehouse to"):
        [*spark._rows(file, [spark.Staged(0, stages.TEST, "kept", 5)], PartFiles(tmp_path))]
