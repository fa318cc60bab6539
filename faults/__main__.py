"""`python -m faults`: kill every step at every commit point, one after another, and tell who survived."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before anything is started that imports TensorFlow

import click

from faults.loop import ORDER, TELLING, Loop, Result
from faults.stage import Stage


@click.command(help=__doc__)
@click.option("--steps", default=",".join(ORDER), show_default=True, help="whom to kill, comma-separated")
@click.option("--few", is_flag=True, help="only the nine most telling points")
@click.option("--pictures", is_flag=True, help="pictures and a base instead of a table")
@click.option("--horovodrun", is_flag=True, help="two real Horovod workers instead of one that is forked: slower")
@click.option("--cluster", is_flag=True, help="instead, kill what a cluster of several processes is made of")
@click.option("--report", type=click.Path(path_type=Path), help="a Markdown file for the summary")
@click.option("--list", "only_list", is_flag=True, help="print the points and kill nobody")
def faults(
    steps: str, few: bool, pictures: bool, horovodrun: bool, cluster: bool, report: Path | None, only_list: bool
) -> None:
    if cluster:
        sys.exit(_kill_on_a_cluster(steps.split(",")))
    chosen = [step for step in ORDER if step in steps.split(",")]
    folder, started = Path(tempfile.mkdtemp(prefix="baton-faults-")), time.monotonic()
    project = importlib.import_module(f"faults.{'pictures' if pictures else 'tables'}")
    loop = Loop(Stage(folder / "stage", project, horovodrun))
    loop.rehearse()
    work = [(step, point) for step in chosen for point in loop.points[step]]
    work = [*TELLING] if few else work
    click.echo(f"{len(work)} commit points, listed in {time.monotonic() - started:.0f} s")
    if only_list:
        click.echo("\n".join(f"{step:18} {point}" for step, point in work))
        return
    results = []
    for number, (step, point) in enumerate(work, 1):
        results.append(loop.kill_at(step, point))
        _tell(number, len(work), results[-1])
    text = summary(results, time.monotonic() - started)
    click.echo("\n" + text)
    if report:
        report.write_text(text)
    shutil.rmtree(folder, ignore_errors=True)
    sys.exit(any(result.faults for result in results))


def _kill_on_a_cluster(steps: list[str]) -> bool:
    """Whether anything was lost, or was there twice, where a cluster lost an executor or a worker."""
    from faults import cluster
    from faults.standalone import Cluster

    folder, failed = Path(tempfile.mkdtemp(prefix="baton-faults-")), False
    with Cluster(folder / "spark") as spark:
        project = cluster.Project(folder / "home", spark)
        project.prepare()
        for moment in (moment for moment in cluster.MOMENTS if moment.step in steps):
            for with_worker in (False, True):
                started, victim = time.monotonic(), "worker" if with_worker else "executor"
                wrong = cluster.kill_in(project, moment, with_worker)
                end, seconds = "FAILED" if wrong else "survived", time.monotonic() - started
                click.echo(f"{end:8} {seconds:5.1f} s  {moment.step}, when {moment.name}: one {victim} less")
                click.echo("".join(f"         {fault}\n" for fault in wrong), nl=False)
                failed |= bool(wrong)
    shutil.rmtree(folder, ignore_errors=True)
    return failed


def _tell(number: int, count: int, result: Result) -> None:
    end = "survived" if not result.faults else "FAILED"
    click.echo(f"{number:4}/{count} {end:8} {result.seconds:5.1f} s  {result.step}: {result.point}")
    for fault in result.faults:
        click.echo(f"         {fault}")


def summary(results: list[Result], seconds: float) -> str:
    """Results → a Markdown table, a line a step, and a list of what failed."""
    lines = ["| step | points | survived |", "|---|---:|---:|"]
    for step in [s for s in ORDER if any(r.step == s for r in results)]:
        own = [r for r in results if r.step == step]
        lines.append(f"| {step} | {len(own)} | {sum(not r.faults for r in own)} |")
    lines.append(f"| all | {len(results)} | {sum(not r.faults for r in results)} |")
    lines += ["", f"{seconds / 60:.0f} minutes."]
    for result in results:
        lines += [f"- {result.step}, {result.point}: {fault}" for fault in result.faults]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    faults()
