"""The same of pictures, and a base that transfer learning begins with: it is probed, fine-tuned, and raced."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from faults import tables

SIDE = 16
BASE = "base.keras"
YESTERDAY = "train.transfer=scratch,train.epochs=6,seed=7"
CONFIG: dict[str, Any] = {
    "data": {"source": "rows.parquet", "task": "image", "row_group_size": 30},
    "model": {"backbone": BASE, "filters": [4], "dropout": 0.2},
    "train": {
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 0.02,
        "steps_per_execution": 4,
        "augment": {"shift": 0.1},
    },
    "tune": {
        **tables.CONFIG["tune"],
        "space": {"train.learning_rate": {"loguniform": [0.01, 0.05]}},
    },
    "register": {"explain": {"rows": 4, "background": 4}, "audit": {"folds": 0}},
    "batch_infer": {"source": "new.parquet"},
}


def write(home: Path, rows: int, seed: int) -> None:
    """Pictures to learn from, three of them damaged, fewer to score, and the base, always the same."""
    pq.write_table(_table(rows, seed), home / "rows.parquet")
    pq.write_table(_table(80, seed + 100).drop(["label"]), home / "new.parquet")
    if not (home / BASE).exists():
        _base().save(home / BASE)


def _table(rows: int, seed: int) -> pa.Table:
    """Noise with a bright half: the upper or the left one."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    left = rng.random(rows) < 0.5
    pixels = rng.integers(0, 120, (rows, SIDE, SIDE), np.uint8)
    pixels[~left, : SIDE // 2] += 60
    pixels[left, :, : SIDE // 2] += 60
    cells = []
    for picture in pixels:
        Image.fromarray(picture).save(held := io.BytesIO(), "PNG")
        cells.append(held.getvalue())
    cells[3:6] = [b"no picture"] * min(3, rows)
    return pa.table({"image": pa.array(cells, pa.binary()), "label": np.where(left, "left", "upper")})


def _base() -> Any:
    """Two convolutions that have learnt nothing: a random map tells halves apart all the same."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((SIDE, SIDE, 1), name="image")
    maps = keras.layers.Rescaling(1 / 255)(inputs)
    for filters in (8, 16):
        maps = keras.layers.Conv2D(filters, 3, 2, padding="same", activation="relu")(maps)
    return keras.Model(inputs, maps)
