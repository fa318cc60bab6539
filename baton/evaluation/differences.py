"""Losses of two models, or of two sets of rows, in; how far their metric differs, with an interval, out.

The interval is Student's, each end moved outwards where the rows' skewness asks for it (Hall, On the removal of
skewness by transformation, 1992), and never inwards: of few rows skewness is hardly known. It needs no resamples,
so it has tails of a millionth, where a percentile bootstrap would need hundreds of millions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """What an interval needs to know of some rows' losses: how many, their mean, variance and skewness."""

    rows: int
    mean: float
    variance: float
    skewness: float = 0.0

    @staticmethod
    def of(losses: np.ndarray) -> Moments:
        """Losses [rows] → their moments; the variance of fewer than two is infinite, for nothing is known of it."""
        rows = len(losses)
        if rows < 2:
            return Moments(rows, float(losses.sum()), math.inf)
        mean = float(losses.mean())
        centred = losses - mean
        squares = centred**2
        spread = float(squares.mean())
        third = float((squares * centred).mean())
        cube = spread**1.5
        skewness = third / cube if cube else 0.0
        return Moments(rows, mean, spread * rows / (rows - 1), skewness)

    @staticmethod
    def of_sums(rows: float, total: float, squares: float, cubes: float) -> Moments:
        """The same of sums of the losses and of their powers, which several processes may have added up."""
        if rows < 2:
            return Moments(int(rows), total, math.inf)
        mean = total / rows
        spread = max(squares / rows - mean**2, 0.0)
        cube = spread**1.5
        third = cubes / rows - 3 * mean * squares / rows + 2 * mean**3
        return Moments(int(rows), mean, spread * rows / (rows - 1), third / cube if cube else 0.0)

    @property
    def error(self) -> float:
        """The variance of the mean."""
        return self.variance / max(self.rows, 1)

    @property
    def third(self) -> float:
        """The third central moment of the mean."""
        return self.skewness * self.variance**1.5 / self.rows**2 if self.skewness else 0.0


@dataclass(frozen=True)
class Difference:
    """The metric of the first minus that of the second, and the interval around it."""

    value: float
    low: float
    high: float

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.high - self.low)


def paired(metric: str, first: np.ndarray, second: np.ndarray, tail: float) -> Difference:
    """Losses of two models on the same rows [rows] → `Difference`; beyond either end lies the truth with chance `tail`.

    Rows' differences are looked at, so what both models find hard cancels. Equal losses give exactly 0.
    """
    if not len(first):
        return Difference(math.nan, -math.inf, math.inf)
    return of_moments(metric, (float(first.mean()), float(second.mean())), Moments.of(first - second), tail)


def of_moments(metric: str, means: tuple[float, float], between: Moments, tail: float) -> Difference:
    """`paired`, of the mean losses of both models and the moments of the rows' differences."""
    return _scaled(metric, means, between.mean, between.error, between.third, between.rows - 1, tail)


def independent(metric: str, first: Moments, second: Moments, tail: float) -> Difference:
    """Moments of the losses on two sets of rows → `Difference`, by Welch's degrees of freedom."""
    error = first.error + second.error
    parts = [part.error**2 / (part.rows - 1) for part in (first, second) if part.error and part.rows > 1]
    freedom = error**2 / sum(parts) if any(parts) else math.inf
    third = first.third - second.third
    return _scaled(metric, (first.mean, second.mean), first.mean - second.mean, error, third, freedom, tail)


def _scaled(
    metric: str, means: tuple[float, float], value: float, error: float, third: float, freedom: float, tail: float
) -> Difference:
    """A difference of mean losses, its variance and third moment → `Difference` in the metric's own unit.

    The difference of two roots is that of their squares over their sum, so the interval of rmse holds 0 just
    when that of the mean losses does.
    """
    unit = math.sqrt(means[0]) + math.sqrt(means[1]) if metric == "rmse" else 1.0
    error = math.sqrt(error) if error >= 0 else math.inf
    cube = error * error * error
    low, high = _ends(third / cube if cube else 0.0, freedom, tail)
    ends = (value + end * error if error else value for end in (low, high))
    scaled = (part / unit if part else 0.0 for part in (value, *ends))
    return Difference(*(float(part) for part in scaled))


def _ends(skewness: float, freedom: float, tail: float) -> tuple[float, float]:
    """A mean's skewness → the ends of its interval, in standard errors from it."""
    from scipy.stats import norm, t

    z = float(norm.isf(tail) if math.isinf(freedom) else t.isf(tail, max(freedom, 1.0)))
    return -max(z, _unskewed(z, skewness)), -min(-z, _unskewed(-z, skewness))


def _unskewed(z: float, skewness: float) -> float:
    """The inverse of Hall's transformation: which studentised mean has the chance that z has without skewness."""
    if abs(skewness) < 1e-9:
        return z
    return 3 / skewness * (math.cbrt(1 + skewness * (z - skewness / 6)) - 1)
