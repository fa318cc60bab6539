"""Tasks of a job run that main does not drive: they find main's run and each other's by its key alone."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pyarrow.parquet as pq
import pytest
import tiny
import yaml
from click.testing import CliRunner

from baton import names
from baton.config.schema import validate
from baton.errors import BadInput
from baton.orchestration import job, references
from baton.tracking import runs
from steps.batch_infer import batch_infer
from steps.ingest import ingest
from steps.main import main
from steps.register import register
from steps.report import report
from steps.train import train


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A small pipeline with a tracking store of its own."""
    home = tmp_path_factory.mktemp("job")
    pq.write_table(tiny.regression_table(300), home / "rows.parquet")
    tree = tiny.config(source=str(home / "rows.parquet"), warehouse=str(home / "warehouse")).dump()
    tree["batch_infer"] = {"source": str(home / "rows.parquet"), "output": str(home / "predictions")}
    (home / "tiny.yaml").write_text(yaml.safe_dump(tree))
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
    mlflow.create_experiment("tiny", artifact_location=(home / "artifacts").as_uri())
    runs.reach()
    yield SimpleNamespace(home=home, config=validate(tree, {}, "test"), options=options_of(home))
    mlflow.set_tracking_uri(before)


def options_of(home: Path):
    return lambda key: {"config": str(home / "tiny.yaml"), "set": "", "pipeline": key}


def invoke(lab, command, *more: str):
    return CliRunner().invoke(command, [f"--config={lab.home / 'tiny.yaml'}", *more])


def of_step(lab, key: str, step: str) -> list:
    return runs.of_job(job.main_run(lab.config, lab.options(key)), step)


def add(lab, key: str, step: str, status: str, **tags: str) -> str:
    """A run of a step in a job run that ended so."""
    created = runs.create_child(job.main_run(lab.config, lab.options(key)), step, {})
    runs.tag(created, {name.replace("__", "."): value for name, value in tags.items()})
    runs.client().set_terminated(created, status)
    return created


@pytest.mark.parametrize("key", ["{{job.runid}}", "x-{{ run_id }}", "it's", "a b", "a" * 201])
def test_a_key_that_cannot_name_one_job_run_is_refused(lab, key):
    done = invoke(lab, ingest, f"--pipeline={key}")
    assert done.exit_code == 2
    assert done.output.splitlines()[-1].endswith(f"Received: {key}")
    assert ("has not replaced" in done.output) == ("{{" in key)


@pytest.mark.parametrize(("command", "option"), [(train, "ingest_run_id"), (register, "candidate_run_ids")])
def test_neither_runs_nor_a_key_is_bad_input(lab, command, option):
    done = invoke(lab, command)
    assert done.exit_code == 2
    assert done.output.splitlines()[-1].startswith(f"{option} is missing: give it the run ID of a finished")
    assert "or give pipeline the key of a job run" in done.output


@pytest.mark.parametrize("locked", [True, False])
def test_tasks_that_come_at_once_make_one_run_of_main(lab, monkeypatch, locked):
    """Where the store cannot be locked, all have looked before the first makes one."""
    key, tasks = f"at-once-{locked}", 4
    if not locked:
        monkeypatch.setattr(job, "exclusive", not_locked)
        monkeypatch.setattr(job, "SETTLE_S", 0.5)
        barrier, look = threading.Barrier(tasks), job.mains
        first = threading.local()

        def look_together(*arguments):
            found = look(*arguments)
            if not getattr(first, "done", False):
                first.done = True
                barrier.wait(20)
            return found

        monkeypatch.setattr(job, "mains", look_together)
    with ThreadPoolExecutor(tasks) as pool:
        found = list(pool.map(lambda _: job.main_run(lab.config, lab.options(key)).id, range(tasks)))
    monkeypatch.undo()
    assert len(set(found)) == 1
    experiment = runs.experiment_of("tiny")
    assert [run.info.run_id for run in job.mains(lab.config, key, experiment)] == [found[0]]


@contextmanager
def not_locked(uri: str):
    yield False


def test_the_newest_finished_run_of_a_step_is_what_the_next_one_takes(lab):
    add(lab, "newest", "ingest", "FINISHED")
    second = add(lab, "newest", "ingest", "FINISHED")
    add(lab, "newest", "ingest", "KILLED")
    add(lab, "newest", "train", "FINISHED", baton__source_run_id="a-hit-of-this")
    of_main = job.main_run(lab.config, lab.options("newest"))
    assert job._newest(of_main, "ingest_run_id") == second
    assert job._newest(of_main, "candidate_run_ids") == "a-hit-of-this"
    assert job._newest(of_main, "tune_run_id") == ""  # no task of this job run
    add(lab, "newest", "tune", "FAILED")
    with pytest.raises(BadInput, match=r"No run of tune in this job run has finished: .* which is FAILED"):
        job._newest(of_main, "tune_run_id")
    empty = job.main_run(lab.config, lab.options("empty"))
    with pytest.raises(BadInput, match="has no run of ingest yet: .* Received: empty"):
        job._newest(empty, "ingest_run_id")


def test_another_pipeline_with_that_key_has_a_run_of_its_own(lab):
    one = job.main_run(lab.config, lab.options("both"))
    other = job.main_run(lab.config.overridden({"name": "other", "experiment": "tiny"}), lab.options("both"))
    assert one.id != other.id and one.experiment_id == other.experiment_id


def summary_of(lab, key: str) -> dict:
    return runs.artifact(runs.client().get_run(job.main_run(lab.config, lab.options(key)).id), names.SUMMARY)


def status_of(lab, key: str) -> str:
    return job.mains(lab.config, key, runs.experiment_of("tiny"))[0].info.status


def test_a_second_job_run_on_unchanged_data_is_a_hit_unless_it_is_forced(lab):
    for key, more in (("1001", ()), ("1002", ()), ("1003", ("--force=all",))):
        done = invoke(lab, ingest, f"--pipeline={key}", *more)
        assert done.exit_code == 0, done.output
    first, hit, forced = (of_step(lab, key, "ingest")[0] for key in ("1001", "1002", "1003"))
    assert first.data.tags[names.TAG_CACHE] == "miss: first run"
    assert hit.data.tags[names.TAG_SOURCE_RUN] == first.info.run_id and hit.info.status == "FINISHED"
    assert forced.data.tags[names.TAG_CACHE] == "miss: forced"
    assert first.data.tags["mlflow.project.entryPoint"] == "ingest"
    assert runs.parameters(first)["pipeline"] == "1001"


def test_a_task_that_failed_is_repaired_under_the_same_key(lab):
    """After the test above. The source of the first attempt is not there; the report ends main's run in between."""
    gone = invoke(lab, ingest, "--pipeline=repair", "--set=data.source=no-such.parquet")
    assert gone.exit_code == 2
    failed = of_step(lab, "repair", "ingest")[0]
    assert failed.info.status == "FAILED" and "no-such.parquet" in failed.data.tags[names.TAG_ERROR]
    done = invoke(lab, report, "--pipeline=repair")
    assert done.exit_code == 1 and "no-such.parquet" in done.output.splitlines()[-1]
    assert status_of(lab, "repair") == "FAILED"
    assert invoke(lab, ingest, "--pipeline=repair").exit_code == 0
    again = of_step(lab, "repair", "ingest")[0]
    assert again.data.tags[names.TAG_ATTEMPT] == "2" and failed.data.tags[names.TAG_ATTEMPT] == "1"
    assert status_of(lab, "repair") == "RUNNING"
    assert summary_of(lab, "repair")["steps"]["ingest"]["status"] == "failed"
    assert invoke(lab, report, "--pipeline=repair").exit_code == 1
    assert summary_of(lab, "repair")["steps"]["ingest"]["status"] == "cached"


def test_report_tells_the_first_step_that_did_not_end_well(lab):
    working = runs.create_child(job.main_run(lab.config, lab.options("1003")), "train", {})
    done = invoke(lab, report, "--pipeline=1003")
    assert done.exit_code == 1 and done.output.splitlines()[-1].startswith("train: it was killed")
    assert runs.client().get_run(working).info.status == "KILLED"
    assert of_step(lab, "1003", "report")[0].info.status == "FAILED"  # by its own sentence, and not closed
    done = invoke(lab, report, "--pipeline=1001")
    assert done.exit_code == 1 and done.output.splitlines()[-1].startswith("train: it has not begun")


def test_report_ends_mains_run_though_an_artifact_is_gone(lab):
    lost = add(lab, "lost", "ingest", "FINISHED")
    done = invoke(lab, report, "--pipeline=lost")
    assert done.exit_code == 1 and f"{lost} has no artifact manifest.json" in done.output.splitlines()[-1]
    assert status_of(lab, "lost") == "FAILED"


def test_scoring_is_skipped_while_there_is_no_champion(lab):
    done = invoke(lab, batch_infer, "--pipeline=1001")
    assert done.exit_code == 0
    assert of_step(lab, "1001", "batch_infer") == []


def test_gc_keeps_what_a_task_has_found(lab):
    task = job.begin("train", lab.config, lab.options("1001"), {"ingest_run_id": ""}, "", "all")
    by_mlflow = runs.client().create_run(runs.experiment_of("tiny")).info.run_id
    other = job.begin("train", lab.config, lab.options("1001"), {"ingest_run_id": ""}, by_mlflow, "all")
    assert other.run_id == by_mlflow
    wanted = of_step(lab, "1001", "ingest")[0].info.run_id
    for run_id in (task.run_id, other.run_id):
        run = runs.client().get_run(run_id)
        assert wanted in references._origins(run)
        assert run.data.tags["mlflow.parentRunId"] == job.main_run(lab.config, lab.options("1001")).id
        runs.close(run_id, "FAILED")


def test_report_without_a_key_is_bad_input(lab):
    assert invoke(lab, report).exit_code == 2
    assert invoke(lab, report, "--pipeline=").output.splitlines()[-1].startswith("pipeline is missing")


def test_main_may_not_take_the_key_of_another_job_run(lab):
    job.main_run(lab.config, lab.options("taken"))
    done = invoke(lab, main, "--pipeline=taken")
    assert done.exit_code == 2
    assert "give main one of its own. Received: taken" in done.output.splitlines()[-1]
