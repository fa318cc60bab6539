"""Raw rows of a part in, what is known of them, and what is written of them, out: the stages of both engines.

The `local` engine calls them in threads, part by part; on Spark tasks do. What they give of parts adds up to that of
the whole, and does not hang on how a source was cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from baton.config.schema import Config, Data
from baton.data import columns as cols
from baton.data import dataset, splits, statistics
from baton.data.duplicates import Groups
from baton.data.ingestion import pictured as pictures
from baton.data.ingestion import quarantine as quarantines
from baton.data.ingestion.pictured import Pictured
from baton.data.ingestion.quarantine import Quarantine
from baton.data.ingestion.rows import CheckedRows, refuse_unseen_classes
from baton.data.preprocessing import Preprocessor

TEST = splits.SPLIT_INDEX["test"]


@dataclass
class Layout:
    """A plan of the splits, and how many copies of a row that is spread stand before each part of the source.

    `groups` are those of pictures that are the same or nearly.
    """

    plan: splits.Plan
    before: dict[str, Counter[int]] = field(default_factory=dict)
    groups: Groups = field(default_factory=Groups)

    def notes(self, data: Data) -> list[str]:
        """What a person should know of duplicates, as sentences."""
        return self.groups.words(pictures.keeps_duplicates_together(data))

    def decisive(self, data: Data) -> Groups:
        """The groups, where they decide of the splits."""
        return self.groups if pictures.keeps_duplicates_together(data) else Groups()

    def places(self, rows: CheckedRows, part: str, data: Data) -> np.ndarray:
        """Checked rows of a whole part → the place of each."""
        return rows.grouped(self.decisive(data)).places(self.plan, data, self.before.get(part))


def offsets(plan: splits.Plan, parts: Mapping[str, Counter[int]]) -> dict[str, Counter[int]]:
    """The copies of frequent rows in each part → how many of each row that is spread stand in those before it."""
    before, found = Counter[int](), {}
    for part in sorted(parts, key=int) if plan.spread else ():
        found[part] = Counter({value: before[value] for value in plan.spread})
        before += parts[part]
    return found


@dataclass
class PartSummary:
    """The summary of each split that has rows, the quarantine, and what pictures are like."""

    splits: dict[str, statistics.Summary]
    quarantine: Quarantine
    pictured: Pictured


def summarised(
    raw: pa.Table,
    rows: CheckedRows,
    places: np.ndarray,
    columns: list[cols.Column],
    config: Config,
    groups: Groups,
    below: Mapping[str, int | None],
) -> PartSummary:
    """Raw and checked rows with their places → what is known of them; `below` of each split as of `summarise_part`."""
    found: dict[str, statistics.Summary] = {}
    for name, index in splits.SPLIT_INDEX.items():
        mask = places == index
        if mask.any():
            typed = rows.typed.filter(pa.array(mask))
            found[name] = statistics.summarise_part(typed, rows.hashes[mask], below[name])
    seen = Pictured()
    if config.data.task == "image":
        seen = pictures.pictured(raw, rows, places, columns, config.data, groups)
    return PartSummary(found, quarantines.of_rows(raw, rows.reasons, columns), seen)


@dataclass(frozen=True)
class Outcome:
    """The rows of a part that go to one place: encoded if they are used, raw if of the test split or set aside."""

    place: int
    reasons: pa.Array
    encoded: pa.Table | None
    raw: pa.Table | None


def outcomes(
    raw: pa.Table, typed: pa.Table, reasons: pa.Array, places: np.ndarray, preprocessor: Preprocessor
) -> Iterator[Outcome]:
    """Raw and typed rows with reasons and places → what is written of them, place by place, each in their order."""
    places, reasons = refuse_unseen_classes(typed, places, reasons, preprocessor)
    for place in (*splits.SPLIT_INDEX.values(), splits.UNPLACED):
        mask = places == place
        if mask.any():
            here = pa.array(mask)
            used = place != splits.UNPLACED
            encoded = dataset.encoded_table(typed.filter(here), preprocessor) if used else None
            yield Outcome(place, reasons.filter(here), encoded, raw.filter(here) if place >= TEST else None)
