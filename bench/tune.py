"""20 trials of 0.2 s each, two at a time, by the search that tune runs: proposals, warm workers, journal, and
each trial logged to MLflow as a nested run. The workers are up already; so is Spark. The ideal is 20 × 0.2 s / 2.
Serial is Hyperopt's own `fmin` with `Trials`, which logs nothing.
"""

from __future__ import annotations

import functools
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.harness import Comparison, alternate, fresh

RUNS = 3
TRIALS, SECONDS, PARALLELISM = 20, 0.2, 2
IDEAL_S = TRIALS * SECONDS / PARALLELISM
SPACE = {"train.learning_rate": {"loguniform": [0.0001, 0.1]}, "model.dropout": {"uniform": [0.0, 0.5]}}


def measure(runs: int) -> list[Comparison]:
    names = ("baton", "serial", "spark_trials")
    median = alternate({name: functools.partial(fresh, globals()[name]) for name in names}, runs)
    return [
        Comparison("ideal: 2 s", median["baton"], IDEAL_S, 1.3, "lower", "s"),
        Comparison("serial Trials", median["baton"], median["serial"], 1.0, "lower", "s"),
        Comparison("SparkTrials", median["baton"], median["spark_trials"], 1.0, "lower", "s"),
    ]


def nap(parameters: dict[str, Any]) -> dict[str, Any]:
    """A trial that only takes its time."""
    time.sleep(SECONDS)
    return {"parameters": parameters, "status": "ok", "loss": parameters["train.learning_rate"], "seconds": SECONDS}


def baton() -> float:
    """Seconds of the search as tune runs it."""
    import hyperopt  # noqa: F401 - as tune does, ahead of the search

    from baton.tracking import runs
    from baton.tuning import hyperopt as search
    from baton.tuning import workers as trials
    from steps.tune import log_trial

    config = settings()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        os.chdir(folder)
        with trials.Workers(config.tune) as workers, runs.start("tune", config, {}) as run:
            for up in workers.ups:
                up.result()
            started = time.perf_counter()
            evaluate = functools.partial(workers.evaluate, nap)
            journal = search.Journal(Path(folder) / "trials.jsonl")
            finished = search.search(config, evaluate, lambda trial: log_trial(config, run, trial), journal)
            seconds = time.perf_counter() - started
        assert len(finished) == TRIALS
        assert len(runs.client().search_runs([run.experiment_id])) == TRIALS + 1
    return seconds


def serial() -> float:
    """Seconds of Hyperopt alone, one trial after another."""
    import numpy as np
    from hyperopt import Trials, fmin, tpe

    from baton.tuning import hyperopt as search

    space = search.to_hyperopt(SPACE)
    started = time.perf_counter()
    fmin(
        lambda point: nap(search.flatten(point))["loss"], space, algo=tpe.suggest, max_evals=TRIALS, trials=Trials(),
        rstate=np.random.default_rng(1), show_progressbar=False,
    )  # fmt: skip
    return time.perf_counter() - started


def spark_trials() -> float:
    """Seconds of Hyperopt's SparkTrials."""
    from baton.runtime import spark
    from baton.tuning import hyperopt as search

    config = settings()
    spark.session(config).range(10).count()
    started = time.perf_counter()
    finished = search.spark_search(config, nap)
    assert len(finished) == TRIALS
    return time.perf_counter() - started


def settings() -> Any:
    """A config for a search of short trials."""
    from baton.config.schema import validate

    tree = {
        "name": "bench",
        "data": {"source": "-", "target": "y", "task": "regression"},
        "tune": {"space": SPACE, "max_trials": TRIALS, "parallelism": PARALLELISM},
    }
    return validate(tree, {}, "bench")
