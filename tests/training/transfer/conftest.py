"""A tiny pretrained base, and a few pictures of the kind that it has learnt from."""

from pathlib import Path

import backbone
import keras
import pytest
import tiny

from baton.config.schema import Config
from baton.data.dataset import Dataset


@pytest.fixture(scope="session")
def base_file(tmp_path_factory) -> Path:
    return backbone.pretrained(tmp_path_factory.mktemp("base") / "base.keras")


@pytest.fixture(scope="session")
def base(base_file) -> keras.Model:
    return keras.models.load_model(base_file, compile=False)


@pytest.fixture(scope="session")
def striped(base_file, tmp_path_factory) -> tuple[Config, Dataset]:
    """120 pictures, 60 of them to train on, and a config whose backbone knows such pictures."""
    return tiny.build(
        backbone.table(120, 3),
        tmp_path_factory.mktemp("striped"),
        "image",
        data={"row_group_size": 10, "split": {"train": 0.5, "validation": 0.25, "test": 0.25}},
        model={"backbone": str(base_file)},
        train={"epochs": 2, "batch_size": 16, "augment": "none"},
    )
