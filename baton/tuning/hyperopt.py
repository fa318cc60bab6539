"""A search space as data in, finished trials out. The only module that imports Hyperopt.

Trials are proposed in generations: every proposal of a generation sees the same finished trials and
has a seed of its own, so a search gives the same proposals whatever the timing of its workers.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from baton.config import space
from baton.config.schema import Config
from baton.errors import BatonError, Diverged
from baton.runtime.paths import SPACES

log = logging.getLogger("baton")


READS = ("conf/spaces/*.yaml",)
STARTUP = 5  # random trials before TPE has something to go by


@dataclass
class Trial:
    """One trial: what was tried, and how it ended (ok, failed or diverged)."""

    number: int
    parameters: dict[str, Any]
    status: str = "ok"
    loss: float | None = None
    seconds: float = 0.0
    error: str = ""
    history: dict[str, list[float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def ended(self, outcome: dict[str, Any]) -> Trial:
        """The trial, with the fields of its end."""
        for name, value in outcome.items():
            setattr(self, name, value)
        return self


# A batch of trials with their parameters → each of them finished, in any order.
Evaluate = Callable[[list[Trial], float], Iterator[Trial]]


def space_of(config: Config) -> dict[str, Any]:
    """The config's search space, or the default one for its kind of data, checked alike."""
    if config.tune.space is None:
        kind = "transfer" if config.transfers else "image" if config.data.task == "image" else "table"
        config = config.overridden({"tune.space": yaml.safe_load((SPACES / f"{kind}.yaml").read_text())})
    return config.tune.space or {}


def own_values(config: Config, rows: int) -> dict[str, Any] | None:
    """Where in its space a config lies itself, as it is written or as `rows` train rows size it; None: outside."""
    sized = config.sized(rows)
    trees = config.dump(), sized.dump(), sized.overridden({"train.objective": config.objective}).dump()

    def written(key: str) -> list[Any]:
        section, _, name = key.partition(".")
        return [tree[section].get(name) for tree in trees]

    return space.place_of(space_of(config), written)


def search(
    config: Config,
    evaluate: Evaluate,
    on_trial: Callable[[Trial], None],
    journal: Journal | None = None,
    first: dict[str, Any] | None = None,
) -> list[Trial]:
    """Run generations until `max_trials` or the time budget; every trial goes to `on_trial` once done, one at least.

    Trials that a `journal` holds are taken from it. The time they took counts against the budget. The `first`
    trial is that place in the space (see `own_values`), so that a search is at least as good as its config.
    """
    from hyperopt import Trials

    settings = config.tune
    proposer, known = Proposer(space_of(config), settings.algorithm, config.seed, first), Trials()
    journal = journal or Journal(None)
    deadline = time.monotonic() + settings.time_budget_s - journal.elapsed
    finished: list[Trial] = []
    while len(finished) < settings.max_trials and (
        not finished or time.monotonic() < deadline or journal.holds(len(finished))
    ):
        size = min(settings.generation, settings.max_trials - len(finished))
        batch = [proposer.propose(known, len(finished) + i) for i in range(size)]
        done = []
        evaluated = journal.evaluate if finished else journal.evaluate_one_at_least
        for trial in evaluated([trial for trial, _ in batch], evaluate, deadline):
            on_trial(trial)
            done.append(trial)
        numbers = {trial.number: trial for trial in done}
        proposer.learn(known, [(numbers[trial.number], doc) for trial, doc in batch if trial.number in numbers])
        finished += sorted(done, key=lambda trial: trial.number)
        if not done:
            break
    return finished


class Journal:
    """Finished trials on disk, a JSON line each; those of an interrupted search are not run again."""

    def __init__(self, path: Path | None):
        self.path, self.started, self.elapsed = path, time.monotonic(), 0.0
        self.trials: dict[int, Trial] = {}
        if path is not None and path.is_file():
            self._read(path)

    def holds(self, number: int) -> bool:
        """Whether a trial of that number or a later one had finished."""
        return any(kept >= number for kept in self.trials)

    def evaluate(self, batch: list[Trial], evaluate: Evaluate, deadline: float) -> Iterator[Trial]:
        """Trials of the batch as they finish: first those that had finished already, in order."""
        ended = [self.trials[t.number] for t in batch if self._has(t)]
        yield from ended
        left = [trial for trial in batch if trial.number not in {t.number for t in ended}]
        for trial in evaluate(left, deadline) if left else ():
            self._write(trial)
            yield trial

    def evaluate_one_at_least(self, batch: list[Trial], evaluate: Evaluate, deadline: float) -> Iterator[Trial]:
        """As `evaluate`; where the deadline leaves room for none, the first one all the same."""
        first = next(ended := self.evaluate(batch, evaluate, deadline), None)
        return chain([first], ended) if first else self.evaluate(batch[:1], evaluate, math.inf)

    def _has(self, trial: Trial) -> bool:
        """Whether the trial had finished: of the same number, with the same parameters."""
        kept = self.trials.get(trial.number)
        return kept is not None and kept.parameters == json.loads(json.dumps(trial.parameters))

    def _read(self, path: Path) -> None:
        """Take the whole lines; drop what a killed process has left of a last one."""
        *lines, _ = path.read_bytes().split(b"\n")
        good = 0
        for line in lines:
            try:
                row = json.loads(line)
                trial = Trial(**row["trial"])
            except (ValueError, KeyError, TypeError):
                log.warning("A line of %s is damaged: it and those behind it are not used.", path)
                break
            self.trials[trial.number], self.elapsed = trial, row["elapsed"]
            good += len(line) + 1
        os.truncate(path, good)

    def _write(self, trial: Trial) -> None:
        """A line more, on the disk before the trial counts. One that failed is run again: the next time it may not."""
        if self.path is None or trial.status == "failed":
            return
        elapsed = self.elapsed + time.monotonic() - self.started
        line = json.dumps({"elapsed": elapsed, "trial": trial.to_dict()}) + "\n"
        with self.path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())


def best(trials: list[Trial]) -> Trial:
    """The trial with the smallest loss; raises `BatonError` if none ended well, `Diverged` if all diverged."""
    good = [trial for trial in trials if trial.status == "ok" and trial.loss is not None]
    if not good:
        first = next((trial.error for trial in trials if trial.error), "no trial was begun")
        diverged = trials and all(trial.status == "diverged" for trial in trials)
        raise (Diverged if diverged else BatonError)(f"None of {len(trials)} trials ended well: {first}")
    return min(good, key=lambda trial: (trial.loss, trial.number))


class Proposer:
    """Hyperopt's TPE or random search, asked one seeded proposal at a time."""

    def __init__(self, tree: dict[str, Any], algorithm: str, seed: int, first: dict[str, Any] | None = None):
        from hyperopt.base import Domain

        self.space, self.seed = to_hyperopt(tree), seed
        self.domain = Domain(lambda _: None, self.space)
        self.suggest = suggestions(algorithm, first)

    def propose(self, trials: Any, number: int) -> tuple[Trial, Any]:
        """The trial of that number, given the finished ones; and Hyperopt's own document of it."""
        from hyperopt import space_eval

        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0]) >> 1
        doc = self.suggest([number], self.domain, trials, seed)[0]
        values = {label: v[0] for label, v in doc["misc"]["vals"].items() if v}
        return Trial(number, flatten(space_eval(self.space, values))), doc

    def learn(self, trials: Any, finished: list[tuple[Trial, Any]]) -> None:
        """Tell Hyperopt how trials ended."""
        from hyperopt import JOB_STATE_DONE, STATUS_FAIL, STATUS_OK

        for trial, doc in finished:
            doc["state"] = JOB_STATE_DONE
            good = trial.status == "ok"
            doc["result"] = {"status": STATUS_OK, "loss": trial.loss} if good else {"status": STATUS_FAIL}
        trials.insert_trial_docs([doc for _, doc in finished])
        trials.refresh()


def suggestions(algorithm: str, first: dict[str, Any] | None) -> Callable[..., list[Any]]:
    """Hyperopt's algorithm of that name, but that trial 0 is the `first` place in the space, if there is one."""
    from hyperopt import rand, tpe

    suggest = {"random": rand.suggest, "tpe": functools.partial(tpe.suggest, n_startup_jobs=STARTUP, verbose=False)}

    def suggested(numbers: list[int], domain: Any, trials: Any, seed: int) -> list[Any]:
        docs = suggest[algorithm](numbers, domain, trials, seed)
        for doc in docs:
            if doc["tid"] == 0 and first is not None:
                values = {label: [first[label]] if label in first else [] for label in doc["misc"]["vals"]}
                doc["misc"] |= {"vals": values, "idxs": {label: [0] * len(v) for label, v in values.items()}}
        return docs

    return suggested


def to_hyperopt(tree: Any, path: str = space.ROOT) -> Any:
    """A space without faults, as data → Hyperopt's expression."""
    from hyperopt import hp

    if space.is_choice(tree):
        return hp.choice(path, [to_hyperopt(o, f"{path}.{i}") for i, o in enumerate(tree["choice"])])
    if space.is_distribution(tree):
        ((kind, arguments),) = tree.items()
        return _distribution(hp, kind, arguments if isinstance(arguments, list) else [arguments], path)
    if isinstance(tree, dict):
        return {key: to_hyperopt(value, f"{path}.{key}") for key, value in tree.items()}
    if isinstance(tree, list):
        return [to_hyperopt(value, f"{path}.{index}") for index, value in enumerate(tree)]
    return tree


def flatten(chosen: Any) -> dict[str, Any]:
    """A chosen point of the space → dotted overrides of the config; groups are merged in."""
    overrides: dict[str, Any] = {}
    for key, value in chosen.items():
        if "." in key:
            overrides[key] = _plain(value)
        else:
            overrides |= flatten(value)
    return overrides


def spark_search(
    config: Config, objective: Callable[[dict[str, Any]], dict[str, Any]], first: dict[str, Any] | None = None
) -> list[Trial]:
    """The same search by Hyperopt's SparkTrials: each trial is a task of the Spark session's.

    What is at work when the time budget is over is cancelled. If it left time for no trial, and is less than
    `hang_timeout_s`, one more is run, for that long at most.
    """
    settings = config.tune
    search = functools.partial(_with_spark_trials, config, objective, first)
    found = search(settings.max_trials, math.ceil(settings.time_budget_s))
    if not found and settings.time_budget_s < settings.hang_timeout_s:
        found = search(1, math.ceil(settings.hang_timeout_s))
    return [Trial(**{**json.loads(json.dumps(trial)), "number": i}) for i, trial in enumerate(found)]


def _with_spark_trials(
    config: Config,
    objective: Callable[[dict[str, Any]], dict[str, Any]],
    first: dict[str, Any] | None,
    most: int,
    seconds: int,
) -> list[dict[str, Any]]:
    """Run at most so many trials for so many seconds → the fields of those that ended."""
    from hyperopt import STATUS_FAIL, STATUS_OK, SparkTrials, fmin
    from hyperopt.exceptions import AllTrialsFailed

    from baton.runtime import spark

    settings, expression, session = config.tune, to_hyperopt(space_of(config)), spark.session(config)

    def task(point: Any) -> dict[str, Any]:
        trial = objective(flatten(point))
        good = trial["status"] == "ok"
        return {"status": STATUS_OK if good else STATUS_FAIL, "loss": trial["loss"], "trial": trial}

    trials = SparkTrials(settings.parallelism, timeout=seconds, spark_session=session)
    # SparkTrials cancels once: a trial that begins in that very moment would go on, and hold up all if it hangs.
    cancelling = spark.cancelled_when(session.sparkContext, "baton trials", lambda: trials._fmin_cancelled)
    with cancelling, contextlib.suppress(AllTrialsFailed):  # `best` says why
        fmin(
            task,
            expression,
            algo=suggestions(settings.algorithm, first),
            max_evals=most,
            max_queue_len=settings.parallelism,  # SparkTrials asserts that the two agree
            trials=trials,
            rstate=np.random.default_rng(config.seed),
            show_progressbar=False,
            return_argmin=False,
        )
    docs = trials._dynamic_trials  # `trials.trials` leaves out those whose task died
    return [trial for doc in docs if (trial := _of_spark(doc, expression))]


def _of_spark(doc: dict[str, Any], expression: Any) -> dict[str, Any] | None:
    """SparkTrials' document → the trial's fields; None for one that ran out of time.

    SparkTrials keeps quiet about a trial whose task died: it is a failed one.
    """
    from hyperopt import JOB_STATE_ERROR, space_eval

    if "trial" in doc["result"]:
        return doc["result"]["trial"]
    if doc["state"] != JOB_STATE_ERROR:
        return None
    point = {label: values[0] for label, values in doc["misc"]["vals"].items() if values}
    kind, trace = doc["misc"]["error"]
    error = (trace or kind).strip().splitlines()[-1][:500]
    return {"parameters": flatten(space_eval(expression, point)), "status": "failed", "error": error}


def _distribution(hp: Any, kind: str, arguments: list[Any], path: str) -> Any:
    """Hyperopt rounds to multiples of q last, which can leave the range: the range that it draws from
    begins half a q below the lowest multiple allowed and ends half a q above the highest.
    """
    if kind in ("randint", "normal", "lognormal"):
        return getattr(hp, kind)(path, *arguments)
    low, high = space.bounds(kind, *arguments)
    steps = arguments[2:]
    if steps:
        low, high = low - steps[0] / 2, high + steps[0] / 2
    if "log" in kind:  # written in the parameter's own unit, not as logarithms
        low, high = math.log(low), math.log(high)
    return getattr(hp, kind)(path, low, high, *steps)


def _plain(value: Any) -> Any:
    """Hyperopt's tuples and NumPy numbers → what YAML and JSON hold."""
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    return value
