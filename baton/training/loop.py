"""A compiled model and feeds in, its best weights out: Keras' fit, a training step on each batch of a block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from baton.config.schema import Config
from baton.data.feed import Feed
from baton.runtime import heartbeat
from baton.training import microbatches
from baton.training.callbacks import BestWeights, Epoch, OnEpoch, Result
from baton.training.checkpoints import Checkpoint
from baton.training.collective import Collective


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
