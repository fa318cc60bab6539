"""Models and test rows in, what each costs and how wrong it is out: by one view of a picture and by many.

As table 3 of Szegedy et al., "Going deeper with convolutions", 2015, which lacks intervals and times.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from baton.config.schema import VIEWS, Config
from baton.data import target
from baton.data.preprocessing import Preprocessor
from baton.data.raw_rows import RawRows
from baton.errors import BadInput
from baton.evaluation import differences, intervals, metrics
from baton.evaluation.differences import Difference
from baton.networks.costs import layer_costs, totals
from baton.networks.view_windows import views_of
from baton.networks.views import View
from baton.registry.view_selection import seen_by, views_in
from baton.serving.raw_columns import RawColumnModel

PROBED = 64  # rows that tell what one costs
ERROR = "error"  # the share of rows that are given another class than theirs
OWN = "own"


@dataclass(frozen=True)
class Variant:
    """A model by some views of each picture, and the multiply-adds of a row; None where they cannot be counted.

    `views` is how many, of an ensemble whose members have their own those of the one with most.
    """

    name: str
    asked: str
    views: int
    model: Any
    multiply_adds: int | None


@dataclass(frozen=True)
class Cost:
    """What a variant costs and how wrong it is; `difference` is from the first variant, on the same rows."""

    variant: Variant
    seconds: float  # a row
    value: float
    interval: list[float] | None
    difference: Difference | None


@dataclass(frozen=True)
class CostTable:
    """All that was measured on so many rows, and sentences on what there was no time for."""

    metric: str
    rows: int
    confidence: float
    seconds: float
    costs: list[Cost]
    left_out: list[str]

    def to_dict(self) -> dict[str, Any]:
        """`costs.json`."""
        return {
            "metric": self.metric, "rows": self.rows, "confidence": self.confidence,
            "seconds": round(self.seconds, 2), "left_out": self.left_out,
            "costs": [
                {
                    "model": cost.variant.name, "asked": cost.variant.asked, "views": cost.variant.views,
                    "multiply_adds": cost.variant.multiply_adds, "seconds_a_row": cost.seconds,
                    "value": cost.value, "interval": cost.interval,
                    "difference": cost.difference and vars(cost.difference),
                }
                for cost in self.costs
            ],
        }  # fmt: skip


def measure(
    config: Config, models: dict[str, Any], asked: Preprocessor, raw: pa.Table | RawRows, targets: np.ndarray
) -> CostTable:
    """Models by their names, the first the base, raw test rows and their targets, as indices into the classes that
    `asked` knows → the table, within `register.costs.seconds`.

    A model answers raw rows (`answers`, as `RawColumnModel` does); an ensemble has `networks`, and `with_networks`
    gives it with others. Cheap variants come first. What is measured is what a row costs from its raw cells on, in one
    process of this machine.
    """
    started, settings = time.monotonic(), config.register_.costs
    rows = _sample(raw.num_rows, settings.rows, config.seed)
    raw, targets = raw.take(pa.array(rows)), targets[rows]
    tail = (1 - config.evaluation.confidence) / 2
    metric = ERROR if asked.classes else config.primary_metric
    costs, left_out, first = list[Cost](), list[str](), None
    for variant in sorted(variants(models), key=lambda each: each.views):
        needed = raw.num_rows * _seconds(variant, asked, raw, costs)
        left = settings.seconds - (time.monotonic() - started)
        if needed > left:
            left_out.append(_too_long(variant, needed, left))
            continue
        begun = time.monotonic()
        answers = variant.model.answers(raw, asked)
        seconds = (time.monotonic() - begun) / raw.num_rows
        losses = _losses(targets, answers, variant.model.preprocessor, metric)
        first = losses if first is None else first
        change = None if losses is first else differences.paired(metric, losses, first, tail)
        costs.append(Cost(variant, seconds, *_interval(config, metric, losses, targets, answers), change))
    taken = time.monotonic() - started
    return CostTable(metric, raw.num_rows, config.evaluation.confidence, taken, costs, left_out)


def variants(models: dict[str, Any]) -> Iterator[Variant]:
    """Each model as it is; of pictures by one view, by the papers' sets of views, and by its own if it has others."""
    for name, model in models.items():
        if not model.preprocessor.names("image"):
            yield Variant(name, "none", 1, model, _multiply_adds(networks_of(model)))
            continue
        height, width, _ = model.preprocessor.image_shape
        sets = {asked: views_of(asked, upright=height > width) for asked in ("none", *VIEWS)}
        for asked, views in sets.items():
            seen = by_views(model, views)
            yield Variant(name, asked, len(views), seen, _multiply_adds(networks_of(seen)))
        own = [set(views) for network in networks_of(model) for views in views_in(network)]
        if not any(all(mine == set(views) for mine in own) for views in sets.values()):
            yield Variant(name, OWN, max(map(len, own)), model, _multiply_adds(networks_of(model)))


def networks_of(model: Any) -> list[Any]:
    """A model's networks: one, or those of an ensemble."""
    return list(getattr(model, "networks", None) or [model.network])


def by_views(model: Any, views: list[View]) -> Any:
    """A model → the same by these views of each picture."""
    networks = [seen_by(network, views) for network in networks_of(model)]
    if hasattr(model, "with_networks"):
        return model.with_networks(networks)
    return RawColumnModel(model.preprocessor, networks[0])


def _multiply_adds(networks: list[Any]) -> int | None:
    try:
        return sum(totals(layer_costs(network))[1] for network in networks)
    except BadInput:  # of a layer that is not known: the seconds tell
        return None


def _seconds(variant: Variant, asked: Preprocessor, raw: pa.Table, costs: list[Cost]) -> float:
    """What a row of a variant will take, by fewer views if these were measured; it is traced here, not when timed."""
    once = next((c for c in costs if c.variant.name == variant.name), None)
    variant.model.answers(raw.slice(0, 1 if once else PROBED), asked)
    if once:
        return once.seconds * variant.views / once.variant.views
    begun = time.monotonic()
    variant.model.answers(raw.slice(0, PROBED), asked)
    return (time.monotonic() - begun) / min(PROBED, raw.num_rows)


def _losses(targets: np.ndarray, answers: np.ndarray, preprocessor: Preprocessor, metric: str) -> np.ndarray:
    """Each row's loss in the metric; of classes 1 where it is given another one, else 0."""
    if not preprocessor.classes:
        return metrics.row_losses(targets, answers, metric)
    return (target.decide(answers, preprocessor.threshold) != targets).astype(np.float64)


def _interval(
    config: Config, metric: str, losses: np.ndarray, targets: np.ndarray, answers: np.ndarray
) -> tuple[float, list[float] | None]:
    """The metric and its interval; of a share of rows Wilson's (1927), which is no point where no row is wrong."""
    from scipy.stats import binomtest

    if metric != ERROR:
        value = float(metrics.of_mean_loss(metric, losses.mean()))
        settings = config.evaluation
        return value, intervals.of_metrics(
            targets, answers, threshold=target.DEFAULT_THRESHOLD, confidence=settings.confidence,
            resamples=settings.resamples, seed=config.seed, metric=metric,
        )[metric]  # fmt: skip
    share = binomtest(int(losses.sum()), len(losses)).proportion_ci(config.evaluation.confidence, "wilson")
    return float(losses.mean()), [float(share.low), float(share.high)]


def _sample(count: int, most: int, seed: int) -> np.ndarray:
    """Numbers of rows, in order: all, or so many by chance."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def _too_long(variant: Variant, needed: float, left: float) -> str:
    views = "" if variant.views == 1 else f" by {variant.views} views"
    return f"{variant.name}{views} would take about {needed:.3g} s, and of register.costs.seconds {left:.3g} are left"
