"""The policy: what is done with a base for which rows, that the better one wins, and that a kill changes nothing."""

import logging
import re
from types import SimpleNamespace

import backbone
import keras
import logged
import mlflow
import numpy as np
import pytest
import tiny

from baton.errors import BadInput, Diverged
from baton.networks import prediction
from baton.networks.backbones import block_ends
from baton.registry import candidates
from baton.tracking import runs
from baton.training import fit
from baton.training.checkpoints import Checkpoint
from baton.training.collective import SingleProcess
from baton.training.transfer import policy
from baton.training.transfer.probes import Probe
from baton.tuning import hyperopt


def plan(rows: int, losses: list[float], **settings) -> policy.Plan:
    config = tiny.config("image", train=settings)
    feed = SimpleNamespace(preprocessor=SimpleNamespace(classes=list("abc")))
    probes = [Probe(np.zeros((2, 3)), np.zeros(3), 0.1, loss, 0.5, np.full(9, loss)) for loss in losses]
    return policy.planned(SimpleNamespace(config=config, feed=feed, collective=SingleProcess()), rows, probes)


@pytest.mark.parametrize(
    ("rows", "losses", "settings", "method", "depth", "reason"),
    [
        (30, [0.9, 0.5, 0.7], {}, "probe", 2, r"10 rows a class are too few .*block 2 of 3 .*unlike those"),
        (30, [0.9, 0.7, 0.5], {}, "probe", 3, r"no block .*than the last: .* like those"),
        (90, [0.9, 0.5, 0.7], {}, "head_then_blocks", 2, r"30 rows a class are enough for the last blocks"),
        (300, [0.9, 0.5, 0.7], {}, "all", 3, r"300 rows are enough to train all blocks"),
        (9000, [0.9, 0.5, 0.7], {}, "all", 3, r"9,000 rows are enough to train all blocks"),
        (9000, [0.9, 0.5, 0.7], {"transfer": "probe"}, "probe", 2, "the config says so"),
        (30, [0.9, 0.5, 0.7], {"transfer": "all", "transfer_depth": 1}, "all", 1, "the config says so"),
        (30, [0.9, 0.5, 0.7], {"transfer_depth": 3}, "probe", 3, "too few"),
    ],
)
def test_rows_and_probes_say_what_becomes_of_the_base(rows, losses, settings, method, depth, reason):
    chosen = plan(rows, losses, **settings)
    assert (chosen.method, chosen.depth) == (method, depth)
    assert re.search(reason, chosen.reason)


def test_a_base_that_knows_such_pictures_beats_the_cnn(striped, caplog):
    config, dataset = striped
    with caplog.at_level(logging.INFO, "baton"):
        result = fit.train(config, dataset)
    found = result.transfer
    assert found["chosen"] in ("probe", "head_then_blocks") and found["rows"] == 60
    assert set(found["contest"]) == {"probe", "head_then_blocks", "scratch"}
    assert found["contest"][found["chosen"]] == min(found["contest"].values()) < 0.7 * found["contest"]["scratch"]
    assert [depth["depth"] for depth in found["depths"]] == list(range(1, len(found["depths"]) + 1))
    assert f"transfer: {found['method']} at block {found['depth']} of" in caplog.text and found["reason"] in caplog.text
    rows = {"image": np.zeros((2, backbone.SIDE, backbone.SIDE, 1), np.uint8)}
    assert prediction.predict(result.model, rows).shape == (2, 3)
    assert not any(isinstance(layer, keras.Model) for layer in result.model.layers)
    assert sum(layer.count_params() for layer in result.model.layers) == result.model.count_params()  # the base, once


def test_the_cnn_wins_where_it_is_better(striped, monkeypatch):
    config, dataset = striped
    losses = iter([0.9, 0.8, 0.1])
    monkeypatch.setattr(policy.Task, "log_loss", lambda task, network: next(losses))
    result = fit.train(config, dataset)
    assert result.transfer["chosen"] == "scratch" and len(result.history["loss"]) == 2
    assert "conv_1" not in {layer.name for layer in result.model.layers}


def test_the_probe_is_kept_as_it_was_where_fine_tuning_was_worse(striped, monkeypatch):
    config, dataset = striped
    alone = fit.train(config.overridden({"train.transfer": "probe"}), dataset, race=False)
    losses = iter([0.1, 0.9])
    monkeypatch.setattr(policy.Task, "log_loss", lambda task, network: next(losses))
    result = fit.train(config, dataset, race=False)
    assert result.transfer["chosen"] == "probe" and result.transfer["method"] == "head_then_blocks"
    for one, other in zip(result.model.get_weights(), alone.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_what_diverges_is_out_of_the_contest(striped, monkeypatch, caplog):
    config, dataset = striped

    def diverging(*_):
        raise Diverged("The loss is not finite.")

    monkeypatch.setattr(policy.finetuning, "finetune", diverging)
    assert fit.train(config, dataset, race=False).transfer["chosen"] == "probe" and "is out" in caplog.text
    with pytest.raises(Diverged):
        fit.train(config.overridden({"train.transfer": "all"}), dataset)


def test_a_probe_answers_as_its_regression_does_and_tells_one_epoch(striped):
    config, dataset = striped
    epochs = []
    result = fit.train(
        config.overridden({"train.transfer": "probe"}), dataset, on_epoch=lambda *epoch: epochs.append(epoch)
    )
    assert [epoch for epoch, _ in epochs] == [0]
    feed = fit.Feed(dataset, "validation", 64)
    target, output = prediction.predict_all(result.model, feed)
    measured = result.transfer["depths"][result.transfer["depth"] - 1]
    assert (output.argmax(axis=1) == target).mean() == pytest.approx(measured["accuracy"])
    assert -np.log(output[np.arange(len(target)), target]).mean() == pytest.approx(measured["log_loss"], abs=1e-3)


def test_a_flip_that_training_may_make_gives_the_probe_mirror_images(striped, monkeypatch):
    config, dataset = striped
    seen = []
    monkeypatch.setattr(policy, "fit_probe", lambda train, *_: seen.append(len(train.target)) or 1 / 0)
    for flip in (False, True):
        with pytest.raises(ZeroDivisionError):
            fit.train(config.overridden({"train.augment": {"flip": flip}}), dataset)
    assert seen == [60, 120]


class Kill(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise KeyboardInterrupt


def test_fine_tuning_goes_on_where_it_was_killed(striped, tmp_path):
    config, dataset = striped
    config = config.overridden({"train.transfer": "head_then_blocks", "model.dropout": 0.3})
    undisturbed, checkpoint = fit.train(config, dataset), Checkpoint(tmp_path / "epoch.npz")
    with pytest.raises(KeyboardInterrupt):
        fit.train(config, dataset, callbacks=[Kill()], checkpoint=checkpoint)
    assert checkpoint.load().epoch == 0
    resumed = fit.train(config, dataset, checkpoint=checkpoint)
    assert resumed.history == undisturbed.history
    for one, other in zip(resumed.model.get_weights(), undisturbed.model.get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_the_race_goes_on_where_it_was_killed(striped, tmp_path):
    """The CNN keeps a state of its own: what was fine-tuned before is not trained again."""
    config, dataset = striped
    checkpoint = Checkpoint(tmp_path / "epoch.npz")
    first = fit.train(config, dataset, checkpoint=checkpoint)
    assert {file.name for file in tmp_path.iterdir()} == {"epoch.npz", "scratch-epoch.npz"}
    trained = []
    counting = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: trained.append(epoch))
    again = fit.train(config, dataset, callbacks=[counting], checkpoint=checkpoint)
    assert not trained and again.transfer["contest"] == pytest.approx(first.transfer["contest"])


def test_scratch_is_the_default_cnn_and_a_trial_runs_no_race(striped):
    config, dataset = striped
    result = fit.train(config.overridden({"train.transfer": "scratch"}), dataset)
    assert not result.transfer and "conv_1" not in {layer.name for layer in result.model.layers}
    assert "scratch" not in fit.train(config, dataset, race=False).transfer["contest"]


def test_a_depth_that_the_base_lacks_is_named(striped, base):
    config, dataset = striped
    depth = len(block_ends(base))
    with pytest.raises(BadInput, match=rf"train\.transfer_depth: .*has {depth} blocks, so 1 to {depth}\. Received: 9"):
        fit.train(config.overridden({"train.transfer_depth": 9}), dataset)


def test_transfer_is_of_images():
    with pytest.raises(BadInput, match=r"train\.transfer: does not go with the task regression"):
        tiny.config("regression", train={"transfer": "probe"})


def test_a_search_where_a_backbone_has_weights_is_of_transfer(striped):
    config, dataset = striped
    space = hyperopt.space_of(config)
    assert "train.transfer" in space and "model.filters" not in space
    assert "model.filters" in hyperopt.space_of(config.overridden({"train.transfer": "scratch"}))
    assert hyperopt.own_values(config, dataset.rows["train"])  # the first trial is the config's own


def test_fine_tuning_takes_no_more_epochs_than_it_needs(striped, monkeypatch):
    config, dataset = striped
    monkeypatch.setattr(policy, "SEEN", 60)
    monkeypatch.setattr(policy, "EPOCHS", 1)
    for settings, epochs in (({}, 1), ({"train.transfer": "head_then_blocks"}, 2)):
        losses = iter([0.1] if settings else [0.9, 0.1])  # of the probe, and of what was fine-tuned
        monkeypatch.setattr(policy.Task, "log_loss", lambda task, network, losses=losses: next(losses))
        result = fit.train(config.overridden(settings), dataset, race=False)
        assert result.transfer["chosen"] == "head_then_blocks" and len(result.history["loss"]) == epochs


def test_epochs_of_the_race_are_not_logged_over_those_of_the_base(striped, tmp_path, monkeypatch):
    config, dataset = striped
    losses = iter([0.9, 0.1, 0.8])
    monkeypatch.setattr(policy.Task, "log_loss", lambda task, network: next(losses))
    with logged.store(tmp_path):
        with runs.start("train", config, {}) as run, candidates.autologging(run):
            result = fit.train(config, dataset, aside=candidates.unlogged)
        epochs = mlflow.MlflowClient().get_metric_history(run.id, "loss")
    assert result.transfer["chosen"] == "head_then_blocks" and "scratch" in result.transfer["contest"]
    assert [epoch.value for epoch in epochs] == pytest.approx(result.history["loss"])
