"""Backbones of files and of the registry: what is trained on is named by its content."""

import logged
import mlflow
import numpy as np
import pytest

from baton.config.schema import Model
from baton.errors import BadInput
from baton.networks import backbones, build
from baton.orchestration import outputs
from baton.registry import pretrained
from baton.runtime.files import sha256
from baton.serving import export


@pytest.fixture(scope="module")
def registered(images, tmp_path_factory):
    """A store with a model of pictures, version 1 of `shoes`, champion; its network."""
    config, dataset = images
    home = tmp_path_factory.mktemp("pretrained")
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        uri = f"sqlite:///{home}/mlflow.db"
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.chdir(home)
        mlflow.set_tracking_uri(uri)
        experiment = mlflow.create_experiment("pictures", artifact_location=(home / "artifacts").as_uri())
        model = logged.untrained(config, dataset)
        with mlflow.start_run(experiment_id=experiment):
            source = export.log_model(model.preprocessor, model.network, None, {"fingerprint": "f"})
        client = mlflow.MlflowClient()
        client.create_registered_model("shoes")
        client.create_model_version("shoes", source)
        client.set_registered_model_alias("shoes", "champion", "1")
        yield model.network
        mlflow.set_tracking_uri(before)


@pytest.mark.parametrize("place", ["models:/shoes@champion", "models:/shoes/1"])
def test_a_registered_models_convolutions_are_a_backbone(registered, images, place):
    config, dataset = images
    local = pretrained.local(config.overridden({"model.weights": place}))
    backbone = backbones.build_backbone(local.model, dataset.preprocessor.image_shape)
    pixels = np.random.default_rng(0).integers(0, 256, (3, *dataset.preprocessor.image_shape)).astype(np.float32)
    means = np.asarray(backbone(pixels)).mean(axis=(1, 2))
    pooled = next(layer for layer in registered.layers if type(layer).__name__ == "GlobalAveragePooling2D")
    expected = type(registered)(registered.inputs, pooled.output)({"image": pixels})
    np.testing.assert_allclose(means, expected, rtol=1e-4, atol=1e-5)
    built = build.build(dataset.preprocessor, local.model)
    assert built.output_shape == registered.output_shape and "backbone" not in built.to_json()


def test_the_content_decides_what_is_another_backbone(images, tmp_path):
    config, dataset = images
    config = config.overridden({"warehouse": str(tmp_path / "w"), "model.backbone": str(tmp_path / "own.keras")})
    network = logged.untrained(*images).network
    keys = []
    for change in (0, 0, 1):
        weights = network.get_weights()
        network.set_weights([weights[0] + change, *weights[1:]])
        network.save(tmp_path / "own.keras")
        copy = pretrained.local(config).model.backbone
        assert sha256(tmp_path / "own.keras") in copy and sha256(tmp_path / "own.keras") == sha256(tmp_path / copy)
        keys.append(outputs.key("train", config, {}, {}).digest)
        if change == 0:
            again = (tmp_path / "own.keras").read_bytes()
            (tmp_path / "own.keras").unlink()
            (tmp_path / "own.keras").write_bytes(again)
            assert outputs.key("train", config, {}, {}).digest == keys[-1]
    assert keys[2] not in keys[:2]
    assert pretrained.local(images[0]) is images[0]


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"model.backbone": "gone.keras"}, r"model\.backbone names a file that is not there\. Received: gone\.keras"),
        (
            {"model.backbone": "VGG16", "model.weights": "gone.weights.h5"},
            r"model\.weights names a file that is not there",
        ),
        ({"model.backbone": "VGG17"}, r"one of keras.applications' networks .*Received: VGG17"),
        ({"model.weights": "imagnet"}, r"model\.weights is none, imagenet, a \.keras or .*Received: imagnet"),
        ({"model.weights": "imagenet"}, r"of a network that model\.backbone has to name"),
        ({"model.weights": "models:/shoes"}, r"models:/name@alias or models:/name/version\. Received: models:/shoes"),
        ({"model.weights": "models:/shoes@best"}, r"an alias that no version bears\. Received: models:/shoes@best"),
        ({"model.weights": "models:/shoes/7"}, r"Model shoes has no version 7"),
    ],
)
def test_what_is_not_there_is_named(registered, images, changes, answer):
    with pytest.raises(BadInput, match=answer):
        pretrained.local(images[0].overridden(changes))


def test_pictures_only_have_a_backbone(regression):
    with pytest.raises(BadInput, match=r"model\.backbone: does not go with the task regression"):
        regression[0].overridden({"model.backbone": "VGG16"})
    assert Model().weights == "none"
