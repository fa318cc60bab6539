"""A regression's losses are what their names say, and the metric that a config names is what all goes by."""

from types import SimpleNamespace

import keras
import numpy as np
import pyarrow as pa
import pytest
import tiny
from sklearn import metrics as sk

from baton import names
from baton.config.schema import OBJECTIVES
from baton.data.feed import Feed
from baton.data.target import POWERS
from baton.errors import BadInput
from baton.evaluation import metrics
from baton.monitoring import drift
from baton.networks import layers, losses, prediction
from baton.registry import candidates, evidence, gate
from baton.registry.gate import Evidence
from baton.serving.raw_columns import RawColumnModel
from baton.training import fit


def amounts(rows: int = 600) -> pa.Table:
    """Amounts with a long tail, which a number multiplies and a category, too."""
    rng = np.random.default_rng(5)
    x, c = rng.normal(size=rows).round(6), rng.choice(["a", "b"], rows)
    mean = 200 * np.exp(0.8 * x + (c == "b"))
    return pa.table({"x": x, "c": c, "y": rng.gamma(2, mean / 2)})


@pytest.fixture(scope="module")
def money(tmp_path_factory) -> tuple:
    return tiny.build(amounts(), tmp_path_factory.mktemp("money"), "regression", train={"learning_rate": 0.03})


def trained_by(money: tuple, metric: str, objective: str = "auto", **train: float) -> SimpleNamespace:
    """A short training by a metric → config, dataset, result, targets and output on validation."""
    settings = {f"train.{key}": value for key, value in train.items()}
    config = money[0].overridden({"evaluation.primary_metric": metric, "train.objective": objective, **settings})
    result = fit.train(config, money[1])
    targets, output = prediction.predict_all(result.model, Feed(money[1], "validation", 64))
    return SimpleNamespace(config=config, dataset=money[1], result=result, targets=targets, output=output)


@pytest.fixture(scope="module")
def gamma(money) -> SimpleNamespace:
    return trained_by(money, "gamma_deviance", learning_rate=0.01, epochs=10)  # the first is not the best


@pytest.mark.parametrize(("objective", "power"), POWERS.items())
def test_a_deviances_loss_differs_from_the_deviance_by_what_no_prediction_changes(objective, power):
    targets = np.array([0.5, 1, 7, 20], np.float32)
    loss = losses.EachMember(objective, unit=4.0, reduction="none")
    found = [np.array(loss(targets, np.full((4, 1), mean, np.float32))) for mean in (2.0, 9.0)]
    expected = [
        [sk.mean_tweedie_deviance([y / 4], [mean / 4], power=power) / 2 for y in targets] for mean in (2.0, 9.0)
    ]
    np.testing.assert_allclose(found[1] - found[0], np.subtract(*expected[::-1]), rtol=1e-4)


def test_the_other_losses_are_measured_in_the_targets_deviation():
    targets, predicted = np.zeros(3, np.float32), np.array([[1.0], [4.0], [-20.0]], np.float32)
    found = {
        name: np.array(losses.EachMember(name, unit=4.0, reduction="none")(targets, predicted))
        for name in ("squared", "absolute", "huber")
    }
    np.testing.assert_allclose(found["squared"], [1 / 16, 1, 25])
    np.testing.assert_allclose(found["absolute"], [0.25, 1, 5])
    np.testing.assert_allclose(found["huber"], [1 / 32, 0.5, 4.5])


def test_members_have_each_their_own_loss_whatever_the_objective():
    targets, members = np.array([3.0, 5.0], np.float32), np.random.default_rng(1).uniform(1, 9, (2, 3, 1))
    each = losses.EachMember("gamma", unit=2.0)
    expected = np.mean([each(targets, members[:, index].astype(np.float32)) for index in range(3)])
    assert float(each(targets, members.astype(np.float32))) == pytest.approx(expected, rel=1e-6)


def test_training_is_stopped_and_judged_by_the_deviance(gamma):
    assert gamma.result.best_value == pytest.approx(sk.mean_gamma_deviance(gamma.targets, gamma.output[:, 0]), rel=1e-5)
    curve = gamma.result.history["val_gamma_deviance"]
    assert gamma.result.best_value == min(curve) < curve[0]
    assert gamma.output.min() > 0


def test_the_mean_absolute_error_is_learnt_by_absolute_errors(money):
    found = trained_by(money, "mae")
    assert found.result.best_value == pytest.approx(sk.mean_absolute_error(found.targets, found.output[:, 0]), rel=1e-5)
    shares = [
        np.mean(found.targets > found.output[:, 0]),
        np.mean(amounts()["y"].to_numpy() > amounts()["y"].to_numpy().mean()),
    ]
    assert abs(shares[0] - 0.5) < 0.12 and shares[1] < 0.4  # medians, not means


def test_one_loss_may_be_asked_for_and_another_metric(money):
    found = trained_by(money, "rmse", "tweedie")
    assert found.result.best_value == pytest.approx(
        sk.root_mean_squared_error(found.targets, found.output[:, 0]), rel=1e-5
    )
    assert any(isinstance(layer, layers.LogLink) for layer in found.result.model.layers) and found.output.min() > 0


def test_a_network_of_counts_begins_at_the_mean_and_loads_in_safe_mode(gamma, tmp_path):
    gamma.result.model.save(tmp_path / "n.keras")
    again = keras.saving.load_model(tmp_path / "n.keras", safe_mode=True, compile=False)
    rows = Feed(gamma.dataset, "validation", 64).arrays()
    rows.pop("target")
    np.testing.assert_array_equal(prediction.predict(again, rows), prediction.predict(gamma.result.model, rows))
    far = np.array([[-1e6], [0.0], [1e6]], np.float32)
    least, mean, most = np.array(layers.LogLink(200.0)(far)).ravel()
    assert least > 0 and mean == 200 and np.isfinite(most)


@pytest.mark.parametrize(
    ("smallest", "settings", "answer"),
    [
        (-1.0, {"train.objective": "poisson"}, r"train.objective: poisson is for targets .* 0 or more.*y of -1$"),
        (0.0, {"train.objective": "gamma"}, r"train.objective: gamma .* above 0: .*y of 0$"),
        (-2.5, {"evaluation.primary_metric": "tweedie_deviance", "train.objective": "squared"},
         r"evaluation.primary_metric: tweedie .*y of -2.5$"),
        (-1.0, {"evaluation.primary_metric": "poisson_deviance"}, r"^evaluation.primary_metric: poisson .*y of -1$"),
    ],
)  # fmt: skip
def test_targets_that_a_loss_is_not_made_for_are_bad_input(money, monkeypatch, smallest, settings, answer):
    monkeypatch.setattr(type(money[1]), "smallest_target", lambda self: smallest)
    with pytest.raises(BadInput, match=answer):
        fit.train(money[0].overridden(settings).sized(100), money[1])


def test_the_smallest_target_is_of_all_splits(money):
    assert money[1].smallest_target() == pytest.approx(amounts()["y"].to_numpy().min(), rel=1e-6)


@pytest.fixture(scope="module")
def model(gamma) -> RawColumnModel:
    return candidates.finished(gamma.config, gamma.dataset, gamma.result.model)[0]


def test_the_model_keeps_its_metric_and_no_interval_begins_below_zero(gamma, model):
    assert model.preprocessor.metric == "gamma_deviance"
    held = RawColumnModel(model.preprocessor, model.network, interval=0.8)
    typed = gamma.dataset.raw_test().select(["x", "c"])
    columns, _ = held.score_typed(typed, pa.nulls(typed.num_rows, pa.string()))
    low, high = (columns[name].to_numpy() for name in (names.PREDICTION_LOW, names.PREDICTION_HIGH))
    assert (low == 0).any() and (low >= 0).all() and (high > low).all()


def test_live_metrics_are_by_the_models_own(gamma, model):
    raw = gamma.dataset.raw_test()
    predicted = model.preprocessor.decode_prediction(model.evaluate(raw)[1])[names.PREDICTION]
    live = drift.live_metrics(model.preprocessor, raw.append_column(names.PREDICTION, predicted))
    value = sk.mean_gamma_deviance(raw["y"].to_numpy().astype(np.float32), predicted.to_numpy())
    assert live["metrics"]["gamma_deviance"] == pytest.approx(value, rel=1e-5) == live["loss"]["mean"]
    low, high = live["intervals"]["gamma_deviance"]
    assert low < value < high


def test_the_gate_names_the_metric_and_beats_the_trivial_predictor_in_it(gamma):
    losses = evidence.losses(gamma.targets, gamma.output, "gamma_deviance")
    trivial = evidence.trivial_losses(gamma.config, gamma.dataset.preprocessor, gamma.targets)
    measured = evidence.measured(gamma.targets, gamma.output, 0.5, "gamma_deviance")
    assert measured["gamma_deviance"] == pytest.approx(losses.mean())
    found = gate.judge(gamma.config, Evidence(measured, trivial, losses, skew=0.0))
    value = sk.mean_gamma_deviance(
        gamma.targets, np.full(len(trivial), gamma.dataset.preprocessor.spec["target"]["mean"])
    )
    assert (
        f"test gamma_deviance {losses.mean():.6g} beats the trivial predictor's {value:.6g}"[:-3] in found.reasons[-1]
    )


def test_every_metric_of_a_regression_has_its_loss():
    assert set(OBJECTIVES) == {"rmse", "mae", *metrics.DEVIANCES}
    assert set(OBJECTIVES.values()) <= set(losses.OF_NUMBERS)
