"""A trained network of pictures in, the same with the views that it answers by out, chosen on validation."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from baton.config.schema import Config
from baton.data.dataset import Dataset
from baton.data.feed import Feed
from baton.evaluation import calibration, differences, metrics
from baton.evaluation.differences import Difference
from baton.networks import ensemble, prediction
from baton.networks.ensemble import base_of
from baton.networks.layers import Temperature, calibrated
from baton.networks.view_windows import views_of
from baton.networks.views import OfViews, View, viewed

log = logging.getLogger("baton")

MAX_VIEWS = 10  # that `auto` keeps: each costs as much as the network itself
MAX_ANSWERS = 1 << 24  # probabilities that `auto` holds of all views
METRIC = "log_loss"


@dataclass(frozen=True)
class Step:
    """A view that was added, the mean loss with it, and how far it is from that without it."""

    view: View
    loss: float
    difference: Difference


@dataclass(frozen=True)
class Selection:
    """The views that a network answers by, those that were tried, and, of `auto`, how the choice went on some rows."""

    asked: Any
    views: list[View]
    tried: int
    rows: int = 0
    loss: float | None = None  # of the picture as it is
    steps: tuple[Step, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """evaluation.json's `views`."""
        added = [{**step.view._asdict(), METRIC: step.loss, **vars(step.difference)} for step in self.steps]
        views = [view._asdict() for view in self.views]
        asked = self.asked if isinstance(self.asked, str) else self.asked.model_dump(mode="json")
        counts = {"tried": self.tried, "rows": self.rows}
        return {"asked": asked, "views": views, **counts, METRIC: self.loss, "added": added}


def select(config: Config, dataset: Dataset, network: Any) -> tuple[Any, Selection | None]:
    """A trained network → what answers by the config's views, and how they were chosen; None where none are asked."""
    asked = config.model.views
    if asked == "none":
        return network, None
    height, width, _ = dataset.preprocessor.image_shape
    views = views_of(asked, upright=height > width)
    selection = _auto(config, dataset, network, views) if asked == "auto" else Selection(asked, views, len(views))
    log.info("%s", _line(selection))
    return seen_by(network, selection.views), selection


def seen_by(network: Any, views: list[View]) -> Any:
    """A network, finished or not → one of the same layers and temperature that answers by these views.

    Of an ensemble each member does.
    """
    members, base = ensemble.members_of(network), base_of(network)
    if members:
        seen = ensemble.combined([seen_by(member, views) for member, _ in members], [share for _, share in members])
    else:
        seen = base if views == [View()] else viewed(base, views)
    last = network.layers[-1]
    kept = isinstance(last, Temperature) and (members or base is not network)
    return calibrated(seen, last.temperature) if kept else seen


def views_in(network: Any) -> list[list[View]]:
    """What a network sees of each picture, or each member of an ensemble."""
    members = ensemble.members_of(network)
    if members:
        return [views for member, _ in members for views in views_in(member)]
    return [next((layer.views for layer in network.layers if isinstance(layer, OfViews)), [View()])]


def greedy(
    targets: np.ndarray, answers: np.ndarray, confidence: float, calibrate: bool
) -> tuple[list[int], list[tuple[float, Difference]]]:
    """Targets [n] and answers to each view [n, views, k] → the views kept, and of each the loss and what it changed.

    The first is kept; then, again and again, that which lowers the mean loss most, if the paired interval says that it
    surely does. The interval holds for all that were tried at once. Losses are those at the best temperature, where
    there will be one: a mean of views is less sure than it should be (Ashukha et al., "Pitfalls of in-domain
    uncertainty estimation", 2020).
    """
    kept, total = [0], answers[:, 0].astype(np.float64)
    before = _losses(targets, total, calibrate)
    steps = [(float(before.mean()), Difference(0.0, 0.0, 0.0))]
    while len(kept) < min(MAX_VIEWS, answers.shape[1]):
        others = [view for view in range(answers.shape[1]) if view not in kept]
        tried = {v: _losses(targets, (total + answers[:, v]) / (len(kept) + 1), calibrate) for v in others}
        best = min(tried, key=lambda view: tried[view].mean())
        change = differences.paired(METRIC, tried[best], before, (1 - confidence) / 2 / len(others))
        if not change.high < 0:
            break
        kept, total, before = [*kept, best], total + answers[:, best], tried[best]
        steps.append((float(before.mean()), change))
    return kept, steps


def _auto(config: Config, dataset: Dataset, network: Any, views: list[View]) -> Selection:
    targets, answers = _answers(dataset, network, views)
    kept, steps = greedy(targets, answers, config.evaluation.confidence, config.train.calibrate)
    added = tuple(Step(views[view], *step) for view, step in zip(kept[1:], steps[1:], strict=True))
    return Selection("auto", [views[view] for view in kept], len(views), len(targets), steps[0][0], added)


def _answers(dataset: Dataset, network: Any, views: list[View]) -> tuple[np.ndarray, np.ndarray]:
    """The first validation rows, if not all can be held → targets [n], and a network's answers to views [n, v, k]."""
    import keras

    inputs = {each.name: each for each in network.inputs}
    each = keras.Model(inputs, OfViews(network, views)(inputs))
    most = max(1, MAX_ANSWERS // (len(views) * network.output_shape[-1]))
    feed = Feed(dataset, "validation", min(most, prediction.PREDICT_ROWS))
    targets, answers = list[np.ndarray](), list[np.ndarray]()
    for rows in feed.in_order():
        targets.append(rows["target"])
        answers.append(prediction.predict(each, {name: rows[name] for name in inputs}))
        if sum(map(len, targets)) >= most:
            break
    return np.concatenate(targets)[:most], np.concatenate(answers)[:most]


def _losses(targets: np.ndarray, probabilities: np.ndarray, calibrate: bool) -> np.ndarray:
    if calibrate and len(targets) >= calibration.MIN_ROWS:
        probabilities = calibration.scaled(probabilities, calibration.temperature_of(targets, probabilities))
    return metrics.row_losses(targets, probabilities)


def _line(selection: Selection) -> str:
    count = len(selection.views)
    views = f"{count} view{'s' if count > 1 else ''} of each picture"
    if selection.loss is None:
        return f"answers by {views}"
    if not selection.steps:
        return f"of {selection.tried} views tried none makes {METRIC} surely better than the picture as it is"
    ends = f"{selection.loss:.4f} → {selection.steps[-1].loss:.4f}"
    return f"of {selection.tried} views tried, answers by {views}: {METRIC} {ends} on validation"
