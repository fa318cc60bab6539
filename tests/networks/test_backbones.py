"""Networks of keras.applications and of files: flat, scaled as they were trained, cut at their blocks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from baton.config.schema import Model
from baton.errors import BadInput
from baton.networks import backbones, build, zoo
from baton.networks.costs import layer_costs, totals

SHAPE = (32, 32, 3)
SMALL = "MobileNetV3Small"


@pytest.fixture(scope="module")
def small() -> keras.Model:
    keras.utils.set_random_seed(3)
    return backbones.build_backbone(Model(backbone=SMALL), SHAPE)


def tiny(side: int | None = 16, channels: int = 3) -> keras.Model:
    """Two blocks, the second within a network of its own, and a classifier behind them."""
    inner = keras.Sequential([keras.Input((None, None, 4)), keras.layers.Conv2D(6, 3, 2, "same", name="second")])
    inputs = keras.Input((side, side, channels))
    maps = inner(keras.layers.Conv2D(4, 3, padding="same", name="first")(inputs))
    return keras.Model(inputs, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(maps)))


def test_every_network_scales_pixels_as_keras_does_for_it():
    modules = [getattr(keras.applications, name) for name in dir(keras.applications)]
    modules = [module for module in modules if hasattr(module, "preprocess_input")]
    owners = {name: module for module in modules for name in dir(module) if name in backbones.names()}
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 2, 2, 3)).astype(np.float32)
    for name in set(backbones.names()) - {"MobileNetV3Large", "MobileNetV3Small"}:  # these scale by layers of their own
        inputs = keras.Input((2, 2, 3))
        scaled = keras.Model(inputs, backbones._scaled(inputs, name))(pixels)
        np.testing.assert_allclose(scaled, owners[name].preprocess_input(pixels.copy()), atol=1e-3, err_msg=name)


def test_a_backbone_is_flat_and_gives_what_keras_network_gives(small):
    theirs = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=SHAPE)
    theirs.set_weights(small.get_weights())
    pixels = np.random.default_rng(1).uniform(0, 255, (2, *SHAPE)).astype(np.float32)
    np.testing.assert_allclose(small(pixels), theirs(pixels), atol=1e-5)
    nested = backbones.build_backbone(Model(backbone="ConvNeXtTiny"), SHAPE)
    assert not [layer for model in (small, nested) for layer in model.layers if isinstance(layer, keras.Model)]


def test_blocks_end_where_maps_get_smaller(small):
    ends = [small.get_layer(name).output for name in backbones.block_ends(small)]
    assert [end.shape[1] for end in ends] == [16, 8, 4, 2, 1]
    keras.Model(small.inputs, ends)  # all in one graph


@pytest.mark.parametrize(("name", "shape", "side"), [("VGG16", (20, 40, 1), (1, 2)), ("Xception", (32, 32, 1), (3, 3))])
def test_grey_and_small_pictures_are_made_what_the_network_takes(name, shape, side):
    backbone = backbones.build_backbone(Model(backbone=name), shape)
    assert backbone.input_shape[1:] == shape and backbone.output_shape[1:3] == side
    assert backbones.block_ends(backbone)[0] != "enlarged"


def test_a_network_file_is_taken_up_to_its_last_map_and_enlarged_to_its_size(tmp_path):
    network = tiny()
    network.save(tmp_path / "own.keras")
    for model in (Model(backbone=str(tmp_path / "own.keras")), Model(weights=str(tmp_path / "own.keras"))):
        backbone = backbones.build_backbone(model, (8, 8, 1))
        assert [layer.name for layer in backbone.layers if layer.weights] == ["first", "second"]
        assert backbone.output_shape[1:] == (8, 8, 6) and backbones.block_ends(backbone) == ["first", "second"]
        pixels = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 1)).astype(np.float32)
        enlarged = keras.layers.Resizing(16, 16)(np.repeat(pixels, 3, axis=-1))
        np.testing.assert_allclose(
            np.asarray(network.layers[-1](tf.reduce_mean(backbone(pixels), (1, 2)))), network(enlarged), atol=1e-3
        )


def test_weights_of_files_go_where_they_belong(tmp_path):
    theirs = keras.applications.VGG16(include_top=False, weights=None, input_shape=SHAPE)
    theirs.save(tmp_path / "whole.keras")
    theirs.save_weights(tmp_path / "alone.weights.h5")
    for file in ("whole.keras", "alone.weights.h5"):
        again = backbones.build_backbone(Model(backbone="VGG16", weights=str(tmp_path / file)), SHAPE)
        for one, other in zip(theirs.get_weights(), again.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        ({"backbone": "VGG17"}, r"one of keras.applications' networks .*Received: VGG17"),
        ({"backbone": "VGG16", "weights": "gone.weights.h5"}, r"a file of weights that is there\. Received: gone"),
        ({"backbone": "VGG16", "weights": "{folder}/own.keras"}, r"do not fit VGG16: .*lacks the layers"),
        ({"backbone": "VGG16", "weights": "{folder}/text.weights.h5"}, r"do not fit VGG16"),
        ({"backbone": "{folder}/text.keras"}, r"text\.keras is no network that Keras loads in safe mode"),
        ({"backbone": "{folder}/table.keras"}, r"a network of one picture with convolutions is wanted"),
    ],
)
def test_what_is_no_backbone_is_named(tmp_path, model, answer):
    tiny().save(tmp_path / "own.keras")
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "table.keras")
    for name in ("text.keras", "text.weights.h5"):
        (tmp_path / name).write_text("no network")
    model = {key: value.replace("{folder}", str(tmp_path)) for key, value in model.items()}
    with pytest.raises(BadInput, match=answer):
        backbones.build_backbone(Model(**model), SHAPE)


def test_weights_that_cannot_be_downloaded_are_asked_for_by_their_file(monkeypatch, tmp_path):
    def unreachable(*names, **options):
        raise Exception("URL fetch failure on https://example.org/x/vgg16.h5: None -- unknown host")

    monkeypatch.setattr("keras.src.applications.vgg16.file_utils.get_file", unreachable)
    with pytest.raises(BadInput, match=r"cannot be downloaded\. Put vgg16\.h5 into the folder models of Keras"):
        backbones.build_backbone(Model(backbone="VGG16", weights="imagenet"), SHAPE)


def test_a_network_with_a_backbone_has_all_its_layers_itself(images):
    config, dataset = images
    model = build.build(dataset.preprocessor, config.overridden({"model.backbone": SMALL, "model.dropout": 0.2}).model)
    assert not [layer for layer in model.layers if isinstance(layer, keras.Model)]
    assert {"GlobalAveragePooling2D", "Dropout"} < {type(layer).__name__ for layer in model.layers}
    rows = {"image": np.zeros((2, *model.inputs[0].shape[1:]), np.uint8)}
    np.testing.assert_allclose(np.asarray(model(rows)).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["VGG16", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0"])
def test_the_zoos_table_is_what_the_networks_cost(name):
    row = next(row for row in zoo.models() if row.name == name)
    network = getattr(keras.applications, name)(weights=None, input_shape=(row.size, row.size, 3))
    assert totals(layer_costs(network)) == (row.parameters, row.multiply_adds)
    if name == "VGG16":
        assert row.parameters == 138_357_544 and row.multiply_adds == 15_470_264_320
        return
    profiled = operations(network, row.size)
    assert (
        1 < profiled / (2 * row.multiply_adds) < 1.15
    )  # the profiler counts biases, activations and normalisation, too


def operations(network: keras.Model, side: int) -> int:
    """Floating-point operations of a row by TensorFlow's profiler."""
    from tensorflow.python.profiler import model_analyzer, option_builder

    call = tf.function(lambda x: network(x, training=False)).get_concrete_function(tf.TensorSpec([1, side, side, 3]))
    options = option_builder.ProfileOptionBuilder.float_operation()
    options = option_builder.ProfileOptionBuilder(options).with_empty_output().build()
    return model_analyzer.profile(call.graph, options=options).total_float_ops


def test_the_zoo_lists_every_network_with_what_was_published():
    rows = zoo.models()
    assert sorted(row.name for row in rows) == backbones.names()
    assert all(row.smallest <= row.size and row.source and row.protocol and 60 < row.top1 < 90 for row in rows)
    lines = zoo.lines()
    assert len(lines) == len(rows) + 1 and len({line.index("ImageNet's validation") for line in lines[1:]}) == 1
