"""Views of a picture: windows as the papers have them, a network that answers their mean, and its parts."""

import zipfile

import keras
import numpy as np
import pytest
import tiny
from PIL import Image

from baton.config.schema import Model, Views
from baton.data.target import EPSILON
from baton.errors import BadInput
from baton.networks import backbones, build, layers, prediction, views
from baton.networks.costs import layer_costs, totals
from baton.networks.ensemble import base_of
from baton.networks.view_windows import views_of
from baton.networks.views import View, viewed
from baton.serving.raw_columns import RawColumnModel
from baton.training import fit

STACK = [
    {"type": "conv2d", "filters": 3, "kernel_size": 3, "padding": "same", "activation": "relu"},
    {"type": "flatten"},
    {"type": "dense", "units": 4, "activation": "tanh"},
]


@pytest.fixture(scope="module")
def network(images) -> keras.Model:
    keras.utils.set_random_seed(1)
    return build.build(images[1].preprocessor, Model(layers=STACK))


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (9, 8, 8, 1)).astype(np.uint8)


def test_the_papers_144_views_are_there_for_any_size():
    """Szegedy et al., 2015, section 7: 4 scales, 3 squares, 6 crops, mirrored or not."""
    for upright in (False, True):
        found = views_of("googlenet", upright)
        assert len(found) == len(set(found)) == 144
        assert sum(view.mirror for view in found) == 72
        ends = np.array([(v.top, v.left, v.top + v.size, v.left + v.size) for v in found])
        assert ends.min() == 0 and ends.max() == pytest.approx(1, abs=1e-5)
        crops = {round(1 / view.size, 3) for view in found}
        assert {1.143, 1.286, 1.429, 1.571} < crops
    assert len(views_of("ten_crops")) == 10 and len(views_of("mirror")) == 2
    assert views_of("none") == [View()] == views_of("auto")[:1]


def test_squares_lie_along_the_longer_side():
    spec = Views(scales=[4.0], squares=3, crops=6)
    wide, tall = (views_of(spec, upright) for upright in (False, True))
    whole = [view for view in wide if view.size == 0.5]
    assert [(view.top, view.left) for view in whole] == [(0.25, 0.0), (0.25, 0.25), (0.25, 0.5)]
    assert {(view.left, view.top, view.size) for view in tall} == {(view.top, view.left, view.size) for view in wide}


def test_windows_that_are_the_same_count_once():
    assert views_of(Views(scales=[1.0, 1.0], squares=1, crops=6)) == [View()]


def test_a_view_is_the_window_enlarged(pictures):
    """As Pillow enlarges a box, and as it is where the window is the picture."""
    seen = keras.Sequential([keras.Input((8, 8, 1), name="image"), keras.layers.Flatten()])
    windows = [View(), View(mirror=True), View(0.125, 0.25, 0.5), View(0.125, 0.25, 0.5, True)]
    inputs = {"image": keras.Input((8, 8, 1), name="image")}
    each = keras.Model(inputs, views.OfViews(keras.Model(inputs, seen(inputs["image"])), windows)(inputs))
    found = prediction.predict(each, {"image": pictures}).reshape(9, 4, 8, 8)
    np.testing.assert_array_equal(found[:, 0], pictures[..., 0])
    np.testing.assert_array_equal(found[:, 1], pictures[:, :, ::-1, 0])
    for picture, window, mirrored in zip(pictures[..., 0], found[:, 2], found[:, 3], strict=True):
        image = Image.fromarray(picture.astype(np.float32))
        expected = np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR, box=(2, 1, 6, 5)))
        np.testing.assert_allclose(window[1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-3)  # Pillow ends at the box
        np.testing.assert_array_equal(mirrored, window[:, ::-1])


def test_the_answer_is_the_mean_of_the_answers(network, pictures):
    found = prediction.predict(viewed(network, [View(), View(mirror=True)]), {"image": pictures})
    both = [prediction.predict(network, {"image": p}) for p in (pictures, np.ascontiguousarray(pictures[:, :, ::-1]))]
    np.testing.assert_allclose(found, np.mean(both, axis=0), atol=1e-6)
    assert np.abs(found - both[0]).max() > 1e-3


def test_a_saved_model_sees_the_same_and_holds_its_weights_once(images, network, pictures, tmp_path):
    """Read back in safe mode, calibrated; the base's layers can all be reached."""
    seen = layers.calibrated(viewed(network, views_of("ten_crops")), 1.5)
    RawColumnModel(images[1].preprocessor, seen).save(tmp_path)
    again = RawColumnModel.load(tmp_path)
    np.testing.assert_array_equal(
        prediction.predict(again.network, {"image": pictures}), prediction.predict(seen, {"image": pictures})
    )
    assert again.network.count_params() == network.count_params()
    base = base_of(again.network)
    assert [layer.name for layer in base.layers] == [layer.name for layer in network.layers]
    assert base_of(network) is network
    targets, raw = again.evaluate(images[1].raw_test())
    assert len(targets) == len(raw) and (raw > EPSILON).all()


def test_what_a_network_was_trained_by_does_not_travel(images, tmp_path):
    """A loss or an optimizer of Baton's would have to be there where the model is served."""
    config, dataset = images
    trained = fit.train(config.overridden({"train.epochs": 1}), dataset).model
    seen = viewed(trained, [View(mirror=True)])
    RawColumnModel(dataset.preprocessor, seen).save(tmp_path)
    with zipfile.ZipFile(tmp_path / "network.keras") as file:
        assert b"EachMember" not in file.read("config.json")
    assert [layer.name for layer in seen.layers] == ["image", "views", "mean_of_views"]


def test_pictures_go_through_one_view_after_the_other(network):
    """144 views take no more room than one: what a layer gives is no larger than for the pictures as they are."""
    import tensorflow as tf

    seen = viewed(network, views_of("googlenet"))
    call = tf.function(lambda rows: seen(rows)).get_concrete_function({"image": tf.TensorSpec([7, 8, 8, 1])})
    bodies = [f for f in call.graph.as_graph_def().library.function if any(n.op == "Conv2D" for n in f.node_def)]
    loops = [node for node in call.graph.as_graph_def().node if node.op == "While"]
    assert len(bodies) == 1 and len(loops) == 1 and loops[0].attr["parallel_iterations"].i == 1


def test_each_view_costs_as_much_as_the_network(network):
    parameters, sums = totals(layer_costs(network))
    seen = layers.calibrated(viewed(network, views_of("googlenet")), 2.0)
    assert totals(layer_costs(seen)) == (parameters, 144 * sums)


def test_a_view_that_runs_code_is_refused(images, network, tmp_path):
    inner = keras.Sequential([keras.Input((8, 8, 1), name="image"), keras.layers.Lambda(lambda x: x[:, 0, 0, :])])
    inputs = {"image": keras.Input((8, 8, 1), name="image")}
    bad = viewed(keras.Model(inputs, inner(inputs["image"])), [View(mirror=True)])
    RawColumnModel(images[1].preprocessor, bad).save(tmp_path)
    with pytest.raises(BadInput, match="safe mode"):
        RawColumnModel.load(tmp_path)


@pytest.mark.parametrize(
    ("task", "sections", "sentence"),
    [
        ("regression", {"model": {"views": "auto"}}, r"model\.views: does not go with the task regression"),
        ("image", {"model": {"views": "ten"}}, r"model\.views: must be none, auto, mirror, ten_crops, googlenet or a "),
        ("image", {"model": {"views": {"scales": [0.5]}}}, r"model\.views\.scales\.0: .* greater than or equal to 1"),
        ("image", {"model": {"views": {"crop": 5}}}, r"model\.views\.crop is not a key here\. Allowed: scales"),
        ("image", {"tune": {"space": {"model.views": {"choice": ["none", "mirror"]}}}},
         r"model\.views: is chosen once a network is trained: set model\.views itself"),
    ],
)  # fmt: skip
def test_what_no_views_are_is_said_before_anything_starts(task, sections, sentence):
    with pytest.raises(BadInput, match=sentence):
        tiny.config(task, **sections)


def test_a_backbone_is_taken_of_what_sees_the_views(images, network, pictures, tmp_path):
    """Of a registered model that answers by views the convolutions are those of its base."""
    layers.calibrated(viewed(network, views_of("mirror")), 2.0).save(tmp_path / "seen.keras")
    network.save(tmp_path / "bare.keras")
    seen, bare = (
        backbones.build_backbone(Model(weights=str(tmp_path / f"{name}.keras")), images[1].preprocessor.image_shape)
        for name in ("seen", "bare")
    )
    np.testing.assert_array_equal(seen(pictures.astype(np.float32)), bare(pictures.astype(np.float32)))
