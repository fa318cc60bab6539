"""Two Horovod ranks with a core each, Baton's cnn on 60,000 images (5,000 of Fashion-MNIST, twelve times),
batches as Baton sizes them: images a second, epochs from the second on, from an epoch's first step to its last.
Against two single processes that train the same share each, side by side, without talking; and against a bare
Horovod script of the same network, with Keras' own fit on arrays in memory and an all-reduce in the optimizer.
All with 1 thread a rank, and with Baton's build of Horovod.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.harness import Comparison, alternate, made

RUNS = 9
EPOCHS, RANKS = 3, 2
COPIES = 12  # of the images: as many as Fashion-MNIST has
SIDES = ("baton", "apart", "bare")


def measure(runs: int) -> list[Comparison]:
    dataset = made("datasets/fashion-60000", build)
    median = alternate({side: functools.partial(images_a_second, side, dataset) for side in SIDES}, runs)
    return [
        Comparison("two ranks that do not talk", median["baton"], median["apart"], 0.95, "higher", "images/s"),
        Comparison("a bare Horovod script", median["baton"], median["bare"], 0.98, "higher", "images/s"),
    ]


def build(folder: Path) -> None:
    """The dataset of data/fashion.parquet, many times over, as ingest builds it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from baton import building, sources

    folder.mkdir(parents=True)
    images = pq.read_table("data/fashion.parquet")
    with tempfile.TemporaryDirectory() as aside:
        source = Path(aside) / "fashion.parquet"
        pq.write_table(pa.concat_tables([images] * COPIES), source)
        building.build(settings(), sources.resolve(str(source)), folder)


def settings() -> Any:
    """The config of all sides."""
    from baton import config

    changes = f"train.epochs={EPOCHS},train.patience={EPOCHS}"
    return config.load("conf/fashion.yaml", changes)


def images_a_second(side: str, dataset: Path) -> float:
    """The sum of both ranks."""
    from baton import horovod

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench.horovod", side, str(dataset.absolute()), folder]
        environment = {**os.environ, **horovod.environment(RANKS), "TF_CPP_MIN_LOG_LEVEL": "2"}
        starts = [f"{sys.executable} -m baton.horovod --gloo --network-interfaces lo -np 2 -H localhost:2".split()]
        if side == "apart":
            starts = [
                ["env", f"HOROVOD_RANK={r}", f"HOROVOD_LOCAL_RANK={r}", f"HOROVOD_LOCAL_SIZE={RANKS}"]
                for r in range(RANKS)
            ]
        ranks = [subprocess.Popen([*start, *command], env=environment, stdout=2, stderr=2) for start in starts]
        assert [rank.wait() for rank in ranks] == [0] * len(ranks)
        return sum(json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(RANKS))


def rank(side: str, dataset: str, folder: str) -> None:
    """One rank: train, and leave its images a second in the folder."""
    from baton import horovod
    from baton.dataset import Dataset

    if side != "bare":
        horovod.keep_to_own_cores()  # as distributed_train's workers do
    timer = {"baton": baton, "apart": apart, "bare": bare}[side](Dataset.load(dataset))
    (Path(folder) / f"{os.environ['HOROVOD_RANK']}.json").write_text(json.dumps(timer.images_a_second()))


def timer(images: int) -> Any:
    """A Keras callback that times epochs, from the first step's begin to the last one's end."""
    import keras

    class Timer(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.started = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.ended = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seconds.append(self.ended - self.started)

        def images_a_second(self) -> float:
            return images / statistics.median(self.seconds[1:])

    return Timer()


def images_of(dataset: Any) -> int:
    """How many images a rank sees in an epoch."""
    return sum(dataset.row_groups("train")[int(os.environ["HOROVOD_RANK"]) :: RANKS])


def baton(dataset: Any) -> Any:
    """A rank as distributed_train's workers are."""
    from baton import fit
    from baton.horovod import Horovod

    watch = timer(images_of(dataset))
    fit.train(settings(), dataset, collective=Horovod(), callbacks=[watch])
    return watch


def apart(dataset: Any) -> Any:
    """The same rank's share and steps, by itself."""
    from baton import fit
    from baton.collective import Alone

    class Silent(Alone):
        rank, size = int(os.environ["HOROVOD_RANK"]), RANKS

    watch = timer(images_of(dataset))
    fit.train(settings(), dataset, collective=Silent(), callbacks=[watch])
    return watch


def bare(dataset: Any) -> Any:
    """The same network, batch and steps by hand: arrays in memory, Keras' fit, an all-reduce before `apply`."""
    import horovod.tensorflow as hvd
    import keras
    import numpy as np
    import tensorflow as tf

    from baton import models
    from baton.feed import Feed, image_decoder

    hvd.init()
    config, fitted = settings().sized(dataset.rows["train"]), dataset.preprocessor
    size = config.train.batch_size
    rows = Feed(dataset, "train", size, shard=(hvd.rank(), hvd.size())).arrays()
    pixels = np.concatenate([image_decoder(fitted.image_size)(tf.constant([p])).numpy() for p in rows["image"]])
    network = models.build(fitted, config.model)

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
    watch = timer(images_of(dataset))
    data = data.map(lambda image, label: ({"image": image}, label))
    network.fit(data.prefetch(2), epochs=EPOCHS, steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=[watch])
    return watch


if __name__ == "__main__":
    rank(*sys.argv[1:])
