"""The first `mlflow run . -e main` on the flights: what it takes beyond the work inside the steps, against an
MLflow project whose main runs six empty steps by `mlflow.projects.run`, TensorFlow imported in those five that
need it. A step's work is counted from the first line of its function to the last (metric `seconds_function`),
less the time in which it waits for processes of its own to be up (`seconds_waited`); all else is overhead:
imports, processes, runs, cache keys, the store's first tables. Both sides start with an empty store.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench import project
from bench.harness import Comparison, alternate, say

RUNS = 3
GOAL, MOST_S = 0.5, 30.0


def measure(runs: int) -> list[Comparison]:
    median = alternate({"baton": overhead, "empty": empty}, runs)
    return [
        Comparison("six empty steps, TensorFlow in five", median["baton"], median["empty"], GOAL, "lower", "s"),
        Comparison("30 seconds", median["baton"], MOST_S, 1.0, "lower", "s"),
    ]


def overhead() -> float:
    """Seconds of a first main beyond the work inside its steps."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = project.baton(Path(folder))
        work = project.work(Path(folder))
    say("  " + "  ".join(f"{step} {took:.1f}" for step, took in work.items()) + f"  of {seconds:.1f} s")
    return seconds - sum(work.values())


def empty() -> float:
    with tempfile.TemporaryDirectory() as folder:
        return project.empty(Path(folder), tensorflow=True)
