"""Model config and preprocessor in, a Keras model out: networks are data, not code.

Inputs are a dict of `numbers` [rows, d], `categories` [rows, c] and `image` [rows, h, w, c], those
that the dataset has. Outputs: [rows, 1] in the target's unit (regression), [rows, 1] the second
class's probability (binary), [rows, classes] probabilities (multiclass and image).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import keras

from baton.config.schema import Model
from baton.data.preprocessing import Preprocessor
from baton.data.target import LOG_LINKED, LOG_SQUARED
from baton.errors import BadInput
from baton.networks import backbones
from baton.networks.blocks import BLOCKS, demand_strides
from baton.networks.initialization import BY_VALUE, CATEGORY_ROWS, dropout_rates
from baton.networks.layers import (
    CategoryEmbedding,
    Cross,
    LinearPart,
    LogLink,
    Maxout,
    MeanOfMembers,
    MemberDense,
    Members,
    PiecewiseLinear,
)

# What a layer of `model.layers` or `model.graph` may be. All are plain: none runs code of its config.
LAYERS: dict[str, Callable[..., Any]] = {
    "dense": keras.layers.Dense,
    "maxout": Maxout,
    "activation": keras.layers.Activation,
    "batch_normalization": keras.layers.BatchNormalization,
    "layer_normalization": keras.layers.LayerNormalization,
    "dropout": keras.layers.Dropout,
    "conv2d": keras.layers.Conv2D,
    "depthwise_conv2d": keras.layers.DepthwiseConv2D,
    "separable_conv2d": keras.layers.SeparableConv2D,
    "zero_padding2d": keras.layers.ZeroPadding2D,
    "max_pooling2d": keras.layers.MaxPooling2D,
    "average_pooling2d": keras.layers.AveragePooling2D,
    "global_average_pooling2d": keras.layers.GlobalAveragePooling2D,
    "global_max_pooling2d": keras.layers.GlobalMaxPooling2D,
    "flatten": keras.layers.Flatten,
    "reshape": keras.layers.Reshape,
    "rescaling": keras.layers.Rescaling,
    "concatenate": keras.layers.Concatenate,
    "add": keras.layers.Add,
    "multiply": keras.layers.Multiply,
    **BLOCKS,
}

STATISTICS_MOMENTUM = 0.9  # of cnn's batch normalisation: few rows make few steps, in which 0.99 learns too little


def build(preprocessor: Preprocessor, model: Model, objective: str = "squared") -> keras.Model:
    """Preprocessor and model config → an untrained Keras model; raises `BadInput` for an unusable stack.

    A regression's `objective` decides its last layer: losses of targets above 0 have a logarithmic link.
    """
    inputs = _inputs(preprocessor)
    try:
        networks = model.networks if _is_mlp(preprocessor, model) else 1
        heads = ["head", *(f"head_{index}" for index in range(1, networks))]
        answers = [_answers(_body(inputs, preprocessor, model), preprocessor, model, head) for head in heads]
        return keras.Model(inputs, _output_layer(answers, inputs, preprocessor, model, objective))
    except (ValueError, TypeError) as error:
        raise BadInput(f"model: Keras cannot build this network: {_reason(error)}") from None


def on_backbone(backbone: keras.Model, end: str, preprocessor: Preprocessor, model: Model) -> keras.Model:
    """A backbone, of whose layers, which are shared, those up to `end` are taken → the network with a linear head."""
    inputs = {"image": backbone.inputs[0]}
    features = _means(backbone.get_layer(end).output, model)
    answers = _answers(features, preprocessor, model, "head")
    return keras.Model(inputs, _output_layer([answers], inputs, preprocessor, model, "auto"))


def _inputs(preprocessor: Preprocessor) -> dict[str, Any]:
    inputs = {}
    if names := preprocessor.names("number"):
        inputs["numbers"] = keras.Input([len(names)], name="numbers")
    if names := preprocessor.names("category"):
        inputs["categories"] = keras.Input([len(names)], dtype="int32", name="categories")
    if preprocessor.names("image"):
        size = preprocessor.image_size or {}
        inputs["image"] = keras.Input([size["height"], size["width"], size["channels"]], name="image")
    return inputs


def _is_mlp(preprocessor: Preprocessor, model: Model) -> bool:
    described = model.layers is not None or model.graph is not None
    return not described and model.recipe in (None, "mlp") and not preprocessor.names("image")


def _members(preprocessor: Preprocessor, model: Model) -> int:
    """How many members the network's ensemble has; only the recipe mlp makes one."""
    return model.members if _is_mlp(preprocessor, model) else 0


def _body(inputs: dict[str, Any], preprocessor: Preprocessor, model: Model) -> Any:
    if model.backbone or model.weights != "none":
        return _backbone(inputs["image"], model)
    recipe = model.recipe or ("cnn" if "image" in inputs else "mlp")
    if "image" in inputs:
        features = keras.layers.Rescaling(1 / 255, name="pixels")(inputs["image"])
    else:
        plain = model.numbers == "plain" or recipe == "linear"
        features = _table_features(
            inputs, preprocessor, model, plain, width=1 if recipe == "linear" else model.embedding
        )
    if model.layers is not None:
        return _stack(model.layers, features)
    if model.graph is not None:
        return _graph(model.graph, {**inputs, "features": features})
    if (recipe == "cnn") != ("image" in inputs) and recipe != "linear":
        raise BadInput(f"model.recipe {recipe} does not fit this data: images take cnn, tables mlp. Received: {recipe}")
    return {"linear": _linear, "mlp": _mlp, "cnn": _cnn}[recipe](features, model)


def _table_features(inputs: dict[str, Any], preprocessor: Preprocessor, model: Model, plain: bool, width: int) -> Any:
    """numbers and categories → one matrix: numbers plain or piecewise-linear too and by value, categories embedded."""
    parts = []
    if "numbers" in inputs:
        embed = (
            keras.layers.Identity() if plain else PiecewiseLinear(_edges(preprocessor), model.number_width, plain=True)
        )
        parts.append(embed(inputs["numbers"]))
    codes = [e for e in preprocessor.encoded if e.kind == "category"]
    embedded = [i for i, e in enumerate(codes) if e.encoding not in BY_VALUE or not plain]
    if embedded:
        sizes = [codes[i].size for i in embedded]
        chosen = None if len(embedded) == len(codes) else embedded
        dropout = (
            [share for i in embedded for share in dropout_rates(codes[i], CATEGORY_ROWS)]
            if model.category_dropout
            else None
        )
        parts.append(CategoryEmbedding(sizes, width, chosen, dropout)(inputs["categories"]))
    return keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]


def _linear(features: Any, model: Model) -> Any:
    return keras.layers.Flatten()(features) if len(features.shape) > 2 else features


def _mlp(features: Any, model: Model) -> Any:
    if model.cross_rank:
        features = Cross(min(model.cross_rank, features.shape[-1]))(features)
    if model.members > 1:
        features = Members(model.members)(features)
    for units in model.hidden:
        if model.activation == "maxout":
            features = Maxout(units)(features)
        else:
            features = keras.layers.Dense(units, kernel_regularizer=_regularizer(model))(features)
        if model.batch_normalization:
            features = keras.layers.BatchNormalization()(features)
        if model.activation != "maxout":
            features = keras.layers.Activation(model.activation)(features)
        if model.dropout:
            features = keras.layers.Dropout(model.dropout)(features)
    return features


def _cnn(features: Any, model: Model) -> Any:
    """Stages of convolutions as `filters` says, each normalised and activated; pooled between, and averaged at last.

    A large picture is seen at a half or a quarter of its size from the first convolution on.
    """
    stride = _stride(min(features.shape[1:3]))
    for stage, filters in enumerate(model.filters):
        for index in range(model.convolutions):
            pooled = index == model.convolutions - 1 and stage < len(model.filters) - 1
            features = _convolution(features, filters, stride, model, pooled)
            stride = 1
    features = keras.layers.GlobalAveragePooling2D()(features)
    return keras.layers.Dropout(model.dropout)(features) if model.dropout else features


def _backbone(pixels: Any, model: Model) -> Any:
    """The means of a backbone's last map."""
    return _means(backbones.flat(backbones.build_backbone(model, pixels.shape[1:]), pixels), model)


def _means(maps: Any, model: Model) -> Any:
    features = keras.layers.GlobalAveragePooling2D()(maps)
    return keras.layers.Dropout(model.dropout)(features) if model.dropout else features


def _convolution(features: Any, filters: int, stride: int, model: Model, pooled: bool) -> Any:
    """A convolution, normalised, pooled while the picture is large enough, and activated: of a quarter of the values.

    That is the same as to activate first, if the activation rises.
    """
    normalized = model.batch_normalization is not False
    size = {"kernel_size": max(3, 2 * stride - 1), "strides": stride, "padding": "same"}
    features = keras.layers.Conv2D(filters, use_bias=not normalized, **size)(features)
    if normalized:
        features = keras.layers.BatchNormalization(momentum=STATISTICS_MOMENTUM)(features)
    if pooled and min(features.shape[1:3]) >= 4:
        features = keras.layers.MaxPooling2D()(features)
    return keras.layers.Activation("relu" if model.activation == "maxout" else model.activation)(features)


def _stride(side: int) -> int:
    """Of the first convolution, for pictures whose shorter side has so many pixels."""
    return 1 if side <= 64 else 2 if side <= 128 else 4


def _stack(layers: list[dict[str, Any]], features: Any) -> Any:
    for index, described in enumerate(layers):
        features = _applied(described, f"model.layers.{index}", features)
    return features


def _graph(nodes: list[dict[str, Any]], tensors_by_name: dict[str, Any]) -> Any:
    for index, described in enumerate(nodes):
        where = f"model.graph.{index}"
        described = dict(described)
        sources = described.pop("inputs", None) or ["features"]
        if not isinstance(sources, list):
            raise BadInput(f"{where}.inputs must be a list of names. Received: {sources!r}")
        absent = [str(name) for name in sources if str(name) not in tensors_by_name]
        if absent:
            raise BadInput(f"{where}.inputs: unknown {', '.join(absent)}. Allowed: {', '.join(tensors_by_name)}")
        name = str(described.get("name", index))
        if name in tensors_by_name:
            raise BadInput(f"{where}.name is taken already. Received: {name}")
        tensors = [tensors_by_name[str(name)] for name in sources]
        tensors_by_name[name] = _applied(described, where, tensors if len(tensors) > 1 else tensors[0])
    return tensors_by_name[name]


def _applied(described: dict[str, Any], where: str, inputs: Any) -> Any:
    """A described layer, made and called; raises `BadInput` that names its place."""
    layer = _layer(described, where)
    try:
        if isinstance(layer, keras.layers.Layer) and len(getattr(inputs, "shape", ())) == 4:
            demand_strides(inputs.shape, getattr(layer, "strides", None) or 1)
        return layer(inputs)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{where}: {_reason(error)}. Received: {described}") from None


def _layer(described: dict[str, Any], where: str) -> Any:
    options = dict(described)
    kind = options.pop("type", None)
    if kind not in LAYERS:
        raise BadInput(f"{where}.type must be one of {', '.join(LAYERS)}. Received: {kind!r}")
    if options.get("activation") == "maxout":
        raise BadInput(f"{where}: write maxout as a layer of its own, {{type: maxout, units: 64}}. Received: {kind}")
    try:
        return LAYERS[kind](**options)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{where}: {_reason(error)}. Received: {described}") from None


def _reason(error: Exception) -> str:
    """What Keras says, on one line: where it prints a part in bold, that part."""
    bold = re.search(r"\x1b\[1m(.*?)\x1b\[0m", str(error), re.DOTALL)
    return " ".join((bold[1] if bold else str(error)).split())[:300].rstrip(".")


def _answers(body: Any, preprocessor: Preprocessor, model: Model, name: str) -> Any:
    """A network's last features → what it answers before the activation: [rows, units], of members [rows, m, units]."""
    units, _ = _units(preprocessor)
    if _members(preprocessor, model) > 1:
        return MemberDense(units, name=name)(body)
    if len(body.shape) > 2:
        body = keras.layers.Flatten()(body)
    return keras.layers.Dense(units, kernel_regularizer=_regularizer(model), name=name)(body)


def _output_layer(
    answers: list[Any], inputs: dict[str, Any], preprocessor: Preprocessor, model: Model, objective: str
) -> Any:
    """The networks' answers and the linear part → the output; several are members of one ensemble."""
    units, activation = _units(preprocessor)
    members = len(answers) > 1 or len(answers[0].shape) > 2
    if members:
        answers = [a if len(a.shape) > 2 else keras.layers.Reshape((1, units))(a) for a in answers]
    out = keras.layers.Concatenate(axis=1)(answers) if len(answers) > 1 else answers[0]
    if _is_mlp(preprocessor, model) and "numbers" in inputs:
        linear = LinearPart(_edges(preprocessor), units)(inputs["numbers"])
        out = keras.layers.Add()([out, keras.layers.Reshape((1, units))(linear) if members else linear])
    last = "each" if members else "output"
    out = _link(preprocessor, activation, objective, last)(out)
    return MeanOfMembers(name="output")(out) if members else out


def _link(preprocessor: Preprocessor, activation: str, objective: str, name: str) -> Any:
    """The layer that makes probabilities, or numbers in the target's unit, of a network's answers."""
    if preprocessor.classes:
        return keras.layers.Activation(activation, name=name)
    target = preprocessor.spec["target"]
    if objective in LOG_LINKED:
        return LogLink(target["mean"], corrected=objective == LOG_SQUARED, name=name)
    return keras.layers.Rescaling(target["std"], target["mean"], name=name)


def _edges(preprocessor: Preprocessor) -> list[list[float]]:
    return [list(e.edges) for e in preprocessor.encoded if e.kind == "number"]


def _units(preprocessor: Preprocessor) -> tuple[int, str]:
    """The output layer's units and activation."""
    if not preprocessor.classes:
        return 1, "linear"
    return (1, "sigmoid") if preprocessor.task == "binary" else (len(preprocessor.classes), "softmax")


def _regularizer(model: Model) -> Any:
    return keras.regularizers.L2(model.l2) if model.l2 else None
