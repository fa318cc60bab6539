"""`mlflow run` of this project and of an empty one, each in a store of its own: what `cached` and `overhead` share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from baton import names
from bench.harness import say

ROOT = Path(__file__).parent.parent
EMPTY = ROOT / "bench" / "empty"


def baton(home: Path) -> float:
    """`mlflow run . -e main` on the flights, all that it writes under `home` → seconds."""
    changes = f"warehouse={home / 'warehouse'},batch_infer.output={home / 'predictions'}"
    return mlflow_run(ROOT, "main", home, f"set={changes}")


def empty(home: Path, tensorflow: bool) -> float:
    """`mlflow run` of the project whose main runs six empty steps → seconds."""
    return mlflow_run(EMPTY, "main", home, *(["tensorflow=yes"] if tensorflow else []))


def empty_step(home: Path) -> float:
    """`mlflow run` of one of those steps alone → seconds."""
    return mlflow_run(EMPTY, "step", home, "imports=mlflow")


def mlflow_run(project: Path, entry_point: str, home: Path, *parameters: str) -> float:
    """The seconds of `mlflow run PROJECT -e ENTRY_POINT` with its tracking store under `home`."""
    home.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    given = [word for parameter in parameters for word in ("-P", parameter)]
    command = ["mlflow", "run", str(project), "-e", entry_point, "--env-manager", "local", *given]
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        say(done.stdout[-5000:])
    done.check_returncode()
    return time.perf_counter() - started


def steps(home: Path) -> dict[str, dict[str, Any]]:
    """Of the last main under `home`: {step: its entry of summary.json}."""
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    (run,) = client.search_runs(["0"], f"tags.`{names.TAG_STEP}` = 'main'", order_by=["start_time DESC"], max_results=1)
    path = client.download_artifacts(run.info.run_id, names.SUMMARY, tempfile.mkdtemp(dir=home))
    return json.loads(Path(path).read_text())["steps"]


def work(home: Path) -> dict[str, float]:
    """Of the last main under `home`: {step: seconds of work inside its function}."""
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    logged = {step: client.get_run(entry["run_id"]).data.metrics for step, entry in steps(home).items()}
    return {step: found[names.SECONDS] - found.get(names.SECONDS_WAITED, 0.0) for step, found in logged.items()}
