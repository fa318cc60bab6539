"""The training feed: five epochs of the flights' encoded train split, from disk, in batches of 256.

Setting the feed up and reading the files count; all batches are taken within one graph, as training takes them.
Baton: `Feed.stream`, which feeds every training; each epoch has each row once, in a new order. The
alternatives: what the Databricks course teaches, `make_spark_converter` and `make_tf_dataset(batch_size=256)`,
which shuffles row groups only, at the pace at which it trains a network (dense 128-64), and bare; Spark's part
is done before. And petastorm's reader alone, which hands over row groups, neither shuffled nor in batches.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from baton.data.feed import Feed
from bench import inputs
from bench.harness import KEPT, Comparison, alternate, rate
from bench.spark import spark_session

RUNS = 5
EPOCHS = 5
WORKERS = 4  # of petastorm's readers; the course's
AGAINST = {
    "course": ("make_spark_converter, make_tf_dataset, fit", 8.0),
    "bare": ("make_spark_converter, make_tf_dataset, no fit", 1.0),
    "reader": ("petastorm's reader alone", 0.25),
}


def measure(runs: int = RUNS, epochs: int = EPOCHS) -> list[Comparison]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    dataset = inputs.dataset()
    rows, drain, drain_blocks = dataset.rows["train"] * epochs, drainer(batch_rows), drainer(block_rows)
    with converted(dataset) as converter:
        model = network(len(dataset.preprocessor.encoded))
        sides = {
            "baton": lambda: baton(dataset, epochs, drain_blocks),
            "course": lambda: course(converter, epochs, lambda batches: fit_batches(model, batches)),
            "bare": lambda: course(converter, epochs, drain),
            "reader": lambda: reader(dataset, epochs),
        }
        exact = {name: checked(side, rows) for name, side in sides.items()}
        for side in exact.values():
            side(rows)  # traced, imported
        medians = alternate({name: rate(side, rows) for name, side in exact.items()}, runs)
    return [
        Comparison(against, medians["baton"], medians[name], goal, "higher", "rows/s")
        for name, (against, goal) in AGAINST.items()
    ]


def checked(side: Callable[[], int], rows: int) -> Callable[[int], None]:
    """A side that says how many rows it saw → one that raises `ValueError` if those are not all."""

    def counted(_: int) -> None:
        seen = side()
        if seen != rows:
            raise ValueError(f"{seen} rows were fed, of {rows}")

    return counted


def baton(dataset: Any, epochs: int, drain: Callable[[Any], int]) -> int:
    """Baton's feed → how many rows it fed; rows of weight zero are none."""
    feed = Feed(dataset, "train", inputs.BATCH, seed=7)
    blocks, rows = feed.stream(), 0
    for feed.epoch in range(epochs):
        rows += drain(blocks)
    return rows


def course(converter: Any, epochs: int, use: Callable[[Any], int]) -> int:
    """The course's feed, used somehow → how many rows it fed."""
    with converter.make_tf_dataset(batch_size=inputs.BATCH, num_epochs=epochs, workers_count=WORKERS) as batches:
        return use(batches.map(lambda batch: (batch.features, batch.target)))


def reader(dataset: Any, epochs: int) -> int:
    """Petastorm's reader of the same columns → how many rows it read."""
    from petastorm import make_batch_reader

    urls = [file.absolute().as_uri() for file in dataset.files("train")]
    with make_batch_reader(urls, num_epochs=epochs, workers_count=WORKERS) as groups:
        return sum(len(group[0]) for group in groups)


def drainer(rows_of: Callable[[Any], Any]) -> Callable[[Any], int]:
    """What takes every element of a tf.data.Dataset within one graph → how many rows those held."""
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def drain(elements: Any) -> Any:
        total = tf.constant(0.0)
        for element in elements:
            total += rows_of(element)
        return total

    return lambda elements: int(drain(elements))


def batch_rows(batch: Any) -> Any:
    """A batch of (features, target) → its rows."""
    import tensorflow as tf

    return tf.cast(tf.shape(batch[1])[0], tf.float32)


def block_rows(block: Any) -> Any:
    """A block's rows by their weight, batch after batch, each taken out of the block whole as a step takes it."""
    import tensorflow as tf

    def step(index: Any, total: Any) -> Any:
        inputs, _, weight = tf.nest.map_structure(lambda stacked: stacked[index], block)
        with tf.control_dependencies(tf.nest.flatten(inputs)):
            return index + 1, total + tf.reduce_sum(weight)

    count = tf.shape(block[2])[0]
    return tf.while_loop(lambda index, _: index < count, step, [0, 0.0], parallel_iterations=1)[1]


def network(width: int) -> Any:
    """A compiled network as the course's, for `width` features."""
    import keras

    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input([width]), dense(128, "relu"), dense(64, "relu"), dense(1)])
    model.compile("adam", "mse")
    return model


def fit_batches(model: Any, batches: Any) -> int:
    """Train on all batches → how many rows those were."""
    import tensorflow as tf

    rows = tf.Variable(0)

    def counted(features: Any, target: Any) -> Any:
        rows.assign_add(tf.shape(target)[0])
        return features, target

    model.fit(batches.map(counted), verbose=0)
    return int(rows)


@contextmanager
def converted(dataset: Any) -> Iterator[Any]:
    """A Spark converter of the train split, its features in one array column."""
    from petastorm.spark import SparkDatasetConverter, make_spark_converter
    from pyspark.sql.functions import array, col

    fitted = dataset.preprocessor
    with spark_session() as spark:
        cache = (KEPT / "converter").absolute()
        cache.mkdir(parents=True, exist_ok=True)
        spark.conf.set(SparkDatasetConverter.PARENT_CACHE_DIR_URL_CONF, cache.as_uri())
        frame = spark.read.parquet(*map(str, dataset.files("train")))
        features = array(*(col(column.name).cast("float") for column in fitted.encoded)).alias("features")
        converter = make_spark_converter(frame.select(features, col(fitted.target_encoded).alias("target")))
        try:
            yield converter
        finally:
            converter.delete()
