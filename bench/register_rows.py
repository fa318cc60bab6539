"""What register takes at 1, 10 and 100 times the flights' test rows: `python -m bench.register_rows [TIMES …]`.

Whole steps as processes, their peak memory as in `bench.memory`: Baton as it is, and as it was when it held the raw
test rows, from a work tree of that commit. Train and validation stay as they are. One model is trained; it is candidate
and champion, so that two models answer for every test row.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from baton import names
from baton.data.dataset import Dataset
from bench import inputs
from bench.before import worktree
from bench.harness import KEPT, say
from bench.memory import ROOT, TIMES, Home, copies, repeat

HEAD = """| register | test rows | seconds | peak memory, MiB | more a test row, bytes |
|---|---:|---:|---:|---:|"""


def repeat_test(dataset: Path, times: int) -> None:
    """Make a dataset's test split, as encoded and as raw rows, so many times itself."""
    manifest: dict[str, Any] = json.loads((dataset / names.MANIFEST).read_text())
    tests = [entry for entry in manifest["files"] if entry["split"] == "test"]
    rest = [entry for entry in manifest["files"] if entry["split"] != "test"]
    manifest["files"] = rest + [copy for entry in tests for copy in copies(dataset, entry, times)]
    manifest["raw_test"] = [copy for entry in manifest["raw_test"] for copy in copies(dataset, entry, times)]
    manifest["rows"]["test"] *= times
    (dataset / names.MANIFEST).write_text(json.dumps(manifest))


def measured(home: Home, run_id: str, code: Path, times: int) -> tuple[int, float, float]:
    """A trained run, and where Baton's code lies → test rows, seconds and peak MiB of register."""
    folder = home.folder / f"test-{times}"
    if not folder.exists():
        repeat(inputs.dataset().folder, folder, 1)
        repeat_test(folder, times)
    home.client.set_tag(run_id, names.TAG_DATASET, str(folder))
    home.code = code
    home.run("register", f"--candidate_run_ids={run_id}")
    return Dataset.load(folder).rows["test"], home.seconds, home.peak


def lines(name: str, costs: list[tuple[int, float, float]]) -> list[str]:
    """A line each size; from the second on with how much memory a test row more took."""
    first_rows, _, first = costs[0]
    texts = []
    for rows, seconds, peak in costs:
        more = f"{(peak - first) * 2**20 / (rows - first_rows):,.0f}" if rows > first_rows else ""
        texts.append(f"| {name} | {rows:,} | {seconds:,.1f} | {peak:,.0f} | {more} |")
    return texts


@click.command()
@click.argument("times", nargs=-1, type=int)
def register_rows(times: tuple[int, ...]) -> None:
    """Print the table of docs/how-to/SCALING.md on register."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="register-", dir=KEPT.absolute()) as folder, worktree() as before:
        home = Home(Path(folder))
        run_id = home.train(1)
        home.register(run_id)
        sides = {"in parts": ROOT, "before": before}
        found: dict[str, list[tuple[int, float, float]]] = {name: [] for name in sides}
        for n in times or TIMES:
            for name, code in sides.items():
                found[name].append(measured(home, run_id, code, n))
                say(f"{name} {n}: {found[name][-1]}")
    click.echo("\n".join([HEAD, *(line for name, each in found.items() for line in lines(name, each))]))


if __name__ == "__main__":
    register_rows()
