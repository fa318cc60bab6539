"""A source in, a dataset folder out, on this machine: the `local` engine of ingest.

`data.ingestion.spark` builds the same dataset on Spark from the same pure functions.
"""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from baton import names
from baton.config.schema import Config
from baton.data import columns as cols
from baton.data import dataset, splits, statistics
from baton.data.ingestion.rows import (
    assign,
    broken_reasons,
    check_reserved,
    check_splits,
    fit_and_profile,
    image_sizes,
    refuse_unseen_classes,
    time_counts,
    time_limits,
    with_image_size,
    without_reserved,
    write_broken,
)
from baton.data.sources import files
from baton.errors import BadInput
from baton.runtime.threads import together

log = logging.getLogger("baton")


def build(config: Config, source: files.Source, folder: Path) -> Counter[str]:
    """Read, check, split, fit, encode and write a dataset into `folder`; return quarantine reasons."""
    raw = source.table()
    if raw.num_rows == 0:
        raise BadInput(f"{source.location} holds no rows that can be read.")
    check_reserved(raw.column_names)
    log.info("read %s rows from %s", f"{raw.num_rows:,}", source.location)
    columns = cols.infer(raw.schema, cols.counts(raw, config.data), without_reserved(config.data))
    limits = time_limits(*time_counts(raw, columns, config), config) if config.data.time else None
    typed, place, reasons, hashes = assign(raw, columns, config, limits)
    masks = {name: place == index for name, index in splits.SPLIT_INDEX.items()}
    parts = {name: typed.filter(pa.array(mask)) for name, mask in masks.items()}
    check_splits({name: part.num_rows for name, part in parts.items()}, sum(reasons.is_valid().to_numpy(False)))
    found = {name: statistics.summarise(part, hashes[masks[name]]) for name, part in parts.items()}
    preprocessor = fit_and_profile(config, columns, found, folder)
    if config.data.task == "image":
        preprocessor = with_image_size(
            preprocessor, image_sizes(parts["train"].column(preprocessor.features[0].name)), config
        )
    place, reasons = refuse_unseen_classes(typed, place, reasons, preprocessor)

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
    counted = Counter(reasons.drop_null().to_pylist()) + broken_reasons(source.broken)
    rows = {name: int((place == index).sum()) for name, index in splits.SPLIT_INDEX.items()}
    total = raw.num_rows + len(source.broken)
    dataset.complete(folder, {"input": total, **rows, "quarantined": sum(counted.values())}, preprocessor)
    return counted


def write_raw_test(raw: pa.Table, folder: Path) -> None:
    """The test rows as they came: the gate scores candidate and champion on them."""
    (folder / names.RAW_FOLDER).mkdir()
    pq.write_table(raw, folder / names.RAW_FOLDER / "test.parquet")


def write_quarantine(raw: pa.Table, reasons: pa.Array, broken: list[dict[str, str]], folder: Path) -> None:
    """Rows with a reason, as they came; and lines that were no rows, as text."""
    where = folder / names.QUARANTINE_FOLDER
    where.mkdir()
    bad = raw.append_column(names.REASON, reasons).filter(reasons.is_valid())
    pq.write_table(bad, where / "rows.parquet")
    write_broken(broken, where)
