"""Peak memory of ingest, train and batch_infer, whole steps as processes, at 1, 10 and 100 times the flights.

Resident memory of the step's process and its children together, what they share counted once, looked at 20 times
a second. The anchor is Baton itself at 10 times the rows. More rows are the same files again under more names,
linked and not copied. Batches of 8,192 rows make an epoch of fewer steps.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import yaml

from baton import names
from bench import inputs
from bench.harness import KEPT, Comparison, alternate

RUNS = 1
TIMES = (1, 10, 100)
BATCH = 8192
LOOK_EVERY_S = 0.05
ROOT = Path(__file__).parent.parent


def measure(runs: int = RUNS, times: tuple[int, ...] = TIMES) -> list[Comparison]:
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="memory-", dir=KEPT.absolute()) as folder:
        home = Home(Path(folder))
        home.register(home.train(1))
        sides: dict[str, Callable[[], float]] = {}
        for n in times:
            sides[f"ingest {n}"] = partial(home.ingest_peak, n)
            sides[f"train {n}"] = partial(home.train_peak, n)
            sides[f"batch_infer {n}"] = partial(home.batch_infer_peak, n)
        peaks = alternate(sides, runs)
    few, many = times[-2:]
    return [
        Comparison(
            f"{step} at {few} times the rows", peaks[f"{step} {many}"], peaks[f"{step} {few}"], 1.1, "lower", "MiB"
        )
        for step in ("ingest", "train", "batch_infer")
    ]


class Home:
    """A folder with a tracking store, an experiment and a config: steps are started in it."""

    def __init__(self, folder: Path):
        from mlflow import MlflowClient

        self.folder, self.store = folder, f"sqlite:///{folder}/mlflow.db"
        self.client = MlflowClient(self.store, self.store)
        self.code = ROOT  # where the steps' code lies
        self.peak, self.seconds, self.processor_seconds = 0.0, 0.0, 0.0  # of the last step
        tree = inputs.config(train={"batch_size": BATCH, "epochs": 1}).dump()
        tree |= {
            "engine": "local",
            "batch_infer": {"source": "none", "output": "predictions", "allow_unvalidated": True},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(tree))
        self.experiment = self.client.create_experiment(tree["name"], (folder / "mlruns").as_uri())

    def ingest_peak(self, times: int) -> float:
        self.ingest("local", times)
        return self.peak

    def ingest(self, engine: str, times: int) -> None:
        """Build a dataset from so many CSV files of the flights."""
        warehouse = self.folder / "warehouse"
        source = flights(self.folder, times)
        self.run("ingest", f"--set=data.source={source},warehouse={warehouse},engine={engine}")
        shutil.rmtree(warehouse)

    def train_peak(self, times: int) -> float:
        self.train(times)
        return self.peak

    def batch_infer_peak(self, times: int) -> float:
        source = self.folder / f"source-{times}"
        if not source.exists():
            source.mkdir()
            link(inputs.tiled(inputs.ROWS), [source / f"{n:03d}.parquet" for n in range(times)])
        self.run("batch_infer", f"--set=batch_infer.source={source}", "--register_run_id=")
        shutil.rmtree(self.folder / "predictions")
        return self.peak

    def train(self, times: int) -> str:
        """Train on so many times the flights; return the run's ID."""
        data = self.folder / f"dataset-{times}"
        if not data.exists():
            repeat(inputs.dataset().folder, data, times)
        tags = {names.TAG_STEP: "ingest", names.TAG_DATASET: str(data)}
        ingest = self.client.create_run(self.experiment, tags=tags).info.run_id
        self.client.set_terminated(ingest)
        self.run("train", "--set=", f"--ingest_run_id={ingest}")
        return self.client.search_runs([self.experiment], max_results=1)[0].info.run_id

    def register(self, run_id: str) -> None:
        """Make a train run's model the champion, so that batch_infer has one."""
        logged = self.client.get_run(run_id).data.tags[names.TAG_MODEL_URI].removeprefix("models:/")
        files = self.client.get_logged_model(logged).artifact_location
        name = self.client.get_experiment(self.experiment).name
        self.client.create_registered_model(name)
        version = self.client.create_model_version(name, files, run_id, tags={names.TAG_FINGERPRINT: "-"})
        self.client.set_registered_model_alias(name, names.CHAMPION, version.version)

    def run(self, step: str, *options: str) -> None:
        """A whole step. Raises `CalledProcessError`.

        Then `peak` is what its processes held at most, in MiB; `seconds` what it took, and `processor_seconds` on all
        cores.
        """
        command = [sys.executable, "-m", f"steps.{step}", "--config=config.yaml", *options]
        environment = {**os.environ, "PYTHONPATH": str(self.code), "MLFLOW_TRACKING_URI": self.store}
        started, before = time.perf_counter(), processor_seconds()
        with (self.folder / "errors").open("w+") as errors:
            process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=errors, stderr=errors)
            self.peak = 0.0
            while process.poll() is None:
                self.peak = max(self.peak, resident(process.pid) / 2**20)
                time.sleep(LOOK_EVERY_S)
            self.seconds, self.processor_seconds = time.perf_counter() - started, processor_seconds() - before
            if process.returncode:
                errors.seek(0)
                sys.stderr.write(errors.read()[-5000:])
                raise subprocess.CalledProcessError(process.returncode, command)


def processor_seconds() -> float:
    """Of all processes that this one started and that have ended, and of those below them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def resident(pid: int) -> int:
    """Bytes that a process holds in memory now, and those that each process below it holds for itself alone.

    Libraries, and what a fork has not changed yet, are counted once: for the first of them.
    """
    try:
        process = psutil.Process(pid)
        total = process.memory_info().rss
        for child in process.children(recursive=True):
            total += child.memory_full_info().uss
        return total
    except psutil.Error:  # one has just ended
        return 0


def repeat(dataset: Path, folder: Path, times: int) -> None:
    """A dataset whose files are those of another so many times over."""
    manifest: dict[str, Any] = json.loads((dataset / names.MANIFEST).read_text())
    for entry in (*manifest["files"], *manifest["raw_test"], *manifest["quarantine"], *manifest["others"]):
        (folder / entry["path"]).parent.mkdir(parents=True, exist_ok=True)
        os.link(dataset / entry["path"], folder / entry["path"])
    for kind in ("files", "raw_test"):
        manifest[kind] = [copy for entry in manifest[kind] for copy in copies(folder, entry, times)]
    manifest["rows"] = {key: value * times for key, value in manifest["rows"].items()}
    (folder / names.MANIFEST).write_text(json.dumps(manifest))


def copies(folder: Path, entry: dict[str, Any], times: int) -> list[dict[str, Any]]:
    """A manifest's entry so many times, each with a file of its own name."""
    path = Path(entry["path"])
    places = [str(path.with_name(f"{path.stem}-{n:03d}{path.suffix}")) for n in range(times)]
    link(folder / path, [folder / place for place in places])
    return [{**entry, "path": place} for place in places]


def flights(folder: Path, times: int) -> Path:
    """A folder of so many CSV files of the flights, which are one file under as many names."""
    source = folder / f"csv-{times}"
    if not source.exists():
        source.mkdir()
        link(inputs.flights_csv(), [source / f"{n:03d}.csv" for n in range(times)])
    return source


def link(file: Path, places: list[Path]) -> None:
    for place in places:
        os.link(file, place)
