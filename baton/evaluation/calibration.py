"""Probabilities in, how far they can be believed out; and the temperature that makes them more honest.

Temperature scaling: Guo et al., "On calibration of modern neural networks", ICML 2017. It divides
the logits by one number, fitted on validation: the likeliest class stays the likeliest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from baton.data import target
from baton.evaluation import metrics

if TYPE_CHECKING:
    pass


BINS = 10
FOLDS = 5
MIN_ROWS = 50  # rows: with fewer no temperature is fitted
MAX_ROWS = 100_000  # rows that one is fitted on; more would not change its second digit
LOG_LIMITS = (-3.0, 3.0)  # of the temperature's logarithm
SIGNIFICANCE = 1.645  # standard errors by which the loss must fall: 95 % of one side


@dataclass(frozen=True)
class FittedTemperature:
    """A temperature, whether it is worth being applied, and the cross-validated log loss with and without it."""

    temperature: float
    applied: bool
    loss_before: float
    loss_after: float


@dataclass(frozen=True)
class Reliability:
    """Of each bin that holds rows: mean confidence, share of hits, rows; and the expected calibration error."""

    confidence: np.ndarray
    hits: np.ndarray
    rows: np.ndarray
    error: float

    def bins(self) -> list[dict[str, float]]:
        """The bins as plain values."""
        found = zip(self.confidence, self.hits, self.rows, strict=True)
        return [{"confidence": float(c), "accuracy": float(h), "rows": int(r)} for c, h, r in found]


def reliability(confidence: np.ndarray, hit: np.ndarray) -> Reliability:
    """Confidences [n] in 0 to 1 and hits [n] → ten equal bins (Naeini et al., AAAI 2015)."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    rows = np.bincount(bins, minlength=BINS)
    filled = rows > 0
    mean = np.bincount(bins, confidence, BINS)[filled] / rows[filled]
    hits = np.bincount(bins, hit, BINS)[filled] / rows[filled]
    error = float(np.sum(rows[filled] * np.abs(mean - hits)) / max(len(hit), 1))
    return Reliability(mean, hits, rows[filled], error)


def of_probabilities(targets: np.ndarray, probabilities: np.ndarray) -> Reliability:
    """Class indices [n] and probabilities [n, k] → how far the second of two, or the likeliest, is to be believed."""
    return reliability(*confidences(targets, probabilities))


def confidences(targets: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same → the probability that is looked at [n] and whether what it speaks of is so [n]."""
    if probabilities.shape[1] == 2:
        confidence, hit = probabilities[:, 1], targets == 1
    else:
        confidence, hit = probabilities.max(axis=1, initial=0), targets == probabilities.argmax(axis=1)
    return np.clip(confidence, 0, 1), hit


def scaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities [n, k] → softmax(log p / temperature), what `layers.Temperature` gives, in their own type."""
    logits = np.log(np.clip(probabilities, target.EPSILON, 1.0)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    exponents = np.exp(logits)
    return (exponents / exponents.sum(axis=1, keepdims=True)).astype(probabilities.dtype)


def fit_temperature(targets: np.ndarray, probabilities: np.ndarray, seed: int) -> FittedTemperature | None:
    """Class indices [n] and probabilities [n, k] → the temperature of the least log loss; None for too few rows.

    It is worth applying if it lowers the log loss of rows it was not fitted on by more than chance would.
    """
    every = -(-len(targets) // MAX_ROWS)
    targets, probabilities = targets[::every], probabilities[::every]
    if len(targets) < MIN_ROWS:
        return None
    before = metrics.row_losses(targets, probabilities)
    after = np.empty_like(before)
    fold = np.random.default_rng(seed).permutation(len(targets)) % FOLDS
    for held in (fold == f for f in range(FOLDS)):
        temperature = temperature_of(targets[~held], probabilities[~held])
        after[held] = metrics.row_losses(targets[held], scaled(probabilities[held], temperature))
    gain = before - after
    error = float(gain.std(ddof=1)) / len(gain) ** 0.5
    applied = bool(gain.mean() > SIGNIFICANCE * error)
    return FittedTemperature(temperature_of(targets, probabilities), applied, float(before.mean()), float(after.mean()))


def temperature_of(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Class indices [n] and probabilities [n, k] → the temperature at which their log loss is least."""
    from scipy.optimize import minimize_scalar

    logits = np.log(np.clip(probabilities, target.EPSILON, 1.0)).astype(np.float32)
    logits -= logits.max(axis=1, keepdims=True)
    of_truth = float(logits[np.arange(len(targets)), targets].mean(dtype=np.float64))

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        sums = np.exp(logits * np.float32(inverse)).sum(axis=1)
        return float(np.log(sums).mean(dtype=np.float64)) - inverse * of_truth

    return float(np.exp(minimize_scalar(loss, bounds=LOG_LIMITS, method="bounded", options={"xatol": 1e-3}).x))


def before_and_after(
    targets: np.ndarray, predictions: np.ndarray, kept: dict[str, Any] | None
) -> dict[str, Any] | None:
    """Targets, a model's probabilities and its spec's `calibration` → ECE and log loss without and with temperature."""
    if kept is None:
        return None
    temperature, applied = kept["temperature"], kept["applied"]
    bare = scaled(predictions, 1 / temperature) if applied else predictions
    warm = predictions if applied else scaled(predictions, temperature)
    return {
        "before": measured(targets, bare),
        "after": measured(targets, warm),
        "temperature": temperature,
        "applied": applied,
        "bins": of_probabilities(targets, predictions).bins(),
    }


def measured(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Expected calibration error and log loss."""
    loss = float(metrics.row_losses(targets, probabilities).mean())
    return {"ece": of_probabilities(targets, probabilities).error, "log_loss": loss}
