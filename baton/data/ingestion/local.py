"""A source in, a dataset folder out, on this machine: the `local` engine of ingest.

`data.ingestion.spark` builds the same dataset on Spark from the same pure functions.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from baton import names
from baton.config.schema import Config
from baton.data import cell_counts, dataset, duplicates, raw_rows, recognition, splits, statistics
from baton.data.columns import Column
from baton.data.duplicates import Groups
from baton.data.ingestion import pictured as pictures
from baton.data.ingestion import quarantine
from baton.data.ingestion.pictured import Pictured
from baton.data.ingestion.rows import (
    CheckedRows,
    check_reserved,
    checked,
    fit_and_profile,
    laid_out,
    plan_of,
    refuse_unseen_classes,
    time_counts,
)
from baton.data.preprocessing import Preprocessor
from baton.data.sources import files
from baton.runtime.threads import together

log = logging.getLogger("baton")


def build(config: Config, source: files.Source, folder: Path) -> Counter[str]:
    """Read, check, split, fit, encode and write a dataset into `folder`; return quarantine reasons."""
    config = laid_out(config, source)
    raw = source.table()
    quarantine.check_any(raw.num_rows, source.location, source.broken)
    check_reserved(raw.column_names)
    log.info("read %s rows from %s", f"{raw.num_rows:,}", source.location)
    counted = cell_counts.counts(raw, config.data)
    recognised = recognition.recognise(raw.schema, counted, config.data)
    columns = [r.column for r in recognised]
    rows = checked(raw, columns, config)
    total, lines = raw.num_rows + len(source.broken), quarantine.of_lines(source.broken)
    bad = quarantine.of_rows(raw, rows.reasons, columns) + lines
    quarantine.check(config, bad, total)
    plan, place, seen, notes = _placed(config, raw, rows, columns)
    parts = _summarised(rows, place, bad)
    notes = source.notes() + notes
    preprocessor = fit_and_profile(config, recognised, counted, parts, raw.column_names, plan, folder, seen, notes)
    place, reasons = refuse_unseen_classes(rows.typed, place, rows.reasons, preprocessor)
    by_reason = Counter(reasons.drop_null().to_pylist()) + lines.reasons
    quarantine.check(config, replace(bad, reasons=by_reason), total)
    test = pa.array(place == splits.SPLIT_INDEX["test"])
    together(
        *(partial(write_split, name, rows.typed, place, preprocessor, config, folder) for name in splits.SPLIT_INDEX),
        lambda: write_raw_test(raw.filter(test), folder),
        lambda: write_quarantine(raw, reasons, source.broken, folder),
    )
    dataset.write_metadata(folder, preprocessor)
    preprocessor.save(folder / names.PREPROCESSOR)
    counts = {name: int((place == index).sum()) for name, index in splits.SPLIT_INDEX.items()}
    dataset.complete(folder, {"input": total, **counts, "quarantined": sum(by_reason.values())}, preprocessor)
    return by_reason


def _placed(
    config: Config, raw: pa.Table, rows: CheckedRows, columns: list[Column]
) -> tuple[splits.Plan, np.ndarray, Pictured | None, list[str]]:
    """Raw and checked rows → the plan, each row's place by it, what pictures are like, what a person should know."""
    data = config.data
    times = time_counts(raw, columns, config) if data.time else None
    kept_whole = pictures.keeps_duplicates_together(data)
    groups = duplicates.groups(pictures.prints(rows, None, columns, data)) if kept_whole else Groups()
    rows = rows.grouped(groups)
    tally = rows.tally(data)
    plan = plan_of(config, tally, splits.recurring(rows.deciding[rows.good], tally.frequent), times)
    plan = plan.keeping(groups.unit, groups.mixed)
    place = rows.places(plan, data)
    if data.task != "image":
        return plan, place, None, []
    if not kept_whole:
        groups = duplicates.groups(pictures.prints(rows, place, columns, data))
    return plan, place, pictures.pictured(raw, rows, place, columns, data, groups), groups.words(kept_whole)


def _summarised(rows: CheckedRows, place: np.ndarray, bad: quarantine.Quarantine) -> dict[str, statistics.Summary]:
    """The summary of each split; raises `BadInput` if one is empty."""
    masks = {name: place == index for name, index in splits.SPLIT_INDEX.items()}
    quarantine.check_splits({name: int(mask.sum()) for name, mask in masks.items()}, bad)
    return {
        name: statistics.summarise(rows.typed.filter(pa.array(mask)), rows.hashes[mask]) for name, mask in masks.items()
    }


def write_split(
    name: str, typed: pa.Table, place: np.ndarray, preprocessor: Preprocessor, config: Config, folder: Path
) -> None:
    """The encoded rows of a split, in row groups."""
    part = typed.filter(pa.array(place == splits.SPLIT_INDEX[name]))
    workers, most = config.distributed_train.workers, config.data.row_group_size
    dataset.write_split(dataset.encoded_table(part, preprocessor), folder / name, workers, most)


def write_raw_test(raw: pa.Table, folder: Path) -> None:
    """The test rows as they came: the gate scores candidate and champion on them."""
    (folder / names.RAW_FOLDER).mkdir()
    pq.write_table(raw, folder / names.RAW_FOLDER / "test.parquet", row_group_size=raw_rows.group_rows(raw))


def write_quarantine(raw: pa.Table, reasons: pa.Array, broken: list[dict[str, str]], folder: Path) -> None:
    """Rows with a reason, as they came; and lines that were no rows, as text."""
    where = folder / names.QUARANTINE_FOLDER
    where.mkdir()
    rows = raw.append_column(names.REASON, reasons).filter(reasons.is_valid())
    pq.write_table(rows, where / "rows.parquet")
    quarantine.write_lines(broken, where)
