"""A backbone's name or file in, a flat Keras model of raw pixels out; and where its blocks end."""

from __future__ import annotations

import keras

from baton.config.schema import Model
from baton.errors import BadInput


def build_backbone(model: Model, shape: tuple[int, int, int]) -> keras.Model:
    """Model config and pictures' shape → the network from "image" [n, h, w, c] to its last feature map."""
    assert model.backbone is not None
    if not model.backbone.endswith(".keras"):
        raise BadInput(f"model.backbone: only a .keras file can be read yet. Received: {model.backbone}")
    return keras.models.load_model(model.backbone, compile=False)


def block_ends(backbone: keras.Model) -> list[str]:
    """Names of the layers at whose outputs a depth ends, shallow to deep."""
    maps = [layer for layer in backbone.layers if len(layer.output.shape) == 4]
    ends = [a.name for a, b in zip(maps, maps[1:], strict=False) if a.output.shape[1:3] != b.output.shape[1:3]]
    return [*ends, maps[-1].name]
