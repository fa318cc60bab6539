"""The views that a network answers by: chosen where validation is surely better, logged, and the same on every path."""

import json

import numpy as np
from mixed import said

from baton.evaluation import calibration, metrics
from baton.networks import build
from baton.networks.ensemble import base_of
from baton.networks.layers import calibrated
from baton.networks.views import View, viewed
from baton.registry import candidates, view_selection
from baton.registry.view_selection import greedy, seen_by, views_in
from baton.reporting.figures import views as figures
from baton.training import fit

CLASSES = 4


def answers(rows: int, noise: list[float], seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Targets [n], and views that each know them with noise of their own [n, views, k]."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, CLASSES, rows)
    logits = 2.0 * np.eye(CLASSES)[targets][:, None] + np.array(noise)[:, None] * rng.normal(
        size=(rows, len(noise), CLASSES)
    )
    exponents = np.exp(logits)
    return targets, exponents / exponents.sum(axis=2, keepdims=True)


def test_views_that_surely_help_are_kept_the_best_first():
    targets, found = answers(4000, [1.5, 9.0, 1.0, 1.5])
    kept, steps = greedy(targets, found, 0.95, calibrate=True)
    assert kept == [0, 2, 3]
    losses = [loss for loss, _ in steps]
    assert losses == sorted(losses, reverse=True) and all(change.high < 0 for _, change in steps[1:])


def test_chance_is_not_taken_for_a_better_view():
    """Views as good as the picture itself that say the same, but for a little noise."""
    kept = 0
    for seed in range(20):
        targets, found = answers(300, [1.0], seed)
        rng = np.random.default_rng(seed)
        near = found * rng.uniform(0.97, 1.03, (300, 18, CLASSES))
        kept += len(greedy(targets, near / near.sum(axis=2, keepdims=True), 0.95, calibrate=True)[0]) > 1
    assert kept <= 2


def test_means_are_compared_at_their_best_temperatures():
    """A mean of views is less sure than it should be: by its log loss as it stands it would be left out."""
    targets, found = answers(6000, [1.0, 1.0])
    found[:, 1] **= 0.2
    found /= found.sum(axis=2, keepdims=True)
    means = [metrics.row_losses(targets, p).mean() for p in (found[:, 0], found.mean(axis=1))]
    assert means[1] > means[0]
    assert greedy(targets, found, 0.95, calibrate=False)[0] == [0]
    assert greedy(targets, found, 0.95, calibrate=True)[0] == [0, 1]


def test_the_config_decides_what_a_candidate_sees(images):
    """auto, a word, a mapping: chosen before the temperature, and the same on validation as in the model."""
    config, dataset = images
    trained = fit.train(config.overridden({"train.epochs": 12, "train.learning_rate": 0.02}), dataset).model
    assert view_selection.select(config, dataset, trained) == (trained, None)
    crops = {"scales": [1.25], "crops": 5}
    for asked, count in (("mirror", 2), (crops, 5), ("auto", None)):
        changed = config.overridden({"model.views": asked})
        network, selection = view_selection.select(changed, dataset, trained)
        told = json.loads(json.dumps(selection.to_dict()))
        assert [len(told["views"])] == [len(views) for views in views_in(network)] and count in (
            None,
            len(told["views"]),
        )
        assert base_of(network).layers == trained.layers
    assert told["asked"] == "auto" and told["tried"] == 18 and told["rows"] == dataset.rows["validation"]
    assert len(told["added"]) == len(told["views"]) - 1
    model, rows = candidates.finished(config, dataset, network)
    again = candidates.EvaluatedSplit.of(model.network, dataset, "validation")
    assert views_in(model.network) == views_in(network) and len(again.targets) == dataset.rows["validation"]
    np.testing.assert_allclose(rows.output, again.output, atol=1e-5)


def test_the_figure_shows_the_views_in_the_order_in_which_they_were_added():
    added = [{**View(0.1, 0.1, 0.8, True)._asdict(), "log_loss": 0.25}]
    selection = {"asked": "auto", "views": [View()._asdict(), added[0]], "tried": 18, "rows": 500, "log_loss": 0.5}
    pixels = np.random.default_rng(1).integers(0, 256, (12, 9, 3)).astype(np.uint8)
    (figure,) = figures.draw({**selection, "added": added}, pixels).values()
    drawn = said(figure)
    assert "of 18 tried" in drawn and "80%, mirrored" in drawn and "log_loss 0.5000" in drawn
    assert drawn.index("log_loss 0.5000") < drawn.index("log_loss 0.2500")
    many = {"asked": "googlenet", "views": [View()._asdict()] * 144, "tried": 144, "log_loss": None, "added": []}
    assert "the first 24 of 144 views" in said(figures.draw(many, pixels[..., :1])["views"])
    assert figures.draw({**many, "views": [View()._asdict()]}, pixels) == figures.draw(None, pixels) == {}


def test_a_finished_network_keeps_its_temperature_by_other_views(images):
    config, dataset = images
    base = build.build(dataset.preprocessor, config.model)
    finished = calibrated(viewed(base, [View(), View(mirror=True)]), 2.5)
    alone = seen_by(finished, [View()])
    assert views_in(alone) == [[View()]] and alone.layers[-1].temperature == 2.5
    before, after = (candidates.EvaluatedSplit.of(network, dataset, "test").output for network in (base, alone))
    np.testing.assert_allclose(after, calibration.scaled(before, 2.5), atol=1e-6)
