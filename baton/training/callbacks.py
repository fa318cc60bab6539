"""What is done at a training's epochs: validation, early stopping, checkpoints, the progress bar."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from baton.config.schema import Config
from baton.data.feed import Feed
from baton.errors import Diverged
from baton.evaluation import metrics
from baton.networks.layers import LogLink
from baton.networks.prediction import predict_pieces
from baton.training.checkpoints import Checkpoint, State
from baton.training.collective import Collective

log = logging.getLogger("baton")


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
    augmentation: dict[str, Any] = field(default_factory=dict)  # what was done to pictures, the flip decided
    transfer: dict[str, Any] = field(default_factory=dict)  # what was done with a backbone, and why
    objective: dict[str, Any] = field(default_factory=dict)  # the loss that won a race of several, and by what
    pictures: tuple[np.ndarray, np.ndarray] | None = None  # some before and after it, uint8 [n, h, w, c]


class Epoch(keras.callbacks.Callback):
    """Tells the feed which epoch begins: its order is a function of seed and epoch."""

    def __init__(self, feed: Feed):
        super().__init__()
        self.feed = feed

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.feed.epoch = epoch


@contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Within, the model has the average of its weights, where its optimizer keeps one."""
    if not model.optimizer.use_ema:
        yield
        return
    own = [variable.numpy() for variable in model.trainable_variables]
    model.optimizer.finalize_variable_values(model.trainable_variables)
    yield
    for variable, value in zip(model.trainable_variables, own, strict=True):
        variable.assign(value)


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
        collective: Collective,
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
        with averaged(self.model):
            self._correct_mean()
            logs.update({f"val_{name}": value for name, value in self._validate().items()})
            weights = self.model.get_weights()
        value = logs[f"val_{self.config.primary_metric}"]
        if not (math.isfinite(value) and math.isfinite(logs["loss"])):
            raise Diverged(f"Training diverged in epoch {epoch + 1}: the loss is not finite. Lower the learning rate.")
        if value < self.result.best_value:
            self.result.best_value, self.result.best_epoch = value, epoch
            self.weights = weights
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
        state = self._agreed_state()
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

    def _agreed_state(self) -> State | None:
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

    def _correct_mean(self) -> None:
        """Of a network that learns logarithms: let its predictions of validation rows add up to what the targets do."""
        link = next((layer for layer in self.model.layers if isinstance(layer, LogLink) and layer.corrected), None)
        if link is None:
            return
        pieces = predict_pieces(self.model, self.validation)
        mine = sum(np.array([each.sum(dtype=np.float64) for each in piece]) for piece in pieces)
        targets, predictions = self.collective.sum(np.asarray(mine))
        link.factor.assign(link.factor * (targets / predictions))

    def _validate(self) -> dict[str, float]:
        metric = self.config.primary_metric
        pieces = predict_pieces(self.model, self.validation)
        mine = sum(metrics.partial_sums(targets, output, metric) for targets, output in pieces)
        sums = self.collective.sum(np.asarray(mine))
        return metrics.from_sums(sums, not self.validation.preprocessor.classes, metric)

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
