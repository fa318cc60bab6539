"""Model config and preprocessor in, a Keras model out: networks are data, not code.

Inputs are a dict of `numbers` [rows, d], `categories` [rows, c] and `image` [rows, h, w, c], those
that the dataset has. Outputs: [rows, 1] in the target's unit (regression), [rows, 1] the second
class's probability (binary), [rows, classes] probabilities (multiclass and image).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from baton.config.schema import Fit, Model
from baton.data.preprocessing import Encoded, Preprocessor
from baton.errors import BadInput
from baton.networks import layers
from baton.networks.layers import (
    CategoryEmbedding,
    Cross,
    LinearPart,
    Maxout,
    MeanOfMembers,
    MemberDense,
    Members,
    PiecewiseLinear,
    Warmup,
)

# Train rows of a category that are forgotten every second time; of the value of a number, which the network sees as
# a number too, more of them. Chosen on the tables of `bench quality`.
FEW, FEW_VALUES = 15.0, 30.0
FEWEST = 1.0  # even of a column that tells all, some is forgotten: there are new categories to come
BEGIN_ROWS = 25_000  # that the credibility of columns is estimated on: more would not change who is forgotten
RIDGE = 0.01  # penalty of the linear part's beginning, as a share of a number's variance
RIDGE_ROWS = 10_000  # of fewer, the linear part begins at zero: training moves it, and validation would stop too soon

# What a layer of `model.layers` or `model.graph` may be. All are plain: none runs code of its config.
LAYERS: dict[str, Callable[..., Any]] = {
    "dense": keras.layers.Dense,
    "maxout": Maxout,
    "activation": keras.layers.Activation,
    "batch_normalization": keras.layers.BatchNormalization,
    "layer_normalization": keras.layers.LayerNormalization,
    "dropout": keras.layers.Dropout,
    "conv2d": keras.layers.Conv2D,
    "separable_conv2d": keras.layers.SeparableConv2D,
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
}

OPTIMIZERS: dict[str, Callable[[Any, Fit], Any]] = {
    "sgd": lambda rate, fit: keras.optimizers.SGD(rate),
    "momentum": lambda rate, fit: keras.optimizers.SGD(rate, momentum=fit.momentum),
    "nesterov": lambda rate, fit: keras.optimizers.SGD(rate, momentum=fit.momentum, nesterov=True),
    "rmsprop": lambda rate, fit: keras.optimizers.RMSprop(rate),
    "adam": lambda rate, fit: keras.optimizers.Adam(rate),
    "adamw": lambda rate, fit: keras.optimizers.AdamW(rate, weight_decay=fit.weight_decay),
}


def build(fitted: Preprocessor, model: Model) -> keras.Model:
    """Preprocessor and model config → an untrained Keras model; raises `BadInput` for an unusable stack."""
    inputs = _inputs(fitted)
    try:
        networks = model.networks if _is_mlp(fitted, model) else 1
        heads = ["head", *(f"head_{index}" for index in range(1, networks))]
        answers = [_answers(_body(inputs, fitted, model), fitted, model, head) for head in heads]
        return keras.Model(inputs, _output(answers, inputs, fitted, model))
    except (ValueError, TypeError) as error:
        raise BadInput(f"model: Keras cannot build this network: {' '.join(str(error).split())[:300]}") from None


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
    return made


def compile_model(model: keras.Model, fitted: Preprocessor, fit: Fit, made: Any) -> None:
    """Give `model` its loss, metrics and optimizer. Regression's loss is in units of the target's variance."""
    if not fitted.classes:
        loss, metric = "mean_squared_error", layers.RootMeanSquaredError("rmse")
    elif model.output_shape[-1] == 1:
        loss, metric = "binary_crossentropy", layers.BinaryAccuracy("accuracy")
    else:
        loss, metric = "sparse_categorical_crossentropy", layers.SparseCategoricalAccuracy("accuracy")
    weights = None if fitted.classes else [fitted.spec["target"]["std"] ** -2]
    model.compile(
        made,
        layers.EachMember(loss),
        loss_weights=weights,
        weighted_metrics=[metric],
        jit_compile=False,  # slower on CPU here, and Horovod's ops cannot be compiled
    )


def begin(model: keras.Model, fitted: Preprocessor, blocks: Iterator[dict[str, np.ndarray]]) -> None:
    """Settle what an untrained network owes to some train rows: how often it forgets categories, its linear part.

    Of the blocks of rows it takes the first, and none where no layer asks for it: images are not read for nothing.
    """
    if not any(isinstance(layer, CategoryEmbedding | LinearPart) for layer in model.layers):
        return
    rows = next(blocks)
    if "categories" in rows:
        _begin_forgetting(model, fitted, rows["categories"], rows["target"])
    if "numbers" in rows:
        begin_linear(model, fitted, rows["numbers"], rows["target"])


def _begin_forgetting(model: keras.Model, fitted: Preprocessor, codes: np.ndarray, target: np.ndarray) -> None:
    """Forget fewer of the rare categories of a column whose categories tell the target nearly by themselves."""
    embeddings = [layer for layer in model.layers if isinstance(layer, CategoryEmbedding) and layer.forget is not None]
    if not embeddings:
        return
    named = [e for e in fitted.encoded if e.kind == "category"]
    target = target[:BEGIN_ROWS]
    told = np.eye(len(fitted.classes))[target.astype(int)] if fitted.classes else target[:, None]
    found = credibilities(codes[:BEGIN_ROWS], told)
    few = [min(max(found[i], FEWEST), FEW) if e.encoding == "vocabulary" else FEW_VALUES for i, e in enumerate(named)]
    for layer in embeddings:
        layer.forget = [share for i in layer.columns or range(len(named)) for share in _forget(named[i], few[i])]


def credibilities(codes: np.ndarray, target: np.ndarray) -> list[float]:
    """Codes [rows, c] and target [rows, d] → `credibility` of each column for what columns of a lesser one leave.

    A lesser one tells more; the order is that of the columns taken alone.
    """
    left = target - target.mean(axis=0)
    found = [credibility(column, left) for column in codes.T]
    for index in np.argsort(found):
        found[index] = credibility(codes[:, index], left)
        left = left - _means(codes[:, index], left, found[index])
    return found


def credibility(codes: np.ndarray, target: np.ndarray) -> float:
    """Codes [rows] and target [rows, d] → how many rows of a code tell as much of it as all others do together.

    The variance within codes as a share of that between them, by the unbiased estimates of one-way analysis of
    variance (Bühlmann and Straub, 1970); infinite where codes tell nothing.
    """
    code, count = np.unique(codes, return_inverse=True, return_counts=True)[1:]
    rows, groups = len(codes), len(count)
    if groups < 2 or groups == rows:
        return np.inf
    centred = target - target.mean(axis=0)
    between = float((_sums(code, centred) ** 2 / count[:, None]).sum())
    within = (float((centred**2).sum()) - between) / (rows - groups)
    spread = (between - (groups - 1) * within) / (rows - float((count**2).sum()) / rows)
    return within / spread if spread > 0 else np.inf


def _means(codes: np.ndarray, target: np.ndarray, prior: float) -> np.ndarray:
    """Each row's mean of its code [rows, d], drawn to zero as if `prior` rows more had it."""
    code, count = np.unique(codes, return_inverse=True, return_counts=True)[1:]
    return (_sums(code, target) / (count + prior)[:, None])[code]


def _sums(codes: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(codes, column) for column in target.T], axis=1)


def begin_linear(model: keras.Model, fitted: Preprocessor, numbers: np.ndarray, target: np.ndarray) -> None:
    """Let a regression's linear part begin as the ridge regression on these rows' numbers [rows, d].

    Rare rows with large targets, which clipped gradients hardly move, are met by a trend from the start.
    """
    part = next((layer for layer in model.layers if isinstance(layer, LinearPart)), None)
    if part is None or fitted.classes or len(numbers) < RIDGE_ROWS:
        return
    x = part.clipped(numbers).astype(np.float64)
    x -= x.mean(axis=0)
    y = (target - target.mean()) / fitted.spec["target"]["std"]
    penalty = RIDGE * len(x) * np.eye(x.shape[1])
    part.kernel.assign(np.linalg.solve(x.T @ x + penalty, x.T @ y)[:, None])


def probabilities(output: np.ndarray, classes: list[str]) -> np.ndarray:
    """Network output → [rows, classes]; a binary network's one column becomes two."""
    if len(classes) == 2 and output.shape[1] == 1:
        return np.concatenate([1 - output, output], axis=1)
    return output


def _inputs(fitted: Preprocessor) -> dict[str, Any]:
    inputs = {}
    if names := fitted.names("number"):
        inputs["numbers"] = keras.Input([len(names)], name="numbers")
    if names := fitted.names("category"):
        inputs["categories"] = keras.Input([len(names)], dtype="int32", name="categories")
    if fitted.names("image"):
        size = fitted.image_size or {}
        inputs["image"] = keras.Input([size["height"], size["width"], size["channels"]], name="image")
    return inputs


def _is_mlp(fitted: Preprocessor, model: Model) -> bool:
    described = model.layers is not None or model.graph is not None
    return not described and model.recipe in (None, "mlp") and not fitted.names("image")


def _members(fitted: Preprocessor, model: Model) -> int:
    """How many members the network's ensemble has; only the recipe mlp makes one."""
    return model.members if _is_mlp(fitted, model) else 0


def _body(inputs: dict[str, Any], fitted: Preprocessor, model: Model) -> Any:
    recipe = model.recipe or ("cnn" if "image" in inputs else "mlp")
    if "image" in inputs:
        features = keras.layers.Rescaling(1 / 255, name="pixels")(inputs["image"])
    else:
        plain = model.numbers == "plain" or recipe == "linear"
        features = _table_features(inputs, fitted, model, plain, width=1 if recipe == "linear" else model.embedding)
    if model.layers is not None:
        return _stack(model.layers, features)
    if model.graph is not None:
        return _graph(model.graph, {**inputs, "features": features})
    if (recipe == "cnn") != ("image" in inputs) and recipe != "linear":
        raise BadInput(f"model.recipe {recipe} does not fit this data: images take cnn, tables mlp. Received: {recipe}")
    return {"linear": _linear, "mlp": _mlp, "cnn": _cnn}[recipe](features, model)


def _table_features(inputs: dict[str, Any], fitted: Preprocessor, model: Model, plain: bool, width: int) -> Any:
    """numbers and categories → one matrix: numbers plain or piecewise-linear too and by value, categories embedded."""
    parts = []
    if "numbers" in inputs:
        embed = keras.layers.Identity() if plain else PiecewiseLinear(_edges(fitted), model.number_width, plain=True)
        parts.append(embed(inputs["numbers"]))
    codes = [e for e in fitted.encoded if e.kind == "category"]
    embedded = [i for i, e in enumerate(codes) if e.encoding == "vocabulary" or not plain]
    if embedded:
        sizes = [codes[i].size for i in embedded]
        chosen = None if len(embedded) == len(codes) else embedded
        forget = [share for i in embedded for share in _forget(codes[i], FEW)] if model.forget else None
        parts.append(CategoryEmbedding(sizes, width, chosen, forget)(inputs["categories"]))
    return keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]


def _forget(code: Encoded, few: float) -> list[float]:
    """A categorical column → how often training takes each of its codes for unknown: one of `few` rows half the time.

    What few rows say would be learnt by heart, and rows of new categories must be met prepared.
    """
    return [1 / (1 + (rows / few) ** 2) for rows in code.rows]


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
    """Convolutions as `filters` says, each with pooling while the picture is large enough."""
    activation = "relu" if model.activation == "maxout" else model.activation
    for filters in model.filters:
        features = keras.layers.Conv2D(filters, 3, padding="same", use_bias=not model.batch_normalization)(features)
        if model.batch_normalization:
            features = keras.layers.BatchNormalization()(features)
        if min(features.shape[1:3]) >= 4:
            features = keras.layers.MaxPooling2D()(features)
        features = keras.layers.Activation(activation)(features)  # of a quarter of the values; the same, if it rises
    features = keras.layers.Flatten()(features)
    features = keras.layers.Dense(128, activation, kernel_regularizer=_regularizer(model))(features)
    return keras.layers.Dropout(model.dropout)(features) if model.dropout else features


def _stack(layers: list[dict[str, Any]], features: Any) -> Any:
    for index, described in enumerate(layers):
        features = _applied(described, f"model.layers.{index}", features)
    return features


def _graph(nodes: list[dict[str, Any]], known: dict[str, Any]) -> Any:
    for index, described in enumerate(nodes):
        where = f"model.graph.{index}"
        described = dict(described)
        sources = described.pop("inputs", None) or ["features"]
        if not isinstance(sources, list):
            raise BadInput(f"{where}.inputs must be a list of names. Received: {sources!r}")
        absent = [str(name) for name in sources if str(name) not in known]
        if absent:
            raise BadInput(f"{where}.inputs: unknown {', '.join(absent)}. Allowed: {', '.join(known)}")
        name = str(described.get("name", index))
        if name in known:
            raise BadInput(f"{where}.name is taken already. Received: {name}")
        tensors = [known[str(name)] for name in sources]
        known[name] = _applied(described, where, tensors if len(tensors) > 1 else tensors[0])
    return known[name]


def _applied(described: dict[str, Any], where: str, inputs: Any) -> Any:
    """A described layer, made and called; raises `BadInput` that names its place."""
    layer = _layer(described, where)
    try:
        return layer(inputs)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{where}: {' '.join(str(error).split())[:300]}. Received: {described}") from None


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
        raise BadInput(f"{where}: {' '.join(str(error).split())[:300]}. Received: {described}") from None


def _answers(body: Any, fitted: Preprocessor, model: Model, name: str) -> Any:
    """A network's last features → what it answers before the activation: [rows, units], of members [rows, m, units]."""
    units, _ = _units(fitted)
    if _members(fitted, model) > 1:
        return MemberDense(units, name=name)(body)
    if len(body.shape) > 2:
        body = keras.layers.Flatten()(body)
    return keras.layers.Dense(units, kernel_regularizer=_regularizer(model), name=name)(body)


def _output(answers: list[Any], inputs: dict[str, Any], fitted: Preprocessor, model: Model) -> Any:
    """The networks' answers and the linear part → the output; several are members of one ensemble."""
    units, activation = _units(fitted)
    members = len(answers) > 1 or len(answers[0].shape) > 2
    if members:
        answers = [a if len(a.shape) > 2 else keras.layers.Reshape((1, units))(a) for a in answers]
    out = keras.layers.Concatenate(axis=1)(answers) if len(answers) > 1 else answers[0]
    if _is_mlp(fitted, model) and "numbers" in inputs:
        linear = LinearPart(_edges(fitted), units)(inputs["numbers"])
        out = keras.layers.Add()([out, keras.layers.Reshape((1, units))(linear) if members else linear])
    last = "each" if members else "output"
    if fitted.classes:
        out = keras.layers.Activation(activation, name=last)(out)
    else:
        target = fitted.spec["target"]
        out = keras.layers.Rescaling(target["std"], target["mean"], name=last)(out)
    return MeanOfMembers(name="output")(out) if members else out


def _edges(fitted: Preprocessor) -> list[list[float]]:
    return [list(e.edges) for e in fitted.encoded if e.kind == "number"]


def _units(fitted: Preprocessor) -> tuple[int, str]:
    """The output layer's units and activation."""
    if not fitted.classes:
        return 1, "linear"
    return (1, "sigmoid") if fitted.task == "binary" else (len(fitted.classes), "softmax")


def _regularizer(model: Model) -> Any:
    return keras.regularizers.L2(model.l2) if model.l2 else None
