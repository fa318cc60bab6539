"""A column and the targets in, the share of their variation that it explains by itself out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from baton.data.reference import as_numbers

MIN_ROWS = 50  # of which anything is said that could be chance
FEW_VALUES = 5  # rows a distinct value, at least, of numbers that are looked at value by value


def as_columns(values: pa.ChunkedArray) -> np.ndarray:
    """Targets → ranks [rows, 1], which outliers don't rule; or a column a class."""
    if pa.types.is_floating(values.type):
        return ranks(values.to_numpy())[:, None]
    codes = values.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return np.eye(int(codes.max()) + 1)[codes]


def ranks(numbers: np.ndarray) -> np.ndarray:
    """Numbers [rows] → their ranks [rows], equal ones at the mean of theirs."""
    _, places, sizes = np.unique(numbers, return_inverse=True, return_counts=True)
    return (np.cumsum(sizes) - (sizes - 1) / 2)[places]


def explained_share(values: pa.Array, targets: np.ndarray) -> float:
    """A typed column and targets [rows, k] → the share of their variation that it explains, each row left out itself.

    A row is predicted by the mean of the others of its value; where values hardly recur, by the two next to it. The
    mean of two errs 1.5 times the variance of what cannot be known, and that is allowed for.
    """
    present = values.is_valid().to_numpy(zero_copy_only=False)
    if present.sum() < max(MIN_ROWS, len(values) / 2):
        return 0.0
    targets, values = targets[present], values.drop_null()
    total = float(((targets - targets.mean(axis=0)) ** 2).sum())
    codes = values.dictionary_encode()
    text = pa.types.is_string(values.type)
    if text or pa.types.is_boolean(values.type) or len(codes.dictionary) * FEW_VALUES <= len(values):
        error = group_error(codes.indices.to_numpy(zero_copy_only=False), targets)
    else:
        error = _neighbour_error(as_numbers(values), targets)
    return 1 - error / total if total else 0.0


def group_error(codes: np.ndarray, targets: np.ndarray) -> float:
    sizes = np.bincount(codes)
    sums = np.stack([np.bincount(codes, weights=column) for column in targets.T], axis=1)
    others = (sums[codes] - targets) / np.maximum(sizes[codes] - 1, 1)[:, None]
    predicted = np.where((sizes[codes] > 1)[:, None], others, targets.mean(axis=0))
    return float(((targets - predicted) ** 2).sum())


def _neighbour_error(numbers: np.ndarray, targets: np.ndarray) -> float:
    ordered = targets[np.argsort(numbers, kind="stable")]
    inner = (ordered[:-2] + ordered[2:]) / 2
    return float(((ordered[1:-1] - inner) ** 2).sum()) / 1.5
