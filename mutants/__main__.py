"""`python -m mutants`: change the lines that matter most, one after another, and tell which change no test notices."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import click

from mutants.operators import Mutation, mutations
from mutants.targets import EXPLAINED, TARGETS, Target
from mutants.trials import Copy, Trial

ROOT = Path(__file__).resolve().parents[1]


@click.command(help=__doc__)
@click.option("--files", default="", help="only targets whose file holds this text")
@click.option("--jobs", default=len(os.sched_getaffinity(0)), show_default=True, help="mutations at the same time")
@click.option("--list", "only_list", is_flag=True, help="print the mutations and try none")
def main(files: str, jobs: int, only_list: bool) -> None:
    started = time.monotonic()
    work = [(target, change) for target in TARGETS if files in target.file for change in mutations_of(target)]
    click.echo(f"{len(work)} mutations")
    if only_list:
        click.echo("\n".join(_place(target, change) for target, change in work))
        return
    trials = []
    for number, trial in enumerate(attempts(work, jobs, ROOT), 1):
        trials.append(trial)
        _print(number, len(work), trial)
    click.echo("\n" + summary(trials, time.monotonic() - started))
    sys.exit(any(not trial.noticed and not explained(trial) for trial in trials))


def mutations_of(target: Target) -> list[Mutation]:
    return mutations((ROOT / target.file).read_text(encoding="utf-8"), target.functions)


def _place(target: Target, mutation: Mutation) -> str:
    return f"{target.file}:{mutation.line} {mutation.function}: {mutation.change}"


def attempts(work: list[tuple[Target, Mutation]], jobs: int, root: Path) -> Iterator[Trial]:
    """Mutations → what came of each, in their order; `jobs` at the same time, each in a copy of its own."""
    with _copies(jobs, root) as idle, ThreadPoolExecutor(jobs) as pool:
        targets = list(dict.fromkeys(target for target, _ in work))
        taken = pool.map(lambda target: _borrowed(idle, lambda copy: copy.undisturbed(target)), targets)
        seconds = dict(zip(targets, taken, strict=True))

        def attempt(pair: tuple[Target, Mutation]) -> Trial:
            return _borrowed(idle, lambda copy: copy.attempt(pair[0], pair[1], seconds))

        yield from pool.map(attempt, work)


def _borrowed(idle: Queue[Copy], action: Callable[[Copy], Any]) -> Any:
    """What an action does with one of the copies, which is idle again then."""
    copy = idle.get()
    try:
        return action(copy)
    finally:
        idle.put(copy)


@contextmanager
def _copies(number: int, root: Path) -> Iterator[Queue[Copy]]:
    with tempfile.TemporaryDirectory(prefix="baton-mutants-") as home:
        idle: Queue[Copy] = Queue()
        for place in range(number):
            idle.put(Copy(root, Path(home) / str(place)))
        yield idle


def explained(trial: Trial) -> str:
    """Why nobody could notice a mutation; empty if somebody should."""
    return EXPLAINED.get((trial.target.file, trial.mutation.function, trial.mutation.change), "")


def _print(number: int, count: int, trial: Trial) -> None:
    end = "noticed" if trial.noticed else "explained" if explained(trial) else "SURVIVED"
    click.echo(f"{number:4}/{count} {end:9} {trial.seconds:5.1f} s  {_place(trial.target, trial.mutation)}")


def summary(trials: list[Trial], seconds: float) -> str:
    """Trials → a Markdown table, a line a file, and the survivors."""
    ends = Counter((trial.target.file, "noticed" if trial.noticed else "explained" if explained(trial) else "survived")
                   for trial in trials)  # fmt: skip
    lines = ["| file | mutations | noticed | explained | survived |", "|---|---:|---:|---:|---:|"]
    for file in dict.fromkeys(trial.target.file for trial in trials):
        counts = [ends[file, end] for end in ("noticed", "explained", "survived")]
        lines.append(f"| {file} | {sum(counts)} | {' | '.join(map(str, counts))} |")
    lines += ["", f"{seconds / 60:.0f} minutes."]
    for trial in trials:
        if not trial.noticed:
            why = explained(trial) or "no test notices it"
            lines.append(f"- {_place(trial.target, trial.mutation)}: {why}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
