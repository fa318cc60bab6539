"""What convolutions learnt: filters, feature maps, and pictures that a small change turns; as figures too."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from mixed import said

from baton import names
from baton.config.schema import Model
from baton.errors import OverBudget
from baton.inspection import feature_maps
from baton.networks import build, layers, prediction
from baton.reporting.figures import feature_maps as figures
from baton.serving.raw_columns import RawColumnModel
from baton.training import fit
from steps import register

BLOCKS = [
    {"name": "stem", "type": "conv2d", "filters": 6, "kernel_size": 3, "padding": "same", "activation": "relu"},
    {"name": "one", "type": "residual", "filters": 8, "strides": 2, "stochastic_depth": 0.1},
    {"name": "two", "type": "bottleneck", "filters": 12, "strides": 2, "squeeze_excitation": 4},
    {"type": "global_average_pooling2d"},
]


@pytest.fixture(scope="module")
def trained(images) -> tuple:
    config, dataset = images
    changed = {"train.epochs": 8, "train.learning_rate": 0.01, "model.layers": BLOCKS}
    changed |= {"train.augment": "none", "train.weight_average": 0, "train.label_smoothing": 0}  # for 32 steps are few
    network = fit.train(config.overridden(changed), dataset).model
    return config, dataset, RawColumnModel(dataset.preprocessor, network)


@pytest.fixture(scope="module")
def learnt(trained):
    _, dataset, model = trained
    return feature_maps.learnt(model, dataset.raw_test(), 60, 1)


def pixels_of(dataset, rows: list[int]) -> np.ndarray:
    preprocessor = dataset.preprocessor
    typed, kept, _ = feature_maps.usable(dataset.raw_test(), preprocessor)
    assert kept.all() or len(kept) == typed.num_rows
    return preprocessor.blocks(preprocessor.encode(typed))["image"][rows]


def test_the_changed_picture_is_the_least_that_turns(trained, learnt):
    _, dataset, model = trained
    assert learnt.examples and learnt.steps and len(learnt.steps) <= feature_maps.PICTURES
    needed = [example.step for example in learnt.examples]
    assert needed == sorted(needed) and min(step for step in learnt.steps if step) == needed[0]
    for example in learnt.examples:
        np.testing.assert_array_equal(example.pixels, pixels_of(dataset, [example.row])[0])
        moved = example.changed.astype(int) - example.pixels
        sign = feature_maps.gradient_sign(model.network, example.pixels[None])[0]
        np.testing.assert_array_equal(moved, np.clip(example.pixels + example.step * sign, 0, 255) - example.pixels)
        less = np.clip(example.pixels + example.step / 2 * sign, 0, 255) if example.step > 1 else example.pixels
        answers = prediction.predict(
            model.network, {"image": np.stack([example.pixels, less, example.changed]).astype(np.uint8)}
        )
        answered = [dataset.preprocessor.classes[index] for index in answers.argmax(axis=1)]
        assert answered == [example.before[0], example.before[0], example.after[0]] and answered[1] != answered[2]
        assert example.after[1] == pytest.approx(answers[2].max(), rel=1e-5)


def test_the_direction_is_that_of_the_cross_entropy_and_of_a_sure_network_too(trained):
    _, dataset, model = trained
    pictures = tf.constant(pixels_of(dataset, [0, 1, 2, 3]), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(pictures)
        answers = model.network({"image": pictures})
        loss = keras.losses.sparse_categorical_crossentropy(tf.argmax(answers, axis=1), answers)
    expected = tape.gradient(loss, pictures).numpy()
    sign = feature_maps.gradient_sign(model.network, pictures.numpy())
    clear = np.abs(expected) > 1e-3 * np.abs(expected).max(axis=(1, 2, 3), keepdims=True)
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(sign[clear], np.sign(expected)[clear])

    sure = keras.models.clone_model(model.network)
    sure.set_weights(model.network.get_weights())
    head = sure.get_layer("head")
    head.set_weights([1e4 * weight for weight in head.get_weights()])  # its probabilities are 0 and 1
    again = feature_maps.gradient_sign(layers.calibrated(sure, 2.0), pictures.numpy())
    np.testing.assert_array_equal((again != 0).mean(axis=(1, 2, 3)) > 0.9, True)


def test_stages_end_where_the_map_gets_smaller(trained, learnt):
    _, _, model = trained
    assert [(stage.layer, stage.maps.shape, stage.channels) for stage in learnt.stages] == [
        ("stem", (8, 8, 6), 6), ("one", (4, 4, 8), 8), ("two", (2, 2, 8), 12),
    ]  # fmt: skip
    stage = learnt.stages[1]
    values = keras.Model(model.network.inputs, model.network.get_layer("one").output)({"image": learnt.picture[None]})
    assert sorted(stage.maps.std(axis=(0, 1)), reverse=True) == stage.maps.std(axis=(0, 1)).tolist()
    np.testing.assert_allclose(np.sort(stage.maps.max(axis=(0, 1))), np.sort(np.max(values[0], axis=(0, 1))), rtol=1e-5)


@pytest.mark.parametrize(
    ("first", "shape"),
    [
        ({"type": "conv2d", "filters": 40, "kernel_size": [3, 5]}, (3, 5, 1, 32)),
        ({"type": "separable_conv2d", "filters": 4, "kernel_size": 3, "depth_multiplier": 2}, (3, 3, 1, 2)),
        ({"type": "flatten"}, None),
    ],
)
def test_filters_are_the_first_kernels_the_strongest_first(images, first, shape):
    _, dataset = images
    more = [] if first["type"] == "flatten" else [{"type": "conv2d", "filters": 4, "kernel_size": 2}]
    network = build.build(dataset.preprocessor, Model(layers=[first, *more]))
    filters = feature_maps.first_filters(network)
    assert (filters and filters.kernels.shape) == shape
    maps = feature_maps.feature_maps(network, np.zeros(dataset.preprocessor.image_shape))
    assert bool(maps) == bool(shape)
    if filters:
        strength = np.abs(filters.kernels).sum(axis=(0, 1, 2))
        assert (np.diff(strength) <= 0).all() and filters.count >= shape[-1]
    if shape and shape[-1] == 32:
        kernel = np.abs(np.asarray(network.layers[2].kernel)).sum(axis=(0, 1, 2))
        assert filters.count == 40 and strength[0] == kernel.max() and strength[-1] >= np.sort(kernel)[8]


def test_without_time_no_picture_is_changed(trained):
    _, dataset, model = trained
    found = feature_maps.learnt(model, dataset.raw_test(), 0.0, 1)
    assert not found.steps and not found.examples and len(found.stages) == 3
    assert set(figures.draw(found)) == {"cnn_filters", "cnn_feature_maps"}
    assert feature_maps.to_dict(found)["turned"] == {}


@pytest.mark.parametrize(("seconds", "changed"), [(24.0, 0), (30.0, 6), (34.0, 8)])
def test_pictures_are_changed_while_there_is_time(trained, monkeypatch, seconds, changed):
    """A second passes whenever the clock is read: once for each of 15 pictures, twice for each that is changed."""
    _, dataset, model = trained
    now = iter(range(1000))
    monkeypatch.setattr(feature_maps, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
    found = feature_maps.learnt(model, dataset.raw_test(), seconds, 1)
    assert len(found.steps) == changed and found.seconds <= seconds + 1  # the last reading changes nothing


def test_the_figures_say_what_they_show(learnt):
    drawn = {name: said(figure) for name, figure in figures.draw(learnt).items()}
    assert set(drawn) == {"cnn_filters", "cnn_feature_maps", "cnn_adversarial"}
    assert "stem: all 6, 3 × 3 pixels" in drawn["cnn_filters"]
    assert "8 × 8, 6 of 6 maps, after stem" in drawn["cnn_feature_maps"]
    assert "2 × 2, 8 of 12 maps, after two" in drawn["cnn_feature_maps"]
    assert f"±{learnt.examples[0].step} of 255" in drawn["cnn_adversarial"]
    assert f"{learnt.turned(32)} within ±32 of 255" in drawn["cnn_adversarial"].replace("\n", " ")


def logged(config, dataset, model) -> tuple[dict, set[str]]:
    """What register logs of a model's explanation: `explanation.json`, and the names of figures."""
    written, drawn = {}, set()
    run = SimpleNamespace(json=lambda value, name: written.update({name: value}), figures=lambda f: drawn.update(f))
    register.log_explanation(config, run, dataset, model, *model.evaluate(dataset.raw_test()))
    return json.loads(json.dumps(written[names.EXPLANATION], allow_nan=False)), drawn


def test_register_logs_them_unless_they_are_switched_off(trained):
    config, dataset, model = trained
    quick = {"register.explain": {"rows": 2, "background": 5, "seconds": 20}}
    told, drawn = logged(config.overridden(quick), dataset, model)
    assert told["rows"] == 2 and drawn == {
        "shap_importance", "shap_images", "cnn_grad_cam", "cnn_confusions",
        "cnn_filters", "cnn_feature_maps", "cnn_adversarial",
    }  # fmt: skip
    looked = told["grad_cam"]
    assert looked["layer"] == "two" and looked["right"] and looked["wrong"] and told["confusions"]
    assert {(e["class"], e["actual"]) for e in looked["wrong"]} == {
        (c["predicted"], c["actual"]) for c in told["confusions"]
    }
    found = told["feature_maps"]
    assert found["filters"] == {"layer": "stem", "count": 6, "height": 3, "width": 3}
    assert [stage["layer"] for stage in found["stages"]] == ["stem", "one", "two"]
    assert list(found["turned"].values()) == sorted(found["turned"].values())
    assert found["turned"]["32"] <= found["changed"] and found["examples"][0]["becomes"] in dataset.preprocessor.classes

    quick["register.explain"] |= {"feature_maps": False, "grad_cam": False}
    told, drawn = logged(config.overridden(quick), dataset, model)
    assert not {"feature_maps", "grad_cam"} & set(told) and drawn == {
        "shap_importance", "shap_images", "cnn_confusions",
    }  # fmt: skip


def test_too_few_seconds_leave_the_rows_unexplained_and_the_maps_there(trained):
    config, dataset, model = trained
    told, drawn = logged(config.overridden({"register.explain": {"rows": 2, "seconds": 0.001}}), dataset, model)
    assert told["rows"] == 0 and "register.explain.seconds is 0.001" in told["reason"]
    assert told["feature_maps"]["changed"] == 0 and len(told["grad_cam"]["right"] + told["grad_cam"]["wrong"]) == 1
    assert drawn == {"cnn_filters", "cnn_feature_maps", "cnn_grad_cam", "cnn_confusions"}


def test_figures_take_none_of_the_rows_seconds(trained, monkeypatch):
    config, dataset, model = trained
    given = []

    def explain(model, raw, settings, seed):
        given.append(settings.seconds)
        raise OverBudget("there is none left")

    monkeypatch.setattr(register.explanation, "explain", explain)
    told, _ = logged(config.overridden({"register.explain": {"rows": 2, "seconds": 20}}), dataset, model)
    looked = told["feature_maps"]["seconds"] + told["grad_cam"]["seconds"]
    assert given == [pytest.approx(20 - looked, abs=0.001)] and 0 < looked < 11
