"""Fine-tuning: which layers learn, how fast, and what a normalised base keeps."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from baton.data.feed import Feed
from baton.networks import build
from baton.networks.backbones import block_ends
from baton.training import microbatches
from baton.training.collective import SingleProcess
from baton.training.transfer import finetuning
from baton.training.transfer.task import Task


@pytest.fixture
def network(base, striped) -> keras.Model:
    """The base with a head, of weights of its own."""
    config, dataset = striped
    copy = keras.models.clone_model(base)
    copy.set_weights(base.get_weights())
    return build.on_backbone(copy, block_ends(base)[-1], dataset.preprocessor, config.model)


def moved(network, before) -> dict[str, float]:
    """{layer: how far its weights are from what they were}; those without weights are left out."""
    pairs = {layer.name: zip(layer.get_weights(), before[layer.name], strict=True) for layer in network.layers}
    far = {name: [float(np.abs(one - other).max()) for one, other in both] for name, both in pairs.items()}
    return {name: max(values) for name, values in far.items() if values and "dropout" not in name}


def finetuned(network, striped, last, **changes) -> dict[str, float]:
    config, dataset = striped
    before = {layer.name: layer.get_weights() for layer in network.layers}
    settings = {"train.weight_average": 0, "train.learning_rate": 0.01, "train.epochs": 1, **changes}
    config = config.overridden(settings).sized(dataset.rows["train"])
    feed, validation = Feed(dataset, "train", 16, seed=1), Feed(dataset, "validation", 64)
    ends = [end for end in block_ends_of(network) if end in before]
    finetuning.finetune(network, ends, last, Task(config, feed, validation, SingleProcess()))
    return moved(network, before)


def block_ends_of(network) -> list[str]:
    names = [layer.name for layer in network.layers if len(layer.output.shape) == 4]
    return [f"relu_{n}" for n in (1, 2, 3) if f"relu_{n}" in names]


def test_the_last_blocks_learn_and_the_others_stay(network, striped):
    far = finetuned(network, striped, last=1)
    assert far["conv_1"] == far["conv_2"] == far["bn_1"] == 0
    assert far["conv_3"] > 0 and far["head"] > 0
    assert all(layer.trainable for layer in network.layers)  # the model that is kept is like any other


def test_normalisation_keeps_what_it_came_with_where_all_blocks_learn(network, striped):
    far = finetuned(network, striped, last=3)
    assert far.pop("bn_1") == 0 and min(far.values()) > 0


def test_each_variable_steps_at_its_share_of_the_rate():
    variables = [keras.Variable(np.zeros(2, np.float32)) for _ in range(3)]
    optimizer = finetuning.slowed(keras.optimizers.SGD(0.5), [1.0, 0.1, 0.01])
    optimizer.build(variables)
    step = tf.function(lambda: optimizer.apply([tf.ones(2)] * 3, variables))
    step()
    np.testing.assert_allclose([v.numpy()[0] for v in variables], [-0.5, -0.05, -0.005], rtol=1e-6)


def test_the_deeper_below_the_head_the_slower(network):
    ends = block_ends_of(network)
    blocks = finetuning.blocks_of(network, ends)
    assert [blocks[f"conv_{n}"] for n in (1, 2, 3)] == [1, 2, 3] and "head" not in blocks
    rates = finetuning.rates_of(network, blocks, 3)
    by_layer = {v.path.split("/")[-2]: rate for v, rate in zip(network.trainable_variables, rates, strict=True)}
    assert by_layer["head"] == by_layer["conv_3"] > by_layer["conv_2"] > by_layer["conv_1"] > 0


def test_frozen_normalisation_lets_a_batch_go_in_parts(network, monkeypatch):
    monkeypatch.setattr(microbatches, "CACHED", 1 << 10)
    assert microbatches.rows(network, 64) == 64
    network.get_layer("bn_1").trainable = False
    assert microbatches.rows(network, 64) < 64
