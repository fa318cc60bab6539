"""A source in, a dataset folder out, on Spark: the `spark` engine of ingest.

Every stage maps whole Arrow tables by the pure functions that the `local` engine calls, so both engines give the
same rows; nothing is interpreted by Spark. Files are read by executors with the same readers, a file or row group a
task, so the folders of the source and of the output must be seen by all of them under the same path.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from baton import names
from baton.config.schema import Config, Data
from baton.data import cell_counts, dataset, duplicates, petastorm, recognition, splits, statistics
from baton.data import columns as cols
from baton.data.cell_counts import CellCounts
from baton.data.duplicates import Groups
from baton.data.ingestion import pictured as pictures
from baton.data.ingestion import quarantine as quarantines
from baton.data.ingestion import rows as rows_module
from baton.data.ingestion import stages
from baton.data.ingestion.pictured import Pictured
from baton.data.ingestion.quarantine import Quarantine
from baton.data.ingestion.stages import Layout
from baton.data.preprocessing import Preprocessor
from baton.data.sources import files as sources
from baton.data.sources.spark_rows import (
    PARTIAL,
    SparkRows,
    Tables,
    encode_json,
    mapped,
    opened,
    partial_results,
    persisted,
    spark_schema,
)
from baton.runtime.spark import is_connect, own_errors, parallelism, partitions, writable_at

MOMENTS = "moment double, rows long"
PRINTS = "row long, exact long, near long, label string, place tinyint"
MERGED = 16  # the driver gets the partial results of at most so many tasks
MAX_FILES = 1024  # of a split; beyond, a file holds several row groups
# A footer lists a column's encodings in an order that varies from JVM to JVM: with these there is only one of them, so
# that the same rows make the same files, and the same fingerprint.
SAME_FILES = {"parquet.writer.version": "v2", "parquet.enable.dictionary": "false"}


def build(config: Config, source: sources.Source, folder: Path) -> Counter[str]:
    """Read, check, split, fit, encode and write a dataset into `folder`; return quarantine reasons.

    The meaning is that of `ingestion.local.build`: only the order of rows, and so of files, differs.
    """
    config = rows_module.laid_out(config, source)
    with own_errors(), opened(config, source) as rows:
        rows_module.check_reserved(rows.schema.names)
        total, counted, broken = _counted(rows, config)
        quarantines.check_any(total, source.location, broken)
        recognised = recognition.recognise(rows.schema, counted, config.data)
        columns = [r.column for r in recognised]
        layout = _layout(rows, columns, config)
        if config.data.task == "image" and not pictures.keeps_duplicates_together(config.data):
            layout.groups = _groups(rows, columns, config, layout)
        parts, quarantine, seen = _summarised(rows, columns, config, layout)
        lines = quarantines.of_lines(broken)
        quarantine += lines
        quarantines.check(config, quarantine, total + len(broken))
        quarantines.check_splits({s: parts[s].rows if s in parts else 0 for s in names.SPLITS}, quarantine)
        parts = {s: parts[s] for s in names.SPLITS}
        preprocessor = rows_module.fit_and_profile(
            config, recognised, counted, parts, rows.schema.names, layout.plan, folder,
            seen if config.data.task == "image" else None, source.notes() + layout.notes(config.data),
        )  # fmt: skip
        with persisted(_placed(rows, columns, config, layout, preprocessor)) as placed:
            reasons, counts = _counts(placed)
            sizes = _picture_bytes(placed, preprocessor)
            reasons += lines.reasons
            quarantines.check(config, replace(quarantine, reasons=reasons), total + len(broken))
            _write(placed, counts, sizes, config, preprocessor, folder)
    quarantines.write_lines(broken, folder / names.QUARANTINE_FOLDER)
    preprocessor.save(folder / names.PREPROCESSOR)
    counts = {"input": total + len(broken), **counts, "quarantined": sum(reasons.values())}
    dataset.complete(folder, counts, preprocessor)
    return reasons


# Stages, run on executors


def _count(tables: Tables, data: Data) -> Iterator[pa.Table]:
    """How many rows there are, what their text parses as, and the lines that are no rows."""
    rows, counts = 0, []
    for table in tables:
        rows += table.num_rows
        counts.append(cell_counts.counts(table, data))
    merged = {name: counted.to_dict() for name, counted in cell_counts.merge(counts).items()}
    yield partial_results({"count": encode_json({"rows": rows, "counts": merged, "broken": tables.broken})})


def _moments(tables: Tables, columns: list[cols.Column], config: Config) -> Iterator[pa.Table]:
    """The distinct moments of `data.time` and their rows, table by table."""
    for raw in tables:
        moments, rows = rows_module.time_counts(raw, columns, config)
        yield pa.table({"moment": moments, "rows": rows})


def _tally(tables: Tables, columns: list[cols.Column], config: Config, groups: Groups) -> Iterator[pa.Table]:
    """What a plan of the splits has to know of the rows."""
    total = splits.Tally(bool(config.data.group))
    for raw in tables:
        total += rows_module.checked(raw, columns, config).grouped(groups).tally(config.data)
    yield partial_results({"tally": encode_json(total.to_dict())})


def _prints(tables: Tables, columns: list[cols.Column], config: Config, layout: Layout | None) -> Iterator[pa.Table]:
    """The fingerprints of pictures, in numbers that Spark has, table by table."""
    for raw in tables:
        placed = layout and layout.placed(raw, tables.part, columns, config)
        rows, places = placed or (rows_module.checked(raw, columns, config), None)
        found = pictures.prints(rows, places, columns, config.data)
        yield pa.table([_signed(column) for column in found.columns], list(found.schema.names))


def _signed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers of 64 bits without a sign as those with one, bit by bit: Spark has no others."""
    return (
        pa.chunked_array([chunk.view(pa.int64()) for chunk in column.chunks]) if column.type == pa.uint64() else column
    )


def _recur(tables: Tables, columns: list[cols.Column], config: Config, frequent: set[int]) -> Iterator[pa.Table]:
    """How often frequent rows occur in each part of the source."""
    parts: dict[str, Counter[int]] = {}
    for raw in tables:
        rows = rows_module.checked(raw, columns, config)
        found = splits.recurring(rows.deciding[rows.good], frequent)
        parts[tables.part] = parts.get(tables.part, Counter()) + found
    plain = {part: {str(value): count for value, count in found.items()} for part, found in parts.items()}
    yield partial_results({"recurring": encode_json(plain)})


def _summarise(tables: Tables, columns: list[cols.Column], config: Config, layout: Layout) -> Iterator[pa.Table]:
    """The summary of each split, the reasons of quarantined rows, and what pictures are like."""
    parts = {name: statistics.Gathered() for name in splits.SPLIT_INDEX}
    quarantine, seen = Quarantine(), Pictured()
    for raw in tables:
        rows, places = layout.placed(raw, tables.part, columns, config)
        below = {name: part.below for name, part in parts.items()}
        found = stages.summarised(raw, rows, places, columns, config, layout.groups, below)
        for name, summary in found.splits.items():
            parts[name].add(summary)
        quarantine, seen = quarantine + found.quarantine, seen + found.pictured
    yield _partial({name: part.summary() for name, part in parts.items() if part.samples}, quarantine, seen)


def _merge(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Partial results of `_summarise` → one of them all."""
    found: dict[str, list[bytes]] = {}
    for batch in batches:
        for row in batch.to_pylist():
            found.setdefault(row["key"], []).append(row["data"])
    yield _partial(*_merged(found))


def _partial(
    parts: dict[str, statistics.Summary],
    quarantine: Quarantine,
    seen: Pictured,
) -> pa.Table:
    plain = {"quarantine": encode_json(vars(quarantine)), "pictured": encode_json(seen.to_dict())}
    return partial_results({**{name: part.serialise() for name, part in parts.items()}, **plain})


def _place(
    tables: Tables,
    columns: list[cols.Column],
    config: Config,
    layout: Layout,
    preprocessor: Preprocessor,
    schema: pa.Schema,
) -> Iterator[pa.Table]:
    """Every row's place and reason; encoded if it is used; raw if it is of the test split or quarantined."""
    for raw in tables:
        rows, places = layout.placed(raw, tables.part, columns, config)
        for found in stages.outcomes(raw, rows.typed, rows.reasons, places, preprocessor):
            size = len(found.reasons)
            arrays = [
                pa.array(np.full(size, found.place, np.int32)),
                found.reasons,
                _struct(found.encoded, schema.field("encoded").type, size),
                _struct(found.raw, schema.field("raw").type, size),
            ]
            yield pa.table(arrays, schema)


def _struct(table: pa.Table | None, type_: pa.StructType, rows: int) -> pa.Array:
    """Columns → one column of structs; nulls if there are none."""
    if table is None:
        return pa.nulls(rows, type_)
    return pa.StructArray.from_arrays([c.combine_chunks() for c in table.columns], fields=list(type_))


# What the driver does


def _counted(rows: SparkRows, config: Config) -> tuple[int, dict[str, CellCounts], list[dict[str, str]]]:
    """(rows, counts of text, broken lines) of the whole source."""
    answers = [json.loads(data) for data in rows.collect(_count, config.data).get("count", [])]
    counts = cell_counts.merge(
        [{name: CellCounts.of(kept) for name, kept in answer["counts"].items()} for answer in answers]
    )
    return sum(answer["rows"] for answer in answers), counts, [line for a in answers for line in a["broken"]]


def _layout(rows: SparkRows, columns: list[cols.Column], config: Config) -> Layout:
    """By which rows are placed, after a look at all of them."""
    if config.data.time:
        found = rows.over(_moments, MOMENTS, columns, config).groupBy("moment").sum("rows").toArrow()
        times = (found.column(0).to_numpy(), found.column(1).to_numpy())
        return Layout(rows_module.plan_of(config, splits.Tally(), Counter(), times))
    if config.data.split_column:
        return Layout(rows_module.plan_of(config, splits.Tally(), Counter(), None))
    groups = Groups()
    if pictures.keeps_duplicates_together(config.data):
        groups = _groups(rows, columns, config, None)
    answers = rows.collect(_tally, columns, config, groups).get("tally", [])
    tally = sum((splits.Tally.of(json.loads(data)) for data in answers), splits.Tally(bool(config.data.group)))
    parts: dict[str, Counter[int]] = {}
    recurring = rows.collect(_recur, columns, config, tally.frequent, tasks=0) if tally.frequent else {}
    for data in recurring.get("recurring", []):
        parts |= {part: Counter({int(h): n for h, n in found.items()}) for part, found in json.loads(data).items()}
    plan = rows_module.plan_of(config, tally, sum(parts.values(), Counter()), None).keeping(groups.unit, groups.mixed)
    return Layout(plan, stages.offsets(plan, parts), groups)


def _groups(rows: SparkRows, columns: list[cols.Column], config: Config, layout: Layout | None) -> Groups:
    """The groups of pictures that are the same or nearly, of the fingerprints of all."""
    found = rows.over(_prints, PRINTS, columns, config, layout).toArrow()
    back = [c.cast(f.type) if f.type != pa.uint64() else pa.chunked_array([k.view(f.type) for k in c.chunks], f.type)
            for c, f in zip(found.columns, duplicates.PRINTS, strict=True)]  # fmt: skip
    return duplicates.groups(pa.table(back, duplicates.PRINTS))


def _summarised(
    rows: SparkRows, columns: list[cols.Column], config: Config, layout: Layout
) -> tuple[dict[str, statistics.Summary], Quarantine, Pictured]:
    """(summary of each split that has rows, the quarantine, what pictures are like)."""
    tasks = parallelism(rows.spark)
    own_tasks = 0 if layout.plan.spread else tasks  # a part is a task's own then
    frame = rows.over(_summarise, PARTIAL, columns, config, layout, tasks=own_tasks)
    if tasks > MERGED:
        frame = mapped(frame.repartition(MERGED), _merge, PARTIAL)
    found: dict[str, list[bytes]] = {}
    for row in frame.collect():
        found.setdefault(row["key"], []).append(bytes(row["data"]))
    return _merged(found)


def _merged(
    partials: dict[str, list[bytes]],
) -> tuple[dict[str, statistics.Summary], Quarantine, Pictured]:
    parts = {
        name: statistics.merge([statistics.Summary.deserialise(data) for data in partials[name]])
        for name in names.SPLITS
        if name in partials
    }
    quarantine = Quarantine()
    for data in partials.get("quarantine", []):
        kept = json.loads(data)
        quarantine += Quarantine(**{**kept, "reasons": Counter(kept["reasons"])})
    seen = sum((Pictured.of(json.loads(data)) for data in partials.get("pictured", [])), Pictured())
    return parts, quarantine, seen


def _placed(
    rows: SparkRows,
    columns: list[cols.Column],
    config: Config,
    layout: Layout,
    preprocessor: Preprocessor,
) -> Any:
    """The DataFrame of `_place`: place, reason, encoded, raw."""
    encoded = [(name, dataset.ARROW_TYPE[kind]) for name, kind in dataset.column_kinds(preprocessor).items()]
    fields = [("place", pa.int32()), ("reason", pa.string()), ("encoded", pa.struct(encoded)),
              ("raw", pa.struct(list(rows.schema)))]  # fmt: skip
    schema = pa.schema(fields)
    return rows.over(_place, spark_schema(schema), columns, config, layout, preprocessor, schema)


def _counts(placed: Any) -> tuple[Counter[str], dict[str, int]]:
    """Placed rows → quarantine reasons, and the rows of each split."""
    found = placed.groupBy("place", "reason").count().collect()
    counts = {s: sum(r["count"] for r in found if r["place"] == i) for s, i in splits.SPLIT_INDEX.items()}
    return Counter({r["reason"]: r["count"] for r in found if r["reason"] is not None}), counts


def _picture_bytes(placed: Any, preprocessor: Preprocessor) -> dict[str, int]:
    """Placed rows → the bytes of each split's pictures; nothing where there are none."""
    from pyspark.sql.functions import octet_length
    from pyspark.sql.functions import sum as total

    sizes = {}
    for name in preprocessor.names("image"):
        found = placed.groupBy("place").agg(total(octet_length(placed[f"encoded.{name}"])).alias("bytes")).collect()
        sizes = {split: row["bytes"] or 0 for split, index in splits.SPLIT_INDEX.items()
                 for row in found if row["place"] == index}  # fmt: skip
    return sizes


def _write(
    placed: Any,
    counts: dict[str, int],
    sizes: dict[str, int],
    config: Config,
    preprocessor: Preprocessor,
    folder: Path,
) -> None:
    """Write splits, raw test rows and quarantine."""
    for name, index in splits.SPLIT_INDEX.items():
        part = placed.filter(placed["place"] == index).select("encoded.*")
        groups = dataset.row_group_count(
            counts[name], name, config.distributed_train.workers, config.data.row_group_size, sizes.get(name, 0)
        )
        _write_split(part, counts[name], groups, folder / name, dataset.column_kinds(preprocessor))
    raw = placed.filter(placed["place"] == splits.SPLIT_INDEX["test"]).select("raw.*")
    _write_parquet(raw, folder / names.RAW_FOLDER)
    bad = placed.filter(placed["place"] == splits.UNPLACED).select("raw.*", "reason")
    _write_parquet(bad.coalesce(1), folder / names.QUARANTINE_FOLDER)


def _write_split(part: Any, rows: int, groups: int, folder: Path, kinds: dict[str, str]) -> None:
    """Encoded rows → files of even row groups, a Petastorm dataset."""
    from pyspark.sql.functions import xxhash64

    dealers = partitions(part)
    if rows <= groups * dealers:  # each dealer deals its rows out evenly; only one leaves no file empty then
        part = part.coalesce(1).mapInArrow(lambda batches: batches, part.schema)  # keeps Spark from undoing it
        dealers = 1
    files = max(1, min(groups, MAX_FILES))
    limit = math.ceil(rows / max(groups, 1)) + dealers
    even = part.repartition(files)
    ordered = even.sortWithinPartitions(xxhash64(*even.columns))  # else the order is that of arrival
    with petastorm.materialize(None if is_connect(part) else part.sparkSession, folder, kinds):
        _write_parquet(ordered, folder, {"parquet.block.row.count.limit": str(limit), **SAME_FILES})


def _write_parquet(frame: Any, folder: Path, options: dict[str, str] | None = None) -> None:
    """Write part-00000.parquet, … and nothing else."""
    frame.write.options(compression="zstd", **(options or {})).parquet(writable_at(frame, folder))
    for path in sorted(folder.iterdir()):
        if path.name.startswith(("_", ".")):
            path.unlink()
    for number, path in enumerate(sorted(folder.glob("*.parquet"))):
        path.rename(folder / f"part-{number:05d}.parquet")
