"""A task of numbers in, the loss that its network should learn by out: what `train.objective: race` means.

One network a loss is trained, and validation compares them by RMSE. No loss is the best of every table. To the end, for
what learns sooner is not what learns more: after a third of the epochs poisson was 16 % ahead on a table where it ended
behind.
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
OUT = 1.1  # times the usual loss's RMSE: what is worse keeps those that come after it from being tried
GAIN = 0.03  # of the usual loss's RMSE, at least, that another one must save: by less validation misleads
TAIL = 0.025  # the chance that a gain is none

Train = Callable[[Task], Result]


def choose(task: Task, train: Train) -> dict[str, Any]:
    """A task → what `train` has made of each loss and which one won; empty where there is nothing to choose.

    Others than the usual one are tried one after the other, as long as the one before was not far off.
    """
    if not task.config.races_objectives:
        return {}
    if task.feed.dataset.smallest_target() < 0 or task.feed.preprocessor.spec["target"]["mean"] <= 0:
        log.info("train.objective: %s, for others want targets of 0 or more", USUAL)
        return {}
    losses, contest = dict[str, np.ndarray](), dict[str, float]()
    for name in (USUAL, *OTHERS):
        if (squares := _losses(task, name, train)) is not None:
            losses[name], contest[name] = squares, _rmse(task, squares)
        if USUAL not in contest or contest.get(name, math.inf) > OUT * contest[USUAL]:
            break  # without the usual one nothing can be compared, and what an exponent spoils it spoils for all
    chosen = _winner(task, losses, contest)
    reason = _reason(chosen, contest)
    log.info("train.objective: %s", reason)
    return {"chosen": chosen, "contest": contest, "reason": reason}


def _reason(chosen: str, contest: dict[str, float]) -> str:
    why = f"is kept, for no other is surely {GAIN:.0%} better" if chosen == USUAL else "is surely better"
    values = ", ".join(f"{name} {value:.4g}" for name, value in contest.items())
    return f"{chosen} {why}; validation rmse of a network each: {values}"


def settled(config: Config, race: dict[str, Any]) -> Config:
    """A config and what `choose` gave → the config that names its loss: the one that won, if there was a race."""
    return config.overridden({"train.objective": race.get("chosen", config.objective)})


def _losses(task: Task, name: str, train: Train) -> np.ndarray | None:
    """This process's validation rows → the squared errors of a network that learnt by a loss; None if it diverged."""
    path = task.checkpoint and task.checkpoint.path
    checkpoint = Checkpoint(path.with_name(f"{name}-{path.name}"), task.checkpoint.run_id) if path else None  # type: ignore[union-attr]
    config = task.config.overridden({"train.objective": name, "model.networks": 1})
    try:
        network = train(replace(task, config=config, callbacks=[], on_epoch=None, checkpoint=checkpoint)).model
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
