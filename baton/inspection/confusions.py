"""Test rows and what a model answers in, the classes that it mixes up most often out, with pictures of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from baton.data.preprocessing import Preprocessor
from baton.data.target import decide
from baton.inspection.examples import pixels_of

MAX_CONFUSIONS = 6
MAX_MISTAKEN, MAX_RIGHT = 4, 2  # pictures of each


@dataclass(frozen=True)
class Picture:
    """A test row, and the probability of the class that was predicted for it."""

    row: int
    pixels: np.ndarray
    probability: float


@dataclass(frozen=True)
class Confusion:
    """Of `total` test rows of the class `actual`, `count` are taken for `predicted`.

    `mistaken` are some of these; `right` are some that are rightly taken for the one class and for the other.
    """

    actual: str
    predicted: str
    count: int
    total: int
    mistaken: list[Picture]
    right: tuple[list[Picture], list[Picture]]

    def __str__(self) -> str:
        return f"{self.actual} taken for {self.predicted} ({self.count:,} of {self.total:,})"


def confusions(
    preprocessor: Preprocessor, raw: pa.Table, targets: np.ndarray, predictions: np.ndarray
) -> list[Confusion]:
    """Raw rows, their targets [n] and a model's output [n, k] → the most frequent mix-ups, the most frequent first."""
    predicted = decide(predictions, preprocessor.threshold)
    certainty = predictions[np.arange(len(predicted)), predicted]

    def pictures(actual: int, taken_for: int, most: int) -> list[Picture]:
        rows = np.flatnonzero((targets == actual) & (predicted == taken_for))
        rows = rows[np.argsort(-certainty[rows], kind="stable")][:most]
        pixels = pixels_of(raw, preprocessor, rows)
        return [Picture(row, pixels[row], float(certainty[row])) for row in rows.tolist()]

    return [
        Confusion(
            preprocessor.classes[actual], preprocessor.classes[other], count, int(np.count_nonzero(targets == actual)),
            pictures(actual, other, MAX_MISTAKEN),
            (pictures(actual, actual, MAX_RIGHT), pictures(other, other, MAX_RIGHT)),
        )
        for actual, other, count in frequent_pairs(targets, predicted, MAX_CONFUSIONS)
    ]  # fmt: skip


def frequent_pairs(targets: np.ndarray, predicted: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """Targets and predicted classes [n] → (actual, predicted, rows) of wrong ones, the most frequent first."""
    wrong = predicted != targets
    pairs, counts = np.unique(np.stack([targets[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
    ranked = np.argsort(-counts, kind="stable")[:most]
    return [(int(pairs[i, 0]), int(pairs[i, 1]), int(counts[i])) for i in ranked]


def to_dict(mixed: list[Confusion]) -> list[dict[str, Any]]:
    """Mix-ups → the key `confusions` of `explanation.json`: plain values."""
    return [
        {"actual": c.actual, "predicted": c.predicted, "rows": c.count, "of": c.total,
         "examples": [{"row": p.row, "probability": p.probability} for p in c.mistaken]}
        for c in mixed
    ]  # fmt: skip
