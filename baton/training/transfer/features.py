"""A split's pictures in, pooled features of a frozen base at each of its depths out: computed once, and kept.

They lie beside the dataset that they are of and go with it: the same rows and the same base never see each other
twice, whichever step, trial or worker asks.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np

from baton.data.feed import Feed
from baton.data.row_parts import picture_rows
from baton.networks.backbones import block_ends
from baton.runtime import heartbeat
from baton.runtime.files import whole
from baton.training.checkpoints import DAMAGE

log = logging.getLogger("baton")

FOLDER = "features"  # of a dataset's
Features = list[np.ndarray]  # float32 [rows, channels] of each depth, shallow to deep


class Extractor:
    """A base, frozen, with the mean of its map at the end of each block."""

    def __init__(self, backbone: keras.Model):
        import tensorflow as tf

        self.digest, self.shape = digest(backbone), tuple(backbone.inputs[0].shape[1:])
        pooled = [_pooled(backbone.get_layer(name).output) for name in block_ends(backbone)]
        model = keras.Model(backbone.inputs[0], pooled)
        signature = [tf.TensorSpec([None, *self.shape], tf.uint8)]
        self.call = tf.function(lambda pixels: keras.tree.flatten(model(pixels, training=False)), signature)

    def features(self, feed: Feed, *, most: int | None = None, flipped: bool = False) -> Features:
        """Of the feed's rows in order, its shard's first `most` of them; `flipped`, of their mirror images."""
        count = feed.rows if most is None else min(most, feed.rows)
        file = self._file(feed, feed.shard, count, flipped)
        kept = _read(file, count)
        if kept is None:
            kept = self._of_all(feed, count, flipped) or self._computed(feed, count, flipped)
            _write(file, kept)
        return kept

    def _file(self, feed: Feed, shard: tuple[int, int], count: int, flipped: bool) -> Path:
        name = f"{self.digest}-{feed.split}-{shard[0]}-of-{shard[1]}-{count}{'-flipped' * flipped}.npz"
        return feed.dataset.folder / FOLDER / name

    def _of_all(self, feed: Feed, count: int, flipped: bool) -> Features | None:
        """The first `count` rows of a shard, where one process has seen the rows of all before."""
        rows = feed.dataset.rows[feed.split]
        everything = _read(self._file(feed, (0, 1), rows, flipped), rows)
        if everything is None:
            return None
        ends = np.cumsum(feed.dataset.row_groups(feed.split))
        group = np.searchsorted(ends, np.arange(rows), side="right")
        mine = np.flatnonzero(group % feed.shard[1] == feed.shard[0])[:count]
        return [depth[mine] for depth in everything]

    def _computed(self, feed: Feed, count: int, flipped: bool) -> Features:
        parts: list[list[np.ndarray]] = []
        step, left = picture_rows(self.shape), count
        for rows in feed.in_order():
            pixels = rows["image"][:left, :, ::-1] if flipped else rows["image"][:left]
            for start in range(0, len(pixels), step):
                parts.append([depth.numpy() for depth in self.call(pixels[start : start + step])])
                heartbeat.beat()
            left -= len(pixels)
            if not left:
                break
        return [np.concatenate(depth) for depth in zip(*parts, strict=True)]


def targets(feed: Feed, count: int) -> np.ndarray:
    """The classes of the feed's first `count` rows in order, int [count]."""
    result: list[np.ndarray] = []
    for rows in feed.in_order():
        result.append(rows["target"])
        if sum(map(len, result)) >= count:
            break
    return np.concatenate(result)[:count]


def digest(backbone: keras.Model) -> str:
    """A hash of what a base computes: its layers and their weights, whatever they are called."""
    total = hashlib.sha256(str([tuple(tensor.shape) for tensor in backbone.inputs]).encode())
    for layer in backbone.layers:
        settings = {key: value for key, value in layer.get_config().items() if key not in ("name", "trainable")}
        total.update(json.dumps([type(layer).__name__, settings], sort_keys=True, default=str).encode())
    for weight in backbone.get_weights():
        total.update(np.ascontiguousarray(weight).tobytes())
    return total.hexdigest()[:32]


def _pooled(maps: Any) -> Any:
    return keras.layers.GlobalAveragePooling2D()(maps)


def _read(file: Path, count: int) -> Features | None:
    """What was kept; None where nothing was, or (with a warning) what cannot be used."""
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as held:
            result = [held[f"depth_{index}"] for index in range(len(held.files))]
        if any(len(depth) != count for depth in result):
            raise ValueError("other rows")
    except DAMAGE as error:
        log.warning("The features %s are damaged and computed anew: %s", file, error)
        return None
    return result


def _write(file: Path, features: Features) -> None:
    """Whole or not at all; where the dataset's folder cannot be written to, the next one computes them again."""
    held = io.BytesIO()
    np.savez(held, **{f"depth_{index}": depth for index, depth in enumerate(features)})  # type: ignore[arg-type]
    try:
        file.parent.mkdir(exist_ok=True)
        with whole(file) as aside:
            aside.write_bytes(held.getbuffer())
    except OSError as error:
        log.warning("The features could not be kept and will be computed again: %s", error)
