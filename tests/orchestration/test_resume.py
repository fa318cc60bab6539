"""Where a step keeps its state."""

import tempfile
from pathlib import Path

import pytest
import tiny

from baton.orchestration import resume


@pytest.mark.parametrize(("warehouse", "step", "launcher", "home"), [
    ("w", "train", "horovodrun", "w"),
    ("/Volumes/c/s/v/w", "train", "spark", f"{tempfile.gettempdir()}/baton"),
    ("/Volumes/c/s/v/w", "distributed_train", "horovodrun", f"{tempfile.gettempdir()}/baton"),
    ("dbfs:/Volumes/c/s/v/w", "distributed_train", "spark", "/Volumes/c/s/v/w"),  # which all workers see
])  # fmt: skip
def test_state_is_not_kept_on_a_disk_that_takes_no_appended_writes(warehouse, step, launcher, home):
    config = tiny.config(warehouse=warehouse, distributed_train={"launcher": launcher})
    assert resume.home_of_state(config, step) == Path(home) / "tiny" / "checkpoints"
