"""Keras layers that Keras lacks; registered, so that a saved model loads in safe mode."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from baton.metrics import TINY


@keras.saving.register_keras_serializable("baton")
class Maxout(keras.layers.Layer):
    """[rows, d] → [rows, units]: the largest of `pieces` linear functions (Goodfellow et al., 2013)."""

    def __init__(self, units: int, pieces: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.units, self.pieces = units, pieces
        self.linear = keras.layers.Dense(units * pieces)

    def build(self, input_shape: tuple) -> None:
        self.linear.build(input_shape)
        self.built = True

    def call(self, inputs: Any) -> Any:
        shape = (-1, *inputs.shape[1:-1], self.units, self.pieces)
        return ops.max(ops.reshape(self.linear(inputs), shape), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "pieces": self.pieces}


@keras.saving.register_keras_serializable("baton")
class PiecewiseLinear(keras.layers.Layer):
    """Numbers [rows, d] → [rows, d * width]: piecewise-linear encoding, a dense layer a column, ReLU.

    `edges` holds each column's bin edges (2 to T + 1 of them). Bin t of a column is
    (x - edge_t) / (edge_t+1 - edge_t), clipped to 0 and 1; the first and last bins are open
    outwards by one width (Gorishniy et al., "On embeddings for numerical features", 2022, eq. 1).
    """

    def __init__(self, edges: list[list[float]], width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.edges, self.width = [list(e) for e in edges], width
        bins = max(len(e) for e in self.edges) - 1
        shape = (len(self.edges), bins)
        self._low, self._scale = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._least, self._most = np.zeros(shape, np.float32), np.ones(shape, np.float32)
        for row, e in enumerate(self.edges):
            used = len(e) - 1
            self._low[row, :used] = e[:-1]
            self._scale[row, :used] = 1 / np.diff(e)
            self._least[row, 0], self._most[row, used - 1] = -1, 2

    def build(self, input_shape: tuple) -> None:
        columns, bins = self._low.shape
        limit = bins**-0.5
        start = keras.initializers.RandomUniform(-limit, limit)
        self.kernel = self.add_weight((columns, bins, self.width), start, name="kernel")
        self.bias = self.add_weight((columns, self.width), "zeros", name="bias")
        self.built = True

    def call(self, inputs: Any) -> Any:
        position = (ops.expand_dims(inputs, -1) - self._low) * self._scale
        position = ops.maximum(ops.minimum(position, self._most), self._least)
        out = ops.relu(ops.einsum("bdt,dtw->bdw", position, self.kernel) + self.bias)
        return ops.reshape(out, (-1, len(self.edges) * self.width))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "edges": self.edges, "width": self.width}


@keras.saving.register_keras_serializable("baton")
class CategoryEmbedding(keras.layers.Layer):
    """Codes [rows, c] → [rows, c * width]: one embedding table for all columns, an offset a column."""

    def __init__(self, sizes: list[int], width: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.sizes, self.width = list(sizes), width
        self._offsets = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int32)
        self.table = keras.layers.Embedding(sum(self.sizes), width)

    def build(self, input_shape: tuple) -> None:
        self.table.build(input_shape)
        self.built = True

    def call(self, inputs: Any) -> Any:
        # Through a reshape the gradient is dense: Keras clips a sparse one by the norm of its unsummed rows.
        table = ops.reshape(self.table.embeddings, (-1, self.width))
        embedded = ops.take(table, inputs + self._offsets, axis=0)
        return ops.reshape(embedded, (-1, len(self.sizes) * self.width))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sizes": self.sizes, "width": self.width}


@keras.saving.register_keras_serializable("baton")
class Temperature(keras.layers.Layer):
    """Probabilities [rows, k], or of two classes the second's [rows, 1] → softmax(log p / temperature), in their shape.

    Guo et al., "On calibration of modern neural networks", 2017, eq. 9: as good as dividing the logits,
    and it does not ask what made the probabilities.
    """

    def __init__(self, temperature: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.temperature = float(temperature)

    def call(self, inputs: Any) -> Any:
        if inputs.shape[-1] == 1:
            two = ops.concatenate([1 - inputs, inputs], axis=-1)
            return self._scaled(two)[:, 1:]
        return self._scaled(inputs)

    def _scaled(self, probabilities: Any) -> Any:
        return ops.softmax(ops.log(ops.clip(probabilities, TINY, 1.0)) / self.temperature, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}


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
