"""A step's process that was started ahead: it waits for its turn, and ends without a word if there is none."""

import os
import re
import time

import mlflow
import psutil
import pyarrow.parquet as pq
import pytest
import tiny
import yaml

from baton import names, processes
from baton.standby import Standby


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with a source, a config and a tracking store."""
    pq.write_table(tiny.regression_table(), tmp_path / "source.parquet")
    tree = tiny.config(source=str(tmp_path / "source.parquet"), warehouse=str(tmp_path / "warehouse")).dump()
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.create_experiment("tiny", artifact_location=(tmp_path / "artifacts").as_uri())
    return tmp_path


def standby(home, step: str, config: str = "tiny.yaml") -> Standby:
    return Standby(step, {"config": str(home / config), "set": ""}, {"MLFLOW_EXPERIMENT_ID": "1"})


def test_it_works_in_the_run_that_is_handed_over(home):
    process = standby(home, "ingest")
    run = mlflow.MlflowClient().create_run("1")
    last = process.work(run.info.run_id, {})
    assert process.process.wait(120) == 0
    last.join()
    assert re.search(r"ingest: dataset [0-9a-f]{12}: ", last.line)
    run = mlflow.get_run(run.info.run_id)
    assert (run.info.status, run.data.tags[names.TAG_STEP]) == ("FINISHED", "ingest")
    assert run.data.metrics[names.SECONDS] > 0


def test_it_ends_without_a_word_when_its_input_does(home):
    process = standby(home, "ingest")
    process.process.stdin.close()
    assert process.process.wait(120) == 0
    assert process.process.stderr.read() == ""
    assert not mlflow.MlflowClient().search_runs(["1"])


def test_one_that_failed_while_it_waited_says_why_when_asked(home):
    process = standby(home, "ingest", "no such.yaml")
    assert process.process.wait(120) == 2
    last = process.work("0" * 32, {})
    last.join()
    assert last.line.startswith("There is no config file of that name.")


def test_none_of_its_children_is_left_when_it_is_dismissed(home):
    """tune's trial workers are up before its turn."""
    process = standby(home, "tune")
    tree = processes.Tree(process.process.pid)
    while sum(p.name().startswith("python") for p in tree.known.values() if p.is_running()) < 3:  # it and two workers
        assert process.process.poll() is None
        time.sleep(0.1)
        tree.look()
    process.end()
    assert not psutil.wait_procs(list(tree.known.values()), 20)[1]
    assert "BATON_STANDBY" not in os.environ
