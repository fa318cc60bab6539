"""Where an experiment's artifacts go, as its store tells it, and whether this machine can write there."""

import sqlite3

import pytest
import tracking_server

from baton.errors import BadInput
from baton.tracking import experiments


def test_a_server_that_passes_artifacts_on_is_sound():
    with tracking_server.serving() as server:
        assert experiments.check_artifacts(server.uri, "tiny") == "mlflow-artifacts:/1"


@pytest.mark.parametrize(
    ("place", "host", "sentence"),
    [
        ("{home}", "127.0.0.2", None),  # a folder that both machines have
        ("{home}/1", "127.0.0.2", None),  # and in it nothing is logged yet
        ("file://{home}/new%20one/1", "127.0.0.1", None),
        ("file://{home}/new/1", "127.0.0.2", "a folder of the server's machine, and not of this one. Start the server"),
        ("/no such folder/mlruns/1", "127.0.0.1", "a folder of the server's machine, and not of this one"),
        ("{home}/file/1", "127.0.0.1", "{home}/file is no folder that can be written into"),
        ("s3://bucket/1", "127.0.0.1", "install no_such_module into this environment"),
    ],
)
def test_what_a_server_would_have_written_elsewhere_is_refused(place, host, sentence, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setitem(experiments.CLIENTS, "s3", "no_such_module")
    with tracking_server.serving(artifacts=place.format(home=tmp_path), host=host) as server:
        if sentence is None:
            assert experiments.check_artifacts(server.uri, "tiny") == place.format(home=tmp_path)
            return
        with pytest.raises(BadInput) as raised:
            experiments.check_artifacts(server.uri, "tiny")
    assert sentence.format(home=tmp_path) in str(raised.value)


def test_a_deleted_experiment_is_refused_before_anything_is_logged():
    with tracking_server.serving(lifecycle="deleted") as server:
        with pytest.raises(BadInput, match=r"tiny was deleted: .*`mlflow experiments restore --experiment-id=1`"):
            experiments.check_artifacts(server.uri, "tiny")
        assert experiments.check_artifacts(server.uri, "another") == "mlflow-artifacts:/1"


def test_a_store_of_one_file_tells_it_without_mlflow(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = f"sqlite:///{tmp_path}/a b%.db"
    assert experiments.check_artifacts(store, "tiny") == str(tmp_path / "mlruns")
    (tmp_path / "file").write_text("")
    with sqlite3.connect(tmp_path / "a b%.db") as database:
        database.execute("CREATE TABLE experiments (experiment_id, name, artifact_location, lifecycle_stage)")
        rows = [
            (1, "tiny", f"{tmp_path}/artifacts", "active"),
            (2, "gone", "-", "deleted"),
            (3, "bad", f"{tmp_path}/file/x", "active"),
        ]
        database.executemany("INSERT INTO experiments VALUES (?, ?, ?, ?)", rows)
    assert experiments.check_artifacts(store, "tiny") == f"{tmp_path}/artifacts"
    with pytest.raises(BadInput, match="gone was deleted"):
        experiments.check_artifacts(store, "gone")
    with pytest.raises(BadInput, match="file is no folder that can be written into"):
        experiments.check_artifacts(store, "bad")
    assert experiments.check_artifacts("databricks", "tiny") == experiments.UNSEEN
