"""Typed rows in, a `Summary` of every column out; summaries of parts add up to that of the whole.

Sums are exact (integers, not floats) and quantiles come from the rows with the smallest hashes, so
a summary does not depend on how the rows were cut or ordered. That is why both engines fit the
very same preprocessing.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from baton import names
from baton.data.splits import row_hash
from baton.runtime.threads import mapped

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)  # the quantiles of a profile
SAMPLE_ROWS = 100_000
_UNIT = 1126  # sums are integers in units of 2**-_UNIT: the smallest float64, with room below
_HALF_BITS = 27  # bits of the lower half of a float64's mantissa


@dataclass
class ColumnStatistics:
    """What is known of one column; `total` and `squares` are exact, in units of 2**-1126 and its square."""

    rows: int = 0
    missing: int = 0
    total: int = 0
    squares: int = 0
    low: float | None = None
    high: float | None = None
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def present(self) -> int:
        return self.rows - self.missing

    @property
    def mean(self) -> float:
        """Exactly rounded mean of what is not missing; 0 if all is."""
        return float(Fraction(self.total, self.present << _UNIT)) if self.present else 0.0

    @property
    def std(self) -> float:
        """Population standard deviation; 0 for a constant or empty column."""
        if not self.present:
            return 0.0
        mean = Fraction(self.total, self.present << _UNIT)
        return _root(Fraction(self.squares, self.present << 2 * _UNIT) - mean * mean)

    def merge(self, other: ColumnStatistics) -> ColumnStatistics:
        return ColumnStatistics(
            self.rows + other.rows,
            self.missing + other.missing,
            self.total + other.total,
            self.squares + other.squares,
            min((v for v in (self.low, other.low) if v is not None), default=None),
            max((v for v in (self.high, other.high) if v is not None), default=None),
            self.counts + other.counts,
        )


@dataclass
class Summary:
    """Every column's `Column`, and a sample: the rows whose content hashes lowest, sorted by it."""

    columns: dict[str, ColumnStatistics]
    sample: pa.Table

    @property
    def rows(self) -> int:
        return next(iter(self.columns.values())).rows if self.columns else 0

    def values(self, name: str) -> np.ndarray:
        """The sample's numbers of a column that are not missing, sorted; timestamps in µs."""
        column = self.sample.column(name)
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        return np.sort(column.cast(pa.float64(), safe=False).drop_null().to_numpy())

    def merge(self, other: Summary) -> Summary:
        return merge([self, other])

    def serialise(self) -> bytes:
        """The summary as Arrow IPC bytes with JSON beside: nothing that runs when it is read."""
        import json

        plain = {
            name: {**vars(c), "total": str(c.total), "squares": str(c.squares), "counts": dict(c.counts)}
            for name, c in self.columns.items()
        }
        out = io.BytesIO()
        table = self.sample.replace_schema_metadata({"columns": json.dumps(plain)})
        with pa.ipc.new_stream(out, table.schema) as stream:
            stream.write_table(table)
        return out.getvalue()

    @staticmethod
    def deserialise(data: bytes) -> Summary:
        import json

        table = pa.ipc.open_stream(data).read_all()
        plain: dict[str, dict[str, Any]] = json.loads(table.schema.metadata[b"columns"])
        columns = {
            name: ColumnStatistics(
                **{
                    **c,
                    "total": int(c["total"]),
                    "squares": int(c["squares"]),
                    "counts": Counter(c["counts"]),
                }
            )
            for name, c in plain.items()
        }
        return Summary(columns, table.replace_schema_metadata(None))


class Gathered:
    """A summary that those of parts are added to, one by one, without a copy of what is known already."""

    def __init__(self) -> None:
        self.columns: dict[str, ColumnStatistics] = {}
        self.samples: list[pa.Table] = []
        self.below: int | None = None  # no row of a higher hash comes into the sample any more

    def add(self, part: Summary) -> None:
        for name, column in part.columns.items():
            held = self.columns.setdefault(name, ColumnStatistics())
            counts, held.counts = held.counts, Counter()
            counts.update(column.counts)
            self.columns[name] = replace(held.merge(replace(column, counts=Counter())), counts=counts)
        self.samples.append(part.sample)
        if sum(sample.num_rows for sample in self.samples) > 2 * SAMPLE_ROWS:
            self._cut()

    def summary(self) -> Summary:
        """What was added, as one; the parts' order and sizes do not matter."""
        self._cut()
        return Summary(self.columns, self.samples[0])

    def _cut(self) -> None:
        sample = _lowest(pa.concat_tables(self.samples))
        self.samples = [sample]
        if sample.num_rows == SAMPLE_ROWS:
            self.below = sample.column(names.ROW_HASH)[-1].as_py()


def summarise(table: pa.Table, hashes: np.ndarray | None = None) -> Summary:
    """Typed table → its `Summary`; `hashes` are its rows', if known. Image bytes are counted, not sampled."""
    whole = summarise_part(table, row_hash(table) if hashes is None else hashes, None)
    return Summary(whole.columns, _lowest(whole.sample))


def summarise_part(table: pa.Table, hashes: np.ndarray, below: int | None) -> Summary:
    """The same of a part, for `Gathered`: its sample is in no order, nor cut.

    Rows of a hash above `below` are left out of the sample: the whole's holds none of them.
    """
    columns = dict(zip(table.column_names, mapped(_column, table.columns), strict=True))
    light = [name for name in table.column_names if not pa.types.is_binary(table.column(name).type)]
    sample = table.select(light).append_column(names.ROW_HASH, pa.array(hashes))
    return Summary(columns, sample if below is None else sample.filter(pa.array(hashes <= np.uint64(below))))


def merge(parts: list[Summary]) -> Summary:
    """Add up the summaries of parts."""
    columns = parts[0].columns
    for part in parts[1:]:
        columns = {name: column.merge(part.columns[name]) for name, column in columns.items()}
    return Summary(columns, _lowest(pa.concat_tables([part.sample for part in parts])))


def _lowest(sample: pa.Table) -> pa.Table:
    order = np.argsort(sample.column(names.ROW_HASH).to_numpy())[:SAMPLE_ROWS]
    return sample.take(pa.array(order)).combine_chunks()


def _column(values: pa.ChunkedArray) -> ColumnStatistics:
    result = ColumnStatistics(rows=len(values), missing=values.null_count)
    if pa.types.is_string(values.type):
        pairs = values.drop_null().value_counts()
        keys, numbers = pairs.field("values").to_pylist(), pairs.field("counts").to_pylist()
        result.counts = Counter(dict(zip(keys, numbers, strict=True)))
    elif not pa.types.is_binary(values.type):
        if pa.types.is_timestamp(values.type):
            values = values.cast(pa.int64())
        numbers = values.cast(pa.float64(), safe=False).drop_null().to_numpy()
        if len(numbers):
            result.low, result.high = float(numbers.min()), float(numbers.max())
            result.total, result.squares = _exact_sums(numbers)
    return result


def _exact_sums(numbers: np.ndarray) -> tuple[int, int]:
    """Finite float64 → their exact sum in units of 2**-1126, and that of their squares in its square.

    Infinities are not counted. Squares of floats would not do: with a large mean, or numbers beyond
    1e154, their rounding is larger than the variance.
    """
    mantissa, exponent = np.frexp(numbers[np.isfinite(numbers)])
    whole = (mantissa * 2.0**53).astype(np.int64)
    total = squares = 0
    for e in np.unique(exponent):
        part = whole[exponent == e]
        high, low = part >> _HALF_BITS, part & ((1 << _HALF_BITS) - 1)  # so that their products fit an int64
        shift = int(e) - 53 + _UNIT
        total += ((_sum(high) << _HALF_BITS) + _sum(low)) << shift
        square = (_sum(high * high) << 2 * _HALF_BITS) + (_sum(high * low) << _HALF_BITS + 1) + _sum(low * low)
        squares += square << 2 * shift
    return total, squares


def _sum(integers: np.ndarray) -> int:
    """Integers below 2**54 → their exact sum; 2**36 of their halves fit an int64."""
    return (int((integers >> _HALF_BITS).sum()) << _HALF_BITS) + int((integers & ((1 << _HALF_BITS) - 1)).sum())


def _root(x: Fraction) -> float:
    """The square root of x >= 0 to float64's precision, also where x itself is no float64."""
    shift = max(0, 64 + (x.denominator.bit_length() - x.numerator.bit_length()) // 2)
    return float(Fraction(math.isqrt((x.numerator << 2 * shift) // x.denominator), 1 << shift))


def profile(summary: Summary, top: int = 20) -> dict[str, Any]:
    """Summary → plain values for the data profile: counts, moments, quantiles, top categories."""
    result = {}
    for name, column in summary.columns.items():
        entry: dict[str, Any] = {"rows": column.rows, "missing": column.missing}
        if column.counts:
            entry["distinct"] = len(column.counts)
            entry["top"] = dict(column.counts.most_common(top))
        elif column.low is not None:
            entry |= {"mean": column.mean, "std": column.std, "min": column.low, "max": column.high}
            if len(values := summary.values(name)):  # a sparse column may have none in the sample
                cuts = np.quantile(values, LEVELS)
                entry["quantiles"] = {str(q): float(v) for q, v in zip(LEVELS, cuts, strict=True)}
        result[name] = entry
    return result
