"""The gate: only what is better, in numbers, passes; whatever is unknown does not."""

import math

import numpy as np
import pytest
import tiny

from baton import gate

TRIVIAL = {"rmse": 10.0}


def judge(value: float, champion: float | None = None, trivial: float = 10.0, task: str = "regression", **register):
    metric = "rmse" if task == "regression" else "log_loss"
    rival = None if champion is None else {metric: champion}
    return gate.judge(
        tiny.config(task, register=register),
        {metric: value, "mae": 1.0, "accuracy": 0.8},
        {metric: trivial},
        rival,
        0.0,
    )


@pytest.mark.parametrize(
    ("value", "champion", "tolerance", "passed"),
    [
        (4.9, 5.0, 0.0, True),
        (5.1, 5.0, 0.0, False),
        (5.0, 5.0, 0.0, False),  # a tie changes nothing
        (5.1, 5.0, 0.2, True),
        (5.3, 5.0, 0.2, False),
        (9.9, None, 0.0, True),
        (10.1, None, 5.0, False),  # no tolerance against the trivial predictor
        (10.0, None, 0.0, False),
        (10.1, 11.0, 0.0, False),
        (math.nan, None, 0.0, False),
        (math.nan, 5.0, 0.0, False),
        (4.9, math.nan, 0.0, False),
        (math.inf, 20.0, 0.0, False),
    ],
)
def test_a_candidate_must_beat_the_trivial_predictor_and_the_champion(value, champion, tolerance, passed):
    judgement = judge(value, champion, tolerance=tolerance)
    assert judgement.passed is passed
    assert len(judgement.reasons) == (2 if champion is None else 3)  # the paths first


def test_a_nan_of_the_trivial_predictor_does_not_pass():
    assert not judge(1.0, trivial=math.nan).passed


@pytest.mark.parametrize(
    ("floors", "passed"),
    [
        ({"rmse": 5.0}, True),
        ({"rmse": 4.0}, True),  # at the floor
        ({"rmse": 3.9}, False),
        ({"mae": 0.5}, False),
        ({"mae": 1.5, "rmse": 3.0}, False),
    ],
)
def test_floors_of_errors_are_the_largest_allowed(floors, passed):
    assert judge(4.0, floors=floors).passed is passed


@pytest.mark.parametrize(("floor", "passed"), [(0.7, True), (0.8, True), (0.9, False)])
def test_floors_of_scores_are_the_smallest_allowed(floor, passed):
    assert judge(0.4, task="binary", floors={"accuracy": floor}).passed is passed


def test_an_unknown_metric_fails_closed():
    judgement = judge(4.0, floors={"accuracyy": 0.1})
    assert not judgement.passed
    assert judgement.reasons[-1] == "register.floors names accuracyy, which this task does not have"


def test_a_nan_metric_breaks_its_floor():
    config = tiny.config("binary", register={"floors": {"roc_auc": 0.1, "log_loss": 9}})
    judgement = gate.judge(config, {"log_loss": math.nan, "roc_auc": math.nan}, {"log_loss": 1.0}, None, 0.0)
    assert [("breaks" in reason or "not beat" in reason) for reason in judgement.reasons[1:]] == [True, True, True]


def test_reasons_are_sentences_with_numbers():
    judgement = judge(4.25, 5.0, tolerance=0.1, floors={"mae": 2})
    assert judgement.to_dict() == {
        "passed": True,
        "reasons": [
            "raw columns and training rows agree (distance 0)",
            "test rmse 4.25 beats the trivial predictor's 10",
            "test rmse 4.25 beats the champion's 5 (tolerance 0.1)",
            "test mae 1 keeps the floor 2",
        ],
    }


def test_paths_that_disagree_are_refused():
    config = tiny.config("regression")
    good = gate.judge(config, {"rmse": 1.0}, {"rmse": 2.0}, None, 1e-6)
    bad = gate.judge(config, {"rmse": 1.0}, {"rmse": 2.0}, None, 1e-3)
    assert (good.passed, bad.passed) == (True, False)
    assert "raw columns and training rows disagree (distance 0.001)" in bad.reasons
    assert not gate.judge(config, {"rmse": 1.0}, {"rmse": 2.0}, None, math.nan).passed


def test_skew_ignores_order_and_sees_a_shift_or_a_lost_row():
    output = np.random.default_rng(0).normal(size=(100, 2))
    assert gate.skew(output, output[::-1]) == 0
    assert gate.skew(output, output + 0.01) == pytest.approx(0.01 / output.std())
    assert gate.skew(output, output[1:]) == math.inf
