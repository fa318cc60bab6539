"""The one training path: a model, feeds and a `Fit` config in, the best weights and a history out.

train, tune and distributed_train all call `fit`; distribution is handed in as a `Collective`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import keras
import numpy as np

from baton.config.schema import AUGMENT, Config
from baton.data.dataset import Dataset
from baton.data.feed import Feed
from baton.evaluation import thresholds
from baton.networks import build, initialization, optimizers
from baton.networks.prediction import PREDICT_ROWS
from baton.training import flips, loop
from baton.training.augmentation import Augmentation
from baton.training.callbacks import OnEpoch, Result
from baton.training.checkpoints import Checkpoint
from baton.training.collective import Collective, SingleProcess
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
    """Config and dataset → a trained `Result`; raises `Diverged` when the loss is not finite.

    With a `checkpoint` that holds a state, training goes on after its epoch, to the same end.
    `train_shards` > 1 trains on that fraction of the row groups, as trials of a search do. Where a backbone's weights
    are put to use as `train.transfer: auto` finds best, the CNN from scratch is in the `race`; it runs in what `aside`
    gives.
    """
    collective = collective or SingleProcess()
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
    if not config.transfers:
        return train_on(config, feed, validation, collective, callbacks or [], on_epoch, checkpoint)
    config, feed.augmentation = _settled(config, augmentation_of(config, feed, validation, collective))
    task = Task(config, feed, validation, collective, callbacks or [], on_epoch, checkpoint)
    return _with_pictures(policy.train(task, partial(_from_scratch, aside) if race else None), feed)


def _settled(config: Config, augmentation: Augmentation | None) -> tuple[Config, Augmentation | None]:
    """A config that says itself what its pictures are changed by, the flip decided."""
    settings = augmentation.settings.model_dump(mode="json") if augmentation else "none"
    return config.overridden({"train.augment": settings}), augmentation


def _from_scratch(aside: Callable[[], AbstractContextManager[None]], task: Task) -> Result:
    """The same task without the backbone."""
    with aside():
        return train_on(**{**vars(task), "config": without_backbone(task.config)})


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
    model = build.build(preprocessor, config.model)
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
