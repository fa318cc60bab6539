"""A base with a head that was fitted already in, the network with its last blocks, or all, trained further out.

The head comes first (Kumar et al., "Fine-tuning can distort pretrained features", 2022), batch normalisation keeps the
statistics that it came with, and the deeper a block lies below the head, the slower it learns (Howard and Ruder, 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from baton.networks import optimizers
from baton.training import loop
from baton.training.callbacks import Result
from baton.training.transfer.probes import Probe
from baton.training.transfer.task import Task

LAST = 2  # blocks that learn after the head, where not all do
RATE = 0.1  # of the head and the last block, as a share of train.learning_rate
FALL = 0.7  # of each block below, as a share of the next one's


def with_head(network: keras.Model, probe: Probe) -> None:
    """Let the network's head give what the probe gives."""
    network.get_layer("head").set_weights([probe.kernel.astype(np.float32), probe.bias.astype(np.float32)])


def finetune(network: keras.Model, ends: Sequence[str], last: int, task: Task) -> Result:
    """A network of a base whose blocks end at these layers, and a fitted head → trained, its `last` blocks as well."""
    blocks = blocks_of(network, ends)
    _freeze(network, blocks, len(ends) - last)
    settings = task.config.train
    made = optimizers.optimizer(settings, task.feed.steps)
    made.exclude_from_weight_decay([v for layer in network.layers if layer.name in blocks for v in layer.variables])
    rates = rates_of(network, blocks, len(ends))
    optimizers.compile_model(network, task.feed.preprocessor, settings, task.collective.distribute(slowed(made, rates)))
    try:
        return loop.fit(
            network, task.feed, task.validation, task.config, task.collective, task.callbacks, task.on_epoch,
            task.checkpoint,
        )  # fmt: skip
    finally:
        for layer in network.layers:  # the model that is kept is like any other
            layer.trainable = True


def blocks_of(network: keras.Model, ends: Sequence[str]) -> dict[str, int]:
    """{layer of the base: the number of its block, 1 the shallowest}; layers behind the last end are the head's."""
    blocks, number = dict[str, int](), 1
    for layer in network.layers:
        if number > len(ends):
            break
        blocks[layer.name] = number
        number += layer.name in ends
    return blocks


def rates_of(network: keras.Model, blocks: dict[str, int], depth: int) -> list[float]:
    """The share of the learning rate of each trainable variable, in the network's order."""
    own = {id(v): blocks.get(layer.name, depth) for layer in network.layers for v in layer.trainable_variables}
    return [RATE * FALL ** (depth - own[id(variable)]) for variable in network.trainable_variables]


def slowed(optimizer: Any, rates: Sequence[float]) -> Any:
    """An optimizer that takes each of its variables' steps at a share of the learning rate, in their order."""

    class Slowed(type(optimizer)):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(gradient, variable, learning_rate * rates[self._get_variable_index(variable)])

    optimizer.__class__ = Slowed
    return optimizer


def _freeze(network: keras.Model, blocks: dict[str, int], frozen: int) -> None:
    for layer in network.layers:
        normalizes = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = blocks.get(layer.name, frozen + 1) > frozen and not normalizes
