"""Parameters and multiply-adds, layer by layer: those of papers and of the course's sums."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

from baton.config.schema import Model
from baton.data.preprocessing import Preprocessor
from baton.errors import BadInput
from baton.networks import build
from baton.networks import costs as costs_module
from baton.networks.costs import layer_costs, totals
from baton.networks.layers import Maxout

L = keras.layers
ROOT = Path(__file__).parents[2]


def chain(shape: tuple[int, ...], *layers) -> keras.Model:
    inputs = features = keras.Input(shape)
    for layer in layers:
        features = layer(features)
    return keras.Model(inputs, features)


def test_five_by_five_convolutions_and_what_a_one_by_one_before_them_saves():
    """20 kernels of 5 x 5 on a map of 14 x 14 x 512, of the same size after."""
    direct = layer_costs(chain((14, 14, 512), L.Conv2D(20, 5, padding="same")))
    assert direct[0].shape == (14, 14, 20) and direct[0].multiply_adds == 50_176_000
    narrow = chain((14, 14, 512), L.Conv2D(16, 1), L.Conv2D(20, 5, padding="same"))
    assert [cost.multiply_adds for cost in layer_costs(narrow)] == [1_605_632, 1_568_000]
    assert totals(layer_costs(narrow))[1] == 3_173_632 == round(0.06325 * 50_176_000)


def vgg16() -> list[dict]:
    """VGG16's layers (Simonyan and Zisserman, 2015, configuration D) but for the output layer, which Baton adds."""
    layers = []
    for filters, convolutions in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        convolution = {"type": "conv2d", "filters": filters, "kernel_size": 3, "padding": "same", "activation": "relu"}
        layers += [*[convolution] * convolutions, {"type": "max_pooling2d"}]
    dense = {"type": "dense", "units": 4096, "activation": "relu", "kernel_initializer": "zeros"}
    return [*layers, {"type": "flatten"}, dense, {"type": "dropout", "rate": 0.5}, dense]


VGG16 = [
    1_792, 36_928, 73_856, 147_584, 295_168, 590_080, 590_080, 1_180_160, 2_359_808, 2_359_808,
    2_359_808, 2_359_808, 2_359_808, 102_764_544, 16_781_312, 4_097_000,
]  # fmt: skip


def test_vgg16_is_built_of_layers_alone(images):
    _, dataset = images
    spec = dataset.preprocessor.spec
    classes = [f"class {number}" for number in range(1000)]
    size = {"height": 224, "width": 224, "channels": 3}
    large = Preprocessor({**spec, "image_size": size, "target": {**spec["target"], "classes": classes}})
    costs = layer_costs(build.build(large, Model(layers=vgg16())))
    assert [cost.parameters for cost in costs if cost.parameters] == VGG16
    assert totals(costs) == (138_357_544, 15_470_264_320)
    page = (ROOT / "docs" / "explanation" / "IMAGES.md").read_text()
    rows = re.findall(r"^\| (?:conv|dense)\w+ \| [\d, ×]+ \| ([\d,]+) \| ([\d,]+) \|$", page, re.MULTILINE)
    written = [tuple(int(number.replace(",", "")) for number in row) for row in rows]
    assert written == [(cost.parameters, cost.multiply_adds) for cost in costs if cost.parameters]


@pytest.mark.parametrize(
    ("layer", "shape", "multiply_adds"),
    [
        (L.Conv2D(6, 3, strides=2, padding="same", groups=2), (7, 9, 4), 4 * 5 * 6 * 3 * 3 * 2),
        (L.Conv2D(6, 3, dilation_rate=2), (7, 9, 4), 3 * 5 * 6 * 3 * 3 * 4),
        (L.Conv1D(6, 3), (7, 4), 5 * 6 * 3 * 4),
        (L.DepthwiseConv2D(3, depth_multiplier=2), (7, 9, 4), 5 * 7 * 8 * 3 * 3),
        (L.SeparableConv2D(6, 3, depth_multiplier=2), (7, 9, 4), 5 * 7 * (8 * 3 * 3 + 8 * 6)),
        (L.Conv2DTranspose(6, 3, strides=2), (7, 9, 4), 7 * 9 * 4 * 6 * 3 * 3),
        (L.Dense(5), (7, 4), 7 * 4 * 5),
        (Maxout(5, pieces=3), (4,), 4 * 5 * 3),
        (L.AveragePooling2D(2), (7, 9, 4), 0),
    ],
)
def test_a_layers_multiply_adds(layer, shape, multiply_adds):
    (cost,) = layer_costs(chain(shape, layer))
    assert (cost.multiply_adds, cost.parameters) == (multiply_adds, layer.count_params())


def test_mobilenet_has_the_papers_569_million():
    """Howard et al., 2017, table 8: 569 million multiply-adds, 4.2 million parameters; a depthwise layer each block."""
    model = keras.applications.MobileNet(weights=None)
    assert totals(layer_costs(model)) == (model.count_params(), 568_740_352)


def test_a_layer_called_again_and_a_model_within_count_as_often_as_they_are_called():
    shared, inner = L.Dense(4, name="shared"), chain((4,), L.Dense(4, name="own"))
    inner.name = "inner"
    a, b = keras.Input((4,)), keras.Input((4,))
    joined = L.Add(name="joined")([shared(a), shared(inner(b))])
    costs = layer_costs(keras.Model([a, b], joined))
    assert sorted((cost.name, cost.parameters, cost.multiply_adds) for cost in costs) == [
        ("inner/own", 20, 16), ("joined", 0, 0), ("shared", 0, 16), ("shared", 20, 16),
    ]  # fmt: skip
    assert layer_costs(keras.Sequential([keras.Input((4,)), inner]))[0].name == "inner/own"


def test_what_cannot_be_counted_is_named():
    class Doubled(L.Dense):
        """Of a kind that is counted, but it may compute anything."""

    odd = chain((5, 4), Doubled(3, name="odd"), L.LSTM(3, name="memory"))
    with pytest.raises(BadInput, match=r"cannot be counted: memory \(LSTM\), odd \(Doubled\)\."):
        layer_costs(odd)
    with pytest.raises(BadInput, match=r"any \(Conv2D, whose size is not fixed\)"):
        layer_costs(chain((None, None, 3), L.Conv2D(3, 1, name="any")))
    with pytest.raises(BadInput, match=r"Only a functional model .*Received: Own"):
        layer_costs(type("Own", (keras.Model,), {})())


def test_every_layer_of_the_config_is_counted():
    keras_layers = {kind for kind in build.LAYERS.values() if isinstance(kind, type) and issubclass(kind, L.Layer)}
    assert len(keras_layers) > 15
    assert not [kind for kind in keras_layers if kind not in {*costs_module.COUNTED, *costs_module.FREE}]


def applied(x: np.ndarray, kind: str, **options) -> np.ndarray:
    return np.asarray(build.LAYERS[kind](**options)(x))[0, :, :, 0]


def test_pooling_padding_and_strides():
    """The sums of the page on images: a map of 6 x 6; the largest and the mean of each 2 x 2."""
    x = np.arange(36, dtype=np.float32).reshape(1, 6, 6, 1)
    np.testing.assert_array_equal(applied(x, "max_pooling2d"), [[7, 9, 11], [19, 21, 23], [31, 33, 35]])
    np.testing.assert_array_equal(
        applied(x, "average_pooling2d", pool_size=2), [[3.5, 5.5, 7.5], [15.5, 17.5, 19.5], [27.5, 29.5, 31.5]]
    )
    sides = {
        (padding, strides): len(applied(x, "conv2d", filters=1, kernel_size=3, strides=strides, padding=padding))
        for padding in ("valid", "same")
        for strides in (1, 2, 3)
    }
    assert sides == {
        ("valid", 1): 4, ("valid", 2): 2, ("valid", 3): 2, ("same", 1): 6, ("same", 2): 3, ("same", 3): 2,
    }  # fmt: skip
    padded = applied(x[:, :5, :5], "average_pooling2d", pool_size=2, padding="same")
    assert padded[2, 2] == x[0, 4, 4, 0]  # an average leaves the padding out
