"""A source as Spark's tasks see it: raw Arrow tables, file by file or of a table, and stages that run over them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import pyarrow as pa

from baton.config.schema import Config
from baton.data.sources import files as sources
from baton.errors import BadInput, BatonError
from baton.runtime import spark_connect
from baton.runtime.spark import Death, death, parallelism, session

PARTIAL = "key string, data binary"  # what stages that count hand to the driver
TABLE_ROWS, TABLE_BYTES = 1 << 18, 256 << 20  # of a table that Spark's small batches are gathered into

BATCH_BYTES = 64 << 20  # of what goes to and from the JVM at once, whose vectors of bytes end at 2 GiB

# A stage: raw tables and more arguments in, Arrow tables of its own schema out. Runs on executors.
Stage = Callable[..., Iterator[pa.Table]]


# Rows of a source


@dataclass
class SparkRows:
    """A source as Spark tasks see it: stages run `over` it. Files are read anew by each stage."""

    spark: Any
    schema: pa.Schema
    pieces: list[sources.Source]  # of files
    frame: Any = None  # of a table, its columns named by position
    in_tasks: set[int] = field(default_factory=set)  # into how many the pieces were divided, stage by stage

    @property
    def slots(self) -> int:
        """How many tasks run at once."""
        return parallelism(self.spark)

    def over(self, stage: Stage, schema: Any, *arguments: Any, tasks: int = 0) -> Any:
        """The DataFrame of a stage's output; at most `tasks` tasks (0: as many as there are pieces)."""
        of_schema, pieces = self.schema, self.pieces
        if self.frame is not None:
            frame = self.frame.coalesce(tasks) if tasks else self.frame
            return mapped(frame, lambda batches: stage(_of_frame(batches, of_schema), *arguments), schema)
        tasks = min(len(pieces), tasks or len(pieces))
        self.in_tasks.add(tasks)
        numbers = self.spark.range(0, len(pieces), 1, max(tasks, 1))

        def staged(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
            return stage(Tables.of_files(batches, pieces, of_schema), *arguments)

        return mapped(numbers, staged, schema)

    def each(self, count: int, work: Callable[[int], None]) -> None:
        """work(number) of each number below `count`, a task each."""

        def worked(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
            for batch in batches:
                for number in batch.column(0).to_pylist():
                    work(number)
            yield partial_results({})

        self.in_tasks.clear()  # these read no pieces of the source
        mapped(self.spark.range(0, count, 1, count), worked, PARTIAL).collect()

    def collect(self, stage: Stage, *arguments: Any, tasks: int | None = None) -> dict[str, list[bytes]]:
        """A counting stage's answers by key."""
        if tasks is None:
            tasks = self.slots
        found: dict[str, list[bytes]] = {}
        for row in self.over(stage, PARTIAL, *arguments, tasks=tasks).collect():
            found.setdefault(row["key"], []).append(bytes(row["data"]))
        return found


class Tables:
    """Raw tables as a task reads them; `broken` fills up with lines that are no rows.

    `part` is that of the source which the last table came from. `numbers` are those of a task's pieces, for those who
    read them themselves.
    """

    def __init__(self, tables: Iterator[pa.Table], part: str = "", numbers: Iterable[int] = ()):
        self.tables, self.broken, self.part, self.numbers = tables, list[dict[str, str]](), part, iter(numbers)

    def __iter__(self) -> Iterator[pa.Table]:
        return self.tables

    @staticmethod
    def of_files(batches: Iterable[pa.RecordBatch], pieces: list[sources.Source], schema: pa.Schema) -> Tables:
        numbers = (number for batch in batches for number in batch.column(0).to_pylist())
        tables = Tables(iter(()), numbers=numbers)

        def read() -> Iterator[pa.Table]:
            for number in tables.numbers:
                piece, tables.part = pieces[number], str(number)
                yield from piece.tables(schema, TABLE_ROWS)
                tables.broken += piece.broken

        tables.tables = read()
        return tables


@contextmanager
def opened(config: Config, source: sources.Source) -> Iterator[SparkRows]:
    """The source, ready for stages."""
    spark = session(config)
    if source.format == "table":
        frame = _table(spark, source.location.removeprefix(sources.TABLE_PREFIX))
        schema = _arrow_schema(frame.schema)
        kept = [number for number, name in enumerate(schema.names) if name not in source.reading.without]
        read = frame.toDF(*(f"c{i}" for i in range(len(schema)))).select(*(f"c{i}" for i in kept))
        with persisted(read) as held:
            rows = SparkRows(spark, pa.schema([schema.field(number) for number in kept]), [], held)
            with _parts_named(rows, source.location):
                yield rows
        return
    rows = SparkRows(spark, source.schema(), source.pieces(parallelism(spark)))
    with _parts_named(rows, source.location):
        yield rows


@contextmanager
def _parts_named(rows: SparkRows, location: str) -> Iterator[None]:
    """A job that fails because a task's process dies whenever it is tried: which part of the source that task reads."""
    try:
        yield
    except BatonError:
        raise
    except Exception as error:
        died = death(rows.spark, error)
        if died is None:
            raise
        attempts = "the one time" if died.times == 1 else f"each of the {died.times} times"
        raise BatonError(
            f"A worker of Spark's died {attempts} that it was at work on {_part(rows, died, location)}: "
            "it may need more memory than it has. Give the executors more (spark.config), or cut that part into "
            f"several files or smaller row groups. Received: {died.reason}"
        ) from error


def _part(rows: SparkRows, died: Death, location: str) -> str:
    """What a task reads: the pieces that Spark's `range` gives it."""
    count = len(rows.pieces)
    if died.tasks not in rows.in_tasks:  # a table's, or a task that reads what others have made of the source
        return f"{location}, task {died.task} (counted from 0)"
    mine = rows.pieces[died.task * count // died.tasks : (died.task + 1) * count // died.tasks]
    first, last = _called(mine[0]), _called(mine[-1])
    return first if first == last else f"{len(mine)} parts, from {first} to {last}"


def _called(piece: sources.Source) -> str:
    group = "" if piece.group is None else f", row group {piece.group} (counted from 0)"
    return f"{piece.files[0]}{group}"


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


def _of_frame(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Tables:
    from pyspark import TaskContext

    context = TaskContext.get()
    return Tables(_of_spark(batches, schema), str(context.partitionId() if context else 0))


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


def partial_results(answers: dict[str, bytes]) -> pa.Table:
    return pa.table({"key": pa.array(list(answers), pa.string()), "data": pa.array(answers.values(), pa.binary())})


def encode_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def mapped(frame: Any, function: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.Table]], schema: Any) -> Any:
    """`mapInArrow` for a function that gives tables."""

    def batches(incoming: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for table in function(incoming):
            for batch in table.to_batches():
                yield from bounded(batch)

    return frame.mapInArrow(batches, schema)


def bounded(batch: pa.RecordBatch, most: int = BATCH_BYTES) -> Iterator[pa.RecordBatch]:
    """A batch in halves of halves, until none is larger than so many bytes, or of one row."""
    if batch.nbytes <= most or batch.num_rows < 2:
        yield batch
        return
    half = batch.num_rows // 2
    yield from bounded(batch.slice(0, half), most)
    yield from bounded(batch.slice(half), most)


@contextmanager
def persisted(frame: Any) -> Iterator[Any]:
    """A DataFrame that is computed once, held in memory or on disk, and let go at the end."""
    from pyspark import StorageLevel

    level = StorageLevel.MEMORY_AND_DISK
    held = spark_connect.held(frame, level) if spark_connect.is_connect(frame) else frame.persist(level)
    try:
        yield held
    finally:
        held.unpersist()


def _arrow_schema(schema: Any) -> pa.Schema:
    from pyspark.sql.pandas.types import to_arrow_schema

    # Spark 4.0 puts timestamps into UTC by itself; later ones want the zone named.
    zone = {"timezone": "UTC"} if "timezone" in signature(to_arrow_schema).parameters else {}
    return to_arrow_schema(schema, **zone)
