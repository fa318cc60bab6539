"""The whole pipeline as the bundle's job, by the stand-in: `python databricks_scenario.py HOME CONFIG DATA NEW [MORE]`.

Each task is a process of its own, with a driver's Spark in it that is not Baton's, and the engine is Spark. Prints what
became of each task in a schedule, a second one, one with a task killed, its repair, and one with a retry.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from databricks_job import ROOT, Bundle, JobRun, Jobs, Workspace, check

STEPS = ("ingest", "train", "tune", "distributed_train", "register", "batch_infer")


def show(title: str, run: JobRun) -> None:
    print(f"\n{title}: {'succeeded' if run.succeeded else 'failed'}", flush=True)
    for key, result in run.results.items():
        cache = [line for line in run.printed.get(key, "").splitlines() if ": hit" in line or ": miss: " in line]
        last = "" if result != "failed" else run.last_line(key)
        print(f"  {key:<18} {result:<16} attempts {run.attempts.get(key, 0)}  {' '.join([*cache[-1:], last])[:150]}")


def demand(good: bool, run: JobRun) -> None:
    if not good:
        sys.exit("\n".join(f"== {key}\n{text[-3000:]}" for key, text in run.printed.items()))


def main(home: Path, config: Path, data: Path, new: Path, more: str) -> None:
    shutil.rmtree(home, ignore_errors=True)
    workspace = Workspace(home, f"uc-sqlite:///{home}/registry.db")
    name = yaml.safe_load(config.read_text())["name"]
    volume = home / "Volumes" / "dev" / "baton" / "files"
    volume.mkdir(parents=True)
    (workspace.files / "conf").mkdir(parents=True)
    shutil.copy(config, workspace.files / "conf" / "flights.yaml")
    places = {}
    for key, path in (("source", data), ("new_data", new)):
        shutil.copy(path, volume / path.name)
        places[key] = f"/Volumes/dev/baton/files/{path.name}"
    command = [sys.executable, str(ROOT / "scripts" / "wheel.py"), str(home / "dist")]
    wheel = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    bundle = Bundle("dev", workspace, pipeline=name, more=f"engine=spark,{more}".rstrip(","), **places)
    for job in bundle.jobs.values():
        check(job, wheel)
    job, jobs = bundle.jobs["pipeline"], Jobs(workspace, wheel, forks=False)

    run = jobs.run(job, "1")
    show("a schedule", run)
    demand(run.succeeded, run)
    run = jobs.run(job, "2")
    show("a second one on unchanged data", run)
    demand(run.succeeded and all(": hit" in run.printed[step] for step in STEPS), run)
    run = jobs.run(job, "3", kill="batch_infer", force="batch_infer")
    show("one with batch_infer killed", run)
    demand(not run.succeeded, run)
    jobs.run(job, "3", repair=run)
    show("its repair", run)
    demand(run.succeeded, run)
    source = volume / data.name
    aside = source.with_suffix(".aside")

    def late(key: str, attempt: int) -> None:
        if key == "ingest":
            source.rename(aside) if attempt == 1 else aside.rename(source)

    run = jobs.run(job, "4", before=late)
    show("one whose source comes late", run)
    demand(run.succeeded and run.attempts["ingest"] == 2, run)
    run = jobs.run(bundle.jobs["reconcile"], "5")
    show("reconcile", run)
    demand(run.succeeded, run)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:5]), sys.argv[5] if len(sys.argv) > 5 else "")
