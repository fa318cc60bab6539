"""`mlflow run . -e main` on the flights with every step a hit, against an MLflow project whose main runs six
empty steps by `mlflow.projects.run`; and against one empty step, started by `mlflow run` itself: what MLflow takes to
run anything that opens its store. Wall time of the whole command. All use the same interpreter, a store that exists
already, and bytecode that is compiled already.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench import project
from bench.harness import Comparison, alternate

RUNS = 9
GOAL = 0.25
GOAL_ONE = 1.1


def measure(runs: int) -> list[Comparison]:
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "baton", Path(folder) / "empty"
        project.baton(ours)  # fills the cache
        project.empty(theirs, tensorflow=False)
        sides = {
            "baton": lambda: hits(ours),
            "empty": lambda: project.empty(theirs, tensorflow=False),
            "one step": lambda: project.empty_step(theirs),
        }
        median = alternate(sides, runs)
    return [
        Comparison("six empty steps by mlflow.projects.run", median["baton"], median["empty"], GOAL, "lower", "s"),
        Comparison("one empty step", median["baton"], median["one step"], GOAL_ONE, "lower", "s"),
    ]


def hits(home: Path) -> float:
    """Seconds of a main whose steps are all hits; raises `AssertionError` if one was not."""
    seconds = project.baton(home)
    assert all(entry["status"] == "cached" for entry in project.steps(home).values()), project.steps(home)
    return seconds
