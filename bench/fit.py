"""An epoch of training, the same network (dense 128-64 on the flights' numbers), optimizer and batches of 256.

Baton: `fit.train` from the dataset on disk, from an epoch's first step to its last (validation comes after).
The alternatives: Keras' `fit` on the same rows as NumPy arrays in memory, as it is by default, and with
`steps_per_execution=32`. Baton's epochs and theirs take turns within one process; the first of each, in which
TensorFlow traces the step, does not count.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from bench import inputs
from bench.harness import Comparison, say

RUNS = 9


def measure(runs: int = RUNS) -> list[Comparison]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    config = inputs.config(data={"drop": inputs.NOT_NUMBERS}, train={"epochs": runs + 1, "patience": runs + 1})
    dataset = inputs.numbers()
    config = config.sized(dataset.rows["train"])  # the alternatives compile with the same learning rate
    sides = {steps: in_memory(config, dataset, steps) for steps in (1, 32)}
    found = take_turns(config, dataset, sides)
    medians = {name: dataset.rows["train"] / statistics.median(seconds[1:]) for name, seconds in found.items()}
    return [
        Comparison("Keras fit in memory", medians["baton"], medians["1"], 2.0, "higher", "rows/s"),
        Comparison(
            "Keras fit in memory, steps_per_execution=32", medians["baton"], medians["32"], 0.95, "higher", "rows/s"
        ),
    ]


def take_turns(config: Any, dataset: Any, sides: dict[int, Callable[[], Any]]) -> dict[str, list[float]]:
    """Train with Baton, the other sides' epochs in between → seconds of every epoch of each."""
    import keras

    from baton.training import callbacks, fit

    found: dict[str, list[float]] = {"baton": [], **{str(steps): [] for steps in sides}}

    class Turns(keras.callbacks.Callback):
        """Times Baton's epoch by its first and last step, then lets the others have theirs."""

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.started = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.ended = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            found["baton"].append(self.ended - self.started)
            for steps, side in sides.items():
                started = time.perf_counter()
                side()
                found[str(steps)].append(time.perf_counter() - started)
            say(f"{epoch}: " + ", ".join(f"{name} {seconds[-1]:.3f} s" for name, seconds in found.items()))

    fit.train(config, dataset, callbacks=[callbacks.ProgressBar(config), Turns()])
    return found


def in_memory(config: Any, dataset: Any, steps_per_execution: int) -> Callable[[], Any]:
    """The same model, compiled alike, and all rows in memory → what trains it for an epoch."""
    from baton.data.feed import Feed

    feed = Feed(dataset, "train", inputs.BATCH)
    rows = feed.arrays()
    target = rows.pop("target")
    model = compiled(config, dataset, feed.steps, steps_per_execution)
    return lambda: model.fit(rows, target, batch_size=inputs.BATCH, verbose=0)


def compiled(config: Any, dataset: Any, steps: int, steps_per_execution: int) -> Any:
    """The model that `fit.train` trains, with the same weights, loss, metrics and optimizer."""
    import keras

    from baton.networks import build, optimizers

    keras.utils.set_random_seed(config.seed)
    model = build.build(dataset.preprocessor, config.model)
    optimizers.compile_model(model, dataset.preprocessor, config.train, optimizers.optimizer(config.train, steps))
    model.steps_per_execution = steps_per_execution
    return model
