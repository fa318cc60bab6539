"""Pictures in, whether training may flip them out: whether flipped pictures tell of classes what others tell."""

from __future__ import annotations

import numpy as np

from baton.data.feed import Block

TRAIN_ROWS, VALIDATION_ROWS = 4000, 1000  # at most
CELLS, ANGLES = 8, 8  # of a side, and of a turn
SIDE, SMALL_SIDE = 64, 16  # pixels that edges are looked for in, and that are compared themselves, about
NEIGHBOURS = 10
MIN_GAIN = 1.28  # standard errors: nine times in ten it is no chance


def classes_stay(train: Block, validation: Block) -> bool:
    """Rows with `image` and `target` → whether the classes of validation pictures are told better with flips.

    The probe is no network but a picture's nearest train pictures: once these as they are, once flipped as well. Where
    a flip makes one class look like another, neighbours mislead; where no picture is met flipped, they do not help.
    """
    without, flipped = losses(train, validation)
    gained = without - flipped
    return bool(gained.mean() > MIN_GAIN * gained.std() / np.sqrt(len(gained)))


def losses(train: Block, validation: Block) -> tuple[np.ndarray, np.ndarray]:
    """The log loss of each validation picture's class [rows] by the votes of its neighbours: without flips, and with.

    Each class has a vote from the start.
    """
    pixels, target = train["image"][:TRAIN_ROWS], train["target"][:TRAIN_ROWS]
    asked, expected = features(validation["image"][:VALIDATION_ROWS]), validation["target"][:VALIDATION_ROWS]
    alike = asked @ features(pixels).T
    either = np.concatenate([alike, asked @ features(pixels[:, :, ::-1]).T], axis=1)
    return _losses(alike, target, expected), _losses(either, np.tile(target, 2), expected)


def features(pixels: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, c] → how strong edges of each direction are in each cell, and what it looks like from afar.

    Dalal and Triggs, "Histograms of oriented gradients", 2005, without their overlapping blocks; float32 [n, d].
    """
    small = _means(pixels, SMALL_SIDE)
    small = small.reshape(len(small), -1)
    return np.concatenate([_unit(_edges(pixels)), _unit(small - small.mean(axis=1, keepdims=True)) / 2], axis=1)


def _edges(pixels: np.ndarray) -> np.ndarray:
    grey = _means(pixels, SIDE).mean(axis=3)
    count, height, width = grey.shape
    down, right = np.zeros_like(grey), np.zeros_like(grey)
    down[:, 1:-1], right[:, :, 1:-1] = grey[:, 2:] - grey[:, :-2], grey[:, :, 2:] - grey[:, :, :-2]
    angle = np.rint(np.arctan2(down, right) * (ANGLES / (2 * np.pi))).astype(int) % ANGLES
    cell = (np.arange(height) * CELLS // height * CELLS)[:, None] + np.arange(width) * CELLS // width
    place = (np.arange(count)[:, None, None] * CELLS**2 + cell) * ANGLES + angle
    sums = np.bincount(place.ravel(), np.hypot(down, right).ravel(), count * CELLS**2 * ANGLES)
    return np.sqrt(sums.reshape(count, -1)).astype(np.float32)


def _means(pixels: np.ndarray, side: int) -> np.ndarray:
    """uint8 [n, h, w, c] → means of square parts, so large that the shorter side has about `side`; float32."""
    count, height, width, channels = pixels.shape
    size = max(1, min(height, width) // side)
    cut = pixels[:, : height // size * size, : width // size * size]
    parts = cut.reshape(count, height // size, size, width // size, size, channels)
    return parts.mean(axis=(2, 4), dtype=np.float32)


def _losses(alike: np.ndarray, target: np.ndarray, expected: np.ndarray) -> np.ndarray:
    count = min(NEIGHBOURS, alike.shape[1])
    nearest = np.argpartition(-alike, count - 1, axis=1)[:, :count]
    votes = (target[nearest] == expected[:, None]).sum(axis=1)
    classes = int(max(target.max(), expected.max())) + 1
    return -np.log((votes + 1 / classes) / (count + 1))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
