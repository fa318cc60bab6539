"""A functional Keras model in, its parameters and multiply-adds layer by layer out.

A multiply-add is a product that is added to a sum. Counted are those of convolutions and dense layers for one row, as
papers count them, for each view of a picture anew; biases, normalisation, activations, pooling and sums are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras

from baton.errors import BadInput, listed
from baton.networks.layers import (
    CategoryEmbedding,
    Cross,
    LinearPart,
    Maxout,
    MeanOfMembers,
    MemberDense,
    Members,
    PiecewiseLinear,
    ReversedChannels,
    Temperature,
    WeightedMean,
)
from baton.networks.views import OfViews


@dataclass(frozen=True)
class LayerCost:
    """One call of a layer: `shape` is that of its output without rows; a layer called again has its parameters once."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def layer_costs(model: keras.Model) -> list[LayerCost]:
    """A functional model → a cost for each call of a layer, models within it layer by layer too.

    Raises `BadInput` that names the layers it cannot count, or whose size is not fixed.
    """
    uncounted: list[str] = []
    costs = _costs(model, "", set(), uncounted)
    if uncounted:
        raise BadInput(f"The multiply-adds of these layers cannot be counted: {listed(sorted(set(uncounted)))}.")
    return costs


def totals(costs: list[LayerCost]) -> tuple[int, int]:
    """Costs of layers → (parameters, multiply-adds) in all."""
    return sum(cost.parameters for cost in costs), sum(cost.multiply_adds for cost in costs)


def _costs(model: Any, place: str, counted: set[int], uncounted: list[str]) -> list[LayerCost]:
    found = []
    for node in calls(model):
        layer = node.operation
        if isinstance(layer, keras.Model):
            found += _costs(layer, f"{place}{layer.name}/", counted, uncounted)
            continue
        if isinstance(layer, OfViews):
            once = _costs(layer.layer, place, counted, uncounted)
            found += [replace(cost, multiply_adds=cost.multiply_adds * len(layer.views)) for cost in once]
            continue
        kind, shape = type(layer).__name__, node.outputs[0].shape
        count = _count_of(layer)
        if count is None or None in shape[1:]:
            uncounted.append(f"{place}{layer.name} ({kind}{'' if count is None else ', whose size is not fixed'})")
            continue
        new = id(layer) not in counted and isinstance(layer, keras.layers.Layer)
        counted.add(id(layer))
        sums = count(layer, node.arguments.keras_tensors[0].shape, shape)
        found.append(LayerCost(place + layer.name, kind, shape[1:], layer.count_params() if new else 0, sums))
    return found


def calls(model: Any) -> list[Any]:
    """The calls of layers in a functional model, those nearest to its inputs first."""
    model = model._functional if isinstance(model, keras.Sequential) else model
    if not hasattr(model, "_nodes_by_depth"):
        raise BadInput(f"Only a functional model can be counted layer by layer. Received: {type(model).__name__}")
    by_depth = sorted(model._nodes_by_depth.items(), reverse=True)
    return [node for _, nodes in by_depth for node in nodes if not node.is_input]


Shape = tuple[Any, ...]


def _of_convolution(layer: Any, before: Shape, after: Shape) -> int:
    return math.prod(after[1:]) * math.prod(layer.kernel.shape[:-1])


def _of_depthwise(layer: Any, before: Shape, after: Shape) -> int:
    return math.prod(after[1:]) * math.prod(layer.kernel.shape[:-2])


def _of_separable(layer: Any, before: Shape, after: Shape) -> int:
    kernels = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
    return math.prod(after[1:]) // layer.filters * kernels


def _of_transposed(layer: Any, before: Shape, after: Shape) -> int:
    return math.prod(before[1:]) * math.prod(layer.kernel.shape[:-1])


def _of_dense(layer: Any, before: Shape, after: Shape) -> int:
    return math.prod(after[1:]) * layer.kernel.shape[0]


def _of_maxout(layer: Any, before: Shape, after: Shape) -> int:
    return math.prod(after[1:]) * layer.pieces * before[-1]


def _of_kernel(layer: Any, before: Shape, after: Shape) -> int:
    return math.prod(layer.kernel.shape)


def _of_cross(layer: Any, before: Shape, after: Shape) -> int:
    return 2 * layer.rank * after[-1]


def _nothing(layer: Any, before: Shape, after: Shape) -> int:
    return 0


L = keras.layers
COUNTED: dict[type, Callable[[Any, Shape, Shape], int]] = {
    L.Conv1D: _of_convolution, L.Conv2D: _of_convolution, L.Conv3D: _of_convolution,
    L.DepthwiseConv1D: _of_depthwise, L.DepthwiseConv2D: _of_depthwise,
    L.SeparableConv1D: _of_separable, L.SeparableConv2D: _of_separable,
    L.Conv1DTranspose: _of_transposed, L.Conv2DTranspose: _of_transposed, L.Conv3DTranspose: _of_transposed,
    L.Dense: _of_dense, Maxout: _of_maxout, Cross: _of_cross,
    PiecewiseLinear: _of_kernel, LinearPart: _of_kernel, MemberDense: _of_kernel,
}  # fmt: skip
FREE = {
    L.Activation, L.ReLU, L.LeakyReLU, L.PReLU, L.ELU, L.Softmax,
    L.BatchNormalization, L.LayerNormalization, L.GroupNormalization, L.UnitNormalization, L.Normalization, L.Rescaling,
    L.Dropout, L.SpatialDropout1D, L.SpatialDropout2D, L.SpatialDropout3D, L.GaussianDropout, L.GaussianNoise,
    L.MaxPooling1D, L.MaxPooling2D, L.MaxPooling3D, L.AveragePooling1D, L.AveragePooling2D, L.AveragePooling3D,
    L.GlobalMaxPooling1D, L.GlobalMaxPooling2D, L.GlobalMaxPooling3D,
    L.GlobalAveragePooling1D, L.GlobalAveragePooling2D, L.GlobalAveragePooling3D,
    L.ZeroPadding1D, L.ZeroPadding2D, L.ZeroPadding3D, L.Cropping1D, L.Cropping2D, L.Cropping3D,
    L.UpSampling1D, L.UpSampling2D, L.UpSampling3D, L.Resizing, L.Flatten, L.Reshape, L.Permute, L.RepeatVector,
    L.Concatenate, L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum, L.Identity, L.Embedding,
    CategoryEmbedding, Members, MeanOfMembers, ReversedChannels, Temperature, WeightedMean,
}  # fmt: skip
ELEMENTWISE = {
    "keras.src.ops": {"Add", "Subtract", "Multiply", "TrueDivide", "Divide", "Maximum", "Minimum", "Relu", "Relu6"},
    "keras.src.applications": {"LayerScale", "StochasticDepth", "CustomScaleLayer"},
}


def _count_of(layer: Any) -> Callable[[Any, Shape, Shape], int] | None:
    """The exact kind decides: a layer derived from one of these may compute anything."""
    kind = type(layer)
    package = ".".join(kind.__module__.split(".")[:3])
    if kind in FREE or kind.__name__ in ELEMENTWISE.get(package, ()):
        return _nothing
    return COUNTED.get(kind)
