"""Blocks of convolutions: their options in, a function of a map [rows, height, width, channels] out.

A block is laid flat into the network, as Keras' own layers: safe mode loads them, and what looks at layers (parts of a
batch, feature maps, costs) sees each. With a `name` its last layer bears it, the others `<name>_<role>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

BRANCHES = 6  # numbers that an inception block takes


@dataclass(frozen=True, kw_only=True)
class Block:
    """What all blocks have: the activation, and whether each convolution is normalised, which takes its bias' place."""

    name: str | None = None
    activation: Any = "relu"
    batch_normalization: bool = True

    def _name(self, role: str) -> str | None:
        return f"{self.name}_{role}" if self.name else None

    def _conv(
        self, inputs: Any, role: str, filters: int, kernel_size: Any = 1, strides: Any = 1, *, activate: bool = True
    ) -> Any:
        """A convolution with padding, normalised and activated."""
        options = {"padding": "same", "use_bias": not self.batch_normalization, "name": self._name(role)}
        features = keras.layers.Conv2D(filters, kernel_size, strides, **options)(inputs)
        if self.batch_normalization:
            features = keras.layers.BatchNormalization(name=self._name(f"{role}_bn"))(features)
        if activate:
            features = keras.layers.Activation(self.activation, name=self._name(f"{role}_act"))(features)
        return features


@dataclass(frozen=True, kw_only=True)
class Shortcut(Block):
    """A branch whose output is added to its input: [h, w, c] → [h / strides, w / strides, filters].

    An input of other channels or another size is projected by a 1 × 1 convolution (He et al., "Deep residual
    learning", 2016). `squeeze_excitation` is a reduction, 0 for none; `stochastic_depth` the share of rows whose branch
    training leaves out.
    """

    filters: int
    kernel_size: Any = 3
    strides: int = 1
    squeeze_excitation: int = 0
    stochastic_depth: float = 0.0

    def __call__(self, inputs: Any) -> Any:
        demand_map(inputs, self.strides)
        features = self._branch(inputs)
        if self.squeeze_excitation:
            excite = SqueezeExcitation(name=self._name("se"), reduction=self.squeeze_excitation)
            features = excite(features)
        if self.stochastic_depth:
            features = StochasticDepth(name=self._name("depth"), rate=self.stochastic_depth)(features)
        if self.strides != 1 or inputs.shape[-1] != self.filters:
            inputs = self._conv(inputs, "projection", self.filters, 1, self.strides, activate=False)
        features = keras.layers.Add(name=self._name("add"))([features, inputs])
        return keras.layers.Activation(self.activation, name=self.name)(features)

    def _branch(self, inputs: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Residual(Shortcut):
    """Two convolutions beside a shortcut, as in ResNet-18."""

    def _branch(self, inputs: Any) -> Any:
        features = self._conv(inputs, "conv1", self.filters, self.kernel_size, self.strides)
        return self._conv(features, "conv2", self.filters, self.kernel_size, activate=False)


@dataclass(frozen=True, kw_only=True)
class Bottleneck(Shortcut):
    """1 × 1, 3 × 3 and 1 × 1 convolutions beside a shortcut, those within `reduction` times as narrow (ResNet-50)."""

    reduction: int = 4

    def _branch(self, inputs: Any) -> Any:
        narrow = max(1, self.filters // self.reduction)
        features = self._conv(inputs, "conv1", narrow)
        features = self._conv(features, "conv2", narrow, self.kernel_size, self.strides)
        return self._conv(features, "conv3", self.filters, activate=False)


@dataclass(frozen=True, kw_only=True)
class Inception(Block):
    """[h, w, c] → [h, w, sum of the branches]: 1 × 1, 3 × 3, 5 × 5 and pooling side by side.

    `filters` are the columns of table 1 of Szegedy et al., "Going deeper with convolutions", 2015: 1 × 1,
    3 × 3 reduce, 3 × 3, 5 × 5 reduce, 5 × 5, pool projection.
    """

    filters: Sequence[int]

    def __post_init__(self) -> None:
        if not isinstance(self.filters, list | tuple) or len(self.filters) != BRANCHES:
            raise ValueError("filters must be six numbers: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection")

    def __call__(self, inputs: Any) -> Any:
        demand_map(inputs)
        one, reduce3, three, reduce5, five, projection = self.filters
        pooled = keras.layers.MaxPooling2D(3, 1, "same", name=self._name("pool"))(inputs)
        branches = [
            self._conv(inputs, "1x1", one),
            self._conv(self._conv(inputs, "3x3_reduce", reduce3), "3x3", three, 3),
            self._conv(self._conv(inputs, "5x5_reduce", reduce5), "5x5", five, 5),
            self._conv(pooled, "pool_projection", projection),
        ]
        return keras.layers.Concatenate(name=self.name)(branches)


@dataclass(frozen=True, kw_only=True)
class SqueezeExcitation:
    """A map → the same, each channel times a weight between 0 and 1 that the means of all channels give.

    Hu et al., "Squeeze-and-excitation networks", 2018; between lies a layer `reduction` times as narrow.
    """

    name: str | None = None
    reduction: int = 16

    def __call__(self, inputs: Any) -> Any:
        demand_map(inputs)
        channels = inputs.shape[-1]
        named = [self.name and f"{self.name}_{role}" for role in ("squeeze", "reduce", "expand", "weights")]
        weights = keras.layers.GlobalAveragePooling2D(name=named[0])(inputs)
        weights = keras.layers.Dense(max(1, channels // self.reduction), "relu", name=named[1])(weights)
        weights = keras.layers.Dense(channels, "sigmoid", name=named[2])(weights)
        weights = keras.layers.Reshape((1, 1, channels), name=named[3])(weights)
        return keras.layers.Multiply(name=self.name)([inputs, weights])


@dataclass(frozen=True, kw_only=True)
class StochasticDepth:
    """A branch → the same; in training nothing of it for a share `rate` of the rows, and more of it for the rest.

    Huang et al., "Deep networks with stochastic depth", 2016: it is dropout of whole rows, by dropout's seeds.
    """

    rate: float
    name: str | None = None

    def __call__(self, inputs: Any) -> Any:
        if not 0 <= self.rate < 1:
            raise ValueError(f"the rate of stochastic depth must be at least 0 and less than 1, and is {self.rate}")
        return keras.layers.Dropout(self.rate, (None, *[1] * (len(inputs.shape) - 1)), name=self.name)(inputs)


def demand_map(inputs: Any, strides: Any = 1) -> None:
    """Raise `ValueError` where inputs are no single map [rows, h, w, c], or strides are larger than it."""
    if isinstance(inputs, list):
        raise ValueError(f"this block takes one input, not {len(inputs)}")
    if len(inputs.shape) != 4:
        raise ValueError(
            f"this block takes a map of rows, height, width and channels, not features of shape {inputs.shape}"
        )
    demand_strides(inputs.shape, strides)


def demand_strides(shape: tuple, strides: Any) -> None:
    """Raise `ValueError` where strides are larger than a map of `shape` (rows, h, w, c), which nobody means."""
    steps = strides if isinstance(strides, list | tuple) else (strides, strides)
    if any(step > size for step, size in zip(steps, shape[1:3], strict=False)):
        raise ValueError(f"strides of {max(steps)} are larger than the map of {shape[1]} x {shape[2]} before them")


BLOCKS: dict[str, Any] = {
    "residual": Residual,
    "bottleneck": Bottleneck,
    "inception": Inception,
    "squeeze_excitation": SqueezeExcitation,
    "stochastic_depth": StochasticDepth,
}
