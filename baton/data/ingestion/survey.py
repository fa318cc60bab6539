"""The parts of a source in, all that has to be known before a row is written out: kinds, splits, summaries.

A pass over the parts takes for granted what the first part looks like and that the splits need nothing out of the
ordinary. What then turns out to be otherwise makes another pass; most tables need one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from baton.config.schema import Config
from baton.data import cell_counts, duplicates, recognition, splits, statistics
from baton.data import columns as cols
from baton.data.cell_counts import CellCounts
from baton.data.duplicates import Groups
from baton.data.ingestion import pictured as pictures
from baton.data.ingestion import quarantine, stages
from baton.data.ingestion import rows as rows_module
from baton.data.ingestion.parts import Parts, Work
from baton.data.ingestion.pictured import Pictured
from baton.data.ingestion.quarantine import Quarantine
from baton.data.ingestion.rows import CheckedRows
from baton.data.ingestion.stages import Layout
from baton.data.recognition import Recognised
from baton.errors import BadInput

Moments = tuple[np.ndarray, np.ndarray]  # distinct ones, and the rows of each
GUESS_ROWS = 1 << 14  # of the first part of several, by which kinds are taken for granted
MOMENTS_HELD = 1 << 20  # moments of parts that are added up at once


@dataclass
class Seen:
    """What a pass learns of a part; None of what it does not look for."""

    rows: int
    cells: cell_counts.Cells | None = None
    bad: Quarantine = field(default_factory=Quarantine)
    tally: splits.Tally | None = None
    moments: Moments | None = None
    prints: pa.Table | None = None
    summary: stages.PartSummary | None = None
    pictures: pa.Table | None = None  # place, bytes and class of each


class Survey:
    """Passes over the parts until all is known; `total` are the rows, `summaries` those of the splits."""

    def __init__(self, config: Config, parts: Parts):
        self.config, self.parts = config, parts
        self.total = 0
        self.counted: dict[str, CellCounts] = {}
        self.recognised: list[Recognised] = []
        self.columns: list[cols.Column] | None = None
        self.layout: Layout | None = None
        self.groups = Groups()
        self.tally: splits.Tally | None = None
        self.moments: Moments | None = None
        self.prints: pa.Table | None = None

    def look(self) -> None:
        """Learn all; raises `BadInput` for a table that cannot be used."""
        self._guess()
        self._pass()
        quarantine.check_any(self.total, self.parts.source.location, self.parts.source.broken)
        if self._recognise():
            self._pass()
        self._check()
        if self._group():
            self._pass()
        if self._plan():
            self._pass()
        if self._straddle():
            self._pass()

    @property
    def plan(self) -> splits.Plan:
        assert self.layout is not None
        return self.layout.plan

    def notes(self) -> list[str]:
        """What a person should know of duplicates, as sentences."""
        assert self.layout is not None
        return self.layout.notes(self.config.data)

    # What is taken for granted, and whether it was right: True asks for another pass

    def _guess(self) -> None:
        """Kinds by the first part, if it tells them, and a plan without exceptions, where one can be right."""
        first, more = self.parts.peek()
        if first is None:
            return
        counted = cell_counts.counts(first.slice(0, GUESS_ROWS) if more else first, self.config.data)
        if not more:
            self.counted = counted
        try:
            recognised = recognition.recognise(self.parts.schema, counted, self.config.data)
        except BadInput:  # the whole may be another matter
            return
        self.columns = [r.column for r in recognised]
        if more or first.num_rows >= splits.EXACT_ROWS or self.config.data.split_column:
            self.layout = self._plain_layout()

    def _plain_layout(self) -> Layout | None:
        share = self.config.data.split
        plan = splits.Plan((share.train, share.validation, share.test))
        return None if self.config.data.time else Layout(plan, groups=self.groups)

    def _recognise(self) -> bool:
        self.recognised = recognition.recognise(self.parts.schema, self.counted, self.config.data)
        columns = [r.column for r in self.recognised]
        if columns == self.columns:
            return False
        self.columns, self.layout = columns, self._plain_layout()
        self.tally = self.moments = self.prints = None
        self.parts.forget_rows()
        return True

    def _check(self) -> None:
        broken = self.parts.source.broken
        bad = self.bad + quarantine.of_lines(broken)
        quarantine.check(self.config, bad, self.total + len(broken))

    def _group(self) -> bool:
        if not pictures.keeps_duplicates_together(self.config.data):
            return False
        assert self.prints is not None
        self.groups = duplicates.groups(self.prints)
        self.layout, self.tally = self._plain_layout(), None if self.groups.unit else self.tally
        return bool(self.groups.unit)

    def _plan(self) -> bool:
        data, parts, counts = self.config.data, {}, Counter[int]()
        if data.time:
            rows_module.time_column(self.columns or [], self.config)
        elif not data.split_column and self.tally and self.tally.frequent:
            parts = {str(n): found for n, found in enumerate(self.parts.each(self._recurring, "counted"))}
            counts = sum(parts.values(), counts)
        tally = self.tally or splits.Tally(bool(data.group))
        plan = rows_module.plan_of(self.config, tally, counts, self.moments)
        plan = plan.keeping(self.groups.unit, self.groups.mixed)
        guessed, self.layout = self.layout, Layout(plan, stages.offsets(plan, parts), self.groups)
        if guessed is not None and guessed.plan == plan:
            return False
        self.prints = None if not pictures.keeps_duplicates_together(data) else self.prints
        return True

    def _recurring(self, work: Work) -> Counter[int]:
        assert self.tally is not None
        rows = self._rows(work).grouped(self._decisive())
        return splits.recurring(rows.deciding[rows.good], self.tally.frequent)

    def _straddle(self) -> bool:
        data = self.config.data
        if data.task != "image" or pictures.keeps_duplicates_together(data):
            return False
        assert self.prints is not None and self.layout is not None
        self.groups = self.layout.groups = duplicates.groups(self.prints)
        return bool(self.groups.unit)

    # A pass

    def _pass(self) -> None:
        """Go through all parts; what is known already is not counted again."""
        self.bad, self.pictured = Quarantine(), Pictured()
        self.gathered = {name: statistics.Gathered() for name in splits.SPLIT_INDEX}
        self.pictures: list[pa.Table] = []
        total, counting, moments, prints = 0, cell_counts.Counting(self.config.data), _Moments(), list[pa.Table]()
        tally = None if self.tally else splits.Tally(bool(self.config.data.group))
        for seen in self.parts.each(self._seen, "read"):
            total += seen.rows
            if seen.cells is not None:
                counting.add(seen.cells)
            if tally is not None and seen.tally is not None:
                tally += seen.tally
            if seen.moments is not None:
                moments.add(seen.moments)
            if seen.prints is not None:
                prints.append(seen.prints)
            self._gather(seen)
        self.total, self.counted = total, self.counted or counting.counts()
        self.tally = self.tally or tally
        self.moments = self.moments or moments.sum()
        self.prints = self.prints or (pa.concat_tables(prints) if prints else None)

    def _gather(self, seen: Seen) -> None:
        if seen.summary is None:
            self.bad += seen.bad
            return
        self.bad += seen.summary.quarantine
        self.pictured += seen.summary.pictured
        for name, summary in seen.summary.splits.items():
            self.gathered[name].add(summary)
        if seen.pictures is not None:
            self.pictures.append(seen.pictures)

    def _seen(self, work: Work) -> Seen:
        """What this pass has to learn of a part."""
        data = self.config.data
        seen = Seen(work.raw.num_rows)
        if not self.counted:
            seen.cells = cell_counts.cells_of(work.raw, data)
        if self.columns is None:
            return seen
        rows = self._rows(work)
        if self.tally is None and not (data.time or data.split_column):
            seen.tally = rows.grouped(self._decisive()).tally(data)
        if data.time and self.moments is None and self._tells_time():
            seen.moments = rows_module.moments(rows.typed, self.config)
        if self.layout is None:
            seen.bad = quarantine.of_rows(work.raw, rows.reasons, self.columns)
            if data.task == "image" and self.prints is None and pictures.keeps_duplicates_together(data):
                seen.prints = pictures.prints(rows, None, self.columns, data)
            return seen
        return self._placed(work, rows, seen)

    def _placed(self, work: Work, rows: CheckedRows, seen: Seen) -> Seen:
        """The same with what hangs on where the rows go."""
        layout, columns = self.layout, self.columns
        assert layout is not None and columns is not None
        places = layout.places(rows, str(work.part.number), self.config.data)
        self.parts.keep_places(work.part, places)
        below = {name: part.below for name, part in self.gathered.items()}
        seen.summary = stages.summarised(work.raw, rows, places, columns, self.config, layout.groups, below)
        if self.config.data.task == "image":
            seen.pictures = _pictures(rows.typed, places, columns, self.config.data.target)
            if self.prints is None:
                seen.prints = pictures.prints(rows, places, columns, self.config.data)
        return seen

    def _rows(self, work: Work) -> CheckedRows:
        """Checked rows, kept for the passes that follow."""
        if work.rows is not None:
            return work.rows
        assert self.columns is not None
        rows = rows_module.checked(work.raw, self.columns, self.config)
        self.parts.keep_rows(work.part, rows)
        return rows

    def _decisive(self) -> Groups:
        return self.groups if pictures.keeps_duplicates_together(self.config.data) else Groups()

    def _tells_time(self) -> bool:
        time = [column for column in self.columns or [] if column.name == self.config.data.time]
        return bool(time) and time[0].kind in ("datetime", "numeric")

    def summaries(self) -> dict[str, statistics.Summary]:
        """The summary of each split; raises `BadInput` if one is empty."""
        rows = {name: next(iter(part.columns.values())).rows if part.columns else 0
                for name, part in self.gathered.items()}  # fmt: skip
        quarantine.check_splits(rows, self.bad + quarantine.of_lines(self.parts.source.broken))
        return {name: part.summary() for name, part in self.gathered.items()}

    def picture_bytes(self, classes: list[str]) -> dict[str, np.ndarray]:
        """The bytes of the pictures of each split that are of these classes, in order; none where there are none."""
        if not self.pictures:
            return {name: np.zeros(0, np.int64) for name in splits.SPLIT_INDEX}
        held = pa.concat_tables(self.pictures)
        held = held.filter(pc.is_in(held.column("label"), pa.array(classes, pa.string())))
        places, sizes = held.column("place").to_numpy(), held.column("bytes").to_numpy()
        return {name: sizes[places == index] for name, index in splits.SPLIT_INDEX.items()}


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
