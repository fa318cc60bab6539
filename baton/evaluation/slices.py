"""Encoded rows and their losses in, the parts of the data on which a model is worse than on the whole out.

A slice is a category, a quantile of a number, a part of a date, or "missing". It is cut from encoded
rows by what the preprocessing knows (vocabularies, bin edges, scales), so that validation, of which
no raw copy is kept, and test are cut alike. Rows come in pieces and only sums are kept of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from baton.config.schema import Evaluation
from baton.data import preprocessing
from baton.data.preprocessing import DATE_PARTS, Preprocessor
from baton.evaluation import metrics
from baton.formatting import slice_text

CATEGORY, QUANTILE, DATE, MISSING = "category", "quantile", "date", "missing"
QUANTILES = 8  # parts that a number is cut into
WHOLE = 1e-5  # of a number, by how much it may miss a whole one: float32 has passed it on
VALUES = 24  # whole numbers of no more different values are cut into these
MAX_SLICES = 200  # slices that are told
DAY = 86_400_000_000  # µs


@dataclass(frozen=True)
class SliceDefinition:
    """How one encoded column tells rows apart: each row has a code, the place of its label, or -1.

    Of numbers, `bounds` are the inner bounds on the encoded scale, and rows whose number is missing
    (column `missing` of the numbers) have no code.
    """

    column: str
    kind: str
    labels: tuple[str, ...]
    block: str
    index: int
    bounds: np.ndarray | None = None
    missing: int | None = None

    def codes(self, rows: dict[str, np.ndarray]) -> np.ndarray:
        """A piece of a feed → each row's code [rows]."""
        values = rows[self.block][:, self.index]
        if self.block == "categories":
            return values
        if self.bounds is None:  # the indicator of missing cells
            return np.where(values > 0.5, 0, -1)
        codes = np.searchsorted(self.bounds, values, side="right")
        return codes if self.missing is None else np.where(rows[self.block][:, self.missing] > 0.5, -1, codes)


@dataclass(frozen=True)
class Overall:
    """All rows: the metric, their mean loss, the sum of squares about it, and how many there are."""

    metric: str
    mean: float
    scatter: float
    rows: int

    @staticmethod
    def of(losses: np.ndarray, metric: str) -> Overall:
        mean = float(losses.mean())
        return Overall(metric, mean, float(np.sum((losses - mean) ** 2)), len(losses))

    def value(self, mean: float) -> float:
        """A mean loss → the metric."""
        return float(metrics.of_mean_loss(self.metric, max(mean, 0.0)))

    def slope(self, mean: float) -> float:
        """A mean loss → the metric's derivative by it."""
        value = self.value(mean)
        return 1.0 if self.metric != "rmse" else 0.5 / value if value else 0.0


@dataclass(frozen=True)
class SliceStats:
    """A slice's rows, and the sum and the sum of squares of their losses, measured from the whole's mean."""

    rows: float
    first: float
    second: float

    @property
    def shift(self) -> float:
        """Its mean loss less the whole's."""
        return self.first / self.rows

    @property
    def scatter(self) -> float:
        """The sum of squares about its own mean."""
        return max(self.second - self.rows * self.shift**2, 0.0)


@dataclass(frozen=True)
class _Tests:
    """With what confidence, and on how many slices at once."""

    confidence: float
    slices: int

    def quantile(self, rows: float, slices: int) -> float:
        """Student's, of both sides, so that all intervals of so many slices hold at once (Bonferroni)."""
        from scipy.special import stdtrit

        return float(stdtrit(rows - 1, 1 - (1 - self.confidence) / 2 / slices))


def find(
    pieces: Iterable[dict[str, np.ndarray]], preprocessor: Preprocessor, losses: np.ndarray, settings: Evaluation
) -> list[dict[str, Any]]:
    """A feed's pieces and the losses of all its rows in order → the slices, worst first.

    Those that are surely worse come first, then by difference; at most `MOST` are told.
    """
    cuts, whole = list(cuts_of(preprocessor)), Overall.of(losses, preprocessor.metric)
    parts = [
        (cut, int(code), SliceStats(*(float(total[code]) for total in sums)))
        for cut, sums in zip(cuts, _summed(pieces, cuts, losses - whole.mean), strict=True)
        for code in np.flatnonzero((sums[0] >= settings.slice_rows) & (sums[0] < len(losses)))
    ]
    tests = _Tests(settings.confidence, len(parts))
    entries = [_entry(cut, code, part, whole, tests) for cut, code, part in parts]
    entries.sort(key=lambda entry: (not entry["worse"], -entry["difference"]))
    return entries[:MAX_SLICES]


def log_line(slices: list[dict[str, Any]], metric: str, value: float, most: int = 3) -> str:
    """What `found` gave, the metric and its value on the whole → a sentence that names the worst slices."""
    worst = [entry for entry in slices if entry["worse"]]
    if not worst:
        return "no slice is surely worse than the whole"
    named = ", ".join(f"{slice_text(entry)} {entry['value']:.4g} ({entry['rows']:,} rows)" for entry in worst[:most])
    more = f" and {len(worst) - most} more" if len(worst) > most else ""
    return f"slices surely worse than {metric} {value:.4g}: {named}{more}"


def cuts_of(preprocessor: Preprocessor) -> Iterator[SliceDefinition]:
    """The preprocessing → a `Cut` of every encoded column that people can be told of."""
    numbers = {name: index for index, name in enumerate(preprocessor.names("number"))}
    categories = {name: index for index, name in enumerate(preprocessor.names("category"))}
    encoded = {column.name: column for column in preprocessor.encoded}
    types = {column.name: column.type for column in preprocessor.features}
    for name, feature in preprocessor.spec["features"].items():
        if feature["kind"] == "categorical" and feature["encoded"] in categories:
            labels = ("rare or unseen", "missing", *feature["vocabulary"])
            yield SliceDefinition(name, CATEGORY, labels, "categories", categories[feature["encoded"]])
        missing = numbers.get(feature.get("missing", ""))
        for part in feature.get("parts", ()):
            if part["encoded"] in numbers:
                edges = np.asarray(encoded[part["encoded"]].edges)
                labels, bounds = _bins(edges, part, feature["kind"], types[name])
                kind = DATE if feature["kind"] == "datetime" else QUANTILE
                yield SliceDefinition(name, kind, labels, "numbers", numbers[part["encoded"]], bounds, missing)
        if missing is not None:
            yield SliceDefinition(name, MISSING, ("missing",), "numbers", missing)


def _bins(edges: np.ndarray, part: dict[str, Any], kind: str, type_: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Quantile edges of train, encoded → labels of the bins that people see, and their inner bounds."""
    raw = preprocessing.unscaled(edges, part)
    if kind == "boolean":
        return tuple("true" if value > 0.5 else "false" for value in raw), edges[1:]
    of_date, moment = part["part"] in DATE_PARTS, part["part"] == "elapsed"
    near = bool(np.all(np.abs(raw - np.round(raw)) < WHOLE * (1 + np.abs(raw))))
    whole = not moment and (of_date or type_ == "long" or near)
    if whole and len(edges) <= VALUES:
        labels, bounds = _values(np.round(raw) + 0.0), edges[1:]  # + 0.0 makes 0 of -0
    else:
        kept = np.unique(np.linspace(0, len(edges) - 1, QUANTILES + 1).round().astype(int))
        shown = _moments(raw[kept]) if moment else _ranges(raw[kept], whole)
        labels, bounds = shown, edges[kept][1:-1]
    return (tuple(f"{part['part']} {label}" for label in labels) if of_date else labels), bounds


def _values(raw: np.ndarray) -> tuple[str, ...]:
    """Whole numbers that occur [m] → a label each: of it and of what lies before the next one."""
    last = [*(raw[1:] - 1), raw[-1]]
    return tuple(_span(low, high) for low, high in zip(raw, last, strict=True))


def _ranges(raw: np.ndarray, whole: bool) -> tuple[str, ...]:
    """Bounds [m + 1] of m bins → their labels; the first and the last are open outwards."""
    inner = raw[1:-1]
    if not len(inner):
        return ("any",)
    if whole:
        inner = np.ceil(inner - 1e-3) + 0.0
        middle = [_span(low, high - 1) for low, high in zip(inner, inner[1:], strict=False)]
        return (f"up to {inner[0] - 1:.0f}", *middle, f"{inner[-1]:.0f} and more")
    middle = [f"{_short(low)} to {_short(high)}" for low, high in zip(inner, inner[1:], strict=False)]
    return (f"below {_short(inner[0])}", *middle, f"{_short(inner[-1])} and more")


def _moments(raw: np.ndarray) -> tuple[str, ...]:
    """Bounds [m + 1] of m bins in µs since 1970 → their labels, as dates, or to the minute if they are near."""
    inner = raw[1:-1]
    if not len(inner):
        return ("any",)
    far = len(inner) < 2 or np.min(np.diff(inner)) > 2 * DAY
    shown = [_moment(value, "%Y-%m-%d" if far else "%Y-%m-%d %H:%M") for value in inner]
    middle = [f"{low} to {high}" for low, high in zip(shown, shown[1:], strict=False)]
    return (f"before {shown[0]}", *middle, f"{shown[-1]} and later")


def _moment(microseconds: float, form: str) -> str:
    try:
        return datetime.fromtimestamp(microseconds / 1e6, UTC).strftime(form)
    except (OverflowError, ValueError, OSError):  # beyond the calendar
        return f"{microseconds / 1e6:.4g} s"


def _span(low: float, high: float) -> str:
    return f"{low:.0f}" if high <= low else f"{low:.0f} to {high:.0f}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _summed(
    pieces: Iterable[dict[str, np.ndarray]], cuts: list[SliceDefinition], losses: np.ndarray
) -> list[list[np.ndarray]]:
    """A feed's pieces and all losses in order → of each cut's codes: rows, sums and sums of squares of the losses."""
    every = [[np.zeros(len(cut.labels)) for _ in range(3)] for cut in cuts]
    done = 0
    for rows in pieces if cuts else ():
        here = losses[done : done + len(rows["target"])]
        done += len(here)
        for cut, sums in zip(cuts, every, strict=True):
            codes = cut.codes(rows)
            coded = codes >= 0
            codes, weights = (codes, here) if coded.all() else (codes[coded], here[coded])
            for total, power in zip(sums, (None, weights, weights**2), strict=True):
                total += np.bincount(codes, power, len(total))
    return every


def _entry(cut: SliceDefinition, code: int, part: SliceStats, whole: Overall, tests: _Tests) -> dict[str, Any]:
    """A cut's code with its sums → the slice. The value's interval is its own, the difference's is all slices'."""
    mean = whole.mean + part.shift
    difference = whole.value(mean) - whole.value(whole.mean)
    half = tests.quantile(part.rows, 1) * math.sqrt(part.scatter / (part.rows - 1) / part.rows)
    return {
        "column": cut.column,
        "slice": cut.labels[code],
        "kind": MISSING if cut.kind == CATEGORY and code == preprocessing.MISSING else cut.kind,
        "rows": int(part.rows),
        "metric": whole.metric,
        "value": whole.value(mean),
        "interval": [whole.value(mean - half), whole.value(mean + half)],
        "difference": difference,
        "worse": difference > tests.quantile(part.rows, tests.slices) * _error(part, whole),
    }


def _error(part: SliceStats, whole: Overall) -> float:
    """The standard error of a slice's metric less the whole's, by their influence functions (Hampel, 1974).

    Row i's is, with its loss l measured from the whole's mean, m that of the slice, and the metric's
    slopes: slope_slice * (N / n) * (l - m) - slope_whole * l within the slice, the second term outside.
    """
    steep = whole.slope(whole.mean + part.shift) * whole.rows / part.rows
    flat = whole.slope(whole.mean)
    within = steep**2 * part.scatter - 2 * steep * flat * part.scatter + flat**2 * part.second  # of squares
    return math.sqrt(max(within + flat**2 * (whole.scatter - part.second), 0.0)) / whole.rows
