"""The steps that take Spark on clusters of several processes, which share only the folders that the config names."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
import pytest
import tiny
import yaml
from command_lines import CommandLines

from baton import names
from baton.data.dataset import Dataset
from faults.standalone import Cluster

# All steps that take Spark, one after another, take minutes on two cores: too long for the suite.
WHOLE = "BATON_CLUSTER" in os.environ
STEPS = "ingest,tune,distributed_train,register,batch_infer" if WHOLE else "ingest,train,register,batch_infer"
whole = pytest.mark.skipif(not WHOLE, reason="takes minutes: BATON_CLUSTER=1 runs it")

CHAIN = Path(__file__).parents[1] / "support" / "cluster_chain.py"
TRIALS, BROKEN = 2, 3
PARTS = [("1.parquet", group) for group in range(3)] + [("2.parquet", group) for group in range(3)]


def write(folder: Path, spark: dict, **sections: object) -> Path:
    """A source of two files with six row groups, what is scored, and a config → its file."""
    (folder / "rows").mkdir(parents=True)
    table = tiny.regression_table()
    gone = pa.array([None if row < BROKEN else y for row, y in enumerate(table["y"].to_pylist())])
    table = table.set_column(table.column_names.index("y"), "y", gone)
    pq.write_table(table.slice(0, 300), folder / "rows" / "1.parquet", row_group_size=100)
    pq.write_table(table.slice(300), folder / "rows" / "2.parquet", row_group_size=100)
    pq.write_table(table.drop(["y"]), folder / "new.parquet", row_group_size=150)
    space = {"train.learning_rate": {"loguniform": [0.001, 0.01]}}
    tree = tiny.config(
        source=str(folder / "rows"),
        warehouse=str(folder / "warehouse"),
        tune={"max_trials": TRIALS, "generation": 2, "epochs": 1, "parallelism": 2, "space": space},
        distributed_train={"workers": 2, "launcher": "spark"},
        batch_infer={"source": str(folder / "new.parquet"), "output": str(folder / "predictions")},
        spark=spark,
    ).dump()
    tree["batch_infer"]["drift"] = {"measure": False}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree | sections))
    return folder / "config.yaml"


def driven(config: Path, steps: str, environment: dict[str, str]) -> dict:
    """Run steps in a driver of its own → what it prints."""
    folder = config.parent
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYSPARK_", "SPARK_"))}
    kept |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, str(CHAIN), str(config), steps]
    ended = subprocess.run(command, env=kept | environment, cwd=folder, text=True, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """What the steps did with a standalone Spark."""
    folder = tmp_path_factory.mktemp("cluster")
    with CommandLines() as lines, Cluster(folder / "spark") as cluster:
        config = write(folder / "home", cluster.config())
        answer = driven(config, STEPS, cluster.environment())
    client = mlflow.MlflowClient(f"sqlite:///{folder}/home/mlflow.db")
    runs = {step: client.get_run(run_id) for step, run_id in answer["runs"].items()}
    places = {"folder": folder, "home": folder / "home", "lines": lines, "cluster": cluster, "client": client}
    return SimpleNamespace(**answer | places | {"runs": runs})


def test_ingest_and_batch_infer_give_every_row_once(chain):
    dataset = Dataset.load(chain.runs["ingest"].data.tags[names.TAG_DATASET])
    placed = sum(pq.read_metadata(file).num_rows for split in names.SPLITS for file in dataset.files(split))
    assert (placed, dataset.rows["quarantined"]) == (tiny.ROWS - BROKEN, BROKEN)
    scored = pq.read_table([*(chain.home / "predictions").glob("*.parquet")])
    given = pq.read_table(chain.home / "new.parquet")
    assert bag(scored.select(given.column_names)) == bag(given)
    hidden = [path for path in chain.home.rglob(".*") if path.is_file() and path.suffix != ".crc"]
    assert [path.name for path in hidden if path.suffix == ".parquet"] == []


def bag(table: pa.Table) -> Counter:
    """Rows, whatever their order."""
    return Counter(tuple(row.values()) for row in table.to_pylist())


@whole
def test_trials_and_workers_run_on_the_executors(chain):
    experiment = chain.runs["tune"].info.experiment_id
    wanted = f"tags.`mlflow.parentRunId` = '{chain.runs['tune'].info.run_id}'"
    trials = chain.client.search_runs([experiment], wanted)
    assert len(trials) == TRIALS and all(trial.info.status == "FINISHED" for trial in trials)
    assert chain.runs["distributed_train"].data.tags[names.TAG_RESTARTS] == "0"
    assert chain.lines.started("horovod.spark.task.gloo_exec_fn")


def test_executors_have_the_code_that_was_sent_and_nothing_of_the_drivers_folder(chain):
    work = str(chain.folder / "spark" / "work")
    here = (CHAIN.parents[2], chain.home)
    for seen in chain.seen:
        assert seen["baton"].startswith(work) and "baton.zip" in seen["baton"]
        assert seen["folder"].startswith(work) and seen["steps"] == "None"
        places = [Path(place) for place in seen["path"] if ".venv" not in place]
        assert not [place for place in places if any(place.is_relative_to(driver) for driver in here)]
        assert not [name for name in seen["environment"] if name.startswith("MLFLOW_")]


def test_a_worker_that_dies_on_the_same_part_again_and_again_says_which(chain):
    file, group = PARTS[4]
    part = f"{chain.home / 'rows' / file}, row group {group} (counted from 0)"
    assert chain.death.startswith(f"A worker of Spark's died each of the 4 times that it was at work on {part}: ")


def test_the_clusters_secret_is_for_its_user_alone(chain):
    assert chain.lines.started("org.apache.spark.deploy.worker.Worker")
    assert chain.lines.holding(chain.cluster.secret) == []
    settings = chain.folder / "spark" / "spark-defaults.conf"
    assert settings.stat().st_mode & 0o077 == 0
    log = "".join(file.read_text(errors="replace") for file in (chain.folder / "spark").rglob("std*"))
    assert "authentication enabled" in log and chain.cluster.secret not in log


def spark_home(folder: Path) -> Path:
    """Pip's Spark as links: `local-cluster` works in a folder of Spark's own, whatever else is set."""
    folder.mkdir()
    for path in Path(pyspark.__file__).parent.iterdir():
        if path.name != "work":
            (folder / path.name).symlink_to(path)
    return folder


@whole
def test_local_cluster_ingests_over_loopback_with_authentication(tmp_path):
    config = write(tmp_path / "home", {"master": "local-cluster[2,1,1024]", "config": {"spark.executor.memory": "1g"}})
    with CommandLines() as lines:
        answer = driven(config, "ingest", {"SPARK_HOME": str(spark_home(tmp_path / "spark"))})
    run = mlflow.MlflowClient(f"sqlite:///{tmp_path}/home/mlflow.db").get_run(answer["runs"]["ingest"])
    assert Dataset.load(run.data.tags[names.TAG_DATASET]).rows["input"] == tiny.ROWS
    assert all("baton.zip" in seen["baton"] and seen["steps"] == "None" for seen in answer["seen"])
    drivers = [line for line in lines.seen if b"CoarseGrainedExecutorBackend" in line]
    assert drivers and all(b"CoarseGrainedScheduler@127.0.0.1:" in line for line in drivers)
    assert all(b"-Dspark.authenticate=true" in line for line in drivers)
    assert answer["death"].startswith("A worker of Spark's died each of the 4 times ")
