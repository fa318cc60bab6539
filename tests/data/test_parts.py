"""A dataset is the same however its source is cut into parts, kept and read again; what goes wrong amid it is said."""

import errno
import json
import logging
import os

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import tiny

from baton import names
from baton.data import cell_counts, recognition, splits, statistics
from baton.data.ingestion import building, local, parts, progress, survey
from baton.data.ingestion import rows as rows_module
from baton.data.row_groups import RowGroups
from baton.data.sources import files
from baton.errors import BadInput, BatonError
from baton.runtime import streams

ROWS = 60


def table(rows: int = ROWS) -> pa.Table:
    """Numbers, categories, days, a rare class, rows without a target, and one row 21 times."""
    rng = np.random.default_rng(5)
    n = rng.integers(0, 50, rows)
    where = rng.choice(["a", "b", "ü"], rows)
    day = [f"2024-{1 + i % 12:02d}-{1 + i % 27:02d}" for i in range(rows)]
    y = rng.choice(["no", "yes", "rare"], rows, p=[0.6, 0.34, 0.06])
    split = rng.choice(["train", "validation", "test"], rows, p=[0.5, 0.25, 0.25])
    plain = pa.table(
        {"n": n, "where": where, "day": day, "split": split, "y": pa.array(y, mask=rng.random(rows) < 0.1)}
    )
    return pa.concat_tables([plain, pa.concat_tables([plain.slice(3, 1)] * 20)])


def built(folder, source, **data):
    """A source → (manifest, columns.json) of its dataset; the folder is removed before the next."""
    defaults = {"drop": ["split"], "max_quarantine": {"rows": 0.5, "unreadable_targets": 0.5}}
    config = tiny.config(data.pop("task", "multiclass"), str(source), data={**defaults, **data})
    place = folder / f"dataset-{len(list(folder.iterdir()))}"
    place.mkdir()
    local.build(config, files.resolve(str(source), files.Reading.of(config.data)), place)
    assert not (place / building.PARTS_FOLDER).exists()
    return [(place / name).read_text() for name in (names.MANIFEST, names.COLUMNS, names.PREPROCESSOR)]


CUTS = {
    "one row a part": {"rows": 1, "cores": 3, "held": 1 << 30, "times": 4},
    "on disk": {"rows": 7, "cores": 2, "held": 0, "times": 10_000},
    "read again": {"rows": 17, "cores": 1, "held": 0, "times": 0},
    "given up": {"rows": 9, "cores": 2, "held": 0, "times": 3},
}


def cut(monkeypatch, rows, cores, held, times):
    monkeypatch.setattr(files, "PART_ROWS", rows)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(parts, "HELD_BYTES", held)
    monkeypatch.setattr(parts, "KEPT_TIMES", times)
    monkeypatch.setattr(parts, "PLACES_BYTES", 0 if held == 0 else 1 << 20)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"group": "where", "drop": ["split", "day"]},
        {"time": "day"},
        {"split_column": "split", "drop": []},
        {"task": "regression", "target": "n"},
    ],
    ids=["rows", "group", "time", "split column", "regression"],
)
def test_the_manifest_is_the_same_whatever_the_parts_and_the_cores(tmp_path, monkeypatch, data):
    source = tmp_path / "rows.csv"
    csv.write_csv(table(), source)
    with source.open("a") as stream:
        stream.write("1,2\n")  # a line that is no row
    whole = built(tmp_path, source, **data)
    assert json.loads(whole[0])["rows"]["quarantined"] > 0
    for name in [*CUTS][1 if data else 0 :]:
        with monkeypatch.context() as patch:
            cut(patch, **CUTS[name])
            assert built(tmp_path, source, **data) == whole, name


def test_the_same_where_copies_of_a_row_are_spread(tmp_path, monkeypatch):
    monkeypatch.setattr(splits, "EXACT_ROWS", 40)
    source = tmp_path / "rows.parquet"
    pq.write_table(table(), source)
    whole = built(tmp_path, source)
    plan = json.loads(whole[2])["split"]
    assert plan["spread"]
    for name in ("on disk", "read again"):
        with monkeypatch.context() as patch:
            cut(patch, **CUTS[name])
            assert built(tmp_path, source) == whole


def test_pictures_in_parts_stay_with_their_duplicates(tmp_path, monkeypatch):
    source = tmp_path / "rows.parquet"
    pictures = tiny.image_table(60)
    pq.write_table(pa.concat_tables([pictures, pictures.slice(0, 8)]), source)
    config = {"task": "image", "target": "label", "drop": []}
    whole = built(tmp_path, source, **config)
    assert len(json.loads(whole[2])["split"]["same"]) == 8 and "in 8 groups" in whole[1]
    for how in (CUTS["read again"], CUTS["one row a part"]):
        with monkeypatch.context() as patch:
            cut(patch, **how)
            assert built(tmp_path, source, **config) == whole


def passes(monkeypatch):
    """Counts the passes over a source."""
    counted = []
    whole = parts.Parts.each
    monkeypatch.setattr(parts.Parts, "each", lambda self, work, done: counted.append(done) or whole(self, work, done))
    return counted


def test_what_the_first_part_makes_believe_is_looked_at_again_and_else_one_look_is_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(splits, "EXACT_ROWS", 40)
    many = table(60).slice(0, 60)
    text = pa.array([str(n) for n in range(40)] + ["x"] * 20)
    for name, rows in (("plain", many), ("turns", many.append_column("late", text))):
        csv.write_csv(rows, tmp_path / f"{name}.csv")
    plain, turns = built(tmp_path, tmp_path / "plain.csv"), built(tmp_path, tmp_path / "turns.csv")
    cut(monkeypatch, **CUTS["on disk"])
    counted = passes(monkeypatch)
    assert built(tmp_path, tmp_path / "plain.csv") == plain and counted.count("read") == 1
    counted.clear()
    assert built(tmp_path, tmp_path / "turns.csv") == turns and counted.count("read") == 2
    late = next(column for column in json.loads(turns[1])["columns"] if column["name"] == "late")
    assert late["kind"] == "categorical"


def test_a_source_that_changes_between_the_passes_is_refused(tmp_path, monkeypatch):
    source = tmp_path / "rows.parquet"
    pq.write_table(table(), source)
    cut(monkeypatch, **CUTS["read again"])
    learn = survey.Survey.look

    def shrinks(self):
        learn(self)
        pq.write_table(table(40), source)

    monkeypatch.setattr(survey.Survey, "look", shrinks)
    with pytest.raises(BadInput, match=r"rows\.parquet changed while it was read \(had "):
        built(tmp_path, source)
    assert not list(tmp_path.glob(f"*/{names.MANIFEST}")) and not list(tmp_path.glob(f"*/{building.PARTS_FOLDER}"))


def test_a_part_that_fails_names_its_file_and_rows(tmp_path, monkeypatch):
    source = tmp_path / "rows.csv"
    csv.write_csv(table(), source)
    cut(monkeypatch, **CUTS["on disk"])
    checked, calls = rows_module.checked, []

    def fails(raw, columns, config):
        calls.append(1)
        if len(calls) == 3:
            raise pa.ArrowInvalid("a cell of lead")
        return checked(raw, columns, config)

    monkeypatch.setattr(rows_module, "checked", fails)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with pytest.raises(BatonError, match=r"rows\.csv, rows 15 to 21: ArrowInvalid: a cell of lead"):
        built(tmp_path, source)


def test_a_disk_that_is_full_amid_the_parts_leaves_none_of_them(tmp_path, monkeypatch):
    source = tmp_path / "rows.csv"
    csv.write_csv(table(), source)
    cut(monkeypatch, **CUTS["on disk"])
    write = pa.ipc.new_file

    def full(file, schema):
        if len(list(tmp_path.glob(f"*/{building.PARTS_FOLDER}/*"))) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, schema)

    monkeypatch.setattr(pa.ipc, "new_file", full)
    with pytest.raises(OSError, match="No space left") as raised:
        built(tmp_path, source)
    assert "rows.csv, rows " in raised.value.__notes__[0]
    assert not list(tmp_path.glob(f"*/{building.PARTS_FOLDER}")) and not list(tmp_path.glob(f"*/{names.MANIFEST}"))


def test_a_long_ingest_says_how_far_it_is(tmp_path, monkeypatch, caplog):
    source = tmp_path / "rows.csv"
    csv.write_csv(table(), source)
    cut(monkeypatch, **CUTS["on disk"])
    with caplog.at_level(logging.INFO, "baton"):
        built(tmp_path, source)
        assert "a second" not in caplog.text
        monkeypatch.setattr(progress, "EVERY_S", 0.0)
        built(tmp_path, source)
    lines = [record.getMessage() for record in caplog.records if "a second" in record.getMessage()]
    assert lines[0].startswith("read 7 rows, ") and lines[-1].startswith(f"wrote {ROWS + 20} rows, ")
    assert ": 100 %" in lines[-1] and lines[-1].endswith(" 0 s to go")


def test_threads_stream_in_order_and_take_no_more_than_they_can_work_on(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    taken = []
    answers = streams.streamed(lambda item: item * item, (taken.append(n) or n for n in range(100)))
    assert next(answers) == 0 and len(taken) == 3
    assert list(answers) == [n * n for n in range(1, 100)]
    with pytest.raises(ZeroDivisionError):
        list(streams.streamed(lambda item: 1 // item, range(3, -1, -1)))


def test_groups_of_rows_hang_on_no_cut():
    rows = pa.table({"n": range(50)})
    for size in (1, 7, 50):
        groups: list[pa.Table] = []
        gathered = RowGroups(groups.append, [20, 5])
        for start in range(0, 50, size):
            gathered.add(rows.slice(start, size))
        gathered.close()
        assert [group.num_rows for group in groups] == [20, 5, 25] and pa.concat_tables(groups).equals(rows)
        assert all(group.column(0).num_chunks == 1 for group in groups)


def test_a_summary_is_the_same_however_it_is_gathered(monkeypatch):
    monkeypatch.setattr(statistics, "SAMPLE_ROWS", 25)
    rows = pa.table({"n": np.random.default_rng(3).normal(size=400), "c": ["a", "b"] * 200})
    whole, gathered, hashes = statistics.summarise(rows), statistics.Gathered(), splits.row_hash(rows)
    for start in range(0, 400, 30):
        gathered.add(statistics.summarise_part(rows.slice(start, 30), hashes[start : start + 30], gathered.below))
    assert gathered.below is not None
    assert gathered.summary().columns == whole.columns and gathered.summary().sample.equals(whole.sample)


def test_floats_that_are_no_whole_numbers_in_any_part_are_no_dates():
    days = pa.table({"when": pa.array([20240101.0 + i % 28 for i in range(400)])})
    odd = pa.table({"when": pa.array([0.5])})
    data = tiny.config("regression", data={"target": "y"}).data
    for rows, kind in (([days, days], "datetime"), ([days, odd], "numeric"), ([odd, days], "numeric")):
        pair = [cell_counts.counts(part.append_column("y", pa.nulls(len(part), pa.float64())), data) for part in rows]
        schema = pa.schema([("when", pa.float64()), ("y", pa.float64())])
        found = recognition.infer(schema, cell_counts.merge(pair), data)
        assert found[0].kind == kind
