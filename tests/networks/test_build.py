"""Networks as data: every choice trains, known answers are found, wrong data is named."""

import keras
import numpy as np
import pyarrow as pa
import pytest
import tiny
from keras import ops

from baton.config.schema import Config, Fit, Model
from baton.data.feed import Feed
from baton.errors import BadInput
from baton.networks import build, initialization, optimizers, prediction
from baton.networks.layers import (
    CategoryEmbedding,
    Cross,
    LinearPart,
    Maxout,
    MemberDense,
    PiecewiseLinear,
)
from baton.networks.losses import EachMember, SparseCategoricalAccuracy
from baton.training import fit

ACTIVATIONS = ["sigmoid", "tanh", "relu", "leaky_relu", "elu", "softmax", "maxout", "gelu", "silu", "linear"]


def first_batch(dataset, rows: int = 32) -> tuple:
    held = Feed(dataset, "train", rows).arrays()
    return {k: v[:rows] for k, v in held.items() if k != "target"}, held["target"][:rows]


def compiled(config: Config, dataset) -> keras.Model:
    keras.utils.set_random_seed(1)
    preprocessor = dataset.preprocessor
    model = build.build(preprocessor, config.model)
    optimizers.compile_model(model, preprocessor, config.train, optimizers.optimizer(config.train, steps=4))
    return model


def changed_by_a_step(config: Config, dataset) -> list[bool]:
    """Train one real step; which of the trainable weights have changed."""
    model = compiled(config, dataset)
    before = [v.numpy() for v in model.trainable_variables]
    inputs, target = first_batch(dataset)
    loss = model.train_on_batch(inputs, target, sample_weight=np.ones(len(target), np.float32))
    assert np.isfinite(loss).all()
    return [bool((was != now.numpy()).any()) for was, now in zip(before, model.trainable_variables, strict=True)]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_trains(regression, activation):
    config, dataset = regression
    config = config.overridden({"model.activation": activation, "train.steps_per_execution": 1})
    assert all(changed_by_a_step(config, dataset))


@pytest.mark.parametrize("optimizer", optimizers.OPTIMIZERS)
def test_every_optimizer_trains(regression, optimizer):
    config, dataset = regression
    config = config.overridden({"train.optimizer": optimizer, "train.steps_per_execution": 1})
    assert all(changed_by_a_step(config, dataset))


@pytest.mark.parametrize("activation", ["maxout", "relu"])
def test_a_cnn_trains(images, activation):
    config, dataset = images
    options = {"model.activation": activation, "model.batch_normalization": True, "train.steps_per_execution": 1}
    assert all(changed_by_a_step(config.overridden(options), dataset))


def test_optimizers_are_what_their_names_say():
    made = {
        name: optimizers.optimizer(Fit(optimizer=name, epochs=1, momentum=0.8, learning_rate=0.1), 10)
        for name in optimizers.OPTIMIZERS
    }
    assert {name: type(o).__name__ for name, o in made.items()} == {
        "sgd": "SGD", "momentum": "SGD", "nesterov": "SGD", "rmsprop": "RMSprop", "adam": "Adam", "adamw": "AdamW",
    }  # fmt: skip
    assert [made[n].momentum for n in ("sgd", "momentum", "nesterov")] == [0, 0.8, 0.8]
    assert [made[n].nesterov for n in ("sgd", "momentum", "nesterov")] == [False, False, True]
    assert made["adamw"].weight_decay == 0.01
    assert all(o.global_clipnorm == 1.0 for o in made.values())


def test_gradients_are_clipped_by_their_global_norm():
    variables = [keras.Variable([0.0]), keras.Variable([0.0, 0.0])]
    optimizer = optimizers.optimizer(
        Fit(optimizer="sgd", epochs=1, learning_rate=1, schedule="constant", warmup_epochs=0), 1
    )
    optimizer.apply([ops.convert_to_tensor([2.0]), ops.convert_to_tensor([4.0, 4.0])], variables)  # norm 6
    np.testing.assert_allclose(np.concatenate([v.numpy() for v in variables]), [-1 / 3, -2 / 3, -2 / 3], rtol=1e-6)


@pytest.fixture(scope="module")
def linear(regression) -> tuple:
    config, dataset = regression
    changes = {
        "model.recipe": "linear", "train.epochs": 60, "train.batch_size": 16, "train.optimizer": "adam",
        "train.learning_rate": 0.02, "train.patience": 60, "train.steps_per_execution": 32,
    }  # fmt: skip
    return dataset, fit.train(config.overridden(changes), dataset)


def test_the_linear_recipe_recovers_known_coefficients(linear):
    dataset, result = linear
    preprocessor, target = dataset.preprocessor, dataset.preprocessor.spec["target"]
    assert result.best_value < 0.05  # the target's standard deviation is over 4
    kernel = result.model.get_layer("head").get_weights()[0][:, 0] * target["std"]
    names = preprocessor.names("number")
    slope = {
        name: kernel[names.index(name)] / preprocessor.spec["features"][name]["parts"][0]["std"]
        for name in ("x1", "x2", "n")
    }
    np.testing.assert_allclose([slope["x1"], slope["x2"]], [2, -1], atol=0.01)
    assert abs(slope["n"]) < 1e-4
    x2_mean = preprocessor.spec["features"]["x2"]["parts"][0]["mean"]  # a missing x2 is encoded as the mean
    assert kernel[names.index("x2__missing")] == pytest.approx(x2_mean - tiny.MISSING_IS, abs=0.1)
    embedding = next(layer for layer in result.model.layers if isinstance(layer, CategoryEmbedding))
    table = embedding.get_weights()[0]
    codes = 2 + np.array([preprocessor.spec["features"]["c"]["vocabulary"].index(c) for c in "abc"])
    effect = table[codes, 0] * kernel[-1]
    np.testing.assert_allclose(effect - effect[0], [0, 1, 4], atol=0.05)


def test_a_separable_binary_problem_is_learnt(binary):
    config, dataset = binary
    changes = {"model.recipe": "linear", "train.epochs": 30, "train.learning_rate": 0.1, "train.patience": 30}
    result = fit.train(config.overridden(changes), dataset)
    assert result.history["val_accuracy"][result.best_epoch] == 1
    assert result.best_value < 0.1


def test_the_cnn_is_that_which_activates_before_it_pools(images):
    config, dataset = images
    model = build.build(
        dataset.preprocessor, config.overridden({"model.filters": [4, 6], "model.convolutions": 1}).model
    )
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.index("MaxPooling2D") < kinds.index("Activation")
    known = {"MaxPooling2D": keras.layers.MaxPooling2D(), "Activation": keras.layers.Activation("relu")}
    swapped = dict(zip(known, reversed(known.values()), strict=True))
    pixels = np.random.default_rng(1).uniform(0, 255, (4, *model.inputs[0].shape[1:])).astype(np.float32)
    values = ops.convert_to_tensor(pixels)
    end = kinds.index("Activation", kinds.index("MaxPooling2D")) + 1
    for layer in model.layers[1:end]:
        values = (
            swapped.get(type(layer).__name__, layer)(values) if layer in model.layers[end - 2 : end] else layer(values)
        )
    feature = keras.Model(model.inputs, model.layers[end - 1].output)({"image": pixels})
    np.testing.assert_array_equal(values, feature)
    assert (np.asarray(values) > 0).any()


@pytest.mark.parametrize(("side", "first"), [(8, 8), (64, 64), (65, 33), (128, 64), (224, 56)])
def test_the_cnn_has_stages_and_sees_large_pictures_smaller(images, side, first):
    _, dataset = images
    picture = keras.Input([side, side, 3])
    body = keras.Model(picture, build._cnn(picture, Model(filters=[2, 3, 5], convolutions=3, dropout=0.2)))
    convolutions = [layer for layer in body.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [2] * 3 + [3] * 3 + [5] * 3
    assert convolutions[0].output.shape[1] == first
    assert body.output_shape == (None, 5) and type(body.layers[-1]).__name__ == "Dropout"
    assert sum(isinstance(layer, keras.layers.BatchNormalization) for layer in body.layers) == 9


def test_layers_are_a_sequential_stack(images):
    _, dataset = images
    layers = [
        {"type": "conv2d", "filters": 3, "kernel_size": [3, 3], "activation": "relu"},
        {"type": "global_average_pooling2d"},
        {"type": "maxout", "units": 5},
    ]
    model = build.build(dataset.preprocessor, Model(layers=layers))
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["InputLayer", "Rescaling", "Conv2D", "GlobalAveragePooling2D", "Maxout", "Dense", "Activation"]
    assert model.output_shape == (None, 3)


def test_a_graph_may_branch_and_join(regression):
    config, dataset = regression
    graph = [
        {"name": "left", "type": "dense", "units": 5, "activation": "relu"},
        {"name": "right", "type": "dense", "units": 3, "inputs": ["numbers"]},
        {"name": "both", "type": "concatenate", "inputs": ["left", "right"]},
        {"type": "dense", "units": 4, "inputs": ["both"]},
    ]
    config = config.overridden({"model.graph": graph, "train.steps_per_execution": 1})
    model = build.build(dataset.preprocessor, config.model)
    assert model.get_layer("both").output.shape == (None, 8)
    assert all(changed_by_a_step(config, dataset))


def test_a_graph_may_leave_inputs_aside_and_name_nodes_by_number(regression):
    _, dataset = regression
    graph = [{"type": "dense", "units": 2, "inputs": ["numbers"]}, {"type": "dense", "units": 3, "inputs": ["0"]}]
    model = build.build(dataset.preprocessor, Model(graph=graph))
    rows = Feed(dataset, "validation", 8).arrays()
    rows.pop("target")
    assert prediction.predict(model, rows).shape == (dataset.rows["validation"], 1)


LAMBDA = {"class_name": "__lambda__", "config": {"value": ["4wEAAAAAAAAA", None, None]}}


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        ({"layers": [{"type": "lambda"}]}, r"model\.layers\.0\.type must be one of dense, .*Received: 'lambda'"),
        ({"layers": [{"units": 3}]}, r"model\.layers\.0\.type must be one of .*Received: None"),
        ({"layers": [{"type": "dense", "units": 3}, {"type": "dense", "unit": 3}]}, r"model\.layers\.1: .*'unit': 3"),
        ({"layers": [{"type": "dense", "units": -3}]}, r"model\.layers\.0: .*units.*-3"),
        ({"layers": [{"type": "dense", "units": 3, "activation": "relv"}]}, r"model\.layers\.0: .*relv"),
        ({"layers": [{"type": "dense", "units": 3, "activation": "maxout"}]}, r"model\.layers\.0: write maxout as"),
        ({"layers": [{"type": "dense", "units": 3, "activation": LAMBDA}]}, r"model\.layers\.0: .*lambda"),
        ({"layers": [{"type": "dense", "units": 3}, {"type": "conv2d", "filters": 3, "kernel_size": 3}]},
         r"model\.layers\.1: .*conv2d"),
        ({"layers": [{"type": "concatenate"}]}, r"model\.layers\.0: "),
        ({"layers": [{"type": "reshape", "target_shape": [7, 7]}]}, r"model\.layers\.0: "),
        ({"graph": [{"type": "dense", "units": 3, "inputs": ["number"]}]},
         r"model\.graph\.0\.inputs: unknown number\. Allowed: numbers, categories, features"),
        ({"graph": [{"type": "dense", "units": 3, "inputs": "numbers"}]}, r"model\.graph\.0\.inputs .*list.*'numbers'"),
        ({"graph": [{"type": "dense", "units": 3, "inputs": 5}]}, r"model\.graph\.0\.inputs .*list.*5"),
        ({"graph": [{"type": "dense", "units": 3}, {"type": "dens"}]}, r"model\.graph\.1\.type must be one of"),
        ({"graph": [{"type": "dense", "units": 3}, {"type": "add", "inputs": ["0", "numbers"]}]}, r"model\.graph\.1: "),
        ({"graph": [{"name": "n", "type": "dense", "units": 3}, {"name": "n", "type": "dense", "units": 3}]},
         r"model\.graph\.1\.name is taken already\. Received: n"),
        ({"graph": [{"name": "numbers", "type": "dense", "units": 3}]}, r"model\.graph\.0\.name is taken"),
        ({"graph": [{"name": "output", "type": "dense", "units": 3}]}, r"model: Keras cannot build this network"),
        ({"recipe": "cnn"}, r"model\.recipe cnn does not fit this data"),
    ],
)  # fmt: skip
def test_a_wrong_network_is_bad_input_that_names_the_place(regression, model, answer):
    _, dataset = regression
    with pytest.raises(BadInput, match=answer):
        build.build(dataset.preprocessor, Model(**model))


def rates(optimizer, steps: int) -> list[float]:
    rate = optimizer._learning_rate  # the schedule; `learning_rate` is its value now
    return [float(rate(step)) for step in range(steps)]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "exponential"])
def test_schedules_warm_up_then_decay(schedule):
    config = Fit(epochs=4, learning_rate=0.5, schedule=schedule, warmup_epochs=0.8)
    step = np.arange(40)
    decay = {
        "constant": np.ones(40),
        "cosine": (1 + np.cos(np.pi * step / 40)) / 2,
        "exponential": 0.01 ** (step / 40),
    }[schedule]
    ramp = np.minimum((step + 1) / 8, 1)
    np.testing.assert_allclose(rates(optimizers.optimizer(config, 10), 40), 0.5 * decay * ramp, rtol=1e-4)
    scaled = optimizers.optimizer(config, 10, scale=3, warmup_epochs=0)
    np.testing.assert_allclose(rates(scaled, 40), 1.5 * decay, rtol=1e-4)


def test_weights_are_averaged_over_epochs_not_steps():
    for steps, average, momentum in ((100, 0.5, 0.98), (10, 2, 0.95), (100, 0, None), (1, 1, None)):
        made = optimizers.optimizer(Fit(epochs=1, learning_rate=0.1, weight_average=average), steps)
        assert made.use_ema == (momentum is not None)
        assert momentum is None or made.ema_momentum == pytest.approx(momentum)


def test_a_schedule_survives_its_config():
    schedule = optimizers.Warmup(keras.optimizers.schedules.CosineDecay(0.1, 20), 5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert [float(again(s)) for s in range(20)] == [float(schedule(s)) for s in range(20)]


def test_piecewise_linear_is_the_papers_formula():
    edges = [[-1.0, 0.0, 0.5, 3.0], [2.0, 4.0]]
    layer = PiecewiseLinear(edges, 3)
    x = np.array([[-3.0, 1.0], [-1.5, 3.0], [0.25, 4.0], [2.0, 5.0], [50.0, 99.0]], np.float32)
    out = layer(x).numpy().reshape(5, 2, 3)
    kernel, bias = layer.get_weights()
    assert kernel.shape == (2, 3, 3)
    for column, e in enumerate(edges):
        last = len(e) - 2
        for row, value in enumerate(x[:, column]):
            # Gorishniy et al., eq. 1; here the open ends are held to one more width
            encoded = np.zeros(3)
            for t in range(len(e) - 1):
                low, high = (-1 if t == 0 else 0), (2 if t == last else 1)
                encoded[t] = min(max((value - e[t]) / (e[t + 1] - e[t]), low), high)
            expected = np.maximum(encoded @ kernel[column] + bias[column], 0)
            np.testing.assert_allclose(out[row, column], expected, rtol=1e-5, atol=1e-6)


def test_category_embeddings_have_an_offset_a_column():
    layer = CategoryEmbedding([3, 4, 2], 2)
    codes = np.array([[0, 0, 0], [2, 3, 1]], np.int32)
    out = layer(codes).numpy()
    table = layer.table.get_weights()[0]
    assert table.shape == (9, 2)
    np.testing.assert_array_equal(out[0], table[[0, 3, 7]].reshape(-1))
    np.testing.assert_array_equal(out[1], table[[2, 6, 8]].reshape(-1))


def test_category_embeddings_have_dense_gradients():
    """So that clipping sees their true norm, in one process as with Horovod."""
    import tensorflow as tf

    layer = CategoryEmbedding([3, 2], 1)
    with tf.GradientTape() as tape:
        total = ops.sum(layer(np.zeros((4, 2), np.int32)))
    (gradient,) = tape.gradient(total, layer.trainable_variables)
    np.testing.assert_array_equal(gradient.numpy(), [[4], [0], [0], [4], [0]])


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4)])
def test_maxout_is_the_largest_of_linear_functions(shape):
    layer = Maxout(3, pieces=2)
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    kernel, bias = (layer(x), layer.get_weights())[1]
    bias = bias + np.arange(6)
    layer.set_weights([kernel, bias])
    pieces = (x @ kernel + bias).reshape(*shape[:-1], 3, 2)
    np.testing.assert_allclose(layer(x).numpy(), pieces.max(-1), rtol=1e-5)


def test_smoothed_targets_are_shared_by_all_classes():
    probabilities, classes = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], np.float32), np.array([0, 2])
    shares = 0.9 * np.eye(3)[classes] + 0.1 / 3
    expected = -(shares * np.log(probabilities)).sum(axis=1).mean()
    loss = EachMember("sparse_categorical_crossentropy", smoothing=0.1)
    assert float(loss(classes, probabilities)) == pytest.approx(expected, rel=1e-5)
    assert float(loss(np.eye(3, dtype=np.float32)[classes], probabilities)) == pytest.approx(expected, rel=1e-5)
    members = np.stack([probabilities, probabilities], axis=1)
    assert float(loss(classes, members)) == pytest.approx(expected, rel=1e-5)
    again = EachMember.from_config(loss.get_config())
    assert float(again(classes, probabilities)) == pytest.approx(expected, rel=1e-5)
    two = EachMember("binary_crossentropy", smoothing=0.2)(np.array([0, 1]), np.array([[0.3], [0.8]], np.float32))
    wanted = -(0.1 * np.log(0.3) + 0.9 * np.log(0.7) + 0.9 * np.log(0.8) + 0.1 * np.log(0.2)) / 2
    assert float(two) == pytest.approx(wanted, rel=1e-5)
    accuracy = SparseCategoricalAccuracy()
    accuracy.update_state(np.array([[0.6, 0.4, 0], [0.9, 0, 0.1]], np.float32), probabilities)
    assert float(accuracy.result()) == 0.5


@pytest.mark.parametrize("activation", ["maxout", "gelu"])
def test_a_saved_network_loads_in_safe_mode_with_the_same_outputs(regression, tmp_path, activation):
    config, dataset = regression
    model = compiled(config.overridden({"model.activation": activation, "model.dropout": 0.5}), dataset)
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "n.keras")
    again = keras.models.load_model(tmp_path / "n.keras", safe_mode=True)
    inputs, _ = first_batch(dataset, 100)
    np.testing.assert_array_equal(again(inputs).numpy(), model(inputs).numpy())


def test_the_networks_output_is_in_the_targets_unit(regression):
    _, dataset = regression
    target = dataset.preprocessor.spec["target"]
    model = build.build(dataset.preprocessor, Model(recipe="linear"))
    dense = model.get_layer("head")
    dense.set_weights([w * 0 for w in dense.get_weights()])
    inputs, _ = first_batch(dataset)
    np.testing.assert_allclose(model(inputs).numpy(), target["mean"], rtol=1e-6)


def test_binary_output_becomes_two_columns():
    output = np.array([[0.25], [1.0]], np.float32)
    np.testing.assert_array_equal(prediction.probabilities(output, ["no", "yes"]), [[0.75, 0.25], [0, 1]])
    three = np.eye(3, dtype=np.float32)
    assert prediction.probabilities(three, ["a", "b", "c"]) is three


def test_values_of_numbers_are_categories_where_they_recur(tmp_path):
    rows = np.arange(4000)
    days = np.datetime64("2024-01-01T00:00:00", "us") + (rows % 40) * np.timedelta64(86_400_000_000, "us")
    hours = days + (rows % 3) * np.timedelta64(3_600_000_000, "us")
    table = pa.table({"n": rows % 50, "few": rows % 9, "own": rows * 1.5, "at": hours, "y": np.sin(rows % 50)})
    _, dataset = tiny.build(table, tmp_path, "regression")
    preprocessor = dataset.preprocessor
    codes = {e.name: (e.source, e.encoding, e.size) for e in preprocessor.encoded if e.kind == "category"}
    assert codes == {
        "n__value": ("n", "value", 52),
        "at__elapsed": ("at", "value", 122),
        "at__date": ("at", "date", 42),
    }
    new = pa.table({"n": [7, 7, 60, None], "few": [1] * 4, "own": [1.0] * 4, "at": hours[[0, 40, 0, 0]]})
    encoded = preprocessor.encode(new)
    assert encoded["n__value"].tolist() == [9, 9, 0, 1]  # the eighth value; one that train lacks; missing
    assert encoded["at__date"].tolist()[:2] == [2, 2]
    assert len(set(encoded["at__elapsed"].tolist()[:2])) == 2
    assert preprocessor.unknown(encoded) == {}  # of categorical columns only
    counts = np.array(next(e.rows for e in preprocessor.encoded if e.name == "n__value"))
    assert counts[:2].tolist() == [0, 0] and counts.sum() == dataset.rows["train"]


def test_an_ensembles_members_are_trained_each_and_their_mean_predicts(regression):
    config, dataset = regression
    sizes = {"model.members": 3, "model.category_dropout": False}
    model = build.build(dataset.preprocessor, config.overridden(sizes).model)
    inputs, targets = first_batch(dataset)
    heads = next(layer for layer in model.layers if isinstance(layer, MemberDense))
    assert heads.kernel.shape[0] == 3
    each, mean = model(inputs, training=True), model(inputs).numpy()
    assert each.shape == (len(targets), 3, 1) and mean.shape == (len(targets), 1)
    np.testing.assert_allclose(each.numpy().mean(axis=1), mean, rtol=1e-5)  # without dropout
    assert len(np.unique(each.numpy()[0])) == 3
    squares = (each.numpy()[:, :, 0] - targets[:, None]) ** 2
    weight = np.arange(len(targets)) % 2
    loss = EachMember("mean_squared_error")
    assert float(loss(targets, each)) == pytest.approx(squares.mean(), rel=1e-5)
    weighted = (squares.mean(axis=1) * weight).sum() / len(targets)
    assert float(loss(targets, each, sample_weight=weight)) == pytest.approx(weighted, rel=1e-5)


@pytest.mark.parametrize("members", [1, 3])
def test_networks_side_by_side_share_nothing_but_the_linear_part(regression, members, tmp_path):
    config, dataset = regression
    changed = {"model.networks": 2, "model.members": members, "train.epochs": 2}
    model = fit.train(config.overridden(changed), dataset).model
    assert sum(isinstance(layer, LinearPart) for layer in model.layers) == 1
    assert sum(isinstance(layer, PiecewiseLinear) for layer in model.layers) == 2
    embeddings = [layer for layer in model.layers if isinstance(layer, CategoryEmbedding)]
    assert len(embeddings) == 2 and embeddings[0].dropout == embeddings[1].dropout
    inputs, targets = first_batch(dataset)
    each, mean = model(inputs, training=True), model(inputs).numpy()
    assert each.shape == (len(targets), 2 * members, 1)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(again(inputs).numpy(), mean, rtol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_each_members_loss_of_classes(classes):
    rng = np.random.default_rng(0)
    targets = rng.integers(0, classes, 20)
    p = rng.dirichlet(np.ones(classes), (20, 4)).astype(np.float32)
    expected = -np.log(np.take_along_axis(p, targets[:, None, None].repeat(4, 1), 2)).mean()
    name = "sparse_categorical_crossentropy" if classes > 2 else "binary_crossentropy"
    given = p if classes > 2 else p[..., 1:]
    assert float(EachMember(name)(targets, given)) == pytest.approx(expected, rel=1e-4)


def test_plain_numbers_go_along_to_three_standard_deviations():
    edges = [[-1.0, 0.0, 1.0], [-1.0, 1.0]]
    x = np.array([[0.5, -9.0], [2.0, 4.0]], np.float32)
    found = PiecewiseLinear(edges, 3, plain=True)(x).numpy()
    assert found.shape == (2, 8)
    np.testing.assert_allclose(found[:, 6:], [[0.5, -3], [2, 3]])
    # Of a model from before, whose config does not name it, the layer stays as it was.
    config = PiecewiseLinear(edges, 3).get_config()
    del config["plain"]
    assert PiecewiseLinear.from_config(config)(x).shape == (2, 6)


def test_rare_codes_are_forgotten_in_training_only():
    layer = CategoryEmbedding([4], 2, dropout=[0.0, 0.0, 1.0, 0.0])
    codes = np.array([[2], [3], [0]], np.int32)
    plain, trained = layer(codes).numpy(), layer(codes, training=True).numpy()
    np.testing.assert_array_equal(trained[0], plain[2])  # taken for unknown
    np.testing.assert_array_equal(trained[1:], plain[1:])
    assert (plain[0] != plain[2]).all()


def test_credibility_is_the_variance_within_over_that_between():
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(4000), rng.integers(1, 12, 4000))
    effect = rng.normal(size=4000)
    for noise in (0.3, 1.0, 2.0):
        target = effect[codes] + noise * rng.normal(size=len(codes)) + 100
        assert initialization.credibility(codes, target[:, None]) == pytest.approx(noise**2, rel=0.1)
    assert initialization.credibility(codes, rng.normal(size=(len(codes), 1))) > 50
    assert initialization.credibility(np.arange(9), rng.normal(size=(9, 1))) == np.inf  # a code a row
    assert initialization.credibility(np.zeros(9, int), rng.normal(size=(9, 1))) == np.inf


def test_a_column_that_another_one_explains_is_not_credible():
    """A plane flies one route: it tells the distance until the route has told it."""
    rng = np.random.default_rng(0)
    plane = rng.integers(0, 2000, 20_000)
    route = rng.integers(0, 50, 2000)[plane]
    target = (rng.normal(size=50)[route] + 0.3 * rng.normal(size=20_000))[:, None]
    assert initialization.credibility(plane, target) < 0.5
    alone, after = initialization.credibilities(np.stack([route, plane], axis=1), target, {})
    assert alone < 0.5 and after > 15


def test_a_value_tells_what_its_range_does_not():
    """Alone a value is the more credible one, also along a mere trend."""
    rng = np.random.default_rng(0)
    day = rng.integers(0, 360, 20_000)
    target = (day / 12 + rng.normal(size=20_000))[:, None]
    codes = np.stack([day, day // 12], axis=1)
    assert initialization.credibility(day, target) < initialization.credibility(day // 12, target)
    own, ranges = initialization.credibilities(codes, target, {0: 1})
    assert ranges < 0.1 and own > 5
    own, _ = initialization.credibilities(codes, target + 5 * rng.normal(size=(360, 1))[day], {0: 1})
    assert own < 0.1


def test_rare_categories_of_a_column_that_tells_the_target_are_hardly_forgotten(tmp_path):
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 300, 1500)
    told = rng.normal(size=300)[kind]
    texts = {"kind": [f"k{k}" for k in kind], "place": [f"p{k}" for k in rng.integers(0, 300, 1500)]}
    rows = pa.table({**texts, "y": told + 0.05 * rng.normal(size=1500)})
    config, dataset = tiny.build(rows, tmp_path, "regression")
    model = build.build(dataset.preprocessor, config.model)
    layer = next(layer for layer in model.layers if isinstance(layer, CategoryEmbedding))
    before, size = layer.dropout, layer.sizes[0]
    initialization.initialize(model, dataset.preprocessor, Feed(dataset, "train", 32).in_order())
    kinds, places = np.array(layer.dropout[:size]), np.array(layer.dropout[size:])
    np.testing.assert_allclose(places, before[size:])
    known = kinds < 1
    assert (kinds[known] <= 0.5).all() and kinds[known].mean() < 0.1 < np.array(before[:size])[known].mean()


def test_rare_values_of_a_number_that_tells_the_target_are_hardly_forgotten(tmp_path):
    """The day of a year of rented bicycles: its number says little, the day itself much."""
    rng = np.random.default_rng(0)
    day, other = rng.integers(0, 100, (2, 1500))
    y = rng.normal(size=100)[day] + 0.05 * rng.normal(size=1500)
    config, dataset = tiny.build(pa.table({"day": day, "other": other, "y": y}), tmp_path, "regression")
    assert [e.encoding for e in dataset.preprocessor.encoded if e.kind == "category"] == ["value", "value"]
    model = build.build(dataset.preprocessor, config.model)
    initialization.initialize(model, dataset.preprocessor, Feed(dataset, "train", 32).in_order())
    layer = next(layer for layer in model.layers if isinstance(layer, CategoryEmbedding))
    days, others = (np.array(part) for part in np.split(np.array(layer.dropout), [layer.sizes[0]]))
    assert days[days < 1].mean() < 0.02 < 0.8 < others[others < 1].mean()


def test_values_that_tell_what_another_number_tells_are_forgotten(tmp_path):
    rng = np.random.default_rng(0)
    size = rng.random(3000)
    county = np.floor(50 * size + rng.normal(0, 8, 3000))
    table = pa.table({"size": size, "county": county, "y": 10 * size + rng.normal(size=3000)})
    config, dataset = tiny.build(table, tmp_path, "regression")
    model = build.build(dataset.preprocessor, config.model)
    initialization.initialize(model, dataset.preprocessor, Feed(dataset, "train", 32).in_order())
    rates = np.array(next(layer for layer in model.layers if isinstance(layer, CategoryEmbedding)).dropout)
    assert rates[rates < 1].mean() > 0.25


def test_values_that_tell_what_their_own_ranges_tell_are_forgotten(tmp_path):
    """A trend of two hundred days, of which each has some twelve train rows."""
    rng = np.random.default_rng(0)
    day = np.arange(3000) % 200
    config, dataset = tiny.build(pa.table({"day": day, "y": day / 6 + rng.normal(size=3000)}), tmp_path, "regression")
    model = build.build(dataset.preprocessor, config.model)
    initialization.initialize(model, dataset.preprocessor, Feed(dataset, "train", 32).in_order())
    rates = np.array(next(layer for layer in model.layers if isinstance(layer, CategoryEmbedding)).dropout)
    assert rates[rates < 1].mean() > 0.25


def test_images_are_not_read_to_begin_with(images):
    config, dataset = images
    blocks = iter([{}])
    initialization.initialize(build.build(dataset.preprocessor, config.model), dataset.preprocessor, blocks)
    assert next(blocks) == {}


def test_the_linear_part_goes_on_beyond_the_train_rows_by_one_range():
    layer = LinearPart([[-1.0, 0.0, 1.0]], 1)
    layer.build((None, 1))
    assert layer(np.ones((1, 1), np.float32)).numpy() == 0  # where training begins
    layer.set_weights([np.array([[2.0]])])
    found = layer(np.array([[0.5], [2.5], [9.0], [-9.0]], np.float32)).numpy()[:, 0]
    np.testing.assert_allclose(found, [1, 5, 6, -6])


def test_products_of_features():
    layer = Cross(1)
    layer.build((None, 2))
    layer.set_weights([np.array([[1.0], [0.0]]), np.array([[0.0, 2.0]]), np.array([0.0, 1.0])])
    np.testing.assert_allclose(layer(np.array([[3.0, 5.0]], np.float32)).numpy(), [[3, 5 + 5 * (2 * 3 + 1)]])


def test_the_linear_part_of_a_large_table_begins_as_a_ridge_regression(regression):
    config, dataset = regression
    preprocessor = dataset.preprocessor
    model = build.build(preprocessor, config.model)
    part = next(layer for layer in model.layers if isinstance(layer, LinearPart))
    x = np.random.default_rng(0).normal(size=(initialization.RIDGE_ROWS, part.kernel.shape[0])).astype(np.float32)
    slopes = np.arange(1, x.shape[1] + 1)
    initialization.initialize_linear(model, preprocessor, x[:-1], x[:-1] @ slopes)
    assert not part.kernel.numpy().any()  # too few rows
    initialization.initialize_linear(model, preprocessor, x, x @ slopes)
    # Whatever of the made numbers lies beyond one range of the train rows does not count.
    inside = (part.clipped(x) == x).mean(axis=0) > 0.99
    found = part.kernel.numpy()[:, 0] * preprocessor.spec["target"]["std"] * (1 + initialization.RIDGE)
    assert inside.sum() >= 2
    np.testing.assert_allclose(found[inside], slopes[inside], rtol=0.05)


def test_pictures_of_any_number_take_one_trace(images):
    config, dataset = images
    model = compiled(config, dataset)
    pixels = np.random.default_rng(3).integers(0, 256, (300, *dataset.preprocessor.image_shape)).astype(np.uint8)
    outputs, traces = zip(
        *((prediction.predict(model, {"image": pixels[:rows]}), prediction._traced(model)) for rows in (1, 7, 300)),
        strict=True,
    )
    np.testing.assert_allclose(outputs[2][:7], outputs[1], atol=1e-6)
    assert len(set(map(id, traces))) == 1


def test_many_networks_one_after_the_other_are_no_cause_of_a_warning(caplog):
    for units in range(1, 9):
        inputs = keras.Input((2,), name="numbers")
        network = keras.Model({"numbers": inputs}, keras.layers.Dense(units)(inputs))
        assert prediction.predict(network, {"numbers": np.ones((3, 2), np.float32)}).shape == (3, units)
    assert "retracing" not in caplog.text
