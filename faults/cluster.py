"""`python -m faults --cluster`: a standalone Spark loses an executor, or a worker whole, in the middle of each step.

The step goes on, and what it leaves is what it leaves undisturbed: every row and every trial once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from mlflow.entities import Run

from baton import names
from baton.data.dataset import Dataset
from faults.standalone import Cluster

ROOT = Path(__file__).parent.parent
ROWS, FILES, TRIALS, EPOCHS, BROKEN = 6000, 4, 3, 30, 3
INPUTS = {
    "ingest": {},
    "tune": {"ingest_run_id": "ingest"},
    "distributed_train": {"ingest_run_id": "ingest", "tune_run_id": "tune"},
    "register": {"candidate_run_ids": "distributed_train"},
    "batch_infer": {"register_run_id": "register"},
}
LIMIT_S = 1200  # for a step
LOOK_S = 0.02


@dataclass(frozen=True)
class Moment:
    """A step, and what is seen of it when something is to be killed, given the project's folder."""

    step: str
    name: str
    came: Callable[[Path], bool]


MOMENTS = (
    Moment("ingest", "it reads", lambda home: True),
    Moment("ingest", "it writes", lambda home: any(home.glob("warehouse/*/datasets/.aside-*/.parts/*.encoded*"))),
    Moment("tune", "trials run", lambda home: any(home.glob("warehouse/*/checkpoints/*/started"))),
    Moment("distributed_train", "an epoch is through", lambda home: any(_histories(home))),
    Moment("batch_infer", "it writes", lambda home: any(home.glob("*/**/.*.parquet"))),
)


def _histories(home: Path) -> list[Path]:
    """Histories with a whole line in them."""
    return [file for file in home.glob("warehouse/*/checkpoints/*/history.jsonl") if file.stat().st_size]


@dataclass
class Project:
    """Sources, config and tracking store in `home`, and the runs of each step that nobody disturbed."""

    home: Path
    cluster: Cluster
    runs: dict[str, str] = field(default_factory=dict)

    def prepare(self) -> None:
        """Write the project, and run each step undisturbed."""
        _write(self.home, self.cluster)
        for step in INPUTS:
            self.runs[step] = self.run(step)

    def run(self, step: str, meanwhile: Callable[[subprocess.Popen[bytes]], None] | None = None) -> str:
        """Run an entry point as a process → its run's ID. Raises `RuntimeError` with its log where it fails."""
        before, log = {run.info.run_id for run in self.runs_of(step)}, self.home.parent / f"{step}.log"
        inputs = [f"--{option}={self.runs[of]}" for option, of in INPUTS[step].items()]
        command = [sys.executable, "-m", f"steps.{step}", f"--config={self.home / 'config.yaml'}", *inputs]
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, cwd=ROOT, env=self._environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
            try:
                if meanwhile:
                    meanwhile(process)
                status = process.wait(LIMIT_S)
            finally:
                process.kill()
        if status:
            raise RuntimeError(f"{step} ended with {status}: {_last_lines(log)}")
        return next(run.info.run_id for run in self.runs_of(step) if run.info.run_id not in before)

    def runs_of(self, step: str) -> list[Run]:
        """The runs of a step, newest first."""
        client = self.client
        experiment = client.get_experiment_by_name("cluster")
        wanted = f"tags.mlflow.runName = '{step}'"
        return list(client.search_runs([experiment.experiment_id], wanted)) if experiment else []

    def of(self, run_id: str) -> Run:
        return self.client.get_run(run_id)

    @property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(f"sqlite:///{self.home}/mlflow.db")

    def _environment(self) -> dict[str, str]:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "SPARK_", "PYSPARK_"))
        }
        store = {"MLFLOW_TRACKING_URI": f"sqlite:///{self.home}/mlflow.db", "MLFLOW_DISABLE_TELEMETRY": "true"}
        return {**kept, **store, **self.cluster.environment()}


def kill_in(project: Project, moment: Moment, with_worker: bool) -> list[str]:
    """Run a step, kill at that moment, and compare with the undisturbed run → what is wrong."""
    cluster = project.cluster
    before = CHECKS[moment.step](project, project.runs[moment.step])
    killed: list[int] = []

    def kill(process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None and not killed:
            time.sleep(LOOK_S)
            victim = next((executor for executor in cluster.executors() if cluster.works(executor)), None)
            if victim and moment.came(project.home):
                cluster.kill(victim, with_worker)
                killed.append(victim.pid)
                if with_worker:
                    cluster.add_worker(f"worker-{victim.pid}")

    try:
        run_id = project.run(moment.step, kill)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return [str(error)]
    if not killed:
        return ["nothing was killed: the step was too quick"]
    after = CHECKS[moment.step](project, run_id)
    return [f"{key}: {after[key]} instead of {value}"[:500] for key, value in before.items() if after[key] != value]


# What a step has left, as numbers and bags that two runs can be compared by


def _ingested(project: Project, run_id: str) -> dict[str, Any]:
    dataset = Dataset.load(project.of(run_id).data.tags[names.TAG_DATASET])
    splits = {split: _bag([*dataset.files(split)]) for split in names.SPLITS}
    left = [path.name for path in dataset.folder.parent.iterdir() if path.name.startswith(".aside-")]
    hidden = [path.name for path in dataset.folder.rglob(".*")]
    return {"rows": dataset.rows, "left": left, "hidden": hidden, "files": dataset.fingerprint, **splits}


def _tuned(project: Project, run_id: str) -> dict[str, Any]:
    run = project.of(run_id)
    trials = project.client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{run_id}'")
    return {"trials": Counter((trial.info.run_name, trial.info.status) for trial in trials)}


def _trained(project: Project, run_id: str) -> dict[str, Any]:
    run = project.of(run_id)
    history = project.client.get_metric_history(run_id, next(key for key in run.data.metrics if key.startswith("val_")))
    return {"epochs": [metric.step for metric in history], "values": [round(metric.value, 3) for metric in history]}


def _scored(project: Project, run_id: str) -> dict[str, Any]:
    output = project.home / "predictions"
    drop = set(names.LINEAGE)
    hidden = [path.name for path in project.home.rglob(".*.parquet")]
    return {"rows": _bag([*output.glob("*.parquet")], drop), "hidden": hidden}


def _bag(files: list[Path], without: set[str] = frozenset()) -> Counter[tuple[Any, ...]]:  # type: ignore[assignment]
    """Rows, whatever their order; numbers to four digits."""
    bag: Counter[tuple[Any, ...]] = Counter()
    for file in files:
        table = pq.read_table(file)
        for row in table.drop_columns([name for name in table.column_names if name in without]).to_pylist():
            bag[tuple(round(cell, 4) if isinstance(cell, float) else cell for cell in row.values())] += 1
    return bag


CHECKS: dict[str, Callable[[Project, str], dict[str, Any]]] = {
    "ingest": _ingested,
    "tune": _tuned,
    "distributed_train": _trained,
    "batch_infer": _scored,
}


def _write(home: Path, cluster: Cluster) -> None:
    """A table of several files, some rows of it unusable, what is scored, and the config."""
    (home / "rows").mkdir(parents=True)
    (home / "new").mkdir()
    rng = np.random.default_rng(1)
    for number in range(FILES):
        x, c = rng.normal(size=ROWS // FILES), rng.choice(["a", "b"], ROWS // FILES)
        y = 3 + 2 * x + (c == "b")
        table = pa.table({"x": x, "c": c, "y": pa.array(y, mask=np.arange(len(x)) < (BROKEN if number == 0 else 0))})
        pq.write_table(table, home / "rows" / f"{number}.parquet", row_group_size=500)
        pq.write_table(table.drop(["y"]), home / "new" / f"{number}.parquet", row_group_size=500)
    (home / "config.yaml").write_text(yaml.safe_dump(_config(home, cluster)))


def _config(home: Path, cluster: Cluster) -> dict[str, Any]:
    return {
        "name": "cluster",
        "data": {"source": str(home / "rows"), "target": "y", "task": "regression", "row_group_size": 200},
        "model": {"hidden": [8], "networks": 1, "embedding": 2, "number_width": 4},
        "train": {"epochs": EPOCHS, "batch_size": 16, "learning_rate": 0.003, "warmup_epochs": 0, "patience": EPOCHS},
        "tune": {
            "max_trials": TRIALS,
            "generation": TRIALS,
            "parallelism": 2,
            "epochs": 3,
            "space": {"train.learning_rate": {"loguniform": [0.002, 0.004]}},
        },
        "distributed_train": {"workers": 2, "launcher": "spark"},
        "register": {"explain": {"rows": 0}, "audit": {"folds": 0}},
        "batch_infer": {"source": str(home / "new"), "output": str(home / "predictions"), "drift": {"measure": False}},
        "warehouse": str(home / "warehouse"),
        "spark": cluster.config(),
    }


def _last_lines(log: Path) -> str:
    return json.dumps(log.read_text(errors="replace").splitlines()[-3:])
