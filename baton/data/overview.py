"""Recognised columns and what their rows are like in, the table of columns and what a person must know of them out.

Plain values: ingest logs them as columns.json, prints them, and main's last lines repeat the warnings.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from baton.config.schema import Data
from baton.data import identifiers, statistics
from baton.data.cell_counts import CellCounts
from baton.data.columns import Column, feature_columns
from baton.data.explained import MIN_ROWS, as_columns, explained_share
from baton.data.preprocessing import Preprocessor
from baton.data.recognition import Recognised, is_pandas_index
from baton.data.sources.csv_text import looks_like_data
from baton.data.statistics import ColumnStatistics, Summary
from baton.errors import listed, quoted
from baton.formatting import date_text, exact_text

UNUSED = "not used"
MANY_UNKNOWN = 0.5  # the share of a category's new cells that the model will not know, from which it is warned of
NEARLY_UNIQUE = 0.95
TELLING = 0.98  # the share of the target's variation that one column alone explains, from which it is suspected
TELLING_ROWS = 5000
UNNAMED = "Unnamed: "  # how pandas calls the column of an index that was written into a CSV file


@dataclass(frozen=True)
class ColumnOverview:
    """A line of the table: `missing` and `unknown` are shares of rows and of cells; None where there is none."""

    name: str
    kind: str
    why: str
    missing: float | None = None
    unknown: float | None = None
    example: str = ""


def of_sample(recognised: list[Recognised], counted: dict[str, CellCounts], names: list[str]) -> dict[str, Any]:
    """Columns as they were recognised from a sample of cells → their table; nothing is known of splits yet."""
    lines = [
        ColumnOverview(r.column.name, r.column.kind, r.why, _missing(counted.get(r.column.name)), None,
                       _longest(counted.get(r.column.name)))
        for r in recognised
    ]  # fmt: skip
    return _table(lines, recognised, names, [])


def of_rows(
    recognised: list[Recognised],
    counted: dict[str, CellCounts],
    parts: dict[str, Summary],
    preprocessor: Preprocessor,
    data: Data,
    names: list[str],
) -> dict[str, Any]:
    """Columns, the summaries of the splits, and the source's column names → columns.json."""
    whole = statistics.merge(list(parts.values()))
    new = statistics.merge([part for name, part in parts.items() if name != "train"])
    unknown = {name: _unknown_share(new.columns[name], preprocessor, name) for name in whole.columns}
    lines = [_line(r, counted.get(r.column.name), whole, unknown[r.column.name]) for r in recognised]
    features = feature_columns([r.column for r in recognised], data)
    doubtful = {r.column.name for r in recognised if r.warnings}  # of these enough is said already
    looked_at = [column for column in features if column.name not in doubtful]
    warnings = [w for column in looked_at for w in _suspicions(column, whole, unknown[column.name])]
    learnt = {e.source for e in preprocessor.encoded if e.encoding == "identifier"}  # said of all of them
    warnings += [w for c in features if c.name in learnt for w in identifiers.words(c, parts["train"], data)]
    return _table(lines, recognised, names, warnings + _leaks(parts["train"], features, data))


def _table(
    lines: list[ColumnOverview], recognised: list[Recognised], names: list[str], suspicions: list[str]
) -> dict[str, Any]:
    """Lines in the source's order, those of columns that are not used too; what was assumed, then what is doubtful."""
    held = {line.name: line for line in lines}
    unused = {name: "pandas' index" if is_pandas_index(name) else "data.drop" for name in names if name not in held}
    held |= {name: ColumnOverview(name, UNUSED, why) for name, why in unused.items()}
    order = [*names, *(name for name in held if name not in names)]
    doubts = [warning for r in recognised for warning in r.warnings]
    if looks_like_data(names):
        doubts.insert(0, f"The header looks like a row ({listed(names, 5)}): the line of names may be missing.")
    return {
        "columns": [asdict(held[name]) for name in order],
        "warnings": [*_readings(recognised), *doubts, *suspicions],
    }


def _readings(recognised: list[Recognised]) -> list[str]:
    """What was assumed of text, columns of the same reading together."""
    columns: dict[str, list[str]] = {}
    for r in recognised:
        if r.reading:
            columns.setdefault(r.reading, []).append(r.column.name)
    return [f"{listed(names)}: {reading}." for reading, names in columns.items()]


def _line(r: Recognised, counted: CellCounts | None, whole: Summary, unknown: float | None) -> ColumnOverview:
    stats = whole.columns[r.column.name]
    example = _longest(counted) or _extreme(r.column, stats)
    return ColumnOverview(
        r.column.name, r.column.kind, r.why, stats.missing / stats.rows if stats.rows else 0.0, unknown, example
    )


def _longest(counted: CellCounts | None) -> str:
    return quoted(counted.example) if counted and counted.example else ""


def _missing(counted: CellCounts | None) -> float | None:
    return 1 - counted.cells / counted.rows if counted and counted.rows else None


def _extreme(column: Column, stats: ColumnStatistics) -> str:
    """The largest value, as an example of typed cells."""
    if stats.high is None or column.kind in ("boolean", "image"):
        return ""
    return date_text(stats.high) if column.kind == "datetime" else exact_text(stats.high)


def _unknown_share(new: ColumnStatistics, preprocessor: Preprocessor, name: str) -> float | None:
    """The share of a category's cells, outside train, that are not in its vocabulary; None for other kinds."""
    feature = preprocessor.spec["features"].get(name, {})
    if "vocabulary" not in feature or not new.present:
        return None
    vocabulary = set(feature["vocabulary"])
    return sum(count for value, count in new.counts.items() if value not in vocabulary) / new.present


def _suspicions(column: Column, whole: Summary, unknown: float | None) -> list[str]:
    """What looks wrong with a feature, by itself: an index, an identifier, a category that nobody will know."""
    name, stats = column.name, whole.columns[column.name]
    drop = f"if it names a row, set data.id: [{name}] or data.drop: [{name}]"
    if name.startswith(UNNAMED):
        return [f"{name}: pandas calls an index so that was written into the file; {drop}."]
    if stats.present < MIN_ROWS:
        return []
    if stats.counts and len(stats.counts) >= NEARLY_UNIQUE * stats.present:
        return [f"{name}: {len(stats.counts):,} different texts in {stats.present:,} rows; {drop}."]
    if _counts_rows(column, whole):
        return [
            f"{name}: it counts the rows, from {exact_text(stats.low or 0)} to {exact_text(stats.high or 0)}; {drop}."
        ]
    if unknown is not None and unknown > MANY_UNKNOWN:
        return [
            f"{name}: {100 * unknown:.0f} % of the cells of new rows are unknown to the model, for its "
            f"{len(stats.counts):,} texts hardly recur."
        ]
    return []


def _counts_rows(column: Column, whole: Summary) -> bool:
    """Whether a column holds whole numbers one after the other, each once."""
    stats = whole.columns[column.name]
    if column.kind != "numeric" or stats.low is None or stats.high is None:
        return False
    if not stats.present <= stats.high - stats.low + 1 <= 1.25 * stats.present + 1:  # some rows are quarantined
        return False
    values = whole.values(column.name)
    return bool(len(values) and np.all(values == np.floor(values)) and len(np.unique(values)) == len(values))


def _leaks(train: Summary, features: list[Column], data: Data) -> list[str]:
    """A sentence for each feature that alone tells the target."""
    rows = train.sample.slice(0, TELLING_ROWS)
    if rows.num_rows < MIN_ROWS:
        return []
    targets = as_columns(rows.column(data.target))
    telling = {}
    for column in features:
        if column.name in rows.column_names:
            share = explained_share(rows.column(column.name).combine_chunks(), targets)
            if share >= TELLING:
                telling[column.name] = share
    return [
        f"{name}: alone it tells {100 * share:.1f} % of {data.target}'s variation; if it is not known when a row is "
        f"scored, set data.drop: [{name}]."
        for name, share in telling.items()
    ]
