"""The parts of a source in, all that has to be known before a row is written out: kinds, splits, summaries.

A pass over the parts takes for granted what the first part looks like and that the splits need nothing out of the
ordinary. What then turns out to be otherwise makes another pass; most tables need one.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

import pyarrow as pa

from baton.config.schema import Config
from baton.data import cell_counts, duplicates, recognition, splits, statistics
from baton.data import columns as cols
from baton.data.cell_counts import CellCounts
from baton.data.duplicates import Groups
from baton.data.ingestion import pictured as pictures
from baton.data.ingestion import quarantine, stages
from baton.data.ingestion import rows as rows_module
from baton.data.ingestion.looks import Gathering, Look, Moments
from baton.data.ingestion.stages import Layout
from baton.data.recognition import Recognised
from baton.data.sources.files import Source
from baton.errors import BadInput

GUESS_ROWS = 1 << 14  # of the first part of several, by which kinds are taken for granted


class Passes(Protocol):
    """The parts of a source, as an engine goes through them: whole, as often as it is asked to."""

    source: Source
    schema: pa.Schema

    def peek(self) -> tuple[pa.Table | None, bool]:
        """The first part's raw rows, None if there are none; and whether there are more parts."""

    def gather(self, look: Look) -> Gathering:
        """What is seen of all parts."""

    def recurring(self, look: Look, frequent: set[int]) -> dict[str, Counter[int]]:
        """How often frequent rows occur in each part, by its number."""

    def forget_rows(self) -> None:
        """Rows that are kept were checked by other columns."""

    def close(self) -> None:
        """Let go of what was kept."""


class Survey:
    """Passes over the parts until all is known; `total` are the rows, `seen` is what the last pass learnt."""

    def __init__(self, config: Config, parts: Passes):
        self.config, self.parts = config, parts
        self.total, self.seen = 0, Gathering(config)
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
        bad = self.seen.bad + quarantine.of_lines(broken)
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
            parts = self.parts.recurring(self._look(), self.tally.frequent)
            counts = sum(parts.values(), counts)
        tally = self.tally or splits.Tally(bool(data.group))
        plan = rows_module.plan_of(self.config, tally, counts, self.moments)
        plan = plan.keeping(self.groups.unit, self.groups.mixed)
        guessed, self.layout = self.layout, Layout(plan, stages.offsets(plan, parts), self.groups)
        if guessed is not None and guessed.plan == plan:
            return False
        self.prints = None if not pictures.keeps_duplicates_together(data) else self.prints
        return True

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
        self.seen = seen = self.parts.gather(self._look())
        self.total, self.counted = seen.rows, self.counted or seen.counted()
        self.tally = self.tally or seen.tally
        self.moments = self.moments or seen.moments()
        self.prints = self.prints or seen.prints()

    def _look(self) -> Look:
        data = self.config.data
        return Look(
            self.config,
            self.columns,
            self.layout,
            self.groups,
            cells=not self.counted,
            tally=self.tally is None and not (data.time or data.split_column),
            moments=bool(data.time) and self.moments is None,
            prints=data.task == "image" and self.prints is None,
        )

    def summaries(self) -> dict[str, statistics.Summary]:
        """The summary of each split; raises `BadInput` if one is empty."""
        rows = {name: next(iter(part.columns.values())).rows if part.columns else 0
                for name, part in self.seen.splits.items()}  # fmt: skip
        quarantine.check_splits(rows, self.seen.bad + quarantine.of_lines(self.parts.source.broken))
        return {name: part.summary() for name, part in self.seen.splits.items()}
