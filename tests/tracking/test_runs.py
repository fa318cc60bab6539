"""The run that a step is handed: it is open and the step's own, or it is left as it is."""

import mlflow
import pytest
import tiny

from baton import names
from baton.errors import BadInput
from baton.tracking import runs


@pytest.fixture
def experiment(tmp_path, monkeypatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield runs.client().create_experiment("tiny", artifact_location=tmp_path.as_uri())
    mlflow.set_tracking_uri(None)


def begin(run_id: str, monkeypatch, step: str = "train") -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with runs.start(step, tiny.config(), {}):
        pass


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_a_run_that_has_ended_is_not_opened_again(experiment, monkeypatch, status):
    run_id = runs.client().create_run(experiment, tags={names.TAG_STEP: "train"}).info.run_id
    runs.client().set_terminated(run_id, status)
    before = runs.client().get_run(run_id).to_dictionary()
    with pytest.raises(BadInput, match=f"a run that has ended.* Received: {run_id}, which is {status}"):
        begin(run_id, monkeypatch)
    assert runs.client().get_run(run_id).to_dictionary() == before
    assert not runs.client().list_artifacts(run_id)


def test_neither_is_another_steps_nor_one_that_is_not_there(experiment, monkeypatch):
    run_id = runs.client().create_run(experiment, tags={names.TAG_STEP: "ingest"}).info.run_id
    with pytest.raises(BadInput, match=f"must be a run of train: .* Received: {run_id}, a run of ingest"):
        begin(run_id, monkeypatch)
    with pytest.raises(BadInput, match="is not a run of this tracking store"):
        begin("f" * 32, monkeypatch)


def test_an_open_one_is_taken_though_nothing_says_whose_it_is(experiment, monkeypatch):
    """As MLflow's launcher makes it."""
    run_id = runs.client().create_run(experiment).info.run_id
    begin(run_id, monkeypatch)
    run = runs.client().get_run(run_id)
    assert (run.info.status, run.data.tags[names.TAG_STEP]) == ("FINISHED", "train")


def test_a_signal_ends_a_run_and_the_one_nested_in_it_as_killed(experiment):
    options = {"config": "tiny.yaml", "set": ""}
    with (
        pytest.raises(KeyboardInterrupt),
        runs.start("reconcile", tiny.config(), options) as run,
        runs.nested(run, "batch_infer", tiny.config(), {}) as child,
    ):
        raise KeyboardInterrupt
    assert [runs.find(each.id).info.status for each in (child, run)] == ["KILLED", "KILLED"]
