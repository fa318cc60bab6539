"""Shared fixtures: tiny datasets, built once a session. They are read, never written to."""

import os
import sys

import pytest
import tiny

from baton.config.schema import Config
from baton.data.dataset import Dataset


@pytest.fixture(scope="module", autouse=True)
def no_experiment_left_over():
    """MLflow tells child processes its experiment by the environment: no module hands its own to the next one."""
    yield
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


def pytest_terminal_summary(terminalreporter):
    """What became of the made-up inputs of tests/system/test_bad_input.py."""
    tried = next((m.TRIED for n, m in sys.modules.items() if n.split(".")[-1] == "test_bad_input"), {})
    if tried:
        terminalreporter.section("bad input")
    for step, counts in tried.items():
        told = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        terminalreporter.write_line(f"{step}: {told}")
