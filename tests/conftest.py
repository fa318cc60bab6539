"""Shared fixtures: tiny datasets, built once a session. They are read, never written to."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import logged
import mlflow
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import tiny

from baton.config.schema import Config
from baton.data.dataset import Dataset

ROOT = Path(__file__).parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    """What is drawn by chance, and where is looked for modules, does not depend on the tests before.

    MLflow puts the code of a model that it loads first on the path: processes of later tests would import that.
    """
    keras.utils.set_random_seed(1)
    path = list(sys.path)
    try:
        return (yield)
    finally:
        sys.path[:] = path


MAX_PROCESSES = 4  # each may hold TensorFlow, and a Spark with a quarter of the memory


def pytest_xdist_auto_num_workers(config) -> int:
    """A process a core for folders; files that are named are run in this one, which starts sooner."""
    files = all(Path(str(name).partition("::")[0]).is_file() for name in config.args)
    return 0 if files else min(len(os.sched_getaffinity(0)), MAX_PROCESSES)


def pytest_collection_modifyitems(config, items):
    """Whole pipelines come first where tests are shared out: begun last, they would have one core work alone."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: "system" not in item.path.parts)


@pytest.fixture(scope="module", autouse=True)
def no_experiment_left_over():
    """MLflow tells child processes its experiment by the environment: no module hands its own to the next one."""
    yield
    mlflow.tracking.fluent._active_experiment_id = None
    for name in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def regression(tmp_path_factory) -> tuple[Config, Dataset]:
    return tiny.build(tiny.regression_table(), tmp_path_factory.mktemp("regression"), "regression")


@pytest.fixture(scope="session")
def binary(tmp_path_factory) -> tuple[Config, Dataset]:
    return tiny.build(tiny.binary_table(), tmp_path_factory.mktemp("binary"), "binary")


@pytest.fixture(scope="session")
def uneven(tmp_path_factory) -> tuple[Config, Dataset]:
    training = {"epochs": 6, "learning_rate": 0.01}
    return tiny.build(tiny.uneven_table(), tmp_path_factory.mktemp("uneven"), "binary", train=training)


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> tuple[Config, Dataset]:
    return tiny.build(tiny.image_table(), tmp_path_factory.mktemp("images"), "image", data={"row_group_size": 10})


@pytest.fixture(scope="session")
def flights(tmp_path_factory) -> SimpleNamespace:
    """A project's folder with the flights in data/, and a registry whose champion `flights` is an untrained model."""
    folder = tmp_path_factory.mktemp("flights")
    source = pq.read_table(ROOT / "data" / "flights.parquet").slice(0, 2000)
    config, dataset = tiny.build(source, folder, "regression", data={"target": "arr_delay"})
    model = logged.untrained(config, dataset)
    path = logged.log(model, dataset.raw_test(), folder)
    (folder / "data").symlink_to(ROOT / "data")
    uri = f"sqlite:///{folder}/mlflow.db"
    client = mlflow.MlflowClient(uri, uri)
    client.create_registered_model("flights")
    version = client.create_model_version("flights", path.as_uri()).version
    client.set_registered_model_alias("flights", "champion", version)
    asked = pq.read_table(ROOT / "data" / "new_flights.parquet").slice(0, 14).drop(["arr_delay"])
    for index, name in enumerate(asked.column_names):  # row i has no cell in column i
        gone = pa.array([row == index for row in range(asked.num_rows)])
        asked = asked.set_column(index, name, pc.if_else(gone, None, asked[name].combine_chunks()))
    return SimpleNamespace(folder=folder, uri=uri, model=model, dataset=dataset, asked=asked)


# What became of the made-up inputs of tests/system/test_bad_input.py, from whichever process ran them.
TRIED: dict[str, dict[str, int]] = {}


def pytest_sessionfinish(session):
    module = next((m for n, m in sys.modules.items() if n.split(".")[-1] == "test_bad_input"), None)
    TRIED.update({step: dict(counts) for step, counts in module.TRIED.items()} if module else {})
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tried"] = TRIED


def pytest_testnodedown(node):
    TRIED.update(getattr(node, "workeroutput", {}).get("tried", {}))


def pytest_terminal_summary(terminalreporter):
    if TRIED:
        terminalreporter.section("bad input")
    for step, counts in TRIED.items():
        told = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        terminalreporter.write_line(f"{step}: {told}")
