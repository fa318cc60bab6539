"""A dataset in, out-of-fold outputs out: every row of train and validation judged by a network that never saw it.

The rows are dealt into folds; for each fold a network learns from (a sample of) the others, by the one
training path, and answers for its own. How many epochs it learns, and of how many rows, hangs on the
seconds there are: the first blocks of rows tell what an epoch will take.
"""

from __future__ import annotations

import gc
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from baton import names
from baton.config.schema import Audit, Config
from baton.data.dataset import Dataset
from baton.data.feed import Block, Feed, HeldFeed
from baton.data.preprocessing import Preprocessor
from baton.errors import OverBudget
from baton.inspection.probe_judges import ProbeJudges, affordable
from baton.networks import prediction
from baton.training import fit
from baton.training.collective import SingleProcess

log = logging.getLogger("baton")


SPLITS = names.SPLITS[:2]
PROBED = 0.25  # of a fold's seconds, after which its epochs may be planned anew
NETWORKS = 2  # a fold, side by side, at most: more of them would get fewer epochs in these seconds
JUDGING = 0.1  # of all seconds, kept for what follows: judging the outputs, the table, the figures
ANSWERING = 0.3  # of what learning a row takes, what answering for one does
BLOCKS = 4  # an epoch, at least: after the second is known what it will take
MIN_LEARNT = 100  # rows; a network that has seen fewer can judge no label
ANSWERED_AGAIN = 1.0  # other rows that each fold answers for, as a share of its own, about
MAP_SIDE = 8  # pixels of the shorter side, to which pooling brings pictures at least
HEAD: list[dict[str, Any]] = [
    {"type": "flatten"},
    {"type": "dense", "units": 128, "activation": "relu"},
    {"type": "dropout", "rate": 0.3},
]
HELD_OUT = 0.1  # of the rows a network learns from, to choose its best epoch: never the fold that it judges


class LearningRows:
    """The rows of train and validation, one after the other, as the network's inputs and `target`."""

    def __init__(self, dataset: Dataset):
        self.feeds = {s: Feed(dataset, s, prediction.PREDICT_ROWS) for s in SPLITS if dataset.rows[s]}
        self.targets = np.concatenate([piece["target"] for _, piece in self.pieces()])

    def pieces(self) -> Iterator[tuple[np.ndarray, Block]]:
        """Pieces of rows, each with the numbers of its rows."""
        start = 0
        for feed in self.feeds.values():
            for piece in feed.in_order():
                size = len(piece["target"])
                yield np.arange(start, start + size), piece
                start += size

    def take(self, wanted: np.ndarray) -> Block:
        """The rows of these numbers, which are sorted."""
        parts = []
        for numbers, piece in self.pieces():
            inside = wanted[(wanted >= numbers[0]) & (wanted <= numbers[-1])] - numbers[0]
            parts.append({name: values[inside] for name, values in piece.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def places(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of rows → the split of each, and its number in that; what lies behind the last split is test."""
        starts = np.cumsum([0, *(feed.rows for feed in self.feeds.values())])
        at = np.searchsorted(starts, numbers, side="right") - 1
        return np.array([*self.feeds, "test"])[at], numbers - starts[at]


@dataclass(frozen=True)
class OutOfFold:
    """Outputs [rows, k] of networks that had not seen the row; those for `other` rows are the folds' mean."""

    outputs: np.ndarray
    other: np.ndarray
    learnt: int  # rows that each network learnt from, about
    epochs: int


def out_of_fold(
    config: Config,
    preprocessor: Preprocessor,
    rows: LearningRows,
    settings: Audit,
    judge: Callable[[keras.Model], np.ndarray],
    started: float | None = None,
) -> OutOfFold:
    """Rows → `OutOfFold`; `judge` asks a network for the other rows' outputs. Raises `Diverged` and `OverBudget`.

    The seconds count from `started`, of `time.monotonic`: by default from now.
    """
    started = time.monotonic() if started is None else started
    end = started + (1 - JUDGING) * settings.seconds
    rng = np.random.default_rng(config.seed)
    folds = assign_folds(rows.targets, settings.folds, rng)
    sample = np.sort(rng.permutation(len(folds))[: settings.rows])
    learner = _Learner(config, preprocessor, rows.take(sample), settings.folds, rng, len(folds))
    outputs, others, answering = None, [], 0.0
    for fold in range(settings.folds):
        interrupted = time.monotonic()
        remaining = (end - interrupted) / (settings.folds - fold) - answering
        network = learner.learn(folds[sample] != fold, remaining, settings.folds - fold, foreseeing=fold == 0)
        learnt = time.monotonic()
        found = _answers(network, preprocessor, rows, folds == fold)
        outputs = np.zeros((len(folds), found.shape[1]), np.float32) if outputs is None else outputs
        outputs[folds == fold] = found
        others.append(judge(network))
        answering = time.monotonic() - learnt
        spent = time.monotonic() - interrupted
        log.info("audit: fold %d of %d, %d epochs, %.1f s", fold + 1, settings.folds, learner.epochs, spent)
        del network
        gc.collect()  # Keras' models hold themselves in cycles
    assert outputs is not None
    return OutOfFold(outputs, np.mean(others, axis=0), learner.most, learner.epochs)


def assign_folds(targets: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Targets [rows] → a fold a row, at random; each class, or range of the target, in even shares."""
    shuffled = rng.permutation(len(targets))
    order = shuffled[np.argsort(targets[shuffled], kind="stable")]
    found = np.empty(len(targets), int)
    found[order] = np.arange(len(targets)) % folds
    return found


class _Learner:
    """Trains a network a fold: `epochs` times over `most` of the rows in `held`, fewer of both where time is short."""

    def __init__(
        self, config: Config, preprocessor: Preprocessor, held: Block, folds: int, rng: np.random.Generator, judged: int
    ):
        self.preprocessor, self.held, self.rng = preprocessor, held, rng
        self.limit, self.most = len(held["target"]), round(len(held["target"]) * (1 - 1 / folds))
        self.config = quick(config, preprocessor).sized(self.most)
        self.config = self.config.overridden({"model.networks": min(self.config.model.networks, NETWORKS)})
        self.judged = judged / folds  # rows that a network answers for
        self.judges: ProbeJudges | None = None

    @property
    def epochs(self) -> int:
        return self.config.train.epochs

    def learn(self, mine: np.ndarray, seconds: float, folds: int, *, foreseeing: bool) -> keras.Model:
        """Which of the rows to learn from within so many seconds, as each of the `folds` left → a network."""
        numbers = self.rng.permutation(np.flatnonzero(mine))
        if foreseeing and self.config.transfers:
            self._ask_backbone(seconds * folds, folds)
        if self.judges:
            aside, most = self._aside(numbers)
            return self.judges.learnt(most, aside)
        ended = time.monotonic() + seconds * folds
        budget = self._budget(seconds, folds, numbers, foreseeing=foreseeing)
        network = _trained(self.config, self.preprocessor, self._parts(numbers), budget)
        if budget.share < 1:
            self._learn_fewer(budget)
            budget = self._budget((ended - time.monotonic()) / folds, folds, numbers)
            network = _trained(self.config, self.preprocessor, self._parts(numbers), budget)
        elif budget.affordable:  # fewer epochs than planned: their learning rates are planned anew
            log.info("audit: %d epochs would take too long: %d", self.epochs, budget.affordable)
            self.config = self.config.overridden({"train.epochs": budget.affordable})
            budget = self._budget(max(1.0, (ended - time.monotonic()) / folds), 0, numbers)
            network = _trained(self.config, self.preprocessor, self._parts(numbers), budget)
        if budget.over:  # the folds to come learn no more than this one had time for
            self.config = self.config.overridden({"train.epochs": max(1, len(budget.took))})
        return network

    def _ask_backbone(self, seconds: float, folds: int) -> None:
        """Let a frozen backbone judge, if it can look at all pictures once and at what is judged in that time."""
        judges = ProbeJudges(self.config, self.preprocessor, self.held)
        looks = len(self.held["target"]) + round(self.judged * folds * (1 + ANSWERED_AGAIN))
        if affordable(judges, looks, seconds):
            self.judges, self.config = judges, self.config.overridden({"train.epochs": 1})

    def _learn_fewer(self, budget: TimeBudget) -> None:
        """Take only the share of the rows from here on that there is time for, once; raises `OverBudget` for a few."""
        fewer = int(budget.share * self.most)
        if fewer < min(MIN_LEARNT, self.most):
            raise OverBudget(
                f"each fold has {budget.seconds:.2g} s, and would take about {budget.needed:.2g} s to learn from "
                f"{self.most:,} rows once and to answer; {MIN_LEARNT} rows would take too long as well."
            )
        log.info("audit: an epoch of %s rows would take too long: %s, once", f"{self.most:,}", f"{fewer:,}")
        self.limit = self.most = fewer
        self.config = self.config.overridden({"train.epochs": 1})

    def _budget(self, seconds: float, folds: int, numbers: np.ndarray, *, foreseeing: bool = False) -> TimeBudget:
        learnt = min(self.most, len(numbers)) * (1 - HELD_OUT)
        return TimeBudget(seconds, folds, ANSWERING * self.judged / learnt, foreseeing=foreseeing)

    def _parts(self, numbers: np.ndarray) -> list[Block]:
        """Numbers of rows, in an order by chance → those to learn from, and those that choose the best epoch."""
        aside, most = self._aside(numbers)
        return [{name: values[part] for name, values in self.held.items()} for part in (most, aside)]

    def _aside(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        numbers = numbers[: self.limit]
        aside = max(1, round(HELD_OUT * len(numbers)))
        return numbers[:aside], numbers[aside:]


def quick(config: Config, preprocessor: Preprocessor) -> Config:
    """The config, of pictures with a small network in place of the default.

    That one needs minutes; in the seconds of a fold it learns so little that it takes one label in three for wrong.
    """
    model = config.model
    if not preprocessor.names("image") or model.layers or model.graph or model.recipe == "linear":
        return config
    stages = max(2, math.ceil(math.log2(min(preprocessor.image_shape[:2]) / MAP_SIDE)))
    return config.overridden(
        {
            "model.layers": [layer for stage in range(stages) for layer in _stage(32 if stage == 0 else 64)] + HEAD,
            "train.augment": "none",
            "train.label_smoothing": 0.0,
            "train.weight_average": 0.0,
        }
    )


def _stage(filters: int) -> list[dict[str, Any]]:
    convolution = {"type": "conv2d", "filters": filters, "kernel_size": 3, "padding": "same", "activation": "relu"}
    return [convolution, {"type": "max_pooling2d"}]


def _trained(config: Config, preprocessor: Preprocessor, parts: list[Block], budget: TimeBudget) -> keras.Model:
    blocks = max(1, min(config.train.steps_per_execution, len(parts[0]["target"]) // config.train.batch_size // BLOCKS))
    options: dict[str, Any] = {"dataset": _PreprocessorOnly(preprocessor), "split": names.SPLITS[0]}
    feed = HeldFeed(
        **options, batch_size=config.train.batch_size, seed=config.seed, held=parts[0],
        block_batches=blocks,
    )  # fmt: skip
    validation = HeldFeed(**options, batch_size=prediction.PREDICT_ROWS, held=parts[1])
    config = fit.without_backbone(config)  # folds are many and rows few: a small network judges them
    return fit.train_on(config, feed, validation, SingleProcess(), [budget]).model


@dataclass(frozen=True)
class _PreprocessorOnly:
    """What a feed of held rows needs of a dataset."""

    preprocessor: Preprocessor


class TimeBudget(keras.callbacks.Callback):
    """Stops a training that would not end in its seconds.

    If it is `foreseeing`, the second block of rows (the first is slow: it traces) tells what an epoch takes. If
    not even one would fit, together with the answers, which take as long as `answers` epochs, the training
    is stopped, and `share` says of how many of the rows one would. When a quarter of the seconds is over, the
    quickest epoch since the first tells it better. If those planned would not fit, the training is stopped,
    and `affordable` says how many would, for this and the other `folds` that are left. Without `folds` it is
    only stopped at the end.
    """

    def __init__(self, seconds: float, folds: int = 0, answers: float = 0.0, *, foreseeing: bool = False):
        super().__init__()
        self.foreseeing = foreseeing
        self.seconds, self.folds, self.answers = seconds, folds, answers
        self.affordable, self.share, self.needed, self.over = 0, 1.0, 0.0, False
        self.started, self.block = time.monotonic(), 0.0
        self.took: list[float] = []

    def spent(self) -> float:
        return time.monotonic() - self.started

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.interrupted = self.spent()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        before, self.block = self.block, self.spent()
        if batch == 1 and not self.took and self.foreseeing:
            self._foresee((self.block - before) * self.params["steps"], before)
        if self.spent() > self.seconds:
            self.over = self.model.stop_training = True
            if self.foreseeing and not self.took and self.share == 1:  # a part of an epoch teaches nothing
                self.share, self.needed = 0.0, self.spent()

    def _foresee(self, epoch: float, before: float) -> None:
        """What an epoch will take, and what went before it → whether there is time for one."""
        self.needed = before + (1 + self.answers) * epoch
        if self.needed > self.seconds:
            left = (self.seconds * self.folds - self.spent()) / self.folds
            self.share = float(np.clip((left - before - self.answers * epoch) / epoch, 0, 0.99))
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.took.append(self.spent() - self.interrupted)
        if not self.folds or epoch == 0 or self.spent() < PROBED * self.seconds:
            return
        planned, quickest = self.params["epochs"], min(self.took[1:])
        seconds = self.seconds - self.answers * quickest
        if epoch + 1 < planned and self.spent() + (planned - epoch - 1) * quickest > seconds:
            left = (seconds * self.folds - self.spent()) / self.folds - max(0.0, self.took[0] - quickest)
            self.affordable = int(np.clip(left / quickest, 1, planned - 1))
            self.model.stop_training = True
        self.folds = 0  # asked once: later, less is gained by starting anew


def _answers(network: keras.Model, preprocessor: Preprocessor, rows: LearningRows, asked: np.ndarray) -> np.ndarray:
    """A network's outputs on those rows that are asked for, in order [rows, k]."""
    found = []
    for numbers, piece in rows.pieces():
        inside = asked[numbers]
        inputs = {name: values[inside] for name, values in piece.items() if name != "target"}
        found.append(prediction.probabilities(prediction.predict(network, inputs), preprocessor.classes))
    return np.concatenate(found)
