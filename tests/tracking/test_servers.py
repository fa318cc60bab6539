"""Where a store is, however its URI is written."""

import pytest

from baton.tracking import servers


@pytest.mark.parametrize(("uri", "same"), [
    ("sqlite:///mlflow.db", "sqlite:///./mlflow.db"),
    ("sqlite:///mlflow.db", "sqlite:///{here}/mlflow.db"),
    ("sqlite:///linked/mlflow.db", "sqlite:///{here}/mlflow.db"),
    ("{here}", "file://{here}"),
    ("http://host:5000/", "http://user:secret@host:5000"),
    ("postgresql://u:p@db/mlflow", "postgresql://db/mlflow?sslmode=require"),
])  # fmt: skip
def test_a_store_has_one_address(uri, same, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path)
    one, other = (servers.address(text.format(here=tmp_path)) for text in (uri, same))
    assert one == other
    assert "secret" not in other


def test_two_stores_have_two(tmp_path, monkeypatch):
    uris = ["sqlite:///a.db", "sqlite:///b.db", "http://a", "http://b", "http://a/b", "postgresql://db/a", "databricks"]
    assert len({servers.address(uri) for uri in uris}) == len(uris)


@pytest.mark.parametrize(
    ("store", "registry"),
    [("databricks", "databricks-uc"), ("databricks://team", "databricks-uc://team"), ("http://a",) * 2],
)
def test_the_registry_is_the_one_that_mlflow_takes_without_a_word_of_it(store, registry, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    assert servers.uris() == (store, registry)
