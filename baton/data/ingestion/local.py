"""A source in, a dataset folder out, on this machine: the `local` engine of ingest.

`data.ingestion.spark` builds the same dataset on Spark from the same pure functions.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from baton import names
from baton.config.schema import Config
from baton.data import cell_counts, dataset, duplicates, recognition, splits, statistics
from baton.data.duplicates import Groups
from baton.data.ingestion import pictured as pictures
from baton.data.ingestion import quarantine
from baton.data.ingestion.rows import (
    check_reserved,
    checked,
    fit_and_profile,
    laid_out,
    plan_of,
    refuse_unseen_classes,
    time_counts,
)
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
    typed, reasons = rows.typed, rows.reasons
    total = raw.num_rows + len(source.broken)
    lines = quarantine.of_lines(source.broken)
    bad = quarantine.of_rows(raw, reasons, columns) + lines
    quarantine.check(config, bad, total)
    times = time_counts(raw, columns, config) if config.data.time else None
    groups, kept_whole = Groups(), pictures.keeps_duplicates_together(config.data)
    if kept_whole:
        groups = duplicates.groups(pictures.prints(rows, None, columns, config.data))
        rows = rows.grouped(groups)
    tally = rows.tally(config.data)
    plan = plan_of(config, tally, splits.recurring(rows.deciding[rows.good], tally.frequent), times)
    plan = plan.keeping(groups.unit, groups.mixed)
    place = rows.places(plan, config.data)
    seen = None
    if config.data.task == "image":
        groups = groups if kept_whole else duplicates.groups(pictures.prints(rows, place, columns, config.data))
        seen = pictures.pictured(raw, rows, place, columns, config.data, groups)
    masks = {name: place == index for name, index in splits.SPLIT_INDEX.items()}
    parts = {name: typed.filter(pa.array(mask)) for name, mask in masks.items()}
    quarantine.check_splits({name: part.num_rows for name, part in parts.items()}, bad)
    found = {name: statistics.summarise(part, rows.hashes[masks[name]]) for name, part in parts.items()}
    notes = source.notes() + groups.words(kept_whole)
    preprocessor = fit_and_profile(config, recognised, counted, found, raw.column_names, plan, folder, seen, notes)
    place, reasons = refuse_unseen_classes(typed, place, reasons, preprocessor)
    by_reason = Counter(reasons.drop_null().to_pylist()) + lines.reasons
    quarantine.check(config, replace(bad, reasons=by_reason), total)

    def write(name: str) -> None:
        part = typed.filter(pa.array(place == splits.SPLIT_INDEX[name]))
        workers, most = config.distributed_train.workers, config.data.row_group_size
        dataset.write_split(dataset.encoded_table(part, preprocessor), folder / name, workers, most)

    test = pa.array(place == splits.SPLIT_INDEX["test"])
    together(
        *(partial(write, name) for name in splits.SPLIT_INDEX),
        lambda: write_raw_test(raw.filter(test), folder),
        lambda: write_quarantine(raw, reasons, source.broken, folder),
    )
    dataset.write_metadata(folder, preprocessor)
    preprocessor.save(folder / names.PREPROCESSOR)
    counts = {name: int((place == index).sum()) for name, index in splits.SPLIT_INDEX.items()}
    dataset.complete(folder, {"input": total, **counts, "quarantined": sum(by_reason.values())}, preprocessor)
    return by_reason


def write_raw_test(raw: pa.Table, folder: Path) -> None:
    """The test rows as they came: the gate scores candidate and champion on them."""
    (folder / names.RAW_FOLDER).mkdir()
    pq.write_table(raw, folder / names.RAW_FOLDER / "test.parquet")


def write_quarantine(raw: pa.Table, reasons: pa.Array, broken: list[dict[str, str]], folder: Path) -> None:
    """Rows with a reason, as they came; and lines that were no rows, as text."""
    where = folder / names.QUARANTINE_FOLDER
    where.mkdir()
    rows = raw.append_column(names.REASON, reasons).filter(reasons.is_valid())
    pq.write_table(rows, where / "rows.parquet")
    quarantine.write_lines(broken, where)
