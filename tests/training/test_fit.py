"""The training path: losses fall, the best weights win, and the same config gives the same weights."""

import threading

import keras
import numpy as np
import pytest
from sklearn.metrics import log_loss, root_mean_squared_error

from baton.data.feed import Feed
from baton.errors import Diverged
from baton.networks import build, prediction
from baton.runtime import heartbeat
from baton.training import fit
from baton.training.checkpoints import Checkpoint
from baton.training.collective import SingleProcess


def validation_output(result, dataset):
    rows = Feed(dataset, "validation", 64).arrays()
    targets = rows.pop("target")
    return targets, prediction.probabilities(prediction.predict(result.model, rows), dataset.preprocessor.classes)


def rounded(probabilities: np.ndarray) -> np.ndarray:
    """float32 probabilities as float64 ones that sum to one as closely as scikit-learn asks."""
    wide = probabilities.astype(np.float64)
    return wide / wide.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def trained(regression, tmp_path_factory):
    """A training of 6 epochs with a checkpoint, and what on_epoch was told."""
    config, dataset = regression
    told = []
    checkpoint = tmp_path_factory.mktemp("fit") / "deeper" / "epoch.npz"
    result = fit.train(
        config.overridden({"train.epochs": 6, "train.learning_rate": 0.02}),
        dataset,
        on_epoch=lambda epoch, logs: told.append((epoch, logs)),
        checkpoint=Checkpoint(checkpoint),
    )
    return dataset, result, told, checkpoint


def test_the_loss_goes_down(trained):
    _, result, _, _ = trained
    for name in ("loss", "rmse", "val_rmse", "val_mae"):
        curve = result.history[name]
        assert len(curve) == 6 and curve[-1] < 0.7 * curve[0], name
    assert result.seconds > 0


def test_every_epoch_is_told(trained):
    _, result, told, _ = trained
    assert [epoch for epoch, _ in told] == list(range(6))
    assert {name: [logs[name] for _, logs in told] for name in result.history} == result.history
    assert result.history["learning_rate"] == sorted(result.history["learning_rate"], reverse=True)


def test_the_validation_metric_is_sklearns_of_the_restored_weights(trained):
    dataset, result, _, _ = trained
    targets, output = validation_output(result, dataset)
    assert len(targets) == dataset.rows["validation"]
    assert result.best_value == pytest.approx(root_mean_squared_error(targets, output[:, 0]), rel=1e-6)
    assert result.best_value == min(result.history["val_rmse"]) == result.history["val_rmse"][result.best_epoch]


def test_the_training_metric_counts_every_row_once(regression):
    """With a learning rate near zero, the weighted train metric is that of the untrained network."""
    config, dataset = regression
    changes = {
        "train.learning_rate": 1e-12,
        "train.epochs": 1,
        "train.optimizer": "sgd",
        "train.batch_size": 100,
        "model.members": 1,
        "model.category_dropout": False,
    }
    result = fit.train(config.overridden(changes), dataset)
    rows = Feed(dataset, "train", 64).arrays()
    targets = rows.pop("target")
    output = prediction.predict(result.model, rows)
    assert result.history["rmse"][0] == pytest.approx(root_mean_squared_error(targets, output[:, 0]), rel=1e-5)
    variance = dataset.preprocessor.spec["target"]["std"] ** 2
    assert result.history["loss"][0] == pytest.approx(result.history["rmse"][0] ** 2 / variance, rel=1e-4)


def test_a_binary_metric_is_sklearns(binary):
    config, dataset = binary
    result = fit.train(config, dataset)
    targets, output = validation_output(result, dataset)
    assert result.best_value == pytest.approx(log_loss(targets, rounded(output)), rel=1e-5)
    accuracy = result.history["val_accuracy"][result.best_epoch]
    assert accuracy == pytest.approx(np.mean(output.argmax(1) == targets))


def test_images_train(images):
    config, dataset = images
    changes = {"train.epochs": 8, "train.learning_rate": 0.01, "train.batch_size": 16, "train.patience": 8}
    result = fit.train(config.overridden(changes), dataset)
    targets, output = validation_output(result, dataset)
    assert output.shape == (len(targets), 3)
    assert result.best_value == pytest.approx(
        log_loss(targets, rounded(output), labels=[0, 1, 2]), rel=1e-5, abs=1e-7
    )  # float32 of near 0
    assert result.history["val_accuracy"][result.best_epoch] > 0.8


def test_early_stopping_restores_the_best_weights(regression):
    """A rate far too large, held in by clipping: the curve goes up and down, and training stops early."""
    config, dataset = regression
    changes = {
        "train.epochs": 40, "train.patience": 2, "train.optimizer": "sgd",
        "train.learning_rate": 1.5, "train.schedule": "constant",
    }  # fmt: skip
    result = fit.train(config.overridden(changes), dataset)
    curve = result.history["val_rmse"]
    assert result.best_epoch == int(np.argmin(curve)) == len(curve) - 3
    assert curve[-1] > result.best_value
    targets, output = validation_output(result, dataset)
    assert root_mean_squared_error(targets, output[:, 0]) == pytest.approx(result.best_value, rel=1e-6)


def test_a_huge_learning_rate_diverges(regression):
    config, dataset = regression
    changes = {"train.learning_rate": 1e30, "train.optimizer": "sgd", "train.gradient_clip": None}
    with pytest.raises(Diverged, match=r"diverged in epoch 1: the loss is not finite\. Lower the learning rate"):
        fit.train(config.overridden(changes), dataset)


def test_the_checkpoint_is_whole_and_holds_the_best(trained):
    _, result, _, checkpoint = trained
    assert [path.name for path in checkpoint.parent.iterdir()] == ["epoch.npz"]
    with np.load(checkpoint, allow_pickle=False) as held:
        assert held["epoch"] == 5 and held["best_epoch"] == result.best_epoch
        weights = result.model.get_weights()
        for index, value in enumerate(weights):
            np.testing.assert_array_equal(held[f"best_{index}"], value)
        variables = [name for name in held.files if name.startswith("variable_")]
    assert len(variables) > 2 * len(weights)  # the optimizer's moments too


def test_a_killed_save_leaves_the_old_checkpoint(regression, tmp_path, monkeypatch):
    config, dataset = regression
    checkpoint = tmp_path / "epoch.npz"
    savez = np.savez

    def dies_at_the_second(file, **arrays):
        if arrays["epoch"] == 1:
            file.write(b"half")
            raise OSError("No space left on device")
        savez(file, **arrays)

    monkeypatch.setattr(np, "savez", dies_at_the_second)
    with pytest.raises(OSError, match="No space left"):
        fit.train(config, dataset, checkpoint=Checkpoint(checkpoint))
    with np.load(checkpoint) as held:
        assert held["epoch"] == 0


def test_the_same_config_gives_the_same_weights(regression):
    config, dataset = regression
    config = config.overridden({"model.dropout": 0.3})
    one, two = (fit.train(config, dataset).model.get_weights() for _ in range(2))
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
    other = fit.train(config.overridden({"seed": 8}), dataset).model.get_weights()
    assert any((a != b).any() for a, b in zip(one, other, strict=True))


def test_every_epoch_has_its_own_order_and_every_step_is_taken(regression, monkeypatch):
    config, dataset = regression
    config = config.overridden({"train.steps_per_execution": 4})
    epochs, blocks = [], Feed.blocks
    monkeypatch.setattr(Feed, "blocks", lambda self, epoch: epochs.append(epoch) or blocks(self, epoch))
    result = fit.train(config, dataset)
    assert epochs == [0, 1, 2]
    steps = -(-dataset.rows["train"] // config.train.batch_size)
    assert steps % config.train.steps_per_execution  # the last execution is a short one
    assert int(result.model.optimizer.iterations) == 3 * steps


def test_a_trial_trains_on_a_part_of_the_rows(regression):
    config, dataset = regression
    seen = []

    class Spy(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(self.params["steps"])

    fit.train(config.overridden({"train.epochs": 1}), dataset, callbacks=[Spy()], train_shards=4)
    quarter = sum(dataset.row_groups("train")[::4])
    steps = -(-quarter // config.train.batch_size)
    assert seen == [-(-steps // config.train.steps_per_execution)]


def test_no_rows_have_no_output(regression):
    _, dataset = regression
    model = build.build(dataset.preprocessor, regression[0].model)
    rows = {"numbers": np.zeros((0, 4), np.float32), "categories": np.zeros((0, 1), np.int32)}
    assert prediction.predict(model, rows).shape == (0, 1)


def test_alone_asks_nobody():
    alone, values = SingleProcess(), np.arange(3.0)
    assert (alone.rank, alone.size) == (0, 1) and alone.sum(values) is values
    assert alone.distribute("optimizer") == "optimizer"


def test_each_batch_of_a_block_is_a_sign_of_life(regression, tmp_path, monkeypatch):
    """A block may take minutes, in which Python is not asked: the signs come from the graph."""
    config, dataset = regression
    monkeypatch.setattr(heartbeat, "_file", tmp_path / "beat")
    monkeypatch.setattr(heartbeat, "PERIOD_S", 0.01)
    monkeypatch.setattr(heartbeat, "beat", lambda: None)
    signs, over = set(), threading.Event()

    def look():
        while not over.wait(0.002):
            if (tmp_path / "beat").exists():
                signs.add((tmp_path / "beat").stat().st_mtime_ns)

    thread = threading.Thread(target=look)
    thread.start()
    changes = {"train.epochs": 1, "train.batch_size": 1, "train.steps_per_execution": 10_000}
    fit.train(config.overridden(changes), dataset)
    over.set()
    thread.join()
    assert len(signs) > 3
