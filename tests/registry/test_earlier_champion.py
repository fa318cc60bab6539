"""A champion that an earlier Baton logged: it scores, is judged against, explained and rolled back to, for ever."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import yaml
from click.testing import CliRunner

import steps.batch_infer
import steps.rollback
from baton import names
from baton.config.schema import Explain
from baton.inspection import explanation
from baton.networks import build
from baton.registry import champions, evidence, gate, versions
from baton.registry.gate import Evidence
from baton.serving.raw_columns import RawColumnModel

KEPT = Path(__file__).parents[1] / "support" / "champion"
ANSWERS = ("prediction", "prediction_low", "prediction_high", "reason")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A registry whose champion is the kept one, as version 1; the working folder beside it."""
    home = tmp_path_factory.mktemp("earlier")
    with zipfile.ZipFile(KEPT / "model.zip") as kept:
        kept.extractall(home / "model")
    tags = json.loads((KEPT / "tags.json").read_text())
    uri = f"sqlite:///{home}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.chdir(home)
        mlflow.set_tracking_uri(uri)
        client = mlflow.MlflowClient()
        experiment = client.create_experiment("champion", artifact_location=(home / "artifacts").as_uri())
        run = client.create_run(experiment, tags=tags["run"]).info.run_id
        client.create_registered_model("champion")
        client.create_model_version("champion", (home / "model").as_uri(), run, tags=tags["version"])
        client.set_registered_model_alias("champion", names.CHAMPION, "1")
        yield SimpleNamespace(home=home, client=client, tags=tags["version"])
        mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def champion(store) -> RawColumnModel:
    return versions.load("models:/champion/1", store.client.get_model_version("champion", "1").tags)


@pytest.fixture(scope="module")
def challenger(tmp_path_factory):
    """A dataset that this Baton makes of the same rows, and an untrained network on it."""
    config, dataset = tiny.build(pq.read_table(KEPT / "rows.parquet"), tmp_path_factory.mktemp("rows"), "regression")
    return config, dataset, RawColumnModel(dataset.preprocessor, build.build(dataset.preprocessor, config.model))


def answers() -> pa.Table:
    return pq.read_table(KEPT / "answers.parquet")


def config_of(store) -> Path:
    asked = store.home / "asked.parquet"
    pq.write_table(answers().drop(list(ANSWERS)), asked)
    config = {
        "name": "champion",
        "data": {"source": str(KEPT / "rows.parquet"), "target": "y", "task": "regression"},
        "batch_infer": {"source": str(asked), "output": str(store.home / "predictions"), "interval": 0.9},
    }
    (store.home / "champion.yaml").write_text(yaml.safe_dump(config))
    return store.home / "champion.yaml"


def test_it_scores_as_it_did(store):
    before = answers()
    command = [f"--config={config_of(store)}", "--set=", "--register_run_id="]
    done = CliRunner().invoke(steps.batch_infer.batch_infer, command)
    assert done.exit_code == 0, done.output
    scored = pq.read_table(store.home / "predictions" / "part-00000.parquet")
    good = before.filter(before["reason"].is_null())
    for name in ANSWERS[:3]:
        np.testing.assert_allclose(scored[name].to_numpy(), good[name].to_numpy(), rtol=1e-5)
    bad = pq.read_table(store.home / "predictions" / "_quarantine" / "part-00000.parquet")
    assert bad["reason"].to_pylist() == before["reason"].drop_null().to_pylist()
    assert set(scored["model_version"].to_pylist()) == {"1"}


def test_a_candidate_is_judged_against_it(store, champion, challenger):
    config, dataset, model = challenger
    raw = dataset.raw_test()
    targets, predictions = model.evaluate(raw)
    version = store.client.get_model_version("champion", "1")
    renamed = config.overridden({"name": "champion"})
    found = evidence.champion_losses(renamed, version, model, raw, targets, predictions)
    assert not found.error and np.sqrt(found.losses.mean()) < 0.5  # 0.31 on its own test rows
    losses = evidence.losses(targets, predictions)
    judged = gate.judge(renamed, Evidence({}, losses + 9, losses, 0.0, {"dataset": dataset.fingerprint}, found))
    assert not judged.passed and any("does not beat the champion's" in reason for reason in judged.reasons)


def test_it_is_explained(champion, challenger):
    found = explanation.explain(champion, challenger[1].raw_test(), Explain(rows=20, background=10), 1)
    plain = explanation.to_dict(found)
    assert plain["rows"] == 20 and plain["additivity"] < 1e-3
    assert {column["name"] for column in plain["columns"][:2]} == {"x1", "x2"}


def test_it_is_rolled_back_to(store):
    """After a later version took its place."""
    later = store.client.create_model_version("champion", (store.home / "model").as_uri(), tags=store.tags).version
    assert champions.promote(tiny.config(name="champion"), str(later), "1", "r" * 32, "later") is None
    command = [f"--config={config_of(store)}", "--set=", "--reason=worse on Mondays"]
    done = CliRunner().invoke(steps.rollback.rollback, command)
    assert done.exit_code == 0, done.output
    assert champions.current("champion") == "1"
    assert versions.to_score_with(tiny.config(name="champion"), "").version == "1"


FRESH = """
import sys, mlflow, pandas as pd
if sys.argv[4] == "inside":
    import baton.config.schema
model = mlflow.pyfunc.load_model(sys.argv[1])
model.predict(pd.read_parquet(sys.argv[2])).to_parquet(sys.argv[3])
"""


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_mlflow_serves_it(store, where):
    """By the code that it carries; or, in a process that has imported this Baton already, by this one's."""
    before = answers()
    pq.write_table(before.drop(list(ANSWERS)), store.home / "raw.parquet")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root) if where == "inside" else ""}
    command = [sys.executable, "-c", FRESH, str(store.home / "model"), "raw.parquet", "served.parquet", where]
    subprocess.run(command, cwd=store.home, env=environment, check=True, capture_output=True)
    served = pd.read_parquet(store.home / "served.parquet")["prediction"].to_numpy()
    np.testing.assert_allclose(served, before["prediction"].to_numpy(zero_copy_only=False), rtol=1e-5)
