"""The default augmentation of a block of pictures, with a flip, against Keras' layers for the same operations.

Baton: `Augmentation`, as the feed calls it on bytes: a flip, a shift, contrast, a patch erased. Keras: `RandomFlip`,
`RandomTranslation` (edges repeated), `RandomContrast` and `RandomErasing` one after the other on the same pictures,
within one graph, as a map of tf.data runs them. The first of each, in which TensorFlow traces, does not count.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench.harness import Comparison, alternate, rate

RUNS = 7
BLOCKS = {"4,096 of 28² grey": (4096, 28, 28, 1), "4,096 of 32²": (4096, 32, 32, 3), "64 of 224²": (64, 224, 224, 3)}
GOAL = 4.0


def measure(runs: int) -> list[Comparison]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return [_compared(name, shape, runs) for name, shape in BLOCKS.items()]


def _compared(name: str, shape: tuple[int, ...], runs: int) -> Comparison:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    sides = {"baton": baton(), "keras": keras_layers()}
    for side in sides.values():
        assert side(pixels).shape == shape
    timed = {key: rate(partial(_on, side, pixels), len(pixels)) for key, side in sides.items()}
    medians = alternate(timed, runs)
    return Comparison(f"Keras' layers, {name}", medians["baton"], medians["keras"], GOAL, "higher", "pictures/s")


def _on(side: Callable[[np.ndarray], Any], pixels: np.ndarray, _: int) -> None:
    side(pixels)


def baton() -> Callable[[np.ndarray], Any]:
    """Pictures → what the default makes of them, where it flips."""
    from baton.config.schema import AUGMENT
    from baton.training.augmentation import Augmentation

    augmentation = Augmentation(AUGMENT.model_copy(update={"flip": True}), 7, 10)
    return lambda pixels: augmentation({"image": pixels}, 0, 32)["image"]


def keras_layers() -> Callable[[np.ndarray], Any]:
    """The same by Keras' layers."""
    import keras
    import tensorflow as tf

    from baton.config.schema import AUGMENT

    layers = [
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomTranslation(AUGMENT.shift, AUGMENT.shift, fill_mode="nearest"),
        keras.layers.RandomContrast(AUGMENT.contrast),
        keras.layers.RandomErasing(AUGMENT.erasing),
    ]

    @tf.function(autograph=False)
    def changed(pixels: Any) -> Any:
        for layer in layers:
            pixels = layer(pixels, training=True)
        return pixels

    return lambda pixels: changed(tf.constant(pixels)).numpy()
