"""Histories of a registered model, replayed through the gate on losses that are drawn: how often an equal model is
promoted, and how often a better one is not. A history is 100 retrainings that are equally good, one after the other
against whoever is champion, on the same 2,000 test rows; 2,000 histories. The line "as before" judges each of them
as if it were the first, which is what the gate did before it counted. A model that is better by four standard errors
of the paired difference is tried once, as the first or the fifth to be asked. The trivial predictor is met by models
that know nothing and are as good as it in the long run; "as before" compares two numbers. The live alarm is asked
about rows like the test rows, 60 to 5,000 of these and 60 to 28,000 live ones (the worst share is told), and about
rows on which the error is twice as large; "as before" takes the test metric as exact. These are shares that are to
hold, not times: the alternative is the share that is allowed, or that of the rule before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from baton.config.schema import Config, validate
from baton.evaluation.differences import Moments
from baton.monitoring import drift
from baton.registry import gate
from baton.registry.gate import Champion, Evidence
from bench.harness import Comparison, say

RUNS = 2000  # histories; and tries of each of the other rules
RETRAININGS, ROWS = 100, 2000
OWN = 0.5  # a model's own error a row, where that which all models share is 1
BETTER = 4.0  # standard errors
TRIED_AS = (1, 5)
TRIVIAL_ROWS, TEST_ROWS, LIVE_ROWS = (10, 62, 1000), (60, 1000, 5000), (60, 2000, 28_000)
ALLOWED, POWER, ALARMED = 0.05, 0.8, 0.9


def measure(runs: int = RUNS) -> list[Comparison]:
    return [*histories(runs), *tries(runs), *noise(runs), *alarms(runs)]


def histories(runs: int) -> list[Comparison]:
    """The share of histories in which an equal model became champion: with looks counted, and without."""
    counted, first = (_share(partial(promotes_an_equal, counted=c), runs) for c in (True, False))
    return [
        _at_most("100 looks: an equal model promoted", counted),
        Comparison("100 looks: an equal model promoted, as before", counted, first, 1.0, "lower", "share"),
    ]


def tries(runs: int) -> list[Comparison]:
    """The share of models, better by four standard errors, that pass at once, by how often the rows were asked."""
    what = f"better by {BETTER:g} standard errors, asked as number"
    return [_at_least(f"{what} {look}", _share(partial(passes_at_once, look=look), runs), POWER) for look in TRIED_AS]


def noise(runs: int) -> list[Comparison]:
    """The share of models without any knowledge that beat the trivial predictor, by the number of test rows."""
    results = []
    for rows in TRIVIAL_ROWS:
        share, before = (_share(partial(rule, rows=rows), runs) for rule in (beats_trivial, is_less_than_trivial))
        results += [
            _at_most(f"{rows:,} test rows: noise beats the trivial predictor", share),
            Comparison(
                f"{rows:,} test rows: noise beats the trivial predictor, as before",
                share,
                before,
                1.0,
                "lower",
                "share",
            ),
        ]
    return results


def alarms(runs: int) -> list[Comparison]:
    """The share of alarms without drift and with twice the error, by the number of test rows."""
    results = []
    for rows in TEST_ROWS:
        calm, old = (max(_shares(partial(rule, rows=rows), runs)) for rule in (rings, rang))
        doubled = min(_shares(partial(rings, rows=rows, times=2.0), runs))
        results += [
            _at_most(f"{rows:,} test rows: live alarm without drift", calm),
            Comparison(f"{rows:,} test rows: live alarm without drift, as before", calm, old, 1.0, "lower", "share"),
            _at_least(f"{rows:,} test rows: live alarm where the error is twice as large", doubled, ALARMED),
        ]
    return results


def promotes_an_equal(rng: np.random.Generator, counted: bool) -> bool:
    """Whether one of a history's retrainings replaces the champion, all being equally good."""
    trivial, models = retrainings(rng)
    champion = next(models)
    for look, losses in zip(range(1, RETRAININGS + 1), models, strict=False):
        if passes(losses, champion, trivial, look if counted else 1):
            return True
    return False


def passes_at_once(rng: np.random.Generator, look: int) -> bool:
    """Whether a model that is better by four standard errors passes, as the `look`-th to be asked."""
    trivial, models = retrainings(rng)
    champion, losses = next(models), next(models)
    error = float(np.std(losses - champion)) / ROWS**0.5
    return passes(losses - BETTER * error, champion, trivial, look)


def retrainings(rng: np.random.Generator) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """(the trivial predictor's losses, one equally good model's losses after the other), all on the same rows."""
    common = rng.normal(size=ROWS)
    trivial = (common + 3 * rng.normal(size=ROWS)) ** 2
    return trivial, ((common + OWN * rng.normal(size=ROWS)) ** 2 for _ in itertools.count())


def passes(losses: np.ndarray, champion: np.ndarray, trivial: np.ndarray, look: int) -> bool:
    held = Evidence({}, trivial, losses, 0.0, {"dataset": "f"}, Champion("1", champion), looks=look)
    return gate.judge(CONFIG, held).passed


def guesses(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """(losses of a model that knows nothing, of the trivial predictor): each is off by as much, in its own direction.

    Both miss the mean of what is to be predicted by a tenth of its deviation, as few train rows make them.
    """
    target = rng.normal(size=rows)
    return (target - 0.1) ** 2, (target + 0.1) ** 2


def beats_trivial(rng: np.random.Generator, rows: int) -> bool:
    losses, trivial = guesses(rng, rows)
    return gate.judge(CONFIG, Evidence({}, trivial, losses, 0.0, {"dataset": "f"})).passed


def is_less_than_trivial(rng: np.random.Generator, rows: int) -> bool:
    """The rule before: two numbers, compared."""
    losses, trivial = guesses(rng, rows)
    return float(losses.mean()) < float(trivial.mean())


def rings(rng: np.random.Generator, rows: int, live: int, times: float = 1.0) -> bool:
    """Whether the alarm rings for so many live rows, on which the error is `times` that on so many test rows."""
    test, now = rng.normal(size=rows) ** 2, (times * rng.normal(size=live)) ** 2
    scored = {"loss": vars(Moments.of(now)), "metric": "rmse", "metrics": {"rmse": float(np.sqrt(now.mean()))}}
    found = drift.live_difference(scored, Moments.of(test))
    return found is not None and found["low"] > 0


def rang(rng: np.random.Generator, rows: int, live: int, times: float = 1.0) -> bool:
    """The same by the rule before: the live metric's own interval against the test metric as if it were exact."""
    test, now = rng.normal(size=rows) ** 2, (times * rng.normal(size=live)) ** 2
    return float(now.mean() - 1.96 * now.std(ddof=1) / live**0.5) > float(test.mean())


def _share(happens: Callable[[np.random.Generator], bool], runs: int) -> float:
    """How often something happens, with a seed of its own each time."""
    share = sum(happens(np.random.default_rng(seed)) for seed in range(runs)) / runs
    say(f"{share:.4f} of {runs:,}")
    return share


def _shares(happens: Callable[..., bool], runs: int) -> list[float]:
    """How often an alarm rings, for each number of live rows."""
    return [_share(partial(happens, live=live), runs) for live in LIVE_ROWS]


def _at_most(what: str, share: float) -> Comparison:
    return Comparison(what, share, ALLOWED, 1.0, "lower", "share")


def _at_least(what: str, share: float, least: float) -> Comparison:
    return Comparison(what, share, least, 1.0, "higher", "share")


def _config() -> Config:
    """The gate's defaults."""
    return validate({"name": "gate", "data": {"source": "-", "target": "y", "task": "regression"}}, {}, "bench gate")


CONFIG = _config()
