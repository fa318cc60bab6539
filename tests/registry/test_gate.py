"""The gate: only what is better, in numbers, passes; whatever is unknown does not."""

import dataclasses
import math
import time
import tracemalloc

import numpy as np
import pytest
import tiny

from baton.errors import BadInput
from baton.evaluation import bootstrap, metrics
from baton.registry import gate
from baton.registry.gate import Champion, Evidence

ROWS = 400
LOSSES = np.random.default_rng(5).exponential(16.0, ROWS)  # rmse about 4


def evidence(losses=LOSSES, champion=None, trivial: float = 10.0, task: str = "regression", **fields) -> Evidence:
    """A candidate with these losses; `champion` is a `Rival` or its losses."""
    metric = "rmse" if task == "regression" else "log_loss"
    found = {metric: float(metrics.of_mean_loss(metric, losses.mean())), "mae": 1.0, "accuracy": 0.8}
    champion = champion if champion is None or isinstance(champion, Champion) else Champion("3", champion)
    held = Evidence(found, {metric: trivial}, losses, 0.0, {"dataset": "f", "model": "f"}, champion)
    return dataclasses.replace(held, **fields)


def judge(given: Evidence, task: str = "regression", **register):
    return gate.judge(tiny.config(task, register=register), given)


def noisy(scale: float, seed: int = 6) -> np.ndarray:
    """The candidate's losses times `scale`, with noise: a champion that is worse, where it is above 1."""
    return LOSSES * scale * np.random.default_rng(seed).uniform(0.5, 1.5, ROWS)


@pytest.mark.parametrize(
    ("policy", "tolerance", "scale", "passed"),
    [
        ("better", 0.01, 1.3, True),
        ("better", 0.01, 1.02, False),  # luck
        ("better", 0.5, 0.9, False),  # it has no tolerance
        ("not_worse", 0.0, 1.3, True),
        ("not_worse", 0.05, 1.02, True),
        ("not_worse", 0.0, 1.02, False),
        ("not_worse", 0.2, 0.8, True),
        ("not_worse", 0.05, 0.8, False),
    ],
)
def test_the_policy_is_asked_of_the_upper_end(policy, tolerance, scale, passed):
    decision = judge(evidence(champion=noisy(scale)), policy=policy, tolerance=tolerance)
    found = decision.comparison
    limit = 0 if policy == "better" else tolerance * found.champion
    assert decision.passed is passed
    assert passed is (found.high < limit)
    assert found.low < found.difference < found.high
    assert found.difference == pytest.approx(np.sqrt(LOSSES.mean()) - np.sqrt(noisy(scale).mean()))
    assert (found.confidence, found.resamples, found.rows, found.champion_version) == (0.95, 2000, ROWS, "3")


def test_more_confidence_is_a_wider_interval():
    narrow, wide = (judge(evidence(champion=noisy(1.1)), confidence=c).comparison for c in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(("policy", "passed"), [("better", False), ("not_worse", True)])
@pytest.mark.parametrize("tolerance", [0.0, 0.01])
def test_the_very_same_model_differs_by_exactly_nothing(policy, passed, tolerance):
    rows = np.random.default_rng(1).exponential(size=3 * bootstrap.BLOCK // 2)
    decision = judge(evidence(rows, rows.copy()), policy=policy, tolerance=tolerance)
    found = decision.comparison
    assert (found.difference, found.low, found.high, decision.passed) == (0, 0, 0, passed)
    word = "worse" if passed else "better"
    assert decision.reasons[-1] == (
        f"test rmse {found.candidate:.6g} is the champion's own: version 3 has the same loss on all 49,152 test rows, "
        f"so the candidate is not {word}"
    )


def test_log_loss_is_compared_by_its_mean():
    found = judge(evidence(champion=noisy(1.5), task="binary"), task="binary").comparison
    assert (found.metric, found.champion) == ("log_loss", noisy(1.5).mean())
    assert found.difference == LOSSES.mean() - noisy(1.5).mean()


@pytest.mark.parametrize("metric", ["rmse", "log_loss"])
def test_the_interval_is_that_of_a_plain_bootstrap(metric):
    """Against NumPy's obvious way: whole resamples by index; and the blocks change nothing."""
    first, second = LOSSES, noisy(1.1)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, ROWS, (20_000, ROWS))
    plain = metrics.of_mean_loss(metric, first[rows].mean(1)) - metrics.of_mean_loss(metric, second[rows].mean(1))
    found = gate.differences(metric, first, second, 20_000, 1)
    np.testing.assert_allclose(np.quantile(found, [0.025, 0.975]), np.quantile(plain, [0.025, 0.975]), atol=0.02)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "BLOCK", 64)  # the last block is smaller
        blocks = gate.differences(metric, first, second, 20_000, 1)
    np.testing.assert_allclose(np.quantile(blocks, [0.025, 0.975]), np.quantile(plain, [0.025, 0.975]), atol=0.02)


def test_the_interval_covers_the_truth_and_equals_are_seldom_promoted():
    """Two models that are equally good, 300 times on 200 new rows: the interval holds 0 in about 95 of 100 cases."""
    rng = np.random.default_rng(0)
    covered = promoted = 0
    for seed in range(300):
        common = rng.normal(size=200)
        first, second = ((common + 0.5 * rng.normal(size=200)) ** 2 for _ in range(2))
        low, high = np.quantile(gate.differences("rmse", first, second, 300, seed), [0.025, 0.975])
        covered += low <= 0 <= high
        promoted += high < 0
    assert 0.90 <= covered / 300 <= 0.99
    assert promoted / 300 <= 0.06


def test_the_same_seed_gives_the_same_interval_and_another_one_another():
    first, again, other = (
        gate.judge(tiny.config(register={}, seed=seed), evidence(champion=noisy(1.1))).comparison for seed in (7, 7, 8)
    )
    assert first == again
    assert first.difference == other.difference and first.high != other.high


def test_many_rows_take_seconds_and_little_memory():
    first, second = np.random.default_rng(0).exponential(size=(2, 100_000))
    tracemalloc.start()
    began = time.process_time()
    gate.differences("rmse", first, second, 2000, 0)
    seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 15  # 0.7 s on an idle core
    assert peak < 4 << 20


@pytest.mark.parametrize(
    ("value", "trivial", "passed"), [(3.9, 4.0, True), (4.0, 4.0, False), (4.1, 4.0, False), (3.9, math.nan, False)]
)
def test_a_candidate_must_beat_the_trivial_predictor(value, trivial, passed):
    decision = judge(evidence(np.full(ROWS, value**2), trivial=trivial))
    assert decision.passed is passed
    assert decision.comparison is None


def test_no_tolerance_and_no_champion_excuses_from_the_trivial_predictor():
    decision = judge(evidence(champion=LOSSES * 9, trivial=1.0), policy="not_worse", tolerance=9)
    assert not decision.passed
    assert decision.reasons[2] == f"test rmse {np.sqrt(LOSSES.mean()):.6g} does not beat the trivial predictor's 1"


@pytest.mark.parametrize(("rows", "passed"), [(9, False), (10, True)])
def test_too_few_rows_promote_nothing(rows, passed):
    decision = judge(evidence(LOSSES[:rows]))
    assert decision.passed is passed
    assert (
        decision.reasons[0] == f"{rows} test rows are {'enough' if passed else 'too few'} (register.min_test_rows 10)"
    )
    assert judge(evidence(LOSSES[:rows]), min_test_rows=rows).passed


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_prediction_that_is_not_finite_is_refused(bad):
    losses = LOSSES.copy()
    losses[7] = bad
    decision = judge(evidence(losses, champion=LOSSES, metrics={}), floors={"mae": 5})
    assert not decision.passed
    assert "the predictions are not finite on 1 of 400 test rows" in decision.reasons


def spoilt(index: int, value: float) -> np.ndarray:
    losses = LOSSES * 2
    losses[index] = value
    return losses


@pytest.mark.parametrize(
    ("champion", "why"),
    [
        (Champion("3", error="OSError: no such file"), "OSError: no such file"),
        (Champion("3"), "it was not scored on the same rows"),
        (Champion("3", LOSSES[1:] * 2), "it was not scored on the same rows"),
        (Champion("3", LOSSES[:1]), "it was not scored on the same rows"),  # would broadcast
        (Champion("3", spoilt(0, math.nan)), "its loss is not finite on 1 of 400 test rows"),
        (Champion("3", spoilt(9, math.inf)), "its loss is not finite on 1 of 400 test rows"),
        (Champion("3", spoilt(9, 1.7e308)), "their difference is not finite"),
    ],
)
@pytest.mark.parametrize("policy", ["better", "not_worse"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_champion_that_cannot_be_compared_with_stays(champion, why, policy):
    decision = judge(evidence(champion=champion), policy=policy)
    assert not decision.passed and decision.comparison is None
    assert decision.reasons[-1] == f"the champion, version 3, cannot be compared with: {why}"


def test_any_error_of_the_comparison_is_a_refusal(monkeypatch):
    monkeypatch.setattr(gate, "differences", lambda *_: 1 / 0)
    decision = judge(evidence(champion=LOSSES * 2))
    assert not decision.passed
    assert "cannot be compared with: division by zero" in decision.reasons[-1]


@pytest.mark.parametrize("fingerprints", [{"dataset": "a" * 64, "run": "a" * 64, "model": "b" * 64}, {"model": ""}])
def test_a_model_of_another_dataset_is_refused(fingerprints):
    decision = judge(evidence(fingerprints=fingerprints))
    assert not decision.passed
    assert decision.reasons[0].startswith("the model was not trained on this dataset: the fingerprints are ")


def test_a_model_that_was_rolled_back_does_not_return_by_itself():
    decision = judge(evidence(rolled_back="the same model was champion as version 2 and was rolled back: drift"))
    assert not decision.passed
    assert decision.reasons[0].endswith("rolled back: drift")


@pytest.mark.parametrize(
    ("floors", "passed"),
    [({"rmse": 5.0}, True), ({"rmse": 4.0}, True), ({"rmse": 3.9}, False), ({"mae": 0.5}, False)],
)
def test_floors_of_errors_are_the_largest_allowed(floors, passed):
    assert judge(evidence(np.full(ROWS, 16.0)), floors=floors).passed is passed


@pytest.mark.parametrize(("floor", "passed"), [(0.7, True), (0.8, True), (0.9, False)])
def test_floors_of_scores_are_the_smallest_allowed(floor, passed):
    given = evidence(np.full(ROWS, 0.4), task="binary")
    assert judge(given, task="binary", floors={"accuracy": floor}).passed is passed


def test_an_unknown_metric_and_a_nan_fail_closed():
    decision = judge(evidence(), floors={"accuracyy": 0.1})
    assert not decision.passed
    assert decision.reasons[-1] == "register.floors names accuracyy, which this task does not have"
    one_class = evidence(metrics={"rmse": 1.0, "roc_auc": math.nan})
    assert not judge(one_class, floors={"roc_auc": 0.1}).passed


def test_reasons_are_sentences_with_numbers():
    first, second = np.full(ROWS, 16.0), np.full(ROWS, 25.0)
    decision = judge(evidence(first, second), floors={"mae": 2})
    assert decision.to_dict() == {
        "passed": True,
        "reasons": [
            "400 test rows are enough (register.min_test_rows 10)",
            "raw columns and training rows agree (distance 0)",
            "test rmse 4 beats the trivial predictor's 10",
            "test rmse 4 beats the champion's 5: difference -1, 95 % interval [-1, -1] of 400 rows",
            "test mae 1 keeps the floor 2",
        ],
        "comparison": {
            "metric": "rmse", "candidate": 4.0, "champion": 5.0, "champion_version": "3", "difference": -1.0,
            "low": -1.0, "high": -1.0, "confidence": 0.95, "resamples": 2000, "rows": 400,
        },
    }  # fmt: skip
    sentences = [
        judge(evidence(champion=noisy(scale)), policy=policy, confidence=0.99).reasons[-1]
        for policy, scale in (("better", 1.02), ("better", 0.9), ("not_worse", 1.3), ("not_worse", 0.8))
    ]
    verbs = [
        "does not surely beat the champion's {}:",
        "does not beat the champion's {}:",
        "is not worse than the champion's {} by more than the tolerance of 1 %:",
        "may be worse than the champion's {} by more than the tolerance of 1 %:",
    ]
    for sentence, verb, scale in zip(sentences, verbs, (1.02, 0.9, 1.3, 0.8), strict=True):
        assert verb.format(f"{np.sqrt(noisy(scale).mean()):.6g}") in sentence
        assert "difference " in sentence and "99 % interval [" in sentence


@pytest.mark.parametrize(("distance", "passed"), [(1e-6, True), (1e-3, False), (math.nan, False), (math.inf, False)])
def test_paths_that_disagree_are_refused(distance, passed):
    assert judge(evidence(skew=distance)).passed is passed


def test_skew_ignores_order_and_sees_a_shift_a_nan_or_a_lost_row():
    output = np.random.default_rng(0).normal(size=(100, 2))
    assert gate.skew(output, output[::-1]) == 0
    assert gate.skew(output, output + 0.01) == pytest.approx(0.01 / output.std())
    assert gate.skew(output, output[1:]) == math.inf
    assert not gate.skew(output, np.where(output > 2, np.nan, output)) <= gate.LARGEST_SKEW


@pytest.mark.parametrize(
    "wrong",
    [{"policy": "best"}, {"confidence": 1.0}, {"resamples": 10}, {"tolerance": -1}, {"min_test_rows": 0}],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(BadInput, match=rf"register\.{next(iter(wrong))}: "):
        tiny.config(register=wrong)
