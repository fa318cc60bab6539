"""What was read is what was hashed: a source that is replaced about a step's reading is no source of hits."""

import shutil
from pathlib import Path

import mlflow
import pyarrow.parquet as pq
import pytest
import tiny
import yaml
from click.testing import CliRunner

from baton import names
from baton.data.ingestion import local
from baton.data.sources import content, files
from baton.errors import BadInput
from baton.orchestration import outputs
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
