"""`main --validate`: every check's good and bad answer, all of them at once, and nothing done."""

import errno
import json
import os
import re
import socket
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import tiny
import yaml
from click.testing import CliRunner

from baton.orchestration import preflight
from baton.redaction import MASK
from baton.runtime import replacing
from steps.main import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch) -> SimpleNamespace:
    """A sound pipeline, and what validates it with changes: (exit status, {check: its line}, last line of errors)."""
    table = tiny.regression_table(50)
    pq.write_table(table, tmp_path / "old.parquet")
    pq.write_table(table.drop_columns(["y"]), tmp_path / "new.parquet")
    tree = {
        "name": "sound",
        "warehouse": str(tmp_path / "warehouse"),
        "data": {"source": str(tmp_path / "old.parquet"), "target": "y", "task": "regression"},
        "batch_infer": {"source": str(tmp_path / "new.parquet"), "output": str(tmp_path / "predictions")},
    }
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)

    def validated(changes: str = "", config: str = "pipeline.yaml") -> tuple[int, dict[str, str], str]:
        done = CliRunner().invoke(main, [f"--config={tmp_path / config}", f"--set={changes}", "--validate"])
        lines = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith(("ok ", "WRONG "))}
        return done.exit_code, lines, done.stderr.strip().splitlines()[-1]

    return SimpleNamespace(home=tmp_path, table=table, validated=validated)


def test_columns_are_looked_at_before_a_run(project):
    frame = project.table.to_pandas()
    frame["price"] = [f"{1000 * value:,.2f}" for value in range(50)]
    frame["mark"] = ["?", *map(str, range(49))]
    frame.to_csv(project.home / "old.csv", index=False)
    done = CliRunner().invoke(
        main, [f"--config={project.home}/pipeline.yaml", f"--set=data.source={project.home}/old.csv", "--validate"]
    )
    assert re.search(r"price +│ numeric +│ all its cells are numbers with ',' between thousands", done.stdout)
    notes = [line for line in done.stdout.splitlines() if line.startswith("note ")]
    assert notes == [
        "note   columns    price: read as numbers with ',' between thousands.",
        "note   columns    mark: '?' taken as missing (2.0 % of the cells).",
    ]


def wrong(lines: dict[str, str]) -> dict[str, str]:
    return {name: line for name, line in lines.items() if not line.startswith("ok ")}


def test_flights_are_sound_without_tensorflow_and_nothing_is_written(tmp_path):
    code = (
        "import sys\nfrom steps.main import main\n"
        "try: main()\n"
        "finally: print(json.dumps([m for m in ('tensorflow', 'keras', 'mlflow', 'hyperopt') if m in sys.modules]))"
    )
    overrides = f"warehouse={tmp_path}/warehouse,batch_infer.output={tmp_path}/predictions"
    options = ["--config=conf/flights.yaml", f"--set={overrides}", "--validate"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    done = subprocess.run(
        [sys.executable, "-c", f"import json\n{code}", *options],
        cwd="/",  # from anywhere
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, imported = [line for line in done.stdout.splitlines() if line.strip()]
    assert json.loads(imported) == []
    assert done.stderr.strip().splitlines()[-1] == "All 10 checks passed."
    checks = [line for line in lines if line.startswith(("ok ", "WRONG "))]
    assert all(line.startswith("ok ") for line in checks) and checks == lines[:10]
    assert any(line.split()[:3] == ["carrier", "│", "categorical"] for line in lines[10:])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ("", "set register.model to such a name. Received: sound"),
        ("register.model=main.ml.Flights", "set register.model to such a name. Received: main.ml.Flights"),
        (
            "register.model=main.ml.flights,batch_infer.model=flights",
            "set batch_infer.model to such a name. Received: flights",
        ),
        ("register.model=main.ml.flights", ""),
    ],
)
def test_names_that_unity_catalog_does_not_take_are_seen_before_a_run(project, monkeypatch, changes, fault):
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "databricks-uc")
    status, lines, _ = project.validated(changes)
    assert status == (2 if fault else 0)
    assert (fault in lines["model"]) if fault else lines["model"].endswith("main.ml.flights")


def test_a_sound_pipeline_passes_and_leaves_no_trace(project):
    before = sorted(project.home.iterdir())
    status, lines, last = project.validated()
    assert (status, wrong(lines), last) == (0, {}, "All 10 checks passed.")
    assert "4 features" in lines["source"] and "all 4 features" in lines["scoring"]
    assert "not needed" in lines["java"]
    assert sorted(project.home.iterdir()) == before


def test_all_faults_are_told_at_once(project, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hunter2@127.0.0.1:{port}")
    (project.home / "file").write_text("")
    changes = "data.target=price,data.id=[key],data.drop=[c, d],batch_infer.source=s3://k:hunter2@bucket/x"
    status, lines, last = project.validated(
        f"{changes},warehouse={project.home}/file,batch_infer.output={project.home}"
    )
    assert status == 2
    assert last == "5 of 10 checks failed: see the lines above."
    assert set(wrong(lines)) == {"tracking", "source", "warehouse", "scoring", "output"}
    assert f"http://{MASK}@127.0.0.1:{port} does not answer: no connection. Start it" in lines["tracking"]
    assert "The source has no column d, key, price. Its columns: x1, x2, n, c, y." in lines["source"]
    assert "is a file where a folder should be: move it, or set warehouse" in lines["warehouse"]
    assert f"s3://{MASK}@bucket/x" in lines["scoring"]
    assert "must not hold a source" in lines["output"]
    assert "hunter2" not in str(lines)


def test_a_faulty_config_does_not_hide_the_environment(project):
    (project.home / "faulty.yaml").write_text("name: a b\ndata: {source: x, task: guess}\ntrain: {epochs: -1}\n")
    status, lines, last = project.validated(config="faulty.yaml")
    assert (status, last) == (2, "1 of 4 checks failed: see the lines above.")
    for place in ("line 1: name", "line 2: data.task", "line 3: train.epochs"):
        assert place in lines["config"]
    assert set(lines) == {"config", "packages", "horovod", "tracking"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"x1": None, "n": None}, "lacks the features x1, n."),
        ({"prediction": [1.0, 2.0]}, "reserved for predictions. Received: prediction"),
        ({"x1": [[1.0], [2.0]]}, "Column x1 must be numeric. Received: list"),
    ],
)
def test_what_is_to_be_scored_must_have_the_features(project, changes, sentence):
    table = {name: project.table.column(name).to_pylist()[:2] for name in ("x1", "x2", "n", "c")} | changes
    pq.write_table(pa.table({name: v for name, v in table.items() if v is not None}), project.home / "new.parquet")
    status, lines, _ = project.validated()
    assert (status, list(wrong(lines))) == (2, ["scoring"])
    assert sentence in lines["scoring"]


def test_text_is_not_judged_before_it_is_read(project):
    csv.write_csv(project.table, project.home / "old.csv")
    status, lines, _ = project.validated(f"data.source={project.home}/old.csv")
    assert (status, wrong(lines)) == (0, {})


def test_tables_and_images_are_known(project):
    for label in ("a", "b"):
        (project.home / "pictures" / label).mkdir(parents=True)
        (project.home / "pictures" / label / "1.png").write_bytes(b"-")
    pictures = f"{project.home}/pictures"
    status, lines, _ = project.validated(
        f"data={{source: {pictures}, task: image}},batch_infer.source={pictures}"
    )  # fmt: skip
    assert (status, wrong(lines)) == (0, {})
    assert "2 files" in lines["source"] and "1 features" in lines["source"]
    _, lines, _ = project.validated("data.source=table:sales.orders")
    assert "seen when it is read" in lines["source"]
    assert "not needed" not in lines["java"]
    _, lines, _ = project.validated("data.source=table:sales.orders,engine=local")
    assert "A Spark table needs engine spark or auto. Received: local" in lines["source"]


def test_what_a_file_system_lacks_is_told_and_wrong_only_without_another_way(project, monkeypatch):
    monkeypatch.setattr(replacing, "exchange", lambda one, other: False)
    status, lines, _ = project.validated()
    assert (status, wrong(lines)) == (0, {})
    assert lines["output"].endswith("left; folders cannot be exchanged: an output is replaced in two moves")

    def fail(path: Path, target: Path) -> None:
        raise OSError(errno.ENOTSUP, "not supported", str(path))

    monkeypatch.setattr(Path, "rename", fail)
    status, lines, _ = project.validated()
    assert (status, set(wrong(lines))) == (2, {"warehouse", "output"})
    assert "cannot be renamed, so that nothing can appear there whole: choose another disk" in lines["output"]
    assert not list(project.home.glob(".baton-probe*"))


def test_an_output_with_other_things_in_it_is_wrong(project):
    (project.home / "predictions" / "other").mkdir(parents=True)
    status, lines, _ = project.validated()
    assert (status, list(wrong(lines))) == (2, ["output"])
    assert "is replaced whole and holds what is no predictions" in lines["output"]
    assert lines["output"].endswith(f"Received: {project.home}/predictions, which holds other")


def test_a_folder_must_be_writable_and_its_disk_have_room(project, monkeypatch):
    monkeypatch.setattr(preflight.os, "access", lambda path, mode: False)
    assert "cannot be written into: change its permissions, or set warehouse." in project.validated()[1]["warehouse"]
    monkeypatch.undo()
    (project.home / "predictions").mkdir()  # where it is does not matter: another one is made beside it
    monkeypatch.setattr(preflight.os, "access", lambda path, mode: path != project.home)
    assert f"{project.home} cannot be written into" in project.validated()[1]["output"]
    monkeypatch.undo()
    free = SimpleNamespace(free=100 << 20)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: free)
    status, lines, _ = project.validated()
    assert (status, set(wrong(lines))) == (2, {"warehouse", "output"})
    assert "has 100 MB left and about 256 are needed" in lines["output"]


@pytest.mark.parametrize(
    ("told", "answer"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 'ok     java       version "17.0.15"'),
        ('java version "1.8.0_202"', 'Spark needs Java 17 or 21: .* Received: version "1.8.0_202"'),
        (None, "Spark needs Java 17 or 21: install openjdk-17-jre-headless, or set JAVA_HOME. Received: no java"),
    ],
)
@pytest.mark.parametrize("why", ["engine=spark", "distributed_train.launcher=spark", "data.spark_above_mb=0"])
def test_java_is_there_where_it_is_needed(project, monkeypatch, told, answer, why):
    (project.home / "jdk" / "bin").mkdir(parents=True)
    if told:
        java = project.home / "jdk" / "bin" / "java"
        java.write_text(f"#!/bin/sh\necho '{told}' >&2\n")
        java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(project.home / "jdk"))
    _, lines, _ = project.validated(why)
    line = lines["java"]
    assert all(part in line for part in answer.split(" .* "))


def test_a_server_of_spark_connect_needs_no_java_here_and_runs_no_horovod(project, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(project.home / "no jdk"))
    line = project.validated("spark.master=sc://host:15002")[1]["java"]
    assert line.endswith("not needed: Spark is a server's, by Spark Connect")
    line = project.validated("spark.master=sc://host:15002,distributed_train.launcher=spark")[1]["java"]
    assert "WRONG" in line and "launcher: spark needs a SparkContext" in line


def test_the_pinned_versions_are_the_ones_installed(project, monkeypatch):
    lock = project.home / "requirements.txt"
    text = preflight.LOCK.read_text()
    lock.write_text(text.replace("mlflow==", "mlflow==9.", 1).replace("\nkeras==", "\nkeras==9.", 1))
    monkeypatch.setattr(preflight, "LOCK", lock)
    monkeypatch.setattr(preflight, "PINNED", (*preflight.PINNED, "absent"))
    lock.write_text(lock.read_text() + "absent==1.0\n")
    line = project.validated()[1]["packages"]
    assert "mlflow is 3.17.2, pinned is 9.3.17.2; keras is 3.15.1, pinned is 9.3.15.1" in line
    assert "absent is missing, pinned is 1.0. make run installs" in line


@pytest.mark.parametrize(
    ("library", "built", "answer"),
    [
        (True, "2.21.0", "ok     horovod    built for TensorFlow 2.21.0"),
        (True, "2.16.1", "Horovod was built for TensorFlow 2.16.1, and 2.21.0 is installed."),
        (False, "2.21.0", "Horovod is not there, or was built without TensorFlow."),
    ],
)
def test_horovods_library_must_be_built_for_this_tensorflow(project, monkeypatch, library, built, answer):
    home = project.home / "horovod"
    (home / "tensorflow").mkdir(parents=True)
    (home / "metadata.json").write_text(json.dumps({"tensorflow": built}))
    if library:
        (home / "tensorflow" / "mpi_lib.cpython-311-x86_64-linux-gnu.so").write_bytes(b"")
    spec = ModuleSpec("horovod", None, origin=str(home / "__init__.py"))
    monkeypatch.setattr(preflight, "find_spec", lambda name: spec)
    assert answer in project.validated()[1]["horovod"]
