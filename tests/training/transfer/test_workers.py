"""Two real Horovod workers and a base: each sees its own pictures, and both come to one network.

A worker compares the ranks' weights bit by bit and ends with an error where they differ.
"""

import shutil

import numpy as np
import pytest

from baton.data.feed import Feed
from baton.networks import prediction
from baton.training import distributed, fit
from baton.training.transfer import features


def test_two_workers_probe_and_fine_tune_as_one(striped, tmp_path):
    config, dataset = striped
    alone = fit.train(config.overridden({"train.transfer": "probe"}), dataset)
    shutil.rmtree(dataset.folder / features.FOLDER)
    config = config.overridden({"train.transfer": "head_then_blocks", "distributed_train.workers": 2})
    result = distributed.train(config, dataset, tmp_path / "job", lambda epoch, logs: None)
    for ours, theirs in zip(result.transfer["depths"], alone.transfer["depths"], strict=True):
        assert ours["penalty"] == theirs["penalty"]
        assert ours["log_loss"] == pytest.approx(theirs["log_loss"], rel=1e-3)
        assert ours["accuracy"] == pytest.approx(theirs["accuracy"])
    kept = sorted(file.name.split("-", 1)[1] for file in (dataset.folder / features.FOLDER).iterdir())
    assert kept == [
        *(f"train-{rank}-of-2-{rows}.npz" for rank, rows in enumerate(_shards(dataset, "train"))),
        *(f"validation-{rank}-of-2-{rows}.npz" for rank, rows in enumerate(_shards(dataset, "validation"))),
    ]
    assert len(result.history["loss"]) == 2
    targets, output = prediction.predict_all(result.model, Feed(dataset, "validation", 64))
    assert result.best_value == pytest.approx(-np.log(output[np.arange(len(targets)), targets]).mean(), rel=1e-4)


def _shards(dataset, split):
    return [sum(dataset.row_groups(split)[rank::2]) for rank in (0, 1)]
