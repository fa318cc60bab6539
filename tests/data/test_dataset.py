"""Datasets on disk: even, whole, verifiable, and read by Petastorm row for row."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from baton import names
from baton.config.schema import Data
from baton.data import cell_counts, columns, dataset, fitting, petastorm, recognition
from baton.data.dataset import Dataset
from baton.data.statistics import summarise
from baton.errors import BadInput, BatonError

DATA = Data(source="-", target="y", task="binary")
ROWS = 1000


def write_split(table: pa.Table, folder: Path, workers: int, row_group_size: int) -> None:
    """A split's encoded rows, written all at once."""
    lengths = [pc.binary_length(column) for column in table.columns if pa.types.is_binary(column.type)]
    pictures = lengths[0].to_numpy().astype(np.int64) if lengths else np.zeros(table.num_rows, np.int64)
    sizes = dataset.group_sizes(table.num_rows, folder.name, workers, row_group_size, pictures)
    files = dataset.SplitFiles(folder, table.schema, sizes)
    files.add(table)
    files.close()


def build(folder, change: float = 0.0, rows: int = ROWS) -> Dataset:
    """A dataset of rows numbered by `n`, in 3 workers' row groups; `change` is added to one value."""
    rng = np.random.default_rng(2)
    n = np.arange(rows, dtype=float)
    n[7] += change
    table = pa.table({"n": n, "a b": rng.choice(["p", "q"], rows), "y": rng.choice(["no", "yes"], rows)})
    found = recognition.infer(table.schema, cell_counts.counts(table, DATA), DATA)
    typed, _ = columns.typed(table, found, "y")
    splits = np.arange(rows) % 10 // 8 + (np.arange(rows) % 10 == 9)  # 8 : 1 : 1, whatever the values
    preprocessor = fitting.fit_preprocessor(summarise(typed.filter(pa.array(splits == 0))), found, DATA)
    counts = {"input": rows, "quarantined": 0}
    for index, name in enumerate(names.SPLITS):
        part = typed.filter(pa.array(splits == index))
        counts[name] = part.num_rows
        write_split(dataset.encoded_table(part, preprocessor), folder / name, 3, 100)
    preprocessor.save(folder / names.PREPROCESSOR)
    dataset.write_metadata(folder, preprocessor)
    return dataset.complete(folder, counts, preprocessor)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Dataset:
    return build(tmp_path_factory.mktemp("warehouse") / tiny.ODD)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 7), st.integers(1, 60))
def test_row_groups_are_even_and_shared_out(tmp_path_factory, rows, workers, row_group_size):
    folder = tmp_path_factory.mktemp("split") / "train"
    table = pa.table({"n": range(rows)})
    if rows < workers:
        answer = rf"train split has fewer rows than there are workers \({workers}\).*Received: {rows} rows"
        with pytest.raises(BadInput, match=answer):
            write_split(table, folder, workers, row_group_size)
        return
    write_split(table, folder, workers, row_group_size)
    files = sorted(folder.iterdir())
    metadata = [pq.read_metadata(file) for file in files]
    groups = [m.row_group(i).num_rows for m in metadata for i in range(m.num_row_groups)]
    assert len(groups) % workers == 0
    assert max(groups) - min(groups) <= 1 and min(groups) >= 1
    assert max(groups) <= max(row_group_size, 2)
    assert pa.concat_tables([pq.read_table(file) for file in files]).equals(table)


def test_many_row_groups_take_several_files(tmp_path):
    write_split(pa.table({"n": range(200)}), tmp_path / "train", 2, 1)
    assert [pq.read_metadata(f).num_row_groups for f in sorted((tmp_path / "train").iterdir())] == [
        64,
        64,
        64,
        8,
    ]


def test_the_manifest_adds_up(built):
    manifest = json.loads((built.folder / names.MANIFEST).read_text())
    assert manifest["rows"] == {"input": 1000, "quarantined": 0, "train": 800, "validation": 100, "test": 100}
    for name in names.SPLITS:
        listed = [f for f in manifest["files"] if f["split"] == name]
        assert sum(f["rows"] for f in listed) == manifest["rows"][name] == sum(built.row_groups(name))
        assert sum(f["row_groups"] for f in listed) == len(built.row_groups(name))
        assert [built.folder / f["path"] for f in listed] == built.files(name)
    assert [(c["name"], c["kind"], c["encoding"]) for c in manifest["schema"]] == [
        ("n", "numeric", "standard"),
        ("a_b", "categorical", "vocabulary"),
        ("y", "categorical", "class index"),
    ]
    assert Dataset.load(built.folder) == built


@pytest.mark.parametrize(
    ("wrong", "answer"),
    [({"train": 799}, "holds other rows than were split"), ({"input": 1001}, "Rows in are not rows out")],
)
def test_lost_rows_are_refused(built, tmp_path, wrong, answer):
    folder = tmp_path / "d"
    shutil.copytree(built.folder, folder, ignore=shutil.ignore_patterns(names.MANIFEST))
    with pytest.raises(BatonError, match=answer):
        dataset.complete(folder, {**built.rows, **wrong}, built.preprocessor)
    with pytest.raises(BatonError, match="There is no dataset at .*: manifest.json is missing"):
        Dataset.load(folder)


def test_the_fingerprint_is_that_of_the_content(built, tmp_path):
    assert build(tmp_path / "same").fingerprint == built.fingerprint
    assert build(tmp_path / "other", change=1e-3).fingerprint != built.fingerprint


def test_a_missing_or_damaged_part_is_named(built, tmp_path):
    folder = tmp_path / "d"
    shutil.copytree(built.folder, folder)
    copy = Dataset.load(folder)
    copy.verify()
    part = copy.files("validation")[0]
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    with pytest.raises(BatonError, match="validation/part-00000.parquet of the dataset .* is damaged"):
        copy.verify()
    part.unlink()
    with pytest.raises(BatonError, match="validation/part-00000.parquet of the dataset .* is missing"):
        copy.verify()


def test_a_dataset_is_published_whole(tmp_path):
    build(tmp_path / "aside", change=1.0)
    old = build(tmp_path / "warehouse" / "d")
    new = dataset.publish(tmp_path / "aside", tmp_path / "warehouse" / "d")
    assert new.folder == old.folder and new.fingerprint != old.fingerprint
    assert not (tmp_path / "aside").exists()
    new.verify()


def test_a_dataset_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    seen, sync, rename = [], os.fsync, Path.rename
    build(tmp_path / "aside")
    monkeypatch.setattr(os, "fsync", lambda fd: seen.append(Path(f"/proc/self/fd/{fd}").readlink()) or sync(fd))
    monkeypatch.setattr(Path, "rename", lambda path, to: seen.append("rename") or rename(path, to))
    files = {tmp_path / "aside", *(tmp_path / "aside").rglob("*")}
    dataset.publish(tmp_path / "aside", tmp_path / "d")
    assert {*seen[:-2]} == files and seen[-2:] == ["rename", tmp_path]


COLUMNS = ["n", "a_b", "y"]


def read(built: Dataset, **how) -> list[tuple]:
    """The train rows as Petastorm gives them."""
    blocks = petastorm.read_blocks(built.files("train"), COLUMNS, dict, **how)
    return [row for block in blocks for row in zip(*(block[name].tolist() for name in COLUMNS), strict=True)]


@pytest.fixture(scope="module")
def rows(built) -> list[tuple]:
    """The train rows as pyarrow reads them."""
    table = pq.read_table(built.files("train")[0])
    return list(zip(*table.select(COLUMNS).to_pydict().values(), strict=True))


def test_petastorm_finds_the_same_rows_by_folder_and_by_files(built, rows):
    from petastorm import make_reader

    folder = (built.folder / "train").as_uri()
    how = {"workers_count": 1, "reader_pool_type": "dummy", "filesystem": petastorm.UrlPaths()}
    with make_reader(folder, shuffle_row_groups=False, **how) as reader:
        assert set(reader.schema.fields) == set(COLUMNS)
        by_folder = [tuple(getattr(row, name).item() for name in COLUMNS) for row in reader]
    assert by_folder == rows
    assert read(built) == rows


def test_blocks_have_the_encoded_types(built):
    block = next(petastorm.read_blocks(built.files("train"), COLUMNS, dict))
    assert [block[name].dtype.name for name in COLUMNS] == ["float32", "int32", "int32"]
    assert len(block["n"]) == built.row_groups("train")[0]


@pytest.mark.parametrize("seed", [None, 5])
def test_shards_cover_every_row_once(built, rows, seed):
    shards = [read(built, seed=seed, shard=(rank, 3)) for rank in range(3)]
    assert sorted(sum(shards, [])) == sorted(rows)
    assert max(map(len, shards)) - min(map(len, shards)) <= len(built.row_groups("train"))


def test_the_order_is_a_function_of_the_seed(built, rows):
    assert read(built, seed=1) == read(built, seed=1)
    assert read(built, seed=1) != read(built, seed=2)
    assert sorted(read(built, seed=1)) == sorted(rows)


def test_a_missing_file_is_an_error_not_fewer_rows(built):
    files = [*built.files("train"), built.folder / "train" / "part-00009.parquet"]
    with pytest.raises(BatonError, match="The dataset is not whole: part-00009.parquet is missing"):
        next(petastorm.read_blocks(files, COLUMNS, dict))


def test_a_hundred_readings_give_exactly_the_rows(built, rows):
    rows = sorted(rows)
    for turn in range(100):
        shards = turn % 3 + 1
        got = [row for rank in range(shards) for row in read(built, seed=turn, shard=(rank, shards))]
        assert sorted(got) == rows


def test_all_files_of_a_split_are_read_in_order(tmp_path):
    write_split(pa.table({"n": np.arange(200, dtype=np.float32)}), tmp_path / "train", 2, 1)
    files = sorted((tmp_path / "train").iterdir())
    blocks = petastorm.read_blocks(files, ["n"], lambda block: block["n"].tolist())
    assert sum(blocks, []) == list(range(200))


def test_row_groups_of_pictures_are_even_in_bytes_and_none_is_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "GROUP_BYTES", 1000)
    sizes = [10] * 90 + [900] * 9 + [1]
    table = pa.table({"image": pa.array([bytes(n) for n in sizes], pa.binary()), "y": list(range(100))})
    write_split(table, tmp_path / "train", 2, 16_384)
    metadata = pq.read_metadata(tmp_path / "train" / "part-00000.parquet")
    rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert len(rows) == 10 and sum(rows) == 100 and max(rows) >= 90 and min(rows) >= 1
    assert pq.read_table(tmp_path / "train").equals(table)
    for held in ([1] * 5, [0, 0, 0, 0, 9], [9, 0, 0, 0, 0]):
        bounds = dataset.even_bounds(np.array(held), 4)
        assert bounds[0] == 0 and bounds[-1] == 5 and (np.diff(bounds) >= 1).all()
