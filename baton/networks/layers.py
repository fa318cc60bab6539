"""Keras layers that Keras lacks; registered, so that a saved model loads in safe mode."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from baton.data.target import EPSILON


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


LIMIT = 3.0  # of a plain number, in standard deviations


@keras.saving.register_keras_serializable("baton")
class PiecewiseLinear(keras.layers.Layer):
    """Numbers [rows, d] → [rows, d * width (+ d)]: piecewise-linear encoding, a dense layer a column, ReLU.

    `edges` holds each column's bin edges (2 to T + 1 of them). Bin t of a column is
    (x - edge_t) / (edge_t+1 - edge_t), clipped to 0 and 1; the first and last bins are open
    outwards by one width (Gorishniy et al., "On embeddings for numerical features", 2022, eq. 1).
    `plain`: the numbers go along as they are too, from -3 to 3; few rows tell a trend sooner than bins.
    """

    def __init__(self, edges: list[list[float]], width: int, plain: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.edges, self.width, self.plain = [list(e) for e in edges], width, plain
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
        out = ops.reshape(out, (-1, len(self.edges) * self.width))
        return ops.concatenate([out, ops.clip(inputs, -LIMIT, LIMIT)], axis=1) if self.plain else out

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "edges": self.edges, "width": self.width, "plain": self.plain}


@keras.saving.register_keras_serializable("baton")
class CategoryEmbedding(keras.layers.Layer):
    """Codes [rows, c] → [rows, columns * width]: one embedding table for all columns, an offset a column.

    `columns` are those of the codes that are embedded, by default all; `sizes` are theirs. In training a
    code is taken for unknown (0) with its probability in `dropout` (one a code, column after column).
    """

    def __init__(
        self,
        sizes: list[int],
        width: int,
        columns: list[int] | None = None,
        dropout: list[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.sizes, self.width, self.columns, self.dropout = list(sizes), width, columns, dropout
        self._offsets = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int32)
        self.table = keras.layers.Embedding(sum(self.sizes), width)
        self.seeds = keras.random.SeedGenerator()

    def build(self, input_shape: tuple) -> None:
        self.table.build(input_shape)
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        if self.columns is not None:
            inputs = ops.take(inputs, self.columns, axis=1)
        # Through a reshape the gradient is dense: Keras clips a sparse one by the norm of its unsummed rows.
        table = ops.reshape(self.table.embeddings, (-1, self.width))
        codes = inputs + self._offsets
        if training and self.dropout is not None:
            drawn = keras.random.uniform(ops.shape(codes), seed=self.seeds)
            rates = ops.take(np.asarray(self.dropout, np.float32), codes, axis=0)
            codes = ops.where(drawn < rates, self._offsets, codes)
        embedded = ops.take(table, codes, axis=0)
        return ops.reshape(embedded, (-1, len(self.sizes) * self.width))

    def get_config(self) -> dict[str, Any]:
        own = {"sizes": self.sizes, "width": self.width, "columns": self.columns, "dropout": self.dropout}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CategoryEmbedding:
        """A layer as `get_config` describes it; models from before 0.1.0 say `forget` for `dropout`."""
        return cls(**{"dropout" if key == "forget" else key: value for key, value in config.items()})


@keras.saving.register_keras_serializable("baton")
class LinearPart(keras.layers.Layer):
    """Numbers [rows, d] → [rows, units]: a linear function that begins at zero, beside a network.

    It carries a trend on to where train rows are rare, which piecewise-linear encodings do not (Cheng et al.,
    "Wide & deep learning", 2016). Numbers count up to one range of the train rows, `edges`, beyond it.
    """

    def __init__(self, edges: list[list[float]], units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.edges, self.units = [list(e) for e in edges], units
        low, high = np.array([[e[0], e[-1]] for e in self.edges], np.float32).T
        self._low, self._high = 2 * low - high, 2 * high - low

    def build(self, input_shape: tuple) -> None:
        self.kernel = self.add_weight((len(self.edges), self.units), "zeros", name="kernel")
        self.built = True

    def call(self, inputs: Any) -> Any:
        return ops.matmul(ops.maximum(ops.minimum(inputs, self._high), self._low), self.kernel)

    def clipped(self, numbers: np.ndarray) -> np.ndarray:
        """What counts of the numbers [rows, d]."""
        return np.clip(numbers, self._low, self._high)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "edges": self.edges, "units": self.units}


@keras.saving.register_keras_serializable("baton")
class Cross(keras.layers.Layer):
    """x [rows, d] → x + x * (V U x + b): products of features, weighted by a matrix of low `rank`.

    Wang et al., "DCN V2", 2021, section 3.2.
    """

    def __init__(self, rank: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.rank = rank
        self.down = keras.layers.Dense(rank, use_bias=False)

    def build(self, input_shape: tuple) -> None:
        self.down.build(input_shape)
        self.up = keras.layers.Dense(input_shape[-1])
        self.up.build((*input_shape[:-1], self.rank))
        self.built = True

    def call(self, inputs: Any) -> Any:
        return inputs + inputs * self.up(self.down(inputs))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rank": self.rank}


@keras.saving.register_keras_serializable("baton")
class Members(keras.layers.Layer):
    """x [rows, d] → [rows, members, d]: each member of an ensemble sees the features with weights of its own.

    They begin as random signs; all layers behind are shared (Gorishniy et al., "TabM", 2024, TabM-mini).
    """

    def __init__(self, members: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.members = members

    def build(self, input_shape: tuple) -> None:
        self.scale = self.add_weight((self.members, input_shape[-1]), _random_signs, name="scale")
        self.built = True

    def call(self, inputs: Any) -> Any:
        return ops.expand_dims(inputs, 1) * self.scale

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "members": self.members}


@keras.saving.register_keras_serializable("baton")
class MemberDense(keras.layers.Layer):
    """[rows, members, d] → [rows, members, units]: a dense layer of its own for each member."""

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: tuple) -> None:
        shape = (input_shape[1], input_shape[2], self.units)
        self.kernel = self.add_weight(shape, keras.initializers.GlorotUniform(), name="kernel")
        self.bias = self.add_weight((shape[0], self.units), "zeros", name="bias")
        self.built = True

    def call(self, inputs: Any) -> Any:
        return ops.einsum("bkd,kdu->bku", inputs, self.kernel) + self.bias

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("baton")
class MeanOfMembers(keras.layers.Layer):
    """[rows, members, units] → their mean [rows, units]; in training all of them, for each has its own loss."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        return inputs if training else ops.mean(inputs, axis=1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], input_shape[2])

    def compute_output_spec(self, inputs: Any, training: bool = False) -> Any:
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), inputs.dtype)


LARGEST_EXPONENT = 15.0  # of e: a few million times the mean, either way


@keras.saving.register_keras_serializable("baton")
class LogLink(keras.layers.Layer):
    """Answers of any shape → `mean` times e to their power: what is above 0, about the mean before training.

    What learns logarithms predicts too little on average: it may be `corrected` by a factor, which training does not
    see (Duan, "Smearing estimate", 1983).
    """

    def __init__(self, mean: float, corrected: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.mean, self.corrected = float(mean), corrected

    def build(self, input_shape: tuple) -> None:
        if self.corrected:
            self.factor = self.add_weight((), "ones", trainable=False, name="factor")
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        out = self.mean * ops.exp(ops.clip(inputs, -LARGEST_EXPONENT, LARGEST_EXPONENT))
        return out * self.factor if self.corrected and not training else out

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mean": self.mean, "corrected": self.corrected}


@keras.saving.register_keras_serializable("baton")
class ReversedChannels(keras.layers.Layer):
    """Pictures [..., channels] with their channels the other way round: blue first, as Caffe's networks want them."""

    def call(self, inputs: Any) -> Any:
        return ops.flip(inputs, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


def _random_signs(shape: tuple, dtype: Any = None) -> Any:
    return ops.where(keras.random.uniform(shape) < 0.5, -1.0, 1.0)


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
        return ops.softmax(ops.log(ops.clip(probabilities, EPSILON, 1.0)) / self.temperature, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}


@keras.saving.register_keras_serializable("baton")
class WeightedMean(keras.layers.Layer):
    """Outputs of members, each [rows, k] → their mean [rows, k] by `weights`, which are 1 in sum."""

    def __init__(self, weights: list[float], **kwargs: Any):
        super().__init__(**kwargs)
        self.shares = [float(weight) for weight in weights]

    def call(self, inputs: list[Any]) -> Any:
        return sum(share * output for share, output in zip(self.shares, inputs, strict=True))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weights": self.shares}


def calibrated(model: keras.Model, temperature: float) -> keras.Model:
    """A model whose output are probabilities → the same with `layers.Temperature` as its last layer."""
    return keras.Model(model.input, Temperature(temperature, name="calibrated")(model.outputs[0]))
