"""A part of a source in, what a pass over all of them has to learn of it out; and what was learnt of many, added up.

Both engines look by this code: threads of one process at its parts, or Spark's tasks, whose sums travel as JSON and
Arrow's bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from baton.config.schema import Config
from baton.data import cell_counts, splits, statistics
from baton.data import columns as cols
from baton.data.cell_counts import CellCounts
from baton.data.duplicates import Groups
from baton.data.ingestion import pictured as pictures
from baton.data.ingestion import quarantine, stages
from baton.data.ingestion import rows as rows_module
from baton.data.ingestion.pictured import Pictured
from baton.data.ingestion.quarantine import Quarantine
from baton.data.ingestion.rows import CheckedRows
from baton.data.ingestion.stages import Layout
from baton.data.statistics import Summary

if TYPE_CHECKING:
    from baton.data.ingestion.parts import Work

Moments = tuple[np.ndarray, np.ndarray]  # distinct ones, and the rows of each
MOMENTS_HELD = 1 << 20  # moments of parts that are added up at once


@dataclass
class Seen:
    """What a pass learns of a part; None of what it does not look for."""

    part: int
    rows: int
    cells: cell_counts.Cells | None = None
    bad: Quarantine = field(default_factory=Quarantine)
    tally: splits.Tally | None = None
    moments: Moments | None = None
    prints: pa.Table | None = None
    summary: stages.PartSummary | None = None
    pictures: pa.Table | None = None  # place, bytes and class of each


@dataclass(frozen=True)
class Look:
    """What a pass looks for, by the columns and the layout that it takes for granted; None of what nobody knows yet."""

    config: Config
    columns: list[cols.Column] | None
    layout: Layout | None
    groups: Groups
    cells: bool
    tally: bool
    moments: bool
    prints: bool

    def seen(self, work: Work, below: Mapping[str, int | None]) -> Seen:
        """What this pass has to learn of a part; `below` as of `stages.summarised`."""
        data = self.config.data
        seen = Seen(work.part.number, work.raw.num_rows)
        if self.cells:
            seen.cells = cell_counts.cells_of(work.raw, data)
        if self.columns is None:
            return seen
        rows = self.rows(work)
        if self.tally:
            seen.tally = rows.grouped(self._decisive()).tally(data)
        if self.moments and self._tells_time():
            seen.moments = rows_module.moments(rows.typed, self.config)
        if self.layout is None:
            seen.bad = quarantine.of_rows(work.raw, rows.reasons, self.columns)
            if self.prints and pictures.keeps_duplicates_together(data):
                seen.prints = pictures.prints(rows, None, self.columns, data)
            return seen
        return self._placed(work, rows, seen, below)

    def _placed(self, work: Work, rows: CheckedRows, seen: Seen, below: Mapping[str, int | None]) -> Seen:
        """The same with what hangs on where the rows go."""
        layout, columns = self.layout, self.columns
        assert layout is not None and columns is not None
        places = layout.places(rows, str(work.part.number), self.config.data)
        work.keep_places(places)
        seen.summary = stages.summarised(work.raw, rows, places, columns, self.config, layout.groups, below)
        if self.config.data.task == "image":
            seen.pictures = _pictures(rows.typed, places, columns, self.config.data.target)
            if self.prints:
                seen.prints = pictures.prints(rows, places, columns, self.config.data)
        return seen

    def recurring(self, work: Work, frequent: set[int]) -> Counter[int]:
        """How often frequent rows occur in a part."""
        rows = self.rows(work).grouped(self._decisive())
        return splits.recurring(rows.deciding[rows.good], frequent)

    def rows(self, work: Work) -> CheckedRows:
        """Checked rows, kept for the passes that follow."""
        if work.rows is not None:
            return work.rows
        assert self.columns is not None
        rows = rows_module.checked(work.raw, self.columns, self.config)
        work.keep_rows(rows)
        return rows

    def _decisive(self) -> Groups:
        return self.groups if pictures.keeps_duplicates_together(self.config.data) else Groups()

    def _tells_time(self) -> bool:
        time = [column for column in self.columns or [] if column.name == self.config.data.time]
        return bool(time) and time[0].kind in ("datetime", "numeric")


class Gathering:
    """What was learnt of parts, added up: in any order, of any cut into parts, the same."""

    def __init__(self, config: Config):
        self.rows = 0
        self.bad, self.pictured = Quarantine(), Pictured()
        self.tally: splits.Tally | None = None
        self.splits = {name: statistics.Gathered() for name in splits.SPLIT_INDEX}
        self.broken: dict[int, list[dict[str, str]]] = {}  # lines that are no rows, by the piece of the source
        self._counting, self._counted = cell_counts.Counting(config.data), dict[str, CellCounts]()
        self._moments = _Moments()
        self._prints: list[pa.Table] = []
        self._pictures: list[pa.Table] = []

    def below(self) -> dict[str, int | None]:
        """Of each split the hash above which no row comes into its sample any more."""
        return {name: split.below for name, split in self.splits.items()}

    def add(self, seen: Seen) -> None:
        self.rows += seen.rows
        if seen.cells is not None:
            self._counting.add(seen.cells)
        if seen.tally is not None:
            self.tally = seen.tally if self.tally is None else self.tally + seen.tally
        if seen.moments is not None:
            self._moments.add(seen.moments)
        if seen.prints is not None:
            self._prints.append(seen.prints)
        if seen.summary is None:
            self.bad += seen.bad
            return
        self.bad += seen.summary.quarantine
        self.pictured += seen.summary.pictured
        for name, summary in seen.summary.splits.items():
            self.splits[name].add(summary)
        if seen.pictures is not None:
            part = pa.array(np.full(seen.pictures.num_rows, seen.part))
            self._pictures.append(seen.pictures.append_column("part", part))

    def counted(self) -> dict[str, CellCounts]:
        """The counts of each column's cells; empty if they were not looked at."""
        return cell_counts.merge([self._counted, self._counting.counts()])

    def moments(self) -> Moments | None:
        return self._moments.sum()

    def prints(self) -> pa.Table | None:
        return pa.concat_tables(self._prints) if self._prints else None

    def picture_bytes(self, classes: list[str]) -> dict[str, np.ndarray]:
        """The bytes of the pictures of each split that are of these classes, in order; none where there are none."""
        if not self._pictures:
            return {name: np.zeros(0, np.int64) for name in splits.SPLIT_INDEX}
        held = pa.concat_tables(sorted(self._pictures, key=_first_part))
        held = held.filter(pc.is_in(held.column("label"), pa.array(classes, pa.string())))
        places, sizes = held.column("place").to_numpy(), held.column("bytes").to_numpy()
        return {name: sizes[places == index] for name, index in splits.SPLIT_INDEX.items()}

    # From process to process

    def serialise(self) -> dict[str, bytes]:
        """All of it as JSON and Arrow's bytes, by what it is: nothing that runs when it is read."""
        plain = {
            "rows": self.rows,
            "counted": {name: counted.to_dict() for name, counted in self.counted().items()},
            "tally": None if self.tally is None else self.tally.to_dict(),
            "bad": vars(self.bad),
            "pictured": self.pictured.to_dict(),
            "broken": self.broken,
        }
        found = {"plain": json.dumps(plain).encode()}
        found |= {name: split.summary().serialise() for name, split in self.splits.items() if split.samples}
        if (moments := self.moments()) is not None:
            found["moments"] = _ipc(pa.table({"moment": moments[0], "rows": moments[1]}))
        found |= {"prints": _ipc(pa.concat_tables(self._prints))} if self._prints else {}
        return found | {f"pictures {_first_part(table)}": _ipc(table) for table in self._pictures}

    def merge(self, answers: Iterable[tuple[str, bytes]]) -> Gathering:
        """Add what others have serialised."""
        for key, data in answers:
            if key == "plain":
                self._merge_plain(json.loads(data))
            elif key in self.splits:
                self.splits[key].add(Summary.deserialise(data))
            else:
                self._merge_table(key, pa.ipc.open_stream(data).read_all())
        return self

    def _merge_plain(self, kept: dict) -> None:
        self.rows += kept["rows"]
        counted = {name: CellCounts.of(held) for name, held in kept["counted"].items()}
        self._counted = cell_counts.merge([self._counted, counted])
        if kept["tally"] is not None:
            tally = splits.Tally.of(kept["tally"])
            self.tally = tally if self.tally is None else self.tally + tally
        self.bad += Quarantine(**{**kept["bad"], "reasons": Counter(kept["bad"]["reasons"])})
        self.pictured += Pictured.of(kept["pictured"])
        self.broken |= {int(piece): lines for piece, lines in kept["broken"].items()}

    def _merge_table(self, key: str, table: pa.Table) -> None:
        if key == "moments":
            self._moments.add((table.column("moment").to_numpy(), table.column("rows").to_numpy()))
        else:
            (self._prints if key == "prints" else self._pictures).append(table)


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def _first_part(pictures: pa.Table) -> int:
    return pictures.column("part")[0].as_py() if pictures.num_rows else -1


class _Moments:
    """Distinct moments and their rows, part by part, added up now and then."""

    def __init__(self) -> None:
        self.held: list[Moments] = []

    def add(self, part: Moments) -> None:
        self.held.append(part)
        if sum(len(moments) for moments, _ in self.held) > MOMENTS_HELD and len(self.held) > 1:
            self.held = [_added(self.held)]

    def sum(self) -> Moments | None:
        return _added(self.held) if self.held else None


def _added(parts: list[Moments]) -> Moments:
    moments, place = np.unique(np.concatenate([one for one, _ in parts]), return_inverse=True)
    rows = np.bincount(place, np.concatenate([counts for _, counts in parts]), len(moments))
    return moments, rows.astype(np.int64)


def _pictures(typed: pa.Table, places: np.ndarray, columns: list[cols.Column], target: str) -> pa.Table:
    """Typed rows of pictures and their places → place, bytes and class of each."""
    picture = next(column.name for column in columns if column.kind == "image")
    sizes = pc.fill_null(pc.binary_length(typed.column(picture)), 0)
    return pa.table({"place": places, "bytes": pc.cast(sizes, pa.int64()), "label": typed.column(target)})
