"""A name of Keras' applications, or a network's file, in; the network up to its last feature map out, flat.

What a backbone asks of pixels, their scale, three channels and a least size, is done by its own first layers: whoever
has the network has all of it. Nothing in it is a network of its own: parts of batches, Grad-CAM and costs see all
layers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras

from baton.config.schema import Model
from baton.errors import BadInput, listed
from baton.networks import zoo
from baton.networks.costs import calls
from baton.networks.ensemble import base_of
from baton.networks.layers import ReversedChannels

NETWORK_FILE = ".keras"
SMALLER = 1.5  # how much larger than the next block's a block's maps are, at least
CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
SMALLEST, SMALLEST_OF = 32, {"Xception": 71, "InceptionV3": 75, "InceptionResNetV2": 75}  # pixels of the shorter side
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, of red, green and blue
BLUE_FIRST = (-103.939, -116.779, -123.68)  # Caffe's offsets


def names() -> list[str]:
    """The networks of keras.applications."""
    return [name for name in dir(keras.applications) if name[0].isupper()]


def build_backbone(model: Model, shape: tuple[int, int, int]) -> keras.Model:
    """The config's backbone for pictures [height, width, channels], 0 to 255, up to its last map [n, h, w, c].

    Raises `BadInput` for a name that Keras does not have, a file that is no network, and weights that do not fit.
    """
    own = model.backbone or model.weights
    return _of_file(Path(own), shape) if own.endswith(NETWORK_FILE) else _named(model, shape)


def block_ends(backbone: keras.Model) -> list[str]:
    """The last layers before maps get a third smaller, and the last of all; shallow ones first.

    Of layers that are passed by, as those of a branch are, none is such an end: all that is computed goes through one.
    """
    nodes = calls(backbone)
    first = next((index for index, node in enumerate(nodes) if isinstance(node.operation, CONVOLUTIONS)), 0)
    through = [index for index in _not_passed_by(nodes) if index >= first and len(nodes[index].outputs[0].shape) == 4]
    ends, largest = list[str](), 0.0
    for index in reversed(through):
        node = nodes[index]
        side = min(node.outputs[0].shape[1:3])
        if side >= SMALLER * largest and not isinstance(node.operation, keras.layers.ZeroPadding2D):
            ends.insert(0, node.operation.name)
            largest = side
    return ends


def _not_passed_by(nodes: list[Any]) -> list[int]:
    """Which of a network's calls see all that is used behind them."""
    place = {id(tensor): index for index, node in enumerate(nodes) for tensor in node.outputs}
    used = list(range(len(nodes)))  # the last place where each call's output is used
    for index, node in enumerate(nodes):
        for tensor in node.arguments.keras_tensors:
            if (producer := place.get(id(tensor))) is not None:
                used[producer] = max(used[producer], index)
    through, reach = [], 0
    for index, last in enumerate(used):
        if reach <= index:
            through.append(index)
        reach = max(reach, last)
    return through


def flat(network: keras.Model, features: Any) -> Any:
    """A network, its input → its output, by copies of its layers with their weights: of networks within it, too."""
    network = network._functional if isinstance(network, keras.Sequential) else network
    values, copies = {id(network.inputs[0]): features}, dict[int, Any]()
    for node in calls(network):
        positional, named = node.arguments.fill_in(values)
        layer = node.operation
        if isinstance(layer, keras.Model):
            after = flat(layer, positional[0])
        else:
            copy = copies.setdefault(id(layer), layer.__class__.from_config(layer.get_config()))
            after = copy(*positional, **named)
            if isinstance(layer, keras.layers.Layer):
                copy.set_weights(layer.get_weights())
        values.update(zip(map(id, node.outputs), keras.tree.flatten(after), strict=True))
    return values[id(network.outputs[0])]


def _named(model: Model, shape: tuple[int, int, int]) -> keras.Model:
    name = zoo.demand(model.backbone)
    inputs = keras.Input(shape, name="image")
    pixels = _at_least(_coloured(inputs), SMALLEST_OF.get(name, SMALLEST))
    downloaded = "imagenet" if model.weights == "imagenet" else None
    network = _application(name, tuple(pixels.shape[1:]), downloaded)
    if model.weights not in ("none", "imagenet"):
        _load(network, Path(model.weights), name)
    return keras.Model(inputs, flat(network, _scaled(pixels, name)))


def _application(name: str, shape: tuple[int, ...], weights: str | None) -> keras.Model:
    options = {"include_top": False, "weights": weights, "input_shape": shape}
    try:
        return getattr(keras.applications, name)(**options)
    except Exception as error:
        if weights and (missing := re.search(r"on (\S+/([^/\s]+)): ", str(error))):
            raise BadInput(
                f"The weights of {name} cannot be downloaded. Put {missing[2]} into the folder models of Keras' home "
                f"(~/.keras, or KERAS_HOME), or name a file in model.weights. Received: {str(error)[:200]}"
            ) from None
        raise


def _load(network: keras.Model, file: Path, name: str) -> None:
    """A file's weights into a network of their kind; of a whole network's file, those of layers of the same name."""
    if not file.exists():
        raise BadInput(f"model.weights is none, imagenet, or a file of weights that is there. Received: {file}")
    try:
        if file.suffix == NETWORK_FILE:
            _copy(_network(file), network, file)
        else:
            network.load_weights(file)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise BadInput(f"The weights of {file} do not fit {name}: {str(error)[:300]}") from None


def _copy(source: keras.Model, network: keras.Model, file: Path) -> None:
    known = {layer.name: layer for layer in source._flatten_layers(include_self=False) if layer.weights}
    wanted = [layer for layer in network._flatten_layers(include_self=False) if layer.weights and not _nested(layer)]
    lacking = [layer.name for layer in wanted if layer.name not in known]
    if lacking:
        raise ValueError(f"{file} lacks the layers {listed(lacking)}")
    for layer in wanted:
        layer.set_weights(known[layer.name].get_weights())


def _nested(layer: Any) -> bool:
    return isinstance(layer, keras.Model)


def _of_file(file: Path, shape: tuple[int, int, int]) -> keras.Model:
    """A whole network's file: what it has up to its last map, for pictures of any size that it takes."""
    network = base_of(_network(file))
    network = network._functional if isinstance(network, keras.Sequential) else network
    maps = [node for node in calls(network) if len(node.outputs[0].shape) == 4]
    if len(network.inputs) != 1 or len(network.inputs[0].shape) != 4 or not maps:
        raise BadInput(f"model.backbone: a network of one picture with convolutions is wanted. Received: {file}")
    body = keras.Model(network.inputs[0], maps[-1].outputs[0])
    inputs = keras.Input(shape, name="image")
    wanted = network.inputs[0].shape[1:]
    pixels = _coloured(inputs) if wanted[2] == 3 else inputs
    if None not in wanted[:2] and tuple(wanted[:2]) != tuple(pixels.shape[1:3]):
        pixels = keras.layers.Resizing(*wanted[:2], name="resized")(pixels)
    try:
        return keras.Model(inputs, flat(body, pixels))
    except ValueError as error:
        raise BadInput(f"model.backbone: {file} takes no pictures of {shape}: {str(error)[:300]}") from None


def _network(file: Path) -> keras.Model:
    try:
        return keras.models.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # noqa: BLE001 - a stranger's file
        raise BadInput(f"{file} is no network that Keras loads in safe mode: {str(error)[:300]}") from None


def _coloured(pixels: Any) -> Any:
    """Grey pictures are given three channels."""
    return keras.layers.Concatenate(name="coloured")([pixels] * 3) if pixels.shape[-1] == 1 else pixels


def _at_least(pixels: Any, smallest: int) -> Any:
    """Pictures whose shorter side has too few pixels are enlarged."""
    sides = pixels.shape[1:3]
    if min(sides) >= smallest:
        return pixels
    return keras.layers.Resizing(*(-(-side * smallest // min(sides)) for side in sides), name="enlarged")(pixels)


def _between(pixels: Any) -> Any:
    return keras.layers.Rescaling(1 / 127.5, -1.0, name="pixels")(pixels)


def _standardised(pixels: Any) -> Any:
    scale, offset = [1 / d for d in DEVIATION], [-m / d for m, d in zip(MEAN, DEVIATION, strict=True)]
    return keras.layers.Rescaling(scale, offset, name="pixels")(pixels)


def _blue_first(pixels: Any) -> Any:
    return keras.layers.Rescaling(1.0, list(BLUE_FIRST), name="pixels")(ReversedChannels(name="blue_first")(pixels))


SCALINGS = (
    (r"ResNet\d+V2|Inception|MobileNet(V2)?$|NASNet|Xception", _between),
    (r"VGG|ResNet", _blue_first),
    (r"DenseNet", _standardised),
)  # as they were trained; the others scale by layers of their own


def _scaled(pixels: Any, name: str) -> Any:
    scaling = next((scaling for pattern, scaling in SCALINGS if re.match(pattern, name)), None)
    return scaling(pixels) if scaling else pixels
