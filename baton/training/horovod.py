"""The only module that imports Horovod: the collective of a worker, and the launch of workers.

Launched by `horovodrun` (or `horovod.spark`) as a script, never by `horovod.run(func)`, whose store
unpickles what anyone on the network sends (CVE-2026-31234). The workers' rings are held to loopback
when all are on this machine; the launcher's own port cannot be (docs/explanation/SECURITY.md).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from baton.config.schema import Config, validate
from baton.errors import BatonError, WorkerLost
from baton.runtime import heartbeat, paths, processes
from baton.runtime.files import whole
from baton.training.collective import Collective

READS = ("baton/training/horovod_worker.py",)  # started as a process, not imported
JOB = "job.json"
HISTORY = "history.jsonl"
RESULT = "result.json"
ERROR = "error.json"
NETWORK = "network.keras"
# Of the driver's environment what Spark's executors are sent, which have one of their own: nothing secret.
TRAVELS = re.compile(r"(HOROVOD|KERAS|OMP|TF|XLA)_")


@dataclass(frozen=True)
class Job:
    """What a worker is told: the config, the dataset's folder, where rank 0 writes, and for which run."""

    config: dict[str, Any]
    dataset: str
    folder: str
    run_id: str = ""


class Horovod(Collective):
    """This worker among the others."""

    def __init__(self) -> None:
        import horovod.tensorflow as hvd

        hvd.init()  # Horovod: start the ring
        self.hvd, self.rank, self.size = hvd, hvd.rank(), hvd.size()

    def distribute(self, optimizer: Any) -> Any:
        """Average gradients in `apply`: Horovod's own DistributedOptimizer does not know Keras 3."""
        import tensorflow as tf

        hvd = self.hvd

        class Distributed(type(optimizer)):  # type: ignore[misc]
            def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
                dense = [tf.convert_to_tensor(g) for g in grads]  # embeddings' gradients are sparse
                # Horovod: every worker applies the same mean
                return super().apply(hvd.grouped_allreduce(dense, op=hvd.Average), trainable_variables)

        optimizer.__class__ = Distributed
        return optimizer

    def broadcast(self, model: Any) -> None:
        variables = [v.value for v in (*model.variables, *model.optimizer.variables)]
        self.hvd.broadcast_variables(variables, root_rank=0)  # Horovod: all start from rank 0's

    def sum(self, values: np.ndarray) -> np.ndarray:
        return self.hvd.allreduce(values.astype(np.float64), op=self.hvd.Sum).numpy()

    def same_everywhere(self, model: Any) -> bool:
        """Whether every worker holds bit-identical weights."""
        digest = hashlib.sha256(b"".join(v.tobytes() for v in model.get_weights())).digest()
        rows = self.hvd.allgather(np.frombuffer(digest, np.uint8)[None]).numpy()
        return bool((rows == rows[0]).all())


def work(job: Job) -> None:
    """A worker's whole life; an error of its own (not the loss of another worker) is left in `ERROR`."""
    try:
        _work(job)
    except Exception as error:
        if not _lost_another(error):
            _tell_error(Path(job.folder), error)
        raise


def _work(job: Job) -> None:
    """Train with the others; rank 0 writes network, history and result."""
    from baton.data.dataset import Dataset
    from baton.training import checkpoints, fit

    collective = Horovod()
    began = time.time()
    config, folder = validate(job.config, {}, "job"), Path(job.folder)
    heartbeat.start(folder / heartbeat.FILE)

    def tell(epoch: int, logs: dict[str, float]) -> None:
        with (folder / HISTORY).open("a") as file:
            file.write(json.dumps({"epoch": epoch, **logs}) + "\n")

    result = fit.train(
        config,
        Dataset.load(job.dataset),
        collective=collective,
        on_epoch=tell,
        checkpoint=checkpoints.Checkpoint(folder / checkpoints.FILE, job.run_id),
    )
    if not collective.same_everywhere(result.model):
        raise BatonError("The workers ended with different weights.")
    if collective.rank == 0:
        result.model.save(folder / NETWORK)
        answer = {"history": result.history, "best_epoch": result.best_epoch, "best_value": result.best_value}
        answer |= {
            "augmentation": result.augmentation,
            "transfer": result.transfer,
            "objective": result.objective,
            "seconds": result.seconds,
            "workers": collective.size,
            "began": began,
        }
        with whole(folder / RESULT) as aside:
            aside.write_text(json.dumps(answer))
    heartbeat.beat()  # what is left is to end


def _lost_another(error: Exception) -> bool:
    """Whether a worker's error only says that an all-reduce could not be ended."""
    import tensorflow as tf
    from horovod.common.exceptions import HorovodInternalError

    errors = tf.errors
    passing = (errors.UnknownError, errors.InternalError, errors.CancelledError, errors.AbortedError)
    return isinstance(error, (HorovodInternalError, *passing))


def _tell_error(folder: Path, error: Exception) -> None:
    """Whole or not at all; of several workers' errors the last one stays."""
    text = " ".join(str(error).split()) or type(error).__name__
    sentence = text if isinstance(error, BatonError) else f"{type(error).__name__}: {text}"
    with whole(folder / ERROR) as aside:
        aside.write_text(json.dumps({"error": sentence, "exit_status": getattr(error, "exit_status", 1)}))


def horovodrun() -> None:
    """horovodrun, but for two things: `python -m baton.training.horovod ARGUMENTS`.

    Before it starts anything, horovodrun imports TensorFlow in a process of its own, only to ask whether
    Horovod was built with Gloo. The wheel of this project always is. And it writes its whole environment,
    with whatever is secret in it, on the workers' command lines, though workers on this machine inherit it.
    """
    from horovod.runner import launch
    from horovod.runner.common.util import env

    launch.gloo_built = lambda verbose=False: True
    env.is_exportable = lambda name: name == "PYTHONUNBUFFERED" or name.startswith("HOROVOD_")  # which it sets itself
    launch.run_commandline()


def watch(folder: Path, config: Config) -> heartbeat.Watch:
    """What sees that workers hang; they wait for each other, so one that stops silences all."""
    settings = config.distributed_train
    first = settings.start_timeout_s + settings.hang_timeout_s
    return heartbeat.Watch(folder / heartbeat.FILE, first, settings.hang_timeout_s)


def hang(watch: heartbeat.Watch) -> WorkerLost:
    return WorkerLost(
        f"The Horovod workers hang: for {watch.limit:g} seconds none of them has trained or scored a batch "
        "(distributed_train.hang_timeout_s)."
    )


class WorkerGroup:
    """The workers on this machine, started by horovodrun: they import, and then wait for their job.

    The caller waits for `process`, and ends it.
    """

    def __init__(self, config: Config):
        self.workers = config.distributed_train.workers
        self.place = Path(tempfile.mkdtemp(prefix="baton-crew-")) / JOB
        timeout = str(config.distributed_train.start_timeout_s)
        command = [
            sys.executable, "-m", "baton.training.horovod", "--gloo", "--network-interfaces", "lo",
            "-np", str(self.workers), "-H", f"localhost:{self.workers}",
            "--start-timeout", timeout, "--gloo-timeout-seconds", timeout,
            sys.executable, "-m", "baton.training.horovod_worker", str(self.place),
        ]  # fmt: skip
        environ = {**os.environ, **environment(self.workers), processes.DRIVER: processes.me()}
        self.process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, start_new_session=True)
        self.tree = processes.Tree(self.process.pid)

    def work(self, job: Job) -> None:
        """Tell the workers what to do."""
        with whole(self.place) as aside:
            aside.write_text(json.dumps(asdict(job)))

    def end(self, grace: float = processes.GRACE_S) -> None:
        """End the workers, whether they wait or work; none is left."""
        shutil.rmtree(self.place.parent, ignore_errors=True)  # first: to be ended takes them seconds
        self.tree.end(grace)
        self.process.wait()


def awaited(place: Path) -> Job:
    """A worker's job, once it is there. The process ends with the one that started it, not here."""
    while not place.exists():
        time.sleep(0.05)
    return Job(**json.loads(place.read_text()))


def launch_on_spark(job: Job, config: Config) -> None:
    """Run the workers as tasks of the Spark session; returns when all have ended."""
    from baton.runtime import spark

    spark.demand_context(config, "distributed_train.launcher: spark")
    import horovod.spark

    workers = config.distributed_train.workers
    context = spark.session(config).sparkContext
    at_once = spark.slots(context, workers, config.distributed_train.start_timeout_s)
    if at_once < workers:
        raise BatonError(
            f"Spark must run all {workers} workers at once: give it more cores, or set distributed_train.workers. "
            f"Received: {at_once} tasks at once on {context.master}"
        )
    look, local = watch(Path(job.folder), config), spark.LOCAL.fullmatch(context.master)
    function, arguments = (work, (job,)) if local else _shipped(job)
    try:
        with heartbeat.watched(look, context.cancelAllJobs):
            horovod.spark.run(
                function,
                args=arguments,
                num_proc=workers,
                start_timeout=config.distributed_train.start_timeout_s,
                env=_sent(workers, path=bool(local)),
                nics={"lo"} if spark.on_loopback(context) else None,
                use_gloo=True,
                executable=None if local else context.pythonExec,
                verbose=0,
            )
    except Exception as error:  # Horovod raises plain ones
        if look.hangs():
            raise hang(look) from error
        raise WorkerLost(f"A Horovod worker failed on Spark; see the lines above: {error}") from error


def _shipped(job: Job) -> tuple[Callable[..., None], tuple[bytes, dict[str, Any]]]:
    """`work` for a process on another machine, which Spark's own way of shipping code does not reach: with the code.

    Pickle takes a function within a function whole, and one of a module by its name alone.
    """
    from baton.runtime import spark

    def unpack_and_work(code: bytes, fields: dict[str, Any]) -> None:
        import sys
        import tempfile
        from pathlib import Path

        with tempfile.TemporaryDirectory(prefix="baton-code-") as folder:
            archive = Path(folder) / "baton.zip"
            archive.write_bytes(code)
            sys.path.insert(0, str(archive))
            from baton.training import horovod

            horovod.work(horovod.Job(**fields))

    return unpack_and_work, (spark.packed_code().read_bytes(), asdict(job))


def _sent(workers: int, path: bool) -> dict[str, str]:
    """What Spark's tasks get of this process's environment; its `path` only where the tasks are on this machine."""
    sent = {k: v for k, v in os.environ.items() if TRAVELS.match(k)} | environment(workers)
    return {k: v for k, v in sent.items() if path or k != "PYTHONPATH"}


def keep_to_own_cores() -> None:
    """Bind this worker to its even share of the cores that it may use.

    Workers wait for each other at every step: two that share a core for a moment, while another is idle,
    hold up all.
    """
    rank, size = int(os.environ.get("HOROVOD_LOCAL_RANK", 0)), int(os.environ.get("HOROVOD_LOCAL_SIZE", 1))
    cores = sorted(os.sched_getaffinity(0))
    if size < len(cores):
        own = cores[rank * len(cores) // size : (rank + 1) * len(cores) // size]
    else:
        own = [cores[rank % len(cores)]]
    os.sched_setaffinity(0, own)


def environment(workers: int) -> dict[str, str]:
    """Each worker's share of this machine's cores, and the project on its path."""
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    path = os.pathsep.join(p for p in (str(paths.CODE), os.environ.get("PYTHONPATH", "")) if p)
    return {
        "PYTHONPATH": path,
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": "1",
        "OMP_NUM_THREADS": threads,
        "HOROVOD_CYCLE_TIME": "100",  # ms at most: the wheel that Baton builds wakes as soon as there are tensors
    }


if __name__ == "__main__":
    horovodrun()
