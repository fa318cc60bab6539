"""The parts of a source in, the same parts again out: what is read once is kept, in memory or on disk, within bounds.

Text is parsed once: its parts are kept, those of a small source in memory, others as Arrow files. Parquet files and
pictures are read again as quickly as they could be kept, and so is text where the disk has no room.
"""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa

from baton.data import columns as cols
from baton.data.ingestion.looks import Gathering, Look
from baton.data.ingestion.part_files import PartFiles
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


class Keeper(Protocol):
    """Who keeps what is known of a part for the passes that follow."""

    def keep_rows(self, part: SourcePart, rows: CheckedRows) -> None: ...

    def keep_places(self, part: SourcePart, places: np.ndarray) -> None: ...


@dataclass
class Work:
    """A part that is worked on: its raw rows, text as numbers of distinct cells; what is kept from before, or None."""

    part: SourcePart
    raw: pa.Table
    keeper: Keeper
    rows: CheckedRows | None = None
    places: np.ndarray | None = None

    def keep_rows(self, rows: CheckedRows) -> None:
        self.keeper.keep_rows(self.part, rows)

    def keep_places(self, places: np.ndarray) -> None:
        self.keeper.keep_places(self.part, places)


class Parts:
    """The parts of a source, which `each` goes through, whole and in order, as often as it is called."""

    def __init__(self, source: Source, folder: Path):
        self.source, self.folder, self.schema = source, folder, source.schema()
        self.files = PartFiles(folder)
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

    def gather(self, look: Look) -> Gathering:
        """What is seen of all parts, added up."""
        gathering = Gathering(look.config)
        for seen in self.each(lambda work: look.seen(work, gathering.below()), "read"):
            gathering.add(seen)
        return gathering

    def recurring(self, look: Look, frequent: set[int]) -> dict[str, Counter[int]]:
        """How often frequent rows occur in each part, by its number."""
        counts = self.each(lambda work: look.recurring(work, frequent), "counted")
        return {str(number): count for number, count in enumerate(counts)}

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
            self._written(self._files().write_rows(part.number, rows))

    def forget_rows(self) -> None:
        """The checked rows that are kept were read by other columns."""
        for held in self.held.values():
            held.rows = None
        for file in self.files.of_kind("rows"):
            self._on_disk -= file.stat().st_size
            file.unlink()

    def keep_places(self, part: SourcePart, places: np.ndarray) -> None:
        """Keep where rows go, whether the rows are kept or not."""
        if part.number * places.nbytes < PLACES_BYTES:
            self.places[part.number] = places
        else:
            self._files().write_places(part.number, places)

    def close(self) -> None:
        self.held.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _parts(self) -> Iterator[SourcePart]:
        if self.whole:
            return iter(self.known)
        ahead, self._ahead = self._ahead, None
        return self.source.parts(self.schema) if ahead is None else chain(ahead, self._reading)

    def _worked(self, work: Callable[[Work], Answer], part: SourcePart) -> tuple[SourcePart, Answer]:
        with named(part):
            answer = work(self._work(part))
        return replace(part, table=None), answer

    def _work(self, part: SourcePart) -> Work:
        """A part as it is kept; else as it is read, and from now on kept if it may be."""
        if part.table is None:
            held = self.held.get(part.number) or self._read(part)
            return replace(held, places=self._places(part))
        work = Work(replace(part, table=None), numbered(part.table), self, places=self._places(part))
        self._keep(work)
        return work

    def _keep(self, work: Work) -> None:
        if not self._keeping:
            return
        if self._may_hold(work.raw.nbytes):
            self.held[work.part.number] = work
        elif self._most:
            self._written(self._files().write(work.part.number, "raw", work.raw))
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
                for file in self.files.of_kind(kind):
                    file.unlink(missing_ok=True)

    def _room(self) -> int:
        """How many bytes of parts may lie on disk: none but of text."""
        return KEPT_TIMES * self.source.bytes if may_keep(self.source, self.folder) else 0

    def _files(self) -> PartFiles:
        self.folder.mkdir(exist_ok=True)
        return self.files

    def _written(self, size: int) -> None:
        with self._lock:
            self._on_disk += size
        if self._on_disk > self._most:
            self._give_up()

    def _read(self, part: SourcePart) -> Work:
        raw = self.files.table(part.number, "raw")
        assert raw is not None
        return Work(part, raw, self, self.files.rows(part.number))

    def _places(self, part: SourcePart) -> np.ndarray | None:
        places = self.places.get(part.number)
        return self.files.places(part.number) if places is None else places


def may_keep(source: Source, folder: Path) -> bool:
    """Whether parts are kept on disk: of text, where there is room."""
    return source.format == "csv" and 2 * KEPT_TIMES * source.bytes <= shutil.disk_usage(folder.parent).free


@contextmanager
def named(part: SourcePart) -> Iterator[None]:
    """What goes wrong with a part names its file and rows."""
    try:
        yield
    except FAULTS as error:
        raise BatonError(f"{part.words}: {type(error).__name__}: {error}") from error
    except Exception as error:
        error.add_note(f"This happened at {part.words}.")
        raise


def numbered(table: pa.Table) -> pa.Table:
    """Text cells as numbers of the distinct ones: what is looked at is then looked at once a text."""
    columns = [column.combine_chunks() if cols.is_text(column.type) else column for column in table.columns]
    columns = [c.dictionary_encode("encode") if pa.types.is_string(c.type) else c for c in columns]
    return pa.table(columns, table.column_names)


def _in_threads(work: Callable[[SourcePart], Answer], parts: Iterable[SourcePart]) -> Iterator[Answer]:
    """work(part) for each, in order; of one alone the columns are worked on in threads."""
    parts = iter(parts)
    first = list(islice(parts, 2))
    if len(first) < 2:
        return map(work, first)
    return streamed(work, chain(first, parts))
