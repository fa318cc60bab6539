"""A registry with Unity Catalog's limits, and not where runs are tracked: what the steps do to models works there."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
import unity_catalog
from click.testing import CliRunner
from mlflow.exceptions import MlflowException

from baton import names
from baton.orchestration import outputs, references
from baton.registry import champions, history, versions
from baton.registry.history import BY_HAND, PROMOTED, ROLLED_BACK
from baton.serving import destination
from baton.tracking import runs
from steps.batch_infer import batch_infer
from steps.reconcile import reconcile
from steps.register import register
from steps.rollback import rollback

ROOT = Path(__file__).parents[2]
MODEL, PROD, EXPERIMENT = "main.ml.flights", "prod.ml.flights", "/Shared/flights"


@pytest.fixture(scope="module")
def lab(laboratory, tmp_path_factory):
    """Two candidates in a tracking store, the second of which is better; an empty registry elsewhere."""
    home = tmp_path_factory.mktemp("lab")
    made = laboratory(home, experiment=EXPERIMENT, register={"model": MODEL})
    unity_catalog.install()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")
        patch.setenv("MLFLOW_REGISTRY_URI", f"{unity_catalog.SCHEME}:///{home}/registry.db")
        patch.chdir(home)
        mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
        mlflow.create_experiment(EXPERIMENT, artifact_location=(home / "artifacts").as_uri())
        yield made
        mlflow.set_tracking_uri(None)


def invoke(lab, command, *options: str, **overrides: str):
    given = ",".join(f"{key.replace('__', '.')}={value}" for key, value in overrides.items())
    return CliRunner().invoke(command, [f"--config={lab.home / 'lab.yaml'}", f"--set={given}", *options])


def good(lab, command, *options: str, **overrides: str) -> str:
    done = invoke(lab, command, *options, **overrides)
    assert done.exit_code == 0, done.output
    return done.output


def who_scored(lab) -> tuple[str, str]:
    mark = destination.last_scoring(lab.home / "predictions")
    return mark["model_name"], mark["model_version"]


def changes(model: str = MODEL) -> list[tuple[str | None, str]]:
    return [(change.version, change.how) for change in champions.history(model)]


def test_the_stand_in_refuses_what_the_limits_are_of(lab):
    client = runs.client()
    client.create_registered_model("a.b.c")
    version = SimpleNamespace(name="a.b.c")
    for call in (
        lambda: client.create_registered_model("flights"),
        lambda: client.create_registered_model("A.b.c"),
        lambda: client.set_registered_model_tag("a.b.c", "baton.x", "1"),
        lambda: client.set_registered_model_tag("a.b.c", "x", "1" * 1001),
        lambda: client.search_model_versions(),
        lambda: client.search_model_versions("run_id='x'"),
        lambda: client.search_model_versions(f"name='{version.name}'", order_by=["version_number"]),
        lambda: client.get_latest_versions("a.b.c"),
        lambda: client.list_webhooks(),
        lambda: [client.set_registered_model_tag("a.b.c", f"x{number}", "1") for number in range(51)],
        lambda: client.create_model_version("a.b.c", (lab.home / "unsigned").as_uri()),
    ):
        (lab.home / "unsigned").mkdir(exist_ok=True)
        (lab.home / "unsigned" / "MLmodel").write_text("flavors: {}\n")
        with pytest.raises(MlflowException, match="Unity Catalog: "):
            call()
    client.delete_registered_model("a.b.c")


def test_register_batch_infer_rollback_and_reconcile_work_within_the_limits(lab):
    for run_id in lab.trained:
        good(lab, register, f"--candidate_run_ids={run_id}")
    assert changes() == [("1", PROMOTED), ("2", PROMOTED)]
    written = runs.client().get_model_version(MODEL, "2").tags
    assert written["baton_verdict"] == names.PROMOTED and not [key for key in written if "." in key]
    tags = versions.version(MODEL, "2").tags
    assert tags[names.TAG_VERDICT] == names.PROMOTED and "test_rmse" in tags
    assert list(runs.client().get_registered_model(MODEL).tags) == ["baton_champions_run_id"]
    run = runs.client().get_run(history.run_id(MODEL))
    assert runs.client().get_experiment(run.info.experiment_id).name == EXPERIMENT
    good(lab, batch_infer, "--register_run_id=")
    assert who_scored(lab) == (MODEL, "2")
    good(lab, rollback, "--reason=worse on Mondays")
    assert changes()[2:] == [("1", ROLLED_BACK)]
    assert versions.version(MODEL, "2").tags[names.TAG_ROLLED_BACK] == "worse on Mondays"
    good(lab, reconcile)
    assert who_scored(lab) == (MODEL, "1")
    runs.client().set_registered_model_alias(MODEL, names.CHAMPION, "2")
    done = invoke(lab, reconcile)
    assert done.exit_code == 2 and "if it is wanted again delete its tag baton_rolled_back, or" in done.output
    runs.client().delete_model_version_tag(MODEL, "2", "baton_rolled_back")
    good(lab, reconcile)
    assert who_scored(lab) == (MODEL, "2") and changes()[3:] == [("2", BY_HAND)]
    assert "set by hand" in good(lab, rollback, "--history")


def test_all_looks_at_the_test_rows_are_counted_though_versions_come_in_pages(lab):
    """After the test above: two versions are there, and a search gives two at once."""
    for _ in range(2):
        good(lab, register, f"--candidate_run_ids={lab.trained[0]}")
    found = versions.versions(MODEL)
    assert sorted(version.version for version in found) == ["1", "2", "3", "4"]
    assert {version.tags[names.TAG_TEST_LOOKS] for version in found} == {"1", "2"}
    assert max(len(value) for version in found for value in version.tags.values()) <= unity_catalog.MAX_VALUE


def test_a_copy_in_another_catalog_is_judged_there(lab):
    copy = runs.client().copy_model_version(f"models:/{MODEL}/2", PROD)
    runs.client().set_registered_model_alias(PROD, names.CHAMPION, copy.version)
    good(lab, reconcile, batch_infer__model=PROD)
    assert who_scored(lab) == (PROD, "1")
    assert versions.version(PROD, "1").tags[names.TAG_JUDGED_FOR] == PROD


def test_a_step_of_its_own_process_finds_the_registry_by_mlflows_entry_point(lab):
    """As with a plugin that is installed; after the tests above version 2 is champion by hand."""
    support = Path(unity_catalog.__file__).parent
    path = [unity_catalog.distribution(lab.home / "plugin"), support, ROOT]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [
        sys.executable,
        "-m",
        "steps.rollback",
        f"--config={lab.home / 'lab.yaml'}",
        "--set=",
        "--reason=no good",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert changes()[-1] == ("1", ROLLED_BACK)


def test_gc_keeps_the_runs_behind_the_versions_of_all_catalogs(lab):
    records = references.collect(lab.config)
    assert {*lab.trained, history.run_id(MODEL)} <= records.named


def test_the_registry_is_part_of_the_keys(lab, monkeypatch):
    assert versions.address().startswith(unity_catalog.SCHEME)
    monkeypatch.setattr(versions, "address", lambda: "here")
    key = outputs.key("batch_infer", lab.config, {"register_run_id": ""}, {})
    monkeypatch.setattr(versions, "address", lambda: "elsewhere")
    other = outputs.key("batch_infer", lab.config, {"register_run_id": ""}, {})
    assert other.difference(key) == "model registry here → elsewhere"


@pytest.mark.parametrize("name", ["flights", "main.ml.Flights", "main..flights"])
def test_a_name_that_the_catalog_does_not_take_is_bad_input(lab, name):
    done = invoke(lab, register, f"--candidate_run_ids={lab.trained[0]}", register__model=name)
    assert done.exit_code == 2
    assert "is called catalog.schema.model, in lower case: set register.model" in done.output.splitlines()[-1]
