"""A raw-column model and test rows in, an `Explanation` out: what each raw column does to its output.

A player is a raw column, with all the encoded columns it becomes, the missing indicator too; of an image
it is a patch. Each row is encoded once, and encoded columns are mixed: encoding looks at a column at a
time, so that is the same as mixing raw rows and encoding them. What is explained is the prediction in
the target's unit, or the probability of a class.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from baton import formatting
from baton.config.schema import Explain
from baton.data import cells as shown
from baton.data.preprocessing import Preprocessor, usable
from baton.data.raw_rows import RawRows
from baton.inspection import shapley
from baton.networks import prediction as prediction_module
from baton.serving.raw_columns import RawColumnModel

CELLS = 1 << 21  # encoded cells, or pixels, handed to the network at once
LARGEST_BATCH = 1 << 16
PATCHES = 7  # across and down an image
IMAGES, IMAGE_BACKGROUND = 24, 10  # an image costs as much as many rows of a table


@dataclass(frozen=True)
class Explanation:
    """SHAP values of sampled rows; `rows` are their numbers in the split, `typed` the rows themselves.

    `found` is of k classes, or of 1 output; `predicted` is what the model itself says of the rows [rows, k].
    `names` are the players': raw columns, or patches of an image in reading order on a `grid` (down, across).
    """

    preprocessor: Preprocessor
    rows: np.ndarray
    typed: pa.Table
    targets: np.ndarray
    names: list[str]
    found: shapley.Attributions
    predicted: np.ndarray
    background: int
    seconds: float
    grid: tuple[int, int] | None = None
    pixels: np.ndarray | None = field(default=None, repr=False)

    @property
    def classes(self) -> list[str]:
        """The classes whose probabilities are explained: the second of two, all of more, none in regression."""
        return self.preprocessor.classes[-self.found.outputs.shape[1] :] if self.preprocessor.classes else []

    @property
    def explained_class(self) -> np.ndarray:
        """For each row, which of the k outputs is told of it: the predicted class's."""
        return self.found.outputs.argmax(axis=1)

    @property
    def values(self) -> np.ndarray:
        """SHAP values [rows, players] of what is told of each row."""
        return self.found.shares[np.arange(len(self.rows)), :, self.explained_class]

    @property
    def label(self) -> str:
        """What is explained, in words."""
        if not self.preprocessor.classes:
            return self.preprocessor.target
        if len(self.classes) == 1:
            return f"probability of {self.classes[0]}"
        return "probability of the predicted class"

    def base(self, index: int) -> float:
        """What a row's shares are added to: the mean output of the background."""
        return float(self.found.base[self.explained_class[index]])

    def prediction(self, index: int) -> float:
        return float(self.found.outputs[index, self.explained_class[index]])

    def gap(self) -> float:
        """The largest distance of base plus shares from what the model says of the raw row: rounding only."""
        added = self.found.base + self.found.shares.sum(axis=1)
        return float(np.abs(added - self.predicted).max(initial=0.0))

    def importance(self) -> np.ndarray:
        """Mean |SHAP| of each player, [players]."""
        return np.abs(self.values).mean(axis=0)

    def error(self) -> np.ndarray:
        """How far each row's prediction is from the target, in the output's unit [rows]."""
        outputs = self.found.outputs
        if not self.preprocessor.classes:
            return np.abs(outputs[:, 0] - self.targets)
        if len(self.classes) == 1:
            return np.abs(outputs[:, 0] - self.targets)
        return 1 - outputs[np.arange(len(self.targets)), self.targets]

    def answer(self, index: int) -> tuple[str, str]:
        """A row → its prediction and its target, as text."""
        if not self.preprocessor.classes:
            return formatting.exact_text(float(f"{self.prediction(index):.6g}")), formatting.exact_text(
                self.targets[index]
            )
        outputs = self.found.outputs[index]
        best = int(outputs[0] > 0.5) if len(self.classes) == 1 else int(outputs.argmax())
        return self.preprocessor.classes[best], self.preprocessor.classes[int(self.targets[index])]

    def cells(self) -> dict[str, list[str]]:
        """{raw column: a text each row}."""
        return {c.name: shown.typed_cells(self.typed.column(c.name), c) for c in self.preprocessor.features}


def explain(model: RawColumnModel, raw: pa.Table | RawRows, settings: Explain, seed: int) -> Explanation:
    """A model and raw rows with the target → the explanation of a sample of them, within `settings.seconds`.

    Raises `OverBudget` where these are too few for a single row.
    """
    started = time.monotonic()
    preprocessor, image = model.preprocessor, bool(model.preprocessor.names("image"))
    most = (min(settings.rows, IMAGES), min(settings.background, IMAGE_BACKGROUND)) if image else None
    wanted, background = most or (settings.rows, settings.background)
    drawn = np.random.default_rng(seed).permutation(raw.num_rows)[: wanted + background]
    rows, kept, targets = usable(raw.take(pa.array(drawn)), preprocessor)
    numbers = drawn[kept]
    order = np.arange(len(numbers))
    chosen, others = order[:wanted], order[-background:]  # of few rows, some are both
    blocks, behind = (_blocks(rows.take(pa.array(picked)), preprocessor) for picked in (chosen, others))
    grid = _grid(blocks["image"]) if image else None
    names = (
        [c.name for c in preprocessor.features] if grid is None else [f"patch {i}" for i in range(grid[0] * grid[1])]
    )
    game = Game(model, blocks, behind, players(preprocessor, blocks, grid))
    deadline = started + settings.seconds
    found = shapley.sampled(game, len(chosen), len(others), len(names), seed, game.batch, deadline)
    done = chosen[: len(found.outputs)]
    explained = rows.take(pa.array(done))
    predicted = _explained(model.predict(explained), preprocessor)
    return Explanation(
        preprocessor, numbers[done], explained, targets[done], names, found, predicted,
        len(found.absent), time.monotonic() - started, grid, blocks["image"][: len(done)] if image else None,
    )  # fmt: skip


class Game:
    """The model as `shapley.Game`: encoded rows and background rows, mixed by players."""

    def __init__(
        self,
        model: RawColumnModel,
        blocks: dict[str, np.ndarray],
        behind: dict[str, np.ndarray],
        of_player: dict[str, np.ndarray],
    ):
        self.model, self.blocks, self.behind, self.of_player = model, blocks, behind, of_player
        cells = sum(int(np.prod(block.shape[1:])) for block in blocks.values())
        self.batch = int(np.clip(CELLS // cells, 64, LARGEST_BATCH))

    def __call__(self, row: np.ndarray, other: np.ndarray, mask: np.ndarray) -> np.ndarray:
        mixed = {}
        for name, block in self.blocks.items():
            plays = mask[:, self.of_player[name]]
            if block.ndim > plays.ndim:  # pixels have channels
                plays = plays[..., None]
            mixed[name] = np.where(plays, block[row], self.behind[name][other])
        preprocessor = self.model.preprocessor
        return _explained(
            prediction_module.probabilities(prediction_module.predict(self.model.network, mixed), preprocessor.classes),
            preprocessor,
        )


def players(
    preprocessor: Preprocessor, blocks: dict[str, np.ndarray], grid: tuple[int, int] | None
) -> dict[str, np.ndarray]:
    """For each of the network's inputs, the player of each of its columns, or pixels [h, w]."""
    number = {column.name: index for index, column in enumerate(preprocessor.features)}
    found = {}
    for kind, block in (("number", "numbers"), ("category", "categories")):
        if block in blocks:
            found[block] = np.array([number[e.source] for e in preprocessor.encoded if e.kind == kind])
    if grid:
        height, width = blocks["image"].shape[1:3]
        down, across = np.arange(height) * grid[0] // height, np.arange(width) * grid[1] // width
        found["image"] = down[:, None] * grid[1] + across[None, :]
    return found


def examples(explanation: Explanation) -> dict[int, str]:
    """A few rows to explain one by one → why each was chosen."""
    error = explanation.error()
    told = np.array([explanation.prediction(index) for index in range(len(error))])
    small = "the smallest prediction" if len(explanation.classes) < 2 else "the least sure prediction"
    large = "the largest prediction" if len(explanation.classes) < 2 else "the surest prediction"
    wanted = [
        (int(error.argmax()), "the prediction that is furthest from the truth"),
        (int(told.argmax()), large),
        (int(told.argmin()), small),
        (int(np.abs(told - np.median(told)).argmin()), "a prediction in the middle of all"),
    ]
    chosen: dict[int, str] = {}
    for index, why in wanted:
        chosen.setdefault(index, why)
    return chosen


def to_dict(explanation: Explanation) -> dict[str, Any]:
    """An explanation → `explanation.json`: plain values."""
    return {
        "rows": len(explanation.rows),
        "background": explanation.background,
        "seconds": round(explanation.seconds, 2),
        "output": explanation.label,
        "unit": "probability" if explanation.classes else explanation.preprocessor.target,
        "base_value": None if len(explanation.classes) > 1 else float(explanation.found.base[0]),
        "columns": _ranked(explanation),
        "additivity": explanation.gap(),
        "rows_explained": [_row(explanation, index, why) for index, why in examples(explanation).items()],
    }


def lacking(reason: str) -> dict[str, Any]:
    """Why nothing is explained → `explanation.json`."""
    return {"rows": 0, "reason": reason}


def _ranked(explanation: Explanation) -> list[dict[str, Any]]:
    features = explanation.preprocessor.features
    importance = explanation.importance()
    if explanation.grid:
        importance = importance.sum(keepdims=True)  # all patches are one column
    total = float(importance.sum()) or 1.0
    columns = [
        {"name": column.name, "kind": column.kind, "importance": float(value), "share": float(value) / total}
        for column, value in zip(features, importance, strict=True)
    ]
    return sorted(columns, key=lambda column: -column["importance"])


def _row(explanation: Explanation, index: int, why: str) -> dict[str, Any]:
    values = explanation.values[index]
    prediction, targets = explanation.answer(index)
    shares = dict(zip(explanation.names, map(float, values), strict=True))
    if explanation.grid:
        shares = {explanation.preprocessor.features[0].name: float(values.sum())}
    return {
        "row": int(explanation.rows[index]),
        "why": why,
        "output": _output_of(explanation, index),
        "base_value": explanation.base(index),
        "output_value": explanation.prediction(index),
        "prediction": prediction,
        "truth": targets,
        "values": {name: cells[index] for name, cells in explanation.cells().items()},
        "shap": shares,
    }


def _explained(predictions: np.ndarray, preprocessor: Preprocessor) -> np.ndarray:
    """Network output [rows, k] → what is explained of it: of two classes, the second's probability."""
    return predictions[:, 1:] if len(preprocessor.classes) == 2 else predictions


def _output_of(explanation: Explanation, index: int) -> str:
    if len(explanation.classes) < 2:
        return explanation.label
    return f"probability of {explanation.classes[explanation.explained_class[index]]}"


def _blocks(rows: pa.Table, preprocessor: Preprocessor) -> dict[str, np.ndarray]:
    """Typed rows → the network's inputs."""
    return preprocessor.blocks(preprocessor.encode(rows))


def _grid(images: np.ndarray) -> tuple[int, int]:
    return min(PATCHES, images.shape[1]), min(PATCHES, images.shape[2])
