"""Losses and metrics of networks whose members answer side by side; only training knows of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from baton.data.target import LOG_SQUARED, POWERS


def of_power(power: float) -> Callable[[Any, Any], Any]:
    """A power of Tweedie's family, 1 to 2 → the part of a row's deviance that its prediction, above 0, decides."""

    def loss(y_true: Any, y_pred: Any) -> Any:
        if power == 1:
            each = y_pred - y_true * ops.log(y_pred)
        elif power == 2:
            each = ops.log(y_pred) + y_true / y_pred
        else:
            each = y_pred ** (2 - power) / (2 - power) + y_true * y_pred ** (1 - power) / (power - 1)
        return ops.mean(each, axis=-1)

    return loss


LOG_OFFSET = 0.01  # of the target's mean, added before a logarithm is taken: targets may be 0


def of_logarithm(y_true: Any, y_pred: Any) -> Any:
    """Targets of 0 or more and predictions, measured in the targets' mean → the squared error of their logarithm."""
    return ops.mean(ops.square(ops.log((y_pred + LOG_OFFSET) / (y_true + LOG_OFFSET))), axis=-1)


# Losses of numbers that Keras has not, or has under another name. Of Huber's the bend lies at 1: at a deviation.
OF_NUMBERS: dict[str, Callable[[Any, Any], Any]] = {
    "squared": keras.losses.mean_squared_error,
    **dict.fromkeys(("auto", "race"), keras.losses.mean_squared_error),  # of a config that is not settled
    "absolute": keras.losses.mean_absolute_error,
    "huber": keras.losses.huber,
    LOG_SQUARED: of_logarithm,
    **{name: of_power(power) for name, power in POWERS.items()},
}


@keras.saving.register_keras_serializable("baton")
class EachMember(keras.losses.Loss):
    """The mean over members of a loss, by its name; of a network without members it is that loss.

    Numbers are measured in `unit`.

    Targets may be classes [rows], or shares of them [rows, classes] where pictures are mixed. `smoothing` is what all
    classes share of each target (Szegedy et al., "Rethinking the inception architecture", 2016, section 7).
    """

    def __init__(
        self,
        function: str,
        smoothing: float = 0.0,
        unit: float = 1.0,
        name: str = "loss",
        reduction: str = "sum_over_batch_size",
        **kwargs: Any,
    ):
        super().__init__(name=name, reduction=reduction, **kwargs)
        self.function, self.smoothing, self.unit = function, smoothing, unit

    def call(self, y_true: Any, y_pred: Any) -> Any:
        shared = len(y_true.shape) == 2 and y_true.shape[-1] == y_pred.shape[-1] > 1
        if shared or (self.smoothing and y_pred.shape[-1] > 1):
            return self._of_shares(y_true if shared else _one_hot(y_true, y_pred), y_pred)
        loss = OF_NUMBERS.get(self.function) or keras.losses.get(self.function)
        y_true = y_true + self.smoothing * (0.5 - y_true) if self.smoothing else y_true
        if self.unit != 1.0:
            y_true, y_pred = y_true / self.unit, y_pred / self.unit
        if len(y_pred.shape) < 3:
            return loss(ops.reshape(y_true, (-1, 1)), y_pred)
        targets = ops.repeat(ops.reshape(y_true, (-1, 1, 1)), y_pred.shape[1], axis=1)
        return ops.mean(loss(targets, y_pred), axis=1)

    def _of_shares(self, shares: Any, y_pred: Any) -> Any:
        members = y_pred if len(y_pred.shape) == 3 else ops.expand_dims(y_pred, 1)
        targets = ops.repeat(ops.expand_dims(ops.cast(shares, y_pred.dtype), 1), members.shape[1], axis=1)
        loss = keras.losses.categorical_crossentropy(targets, members, label_smoothing=self.smoothing)
        return ops.mean(loss, axis=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "function": self.function, "smoothing": self.smoothing, "unit": self.unit}


def _one_hot(classes: Any, like: Any) -> Any:
    """Classes [rows] or [rows, 1] → [rows, classes]."""
    return ops.one_hot(ops.cast(ops.reshape(classes, (-1,)), "int32"), like.shape[-1], dtype=like.dtype)


class _OfMean:
    """A metric of the members' mean."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        y_pred = ops.mean(y_pred, axis=1) if len(y_pred.shape) == 3 else y_pred
        return super().update_state(y_true, y_pred, sample_weight)  # type: ignore[misc]


@keras.saving.register_keras_serializable("baton")
class RootMeanSquaredError(_OfMean, keras.metrics.RootMeanSquaredError):
    """Of the members' mean."""


@keras.saving.register_keras_serializable("baton")
class BinaryAccuracy(_OfMean, keras.metrics.BinaryAccuracy):
    """Of the members' mean."""


@keras.saving.register_keras_serializable("baton")
class SparseCategoricalAccuracy(_OfMean, keras.metrics.SparseCategoricalAccuracy):
    """Of the members' mean; of a target that classes share, the largest counts."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        shared = len(y_true.shape) == 2 and y_true.shape[-1] == y_pred.shape[-1]
        return super().update_state(ops.argmax(y_true, axis=-1) if shared else y_true, y_pred, sample_weight)
