"""What nothing refers to any more, listed and, with --delete, removed: `python -m baton.orchestration.gc --config=…`.

Datasets, checkpoints, leftovers of killed writes, and runs (MLflow's own soft deletion) of one pipeline. What is
younger than `retention_days`, at work, or needed by the newest pipeline, an alias or a rollback, stays.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from rich.table import Table

from baton.config import loading
from baton.config.schema import Config
from baton.errors import BadInput, explained
from baton.orchestration import references
from baton.orchestration.references import Records
from baton.orchestration.step import enter_project, guarded
from baton.redaction import masked
from baton.reporting import console
from baton.runtime import locks, replacing
from baton.runtime.file_systems import PROBE
from baton.tracking import runs, servers

log = logging.getLogger("baton")


DAY_S = 86_400
FRESH_S = 3_600  # whatever the retention: what was touched within the last hour may be half made
RUN_ID = re.compile(r"[0-9a-f]{32}")
CHECKPOINT = re.compile(r"[0-9a-f]{32}(-\w{8})?")
ASIDE = ".aside-"  # how ingest begins the name of what it has not finished


@dataclass(frozen=True)
class Item:
    """One thing to remove: a folder, or a run if there is no path; why, how large, and how old."""

    kind: str  # dataset | checkpoint | leftover | run
    name: str
    reason: str
    age_s: float
    bytes: int = 0
    path: Path | None = None


def collect(config: Config, now: float) -> list[Item]:
    """Everything of a pipeline that may go; raises `BadInput` if this tracking store cannot be the pipeline's."""
    records = references.collect(config)
    cutoff = now - max(config.retention_days * DAY_S, FRESH_S)
    needed = references.needed(records, int(cutoff * 1000))
    home = Path(config.warehouse) / config.name
    folders = list(_datasets(home, config, records, needed))
    if folders and not records.runs:
        raise BadInput(
            f"This tracking store has no run of {config.name}, and {home} has datasets: set MLFLOW_TRACKING_URI to "
            "the store that they belong to."
        )
    folders += [*_checkpoints(home, config), *_outputs(config)]
    stale = [item for folder in folders if (item := _measured(folder, now)).age_s > now - cutoff]
    return stale + _runs(records, references.kept(records, needed), cutoff, now)


def remove(item: Item) -> bool:
    """Remove one item; False if a process has begun to work in it meanwhile."""
    if item.path is None:
        _delete_run(item.name)
        return True
    lock = locks.take(item.path)
    if lock is None:
        return False
    try:
        path = item.path
        if item.kind == "dataset":  # nobody shall find half of one
            path = path.rename(path.with_name(f"{ASIDE}{path.name}"))
        shutil.rmtree(path)
    finally:
        lock.release()
    return True


def _delete_run(run_id: str) -> None:
    """Delete a run with what is nested under it (were any of that needed, so were the run), as MLflow does: softly."""
    run = runs.client().get_run(run_id)
    if run.info.lifecycle_stage == "deleted":
        return  # with the run that it was nested under
    for child in runs.children(run):
        _delete_run(child)
    runs.close(run_id, "KILLED")
    runs.client().delete_run(run_id)


def _datasets(home: Path, config: Config, records: Records, needed: set[str]) -> Iterator[Item]:
    """The datasets that no run needs, and what a killed ingest, or gc, has left of others."""
    for folder in _folders(home / "datasets", config):
        if folder.name.startswith(ASIDE):
            yield Item("leftover", folder.name, "of an ingest, or a gc, that was killed", 0, path=folder)
        elif RUN_ID.fullmatch(folder.name) and folder.name not in needed:
            reason = "nothing refers to it" if folder.name in records.runs else _orphaned(folder.name)
            if reason:
                yield Item("dataset", folder.name, reason, 0, path=folder)


def _orphaned(run_id: str) -> str:
    """Why a dataset may go whose run is not among the pipeline's; empty if it may not."""
    run = references.elsewhere(run_id)
    if run is None:
        return "its run is not in the tracking store"
    return "its run was deleted" if run.info.lifecycle_stage == "deleted" else ""


def _checkpoints(home: Path, config: Config) -> Iterator[Item]:
    """What interrupted trainings and searches have left."""
    for folder in _folders(home / "checkpoints", config):
        if CHECKPOINT.fullmatch(folder.name):
            yield Item("checkpoint", folder.name, "never taken up again", 0, path=folder)


def _outputs(config: Config) -> Iterator[Item]:
    """What a killed batch_infer has left beside its output: a folder of a random name, with nothing else in it."""
    if config.batch_infer is None:
        return
    output = Path(config.batch_infer.output).resolve()
    mine = re.compile(rf"(\.{re.escape(output.name)}-|{re.escape(PROBE)})[a-z0-9_]{{8}}")
    for folder in _children(output.parent):
        names = [path.name for path in folder.iterdir()] if mine.fullmatch(folder.name) else ["not mine"]
        if all(name.startswith(("part-", "_", ".")) for name in names) and not locks.is_held(folder):
            yield Item("leftover", folder.name, "of a batch_infer that was killed", 0, path=folder)


def _runs(records: Records, kept: set[str], cutoff: float, now: float) -> list[Item]:
    stale = [run for run_id, run in records.runs.items() if run_id not in kept]
    return [
        Item("run", run.info.run_id, f"{run.info.run_name}, {run.info.status}", now - references.ended_ms(run) / 1000)
        for run in sorted(stale, key=references.ended_ms)
        if references.ended_ms(run) / 1000 < cutoff
    ]


def _folders(parent: Path, config: Config) -> list[Path]:
    """The folders in a part of the warehouse in which no process works; none if that part lies elsewhere."""
    if not parent.resolve().is_relative_to(Path(config.warehouse).resolve()):
        log.warning("%s is a link out of the warehouse: it is left alone", parent)
        return []
    return [folder for folder in _children(parent) if not locks.is_held(folder)]


def _children(parent: Path) -> list[Path]:
    """The folders in a folder; a link to one is none."""
    if not parent.is_dir():
        return []
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.is_symlink())


def _measured(item: Item, now: float) -> Item:
    """With the size of all files, and the age of the youngest thing inside; links are not followed."""
    root = item.path or Path()
    stats = [root.lstat()]
    for folder, folders, files in os.walk(root):
        stats += [(Path(folder) / name).lstat() for name in (*folders, *files)]
    size, newest = sum(stat.st_size for stat in stats[1:]), max(stat.st_mtime for stat in stats)
    return Item(item.kind, item.name, item.reason, now - newest, size, root)


def show(config: Config, items: list[Item]) -> None:
    """Print what may go as a table, and the sum."""
    table = Table(title=f"Of {config.name}, nothing needs:", title_justify="left", show_edge=False, pad_edge=False)
    for heading in ("what", "name", "MB", "days", "why"):
        table.add_column(heading, justify="right" if heading in ("MB", "days") else "left", overflow="fold")
    for item in items:
        size = "" if item.path is None else f"{item.bytes / 1e6:,.1f}"
        days, why = f"{item.age_s / DAY_S:,.0f}", console.cell(masked(item.reason))
        table.add_row(item.kind, console.cell(item.name), size, days, why)
    stdout = console.to_stdout()
    if items:
        stdout.print(table)
    counts = ", ".join(f"{number} {kind}s" for kind, number in sorted(Counter(i.kind for i in items).items()))
    total = sum(item.bytes for item in items) / 1e6
    older = f"older than {config.retention_days} days (retention_days)"
    stdout.print(f"{counts or 'Nothing'} {older}: {total:,.1f} MB.", soft_wrap=True, markup=False)


def clean(config: Config, delete: bool, command: str = "--delete") -> None:
    """List what may go and, if asked to, remove it; else say which command does. What cannot be removed is left."""
    import mlflow

    servers.check_servers(mlflow.get_tracking_uri(), mlflow.get_registry_uri())
    if delete and config.batch_infer is not None:
        replacing.recover(Path(config.batch_infer.output).resolve())
    items = collect(config, time.time())
    show(config, items)
    if not delete:
        log.info("nothing was removed; this removes what is listed: %s", command)
        return
    removed = 0
    for item in items:
        try:
            removed += remove(item)
        except OSError as error:
            log.warning("%s %s stays: %s", item.kind, item.name, explained(error) or error)
    log.info(
        "removed %d of %d; deleted runs come back by `mlflow runs restore --run-id=...`, until `mlflow gc`",
        removed,
        len(items),
    )


@click.command("gc", help=__doc__)
@click.option("--config", required=True, help="the pipeline's YAML file")
@click.option("--set", "overrides", default="", help="dotted overrides: retention_days=7")
@click.option("--delete", is_flag=True, help="remove what is listed")
def main(config: str, overrides: str, delete: bool) -> None:
    """Parse, list, remove; the exit status is that of the steps."""
    given = [f"--config={config}", *([f"--set={overrides}"] if overrides else [])]
    command = shlex.join(["python", "-m", "baton.orchestration.gc", *given, "--delete"])
    sys.exit(guarded("gc", lambda: clean(loading.load(enter_project(config), overrides), delete, command)))


if __name__ == "__main__":
    main()
