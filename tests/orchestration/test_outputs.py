"""What was read is what was hashed: a source that is replaced about a step's reading is no source of hits."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pyarrow.parquet as pq
import pytest
import tiny
import yaml
from click.testing import CliRunner

from baton import names
from baton.data.ingestion import local
from baton.data.sources import content, files
from baton.errors import BadInput, BatonError
from baton.orchestration import cache, outputs
from baton.registry import versions
from baton.runtime.files import folder_hashes
from baton.tracking import runs
from steps.ingest import ingest


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    """A source, another one beside it, and a store."""
    pq.write_table(tiny.regression_table(200), tmp_path / "rows.parquet")
    pq.write_table(tiny.regression_table(200, seed=9), tmp_path / "others.parquet")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield tmp_path / "rows.parquet"
    mlflow.set_tracking_uri(None)


def exchange(source: Path) -> None:
    """Source and other change places, with their times."""
    other, aside = source.with_name("others.parquet"), source.with_name("aside.parquet")
    source.rename(aside)
    other.rename(source)
    aside.rename(other)


def ingested(config) -> tuple[int, str, object]:
    """Run ingest in this process → (exit status, last line, its run)."""
    file = Path(config.data.source).with_name("config.yaml")  # not in the working folder, which a step leaves
    file.write_text(yaml.safe_dump(config.dump()))
    done = CliRunner().invoke(ingest, [f"--config={file}", "--set="])
    experiment = mlflow.MlflowClient().get_experiment_by_name(config.name).experiment_id
    (run,) = mlflow.MlflowClient().search_runs([experiment], max_results=1)
    return done.exit_code, done.output.strip().splitlines()[-1], run


def test_a_source_that_is_replaced_between_mains_look_and_the_steps_and_back_is_no_hit(source, monkeypatch):
    config = tiny.config(source=str(source))
    key = outputs.key("ingest", config, {}, {})
    exchange(source)
    status, _, run = ingested(config)
    exchange(source)
    assert status == 0 and outputs.key("ingest", config, {}, {}).digest == key.digest
    assert outputs.broken("ingest", run, config, key) == f"{source} content was another one when it was read"
    _, _, run = ingested(config)
    assert outputs.broken("ingest", run, config, key) is None
    whole = local.build

    def build(*arguments):
        exchange(source)
        reasons = whole(config, files.resolve(str(source)), *arguments[2:])
        exchange(source)
        return reasons

    monkeypatch.setattr(local, "build", build)  # while it is read, by a reader that does not notice
    status, sentence, run = ingested(config)
    assert status == 2 and f"{source} changed while it was read" in sentence
    assert names.TAG_DATASET not in run.data.tags


def test_of_an_unchanged_source_the_content_is_that_of_the_key(source):
    found = files.resolve(str(source))
    assert content.of_what_was_read(found) == content.of_source(files.resolve(str(source)))
    shutil.copy2(source, source.with_name("copy.parquet"))
    source.with_name("copy.parquet").rename(source)  # of the same bytes and times, and yet not the same file
    with pytest.raises(BadInput, match="changed while it was read"):
        content.of_what_was_read(found)
    assert content.of_source(files.resolve("table:rows")) == ""


def run_of(**tags: str) -> SimpleNamespace:
    return SimpleNamespace(info=SimpleNamespace(run_id="r" * 32), data=SimpleNamespace(tags=tags))


@pytest.fixture
def artifacts(monkeypatch) -> dict:
    """{name: value} of the artifacts of any run; what is not there raises as it does in a store."""
    held: dict = {}

    def artifact(run, name):
        if name not in held:
            raise BatonError(f"Run {run.info.run_id} has no artifact {name}: gone")
        return held[name]

    monkeypatch.setattr(runs, "artifact", artifact)
    return held


@pytest.mark.parametrize(
    ("files", "damage"),
    [({"a": 1, "b": 2}, None), ({"a": 1}, "output b missing"), ({"a": 1, "b": 3}, "output b changed")],
)
@pytest.mark.parametrize("step", ["train", "distributed_train"])
def test_a_candidate_whose_model_is_not_as_it_was_is_no_hit(monkeypatch, artifacts, step, files, damage):
    artifacts[names.EVALUATION] = {"files": {"a": 1, "b": 2}}
    monkeypatch.setattr(runs, "model_files", lambda uri: files)
    assert outputs.broken(step, run_of(**{names.TAG_MODEL_URI: "models:/m"}), tiny.config()) == damage


@pytest.mark.parametrize(("step", "name"), [
    ("train", names.EVALUATION), ("tune", names.BEST_PARAMETERS), ("register", names.VERDICT),
    ("batch_infer", names.SCORING),
])  # fmt: skip
def test_a_run_whose_artifact_is_gone_is_no_hit(artifacts, step, name):
    assert outputs.broken(step, run_of(), tiny.config()) == f"output: Run {'r' * 32} has no artifact {name}: gone"


def test_a_registry_that_is_not_as_register_left_it_is_no_hit(monkeypatch, artifacts):
    artifacts[names.VERDICT] = {}
    left = {"registry": "here", names.CHAMPION: None, names.CHALLENGER: None, "versions": 1}
    run = run_of(**{names.TAG_REGISTRY: json.dumps(left)})
    monkeypatch.setattr(versions, "champion", lambda name, alias: None)
    for now, damage in ((left, None), ({**left, "versions": 2}, "registry changed: versions 1 → 2")):
        monkeypatch.setattr(versions, "state", lambda name, now=now: now)
        assert outputs.broken("register", run, tiny.config()) == damage


def test_predictions_that_are_not_as_they_were_are_no_hit(artifacts, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "part-00000.parquet").write_text("rows")
    key = cache.Key({"model version": "m 1"})
    artifacts[names.SCORING] = {"model": {"version": "m 1"}, "path": str(folder), "files": folder_hashes(folder)}

    def damage() -> str | None:
        return outputs.broken("batch_infer", run_of(), tiny.config(), key)

    (folder / "_SUCCESS").touch()  # a reader's
    assert damage() is None
    (folder / "part-00001.parquet").write_text("more rows")
    assert damage() == "output part-00001.parquet is new"
    shutil.rmtree(folder)
    assert damage() == f"output {folder} missing"


def test_the_registry_is_a_part_of_registers_key_alone(monkeypatch):
    monkeypatch.setattr(versions, "address", lambda: "here")
    given = {step: outputs._upstream(step, tiny.config(), {}, {}) for step in ("train", "register")}
    assert given == {"train": {}, "register": {cache.REGISTRY: "here"}}
