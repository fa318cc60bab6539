"""Targets and network output in, metrics out, under the names the outside reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from baton.data.target import DEFAULT_THRESHOLD, EPSILON, POWERS, decide

DEVIANCES = {f"{name}_deviance": power for name, power in POWERS.items()}
SMALLER_IS_BETTER = ("rmse", "mae", "log_loss", *DEVIANCES)


def evaluate(
    targets: np.ndarray, predictions: np.ndarray, threshold: float = DEFAULT_THRESHOLD, metric: str | None = None
) -> dict[str, float]:
    """Targets [rows] and predictions [rows, 1] or class probabilities [rows, k >= 2] → all metrics.

    Float targets: rmse, mae, r2, and the primary `metric` if it is a deviance. Class indices: accuracy, f1_macro,
    log_loss; with two classes also roc_auc and average_precision of the second (nan where only one class occurs).
    `threshold` is that of `decided`.
    """
    if np.issubdtype(targets.dtype, np.floating):
        return _regression(targets, predictions[:, 0]) | _deviance(targets, predictions, metric)
    return _classification(targets, predictions.astype(np.float64), threshold)


def row_losses(targets: np.ndarray, predictions: np.ndarray, metric: str | None = None) -> np.ndarray:
    """Targets [rows] and predictions as in `evaluate` → the primary metric's loss of each row, float64.

    Of numbers the squared error unless `metric` says otherwise, of classes the log loss.
    """
    if np.issubdtype(targets.dtype, np.floating):
        return _losses_of_numbers(targets.astype(np.float64), predictions[:, 0].astype(np.float64), metric)
    of_truth = predictions[np.arange(len(targets)), targets].astype(np.float64)
    return -np.log(np.clip(of_truth, EPSILON, 1 - EPSILON))


def of_mean_loss(metric: str, mean: Any) -> Any:
    """Means of `row_losses` → the primary metric of each."""
    return np.sqrt(mean) if metric == "rmse" else mean


def partial_sums(targets: np.ndarray, predictions: np.ndarray, metric: str | None = None) -> np.ndarray:
    """Sums over rows that add up over shards: [rows, |error| or hits, a loss for each other metric of an epoch]."""
    if np.issubdtype(targets.dtype, np.floating):
        error = predictions[:, 0].astype(np.float64) - targets
        sums = [np.sum(np.abs(error)), *(row_losses(targets, predictions, each).sum() for each in _means(True, metric))]
        return np.array([len(targets), *sums])
    hits = np.sum(predictions.argmax(axis=1) == targets)
    return np.array([len(targets), hits, row_losses(targets, predictions).sum()])


def from_sums(sums: np.ndarray, regression: bool, metric: str | None = None) -> dict[str, float]:
    """`partial_sums`, added up → the metrics of an epoch, exactly those of the whole split."""
    rows, plain, *losses = sums
    found = {
        name: float(of_mean_loss(name, loss / rows))
        for name, loss in zip(_means(regression, metric), losses, strict=True)
    }
    return {**found, "mae" if regression else "accuracy": float(plain / rows)}


def finite(values: dict[str, float]) -> dict[str, float | None]:
    """Metrics → as JSON holds them: what is no finite number is null."""
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def trivial(target: dict[str, Any], rows: int) -> np.ndarray:
    """What knows only the train targets: their mean [rows, 1], or class priors [rows, k]."""
    same = [target["mean"]] if "mean" in target else target["priors"]
    return np.broadcast_to(np.asarray(same), (rows, len(same)))


def _means(regression: bool, metric: str | None) -> list[str]:
    """The metrics of an epoch that are means of losses."""
    return ["rmse", *([metric] if metric in DEVIANCES else [])] if regression else ["log_loss"]


def _losses_of_numbers(targets: np.ndarray, predicted: np.ndarray, metric: str | None) -> np.ndarray:
    if metric in DEVIANCES:
        return unit_deviances(targets, predicted, DEVIANCES[metric])
    return np.abs(predicted - targets) if metric == "mae" else (predicted - targets) ** 2


def unit_deviances(targets: np.ndarray, predicted: np.ndarray, power: float) -> np.ndarray:
    """Targets and predictions [rows] → each row's deviance, nan for a target that the family has not.

    Tweedie's family (Jørgensen, "The theory of dispersion models", 1997): the variance is the mean to the `power`,
    1 (Poisson) to 2 (gamma). Predictions are kept above 0.
    """
    from scipy.special import xlogy

    mean = np.maximum(predicted, EPSILON)
    targets = np.where(targets > 0 if power == 2 else targets >= 0, targets, np.nan)
    if power == 1:
        return 2 * (xlogy(targets, targets / mean) - targets + mean)
    if power == 2:
        return 2 * (np.log(mean / targets) + targets / mean - 1)
    own = targets ** (2 - power) / ((1 - power) * (2 - power))
    return 2 * (own - targets * mean ** (1 - power) / (1 - power) + mean ** (2 - power) / (2 - power))


def _deviance(targets: np.ndarray, predictions: np.ndarray, metric: str | None) -> dict[str, float]:
    return {metric: float(row_losses(targets, predictions, metric).mean())} if metric in DEVIANCES else {}


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
    result = {
        "accuracy": float(np.mean(best == targets)),
        "f1_macro": float(metrics.f1_score(targets, best, average="macro", zero_division=0)),
        "log_loss": float(row_losses(targets, probabilities).mean()),
    }
    if probabilities.shape[1] == 2:
        both = len(np.unique(targets)) == 2
        score = probabilities[:, 1]
        result["roc_auc"] = float(metrics.roc_auc_score(targets, score)) if both else float("nan")
        result["average_precision"] = float(metrics.average_precision_score(targets, score)) if both else float("nan")
    return result
