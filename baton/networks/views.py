"""What a network sees of a picture when it looks more than once (test-time augmentation), as layers of the model."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from baton.networks.layers import MeanOfMembers


class View(NamedTuple):
    """A window in shares of a picture's sides, seen as large as the picture; mirrored: left and right exchanged."""

    top: float = 0.0
    left: float = 0.0
    size: float = 1.0
    mirror: bool = False


@keras.saving.register_keras_serializable("baton")
class OfViews(keras.layers.Wrapper):
    """A network's inputs, pictures among them → what it answers to each view of them [rows, views, k].

    Views go through the network one after the other: they take no more memory than the pictures themselves.
    """

    def __init__(self, layer: keras.Model, views: list[Any], **kwargs: Any):
        super().__init__(layer, **kwargs)
        self.views = [View(*view) for view in views]

    def call(self, inputs: dict[str, Any]) -> Any:
        import tensorflow as tf

        pictures = inputs["image"]
        down = np.stack([_sampling(pictures.shape[1], v.top, v.size) for v in self.views])
        across = np.stack([_sampling(pictures.shape[2], v.left, v.size)[:: 1 - 2 * v.mirror] for v in self.views])

        def answers(taps: tuple[Any, Any]) -> Any:
            image = ops.einsum("yi,nijc,xj->nyxc", taps[0], pictures, taps[1])
            return self.layer({**inputs, "image": image}, training=False)

        of_views = tf.map_fn(answers, (down, across), parallel_iterations=1, fn_output_signature=tf.float32)
        return ops.moveaxis(of_views, 0, 1)

    def compute_output_spec(self, inputs: dict[str, Any]) -> Any:
        return keras.KerasTensor((None, len(self.views), self.layer.output_shape[-1]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "views": [list(view) for view in self.views]}


def viewed(network: keras.Model, views: list[View]) -> keras.Model:
    """A network of pictures → one that answers the mean of its probabilities over views of each."""
    inputs = {each.name: keras.Input(each.shape[1:], dtype=each.dtype, name=each.name) for each in network.inputs}
    base = keras.Model(network.input, network.outputs[0], name="base")  # what it was trained by does not travel
    answers = OfViews(base, views, name="views")(inputs)
    return keras.Model(inputs, MeanOfMembers(name="mean_of_views")(answers))


def _sampling(side: int, start: float, share: float) -> np.ndarray:
    """A window along an axis → [side, side]: which pixels make each pixel of the enlarged window, bilinearly."""
    places = np.clip(start * side + (np.arange(side) + 0.5) * share - 0.5, 0, side - 1)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(side)), 0).astype(np.float32)
