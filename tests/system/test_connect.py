"""What takes Spark, on Spark Connect: a server of its own, in a process that has no SparkContext to give."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import yaml

from baton import names
from baton.data.dataset import Dataset
from baton.data.petastorm import UrlPaths

CHAIN = Path(__file__).parents[1] / "support" / "connect_chain.py"
TRIALS, BROKEN, ROWS = 2, 3, 600


def write(folder: Path) -> None:
    """Sources of two files, as Parquet and as CSV with a line that is no row, and a config."""
    table = tiny.regression_table(ROWS)
    gone = pa.array([None if row < BROKEN else y for row, y in enumerate(table["y"].to_pylist())])
    table = table.set_column(table.column_names.index("y"), "y", gone)
    (folder / tiny.ODD).mkdir()
    pq.write_table(table.slice(0, 300), folder / tiny.ODD / "1.parquet", row_group_size=100)
    pq.write_table(table.slice(300), folder / tiny.ODD / "2.parquet", row_group_size=100)
    (folder / "text").mkdir()
    table.to_pandas().to_csv(folder / "text" / "1.csv", index=False)
    with (folder / "text" / "1.csv").open("a") as file:
        file.write("only,three,cells\n")
    odd = pa.array([2**60] * ROWS, pa.timestamp("ms"))
    pq.write_table(table.append_column("big", odd), folder / "odd.parquet")
    tree = tiny.config(
        source=str(folder / tiny.ODD),
        warehouse=str(folder / "warehouse"),
        engine="spark",
        tune={"max_trials": TRIALS, "generation": 2, "epochs": 1, "parallelism": 2,
              "space": {"train.learning_rate": {"loguniform": [0.001, 0.01]}}},
        distributed_train={"workers": 2, "launcher": "spark"},
    ).dump()  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    (folder / "ingests.json").write_text(json.dumps({"files": {}, "text": {"data.source": str(folder / "text")}}))


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """What the process that holds the server did; it and its Spark are gone."""
    folder = tmp_path_factory.mktemp("connect")
    write(folder)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYSPARK_", "SPARK_"))}
    kept |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "MLFLOW_DISABLE_TELEMETRY": "true"}
    kept |= {"SPARK_TESTING": "1", "SPARK_LOCAL_IP": "127.0.0.1"}  # PySpark takes a free port then
    before = {process.pid for process in psutil.process_iter()}
    command = [sys.executable, str(CHAIN), str(folder)]
    ended = subprocess.run(command, env=kept, cwd=folder, text=True, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    left = [p.info for p in psutil.process_iter(["pid", "cmdline"]) if p.pid not in before
            and str(folder) in " ".join(p.info["cmdline"] or ())]  # fmt: skip
    answer = json.loads(ended.stdout.splitlines()[-1])
    return SimpleNamespace(folder=folder, left=left, log=ended.stderr, **answer)
