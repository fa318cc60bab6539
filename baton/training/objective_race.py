"""A task of numbers in, the loss that its network should learn by out: what `train.objective: auto` means.

One small network a loss is trained for a third of the epochs, and validation compares them by RMSE. No loss is the best
of every table: where features multiply, an exponent learns it sooner; where they add, it may err by far.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from baton.config.schema import Config
from baton.errors import Diverged
from baton.evaluation import differences, metrics
from baton.networks.prediction import predict_pieces
from baton.training.callbacks import Result
from baton.training.checkpoints import Checkpoint
from baton.training.transfer.task import Task

log = logging.getLogger("baton")

USUAL = "squared"
OTHERS = ("poisson", "log_squared")  # in this order
GAIN = 0.05  # of the usual loss's RMSE, at least, that another one must save: after few epochs less misleads
OUT = 1.1  # times the usual loss's RMSE: what is worse keeps those that come after it from being tried
TAIL = 0.025  # the chance that a gain is none
MIN_ROWS = 1_000  # train rows: of fewer, validation tells nothing surely
MAX_ROWS = 50_000  # train rows that a contender learns from, about
EPOCHS = 3  # so many times as many has the training that follows
SPREAD = 1 / 3  # of the target's mean is its deviation, at least; of less an exponent and a line are much alike

Train = Callable[[Task], Result]


def choose(task: Task, train: Train) -> dict[str, Any]:
    """A task → what `train` has made of each loss and which one won; empty where there is nothing to choose.

    Others than the usual one are tried one after the other, as long as the one before was not far off.
    """
    if not _is_open(task):
        return {}
    short = _shortened(task)
    losses, contest = dict[str, np.ndarray](), dict[str, float]()
    for name in (USUAL, *OTHERS):
        if (found := _losses(short, name, train)) is not None:
            losses[name], contest[name] = found, _rmse(task, found)
        if USUAL not in contest or contest.get(name, math.inf) > OUT * contest[USUAL]:
            break  # without the usual one nothing can be compared, and what an exponent spoils it spoils for all
    chosen = _winner(task, losses, contest)
    epochs = short.config.train.epochs
    reason = _reason(chosen, contest, epochs)
    log.info("train.objective: %s", reason)
    return {"chosen": chosen, "contest": contest, "epochs": epochs, "reason": reason}


def _reason(chosen: str, contest: dict[str, float], epochs: int) -> str:
    why = f"is kept, for no other is surely {GAIN:.0%} better" if chosen == USUAL else "is surely better"
    values = ", ".join(f"{name} {value:.4g}" for name, value in contest.items())
    return f"{chosen} {why}; validation rmse of a network each, after {epochs} epochs: {values}"


def settled(config: Config, race: dict[str, Any]) -> Config:
    """A config and what `choose` gave → the config that names its loss: the one that won, if there was a race."""
    return config.overridden({"train.objective": race.get("chosen", config.objective)})


def _is_open(task: Task) -> bool:
    """Whether the config leaves the choice, and rows and targets are such that another loss may be better."""
    dataset = task.feed.dataset
    if not task.config.races_objectives or dataset.rows["train"] < MIN_ROWS:
        return False
    target = dataset.preprocessor.spec["target"]
    return target["std"] >= SPREAD * target["mean"] > 0 and dataset.smallest_target() >= 0


def _shortened(task: Task) -> Task:
    """The task of one network, some rows and few epochs, of which nobody is told."""
    feed, (rank, size) = task.feed, task.feed.shard
    wanted = math.ceil(feed.dataset.rows["train"] / MAX_ROWS)
    shards = max(1, min(wanted, len(feed.dataset.row_groups("train")) // size))
    if shards > 1:
        feed = replace(feed, shard=(rank, size * shards), _kept=None)
    epochs = math.ceil(task.config.train.epochs / EPOCHS)
    config = task.config.overridden({"train.epochs": epochs, "model.networks": min(task.config.model.networks, 1)})
    return replace(task, config=config, feed=feed, callbacks=[], on_epoch=None)


def _losses(task: Task, name: str, train: Train) -> np.ndarray | None:
    """This process's validation rows → the squared errors of a network that learnt by a loss; None if it diverged."""
    path = task.checkpoint and task.checkpoint.path
    checkpoint = Checkpoint(path.with_name(f"{name}-{path.name}"), task.checkpoint.run_id) if path else None  # type: ignore[union-attr]
    config = task.config.overridden({"train.objective": name})
    try:
        network = train(replace(task, config=config, checkpoint=checkpoint)).model
    except Diverged as error:
        log.warning("train.objective: %s is out: %s", name, error)
        return None
    return np.concatenate([metrics.row_losses(*piece) for piece in predict_pieces(network, task.validation)])


def _rmse(task: Task, losses: np.ndarray) -> float:
    rows, total = task.collective.sum(np.array([len(losses), losses.sum()]))
    return math.sqrt(total / rows)


def _winner(task: Task, losses: dict[str, np.ndarray], contest: dict[str, float]) -> str:
    """The loss of the least RMSE, if it is another than the usual one and better by enough, and surely."""
    best = min(contest, key=contest.__getitem__, default=USUAL)
    if USUAL not in contest or contest[best] > (1 - GAIN) * contest[USUAL]:
        return USUAL
    each = losses[best] - losses[USUAL]
    sums = task.collective.sum(np.array([len(each), each.sum(), (each**2).sum(), (each**3).sum()]))
    means = contest[best] ** 2, contest[USUAL] ** 2
    found = differences.of_moments("rmse", means, differences.Moments.of_sums(*sums), TAIL)
    return best if found.high < 0 else USUAL
