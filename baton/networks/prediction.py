"""A trained network and rows in, predictions out, in large batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from baton.data.images import image_decoder
from baton.data.preprocessing import Preprocessor
from baton.runtime import heartbeat

if TYPE_CHECKING:
    from baton.data.feed import Feed
from baton.networks import prediction


def probabilities(predictions: np.ndarray, classes: list[str]) -> np.ndarray:
    """Network output → [rows, classes]; a binary network's one column becomes two."""
    if len(classes) == 2 and predictions.shape[1] == 1:
        return np.concatenate([1 - predictions, predictions], axis=1)
    return predictions


PREDICT_ROWS = 8192


def predict_pieces(model: keras.Model, feed: Feed) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of a feed in order → (targets, output) as metrics take them, a piece at a time."""
    preprocessor = feed.preprocessor
    for rows in feed.in_order():
        inputs = {name: values for name, values in rows.items() if name != "target"}
        yield rows["target"], prediction.probabilities(predict(model, inputs, preprocessor), preprocessor.classes)


def predict_all(model: keras.Model, feed: Feed) -> tuple[np.ndarray, np.ndarray]:
    """The same of all rows at once: targets [rows] and predictions [rows, k]."""
    truths, found = zip(*predict_pieces(model, feed), strict=True)
    return np.concatenate(truths), np.concatenate(found)


def predict(model: keras.Model, rows: dict[str, Any], preprocessor: Preprocessor) -> np.ndarray:
    """Network inputs, images as bytes or as pixels → network output [rows, k], in large batches."""
    count = len(next(iter(rows.values())))
    encoded = "image" in rows and rows["image"].ndim == 1
    call = _traced(model, preprocessor, encoded)
    step = PREDICT_ROWS if "image" not in rows else 256
    parts = []
    for i in range(0, count, step):
        parts.append(call({name: values[i : i + step] for name, values in rows.items()}))
        heartbeat.beat()
    if not parts:
        return np.zeros((0, model.output_shape[-1]), np.float32)
    return np.concatenate([part.numpy() for part in parts])


def _traced(model: keras.Model, preprocessor: Preprocessor, encoded: bool) -> Any:
    """One tf.function a model (and one more for `encoded` images), traced once for any number of rows."""
    import tensorflow as tf

    traced = model.__dict__.setdefault("_baton_calls", {})
    if encoded not in traced:
        signature = {t.name: tf.TensorSpec([None, *t.shape[1:]], t.dtype) for t in model.inputs}
        if encoded:
            signature["image"] = tf.TensorSpec([None], tf.string)
        decode = image_decoder(preprocessor.image_size) if encoded else None

        @tf.function(input_signature=[signature])
        def call(rows: Any) -> Any:
            if decode is not None:
                rows = {**rows, "image": decode(rows["image"])}
            return model(rows, training=False)

        traced[encoded] = call
    return traced[encoded]
