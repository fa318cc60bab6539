"""A trained network and rows in, predictions out, in large batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from baton.data.row_parts import picture_rows
from baton.runtime import heartbeat

if TYPE_CHECKING:
    from baton.data.feed import Feed


def probabilities(predictions: np.ndarray, classes: list[str]) -> np.ndarray:
    """Network output → [rows, classes]; a binary network's one column becomes two."""
    if len(classes) == 2 and predictions.shape[1] == 1:
        return np.concatenate([1 - predictions, predictions], axis=1)
    return predictions


PREDICT_ROWS = 8192


def predict_pieces(model: keras.Model, feed: Feed) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of a feed in order → (targets, output) as metrics take them, a piece at a time."""
    for rows in feed.in_order():
        inputs = {name: values for name, values in rows.items() if name != "target"}
        yield rows["target"], probabilities(predict(model, inputs), feed.preprocessor.classes)


def predict_all(model: keras.Model, feed: Feed) -> tuple[np.ndarray, np.ndarray]:
    """The same of all rows at once: targets [rows] and predictions [rows, k]."""
    truths, found = zip(*predict_pieces(model, feed), strict=True)
    return np.concatenate(truths), np.concatenate(found)


def predict(model: keras.Model, rows: dict[str, np.ndarray]) -> np.ndarray:
    """Network inputs, images as pixels → network output [rows, k], in large batches."""
    count = len(next(iter(rows.values())))
    call, step = _traced(model), PREDICT_ROWS
    if "image" in rows:
        step = picture_rows(rows["image"].shape[1:])
    parts = []
    for i in range(0, count, step):
        parts.append(call({name: values[i : i + step] for name, values in rows.items()}))
        heartbeat.beat()
    if not parts:
        return np.zeros((0, model.output_shape[-1]), np.float32)
    return np.concatenate([part.numpy() for part in parts])


def _traced(model: keras.Model) -> Any:
    """One concrete function a model, traced once for any number of rows: TensorFlow never lets go of a trace (#124972).

    A `tf.function` would warn of retracing where many networks are asked one after the other, and take longer to call.
    """
    import tensorflow as tf

    if "_baton_call" not in model.__dict__:
        signature = {
            t.name: tf.TensorSpec([None, *t.shape[1:]], tf.uint8 if t.name == "image" else t.dtype)
            for t in model.inputs
        }
        answer = tf.function(lambda rows: model(rows, training=False), input_signature=[signature])
        model.__dict__["_baton_call"] = answer.get_concrete_function()
    return model.__dict__["_baton_call"]
