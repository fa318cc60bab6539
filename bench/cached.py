"""`mlflow run . -e main` on the flights with every step a hit, against an MLflow project whose main runs six
empty steps by `mlflow.projects.run`. Wall time of the whole command. Both use the same interpreter, a store
that exists already, and bytecode that is compiled already.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench import project
from bench.harness import Comparison, alternate

RUNS = 3
GOAL = 0.25


def measure(runs: int) -> list[Comparison]:
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "baton", Path(folder) / "empty"
        project.baton(ours)  # fills the cache
        project.empty(theirs, tensorflow=False)
        sides = {"baton": lambda: hits(ours), "empty": lambda: project.empty(theirs, tensorflow=False)}
        median = alternate(sides, runs)
    against = "six empty steps by mlflow.projects.run"
    return [Comparison(against, median["baton"], median["empty"], GOAL, "lower", "s")]


def hits(home: Path) -> float:
    """Seconds of a main whose steps are all hits; raises `AssertionError` if one was not."""
    seconds = project.baton(home)
    assert all(entry["status"] == "cached" for entry in project.steps(home).values()), project.steps(home)
    return seconds
