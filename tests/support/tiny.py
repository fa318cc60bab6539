"""Tiny sources and the datasets built from them: what the tests of training and serving share."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from baton.config.schema import Config, validate
from baton.data.dataset import Dataset
from baton.data.ingestion import local
from baton.data.sources import files

ROWS = 600
ODD = "a b ü(')#+@%20[1]?;&"  # the name of a folder: what means something to URLs, shells, globs and quotes
MISSING_IS = 0.7  # what a missing x2 counts for in the regression's target


def regression_table(rows: int = ROWS, seed: int = 1) -> pa.Table:
    """y = 3 + 2 x1 - x2 + (0, 1 or 4 for a, b, c), without noise; some x2 are missing; `n` is any whole number."""
    rng = np.random.default_rng(seed)
    x1, x2 = rng.normal(size=rows).round(6), rng.normal(10, 3, rows).round(6)
    c = rng.choice(["a", "b", "c"], rows)
    gone = rng.random(rows) < 0.1
    y = 3 + 2 * x1 - np.where(gone, MISSING_IS, x2) + np.select([c == "b", c == "c"], [1.0, 4.0], 0.0)
    n = rng.integers(0, 1000, rows)
    return pa.table({"x1": x1, "x2": pa.array(x2, mask=gone), "n": n, "c": c, "y": y})


def binary_table(rows: int = ROWS, seed: int = 2) -> pa.Table:
    """Classes 3 and 7 (whole numbers), told apart by the sign of x1 + x2, with a margin."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows)
    x1 = rng.normal(size=rows)
    x2 = np.where(y == 1, 1, -1) * rng.uniform(0.3, 2, rows) - x1
    return pa.table({"x1": x1, "x2": x2, "y": np.where(y == 1, 7, 3)})


def uneven_table(rows: int = 3000, seed: int = 4) -> pa.Table:
    """Class `yes` is one row in ten, and overlaps with `no`."""
    rng = np.random.default_rng(seed)
    y = rng.random(rows) < 0.1
    x = rng.normal(size=rows) + 1.2 * y
    return pa.table({"x": x, "noise": rng.normal(size=rows), "y": np.where(y, "yes", "no")})


def image_table(rows: int = 150, seed: int = 3) -> pa.Table:
    """Grey 8 × 8 PNGs (every tenth 10 × 6), bright above (`top`) or below (`bottom`), or `even`."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(["bottom", "even", "top"], rows)
    pictures = []
    for index, label in enumerate(labels):
        height, width = (10, 6) if index % 10 == 0 else (8, 8)
        pixels = rng.integers(0, 60, (height, width))
        half = {"top": slice(0, height // 2), "bottom": slice(height // 2, None), "even": slice(0, 0)}[label]
        pixels[half] += 150
        pictures.append(png(pixels))
    return pa.table({"image": pa.array(pictures, pa.binary()), "label": labels})


def png(pixels: np.ndarray) -> bytes:
    """Grey pixels [h, w] → PNG bytes."""
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(held, "PNG")
    return held.getvalue()


def config(task: str = "regression", source: str = "-", **sections: Any) -> Config:
    """A config of small, quick training without dropout; `sections` are merged into it."""
    tree: dict[str, Any] = {
        "name": "tiny",
        "data": {"source": source, "target": "label" if task == "image" else "y", "task": task, "row_group_size": 40},
        "model": {"hidden": [8], "networks": 1, "dropout": 0.0, "embedding": 2, "number_width": 4, "filters": [4]},
        "train": {
            "epochs": 3,
            "batch_size": 32,
            "warmup_epochs": 0,
            "steps_per_execution": 4,
            "learning_rate": 0.002,
            "patience": 4,
        },
        "distributed_train": {"workers": 1},
        "register": {"explain": {"rows": 0}, "audit": {"folds": 0}},
    }
    for name, values in sections.items():
        tree[name] = {**tree.get(name, {}), **values} if isinstance(values, dict) else values
    return validate(tree, {}, "test")


def build(table: pa.Table, folder: Path, task: str, **sections: Any) -> tuple[Config, Dataset]:
    """Write `table` as Parquet and build its dataset beside it → (config, dataset)."""
    source = folder / "source.parquet"
    pq.write_table(table, source)
    made = config(task, str(source), **sections)
    place = folder / "dataset"
    place.mkdir()
    local.build(made, files.resolve(str(source)), place)
    return made, Dataset.load(place)
