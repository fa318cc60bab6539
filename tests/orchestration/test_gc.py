"""What gc keeps and what it removes, with a real SQLite store, real folders and real locks."""

import os
import shlex
import shutil
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
import yaml
from click.testing import CliRunner

from baton import names
from baton.config.loading import load
from baton.errors import BadInput
from baton.orchestration import gc, outputs, references
from baton.orchestration.pipeline import Pipeline
from baton.registry import champions
from baton.runtime import file_systems, locks, processes
from baton.tracking import runs

DAY_MS = 86_400_000
OLD, YOUNG = 100, 3  # days; the retention lies between


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """An MLflow store that all tests share; each has a pipeline of its own name in it."""
    home = tmp_path_factory.mktemp("gc")
    uri = f"sqlite:///{home}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        yield SimpleNamespace(home=home, client=mlflow.MlflowClient())
        mlflow.set_tracking_uri(None)


@pytest.fixture
def pipeline(store, request, tmp_path) -> SimpleNamespace:
    """A pipeline with an experiment and a warehouse, and what makes its runs, folders and versions."""
    name = request.node.name.replace("[", "-").replace("]", "")[:100]
    experiment = store.client.create_experiment(name, artifact_location=(tmp_path / "artifacts").as_uri())
    file = written(tmp_path, name)
    config = load(str(file))
    datasets = Path(config.warehouse) / name / "datasets"

    def run(step: str, days: float, status: str = "FINISHED", params: dict | None = None, **tags: str) -> str:
        when = int(time.time() * 1000 - days * DAY_MS)
        tags = {key.replace("__", "."): value for key, value in tags.items()}
        all_tags = {names.TAG_STEP: step, names.TAG_NAME: name, **tags}
        made = store.client.create_run(experiment, start_time=when, tags=all_tags, run_name=step).info.run_id
        for key, value in (params or {}).items():
            store.client.log_param(made, key, value)
        if status != "RUNNING":
            store.client.set_terminated(made, status, end_time=when)
        return made

    def ingest(days: float, status: str = "FINISHED", **tags: str) -> str:
        made = run("ingest", days, status, **tags)
        place = folder(datasets / made, days)
        store.client.set_tag(made, names.TAG_DATASET, str(place))
        return made

    def train(days: float, ingest_run: str, **tags: str) -> str:
        made = run("train", days, params={"ingest_run_id": ingest_run}, **tags)
        store.client.set_tag(made, names.TAG_DATASET, str(datasets / ingest_run))
        return made

    def version(run_id: str, alias: str = "", model: str = name) -> str:
        if not store.client.search_registered_models(f"name='{model}'"):
            store.client.create_registered_model(model)
        source = tmp_path / "model"
        source.mkdir(exist_ok=True)
        (source / "MLmodel").write_text("flavors: {}\n")
        tags = {names.TAG_CANDIDATE_RUN: run_id, names.TAG_VERDICT: names.PROMOTED}
        number = str(store.client.create_model_version(model, source.as_uri(), run_id, tags=tags).version)
        if alias:
            store.client.set_registered_model_alias(model, alias, number)
        return number

    made = SimpleNamespace(**locals(), folder=folder)
    made.client, made.home = store.client, tmp_path
    return made


def written(home: Path, name: str) -> Path:
    """The pipeline's config."""
    tree = {
        "name": name,
        "warehouse": str(home / "warehouse"),
        "data": {"source": "-", "target": "y", "task": "regression"},
        "batch_infer": {"source": "-", "output": str(home / "predictions" / "out")},
    }
    file = home / "pipeline.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def folder(path: Path, days: float, content: str = "rows") -> Path:
    path.mkdir(parents=True)
    (path / "part-0.parquet").write_text(content)
    return aged(path, days)


def aged(path: Path, days: float) -> Path:
    when = time.time() - days * 86_400
    for each in [*path.rglob("*"), path]:
        os.utime(each, (when, when), follow_symlinks=False)
    return path


def listed(pipeline) -> dict[str, str]:
    """{name of a folder or ID of a run: kind} of all that may go."""
    return {item.name: item.kind for item in gc.collect(pipeline.config, time.time())}


def clean(pipeline) -> set[str]:
    """Remove all that may go; return the runs that are left."""
    gc.clean(pipeline.config, delete=True)
    return {run.info.run_id for run in runs.of_pipeline(pipeline.name)}


def test_the_old_goes_and_the_young_and_the_newest_stay(pipeline):
    abandoned, newest_but_old, young_failed = (
        pipeline.ingest(OLD + 1),
        pipeline.ingest(OLD),
        pipeline.ingest(3, "FAILED"),
    )
    assert listed(pipeline) in ({abandoned: "dataset"}, {abandoned: "run"})  # a dataset is called as its run
    kinds = [item.kind for item in gc.collect(pipeline.config, time.time())]
    assert kinds == ["dataset", "run"]
    assert clean(pipeline) == {newest_but_old, young_failed}
    assert {path.name for path in pipeline.datasets.iterdir()} == {newest_but_old, young_failed}
    assert pipeline.client.get_run(abandoned).info.lifecycle_stage == "deleted"
    assert listed(pipeline) == {}


def test_the_retention_decides_what_is_old(pipeline):
    first, _ = pipeline.ingest(20), pipeline.ingest(10)
    assert listed(pipeline) == {}
    shorter = pipeline.config.overridden({"retention_days": 15})
    assert {item.name for item in gc.collect(shorter, time.time())} == {first}


def test_nothing_of_the_last_hour_goes_even_without_retention(pipeline):
    pipeline.ingest(0.02), pipeline.ingest(0.01)
    old = pipeline.ingest(0.2, "KILLED")
    none = pipeline.config.overridden({"retention_days": 0})
    assert {item.name for item in gc.collect(none, time.time())} == {old}


def test_a_young_run_keeps_all_that_it_was_made_from(pipeline):
    dataset = pipeline.ingest(OLD + 9)
    tune = pipeline.run("tune", OLD + 8, params={"ingest_run_id": dataset})
    source = pipeline.run(
        "distributed_train", OLD + 7, params={"ingest_run_id": dataset, "tune_run_id": tune}
    )  # fmt: skip
    hit = pipeline.run("distributed_train", YOUNG, baton__source_run_id=source)
    register = pipeline.run("register", YOUNG, params={"candidate_run_ids": f" {hit}, unknown"})
    for days, step in enumerate(("ingest", "tune", "distributed_train")):  # newer ones of every step
        pipeline.run(step, OLD - days)
    assert listed(pipeline) == {}
    assert {dataset, tune, source, hit, register} <= clean(pipeline)


def test_the_newest_pipeline_stays_whole_with_the_sources_of_its_hits(pipeline):
    def family(days: float, **sources: str) -> dict[str, str]:
        main = pipeline.run("main", days)
        made = {"main": main}
        for step in names.STEPS:
            tags = {"mlflow__parentRunId": main} | ({"baton__source_run_id": sources[step]} if step in sources else {})
            made[step] = pipeline.ingest(days, **tags) if step == "ingest" else pipeline.run(step, days, **tags)
        return made

    first, second = family(OLD + 3), family(OLD + 2)
    newest = family(OLD + 1, ingest=first["ingest"], tune=first["tune"])
    failed = pipeline.run("main", OLD, "FAILED")
    left = clean(pipeline)
    assert set(newest.values()) <= left
    assert {first["ingest"], first["tune"]} <= left
    # the last results of steps that were hits since, and the mains above all that stays
    assert left == {*newest.values(), first["main"], first["ingest"], first["tune"],
                    second["main"], second["ingest"], second["tune"]}  # fmt: skip
    assert failed not in left
    assert (pipeline.datasets / first["ingest"]).is_dir()


def test_versions_that_may_score_keep_dataset_and_runs_and_others_their_run(pipeline):
    champion, before, refused, unused = (pipeline.ingest(OLD + days) for days in (9, 8, 7, 6))
    models = {data: pipeline.train(OLD + 5, data) for data in (champion, before, refused, unused)}
    pipeline.ingest(OLD), pipeline.train(OLD, "none")  # the newest of every step
    version_before = pipeline.version(models[before])
    pipeline.version(models[refused])
    promoted = pipeline.version(models[champion])
    for number in (version_before, promoted):
        with champions.locked(pipeline.config):
            champions.promote(pipeline.config, number, champions.current(pipeline.name), "", "better")
    left = clean(pipeline)
    kept = {path.name for path in pipeline.datasets.iterdir()}
    assert {champion, before} <= kept and not {refused, unused} & kept
    assert {champion, before, models[champion], models[before], models[refused]} <= left
    assert not {refused, unused, models[unused]} & left
    # the way back is still open
    assert champions.roll_back(pipeline.config, "", "worse").version == version_before


def test_an_alias_and_another_model_keep_their_dataset_too(pipeline):
    challenger, elsewhere, gone = (pipeline.ingest(OLD + days) for days in (9, 8, 7))
    models = [pipeline.train(OLD + 5, data) for data in (challenger, elsewhere)]
    pipeline.ingest(OLD), pipeline.train(OLD, "none")
    pipeline.version(models[0], names.CHALLENGER)
    pipeline.version(models[1], model=f"{pipeline.name}.by_hand")
    pipeline.client.delete_run(models[0])  # by hand, in the UI: the version is still there
    clean(pipeline)
    kept = {path.name for path in pipeline.datasets.iterdir()}
    assert {challenger, elsewhere} <= kept and gone not in kept


@pytest.fixture
def working(pipeline):
    """Tags of a run whose process is this one."""
    return {"baton__host": socket.gethostname(), "baton__process": processes.me()}


def test_an_unfinished_pipeline_at_work_is_never_touched(pipeline, working):
    data = pipeline.ingest(OLD + 9)
    main = pipeline.run("main", OLD, "RUNNING", **working)
    training = pipeline.run("train", OLD, "RUNNING", {"ingest_run_id": data}, mlflow__parentRunId=main, **working)
    elsewhere = pipeline.ingest(OLD + 8)  # read on another machine, which this one cannot ask
    other = pipeline.run("train", OLD, "RUNNING", {"ingest_run_id": elsewhere}, baton__host="other", baton__process="1")
    pipeline.ingest(OLD)
    aside = pipeline.folder(pipeline.datasets / ".aside-abcdefgh", OLD)
    checkpoint = pipeline.folder(pipeline.datasets.parent / "checkpoints" / ("0" * 32), OLD)
    output = pipeline.folder(pipeline.home / "predictions" / ".out-abcdefgh", OLD)
    with locks.held(aside), locks.held(checkpoint), locks.held(output):
        assert listed(pipeline) == {}
        assert {main, training, data, other, elsewhere} <= clean(pipeline)
        assert aside.is_dir() and checkpoint.is_dir() and output.is_dir()
    assert listed(pipeline) == {aside.name: "leftover", checkpoint.name: "checkpoint", output.name: "leftover"}
    clean(pipeline)
    assert not (aside.exists() or checkpoint.exists() or output.exists())


def test_an_output_that_was_killed_between_two_moves_is_put_back(pipeline):
    pipeline.ingest(YOUNG)
    output = Path(pipeline.config.batch_infer.output)
    pipeline.folder(output.with_name(f".{output.name}.baton-old"), OLD)
    assert listed(pipeline) == {} and not output.exists()
    clean(pipeline)
    assert [path.name for path in output.iterdir()] == ["part-0.parquet"]


def test_what_is_taken_between_the_listing_and_the_removal_stays(pipeline):
    pipeline.ingest(YOUNG)
    folder = pipeline.folder(pipeline.datasets.parent / "checkpoints" / ("1" * 32), OLD)
    (item,) = gc.collect(pipeline.config, time.time())
    with locks.held(folder):
        assert gc.remove(item) is False
        assert (folder / "part-0.parquet").is_file()
    assert gc.remove(item) is True


def test_a_killed_pipeline_goes_and_its_runs_are_closed(pipeline):
    dead = {"baton__host": socket.gethostname(), "baton__process": "1:0:gone"}
    tune = pipeline.run("tune", OLD, "RUNNING", **dead)
    trial = pipeline.client.create_run(pipeline.experiment, tags={"mlflow.parentRunId": tune}).info.run_id
    main = pipeline.run("main", OLD + 1, "RUNNING", **dead)  # listed before the step nested under it
    step = pipeline.run("train", OLD, "FAILED", mlflow__parentRunId=main)
    pipeline.ingest(YOUNG)
    clean(pipeline)
    assert pipeline.client.get_run(step).info.lifecycle_stage == "deleted"
    for run_id in (tune, trial, main):
        info = pipeline.client.get_run(run_id).info
        assert (info.status, info.lifecycle_stage) == ("KILLED", "deleted")


def test_leftovers_of_a_fresh_kill_stay_for_the_retention(pipeline):
    pipeline.ingest(YOUNG)
    pipeline.folder(pipeline.datasets / ".aside-abcdefgh", YOUNG)
    half = pipeline.folder(pipeline.datasets.parent / "checkpoints" / ("2" * 32 + "-abcdefgh"), OLD)
    assert listed(pipeline) == {half.name: "checkpoint"}
    (half / "epoch.npz").write_text("new")  # gone on with since
    assert listed(pipeline) == {}


def test_what_a_killed_look_at_the_file_system_has_left_goes(pipeline, monkeypatch):
    pipeline.ingest(YOUNG)
    place = pipeline.home / "predictions"
    place.mkdir()
    with monkeypatch.context() as patch:  # a killed process tidies nothing
        patch.setattr(file_systems.shutil, "rmtree", lambda *_, **__: None)
        file_systems.fallbacks(place)
    (probe,) = place.iterdir()
    aged(probe, OLD)
    assert listed(pipeline) == {probe.name: "leftover"}


def test_what_is_not_baton_s_is_left_alone(pipeline):
    pipeline.ingest(YOUNG)
    mine = pipeline.folder(pipeline.datasets / "notes of mine", OLD)
    other = pipeline.folder(pipeline.datasets.parent / "checkpoints" / "not a key", OLD)
    beside = pipeline.folder(pipeline.home / "predictions" / ".out-settings", OLD)
    (beside / "settings.json").write_text("{}")
    aged(beside, OLD)
    assert listed(pipeline) == {}
    clean(pipeline)
    assert mine.is_dir() and other.is_dir() and beside.is_dir()


def test_links_and_names_do_not_lead_out_of_the_warehouse(pipeline):
    pipeline.ingest(YOUNG)
    outside = pipeline.folder(pipeline.home / "outside", OLD)
    pipeline.datasets.mkdir(parents=True, exist_ok=True)
    link = pipeline.datasets / ("3" * 32)
    link.symlink_to(outside)
    (pipeline.datasets / ".aside-linkedxx").symlink_to(outside)
    inner = pipeline.folder(pipeline.datasets / ".aside-abcdefgh", OLD)
    (inner / "out").symlink_to(outside)
    (inner / "file").symlink_to(outside / "part-0.parquet")
    aged(inner, OLD)
    pipeline.run("train", OLD, "KILLED", baton__dataset=str(outside))
    pipeline.run("train", OLD, "KILLED", baton__dataset="../../outside")
    # the checkpoints lie elsewhere as a whole
    (pipeline.home / "elsewhere" / ("4" * 32)).mkdir(parents=True)
    aged(pipeline.home / "elsewhere", OLD)
    (pipeline.datasets.parent / "checkpoints").symlink_to(pipeline.home / "elsewhere")
    clean(pipeline)
    assert not inner.exists()
    assert link.is_symlink()
    assert (outside / "part-0.parquet").read_text() == "rows"
    assert (pipeline.home / "elsewhere" / ("4" * 32)).is_dir()


def test_a_warehouse_that_is_a_link_itself_is_followed(pipeline):
    real = pipeline.home / "disk"
    real.mkdir()
    Path(pipeline.config.warehouse).symlink_to(real)
    old, new = pipeline.ingest(OLD), pipeline.ingest(YOUNG)
    clean(pipeline)
    assert {path.name for path in (real / pipeline.name / "datasets").iterdir()} == {new}
    assert old != new


def test_the_wrong_tracking_store_is_refused(pipeline):
    kept = pipeline.folder(pipeline.datasets / ("5" * 32), OLD)
    with pytest.raises(BadInput, match="has no run of .* set MLFLOW_TRACKING_URI"):
        gc.clean(pipeline.config, delete=True)
    assert kept.is_dir()


def test_a_dataset_of_a_foreign_run_stays_and_one_of_a_deleted_run_goes(pipeline):
    pipeline.ingest(YOUNG)
    foreign = pipeline.client.create_run(pipeline.experiment).info.run_id  # no pipeline's name on it
    deleted = pipeline.ingest(OLD)
    pipeline.client.delete_run(deleted)
    for name in (foreign, "6" * 32):
        pipeline.folder(pipeline.datasets / name, OLD)
    reasons = {item.name: item.reason for item in gc.collect(pipeline.config, time.time())}
    assert reasons == {deleted: "its run was deleted", "6" * 32: "its run is not in the tracking store"}


def test_dry_run_is_the_default_and_tells_sizes_ages_reasons_and_the_total(pipeline, monkeypatch, caplog):
    monkeypatch.setenv("COLUMNS", "160")
    old = pipeline.ingest(OLD)
    (pipeline.datasets / old / "part-0.parquet").write_bytes(b"x" * 2_500_000)
    aged(pipeline.datasets / old, OLD)
    pipeline.ingest(YOUNG)
    done = CliRunner().invoke(gc.main, [f"--config={pipeline.file}"])
    assert done.exit_code == 0, done.output
    rows = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines() if old in line]
    assert rows == [["dataset", old, "2.5", "100", "nothing refers to it"], ["run", old, "", "100", "ingest, FINISHED"]]
    assert "1 datasets, 1 runs older than 30 days (retention_days): 2.5 MB." in done.stdout
    assert (pipeline.datasets / old).is_dir()
    assert pipeline.client.get_run(old).info.lifecycle_stage == "active"
    done = CliRunner().invoke(gc.main, [f"--config={pipeline.file}", "--delete", "--set=retention_days=200"])
    assert (done.exit_code, (pipeline.datasets / old).is_dir()) == (0, True)
    caplog.clear()
    CliRunner().invoke(gc.main, [f"--config={pipeline.file}", "--set=retention_days=20,data.drop=[a b]"])
    command = shlex.split(caplog.messages[-1].partition("removes what is listed: ")[2])
    assert command[:3] == ["python", "-m", "baton.orchestration.gc"] and "retention_days=20" in command[4]
    done = CliRunner().invoke(gc.main, command[3:])
    assert (done.exit_code, (pipeline.datasets / old).is_dir()) == (0, False)
    assert CliRunner().invoke(gc.main, ["--config=nowhere.yaml"]).exit_code == 2


def test_what_cannot_be_removed_is_told_and_the_rest_goes(pipeline, monkeypatch, caplog):
    pipeline.ingest(YOUNG)
    stuck, loose = (pipeline.folder(pipeline.datasets / f".aside-{name}", OLD) for name in ("stuckxxx", "loosexxx"))
    real = shutil.rmtree

    def rmtree(path: Path, *rest: object) -> None:
        if Path(path) == stuck:
            raise PermissionError(13, "Permission denied", str(path))
        real(path)

    monkeypatch.setattr(gc.shutil, "rmtree", rmtree)
    with caplog.at_level("INFO", "baton"):
        gc.clean(pipeline.config, delete=True)
    assert stuck.is_dir() and not loose.exists()
    assert f"leftover {stuck.name} stays" in caplog.text and "removed 1 of 2" in caplog.text


def test_the_look_up_finds_six_hits_after_gc(pipeline, monkeypatch):
    """The look-up itself, on six results as steps leave them; only their making is left out."""
    monkeypatch.setattr(
        outputs,
        "key",
        lambda step, config, inputs, finished_runs: SimpleNamespace(digest=step, masked_parts=dict, parts={}),
    )
    monkeypatch.setattr(outputs, "broken", lambda step, run, config, version: missing(step, run))

    def missing(step: str, run) -> str | None:
        gone = step in ("ingest", "train") and not Path(run.data.tags[names.TAG_DATASET]).is_dir()
        return "output missing" if gone else None

    def family(days: float) -> dict[str, str]:
        main = pipeline.run("main", days)
        keyed = {"mlflow__parentRunId": main, "baton__cache": "miss: first run"}
        data = pipeline.ingest(days, **keyed, baton__cache_key="ingest")
        made = {"ingest": data, "train": pipeline.train(days, data, **keyed, baton__cache_key="train")}
        for step in names.STEPS[2:]:
            made[step] = pipeline.run(step, days, **keyed, baton__cache_key=step)
        return made

    old, newest = family(OLD + 1), family(OLD)
    clean(pipeline)
    assert not (pipeline.datasets / old["ingest"]).exists()
    main = runs.Run(pipeline.run("main", 0, "RUNNING"), pipeline.experiment, "main", {"config": "", "set": ""})
    again = Pipeline(pipeline.config, main, "")
    for step in names.STEPS:
        assert again.run(step) == newest[step]
    assert [entry["cache"] for entry in again.steps.values()] == ["hit"] * 6


def test_references_end_where_runs_refer_to_each_other(pipeline):
    """Records that anyone may have written: a circle, and IDs of nothing."""
    one = pipeline.run("train", YOUNG)
    two = pipeline.run("train", OLD, params={"ingest_run_id": one}, mlflow__parentRunId=one)
    pipeline.client.log_param(one, "ingest_run_id", f"{two},,gone")
    pipeline.client.set_tag(one, "mlflow.parentRunId", two)
    records = references.collect(pipeline.config)
    needed = references.needed(records, int(time.time() * 1000 - 30 * DAY_MS))
    assert needed == {one, two, "gone"}
    assert references.kept(records, needed) == needed
