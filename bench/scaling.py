"""What the steps that see every row cost at 1, 10 and 100 times the flights: `python -m bench.scaling [STEP]`.

Whole steps as processes, one after the other: seconds, processor seconds of the process and all below it, and peak
memory as in `bench.memory`. The model of docs/how-to/SCALING.md is a line: a constant and so much a row. It is drawn
through 1 and 100 times the rows and says what 10 times should take.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from bench import inputs
from bench.harness import KEPT, say
from bench.memory import TIMES, Home, link

HEAD = """| step | | 1× | 10× | 100× | a row | the line says at 10× |
|---|---|---:|---:|---:|---:|---:|"""


@dataclass(frozen=True)
class Cost:
    """What a step took at so many times the rows."""

    times: int
    seconds: float
    processor_seconds: float
    peak: float  # MiB


def ingest(home: Home, engine: str, times: int) -> None:
    """From so many CSV files of the flights."""
    source = home.folder / f"csv-{times}"
    if not source.exists():
        source.mkdir()
        link(inputs.flights_csv(), [source / f"{n:03d}.csv" for n in range(times)])
    warehouse = home.folder / "warehouse"
    home.run("ingest", f"--set=data.source={source},warehouse={warehouse},engine={engine}")
    shutil.rmtree(warehouse)


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
    "ingest, engine local": lambda home: partial(ingest, home, "local"),
    "ingest, engine spark": lambda home: partial(ingest, home, "spark"),
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
