"""Which leaves of the config each step reads, recorded while it runs: its cache key must hold them all."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import mlflow
import pyarrow.parquet as pq
import pytest
import tiny
import yaml
from click.testing import CliRunner

from baton import names
from baton.config import schema
from baton.config.schema import Config, Section
from baton.orchestration import cache

# Leaves that say where things lie and what they are called, not what is in them.
PLACES = {"name", "experiment", "warehouse", "batch_infer.output"}
# Leaves that a step looks at though its result does not hang on them, and why.
IN_VAIN = {
    "train": {"tune.epochs": "Config.sized passes it on"},
    "distributed_train": {"tune.epochs": "Config.sized passes it on"},
    "register": {
        "tune.epochs": "Config.sized passes it on, of the candidate's own config",
        "data.target": "the version's description tells it",
        "batch_infer.alias": "the version's description tells it",
        "batch_infer.model": "whether the registry takes such a name",
    },
}
# What register trains the folds of its audit by is the candidate's own config, which its content tells of.
CANDIDATES_OWN = ("model.", "train.")


def _leaves(section: type[Section], place: str = "") -> dict[tuple[str, str], str]:
    """{(class, field): dotted path} of every leaf; a class is the section of one place only."""
    paths: dict[tuple[str, str], str] = {}
    for name, field in section.model_fields.items():
        path = f"{place}{field.alias or name}"
        inner = [t for t in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(t, type)]
        inner = [t for t in inner if issubclass(t, Section)]
        if inner:
            paths |= _leaves(inner[0], f"{path}.")
        else:
            paths[section.__name__, name] = path
    return paths


LEAVES = _leaves(Config)


class Recorder:
    """Notes what is read of any config, but for what validation itself looks at."""

    def __init__(self) -> None:
        self.reads: set[str] = set()
        self.paused = 0

    @contextmanager
    def recording(self) -> Iterator[None]:
        whole, validate = Section.__getattribute__, Config.model_validate

        def read(section: Section, name: str) -> object:
            path = None if self.paused else LEAVES.get((type(section).__name__, name))
            if path:
                self.reads.add(path)
            return whole(section, name)

        def validated(tree: object) -> Config:
            self.paused += 1
            try:
                return validate(tree)
            finally:
                self.paused -= 1

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Section, "__getattribute__", read)
            patch.setattr(schema.Config, "model_validate", validated)
            yield


@pytest.fixture(scope="module")
def reads(tmp_path_factory) -> dict[str, set[str]]:
    """Each step of a small pipeline, run in this process → the leaves that it read."""
    home = tmp_path_factory.mktemp("reads")
    pq.write_table(tiny.regression_table(400), home / "rows.parquet")
    tree = tiny.config(source=str(home / "rows.parquet")).model_dump(mode="json", by_alias=True, exclude_unset=True)
    tree |= {"name": "reads", "warehouse": str(home / "warehouse")}
    tree["train"]["epochs"] = 1
    tree["evaluation"] = {"primary_metric": "mae"}
    tree["tune"] = {"max_trials": 1, "parallelism": 1}
    tree["register"] = {"explain": {"rows": 5}, "audit": {"folds": 2, "seconds": 5}}
    tree["batch_infer"] = {"source": str(home / "rows.parquet"), "output": str(home / "predictions"), "interval": 0.9}
    (home / "config.yaml").write_text(yaml.safe_dump(tree))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")
        patch.chdir(home)
        mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
        mlflow.create_experiment("reads", artifact_location=(home / "artifacts").as_uri())
        patch.setattr(sys, "argv", ["reads"])
        yield _run_all(str(home / "config.yaml"))
        mlflow.set_tracking_uri(None)


def _run_all(config: str) -> dict[str, set[str]]:
    ids: dict[str, str] = {}
    options = {
        "ingest": lambda: [],
        "train": lambda: [f"--ingest_run_id={ids['ingest']}"],
        "tune": lambda: [f"--ingest_run_id={ids['ingest']}"],
        "distributed_train": lambda: [f"--ingest_run_id={ids['ingest']}", f"--tune_run_id={ids['tune']}"],
        "register": lambda: [f"--candidate_run_ids={ids['train']},{ids['distributed_train']}"],
        "batch_infer": lambda: [f"--register_run_id={ids['register']}"],
    }
    found: dict[str, set[str]] = {}
    for step in names.STEPS:
        recorder = Recorder()
        command = getattr(import_module(f"steps.{step}"), step)
        with recorder.recording():
            done = CliRunner().invoke(command, [f"--config={config}", "--set=", *options[step]()])
        assert done.exit_code == 0, (step, done.output)
        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name("reads").experiment_id
        query = f"tags.`{names.TAG_STEP}` = '{step}'"
        ids[step] = client.search_runs([experiment], query)[0].info.run_id
        found[step] = recorder.reads
    # The workers of these two train by the path of `train`, in processes of their own.
    for step in ("tune", "distributed_train"):
        found[step] |= {path for path in found["train"] if path.startswith(("model.", "train.", "data.", "seed"))}
    return found


def lacking(step: str, read: set[str]) -> set[str]:
    """The leaves that a step read and its key does not hold, though its result may hang on them."""
    config = schema.validate({"name": "x", "data": {"source": "x", "task": "regression"},
                              "batch_infer": {"source": "x", "output": "x"}}, {}, "")  # fmt: skip
    held = set(cache._config_parts(step, config)) | set(cache.BY_CONTENT)
    own = {path for path in read if step == "register" and path.startswith(CANDIDATES_OWN)}
    free = PLACES | set(IN_VAIN.get(step, ())) | own
    return {path for path in read - held - free if not any(path.startswith(f"{leaf}.") for leaf in held)}


@pytest.mark.parametrize("step", names.STEPS)
def test_the_key_holds_every_leaf_that_the_step_reads(reads, step):
    assert lacking(step, reads[step]) == set()


def test_the_recorder_sees_what_is_read(reads):
    assert {"data.delimiter", "data.target", "batch_infer.interval", "batch_infer.drift.psi"} <= reads["batch_infer"]
    assert {"distributed_train.workers", "distributed_train.max_restarts"} <= reads["distributed_train"]
    assert {"train.epochs", "model.hidden", "seed"} <= reads["train"]
    assert {"register.floors", "register.audit.folds", "register.explain.rows"} <= reads["register"]
    assert not any(path.startswith("batch_infer.") for path in reads["ingest"])


@pytest.mark.parametrize(
    ("step", "path", "leaf"),
    [
        ("batch_infer", "data.delimiter", "data.delimiter"),
        ("distributed_train", "distributed_train", "distributed_train.workers"),
    ],
)
def test_a_key_that_loses_what_is_read_is_noticed(reads, monkeypatch, step, path, leaf):
    kept = tuple(part for part in cache.CONFIG_READ[step] if part != path)
    monkeypatch.setitem(cache.CONFIG_READ, step, kept)
    assert leaf in lacking(step, reads[step])
