"""Targets and out-of-sample outputs in, suspected label errors out, ranked, with an estimate of how many there are.

Classes: confident learning (Northcutt, Jiang and Chuang, 2021), by cleanlab. Numbers: residuals, in
units of their local spread, against a null distribution that is fitted to the bulk of them (Efron,
2004), with the false discovery rate of Benjamini and Hochberg (1995).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from baton.evaluation import metrics

FALSE_DISCOVERIES = 0.05  # the share of the suspects among numbers that may be as they should
ROWS_PER_BIN, MOST_BINS = 200, 20  # of the local spread of residuals
BULK = (0.5, 0.8)  # the quantiles of |residual| that the null is fitted to: errors are fewer than the rest
DEGREES = np.concatenate([np.arange(2, 20, 0.1), [25, 30, 50, 100]])
FILTER = "both"  # of cleanlab's: what pruning by class and by noise rate agree on
CLASSES_METHOD = "confident learning, pruned by class and by noise rate"
NUMBERS_METHOD = "residuals against a Student t of their bulk, false discovery rate 5 %"


@dataclass(frozen=True)
class Suspects:
    """Numbers of the suspected rows, worst first, and of each its suggested target, quality and confidence.

    `quality`, from 0 to 1, is how well the given target goes with the output; `rate` the estimated share
    of wrong targets among all rows, and `agreement` the share that the judge itself would give as they are: what it
    mistakes counts in the rate. Of numbers there is none.
    """

    rows: np.ndarray
    suggested: np.ndarray
    quality: np.ndarray
    confidence: np.ndarray
    rate: float
    method: str
    agreement: float | None = None


def classes(targets: np.ndarray, probabilities: np.ndarray) -> Suspects:
    """Class indices [rows] and out-of-sample probabilities [rows, k] → `Suspects`."""
    from cleanlab.count import estimate_joint
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    wide = probabilities.astype(np.float64)
    wide /= wide.sum(axis=1, keepdims=True)
    occurring = np.unique(targets)
    if len(occurring) < 2:
        return _none(CLASSES_METHOD)
    # cleanlab wants every class to occur.
    known = wide[:, occurring] / np.maximum(wide[:, occurring].sum(axis=1, keepdims=True), 1e-12)
    label = np.searchsorted(occurring, targets)
    joint = estimate_joint(label, known)
    found = find_label_issues(label, known, filter_by=FILTER, n_jobs=1)
    quality = get_label_quality_scores(label, known, method="normalized_margin")
    rows = np.flatnonzero(found)
    rows = rows[np.argsort(quality[rows], kind="stable")]
    others = wide[rows].copy()
    others[np.arange(len(rows)), targets[rows]] = -1
    rate = float(joint.sum() - np.trace(joint))
    agreement = float((wide.argmax(axis=1) == targets).mean())
    suggested, confidence = others.argmax(axis=1), others.max(axis=1, initial=0)
    return Suspects(rows, suggested, quality[rows], confidence, rate, CLASSES_METHOD, agreement)


def numbers(targets: np.ndarray, predicted: np.ndarray) -> Suspects:
    """Targets [rows] and out-of-sample predictions [rows] → `Suspects`: those the bulk of errors does not explain."""
    from scipy import stats

    targets, predicted = targets.astype(np.float64), predicted.astype(np.float64)
    distance = np.abs(standardised(targets - predicted, predicted))
    degrees, scale = null(distance)
    chance = 2 * stats.t.sf(distance / scale, degrees)
    adjusted = stats.false_discovery_control(chance)
    rows = np.flatnonzero(adjusted <= FALSE_DISCOVERIES)
    rows = rows[np.argsort(-distance[rows], kind="stable")]
    limit = distance[rows].min() if len(rows) else np.inf
    by_chance = len(targets) * 2 * stats.t.sf(limit / scale, degrees)
    rate = max(0.0, len(rows) - by_chance) / max(len(targets), 1)
    return Suspects(rows, predicted[rows], chance[rows], 1 - adjusted[rows], float(rate), NUMBERS_METHOD)


def standardised(residuals: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Residuals [rows] → in units of the spread that residuals have at such predictions, about their median."""
    bins = int(np.clip(len(residuals) // ROWS_PER_BIN, 1, MOST_BINS))
    order = np.argsort(predicted, kind="stable")
    parts = np.array_split(order, bins)
    middles = np.array([np.median(residuals[part]) for part in parts])
    spreads = np.array(
        [np.median(np.abs(residuals[part] - middle)) for part, middle in zip(parts, middles, strict=True)]
    )
    whole = _middle_and_spread(residuals)[1] or float(np.abs(residuals).mean()) or 1.0
    spreads = np.maximum(spreads, 0.2 * whole)
    at = np.array([np.median(predicted[part]) for part in parts])
    return (residuals - np.interp(predicted, at, middles)) / np.interp(predicted, at, spreads)


def _middle_and_spread(values: np.ndarray) -> tuple[float, float]:
    """The median, and the median distance from it."""
    middle = np.median(values)
    return float(middle), float(np.median(np.abs(values - middle)))


def null(distance: np.ndarray) -> tuple[float, float]:
    """|standardised residuals| → degrees of freedom and scale of the Student t that their bulk follows."""
    from scipy import stats

    inner, outer = np.quantile(distance, BULK)
    expected = [stats.t.ppf((1 + share) / 2, DEGREES) for share in BULK]
    ratio = outer / inner if inner else np.inf
    best = int(np.abs(expected[1] / expected[0] - ratio).argmin())
    return float(DEGREES[best]), float(inner / expected[0][best]) or 1.0


def ranking(losses: dict[str, np.ndarray], clean: np.ndarray, metric: str) -> list[dict[str, Any]]:
    """Each model's loss on the test rows, and which rows are not suspected → its metric and rank on all and on these.

    A loss that is not finite has no metric, and no rank.
    """
    table: list[dict[str, Any]] = []
    for model, values in losses.items():
        entry: dict[str, Any] = {"model": model}
        for which, rows in (("original", np.ones(len(clean), bool)), ("cleaned", clean)):
            mean = values[rows].mean() if rows.any() else np.nan
            entry[which] = float(metrics.of_mean_loss(metric, mean)) if np.isfinite(mean) else None
        table.append(entry)
    for which in ("original", "cleaned"):
        known = sorted(entry[which] for entry in table if entry[which] is not None)
        for entry in table:
            value = entry[which]
            entry[f"rank_{which}"] = None if value is None else 1 + known.index(value)
    return sorted(table, key=lambda entry: (entry["cleaned"] is None, entry["cleaned"]))


def _none(method: str) -> Suspects:
    empty = np.zeros(0)
    return Suspects(empty.astype(int), empty.astype(int), empty, empty, 0.0, method)
