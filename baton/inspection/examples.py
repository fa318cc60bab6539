"""Test rows and what a model answers in, the rows to look at and their pixels out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from baton.data.preprocessing import Preprocessor, usable
from baton.data.raw_rows import RawRows


def surest(rows: np.ndarray, groups: np.ndarray, certainty: np.ndarray, most: int) -> np.ndarray:
    """Numbers of rows, and group and certainty of all rows → those that are surest, at most so many.

    Of each group the surest comes first, then the second of each: no group takes all places.
    """
    ranked = rows[np.lexsort((-certainty[rows], groups[rows]))]
    _, first, place = np.unique(groups[ranked], return_index=True, return_inverse=True)
    turn = np.arange(len(ranked)) - first[place]
    return ranked[np.lexsort((-certainty[ranked], turn))][:most]


def pixels_of(raw: pa.Table | RawRows, preprocessor: Preprocessor, rows: np.ndarray) -> dict[int, np.ndarray]:
    """Raw rows and numbers of some → {number: its picture [h, w, c]}, as the network sees it."""
    numbers = np.unique(np.asarray(rows, np.int64))
    typed, kept, _ = usable(raw.take(pa.array(numbers)), preprocessor)
    return dict(zip(numbers[kept].tolist(), preprocessor.blocks(preprocessor.encode(typed))["image"], strict=True))
