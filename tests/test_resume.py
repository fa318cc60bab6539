"""Work that is killed goes on from what it left, and ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import killed_training
import numpy as np
import pytest
from killed_training import Kill

from baton import checkpoints, fit
from baton.checkpoints import Checkpoint

ROOT = Path(__file__).parent.parent
EPOCHS = 5
CHANGES = {
    "model.hidden": [8, 8],
    "model.dropout": 0.3,
    "model.batch_normalization": True,
    "train.optimizer": "adamw",
    "train.schedule": "cosine",
    "train.learning_rate": 0.02,
    "train.warmup_epochs": 0.5,
    "train.epochs": EPOCHS,
    "train.steps_per_execution": 3,
}


class Killed(Exception):
    """What a callback raises in the middle of an epoch."""


def killed() -> None:
    raise Killed


def same(one: fit.Result, other: fit.Result) -> bool:
    """Bit-identical weights and the same way to them."""
    pairs = zip(one.model.get_weights(), other.model.get_weights(), strict=True)
    way = [(r.history, r.best_epoch, r.best_value) for r in (one, other)]
    return all(a.tobytes() == b.tobytes() for a, b in pairs) and way[0] == way[1]


@pytest.fixture(scope="module")
def work(regression):
    """A config with all that is random or has a state, its dataset, and the undisturbed result."""
    config, dataset = regression
    config = config.overridden(CHANGES)
    return config, dataset, fit.train(config, dataset)


@pytest.mark.parametrize("epoch", range(EPOCHS))
def test_a_training_stopped_in_any_epoch_ends_the_same(work, tmp_path, epoch):
    config, dataset, undisturbed = work
    checkpoint, told = Checkpoint(tmp_path / "epoch.npz", "one"), []
    with pytest.raises(Killed):
        fit.train(config, dataset, callbacks=[Kill(epoch, killed)], checkpoint=checkpoint)
    assert checkpoint.path.exists() == (epoch > 0)
    begun = []
    spy = Kill(-2, None)
    spy.on_train_batch_end = lambda batch, logs=None: begun.append(spy.now)
    resumed = fit.train(
        config, dataset, callbacks=[spy], checkpoint=checkpoint, on_epoch=lambda e, logs: told.append((e, logs))
    )
    assert min(begun) == epoch  # nothing was trained twice
    assert same(resumed, undisturbed)
    assert [e for e, _ in told] == list(range(EPOCHS))
    assert {name: [logs[name] for _, logs in told] for name in resumed.history} == resumed.history


def test_a_training_stopped_time_and_again_stops_early_where_it_should(work, tmp_path):
    """Stopped after every epoch, so that best weights and patience pass through four checkpoints."""
    config, dataset, _ = work
    config = config.overridden({"train.patience": 1, "train.learning_rate": 0.3, "train.epochs": 12})
    undisturbed = fit.train(config, dataset)
    ran = len(undisturbed.history["loss"])
    assert 1 < ran < 12
    checkpoint = Checkpoint(tmp_path / "epoch.npz")
    for epoch in range(1, ran):
        with pytest.raises(Killed):
            fit.train(config, dataset, callbacks=[Kill(epoch, killed)], checkpoint=checkpoint)
    assert same(fit.train(config, dataset, checkpoint=checkpoint), undisturbed)
    # Killed after the last epoch: there is nothing to train, and the best weights are there.
    nothing = Kill(-2, None)
    nothing.on_train_batch_end = lambda batch, logs=None: killed()
    assert same(fit.train(config, dataset, callbacks=[nothing], checkpoint=checkpoint), undisturbed)


def test_a_killed_process_leaves_a_checkpoint_that_another_goes_on_from(work, tmp_path):
    config, dataset, undisturbed = work
    path = tmp_path / "epoch.npz"
    command = [sys.executable, killed_training.__file__, json.dumps(config.dump()), str(dataset.folder), str(path), "3"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    assert subprocess.run(command, env=environment, timeout=120, check=False).returncode == -signal.SIGKILL
    state = Checkpoint(path).load()
    assert (state.epoch, state.run_id) == (2, "killed")
    resumed = fit.train(config, dataset, checkpoint=Checkpoint(path))
    assert same(resumed, undisturbed)


def test_a_damaged_checkpoint_is_ignored_with_a_warning(work, tmp_path, caplog):
    config, dataset, undisturbed = work
    checkpoint = Checkpoint(tmp_path / "epoch.npz")
    with pytest.raises(Killed):
        fit.train(config, dataset, callbacks=[Kill(2, killed)], checkpoint=checkpoint)
    whole = checkpoint.path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, meta=np.array([{"run_id": "x"}], dtype=object))
    for bad in (b"", whole[: len(whole) // 2], whole[:-1], bytes(flipped), pickled.read_bytes(), b"no such thing"):
        checkpoint.path.write_bytes(bad)
        caplog.clear()
        assert checkpoint.load() is None
        assert "damaged and not used" in caplog.text
    assert same(fit.train(config, dataset, checkpoint=checkpoint), undisturbed)


def test_a_checkpoint_of_another_network_is_not_used(work, tmp_path, caplog):
    config, dataset, _ = work
    checkpoint = Checkpoint(tmp_path / "epoch.npz")
    fit.train(config.overridden({"model.hidden": [4], "train.epochs": 1}), dataset, checkpoint=checkpoint)
    fit.train(config.overridden({"train.epochs": 1}), dataset, checkpoint=checkpoint)
    assert "is of another network" in caplog.text


def test_a_folder_belongs_to_the_same_work_and_to_one_process(work, tmp_path, caplog):
    config, dataset, _ = work
    config = config.overridden({"warehouse": str(tmp_path)})
    run = SimpleNamespace(id="r")
    places = []
    for changes in ({}, {"seed": 1}, {"train.epochs": 6}, {"model.dropout": 0.4}, {"register.tolerance": 1.0}):
        with (
            pytest.raises(Killed),
            checkpoints.claimed(config.overridden(changes), "train", dataset, run) as folder,
        ):
            (folder / "left").touch()
            places.append(folder)
            raise Killed
    assert len(set(places)) == 4 and places[0] == places[4]  # the gate is none of training's business
    with checkpoints.claimed(config, "train", dataset, run) as folder:
        assert (folder / "left").exists()  # what the interrupted one left
        with checkpoints.claimed(config, "train", dataset, run) as other:
            assert other != folder and "Another process does the same work" in caplog.text
        assert folder.exists() and not other.exists()
    assert not folder.exists()  # removed once the work is through
