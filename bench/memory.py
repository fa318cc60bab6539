"""Peak memory of train and batch_infer, whole steps as processes, at 1, 10 and 100 times the flights.

Resident memory of the process and its children, looked at 20 times a second. The anchor is Baton itself at 10
times; what it holds at 1 time is told on standard error. More rows are the same files again under other names:
linked, not copied. Batches are of 8,192 rows, so that an epoch has fewer steps.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from bench import inputs
from bench.harness import KEPT, Comparison, alternate, kept, say

RUNS = 1
TIMES = (1, 10, 100)
BATCH = 8192
LOOKS_EVERY_S = 0.05


def measure(runs: int = RUNS, times: tuple[int, ...] = TIMES) -> list[Comparison]:
    folder = Path(tempfile.mkdtemp(prefix="memory-", dir=KEPT.absolute()))
    before = Path.cwd()
    try:
        prepare(folder, times)
        sides: dict[str, Callable[[], float]] = {}
        for size in times:
            sides[f"train {size}"] = lambda size=size: train(folder, size)  # type: ignore[misc]
            sides[f"batch_infer {size}"] = lambda size=size: batch_infer(folder, size)  # type: ignore[misc]
        medians = alternate(sides, runs)
    finally:
        os.chdir(before)
        shutil.rmtree(folder)
    return [
        Comparison(
            f"{step} at {times[-2]} times the rows",
            medians[f"{step} {times[-1]}"],
            medians[f"{step} {times[-2]}"],
            1.1,
            "lower",
            "MiB",
        )
        for step in ("train", "batch_infer")
    ]
