"""Bad input, case by case and by the thousand: a sentence and exit status 2, or rows in quarantine; no lost row."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import resource
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace

import mlflow.cli
import nasty
import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import tiny
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baton import names
from baton.config.schema import Config
from baton.data import columns
from baton.data.dataset import Dataset
from baton.data.ingestion import local
from baton.data.sources import files
from baton.errors import BadInput, BatonError, writing
from baton.networks import build as models
from baton.registry import versions
from baton.serving import destination, export, scoring
from baton.serving.raw_columns import RawColumnModel
from baton.serving.scoring import Lineage, Scored
from baton.tracking import runs, servers
from steps.batch_infer import batch_infer
from steps.ingest import ingest
from steps.train import train

ROOT = Path(__file__).parents[2]
LINEAGE = Lineage("m", "1", "run", "f" * 64, "scoring")
ROWS = 200
OLD = "the old output"
OLD_PART = "part-00001.parquet"


# Helpers


def kinds_table(rows: int = ROWS, seed: int = 5) -> pa.Table:
    """A column of each kind: x number, n whole, c category, b truth, t time; and a target y of them."""
    rng = np.random.default_rng(seed)
    x, n, c = rng.normal(size=rows).round(4), rng.integers(0, 50, rows), rng.choice(["a", "b", "c"], rows)
    t = np.datetime64("2024-01-01T00:00:00", "us") + rng.integers(0, 10**6, rows).astype("timedelta64[s]")
    return pa.table({"x": x, "n": n, "c": c, "b": rng.random(rows) < 0.5, "t": t, "y": (2 * x + n).round(4)})


def as_csv(table: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    csv.write_csv(table, out, csv.WriteOptions(quoting_style="none"))
    return out.getvalue().to_pybytes()


def lines(rows: int = ROWS, seed: int = 5) -> list[bytes]:
    """The lines of a good CSV file, the header first."""
    return as_csv(kinds_table(rows, seed)).splitlines()


def put(folder: Path, content: bytes | pa.Table, name: str = "in.csv") -> Path:
    """A source file; a table becomes Parquet."""
    path = (folder / name).with_suffix(".parquet" if isinstance(content, pa.Table) else ".csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    else:
        path.write_bytes(content)
    return path


def build(folder: Path, source: Path | str, task: str = "regression", **data) -> tuple[Dataset, Counter[str]]:
    """Ingest a source → (its dataset, quarantine reasons), after every check that it adds up."""
    config = tiny.config(task, str(source), data=data)
    place = folder / f"dataset{len(list(folder.iterdir()))}"
    place.mkdir()
    reasons = local.build(config, files.resolve(str(source), files.Reading.of(config.data)), place)
    dataset = Dataset.open(place)
    adds_up(dataset, reasons)
    return dataset, reasons


def adds_up(dataset: Dataset, reasons: Counter[str]) -> None:
    """Rows in are rows out plus rows quarantined, on disk too; every reason says something; all numbers are finite."""
    rows = dataset.rows
    assert rows["input"] == sum(rows[key] for key in (*names.SPLITS, "quarantined"))
    for split in names.SPLITS:
        tables = [pq.ParquetFile(file).read() for file in dataset.files(split)]
        assert sum(table.num_rows for table in tables) == rows[split] == sum(dataset.row_groups(split))
        for column in (column for table in tables for column in table.columns):
            assert column.null_count == 0
            assert not pa.types.is_floating(column.type) or np.isfinite(column.to_numpy()).all()
    bad = [pq.read_table(file) for file in sorted((dataset.folder / names.QUARANTINE_FOLDER).glob("*.parquet"))]
    assert sum(table.num_rows for table in bad) == rows["quarantined"] == reasons.total()
    assert all(reason and reason.strip() for table in bad for reason in table["reason"].to_pylist())
    assert dataset.raw_test().num_rows == rows["test"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> RawColumnModel:
    """A built, untrained network of `kinds_table`'s columns, ingested from CSV."""
    folder = tmp_path_factory.mktemp("model")
    dataset, _ = build(folder, put(folder, as_csv(kinds_table(400))))
    return RawColumnModel(dataset.preprocessor, network(dataset))


def score(
    model: RawColumnModel, folder: Path, source: Path | str, reading: files.Reading = files.AS_CONFIGURED
) -> tuple[Scored, pa.Table, pa.Table]:
    """Score a source over an old output → (counts, predictions, quarantined rows), after every check of both."""
    output = folder / "out"
    output.mkdir(exist_ok=True)
    (output / OLD_PART).write_text(OLD)
    (output / destination.MARK).write_text(json.dumps(vars(LINEAGE), default=str))
    try:
        with destination.replaced(output, LINEAGE.model_name) as aside:
            done = scoring.score(model, files.resolve(str(source), reading), LINEAGE, aside, 64)
    except BadInput:
        assert (output / OLD_PART).read_text() == OLD
        raise
    finally:
        assert [path.name for path in folder.glob(".out*")] == []
    assert not (output / OLD_PART).exists()
    good, bad = pq.read_table(output), pq.read_table(output / names.QUARANTINE_OUTPUT / scoring.PART)
    torn = output / names.QUARANTINE_OUTPUT / "lines.parquet"
    broken = pq.read_table(torn)["reason"].to_pylist() if torn.exists() else []
    assert done.rows_in == done.rows_scored + done.rows_quarantined
    assert (done.rows_scored, done.rows_quarantined) == (good.num_rows, bad.num_rows + len(broken))
    assert all(reason and reason.strip() for reason in bad["reason"].to_pylist() + broken)
    assert sum(done.reasons.values()) == done.rows_quarantined
    assert good.column_names[-7:] == [names.PREDICTION, *names.LINEAGE]
    return done, good, bad


def is_sentence(text: str) -> bool:
    """One line that a terminal can show, and that says something."""
    return len(text) > 15 and text.isprintable() and "Traceback" not in text


def network(dataset: Dataset):
    return models.build(dataset.preprocessor, tiny.config().model)


# Refused: the same sentence from ingest and from scoring


def lined(at: int, *text: bytes) -> bytes:
    """The good file with other text from line `at` on (1 is the header)."""
    changed = lines()
    changed[at - 1 : at - 1 + len(text)] = text
    return b"\n".join(changed) + b"\n"


def renamed(**new: str) -> pa.Table:
    table = kinds_table()
    return table.rename_columns([new.get(name, name) for name in table.column_names])


NOT_FILES = {
    "empty file": (b"", r"in\.csv is not CSV that can be read: Empty CSV file, without even a header"),
    "only blank lines": (b"\n\n\n", r"in\.csv is not CSV that can be read: Empty CSV file"),
    "NUL byte": (lined(7, b"1,2,\0,true,2024-01-01,3"), r"in\.csv, line 7: a NUL byte"),
    "UTF-16": (as_csv(kinds_table()).decode().encode("utf-16"), r"in\.csv, line 1: the text is UTF-16"),
    "UTF-16 without a mark": (as_csv(kinds_table()).decode().encode("utf-16-le"), r"in\.csv, line 1: .*UTF-16"),
    "UTF-32": (as_csv(kinds_table()).decode().encode("utf-32"), r"in\.csv, line 1: the text is UTF-32"),
    "Latin-1": (
        lined(9, "1,2,Málaga,true,2024-01-01,3".encode("latin-1")),
        r"in\.csv, line 9: byte 0xE1 is not UTF-8, the file may be Latin-1",
    ),
    "Latin-1 header": (b"x,\xe9\n1,2\n", r"in\.csv, line 1: byte 0xE9 is not UTF-8"),
    "Latin-1 in a ragged line": (lined(4, b"\xe9"), r"in\.csv, line 4: byte 0xE9"),
    "unclosed quote": (lined(5, b'1,2,"a,true,2024-01-01,3'), r"in\.csv, line 5: a quote is opened and never closed"),
    "unclosed quote in the header": (lined(1, b'"x,n,c,b,t,y'), r"in\.csv, line 1: a quote is opened and never closed"),
    "quote closed far below": (
        lined(5, b'1,2,"a,true,2024-01-01,3', b"1,2,c,true,2024-01-01,3", b'1,2,b" x,true,2024-01-01,3'),
        r"in\.csv, line 5: a quote is opened and closed only amid line 7",
    ),
    "line too long": (lined(6, b"x" * (20 << 20)), r"in\.csv, line 6: longer than 8,388,608 bytes"),
    "duplicate columns": (lined(1, b"x,n,c,x,t,n"), r"in\.csv has columns of the same name: n, x\."),
    "columns that differ in case": (lined(1, b"x,n,c,C,t,X"), r"whose names differ in case only: C, X, c, x\."),
    "columns without a name": (lined(1, b"x,, ,b,t,y"), r"in\.csv has columns without a name: number 2, 3\."),
    "a header that ends with a delimiter": (
        lined(1, b"x,n,c,b,t,y,"),
        r"in\.csv has columns without a name: number 7\. Its header ends with a delimiter\.",
    ),
    "the index of pandas": (lined(1, b",n,c,b,t,y"), r"number 1\. The first may be the index of pandas: write it with"),
    "all of these": (
        lined(1, b"x,x,c,C,,y"),
        r"same name: x\. .*without a name: number 5\. .*differ in case only: C, c\.",
    ),
    "reserved columns": (lined(1, b"x,n,c,b,Prediction,reason"), r"reserved.*Received: Prediction, reason"),
    "Parquet cut short": ("cut", r"in\.parquet is not Parquet that can be read"),
    "no Parquet at all": ("text", r"in\.parquet is not Parquet that can be read"),
    "Parquet of text that is not UTF-8": ("not utf-8", r"in\.parquet is damaged in column c: .*UTF8"),
    "Parquet with torn pages": ("torn", r"in\.parquet is not Parquet that can be read: .*deserialize thrift"),
    "gzip that is cut short": ("gzip cut", r"in\.csv\.gz is damaged: Compressed file ended .*\. Pack it again"),
    "no gzip at all": ("no gzip", r"in\.csv\.gz is damaged: Not a gzipped file .*\. Pack it again"),
    "gzip of very many bytes": (
        "bomb",
        r"in\.csv\.gz holds more than [\d,]+ bytes when it is unpacked: unpack it",
    ),
    "an archive": ("zip", r"Archives are not read: unpack it, and name the folder\. Received: .*in\.zip"),
    "a file of no data": ("note", r"must hold only CSV, only Parquet or only image files\. Received: .*in\.md"),
    "other partitions": ("partitions", r"d/hour=1/in\.parquet lies in other partitions .*Received: hour and day"),
    "a folder of Delta": (
        "Delta",
        r"d is a table of Delta, whose folder holds deleted rows too: read it with Spark",
    ),
    "a folder of Iceberg": ("Iceberg", r"d is a table of Iceberg, whose folder holds deleted rows too: read it with"),
    "a folder of Hudi": ("Hudi", r"d is a table of Hudi, whose folder holds deleted rows too: read it with Spark"),
    "whole numbers beside doubles": (
        "beyond doubles",
        r"d/1\.parquet: column n holds values of type int64 that double, the type for all files, cannot hold exactly",
    ),
    "times of two units": (
        "beyond microseconds",
        r"d/2\.parquet: column t holds values of type timestamp\[ns\] that timestamp\[us\], the type for all files,",
    ),
    "Parquet with duplicate columns": (renamed(n="x"), r"in\.parquet has columns of the same name: x"),
}


def not_a_file(folder: Path, content: bytes | pa.Table | str) -> Path:
    """A source that is refused: of the bytes or the table, or of a kind that a word names."""
    if not isinstance(content, str):
        return put(folder, content)
    if content in OTHERS:
        return other_source(folder / "d", OTHERS[content]())
    table = kinds_table()
    if content == "not utf-8":
        table = table.set_column(2, "c", nasty._not_utf8(ROWS))
    path = put(folder, table)
    whole = path.read_bytes()
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    first = column.dictionary_page_offset or column.data_page_offset
    spoil = {
        "cut": whole[: len(whole) * 2 // 3],
        "text": b"x,n,c,b,t,y\n",
        "torn": whole[:first] + b"\xff" * 8 + whole[first + 8 :],
        "not utf-8": whole,
    }
    path.write_bytes(spoil[content])
    return path


def other_source(folder: Path, contents: dict[str, bytes | pa.Table]) -> Path:
    """A folder of such files; if it is one file, that."""
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            pq.write_table(content, folder / name)
    return folder / next(iter(contents)) if len(contents) == 1 else folder


def in_two_types(name: str, one: pa.Array, other: pa.Array) -> dict[str, pa.Table]:
    table, rows = kinds_table(), pa.array([0] * ROWS)
    index = table.column_names.index(name)
    return {f"{n}.parquet": table.set_column(index, name, a.take(rows)) for n, a in enumerate((one, other), 1)}


OTHERS = {
    "gzip cut": lambda: {"in.csv.gz": gzip.compress(as_csv(kinds_table()))[:-20]},
    "no gzip": lambda: {"in.csv.gz": as_csv(kinds_table())},
    "bomb": lambda: {"in.csv.gz": gzip.compress(bytes(100 << 20))},
    "zip": lambda: {"in.zip": b"PK"},
    "note": lambda: {"in.md": b"# Rows"},
    "partitions": lambda: {"day=1/in.parquet": kinds_table(), "hour=1/in.parquet": kinds_table()},
    "Delta": lambda: {"in.parquet": kinds_table(), "_delta_log/0.json": b"{}"},
    "Iceberg": lambda: {"data/in.parquet": kinds_table(), "metadata/v1.metadata.json": b"{}"},
    "Hudi": lambda: {"in.parquet": kinds_table(), ".hoodie/hoodie.properties": b""},
    "beyond doubles": lambda: in_two_types("n", pa.array([2**53 + 1]), pa.array([0.5])),
    "beyond microseconds": lambda: in_two_types("t", pa.array([0], pa.timestamp("us")), pa.array([1], NANOSECONDS)),
}
NANOSECONDS = pa.timestamp("ns")


@pytest.mark.parametrize("case", NOT_FILES)
def test_ingest_refuses(case, tmp_path):
    content, sentence = NOT_FILES[case]
    with pytest.raises(BadInput, match=sentence) as error:
        build(tmp_path, not_a_file(tmp_path, content))
    assert is_sentence(str(error.value))


@pytest.mark.parametrize("case", NOT_FILES)
def test_scoring_refuses_and_the_old_output_stays(case, model, tmp_path):
    content, sentence = NOT_FILES[case]
    with pytest.raises(BadInput, match=sentence) as error:
        score(model, tmp_path, not_a_file(tmp_path, content))
    assert is_sentence(str(error.value))


# Columns


def test_one_error_names_all_that_differs_between_files(tmp_path):
    put(tmp_path, kinds_table(), "d/1.parquet")
    put(tmp_path, renamed(x="X2").drop(["b"]).set_column(1, "n", pa.array(["1"] * ROWS)), "d/2.parquet")
    put(tmp_path, kinds_table().set_column(4, "t", pa.array([True] * ROWS)), "d/3.parquet")
    with pytest.raises(BadInput) as error:
        build(tmp_path, tmp_path / "d")
    said = str(error.value)
    assert "2.parquet has other columns than the files before it: missing ['b', 'x'], extra ['X2']" in said
    assert "2.parquet: the type of column n does not go together with that in the files before it: string" in said
    assert "3.parquet: the type of column t does not go together" in said


def test_one_error_names_all_that_differs_from_training(model, tmp_path):
    table = kinds_table().drop(["x"]).set_column(3, "t", pa.array(range(ROWS))).append_column("X ", pa.nulls(ROWS))
    with pytest.raises(BadInput) as error:
        score(model, tmp_path, put(tmp_path, table))
    lacks = "The data lacks x (it has 'X '). Received columns: n, c, b, t, y, X ."
    assert str(error.value) == f"Column t must be datetime. Received: int64. {lacks}"


def test_ingest_names_all_columns_it_cannot_use(tmp_path):
    table = kinds_table().append_column("clock", pa.array([[1]] * ROWS)).append_column("d", pa.array([b"1"] * ROWS))
    with pytest.raises(BadInput, match="The source has no column g, z"):
        build(tmp_path, put(tmp_path, table), group="g", drop=["z"])
    with pytest.raises(
        BadInput, match=r"no column C2, Z\. Its .*Column clock has a type .*Received: list<.*Column d holds"
    ):
        build(tmp_path, put(tmp_path, table), group="C2", drop=["Z"])
    with pytest.raises(BadInput, match=r"Column clock has a type .*Received: list"):
        build(tmp_path, put(tmp_path, table))
    with pytest.raises(BadInput, match=r"Column x must be boolean\. .*Column t must be numeric\. Received: timestamp"):
        table = kinds_table().set_column(0, "x", pa.array([b"1"] * ROWS))
        build(tmp_path, put(tmp_path, table), kinds={"x": "boolean", "t": "numeric"})


def test_one_error_names_reserved_and_missing_columns(model, tmp_path):
    with pytest.raises(
        BadInput, match=r"reserved .*Received: reason\. The data lacks c\. Received columns: x, n, reason"
    ):
        score(model, tmp_path, put(tmp_path, renamed(c="reason")))


def test_extra_columns_are_carried_through(model, tmp_path):
    done, good, _ = score(model, tmp_path, put(tmp_path, kinds_table().append_column("more", pa.array(range(ROWS)))))
    assert done.rows_scored == ROWS and good["more"].to_pylist() == list(range(ROWS))


@pytest.mark.parametrize(
    ("column", "cells", "reason"),
    [
        ("x", ["1.5 kg"], "x is not a number"),
        ("b", ["maybe"], "b is not true or false"),
        ("t", ["2024-02-30"], "t is not a date or time"),
        ("x", ["-inf"], "x is infinite"),
    ],
)
def test_cells_of_another_type_are_quarantined_when_scoring(model, tmp_path, column, cells, reason):
    table = kinds_table()
    text = table[column].cast(pa.string()).to_pylist()
    source = table.set_column(table.column_names.index(column), column, pa.array(cells + text[len(cells) :]))
    for content in (as_csv(source), source):
        done, _, bad = score(model, tmp_path, put(tmp_path, content))
        assert done.reasons == {reason: len(cells)} and bad[column].to_pylist() == cells


def test_numbers_where_truths_were_are_0_and_1(model, tmp_path):
    table = kinds_table().set_column(3, "b", pa.array([0, 1, 2, None] * (ROWS // 4)))
    done, _, _ = score(model, tmp_path, put(tmp_path, table))
    assert done.reasons == {"b is not true or false": ROWS // 4}


def test_numbers_of_csv_that_print_back_come_out_typed_and_others_as_text(model, tmp_path):
    table = kinds_table().append_column("id", pa.array(range(ROWS)))
    text = as_csv(table)
    _, good, _ = score(model, tmp_path, put(tmp_path, text))
    assert good.schema.field("n").type == pa.int64() and good["n"].to_pylist() == table["n"].to_pylist()
    first = text.splitlines()[1].split(b",")
    odd = text.replace(b",".join(first), b",".join([first[0], b"03", *first[2:]]), 1)
    _, good, _ = score(model, tmp_path, put(tmp_path, odd))
    assert good["n"].to_pylist() == ["03", *map(str, table["n"].to_pylist()[1:])]
    for type_ in (pa.string(), pa.large_string()):
        text_of_parquet = table.set_column(1, "n", pa.array([f"{n}.0" for n in table["n"].to_pylist()], type_))
        _, good, _ = score(model, tmp_path, put(tmp_path, text_of_parquet))
        assert good["n"].combine_chunks() == text_of_parquet["n"].combine_chunks()


def test_unseen_categories_are_counted(model, tmp_path):
    table = kinds_table().set_column(2, "c", pa.array(["new"] * 30 + ["a"] * (ROWS - 33) + [None] * 3))
    done, _, _ = score(model, tmp_path, put(tmp_path, table))
    assert done.rows_scored == ROWS and done.unseen == {"c": 30}


def test_dropped_columns_with_reserved_names_are_not_read(model, tmp_path):
    table = kinds_table().append_column("Prediction", pa.array(range(ROWS))).append_column("reason", pa.nulls(ROWS))
    drop = ["Prediction", "reason", "run_id"]  # one that is not there misses nobody
    for content in (table, as_csv(table)):
        dataset, _ = build(tmp_path, source := put(tmp_path, content), drop=drop)
        assert {e["source"] for e in dataset.manifest["schema"]} == set(kinds_table().column_names)
        assert dataset.raw_test().column_names == kinds_table().column_names
        reading = files.Reading.of(tiny.config(data={"drop": drop}).data)
        assert score(model, tmp_path, source, reading)[0].rows_scored == ROWS


def test_folders_called_key_value_are_columns_of_training_and_scoring(model, tmp_path):
    for name, content in (("1.csv", as_csv(kinds_table())), ("1.parquet", kinds_table())):
        place = tmp_path / name.split(".")[1]
        for c in ("a", "b"):
            path = put(place, content, f"k={'7' if c == 'a' else '8'}/p={c}%20{c}/{name}")
        dataset, _ = build(tmp_path, place)
        columns = {e["source"]: e["kind"] for e in dataset.manifest["schema"]}
        assert (columns["k"], columns["p"]) == ("numeric", "categorical") and dataset.rows["input"] == 2 * ROWS
        done, good, _ = score(RawColumnModel(dataset.preprocessor, network(dataset)), tmp_path, place)
        assert Counter(good["p"].to_pylist()) == {"a a": ROWS, "b b": ROWS} and done.rows_scored == 2 * ROWS
        with pytest.raises(BadInput, match="The data lacks k, p"):
            score(RawColumnModel(dataset.preprocessor, network(dataset)), tmp_path, path)


def test_whole_numbers_beyond_63_bits_are_kept(tmp_path):
    table = kinds_table().set_column(1, "n", pa.array([2**63 + 5] * 20 + list(range(ROWS - 20)), pa.uint64()))
    source = put(tmp_path, table)
    dataset, reasons = build(tmp_path, source)
    assert not reasons and dataset.rows["input"] == ROWS
    _, good, _ = score(RawColumnModel(dataset.preprocessor, network(dataset)), tmp_path, source)
    assert good["n"].to_pylist() == table["n"].to_pylist()


# Rows and values


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_too_few_rows_to_split(tmp_path, rows):
    sentence = "holds no rows" if rows == 0 else r"split would be empty: bring more rows\. Received: \d usable rows"
    for content in (as_csv(kinds_table(rows)), kinds_table(rows)):
        with pytest.raises(BadInput, match=sentence):
            build(tmp_path, put(tmp_path, content))


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n\r\n"])
def test_a_source_without_rows_gives_an_empty_table_of_the_right_columns(model, tmp_path, end):
    for content in (b"x,n,c,b,t,more" + end, kinds_table(0)):
        done, good, bad = score(model, tmp_path, put(tmp_path, content))
        assert done == Scored() and good.num_rows == bad.num_rows == 0
    assert [str(good.schema.field(name).type) for name in ("x", "n", "c")] == ["double", "int64", "string"]


def test_one_row_is_scored(model, tmp_path):
    assert score(model, tmp_path, put(tmp_path, as_csv(kinds_table(1))))[0].rows_scored == 1


def test_fewer_rows_than_workers(tmp_path):
    config = tiny.config("regression", str(put(tmp_path, kinds_table(40))), distributed_train={"workers": 30})
    (tmp_path / "dataset").mkdir()
    with pytest.raises(BadInput, match=r"split has fewer rows than there are workers \(30\).*Received: \d+ rows"):
        local.build(config, files.resolve(config.data.source), tmp_path / "dataset")


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_target_of_a_single_class(tmp_path, task):
    table = kinds_table().set_column(5, "y", pa.array(["yes"] * ROWS))
    with pytest.raises(BadInput, match=r"y must have (exactly|at least) 2 classes .*Received: yes"):
        build(tmp_path, put(tmp_path, table), task)


def test_targets_that_cannot_be_learnt_are_quarantined(tmp_path):
    y = kinds_table()["y"].to_pylist()
    y[:6] = [None, float("nan"), float("inf"), float("-inf"), 3.5e38, -4e38]
    source = put(tmp_path, kinds_table().set_column(5, "y", pa.array(y)))
    _, reasons = build(tmp_path, source, max_quarantine={"unreadable_targets": 0.02})
    assert reasons == {"y (the target) is missing": 2, "y is infinite": 2, "y (the target) is beyond 3.4e+38": 2}


REFUSED = [
    # what the target is, the answer, and what is accepted when the limit is lifted
    (["1,234.00 kg"] * 3, "3 of 200 rows have a target that cannot be read (1.5 %), and "
     "data.max_quarantine.unreadable_targets allows 1.0 %: y is not a number (3 rows, such as '1,234.00 kg')"),
    ([None] * 41, "41 of 200 rows cannot be used (20.5 %), and data.max_quarantine.rows allows 20.0 %: "
     "y (the target) is missing (41 rows)"),
]  # fmt: skip


@pytest.mark.parametrize(("cells", "answer"), REFUSED, ids=["unreadable", "missing"])
def test_more_than_a_share_of_the_rows_is_not_set_aside(tmp_path, cells, answer):
    y = kinds_table()["y"].cast(pa.string()).to_pylist()
    path = put(tmp_path, kinds_table().set_column(5, "y", pa.array([*cells, *y[len(cells) :]])))
    with pytest.raises(BadInput, match=re.escape(answer)):
        build(tmp_path, path)
    fewer = put(
        tmp_path, kinds_table().set_column(5, "y", pa.array([*cells[: len(cells) // 2], *y[len(cells) // 2 :]]))
    )
    assert build(tmp_path, fewer)[1].total() == len(cells) // 2
    lifted = {"rows": 1, "unreadable_targets": 1}
    path = put(tmp_path, kinds_table().set_column(5, "y", pa.array([*cells, *y[len(cells) :]])))
    assert build(tmp_path, path, max_quarantine=lifted)[1].total() == len(cells)


def test_a_feature_that_starts_like_the_target_is_not_taken_for_it(tmp_path):
    x = [float("inf")] * 8 + [1.0] * (ROWS - 8)
    table = kinds_table().append_column("y too", pa.array(x))
    assert build(tmp_path, put(tmp_path, table))[1] == {"y too is infinite": 8}


def test_the_sentence_has_the_three_most_frequent_reasons_with_a_cell_each(tmp_path):
    table = kinds_table()
    spoilt = {"x": ["huge"] * 2, "b": ["maybe"] * 20, "t": ["2024-02-30"] * 15}
    text = [line.split(b",") for line in lines()]
    start = 1
    for column, cells in spoilt.items():
        for cell in cells:
            text[start][table.column_names.index(column)] = cell.encode()
            start += 1
    config = {"kinds": {"x": "numeric", "b": "boolean", "t": "datetime"}}
    source = put(tmp_path, b"\n".join([*(b",".join(line) for line in text), *[b"1,2"] * 25]))
    with pytest.raises(BadInput) as caught:
        build(tmp_path, source, **config)
    for part in ("62 of 225 rows", "expected 6 values, got 2 (25 rows, such as 'in.csv: 1,2')",
                 "b is not true or false (20 rows, such as 'maybe')",
                 "t is not a date or time (15 rows, such as '2024-02-30')", "and 1 more reasons"):  # fmt: skip
        assert part in str(caught.value)


def test_a_file_of_lines_that_are_no_rows_says_why(tmp_path):
    with pytest.raises(BadInput, match=r"holds no rows that can be read: expected 6 values, got 2 \(9 rows, such as"):
        build(tmp_path, put(tmp_path, lines()[0] + b"\n" + b"1,2\n" * 9))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (b"x;n;y\n1;2;3\n", "Its header looks separated by ';': set data.delimiter: ';'"),
        (b"5.1,3.5,setosa\n4.9,3.0,setosa\n", "Its header looks like a row: the line of names may be missing"),
    ],
)
def test_what_may_be_wrong_with_a_header_is_said(model, tmp_path, text, hint):
    with pytest.raises(BadInput, match=f"The source has no column y.*{hint}"):
        build(tmp_path, put(tmp_path, text))
    with pytest.raises(BadInput, match=f"The data lacks .*{hint}"):
        score(model, tmp_path, put(tmp_path, text))


def test_a_row_in_place_of_a_header_is_suspected_where_its_cells_recur(tmp_path):
    with pytest.raises(BadInput, match=r"columns of the same name: 3\.0\. Its header looks like a row: the line of"):
        build(tmp_path, put(tmp_path, b"3.0,3.0,setosa\n4.9,3.0,setosa\n"))


def test_classes_that_differ_in_case_only_are_refused(tmp_path):
    table = kinds_table().set_column(5, "y", pa.array(["Yes", "yes", "no", "no"] * (ROWS // 4)))
    with pytest.raises(BadInput, match="Classes of y differ in case only: spell .* Received: Yes, yes"):
        build(tmp_path, put(tmp_path, table), "multiclass")


def test_constant_and_missing_columns_are_accepted(model, tmp_path):
    table = kinds_table().append_column("same", pa.array([5] * ROWS)).append_column("none", pa.nulls(ROWS))
    table = table.append_column("nan", pa.array([float("nan")] * ROWS))
    for content in (table, as_csv(table)):
        dataset, reasons = build(tmp_path, put(tmp_path, content))
        assert not reasons and {"same", "none", "nan"} <= {e["source"] for e in dataset.manifest["schema"]}
    nothing = kinds_table().set_column(0, "x", pa.nulls(ROWS)).set_column(2, "c", pa.nulls(ROWS))
    assert score(model, tmp_path, put(tmp_path, nothing))[0].rows_scored == ROWS


def test_a_million_categories(tmp_path):
    rows = 1_000_000
    keys = pa.array(np.char.add("k", np.arange(rows).astype(str)).tolist() + ["often"] * 4)
    y = pa.array(np.random.default_rng(1).normal(size=rows + 4))
    dataset, _ = build(tmp_path, put(tmp_path, pa.table({"key": keys, "y": y})), row_group_size=50_000)
    assert dataset.rows["input"] == rows + 4
    assert dataset.preprocessor.spec["features"]["key"]["vocabulary"] == ["often"]


def test_infinite_features_are_quarantined_and_missing_ones_imputed(tmp_path):
    x = kinds_table()["x"].to_pylist()
    x[:4] = [float("nan"), float("inf"), float("-inf"), None]
    for content in (table := kinds_table().set_column(0, "x", pa.array(x)), as_csv(table)):
        dataset, reasons = build(tmp_path, put(tmp_path, content))
        assert reasons == {"x is infinite": 2} and dataset.rows["input"] == ROWS


def test_stray_characters_in_numbers(tmp_path):
    x = [str(v) for v in kinds_table()["x"].to_pylist()]
    x[:2] = ["1.5kg", "--1"]
    dataset, reasons = build(tmp_path, put(tmp_path, as_csv(kinds_table().set_column(0, "x", pa.array(x)))))
    assert reasons == {"x is not a number": 2}
    x[:3] = ["a", "b", "c"]  # more than 1 %: the column is text
    dataset, reasons = build(tmp_path, put(tmp_path, as_csv(kinds_table().set_column(0, "x", pa.array(x)))))
    assert not reasons and dataset.manifest["schema"][0]["kind"] == "categorical"


@pytest.mark.parametrize(
    ("missing", "numbers", "answer"),
    [
        (None, ["", " ", "NA", " nan"], ({}, 4, 50)),
        (["-"], ["", " ", "-", "- "], ({}, 4, 30)),
        ([], ["", " ", "NA"], ({"x is not a number": 1}, 2, 20)),
    ],
)
def test_what_means_missing_does_so_in_csv_and_parquet_alike(tmp_path, missing, numbers, answer):
    x, c = [str(v) for v in kinds_table()["x"].to_pylist()], kinds_table()["c"].to_pylist()
    x[: len(numbers)], c[:60] = numbers, ["NA", "", "None", " ", "-", "null"] * 10
    table = kinds_table().set_column(0, "x", pa.array(x)).set_column(2, "c", pa.array(c))
    found = []
    for content in (as_csv(table), table):
        dataset, reasons = build(tmp_path, put(tmp_path, content), **({} if missing is None else {"missing": missing}))
        profile = json.loads((dataset.folder / names.PROFILE).read_text())
        assert (reasons, profile["x"]["missing"], profile["c"]["missing"]) == answer
        found.append((dataset.fingerprint, profile))
    assert found[0] == found[1]


def test_dates_of_the_years_1_to_9999(tmp_path):
    t = [f"{v:%Y-%m-%d}" for v in kinds_table()["t"].to_pylist()]
    t[:4] = ["0001-01-01", "1500-06-07 12:30", "9999-12-31T23:59:59", "0000-01-01"]
    dataset, reasons = build(tmp_path, put(tmp_path, as_csv(kinds_table().set_column(4, "t", pa.array(t)))))
    assert reasons == {"t is not a date or time": 1}
    seconds = pa.array([2**60, -(2**60), 253402300800, *[1_700_000_000] * (ROWS - 3)], pa.int64())
    table = kinds_table().set_column(4, "t", seconds.cast(pa.timestamp("s")))
    _, reasons = columns.typed(table, [columns.Column("t", "datetime", "datetime")], None)
    assert reasons.to_pylist()[:4] == ["t is not in the years 1 to 9999"] * 3 + [None]


# CSV, line by line


def test_ragged_lines_are_quarantined_with_their_lines(model, tmp_path):
    changed = lines()
    changed[3:3] = [b"", b"1,2"]  # line 4 is blank, line 5 is short
    changed[9] = b'0.5,3,"two\nlines",true,2024-01-01 10:00:00,7'  # lines 10 and 11
    changed[20] = b"1,2,3,4,5,6,7,8"
    source = put(tmp_path, b"\n".join(changed))
    dataset, reasons = build(tmp_path, source)
    done, _, _ = score(model, tmp_path, source)
    assert dataset.rows["input"] == done.rows_in == ROWS + 1
    assert reasons == done.reasons == {"expected 6 values, got 2": 1, "expected 6 values, got 8": 1}
    found = pq.read_table(dataset.folder / names.QUARANTINE_FOLDER / "lines.parquet")["reason"].to_pylist()
    assert found == ["line 5: expected 6 values, got 2", "line 22: expected 6 values, got 8"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_byte_order_mark_and_line_ends_are_accepted(model, tmp_path, end):
    content = b"\xef\xbb\xbf" + end.join(lines()) + end
    source = put(tmp_path, content)
    assert build(tmp_path, source)[0].rows["input"] == ROWS
    assert score(model, tmp_path, source)[0].rows_scored == ROWS


@pytest.mark.parametrize(
    "cell", [b'"a ""b"" c"', b'5" pipe', b'"two\nlines"', b'"a,b"', b'"x"y', b'"\n\n"', b'"with ""\nboth"""']
)
def test_quotes_that_are_right_are_accepted(model, tmp_path, cell):
    source = put(tmp_path, lined(3, b"1,2," + cell + b",true,2024-01-01,3"))
    assert build(tmp_path, source)[0].rows["input"] == ROWS
    assert score(model, tmp_path, source)[0].rows_in == ROWS


def test_lines_that_end_with_a_delimiter_are_counted_by_that_reason(model, tmp_path):
    source = put(tmp_path, b"\n".join([lines()[0], *(line + b"," for line in lines()[1:50]), *lines()[50:]]))
    reason = "expected 6 values, got 7 (it ends with a delimiter)"
    _, reasons = build(tmp_path, source, max_quarantine={"rows": 0.25})
    assert reasons == score(model, tmp_path, source)[0].reasons == {reason: 49}


@pytest.mark.parametrize("name", ["in.csv.gz", "in.txt", "in.data"])
def test_packed_text_escapes_and_other_encodings_are_accepted(model, tmp_path, name):
    text = as_csv(kinds_table()).decode().replace(",a,", ',"\\"Málaga, a",').replace(",", ";").encode("latin-1")
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    config = tiny.config(data={"encoding": "latin-1", "escape": "\\", "delimiter": ";"})
    dataset, reasons = build(tmp_path, tmp_path / name, encoding="latin-1", escape="\\", delimiter=";")
    assert not reasons and '"Málaga; a' in dataset.preprocessor.spec["features"]["c"]["vocabulary"]
    done, _, _ = score(model, tmp_path, tmp_path / name, files.Reading.of(config.data))
    assert done.rows_scored == ROWS and not done.reasons


# Sources that change, and damaged parts


@pytest.mark.parametrize("change", ["append", "gone", "touched", "replaced", "replaced and back"])
@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_source_that_changes_while_it_is_read(tmp_path, change, format):
    path = put(tmp_path, as_csv(kinds_table()) if format == "csv" else kinds_table())
    source = files.resolve(str(path))

    tables = source.batches(10)
    next(tables)
    if change == "append":
        path.write_bytes(path.read_bytes() + b"1,2,a,true,2024-01-01,3\n")
    elif change == "gone":
        path.unlink()
    elif change == "touched":
        os.utime(path, ns=(1, 1))
    else:  # by one of the same size and times
        kept, other = path.with_suffix(".kept"), Path(shutil.copy2(path, tmp_path / "other"))
        path.rename(kept)
        other.rename(path)
        if change == "replaced and back":
            kept.rename(path)
    with pytest.raises(BadInput, match=rf"{path.name} changed while it was read \(.*\): run again when it is whole"):
        list(tables)


def test_another_inode_number_of_the_same_file_is_no_change(tmp_path, monkeypatch):
    """As FUSE and CIFS give one to a file that the kernel has forgotten meanwhile, or to another host."""
    source = files.resolve(str(put(tmp_path, kinds_table())))
    real = Path.stat

    def stat(path: Path, **options: bool) -> SimpleNamespace:
        now = real(path, **options)
        return SimpleNamespace(**{k: getattr(now, k) for k in dir(now) if k.startswith("st_")} | {"st_ino": 1})

    monkeypatch.setattr(Path, "stat", stat)
    assert sum(table.num_rows for table in source.batches()) == kinds_table().num_rows


def test_a_part_that_is_missing_or_damaged_is_named(tmp_path):
    dataset, _ = build(tmp_path, put(tmp_path, kinds_table()))
    part = dataset.files("train")[0]
    whole = part.read_bytes()
    for spoilt in (whole[:-20], whole[:50] + bytes([whole[50] ^ 4]) + whole[51:], None):
        part.unlink() if spoilt is None else part.write_bytes(spoilt)
        with pytest.raises(BadInput, match=r"train/part-00000\.parquet of the dataset .* (is missing|is damaged)"):
            Dataset.open(dataset.folder)
    part.write_bytes(whole)
    for name in (names.PREPROCESSOR, names.PROFILE, names.MANIFEST):
        text = (dataset.folder / name).read_text()
        (dataset.folder / name).write_text(text[: len(text) // 2])
        with pytest.raises(BadInput, match=rf"{name} of the dataset .* is damaged"):
            Dataset.open(dataset.folder)
        (dataset.folder / name).write_text(text)
    Dataset.open(dataset.folder)


def test_flipped_bits_never_end_the_process(tmp_path):
    """In a process of its own: what this guards against is a crash of it."""
    script = """
import pathlib, sys
import pyarrow.parquet as pq, pyarrow.compute as pc
from baton.data.sources import files
from baton.errors import BadInput
path, whole = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1]).read_bytes()
tried = refused = 0
for place in range(4, len(whole) - 4, 5):
    for bit in (place % 8, 3, 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1:])
        tried += 1
        try:
            assert files.resolve(str(path)).table().num_rows == 20
        except BadInput as error:
            refused += 1
            assert "flip.parquet" in str(error), error
print(tried, refused)
"""
    path = tmp_path / "flip.parquet"
    pq.write_table(kinds_table(20), path, compression="none", write_statistics=False)
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    tried, refused = map(int, done.stdout.split())
    assert tried > 1000 and refused > 0.3 * tried


# By the thousand

# What became of the inputs that were made up, by step; the summary of the test session prints it.
TRIED: dict[str, Counter[str]] = defaultdict(Counter)
MANY = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}
TASKS = ("regression", "binary", "multiclass")


@pytest.fixture(scope="module")
def arena(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("arena")


def refused(step_: str) -> None:
    TRIED[step_].update({"inputs": 1, "refused": 1})


def kept(step_: str, made: int | None, rows_in: int, good: int, quarantined: int) -> None:
    """Count an input that was taken; `made`: of how many rows it was made, if that is known."""
    lost = (rows_in if made is None else made) - good - quarantined
    counts = {"rows in": rows_in, "rows good": good, "rows quarantined": quarantined, "rows lost": lost}
    TRIED[step_].update({"inputs": 1, "taken": 1, **counts})
    assert lost == 0 and rows_in == good + quarantined


def file_of(found: nasty.Nasty, arena: Path) -> Path:
    shutil.rmtree(arena)
    arena.mkdir()
    path = arena / f"nasty{found.suffix}"
    path.write_bytes(found.content)
    return path


@settings(max_examples=1200, **MANY)
@given(data=st.data(), task=st.sampled_from(TASKS), made=st.sampled_from([nasty.csv_files, nasty.parquet_files]))
def test_ingest_refuses_with_a_sentence_or_keeps_every_row(arena, data, task, made):
    found = data.draw(made(task))
    path = file_of(found, arena)
    try:
        dataset, reasons = build(arena, path, task, max_quarantine={"rows": 1, "unreadable_targets": 1})
    except BadInput as error:
        assert is_sentence(str(error)), error
        refused("ingest")
        return
    rows = dataset.rows
    kept("ingest", found.rows, rows["input"], sum(rows[s] for s in names.SPLITS), reasons.total())


TEXT_COLUMNS = {"x": "number", "n": "whole", "c": "category", "b": "truth", "t": "date"}
ARROW_COLUMNS = {"x": "double", "n": "small", "c": "category", "b": "truth", "t": "micros"}


@settings(max_examples=600, **MANY)
@given(found=nasty.csv_files(fixed=TEXT_COLUMNS) | nasty.parquet_files(fixed=ARROW_COLUMNS))
def test_scoring_refuses_with_a_sentence_or_keeps_every_row(arena, model, found):
    path = file_of(found, arena)
    try:
        done, good, _ = score(model, arena, path)
    except BadInput as error:
        assert is_sentence(str(error)), error
        refused("batch_infer")
        return
    assert np.isfinite(good[names.PREDICTION].to_numpy()).all()
    kept("batch_infer", found.rows, done.rows_in, good.num_rows, done.rows_quarantined)


def test_a_thousand_inputs_were_tried_and_of_every_outcome_many():
    ingested, scored = TRIED["ingest"], TRIED["batch_infer"]
    assert ingested["inputs"] >= 1000 and scored["inputs"] >= 500
    assert min(counts[outcome] for counts in (ingested, scored) for outcome in ("refused", "taken")) >= 100
    assert ingested["rows quarantined"] > 1000 and scored["rows quarantined"] > 1000
    assert ingested["rows lost"] == scored["rows lost"] == 0


# Entry points, in this process


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> SimpleNamespace:
    """A tracking store with an ingest run and a champion of `kinds_table`'s columns."""
    folder = tmp_path_factory.mktemp("home")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("bad", artifact_location=(folder / "artifacts").as_uri())
    put(folder, as_csv(kinds_table(400)), "good.csv")
    put(folder, as_csv(kinds_table(50, seed=8)), "new.csv")
    config = {
        "name": "bad",
        "warehouse": str(folder / "warehouse"),
        "data": {"source": str(folder / "good.csv"), "target": "y", "task": "regression"},
        "model": {"hidden": [4], "networks": 1},
        "train": {"epochs": 1},
        "batch_infer": {"source": str(folder / "new.csv"), "output": str(folder / "predictions")},
    }
    (folder / "bad.yaml").write_text(yaml.safe_dump(config))
    assert step(ingest, folder) == 0
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("bad").experiment_id])
    dataset = Dataset.open(run.data.tags[names.TAG_DATASET])
    with mlflow.start_run(experiment_id=run.info.experiment_id):
        network = models.build(dataset.preprocessor, Config.model_validate(config).model)
        uri = export.log_model(dataset.preprocessor, network, dataset.raw_test(), {})
    versions.set_alias(
        "bad", names.CHAMPION, str(versions.register("bad", uri, {names.TAG_VERDICT: "promoted"}).version)
    )
    assert step(batch_infer, folder, register_run_id="") == 0
    yield SimpleNamespace(folder=folder, ingest=run.info.run_id, client=client)
    mlflow.set_tracking_uri(None)


def step(command, folder: Path, overrides: str = "", **inputs: str) -> int:
    """Run an entry point in this process; its exit status."""
    options = {"config": str(folder / "bad.yaml"), "set": overrides, **inputs}
    with pytest.raises(SystemExit) as end:
        command.main([f"--{name}={value}" for name, value in options.items()], standalone_mode=False)
    return end.value.code


def state(folder: Path) -> dict[str, bytes]:
    """Every file of the datasets and predictions."""
    places = [folder / "warehouse" / "bad" / "datasets", folder / "predictions"]
    return {str(p): p.read_bytes() for place in places for p in sorted(place.rglob("*")) if p.is_file()}


def last_line(capfd) -> str:
    return capfd.readouterr().err.strip().splitlines()[-1]


ENTRY_CASES = [case for case in NOT_FILES if isinstance(NOT_FILES[case][0], bytes)]


@pytest.mark.parametrize("case", ENTRY_CASES)
def test_the_entry_point_ingest_exits_2_with_the_sentence(home, tmp_path, capfd, case):
    content, sentence = NOT_FILES[case]
    before = state(home.folder)
    assert step(ingest, home.folder, f"data.source={put(tmp_path, content)}") == 2
    said = last_line(capfd)
    assert re.search(sentence, said) and is_sentence(said)
    assert state(home.folder) == before
    (run,) = home.client.search_runs([home.client.get_experiment_by_name("bad").experiment_id], max_results=1)
    assert run.info.status == "FAILED" and re.search(sentence, run.data.tags[names.TAG_ERROR])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (b"", "Empty CSV file"),
        (lined(9, b"\xe9"), "line 9: byte 0xE9"),
        (lined(1, b"x,n,c,b,time,y"), "The data lacks t"),
        (lined(1, b"x,n,c,b,t,reason"), "reserved for predictions"),
    ],
)
def test_the_entry_point_batch_infer_exits_2_and_keeps_the_old_predictions(home, tmp_path, capfd, spoil, sentence):
    before = state(home.folder)
    assert step(batch_infer, home.folder, f"batch_infer.source={put(tmp_path, spoil)}", register_run_id="") == 2
    assert sentence in last_line(capfd)
    assert state(home.folder) == before


def said_by(command, home: SimpleNamespace, overrides: str, **inputs: str) -> tuple[int, str]:
    """Run an entry point → (its exit status, its last line on standard error)."""
    with contextlib.redirect_stderr(io.StringIO()) as told:
        status = step(command, home.folder, overrides, **inputs)
    return status, (told.getvalue().strip().splitlines() or [""])[-1]


@settings(max_examples=20, **MANY)
@given(found=nasty.csv_files() | nasty.parquet_files())
def test_the_entry_point_ingest_refuses_or_keeps_every_row(home, arena, found):
    before = state(home.folder)
    status, said = said_by(ingest, home, f"data.source={file_of(found, arena)}")
    if status:
        assert status == 2 and is_sentence(said) and state(home.folder) == before
        refused("ingest, entry point")
        return
    experiment = home.client.get_experiment_by_name("bad").experiment_id
    (run,) = home.client.search_runs([experiment], max_results=1)
    rows = Dataset.open(run.data.tags[names.TAG_DATASET]).rows
    kept("ingest, entry point", found.rows, rows["input"], sum(rows[s] for s in names.SPLITS), rows["quarantined"])


@settings(max_examples=20, **MANY)
@given(found=nasty.csv_files(fixed=TEXT_COLUMNS) | nasty.parquet_files(fixed=ARROW_COLUMNS))
def test_the_entry_point_batch_infer_refuses_or_keeps_every_row(home, arena, tmp_path, found):
    before = state(tmp_path), state(home.folder)
    where = f"batch_infer.source={file_of(found, arena)},batch_infer.output={tmp_path / 'predictions'}"
    status, said = said_by(batch_infer, home, where, register_run_id="")
    assert state(home.folder) == before[1]
    if status:
        assert status == 2 and is_sentence(said) and state(tmp_path) == before[0]
        refused("batch_infer, entry point")
        return
    told = json.loads((tmp_path / "predictions" / f"_{names.SCORING}").read_text())
    good = sum(pq.read_metadata(file).num_rows for file in (tmp_path / "predictions").glob("*.parquet"))
    kept("batch_infer, entry point", found.rows, told["rows_in"], good, told["rows_quarantined"])


def test_scoring_json_tells_unseen_categories(home, tmp_path):
    table = kinds_table(20).set_column(2, "c", pa.array(["new"] * 5 + ["a"] * 15))
    where = f"batch_infer.source={put(tmp_path, table)},batch_infer.output={tmp_path / 'out'}"
    assert step(batch_infer, home.folder, where, register_run_id="") == 0
    told = json.loads((tmp_path / "out" / f"_{names.SCORING}").read_text())
    assert told["unseen_categories"] == {"c": 5} and told["rows_in"] == told["rows_scored"] == 20


def test_the_output_may_not_hold_the_source_nor_be_a_file(home, tmp_path, capfd):
    source = put(tmp_path, as_csv(kinds_table(5)))
    for output, sentence in ((tmp_path, "must not hold a source"), (tmp_path / "taken", "must be a folder")):
        (tmp_path / "taken").write_text(OLD)
        where = f"batch_infer.source={source},batch_infer.output={output}"
        assert step(batch_infer, home.folder, where, register_run_id="") == 2
        assert sentence in last_line(capfd)
    assert (tmp_path / "taken").read_text() == OLD and source.exists()


def test_a_diverging_model_exits_2_with_a_sentence(home, capfd):
    wild = "train.learning_rate=1e30,train.optimizer=sgd,train.gradient_clip=null,train.schedule=constant"
    assert step(train, home.folder, wild, ingest_run_id=home.ingest) == 2
    assert "Training diverged in epoch 1: the loss is not finite" in last_line(capfd)


def test_a_damaged_dataset_exits_2_with_its_part(home, tmp_path, capfd):
    folder = Path(home.client.get_run(home.ingest).data.tags[names.TAG_DATASET])
    part = Dataset.load(folder).files("validation")[0]
    whole = part.read_bytes()
    part.write_bytes(whole[:-1])
    try:
        assert step(train, home.folder, ingest_run_id=home.ingest) == 2
    finally:
        part.write_bytes(whole)
    assert "validation/part-00000.parquet of the dataset" in last_line(capfd)


@pytest.mark.parametrize("command", [ingest, train])
def test_a_bad_search_space_is_refused_before_the_step(home, capfd, command):
    experiment = home.client.get_experiment_by_name("bad").experiment_id
    before = len(home.client.search_runs([experiment]))
    inputs = {"ingest_run_id": home.ingest} if command is train else {}
    assert step(command, home.folder, "tune.space={model.dropout: {uniform: [-0.1, 0.3]}}", **inputs) == 2
    assert re.search(r"tune\.space\.model\.dropout: .* greater than or equal to 0\. Received: {'uni", last_line(capfd))
    assert len(home.client.search_runs([experiment])) == before


# Disks


@contextlib.contextmanager
def mounted(place: Path, *options: str):
    """A file system of its own at `place`; skips the test where this user may not mount one."""
    place.mkdir(parents=True, exist_ok=True)
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", *options, "none", place], check=False).returncode:
        pytest.skip("Mounting needs a user who may.")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_a_sentence_and_leaves_the_old_predictions(home, tmp_path, capfd):
    disk = tmp_path / "disk"
    with mounted(disk, "-o", "size=256k"):
        where = f"batch_infer.output={disk / 'out'}"
        assert step(batch_infer, home.folder, where, register_run_id="") == 0
        before = {p.name: p.read_bytes() for p in (disk / "out").rglob("*.parquet")}
        rng = np.random.default_rng(1)
        many = kinds_table(40_000).append_column("noise", pa.array(rng.random(40_000)))
        source = put(tmp_path, many)
        assert step(batch_infer, home.folder, f"{where},batch_infer.source={source}", register_run_id="") == 2
        said = last_line(capfd)
        assert f"{disk}/out: there is no room left on its disk. What was there before is as it was." in said
        assert {p.name: p.read_bytes() for p in (disk / "out").rglob("*.parquet")} == before
        assert [p.name for p in disk.iterdir()] == ["out"]
        assert step(ingest, home.folder, f"warehouse={disk / 'w'},data.source={source}") == 2
        assert "there is no room left on its disk" in last_line(capfd)
        assert list((disk / "w" / "bad" / "datasets").iterdir()) == []


def test_a_read_only_disk_is_a_sentence(home, tmp_path, capfd):
    disk = tmp_path / "disk"
    with mounted(disk, "-o", "ro"):
        assert step(batch_infer, home.folder, f"batch_infer.output={disk / 'out'}", register_run_id="") == 2
        assert "out: its disk is read-only" in last_line(capfd)
        assert step(ingest, home.folder, f"warehouse={disk / 'w'}") == 2
        assert "its disk is read-only" in last_line(capfd)


def test_a_file_larger_than_allowed_is_a_sentence(model, tmp_path):
    """The same by a limit that every user can set: the kernel refuses to write beyond it."""
    source = put(tmp_path, kinds_table(20_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(BadInput, match="out: the file would be larger than this system allows"):
            score(model, tmp_path, source)
        with pytest.raises(BadInput, match="larger than this system allows"), writing(tmp_path):
            build(tmp_path, source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_in_the_way_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text(OLD)
    with (
        pytest.raises(BadInput, match="out: a file is where a folder should be"),
        destination.replaced(tmp_path / "file" / "out", "m"),
    ):
        pass
    assert (tmp_path / "file").read_text() == OLD


# Tracking servers


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_tracking_server_that_is_down_fails_at_once(tmp_path):
    uri = f"http://user:secret@127.0.0.1:{free_port()}"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(ROOT)}
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({"name": "down", "data": {"source": "-", "target": "y", "task": "regression"}}))
    command = [sys.executable, "-m", "steps.ingest", f"--config={config}", "--set="]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Retrying" not in done.stderr  # MLflow would, for minutes
    said = done.stderr.strip().splitlines()[-1]
    assert "The tracking server http://***@127.0.0.1:" in said and "does not answer: no connection" in said
    assert "secret" not in done.stderr


def test_a_deleted_experiment_is_refused_with_the_command_that_restores_it(home, capfd):
    experiment = home.client.create_experiment("gone")
    home.client.delete_experiment(experiment)
    assert step(ingest, home.folder, "name=gone") == 2
    command = re.fullmatch(r"The experiment gone was deleted: bring it back by `(.*)`, or .*", last_line(capfd))[1]
    done = CliRunner().invoke(mlflow.cli.cli, shlex.split(command)[1:], catch_exceptions=False)
    assert done.exit_code == 0 and home.client.get_experiment(experiment).lifecycle_stage == "active"


def test_a_server_that_hangs_is_not_waited_for():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(BadInput, match="no answer within 4 seconds"):
            servers.check_servers(f"http://127.0.0.1:{silent.getsockname()[1]}")


@pytest.mark.parametrize(
    "uri", ["postgresql://u:p@127.0.0.1:{port}/db", "mysql+pymysql://127.0.0.1:{port}/db", "http://127.0.0.1:{port}"]
)
def test_servers_of_every_kind_are_asked(uri):
    with pytest.raises(BadInput, match=r"does not answer.*Start it, or set MLFLOW_TRACKING_URI"):
        servers.check_servers(uri.format(port=free_port()))


@pytest.mark.parametrize("kind", ["postgresql+nosuch", "mysql+pymysql", "mssql"])
def test_a_database_whose_driver_is_not_installed_is_said_at_once(kind):
    with socket.socket() as database:
        database.bind(("127.0.0.1", 0))
        database.listen()
        uri = f"{kind}://u:hunter2@127.0.0.1:{database.getsockname()[1]}/db"
        with pytest.raises(
            BadInput, match=r"cannot be spoken to: .*Install .* into this environment, or set"
        ) as raised:
            servers.check_servers(uri)
    assert "hunter2" not in str(raised.value)


def test_stores_that_are_there_pass(tmp_path):
    (tmp_path / "no.db").write_text("this is no database " * 100)
    servers.check_servers(f"sqlite:///{tmp_path}/new.db", f"sqlite:///{tmp_path}/a/b/new.db", "databricks", "./mlruns")
    for place in (f"{tmp_path}/no.db", f"{tmp_path}/no.db/x.db"):
        with pytest.raises(BadInput, match="does not answer"):
            servers.check_servers(f"sqlite:///{place}")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        thread = threading.Thread(target=answer_once, args=(server,))
        thread.start()
        servers.check_servers(f"http://127.0.0.1:{server.getsockname()[1]}")
        thread.join()


def answer_once(server: socket.socket) -> None:
    connection, _ = server.accept()
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    connection.close()


def test_a_server_that_goes_away_does_not_hide_what_went_wrong(home, monkeypatch):
    config = Config.model_validate(yaml.safe_load((home.folder / "bad.yaml").read_text()))

    def gone(*_):
        raise OSError("the server went away")

    with pytest.raises(BatonError, match="the real reason"), runs.start("ingest", config, {}):
        monkeypatch.setattr(runs.Run, "tag", gone)
        raise BatonError("the real reason")


# The document


def test_the_table_is_true():
    """docs/reference/BAD_INPUT.md has every test here, all that it names is one, and it says what the tests expect."""
    text = (ROOT / "docs" / "reference" / "BAD_INPUT.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    assert named == {name for name in globals() if name.startswith("test_")}
    for module, name in re.findall(r"`(test_\w+)\.(test_\w+)`", text):
        assert f"\ndef {name}(" in next((ROOT / "tests").rglob(f"{module}.py")).read_text(), f"{module}.{name}"
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:2] == "| "]
    said = {case: row[2] for row in rows for case in re.findall(r"\*([^*]+)\*", row[-1])}
    assert set(said) == set(NOT_FILES)
    for case, (_, sentence) in NOT_FILES.items():
        assert said[case] == "the same" or re.search(sentence, said[case]), case
    for row in (row for row in rows if len(row) == 4 and row[0] != "case"):
        assert re.search("refused|quarantined|accepted|feature|status 1", row[1]), row
        assert re.search(r"`test_[\w.]+`|\*", row[3]), row
