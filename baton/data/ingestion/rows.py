"""Raw rows in, their place (a split, or the quarantine) and fitted preprocessing out: the rules of both engines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from baton import names
from baton.config.schema import Config, Data
from baton.data import columns as cols
from baton.data import fitting, overview, preprocessing, reference, splits, statistics
from baton.data.cell_counts import CellCounts
from baton.data.duplicates import Groups
from baton.data.ingestion import quarantine
from baton.data.ingestion.pictured import Pictured, keeps_duplicates_together, size_words, with_image_size
from baton.data.recognition import Recognised
from baton.data.sources import files
from baton.errors import BadInput, listed, refuse
from baton.runtime.threads import together


@dataclass(frozen=True)
class CheckedRows:
    """Raw rows as typed ones, with the reasons of those that cannot be used, their hashes, and those that decide."""

    typed: pa.Table
    reasons: pa.Array
    hashes: np.ndarray
    deciding: np.ndarray

    @property
    def good(self) -> np.ndarray:
        """Which rows can be used."""
        return self.reasons.is_null().to_numpy(zero_copy_only=False)

    def grouped(self, groups: Groups) -> CheckedRows:
        """The same, with one hash deciding of all pictures of a group."""
        return replace(self, deciding=groups.units(self.deciding))

    def tally(self, data: Data) -> splits.Tally:
        """What a plan of the splits has to know of the rows that can be used."""
        good = self.good
        return splits.tally(self.typed.filter(pa.array(good)), self.deciding[good], data)

    def places(self, plan: splits.Plan, data: Data, before: Counter[int] | None = None) -> np.ndarray:
        """The place of each row: 0, 1, 2 or `splits.UNPLACED`; `before` as of `Plan.place`."""
        good = self.good
        places = np.full(len(good), splits.UNPLACED, np.int8)
        places[good] = plan.place(self.typed.filter(pa.array(good)), self.deciding[good], data, before)
        return places


def laid_out(config: Config, source: files.Source) -> Config:
    """The config, with the splits that the folders of pictures name where it has no rule of its own.

    Raises `BadInput` if they do not name all three, or if there are no folders of two classes.
    """
    data = config.data
    if source.folder is not None:
        source.folder.check_classes()
    if source.folder is None or not source.folder.split or not keeps_duplicates_together(data):
        return config
    named = {splits.SPLIT_WORDS[source.folder.split_of(file).strip().lower()] for file in source.files}
    if absent := [name for name, index in splits.SPLIT_INDEX.items() if index not in named]:
        raise BadInput(
            f"The folders of {source.location} are splits, and there is none for {listed(absent)}: make one, or let "
            "Baton split the pictures: data.id: [path]."
        )
    return config.overridden({"data.split_column": files.SPLIT})


def checked(raw: pa.Table, columns: list[cols.Column], config: Config) -> CheckedRows:
    """Raw rows → what can be used of them."""
    typed, reasons = typed_rows(raw, columns, config)
    hashes = splits.row_hash(typed)
    return CheckedRows(typed, reasons, hashes, splits.unit_hash(typed, config.data, hashes))


def typed_rows(raw: pa.Table, columns: list[cols.Column], config: Config) -> tuple[pa.Table, pa.Array]:
    """Raw rows → typed ones, and the reasons of those that cannot be used."""
    data = config.data
    typed, reasons = cols.typed(raw, columns, data.target)
    if data.time:
        gone = typed.column(data.time).combine_chunks().is_null()
        reasons = pc.coalesce(reasons, pc.if_else(gone, f"{data.time} (data.time) is missing", None))
    if data.split_column:
        _, unknown = splits.by_column(typed.column(data.split_column))
        sentence = f"{data.split_column} is neither train, validation nor test"
        reasons = pc.coalesce(reasons, pc.if_else(pa.array(unknown), sentence, None))
    return typed, reasons


def plan_of(
    config: Config, tally: splits.Tally, counts: Counter[int], times: tuple[np.ndarray, np.ndarray] | None
) -> splits.Plan:
    """The tally of all rows, how often the frequent ones occur, and the moments with their rows → the plan."""
    share = config.data.split
    shares = (share.train, share.validation, share.test)
    if config.data.split_column:
        return splits.Plan(shares)
    if times is not None:
        return splits.Plan(shares, time_limits(*times, config))
    return splits.plan(tally, counts, config.data)


def fit_and_profile(
    config: Config,
    recognised: list[Recognised],
    counted: dict[str, CellCounts],
    parts: dict[str, statistics.Summary],
    source_names: list[str],
    plan: splits.Plan,
    folder: Path,
    pictured: Pictured | None = None,
    notes: Sequence[str] = (),
) -> preprocessing.Preprocessor:
    """Fit preprocessing on train's summary alone; write the profile and the table of columns, of all rows.

    `pictured` is what pictures are like; `notes` are said beside what is doubtful.
    """
    columns = [r.column for r in recognised]

    def write_profile() -> None:
        _write_json(statistics.profile(_in_order(statistics.merge(list(parts.values())))), folder / names.PROFILE)

    preprocessor = together(lambda: fitting.fit_preprocessor(parts["train"], columns, config.data), write_profile)[0]
    preprocessor = preprocessor.with_split(splits.recipe(plan, config.data))
    if pictured is not None:
        preprocessor = with_image_size(preprocessor, pictured.sizes, config)
    table = overview.of_rows(recognised, counted, parts, preprocessor, config.data, source_names)
    table["warnings"] += splits.words(plan, sum(part.rows for part in parts.values()))
    table["warnings"] += notes
    if pictured is not None:
        table["warnings"] += [*size_words(pictured.sizes, config), *pictured.profile.words()]
        _write_json(pictured.profile.to_dict(), folder / names.PICTURES)
    _write_json(table, folder / names.COLUMNS)
    reference.profile_reference(parts["train"], preprocessor, config.data.reference_rows).save(folder)
    return preprocessor


def _write_json(values: Any, path: Path) -> None:
    path.write_text(json.dumps(values, indent=1))


def refuse_unseen_classes(
    typed: pa.Table, place: np.ndarray, reasons: pa.Array, preprocessor: preprocessing.Preprocessor
) -> tuple[np.ndarray, pa.Array]:
    """Quarantine rows of validation and test whose class does not occur in train."""
    if not preprocessor.classes:
        return place, reasons
    unseen = (preprocessor.encode_target(typed) < 0) & (place != splits.UNPLACED)
    reasons = pc.if_else(pa.array(unseen), quarantine.unseen_class(preprocessor.target), reasons)
    return np.where(unseen, splits.UNPLACED, place), reasons


def moments(typed: pa.Table, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Typed rows → the distinct moments (µs) or numbers of `data.time` and how many rows each has; counts add up."""
    counted = typed.column(config.data.time).drop_null().value_counts()
    return splits.moments(counted.field("values")), counted.field("counts").to_numpy()


def time_limits(moments: np.ndarray, counts: np.ndarray, config: Config) -> tuple[float, float]:
    """Distinct moments in any order and their rows → the last moments of train and validation."""
    if len(moments) == 0:
        raise BadInput(f"data.time: column {config.data.time} holds no time at all.")
    order = np.argsort(moments, kind="stable")
    return splits.time_limits(moments[order], counts[order], config.data)


def check_reserved(columns: list[str], interval: float | None = None) -> None:
    """Raise `BadInput` if a column bears a name that Baton's outputs use."""
    refuse(reserved_faults(columns, interval))


def reserved_faults(columns: list[str], interval: float | None = None) -> list[str]:
    """A sentence if there are columns that bear a name that Baton's outputs use, with or without an interval."""
    taken = [column for column in columns if names.is_reserved(column, interval is not None)]
    return [f"Rename these columns: their names are reserved for predictions. Received: {listed(taken)}."] * bool(taken)


def _in_order(whole: statistics.Summary) -> statistics.Summary:
    """Categories by name, so that which of equals the profile shows does not depend on the rows' order."""
    columns = {n: replace(c, counts=Counter(dict(sorted(c.counts.items())))) for n, c in whole.columns.items()}
    return statistics.Summary(columns, whole.sample)


def time_column(columns: list[cols.Column], config: Config) -> cols.Column:
    """The column of `data.time`; raises `BadInput` if it holds neither moments nor numbers."""
    column = next(c for c in columns if c.name == config.data.time)
    if column.kind not in ("datetime", "numeric"):
        raise BadInput(f"data.time must be a column of dates, times or numbers. Received: {column.name}, {column.kind}")
    return column
