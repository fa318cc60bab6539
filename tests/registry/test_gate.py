"""The gate: only what is better, in numbers, passes; whatever is unknown does not."""

import dataclasses
import math

import numpy as np
import pytest
import tiny

from baton.errors import BadInput
from baton.evaluation import metrics
from baton.registry import gate
from baton.registry.gate import Champion, Evidence, NewClasses, Overlap
from bench import gate as bench_gate

ROWS = 400
LOSSES = np.random.default_rng(5).exponential(16.0, ROWS)  # rmse about 4


def evidence(losses=LOSSES, champion=None, trivial: float = 10.0, task: str = "regression", **fields) -> Evidence:
    """A candidate with these losses; `champion` is a `Rival` or its losses."""
    metric = "rmse" if task == "regression" else "log_loss"
    found = {metric: float(metrics.of_mean_loss(metric, losses.mean())), "mae": 1.0, "accuracy": 0.8}
    if champion is not None and not isinstance(champion, Champion):
        champion = Champion("3", champion, overlap=Overlap(0, 0, len(losses)))
    constant = trivial**2 if task == "regression" else trivial
    held = Evidence(found, np.full(len(losses), constant), losses, 0.0, {"dataset": "f", "model": "f"}, champion)
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
        ("better", 0.01, 1.01, False),  # luck
        ("better", 0.5, 0.9, False),  # it has no tolerance
        ("not_worse", 0.0, 1.3, True),
        ("not_worse", 0.05, 1.02, True),
        ("not_worse", 0.0, 1.01, False),
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
    assert (found.confidence, found.rows, found.champion_version) == (pytest.approx(0.95), ROWS, "3")
    assert f"[{found.low:+.4g}, {found.high:+.4g}]" in decision.reasons[-1]


def test_more_confidence_is_a_wider_interval():
    narrow, wide = (judge(evidence(champion=noisy(1.1)), confidence=c).comparison for c in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(("policy", "passed"), [("better", False), ("not_worse", True)])
@pytest.mark.parametrize("tolerance", [0.0, 0.01])
def test_the_very_same_model_differs_by_exactly_nothing(policy, passed, tolerance):
    rows = np.random.default_rng(1).exponential(size=49_152)
    decision = judge(evidence(rows, rows.copy()), policy=policy, tolerance=tolerance)
    found = decision.comparison
    assert (found.difference, found.low, found.high, decision.passed) == (0, 0, 0, passed)
    word = "worse" if passed else "better"
    assert decision.reasons[-1] == (
        f"test rmse {found.candidate:.6g} is the champion's own: version 3 has the same loss on all 49,152 test rows, "
        f"so the candidate is not {word}"
    )


@pytest.mark.parametrize("policy", ["better", "not_worse"])
@pytest.mark.parametrize(("same", "other", "losses", "passed"), [
    (True, True, LOSSES, True),
    (True, False, LOSSES, False),
    (False, True, LOSSES, False),  # two models that answer alike by chance
    (True, True, LOSSES * 0.9, False),  # the tags say the same of what does not answer alike
])  # fmt: skip
def test_the_champion_itself_with_other_data_passes_whatever_the_policy(policy, same, other, losses, passed):
    champion = Champion("3", losses.copy(), overlap=Overlap(0, 0, ROWS), same_network=same, other_data=other)
    decision = judge(evidence(champion=champion), policy=policy, tolerance=0.0)
    assert decision.passed is (passed or (policy == "not_worse" and losses is LOSSES))
    assert ("the candidate is the champion, version 3, itself" in decision.reasons[-1]) is passed


def test_the_champion_itself_mends_a_version_that_can_be_used_no_more():
    for same in (True, False):
        decision = judge(evidence(champion=Champion("3", error="its files are gone", same_network=same)))
        assert decision.passed is same and "its files are gone" in decision.reasons[-1]
    assert not judge(evidence(LOSSES * 9, champion=Champion("3", error="gone", same_network=True), trivial=1.0)).passed


def test_log_loss_is_compared_by_its_mean():
    found = judge(evidence(champion=noisy(1.5), task="binary"), task="binary").comparison
    assert (found.metric, found.champion) == ("log_loss", noisy(1.5).mean())
    assert found.difference == pytest.approx(LOSSES.mean() - noisy(1.5).mean())


@pytest.mark.parametrize(
    ("trivial", "passed", "verb"),
    [(4.5, True, "beats"), (4.05, False, "does not surely beat"), (3.9, False, "does not beat"), (math.nan, False, "")],
)
def test_a_candidate_must_surely_beat_the_trivial_predictor(trivial, passed, verb):
    """Its rmse is 4.0; two hundredths better is luck on 400 rows."""
    losses = LOSSES * 16 / LOSSES.mean()
    decision = judge(evidence(losses, trivial=trivial))
    assert decision.passed is passed and decision.comparison is None
    assert f"test rmse 4 {verb}" in decision.reasons[2] and "95 % interval [" in decision.reasons[2]


def test_a_candidate_that_is_the_trivial_predictor_does_not_beat_it():
    decision = judge(evidence(np.full(ROWS, 100.0), trivial=10.0))
    assert not decision.passed and "test rmse 10 does not beat the trivial predictor's 10" in decision.reasons[2]


def test_no_tolerance_and_no_champion_excuses_from_the_trivial_predictor():
    decision = judge(evidence(champion=LOSSES * 9, trivial=1.0), policy="not_worse", tolerance=9)
    assert not decision.passed
    value = f"{np.sqrt(LOSSES.mean()):.6g}"
    assert decision.reasons[2].startswith(f"test rmse {value} does not beat the trivial predictor's 1: difference +")


def test_a_later_look_asks_for_more_and_says_how_often_the_rows_were_asked():
    given = evidence(champion=noisy(1.04))
    first, later = (judge(dataclasses.replace(given, looks=number)) for number in (1, 30))
    assert first.passed and not later.passed and not any("asked" in reason for reason in first.reasons)
    assert later.comparison.high > 0 > first.comparison.high
    assert later.comparison.confidence == pytest.approx(1 - 2 * 0.05 / 930) == later.look.level
    assert later.reasons[2] == (
        "30 models have been asked about these test rows, this one included: its intervals are of 99.989 %, and of the "
        "error of 5 % that all looks together may have 0.161 % are left"
    )
    assert "99.989 % interval" in later.reasons[3] and "99.989 % interval" in later.reasons[4]
    assert judge(evidence(champion=LOSSES * 3, looks=1000)).passed


def test_the_second_look_is_the_first_to_say_so():
    second = judge(evidence(champion=LOSSES * 3, looks=2))
    assert second.reasons[2].startswith("2 models have been asked about these test rows")


def test_equal_models_are_seldom_promoted_in_a_hundred_looks_and_a_better_one_is_at_once():
    """A few of the histories that `bench gate` replays by the thousand."""
    promoted = sum(bench_gate.promotes_an_equal(np.random.default_rng(seed), counted=True) for seed in range(60))
    tried = sum(bench_gate.passes_at_once(np.random.default_rng(seed), 1) for seed in range(60))
    assert promoted <= 7 and tried >= 48  # 3.2 % and 98 % of 2,000


@pytest.mark.parametrize("rows", [10, 62, 1000])
def test_noise_seldom_beats_the_trivial_predictor(rows):
    assert sum(bench_gate.beats_trivial(np.random.default_rng(seed), rows) for seed in range(200)) <= 20


def test_test_rows_of_one_class_show_nothing():
    given = evidence(np.full(ROWS, 0.1), trivial=0.7, task="binary", classes={"no": ROWS, "yes": 0})
    decision = judge(given, task="binary")
    assert not decision.passed
    assert decision.reasons[0] == (
        "all test rows are of the class no: whether a model tells classes apart cannot be seen on them"
    )
    assert judge(dataclasses.replace(given, classes={"no": ROWS - 1, "yes": 1}), task="binary").passed


def test_a_metric_that_is_no_number_is_refused_by_name():
    decision = judge(evidence(metrics={"rmse": 1.0, "r2": math.nan, "mae": math.inf}))
    assert not decision.passed and decision.reasons[0] == "test r2, mae cannot be computed of these rows"


@pytest.mark.parametrize(
    ("interval", "passed"), [([0.3, 0.49], False), ([0.3, 0.5], True), ([0.5, 0.5], True), (None, True)]
)
def test_a_ranking_that_is_surely_below_chance_is_refused(interval, passed):
    given = evidence(np.full(ROWS, 0.1), trivial=0.7, task="binary", auc=interval)
    given = dataclasses.replace(given, metrics={**given.metrics, "roc_auc": 0.4})
    decision = judge(given, task="binary")
    assert decision.passed is passed
    assert passed or decision.reasons[0] == (
        "test roc_auc 0.4 is surely below chance (0.5), interval [0.3, 0.49]: the model ranks rows the wrong way round"
    )


def test_classes_that_the_champion_never_saw_are_told_and_compared_apart():
    """On the rows that both know it is the champion's equal; that it knows a class more does not make it better."""
    shared = np.random.default_rng(0).exponential(0.3, ROWS - 37)
    new = NewClasses(("d", "e"), 37, 0.4, 30)
    held = evidence(np.full(ROWS, 0.3), Champion("3", shared, candidate=shared.copy(), new=new), 1.1, "binary")
    decision = judge(held, task="binary")
    assert not decision.passed and decision.comparison.rows == ROWS - 37 and decision.comparison.difference == 0
    assert decision.reasons[-2] == (
        "37 test rows are of classes that the champion, version 3, does not know (d, e) and are left out of the "
        "comparison: on them the candidate's log_loss is 0.4, and 30 are classified rightly"
    )
    better = dataclasses.replace(held.champion, candidate=shared / 2)
    assert judge(dataclasses.replace(held, champion=better), task="binary").passed
    few = dataclasses.replace(held.champion, losses=shared[:9], candidate=shared[:9])
    decision = judge(dataclasses.replace(held, champion=few), task="binary")
    assert decision.reasons[-1].endswith("cannot be compared with: only 9 test rows are of a class that both know")


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
    assert not any(word in reason for reason in decision.reasons for word in ("trivial", "floor", "champion"))


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
    monkeypatch.setattr(gate, "compare", lambda *_: 1 / 0)
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
            "test rmse 4 beats the trivial predictor's 10: difference -6, 95 % interval [-6, -6] of 400 rows",
            "test rmse 4 beats the champion's 5: difference -1, 95 % interval [-1, -1] of 400 rows",
            "test mae 1 keeps the floor 2",
        ],
        "comparison": {
            "metric": "rmse", "candidate": 4.0, "champion": 5.0, "champion_version": "3", "difference": -1.0,
            "low": -1.0, "high": -1.0, "confidence": pytest.approx(0.95), "rows": 400,
        },
        "look": {"number": 1, "confidence": 0.95},
    }  # fmt: skip
    sentences = [
        judge(evidence(champion=noisy(scale)), policy=policy, confidence=0.99).reasons[-1]
        for policy, scale in (("better", 1.01), ("better", 0.9), ("not_worse", 1.3), ("not_worse", 0.8))
    ]
    verbs = [
        "does not surely beat the champion's {}:",
        "does not beat the champion's {}:",
        "is not worse than the champion's {} by more than the tolerance of 1 %:",
        "may be worse than the champion's {} by more than the tolerance of 1 %:",
    ]
    for sentence, verb, scale in zip(sentences, verbs, (1.01, 0.9, 1.3, 0.8), strict=True):
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
    assert gate.skew(np.full((9, 1), 4.0), np.full((9, 1), 4.25)) == 0.25  # all alike: a spread of 1
    assert not gate.skew(output, np.where(output > 2, np.nan, output)) <= gate.LARGEST_SKEW


@pytest.mark.parametrize(
    "wrong",
    [{"policy": "best"}, {"confidence": 1.0}, {"resamples": 10}, {"tolerance": -1}, {"min_test_rows": 0}],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(BadInput, match=rf"register\.{next(iter(wrong))}: "):
        tiny.config(register=wrong)


def test_the_champion_is_met_on_rows_that_are_test_rows_of_both():
    kept = LOSSES[:60]
    champion = Champion("3", kept * 2, candidate=kept, overlap=Overlap(300, 40, 60))
    judged = judge(evidence(champion=champion))
    assert judged.passed and judged.comparison.rows == 60
    assert any(
        "of 400 test rows 300 would be its train rows and 40 its validation rows; judged are the 60" in reason
        for reason in judged.reasons
    )


def test_a_champion_without_a_recipe_is_judged_as_before_and_that_is_said():
    judged = judge(evidence(champion=Champion("3", LOSSES * 2)))
    assert judged.passed and judged.comparison.rows == ROWS
    assert any("how many test rows it has learnt from is unknown" in reason for reason in judged.reasons)


@pytest.mark.parametrize(("rows", "compared"), [(10, True), (9, False)])
def test_of_rows_that_are_test_rows_of_both_there_must_be_as_many_as_of_test_rows(rows, compared):
    kept = LOSSES[:rows]
    champion = Champion("3", kept * 3, candidate=kept, overlap=Overlap(ROWS - rows, 0, rows))
    assert (judge(evidence(champion=champion), min_test_rows=10).comparison is not None) is compared
