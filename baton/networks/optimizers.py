"""A training config in, a compiled Keras model out: optimizers, schedules, loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from baton.config.schema import Fit
from baton.data.preprocessing import Preprocessor
from baton.data.target import LOG_LINKED
from baton.networks import losses


@keras.saving.register_keras_serializable("baton")
class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule behind a linear warm-up of `steps` steps (Goyal et al., 2017, section 2.2)."""

    def __init__(self, schedule: Any, steps: int):
        self.schedule, self.steps = schedule, steps

    def __call__(self, step: Any) -> Any:
        done = ops.cast(step, "float32")
        return self.schedule(step) * ops.minimum((done + 1.0) / max(self.steps, 1), 1.0)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Warmup:
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["steps"])


OPTIMIZERS: dict[str, Callable[[Any, Fit], Any]] = {
    "sgd": lambda rate, fit: keras.optimizers.SGD(rate),
    "momentum": lambda rate, fit: keras.optimizers.SGD(rate, momentum=fit.momentum),
    "nesterov": lambda rate, fit: keras.optimizers.SGD(rate, momentum=fit.momentum, nesterov=True),
    "rmsprop": lambda rate, fit: keras.optimizers.RMSprop(rate),
    "adam": lambda rate, fit: keras.optimizers.Adam(rate),
    "adamw": lambda rate, fit: keras.optimizers.AdamW(rate, weight_decay=fit.weight_decay),
}


def optimizer(fit: Fit, steps: int, *, scale: float = 1.0, warmup_epochs: float | None = None) -> Any:
    """Fit config and steps an epoch → an optimizer with its schedule; `scale` multiplies the rate."""
    total = max(steps * fit.epochs, 1)
    warmup = round(steps * (fit.warmup_epochs if warmup_epochs is None else warmup_epochs))
    assert fit.learning_rate is not None  # `Config.sized` fills it in
    rate = fit.learning_rate * scale
    schedules = keras.optimizers.schedules
    schedule = {
        "constant": lambda: schedules.PolynomialDecay(rate, total, end_learning_rate=rate),
        "cosine": lambda: schedules.CosineDecay(rate, total),
        "exponential": lambda: schedules.ExponentialDecay(rate, total, decay_rate=0.01),
    }[fit.schedule]()
    made = OPTIMIZERS[fit.optimizer](Warmup(schedule, warmup) if warmup else schedule, fit)
    made.global_clipnorm = fit.gradient_clip
    averaged = steps * (fit.weight_average or 0.0)  # steps
    made.use_ema, made.ema_momentum = averaged > 1, 1 - 1 / max(averaged, 1.0)
    return made


def compile_model(model: keras.Model, preprocessor: Preprocessor, fit: Fit, optimizer_: Any) -> None:
    """Give `model` its loss, metrics and optimizer. Regression's loss has no unit: it is that of scaled numbers."""
    loss: str
    unit = 1.0
    if not preprocessor.classes:
        loss, metric = fit.objective, losses.RootMeanSquaredError("rmse")
        unit = preprocessor.spec["target"]["mean" if loss in LOG_LINKED else "std"]
    elif model.output_shape[-1] == 1:
        loss, metric = "binary_crossentropy", losses.BinaryAccuracy("accuracy")
    else:
        loss, metric = "sparse_categorical_crossentropy", losses.SparseCategoricalAccuracy("accuracy")
    model.compile(
        optimizer_,
        losses.EachMember(loss, fit.label_smoothing or 0.0, unit),
        weighted_metrics=[metric],
        jit_compile=False,  # slower on CPU here, and Horovod's ops cannot be compiled
    )
