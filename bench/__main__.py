"""`python -m bench NAME` prints one benchmark's JSON line; `python -m bench` runs all into docs/BENCHMARKS.md."""

from __future__ import annotations

import importlib
import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from bench.harness import Comparison, say

NAMES = (
    "feed",
    "fit",
    "horovod",
    "tune",
    "cached",
    "overhead",
    "infer",
    "ingest",
    "memory",
    "gate",
    "augment",
    "image_feed",
)
# By name only: they take an hour, or a quarter, or want pictures or memory that are no part of the project.
LONG = ("quality", "fashion", "transfer", "policy", "labels", "image_infer", "scaling")
TABLE = Path("docs/BENCHMARKS.md")


@click.command()
@click.argument("name", required=False, type=click.Choice((*NAMES, *LONG)))
@click.option("--runs", type=click.IntRange(min=1), help="how often each side is measured; by default the benchmark's")
def bench(name: str | None, runs: int | None) -> None:
    """Measure Baton and its alternatives side by side; without a name all but long ones, into docs/BENCHMARKS.md."""
    if name:
        click.echo(json.dumps(one(name, runs)))
    else:
        sys.exit(everything(runs))


def one(name: str, runs: int | None) -> dict[str, Any]:
    """A benchmark's name → {"name", "results", "runs"}."""
    module = importlib.import_module(f"bench.{name}")
    runs = runs or module.RUNS
    return {"name": name, "results": [result.to_dict() for result in module.measure(runs)], "runs": runs}


def everything(runs: int | None) -> int:
    """Run each benchmark in a process of its own and write the table; 1 if one of them failed."""
    lines, failed = [], []
    for name in NAMES:
        say(f"== {name}")
        command = [sys.executable, "-m", "bench", name, *([f"--runs={runs}"] if runs else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            failed.append(name)
        else:
            lines.append(json.loads(done.stdout.splitlines()[-1]))
    TABLE.write_text(page(lines, failed))
    return 1 if failed else 0


def page(lines: list[dict[str, Any]], failed: list[str]) -> str:
    """The benchmarks' JSON lines → docs/BENCHMARKS.md."""
    rows = [_row(line, result) for line in lines for result in line["results"]]
    rows += [f"| `{name}` | failed | | | | | | |" for name in failed]
    about = [f"**{line['name']}**, median of {line['runs']}. {_about(line['name'])}" for line in lines]
    about += [f"**{name}.** {_about(name)}" for name in failed]
    head = "| name | against | Baton | alternative | unit | ratio | goal | met |\n|---|---|---:|---:|---|---:|---:|---|"
    return "\n".join([
        "# Benchmarks", "",
        "Baton and what it is compared with, measured in turn in one run; medians. Written by `make bench`.", "",
        f"{datetime.now(UTC):%Y-%m-%d}, {machine()}.", "",
        head, *rows, "",
        "`python -m bench NAME` measures one row.", "",
        "\n\n".join(about), "",
    ])  # fmt: skip


def machine() -> str:
    """The machine in a line: processor, cores, memory, versions."""
    import psutil

    cpu = next((line.partition(": ")[2] for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{cpu or platform.machine()}, {psutil.cpu_count()} cores, {memory:.0f} GiB of memory, "
        f"Python {platform.python_version()}, Linux {platform.release().split('-')[0]}"
    )


def _row(line: dict[str, Any], result: dict[str, Any]) -> str:
    found = Comparison(**{key: value for key, value in result.items() if key != "ratio"})
    sign = "≥" if found.better == "higher" else "≤"
    numbers = f"{_cell(found.baton)} | {_cell(found.anchor)} | {found.unit} | {found.ratio:.3g}"
    return (
        f"| `{line['name']}` | {found.against} | {numbers} | {sign} {found.goal:g} | {'yes' if found.met else 'no'} |"
    )


def _cell(value: float) -> str:
    """Four digits that count; large numbers whole."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _about(name: str) -> str:
    return (importlib.import_module(f"bench.{name}").__doc__ or "").strip()


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


if __name__ == "__main__":
    bench()
