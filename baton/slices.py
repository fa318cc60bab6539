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

from baton import metrics, preprocess
from baton.config import Evaluation
from baton.preprocess import DATE_PARTS, Preprocessor

CATEGORY, QUANTILE, DATE, MISSING = "category", "quantile", "date", "missing"
QUANTILES = 8  # parts that a number is cut into
WHOLE = 1e-5  # of a number, by how much it may miss a whole one: float32 has passed it on
VALUES = 24  # whole numbers of no more different values are cut into these
MOST = 200  # slices that are told
DAY = 86_400_000_000  # µs


@dataclass(frozen=True)
class Cut:
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
class Sums:
    """Of one cut's codes: rows, sum and sum of squares of the losses, which the whole's mean was taken from."""

    rows: np.ndarray
    first: np.ndarray
    second: np.ndarray


def found(
    pieces: Iterable[dict[str, np.ndarray]], fitted: Preprocessor, losses: np.ndarray, settings: Evaluation
) -> list[dict[str, Any]]:
    """A feed's pieces and the losses of all its rows in order → the slices, worst first.

    Those that are surely worse come first, then by difference; at most `MOST` are told.
    """
    metric = "log_loss" if fitted.classes else "rmse"
    cuts = list(cuts_of(fitted))
    whole = float(losses.mean())
    every = _summed(pieces, cuts, losses - whole)
    large = [(cut, sums, sums.rows >= settings.slice_rows) for cut, sums in zip(cuts, every, strict=True)]
    large = [(cut, sums, here & (sums.rows < len(losses))) for cut, sums, here in large]
    looked_at = sum(int(here.sum()) for _, _, here in large)
    scatter = float(np.sum((losses - whole) ** 2))
    entries = [
        entry
        for cut, sums, here in large
        for entry in _entries(cut, sums, here, (metric, whole, scatter, len(losses)), settings.confidence, looked_at)
    ]
    entries.sort(key=lambda entry: (not entry["worse"], -entry["difference"]))
    return entries[:MOST]


def told(slices: list[dict[str, Any]], metric: str, value: float, most: int = 3) -> str:
    """What `found` gave, the metric and its value on the whole → a sentence that names the worst slices."""
    worst = [entry for entry in slices if entry["worse"]]
    if not worst:
        return "no slice is surely worse than the whole"
    named = ", ".join(f"{name(entry)} {entry['value']:.4g} ({entry['rows']:,} rows)" for entry in worst[:most])
    more = f" and {len(worst) - most} more" if len(worst) > most else ""
    return f"slices surely worse than {metric} {value:.4g}: {named}{more}"


def name(entry: dict[str, Any]) -> str:
    """A slice as people call it: the column and its part."""
    between = " is " if entry["kind"] == MISSING else ": "
    return f"{entry['column']}{between}{entry['slice']}"


def cuts_of(fitted: Preprocessor) -> Iterator[Cut]:
    """The preprocessing → a `Cut` of every encoded column that people can be told of."""
    numbers = {name: index for index, name in enumerate(fitted.names("number"))}
    categories = {name: index for index, name in enumerate(fitted.names("category"))}
    encoded = {column.name: column for column in fitted.encoded}
    types = {column.name: column.type for column in fitted.features}
    for name, feature in fitted.spec["features"].items():
        if feature["kind"] == "categorical" and feature["encoded"] in categories:
            labels = ("rare or unseen", "missing", *feature["vocabulary"])
            yield Cut(name, CATEGORY, labels, "categories", categories[feature["encoded"]])
        missing = numbers.get(feature.get("missing", ""))
        for part in feature.get("parts", ()):
            if part["encoded"] in numbers:
                edges = np.asarray(encoded[part["encoded"]].edges)
                labels, bounds = _bins(edges, part, feature["kind"], types[name])
                kind = DATE if feature["kind"] == "datetime" else QUANTILE
                yield Cut(name, kind, labels, "numbers", numbers[part["encoded"]], bounds, missing)
        if missing is not None:
            yield Cut(name, MISSING, ("missing",), "numbers", missing)


def _bins(edges: np.ndarray, part: dict[str, Any], kind: str, type_: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Quantile edges of train, encoded → labels of the bins that people see, and their inner bounds."""
    raw = preprocess.unscaled(edges, part)
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


def _summed(pieces: Iterable[dict[str, np.ndarray]], cuts: list[Cut], losses: np.ndarray) -> list[Sums]:
    """A feed's pieces and all losses in order → each cut's sums."""
    sizes = [len(cut.labels) for cut in cuts]
    every = [Sums(*(np.zeros(size) for _ in range(3))) for size in sizes]
    done = 0
    for rows in pieces if cuts else ():
        here = losses[done : done + len(rows["target"])]
        done += len(here)
        for cut, sums in zip(cuts, every, strict=True):
            codes = cut.codes(rows)
            coded = codes >= 0
            codes, weights = (codes, here) if coded.all() else (codes[coded], here[coded])
            for total, power in ((sums.rows, None), (sums.first, weights), (sums.second, weights**2)):
                total += np.bincount(codes, power, len(total))
    return every


def _entries(
    cut: Cut,
    sums: Sums,
    here: np.ndarray,
    whole: tuple[str, float, float, int],
    confidence: float,
    looked_at: int,
) -> Iterator[dict[str, Any]]:
    """A cut's sums, which of its codes are `here` and (metric, mean loss, scatter, rows) of the whole → its slices.

    Intervals are Student's, of the mean loss; the difference's variance is that of its influence
    function (Hampel, 1974), as the slice is a part of the whole. The chance that any slice of all
    `looked_at` is called worse without being so is at most 1 - confidence (Bonferroni).
    """
    from scipy.special import stdtrit

    metric, mean, scatter, total = whole
    for code in np.flatnonzero(here):
        rows, first, second = (float(part[code]) for part in (sums.rows, sums.first, sums.second))
        shift = first / rows  # of the slice's mean loss against the whole's
        inner = max(second - rows * shift**2, 0.0)
        usual, strict = (float(stdtrit(rows - 1, 1 - (1 - confidence) / 2 / n)) for n in (1, looked_at))
        half = usual * math.sqrt(inner / (rows - 1) / rows)
        value, reference = (float(metrics.of_mean_loss(metric, m)) for m in (max(mean + shift, 0.0), mean))
        slope = (_slope(metric, value), _slope(metric, reference))
        error = _error(slope, (rows, inner, second), (scatter, total))
        difference = value - reference
        ends = (max(mean + shift + sign * half, 0.0) for sign in (-1, 1))
        yield {
            "column": cut.column,
            "slice": cut.labels[code],
            "kind": MISSING if cut.kind == CATEGORY and code == preprocess.MISSING else cut.kind,
            "rows": int(rows),
            "metric": metric,
            "value": value,
            "interval": [float(metrics.of_mean_loss(metric, end)) for end in ends],
            "difference": difference,
            "worse": difference - strict * error > 0,
        }


def _slope(metric: str, value: float) -> float:
    """The derivative of the metric by the mean loss, at the metric's value."""
    return 0.5 / value if metric == "rmse" and value else float(metric != "rmse")


def _error(slope: tuple[float, float], part: tuple[float, float, float], whole: tuple[float, float]) -> float:
    """The standard error of a slice's metric minus the whole's.

    Row i's influence is, with losses l measured from the whole's mean and the slice's mean loss m,
    slope_slice * (N / n) * (l - m) - slope_whole * l within the slice, and the second term outside.
    """
    (rows, inner, second), (scatter, total) = part, whole
    steep, flat = slope[0] * total / rows, slope[1]
    # Within the slice (steep * (l - m) - flat * l)^2 sums to this; `inner` is the sum of (l - m)^2.
    within = steep**2 * inner - 2 * steep * flat * inner + flat**2 * second
    return math.sqrt(max(within + flat**2 * (scatter - second), 0.0)) / total
