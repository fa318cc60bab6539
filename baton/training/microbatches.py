"""A batch of pictures in, one training step out: the network sees a part of the batch at a time.

What a layer puts out for a large batch has left the processor's cache when the next layer reads it, and all of it
is kept until backpropagation. The gradients of parts add up to the batch's (Huang et al., "GPipe", 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

CACHED = 4 << 20  # bytes of a layer's output that the next one finds in the cache
MIN_ROWS = 8  # rows of a part


def train_step(model: keras.Model, batch_size: int) -> Callable[[Any], Any]:
    """A compiled model → what takes a training step on (inputs, target, weight) of `batch_size` rows, within a graph.

    The step is that of `keras.Model.train_step`, but for the order of sums and what dropout draws.
    """
    part = rows(model, batch_size)
    if part == batch_size:
        return model.train_step
    return lambda batch: _in_parts(model, batch, batch_size, part)


def rows(model: keras.Model, batch_size: int) -> int:
    """Of a batch, the rows that go through the network at a time: all where they are small, or have to be together."""
    everything = model._flatten_layers()  # layers within layers, too
    # What is frozen normalises by statistics that it has, not by its batch's.
    if any(isinstance(layer, keras.layers.BatchNormalization) and layer.trainable for layer in everything):
        return batch_size
    outputs = [output.shape for layer in model.layers for output in keras.tree.flatten(layer.output)]
    pictures = [4 * math.prod(shape[1:]) for shape in outputs if len(shape) == 4]
    if not pictures:
        return batch_size
    parts = math.ceil(batch_size / max(MIN_ROWS, CACHED // max(pictures)))
    return math.ceil(batch_size / parts)


def _in_parts(model: keras.Model, batch: Any, size: int, part: int) -> None:
    import tensorflow as tf

    variables = [variable.value for variable in model.trainable_variables]
    loss_of_epoch = next(metric for metric in model.metrics if metric.name == "loss")

    def add(start: Any, *held: Any) -> Any:
        inputs, target, weight = tf.nest.map_structure(lambda values: values[start : start + part], batch)
        count = tf.shape(weight)[0]  # the last part may be smaller
        with tf.GradientTape() as tape:
            output = model(inputs, training=True)
            loss = model.compute_loss(inputs, target, output, weight, training=True)
            share = loss * (tf.cast(count, loss.dtype) / size)
        loss_of_epoch.update_state(loss, sample_weight=count)
        model.compute_metrics(inputs, target, output, weight)
        gradients = tape.gradient(share, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return start + part, *(total + gradient for total, gradient in zip(held, gradients, strict=True))

    zeros = [tf.zeros_like(variable) for variable in variables]
    _, *gradients = tf.while_loop(lambda start, *_: start < size, add, [0, *zeros], parallel_iterations=1)
    model.optimizer.apply(gradients, model.trainable_variables)
