"""Several steps of each optimizer on a fixed batch: whole in one process, or in halves by two workers.

Run by `horovodrun -np 2 python tests/support/horovod_halves.py FOLDER`; each rank writes its weights there.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from baton.config.schema import Fit
from baton.networks.layers import CategoryEmbedding
from baton.networks.optimizers import optimizer
from baton.training.collective import SingleProcess

OPTIMIZERS = ("sgd", "momentum", "adam")
STEPS, ROWS = 6, 32


def batches() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Numbers, codes and targets of each step; the same in every process."""
    rng = np.random.default_rng(4)
    shape = (STEPS, ROWS)
    numbers = rng.normal(size=(*shape, 3)).astype(np.float32)
    codes = rng.integers(0, 5, (*shape, 2)).astype(np.int32)
    return list(zip(numbers, codes, numbers.sum(-1) + codes[..., 0], strict=True))


def network(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    numbers, codes = keras.Input([3]), keras.Input([2], dtype="int32")
    joined = keras.layers.Concatenate()([numbers, CategoryEmbedding([5, 5], 2)(codes)])
    return keras.Model([numbers, codes], keras.layers.Dense(1)(keras.layers.Dense(8, "tanh")(joined)))


def trained(name: str, collective: SingleProcess) -> list[np.ndarray]:
    """The weights after `STEPS` steps on this process's part of every batch."""
    model = network(seed=1 + collective.rank)  # rank 0's weights must win
    fit = Fit(optimizer=name, learning_rate=0.05, epochs=1, schedule="cosine", warmup_epochs=0.5)
    model.compile(collective.distribute(optimizer(fit, STEPS)), "mse")
    model.optimizer.build(model.trainable_variables)
    collective.broadcast(model)
    mine = slice(collective.rank, None, collective.size)
    for numbers, codes, target in batches():
        model.train_on_batch([numbers[mine], codes[mine]], target[mine])
    return model.get_weights()


if __name__ == "__main__":
    from baton.training.horovod import Horovod

    tf.get_logger().setLevel("ERROR")
    together = Horovod()
    weights = {name: trained(name, together) for name in OPTIMIZERS}
    arrays = {f"{name}_{i}": value for name, values in weights.items() for i, value in enumerate(values)}
    total = together.sum(np.array([1.0, together.rank, 2.0**60]))
    np.savez(Path(sys.argv[1]) / f"rank{together.rank}.npz", size=together.size, total=total, **arrays)
