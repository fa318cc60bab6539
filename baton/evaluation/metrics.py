"""Targets and network output in, metrics out, under the names the outside reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from baton.data.target import DEFAULT_THRESHOLD, EPSILON, decide

SMALLER_IS_BETTER = ("rmse", "mae", "log_loss")


def evaluate(targets: np.ndarray, predictions: np.ndarray, threshold: float = DEFAULT_THRESHOLD) -> dict[str, float]:
    """Targets [rows] and predictions [rows, 1] or class probabilities [rows, k >= 2] → all metrics.

    Float targets: rmse, mae, r2. Class indices: accuracy, f1_macro, log_loss; with two classes also
    roc_auc and average_precision of the second (nan where only one class occurs). `threshold` is
    that of `decided`.
    """
    if np.issubdtype(targets.dtype, np.floating):
        return _regression(targets, predictions[:, 0])
    return _classification(targets, predictions.astype(np.float64), threshold)


def row_losses(targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Targets [rows] and predictions as in `evaluate` → squared error or log loss of each row, float64."""
    if np.issubdtype(targets.dtype, np.floating):
        return (predictions[:, 0].astype(np.float64) - targets) ** 2
    of_truth = predictions[np.arange(len(targets)), targets].astype(np.float64)
    return -np.log(np.clip(of_truth, EPSILON, 1 - EPSILON))


def of_mean_loss(metric: str, mean: Any) -> Any:
    """Means of `row_losses` → the primary metric, rmse or log_loss, of each."""
    return np.sqrt(mean) if metric == "rmse" else mean


def partial_sums(targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Sums over rows that add up over shards: [rows, squared error or log loss, |error| or hits]."""
    losses = row_losses(targets, predictions)
    if np.issubdtype(targets.dtype, np.floating):
        error = predictions[:, 0].astype(np.float64) - targets
        return np.array([len(targets), losses.sum(), np.sum(np.abs(error))])
    return np.array([len(targets), losses.sum(), np.sum(predictions.argmax(axis=1) == targets)])


def from_sums(sums: np.ndarray, regression: bool) -> dict[str, float]:
    """`partial_sums`, added up → the metrics of an epoch, exactly those of the whole split."""
    rows, first, second = sums
    if regression:
        return {"rmse": float(np.sqrt(first / rows)), "mae": float(second / rows)}
    return {"log_loss": float(first / rows), "accuracy": float(second / rows)}


def finite(values: dict[str, float]) -> dict[str, float | None]:
    """Metrics → as JSON holds them: what is no finite number is null."""
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def trivial(target: dict[str, Any], rows: int) -> np.ndarray:
    """What knows only the train targets: their mean [rows, 1], or class priors [rows, k]."""
    if "mean" in target:
        return np.full((rows, 1), target["mean"])
    return np.tile(np.asarray(target["priors"]), (rows, 1))


def _regression(targets: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    error = np.subtract(predicted, targets, dtype=np.float64)
    centred = np.subtract(targets, targets.mean(dtype=np.float64))
    squares, spread = error @ error, centred @ centred
    return {
        "rmse": float(np.sqrt(squares / len(error))),
        "mae": float(np.mean(np.abs(error, out=error))),
        "r2": float(1 - squares / spread) if spread else float("nan"),
    }


def _classification(targets: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, float]:
    from sklearn import metrics

    best = decide(probabilities, threshold)
    sums = partial_sums(targets, probabilities)
    result = {
        "accuracy": float(np.mean(best == targets)),
        "f1_macro": float(metrics.f1_score(targets, best, average="macro", zero_division=0)),
        "log_loss": float(sums[1] / sums[0]),
    }
    if probabilities.shape[1] == 2:
        both = len(np.unique(targets)) == 2
        score = probabilities[:, 1]
        result["roc_auc"] = float(metrics.roc_auc_score(targets, score)) if both else float("nan")
        result["average_precision"] = float(metrics.average_precision_score(targets, score)) if both else float("nan")
    return result
