"""Where a network sees a class in a picture: Grad-CAM against what is known of small networks; as a figure too."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from mixed import said

from baton.config.schema import Model
from baton.inspection import examples, grad_cam
from baton.networks import build, layers, prediction
from baton.reporting.figures import grad_cam as figures
from baton.serving.raw_columns import RawColumnModel

STACK = [
    {"name": "first", "type": "conv2d", "filters": 5, "kernel_size": 3, "padding": "same", "activation": "relu"},
    {"type": "batch_normalization"},
    {"name": "last", "type": "conv2d", "filters": 6, "kernel_size": 3, "strides": 2, "activation": "relu"},
    {"type": "global_average_pooling2d"},
]


@pytest.fixture(scope="module")
def model(images) -> RawColumnModel:
    _, dataset = images
    keras.utils.set_random_seed(1)
    return RawColumnModel(dataset.preprocessor, build.build(dataset.preprocessor, Model(layers=STACK)))


@pytest.fixture(scope="module")
def answered(images) -> tuple:
    """(raw test rows, targets, made-up output): every other row is right, some are surer than others."""
    _, dataset = images
    raw = dataset.raw_test()
    _, _, targets = examples.usable(raw, dataset.preprocessor)
    predicted = np.where(np.arange(len(targets)) % 2, targets, (targets + 1) % 3)
    sure = np.random.default_rng(1).uniform(0.4, 1, (len(targets), 1))
    return raw, targets, np.where(np.eye(3)[predicted] > 0, sure, (1 - sure) / 2)


def pictures_of(dataset, count: int) -> np.ndarray:
    pixels = examples.pixels_of(dataset.raw_test(), dataset.preprocessor, np.arange(count))
    return np.stack(list(pixels.values()))


def maps_of(network, pictures: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Each picture's map of its own class."""
    pairs = zip(pictures, classes.tolist(), strict=True)
    return np.concatenate([grad_cam.class_maps(network, picture, [index]) for picture, index in pairs])


def test_behind_a_global_mean_it_is_the_class_activation_map(images, model):
    """There the last layer's weights are known: CAM (Zhou et al., 2016), divided by the map's cells."""
    _, dataset = images
    pictures, classes = pictures_of(dataset, 6), np.array([0, 1, 2, 2, 1, 0])
    maps = np.asarray(keras.Model(model.network.inputs, model.network.get_layer("last").output)({"image": pictures}))
    weights = np.asarray(model.network.get_layer("head").kernel)
    expected = np.maximum(np.einsum("nhwc,cn->nhw", maps, weights[:, classes]) / maps[0, :, :, 0].size, 0)
    got = maps_of(model.network, pictures, classes)
    assert got.shape == (6, 3, 3) and expected.max() > 0
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_a_frozen_a_sure_and_a_calibrated_network_have_maps(images, model):
    _, dataset = images
    pictures, classes = pictures_of(dataset, 6), np.array([0, 1, 2, 2, 1, 0])
    expected = maps_of(model.network, pictures, classes)
    other = keras.models.clone_model(model.network)
    other.set_weights(model.network.get_weights())
    head = other.get_layer("head")
    head.set_weights([1e4 * weight for weight in head.get_weights()])  # its probabilities are 0 and 1
    other.trainable = False
    assert prediction.predict(other, {"image": pictures}).max(axis=1).min() > 0.999
    got = maps_of(layers.calibrated(other, 2.0), pictures, classes)
    np.testing.assert_allclose(got, 1e4 * expected, rtol=1e-3, atol=1e-2)


def test_it_points_at_what_the_class_is_made_of(images):
    """One kernel adds up what is bright for one class, another what is dark for a second one."""
    _, dataset = images
    stack = [{"name": "spots", "type": "conv2d", "filters": 2, "kernel_size": 3, "padding": "same"},
             {"type": "activation", "activation": "relu"}, {"type": "global_average_pooling2d"}]  # fmt: skip
    network = build.build(dataset.preprocessor, Model(layers=stack))
    ones = np.ones((3, 3, 1, 1))
    network.get_layer("spots").set_weights([np.concatenate([ones, -ones], axis=3), np.array([-6.0, 3.0])])
    network.get_layer("head").set_weights([np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), np.zeros(3)])
    picture = np.full((8, 8, 1), 128, np.uint8)
    picture[0:3, 4:7], picture[5:8, 0:3] = 255, 0
    bright, dark, neither = grad_cam.class_maps(network, picture, [0, 1, 2])
    assert grad_cam.strongest(bright) == {"down": 0.188, "across": 0.688}
    assert grad_cam.strongest(dark)["down"] > 0.75 and grad_cam.strongest(dark)["across"] < 0.25
    assert bright[6, 1] == dark[1, 5] == 0 and grad_cam.strongest(neither) is None


@pytest.mark.parametrize(
    ("stack", "name"),
    [
        (STACK, "last"),
        ([*STACK[:3], {"name": "one_cell", "type": "conv2d", "filters": 4, "kernel_size": 3}], "last"),
        ([*STACK[:3], {"type": "activation", "activation": "relu", "name": "active"}, {"type": "flatten"}], "active"),
        ([{"type": "flatten"}, {"type": "dense", "units": 4}], None),
    ],
)
def test_the_last_map_of_more_than_a_cell_is_taken(images, stack, name):
    _, dataset = images
    layer = grad_cam.last_map(build.build(dataset.preprocessor, Model(layers=stack)))
    assert (layer and layer.name) == name


def test_a_map_that_a_branch_passes_by_or_that_is_padded_is_not_taken(images):
    """Else Grad-CAM would tell of a part of the network only, or of cells beside the picture."""
    _, dataset = images
    graph = [
        {"name": "stem", "type": "conv2d", "filters": 4, "kernel_size": 3},
        {"name": "wide", "type": "conv2d", "filters": 4, "kernel_size": 6, "inputs": ["stem"]},
        {"name": "narrow", "type": "conv2d", "filters": 4, "kernel_size": 3, "inputs": ["stem"]},
        {"name": "padded", "type": "zero_padding2d", "inputs": ["narrow"]},
        {"name": "end", "type": "conv2d", "filters": 4, "kernel_size": 6, "inputs": ["padded"]},
        {"name": "both", "type": "concatenate", "inputs": ["wide", "end"]},
    ]
    network = build.build(dataset.preprocessor, Model(graph=graph))
    assert grad_cam.last_map(network).name == "stem"
    assert grad_cam.last_map(layers.calibrated(network, 2.0)).name == "stem"
    alone = [{**graph[0]}, {**graph[3], "inputs": ["stem"]}, {**graph[4], "kernel_size": 8}]
    assert grad_cam.last_map(build.build(dataset.preprocessor, Model(graph=alone))).name == "stem"


def test_without_a_map_a_sentence_says_so(images, answered):
    _, dataset = images
    network = build.build(dataset.preprocessor, Model(layers=[{"type": "flatten"}]))
    looked = grad_cam.grad_cam(RawColumnModel(dataset.preprocessor, network), *answered, 9)
    assert looked is None and figures.draw(looked) == {}
    assert grad_cam.to_dict(looked) == {"reason": grad_cam.NO_MAP}


def test_right_and_wrong_ones_are_those_it_is_surest_of(images, model, answered):
    raw, targets, predictions = answered
    predicted, classes = predictions.argmax(axis=1), model.preprocessor.classes
    looked = grad_cam.grad_cam(model, *answered, 60)
    for kind, wanted in ((looked.right, predicted == targets), (looked.wrong, predicted != targets)):
        rows = [example.row for example in kind]
        assert 0 < len(rows) <= grad_cam.MAX_EACH and wanted[rows].all() and len(set(rows)) == len(rows)
        assert predictions[rows[0]].max() == predictions[wanted].max()
    for example in looked.right + looked.wrong:
        assert (example.predicted[0], example.actual[0]) == (
            classes[predicted[example.row]], classes[targets[example.row]],
        )  # fmt: skip
        asked = [int(predicted[example.row]), int(targets[example.row])]
        maps = grad_cam.class_maps(model.network, example.pixels, asked)
        np.testing.assert_allclose(example.predicted_map, maps[0], rtol=1e-5, atol=1e-7)
        assert (example.actual_map is None) == (asked[0] == asked[1])
        if example.actual_map is not None:
            np.testing.assert_allclose(example.actual_map, maps[1], rtol=1e-5, atol=1e-7)
            assert example.actual[1] == pytest.approx(predictions[example.row, targets[example.row]])


def test_a_threshold_decides_what_is_wrong(answered):
    raw, _, _ = answered
    predictions = np.array([[0.7, 0.3], [0.9, 0.1], [0.2, 0.8]])
    rows = grad_cam.chosen_rows(np.array([1, 1, 1]), grad_cam.decide(predictions, 0.25), predictions)
    assert rows.tolist() == [2, 1, 0]  # right, wrong, right


@pytest.mark.parametrize(("seconds", "count"), [(0.0, 1), (5.0, 2), (9.0, 4)])
def test_pictures_are_looked_at_while_there_is_time(model, answered, monkeypatch, seconds, count):
    """A second passes whenever the clock is read: twice for each picture."""
    now = iter(range(1000))
    monkeypatch.setattr(grad_cam, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
    looked = grad_cam.grad_cam(model, *answered, seconds)
    assert len(looked.right) + len(looked.wrong) == count and looked.seconds <= max(seconds, 3) + 1
    assert abs(len(looked.right) - len(looked.wrong)) <= 1


def test_the_figure_and_the_numbers_name_classes_and_layer(model, answered):
    looked = grad_cam.grad_cam(model, *answered, 60)
    (figure,) = figures.draw(looked).values()
    texts = said(figure).replace("\n", " ")
    assert "The map has 3 × 3 cells, after last." in texts
    wrong = looked.wrong[0]
    assert f"row {wrong.row} wrong" in texts and f"row {looked.right[0].row} right" in texts
    assert f"predicted {wrong.predicted[1]:.0%}" in texts and f"actual {wrong.actual[1]:.0%}" in texts
    plain = json.loads(json.dumps(grad_cam.to_dict(looked), allow_nan=False))
    assert (plain["layer"], plain["height"], plain["width"]) == ("last", 3, 3)
    assert [example["row"] for example in plain["wrong"]] == [example.row for example in looked.wrong]
    assert plain["wrong"][0]["actual"] == wrong.actual[0] and "actual" not in plain["right"][0]


def test_a_map_of_nothing_is_named_so(model, answered):
    looked = grad_cam.grad_cam(model, *answered, 0)
    example = (looked.right + looked.wrong)[0]
    nothing = SimpleNamespace(**{**vars(example), "predicted_map": np.zeros((3, 3)), "actual_map": None})
    (figure,) = figures.draw(SimpleNamespace(layer="last", size=(3, 3), right=[nothing], wrong=[])).values()
    assert "nothing adds" in said(figure)
