"""Test metrics in, a verdict with its reasons out. Pure: the registry is elsewhere."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from baton.config import Config

LARGEST_SKEW = 1e-4  # float32 noise is below 1e-6
SMALLER_IS_BETTER = ("rmse", "mae", "log_loss")


@dataclass(frozen=True)
class Judgement:
    """Whether a candidate may be promoted, and every check as a sentence."""

    passed: bool
    reasons: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge(
    config: Config,
    candidate: dict[str, float],
    trivial: dict[str, float],
    champion: dict[str, float] | None,
    skew: float,
) -> Judgement:
    """Metrics on the same test rows of candidate, trivial predictor and champion → `Judgement`.

    `skew` is how far the raw-column path is from the training path (see `skew`).
    """
    metric = config.primary_metric
    value = candidate[metric]
    checks = [_same_paths(skew), _compare(metric, value, trivial[metric], 0.0, "the trivial predictor")]
    if champion is not None:
        checks.append(_compare(metric, value, champion[metric], config.register_.tolerance, "the champion"))
    checks += [_floor(name, candidate.get(name), limit) for name, limit in config.register_.floors.items()]
    return Judgement(all(good for good, _ in checks), [reason for _, reason in checks])


def _compare(metric: str, value: float, other: float, tolerance: float, rival: str) -> tuple[bool, str]:
    """Better, or not worse than the tolerance allows; a NaN never passes."""
    good = value < other + tolerance
    verb = "beats" if good else "does not beat"
    slack = f" (tolerance {tolerance:g})" if tolerance else ""
    return good, f"test {metric} {value:.6g} {verb} {rival}'s {other:.6g}{slack}"


def skew(encoded: np.ndarray, raw: np.ndarray) -> float:
    """Outputs [rows, k] of the training and of the raw-column path → their distance; inf if rows differ.

    The largest difference of the sorted outputs, as a share of their spread: it is no larger than
    that of row against row, and does not need the rows in the same order.
    """
    if encoded.shape != raw.shape:
        return math.inf
    spread = float(np.std(encoded)) or 1.0
    return float(np.max(np.abs(np.sort(encoded, axis=0) - np.sort(raw, axis=0)))) / spread


def _same_paths(distance: float) -> tuple[bool, str]:
    good = distance <= LARGEST_SKEW
    return good, f"raw columns and training rows {'agree' if good else 'disagree'} (distance {distance:.2g})"


def _floor(name: str, value: float | None, limit: float) -> tuple[bool, str]:
    if value is None:
        return False, f"register.floors names {name}, which this task does not have"
    good = value <= limit if name in SMALLER_IS_BETTER else value >= limit
    return good, f"test {name} {value:.6g} {'keeps' if good else 'breaks'} the floor {limit:g}"
