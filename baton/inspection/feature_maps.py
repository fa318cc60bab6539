"""A model of pictures and test rows in, what its convolutions learnt out.

That is the filters of the first convolution, the feature maps of a picture after each stage, and pictures that a small
change turns into another class: the fast gradient sign method of Goodfellow et al., "Explaining and harnessing
adversarial examples", 2015.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pyarrow as pa

from baton.data.preprocessing import usable
from baton.data.raw_rows import RawRows
from baton.networks import prediction
from baton.serving.raw_columns import RawColumnModel

SHARE = 0.25  # of the explanation's seconds, at most
PICTURES = 24  # test rows that are looked at
STEPS = (1, 2, 4, 8, 16, 32)  # changes of every pixel that are tried, of 255
MAX_FILTERS, MAX_STAGES, MAX_MAPS, MAX_EXAMPLES = 32, 5, 8, 6
SLOWER = 10.0  # changing a picture takes so many times a prediction, before one was timed


@dataclass(frozen=True)
class Filters:
    """The strongest kernels of a layer, [height, width, channels, n]; it has `count` of them."""

    layer: str
    kernels: np.ndarray
    count: int


@dataclass(frozen=True)
class Stage:
    """The maps of a picture that vary most, [height, width, n]; the layer has `channels` of them."""

    layer: str
    maps: np.ndarray
    channels: int


@dataclass(frozen=True)
class Adversarial:
    """A test row whose class another one takes the place of, where each pixel moves by `step` of 255 at most."""

    row: int
    pixels: np.ndarray
    changed: np.ndarray
    step: int
    before: tuple[str, float]
    after: tuple[str, float]


@dataclass(frozen=True)
class FeatureMaps:
    """What a network's convolutions learnt: `row` is that of `picture`; `steps` what turns each picture tried, or 0."""

    filters: Filters | None
    row: int
    picture: np.ndarray
    classified: str
    stages: list[Stage]
    steps: list[int]
    examples: list[Adversarial]
    seconds: float

    def turned(self, step: int) -> int:
        """How many of the pictures tried a change of so much, or less, turns into another class."""
        return sum(0 < needed <= step for needed in self.steps)


def learnt(model: RawColumnModel, raw: pa.Table | RawRows, seconds: float, seed: int) -> FeatureMaps | None:
    """A model and raw rows with the target → `FeatureMaps` within seconds; None where no picture can be used.

    One picture is classified and its maps are drawn whatever that takes; others are classified in half of the seconds,
    and changed only where there is time for it.
    """
    started = time.monotonic()
    preprocessor = model.preprocessor
    drawn = np.random.default_rng(seed).permutation(raw.num_rows)[:PICTURES]
    rows, kept, targets = usable(raw.take(pa.array(drawn)), preprocessor)
    if not len(targets):
        return None
    pixels = preprocessor.blocks(preprocessor.encode(rows))["image"]
    answers = _classified(model, pixels, started + seconds / 2)
    sure = np.where(answers.argmax(axis=1) == targets[: len(answers)], answers.max(axis=1), 0)
    best = int(sure.argmax())
    begun = time.monotonic()
    stages = feature_maps(model.network, pixels[best])
    guess = SLOWER * (time.monotonic() - begun)
    right = [int(index) for index in np.argsort(-sure, kind="stable") if sure[index] > 0]
    steps, examples = _adversarial(model, pixels, drawn[kept], right, started + seconds, guess)
    return FeatureMaps(
        first_filters(model.network), int(drawn[kept][best]), pixels[best],
        preprocessor.classes[int(answers[best].argmax())], stages, steps, examples, time.monotonic() - started,
    )  # fmt: skip


def _classified(model: RawColumnModel, pixels: np.ndarray, until: float) -> np.ndarray:
    """Pictures one by one → the network's answers [n, k]: of the first, and of others while there is time."""
    answers = []
    for picture in pixels:
        answers.append(prediction.predict(model.network, {"image": picture[None]}))
        if time.monotonic() > until:
            break
    return np.concatenate(answers)


def first_filters(network: keras.Model) -> Filters | None:
    """The kernels that a network first lays over its pictures, the strongest first; None if it has none."""
    channels = network.inputs[0].shape[-1]
    for layer in network.layers:
        kernel = getattr(layer, "depthwise_kernel", getattr(layer, "kernel", None))
        if kernel is None or len(kernel.shape) != 4 or max(kernel.shape[:2]) == 1 or kernel.shape[2] != channels:
            continue
        kernels = np.asarray(kernel)
        if not isinstance(layer, keras.layers.Conv2D):  # depthwise: each channel has kernels of its own
            kernels = kernels.reshape(*kernels.shape[:2], 1, -1)
        ranked = np.argsort(-np.abs(kernels).sum(axis=(0, 1, 2)), kind="stable")
        return Filters(layer.name, kernels[..., ranked[:MAX_FILTERS]], kernels.shape[-1])
    return None


def stage_layers(network: keras.Model) -> list[keras.layers.Layer]:
    """A layer of each size of map, largest size first: of those with most channels, as a stage ends with, the last."""
    best: dict[tuple[int, int], keras.layers.Layer] = {}
    weighed = False
    for layer in network.layers:
        weighed = weighed or bool(layer.weights)
        shape = keras.tree.flatten(layer.output)[0].shape
        if not weighed or len(shape) != 4 or min(shape[1:3]) == 1:  # pictures as they came, or single numbers
            continue
        if (before := best.get(shape[1:3])) is None or shape[3] >= before.output.shape[3]:
            best[shape[1:3]] = layer
    chosen = np.unique(np.linspace(0, len(best) - 1, min(MAX_STAGES, len(best))).round().astype(int))
    return [list(best.values())[index] for index in chosen]


def feature_maps(network: keras.Model, picture: np.ndarray) -> list[Stage]:
    """A picture [h, w, c] → a `Stage` of each size of map in the network."""
    layers = stage_layers(network)
    if not layers:
        return []
    outputs = keras.Model(network.inputs, [layer.output for layer in layers])
    values = outputs({"image": picture[None].astype(np.float32)}, training=False)
    stages = []
    for layer, value in zip(layers, values if isinstance(values, list | tuple) else [values], strict=True):
        maps = np.asarray(value)[0]
        ranked = np.argsort(-maps.std(axis=(0, 1)), kind="stable")
        stages.append(Stage(layer.name, maps[..., ranked[:MAX_MAPS]], maps.shape[-1]))
    return stages


def gradient_sign(network: keras.Model, pictures: np.ndarray) -> np.ndarray:
    """Pictures [n, h, w, c] → in which direction each pixel moves them away from their class: -1, 0 or 1.

    It is the sign of the cross-entropy's gradient, taken of what the last activation gets: where the network is sure,
    rounded probabilities have no gradient.
    """
    import tensorflow as tf

    scores_of = keras.Model(network.inputs, network.get_layer("output").input)
    values = tf.constant(pictures, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(values)
        scores = scores_of({"image": values}, training=False)
        own = tf.one_hot(tf.argmax(scores, axis=1), scores.shape[1], on_value=True, off_value=False)
        others = tf.reduce_logsumexp(tf.where(own, -np.inf, scores), axis=1)
        away = tf.reduce_sum(others - tf.reduce_max(scores, axis=1))
    return tf.sign(tape.gradient(away, values)).numpy()


def _adversarial(
    model: RawColumnModel, pixels: np.ndarray, rows: np.ndarray, chosen: list[int], deadline: float, guess: float
) -> tuple[list[int], list[Adversarial]]:
    """The pictures chosen, one by one while there is time → what step turns each, and the least changed of those."""
    steps: list[int] = []
    examples: list[Adversarial] = []
    for index in chosen:
        started = time.monotonic()
        if started + guess > deadline:
            break
        example = adversarial(model, int(rows[index]), pixels[index])
        steps.append(example.step if example else 0)
        examples += [example] if example else []
        guess = time.monotonic() - started
    return steps, sorted(examples, key=lambda example: example.step)[:MAX_EXAMPLES]


def adversarial(model: RawColumnModel, row: int, picture: np.ndarray) -> Adversarial | None:
    """A picture [h, w, c] of whole numbers → the least step by its gradient's sign that turns it; None if none does."""
    sign = gradient_sign(model.network, picture[None])[0]
    changed = np.stack([np.clip(picture + step * sign, 0, 255) for step in (0, *STEPS)]).astype(np.uint8)
    answers = prediction.predict(model.network, {"image": changed})
    named = answers.argmax(axis=1)
    if not (turned := np.flatnonzero(named != named[0])).size:
        return None
    first, classes = int(turned[0]), model.preprocessor.classes
    before, after = ((classes[named[i]], float(answers[i].max())) for i in (0, first))
    return Adversarial(row, picture, changed[first], STEPS[first - 1], before, after)


def to_dict(learnt_maps: FeatureMaps) -> dict[str, Any]:
    """`FeatureMaps` → the key `feature_maps` of `explanation.json`: plain values."""
    filters = learnt_maps.filters
    return {
        "seconds": round(learnt_maps.seconds, 2),
        "filters": filters and {
            "layer": filters.layer, "count": filters.count,
            "height": filters.kernels.shape[0], "width": filters.kernels.shape[1],
        },
        "picture": learnt_maps.row,
        "stages": [
            {"layer": s.layer, "height": s.maps.shape[0], "width": s.maps.shape[1], "channels": s.channels}
            for s in learnt_maps.stages
        ],
        "changed": len(learnt_maps.steps),
        "turned": {str(step): learnt_maps.turned(step) for step in STEPS} if learnt_maps.steps else {},
        "examples": [
            {"row": e.row, "step": e.step, "class": e.before[0], "probability": e.before[1],
             "becomes": e.after[0], "probability_then": e.after[1]}
            for e in learnt_maps.examples
        ],
    }  # fmt: skip
