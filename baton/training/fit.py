"""The one training path: a model, feeds and a `Fit` config in, the best weights and a history out.

train, tune and distributed_train all call `fit`; distribution is handed in as a `Collective`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from baton.config.schema import AUGMENT, Config
from baton.data.dataset import Dataset
from baton.data.feed import Feed
from baton.evaluation import thresholds
from baton.networks import build, initialization, optimizers
from baton.networks.prediction import PREDICT_ROWS
from baton.runtime import heartbeat
from baton.training import flips, microbatches
from baton.training.augmentation import Augmentation
from baton.training.callbacks import BestWeights, Epoch, OnEpoch, Result
from baton.training.checkpoints import Checkpoint
from baton.training.collective import Collective, SingleProcess

log = logging.getLogger("baton")

PICTURES = 16  # that are shown as they are and as they are trained on


def train(
    config: Config,
    dataset: Dataset,
    *,
    collective: Collective | None = None,
    callbacks: list[keras.callbacks.Callback] | None = None,
    on_epoch: OnEpoch | None = None,
    checkpoint: Checkpoint | None = None,
    train_shards: int = 1,
) -> Result:
    """Config and dataset → a trained `Result`; raises `Diverged` when the loss is not finite.

    With a `checkpoint` that holds a state, training goes on after its epoch, to the same end.
    `train_shards` > 1 trains on that fraction of the row groups, as trials of a search do.
    """
    collective = collective or SingleProcess()
    config = config.sized(dataset.rows["train"])
    shard = (collective.rank, collective.size)
    feed = Feed(
        dataset,
        "train",
        config.train.batch_size,
        seed=config.seed,
        shard=shard if train_shards == 1 else (0, train_shards),
        shuffle_rows=config.train.shuffle_rows,
        block_batches=config.train.steps_per_execution,
        class_weights=thresholds.weights(config.train.class_weights, dataset.preprocessor.spec["target"]),
    )
    validation = Feed(dataset, "validation", PREDICT_ROWS, shard=shard, shuffle_rows=config.train.shuffle_rows)
    return train_on(config, feed, validation, collective, callbacks or [], on_epoch, checkpoint)


def train_on(
    config: Config,
    feed: Feed,
    validation: Feed,
    collective: Collective,
    callbacks: list[keras.callbacks.Callback],
    on_epoch: OnEpoch | None = None,
    checkpoint: Checkpoint | None = None,
) -> Result:
    """Config, its sizes filled in, and feeds → a new network, trained."""
    preprocessor = feed.preprocessor
    feed.augmentation = augmentation_of(config, feed, validation, collective)
    keras.utils.set_random_seed(config.seed)  # not sooner: what is imported when rows are first read draws numbers too
    model = build.build(preprocessor, config.model)
    initialization.initialize(model, preprocessor, feed.in_order())
    made = optimizers.optimizer(config.train, feed.steps)
    optimizers.compile_model(model, preprocessor, config.train, collective.distribute(made))
    result = fit(model, feed, validation, config, collective, callbacks, on_epoch, checkpoint)
    if feed.augmentation:
        result.augmentation, result.pictures = feed.augmentation.to_dict(), _before_and_after(feed)
    return result


def augmentation_of(config: Config, feed: Feed, validation: Feed, collective: Collective) -> Augmentation | None:
    """What the config does to pictures; whether they may be flipped, the first process finds out for all."""
    settings = AUGMENT if config.train.augment == "auto" else config.train.augment
    if settings == "none" or not feed.preprocessor.names("image"):
        return None
    if settings.flip == "auto":
        mine = collective.rank == 0 and flips.classes_stay(next(feed.in_order()), next(validation.in_order()))
        settings = settings.model_copy(update={"flip": bool(collective.sum(np.array([float(mine)]))[0])})
    augmentation = Augmentation(settings, config.seed, len(feed.preprocessor.classes))
    log.info("pictures are augmented: %s", augmentation)
    return augmentation


def _before_and_after(feed: Feed) -> tuple[np.ndarray, np.ndarray]:
    """A few train pictures, and what the first epoch makes of them."""
    rows = {name: values[:PICTURES].copy() for name, values in next(feed.in_order()).items()}
    return rows["image"], feed.augmentation(rows, 0, PICTURES)["image"]


def fit(
    model: keras.Model,
    feed: Feed,
    validation: Feed,
    config: Config,
    collective: Collective,
    callbacks: list[keras.callbacks.Callback],
    on_epoch: OnEpoch | None = None,
    checkpoint: Checkpoint | None = None,
) -> Result:
    """A compiled model and feeds → the best weights by the validation metric, restored."""
    model.optimizer.build(model.trainable_variables)
    result = Result(model)
    keeper = BestWeights(config, feed, validation, collective, result, on_epoch, checkpoint)
    first = keeper.resume()
    collective.broadcast(model)
    if first and keeper.patience_is_over(first - 1):
        first = config.train.epochs
    model.train_function, model.steps_per_execution = (
        each_batch(model, feed.batch_size),
        1,
    )  # of Keras' steps; each takes a block
    # Of a training that had ended no epoch is left: then this only lets MLflow's autologging know of it.
    model.fit(
        feed.stream(),
        initial_epoch=first,
        epochs=config.train.epochs,
        verbose=0,
        shuffle=False,  # the feed shuffles
        callbacks=[Epoch(feed), keeper, *callbacks],
    )
    result.seconds = keeper.seconds()
    keeper.restore()
    return result


def each_batch(model: keras.Model, batch_size: int) -> Callable[[Any], dict[str, Any]]:
    """What Keras' fit calls with an iterator of blocks: a training step on each batch of the next one.

    Keras' own loop over steps asks the iterator for every batch; each time threads hand over, and with a
    core a process that takes longer than many a step.
    """
    import tensorflow as tf

    train_step, beat = microbatches.train_step(model, batch_size), heartbeat.beat_in_graph()

    @tf.function(autograph=False)
    def train(iterator: Any) -> dict[str, Any]:
        block = next(iterator)

        def step(index: Any) -> Any:
            train_step(tf.nest.map_structure(lambda stacked: stacked[index], block))
            beat()
            return index + 1

        tf.while_loop(lambda index: index < tf.shape(block[-1])[0], step, [0])
        return model.get_metrics_result()

    return train
