"""Residuals on validation in, prediction intervals of a stated coverage out: split conformal prediction.

Lei et al., "Distribution-free predictive inference for regression", JASA 2018: the half-width is a
quantile of the absolute residuals of rows that training has not seen. A width for each group of
predictions, as Vovk's Mondrian predictors have, makes hard rows' intervals wider than easy ones'.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from baton.evaluation.prediction_intervals import bounds
from baton.names import INTERVAL_LEVELS

GROUPS, GROUP_ROWS = 10, 100  # by predicted value; fewer groups where validation has fewer rows a group
FOLDS = 5


def fit_intervals(targets: np.ndarray, predicted: np.ndarray, least: float | None = None) -> dict[str, Any]:
    """Targets and prediction [rows] → {"edges": between groups of predictions, "half_widths": {level: one a group}}.

    Where no target can be below `least`, it is kept too, and no interval begins below it.

    A level that the smallest group has too few rows for (below n = level / (1 - level)) is left out.
    """
    edges = _edges(predicted)
    groups = np.searchsorted(edges, predicted, side="right").astype(np.int8)
    widths = [_half_widths(targets[group], predicted[group]) for group in (groups == g for g in range(len(edges) + 1))]
    of_levels = zip(map(str, INTERVAL_LEVELS), np.transpose(widths).tolist(), strict=True)
    known = {level: each for level, each in of_levels if all(map(math.isfinite, each))}
    kept = {"edges": [float(edge) for edge in edges], "half_widths": known}
    return kept if least is None else {**kept, "least": least}


def coverage(kept: dict[str, Any], targets: np.ndarray, predicted: np.ndarray) -> dict[str, dict[str, float]]:
    """What `fit_intervals` gave, targets and prediction [rows] → {level: {"coverage", "mean_width"}}."""
    found = {}
    for level in kept["half_widths"]:
        low, high = bounds(kept, predicted, float(level))
        inside = (low <= targets) & (targets <= high)
        found[level] = {"coverage": float(inside.mean()), "mean_width": float((high - low).mean())}
    return found


def cross_coverage(targets: np.ndarray, predicted: np.ndarray, seed: int) -> dict[str, dict[str, float]]:
    """The same, of rows that the widths were not fitted on: those of each fold by all others."""
    fold = np.random.default_rng(seed).permutation(np.resize(np.arange(FOLDS, dtype=np.int8), len(targets)))
    found = []
    for held in (fold == f for f in range(FOLDS)):
        if held.any() and not held.all():
            fitted = fit_intervals(targets[~held], predicted[~held])
            found.append((int(held.sum()), coverage(fitted, targets[held], predicted[held])))
    levels = [level for level in map(str, INTERVAL_LEVELS) if found and all(level in part for _, part in found)]
    return {level: {key: _mean(found, level, key) for key in ("coverage", "mean_width")} for level in levels}


def _mean(parts: list[tuple[int, dict[str, dict[str, float]]]], level: str, key: str) -> float:
    return sum(rows * part[level][key] for rows, part in parts) / sum(rows for rows, _ in parts)


def _edges(predicted: np.ndarray) -> np.ndarray:
    """Predictions [rows] → the edges between groups of about as many rows; none if there are too few rows."""
    ordered, groups = np.sort(predicted), max(1, min(GROUPS, len(predicted) // GROUP_ROWS))
    kept, interrupted = [], 0
    for edge in np.quantile(ordered, np.arange(1, groups) / groups) if groups > 1 else ():
        below = int(np.searchsorted(ordered, edge))  # many equal predictions make groups of none, or of few
        if min(below - interrupted, len(ordered) - below) >= GROUP_ROWS // 2:
            kept.append(edge)
            interrupted = below
    return np.array(kept)


def _half_widths(targets: np.ndarray, predicted: np.ndarray) -> list[float]:
    """Targets and prediction of a group's rows → the half-width of each of `INTERVAL_LEVELS`."""
    residuals = np.sort(np.abs(np.subtract(targets, predicted, dtype=np.float64)))
    return [_quantile(residuals, level) for level in INTERVAL_LEVELS]


def _quantile(residuals: np.ndarray, level: float) -> float:
    """Sorted residuals [n] → the ceil((n + 1) level)-th of them: covers with at least that probability."""
    place = math.ceil((len(residuals) + 1) * level - 1e-9)
    return float(residuals[place - 1]) if place <= len(residuals) else math.inf
