"""Features of train and validation rows in, a linear probe out: what a depth of the base knows of the classes.

Multinomial logistic regression on standardised features (Alain and Bengio, 2016), its penalty chosen on validation.
Loss and gradients are sums over the rows of all processes, so that all fit the same probe, each to its own shard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from baton.data.target import EPSILON
from baton.runtime import heartbeat
from baton.training.collective import Collective
from baton.training.flips import MIN_GAIN

PENALTIES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)  # of squared weights; the smallest comes last
STEPS = 200  # of L-BFGS, at most


@dataclass(frozen=True)
class Rows:
    """Features [n, d] with classes [n] and how much each row counts [n]; of one process, its shard."""

    features: np.ndarray
    target: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class Probe:
    """A linear classifier of raw features: kernel [d, classes] and bias [classes]; how it does on validation.

    `losses` are those of this process's validation rows.
    """

    kernel: np.ndarray
    bias: np.ndarray
    penalty: float
    log_loss: float
    accuracy: float
    losses: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """What it is like, without its weights."""
        numbers = {"penalty": self.penalty, "log_loss": self.log_loss, "accuracy": self.accuracy}
        return {"features": len(self.kernel), **numbers}


def fit_probe(train: Rows, validation: Rows, classes: int, collective: Collective) -> Probe:
    """Rows → the probe of the penalty whose log loss on validation is least; each begins where the one before ended."""
    scaler = _Standardization.of(train, collective)
    scaled, weights = scaler.applied(train.features), np.zeros((train.features.shape[1] + 1, classes))
    best: Probe | None = None
    for penalty in PENALTIES:
        weights = _minimum(weights, scaled, train, penalty, collective)
        probe = _measured(weights, penalty, scaler, validation, collective)
        if best is not None and probe.log_loss > best.log_loss:
            break
        best = probe
    assert best is not None
    return best


@dataclass(frozen=True)
class _Standardization:
    mean: np.ndarray
    std: np.ndarray

    @staticmethod
    def of(rows: Rows, collective: Collective) -> _Standardization:
        x = rows.features
        count = collective.sum(np.array([float(len(x))]))[0]
        mean = collective.sum(x.sum(axis=0, dtype=np.float64)) / count
        variance = collective.sum(((x - mean) ** 2).sum(axis=0, dtype=np.float64)) / count
        return _Standardization(mean, np.where(variance > EPSILON, np.sqrt(variance), 1.0))

    def applied(self, features: np.ndarray) -> np.ndarray:
        return ((features - self.mean) / self.std).astype(np.float32)

    def unscaled(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights of standardised features → kernel and bias of raw ones."""
        kernel = weights[:-1] / self.std[:, None]
        return kernel, weights[-1] - self.mean @ kernel


def _minimum(start: np.ndarray, scaled: np.ndarray, rows: Rows, penalty: float, collective: Collective) -> np.ndarray:
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits

    total = collective.sum(np.array([rows.weight.sum()]))[0]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        heartbeat.beat()
        weights = flat.reshape(-1, start.shape[1])
        shares = _shares(scaled, weights)
        losses = rows.weight @ -np.log(np.maximum(shares[np.arange(len(shares)), rows.target], EPSILON))
        shares[np.arange(len(shares)), rows.target] -= 1
        shares *= rows.weight[:, None].astype(np.float32)
        gradient = np.concatenate([scaled.T @ shares, shares.sum(axis=0)[None]])
        sums = collective.sum(np.concatenate([[losses], gradient.ravel()]).astype(np.float64)) / total
        decayed = weights * (np.arange(len(weights)) < len(weights) - 1)[:, None]  # the bias is free
        return sums[0] + penalty / 2 * float((decayed**2).sum()), sums[1:] + penalty * decayed.ravel()

    with threadpool_limits(1):  # BLAS' threads wait actively: on busy cores two took a hundred times as long
        result = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": STEPS, "ftol": 1e-6})
    return result.x.reshape(start.shape)


def _measured(
    weights: np.ndarray, penalty: float, scaler: _Standardization, rows: Rows, collective: Collective
) -> Probe:
    """The probe of these weights, judged on the rows of all processes."""
    shares = _shares(scaler.applied(rows.features), weights)
    losses = -np.log(np.clip(shares[np.arange(len(shares)), rows.target], EPSILON, 1.0))
    hits = (shares.argmax(axis=1) == rows.target).sum()
    count, loss, right = collective.sum(np.array([len(shares), losses.sum(), hits], np.float64))
    return Probe(*scaler.unscaled(weights), penalty, float(loss / count), float(right / count), losses)


def best_depth(probes: list[Probe], collective: Collective) -> int:
    """Probes, shallow to deep → the index of the one that is surely the best, or the last: few rows go by chance."""
    best = int(np.argmin([probe.log_loss for probe in probes]))
    gain = (probes[-1].losses - probes[best].losses).astype(np.float64)
    count, total, squares = collective.sum(np.array([len(gain), gain.sum(), (gain**2).sum()]))
    mean = total / count
    error = np.sqrt(max(squares / count - mean**2, 0.0) / count)
    return best if mean > MIN_GAIN * error else len(probes) - 1


def _shares(scaled: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Standardised features [n, d] and weights [d + 1, classes] → probabilities [n, classes], float32."""
    logits = scaled @ weights[:-1].astype(np.float32) + weights[-1].astype(np.float32)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)
