"""The whole project as users run it: `mlflow run . -e main` once on a small table, then each step alone."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import chromium
import mlflow
import numpy as np
import pandas as pd
import pytest
import tiny
import untidy
import yaml
from command_lines import CommandLines

from baton import names
from baton.config import loading
from baton.orchestration import gc

ROOT = Path(__file__).parents[2]
SECRET = "canary-of-the-whole-pipeline"
ROWS, BROKEN, STRAY, NO_TARGET = 3_000, 2, 5, 40
SMALL = {
    "model": {"hidden": [16], "networks": 1, "embedding": 2, "number_width": 4},
    "train": {"epochs": 3, "batch_size": 64},
    "tune": {"max_trials": 3, "generation": 2, "epochs": 1},
    "register": {"explain": {"rows": 20, "background": 10}, "audit": {"folds": 2, "rows": 500}},
}
SPACE = yaml.safe_load("""
train.learning_rate: {loguniform: [0.001, 0.01]}
optimizer:
  choice:
    - {train.optimizer: adam}
    - {train.optimizer: momentum, train.momentum: {uniform: [0.5, 0.9]}}
works: {choice: [{model.layers: null}, {model.layers: [{type: no such thing}]}]}
""")


def table(rows: int, seed: int) -> pd.DataFrame:
    """A made table with every kind of column, and a target that can be learnt from it."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "first number": rng.normal(50, 10, rows),
            "whole": rng.integers(0, 100, rows),
            "flag": rng.random(rows) < 0.5,
            "city": rng.choice(["Oslo", "Rome", "Lima"], rows, p=[0.6, 0.3, 0.1]),
            "at": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 365 * 24, rows), "h"),
        }
    )
    level = frame["first number"] + 20 * frame["flag"] + 15 * (frame["city"] == "Rome") - 0.2 * frame["whole"]
    frame["price"] = (level + rng.normal(0, 2, rows)).round(3)
    frame.loc[rng.random(rows) < 0.05, "first number"] = np.nan
    return frame


def write_csv(path: Path, frame: pd.DataFrame, spoil: bool) -> None:
    """As CSV; spoilt: some targets missing, some cells no number, two lines that are no rows."""
    text = frame.astype(object)
    if spoil:
        text.loc[text.index[:NO_TARGET], "price"] = None
        text.loc[text.index[NO_TARGET : NO_TARGET + STRAY], "whole"] = "many"
    path.write_text(text.to_csv(index=False) + ("1,2\n1,2,3,4,5,6,7,8\n" if spoil else ""))


def store(home: Path) -> str:
    """The tracking store in a folder of any name."""
    return f"sqlite:///{quote(str(home))}/mlflow.db"


def environment(home: Path) -> dict[str, str]:
    bin_folder = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": bin_folder + os.pathsep + os.environ["PATH"],
        "MLFLOW_TRACKING_URI": store(home),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }


def run(command: list[str], home: Path, timeout: int = 600) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, cwd=ROOT, env=environment(home), capture_output=True, text=True, timeout=timeout, check=False
    )


def step(home: Path, name: str, **options: str) -> subprocess.CompletedProcess:
    """`python -m steps.<name>` on the small config."""
    defaults = {"config": str(home / "small.yaml"), "set": ""}
    given = [f"--{key}={value}" for key, value in {**defaults, **options}.items()]
    return run([sys.executable, "-m", f"steps.{name}", *given], home)


def mlflow_run_main(home: Path) -> subprocess.CompletedProcess:
    """`mlflow run . -e main` on the small config."""
    command = ["mlflow", "run", ".", "-e", "main", "--env-manager", "local", "--experiment-name", "small"]
    done = run([*command, "-P", f"config={home / 'small.yaml'}", "-P", "set=train.patience=2,seed=3"], home)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """`mlflow run . -e main` on the small table, and what it left."""
    home = tmp_path_factory.mktemp("project") / tiny.ODD
    home.mkdir()
    write_csv(home / "old.csv", table(ROWS, 1), spoil=True)
    write_csv(home / "new.csv", table(200, 2).drop(columns="price"), spoil=False)
    small = {
        "name": "small",
        "warehouse": str(home / "warehouse"),
        "data": {"source": str(home / "old.csv"), "target": "price", "task": "regression"},
        "batch_infer": {"source": str(home / "new.csv"), "output": str(home / "predictions")},
        **SMALL,
        "tune": {**SMALL["tune"], "space": SPACE},
        "spark": {"config": {"spark.hadoop.fs.s3a.secret.key": SECRET}},
    }
    (home / "small.yaml").write_text(yaml.safe_dump(small))
    mlflow.set_tracking_uri(store(home))
    artifacts = home.parent / "artifacts"  # MLflow's own load_model finds no model below a name such as the home's
    mlflow.create_experiment("small", artifact_location=artifacts.as_uri())
    with CommandLines() as command_lines:
        done = mlflow_run_main(home)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("small")
    runs = client.search_runs([experiment.experiment_id])
    main = next(r for r in runs if r.data.tags.get(names.TAG_STEP) == "main")
    summary = json.loads(Path(client.download_artifacts(main.info.run_id, names.SUMMARY)).read_text())
    yield SimpleNamespace(
        home=home, client=client, done=done, runs=runs, main=main, summary=summary, lines=command_lines
    )
    mlflow.set_tracking_uri(None)


def of(project, name):
    return project.client.get_run(project.summary["steps"][name]["run_id"])


def test_every_step_finished_and_says_so(project):
    assert list(project.summary["steps"]) == list(names.STEPS)
    for entry in project.summary["steps"].values():
        assert entry["status"] == "finished"
        assert entry["seconds"] > 0
    assert sum(e["seconds"] for e in project.summary["steps"].values()) <= project.summary["wall_seconds"]
    for word in (*names.STEPS, "promoted as champion", "Predictions:"):
        assert word in project.done.stdout


def test_no_secret_is_on_a_command_line_of_any_step_or_worker(project):
    """Neither of the environment, nor of the config: whoever is on the machine can read command lines."""
    processes = (*(f"steps.{step}" for step in project.summary["steps"]), "HOROVOD_RANK=1", "horovod_worker")
    assert all(map(project.lines.started, processes))
    assert project.lines.holding(SECRET) == []


def test_with_nothing_changed_a_second_main_does_nothing_and_says_hit_six_times(project):
    written = {path: path.stat().st_mtime_ns for path in (project.home / "predictions").rglob("*")}
    done = mlflow_run_main(project.home)
    assert [done.stderr.count(f"main: {name}: hit") for name in names.STEPS] == [1] * 6
    experiment = project.main.info.experiment_id
    newest = project.client.search_runs([experiment], max_results=7, order_by=["attributes.start_time DESC"])
    main = next(r for r in newest if r.data.tags[names.TAG_STEP] == "main")
    summary = json.loads(Path(project.client.download_artifacts(main.info.run_id, names.SUMMARY)).read_text())
    for name, entry in summary["steps"].items():
        first = project.summary["steps"][name]["run_id"]
        assert (entry["status"], entry["cache"], entry["run_id"]) == ("cached", "hit", first)
        (hit,) = (r for r in newest if r.data.tags[names.TAG_STEP] == name)
        assert (hit.info.status, hit.data.tags[names.TAG_CACHE]) == ("FINISHED", "hit")
        assert hit.data.tags[names.TAG_SOURCE_RUN] == first
        assert names.TAG_PROCESS not in hit.data.tags  # no process of its own was started
    for part in ("model", "metrics", "predictions"):
        assert summary[part] == project.summary[part]
    assert {path: path.stat().st_mtime_ns for path in (project.home / "predictions").rglob("*")} == written


def test_steps_are_nested_project_runs(project):
    for name in names.STEPS:
        tags = of(project, name).data.tags
        assert tags["mlflow.parentRunId"] == project.main.info.run_id
        assert tags[names.TAG_PIPELINE_RUN] == project.main.info.run_id
        assert tags["mlflow.project.entryPoint"] == tags[names.TAG_STEP] == name
        assert tags["mlflow.source.type"] == "PROJECT"
        assert of(project, name).info.status == "FINISHED"
        assert of(project, name).data.params["set"] == "train.patience=2,seed=3"


def test_rows_in_are_rows_out_plus_quarantined(project):
    run_id = of(project, "ingest").info.run_id
    manifest = json.loads(Path(project.client.download_artifacts(run_id, names.MANIFEST)).read_text())
    rows = manifest["rows"]
    assert rows["input"] == ROWS + BROKEN
    assert rows["quarantined"] == NO_TARGET + STRAY + BROKEN
    assert rows["input"] == sum(rows[key] for key in (*names.SPLITS, "quarantined"))
    for split in names.SPLITS:
        assert sum(f["rows"] for f in manifest["files"] if f["split"] == split) == rows[split]
        assert sum(f["row_groups"] for f in manifest["files"] if f["split"] == split) >= 2
    data = project.summary["data"]
    assert (data["rows_in"], data["rows_quarantined"]) == (rows["input"], rows["quarantined"])
    assert data["reasons"]["whole is not a number"] == STRAY and sum(data["reasons"].values()) == rows["quarantined"]
    kinds = {entry["name"]: entry["kind"] for entry in manifest["schema"]}
    expected = {"first_number": "numeric", "flag": "boolean", "city": "categorical", "at": "datetime"}
    assert expected.items() <= kinds.items()


def test_quarantine_and_profile_are_artifacts(project):
    run_id = of(project, "ingest").info.run_id
    folder = Path(project.client.download_artifacts(run_id, names.QUARANTINE_FOLDER))
    reasons = pd.read_parquet(folder / "rows.parquet")[names.REASON].value_counts()
    assert reasons.to_dict() == {"price (the target) is missing": NO_TARGET, "whole is not a number": STRAY}
    assert len(pd.read_parquet(folder / "lines.parquet")) == BROKEN
    page = Path(project.client.download_artifacts(run_id, "profile.html")).read_text()
    assert "first number" in page


def test_register_explains_the_model_and_audits_the_labels(project):
    run_id = of(project, "register").info.run_id
    explained, audited = (
        json.loads(Path(project.client.download_artifacts(run_id, name)).read_text())
        for name in (names.EXPLANATION, names.AUDIT)
    )
    assert explained["rows"] == 20 and explained["background"] == 10 and explained["additivity"] < 1e-3
    assert {column["name"] for column in explained["columns"]} == {"first number", "whole", "flag", "city", "at"}
    assert audited["rows_audited"] == ROWS - NO_TARGET - STRAY and audited["folds"] == 2
    assert {entry["model"] for entry in audited["ranking"]} == {"train", "distributed_train", "trivial"}
    suspects = project.client.download_artifacts(run_id, f"{names.AUDIT_FOLDER}/{names.SUSPECTS}")
    assert len(pd.read_parquet(suspects)) == audited["issues"] < 0.1 * ROWS
    figures = {Path(a.path).stem for a in project.client.list_artifacts(run_id, names.FIGURES)}
    assert {"shap_importance", "shap_beeswarm", "shap_dependence_1", "shap_row_1", "audit_ranking"} <= figures


def test_dataset_is_an_input_with_its_fingerprint(project):
    manifest = of(project, "ingest").data.tags[names.TAG_FINGERPRINT]
    for name in ("ingest", "train", "distributed_train"):
        digests = {i.dataset.digest for i in of(project, name).inputs.dataset_inputs}
        assert digests == {manifest[:36]}


def test_candidates_have_curves_figures_and_models(project):
    for name in ("train", "distributed_train"):
        candidate = of(project, name)
        history = project.client.get_metric_history(candidate.info.run_id, "val_rmse")
        assert 1 <= len(history) <= 3
        figures = {a.path for a in project.client.list_artifacts(candidate.info.run_id, names.FIGURES)}
        assert {f"figures/{f}.png" for f in ("curves", "residuals", "predicted_vs_actual")} <= figures
        assert candidate.data.tags[names.TAG_MODEL_URI].startswith("models:/m-")
        paths = {a.path for a in project.client.list_artifacts(candidate.info.run_id, "keras")}
        assert paths == {"keras/network.keras"}


def test_every_step_has_its_card_and_the_new_rows_were_compared(project):
    for name in names.STEPS[1:]:
        page = Path(project.client.download_artifacts(of(project, name).info.run_id, names.CARD)).read_text()
        assert page.count("<section") >= 1 and "holds no" not in page
    scored = of(project, "batch_infer").info.run_id
    drift = json.loads(Path(project.client.download_artifacts(scored, names.DRIFT)).read_text())
    assert (drift["rows"], drift["live"], drift["warnings"]) == (200, None, [])
    assert {c["name"] for c in drift["columns"]} == {"first number", "whole", "flag", "city", "at"}
    assert drift["prediction"]["verdict"] == "ok" and drift["domain_auc"]["verdict"] == "ok"
    assert any(a.path == "figures/drift.png" for a in project.client.list_artifacts(scored, names.FIGURES))


def test_autologging_logged_the_fit_and_tensorboard(project):
    train = of(project, "train")
    artifacts = {a.path for a in project.client.list_artifacts(train.info.run_id)}
    assert {"model_summary.txt", "tensorboard_logs"} <= artifacts
    assert len(project.client.get_metric_history(train.info.run_id, "loss")) == len(
        project.client.get_metric_history(train.info.run_id, "val_rmse")
    )


def test_trials_are_nested_and_failures_recorded(project):
    tune = of(project, "tune").info.run_id
    trials = json.loads(Path(project.client.download_artifacts(tune, names.TRIALS)).read_text())
    nested = [r for r in project.runs if r.data.tags.get("mlflow.parentRunId") == tune]
    assert len(trials) == len(nested) == 3
    for trial in trials:
        broken = trial["parameters"]["model.layers"] is not None
        assert (trial["status"] == "failed") == broken
        assert ("train.momentum" in trial["parameters"]) == (trial["parameters"]["train.optimizer"] == "momentum")
    statuses = sorted(r.info.status for r in nested)
    assert statuses == sorted("FINISHED" if t["status"] == "ok" else "FAILED" for t in trials)
    best = json.loads(Path(project.client.download_artifacts(tune, names.BEST_PARAMETERS)).read_text())
    assert best == min((t for t in trials if t["status"] == "ok"), key=lambda t: t["loss"])["parameters"]
    used = of(project, "distributed_train").data.params
    assert used["train.optimizer"] == best["train.optimizer"]


def test_champion_bears_its_verdict_and_lineage(project):
    model = project.summary["model"]
    assert (model["name"], model["verdict"], model["alias"]) == ("small", "promoted", "champion")
    version = project.client.get_model_version_by_alias("small", "champion")
    assert str(version.version) == model["version"]
    assert version.tags[names.TAG_VERDICT] == "promoted"
    assert version.tags[names.TAG_FINGERPRINT] == of(project, "ingest").data.tags[names.TAG_FINGERPRINT]
    assert re.fullmatch(r"[0-9a-f]{40}|unknown", version.tags[names.TAG_COMMIT])
    assert float(version.tags["test_rmse"]) == pytest.approx(project.summary["metrics"]["test"]["rmse"], rel=1e-4)
    assert set(project.summary["metrics"]["validation"]) == {"rmse", "mae", "r2"}


def test_predictions_are_the_rows_with_lineage(project, monkeypatch):
    predictions = project.summary["predictions"]
    assert (predictions["rows_in"], predictions["rows_scored"], predictions["rows_quarantined"]) == (200, 200, 0)
    scored = pd.read_parquet(predictions["path"])
    source = pd.read_csv(project.home / "new.csv", parse_dates=["at"])
    assert list(scored) == [*source, names.PREDICTION, *names.LINEAGE]
    pd.testing.assert_frame_equal(scored[list(source)], source, check_dtype=False)
    assert set(scored["scoring_run_id"]) == {project.summary["steps"]["batch_infer"]["run_id"]}
    assert set(scored["model_version"]) == {project.summary["model"]["version"]}
    candidates = {project.summary["steps"][s]["run_id"] for s in ("train", "distributed_train")}
    assert set(scored["run_id"]) < candidates
    monkeypatch.setattr(sys, "path", [*sys.path])  # MLflow puts the model's copy of the package first
    loaded = mlflow.pyfunc.load_model("models:/small@champion")
    np.testing.assert_allclose(loaded.predict(source)["prediction"], scored["prediction"], rtol=1e-5)


def test_after_gc_main_has_six_hits(project):
    """As if 40 days had gone by since main, with what a killed ingest of then has left."""
    config = loading.load(str(project.home / "small.yaml"), "train.patience=2,seed=3")
    left = Path(config.warehouse) / "small" / "datasets" / ".aside-leftover"
    left.mkdir()
    killed = project.client.create_run(
        project.main.info.experiment_id, tags={names.TAG_STEP: "ingest", names.TAG_NAME: "small"}
    ).info.run_id
    project.client.set_terminated(killed, "KILLED")
    items = gc.collect(config, time.time() + 40 * gc.DAY_S)
    assert {item.name for item in items} == {left.name, killed}
    assert all(gc.remove(item) for item in items)
    done = step(project.home, "main", set="train.patience=2,seed=3", force="")
    assert done.returncode == 0, done.stderr
    newest = next(r for r in project.client.search_runs([project.main.info.experiment_id]) if is_main(r))
    summary = json.loads(Path(project.client.download_artifacts(newest.info.run_id, names.SUMMARY)).read_text())
    assert [entry["cache"] for entry in summary["steps"].values()] == ["hit"] * 6
    assert summary["predictions"] == project.summary["predictions"]


def is_main(run) -> bool:
    return run.data.tags.get(names.TAG_STEP) == "main"


def test_steps_run_alone(project):
    home, ids = project.home, {name: entry["run_id"] for name, entry in project.summary["steps"].items()}
    quick = "train.epochs=1,tune.max_trials=1,tune.space={train.learning_rate: 0.001}"
    done = [
        step(home, "ingest", set=quick),
        step(home, "train", set=quick, ingest_run_id=ids["ingest"]),
        step(home, "tune", set=quick, ingest_run_id=ids["ingest"]),
        step(home, "distributed_train", set=quick, ingest_run_id=ids["ingest"], tune_run_id=""),
        step(home, "batch_infer", register_run_id=""),
    ]
    assert [d.returncode for d in done] == [0] * 5, "\n".join(d.stderr[-2000:] for d in done)
    latest = project.client.search_runs([project.main.info.experiment_id], max_results=6)
    assert {r.data.tags.get(names.TAG_STEP) for r in latest} >= {"ingest", "train", "distributed_train"}
    alone = next(r for r in latest if r.data.tags.get(names.TAG_STEP) == "ingest")
    assert alone.data.params["set"] == quick
    assert alone.data.tags[names.TAG_FINGERPRINT] == of(project, "ingest").data.tags[names.TAG_FINGERPRINT]


def test_a_worse_candidate_is_refused_and_the_champion_stays(project):
    before = project.client.get_model_version_by_alias("small", "champion").version
    ingest = project.summary["steps"]["ingest"]["run_id"]
    bad = step(project.home, "train", set="train.epochs=1,train.learning_rate=1e-9", ingest_run_id=ingest)
    assert bad.returncode == 0, bad.stderr
    (worst,) = project.client.search_runs([project.main.info.experiment_id], max_results=1)
    done = step(project.home, "register", candidate_run_ids=worst.info.run_id)
    assert done.returncode == 0, done.stderr
    (register,) = project.client.search_runs([project.main.info.experiment_id], max_results=1)
    verdict = json.loads(Path(project.client.download_artifacts(register.info.run_id, names.VERDICT)).read_text())
    assert (verdict["verdict"], verdict["alias"]) == ("refused", None)
    assert any("does not beat the champion" in reason for reason in verdict["reasons"])
    assert project.client.get_model_version_by_alias("small", "champion").version == before


def test_rollback_by_mlflow_run_gives_the_champion_back(project):
    """Somebody moves the alias by hand to the refused version; scoring refuses it, rollback undoes it."""
    before = project.client.get_model_version_by_alias("small", "champion").version
    refused = next(v for v in project.client.search_model_versions("name='small'") if v.version != before)
    project.client.set_registered_model_alias("small", "champion", refused.version)
    done = step(project.home, "batch_infer", register_run_id="")
    assert done.returncode == 2
    assert "set batch_infer.allow_unvalidated: true" in done.stderr.strip().splitlines()[-1]
    reason = """it's "worse"; $(touch owned) {set}"""
    command = ["mlflow", "run", ".", "-e", "rollback", "--env-manager", "local", "--experiment-name", "small"]
    done = run([*command, "-P", f"config={project.home / 'small.yaml'}", "-P", f"reason={reason}"], project.home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.client.get_model_version_by_alias("small", "champion").version == before
    (rollback,) = project.client.search_runs([project.main.info.experiment_id], f"tags.`{names.TAG_STEP}` = 'rollback'")
    assert rollback.data.tags[names.TAG_CHAMPION_WHY] == reason
    shown = run(
        [sys.executable, "-m", "steps.rollback", f"--config={project.home / 'small.yaml'}", "--history"], project.home
    )
    for word in ("promoted", "set by hand", "rolled back"):
        assert word in shown.stdout
    again = run([*command, "-P", f"config={project.home / 'small.yaml'}", "-P", "reason=more"], project.home)
    assert again.returncode != 0 and "has no previous champion" in again.stdout + again.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"config": "no/such.yaml"}, "There is no config file of that name.*no/such.yaml"),
        ({"set": "train.epochs=many"}, r"train\.epochs.*integer.*many"),
        ({"set": "data.source=no/such.csv"}, "There is no file at the source.*no/such.csv"),
        ({"set": "data.target=cost"}, "The source has no column cost"),
    ],
)
def test_bad_input_exits_2_with_a_sentence(project, options, sentence):
    done = step(project.home, "ingest", **options)
    assert done.returncode == 2
    assert re.search(sentence, done.stderr.strip().splitlines()[-1])


def test_a_failed_step_ends_main_with_its_sentence(project):
    done = step(project.home, "main", set="data.target=cost", force="")
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert re.search("ingest: The source has no column cost", last)
    failed = project.client.search_runs([project.main.info.experiment_id], max_results=2)
    assert {r.info.status for r in failed} == {"FAILED"}
    main = next(r for r in failed if r.data.tags[names.TAG_STEP] == "main")
    summary = json.loads(Path(project.client.download_artifacts(main.info.run_id, names.SUMMARY)).read_text())
    assert [e["status"] for e in summary["steps"].values()] == ["failed", *["skipped"] * 5]
    page = Path(project.client.download_artifacts(main.info.run_id, names.REPORT)).read_text()
    assert "The run failed." in page and "The step ingest failed: The source has no column cost" in page


def test_force_names_steps(project):
    done = step(project.home, "main", force="trian")
    assert done.returncode == 2
    assert "force takes steps or all" in done.stderr.strip().splitlines()[-1]


def test_a_table_as_people_have_it_is_understood_and_comes_back_as_it_was(project):
    """Semicolons, decimal commas, units, days first, marks, identifiers, partitions, a packed file, odd classes."""
    home = project.home / "untidy"
    home.mkdir()
    old, new = untidy.frame(1500), untidy.frame(120, seed=9).drop(columns=["severity"])
    config = {
        "name": "untidy",
        "warehouse": str(home / "warehouse"),
        "data": {"source": untidy.write(home / "old", old), "target": "severity", "task": "multiclass",
                 "delimiter": ";", "id": ["order"]},
        "model": {"hidden": [16], "networks": 1},
        "train": {"epochs": 12, "batch_size": 32},
        "tune": {"max_trials": 1, "parallelism": 1},
        "register": {"explain": {"rows": 0}, "audit": {"folds": 0}},
        "batch_infer": {"source": untidy.write(home / "new", new), "output": str(home / "predictions")},
    }  # fmt: skip
    (home / "untidy.yaml").write_text(yaml.safe_dump(config))
    experiment = project.client.create_experiment("untidy", artifact_location=(home / "artifacts").as_uri())
    done = step(project.home, "main", config=str(home / "untidy.yaml"), set="", force="")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = project.client.search_runs([experiment], "tags.`baton.step` = 'main'")
    summary = json.loads(Path(project.client.download_artifacts(run.info.run_id, names.SUMMARY)).read_text())
    assert (summary["data"]["rows_in"], summary["data"]["rows_quarantined"]) == (1500, 0)
    warnings = [
        "revenue: read as numbers with '.' between thousands and ',' before decimals and the unit €.",
        "day: read as dates, the day first.",
    ]
    assert set(warnings) < set(summary["data"]["warnings"])
    assert any("'?' taken as missing" in warning for warning in summary["data"]["warnings"])
    assert all(f"Warning: {warning}" in done.stdout for warning in warnings)
    assert summary["metrics"]["test"]["accuracy"] > 0.75  # 0.5 without the three columns that text hides
    scored = pd.read_parquet(home / "predictions")
    kept = scored.set_index("order").loc[new["order"]].reset_index()[list(new)]
    pd.testing.assert_frame_equal(kept, new, check_dtype=False)
    assert set(scored["region"]) == {"north", "south"} and set(scored[names.PREDICTION]) <= set(untidy.CLASSES)


def test_images_go_through_the_same_entry_points(project):
    """main on a few real pictures, with the refused-without-champion path: floors no model can keep."""
    home = project.home
    pictures = pd.read_parquet(ROOT / "data" / "fashion.parquet").iloc[:400]
    for index, (image, label) in enumerate(zip(pictures["image"], pictures["label"], strict=True)):
        folder = home / "pictures" / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index}.png").write_bytes(image)
    (home / "pictures" / "bag" / "broken.png").write_bytes(b"no picture")
    config = {
        "name": "small",
        "warehouse": str(home / "warehouse"),
        "data": {"source": str(home / "pictures"), "task": "image"},
        "model": {"filters": [4], "dropout": 0.0, "views": "mirror"},
        "train": {"epochs": 2},
        "tune": {"max_trials": 1, "epochs": 1},
        "register": {
            "floors": {"accuracy": 1.01},
            "explain": {"rows": 3},
            "audit": {"folds": 2},
            "costs": {"seconds": 600, "rows": 20},
        },
        "batch_infer": {"source": str(home / "pictures"), "output": str(home / "labels")},
    }
    (home / "pictures.yaml").write_text(yaml.safe_dump(config))
    overrides = "name=pictures"
    mlflow.create_experiment("pictures", artifact_location=(home / "artifacts").as_uri())
    done = step(home, "main", config=str(home / "pictures.yaml"), set=overrides, force="")
    assert done.returncode == 0, done.stderr[-3000:]
    experiment = project.client.get_experiment_by_name("pictures").experiment_id
    mains = project.client.search_runs([experiment], f"tags.`{names.TAG_STEP}` = 'main'")
    summary = json.loads(Path(project.client.download_artifacts(mains[0].info.run_id, names.SUMMARY)).read_text())
    assert (summary["model"]["verdict"], summary["model"]["alias"]) == ("refused", None)
    assert summary["predictions"] is None
    assert summary["steps"]["batch_infer"]["status"] == "skipped"
    assert not (home / "labels").exists()
    train = summary["steps"]["train"]["run_id"]
    figures = {Path(a.path).stem for a in project.client.list_artifacts(train, names.FIGURES)}
    assert {"curves", "confusion_matrix", "roc", "precision_recall", "calibration"} <= figures
    register = summary["steps"]["register"]["run_id"]
    figures = {Path(a.path).stem for a in project.client.list_artifacts(register, names.FIGURES)}
    assert {"shap_importance", "shap_images", "audit_labels", "audit_suspects", "audit_ranking", "costs"} <= figures
    costs = json.loads(Path(project.client.download_artifacts(register, names.COSTS)).read_text())
    found = [(cost["model"], cost["views"]) for cost in costs["costs"]]
    assert found == [(step, views) for views in (1, 2, 10, 144) for step in ("train", "distributed_train")]
    explained = json.loads(Path(project.client.download_artifacts(register, names.EXPLANATION)).read_text())
    assert explained["views"] == 2 and explained["grad_cam"] and explained["feature_maps"]
    page = Path(project.client.download_artifacts(mains[0].info.run_id, names.REPORT)).read_text()
    assert "Views of each picture" in page and "mean of 2 views" in page and "Accuracy and cost" in page


@pytest.fixture(scope="module")
def ui(project):
    """A real MLflow UI on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    server = subprocess.Popen(
        command, cwd=project.home, env=environment(project.home), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{url}/health", timeout=1)
            break
        except OSError:
            time.sleep(0.5)
    yield url
    os.killpg(server.pid, 15)
    server.wait(30)


@pytest.fixture(scope="module")
def page():
    with chromium.page() as opened:
        yield opened


def test_ui_shows_main_with_its_steps(project, ui, page):
    experiment = project.main.info.experiment_id
    page.goto(f"{ui}/#/experiments/{experiment}/runs")
    page.get_by_role("link", name="main", exact=True).last.wait_for()
    page.goto(f"{ui}/#/experiments/{experiment}/runs/{project.main.info.run_id}")
    for name in ("ingest", "train", "tune", "distributed_train", "register", "batch_infer"):
        page.get_by_text(name, exact=True).first.wait_for()


def test_ui_shows_the_champion(project, ui, page):
    page.goto(f"{ui}/#/models/small")
    page.get_by_text("champion").first.wait_for()


def test_ui_shows_curves_and_the_dataset(project, ui, page):
    train = project.summary["steps"]["train"]["run_id"]
    page.goto(f"{ui}/#/experiments/{project.main.info.experiment_id}/runs/{train}")
    page.get_by_text("val_rmse").first.wait_for()
    page.get_by_text(of(project, "train").inputs.dataset_inputs[0].dataset.digest[:8]).first.wait_for()


def test_ui_shows_the_report_with_every_section(project, ui, page):
    """In the sandbox that MLflow shows pages in: whole, with links that work, and without a request of its own."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    run = project.main.info
    for width in (1500, 390):
        page.set_viewport_size({"width": width, "height": 1000})
        page.goto(f"{ui}/#/experiments/{run.experiment_id}/runs/{run.run_id}/artifacts/report.html")
        page.reload()
        frame = page.frame_locator("iframe").first
        frame.locator("h2", has_text="Reproduce").wait_for()
        found = frame.locator("h2").all_inner_texts()
        assert found[:3] == ["Run", "Data", "Search"] and {"Gate", "Drift", "Lineage", "Reproduce"} < set(found)
        body = frame.locator("body")
        assert body.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        frame.locator("nav a[href='#gate']").click()
        for _ in range(50):  # it scrolls smoothly
            top = frame.locator("#gate").evaluate("e => Math.abs(e.getBoundingClientRect().top)")
            if top < 200:
                break
            page.wait_for_timeout(100)
        assert top < 200
        text = body.inner_text()
        assert "promoted" in text and f"{ROWS + BROKEN:,} rows in" in text
    assert {url.split("/")[2] for url in asked if url.startswith("http")} == {ui.removeprefix("http://")}
    page.set_viewport_size({"width": 1500, "height": 1000})
