"""A network in, one that answers the features from which its last linear layer tells classes apart out."""

from __future__ import annotations

import keras
import numpy as np

from baton.networks.ensemble import base_of, main_member


def penultimate(network: keras.Model) -> keras.Model:
    """A network → one of the same inputs whose output are the features that its head sees [rows, d].

    Of a network that answers by views they are those of the picture as it is; of an ensemble, those of the
    member of the largest weight.
    """
    plain = base_of(main_member(network))
    return keras.Model(plain.inputs, plain.get_layer("head").input)


def directions(features: np.ndarray) -> np.ndarray:
    """Features [n, d] → the same, each of length 1: what is alike to a network points the same way."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
