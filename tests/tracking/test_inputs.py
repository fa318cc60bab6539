"""A dataset as the input of an MLflow run."""

import mlflow
import pytest

from baton.tracking import inputs, runs
from baton.tracking.runs import Run


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    client = runs.client()
    experiment = client.create_experiment("inputs", artifact_location=tmp_path.as_uri())
    yield Run(client.create_run(experiment).info.run_id, experiment, "train", {})
    mlflow.set_tracking_uri(None)


def test_each_split_is_an_input_with_the_fingerprint_and_the_encoded_columns(run, regression):
    _, dataset = regression
    inputs.log_dataset(run, dataset, ("train", "validation"))
    held = runs.client().get_run(run.id).inputs.dataset_inputs
    assert {entry.dataset.name for entry in held} == {"train", "validation"}
    assert {entry.dataset.digest for entry in held} == {dataset.fingerprint[:36]}
    assert {entry.tags[0].value for entry in held} == {"train", "validation"}
    assert all(column.name in held[0].dataset.schema for column in dataset.preprocessor.encoded)
