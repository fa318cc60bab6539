"""Test rows and what a model answers in, the classes that it mixes up most often out, with pictures of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from baton.data.preprocessing import Preprocessor
from baton.data.raw_rows import RawRows
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
    preprocessor: Preprocessor, raw: pa.Table | RawRows, targets: np.ndarray, predictions: np.ndarray
) -> list[Confusion]:
    """Raw rows, their targets [n] and a model's output [n, k] → the most frequent mix-ups, the most frequent first."""
    predicted = decide(predictions, preprocessor.threshold)
    certainty = predictions[np.arange(len(predicted)), predicted]
    pairs = frequent_pairs(targets, predicted, MAX_CONFUSIONS)
    rows = {
        cell: np.flatnonzero((targets == cell[0]) & (predicted == cell[1]))
        for actual, other, _ in pairs
        for cell in ((actual, other), (actual, actual), (other, other))
    }
    pictures = _pictures(raw, preprocessor, rows, certainty)
    return [
        Confusion(
            preprocessor.classes[actual], preprocessor.classes[other], count, int(np.count_nonzero(targets == actual)),
            pictures[actual, other], (pictures[actual, actual], pictures[other, other]),
        )
        for actual, other, count in pairs
    ]  # fmt: skip


def _pictures(
    raw: pa.Table | RawRows, preprocessor: Preprocessor, rows: dict[tuple[int, int], np.ndarray], certainty: np.ndarray
) -> dict[tuple[int, int], list[Picture]]:
    """The rows of (actual, predicted) classes → the pictures of the surest of each."""
    chosen = {
        cell: numbers[np.argsort(-certainty[numbers], kind="stable")][
            : MAX_RIGHT if cell[0] == cell[1] else MAX_MISTAKEN
        ]
        for cell, numbers in rows.items()
    }
    pixels = pixels_of(raw, preprocessor, np.concatenate([np.zeros(0, np.int64), *chosen.values()]))
    return {
        cell: [Picture(row, pixels[row], float(certainty[row])) for row in numbers.tolist()]
        for cell, numbers in chosen.items()
    }


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
