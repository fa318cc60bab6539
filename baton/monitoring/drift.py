"""What the train rows were like and scored rows in, how far they have drifted apart out: plain values for drift.json.

Pure but for `sampled`, which reads the predictions that were written. What is compared is what was scored,
whichever engine did it; both write the rows in the source's order, so both give the same drift.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from baton import names
from baton.config.schema import Drift
from baton.data.columns import Column, as_text, typed
from baton.data.preprocessing import Preprocessor
from baton.data.reference import ColumnProfile, ReferenceData, as_numbers
from baton.evaluation import differences, intervals, metrics
from baton.evaluation.differences import Moments
from baton.formatting import confidence_text, counts_text
from baton.monitoring import distances

OK, WARN, DRIFT = "ok", "warn", "drift"
TOP = 20  # categories compared one by one; the rest together
SIGNIFICANCE = 0.01  # p-value, shared among the columns, below which a difference is no chance
SIGNIFICANT_Z = 3.0  # standard errors of a share
BLOCK, BLOCKS = 1 << 16, 32  # rows read of predictions that are too many to be read whole
MAX_WHOLE = 1 << 21
MIN_ROWS = 50  # rows below which no classifier is fitted
DOMAIN_ROWS = 5000  # of each side
DOMAIN_CATEGORIES = 200
SEPARATING = 0.9  # a column this far apart tells old from new by itself
RESAMPLES = 200
MIN_LIVE_ROWS = 2  # with the target, below which there are no live metrics
CONFIDENCE = 0.95  # of an alarm's interval: without drift one in forty rings
TAIL = 1.96


@dataclass(frozen=True)
class ColumnDrift:
    """One column as drift.json has it, and what its figure shows: {label: (share then, share now)}."""

    name: str
    kind: str
    psi: float | None = None
    statistic: str | None = None
    distance: float | None = None
    p_value: float | None = None
    effect_size: float | None = None
    missing_reference: float = 0.0
    missing_now: float = 0.0
    unseen_share: float | None = None
    verdict: str = OK
    bins: tuple[tuple[str | float, float, float], ...] = ()


@dataclass(frozen=True)
class ReferenceScores:
    """What a version keeps of its judgement on test rows: metrics, and its loss's moments; None of an old one."""

    metrics: dict[str, float]
    loss: Moments | None = None


def measure(
    reference: ReferenceData | None,
    preprocessor: Preprocessor,
    rows: pa.Table,
    settings: Drift,
    before: ReferenceScores,
    pictures: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Scored rows (source columns and predictions) against what the model was trained on → drift.json.

    `pictures` is what `picture_drift` has measured of theirs.
    """
    started = time.monotonic()
    live = live_metrics(preprocessor, rows)
    if live is not None:
        live["difference"] = live_difference(live, before.loss)
    found: dict[str, Any] = {"rows": rows.num_rows, "reference_rows": 0, "columns": [], "prediction": None}
    found |= {"domain_auc": None, "pictures": pictures, "live": live, "reference_metrics": before.metrics or None}
    if reference is None:
        told = ["the model was logged without a profile of its training data: drift cannot be measured"]
    elif rows.num_rows == 0:
        told = ["no row was scored: there is no drift to measure"]
    else:
        features = [column for column in preprocessor.features if column.name in reference.columns]
        now = typed(rows, features, target=None)[0]
        compared, prediction = columns(reference, now, rows, settings)
        found |= {
            "reference_rows": max([p.rows for p in reference.columns.values()], default=0),
            "columns": [asdict(column) for column in compared],
            "prediction": prediction and asdict(prediction),
            "domain_auc": domain_auc(reference, now, features, separating_columns(compared), settings),
        }
        told = warnings(found, settings)
    return {**found, "warnings": told, "thresholds": settings.model_dump(), "seconds": time.monotonic() - started}


def columns(
    reference: ReferenceData, now: pa.Table, rows: pa.Table, settings: Drift
) -> tuple[list[ColumnDrift], ColumnDrift | None]:
    """Every feature and the prediction against their profiles → (features, worst first; the prediction)."""
    sure = SIGNIFICANCE / max(len(reference.columns), 1)
    found = [compare(name, reference.columns[name], now.column(name), settings, sure) for name in now.column_names]
    rank = {DRIFT: 0, WARN: 1, OK: 2}
    found.sort(key=lambda c: (rank[c.verdict], -(c.psi or 0.0), c.name))
    if reference.prediction is None or names.PREDICTION not in rows.column_names:
        return found, None
    predicted = rows.column(names.PREDICTION)
    return found, compare(names.PREDICTION, reference.prediction, predicted, settings, sure)


def compare(name: str, reference: ColumnProfile, values: pa.ChunkedArray, settings: Drift, sure: float) -> ColumnDrift:
    """One column now against its profile: a difference counts if it is large and no chance."""
    rows, missing = len(values), values.null_count
    shares = {"missing_reference": reference.missing / max(reference.rows, 1), "missing_now": missing / max(rows, 1)}
    lost = _grade(abs(shares["missing_now"] - shares["missing_reference"]), settings.missing)
    z = distances.share_z(reference.missing, reference.rows, missing, rows)
    verdicts = [lost if abs(z) > SIGNIFICANT_Z else OK]
    if reference.present == 0 or rows == missing:
        return ColumnDrift(name, reference.kind, verdict=min(verdicts, key=_rank), **shares)
    found = _numbers(reference, values) if reference.counts is None else _categories(reference, values)
    distance: distances.Distance = found.pop("found")
    beyond = found["psi"] - found.pop("chance")
    verdicts.append(_grade(beyond, settings.psi) if distance.p_value < sure else OK)
    if reference.counts is not None:
        expected = reference.single / reference.present  # Good–Turing: what another row of train would have been
        unseen = found["unseen_share"]
        z = distances.share_z(reference.single, reference.present, round(unseen * (rows - missing)), rows - missing)
        verdicts.append(_grade(unseen - expected, settings.unseen) if z > SIGNIFICANT_Z else OK)
    return ColumnDrift(
        name, reference.kind, statistic=distance.statistic, distance=distance.value, p_value=distance.p_value,
        effect_size=distance.effect, verdict=min(verdicts, key=_rank), **shares, **found,
    )  # fmt: skip


def separating_columns(drifts: list[ColumnDrift]) -> list[str]:
    """The columns that by themselves tell new rows from old."""
    return [column.name for column in drifts if (column.effect_size or 0.0) >= SEPARATING]


def domain_auc(
    reference: ReferenceData, now: pa.Table, features: list[Column], apart: list[str], settings: Drift
) -> dict[str, Any] | None:
    """How well a classifier tells new rows from the train sample; None with too few rows of either.

    Where columns do so by themselves, `without` says how well the others do.
    """
    rows = min(reference.rows.num_rows, now.num_rows, DOMAIN_ROWS)
    if rows < MIN_ROWS or not features:
        return None
    rng = np.random.default_rng(0)
    sides = [t.take(pa.array(np.sort(rng.permutation(t.num_rows)[:rows]))) for t in (reference.rows, now)]
    coded = [_coded(column, reference.columns[column.name], sides) for column in features]
    kinds = [column.kind in ("categorical", "boolean") for column in features]

    def area(columns: list[int]) -> dict[str, Any]:
        return told_apart(np.stack([coded[i] for i in columns], axis=1), [kinds[i] for i in columns], settings)

    result = area(list(range(len(features))))
    rest = [i for i, column in enumerate(features) if column.name not in apart]
    if apart and rest:
        result["without"] = {"columns": apart, **area(rest)}
    return result


def live_metrics(preprocessor: Preprocessor, rows: pa.Table) -> dict[str, Any] | None:
    """The metrics on scored rows that have the target, with bootstrap intervals, and how many rows lack it and why.

    None without rows or the target's column; no metric where fewer than two rows are left.
    """
    target = preprocessor.target_column
    if target.name not in rows.column_names or rows.num_rows == 0:
        return None
    values, reasons = typed(rows, [target], target.name)
    reasons = _reasons_left_out(preprocessor, values, reasons)
    good = reasons.is_null()
    targets = preprocessor.encode_target(values.filter(good))
    live: dict[str, Any] = {"metrics": {}, "intervals": {}, "rows": len(targets), "loss": None}
    live["left_out"] = dict(Counter(reasons.drop_null().to_pylist()).most_common())
    if len(targets) < MIN_LIVE_ROWS:
        return live
    output = _predictions(preprocessor, rows.filter(good))
    metric = live["metric"] = preprocessor.metric
    settings: dict[str, Any] = {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": 0, "metric": metric}
    ranges = intervals.of_metrics(targets, output, threshold=preprocessor.threshold, **settings)
    live["metrics"] = metrics.finite(metrics.evaluate(targets, output, preprocessor.threshold, metric))
    live["intervals"] = {name: ends for name, ends in ranges.items() if ends}
    moments = Moments.of(metrics.row_losses(targets, output, metric))
    live["loss"] = asdict(moments) if np.isfinite([moments.variance, moments.skewness]).all() else None
    return live


def live_difference(live: dict[str, Any], before: Moments | None) -> dict[str, Any] | None:
    """Live metrics and the loss's moments on test data → the primary metric's difference, live minus test, with its
    interval; both sets of rows are samples. None if one of the two is not known."""
    if before is None or live["loss"] is None:
        return None
    metric = live["metric"]
    found = differences.independent(metric, Moments(**live["loss"]), before, (1 - CONFIDENCE) / 2)
    return {"metric": metric, "confidence": CONFIDENCE, **asdict(found)} if found.is_finite else None


def live_sentences(live: dict[str, Any] | None) -> list[str]:
    """`live` of drift.json → which rows its metrics leave out and why, or why there are none, or no comparison."""
    if not live:
        return []
    told, left_out = [], live.get("left_out") or {}
    out = sum(left_out.values())
    of_all = f"{out:,} of {out + live['rows']:,} rows"
    if left_out or not live["metrics"]:
        there = (
            f"live metrics leave out {of_all}" if live["metrics"] else f"there are no live metrics: {of_all} left out"
        )
        told.append(": ".join([there, *([counts_text(left_out)] if left_out else [])]))
    if live["metrics"] and live.get("difference") is None:
        told.append("the live metrics are not compared with those on test data, of which the version keeps no variance")
    return told


def sampled(folder: Path, preprocessor: Preprocessor, wanted: int) -> pa.Table:
    """A folder of predictions → at most `wanted` of its rows, in order: one at random of every so many.

    Of the columns those that are compared: features but images, the target where it is there, the predictions.

    Beyond some two million rows only blocks at even distances are read.
    """
    files = [pq.ParquetFile(path) for path in sorted(folder.glob("*.parquet"))]
    total = sum(file.metadata.num_rows for file in files)
    rows, start = chosen(total, wanted), 0
    columns = _columns_to_compare(files[0].schema_arrow.names, preprocessor)
    parts = [pa.schema([files[0].schema_arrow.field(name) for name in columns]).empty_table()]
    for file in files:
        for group in range(file.metadata.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            mine = rows[(rows >= start) & (rows < end)] - start
            if len(mine):
                parts.append(file.read_row_group(group, columns).take(pa.array(mine)))
            start = end
    return pa.concat_tables(parts)


def warnings(results: dict[str, Any], settings: Drift) -> list[str]:
    """What drift.json's values amount to, a sentence each."""
    told = [_column_warning(column, settings) for column in results["columns"] if column["verdict"] == DRIFT]
    if results["prediction"] and results["prediction"]["verdict"] == DRIFT:
        told.append(f"the predictions have drifted: PSI {results['prediction']['psi']:.2f} against validation")
    domain = results["domain_auc"]
    if domain and domain["verdict"] == DRIFT:
        told.append(f"new rows can be told from training rows: AUC {domain['auc']:.2f} (limit {settings.auc:g})")
        if "without" in domain:
            rest = domain["without"]
            told[-1] += f"; without {', '.join(rest['columns'])}, each enough for it, {rest['auc']:.2f}"
    return told + _picture_warnings(results.get("pictures"), settings) + _live_warning(results["live"])


def _picture_warnings(pictures: dict[str, Any] | None, settings: Drift) -> list[str]:
    """A sentence if new pictures lie farther from those of the training data, and one if they can be told from them."""
    if not pictures:
        return []
    distance, domain, told = pictures["distance"], pictures["domain_auc"], []
    if distance["verdict"] == DRIFT:
        told.append(_column_warning(distance, settings))
    if domain["verdict"] == DRIFT:
        told.append(
            f"new pictures can be told from those of the training data: AUC {domain['auc']:.2f} "
            f"(limit {settings.auc:g})"
        )
    return told


def _live_warning(live: dict[str, Any] | None) -> list[str]:
    """A sentence if the live metric is surely worse than that on test data."""
    found = (live or {}).get("difference")
    if not live or not found or found["low"] <= 0:
        return []
    name, value = found["metric"], live["metrics"][found["metric"]]
    interval = f"{confidence_text(found['confidence'])} interval [{found['low']:+.4g}, {found['high']:+.4g}]"
    was = value - found["value"]
    return [
        f"live {name} {value:.4g} is worse than on test data, {was:.4g}: difference {found['value']:+.4g}, {interval}"
    ]


def _column_warning(column: dict[str, Any], settings: Drift) -> str:
    parts = []
    if (column["psi"] or 0.0) > settings.psi:
        sign = "KS" if column["statistic"] == "ks" else "Cramér's V"
        parts.append(f"PSI {column['psi']:.2f} (limit {settings.psi:g}), {sign} {column['effect_size']:.2f}")
    if abs(column["missing_now"] - column["missing_reference"]) > settings.missing:
        parts.append(f"missing in {100 * column['missing_now']:.1f} %, was {100 * column['missing_reference']:.1f} %")
    if (column["unseen_share"] or 0.0) > settings.unseen:
        parts.append(f"{100 * column['unseen_share']:.1f} % of its values did not occur in training")
    return f"{column['name']} has drifted: {'; '.join(parts)}"


def _reasons_left_out(preprocessor: Preprocessor, values: pa.Table, reasons: pa.Array) -> pa.Array:
    """A typed target and the reasons why it cannot be used → these, and one for each class that the model lacks."""
    if not preprocessor.classes:
        return reasons
    unknown = pc.and_(reasons.is_null(), pa.array(preprocessor.encode_target(values) < 0))
    return pc.if_else(unknown, f"{preprocessor.target} is a class that the model does not know", reasons)


def _rank(verdict: str) -> int:
    return (DRIFT, WARN, OK).index(verdict)


def _grade(value: float, limit: float) -> str:
    return DRIFT if value > limit else WARN if value > limit / 2 else OK


def _numbers(reference: ColumnProfile, values: pa.ChunkedArray) -> dict[str, Any]:
    knots, now = np.asarray(reference.knots), as_numbers(values.drop_null())
    shares, counts = distances.binned(knots, now)
    return {
        "psi": distances.psi(shares * reference.sampled, counts),
        "chance": distances.chance_psi(reference.sampled, len(now), len(counts)),
        "found": distances.kolmogorov_smirnov(knots, reference.sampled, now),
        "bins": _histogram(knots, now),
    }


def _categories(reference: ColumnProfile, values: pa.ChunkedArray) -> dict[str, Any]:
    """The most frequent categories one by one, all others together: that some are new is no distance by itself."""
    counted = as_text(values.drop_null()).value_counts()
    now = dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
    counts = reference.counts or {}
    top, total = list(counts)[:TOP], sum(now.values())
    unseen = sum(count for name, count in now.items() if name not in counts)
    then = np.array([counts[name] for name in top] + [reference.present - sum(counts[name] for name in top)], float)
    seen = np.array([now.get(name, 0) for name in top] + [total - sum(now.get(name, 0) for name in top)], float)
    used = (then + seen) > 0
    shown = [*zip(top, then / reference.present, seen / total, strict=False)]
    shown += [("others", then[-1] / reference.present, (seen[-1] - unseen) / total), ("unseen", 0.0, unseen / total)]
    return {
        "psi": distances.psi(then[used], seen[used]),
        "chance": distances.chance_psi(reference.present, total, int(used.sum())),
        "found": distances.chi_square(then, seen),
        "unseen_share": unseen / total,
        "bins": tuple((label, float(a), float(b)) for label, a, b in shown if a or b),
    }


def _histogram(knots: np.ndarray, now: np.ndarray, most: int = 24) -> tuple[tuple[float, float, float], ...]:
    """(left edge, share then, share now) of even bins over what most rows of both lie in."""
    cuts = [np.quantile(part, [0.005, 0.995]) for part in (knots, now)]
    low, high = min(c[0] for c in cuts), max(c[1] for c in cuts)
    if not high > low:
        return ((float(low), 1.0, 1.0),)
    edges = np.linspace(low, high, most + 1)
    then, seen = (np.histogram(np.clip(part, low, high), edges)[0] / len(part) for part in (knots, now))
    return tuple((float(e), float(a), float(b)) for e, a, b in zip(edges, then, seen, strict=False))


def _coded(column: Column, reference: ColumnProfile, sides: list[pa.Table]) -> np.ndarray:
    """A column of both sides → numbers, nan where missing; categories as their rank, beyond the first ones alike."""
    values = [side.column(column.name).combine_chunks() for side in sides]
    if reference.counts is None:
        return np.concatenate([as_numbers(part) for part in values])
    top = pa.array(list(reference.counts)[:DOMAIN_CATEGORIES], pa.string())
    codes = [pc.fill_null(pc.index_in(as_text(part), top), len(top)) for part in values]
    codes = [pc.if_else(part.is_null(), None, code) for part, code in zip(values, codes, strict=True)]
    return np.concatenate([as_numbers(part) for part in codes])


def told_apart(x: np.ndarray, categorical: list[bool], settings: Drift) -> dict[str, Any]:
    """Old rows before as many new ones [2n, d] → AUC of a classifier's cross-validated scores, interval and verdict."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from threadpoolctl import threadpool_limits

    rows = len(x) // 2
    y = np.repeat([0, 1], rows)
    model = HistGradientBoostingClassifier(
        max_iter=30, max_leaf_nodes=15, learning_rate=0.2, categorical_features=categorical, random_state=0,
        early_stopping=False,
    )  # fmt: skip
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    with threadpool_limits(1):  # OpenMP's threads wait actively: on busy cores two took a hundred times as long
        scores = cross_val_predict(model, x, y, cv=folds, method="predict_proba")[:, 1]
    area, error = distances.auc(scores[:rows], scores[rows:])
    low, high = max(0.0, area - TAIL * error), min(1.0, area + TAIL * error)
    middle = (0.5 + settings.auc) / 2
    verdict = DRIFT if low > settings.auc else WARN if low > middle else OK
    return {"auc": area, "interval": [low, high], "verdict": verdict}


def _predictions(preprocessor: Preprocessor, rows: pa.Table) -> np.ndarray:
    """Prediction columns → the network's output: [rows, 1], or class probabilities [rows, k]."""
    wanted = [f"{names.PROBABILITY}{name}" for name in preprocessor.classes] or [names.PREDICTION]
    return np.stack([rows.column(name).to_numpy() for name in wanted], axis=1)


def _columns_to_compare(held: list[str], preprocessor: Preprocessor) -> list[str]:
    """Those of the predictions' columns that are compared."""
    wanted = {column.name for column in preprocessor.features if column.kind != "image"} | {
        preprocessor.target,
        names.PREDICTION,
    }
    wanted |= {f"{names.PROBABILITY}{name}" for name in preprocessor.classes}
    return [name for name in held if name in wanted]


def chosen(total: int, wanted: int) -> np.ndarray:
    """Places of rows [at most `wanted`], one drawn from each of even strata."""
    if total <= wanted:
        return np.arange(total)
    starts = np.zeros(1, int) if total <= MAX_WHOLE else np.linspace(0, total - BLOCK, BLOCKS).astype(int)
    size = total if total <= MAX_WHOLE else BLOCK
    each = max(1, wanted // len(starts))
    rng = np.random.default_rng(0)
    strata = (np.arange(each)[None, :] + rng.random((len(starts), each))) * size / each
    return (starts[:, None] + strata.astype(int)).ravel()
