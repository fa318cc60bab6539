"""Where MLflow's stores and artifacts lie, in folders of any name."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import mlflow
import pytest
import tiny

from baton import names
from baton.errors import BadInput
from baton.tracking import runs, servers


@pytest.fixture
def odd(tmp_path, monkeypatch) -> Path:
    """A working directory of an odd name, with a store of its own."""
    folder = tmp_path / tiny.ODD
    folder.mkdir()
    monkeypatch.chdir(folder)
    uri = f"sqlite:///{quote(str(folder))}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    yield folder
    mlflow.set_tracking_uri(None)


def test_what_is_logged_in_a_folder_of_any_name_is_found_again(odd):
    runs.reach()
    with runs.start("train", tiny.config(), {}) as run:
        run.json({"a": 1}, names.SUMMARY)
    logged = runs.client().get_run(run.id)
    assert runs.artifact(logged, names.SUMMARY) == {"a": 1}
    assert runs.local_artifacts(logged).is_relative_to(odd / "mlruns")
    assert json.loads(Path(runs.client().download_artifacts(run.id, names.SUMMARY)).read_text()) == {"a": 1}


def test_an_experiment_whose_artifacts_mlflow_would_lose_is_refused(odd):
    runs.reach()
    runs.client().create_experiment("tiny")  # as `mlflow run --experiment-name` makes it
    with pytest.raises(BadInput, match="MLflow does not find artifacts again"), runs.start("train", tiny.config(), {}):
        pytest.fail("the step began")


@pytest.mark.parametrize(("place", "folder"), [
    ("/a/b%20c%23/1/artifacts", "/a/b c#/1/artifacts"),  # as MLflow itself decodes it
    ("/a b#c/1/artifacts", "/a b#c/1/artifacts"),
    ("file:///a%20b%23/1/artifacts", "/a b#/1/artifacts"),
    ("s3://bucket/1", None),
    ("mlflow-artifacts:/1", None),
])  # fmt: skip
def test_artifacts_are_read_where_mlflow_writes_them(place, folder):
    run = SimpleNamespace(info=SimpleNamespace(artifact_uri=place))
    assert runs.local_artifacts(run) == (None if folder is None else Path(folder))


def test_a_store_is_locked_and_asked_where_it_lies(tmp_path):
    home = tmp_path / tiny.ODD
    home.mkdir()
    uri = f"sqlite:///{quote(str(home))}/mlflow.db"
    with servers.exclusive(uri):
        assert [path.name for path in home.iterdir()] == [".mlflow.db.lock"]
    assert list(home.iterdir()) == []
    with closing(sqlite3.connect(home / "mlflow.db")):
        servers.check_servers(uri)
    (home / "mlflow.db").write_text("this is no database " * 100)
    with pytest.raises(BadInput, match="file is not a database"):
        servers.check_servers(uri)
    assert servers.local_place(uri) == home / "mlflow.db"
    assert servers.local_place(home.as_uri()) == home and servers.local_place("http://x") is None
