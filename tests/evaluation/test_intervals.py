"""Bootstrap intervals of metrics: they are those of the plain way, and they hold the truth as often as they say."""

import numpy as np
import pytest
from sklearn import metrics as sk

from baton.evaluation import intervals, metrics


def found(targets, output, seed=1, resamples=400, **options):
    given = {"threshold": 0.5, "confidence": 0.95, **options}
    return intervals.of_metrics(targets, output, resamples=resamples, seed=seed, **given)


def plain(targets, output, threshold: float = 0.5, resamples: int = 600) -> dict[str, np.ndarray]:
    """The obvious way: every metric anew on rows drawn by index."""
    rng = np.random.default_rng(0)
    drawn = (rng.integers(0, len(targets), len(targets)) for _ in range(resamples))
    values = [metrics.evaluate(targets[rows], output[rows], threshold) for rows in drawn]
    return {name: np.nanquantile([v[name] for v in values], [0.025, 0.975]) for name in values[0]}


def regression(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.normal(50, 3, rows).astype(np.float32)
    return targets, (targets + rng.normal(size=rows)).astype(np.float32)[:, None]


def binary(rows: int, seed: int, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores N(0, 1) and N(shift, 1) of the two classes: the AUC is that of the normal distribution."""
    rng = np.random.default_rng(seed)
    targets = (rng.random(rows) < 0.3).astype(np.int32)
    probability = 1 / (1 + np.exp(-(rng.normal(size=rows) + shift * targets)))
    return targets, np.stack([1 - probability, probability], axis=1)


@pytest.mark.parametrize("kind", ["regression", "binary", "threshold", "multiclass"])
def test_intervals_are_those_of_the_plain_way(kind):
    threshold = 0.7 if kind == "threshold" else 0.5
    targets, output = regression(150, 1) if kind == "regression" else binary(150, 1)
    if kind == "multiclass":
        rng = np.random.default_rng(2)
        targets = rng.choice(4, 150, p=[0.5, 0.4, 0.08, 0.02])
        output = rng.dirichlet(np.ones(4), 150) * 0.5 + 0.5 * np.eye(4)[targets]
    expected = plain(targets, output.round(1) if kind == "binary" else output, threshold)  # ties, too
    got = found(targets, output.round(1) if kind == "binary" else output, resamples=3000, threshold=threshold)
    assert got.keys() == expected.keys() == metrics.evaluate(targets, output).keys()
    for name, ends in expected.items():
        np.testing.assert_allclose(got[name], ends, atol=0.2 * (ends[1] - ends[0]), err_msg=name)


def test_the_same_seed_gives_the_same_intervals():
    targets, output = binary(500, 3)
    assert found(targets, output) == found(targets, output) != found(targets, output, seed=2)


def test_more_confidence_is_a_wider_interval():
    targets, output = regression(300, 4)
    narrow, wide = (found(targets, output, confidence=c)["rmse"] for c in (0.8, 0.99))
    assert wide[0] < narrow[0] < metrics.evaluate(targets, output)["rmse"] < narrow[1] < wide[1]


def test_intervals_hold_the_truth_in_about_95_of_100_cases():
    """Known distributions, 200 times 400 rows: the metric of all rows there could be lies inside."""
    from scipy.special import ndtr

    known = {"rmse": 1.0, "mae": (2 / np.pi) ** 0.5, "r2": 1 - 1 / 9, "roc_auc": float(ndtr(0.5**0.5))}
    held = dict.fromkeys(known, 0)
    for seed in range(200):
        inside = found(*regression(400, seed), resamples=200) | {
            "roc_auc": found(*binary(400, seed), resamples=100)["roc_auc"]
        }
        for name, value in known.items():
            held[name] += inside[name][0] <= value <= inside[name][1]
    for name, count in held.items():
        assert 0.89 <= count / 200 <= 0.99, (name, count)


def test_what_is_not_defined_is_none_and_never_nan():
    output = np.full((20, 2), 0.5)
    got = found(np.ones(20, np.int32), output)
    assert (
        got["roc_auc"] is None
        and got["average_precision"] is None
        and got["log_loss"] == pytest.approx([np.log(2)] * 2)
    )
    assert found(np.full(5, 2.0, np.float32), np.arange(5.0)[:, None])["r2"] is None


def test_rankings_of_all_rows_are_sklearns():
    targets, output = binary(300, 5)
    score = output[:, 1].round(1)  # ties
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), 299)
    hits, above = np.cumsum(targets[order])[ends], ends + 1
    assert intervals._auc(hits, above) == pytest.approx(sk.roc_auc_score(targets, score))
    assert intervals._average_precision(hits, above) == pytest.approx(sk.average_precision_score(targets, score))
