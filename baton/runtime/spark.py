"""The Spark session, and the `spark` engine of ingest and batch_infer.

The only module that makes a session. Every stage maps whole Arrow tables by the pure functions that
the `local` engine calls, so both engines give the same rows; nothing is interpreted by Spark. Files
are read by executors with the same readers, a file or row group a task, so the folders of the source
and of the output must be seen by all of them under the same path.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from baton import names
from baton.config.schema import Config
from baton.data import columns as cols
from baton.data import dataset, petastorm, splits, statistics
from baton.data.ingestion import local
from baton.data.preprocessing import Preprocessor
from baton.data.sources import files as sources
from baton.errors import BadInput, BatonError
from baton.runtime import paths
from baton.serving import scoring
from baton.serving.raw_columns import RawColumnModel, demand_interval

PARTIAL = "key string, data binary"  # what stages that count hand to the driver
TABLE_ROWS, TABLE_BYTES = 1 << 18, 256 << 20  # of a table that Spark's small batches are gathered into
MERGED = 16  # the driver gets the partial results of at most so many tasks
LOCAL = re.compile(r"local(\[.*\])?")
MOST_FILES = 1024  # of a split; beyond, a file holds several row groups
# A footer lists a column's encodings in an order that varies from JVM to JVM: with these there is only one of them, so
# that the same rows make the same files, and the same fingerprint.
SAME_FILES = {"parquet.writer.version": "v2", "parquet.enable.dictionary": "false"}
# What goes wrong in a task comes back as an exception; the log need not tell it too.
QUIET = """
rootLogger.level = error
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
logger.executor.name = org.apache.spark.executor.Executor
logger.executor.level = off
logger.tasks.name = org.apache.spark.scheduler.TaskSetManager
logger.tasks.level = off
"""

# A stage: raw tables and more arguments in, Arrow tables of its own schema out. Runs on executors.
Stage = Callable[..., Iterator[pa.Table]]

_models: dict[tuple[str, float | None], RawColumnModel] = {}  # of this Python worker


def session(config: Config) -> Any:
    """The active Spark session, or a new one as the config says, with the settings that Baton relies on."""
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    active = SparkSession.getActiveSession()
    spark = active or _start(config)
    for key, value in {**_sql_settings(config), **config.spark.config}.items():
        if spark.conf.isModifiable(key):
            spark.conf.set(key, value)
    return spark


def build(config: Config, source: sources.Source, folder: Path) -> Counter[str]:
    """Read, check, split, fit, encode and write a dataset into `folder`; return quarantine reasons.

    The meaning is that of `building.build`: only the order of rows, and so of files, differs.
    """
    with _sentences(), _opened(config, source) as rows:
        local.check_reserved(rows.schema.names)
        total, text_counts, broken = _counted(rows, config)
        if total == 0:
            raise BadInput(f"{source.location} holds no rows that can be read.")
        columns = cols.infer(rows.schema, text_counts, config.data)
        limits = _time_limits(rows, columns, config) if config.data.time else None
        parts, reasons, sizes = _summarised(rows, columns, config, limits)
        local.check_splits({s: parts[s].rows if s in parts else 0 for s in names.SPLITS}, sum(reasons.values()))
        fitted = local.fit(config, columns, {s: parts[s] for s in names.SPLITS}, folder)
        if config.data.task == "image":
            fitted = local.with_image_size(fitted, sizes, config)
        with _persisted(_placed(rows, columns, config, limits, fitted)) as placed:
            counted, written = _write(placed, config, fitted, folder)
    local.write_broken(broken, folder / names.QUARANTINE_FOLDER)
    fitted.save(folder / names.PREPROCESSOR)
    counted += local.broken_reasons(broken)
    counts = {"input": total + len(broken), **written, "quarantined": sum(counted.values())}
    dataset.complete(folder, counts, fitted)
    return counted


def score(
    config: Config, model: Path, source: sources.Source, lineage: scoring.Lineage, folder: Path
) -> scoring.Scored:
    """Score a source by the model in a folder into `folder`, in one pass: each task writes files of its own,
    the driver keeps the files of the tasks that ended well."""
    (folder / names.QUARANTINE_OUTPUT).mkdir()
    settings = config.batch_infer
    batch, interval = (settings.batch_rows, settings.interval) if settings else (TABLE_ROWS, None)
    fitted = Preprocessor.load(model / names.PREPROCESSOR)
    demand_interval(fitted, interval)
    with _sentences(), _opened(config, source, plain=False) as rows:
        scoring.check_columns(rows.schema, fitted.features, interval)
        place = _shipped(rows.spark, model)
        parts = rows.collect(_score, place, lineage, str(folder.absolute()), batch, interval, tasks=0).get("scored", [])
        answers = [json.loads(part) for part in parts]
        if not any(a["file"] for a in answers):  # a source without rows gives an empty table
            answers.append(_scored(RawColumnModel.load(model, interval), [rows.schema.empty_table()], lineage, folder))
    done = sum((scoring.Scored(**a["scored"]) for a in answers), scoring.Scored())
    done += scoring.broken_lines([line for a in answers for line in a["broken"]], folder / names.QUARANTINE_OUTPUT)
    _keep(folder, {a["file"]: a["scored"]["rows_scored"] for a in answers if a["file"]})
    _keep(folder / names.QUARANTINE_OUTPUT, {a["file"]: a["scored"]["rows_quarantined"] for a in answers if a["file"]})
    done.check()
    return done


# The session


def _start(config: Config) -> Any:
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName(f"baton {config.name}")
    with tempfile.NamedTemporaryFile("w", suffix=".properties") as log_settings:
        log_settings.write(QUIET)
        log_settings.flush()
        quiet = {"spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={log_settings.name}"}
        for key, value in {**quiet, **_settings(config), **_sql_settings(config), **config.spark.config}.items():
            builder = builder.config(key, value)
        try:
            spark = builder.getOrCreate()
        except PySparkRuntimeError as error:
            raise BatonError(f"Spark needs Java 17: install it, or set JAVA_HOME. Received: {error}") from None
    if not _is_local(spark):
        _ship_code(spark)
    return spark


def _settings(config: Config) -> dict[str, str]:
    """What is fixed when Spark starts."""
    cores = len(os.sched_getaffinity(0))
    slots = max(cores, config.distributed_train.workers, config.tune.parallelism, 2)
    master = config.spark.master or f"local[{slots}]"
    settings = {
        "spark.master": master,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.executorEnv.OMP_NUM_THREADS": "1",  # a task has one core
        "spark.executorEnv.TF_NUM_INTRAOP_THREADS": "1",
        "spark.executorEnv.TF_NUM_INTEROP_THREADS": "1",
        "spark.executorEnv.TF_CPP_MIN_LOG_LEVEL": "2",
        "spark.executorEnv.PYTHONWARNINGS": "ignore::FutureWarning",  # Petastorm's, of pyarrow's legacy API
    }
    if not LOCAL.fullmatch(master):
        return settings
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return settings | {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": f"{max(1024, memory // 4)}m",
        "spark.executorEnv.PYTHONPATH": str(paths.ROOT),
        "spark.sql.shuffle.partitions": str(slots),
    }


def _sql_settings(config: Config) -> dict[str, str]:
    """What makes Spark keep names, moments and numbers as Arrow does."""
    return {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.caseSensitive": "true",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "1024" if config.data.task == "image" else "65536",
    }


def _is_local(spark: Any) -> bool:
    return LOCAL.fullmatch(spark.sparkContext.master) is not None


def _ship_code(spark: Any) -> None:
    """Send the `baton` package to all executors."""
    home = Path(tempfile.mkdtemp(prefix="baton-code-"))
    package = paths.PACKAGE
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, home / "code" / package.name, ignore=skip)
    spark.sparkContext.addPyFile(shutil.make_archive(str(home / "baton"), "zip", home / "code"))


@contextmanager
def _sentences() -> Iterator[None]:
    """Baton's own errors inside a Spark task come out as what they are, not as a stack trace of Java's."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        kinds = {kind.__name__: kind for kind in (BadInput, BatonError)}
        found = re.search(rf"baton\.errors\.({'|'.join(kinds)}): (.*)", str(error))
        if found is None:
            raise
        raise kinds[found[1]](found[2]) from None


# Rows of a source


@dataclass
class Rows:
    """A source as Spark tasks see it: stages run `over` it. Files are read anew by each stage."""

    spark: Any
    schema: pa.Schema
    pieces: list[sources.Source]  # of files
    frame: Any = None  # of a table, its columns named by position

    def over(self, stage: Stage, schema: Any, *arguments: Any, tasks: int = 0) -> Any:
        """The DataFrame of a stage's output; at most `tasks` tasks (0: as many as there are pieces)."""
        of_schema, pieces = self.schema, self.pieces
        if self.frame is not None:
            frame = self.frame.coalesce(tasks) if tasks else self.frame
            return _mapped(frame, lambda batches: stage(_Tables(_of_spark(batches, of_schema)), *arguments), schema)
        tasks = min(len(pieces), tasks or len(pieces))
        numbers = self.spark.range(0, len(pieces), 1, max(tasks, 1))
        return _mapped(numbers, lambda batches: stage(_Tables.of_files(batches, pieces, of_schema), *arguments), schema)

    def collect(self, stage: Stage, *arguments: Any, tasks: int | None = None) -> dict[str, list[bytes]]:
        """A counting stage's answers by key."""
        if tasks is None:
            tasks = self.spark.sparkContext.defaultParallelism
        found: dict[str, list[bytes]] = {}
        for row in self.over(stage, PARTIAL, *arguments, tasks=tasks).collect():
            found.setdefault(row["key"], []).append(bytes(row["data"]))
        return found


class _Tables:
    """Raw tables as a task reads them; `broken` fills up with lines that are no rows."""

    def __init__(self, tables: Iterator[pa.Table]):
        self.tables, self.broken = tables, list[dict[str, str]]()

    def __iter__(self) -> Iterator[pa.Table]:
        return self.tables

    @staticmethod
    def of_files(batches: Iterable[pa.RecordBatch], pieces: list[sources.Source], schema: pa.Schema) -> _Tables:
        tables = _Tables(iter(()))

        def read() -> Iterator[pa.Table]:
            for batch in batches:
                for number in batch.column(0).to_pylist():
                    piece = pieces[number]
                    yield from (sources.conformed(table, schema) for table in piece.batches(TABLE_ROWS))
                    tables.broken += piece.broken

        tables.tables = read()
        return tables


@contextmanager
def _opened(config: Config, source: sources.Source, plain: bool = True) -> Iterator[Rows]:
    """The source, ready for stages; `plain`: in types that Spark has."""
    spark = session(config)
    if source.format == "table":
        frame = _table(spark, source.location.removeprefix(sources.TABLE_PREFIX))
        schema = _arrow_schema(frame.schema)
        with _persisted(frame.toDF(*(f"c{i}" for i in range(len(schema))))) as held:
            yield Rows(spark, schema, [], held)
        return
    schema = source.schema()
    if plain:
        schema = pa.schema([(field.name, plain_type(field.type)) for field in schema])
    yield Rows(spark, schema, source.pieces(spark.sparkContext.defaultParallelism))


def _table(spark: Any, name: str) -> Any:
    """The table or view; raises `BadInput` if there is none. What Arrow has no type for becomes text."""
    from pyspark.errors import AnalysisException

    try:
        frame = spark.table(name)
        types = frame.schema
    except AnalysisException as error:
        raise BadInput(f"There is no Spark table of that name. Received: {name} ({error.getCondition()})") from None
    odd = [field.name for field in types if not _has_arrow_type(field)]
    return frame.withColumns({column: frame[f"`{column}`"].cast("string") for column in odd}) if odd else frame


def _has_arrow_type(field: Any) -> bool:
    from pyspark.errors import PySparkException
    from pyspark.sql.types import StructType, VariantType

    try:
        _arrow_schema(StructType([field]))
        return not isinstance(field.dataType, VariantType)
    except PySparkException:
        return False


def plain_type(type_: pa.DataType) -> pa.DataType:
    """Any Arrow type → the nearest that Spark has; of those that Baton reads, none loses its meaning."""
    if pa.types.is_dictionary(type_):
        return plain_type(type_.value_type)
    if pa.types.is_uint8(type_) or pa.types.is_uint16(type_) or pa.types.is_unsigned_integer(type_):
        return pa.int64()
    if pa.types.is_timestamp(type_):
        return pa.timestamp("us", "UTC" if type_.tz else None)
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        return pa.list_(plain_type(type_.value_type))
    if pa.types.is_struct(type_):
        return pa.struct([(field.name, plain_type(field.type)) for field in type_])
    others = [
        (pa.types.is_float16, pa.float32()),
        (pa.types.is_decimal256, pa.float64()),
        (pa.types.is_date64, pa.date32()),
        (pa.types.is_large_binary, pa.binary()),
        (pa.types.is_fixed_size_binary, pa.binary()),
    ]
    for test, plain in others:
        if test(type_):
            return plain
    kept = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal128,
            pa.types.is_binary, pa.types.is_date32)  # fmt: skip
    return type_ if any(test(type_) for test in kept) else pa.string()


def _of_spark(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Spark's small batches → tables of about `TABLE_ROWS` rows, their columns named as in the source."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(b.num_rows for b in held) >= TABLE_ROWS or sum(b.nbytes for b in held) >= TABLE_BYTES:
            yield pa.Table.from_batches(held).rename_columns(schema.names)
            held = []
    if held:
        yield pa.Table.from_batches(held).rename_columns(schema.names)


# Stages, run on executors


def _count(tables: _Tables, missing: list[str]) -> Iterator[pa.Table]:
    """How many rows there are, what their text parses as, and the lines that are no rows."""
    rows, counts = 0, []
    for table in tables:
        rows += table.num_rows
        counts.append(cols.counts(table, missing))
    yield _partial({"count": _json({"rows": rows, "counts": cols.merge_counts(counts), "broken": tables.broken})})


def _moments(tables: _Tables, columns: list[cols.Column], config: Config) -> Iterator[pa.Table]:
    """The distinct moments of `data.time` and their rows, table by table."""
    for raw in tables:
        moments, rows = local.time_counts(raw, columns, config)
        yield pa.table({"moment": moments, "rows": rows})


def _summarise(
    tables: _Tables, columns: list[cols.Column], config: Config, limits: tuple[int, int] | None
) -> Iterator[pa.Table]:
    """The summary of each split, the reasons of quarantined rows, and the sizes of train's images."""
    parts: dict[str, statistics.Summary] = {}
    reasons, sizes = Counter[str](), Counter[tuple[int, int, int]]()
    for raw in tables:
        typed, place, why, hashes = local.assign(raw, columns, config, limits)
        reasons.update(why.drop_null().to_pylist())
        for name, index in splits.SPLIT_INDEX.items():
            mask = place == index
            if mask.any():
                found = statistics.summarise(typed.filter(pa.array(mask)), hashes[mask])
                parts[name] = parts[name].merge(found) if name in parts else found
        if config.data.task == "image" and config.data.image_size is None:
            image = next(column.name for column in columns if column.kind == "image")
            sizes += local.image_sizes(typed.filter(pa.array(place == 0)).column(image))
    plain = {"reasons": _json(dict(reasons)), "sizes": _json([[*size, n] for size, n in sizes.items()])}
    yield _partial({**{name: part.serialise() for name, part in parts.items()}, **plain})


def _merge(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Partial results of `_summarise` → one of them all."""
    found: dict[str, list[bytes]] = {}
    for batch in batches:
        for row in batch.to_pylist():
            found.setdefault(row["key"], []).append(row["data"])
    parts, reasons, sizes = _merged(found)
    plain = {"reasons": _json(dict(reasons)), "sizes": _json([[*size, n] for size, n in sizes.items()])}
    yield _partial({**{name: part.serialise() for name, part in parts.items()}, **plain})


def _place(
    tables: _Tables,
    columns: list[cols.Column],
    config: Config,
    limits: tuple[int, int] | None,
    fitted: Preprocessor,
    schema: pa.Schema,
) -> Iterator[pa.Table]:
    """Every row's place and reason; encoded if it is used; raw if it is of the test split or quarantined."""
    test = splits.SPLIT_INDEX["test"]
    for raw in tables:
        typed, place, reasons, _ = local.assign(raw, columns, config, limits)
        place, reasons = local.refuse_unseen_classes(typed, place, reasons, fitted)
        for mask in (place < test, place == test, place == local.QUARANTINED):
            if mask.any():
                here, first = pa.array(mask), int(place[mask][0])
                encoded = None if first == local.QUARANTINED else dataset.encoded_table(typed.filter(here), fitted)
                kept = None if first < test else raw.filter(here)
                rows = int(mask.sum())
                arrays = [
                    pa.array(place[mask], pa.int32()),
                    reasons.filter(here),
                    _struct(encoded, schema.field("encoded").type, rows),
                    _struct(kept, schema.field("raw").type, rows),
                ]
                yield pa.table(arrays, schema)


def _score(
    tables: _Tables, place: str, lineage: scoring.Lineage, folder: str, batch_rows: int, interval: float | None
) -> Iterator[pa.Table]:
    """Score into two files of this task's own; answer with their name and counts."""
    pieces = (table.slice(start, batch_rows) for table in tables for start in range(0, table.num_rows, batch_rows))
    answer = _scored(_model(place, interval), pieces, lineage, Path(folder))
    yield _partial({"scored": _json({**answer, "broken": tables.broken})})


def _scored(
    model: RawColumnModel, tables: Iterable[pa.Table], lineage: scoring.Lineage, folder: Path
) -> dict[str, Any]:
    """Score tables into two new files; their name (None if there was no table) and the counts."""
    name = f".{uuid.uuid4().hex}.parquet"
    good, bad = folder / name, folder / names.QUARANTINE_OUTPUT / name
    done = scoring.score_tables(model, tables, lineage, good, bad)
    return {"scored": vars(done), "broken": [], "file": name if good.is_file() else None}


def _model(place: str, interval: float | None) -> RawColumnModel:
    """The model at a path, or of a name that was sent to all executors; loaded once a Python worker."""
    if (place, interval) not in _models:
        from pyspark import SparkFiles

        found = place if Path(place).is_absolute() else SparkFiles.get(place)
        _models[place, interval] = RawColumnModel.load(found, interval)
    return _models[place, interval]


def _struct(table: pa.Table | None, type_: pa.StructType, rows: int) -> pa.Array:
    """Columns → one column of structs; nulls if there are none."""
    if table is None:
        return pa.nulls(rows, type_)
    return pa.StructArray.from_arrays([c.combine_chunks() for c in table.columns], fields=list(type_))


def _partial(answers: dict[str, bytes]) -> pa.Table:
    return pa.table({"key": pa.array(list(answers), pa.string()), "data": pa.array(answers.values(), pa.binary())})


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _mapped(frame: Any, function: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.Table]], schema: Any) -> Any:
    """`mapInArrow` for a function that gives tables."""

    def batches(incoming: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for table in function(incoming):
            yield from table.to_batches()

    return frame.mapInArrow(batches, schema)


# What the driver does


def _counted(rows: Rows, config: Config) -> tuple[int, dict[str, dict[str, int]], list[dict[str, str]]]:
    """(rows, counts of text, broken lines) of the whole source."""
    answers = [json.loads(data) for data in rows.collect(_count, config.data.missing).get("count", [])]
    counts = cols.merge_counts([answer["counts"] for answer in answers])
    return sum(answer["rows"] for answer in answers), counts, [line for a in answers for line in a["broken"]]


def _time_limits(rows: Rows, columns: list[cols.Column], config: Config) -> tuple[int, int]:
    found = rows.over(_moments, "moment long, rows long", columns, config).groupBy("moment").sum("rows").toArrow()
    return local.time_limits(found.column(0).to_numpy(), found.column(1).to_numpy(), config)


def _summarised(
    rows: Rows, columns: list[cols.Column], config: Config, limits: tuple[int, int] | None
) -> tuple[dict[str, statistics.Summary], Counter[str], Counter[tuple[int, int, int]]]:
    """(summary of each split that has rows, quarantine reasons, sizes of train's images)."""
    tasks = rows.spark.sparkContext.defaultParallelism
    frame = rows.over(_summarise, PARTIAL, columns, config, limits, tasks=tasks)
    if tasks > MERGED:
        frame = _mapped(frame.repartition(MERGED), _merge, PARTIAL)
    found: dict[str, list[bytes]] = {}
    for row in frame.collect():
        found.setdefault(row["key"], []).append(bytes(row["data"]))
    return _merged(found)


def _merged(
    found: dict[str, list[bytes]],
) -> tuple[dict[str, statistics.Summary], Counter[str], Counter[tuple[int, int, int]]]:
    parts = {
        name: statistics.merge([statistics.Summary.deserialise(data) for data in found[name]])
        for name in names.SPLITS
        if name in found
    }
    reasons, sizes = Counter[str](), Counter[tuple[int, int, int]]()
    for data in found.get("reasons", []):
        reasons.update(json.loads(data))
    for data in found.get("sizes", []):
        sizes.update({(height, width, channels): n for height, width, channels, n in json.loads(data)})
    return parts, reasons, sizes


def _placed(
    rows: Rows, columns: list[cols.Column], config: Config, limits: tuple[int, int] | None, fitted: Preprocessor
) -> Any:
    """The DataFrame of `_place`: place, reason, encoded, raw."""
    encoded = [(name, dataset.ARROW_TYPE[kind]) for name, kind in dataset.column_kinds(fitted).items()]
    fields = [("place", pa.int32()), ("reason", pa.string()), ("encoded", pa.struct(encoded)),
              ("raw", pa.struct(list(rows.schema)))]  # fmt: skip
    schema = pa.schema(fields)
    return rows.over(_place, _spark_schema(schema), columns, config, limits, fitted, schema)


def _write(placed: Any, config: Config, fitted: Preprocessor, folder: Path) -> tuple[Counter[str], dict[str, int]]:
    """Write splits, raw test rows and quarantine; return quarantine reasons and the rows of each split."""
    found = placed.groupBy("place", "reason").count().collect()
    written = {s: sum(r["count"] for r in found if r["place"] == i) for s, i in splits.SPLIT_INDEX.items()}
    for name, index in splits.SPLIT_INDEX.items():
        part = placed.filter(placed["place"] == index).select("encoded.*")
        groups = dataset.row_group_count(
            written[name], name, config.distributed_train.workers, config.data.rows_per_group
        )
        _write_split(part, written[name], groups, folder / name, dataset.column_kinds(fitted))
    raw = placed.filter(placed["place"] == splits.SPLIT_INDEX["test"]).select("raw.*")
    _write_parquet(raw, folder / names.RAW_FOLDER)
    bad = placed.filter(placed["place"] == local.QUARANTINED).select("raw.*", "reason")
    _write_parquet(bad.coalesce(1), folder / names.QUARANTINE_FOLDER)
    return Counter({r["reason"]: r["count"] for r in found if r["reason"] is not None}), written


def _write_split(part: Any, rows: int, groups: int, folder: Path, kinds: dict[str, str]) -> None:
    """Encoded rows → files of even row groups, a Petastorm dataset."""
    from pyspark.sql.functions import xxhash64

    dealers = part.rdd.getNumPartitions()
    if rows <= groups * dealers:  # each dealer deals its rows out evenly; only one leaves no file empty then
        part = part.coalesce(1).mapInArrow(lambda batches: batches, part.schema)  # keeps Spark from undoing it
        dealers = 1
    files = max(1, min(groups, MOST_FILES))
    limit = math.ceil(rows / max(groups, 1)) + dealers
    even = part.repartition(files)
    ordered = even.sortWithinPartitions(xxhash64(*even.columns))  # else the order is that of arrival
    with petastorm.materialize(part.sparkSession, folder, kinds):
        _write_parquet(ordered, folder, {"parquet.block.row.count.limit": str(limit), **SAME_FILES})


def _write_parquet(frame: Any, folder: Path, options: dict[str, str] | None = None) -> None:
    """Write part-00000.parquet, … and nothing else."""
    frame.write.options(compression="zstd", **(options or {})).parquet(folder.absolute().as_uri())
    for path in sorted(folder.iterdir()):
        if path.name.startswith(("_", ".")):
            path.unlink()
    for number, path in enumerate(sorted(folder.glob("*.parquet"))):
        path.rename(folder / f"part-{number:05d}.parquet")


def _keep(folder: Path, rows: dict[str, int]) -> None:
    """Give the named files that have rows (one, if none has) their place; remove the rest."""
    kept = [name for name, count in rows.items() if count] or list(rows)[:1]
    for number, name in enumerate(kept):
        (folder / name).rename(folder / f"part-{number:05d}.parquet")
    for path in folder.glob(".*.parquet"):
        path.unlink()


@contextmanager
def _persisted(frame: Any) -> Iterator[Any]:
    """A DataFrame that is computed once, held in memory or on disk, and let go at the end."""
    from pyspark import StorageLevel

    held = frame.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        yield held
    finally:
        held.unpersist()


def _shipped(spark: Any, folder: Path) -> str:
    """The model's place for `_model`: its path, or on a cluster the name under which all executors have it."""
    if _is_local(spark):
        return str(folder.absolute())
    name = f"model-{uuid.uuid4().hex}"
    archive = shutil.make_archive(str(folder.parent / name), "zip", folder)
    spark.sparkContext.addArchive(f"{archive}#{name}")
    return name


def _arrow_schema(schema: Any) -> pa.Schema:
    from pyspark.sql.pandas.types import to_arrow_schema

    return to_arrow_schema(schema)


def _spark_schema(schema: pa.Schema) -> Any:
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema, prefer_timestamp_ntz=True)
