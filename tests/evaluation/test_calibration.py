"""Temperature: the known one is found, chance is not taken for it, and every path of the model has it."""

import keras
import numpy as np
import pytest

from baton.evaluation import calibration, metrics
from baton.networks import build, layers
from baton.networks.layers import Temperature
from baton.registry import candidates
from baton.serving.raw_columns import RawColumnModel
from baton.training import fit


def overconfident(classes: int, temperature: float, rows: int = 4000, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Truth drawn from softmax(z), and the probabilities softmax(z * temperature)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, classes)) * 1.5
    honest = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    targets = (honest.cumsum(1) > rng.random((rows, 1))).argmax(1)
    told = np.exp(logits * temperature)
    return targets, (told / told.sum(1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("temperature", [0.5, 2.0, 4.0])
def test_the_known_temperature_is_found(classes, temperature):
    targets, probabilities = overconfident(classes, temperature, 20_000)
    assert calibration.temperature_of(targets, probabilities) == pytest.approx(temperature, rel=0.05)
    found = calibration.fit_temperature(targets, probabilities, seed=1)
    assert found.applied and found.loss_after < found.loss_before
    warm = calibration.scaled(probabilities, found.temperature)
    bare, honest = (calibration.measured(targets, p) for p in (probabilities, warm))
    assert honest["ece"] < 0.5 * bare["ece"] and honest["log_loss"] < bare["log_loss"]
    assert (warm.argmax(1) == probabilities.argmax(1)).all()


def test_an_honest_model_is_left_alone():
    applied = [calibration.fit_temperature(*overconfident(3, 1.0, 400, seed), seed=1).applied for seed in range(40)]
    assert sum(applied) <= 4
    assert calibration.fit_temperature(*overconfident(3, 4.0, calibration.MIN_ROWS - 1), seed=1) is None


def test_scaling_back_gives_what_there_was():
    _, probabilities = overconfident(4, 1.0, 50)
    np.testing.assert_allclose(
        calibration.scaled(calibration.scaled(probabilities, 2.5), 0.4), probabilities, atol=1e-6
    )
    sure = np.array([[1.0, 0.0]], np.float32)
    assert np.isfinite(calibration.scaled(sure, 0.1)).all() and np.isfinite(calibration.scaled(sure, 10)).all()


@pytest.mark.parametrize("shape", [1, 3])
def test_the_layer_is_the_formula(shape):
    _, probabilities = overconfident(max(shape, 2), 1.0, 30)
    given = probabilities[:, 1:] if shape == 1 else probabilities
    found = Temperature(1.7)(given).numpy()
    expected = calibration.scaled(probabilities, 1.7)
    np.testing.assert_allclose(found, expected[:, 1:] if shape == 1 else expected, atol=1e-6)
    assert Temperature.from_config(Temperature(1.7).get_config()).temperature == 1.7


@pytest.mark.parametrize("kind", ["binary", "images"])
def test_the_calibrated_network_is_the_same_on_every_path(kind, request, tmp_path):
    """Raw columns, encoded rows and a model read back in safe mode: all have the temperature, applied once."""
    config, dataset = request.getfixturevalue(kind)
    keras.utils.set_random_seed(24)  # weights by chance whose answers differ enough
    build.build(dataset.preprocessor, config.model).save(tmp_path / "bare.keras")
    bare = keras.models.load_model(tmp_path / "bare.keras", compile=False)  # as distributed_train gets it
    network = layers.calibrated(bare, 3.0)
    RawColumnModel(dataset.preprocessor, network).save(tmp_path / "model")
    made = RawColumnModel.load(tmp_path / "model")  # safe mode
    assert isinstance(made.network.layers[-1], Temperature)
    encoded, before = (candidates.EvaluatedSplit.of(n, dataset, "test").output for n in (network, bare))
    targets, raw = made.evaluate(dataset.raw_test())
    np.testing.assert_array_equal(raw, encoded)
    np.testing.assert_allclose(raw, calibration.scaled(before, 3.0), atol=1e-6)
    assert np.abs(raw - before).max() > 0.01
    scored, _ = made.score(dataset.raw_test())
    first = dataset.preprocessor.classes[0]
    np.testing.assert_allclose(scored[f"probability_{first}"].to_numpy(), raw[:, 0], atol=1e-6)
    assert network.count_params() == bare.count_params()


def test_it_is_applied_where_validation_is_better_by_it_and_kept_in_the_model(uneven):
    """A trained network, made overconfident by a temperature below 1."""
    config, dataset = uneven
    trained = fit.train(config, dataset).model
    steep = keras.Model(trained.input, Temperature(0.25)(trained.outputs[0]))
    model, rows = candidates.finished(config, dataset, steep)
    kept = model.preprocessor.spec["target"]["calibration"]
    assert kept["applied"] and kept["temperature"] == pytest.approx(4, rel=0.3)
    assert model.preprocessor.spec["target"]["classes"] == dataset.preprocessor.classes
    np.testing.assert_allclose(
        rows.output, candidates.EvaluatedSplit.of(model.network, dataset, "validation").output, atol=1e-5
    )
    found = calibration.before_and_after(rows.targets, rows.output, kept)
    assert found["after"]["log_loss"] == pytest.approx(metrics.evaluate(rows.targets, rows.output)["log_loss"])
    before = candidates.EvaluatedSplit.of(steep, dataset, "validation")
    assert found["before"]["log_loss"] == pytest.approx(
        metrics.evaluate(before.targets, before.output)["log_loss"], rel=1e-2
    )
    assert sum(entry["rows"] for entry in found["bins"]) == len(rows.targets)
    off, same = candidates.finished(config.overridden({"train.calibrate": False}), dataset, steep)
    assert off.network is steep and off.preprocessor.spec["target"]["calibration"] is None
    np.testing.assert_array_equal(same.output, before.output)


def test_of_an_honest_model_it_is_told_what_it_would_have_been():
    targets, probabilities = overconfident(3, 1.0, 500)
    kept = {"temperature": 1.1, "applied": False}
    found = calibration.before_and_after(targets, probabilities, kept)
    assert found["before"] == calibration.measured(targets, probabilities)
    assert found["after"] == calibration.measured(targets, calibration.scaled(probabilities, 1.1))
    assert calibration.before_and_after(targets, probabilities, None) is None


def test_keras_knows_the_layer():
    assert keras.saving.get_registered_name(Temperature) == "baton>Temperature"
