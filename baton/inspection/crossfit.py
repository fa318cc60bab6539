"""A dataset in, out-of-fold outputs out: every row of train and validation judged by a network that never saw it.

The rows are dealt into folds; for each fold a network learns from (a sample of) the others, by the one
training path, and answers for its own. How many epochs it learns hangs on the seconds there are.
"""

from __future__ import annotations

import gc
import logging
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
from baton.networks import prediction
from baton.training import fit
from baton.training.collective import SingleProcess

log = logging.getLogger("baton")


SPLITS = names.SPLITS[:2]
PROBED = 0.25  # of a fold's seconds, after which its epochs may be planned anew
NETWORKS = 2  # a fold, side by side, at most: more of them would get fewer epochs in these seconds
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

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Of every row, its split and its number in that."""
        sizes = {split: feed.rows for split, feed in self.feeds.items()}
        return np.repeat(list(sizes), list(sizes.values())), np.concatenate([np.arange(n) for n in sizes.values()])


@dataclass(frozen=True)
class OutOfFold:
    """Outputs [rows, k] of networks that had not seen the row; those for `other` rows are the folds' mean."""

    outputs: np.ndarray
    other: np.ndarray
    learnt: int  # rows that each network learnt from, about
    epochs: int
    seconds: float


def out_of_fold(
    config: Config,
    preprocessor: Preprocessor,
    rows: LearningRows,
    settings: Audit,
    judge: Callable[[keras.Model], np.ndarray],
) -> OutOfFold:
    """Rows → `OutOfFold`; `judge` asks a network for the other rows' outputs. Raises `Diverged`."""
    started = time.monotonic()
    rng = np.random.default_rng(config.seed)
    folds = assign_folds(rows.targets, settings.folds, rng)
    sample = np.sort(rng.permutation(len(folds))[: settings.rows])
    held = rows.take(sample)
    learnt = round(len(sample) * (1 - 1 / settings.folds))
    config = config.sized(learnt)
    config = config.overridden({"model.networks": min(config.model.networks, NETWORKS)})
    outputs, others = None, []
    for fold in range(settings.folds):
        interrupted = time.monotonic()
        remaining = (started + settings.seconds - interrupted) / (settings.folds - fold)
        network, config = _learn(
            config, preprocessor, held, folds[sample] != fold, remaining, settings.folds - fold, rng
        )
        found = _answers(network, preprocessor, rows, folds == fold)
        outputs = np.zeros((len(folds), found.shape[1]), np.float32) if outputs is None else outputs
        outputs[folds == fold] = found
        others.append(judge(network))
        spent = time.monotonic() - interrupted
        log.info("audit: fold %d of %d, %d epochs, %.1f s", fold + 1, settings.folds, config.train.epochs, spent)
        del network
        gc.collect()  # Keras' models hold themselves in cycles
    assert outputs is not None
    seconds = time.monotonic() - started
    return OutOfFold(outputs, np.mean(others, axis=0), learnt, config.train.epochs, seconds)


def assign_folds(targets: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Targets [rows] → a fold a row, at random; each class, or range of the target, in even shares."""
    shuffled = rng.permutation(len(targets))
    order = shuffled[np.argsort(targets[shuffled], kind="stable")]
    found = np.empty(len(targets), int)
    found[order] = np.arange(len(targets)) % folds
    return found


def _learn(
    config: Config, preprocessor: Preprocessor, held: Block, mine: np.ndarray, seconds: float, folds: int,
    rng: np.random.Generator,
) -> tuple[keras.Model, Config]:  # fmt: skip
    """Rows, and which of them to learn from within so many seconds → a network, and the config it took."""
    numbers = rng.permutation(np.flatnonzero(mine))
    aside = max(1, round(HELD_OUT * len(numbers)))
    parts = [{name: values[part] for name, values in held.items()} for part in (numbers[aside:], numbers[:aside])]
    budget = TimeBudget(seconds, folds)
    network = _trained(config, preprocessor, parts, budget)
    if budget.affordable:  # fewer epochs than planned: their learning rates are planned anew
        log.info("audit: %d epochs would take too long: %d", config.train.epochs, budget.affordable)
        config = config.overridden({"train.epochs": budget.affordable})
        network = _trained(
            config, preprocessor, parts, TimeBudget(max(1.0, (seconds * folds - budget.spent()) / folds))
        )
    return network, config


def _trained(config: Config, preprocessor: Preprocessor, parts: list[Block], budget: TimeBudget) -> keras.Model:
    keras.utils.set_random_seed(config.seed)
    options: dict[str, Any] = {"dataset": _PreprocessorOnly(preprocessor), "split": names.SPLITS[0]}
    feed = HeldFeed(
        **options, batch_size=config.train.batch_size, seed=config.seed, held=parts[0],
        block_batches=config.train.steps_per_execution,
    )  # fmt: skip
    validation = HeldFeed(**options, batch_size=prediction.PREDICT_ROWS, held=parts[1])
    return fit.train_on(config, feed, validation, SingleProcess(), [budget]).model


@dataclass(frozen=True)
class _PreprocessorOnly:
    """What a feed of held rows needs of a dataset."""

    preprocessor: Preprocessor


class TimeBudget(keras.callbacks.Callback):
    """Stops a training that would not end in its seconds.

    When a quarter of them is over, the quickest epoch since the first (which is slow: it traces) tells what
    an epoch takes. If those planned would not fit, the training is stopped, and `affordable` says how many
    would, for this and the other `folds` that are left. Without `folds` it is only stopped at the end.
    """

    def __init__(self, seconds: float, folds: int = 0):
        super().__init__()
        self.seconds, self.folds, self.affordable = seconds, folds, 0
        self.started = time.monotonic()
        self.took: list[float] = []

    def spent(self) -> float:
        return time.monotonic() - self.started

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.interrupted = self.spent()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.spent() > self.seconds:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.took.append(self.spent() - self.interrupted)
        if not self.folds or epoch == 0 or self.spent() < PROBED * self.seconds:
            return
        planned, quickest = self.params["epochs"], min(self.took[1:])
        if self.spent() + (planned - epoch - 1) * quickest > self.seconds:
            left = (self.seconds * self.folds - self.spent()) / self.folds - max(0.0, self.took[0] - quickest)
            self.affordable = int(np.clip(left / quickest, 1, planned - 1))
            self.model.stop_training = True
        self.folds = 0  # asked once: later, less is gained by starting anew


def _answers(network: keras.Model, preprocessor: Preprocessor, rows: LearningRows, asked: np.ndarray) -> np.ndarray:
    """A network's outputs on those rows that are asked for, in order [rows, k]."""
    found = []
    for numbers, piece in rows.pieces():
        inside = asked[numbers]
        inputs = {name: values[inside] for name, values in piece.items() if name != "target"}
        found.append(prediction.probabilities(prediction.predict(network, inputs, preprocessor), preprocessor.classes))
    return np.concatenate(found)
