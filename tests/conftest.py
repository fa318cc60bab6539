"""Shared fixtures: tiny datasets, built once a session. They are read, never written to."""

import os

import pytest
import tiny

from baton.config import Config
from baton.dataset import Dataset


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
def images(tmp_path_factory) -> tuple[Config, Dataset]:
    return tiny.build(tiny.image_table(), tmp_path_factory.mktemp("images"), "image", data={"rows_per_group": 20})
