"""Parts of a source on disk between two passes over it: raw rows, checked ones, and where each goes.

A file is written aside and then gets its name, so that one of a name is whole, whoever else writes it too.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from baton.data.ingestion.rows import CheckedRows

BESIDE = 3  # columns of checked rows beside the typed ones


class PartFiles:
    """Arrow files without compression, and numpy's; of a part and a kind there is one."""

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, number: int, kind: str, table: pa.Table) -> int:
        """The bytes that were written."""
        with self._aside(number, kind) as aside:
            with pa.OSFile(str(aside.path), "wb") as file, pa.ipc.new_file(file, table.schema) as stream:
                stream.write_table(table.combine_chunks())
            return aside.path.stat().st_size

    def table(self, number: int, kind: str) -> pa.Table | None:
        path = self.path(number, kind)
        if not path.is_file():
            return None
        with pa.OSFile(str(path)) as file:
            return pa.ipc.open_file(file).read_all()

    def write_rows(self, number: int, rows: CheckedRows, kind: str = "rows") -> int:
        """Checked rows; the bytes that were written."""
        columns = [*rows.typed.columns, rows.reasons, pa.array(rows.hashes), pa.array(rows.deciding)]
        names = [*rows.typed.column_names, *[""] * BESIDE]
        return self.write(number, kind, pa.Table.from_arrays(columns, names))

    def rows(self, number: int, kind: str = "rows") -> CheckedRows | None:
        held = self.table(number, kind)
        if held is None:
            return None
        typed, (reasons, hashes, deciding) = held.select(range(held.num_columns - BESIDE)), held.columns[-BESIDE:]
        return CheckedRows(typed, reasons.combine_chunks(), hashes.to_numpy(), deciding.to_numpy())

    def write_places(self, number: int, places: np.ndarray, kind: str = "npy") -> None:
        with self._aside(number, kind) as aside, aside.path.open("wb") as file:
            np.save(file, places)

    def places(self, number: int, kind: str = "npy") -> np.ndarray | None:
        path = self.path(number, kind)
        return np.load(path, allow_pickle=False) if path.is_file() else None

    def of_kind(self, kind: str) -> Iterator[Path]:
        return self.folder.glob(f"*.{kind}")

    def path(self, number: int, kind: str) -> Path:
        return self.folder / f"{number:06d}.{kind}"

    def _aside(self, number: int, kind: str) -> Aside:
        return Aside(self.path(number, kind))


class Aside:
    """A new file's place until it is whole: then it gets its own, or is removed if that failed.

    It is in `folder`, by default its own place's.
    """

    def __init__(self, whole: Path, folder: Path | None = None):
        self.whole, self.path = whole, (folder or whole.parent) / f".{whole.name}-{uuid.uuid4().hex}"

    def __enter__(self) -> Aside:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.path.replace(self.whole)
        else:
            self.path.unlink(missing_ok=True)
