"""A network in, one that answers the features from which its last linear layer tells classes apart out."""

from __future__ import annotations

import keras
import numpy as np


def penultimate(network: keras.Model) -> keras.Model:
    """A network → one of the same inputs whose output are the features that its head sees [rows, d].

    Of a network that answers by views, or by members, they are those of one of these: of the picture as it is.
    """
    plain = _plain(network)
    return keras.Model(plain.inputs, plain.get_layer("head").input)


def directions(features: np.ndarray) -> np.ndarray:
    """Features [n, d] → the same, each of length 1: what is alike to a network points the same way."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _plain(network: keras.Model) -> keras.Model:
    """The first network that no other is a layer of."""
    inner = next((each for each in network.layers if isinstance(each, keras.Model | keras.layers.Wrapper)), None)
    return network if inner is None else _plain(getattr(inner, "layer", inner))
