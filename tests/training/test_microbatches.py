"""A batch in parts takes the step of the whole batch; what parts a batch has."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from baton.training import microbatches

SIZE = 50


def network(*more: keras.layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(3)
    image = keras.Input([6, 5, 1], name="image")
    conv = keras.layers.Conv2D(4, 3, padding="same", kernel_regularizer=keras.regularizers.L2(0.1))
    features = keras.layers.MaxPooling2D()(conv(image))
    for layer in more:
        features = layer(features)
    out = keras.layers.Dense(3, "softmax")(keras.layers.Flatten()(features))
    model = keras.Model({"image": image}, out)
    model.compile(keras.optimizers.SGD(0.5, momentum=0.9, global_clipnorm=1.0), "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    return model


def batches(steps: int):
    """Stacked; a last batch with rows of weight zero, and weights that are not all alike."""
    rng = np.random.default_rng(5)
    weight = rng.uniform(0.5, 2, (steps, SIZE)).astype(np.float32)
    weight[-1, 20:] = 0
    images = rng.normal(size=(steps, SIZE, 6, 5, 1)).astype(np.float32)
    return {"image": images}, rng.integers(0, 3, (steps, SIZE)).astype(np.int32), weight


def trained(step, model: keras.Model) -> tuple[list[np.ndarray], float]:
    stacked = tf.nest.map_structure(tf.constant, batches(4))

    @tf.function(autograph=False)
    def train(index):
        step(tf.nest.map_structure(lambda values: values[index], stacked))

    for index in range(4):
        train(tf.constant(index))
    return model.get_weights(), float(model.get_metrics_result()["loss"])


@pytest.mark.parametrize("part", [1, 7, 10, 49])
def test_parts_take_the_step_of_the_whole(part, monkeypatch):
    whole = network()
    expected, loss = trained(whole.train_step, whole)
    monkeypatch.setattr(microbatches, "rows", lambda model, batch_size: part)
    model = network()
    first = model.get_weights()
    found, own = trained(microbatches.train_step(model, SIZE), model)
    assert own == pytest.approx(loss, rel=1e-5)
    for weight, other, interrupted in zip(found, expected, first, strict=True):
        np.testing.assert_allclose(weight, other, atol=2e-6)
        assert np.abs(weight - interrupted).max() > 1e-3


def test_a_part_is_what_the_cache_holds(monkeypatch):
    a_row = 4 * 6 * 5 * 4  # bytes of the convolution's output
    monkeypatch.setattr(microbatches, "MIN_ROWS", 2)
    for held, part in ((SIZE, SIZE), (SIZE - 1, SIZE // 2), (12, 10), (3, 3), (0, 2)):
        monkeypatch.setattr(microbatches, "CACHED", held * a_row)
        assert microbatches.rows(network(), SIZE) == part


@pytest.mark.parametrize("nested", [False, True])
def test_what_needs_the_batch_sees_all_of_it(monkeypatch, nested):
    monkeypatch.setattr(microbatches, "CACHED", 1)
    normalization = keras.layers.BatchNormalization()
    model = network(keras.Sequential([keras.Sequential([normalization])]) if nested else normalization)
    assert microbatches.rows(model, SIZE) == SIZE
    assert microbatches.train_step(model, SIZE) == model.train_step


def test_tables_are_not_cut(monkeypatch):
    monkeypatch.setattr(microbatches, "CACHED", 1)
    numbers = keras.Input([3])
    assert microbatches.rows(keras.Model(numbers, keras.layers.Dense(4096)(numbers)), 8192) == 8192
