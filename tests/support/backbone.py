"""A tiny pretrained network that tests take for a backbone, and pictures that it knows something of."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pyarrow as pa
import tiny

SIDE = 16
CLASSES = ["across", "checks", "down"]


def pictures(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey pictures [rows, 16, 16] of stripes across, of checks and of stripes down, in noise, and their classes."""
    rng = np.random.default_rng(seed)
    target, phase = rng.integers(0, 3, rows), rng.integers(0, 4, (rows, 2, 1))
    down, across = ((np.arange(SIDE) + phase[:, i]) // 2 % 2 for i in range(2))
    stripes = [
        across[:, :, None] + 0 * down[:, None],
        across[:, :, None] ^ down[:, None],
        down[:, None] + 0 * across[:, :, None],
    ]
    clean = np.select([target[:, None, None] == i for i in range(3)], stripes)
    return np.clip(clean * 60 + rng.normal(90, 45, (rows, SIDE, SIDE)), 0, 255), target


def table(rows: int, seed: int) -> pa.Table:
    """The same as a source: PNGs and labels."""
    pixels, target = pictures(rows, seed)
    cells = pa.array([tiny.png(picture) for picture in pixels], pa.binary())
    return pa.table({"image": cells, "label": [CLASSES[i] for i in target]})


def network() -> keras.Model:
    """Three blocks of 8 × 8, 4 × 4 and 2 × 2, untrained; the first is normalised."""
    inputs = keras.Input((SIDE, SIDE, 1), name="image")
    features = keras.layers.Rescaling(1 / 255, name="scaled")(inputs)
    for number, filters in enumerate((8, 16, 16), 1):
        features = keras.layers.Conv2D(filters, 3, 2, padding="same", name=f"conv_{number}")(features)
        if number == 1:
            features = keras.layers.BatchNormalization(momentum=0.8, name="bn_1")(features)
        features = keras.layers.Activation("relu", name=f"relu_{number}")(features)
    return keras.Model(inputs, features)


def pretrained(file: Path) -> Path:
    """The network, trained a little on many pictures, in a `.keras` file."""
    keras.utils.set_random_seed(5)
    base = network()
    pooled = keras.layers.GlobalAveragePooling2D()(base.output)
    whole = keras.Model(base.inputs, keras.layers.Dense(3, activation="softmax")(pooled))
    whole.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    pixels, target = pictures(2000, 11)
    whole.fit(pixels[..., None], target, batch_size=64, epochs=4, verbose=0)
    base.save(file)
    return file
