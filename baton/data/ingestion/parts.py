"""The parts of a source in, the same parts again out: what is read once is kept, in memory or on disk, within bounds.

Text is parsed once: its parts are kept, those of a small source in memory, others as Arrow files. Parquet files and
pictures are read again as quickly as they could be kept, and so is text where the disk has no room.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from baton.data import columns as cols
from baton.data.ingestion.progress import Progress
from baton.data.ingestion.rows import CheckedRows
from baton.data.sources.files import Source, SourcePart
from baton.errors import BatonError
from baton.runtime.streams import streamed

HELD_BYTES = 64 << 20  # of parts in memory
PLACES_BYTES = 16 << 20  # of where rows go, a byte a row; more lie on disk
KEPT_TIMES = 4  # of a source's bytes may be on disk; as much again must be free there
FAULTS = (pa.ArrowException, ValueError, MemoryError)  # what the cells of a part can lead to

Answer = TypeVar("Answer")


@dataclass
class Work:
    """A part that is worked on: its raw rows, text as numbers of distinct cells; what is kept from before, or None."""

    part: SourcePart
    raw: pa.Table
    rows: CheckedRows | None = None
    places: np.ndarray | None = None


class Parts:
    """The parts of a source, which `each` goes through, whole and in order, as often as it is called."""

    def __init__(self, source: Source, folder: Path):
        self.source, self.folder, self.schema = source, folder, source.schema()
        self.held: dict[int, Work] = {}
        self.places: dict[int, np.ndarray] = {}
        self.known: list[SourcePart] = []  # without their tables
        self.whole = False  # whether all of them are kept
        self._reading: Iterator[SourcePart] = iter(())
        self._ahead: list[SourcePart] | None = None
        self._lock = threading.Lock()
        self._keeping, self._bytes, self._on_disk = True, 0, 0
        self._most = self._room()

    def peek(self) -> tuple[pa.Table | None, bool]:
        """The first part's raw rows, None if there are none; and whether there are more parts."""
        self._reading = self.source.parts(self.schema)
        self._ahead = list(islice(self._reading, 2))
        return (self._ahead[0].table if self._ahead else None), len(self._ahead) > 1

    def each(self, work: Callable[[Work], Answer], done: str) -> Iterator[Answer]:
        """What `work`, called in threads, makes of each part, in order; `done` is what the log says of the rows.

        Raises `BadInput` for a source that cannot be read or has changed, and `BatonError` that names file and rows
        for a part that fails.
        """
        progress = Progress(done, self.source.bytes)
        known: list[SourcePart] = []
        for part, answer in _in_threads(lambda part: self._worked(work, part), self._parts()):
            known.append(replace(part, table=None))
            progress.add(part.rows, part.read)
            yield answer
        self.whole, self.known = self._keeping, known

    def keep_rows(self, part: SourcePart, rows: CheckedRows) -> None:
        """Keep checked rows where the raw ones are kept."""
        if (held := self.held.get(part.number)) is not None:
            if self._may_hold(rows.typed.nbytes + 2 * rows.hashes.nbytes):
                held.rows = rows
        elif self._keeping and self._most:
            columns = [*rows.typed.columns, rows.reasons, rows.hashes, rows.deciding]
            names = [*rows.typed.column_names, "", "", ""]
            self._write(part, "rows", pa.Table.from_arrays([pa.array(c) if isinstance(c, np.ndarray) else c
                                                            for c in columns], names))  # fmt: skip

    def forget_rows(self) -> None:
        """The checked rows that are kept were read by other columns."""
        for held in self.held.values():
            held.rows = None
        for file in self.folder.glob("*.rows"):
            self._on_disk -= file.stat().st_size
            file.unlink()

    def keep_places(self, part: SourcePart, places: np.ndarray) -> None:
        """Keep where rows go, whether the rows are kept or not."""
        if part.number * places.nbytes < PLACES_BYTES:
            self.places[part.number] = places
        else:
            self.folder.mkdir(exist_ok=True)
            np.save(self._file(part, "npy"), places)

    def close(self) -> None:
        self.held.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _parts(self) -> Iterator[SourcePart]:
        if self.whole:
            return iter(self.known)
        ahead, self._ahead = self._ahead, None
        return self.source.parts(self.schema) if ahead is None else chain(ahead, self._reading)

    def _worked(self, work: Callable[[Work], Answer], part: SourcePart) -> tuple[SourcePart, Answer]:
        try:
            answer = work(self._work(part))
        except FAULTS as error:
            raise BatonError(f"{part.words}: {type(error).__name__}: {error}") from error
        except Exception as error:
            error.add_note(f"This happened at {part.words}.")
            raise
        return replace(part, table=None), answer

    def _work(self, part: SourcePart) -> Work:
        """A part as it is kept; else as it is read, and from now on kept if it may be."""
        if part.table is None:
            held = self.held.get(part.number) or self._read(part)
            return replace(held, places=self._places(part))
        raw = _numbered(part).table
        assert raw is not None
        work = Work(replace(part, table=None), raw, places=self._places(part))
        self._keep(work)
        return work

    def _keep(self, work: Work) -> None:
        if not self._keeping:
            return
        if self._may_hold(work.raw.nbytes):
            self.held[work.part.number] = work
        elif self._most:
            self._write(work.part, "raw", work.raw)
        else:
            self._give_up()

    def _may_hold(self, size: int) -> bool:
        with self._lock:
            self._bytes += size
            return self._bytes <= HELD_BYTES

    def _give_up(self) -> None:
        """Keep no parts: the source is read again instead."""
        with self._lock:
            self._keeping, self._most = False, 0
            self.held.clear()
            for kind in ("raw", "rows"):
                for file in self.folder.glob(f"*.{kind}"):
                    file.unlink(missing_ok=True)

    def _room(self) -> int:
        """How many bytes of parts may lie on disk: none but of text."""
        most = KEPT_TIMES * self.source.bytes
        fits = 2 * most <= shutil.disk_usage(self.folder.parent).free
        return most if self.source.format == "csv" and fits else 0

    def _file(self, part: SourcePart, kind: str) -> Path:
        return self.folder / f"{part.number:06d}.{kind}"

    def _write(self, part: SourcePart, kind: str, table: pa.Table) -> None:
        self.folder.mkdir(exist_ok=True)
        path = self._file(part, kind)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as stream:
            stream.write_table(table.combine_chunks())
            size = file.tell()
        with self._lock:
            self._on_disk += size
        if self._on_disk > self._most:
            self._give_up()

    def _read(self, part: SourcePart) -> Work:
        raw, rows = self._table(part, "raw"), None
        assert raw is not None
        if (held := self._table(part, "rows")) is not None:
            typed, (reasons, hashes, deciding) = held.select(range(held.num_columns - 3)), held.columns[-3:]
            rows = CheckedRows(typed, reasons.combine_chunks(), hashes.to_numpy(), deciding.to_numpy())
        return Work(part, raw, rows)

    def _table(self, part: SourcePart, kind: str) -> pa.Table | None:
        path = self._file(part, kind)
        if not path.is_file():
            return None
        with pa.OSFile(str(path)) as file:
            return pa.ipc.open_file(file).read_all()

    def _places(self, part: SourcePart) -> np.ndarray | None:
        path = self._file(part, "npy")
        return np.load(path) if path.is_file() else self.places.get(part.number)


def _numbered(part: SourcePart) -> SourcePart:
    """A part whose text cells are numbers of its distinct ones: what is looked at is then looked at once a text."""
    assert part.table is not None
    columns = [column.combine_chunks() if cols.is_text(column.type) else column for column in part.table.columns]
    columns = [c.dictionary_encode("encode") if pa.types.is_string(c.type) else c for c in columns]
    return replace(part, table=pa.table(columns, part.table.column_names))


def _in_threads(work: Callable[[SourcePart], Answer], parts: Iterable[SourcePart]) -> Iterator[Answer]:
    """work(part) for each, in order; of one alone the columns are worked on in threads."""
    parts = iter(parts)
    first = list(islice(parts, 2))
    if len(first) < 2:
        return map(work, first)
    return streamed(work, chain(first, parts))
