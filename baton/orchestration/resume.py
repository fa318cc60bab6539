"""Who may work on a step's state, and what an interrupted run of the same work has left of it.

Checkpoints lie in `warehouse/<name>/checkpoints/<key>`, the key being that of everything that could change the
weights: the next run of the same work finds what an interrupted one has left.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from baton import names
from baton.config.schema import Config
from baton.data.dataset import Dataset
from baton.orchestration import cache
from baton.runtime import locks
from baton.runtime.files import new_folder
from baton.tracking.runs import Run
from baton.training.checkpoints import FILE, Checkpoint, State

log = logging.getLogger("baton")

VOLUMES = "/Volumes"


def home_of_state(config: Config, step: str) -> Path:
    """The folder of all checkpoints of a pipeline.

    A volume of Databricks takes no appended and no random writes, as checkpoints, networks and journals are written:
    where the warehouse lies on one, this machine's own disk has them, but for workers on other machines.
    """
    elsewhere = step == "distributed_train" and config.distributed_train.launcher == "spark"
    on_volume = Path(config.warehouse).is_relative_to(VOLUMES) and not elsewhere
    warehouse = Path(tempfile.gettempdir()) / "baton" if on_volume else Path(config.warehouse)
    return warehouse / config.name / "checkpoints"


@contextmanager
def acquire(config: Config, step: str, dataset: Dataset, run: Run) -> Iterator[Path]:
    """The folder for a step's state, this process's alone; removed once the step is through.

    A folder that another process works in is left to it: this one gets an empty one of its own.
    """
    home = home_of_state(config, step)
    key = cache.key(step, config, {}, {"dataset": dataset.content}).digest[:32]
    folder = home / key
    lock = locks.take(folder)
    alone = lock is not None
    if lock is None:
        log.warning("Another process does the same work now: this one starts anew and leaves nothing to go on from.")
        folder = new_folder(home, f"{key}-")
        lock = locks.take(folder)
    try:
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        if not alone:
            shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            lock.release()


def load_previous(folder: Path, run: Run) -> tuple[Checkpoint, State | None]:
    """The checkpoint in a claimed folder and the state an earlier run left there, told and tagged."""
    checkpoint = Checkpoint(folder / FILE, run.id)
    state = checkpoint.load()
    if state is not None:
        run.tag(names.TAG_RESUMED, f"epoch {state.epoch + 1} of run {state.run_id}")
        log.info("going on after epoch %d of run %s", state.epoch + 1, state.run_id)
        for epoch, logs in enumerate(state.logs()):
            run.metrics(logs, epoch)
    return checkpoint, state
