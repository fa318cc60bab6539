"""Two Horovod ranks with a core each, a cnn of two convolutions on 60,000 images (5,000 of Fashion-MNIST, twelve
times) as they are, batches as Baton sizes them: images a second, from an epoch's first step to its last.
Against two single processes that train the same share each, side by side, without talking; and against a bare
Horovod script of the same network, with Keras' own fit on arrays in memory and an all-reduce in the optimizer.
All with 1 thread a rank, and with Baton's build of Horovod. The ranks of all sides are up at the same time and their
epochs take turns. After five a side starts its ranks anew: processes differ, for as long as they live. The first epoch
of each, in which TensorFlow traces the step, does not count.

Where something else now and then slows one core, ranks that train in step wait for the slower one, however little the
exchange costs. Two lines tell the one from the other. "In step" estimates what the waiting leaves: the ranks that do
not talk, with each of their steps counted as long as the slower one's of the two. "If the exchange took no time" are
Baton's own ranks, less what passes in each step from when the last one has its gradients until they have the mean.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.harness import Comparison, alternate, build_once, say

RUNS = 15
RANKS = 2
EPOCHS = 6  # of a rank's life; the first does not count
SMALL = (
    "model.filters=[32,64],model.convolutions=1,model.batch_normalization=false,model.dropout=0,"
    "train.augment=none,train.label_smoothing=0,train.weight_average=0"
)
COPIES = 12  # of the images: as many as Fashion-MNIST has
SIDES = ("baton", "apart", "bare")
LOOK_EVERY_S = 0.1

Times = list[list[float]]  # of one rank and epoch, by clock: the seconds at which each step came by


def measure(runs: int) -> list[Comparison]:
    dataset = build_once("datasets/fashion-60000", build)
    with tempfile.TemporaryDirectory() as folder, all_workers(dataset, Path(folder)) as sides:
        median = alternate({side: worker_group.epoch for side, worker_group in sides.items()}, runs)
        in_step = statistics.median(pace_in_step(ranks) for ranks in sides["apart"].times)
        exchange, wait = map(statistics.median, zip(*map(meeting, sides["baton"].times), strict=True))
    say(f"of Baton's steps, {exchange:.1%} is the exchange and {wait:.1%} waiting for the slower rank")
    anchors = {
        "two ranks that do not talk": (median["apart"], 0.95),
        "two ranks that do not talk, in step": (median["apart"] * in_step, 0.95),
        "its own ranks, if the exchange took no time": (median["baton"] / (1 - exchange), 0.95),
        "a bare Horovod script": (median["bare"], 0.98),
    }
    return [
        Comparison(against, median["baton"], anchor, goal, "higher", "images/s")
        for against, (anchor, goal) in anchors.items()
    ]


def build(folder: Path) -> None:
    """The dataset of data/fashion.parquet, many times over, as ingest builds it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from baton.data.ingestion import local
    from baton.data.sources import files

    folder.mkdir(parents=True)
    images = pq.read_table("data/fashion.parquet")
    with tempfile.TemporaryDirectory() as aside:
        source = Path(aside) / "fashion.parquet"
        pq.write_table(pa.concat_tables([images] * COPIES), source)
        local.build(settings(), files.resolve(str(source)), folder)


def settings() -> Any:
    """The config of all sides."""
    from baton.config import loading

    return loading.load("conf/fashion.yaml", f"train.epochs={EPOCHS},train.patience={EPOCHS},{SMALL}")


class Workers:
    """The two ranks of a side, as processes; each waits before every epoch until it is told to go."""

    def __init__(self, side: str, dataset: Path, folder: Path):
        self.side, self.dataset, self.folder = side, dataset, folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.done = EPOCHS  # of the ranks that are up: there are none
        self.times: list[list[Times]] = []  # of each epoch that counts and each rank

    def epoch(self) -> float:
        """Images a second of the next epoch, the sum of both ranks."""
        if self.done == EPOCHS:
            self.start()
            self._epoch()  # traces
        told = self._epoch()
        self.times.append([rank["times"] for rank in told])
        return sum(rank["images_a_second"] for rank in told)

    def start(self) -> None:
        """Start ranks, after the last ones have ended, as they do by themselves after their last epoch."""
        from baton.runtime import processes
        from baton.training import horovod

        assert not any(process.wait() for process in self.processes), "a rank failed"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.done = 0
        command = [sys.executable, "-m", "bench.horovod", self.side, str(self.dataset.absolute()), str(self.folder)]
        starts = [
            f"{sys.executable} -m baton.training.horovod --gloo --network-interfaces lo -np 2 -H localhost:2".split()
        ]
        if self.side == "apart":
            starts = [
                ["env", f"HOROVOD_RANK={r}", f"HOROVOD_LOCAL_RANK={r}", f"HOROVOD_LOCAL_SIZE={RANKS}"]
                for r in range(RANKS)
            ]
        environment = {**os.environ, **horovod.environment(RANKS), "TF_CPP_MIN_LOG_LEVEL": "2"}
        environment[processes.DRIVER] = processes.me()
        self.processes = [subprocess.Popen([*s, *command], env=environment, stdout=2, stderr=2) for s in starts]

    def end(self) -> None:
        """End the ranks, whatever they do."""
        from baton.runtime import processes

        for process in self.processes:
            if process.poll() is None:  # the number of one that has ended may be another's by now
                processes.Tree(process.pid).end()

    def _epoch(self) -> list[dict[str, Any]]:
        """What each rank tells of the next epoch."""
        (self.folder / f"{self.done}.go").touch()
        places = [self.folder / f"{self.done}-{rank}.json" for rank in range(RANKS)]
        while not all(place.exists() for place in places):
            assert all(process.poll() in (None, 0) for process in self.processes), "a rank was lost"
            time.sleep(LOOK_EVERY_S)
        self.done += 1
        return [json.loads(place.read_text()) for place in places]


def pace_in_step(ranks: list[Times]) -> float:
    """What is left of the ranks' pace if every step takes as long as the slowest rank's."""
    steps = [[later - earlier for earlier, later in zip(ready, ready[1:], strict=False)] for (ready,) in ranks]
    return sum(map(sum, steps)) / len(steps) / sum(map(max, zip(*steps, strict=True)))


def meeting(ranks: list[Times]) -> tuple[float, float]:
    """The shares of the ranks' steps that are the exchange, once all are there, and waiting for the last one."""
    exchange = wait = whole = 0.0
    last = list(map(max, zip(*(ready for ready, _ in ranks), strict=True)))
    for ready, averaged in ranks:
        exchange += sum(averaged[1:]) - sum(last[1:])
        wait += sum(last[1:]) - sum(ready[1:])
        whole += averaged[-1] - averaged[0]
    return exchange / whole, wait / whole


@contextmanager
def all_workers(dataset: Path, folder: Path) -> Iterator[dict[str, Workers]]:
    """The workers of all sides; whatever happens, no process is left."""
    found = {side: Workers(side, dataset, folder / side) for side in SIDES}
    try:
        yield found
    finally:
        for worker_group in found.values():
            worker_group.end()


def rank(side: str, dataset: str, folder: str) -> None:
    """One rank: train an epoch whenever told to, and leave its images a second in the folder."""
    from baton.data.dataset import Dataset
    from baton.runtime import processes
    from baton.training import horovod

    processes.end_with(os.environ.get(processes.DRIVER), processes.die)
    if side != "bare":
        horovod.keep_to_own_cores()  # as distributed_train's workers do
    loaded, number = Dataset.load(dataset), int(os.environ["HOROVOD_RANK"])
    images = sum(loaded.row_groups("train")[number::RANKS])
    {"baton": baton, "apart": apart, "bare": bare}[side](loaded, turns(Path(folder), number, images))


def turns(folder: Path, number: int, images: int) -> Any:
    """A Keras callback: waits for each epoch's turn, and times it from the first step's begin to the last one's end."""
    import keras

    class Turns(keras.callbacks.Callback):
        clocks: tuple[Clock, ...] = ()  # of the steps, if they are timed

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            while not (folder / f"{epoch}.go").exists():
                time.sleep(LOOK_EVERY_S)
            self.started = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.ended = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            told: dict[str, Any] = {"images_a_second": images / (self.ended - self.started)}
            told["times"] = [clock.read() for clock in self.clocks]
            aside = folder / f"{number}.aside"
            aside.write_text(json.dumps(told))
            aside.rename(folder / f"{epoch}-{number}.json")

    return Turns()


def baton(dataset: Any, watch: Any) -> None:
    """A rank as distributed_train's workers are."""
    from baton.training import fit
    from baton.training.horovod import Horovod

    collective = Horovod()
    collective.hvd = Timed(collective.hvd)
    watch.clocks = collective.hvd.clocks
    fit.train(settings(), dataset, collective=collective, callbacks=[watch])


class Timed:
    """Horovod, with a clock before and after the all-reduce."""

    def __init__(self, hvd: Any):
        self.hvd, self.clocks = hvd, (Clock(), Clock())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.hvd, name)

    def grouped_allreduce(self, gradients: Any, op: Any) -> Any:
        ready, averaged = self.clocks
        return averaged.tick(self.hvd.grouped_allreduce(ready.tick(gradients), op=op))


def apart(dataset: Any, watch: Any) -> None:
    """The same rank's share and steps, by itself."""
    from baton.training import fit
    from baton.training.collective import SingleProcess

    class Silent(SingleProcess):
        rank, size = int(os.environ["HOROVOD_RANK"]), RANKS

        def distribute(self, optimizer: Any) -> Any:
            """Note the time where `Horovod` has the ranks meet."""

            class Clocked(type(optimizer)):  # type: ignore[misc]
                def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
                    return super().apply(clock.tick(grads), trainable_variables)

            optimizer.__class__ = Clocked
            return optimizer

    clock = Clock()
    watch.clocks = (clock,)
    fit.train(settings(), dataset, collective=Silent(), callbacks=[watch])


class Clock:
    """Notes the time of each step within the graph: ranks take apart blocks of steps there."""

    def __init__(self) -> None:
        import tensorflow as tf

        self.times = tf.Variable(tf.zeros([10_000], tf.float64), trainable=False)
        self.count = tf.Variable(0, trainable=False)

    def tick(self, gradients: Any) -> list[Any]:
        """The same gradients, once the time is noted at which all are there; called while the step is traced."""
        import tensorflow as tf

        with tf.control_dependencies(gradients):
            now = tf.timestamp()
        noted = self.times.scatter_nd_update([[self.count]], [now])
        with tf.control_dependencies([noted, self.count.assign_add(1)]):
            return [tf.identity(gradient) for gradient in gradients]

    def read(self) -> list[float]:
        """The seconds since 1970 at which each step of the epoch came by; begins anew."""
        times = self.times[: self.count].numpy()
        self.count.assign(0)
        return times.tolist()


def bare(dataset: Any, watch: Any) -> None:
    """The same network, batch and steps by hand: arrays in memory, Keras' fit, an all-reduce before `apply`."""
    import horovod.tensorflow as hvd
    import keras
    import numpy as np
    import tensorflow as tf

    from baton.data.feed import Feed
    from baton.networks import build as models

    hvd.init()
    config, preprocessor = settings().sized(dataset.rows["train"]), dataset.preprocessor
    size = config.train.batch_size
    rows = Feed(dataset, "train", size, shard=(hvd.rank(), hvd.size())).arrays()
    pixels = rows["image"].astype(np.float32)
    network = models.build(preprocessor, config.model)

    class Averaged(keras.optimizers.AdamW):
        def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
            return super().apply(hvd.grouped_allreduce(grads, op=hvd.Average), trainable_variables)

    network.compile(
        Averaged(config.train.learning_rate, weight_decay=config.train.weight_decay, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(),
        steps_per_execution=config.train.steps_per_execution,
    )
    hvd.broadcast_variables([v.value for v in network.variables], root_rank=0)
    steps = -(-max(sum(dataset.row_groups("train")[r::RANKS]) for r in range(RANKS)) // size)
    data = tf.data.Dataset.from_tensor_slices((pixels, rows["target"])).shuffle(len(pixels)).repeat().batch(size)
    data = data.map(lambda image, label: ({"image": image}, label))
    network.fit(data.prefetch(2), epochs=EPOCHS, steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=[watch])


if __name__ == "__main__":
    rank(*sys.argv[1:])
