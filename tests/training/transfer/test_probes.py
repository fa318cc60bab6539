"""Linear probes: the minimum that they are at, and that several processes find the same one."""

import threading

import numpy as np
from sklearn.linear_model import LogisticRegression

from baton.training.collective import Collective, SingleProcess
from baton.training.transfer.probes import PENALTIES, Probe, Rows, best_depth, fit_probe


class Threads(Collective):
    """Processes that are threads: what they sum, each waits for."""

    def __init__(self, rank: int, size: int, barrier: threading.Barrier, values: list):
        self.rank, self.size, self.barrier, self.values = rank, size, barrier, values

    def distribute(self, optimizer):
        return optimizer

    def broadcast(self, model):
        pass

    def sum(self, values):
        self.values[self.rank] = values
        self.barrier.wait(30)
        total = np.sum(self.values, axis=0)
        self.barrier.wait(30)
        return total


def rows(count: int, seed: int) -> Rows:
    """Three classes, told by five of twenty features of odd scales."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 20))
    target = (features[:, :5] @ np.random.default_rng(0).normal(size=(5, 3)) + rng.gumbel(size=(count, 3))).argmax(
        axis=1
    )
    return Rows((features * 10.0 ** np.arange(-2, 3).repeat(4) + 7).astype(np.float32), target, np.ones(count))


def test_a_probe_is_the_logistic_regression_of_its_penalty():
    train, validation = rows(300, 1), rows(200, 2)
    probe = fit_probe(train, validation, 3, SingleProcess())
    mean, std = train.features.mean(axis=0), train.features.std(axis=0)
    reference = LogisticRegression(C=1 / (len(train.target) * probe.penalty), tol=1e-6, max_iter=2000)
    reference.fit((train.features - mean) / std, train.target)
    expected = reference.predict_proba((validation.features - mean) / std)
    logits = validation.features @ probe.kernel + probe.bias
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, expected, atol=0.01)
    assert PENALTIES[-1] < probe.penalty < PENALTIES[0]  # validation has chosen
    assert probe.accuracy == (logits.argmax(axis=1) == validation.target).mean() > 0.6


def test_processes_with_a_shard_each_fit_the_probe_of_all_rows():
    train, validation = rows(120, 1), rows(60, 2)
    whole, found = fit_probe(train, validation, 3, SingleProcess()), {}
    barrier, values = threading.Barrier(2), [None, None]

    def fit(rank):
        mine = [Rows(*(v[rank::2] for v in vars(part).values())) for part in (train, validation)]
        found[rank] = fit_probe(*mine, 3, Threads(rank, 2, barrier, values))

    threads = [threading.Thread(target=fit, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert np.array_equal(found[0].kernel, found[1].kernel) and found[0].penalty == whole.penalty
    np.testing.assert_allclose(found[0].kernel * train.features.std(axis=0)[:, None],
                               whole.kernel * train.features.std(axis=0)[:, None], atol=0.02)  # fmt: skip
    assert found[0].accuracy == found[1].accuracy


def test_a_row_counts_as_its_weight_says():
    train, validation = rows(60, 1), rows(60, 2)
    twice = Rows(*(np.concatenate([v, v[:20]]) for v in vars(train).values()))
    heavy = Rows(train.features, train.target, np.where(np.arange(60) < 20, 2.0, 1.0))
    one, other = (fit_probe(part, validation, 3, SingleProcess()) for part in (twice, heavy))
    light = fit_probe(train, validation, 3, SingleProcess())
    assert abs(one.log_loss - other.log_loss) < abs(one.log_loss - light.log_loss)


def test_a_shallow_depth_has_to_be_surely_better():
    rng = np.random.default_rng(0)
    deep = rng.exponential(size=40)

    def best(shallow):
        probes = [Probe(np.zeros((2, 3)), np.zeros(3), 0.1, x.mean(), 0.5, x) for x in (shallow, deep)]
        return best_depth(probes, SingleProcess())

    noise = rng.normal(size=40)
    noise -= noise.mean()
    assert best(deep - 0.05 + noise) == 1  # better on the mean, and by chance
    assert best(deep - 0.05 + noise / 10) == 0 and best(deep + 0.05) == 1
