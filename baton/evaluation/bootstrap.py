"""Rows' statistics in, their sums over rows drawn again with replacement out: what intervals are made of.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile intervals).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

BLOCK = 1 << 15  # rows resampled at a time: their statistics stay in the processor's cache


def _themselves(*columns: np.ndarray) -> Sequence[np.ndarray]:
    return columns


def sums(
    columns: Sequence[np.ndarray],
    resamples: int,
    rng: np.random.Generator,
    statistics: Callable[..., Sequence[np.ndarray]] = _themselves,
) -> np.ndarray:
    """Columns of the same rows [rows] → the sums of s statistics over each resample's rows [s, resamples].

    `statistics` makes them of a block's columns; without it they are the columns themselves.
    How many rows a resample takes of each block is drawn first, then which: the same distribution
    as drawing from all rows at once, but what is read at random stays small. Equal statistics give
    equal sums.
    """
    rows = len(columns[0])
    starts = np.arange(0, rows, BLOCK)
    sizes = np.diff(np.append(starts, rows))
    counts = rng.multinomial(rows, sizes / rows, size=resamples)
    found = np.zeros((len(statistics(*(values[:0] for values in columns))), resamples))
    for start, size, taken in zip(starts, sizes, counts.T, strict=True):
        blocks = statistics(*(values[start : start + size] for values in columns))
        for resample, count in enumerate(taken):
            drawn = rng.integers(0, size, count)
            for row, block in enumerate(blocks):
                found[row, resample] += block.take(drawn).sum()
    return found


def interval(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """A statistic of each resample [resamples] → the interval that holds its middle; nan if one is nan."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
