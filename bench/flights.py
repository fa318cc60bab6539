"""The whole flights table: the default network of five seeds, and the best of a search with eight networks side by
side (`model.networks`; trials train four, in as many epochs), against LightGBM.

All are trained and tested on the same rows; the live error is that of December, after the train rows.
LightGBM's best has 3,000 trees of 255 leaves, and is given all columns and, in turn, those without the
plane (`tailnum`, on which it overfits); the better counts.
"""

from __future__ import annotations

import functools
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import Comparison, build_once, fresh, kept, say

SEEDS = 5
TUNE_S = 600.0
BEST = {"n_estimators": 3000, "num_leaves": 255, "learning_rate": 0.05}
CONFIG = "conf/flights.yaml"
NETWORKS = {"model.networks": 8}  # of the tuned one
Errors = dict[str, float]  # rmse on test, and on December


def measure() -> list[Comparison]:
    """RMSE of the default network (median of the seeds) and of the tuned one, as shares of LightGBM's."""
    folder = str(build_once("datasets/flights-default", _build).absolute())
    trees = json.loads(
        kept("quality/flights-lightgbm.json", lambda p: p.write_text(json.dumps(_trees(folder)))).read_text()
    )
    seeds = [fresh(trained, folder, seed, {}) for seed in range(SEEDS)]
    tuned = fresh(trained, folder, 0, {**NETWORKS, **fresh(searched, folder)})
    default = {name: statistics.median(found[name] for found in seeds) for name in seeds[0]}
    best = min(trees["best"], trees["best without tailnum"], key=lambda errors: errors["test"])
    for name, found in {**{f"seed {i}": e for i, e in enumerate(seeds)}, "tuned": tuned, **trees}.items():
        say(f"flights, {name}: test {found['test']:.3f}, December {found['live']:.3f}")
    return [
        Comparison("flights: LightGBM's default", default["test"], trees["default"]["test"], 0.87, "lower", "rmse"),
        Comparison("flights: LightGBM's best", tuned["test"], best["test"], 0.98, "lower", "rmse"),
        Comparison("December: LightGBM's default", default["live"], trees["default"]["live"], 1.0, "lower", "rmse"),
        Comparison("December: LightGBM's best", tuned["live"], best["live"], 1.0, "lower", "rmse"),
    ]  # fmt: skip


def trained(folder: str, seed: int, parameters: dict[str, Any]) -> Errors:
    """The network of the flights' config, with a seed and a search's best parameters, as `train` trains it."""
    from baton.config import loading
    from baton.data.dataset import Dataset
    from baton.data.feed import Feed
    from baton.evaluation import metrics
    from baton.networks import prediction
    from baton.training import fit

    dataset = Dataset.load(folder)
    result = fit.train(loading.load(CONFIG).overridden({"seed": seed, **parameters}), dataset)
    targets, output = prediction.predict_all(result.model, Feed(dataset, "test", prediction.PREDICT_ROWS))
    encoded, later = _december(dataset)
    live = prediction.predict(result.model, dataset.preprocessor.blocks(encoded))
    return {"test": metrics.evaluate(targets, output)["rmse"], "live": metrics.evaluate(later, live)["rmse"]}


def searched(folder: str) -> dict[str, Any]:
    """The best parameters of a search of `TUNE_S` seconds, as `tune` searches."""
    from baton.config import loading
    from baton.data.dataset import Dataset
    from baton.tuning import hyperopt
    from baton.tuning import workers as trials

    rows = Dataset.load(folder).rows["train"]
    settings = loading.load(CONFIG)
    limits = {"tune.time_budget_s": TUNE_S, "tune.max_trials": 1000, "tune.epochs": settings.sized(rows).train.epochs}
    settings = settings.overridden({**limits, **NETWORKS})
    own, settings = hyperopt.own_values(settings, rows), settings.sized(rows)
    with trials.Workers(settings.tune) as workers:
        evaluate = functools.partial(workers.evaluate, functools.partial(trials.run_trial, settings, folder))
        found = hyperopt.search(settings, evaluate, _texts, first=own)
    return hyperopt.best(found).parameters


def _texts(trial: Any) -> None:
    say(f"trial {trial.number + 1}: {trial.loss or trial.error} in {trial.seconds:.0f} s, {trial.parameters}")


def _build(folder: Path) -> None:
    from baton.config import loading
    from baton.data.ingestion import local
    from baton.data.sources import files

    settings = loading.load(CONFIG)
    folder.mkdir()
    local.build(settings, files.resolve(settings.data.source), folder)


def _trees(folder: str) -> dict[str, Errors]:
    return {
        "default": fresh(lightgbm, folder, {}, []),
        "best": fresh(lightgbm, folder, BEST, []),
        "best without tailnum": fresh(lightgbm, folder, BEST, ["tailnum"]),
    }


def lightgbm(folder: str, options: dict[str, Any], left_out: list[str]) -> Errors:
    """LightGBM on the numbers and categories; embedded values are none of its columns."""
    import lightgbm as trees
    import pandas as pd

    from baton.data.dataset import Dataset
    from bench.reference import frame

    dataset = Dataset.load(folder)
    rows, target = frame(dataset, "train")
    test, targets = frame(dataset, "test")
    encoded, later = _december(dataset)
    columns = [name for name in rows if name not in left_out]
    model = trees.LGBMRegressor(verbose=-1, **options).fit(rows[columns], target)
    december = pd.DataFrame({name: encoded[name] for name in columns}).astype(rows[columns].dtypes)
    pairs = {"test": (test[columns], targets), "live": (december, later)}
    return {name: float(np.sqrt(np.mean((model.predict(x) - y) ** 2))) for name, (x, y) in pairs.items()}


def _december(dataset: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The new flights, encoded, and their delays."""
    import pyarrow.parquet as pq

    from baton.config import loading
    from baton.data.columns import typed

    preprocessor, settings = dataset.preprocessor, loading.load(CONFIG).batch_infer
    assert settings is not None
    rows, reasons = typed(
        pq.read_table(settings.source), [*preprocessor.features, preprocessor.target_column], preprocessor.target
    )
    rows = rows.filter(reasons.is_null())
    return preprocessor.encode(rows), preprocessor.encode_target(rows)
