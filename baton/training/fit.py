"""The one training path: a model, feeds and a `Fit` config in, the best weights and a history out.

train, tune and distributed_train all call `fit`; distribution is handed in as a `Collective`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from baton.config.schema import Config
from baton.data.dataset import Dataset
from baton.data.feed import Feed, image_decoder
from baton.data.preprocessing import Preprocessor
from baton.errors import Diverged
from baton.evaluation import metrics, thresholds
from baton.networks import build
from baton.training import microbatches
from baton.training.checkpoints import Checkpoint, State
from baton.training.collective import Alone

log = logging.getLogger("baton")


PREDICT_ROWS = 8192
OnEpoch = Callable[[int, dict[str, float]], None]


@dataclass
class Result:
    """A trained model with its best weights, and how it got there."""

    model: keras.Model
    history: dict[str, list[float]] = field(default_factory=dict)
    best_epoch: int = 0
    best_value: float = math.inf
    seconds: float = 0.0
    restarts: int = 0  # after the loss of a worker
    waited: float = 0.0  # seconds until the workers were up


def train(
    config: Config,
    dataset: Dataset,
    *,
    collective: Alone | None = None,
    callbacks: list[keras.callbacks.Callback] | None = None,
    on_epoch: OnEpoch | None = None,
    checkpoint: Checkpoint | None = None,
    train_shards: int = 1,
) -> Result:
    """Config and dataset → a trained `Result`; raises `Diverged` when the loss is not finite.

    With a `checkpoint` that holds a state, training goes on after its epoch, to the same end.
    `train_shards` > 1 trains on that fraction of the row groups, as trials of a search do.
    """
    collective = collective or Alone()
    config = config.sized(dataset.rows["train"])
    keras.utils.set_random_seed(config.seed)
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
    collective: Alone,
    callbacks: list[keras.callbacks.Callback],
    on_epoch: OnEpoch | None = None,
    checkpoint: Checkpoint | None = None,
) -> Result:
    """Config, its sizes filled in, and feeds → a new network, trained."""
    fitted = feed.preprocessor
    model = build.build(fitted, config.model)
    build.begin(model, fitted, feed.in_order())
    made = build.optimizer(config.train, feed.steps)
    build.compile_model(model, fitted, config.train, collective.distribute(made))
    return fit(model, feed, validation, config, collective, callbacks, on_epoch, checkpoint)


def fit(
    model: keras.Model,
    feed: Feed,
    validation: Feed,
    config: Config,
    collective: Alone,
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

    train_step = microbatches.train_step(model, batch_size)

    @tf.function(autograph=False)
    def train(iterator: Any) -> dict[str, Any]:
        block = next(iterator)

        def step(index: Any) -> Any:
            train_step(tf.nest.map_structure(lambda stacked: stacked[index], block))
            return index + 1

        tf.while_loop(lambda index: index < tf.shape(block[-1])[0], step, [0])
        return model.get_metrics_result()

    return train


class Epoch(keras.callbacks.Callback):
    """Tells the feed which epoch begins: its order is a function of seed and epoch."""

    def __init__(self, feed: Feed):
        super().__init__()
        self.feed = feed

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.feed.epoch = epoch


class BestWeights(keras.callbacks.Callback):
    """Validation, early stopping, best weights and checkpoints, decided alike on every process.

    All of it hangs on sums that are added up over processes, so no process can stop alone (the
    others' all-reduce would wait for ever) and the metric is that of the whole validation split.
    """

    def __init__(
        self,
        config: Config,
        feed: Feed,
        validation: Feed,
        collective: Alone,
        result: Result,
        on_epoch: OnEpoch | None,
        checkpoint: Checkpoint | None,
    ):
        super().__init__()
        self.config, self.collective, self.result = config, collective, result
        self.on_epoch_done, self.checkpoint = on_epoch, checkpoint
        self.validation = validation
        self.weights: list[np.ndarray] = []
        rows = collective.sum(np.array([float(feed.rows)]))[0]
        self.padding = feed.steps * feed.batch_size * collective.size / rows
        self.started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        self._share_statistics()
        self._average(logs)
        logs.update({f"val_{name}": value for name, value in self._validate().items()})
        value = logs[f"val_{self.config.primary_metric}"]
        if not (math.isfinite(value) and math.isfinite(logs["loss"])):
            raise Diverged(f"Training diverged in epoch {epoch + 1}: the loss is not finite. Lower the learning rate.")
        if value < self.result.best_value:
            self.result.best_value, self.result.best_epoch = value, epoch
            self.weights = self.model.get_weights()
        elif self.patience_is_over(epoch):
            self.model.stop_training = True
        for name, number in logs.items():
            self.result.history.setdefault(name, []).append(float(number))
        if self.collective.rank == 0:
            self._save(epoch)
            if self.on_epoch_done:
                self.on_epoch_done(epoch, {name: float(number) for name, number in logs.items()})

    def restore(self) -> None:
        if self.weights:
            self.result.model.set_weights(self.weights)

    def patience_is_over(self, epoch: int) -> bool:
        patience = self.config.train.patience
        return patience is not None and epoch - self.result.best_epoch >= patience

    def seconds(self) -> float:
        """Spent on training, interrupted runs' saved epochs included."""
        return time.monotonic() - self.started

    def resume(self) -> int:
        """Take over the state that the checkpoint holds; return the epoch to begin with."""
        state = self._found()
        if state is None:
            return 0
        for variable, value in zip(self._variables(), state.variables, strict=True):
            variable.assign(value)
        self.weights, self.started = state.best, self.started - state.seconds
        self.result.history = state.history
        self.result.best_epoch, self.result.best_value = state.best_epoch, state.best_value
        if self.collective.rank == 0 and self.on_epoch_done:
            for epoch, logs in enumerate(state.logs()):
                self.on_epoch_done(epoch, logs)
        return state.epoch + 1

    def _found(self) -> State | None:
        """The state to go on from, if every process has read the same and it fits the model."""
        if self.checkpoint is None:
            return None
        state = self.checkpoint.load()
        if state and [v.shape for v in state.variables] != [tuple(v.shape) for v in self._variables()]:
            log.warning("The checkpoint %s is of another network and not used.", self.checkpoint.path)
            state = None
        mark = float(state.digest() if state else 0)
        total, squares = self.collective.sum(np.array([mark, mark * mark]))
        return state if total * total == squares * self.collective.size else None

    def _variables(self) -> list[Any]:
        """All that training changes: weights, statistics, the state of dropout, the optimizer's."""
        model = self.result.model
        return [*model.variables, *model.optimizer.variables]

    def _validate(self) -> dict[str, float]:
        mine = sum(metrics.partial_sums(truth, output) for truth, output in outputs(self.model, self.validation))
        sums = self.collective.sum(np.asarray(mine))
        return metrics.from_sums(sums, regression=not self.validation.preprocessor.classes)

    def _share_statistics(self) -> None:
        """Batch normalization's moving statistics as the mean over processes: no gradient evens them out."""
        for variable in self.model.non_trainable_weights if self.collective.size > 1 else ():
            mean = self.collective.sum(variable.numpy().astype(np.float64)) / self.collective.size
            variable.assign(mean.astype(variable.dtype))

    def _average(self, logs: dict[str, Any]) -> None:
        """Train metrics as the mean over processes; each has the same number of steps."""
        keys = sorted(logs)
        mean = self.collective.sum(np.array([float(logs[k]) for k in keys])) / self.collective.size
        logs.update({key: float(value) for key, value in zip(keys, mean, strict=True)})
        logs["loss"] *= self.padding  # Keras divides by rows of weight zero too
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)

    def _save(self, epoch: int) -> None:
        if self.checkpoint is None:
            return
        result, variables = self.result, [v.numpy() for v in self._variables()]
        best = result.best_epoch, result.best_value
        self.checkpoint.save(State(epoch, variables, self.weights, *best, result.history, self.seconds()))


class ProgressBar(keras.callbacks.Callback):
    """A bar of steps within the epoch on a terminal; a line an epoch anywhere else."""

    def __init__(self, config: Config):
        super().__init__()
        self.epochs, self.primary = config.train.epochs, config.primary_metric
        self.bar: Any = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        from tqdm import tqdm

        self.started = time.monotonic()
        steps = self.params.get("steps")
        self.bar = tqdm(total=steps, desc=f"epoch {epoch + 1}/{self.epochs}", leave=False, disable=None)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.bar.update(batch + 1 - self.bar.n if not self.bar.disable else 0)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.bar.close()
        logs = logs or {}
        shown = "  ".join(f"{k} {logs[k]:.4g}" for k in ("loss", f"val_{self.primary}") if k in logs)
        log.info("epoch %d/%d  %s  %.1f s", epoch + 1, self.epochs, shown, time.monotonic() - self.started)


def outputs(model: keras.Model, feed: Feed) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of a feed in order → (truth, output) as metrics take them, a piece at a time."""
    fitted = feed.preprocessor
    for rows in feed.in_order():
        inputs = {name: values for name, values in rows.items() if name != "target"}
        yield rows["target"], build.probabilities(predict(model, inputs, fitted), fitted.classes)


def answers(model: keras.Model, feed: Feed) -> tuple[np.ndarray, np.ndarray]:
    """The same of all rows at once: truth [rows] and output [rows, k]."""
    truths, found = zip(*outputs(model, feed), strict=True)
    return np.concatenate(truths), np.concatenate(found)


def predict(model: keras.Model, rows: dict[str, Any], fitted: Preprocessor) -> np.ndarray:
    """Network inputs, images as bytes or as pixels → network output [rows, k], in large batches."""
    count = len(next(iter(rows.values())))
    encoded = "image" in rows and rows["image"].ndim == 1
    call = _traced(model, fitted, encoded)
    step = PREDICT_ROWS if "image" not in rows else 256
    parts = [call({name: values[i : i + step] for name, values in rows.items()}) for i in range(0, count, step)]
    if not parts:
        return np.zeros((0, model.output_shape[-1]), np.float32)
    return np.concatenate([part.numpy() for part in parts])


def _traced(model: keras.Model, fitted: Preprocessor, encoded: bool) -> Any:
    """One tf.function a model (and one more for `encoded` images), traced once for any number of rows."""
    import tensorflow as tf

    traced = model.__dict__.setdefault("_baton_calls", {})
    if encoded not in traced:
        signature = {t.name: tf.TensorSpec([None, *t.shape[1:]], t.dtype) for t in model.inputs}
        if encoded:
            signature["image"] = tf.TensorSpec([None], tf.string)
        decode = image_decoder(fitted.image_size) if encoded else None

        @tf.function(input_signature=[signature])
        def call(rows: Any) -> Any:
            if decode is not None:
                rows = {**rows, "image": decode(rows["image"])}
            return model(rows, training=False)

        traced[encoded] = call
    return traced[encoded]
