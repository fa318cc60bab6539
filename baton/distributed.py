"""A config and a dataset in, a `Result` that several workers trained together out."""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baton import horovod
from baton.config import Config
from baton.dataset import Dataset
from baton.errors import BatonError

if TYPE_CHECKING:
    from baton.fit import OnEpoch, Result

log = logging.getLogger("baton")


def scaled(config: Config) -> Config:
    """The config of each worker: its batch, and the learning rate scaled with the batch of all.

    With a batch k times as large, SGD's rate grows by k (Goyal et al., 2017) and that of optimizers
    that divide by the gradient's size by the root of k (Malladi et al., 2022), after a warm-up.
    """
    settings = config.distributed_train
    batch = settings.batch_size or config.train.batch_size
    changes: dict[str, Any] = {"train.batch_size": batch}
    if settings.scale_learning_rate:
        larger = batch * settings.workers / config.train.batch_size
        factor = larger if config.train.optimizer in ("sgd", "momentum", "nesterov") else larger**0.5
        changes["train.learning_rate"] = config.train.learning_rate * factor
        changes["train.warmup_epochs"] = max(config.train.warmup_epochs, settings.warmup_epochs)
    return config.overridden(changes)


def train(config: Config, dataset: Dataset, folder: Path, on_epoch: OnEpoch) -> Result:
    """Start the workers, pass on rank 0's epochs as they come, and read the result.

    Raises `BatonError` if a worker fails. `folder` must be seen by all workers.
    """
    if config.distributed_train.workers > (fewest := min(len(dataset.row_groups(s)) for s in ("train", "validation"))):
        raise BatonError(
            f"The dataset has row groups for {fewest} workers: run ingest again with "
            f"distributed_train.workers={config.distributed_train.workers}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in (horovod.HISTORY, horovod.RESULT):
        (folder / name).unlink(missing_ok=True)
    job = horovod.Job(config.dump(), str(dataset.folder.absolute()), str(folder.absolute()))
    if config.distributed_train.launcher == "spark":
        horovod.launch_on_spark(job, config)
        _pass_on(folder, 0, config, on_epoch)
    else:
        _watch(horovod.launch(job, config), folder, config, on_epoch)
    return _result(folder)


def _watch(process: subprocess.Popen, folder: Path, config: Config, on_epoch: OnEpoch) -> None:
    """Wait for the workers; log epochs meanwhile; end them all if this process is stopped."""
    seen = 0
    warm = threading.Thread(target=importlib.import_module, args=("baton.candidates",), daemon=True)
    try:
        while process.poll() is None:
            time.sleep(0.2)
            seen = _pass_on(folder, seen, config, on_epoch)
            if seen and warm.ident is None:
                warm.start()  # TensorFlow, which this process needs only once the workers are done
        _pass_on(folder, seen, config, on_epoch)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(10)
    if process.returncode != 0:
        raise BatonError(f"A Horovod worker failed (horovodrun ended with {process.returncode}); see the lines above.")


def _pass_on(folder: Path, seen: int, config: Config, on_epoch: OnEpoch) -> int:
    """Log the whole lines of the history after the first `seen`; return how many there are."""
    path = folder / horovod.HISTORY
    lines = [line for line in path.read_text().splitlines(True) if line.endswith("\n")] if path.is_file() else []
    for line in lines[seen:]:
        logs = json.loads(line)
        epoch, key = logs.pop("epoch"), f"val_{config.primary_metric}"
        log.info("epoch %d/%d  loss %.4g  %s %.4g", epoch + 1, config.train.epochs, logs["loss"], key, logs[key])
        on_epoch(epoch, logs)
    return len(lines)


def _result(folder: Path) -> Result:
    import keras

    from baton import layers  # noqa: F401 - registers Baton's layers with Keras
    from baton.fit import Result

    answer = json.loads((folder / horovod.RESULT).read_text())
    network = keras.models.load_model(folder / horovod.NETWORK, compile=False)
    return Result(network, answer["history"], answer["best_epoch"], answer["best_value"], answer["seconds"])
