"""Metrics are scikit-learn's, and those of parts add up to those of the whole."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from baton.evaluation import metrics


def probabilities(rng, rows: int, classes: int) -> np.ndarray:
    return rng.dirichlet(np.ones(classes), rows)


def test_regression_is_sklearns():
    rng = np.random.default_rng(1)
    targets = rng.normal(5, 3, 200).astype(np.float32)
    output = (targets + rng.normal(size=200)).astype(np.float32)[:, None]
    found = metrics.evaluate(targets, output)
    assert list(found) == ["rmse", "mae", "r2"]
    wide, guess = targets.astype(float), output[:, 0].astype(float)
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(wide, guess))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(wide, guess))
    assert found["r2"] == pytest.approx(sk.r2_score(wide, guess))


@pytest.mark.parametrize(("metric", "power"), metrics.DEVIANCES.items())
def test_deviances_are_sklearns_and_add_up(metric, power):
    rng = np.random.default_rng(2)
    targets = rng.gamma(1, 30, 200).astype(np.float32)
    targets[:5] = 0 if power < 2 else 1
    output = rng.gamma(2, 20, (200, 1))
    found = metrics.evaluate(targets, output, metric=metric)
    assert found[metric] == pytest.approx(sk.mean_tweedie_deviance(targets, output[:, 0], power=power), rel=1e-6)
    parts = (
        metrics.partial_sums(targets[:70], output[:70], metric),
        metrics.partial_sums(targets[70:], output[70:], metric),
    )
    sums = metrics.from_sums(np.add(*parts), True, metric)
    assert sums == pytest.approx({name: found[name] for name in ("rmse", metric, "mae")})


def test_a_prediction_below_zero_costs_a_finite_deviance_and_a_target_outside_has_none():
    for metric in metrics.DEVIANCES:
        losses = metrics.row_losses(np.array([2.0, -1.0]), np.array([[-3.0], [1.0]]), metric)
        assert losses[0] > 10 and np.isfinite(losses[0]) and np.isnan(losses[1])


def test_r2_of_a_constant_truth_is_nan():
    found = metrics.evaluate(np.full(4, 2.0, np.float32), np.arange(4.0)[:, None])
    assert math.isnan(found["r2"]) and found["mae"] == pytest.approx(1)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_classification_is_sklearns(classes):
    rng = np.random.default_rng(classes)
    targets = rng.integers(0, classes, 300).astype(np.int32)
    output = probabilities(rng, 300, classes)
    best = output.argmax(1)
    expected = {
        "accuracy": sk.accuracy_score(targets, best),
        "f1_macro": sk.f1_score(targets, best, average="macro"),
        "log_loss": sk.log_loss(targets, output),
    }
    if classes == 2:
        expected["roc_auc"] = sk.roc_auc_score(targets, output[:, 1])
        expected["average_precision"] = sk.average_precision_score(targets, output[:, 1])
    assert metrics.evaluate(targets, output) == pytest.approx(expected)


def test_one_class_truth_has_no_ranking_metrics():
    found = metrics.evaluate(np.ones(5, np.int32), probabilities(np.random.default_rng(1), 5, 2))
    assert math.isnan(found["roc_auc"]) and math.isnan(found["average_precision"])
    assert math.isfinite(found["log_loss"]) and 0 <= found["f1_macro"] <= 1


def test_a_sure_and_wrong_answer_costs_a_finite_log_loss():
    found = metrics.evaluate(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert found["log_loss"] == pytest.approx(-math.log(1e-7) / 2, rel=1e-4)


@settings(deadline=None)
@given(rows=st.integers(1, 60), parts=st.integers(1, 5), classes=st.integers(0, 4), seed=st.integers(0, 99))
def test_partial_sums_of_parts_add_up_to_the_whole(rows, parts, classes, seed):
    rng = np.random.default_rng(seed)
    regression = classes < 2
    targets = rng.normal(size=rows).astype(np.float32) if regression else rng.integers(0, classes, rows)
    output = rng.normal(size=(rows, 1)) if regression else probabilities(rng, rows, classes)
    owner = rng.integers(0, parts, rows)  # parts may be empty
    sums = sum(metrics.partial_sums(targets[owner == p], output[owner == p]) for p in range(parts))
    found = metrics.from_sums(sums, regression)
    whole = metrics.evaluate(targets, output)
    assert found == pytest.approx({name: whole[name] for name in found}, rel=1e-9, abs=1e-12)


def test_the_trivial_predictor_knows_the_train_targets_alone():
    np.testing.assert_array_equal(metrics.trivial({"mean": 2.5, "std": 1.0}, 3), [[2.5]] * 3)
    np.testing.assert_array_equal(metrics.trivial({"priors": [0.2, 0.8], "classes": ["a", "b"]}, 2), [[0.2, 0.8]] * 2)
