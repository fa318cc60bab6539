"""Blocks of convolutions: each trains, is saved without layers of Baton's own, and is what its paper says."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from baton.config.schema import Model
from baton.data.feed import Feed
from baton.errors import BadInput
from baton.networks import build, optimizers
from baton.networks.blocks import Bottleneck, Inception, Residual, SqueezeExcitation, StochasticDepth
from baton.networks.costs import layer_costs, totals
from baton.serving.raw_columns import RawColumnModel
from baton.training import microbatches

BEFORE = {"type": "conv2d", "filters": 4, "kernel_size": 3, "padding": "same"}
NORMALISED = {"residual", "bottleneck", "inception", "convolutions"}
BLOCKS = {
    "convolutions": [
        {"type": "conv2d", "filters": 3, "kernel_size": 1},
        {"type": "depthwise_conv2d", "kernel_size": 3, "depth_multiplier": 2, "padding": "same"},
        {"type": "batch_normalization"},
        {"type": "separable_conv2d", "filters": 6, "kernel_size": 3},
        {"type": "global_max_pooling2d"},
    ],
    "pooling": [
        {"type": "max_pooling2d", "pool_size": 3, "strides": 2, "padding": "same"},
        {"type": "zero_padding2d", "padding": 1},
        {"type": "average_pooling2d", "pool_size": 3, "strides": 1, "padding": "valid"},
        {"type": "global_average_pooling2d"},
    ],
    "residual": [{"type": "residual", "filters": 6, "strides": 2, "squeeze_excitation": 2, "stochastic_depth": 0.2}],
    "bottleneck": [{"type": "bottleneck", "filters": 8, "activation": "silu"}],
    "inception": [{"type": "inception", "filters": [2, 2, 3, 1, 2, 2], "name": "a_name"}],
    "squeeze_excitation": [{"type": "squeeze_excitation", "reduction": 1}],
    "stochastic_depth": [{"type": "stochastic_depth", "rate": 0.3}],
}


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_takes_a_step_and_answers_the_same_once_loaded(images, kind, tmp_path, monkeypatch):
    config, dataset = images
    keras.utils.set_random_seed(1)
    model = build.build(dataset.preprocessor, Model(layers=[BEFORE, *BLOCKS[kind]]))
    fitting = config.overridden({"train.optimizer": "adam", "train.learning_rate": 0.01}).train
    optimizers.compile_model(model, dataset.preprocessor, fitting, optimizers.optimizer(fitting, steps=4))
    held = Feed(dataset, "train", 32).arrays()
    inputs, target = {"image": held["image"][:32]}, held["target"][:32]
    model.run_eagerly = True  # a trace takes longer than the step
    before = [weight.numpy() for weight in model.trainable_variables]
    model.train_on_batch(inputs, target, sample_weight=np.ones(32, np.float32))
    assert all((was != now.numpy()).any() for was, now in zip(before, model.trainable_variables, strict=True))

    RawColumnModel(dataset.preprocessor, model).save(tmp_path)
    again = RawColumnModel.load(tmp_path).network
    np.testing.assert_array_equal(again(inputs).numpy(), model(inputs).numpy())
    assert "baton" not in again.to_json()  # Keras' own layers alone

    monkeypatch.setattr(microbatches, "CACHED", 1)
    assert (microbatches.rows(model, 32) == 32) == (kind in NORMALISED)
    assert totals(layer_costs(model))[0] == sum(np.prod(weight.shape) for weight in model.weights)


def test_blocks_without_normalisation_go_through_in_parts(images, monkeypatch):
    """Whole rows of each part are left out, and the part's size is not fixed."""
    config, dataset = images
    plain = {"filters": 4, "batch_normalization": False, "stochastic_depth": 0.3, "squeeze_excitation": 1}
    keras.utils.set_random_seed(1)
    model = build.build(dataset.preprocessor, Model(layers=[{"type": "residual", **plain}]))
    optimizers.compile_model(model, dataset.preprocessor, config.train, optimizers.optimizer(config.train, steps=4))
    monkeypatch.setattr(microbatches, "CACHED", 1)
    assert microbatches.rows(model, 20) < 20
    held = Feed(dataset, "train", 20).arrays()
    batch = ({"image": held["image"][:20]}, held["target"][:20], np.ones(20, np.float32))
    before = [weight.numpy() for weight in model.trainable_variables]
    step = microbatches.train_step(model, 20)
    tf.function(lambda: step(tf.nest.map_structure(tf.constant, batch)), autograph=False)()
    assert sum((was != now.numpy()).any() for was, now in zip(before, model.trainable_variables, strict=True)) > 8


def block(described, shape: tuple[int, ...]) -> keras.Model:
    inputs = keras.Input(shape)
    return keras.Model(inputs, described(inputs))


def test_a_residual_block_adds_its_branch_to_its_input():
    """With a branch of zeros, what comes out is the input, activated; a projection only where it has to be."""
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 5)).astype(np.float32)
    model = block(Residual(name="r", filters=5, batch_normalization=False), (6, 6, 5))
    assert [layer.name for layer in model.layers[1:]] == ["r_conv1", "r_conv1_act", "r_conv2", "r_add", "r"]
    model.get_layer("r_conv2").set_weights([np.zeros((3, 3, 5, 5)), np.zeros(5)])
    np.testing.assert_array_equal(model(x), np.maximum(x, 0))
    for other in ({"filters": 7}, {"filters": 5, "strides": 2}):
        projected = block(Residual(name="r", **other), (6, 6, 5))
        assert projected.get_layer("r_projection").kernel.shape == (1, 1, 5, other["filters"])
    assert projected.output_shape == (None, 3, 3, 5)


def test_blocks_have_the_parameters_of_their_papers():
    """GoogLeNet's 3a, and the first two blocks of ResNet-50."""
    inception = block(Inception(filters=[64, 96, 128, 16, 32, 32], batch_normalization=False), (28, 28, 192))
    assert inception.count_params() == 163_696 and inception.output_shape == (None, 28, 28, 256)
    for channels, parameters in ((64, 75_008), (256, 70_400)):
        trained = block(Bottleneck(filters=256), (56, 56, channels)).trainable_variables
        assert sum(np.prod(weight.shape) for weight in trained) == parameters


def test_squeeze_and_excitation_weighs_channels_by_the_means_of_all():
    x = np.random.default_rng(0).normal(size=(3, 4, 5, 8)).astype(np.float32)
    model = block(SqueezeExcitation(name="se", reduction=4), (4, 5, 8))
    first, bias1, second, bias2 = model.get_weights()
    hidden = np.maximum(x.mean(axis=(1, 2)) @ first + bias1, 0)
    weight = 1 / (1 + np.exp(-(hidden @ second + bias2)))
    assert hidden.shape == (3, 2)
    np.testing.assert_allclose(model(x), x * weight[:, None, None, :], rtol=1e-5)


def test_stochastic_depth_leaves_whole_rows_out_by_the_seed_and_nothing_when_it_predicts():
    def drawn(seed: int) -> np.ndarray:
        keras.utils.set_random_seed(seed)
        return np.asarray(block(StochasticDepth(rate=0.25), (3, 2, 1))(x, training=True))

    x = np.ones((400, 3, 2, 1), np.float32)
    found = drawn(1)
    rows = found[:, 0, 0, 0]
    np.testing.assert_array_equal(found, np.broadcast_to(rows[:, None, None, None], x.shape))
    assert set(rows.round(5)) == {0, np.float32(1.33333)} and 60 < (rows == 0).sum() < 140
    np.testing.assert_array_equal(drawn(1), found)
    assert (drawn(2) != found).any()
    np.testing.assert_array_equal(block(StochasticDepth(rate=0.25), (3, 2, 1))(x), x)


@pytest.mark.parametrize(
    ("layers", "answer"),
    [
        ([{"type": "residual", "filter": 3}], r"model\.layers\.0: .*'filter'"),
        ([{"type": "residual"}], r"model\.layers\.0: .*'filters'"),
        ([{"type": "residual", "filters": -3}], r"model\.layers\.0: .*filters.*-3"),
        ([{"type": "residual", "filters": 3, "activation": "relv"}], r"model\.layers\.0: .*relv"),
        ([{"type": "residual", "filters": 3, "activation": "maxout"}], r"model\.layers\.0: write maxout as"),
        ([{"type": "flatten"}, {"type": "bottleneck", "filters": 8}],
         r"model\.layers\.1: this block takes a map of rows, height, width and channels, not .*\(None, 64\)"),
        ([{"type": "residual", "filters": 3, "strides": 9}],
         r"model\.layers\.0: strides of 9 are larger than the map of 8 x 8 before them\. Received: "),
        ([{"type": "max_pooling2d", "pool_size": 2, "strides": 9, "padding": "same"}],
         r"model\.layers\.0: strides of 9 are larger than the map of 8 x 8"),
        ([{"type": "average_pooling2d", "pool_size": 9}],
         r"model\.layers\.0: strides of 9 are larger than the map of 8 x 8"),
        ([{"type": "max_pooling2d", "pool_size": 9, "strides": 1}],
         r"model\.layers\.0: Computed output size would be zero or negative\. Received: `inputs.*valid`\. Received"),
        ([{"type": "inception", "filters": [1, 2, 3]}], r"model\.layers\.0: filters must be six numbers"),
        ([{"type": "stochastic_depth", "rate": 1.0}], r"layers\.0: the rate of stochastic depth must be .* 1.0"),
    ],
)  # fmt: skip
def test_a_block_that_does_not_fit_is_bad_input_that_names_the_place(images, layers, answer):
    _, dataset = images
    with pytest.raises(BadInput, match=answer):
        build.build(dataset.preprocessor, Model(layers=layers))


def test_a_block_joins_nothing(images):
    _, dataset = images
    graph = [
        {"name": "a", **BEFORE},
        {"name": "b", **BEFORE},
        {"type": "residual", "filters": 4, "inputs": ["a", "b"]},
    ]
    with pytest.raises(BadInput, match=r"model\.graph\.2: this block takes one input, not 2"):
        build.build(dataset.preprocessor, Model(graph=graph))


def test_a_graph_of_blocks(images):
    """Two blocks side by side; each node's last layer bears its name."""
    _, dataset = images
    graph = [
        {"name": "stem", **BEFORE},
        {"name": "left", "type": "residual", "filters": 4, "inputs": ["stem"]},
        {"name": "right", "type": "inception", "filters": [1, 1, 1, 1, 1, 1], "inputs": ["stem"]},
        {"name": "both", "type": "concatenate", "inputs": ["left", "right"]},
        {"type": "global_average_pooling2d", "inputs": ["both"]},
    ]
    model = build.build(dataset.preprocessor, Model(graph=graph))
    assert model.get_layer("both").output.shape == (None, 8, 8, 8)
    assert model.output_shape == (None, 3)
