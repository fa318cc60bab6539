"""A dataset: a folder of encoded Parquet files and the manifest that lists them with their hashes.

<folder>/manifest.json  preprocessor.json  profile.json
         pictures.json                what pictures are like, where there are some
         trained_on.parquet           what the train rows were like; it travels in the model
         train/ validation/ test/     encoded rows, each a Petastorm dataset
         raw/test.parquet             the test rows as they came, for the gate's judgement
         quarantine/*.parquet         rows that could not be used, with reasons
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from baton import names
from baton.data import petastorm
from baton.data.preprocessing import Preprocessor
from baton.data.raw_rows import RawRows
from baton.data.row_groups import RowGroups
from baton.errors import BadInput, BatonError
from baton.runtime.files import flush, flush_names, sha256

GROUPS_PER_FILE = 64
GROUP_BYTES = 64 << 20  # of pictures in a row group, about: a reader holds some of them whole
ARROW_TYPE = {"float32": pa.float32(), "int32": pa.int32(), "binary": pa.binary()}


@dataclass(frozen=True)
class Dataset:
    """A whole dataset on disk, as its manifest tells it."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        return self.manifest["fingerprint"]

    @property
    def content(self) -> str:
        """A hash of all that later steps read of it: the encoded rows, how they were encoded, what they were like."""
        files = (self.folder / name for name in (names.PREPROCESSOR, names.TRAINED_ON))
        found = "".join(sha256(file) for file in files if file.is_file())
        return hashlib.sha256(f"{self.fingerprint}{found}".encode()).hexdigest()

    @property
    def rows(self) -> dict[str, int]:
        return self.manifest["rows"]

    @property
    def preprocessor(self) -> Preprocessor:
        return Preprocessor.load(self.folder / names.PREPROCESSOR)

    def files(self, split: str) -> list[Path]:
        """The encoded files of a split, in the manifest's order.

        Args:
            split: train, validation or test.

        Example:
            >>> [file.name for file in dataset.files("train")]
            ['part-00000.parquet']
        """
        return [self.folder / f["path"] for f in self.manifest["files"] if f["split"] == split]

    def row_groups(self, split: str) -> list[int]:
        """The rows of each row group of a split, in reading order.

        Args:
            split: train, validation or test.

        Example:
            >>> sum(dataset.row_groups("test")) == dataset.rows["test"]
            True
        """
        groups = []
        for file in self.files(split):
            metadata = pq.read_metadata(file)
            groups += [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        return groups

    def smallest_target(self) -> float:
        """The smallest target of a regression, of all splits.

        Example:
            >>> dataset.smallest_target() < dataset.preprocessor.spec["target"]["mean"]
            True
        """
        column = self.preprocessor.target_encoded
        files = [file for split in names.SPLITS for file in self.files(split)]
        return min(pc.min(pq.read_table(file, columns=[column]).column(0)).as_py() for file in files)

    def raw_test(self) -> pa.Table:
        """The test rows with the source's own columns, all of them in memory; `raw_rows` reads them in parts.

        Example:
            >>> dataset.raw_test().column_names
            ['x1', 'x2', 'n', 'c', 'y']
        """
        return pa.concat_tables(list(self.raw_rows().parts()))

    def raw_rows(self) -> RawRows:
        """The test rows with the source's own columns, to be read in parts.

        Example:
            >>> dataset.raw_rows().num_rows == dataset.rows["test"]
            True
        """
        return RawRows(tuple(self.folder / entry["path"] for entry in self.manifest["raw_test"]))

    def raw_example(self, rows: int) -> pa.Table:
        """At most so many of the test rows, without reading the rest.

        Args:
            rows: at most so many.

        Example:
            >>> dataset.raw_example(3).num_rows
            3
        """
        return next(self.raw_rows().parts(rows))

    @staticmethod
    def load(folder: Path | str) -> Dataset:
        """Open the dataset at `folder`; raises `BadInput` if its manifest is not there or not whole.

        Args:
            folder: where ingest has put the dataset, as the tag `baton.dataset` of its run says.

        Raises:
            BadInput: if the manifest is not there, or no JSON.

        Example:
            >>> Dataset.load(dataset.folder).rows["input"]
            600
        """
        path = Path(folder) / names.MANIFEST
        if not path.is_file():
            raise BadInput(f"There is no dataset at {folder}: {names.MANIFEST} is missing.")
        try:
            return Dataset(Path(folder), json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise BadInput(f"{names.MANIFEST} of the dataset {folder} is damaged: {error}") from None

    @staticmethod
    def open(folder: Path | str) -> Dataset:
        """Load the dataset at `folder` and verify every file; raises `BadInput`.

        Args:
            folder: as of `load`.

        Raises:
            BadInput: names the first file that is missing, or has another SHA-256 than the manifest says.

        Example:
            >>> Dataset.open(dataset.folder).fingerprint == dataset.fingerprint
            True
        """
        dataset = Dataset.load(folder)
        dataset.verify()
        return dataset

    def verify(self) -> None:
        """Raise `BadInput` that names the first file that is missing or whose content changed."""
        name, damage = self.damage() or ("", "")
        if damage == "missing":
            raise BadInput(f"{name} of the dataset {self.folder} is missing.")
        if damage:
            raise BadInput(f"{name} of the dataset {self.folder} is damaged: other SHA-256.")

    def damage(self) -> tuple[str, str] | None:
        """The first file that is not as the manifest lists it, and whether it is `missing` or `changed`; or None."""
        lists = ("files", "raw_test", "quarantine", "others")
        for entry in (entry for name in lists for entry in self.manifest.get(name, [])):
            path = self.folder / entry["path"]
            if not path.is_file():
                return entry["path"], "missing"
            if sha256(path) != entry["sha256"]:
                return entry["path"], "changed"
        return None


def column_kinds(preprocessor: Preprocessor) -> dict[str, str]:
    """Encoded column → float32, int32 or binary, in the order they are written; the target is last."""
    kinds = {"number": "float32", "category": "int32", "image": "binary"}
    columns = {column.name: kinds[column.kind] for column in preprocessor.encoded}
    columns[preprocessor.target_encoded] = "int32" if preprocessor.classes else "float32"
    return columns


def encoded_table(typed: pa.Table, preprocessor: Preprocessor) -> pa.Table:
    """Typed rows → the encoded Arrow table that both engines write."""
    arrays = preprocessor.encode(typed)
    arrays[preprocessor.target_encoded] = preprocessor.encode_target(typed)
    schema = encoded_schema(preprocessor)
    columns = [a if isinstance(a := arrays[f.name], pa.ChunkedArray) else pa.array(a, f.type) for f in schema]
    return pa.table(columns, schema)


def encoded_schema(preprocessor: Preprocessor) -> pa.Schema:
    """The columns of encoded tables."""
    kinds = column_kinds(preprocessor)
    return pa.schema([pa.field(name, ARROW_TYPE[kind], nullable=False) for name, kind in kinds.items()])


def row_group_count(rows: int, split: str, workers: int, row_group_size: int, pictures: int = 0) -> int:
    """How many row groups a split gets: a multiple of the workers, none empty; `BadInput` if it can't.

    `pictures` are the bytes of its pictures: many make more groups.
    """
    if rows < workers:
        raise BadInput(
            f"The {split} split has fewer rows than there are workers ({workers}): bring more data "
            f"or set distributed_train.workers. Received: {rows} rows"
        )
    wanted = max(math.ceil(rows / row_group_size / workers), math.ceil(pictures / GROUP_BYTES / workers))
    return min(wanted, rows // workers) * workers


def group_sizes(rows: int, split: str, workers: int, row_group_size: int, pictures: np.ndarray) -> list[int]:
    """The rows of each row group of a split: even in rows, or in bytes where there are `pictures` (their bytes [rows]).

    Their number is a multiple of `workers`. Raises `BadInput` if there are fewer rows than workers.
    """
    groups = row_group_count(rows, split, workers, row_group_size, int(pictures.sum()))
    bounds = even_bounds(pictures, groups) if pictures.any() else np.linspace(0, rows, groups + 1).astype(int)
    return np.diff(bounds).tolist()


class SplitFiles:
    """A folder of Parquet files that encoded tables of any sizes are written to, in row groups of the given sizes."""

    def __init__(self, folder: Path, schema: pa.Schema, sizes: list[int]):
        folder.mkdir(parents=True)
        self.folder, self.schema, self.number = folder, schema, 0
        self.groups = RowGroups(self._write, sizes)
        self.writer: pq.ParquetWriter | None = None

    def add(self, table: pa.Table) -> None:
        self.groups.add(table)

    def close(self) -> None:
        self.groups.close()
        if self.writer is not None:
            self.writer.close()

    def _write(self, group: pa.Table) -> None:
        if self.number % GROUPS_PER_FILE == 0:
            self._next_file()
        assert self.writer is not None
        self.writer.write_table(group, row_group_size=group.num_rows)
        self.number += 1

    def _next_file(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.writer = split_writer(self.folder / file_name(self.number // GROUPS_PER_FILE), self.schema)


class SplitFile:
    """One of these files, of the row groups that it holds."""

    def __init__(self, path: Path, schema: pa.Schema, sizes: list[int]):
        self.writer = split_writer(path, schema)
        self.groups = RowGroups(lambda group: self.writer.write_table(group, row_group_size=group.num_rows), sizes)

    def add(self, table: pa.Table) -> None:
        self.groups.add(table)

    def close(self) -> None:
        self.groups.close()
        self.writer.close()


def split_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False)


def file_name(number: int) -> str:
    """The name of a split's file."""
    return f"part-{number:05d}.parquet"


def even_bounds(sizes: np.ndarray, groups: int) -> np.ndarray:
    """Sizes of rows → where groups of about as many bytes begin and end, each of a row at least."""
    ends = np.searchsorted(np.cumsum(sizes), sizes.sum() * np.arange(1, groups) / groups) + 1
    number = np.arange(1, groups)
    ends = np.maximum.accumulate(ends - number) + number  # each a row after the one before it
    return np.concatenate([[0], np.minimum(ends, len(sizes) - groups + number), [len(sizes)]])


def complete(folder: Path, rows: dict[str, int], preprocessor: Preprocessor) -> Dataset:
    """Write the manifest, the last file of a dataset; raises `BatonError` if rows got lost."""
    files = [
        _file_entry(folder, split, path)
        for split in names.SPLITS
        for path in sorted((folder / split).glob("*.parquet"))
    ]
    written = {s: sum(f["rows"] for f in files if f["split"] == s) for s in names.SPLITS}
    if written != {s: rows[s] for s in names.SPLITS}:
        raise BatonError(f"The dataset holds other rows than were split: {written} of {rows}.")
    if rows["input"] != sum(rows[key] for key in (*names.SPLITS, "quarantined")):
        raise BatonError(f"Rows in are not rows out plus rows quarantined: {rows}.")
    schema = _schema(preprocessor)
    content = [schema, [[f["split"], f["rows"], f["sha256"]] for f in files]]
    manifest = {
        "rows": rows,
        "files": files,
        "schema": schema,
        "fingerprint": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        "quarantine": [_file_entry(folder, "quarantined", p) for p in _parquet(folder / names.QUARANTINE_FOLDER)],
        "raw_test": [_file_entry(folder, "test", p) for p in _parquet(folder / names.RAW_FOLDER)],
        "others": [
            {"path": name, "sha256": sha256(folder / name)}
            for name in (names.PREPROCESSOR, names.PROFILE, names.TRAINED_ON, names.PICTURES)
            if (folder / name).is_file()
        ],
    }
    (folder / names.MANIFEST).write_text(json.dumps(manifest, indent=1))
    return Dataset(folder, manifest)


def publish(aside: Path, folder: Path) -> Dataset:
    """Move a complete dataset to its place in one rename, once the disk has it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        shutil.rmtree(folder)
    flush(aside)
    aside.rename(folder)
    flush_names(folder.parent)
    return Dataset.load(folder)


def write_metadata(folder: Path, preprocessor: Preprocessor) -> None:
    """Make each split's folder a Petastorm dataset."""
    for split in names.SPLITS:
        if any((folder / split).glob("*.parquet")):
            petastorm.write_metadata(folder / split, column_kinds(preprocessor))


def _schema(preprocessor: Preprocessor) -> list[dict[str, str]]:
    raw = {column.name: column.kind for column in preprocessor.columns}
    schema = [
        {"name": e.name, "kind": raw[e.source], "encoding": e.encoding, "source": e.source}
        for e in preprocessor.encoded
    ]
    encoding = "class index" if preprocessor.classes else "float32"
    target = preprocessor.target
    return [
        *schema,
        {"name": preprocessor.target_encoded, "kind": raw[target], "encoding": encoding, "source": target},
    ]


def _file_entry(folder: Path, split: str, path: Path) -> dict[str, Any]:
    metadata = pq.read_metadata(path)
    return {
        "split": split,
        "path": path.relative_to(folder).as_posix(),
        "sha256": sha256(path),
        "rows": metadata.num_rows,
        "row_groups": metadata.num_row_groups,
    }


def _parquet(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet")) if folder.is_dir() else []
