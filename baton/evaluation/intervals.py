"""Targets and predictions in, a bootstrap interval of every metric out; the names are those of `metrics.evaluate`."""

from __future__ import annotations

import numpy as np

from baton.data import target
from baton.evaluation import bootstrap, metrics

# What is drawn over all resamples, at most: many rows need few of them, for then chance is small.
SUMMED = 1 << 26  # rows that are summed
RANKED = 1 << 24  # rows that ranking metrics are computed on, each resample in a pass of its own
CELLS = 1 << 22  # counts of confusion matrices
MIN_RESAMPLES = 100  # resamples, however many rows there are

Interval = list[float] | None


def of_metrics(
    targets: np.ndarray,
    predictions: np.ndarray,
    *,
    threshold: float,
    confidence: float,
    resamples: int,
    seed: int,
    metric: str | None = None,
) -> dict[str, Interval]:
    """Targets [rows] and predictions as in `metrics.evaluate` → {metric: [low, high]}, None where it is not defined.

    Rows are drawn with replacement, `resamples` times; fewer times where there are many rows.
    """
    rng = np.random.default_rng(seed)
    if np.issubdtype(targets.dtype, np.floating):
        found = _regression(targets, predictions[:, 0], resamples, rng)
        if metric in metrics.DEVIANCES:
            losses, times = (
                metrics.row_losses(targets, predictions, metric),
                _affordable(resamples, len(targets), SUMMED),
            )
            found[metric] = bootstrap.sums((losses,), times, rng)[0] / len(targets)
    else:
        found = _classification(targets, predictions.astype(np.float64), threshold, resamples, rng)
    return {name: _interval(values, confidence) for name, values in found.items()}


def of_auc(targets: np.ndarray, score: np.ndarray, confidence: float, resamples: int, seed: int) -> Interval:
    """Targets [rows] and the second class's probability [rows] → the interval of roc_auc, as in `of_metrics`."""
    if not 0 < targets.sum() < len(targets):
        return None
    return _interval(_rankings(targets == 1, score, resamples, np.random.default_rng(seed))[0], confidence)


def _affordable(resamples: int, each: int, most: int) -> int:
    """How many resamples there can be if one draws `each` and all at most `most`."""
    return min(resamples, max(MIN_RESAMPLES, most // each))


def _interval(values: np.ndarray, confidence: float) -> Interval:
    return list(bootstrap.interval(values, confidence)) if np.isfinite(values).all() else None


def _regression(
    targets: np.ndarray, predicted: np.ndarray, resamples: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    rows, mean = len(targets), targets.mean(dtype=np.float64)

    def statistics(targets: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, ...]:
        error, centred = np.subtract(predicted, targets, dtype=np.float64), targets - mean
        return error**2, np.abs(error), centred, centred**2

    times = _affordable(resamples, rows, SUMMED)
    squares, sizes, sum_, spread = bootstrap.sums((targets, predicted), times, rng, statistics)
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = 1 - squares / (spread - sum_**2 / rows)
    return {"rmse": np.sqrt(squares / rows), "mae": sizes / rows, "r2": r2}


def _classification(
    targets: np.ndarray, probabilities: np.ndarray, threshold: float, resamples: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    losses = metrics.row_losses(targets, probabilities)
    found = _confusions(targets, target.decide(probabilities, threshold), probabilities.shape[1], resamples, rng)
    times = _affordable(resamples, len(targets), SUMMED)
    found["log_loss"] = bootstrap.sums((losses,), times, rng)[0] / len(targets)
    if probabilities.shape[1] == 2:
        both = 0 < targets.sum() < len(targets)
        ranked = _rankings(targets == 1, probabilities[:, 1], resamples, rng) if both else np.full((2, 1), np.nan)
        found["roc_auc"], found["average_precision"] = ranked
    return found


def _confusions(
    targets: np.ndarray, decided: np.ndarray, classes: int, resamples: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Accuracy and macro F1 of each resample: rows drawn anew are cells of the confusion matrix drawn anew."""
    cells, counts = np.unique(targets.astype(np.int64) * classes + decided, return_counts=True)
    resamples = _affordable(resamples, len(cells), CELLS)
    drawn = rng.multinomial(len(targets), counts / len(targets), size=resamples).astype(np.float64)
    actual, predicted = (np.eye(classes)[part] for part in (cells // classes, cells % classes))
    hits = drawn @ (actual * predicted)
    occurring = drawn @ (actual + predicted)
    with np.errstate(invalid="ignore"):
        f1 = np.nanmean(2 * hits / occurring, axis=1)  # of the classes that occur, as scikit-learn's
    return {"accuracy": hits.sum(axis=1) / len(targets), "f1_macro": f1}


def _rankings(positive: np.ndarray, score: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """ROC AUC and average precision of each resample [2, resamples]; one without both classes is left out."""
    rows = len(score)
    order = np.argsort(-score, kind="stable")
    positive, score = positive[order].astype(np.float64), score[order]
    ends = np.append(np.flatnonzero(np.diff(score)), rows - 1)  # rows of one score come together
    found = []
    for _ in range(_affordable(resamples, rows, RANKED)):
        weights = np.bincount(rng.integers(0, rows, rows), minlength=rows)
        above = np.cumsum(weights)[ends]
        hits = np.cumsum(weights * positive)[ends]
        if 0 < hits[-1] < above[-1]:
            found.append((_auc(hits, above), _average_precision(hits, above)))
    return np.array(found).T if found else np.full((2, 1), np.nan)


def _auc(hits: np.ndarray, above: np.ndarray) -> float:
    """Positives and rows at or above each score, falling → the area under the ROC curve."""
    false = above - hits
    area = np.sum(np.diff(false, prepend=0) * (hits + np.append(0, hits[:-1]))) / 2
    return float(area / (hits[-1] * false[-1]))


def _average_precision(hits: np.ndarray, above: np.ndarray) -> float:
    """The same → the mean precision over positives, each at its score."""
    precision = hits / np.maximum(above, 1)
    return float(np.sum(np.diff(hits, prepend=0) * precision) / hits[-1])
