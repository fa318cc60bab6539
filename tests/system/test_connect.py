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
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import tiny
import yaml

from baton import names
from baton.data.dataset import Dataset
from baton.data.petastorm import UrlPaths

SERVER = {  # of a Spark that is somebody else's
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",  # it lives too short for more compiling to pay
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "Asia/Tokyo",
    "spark.sql.shuffle.partitions": "2",
}
CHAIN = Path(__file__).parents[1] / "support" / "connect_chain.py"
TRIALS, BROKEN, ROWS = 2, 3, 600


def write(folder: Path) -> None:
    """A source of two CSV files with a line that is no row, the same rows as Parquet, and a config."""
    table = tiny.regression_table(ROWS)
    gone = pa.array([None if row < BROKEN else y for row, y in enumerate(table["y"].to_pylist())])
    table = table.set_column(table.column_names.index("y"), "y", gone)
    (folder / tiny.ODD).mkdir()
    for number in range(2):
        csv.write_csv(table.slice(number * 300, 300), folder / tiny.ODD / f"{number}.csv")
    with (folder / tiny.ODD / "1.csv").open("a") as file:
        file.write("only,three,cells\n")
    pq.write_table(table, folder / "rows.parquet")
    (folder / "latin").mkdir()
    for number in range(3):  # the driver looks at the first two
        text = f"x,y\n1,2\n3,{'é' if number == 2 else 4}\n"
        (folder / "latin" / f"{number}.csv").write_bytes(text.encode("latin-1"))
    tree = tiny.config(
        source=str(folder / tiny.ODD),
        warehouse=str(folder / "warehouse"),
        engine="spark",
        tune={"max_trials": TRIALS, "generation": 2, "epochs": 1, "parallelism": 2,
              "space": {"train.learning_rate": {"loguniform": [0.001, 0.01]}}},
        distributed_train={"workers": 2, "launcher": "spark"},
    ).dump()  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    settings = SERVER | {"spark.sql.warehouse.dir": str(folder / "tables")}
    (folder / "spark-defaults.conf").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """What the process that holds the server did; it and its Spark are gone."""
    folder = tmp_path_factory.mktemp("connect")
    write(folder)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYSPARK_", "SPARK_"))}
    kept |= {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "MLFLOW_DISABLE_TELEMETRY": "true"}
    kept |= {"SPARK_REMOTE": "local[2]", "SPARK_CONF_DIR": str(folder), "SPARK_TESTING": "1"}  # it: on a free port
    before = {process.pid for process in psutil.process_iter()}
    command = [sys.executable, str(CHAIN), str(folder)]
    ended = subprocess.run(command, env=kept, cwd=folder, text=True, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    left = [p.info for p in psutil.process_iter(["pid", "cmdline"]) if p.pid not in before
            and str(folder) in " ".join(p.info["cmdline"] or ())]  # fmt: skip
    answer = json.loads(ended.stdout.splitlines()[-1])
    return SimpleNamespace(folder=folder, left=left, log=ended.stderr, **answer)


def bag(table: pa.Table) -> Counter:
    """A table's rows, whatever their order."""
    return Counter(zip(*(table[name].to_pylist() for name in sorted(table.column_names)), strict=True))


def read(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(file) for file in sorted(folder.glob("*.parquet"))])


def test_ingest_gives_what_the_local_engine_gives(chain):
    run = mlflow.MlflowClient(f"sqlite:///{chain.folder}/mlflow.db").get_run(chain.runs["ingest"])
    local, remote = Dataset.load(chain.folder / "local"), Dataset.open(run.data.tags[names.TAG_DATASET])
    assert local.rows["quarantined"] == BROKEN + 1
    assert remote.fingerprint == local.fingerprint


def test_petastorms_metadata_is_written_without_a_sparkcontext(chain):
    """make_reader would make a schema of its own up, where there is none."""
    import petastorm

    dataset = Dataset.load(chain.folder / "table")
    for split in names.SPLITS:
        kept = pq.read_schema(dataset.folder / split / "_common_metadata").metadata
        groups = {file.name: pq.read_metadata(file).num_row_groups for file in dataset.files(split)}
        assert json.loads(kept[b"dataset-toolkit.num_row_groups_per_file.v1"]) == groups
        assert b"dataset-toolkit.unischema.v1" in kept
    where = (dataset.folder / "train").as_uri()
    with petastorm.make_reader(where, reader_pool_type="dummy", num_epochs=1, filesystem=UrlPaths()) as reader:
        assert sum(1 for _ in reader) == dataset.rows["train"]


def test_a_table_gives_the_rows_of_its_files(chain):
    local, remote = Dataset.load(chain.folder / "local"), Dataset.load(chain.folder / "table")
    assert json.loads((remote.folder / "reasons.json").read_text()) == {"y (the target) is missing": BROKEN}
    assert {**remote.rows, "input": ROWS + 1, "quarantined": BROKEN + 1} == local.rows
    for split in names.SPLITS:
        assert bag(read(local.folder / split)) == bag(read(remote.folder / split))


def test_tune_finishes_its_trials_as_they_come(chain):
    client = mlflow.MlflowClient(f"sqlite:///{chain.folder}/mlflow.db")
    run = client.get_run(chain.runs["tune"])
    assert run.info.status == "FINISHED" and run.data.metrics["trials"] == TRIALS
    nested = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    assert sorted(each.info.run_name for each in nested) == ["trial 1", "trial 2"]
    assert all(np.isfinite(each.data.metrics["rmse"]) for each in nested)


def test_a_trial_that_fails_or_loses_its_process_fails_alone(chain):
    ended = chain.trials["ended"]
    assert [ended[str(number)][0] for number in range(4)] == ["ok", "failed", "failed", "ok"]
    assert ended["1"][1] == "broke" and "Python worker exited unexpectedly" in ended["2"][1]


def test_trials_end_with_their_time(chain):
    assert chain.trials["late"] == {} and chain.trials["frozen"] == {}


def test_batch_infer_scores_every_row_once_and_as_the_local_engine_does(chain):
    assert chain.scored[0] == chain.scored[1]
    assert chain.scored[0]["rows_in"] == ROWS + 1 and chain.scored[0]["rows_quarantined"] == 1
    one, other = (read(chain.folder / "scored" / engine).sort_by("x1") for engine in ("local", "spark"))
    assert one.drop(["prediction"]).equals(other.drop(["prediction"]).select(one.drop(["prediction"]).column_names))
    np.testing.assert_allclose(one["prediction"], other["prediction"], atol=1e-4)


def test_horovod_on_spark_is_refused_in_a_sentence(chain):
    assert chain.horovod.startswith("BadInput: distributed_train.launcher: spark needs a SparkContext")


def test_errors_within_tasks_come_out_as_what_they_are(chain):
    assert chain.latin.startswith("BadInput: ") and "2.csv, line 3: byte 0xE9" in chain.latin
    assert f"at work on {chain.folder}" in chain.death and "task 1 (counted from 0)" in chain.death


def test_executors_get_batons_code_alone(chain):
    assert {Path(each["baton"]).parts[-3:] for each in chain.seen} == {("baton.zip", "baton", "__init__.py")}
    assert {each["steps"] for each in chain.seen} == {"None"}


def test_sessions_are_batons_own_and_are_made_anew_when_they_have_ended(chain):
    assert chain.sessions["kept"] and chain.sessions["anew"] and chain.sessions["named"]
    assert chain.sessions["zones"] == ["Asia/Tokyo", "UTC", "UTC"]
    assert chain.sessions["slots"] == 2 and getattr(chain, "left alone")
    assert chain.sessions["silent"].startswith("BatonError: No server of Spark Connect answers there")
    assert chain.sessions["no address"].startswith("BadInput: spark.master is no address of Spark Connect")


def test_all_of_it_is_on_loopback_and_nothing_is_left(chain):
    assert {address.removeprefix("::ffff:") for address in chain.listening} == {"127.0.0.1"}
    assert chain.left == []
