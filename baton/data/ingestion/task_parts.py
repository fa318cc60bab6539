"""The parts of a source that one of Spark's tasks works on, and what it keeps of them for the passes that follow.

A task may be tried again, or twice at once: whatever it writes has a name of its part, and the same content each time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from baton.data.ingestion.part_files import Aside, PartFiles
from baton.data.ingestion.parts import KEPT_TIMES, Work, named, numbered
from baton.data.ingestion.rows import CheckedRows
from baton.data.sources.files import Source, SourcePart

OF_PIECE = 1_000_000  # parts of a piece at most: a part's number has the piece's before its own

Answer = TypeVar("Answer")


@dataclass
class Piece:
    """A piece of a source, its number, and its parts as they are read."""

    number: int
    parts: Callable[[], Iterator[SourcePart]]
    source: Source | None = None  # of files


@dataclass(frozen=True)
class Kept:
    """What a pass keeps for those that follow: in a folder that all tasks see, text at all or not.

    Rows that were checked by other columns, or placed by another plan, are of another number. So nothing that a task
    writes late, for a pass that is over, is taken for what a pass has found.
    """

    folder: Path
    text: bool
    columns: int = 0
    plan: int = 0


@dataclass
class TaskParts:
    """The parts of these pieces; `broken` are lines that are no rows."""

    pieces: Iterator[Piece]
    kept: Kept
    broken: dict[int, list[dict[str, str]]] = field(default_factory=dict)
    _left: int = 0  # bytes that may still be kept of the piece at work
    _files: bool = True  # whether it is of files, whose rows come in the same order each time

    def each(self, work: Callable[[Work], Answer]) -> Iterator[Answer]:
        """work(part) of each, in order; raises what names file and rows."""
        for piece in self.pieces:
            self._left = KEPT_TIMES * piece.source.bytes if self.kept.text and piece.source else 0
            self._files = piece.source is not None
            kept = self._list_of(piece)
            done = list[SourcePart]()
            for part in piece.parts() if kept is None else kept:
                mine = part if kept is not None else replace(part, number=piece.number * OF_PIECE + part.number)
                with named(mine):
                    yield work(self._work(mine))
                done.append(replace(mine, table=None))
            if kept is None:
                self._end(piece, done)

    def keep_rows(self, part: SourcePart, rows: CheckedRows) -> None:
        if self._takes(rows.typed.nbytes + 2 * rows.hashes.nbytes):
            self.files.write_rows(part.number, rows, f"rows{self.kept.columns}")

    def keep_places(self, part: SourcePart, places: np.ndarray) -> None:
        if self._files:
            self.files.write_places(part.number, places, f"places{self.kept.plan}")

    @property
    def files(self) -> PartFiles:
        return PartFiles(self.kept.folder)

    def _work(self, part: SourcePart) -> Work:
        places = self.files.places(part.number, f"places{self.kept.plan}")
        if part.table is None:
            raw = self.files.table(part.number, "raw")
            assert raw is not None
            return Work(part, raw, self, self.files.rows(part.number, f"rows{self.kept.columns}"), places)
        work = Work(replace(part, table=None), numbered(part.table), self, None, places)
        if self._takes(work.raw.nbytes):
            self.files.write(part.number, "raw", work.raw)
        return work

    def _takes(self, size: int) -> bool:
        """Whether so many bytes more are kept; once they are too many, nothing of the piece is any more."""
        self._left = self._left - size if self._left >= size else 0
        return self._left > 0

    def _end(self, piece: Piece, parts: list[SourcePart]) -> None:
        """After the last part of a piece: what is kept counts only if all of it is."""
        if piece.source is not None:
            self.broken[piece.number] = piece.source.broken
        if self._left > 0:
            plain = [[part.number, str(part.file), part.first, part.rows] for part in parts]
            with Aside(self._list(piece)) as aside:
                aside.path.write_text(json.dumps(plain))

    def _list_of(self, piece: Piece) -> list[SourcePart] | None:
        """The parts of a piece that are all kept; else None."""
        if not self._list(piece).is_file():
            return None
        plain = json.loads(self._list(piece).read_text())
        return [SourcePart(number, Path(file), first, rows, 0, None) for number, file, first, rows in plain]

    def _list(self, piece: Piece) -> Path:
        return self.kept.folder / f"{piece.number:06d}.parts"
