"""Baton's default network for tables against gradient boosting and a linear model, untuned and tuned.

Every table of `bench.tables` and of `bench.long_tails`, whose points count apart, is split anew for each seed, small
ones oftener, by seeds that no default was chosen on; all sides train on the same encoded rows and choose on the same
validation rows. A side wins a table where the paired bootstrap interval (95 %) of the difference in the test metric,
over the rows of all seeds, excludes zero; a tie counts half. The tuned LightGBM is the best on validation of a random
search, with early stopping.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bench import flights
from bench.harness import Comparison, fresh, kept, say

RUNS = 3  # seeds of a large table
FIRST_SEED = 200  # those below were used while the network was developed
OFTENER = {500: 4, 4000: 2}  # tables of fewer rows are split so many times as often
SEARCHED = 10  # configurations that the tuned LightGBM tries
RESAMPLES = 2000
GOALS = {"lightgbm": 0.8, "lightgbm_tuned": 0.5, "linear": 0.5}
TAIL_GOALS = {"lightgbm_tuned": 0.6}  # of `bench.long_tails`; LightGBM as it is must win none of them
SIDES = ("baton", "lightgbm", "lightgbm_tuned", "hist_gradient_boosting", "linear")


def measure(runs: int) -> list[Comparison]:
    """All tables with `runs` seeds each → the points a table, and the share of long tails that are not lost."""
    from bench.long_tails import LONG_TAILS
    from bench.tables import TABLES

    tails = points_on(LONG_TAILS, runs)  # first: they may be missing
    points = points_on(TABLES, runs)
    shares = [_share(side, got, GOALS.get(side, 0.5)) for side, got in points.items()]
    kept_up = [float(got > 0) for got in tails["lightgbm"]]
    shares += [_share(f"long tails: {side}", got, TAIL_GOALS.get(side, 0.5)) for side, got in tails.items()]
    return [*shares, _share("long tails: lightgbm, not lost", kept_up, 1.0), *flights.measure()]


def points_on(tables: Iterable[str], runs: int) -> dict[str, list[float]]:
    """Tables, with `runs` seeds each → Baton's points on each, by side: 1 for a win, a half for a tie."""
    points: dict[str, list[float]] = {side: [] for side in SIDES[1:]}
    say(f"{'table':14}{'metric':>9}" + "".join(f"{side:>24}" for side in SIDES))
    for table in tables:
        found = compare(table, [losses(table, seed) for seed in splits(table, runs)])
        for side, verdict in found["verdicts"].items():
            points[side].append({"win": 1.0, "tie": 0.5, "loss": 0.0}[verdict])
        say(_line(table, found))
    for side, got in points.items():
        say(f"against {side}: {got.count(1.0)} wins, {got.count(0.5)} ties, {got.count(0.0)} losses")
    return points


def _share(against: str, points: list[float], goal: float) -> Comparison:
    return Comparison(against, float(np.mean(points)), 1.0, goal, "higher", "points a table")


def splits(table: str, runs: int) -> range:
    """The seeds of a table's splits."""
    from bench import tables

    rows = len(tables.table(table)[0])
    often = next((times for fewer, times in OFTENER.items() if rows < fewer), 1)
    return range(FIRST_SEED, FIRST_SEED + runs * often)


def losses(table: str, seed: int, **sections: Any) -> dict[str, Any]:
    """A table and a seed → {side: each test row's loss}, and the metric's name. The alternatives' are kept."""
    versions = _versions()
    place = kept(f"quality/{table}-{seed}-{versions}.json", lambda path: _write(path, alternatives, table, seed))
    found = json.loads(place.read_text())
    found["baton"] = fresh(baton, table, seed, sections)
    return found


def compare(table: str, seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Losses by seed → each side's metric, and Baton's verdict against each other side."""
    from baton.evaluation import metrics

    metric = seeds[0]["metric"]
    rows = {side: np.concatenate([np.asarray(seed[side]) for seed in seeds]) for side in SIDES}
    rng = np.random.default_rng(0)
    count = len(rows["baton"])
    drawn = {side: np.empty(RESAMPLES) for side in SIDES}
    for index in range(RESAMPLES):
        chosen = rng.integers(0, count, count)
        for side in SIDES:
            drawn[side][index] = metrics.of_mean_loss(metric, rows[side][chosen].mean())
    verdicts = {}
    for side in SIDES[1:]:
        low, high = np.quantile(drawn["baton"] - drawn[side], [0.025, 0.975])
        verdicts[side] = "win" if high < 0 else "loss" if low > 0 else "tie"
    values = {side: float(metrics.of_mean_loss(metric, rows[side].mean())) for side in SIDES}
    return {"metric": metric, "values": values, "verdicts": verdicts}


def baton(table: str, seed: int, sections: dict[str, Any]) -> list[float]:
    """Each test row's loss of the default network, trained and calibrated as `train` does."""
    from baton.data.feed import Feed
    from baton.evaluation import metrics
    from baton.networks import prediction
    from baton.registry import candidates
    from baton.training import fit

    with tempfile.TemporaryDirectory() as folder:
        config, dataset = _dataset(table, seed, Path(folder), sections)
        model, _ = candidates.finished(config, dataset, fit.train(config, dataset).model)
        targets, output = prediction.predict_all(model.network, Feed(dataset, "test", prediction.PREDICT_ROWS))
        return metrics.row_losses(targets, output).tolist()


def alternatives(table: str, seed: int) -> dict[str, Any]:
    """The same of everything but Baton, and the metric's name."""
    with tempfile.TemporaryDirectory() as folder:
        config, dataset = _dataset(table, seed, Path(folder), {})
        sides: dict[str, Callable[..., Any]] = {
            "lightgbm": _lightgbm,
            "lightgbm_tuned": _lightgbm_tuned,
            "hist_gradient_boosting": _hist_gradient_boosting,
            "linear": _linear,
        }
        return {"metric": config.primary_metric, **{name: side(dataset).tolist() for name, side in sides.items()}}


def _dataset(table: str, seed: int, folder: Path, sections: dict[str, Any]) -> tuple[Any, Any]:
    """A table, split by a permutation of row numbers that only the seed decides → (config, dataset)."""
    from baton.config.schema import validate
    from baton.data.dataset import Dataset
    from baton.data.ingestion import local
    from baton.data.sources import files
    from bench import tables

    rows, target, task = tables.table(table)
    rows["baton_row"] = np.random.default_rng(seed).permutation(len(rows)) + 1_000_003 * seed
    source = folder / "rows.parquet"
    rows.to_parquet(source, coerce_timestamps="us", allow_truncated_timestamps=True)
    tree: dict[str, Any] = {
        "name": "quality",
        "seed": seed,
        "data": {"source": str(source), "target": target, "task": task, "id": ["baton_row"]},
    }
    for name, values in sections.items():
        tree[name] = {**tree.get(name, {}), **values}
    config = validate(tree, {}, "quality")
    (folder / "dataset").mkdir()
    local.build(config, files.resolve(config.data.source), folder / "dataset")
    return config, Dataset.load(folder / "dataset")


def _row_losses(dataset: Any, targets: np.ndarray, model: Any, rows: Any) -> np.ndarray:
    """Each row's loss of a model with scikit-learn's interface; classes it never saw have probability 0."""
    from baton.evaluation import metrics

    if not dataset.preprocessor.classes:
        return metrics.row_losses(targets, np.asarray(model.predict(rows)).reshape(-1, 1))
    output = np.zeros((len(rows), len(dataset.preprocessor.classes)))
    output[:, model.classes_] = model.predict_proba(rows)
    return metrics.row_losses(targets, output)


def _lightgbm(dataset: Any) -> np.ndarray:
    import lightgbm

    from bench.reference import frame

    rows, target = frame(dataset, "train")
    kind = lightgbm.LGBMClassifier if dataset.preprocessor.classes else lightgbm.LGBMRegressor
    test, targets = frame(dataset, "test")
    return _row_losses(dataset, targets, kind(verbose=-1).fit(rows, target), test)


def _lightgbm_tuned(dataset: Any) -> np.ndarray:
    import lightgbm

    from bench.reference import frame

    rows, target = frame(dataset, "train")
    validation, known = frame(dataset, "validation")
    kind = lightgbm.LGBMClassifier if dataset.preprocessor.classes else lightgbm.LGBMRegressor
    rng = np.random.default_rng(0)
    best: Any = (np.inf, None)
    for _ in range(SEARCHED):
        model = kind(
            verbose=-1,
            n_estimators=1000,
            learning_rate=float(np.exp(rng.uniform(np.log(0.03), np.log(0.2)))),
            num_leaves=int(np.exp(rng.uniform(np.log(4), np.log(255)))),
            min_child_samples=int(np.exp(rng.uniform(np.log(2), np.log(100)))),
            subsample=rng.uniform(0.6, 1.0),
            subsample_freq=1,
            colsample_bytree=rng.uniform(0.5, 1.0),
            reg_lambda=float(np.exp(rng.uniform(np.log(1e-3), np.log(10)))),
            cat_smooth=float(np.exp(rng.uniform(np.log(1), np.log(100)))),
        )
        stop = lightgbm.early_stopping(30, verbose=False)
        model.fit(rows, target, eval_set=[(validation, known)], callbacks=[stop])
        value = _row_losses(dataset, known, model, validation).mean()
        best = min(best, (value, model), key=lambda pair: pair[0])
    test, targets = frame(dataset, "test")
    return _row_losses(dataset, targets, best[1], test)


def _hist_gradient_boosting(dataset: Any) -> np.ndarray:
    from sklearn import ensemble

    from bench.reference import frame

    classes = bool(dataset.preprocessor.classes)
    kind = ensemble.HistGradientBoostingClassifier if classes else ensemble.HistGradientBoostingRegressor
    rows, target = frame(dataset, "train")
    test, targets = frame(dataset, "test")
    # It takes at most 255 categories a column; larger ones are numbers to it.
    codes = [e for e in dataset.preprocessor.encoded if e.encoding == "vocabulary"]
    small = [e.name for e in codes if e.size <= 255]
    large = [e.name for e in codes if e.size > 255]
    rows, test = (part.astype(dict.fromkeys(large, "int64")) for part in (rows, test))
    model = kind(random_state=0, categorical_features=small or None).fit(rows, target)
    return _row_losses(dataset, targets, model, test)


def _linear(dataset: Any) -> np.ndarray:
    """Ridge or logistic regression on standardised numbers and one-hot categories; the penalty by validation."""
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from bench.reference import frame

    rows, target = frame(dataset, "train")
    validation, known = frame(dataset, "validation")
    numbers = dataset.preprocessor.names("number")
    texts = [name for name in rows if name not in numbers]
    best: Any = (np.inf, None)
    for strength in 10.0 ** np.arange(-3, 4):
        encode = make_column_transformer((StandardScaler(), numbers), (OneHotEncoder(handle_unknown="ignore"), texts))
        classes = bool(dataset.preprocessor.classes)
        model = LogisticRegression(C=1 / strength, max_iter=300) if classes else Ridge(strength)
        pipeline = make_pipeline(encode, model).fit(rows, target)
        value = _row_losses(dataset, known, pipeline, validation).mean()
        best = min(best, (value, pipeline), key=lambda pair: pair[0])
    test, targets = frame(dataset, "test")
    return _row_losses(dataset, targets, best[1], test)


def _write(path: Path, function: Callable[..., Any], *arguments: Any) -> None:
    # Threads that wait must not spin: where other work runs too, LightGBM would crawl.
    path.write_text(json.dumps(fresh(function, *arguments, OMP_WAIT_POLICY="passive")))


def _versions() -> str:
    from importlib.metadata import version

    return "-".join(version(package) for package in ("lightgbm", "scikit-learn"))


def _line(table: str, results: dict[str, Any]) -> str:
    cells = [f"{results['values']['baton']:>24.4f}"]
    cells += [f"{results['values'][side]:>16.4f} {results['verdicts'][side]:>7}" for side in SIDES[1:]]
    return f"{table:14}{results['metric']:>9}" + "".join(cells)
