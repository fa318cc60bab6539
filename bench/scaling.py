"""Ingest on this machine and the engine it had before, at commit c4aff51 in a worktree: rows a second, peak memory.

Each builds the dataset from 1, 10 and 100 CSV files of the flights, in a process of its own that has imported what
ingest has; memory is what the process held at most. The smaller ones run more often.

`python -m bench.scaling [STEP]` prints the table of docs/how-to/SCALING.md: what the steps that see every row cost at
1, 10 and 100 times the flights. Whole steps as processes, one after the other: seconds, processor seconds of the
process and all below it, and peak memory as in `bench.memory`. The model is a line: a constant and so much a row. It is
drawn through 1 and 100 times the rows and says what 10 times should take.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from bench import built, inputs
from bench.before import BEFORE, worktree
from bench.harness import KEPT, Comparison, alternate, say
from bench.memory import ROOT, TIMES, Home, flights

HEAD = """| step | | 1× | 10× | 100× | a row | the line says at 10× |
|---|---|---:|---:|---:|---:|---:|"""


RUNS = 1
FASTER = {1: 1.0, 10: 1.3, 100: 1.3}  # goals: times the rows a second of the engine before
MOST_MIB, MOST_TIMES = 1536, 1.1  # of memory in all, and of what a tenth of the rows takes


def measure(runs: int = RUNS, times: tuple[int, ...] = TIMES) -> list[Comparison]:
    KEPT.mkdir(parents=True, exist_ok=True)
    found: dict[int, dict[str, float]] = {}
    peaks: dict[int, float] = {}
    with tempfile.TemporaryDirectory(prefix="scaling-", dir=KEPT.absolute()) as folder, worktree() as before:
        for n in times:
            source = flights(Path(folder), n)
            ours: list[built.Built] = []
            sides = {
                "baton": partial(_rate, ROOT, source, Path(folder), ours),
                BEFORE: partial(_rate, before, source, Path(folder), []),
            }
            found[n] = alternate(sides, max(runs, 5 // n))
            peaks[n] = statistics.median(one.peak for one in ours)
    few, many = times[-2:]
    return [
        *(Comparison(f"{BEFORE}, {n} times the rows", found[n]["baton"], found[n][BEFORE], FASTER[n], "higher",
                     "rows/s") for n in times),
        Comparison(f"peak at {few} times the rows", peaks[many], peaks[few], MOST_TIMES, "lower", "MiB"),
        Comparison("1.5 GiB", peaks[many], MOST_MIB, 1.0, "lower", "MiB"),
    ]  # fmt: skip


def _rate(root: Path, source: Path, folder: Path, kept: list[built.Built]) -> float:
    """Rows a second of the ingest of a checkout, in a process of its own."""
    command = [sys.executable, built.__file__, str(source), str(folder / "dataset")]
    environment = {**os.environ, "PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    kept.append(built.Built(**json.loads(done.stdout.splitlines()[-1])))
    say(f"{kept[-1]}")
    return kept[-1].rows / kept[-1].seconds


@dataclass(frozen=True)
class Cost:
    """What a step took at so many times the rows."""

    times: int
    seconds: float
    processor_seconds: float
    peak: float  # MiB


def costs(home: Home, step: Callable[[int], object]) -> list[Cost]:
    found = []
    for times in TIMES:
        step(times)
        found.append(Cost(times, home.seconds, home.processor_seconds, home.peak))
        say(f"{found[-1]}")
    return found


def row(name: str, what: str, values: list[float], unit: str) -> str:
    """A line of the table: one value a size, and what the straight line through the outer two makes of the middle."""
    few, some, many = TIMES
    slope = (values[2] - values[0]) / (many - few)
    straight = values[0] + slope * (some - few)
    scale = 2**20 if unit == "bytes" else 1e6
    *texts, middle = (f"{value:,.3g}" if value < 1000 else f"{value:,.0f}" for value in (*values, straight))
    return f"| {name} | {what} | {' | '.join(texts)} | {slope / inputs.ROWS * scale:,.3g} {unit} | {middle} |"


def lines(name: str, costs: list[Cost]) -> list[str]:
    values = [
        ("seconds", [cost.seconds for cost in costs], "µs"),
        ("processor seconds", [cost.processor_seconds for cost in costs], "µs"),
        ("peak memory, MiB", [cost.peak for cost in costs], "bytes"),
    ]
    if name.endswith("spark"):  # nobody waits for Java's end, so the system does not say what it used
        del values[1]
    return [row("" if n else name, *value) for n, value in enumerate(values)]


STEPS: dict[str, Callable[[Home], Callable[[int], object]]] = {
    "ingest, engine local": lambda home: partial(home.ingest, "local"),
    "ingest, engine spark": lambda home: partial(home.ingest, "spark"),
    "train, an epoch": lambda home: home.train,
    "batch_infer, engine local": lambda home: home.batch_infer_peak,
}


@click.command()
@click.argument("step", required=False, type=click.Choice(list(STEPS)))
def scaling(step: str | None) -> None:
    """Measure one step, or all of them, and print the table of docs/how-to/SCALING.md."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="scaling-", dir=KEPT.absolute()) as folder:
        home = Home(Path(folder))
        home.register(home.train(1))
        table = [line for name in ([step] if step else STEPS) for line in lines(name, costs(home, STEPS[name](home)))]
    click.echo("\n".join([HEAD, *table]))


if __name__ == "__main__":
    scaling()
