"""A model of pictures and test rows in, where in a picture it sees a class out: Grad-CAM.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017: the
channels of the last feature map are weighed by how much a class's score rises with them, and added up.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pyarrow as pa

from baton.data.raw_rows import RawRows
from baton.data.target import decide
from baton.inspection.examples import pixels_of, surest
from baton.serving.raw_columns import RawColumnModel

SHARE = 0.25  # of the explanation's seconds, at most
MAX_EACH = 6  # right ones, and wrong ones
NO_MAP = "The network has no feature map of more than one cell: there is nothing to show where it sees a class."


@dataclass(frozen=True)
class Example:
    """A test row, and where the network sees the predicted class in it, [h', w'].

    Of a wrong one `actual_map` is where it sees the actual class. Both are on one scale.
    """

    row: int
    pixels: np.ndarray
    predicted: tuple[str, float]
    actual: tuple[str, float]
    predicted_map: np.ndarray
    actual_map: np.ndarray | None


@dataclass(frozen=True)
class GradCam:
    """Right ones and wrong ones of the test rows, and the layer whose map was weighed, [height, width]."""

    layer: str
    size: tuple[int, int]
    right: list[Example]
    wrong: list[Example]
    seconds: float


def grad_cam(
    model: RawColumnModel, raw: pa.Table | RawRows, targets: np.ndarray, predictions: np.ndarray, seconds: float
) -> GradCam | None:
    """A model, raw rows, their targets [n] and its output [n, k] → `GradCam` within seconds; None without a map.

    One picture is looked at whatever that takes; others while there is time, right ones and wrong ones in turns.
    """
    started = time.monotonic()
    layer = last_map(model.network)
    if layer is None:
        return None
    predicted = decide(predictions, model.preprocessor.threshold)
    rows = chosen_rows(targets, predicted, predictions)
    pixels = pixels_of(raw, model.preprocessor, rows)
    examples: list[Example] = []
    guess = 0.0
    for row in rows.tolist():
        begun = time.monotonic()
        if examples and begun + guess > started + seconds:
            break
        examples.append(_example(model, row, pixels[row], int(targets[row]), int(predicted[row]), predictions[row]))
        guess = time.monotonic() - begun
    right, wrong = ([e for e in examples if (e.actual_map is None) == kind] for kind in (True, False))
    return GradCam(layer.name, _map_of(layer).shape[1:3], right, wrong, time.monotonic() - started)


def chosen_rows(targets: np.ndarray, predicted: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Targets and predicted classes [n], output [n, k] → rows the model is surest of, right and wrong in turns."""
    certainty = predictions[np.arange(len(predicted)), predicted]
    kinds = [np.flatnonzero((predicted == targets) == right) for right in (True, False)]
    right, wrong = (surest(rows, predicted, certainty, MAX_EACH).tolist() for rows in kinds)
    turns = itertools.chain.from_iterable(itertools.zip_longest(right, wrong))
    return np.array([row for row in turns if row is not None], np.int64)


def _example(
    model: RawColumnModel, row: int, picture: np.ndarray, actual: int, predicted: int, answer: np.ndarray
) -> Example:
    asked = [predicted] if predicted == actual else [predicted, actual]
    maps = class_maps(model.network, picture, asked)
    named = [(model.preprocessor.classes[index], float(answer[index])) for index in (predicted, actual)]
    return Example(row, picture, named[0], named[1], maps[0], maps[1] if len(asked) > 1 else None)


def last_map(network: keras.Model) -> keras.layers.Layer | None:
    """The layer that gives a network's last feature map of more than one cell; None where it has none.

    If there is one, it is a map that no branch passes by: of a branch's own map a class is made in part only.
    """
    weighed, maps = False, []
    for layer in network.layers:
        weighed = weighed or bool(layer.weights)
        shape = _map_of(layer).shape
        padded = isinstance(layer, keras.layers.ZeroPadding2D)  # cells beside the picture
        if weighed and not padded and len(shape) == 4 and min(shape[1:3]) > 1:  # before any weight: the picture itself
            maps.append(layer)
    passages = _passages(network)
    whole = [layer for layer in maps if layer in passages]
    return (whole or maps or [None])[-1]


def _passages(network: keras.Model) -> list[keras.layers.Layer]:
    """The layers that every path from input to output goes through."""
    last_use = {
        id(tensor): place for place, layer in enumerate(network.layers) for tensor in keras.tree.flatten(layer.input)
    }
    passages, needed_until = [], 0
    for place, layer in enumerate(network.layers):
        if needed_until <= place:  # nothing before it is needed behind it
            passages.append(layer)
        needed_until = max(needed_until, *(last_use.get(id(t), 0) for t in keras.tree.flatten(layer.output)))
    return passages


def class_maps(network: keras.Model, picture: np.ndarray, classes: list[int]) -> np.ndarray:
    """A picture [h, w, c] and n classes → where the network sees each of them in it, [n, h', w'], 0 or more.

    The class's score is what the last activation gets: where the network is sure, probabilities have no gradient.
    """
    import tensorflow as tf

    maps_and_scores = keras.Model(network.inputs, [_map_of(last_map(network)), network.get_layer("output").input])
    values = tf.constant(picture[None], tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(values)  # or a frozen network leaves nothing to differentiate
        maps, scores = maps_and_scores({"image": values}, training=False)
        asked = [scores[0, index] for index in classes]
    gradients = tf.concat([tape.gradient(score, maps) for score in asked], axis=0)
    weights = tf.reduce_mean(gradients, axis=(1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * maps, axis=3)).numpy()


def _map_of(layer: Any) -> Any:
    return keras.tree.flatten(layer.output)[0]


def to_dict(looked: GradCam | None) -> dict[str, Any]:
    """`GradCam` → the key `grad_cam` of `explanation.json`: plain values."""
    if looked is None:
        return {"reason": NO_MAP}
    return {
        "seconds": round(looked.seconds, 2),
        "layer": looked.layer, "height": looked.size[0], "width": looked.size[1],
        "right": [_plain(example) for example in looked.right],
        "wrong": [_plain(example) for example in looked.wrong],
    }  # fmt: skip


def _plain(example: Example) -> dict[str, Any]:
    told = {
        "row": example.row, "class": example.predicted[0], "probability": example.predicted[1],
        "strongest": strongest(example.predicted_map),
    }  # fmt: skip
    if example.actual_map is None:
        return told
    actual = {"actual": example.actual[0], "probability_actual": example.actual[1]}
    return told | actual | {"strongest_actual": strongest(example.actual_map)}


def strongest(values: np.ndarray) -> dict[str, float] | None:
    """A map [h, w] → its strongest place, from 0 to 1 down and across the picture; None of an empty map."""
    if not values.max() > 0:
        return None
    place = np.unravel_index(int(values.argmax()), values.shape)
    down, across = ((p + 0.5) / size for p, size in zip(place, values.shape, strict=True))
    return {"down": round(float(down), 3), "across": round(float(across), 3)}
