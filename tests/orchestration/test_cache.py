"""The cache key: what must change it does, what must not does not, and a miss names its reason."""

import ast
import json
import platform
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest

from baton import names
from baton.config import loading
from baton.data.sources import content
from baton.errors import BatonError
from baton.orchestration import cache, outputs, pipeline, results
from baton.registry import versions
from baton.runtime import files as files_module
from baton.runtime.paths import HOROVOD, PETASTORM
from baton.tracking import runs

ROOT = cache.ROOT
FLIGHTS = loading.load(str(ROOT / "conf" / "flights.yaml"))


def key(step: str, overrides: dict | None = None, **parts) -> cache.Key:
    given = {"inputs": {"data/flights.parquet": "a"}, "upstream": {"the output of ingest": "b"}, **parts}
    return cache.key(step, FLIGHTS.overridden(overrides or {}), **given)


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the project's code that may be edited, and the cache looking at it."""
    for folder in ("baton", "steps", "conf", HOROVOD.name, PETASTORM.name):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    monkeypatch.setattr(cache, "ROOT", tmp_path)
    monkeypatch.setattr(cache, "CODE", tmp_path)
    cache._read.cache_clear()
    yield tmp_path
    cache._read.cache_clear()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    cache._read.cache_clear()


@pytest.mark.parametrize("step", names.STEPS)
def test_a_key_is_repeatable_and_of_its_step(step):
    assert key(step).digest == key(step).digest
    assert key(step).difference(key(step)) == "nothing changed"
    assert len({key(other).digest for other in names.STEPS}) == len(names.STEPS)


@pytest.mark.parametrize(
    ("step", "path", "value", "sentence"),
    [
        ("tune", "tune.max_trials", 24, "conf tune.max_trials 12 → 24"),
        ("train", "train.optimizer", "sgd", "conf train.optimizer adamw → sgd"),
        ("ingest", "data.split", {"train": 0.6, "validation": 0.2, "test": 0.2}, "conf data.split.train 0.8 → 0.6"),
        ("register", "register.promote", "manual", "conf register.promote auto → manual"),
        ("train", "evaluation.resamples", 500, "conf evaluation.resamples 1000 → 500"),
        ("register", "evaluation.slice_rows", 99, "conf evaluation.slice_rows 50 → 99"),
        ("batch_infer", "batch_infer.interval", 0.9, "conf batch_infer.interval null → 0.9"),
        ("register", "seed", 8, "conf seed 7 → 8"),  # of the bootstrap
    ],
)
def test_the_config_that_a_step_reads_counts(step, path, value, sentence):
    assert key(step, {path: value}).difference(key(step)) == sentence


@pytest.mark.parametrize(
    ("step", "path", "value"),
    [
        ("ingest", "train.epochs", 3),
        ("train", "tune.max_trials", 3),
        ("train", "data.source", "elsewhere.parquet"),
        ("ingest", "data.source", "the same rows elsewhere.parquet"),
        ("register", "model.hidden", [3]),
        ("tune", "batch_infer.output", "elsewhere"),
        ("tune", "evaluation.resamples", 500),
    ],
)
def test_the_config_that_a_step_does_not_read_does_not_count(step, path, value):
    assert key(step, {path: value}).digest == key(step).digest


def test_the_order_of_its_parts_is_no_part_of_a_key():
    assert cache.Key({"a": "1", "b": "2"}).digest == cache.Key({"b": "2", "a": "1"}).digest


def test_inputs_upstream_and_environment_count(copy):
    before = key("train")
    assert (
        key("train", inputs={"data/flights.parquet": "c"}).difference(before) == "data/flights.parquet content changed"
    )
    assert key("train", upstream={"the output of ingest": "c"}).difference(before) == "the output of ingest changed"
    edit(copy / "requirements.txt", "absl-py==", "absl-py==0")
    assert key("train").difference(before) == "environment requirements.txt changed"


@pytest.mark.parametrize(
    ("step", "file", "old", "new"),
    [
        ("ingest", "baton/data/splits.py", "np.uint64(31)", "np.uint64(32)"),
        ("ingest", "baton/runtime/spark.py", "import", "import sys\nimport"),  # imported late
        ("train", "baton/networks/prediction.py", "PREDICT_ROWS = 8192", "PREDICT_ROWS = 4096"),
        ("train", "baton/serving/raw_model.py", "self.model.score", "self.model.evaluate"),  # run by MLflow
        ("train", "baton/__init__.py", '"""', 'X = 1\n"""'),
        ("train", "baton/data/__init__.py", '"""', 'X = 1\n"""'),  # a package of a package
        ("tune", "conf/spaces/table.yaml", "0.0, 0.3", "0.0, 0.31"),
        ("tune", "baton/networks/layers.py", "pieces: int = 2", "pieces: int = 3"),
        (
            "distributed_train",
            "baton/training/horovod_worker.py",
            "work(",
            "work(  "[:5] + "*[],",
        ),  # started as a process
        ("register", "baton/registry/gate.py", "LARGEST_SKEW = 1e-4", "LARGEST_SKEW = 1e-3"),
        ("batch_infer", "baton/serving/scoring.py", 'compression="zstd"', 'compression="snappy"'),
    ],
)
def test_code_that_a_step_reaches_counts_and_is_named(copy, step, file, old, new):
    before = key(step)
    edit(copy / file, old, new)
    assert key(step).difference(before) == f"steps/{step}.py → {file} changed"


@pytest.mark.parametrize(
    ("step", "file"),
    [
        ("ingest", "baton/tuning/hyperopt.py"),
        ("ingest", "steps/train.py"),
        ("train", "baton/training/horovod.py"),
        ("register", "baton/runtime/spark.py"),
        *((step, "baton/reporting/console.py") for step in names.STEPS),
        *((step, "baton/reporting/figures/evaluation.py") for step in names.STEPS),
        *((step, "baton/reporting/html/sections.py") for step in names.STEPS),
    ],
)
def test_code_that_a_step_does_not_reach_does_not_count(copy, step, file):
    before = key(step)
    edit(copy / file, "import", "import sys\nimport")
    assert key(step).digest == before.digest


def test_comments_layout_and_docstrings_do_not_count(copy):
    before = {step: key(step).digest for step in names.STEPS}
    for path in [*(copy / "baton").rglob("*.py"), *(copy / "steps").rglob("*.py")]:
        text = path.read_text()
        tree = ast.parse(text)
        if ast.get_docstring(tree):
            text = text.replace(text.split('"""')[1], "Another docstring.", 1)
        path.write_text(f"# a comment\n{text}\n\n# another\n")
    cache._read.cache_clear()
    assert {step: key(step).digest for step in names.STEPS} == before


def test_every_step_reaches_what_it_runs(copy):
    """A module that a step's own modules import, however late, is in its reach."""
    for step in names.STEPS:
        reach = cache.code(f"steps/{step}.py")
        for path in [p for p in reach if p.endswith(".py")]:
            text = re.sub(r"\nif TYPE_CHECKING:\n(    .*\n)+", "\n", (copy / path).read_text())
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "baton":
                    places = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                    modules = {f"{place.replace('.', '/')}.py" for place in places}
                    found = {m for m in modules if (copy / m).is_file() and not m.startswith(cache.UNCOUNTED)}
                    assert found <= set(reach), path


def test_content_is_that_of_the_files_alone(tmp_path):
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    one.write_text("a\n1\n")
    other.write_text("a\n2\n")
    before = content.of_files([one, other])
    assert content.of_files([other, one]) == before
    moved = one.rename(tmp_path / "moved.csv")
    assert content.of_files([moved, other]) == before
    other.write_text("a\n3\n")
    assert content.of_files([moved, other]) != before


def test_of_images_the_folders_count_too(tmp_path):
    """For they are the classes; of other files only what they hold."""
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.png").write_bytes(label.encode())
    before = outputs._source(str(tmp_path), FLIGHTS)
    assert outputs._source(f"{tmp_path}/", FLIGHTS) == before
    (tmp_path / "cat" / "1.png").rename(tmp_path / "dog" / "2.png")
    assert outputs._source(str(tmp_path), FLIGHTS) != before


def test_of_tables_of_paths_the_pictures_count_too(tmp_path):
    config = FLIGHTS.overridden({"data.task": "image", "data.image_column": "file"})
    (tmp_path / "labels.csv").write_text("file,label\n1.png,a\n1.png,b\ngone.png,b\n")
    (tmp_path / "1.png").write_bytes(b"-")
    before = outputs._source(f"{tmp_path}/labels.csv", config)
    (tmp_path / "other.png").write_bytes(b"-")
    assert outputs._source(f"{tmp_path}/labels.csv", config) == before
    (tmp_path / "1.png").write_bytes(b"+")
    assert outputs._source(f"{tmp_path}/labels.csv", config) != before


def test_of_partitions_the_values_count_too(tmp_path):
    for day in (1, 2):
        (tmp_path / f"day={day}").mkdir()
        (tmp_path / f"day={day}" / "r.csv").write_text(f"a\n{day}\n")
    before = outputs._source(str(tmp_path), FLIGHTS)
    (tmp_path / "more").mkdir()
    (tmp_path / "day=1").rename(tmp_path / "more" / "day=1")
    assert outputs._source(str(tmp_path), FLIGHTS) == before
    (tmp_path / "more" / "day=1").rename(tmp_path / "day=3")
    assert outputs._source(str(tmp_path), FLIGHTS) != before


def test_any_number_of_hits_hides_no_result(tmp_path, monkeypatch):
    """Each main that finds a result makes a run with its key; what worked is behind all of them."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("hits", artifact_location=tmp_path.as_uri())
    monkeypatch.setattr(runs, "PAGE", 2)
    made = []
    for number in range(6):
        told = {names.TAG_CACHE: names.HIT, names.TAG_SOURCE_RUN: made[0]} if made else {names.TAG_CACHE: "miss: new"}
        tags = {names.TAG_STEP: "train", names.TAG_CACHE_KEY: "k"} | told
        made.append(client.create_run(experiment, start_time=number, tags=tags).info.run_id)
        client.set_terminated(made[-1])
    assert [run.info.run_id for run in runs.cached(experiment, "train", "k")] == made[:1]
    assert runs.latest(experiment, "train").info.run_id == made[0]
    assert not list(runs.cached(experiment, "train", "another"))


def test_the_walk_follows_packages_and_relative_imports(tmp_path, monkeypatch):
    """Whatever runs when a module is imported counts: the packages above it, and what it names by dots."""
    files = {
        "steps/one.py": "from baton.data.x import y\n",
        "baton/__init__.py": "",
        "baton/data/__init__.py": "from . import beside\n",
        "baton/data/beside.py": "from ..config import z\nfrom .deep.er import w\n",
        "baton/data/x.py": "y = 1\n",
        "baton/data/deep/__init__.py": "",
        "baton/data/deep/er.py": "w = 1\n",
        "baton/config/__init__.py": "",
        "baton/config/z.py": "import baton.reporting.console\n",
        "baton/reporting/console.py": "from baton import drawn_only\n",
        "baton/drawn_only.py": "",
        "baton/unused.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cache, "CODE", tmp_path)
    monkeypatch.setattr(cache, "_memory", lambda: tmp_path / "memory.json")
    cache._read.cache_clear()
    reached = set(cache.code("steps/one.py"))
    cache._read.cache_clear()
    drawn = {"baton/reporting/console.py", "baton/drawn_only.py"}
    assert reached == set(files) - drawn - {"baton/unused.py"}


def test_a_template_or_a_stylesheet_is_in_no_key(copy):
    before = {step: key(step).digest for step in names.STEPS}
    for path in (copy / "baton" / "reporting").rglob("*.j2"):
        path.write_text(path.read_text() + "<!-- new -->")
    cache._read.cache_clear()
    assert {step: key(step).digest for step in names.STEPS} == before


def test_the_reach_has_no_holes():
    """What the cache cannot follow is not used: imports by name, and declarations of nothing."""
    for path in [*(ROOT / "baton").rglob("*.py"), *(ROOT / "steps").rglob("*.py")]:
        tree = ast.parse(path.read_text())
        declared = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == cache.DECLARATION]
        assert not declared or cache._declared(tree) or path.name == "cache.py", path


def test_what_is_imported_by_name_is_imported_by_a_statement_too():
    """Names of modules only bring their import forward: of what is reached without them."""
    by_name = {p.name for p in (ROOT / "baton").rglob("*.py") if "import_module" in p.read_text()}
    assert by_name == {"step.py", "workers.py", "horovod_worker.py"}
    found = set()
    for entry in names.STEPS:
        reach = cache.code(f"steps/{entry}.py")
        for path in [p for p in reach if p.endswith(".py")]:
            texts = {n.value for n in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(n, ast.Constant)}
            modules = {f"{t.replace('.', '/')}.py" for t in texts if isinstance(t, str) and t.startswith("baton.")}
            found |= {module for module in modules if (ROOT / module).is_file()}
            assert {m for m in modules if (ROOT / m).is_file() and not m.startswith(cache.UNCOUNTED)} <= set(reach), (
                path
            )
    assert {"baton/training/fit.py", "baton/networks/prediction.py", "baton/registry/candidates.py"} <= found


def test_code_is_hashed_before_any_step_has_imported_it(copy, monkeypatch):
    """What is edited while main runs does not count as what its waiting processes have imported."""
    monkeypatch.setattr(runs, "close_abandoned", lambda experiment_id: [])
    before = cache.code("steps/register.py")["baton/registry/gate.py"]
    cache._read.cache_clear()
    main = pipeline.Pipeline(FLIGHTS, SimpleNamespace(experiment_id="0"), "").__enter__()
    gate = copy / "baton" / "registry" / "gate.py"
    gate.write_text(gate.read_text() + "\nEDITED = True\n")
    assert main.next is None and cache.code("steps/register.py")["baton/registry/gate.py"] == before


def test_what_upstream_gave_counts_and_not_which_run_gave_it(monkeypatch):
    gave = {"one": "a", "again": "a", "other": "b"}
    tagged = {k: {names.TAG_STEP: "ingest", names.TAG_OUTPUT: v} for k, v in gave.items()}
    client = SimpleNamespace(get_run=lambda run_id: SimpleNamespace(data=SimpleNamespace(tags=tagged[run_id])))
    monkeypatch.setattr(runs, "client", lambda: client)
    one, again, other = (outputs.key("train", FLIGHTS, {"ingest_run_id": run_id}, {}) for run_id in gave)
    assert one.digest == again.digest
    assert other.difference(one) == "the output of ingest changed"


@pytest.fixture
def scoring(monkeypatch, tmp_path) -> Callable[..., cache.Key]:
    """The key of batch_infer with a version of that number, run and files, in that registry."""
    source = tmp_path / "new.csv"
    source.write_text("a\n1\n")
    settings = FLIGHTS.overridden({"batch_infer.source": str(source)})

    def scoring(version: int = 3, run: str = "r", files: str = "d", registry: str = "sqlite:///a.db", text: str = "1"):
        source.write_text(f"a\n{text}\n")
        bearer = SimpleNamespace(name="flights", version=version, run_id=run, tags={names.TAG_MODEL_DIGEST: files})
        monkeypatch.setattr(versions, "to_score_with", lambda *a: bearer)
        monkeypatch.setenv("MLFLOW_REGISTRY_URI", registry)  # MLflow's own function leaves it in the environment
        return outputs.key("batch_infer", settings, {"register_run_id": "r"}, {})

    return scoring


def test_the_model_that_scores_counts_whatever_bears_its_number_now(scoring, tmp_path):
    """A registered model that was deleted gives its name and numbers to another."""
    before = scoring()
    assert scoring().digest == before.digest
    assert scoring(version=4).difference(before) == "model version flights 3 → flights 4"
    assert scoring(run="s").difference(before) == "model run changed"
    assert scoring(files="e").difference(before) == "model files changed"
    registry = re.fullmatch(
        "model registry sqlite:///.*a.db → sqlite:///.*b.db", scoring(registry="sqlite:///b.db").difference(before)
    )
    assert registry
    assert scoring(text="2").difference(before) == f"{tmp_path / 'new.csv'} content changed"


def test_a_registry_that_is_written_otherwise_is_the_same(scoring):
    here = f"sqlite:///{Path.cwd()}/a.db"
    assert scoring(registry=here).digest == scoring().digest == scoring(registry="sqlite:///./a.db").digest


def finished(**tags: str) -> SimpleNamespace:
    return SimpleNamespace(info=SimpleNamespace(run_id="r"), data=SimpleNamespace(tags=tags))


def test_a_dataset_that_is_no_longer_whole_is_no_hit(regression, tmp_path):
    _, dataset = regression
    folder = shutil.copytree(dataset.folder, tmp_path / "dataset")
    run = finished(**{names.TAG_DATASET: str(folder)})
    assert outputs.broken("ingest", run, FLIGHTS) is None
    part = folder / "train" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    assert outputs.broken("ingest", run, FLIGHTS) == "output train/part-00000.parquet changed"
    part.unlink()
    assert outputs.broken("ingest", run, FLIGHTS) == "output train/part-00000.parquet missing"
    (folder / names.MANIFEST).write_text("{")
    assert "manifest.json of the dataset" in outputs.broken("ingest", run, FLIGHTS)


def test_predictions_that_are_no_longer_whole_or_another_models_are_no_hit(monkeypatch, tmp_path):
    for number in range(4):
        (tmp_path / f"part-000{number}.parquet").write_text(str(number))
    model = {"version": "flights 3", "run": "r", "files": "d", "registry": "sqlite:///a.db"}
    scoring = {"path": str(tmp_path), "model": model}
    monkeypatch.setattr(runs, "artifact", lambda *a: {**scoring, "files": files})
    files = files_module.folder_hashes(tmp_path)

    def broken(**now: str) -> str | None:
        key = cache.Key({f"model {name}": value for name, value in {**model, **now}.items()})
        return outputs.broken("batch_infer", finished(), FLIGHTS, key)

    assert broken() is None
    assert broken(version="flights 2") == "model version flights 3 → flights 2"  # it moved before the step looked
    assert broken(run="s") == "model run r → s"
    (tmp_path / "part-0003.parquet").unlink()
    assert broken() == "output part-0003.parquet missing"
    (tmp_path / "part-0001.parquet").write_text("other")
    assert broken() == "output part-0001.parquet changed"
    monkeypatch.setattr(runs, "artifact", lambda *a: json.loads("{"))
    assert broken().startswith("output: ")


def test_a_source_that_was_another_when_it_was_read_is_no_hit(regression):
    """It was replaced after main had made the key, and may be back by now."""
    _, dataset = regression
    key = cache.key("ingest", FLIGHTS, {"rows.csv": "as main found it"}, {})
    tags = {names.TAG_DATASET: str(dataset.folder)}
    for read in ("as main found it", "another", None):
        run = finished(**tags, **({names.TAG_SOURCE_CONTENT: read} if read else {}))
        expected = None if read == "as main found it" else "rows.csv content was another one when it was read"
        assert outputs.broken("ingest", run, FLIGHTS, key) == expected


def test_a_last_run_without_its_parts_is_a_reason_and_no_failure(monkeypatch):
    monkeypatch.setattr(runs, "latest", lambda *a: None)
    assert results.changed("train", "1", key("train")) == "first run"
    monkeypatch.setattr(runs, "latest", lambda *a: finished())
    monkeypatch.setattr(runs, "artifact", lambda *a: {**key("train").parts, "python": "3.10.1"})
    assert results.changed("train", "1", key("train")).startswith(f"python 3.10.1 → {platform.python_version()}")

    def gone(*a):
        raise BatonError("Run r has no artifact cache.json")

    monkeypatch.setattr(runs, "artifact", gone)
    assert results.changed("train", "1", key("train")) == "cache.json of the last run is gone"


def test_what_was_parsed_is_remembered_by_content(copy, tmp_path, monkeypatch):
    """Another process parses only what it does not know, and a torn memory counts as none."""
    memory, parsed = tmp_path / "kept" / "memory.json", []
    monkeypatch.setattr(cache, "_memory", lambda: memory)
    hashed = cache.syntax_hash
    monkeypatch.setattr(cache, "syntax_hash", lambda tree: parsed.append(tree) or hashed(tree))

    def reached() -> dict[str, str]:
        cache._read.cache_clear()
        cache._parsed.cache_clear()
        parsed.clear()
        return cache.code("steps/train.py")

    first = reached()
    assert len(parsed) > 20
    assert reached() == first and not parsed
    edit(copy / "baton" / "training" / "fit.py", "import", "import abc\nimport")
    assert reached() != first and len(parsed) == 1
    memory.write_text(memory.read_text()[:-9])
    again = reached()
    assert len(parsed) > 20 and again["baton/training/fit.py"] != first["baton/training/fit.py"]
