"""A step's process that was started ahead: it waits for its turn, and ends without a word if there is none."""

import os
import re
import sys
import time
from contextlib import contextmanager

import mlflow
import psutil
import pyarrow.parquet as pq
import pytest
import tiny
import yaml

from baton import names
from baton.config import loading
from baton.orchestration import step, warm_process
from baton.orchestration.warm_process import WarmProcess
from baton.runtime import processes


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


def started(home, name: str, file: str = "tiny.yaml") -> WarmProcess:
    return WarmProcess(name, {"config": str(home / file), "set": ""}, {"MLFLOW_EXPERIMENT_ID": "1"})


def test_it_works_in_the_run_that_is_handed_over(home):
    process = started(home, "ingest")
    run = mlflow.MlflowClient().create_run("1")
    last = process.work(run.info.run_id, {}, loading.load(str(home / "tiny.yaml"), "seed=77"))
    assert process.process.wait(120) == 0
    last.join()
    assert re.search(r"ingest: dataset [0-9a-f]{12}: ", last.line)
    run = mlflow.get_run(run.info.run_id)
    assert (run.info.status, run.data.tags[names.TAG_STEP]) == ("FINISHED", "ingest")
    assert run.data.metrics[names.SECONDS] > 0
    # The config is main's, whatever the file says by now.
    assert yaml.safe_load(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{names.CONFIG}"))["seed"] == 77


def test_it_ends_without_a_word_when_its_input_does(home):
    process = started(home, "ingest")
    process.process.stdin.close()
    assert process.process.wait(120) == 0
    assert process.process.stderr.read() == ""
    assert not mlflow.MlflowClient().search_runs(["1"])


def test_one_that_failed_while_it_waited_says_why_when_asked(home):
    process = started(home, "ingest", "no such.yaml")
    assert process.process.wait(120) == 2
    last = process.work("0" * 32, {}, tiny.config())
    last.join()
    assert last.line.startswith("There is no config file of that name.")


def test_none_of_its_children_is_left_when_it_is_dismissed(home):
    """tune's trial workers are up before its turn."""
    process = started(home, "tune")
    tree = processes.Tree(process.process.pid)
    while sum(p.name().startswith("python") for p in tree.known.values() if p.is_running()) < 3:  # it and two workers
        assert process.process.poll() is None
        time.sleep(0.1)
        tree.look()
    process.end()
    assert not psutil.wait_procs(list(tree.known.values()), 20)[1]
    assert "BATON_STANDBY" not in os.environ


class Gone:
    """A standard error that nobody reads any more."""

    def write(self, text: str) -> None:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


def test_no_step_waits_for_somebody_to_read_what_it_says(tmp_path, monkeypatch):
    """However much, in whatever encoding, and though main's own standard error is closed."""
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "__init__.py").touch()
    loud = "import os, sys\nsys.stdin.read()\nos.write(2, b'\\xff' * 200_000 + b'\\n')\nsys.exit('the end')\n"
    (tmp_path / "steps" / "loud.py").write_text(loud)
    monkeypatch.setattr(warm_process.paths, "base", lambda: tmp_path)
    process = WarmProcess("loud", {}, {})
    monkeypatch.setattr(sys, "stderr", Gone())
    last = process.work("0" * 32, {}, tiny.config())
    try:
        assert process.process.wait(60) == 1
        last.join(60)
    finally:
        process.end()
    assert last.line == "the end"


def test_what_is_started_ahead_does_not_take_the_steps_run_for_its_own(home, monkeypatch):
    run_id = mlflow.MlflowClient().create_run("1").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    seen = []

    @contextmanager
    def prepare(config):
        seen.append(os.environ.get("MLFLOW_RUN_ID"))
        yield {}

    monkeypatch.setattr(step, "guarded", lambda name, work: work())
    work = step.Work("ingest", lambda config, run: seen.append(run.id), (), prepare, lambda config: "")
    work.execute(str(home / "tiny.yaml"), "", {})
    assert seen == [None, run_id]
