"""Encoded images in, pixels out: the one place where images are decoded for a network."""

from __future__ import annotations

from typing import Any

import numpy as np


def image_decoder(size: dict[str, int] | None) -> Any:
    """Image size → a function from encoded bytes [rows] to float32 pixels [rows, h, w, c], 0 to 255.

    Empty bytes (rows of weight zero) become black images.
    """
    import tensorflow as tf

    one = _one_image(size)
    return lambda batch: tf.map_fn(one, batch, fn_output_signature=tf.TensorSpec(pixel_shape(size), tf.float32))


def pixels(encoded: np.ndarray, size: dict[str, int] | None) -> np.ndarray:
    """Encoded images [rows] → the pixels that `image_decoder` gives, [rows, h, w, c]."""
    import tensorflow as tf

    images = tf.data.Dataset.from_tensor_slices(encoded.tolist())
    parts = images.map(_one_image(size), tf.data.AUTOTUNE).batch(1024)
    return np.concatenate([part.numpy() for part in parts])


def _one_image(size: dict[str, int] | None) -> Any:
    """Image size → a function from the bytes of one image to its pixels."""
    import tensorflow as tf

    shape = pixel_shape(size)

    def resized(encoded: Any) -> Any:
        image = tf.io.decode_image(encoded, channels=shape[2], expand_animations=False)
        return tf.image.resize(image, shape[:2])

    def one(encoded: Any) -> Any:
        empty = tf.equal(tf.strings.length(encoded), 0)
        return tf.ensure_shape(tf.cond(empty, lambda: tf.zeros(shape), lambda: resized(encoded)), shape)

    return one


def pixel_shape(size: dict[str, int] | None) -> tuple[int, int, int]:
    assert size is not None
    return size["height"], size["width"], size["channels"]
