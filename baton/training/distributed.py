"""A config and a dataset in, a `Result` that several workers trained together out."""

from __future__ import annotations

import itertools
import json
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baton.config.schema import Config
from baton.data.dataset import Dataset
from baton.errors import BadInput, BatonError, WorkerLost
from baton.runtime import heartbeat
from baton.training import horovod

if TYPE_CHECKING:
    from baton.training.callbacks import OnEpoch, Result

log = logging.getLogger("baton")


def scaled(config: Config, rows: int) -> Config:
    """The config of each worker, for a train split of `rows` rows: its batch, and the learning rate scaled with
    the batch of all.

    With a batch k times as large, SGD's rate grows by k (Goyal et al., 2017) and that of optimizers
    that divide by the gradient's size by the root of k (Malladi et al., 2022), after a warm-up.
    """
    config = config.sized(rows)
    settings = config.distributed_train
    batch = settings.batch_size or config.train.batch_size
    changes: dict[str, Any] = {"train.batch_size": batch}
    if settings.scale_learning_rate:
        larger = batch * settings.workers / config.train.batch_size
        factor = larger if config.train.optimizer in ("sgd", "momentum", "nesterov") else larger**0.5
        assert config.train.learning_rate is not None  # filled in above
        changes["train.learning_rate"] = config.train.learning_rate * factor
        changes["train.warmup_epochs"] = max(config.train.warmup_epochs, settings.warmup_epochs)
    return config.overridden(changes)


def train(
    config: Config,
    dataset: Dataset,
    folder: Path,
    on_epoch: OnEpoch,
    *,
    run_id: str = "",
    epochs_told: int = 0,
    worker_group: horovod.WorkerGroup | None = None,
) -> Result:
    """Let a `worker_group` that is up already, or a new one, work; pass on rank 0's epochs, and read the result.

    If workers are lost, all start again from the last checkpoint in `folder`, `max_restarts` times
    at most; a worker's own error is final. Raises `BatonError`, of it `BadInput` where there are too few row groups.
    `folder` must be seen by all workers.
    """
    if config.distributed_train.workers > (fewest := min(len(dataset.row_groups(s)) for s in ("train", "validation"))):
        raise BadInput(
            f"The dataset has row groups for {fewest} workers: run ingest again with "
            f"distributed_train.workers={config.distributed_train.workers}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    job = horovod.Job(config.dump(), str(dataset.folder.absolute()), str(folder.absolute()), run_id)
    epochs = Epochs(folder / horovod.HISTORY, config, on_epoch, epochs_told)
    most = config.distributed_train.max_restarts
    if worker_group and (
        worker_group.workers != config.distributed_train.workers or worker_group.process.poll() is not None
    ):
        worker_group = None  # it does not fit, or died while it waited: no work is lost
    for restarts in itertools.count():
        started = time.time()
        try:
            _attempt(job, config, epochs, worker_group)
        except WorkerLost as lost:
            if restarts >= most:
                raise BatonError(f"{lost} Restarts: {restarts}, as many as distributed_train.max_restarts.") from lost
            log.warning("%s Restart %d of %d, from the last epoch.", lost, restarts + 1, most)
            worker_group = None
        else:
            break
    return replace(_result(folder, started), restarts=restarts)


@dataclass
class Epochs:
    """The lines of rank 0's history, passed on once each: after a restart it is written anew."""

    path: Path
    config: Config
    on_epoch: OnEpoch
    told: int = 0

    def pass_on(self) -> None:
        """Log the whole lines that were not passed on yet."""
        text = self.path.read_text() if self.path.is_file() else ""
        for line in [line for line in text.splitlines(True) if line.endswith("\n")][self.told :]:
            logs = json.loads(line)
            epoch, key = logs.pop("epoch"), f"val_{self.config.primary_metric}"
            total = self.config.train.epochs
            loss = f"loss {logs['loss']:.4g}  " if "loss" in logs else ""  # a probe of fixed features has none
            log.info("epoch %d/%d  %s%s %.4g", epoch + 1, total, loss, key, logs[key])
            self.on_epoch(epoch, logs)
            self.told += 1


def _attempt(job: horovod.Job, config: Config, epochs: Epochs, worker_group: horovod.WorkerGroup | None) -> None:
    """Run the workers once; raises `WorkerLost`, or a `BatonError` with a worker's own sentence."""
    folder = Path(job.folder)
    for name in (horovod.HISTORY, horovod.RESULT, horovod.ERROR, heartbeat.FILE):
        (folder / name).unlink(missing_ok=True)
    try:
        if config.distributed_train.launcher == "spark":
            horovod.launch_on_spark(job, config)
        else:
            worker_group = worker_group or horovod.WorkerGroup(config)
            worker_group.work(job)
            _watch(worker_group, epochs)
    except WorkerLost as lost:
        if (folder / horovod.RESULT).is_file():
            log.warning("%s Their work was done.", lost)
            return
        if (folder / horovod.ERROR).is_file():
            told = json.loads((folder / horovod.ERROR).read_text())
            raise (BadInput if told["exit_status"] == BadInput.exit_status else BatonError)(told["error"]) from None
        raise
    finally:
        epochs.pass_on()


def _watch(worker_group: horovod.WorkerGroup, epochs: Epochs) -> None:
    """Wait for the workers; log epochs meanwhile; however it ends, no process of theirs is left."""
    watch = horovod.watch(epochs.path.parent, epochs.config)
    try:
        for tick in itertools.count():
            if worker_group.process.poll() is not None:
                break
            time.sleep(0.2)
            if tick % 10 == 0:
                worker_group.tree.look()
            epochs.pass_on()
            if watch.hangs():
                worker_group.end(grace=0)  # who is frozen sees no SIGTERM
                raise horovod.hang(watch)
    finally:
        worker_group.end()
    if worker_group.process.returncode != 0:
        raise WorkerLost(f"A Horovod worker was lost (horovodrun ended with {worker_group.process.returncode}).")


def _result(folder: Path, started: float) -> Result:
    import keras

    from baton.networks import layers  # noqa: F401 - registers Baton's layers with Keras
    from baton.training.callbacks import Result

    answer = json.loads((folder / horovod.RESULT).read_text())
    network = keras.models.load_model(folder / horovod.NETWORK, compile=False)
    waited = max(0.0, answer["began"] - started)
    trained = answer["history"], answer["best_epoch"], answer["best_value"], answer["seconds"]
    if found := answer["transfer"]:  # the workers' own logs are not passed on
        log.info("transfer: %s at block %d: %s; kept: %s", *(found[k] for k in ("method", "depth", "reason", "chosen")))
    if found := answer["objective"]:
        log.info("train.objective: %s", found["reason"])
    measured = {key: answer[key] for key in ("augmentation", "transfer", "objective")}
    return Result(network, *trained, waited=waited, **measured)
