"""A backbone with weights and a task in, the network that validation likes best out, with what was measured and why.

What a depth of the frozen base knows of the classes is measured by a linear probe. Where the last depth is the best,
the pictures are like those that the base has learnt from; the sooner the best one comes, the more they are unlike
them. With the number of rows that decides what becomes of the base, and the CNN from scratch is in the race.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np

from baton.config.schema import Config
from baton.errors import BadInput, Diverged
from baton.networks import build
from baton.networks.backbones import block_ends, build_backbone
from baton.training.callbacks import Result
from baton.training.checkpoints import Checkpoint
from baton.training.transfer import features, finetuning
from baton.training.transfer.probes import Probe, Rows, best_depth, fit_probe
from baton.training.transfer.task import Task

log = logging.getLogger("baton")

MIN_CLASS_ROWS = 20  # rows a class, below which nothing but a linear head is learnt
MIN_ROWS = 200  # rows, from which on all blocks learn (`bench policy`)
PROBE_ROWS = 5_000  # that probes are fitted to and judged on, where they only choose
SEEN, EPOCHS = 60_000, 6  # pictures that fine-tuning sees, at most, but so many epochs at least
SCRATCH = "scratch"

FromScratch = Callable[[Task], Result]


@dataclass(frozen=True)
class Plan:
    """What becomes of the base (probe, head_then_blocks or all), the depth at which it is cut, and why."""

    method: str
    depth: int
    reason: str


def train(task: Task, from_scratch: FromScratch | None) -> Result:
    """A task of pictures → the trained result, its `transfer` filled in; `from_scratch` is in the race, if given.

    Only where the config leaves the choice: what `train.transfer` names is done as it says.
    """
    config, preprocessor = task.config, task.feed.preprocessor
    keras.utils.set_random_seed(config.seed)
    backbone = build_backbone(config.model, preprocessor.image_shape)
    ends = block_ends(backbone)
    _demand_depth(task, ends)
    rows = task.feed.dataset.rows["train"]
    probes = measured(task, features.Extractor(backbone))
    plan = planned(task, rows, probes)
    log.info("transfer: %s at block %d of %d: %s", plan.method, plan.depth, len(ends), plan.reason)
    ends = ends[: plan.depth]
    keras.utils.set_random_seed(config.seed)  # again: what is imported when rows are first read draws numbers too
    network = build.on_backbone(backbone, ends[-1], preprocessor, config.model)
    results = _contest(task, plan, network, ends, probes[plan.depth - 1], from_scratch)
    chosen, best = min(results.items(), key=lambda named: named[1].log_loss)
    contest = {name: contestant.log_loss for name, contestant in results.items()}
    depths = [{"depth": number, **probe.to_dict()} for number, probe in enumerate(probes, 1)]
    base = {"backbone": config.model.backbone, "weights": config.model.weights, "rows": rows}
    transfer = {**base, **asdict(plan), "depths": depths, "contest": contest, "chosen": chosen}
    return replace(best.restored(), transfer=transfer)


def measured(task: Task, extractor: features.Extractor) -> list[Probe]:
    """The probe of each depth, shallow to deep."""
    most = None if task.config.train.transfer == "probe" else -(-PROBE_ROWS // task.collective.size)
    train, validation = (_rows(feed, extractor, most) for feed in (task.feed, task.validation))
    if task.feed.augmentation and task.feed.augmentation.settings.flip is True:
        train = [_both(*pair) for pair in zip(train, _rows(task.feed, extractor, most, flipped=True), strict=True)]
    result, classes = [], len(task.feed.preprocessor.classes)
    for depth, (own, others) in enumerate(zip(train, validation, strict=True), 1):
        result.append(fit_probe(own, others, classes, task.collective))
        log.info("transfer: block %d: log_loss %.4f  accuracy %.4f", depth, result[-1].log_loss, result[-1].accuracy)
    return result


def planned(task: Task, rows: int, probes: list[Probe]) -> Plan:
    """What the config says, and where it leaves the choice, what rows and probes say."""
    settings, classes = task.config.train, len(task.feed.preprocessor.classes)
    best = 1 + best_depth(probes, task.collective)
    method, why = (
        (str(settings.transfer), "the config says so") if settings.transfer != "auto" else _by_rows(rows, classes)
    )
    depth = best if settings.transfer_depth == "auto" else settings.transfer_depth
    if method == "all" and settings.transfer_depth == "auto":
        depth = len(probes)
    return Plan(method, depth, f"{why}; {_likeness(best, len(probes))}")


def _likeness(best: int, depth: int) -> str:
    if best < depth:
        return f"block {best} of {depth} tells the classes best: the pictures are unlike those of the base"
    return "no block tells the classes surely better than the last: the pictures are like those of the base"


def _by_rows(rows: int, classes: int) -> tuple[str, str]:
    each = rows / max(classes, 1)
    if each < MIN_CLASS_ROWS:
        return "probe", f"{each:.0f} rows a class are too few for more than a linear head ({MIN_CLASS_ROWS})"
    if rows >= MIN_ROWS:
        return "all", f"{rows:,} rows are enough to train all blocks ({MIN_ROWS:,})"
    return "head_then_blocks", f"{each:.0f} rows a class are enough for the last blocks, {rows:,} in all not for all"


@dataclass(frozen=True)
class Contestant:
    """A trained result with the weights that it had, and its log loss on validation."""

    result: Result
    weights: list[np.ndarray]
    log_loss: float

    @staticmethod
    def of(task: Task, result: Result) -> Contestant:
        return Contestant(result, result.model.get_weights(), task.log_loss(result.model))

    def restored(self) -> Result:
        """The result, as it was: another may have trained its network further."""
        self.result.model.set_weights(self.weights)
        return self.result


def _contest(
    task: Task,
    plan: Plan,
    network: keras.Model,
    ends: list[str],
    probe: Probe,
    from_scratch: FromScratch | None,
) -> dict[str, Contestant]:
    """The plan's network; where the config leaves the choice, the probe alone and the CNN from scratch as well."""
    finetuning.with_head(network, probe)
    free, results = task.config.train.transfer == "auto", dict[str, Contestant]()
    if free or plan.method == "probe":
        results["probe"] = Contestant.of(task, _of_probe(network, probe, task, only=plan.method == "probe"))
    if plan.method != "probe":
        last = len(ends) if plan.method == "all" else finetuning.LAST
        short = replace(task, config=_shortened(task)) if free else task
        _enter(results, plan.method, task, lambda: finetuning.finetune(network, ends, last, short))
    if free and from_scratch:
        _enter(results, SCRATCH, task, lambda: from_scratch(_aside(task)))
    for name, contestant in results.items():
        log.info("transfer: %s: log_loss %.4f on validation", name, contestant.log_loss)
    return results


def _enter(results: dict[str, Contestant], name: str, task: Task, train: Callable[[], Result]) -> None:
    """Add what is trained; what diverges, on all processes alike, is out of the contest, if another is in it."""
    try:
        results[name] = Contestant.of(task, train())
    except Diverged as error:
        if not results:
            raise
        log.warning("transfer: %s is out: %s", name, error)


def _of_probe(network: keras.Model, probe: Probe, task: Task, *, only: bool) -> Result:
    """The result of a network that was trained in no epoch; if it is the `only` one, its values are logged as one's."""
    logs = {"val_log_loss": probe.log_loss, "val_accuracy": probe.accuracy}
    if only and task.on_epoch and task.collective.rank == 0:
        task.on_epoch(0, logs)
    return Result(network, {name: [value] for name, value in logs.items()}, 0, probe.log_loss)


def _shortened(task: Task) -> Config:
    """The config with as many epochs as fine-tuning needs: it begins near its end."""
    enough = max(EPOCHS, SEEN // task.feed.dataset.rows["train"])
    return task.config.overridden({"train.epochs": min(task.config.train.epochs, enough)})


def _aside(task: Task) -> Task:
    """The same task with a checkpoint of its own, whose epochs nobody is told of."""
    path = task.checkpoint and task.checkpoint.path
    checkpoint = path and Checkpoint(path.with_name(f"{SCRATCH}-{path.name}"), task.checkpoint.run_id)  # type: ignore[union-attr]
    return replace(task, on_epoch=None, checkpoint=checkpoint or None)


def _rows(feed: Any, extractor: features.Extractor, most: int | None, *, flipped: bool = False) -> list[Rows]:
    depths = extractor.features(feed, most=most, flipped=flipped)
    target = features.targets(feed, len(depths[0])).astype(int)
    weight = np.ones(len(target)) if feed.class_weights is None else feed.class_weights[target].astype(np.float64)
    return [Rows(depth, target, weight) for depth in depths]


def _both(one: Rows, other: Rows) -> Rows:
    return Rows(*(np.concatenate(pair) for pair in zip(vars(one).values(), vars(other).values(), strict=True)))


def _demand_depth(task: Task, ends: list[str]) -> None:
    depth = task.config.train.transfer_depth
    if depth != "auto" and depth > len(ends):
        name = task.config.model.backbone
        raise BadInput(f"train.transfer_depth: {name} has {len(ends)} blocks, so 1 to {len(ends)}. Received: {depth}")
