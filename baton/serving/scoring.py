"""A model and a source in, scored Parquet with lineage and a quarantine out, on this machine.

`serving.spark` writes the same rows from the same `score_rows`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from baton import names
from baton.data.columns import Column, type_faults
from baton.data.ingestion import quarantine as quarantines
from baton.data.ingestion.rows import reserved_faults
from baton.data.sources.files import Source
from baton.errors import BatonError, refuse
from baton.serving import printed_types
from baton.serving.raw_columns import RawColumnModel

PART = "part-00000.parquet"


@dataclass(frozen=True)
class Lineage:
    """Where a prediction comes from: one constant column each."""

    model_name: str
    model_version: str
    run_id: str
    data_fingerprint: str
    scoring_run_id: str
    scored_at: datetime = field(default_factory=lambda: datetime.now(UTC).replace(tzinfo=None))


@dataclass
class Scored:
    """How many rows came in and what became of them."""

    rows_in: int = 0
    rows_scored: int = 0
    rows_quarantined: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    unseen: Counter[str] = field(default_factory=Counter)  # cells a column whose category the model does not know

    def __post_init__(self) -> None:
        self.reasons, self.unseen = Counter(self.reasons), Counter(self.unseen)  # JSON has made plain dicts of them

    def __add__(self, other: Scored) -> Scored:
        return Scored(
            self.rows_in + other.rows_in,
            self.rows_scored + other.rows_scored,
            self.rows_quarantined + other.rows_quarantined,
            self.reasons + other.reasons,
            self.unseen + other.unseen,
        )

    def check(self) -> None:
        """Raise `BatonError` if a row got lost."""
        if self.rows_in != self.rows_scored + self.rows_quarantined:
            raise BatonError(f"Rows in are not rows scored plus rows quarantined: {self}")


def score_rows(model: RawColumnModel, raw: pa.Table, lineage: Lineage) -> tuple[pa.Table, pa.Table]:
    """Raw rows → (their columns, predictions and lineage; the quarantined rows with `reason`)."""
    return _score_rows(model, raw, lineage, {})[:2]


def _score_rows(
    model: RawColumnModel, raw: pa.Table, lineage: Lineage, types: dict[str, pa.DataType]
) -> tuple[pa.Table, pa.Table, Counter[str]]:
    columns, reasons, unseen = model.score_and_count(raw)
    good = reasons.is_null()
    scored = printed_types.with_types(raw, types).filter(good)
    for name, values in columns.items():
        scored = scored.append_column(name, values.filter(good))
    for name in names.LINEAGE:
        scored = scored.append_column(name, _constant(getattr(lineage, name), scored.num_rows))
    quarantined = raw.append_column(names.REASON, reasons).filter(pc.invert(good))
    return scored, quarantined, unseen


def score(model: RawColumnModel, source: Source, lineage: Lineage, folder: Path, batch_rows: int) -> Scored:
    """Score a source a batch at a time into `folder`; memory does not grow with the rows.

    A source without rows gives an empty table of the right columns.
    """
    quarantine = folder / names.QUARANTINE_OUTPUT
    quarantine.mkdir()
    schema = source.schema()
    check_columns(schema, model.preprocessor.features, model.interval)
    tables = itertools.chain(source.tables(schema, batch_rows), [schema.empty_table()])
    types = _csv_types(source, schema, model.preprocessor.features)
    done = score_tables(model, tables, lineage, types, folder / PART, quarantine / PART)
    done += broken_lines(source.broken, quarantine)
    done.check()
    return done


def check_columns(schema: pa.Schema, features: list[Column], interval: float | None) -> None:
    """Raise one `BadInput` that names all that keeps a source of these columns from being scored."""
    refuse([*reserved_faults(schema.names, interval), *type_faults(schema, features)])


def score_tables(
    model: RawColumnModel,
    tables: Iterable[pa.Table],
    lineage: Lineage,
    types: dict[str, pa.DataType],
    good: Path,
    bad: Path,
) -> Scored:
    """Score raw tables into two files: predictions into `good`, quarantined rows into `bad`.

    In the predictions the columns of text that `types` names are of these types, all others as they came.
    """
    done = Scored()
    with Writer(good) as predictions, Writer(bad) as quarantine:
        for raw in tables:
            if raw.num_rows == 0 and predictions.writer is not None:
                continue
            scored, quarantined, unseen = _score_rows(model, raw, lineage, types)
            predictions.write(scored)
            quarantine.write(quarantined)
            reasons = Counter(quarantined.column(names.REASON).to_pylist())
            done += Scored(raw.num_rows, scored.num_rows, quarantined.num_rows, reasons, unseen)
    return done


def broken_lines(broken: list[dict[str, str]], quarantine: Path) -> Scored:
    """Write the lines that were no rows, if there are any, and count them as quarantined."""
    quarantines.write_lines(broken, quarantine)
    return Scored(len(broken), 0, len(broken), quarantines.of_lines(broken).reasons)


class Writer:
    """A Parquet file that opens at its first table, of no rows too, so that its columns are there.

    A thread writes one table while the next is scored, and holds no more than that one.
    """

    def __init__(self, path: Path):
        self.path = path
        self.writer: pq.ParquetWriter | None = None
        self.thread = ThreadPoolExecutor(1)
        self.writing: Future[None] | None = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            self._wait()
        finally:
            self.thread.shutdown()
            if self.writer is not None:
                self.writer.close()

    def write(self, table: pa.Table) -> None:
        """Hand over a table; raises what went wrong with the one before."""
        if self.writer is None:
            coded = [field.name for field in table.schema if not _is_output(field)]
            self.writer = pq.ParquetWriter(self.path, table.schema, compression="zstd", use_dictionary=coded)
        self._wait()
        self.writing = self.thread.submit(self.writer.write_table, table.cast(self.writer.schema))

    def _wait(self) -> None:
        if self.writing is not None:
            self.writing.result()


def _is_output(field: pa.Field) -> bool:
    """Whether a column holds a network's own numbers: hardly two are alike, so a dictionary would only cost time."""
    return field.name.startswith((names.PREDICTION, names.PROBABILITY)) and pa.types.is_floating(field.type)


def _csv_types(source: Source, schema: pa.Schema, features: list[Column]) -> dict[str, pa.DataType]:
    """The columns of a CSV source that are of a type in the predictions; of all others none, not even text's."""
    if source.format != "csv":
        return {}
    types = printed_types.of_source(source, printed_types.candidates(schema, features))
    return printed_types.chosen(types, features)


def _constant(value: Any, rows: int) -> pa.Array:
    kind = pa.timestamp("us", "UTC") if isinstance(value, datetime) else pa.string()
    return pa.repeat(pa.scalar(value, kind), rows)
