"""What an untrained network owes to some train rows: how often it drops categories, and its linear part."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np

from baton.data.explained import ranks
from baton.data.preprocessing import Encoded, Preprocessor
from baton.networks.layers import CategoryEmbedding, LinearPart, LogLink

BY_VALUE = ("value", "date")  # codes of what measures, which the network sees as a number too
# Train rows of a category that are forgotten every second time; of the value of a number, which the network sees as
# a number too, more of them. Chosen on the tables of `bench quality`.
CATEGORY_ROWS, VALUE_ROWS = 15.0, 30.0
MIN_CREDIBILITY = 1.0  # even of a column that tells all, some is forgotten: there are new categories to come
BEGIN_ROWS = 25_000  # that the credibility of columns is estimated on: more would not change who is forgotten
RIDGE = 0.01  # penalty of the linear part's beginning, as a share of a number's variance
RIDGE_ROWS = 10_000  # of fewer, the linear part begins at zero: training moves it, and validation would stop too soon


def dropout_rates(code: Encoded, few: float) -> list[float]:
    """A categorical column → how often training takes each of its codes for unknown: one of `few` rows half the time.

    What few rows say would be learnt by heart, and rows of new categories must be met prepared.
    """
    return [1 / (1 + (rows / few) ** 2) for rows in code.rows]


def initialize(model: keras.Model, preprocessor: Preprocessor, blocks: Iterator[dict[str, np.ndarray]]) -> None:
    """Settle what an untrained network owes to some train rows: how often it forgets categories, its linear part.

    Of the blocks of rows it takes the first, and none where no layer asks for it: images are not read for nothing.
    """
    if not any(isinstance(layer, CategoryEmbedding | LinearPart) for layer in model.layers):
        return
    rows = next(blocks)
    if "categories" in rows:
        _begin_forgetting(model, preprocessor, {name: block[:BEGIN_ROWS] for name, block in rows.items()})
    if "numbers" in rows:
        initialize_linear(model, preprocessor, rows["numbers"], rows["target"])


def _begin_forgetting(model: keras.Model, preprocessor: Preprocessor, rows: dict[str, np.ndarray]) -> None:
    """Forget fewer of the rare codes of a column whose codes tell the target nearly by themselves."""
    embeddings = [layer for layer in model.layers if isinstance(layer, CategoryEmbedding) and layer.dropout is not None]
    if not embeddings:
        return
    named = [e for e in preprocessor.encoded if e.kind == "category"]
    codes, response = _all_codes(preprocessor, rows), _response(preprocessor, rows["target"])
    found = credibilities(codes, response, _own_ranges(preprocessor))
    few = [
        min(max(found[i], MIN_CREDIBILITY), VALUE_ROWS if e.encoding in BY_VALUE else CATEGORY_ROWS)
        for i, e in enumerate(named)
    ]
    for layer in embeddings:
        layer.dropout = [share for i in layer.columns or range(len(named)) for share in dropout_rates(named[i], few[i])]


def _all_codes(preprocessor: Preprocessor, rows: dict[str, np.ndarray]) -> np.ndarray:
    """Codes of categories, then the ranges of numbers as codes [rows, c + d]: the more credible ones tell first."""
    numbers = [e for e in preprocessor.encoded if e.kind == "number"]
    ranges = [np.searchsorted(e.edges[1:-1], rows["numbers"][:, i], side="right") for i, e in enumerate(numbers)]
    return np.column_stack([rows["categories"], *ranges])


def _own_ranges(preprocessor: Preprocessor) -> dict[int, int]:
    """A value's or date's column of `_all_codes` → that of its own number's ranges, which comes first of its source."""
    categories = [e for e in preprocessor.encoded if e.kind == "category"]
    ranges: dict[str, int] = {}
    for index, number in enumerate((e for e in preprocessor.encoded if e.kind == "number"), start=len(categories)):
        ranges.setdefault(number.source, index)
    return {index: ranges[e.source] for index, e in enumerate(categories) if e.source in ranges}


def _response(preprocessor: Preprocessor, target: np.ndarray) -> np.ndarray:
    """Targets [rows] → what codes are to tell: a column a class, or ranks [rows, 1], which long tails do not rule."""
    return np.eye(len(preprocessor.classes))[target.astype(int)] if preprocessor.classes else ranks(target)[:, None]


def credibilities(codes: np.ndarray, target: np.ndarray, after: dict[int, int]) -> list[float]:
    """Codes [rows, c] and target [rows, d] → `credibility` of each column for what columns of a lesser one leave.

    A lesser one tells more; the order is that of the columns taken alone, but one comes after that which `after` names
    for it: a value need not tell again what its range says.
    """
    left = target - target.mean(axis=0)
    found = [credibility(column, left) for column in codes.T]
    rank = [(max(alone, found[after.get(index, index)]), index in after) for index, alone in enumerate(found)]
    for index in sorted(range(len(found)), key=rank.__getitem__):
        found[index] = credibility(codes[:, index], left)
        left = left - _means(codes[:, index], left, found[index])
    return found


def credibility(codes: np.ndarray, target: np.ndarray) -> float:
    """Codes [rows] and target [rows, d] → how many rows of a code tell as much of it as all others do together.

    The variance within codes as a share of that between them, by the unbiased estimates of one-way analysis of
    variance (Bühlmann and Straub, 1970); infinite where codes tell nothing.
    """
    code, count = np.unique(codes, return_inverse=True, return_counts=True)[1:]
    rows, groups = len(codes), len(count)
    if groups < 2 or groups == rows:
        return np.inf
    centred = target - target.mean(axis=0)
    between = float((_sums(code, centred) ** 2 / count[:, None]).sum())
    within = (float((centred**2).sum()) - between) / (rows - groups)
    spread = (between - (groups - 1) * within) / (rows - float((count**2).sum()) / rows)
    return within / spread if spread > 0 else np.inf


def _means(codes: np.ndarray, target: np.ndarray, prior: float) -> np.ndarray:
    """Each row's mean of its code [rows, d], drawn to zero as if `prior` rows more had it."""
    code, count = np.unique(codes, return_inverse=True, return_counts=True)[1:]
    return (_sums(code, target) / (count + prior)[:, None])[code]


def _sums(codes: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(codes, column) for column in target.T], axis=1)


def initialize_linear(model: keras.Model, preprocessor: Preprocessor, numbers: np.ndarray, target: np.ndarray) -> None:
    """Let a regression's linear part begin as the ridge regression on these rows' numbers [rows, d].

    Rare rows with large targets, which clipped gradients hardly move, are met by a trend from the start. That of a
    logarithmic link begins at zero: as an exponent such a trend would be far off.
    """
    if any(isinstance(layer, LogLink) for layer in model.layers):
        return
    part = next((layer for layer in model.layers if isinstance(layer, LinearPart)), None)
    if part is None or preprocessor.classes or len(numbers) < RIDGE_ROWS:
        return
    x = part.clipped(numbers).astype(np.float64)
    x -= x.mean(axis=0)
    y = (target - target.mean()) / preprocessor.spec["target"]["std"]
    penalty = RIDGE * len(x) * np.eye(x.shape[1])
    part.kernel.assign(np.linalg.solve(x.T @ x + penalty, x.T @ y)[:, None])
