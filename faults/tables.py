"""The project that is run again and again: a small table, learnt in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

YESTERDAY = "train.epochs=2,seed=7"  # an older champion and an older output, to be replaced
CONFIG: dict[str, Any] = {
    "data": {"source": "rows.csv", "target": "y", "task": "regression", "row_group_size": 60},
    "model": {"hidden": [8], "networks": 1, "dropout": 0.2, "embedding": 2, "number_width": 4},
    "train": {"epochs": 4, "batch_size": 16, "learning_rate": 0.02, "steps_per_execution": 4},
    "tune": {
        "max_trials": 3,
        "generation": 2,
        "epochs": 1,
        "parallelism": 1,
        "space": {"train.learning_rate": {"loguniform": [0.01, 0.05]}},
    },
    "register": {"explain": {"rows": 10, "background": 5}, "audit": {"folds": 0}},
    "batch_infer": {"source": "new.csv"},
}


def write(home: Path, rows: int, seed: int) -> None:
    """Rows to learn from, three of them unusable, and fewer to score."""
    pa.csv.write_csv(_table(rows, seed), home / "rows.csv")
    pa.csv.write_csv(_table(80, seed + 100).drop(["y"]), home / "new.csv")


def _table(rows: int, seed: int) -> pa.Table:
    """y = 3 + 2 x1 - x2 + (0, 1 or 4 for a, b, c) and a little noise; x2 has gaps, three targets are missing."""
    rng = np.random.default_rng(seed)
    x1, x2 = rng.normal(size=rows).round(6), rng.normal(5, 1, rows).round(6)
    c = rng.choice(["a", "b", "c"], rows)
    y = 3 + 2 * x1 - x2 + np.select([c == "b", c == "c"], [1.0, 4.0], 0.0) + rng.normal(0, 0.05, rows)
    x1[5] = np.inf  # quarantined, when scoring too
    gaps = rng.random(rows) < 0.1
    return pa.table({"x1": x1, "x2": pa.array(x2, mask=gaps), "c": c, "y": pa.array(y, mask=np.arange(rows) < 3)})
