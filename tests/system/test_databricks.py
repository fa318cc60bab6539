"""The scheduled job as it would be deployed, run by a stand-in task by task; its registry is like Unity Catalog's."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pyarrow.parquet as pq
import pytest
import tiny
import unity_catalog
import yaml
from databricks.bundles.jobs import Job
from databricks_job import Bundle, Jobs, Workspace, check, replaced

from baton import names
from baton.orchestration.step import ExitStatus

ROOT = Path(__file__).parents[2]
TARGETS = {"dev": {}, "staging": {"service_principal": "s"}, "prod": {"service_principal": "s"}}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    command = [sys.executable, str(ROOT / "scripts" / "wheel.py"), str(tmp_path_factory.mktemp("dist"))]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


@pytest.fixture(scope="module")
def lab(tmp_path_factory, wheel):
    """The dev target with small data in its volume; the host that runs its tasks."""
    home = tmp_path_factory.mktemp("databricks")
    workspace = Workspace(home, f"{unity_catalog.SCHEME}:///{home}/registry.db")
    volume = home / "Volumes" / "dev" / "baton" / "files"
    volume.mkdir(parents=True)
    pq.write_table(tiny.regression_table(300), volume / "flights.parquet")
    pq.write_table(tiny.regression_table(40, seed=5), volume / "new_flights.parquet")
    tree = tiny.config(tune={"max_trials": 2, "generation": 2, "epochs": 1, "parallelism": 1}).dump()
    tree |= {"name": "flights", "batch_infer": {"source": "-", "output": "-", "drift": {"measure": False}}}
    (workspace.files / "conf").mkdir(parents=True)
    (workspace.files / "conf" / "flights.yaml").write_text(yaml.safe_dump(tree))
    jobs = Jobs(workspace, wheel)
    bundle = Bundle("dev", workspace)
    unity_catalog.install()
    store = f"sqlite:///{home}/mlflow.db"
    yield SimpleNamespace(
        jobs=jobs, job=bundle.jobs["pipeline"], bundle=bundle, volume=volume, client=lambda: mlflow.MlflowClient(store)
    )
    jobs.close()


def summary(lab, key: str) -> dict:
    client = lab.client()
    experiment = client.get_experiment_by_name("/Shared/baton-dev-flights").experiment_id
    (main,) = client.search_runs([experiment], f"tags.`{names.TAG_PIPELINE}` = '{key}'")
    place = client.download_artifacts(main.info.run_id, names.SUMMARY)
    assert "report.html" in {each.path for each in client.list_artifacts(main.info.run_id)}
    return {"status": main.info.status, **json.loads(Path(place).read_text())}


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_can_be_deployed(target, wheel, tmp_path):
    bundle = Bundle(target, Workspace(tmp_path), **TARGETS[target])
    assert {key for key, job in bundle.jobs.items() if "schedule" in job} == {"pipeline", "reconcile"}
    for job in bundle.jobs.values():
        check(job, wheel)
        assert job["max_concurrent_runs"] == 1 and job["queue"] == {"enabled": True}
        assert job.get("schedule", {}).get("pause_status") in (None, "UNPAUSED" if target == "prod" else "PAUSED")
        assert f"register.model={target}.baton.flights" in next(
            p["default"] for p in job["parameters"] if p["name"] == "set"
        )
    assert [task["task_key"] for task in bundle.jobs["pipeline"]["tasks"]] == [*names.STEPS, "report"]
    assert bundle.run_as() == (None if target == "dev" else {"service_principal_name": "s"})
    text = (ROOT / "databricks.yml").read_text() + "".join(p.read_text() for p in (ROOT / "resources").glob("*.yml"))
    assert "https://" not in text and "dapi" not in text


def test_what_databricks_would_refuse_is_refused(wheel, tmp_path):
    job = Bundle("dev", Workspace(tmp_path)).jobs["pipeline"]
    for wrong, fault in (
        ({"depends_on": [{"task_key": "ingst"}]}, "depends on ingst"),
        ({"job_cluster_key": "none"}, "no cluster none"),
        ({"python_wheel_task": {"entry_point": "ingest"}}, "no entry point ingest"),
        ({"libraries": [{"whl": "../dist/other-*.whl"}]}, "not installed by"),
    ):
        tasks = [{**task, **(wrong if task["task_key"] == "train" else {})} for task in job["tasks"]]
        with pytest.raises(ValueError, match=fault):
            check({**job, "tasks": tasks}, wheel)
    with pytest.raises(KeyError, match="sorce"):
        Bundle("dev", Workspace(tmp_path), source="${var.sorce}")
    assert replaced("{{job.run_id}} {{jb.run_id}}", {"job.run_id": "7"}) == "7 {{jb.run_id}}"
    with pytest.raises(ValueError, match="no reference"):
        replaced("{{job.runid}}", {"job.run_id": "7"})


def test_databricks_own_model_of_a_job_takes_these(tmp_path):
    """Which refuses unknown fields and values."""
    for job in Bundle("prod", Workspace(tmp_path), service_principal="s").jobs.values():
        assert len(Job.from_dict(job).tasks) == len(job["tasks"])


def test_the_list_of_a_cluster_is_the_runtimes_without_spark():
    folder = ROOT / "runtimes" / "databricks-17.3"
    pins = [
        [line.split()[0] for line in (folder / name).read_text().splitlines() if line[:1].isalpha()]
        for name in ("requirements.txt", "job.txt")
    ]
    assert [pin for pin in pins[0] if pin.split("==")[0] not in ("pyspark", "py4j")] == pins[1]
    assert len(pins[0]) == len(pins[1]) + 2


def test_a_schedule(lab):
    run = lab.jobs.run(lab.job, "1001")
    assert set(run.results.values()) == {"success"}, run.printed
    found = summary(lab, "1001")
    assert found["status"] == "FINISHED"
    assert {entry["status"] for entry in found["steps"].values()} == {"finished"}
    assert found["model"]["name"] == "dev.baton.flights" and found["model"]["alias"] == "champion"
    assert found["predictions"]["rows_scored"] == 40
    assert (lab.volume / "predictions" / "flights" / "_scoring.json").is_file()


def test_a_second_schedule_on_unchanged_data_is_six_hits(lab):
    run = lab.jobs.run(lab.job, "1002")
    assert run.succeeded, run.printed
    assert [entry["cache"] for entry in summary(lab, "1002")["steps"].values()] == [names.HIT] * 6


def test_a_task_is_killed_and_the_job_run_repaired(lab):
    pq.write_table(tiny.regression_table(50, seed=6), lab.volume / "new_flights.parquet")
    run = lab.jobs.run(lab.job, "1003", kill="batch_infer")
    assert (run.results["batch_infer"], run.results["report"], run.succeeded) == ("failed", "failed", False)
    assert run.last_line("report").startswith("baton.errors.BatonError: batch_infer: it was killed")
    found = summary(lab, "1003")
    assert found["status"] == "FAILED" and found["steps"]["batch_infer"]["status"] == "failed"
    lab.jobs.run(lab.job, "1003", repair=run)
    assert run.succeeded and run.attempts == dict.fromkeys(names.STEPS, 1) | {"batch_infer": 2, "report": 2}
    found = summary(lab, "1003")
    assert found["status"] == "FINISHED" and found["predictions"]["rows_scored"] == 50


def test_a_task_that_fails_is_tried_again_and_what_needs_it_waits(lab):
    """Once a file comes too late, once not at all."""
    source = lab.volume / "flights.parquet"
    kept = source.read_bytes()
    run = lab.jobs.run(lab.job, "1004", before=lambda key, attempt: late(source, kept, key, attempt))
    assert run.succeeded and run.attempts["ingest"] == 2
    assert summary(lab, "1004")["steps"]["ingest"]["cache"] == names.HIT
    source.unlink()
    run = lab.jobs.run(lab.job, "1005")
    assert run.attempts == {"ingest": 2, "report": 1}
    assert {run.results[step] for step in names.STEPS[1:]} == {"upstream_failed"} and not run.succeeded
    assert "flights.parquet" in run.last_line("ingest") and "flights.parquet" in run.last_line("report")
    assert summary(lab, "1005")["status"] == "FAILED"
    source.write_bytes(kept)


def late(source: Path, content: bytes, key: str, attempt: int) -> None:
    if key == "ingest":
        source.unlink() if attempt == 1 else source.write_bytes(content)


def test_reconcile_has_nothing_to_do_then(lab):
    run = lab.jobs.run(lab.bundle.jobs["reconcile"], "2001")
    assert run.succeeded and "nothing to do" in run.printed["reconcile"], run.printed


def test_a_deployment_waits_for_an_approval_and_then_scores(lab):
    """A version that has passed the gate, and bears no alias: as register.promote=manual leaves it."""
    job, model = lab.bundle.jobs["deployment"], "dev.baton.flights"
    client = mlflow.MlflowClient(lab.jobs.environment["MLFLOW_TRACKING_URI"], lab.jobs.workspace.registry)
    client.delete_registered_model_alias(model, names.CHAMPION)
    for key, value, sentence in (
        ("baton_verdict", names.REFUSED, "it must have passed register's gate.* Received: refused$"),
        ("baton_rolled_back", "it was wrong", "it must have passed register's gate.* Received: rolled back$"),
        ("baton_verdict", names.CHALLENGER, "waits for its approval: .* Received: approval is not there$"),
        ("approval", "no", "waits for its approval: .* Received: approval no$"),
    ):
        client.set_model_version_tag(model, "1", key, value)
        run = lab.jobs.run(job, f"3-{key}-{value}", model_name=model, model_version="1")
        assert run.results == {"approval": "failed", "reconcile": "upstream_failed"}, run.printed
        assert re.search(sentence, run.last_line("approval"))
        assert names.CHAMPION not in client.get_registered_model(model).aliases
        if key == "baton_rolled_back":
            client.delete_model_version_tag(model, "1", key)
    client.set_model_version_tag(model, "1", "approval", "Approved")
    lab.jobs.run(job, run.run_id, repair=run)
    assert run.results == {"approval": "success", "reconcile": "success"}, run.printed
    assert str(client.get_registered_model(model).aliases[names.CHAMPION]) == "1"
    run = lab.jobs.run(job, "3-none", model_name=model, model_version="9")
    assert "no such version" in run.last_line("approval")


def test_an_exit_status_is_a_number_that_says_why():
    assert ExitStatus(2) == 2 and ExitStatus(2).sentence == ""
