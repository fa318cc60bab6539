"""The one training path: a model, feeds and a `Fit` config in, the best weights and a history out.

train, tune and distributed_train all call `fit`; distribution is handed in as a `Collective`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import keras
import numpy as np

from baton.config.schema import AUGMENT, Config
from baton.data.dataset import Dataset
from baton.data.feed import Feed
from baton.evaluation import thresholds
from baton.networks import build, initialization, optimizers
from baton.networks.prediction import PREDICT_ROWS
from baton.training import flips, loop, objective_race
from baton.training.augmentation import Augmentation
from baton.training.callbacks import OnEpoch, Result
from baton.training.checkpoints import Checkpoint
from baton.training.collective import Collective, SingleProcess
from baton.training.objectives import demand_targets
from baton.training.transfer import policy
from baton.training.transfer.task import Task

log = logging.getLogger("baton")

PICTURES = 16  # that are shown as they are and as they are trained on


def train(
    config: Config,
    dataset: Dataset,
    *,
    collective: Collective | None = None,
    callbacks: list[keras.callbacks.Callback] | None = None,
    on_epoch: OnEpoch | None = None,
    checkpoint: Checkpoint | None = None,
    train_shards: int = 1,
    race: bool = True,
    aside: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Result:
    """Config and dataset → a trained `Result`; raises `Diverged` when the loss is not finite, `BadInput` for targets
    that it is not made for.

    With a `checkpoint` that holds a state, training goes on after its epoch, to the same end.
    `train_shards` > 1 trains on that fraction of the row groups, as trials of a search do. With a `race`, several
    losses compete for what `train.objective: race` means, and where a backbone's weights are put to use as
    `train.transfer: auto` finds best, the CNN from scratch competes, too; they run in what `aside` gives.
    """
    collective = collective or SingleProcess()
    demand_targets(config, dataset)
    config = without_backbone(config) if config.train.transfer == "scratch" else config
    config = config.sized(dataset.rows["train"])
    shard = (collective.rank, collective.size)
    feed = Feed(
        dataset,
        "train",
        config.train.batch_size,
        seed=config.seed,
        shard=shard if train_shards == 1 else (0, train_shards),
        shuffle_rows=config.train.shuffle_rows,
        block_batches=config.train.steps_per_execution,
        class_weights=thresholds.weights(config.train.class_weights, dataset.preprocessor.spec["target"]),
    )
    validation = Feed(dataset, "validation", PREDICT_ROWS, shard=shard, shuffle_rows=config.train.shuffle_rows)
    task = Task(config, feed, validation, collective, callbacks or [], on_epoch, checkpoint)
    if not config.transfers:
        found = objective_race.choose(task, partial(_aside, aside)) if race else {}
        task = replace(task, config=objective_race.settled(config, found))
        return replace(train_on(**vars(task)), objective=found)
    config, feed.augmentation = _settled(config, augmentation_of(config, feed, validation, collective))
    task = replace(task, config=config)
    return _with_pictures(policy.train(task, partial(_from_scratch, aside) if race else None), feed)


def _settled(config: Config, augmentation: Augmentation | None) -> tuple[Config, Augmentation | None]:
    """A config that says itself what its pictures are changed by, the flip decided."""
    settings = augmentation.settings.model_dump(mode="json") if augmentation else "none"
    return config.overridden({"train.augment": settings}), augmentation


def _from_scratch(aside: Callable[[], AbstractContextManager[None]], task: Task) -> Result:
    """The same task without the backbone."""
    return _aside(aside, replace(task, config=without_backbone(task.config)))


def _aside(aside: Callable[[], AbstractContextManager[None]], task: Task) -> Result:
    with aside():
        return train_on(**vars(task))


def without_backbone(config: Config) -> Config:
    """The config of the default network."""
    return config.overridden({"model.backbone": None, "model.weights": "none"})


def train_on(
    config: Config,
    feed: Feed,
    validation: Feed,
    collective: Collective,
    callbacks: list[keras.callbacks.Callback],
    on_epoch: OnEpoch | None = None,
    checkpoint: Checkpoint | None = None,
) -> Result:
    """Config, its sizes filled in, and feeds → a new network, trained."""
    preprocessor = feed.preprocessor
    feed.augmentation = augmentation_of(config, feed, validation, collective)
    keras.utils.set_random_seed(config.seed)  # not sooner: what is imported when rows are first read draws numbers too
    model = build.build(preprocessor, config.model, config.train.objective)
    initialization.initialize(model, preprocessor, feed.in_order())
    made = optimizers.optimizer(config.train, feed.steps)
    optimizers.compile_model(model, preprocessor, config.train, collective.distribute(made))
    result = loop.fit(model, feed, validation, config, collective, callbacks, on_epoch, checkpoint)
    return _with_pictures(result, feed)


def _with_pictures(result: Result, feed: Feed) -> Result:
    if feed.augmentation:
        result.augmentation, result.pictures = feed.augmentation.to_dict(), _before_and_after(feed)
    return result


def augmentation_of(config: Config, feed: Feed, validation: Feed, collective: Collective) -> Augmentation | None:
    """What the config does to pictures; whether they may be flipped, the first process finds out for all."""
    settings = AUGMENT if config.train.augment == "auto" else config.train.augment
    if settings == "none" or not feed.preprocessor.names("image"):
        return None
    if settings.flip == "auto":
        mine = collective.rank == 0 and flips.classes_stay(next(feed.in_order()), next(validation.in_order()))
        settings = settings.model_copy(update={"flip": bool(collective.sum(np.array([float(mine)]))[0])})
    augmentation = Augmentation(settings, config.seed, len(feed.preprocessor.classes))
    log.info("pictures are augmented: %s", augmentation)
    return augmentation


def _before_and_after(feed: Feed) -> tuple[np.ndarray, np.ndarray]:
    """A few train pictures, and what the first epoch makes of them."""
    rows = {name: values[:PICTURES].copy() for name, values in next(feed.in_order()).items()}
    return rows["image"], feed.augmentation(rows, 0, PICTURES)["image"]
