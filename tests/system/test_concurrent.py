"""Two mains at once, on one new SQLite store, one warehouse and one registry; and later one that is killed there."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
import tiny
import yaml
from mlflow.entities import Dataset, DatasetInput

from baton import names
from baton.registry import champions
from baton.runtime import files, processes
from baton.tracking import runs

ROOT = Path(__file__).parents[2]
ROWS = 50
AT_ONCE = 4
# The same work up to distributed_train, then other rules at the gate and other batches into the same output.
OTHERS = ("", "register.min_test_rows=11,batch_infer.batch_rows=20")


def start(home: Path, number: int, force: str = "") -> subprocess.Popen:
    """`python -m steps.main`; the store is there only once a main has made it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db"}
    options = [f"--config={home / 'tiny.yaml'}", f"--set={OTHERS[number]}", f"--force={force}"]
    with (home / f"{number}.txt").open("w") as log:
        command = [sys.executable, "-m", "steps.main", *options]
        return subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Two mains, started together and waited for, and what they left."""
    home = tmp_path_factory.mktemp("both")
    table = tiny.regression_table()
    pq.write_table(table, home / "source.parquet")
    pq.write_table(table.drop_columns(["y"]).slice(0, ROWS), home / "new.parquet")
    tree = tiny.config(
        source=str(home / "source.parquet"),
        warehouse=str(home / "warehouse"),
        train={"learning_rate": 0.03, "epochs": 8, "patience": 8},
        distributed_train={"batch_size": 1},  # so many steps that a kill hits the middle of an epoch
        tune={"max_trials": 1, "parallelism": 1, "space": {"train.learning_rate": {"uniform": [0.02, 0.03]}}},
        batch_infer={"source": str(home / "new.parquet"), "output": str(home / "predictions")},
    ).dump()
    (home / "tiny.yaml").write_text(yaml.safe_dump(tree))
    mains = [start(home, number) for number in range(len(OTHERS))]
    try:
        ended = [main.wait(900) for main in mains]
    finally:
        for main in mains:
            processes.Tree(main.pid).end()
    logs = [(home / f"{number}.txt").read_text() for number in range(len(OTHERS))]
    assert ended == [0, 0], "\n".join(log[-5000:] for log in logs)
    mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
    client = mlflow.MlflowClient()
    found = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    ids = [run.info.run_id for run in found if run.data.tags.get(names.TAG_STEP) == "main"]
    summaries = [runs.artifact(client.get_run(run_id), names.SUMMARY) for run_id in ids]
    yield SimpleNamespace(home=home, client=client, logs=logs, runs=found, summaries=summaries)
    mlflow.set_tracking_uri(None)


def test_many_runs_that_log_one_dataset_at_the_same_moment_all_have_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    client = runs.client()
    experiment = client.create_experiment("at once", artifact_location=tmp_path.as_uri())
    gate = threading.Barrier(AT_ONCE)

    def log(digest: str) -> str:
        run = SimpleNamespace(id=client.create_run(experiment).info.run_id)
        gate.wait()
        runs.log_inputs(run, [DatasetInput(Dataset(split, digest, "local", "{}"), []) for split in names.SPLITS])
        return run.id

    with ThreadPoolExecutor(AT_ONCE) as threads:
        for digest in "abcdef":
            for run_id in threads.map(log, [digest] * AT_ONCE):
                logged = [used.dataset for used in client.get_run(run_id).inputs.dataset_inputs]
                assert sorted((d.name, d.digest) for d in logged) == [(s, digest) for s in sorted(names.SPLITS)]


def test_both_end_well_and_leave_nothing_behind(both):
    assert len(both.summaries) == 2
    for log, summary in zip(both.logs, both.summaries, strict=True):
        assert "database is locked" not in log
        assert {entry["status"] for entry in summary["steps"].values()} == {"finished"}
    assert {run.info.status for run in both.runs} == {"FINISHED"}
    steps = [[summary["steps"][step]["run_id"] for summary in both.summaries] for step in names.STEPS]
    assert all(len(set(pair)) == 2 for pair in steps)  # neither took the other's unfinished work for its own
    place = both.home / "warehouse" / "tiny"
    assert {path.name for path in (place / "datasets").iterdir()} == set(steps[0])
    assert not list((place / "checkpoints").iterdir())
    assert not [path for path in both.home.iterdir() if path.name.startswith(".")]


def test_the_same_work_gave_the_same_and_neither_went_on_from_the_other(both):
    for step in ("ingest", "train", "tune", "distributed_train"):
        pair = [both.client.get_run(summary["steps"][step]["run_id"]).data.tags for summary in both.summaries]
        assert pair[0][names.TAG_CACHE_KEY] == pair[1][names.TAG_CACHE_KEY]
        assert pair[0][names.TAG_OUTPUT] == pair[1][names.TAG_OUTPUT]
        assert not any(names.TAG_RESUMED in tags for tags in pair)


def test_there_is_one_champion_and_every_change_is_kept(both):
    verdicts = [summary["model"] for summary in both.summaries]
    assert {model["version"] for model in verdicts} == {"1", "2"}
    for model in verdicts:
        tags = both.client.get_model_version("tiny", model["version"]).tags
        assert tags[names.TAG_VERDICT] == model["verdict"]
        assert tags[names.TAG_REASONS] == "; ".join(model["reasons"])
    # The two models are one and the same: the later one is refused, or sees that it was judged against nobody.
    (first,) = (model for model in verdicts if model["verdict"] == names.PROMOTED)
    (second,) = (model for model in verdicts if model is not first)
    why = {names.CHALLENGER: "the champion changed from nobody to version", names.REFUSED: "is the champion's own"}
    assert why[second["verdict"]] in second["reasons"][-1]
    assert champions.current("tiny") == first["version"]
    assert [(change.version, change.how) for change in champions.history("tiny")] == [
        (first["version"], champions.PROMOTED)
    ]


def test_the_output_is_one_whole_output_and_both_summaries_are_true(both):
    ids = [summary["steps"]["batch_infer"]["run_id"] for summary in both.summaries]
    whole = [runs.artifact(both.client.get_run(run_id), names.SCORING)["files"] for run_id in ids]
    there = files.folder_hashes(both.home / "predictions")
    assert whole.count(there) == 1
    scored = pd.read_parquet(both.home / "predictions")
    assert len(scored) == ROWS
    assert set(scored["scoring_run_id"]) == {ids[whole.index(there)]}
    for summary, run_id in zip(both.summaries, ids, strict=True):
        counts = summary["predictions"]
        assert (counts["rows_in"], counts["rows_scored"], counts["rows_quarantined"]) == (ROWS, ROWS, 0)
        # Each scored with the champion, whoever's it was.
        assert (
            json.loads((both.home / "predictions" / "_scoring.json").read_text())["model_version"]
            == (runs.artifact(both.client.get_run(run_id), names.SCORING)["model_version"])
        )


def test_a_main_leaves_the_runs_of_a_living_one_alone(both):
    """As a second main finds them: a first main that lives, its step, and a step that has no process yet."""
    experiment = both.runs[0].info.experiment_id
    living = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "steps.main"])
    whose = {names.TAG_HOST: os.uname().nodename, names.TAG_PROCESS: processes.identity(living.pid)}
    make = lambda **tags: both.client.create_run(experiment, tags=tags).info.run_id  # noqa: E731
    main = make(**{names.TAG_STEP: "main", **whose})
    below = [make(**{"mlflow.parentRunId": main, **tags}) for tags in (whose, {})]
    trial = make(**{"mlflow.parentRunId": below[0]})
    try:
        assert runs.close_abandoned(experiment) == []
        assert living.poll() is None
        both.client.set_terminated(main, "KILLED")  # it was stopped before it could close what it had just made
        assert set(runs.close_abandoned(experiment)) == {below[1]}
    finally:
        living.kill()
        living.wait()
    assert set(runs.close_abandoned(experiment)) == {below[0], trial}
    assert not both.client.search_runs([experiment], "attributes.status = 'RUNNING'")


def wait(main: subprocess.Popen, happened):
    """Until `happened()` is something; main must live."""
    deadline = time.monotonic() + 600
    while not (result := happened()):
        if main.poll() is not None or time.monotonic() > deadline:
            processes.Tree(main.pid).end()
            pytest.fail("main ended, or waited too long")
        time.sleep(0.02)
    return result


def below(main: subprocess.Popen, module: str) -> psutil.Process | None:
    """The process among main's descendants that runs a module."""
    for process in psutil.Process(main.pid).children(recursive=True):
        try:
            if process.name().startswith("python") and process.cmdline()[1:3] == ["-m", module]:
                return process
        except psutil.NoSuchProcess:
            pass
    return None


def test_a_killed_main_is_gone_on_from_and_a_lost_worker_made_up_for_and_the_weights_are_the_same(both):
    """SIGKILL to main and distributed_train in mid-epoch; in the next main, to the worker in mid-epoch."""
    first = start(both.home, 0, force="distributed_train")
    (checkpoint,) = wait(first, lambda: list(both.home.glob("warehouse/tiny/checkpoints/*/epoch.npz")))
    tree, step = processes.Tree(first.pid), below(first, "steps.distributed_train")
    first.kill()
    step.kill()
    first.wait()
    assert not psutil.wait_procs(tree.known.values(), 60)[1]  # horovodrun and its worker noticed
    (killed,) = (r for r in newest(both, "distributed_train") if r.info.status == "RUNNING")

    second = start(both.home, 0, force="distributed_train")
    reached = checkpoint.stat().st_mtime_ns
    wait(second, lambda: checkpoint.stat().st_mtime_ns != reached)
    below(second, "baton.training.horovod_worker").kill()
    assert second.wait(600) == 0, (both.home / "0.txt").read_text()[-5000:]

    assert [run.info.status for run in newest(both, "main")[:2]] == ["FINISHED", "KILLED"]
    resumed = newest(both, "distributed_train")[0]
    assert both.client.get_run(killed.info.run_id).info.status == "KILLED"
    assert resumed.data.tags[names.TAG_RESUMED].endswith(f"of run {killed.info.run_id}")
    assert resumed.data.tags[names.TAG_RESTARTS] == "1"
    summary = runs.artifact(newest(both, "main")[0], names.SUMMARY)
    assert [summary["steps"][step]["status"] for step in names.STEPS[:4]] == ["cached"] * 3 + ["finished"]
    assert summary["steps"]["distributed_train"]["restarts"] == 1
    undisturbed = both.client.get_run(both.summaries[0]["steps"]["distributed_train"]["run_id"])
    assert resumed.data.tags[names.TAG_OUTPUT] == undisturbed.data.tags[names.TAG_OUTPUT]
    epochs = both.client.get_metric_history(resumed.info.run_id, "val_rmse")
    assert sorted(metric.step for metric in epochs) == list(range(8))  # each once, those of the killed run among them
    assert not list((both.home / "warehouse" / "tiny" / "checkpoints").iterdir())


def newest(both, step: str) -> list:
    """The runs of a step, the newest first."""
    chosen = f"tags.`{names.TAG_STEP}` = '{step}'"
    experiment = both.runs[0].info.experiment_id
    return list(both.client.search_runs([experiment], chosen, order_by=["attributes.start_time DESC"]))
