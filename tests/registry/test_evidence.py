"""What two models with other classes are asked, and what a version keeps of its test rows."""

import dataclasses
import json
from types import SimpleNamespace

import logged
import numpy as np
import pytest
import tiny

from baton import names
from baton.data import row_parts, target
from baton.evaluation import metrics
from baton.evaluation.differences import Moments
from baton.networks import prediction
from baton.registry import evidence as gathering
from baton.registry import looks, versions
from baton.registry.gate import Evidence

CANDIDATE, CHAMPION = ["a", "b", "new"], ["a", "b", "gone"]
TARGETS = np.array([0, 1, 2, 2, 0])
PREDICTIONS = np.array([[0.6, 0.2, 0.2], [0.1, 0.4, 0.5], [0.1, 0.1, 0.8], [0.7, 0.2, 0.1], [0.5, 0.5, 0.0]])
ANSWERS = np.array([[0.3, 0.1, 0], [0.2, 0.6, 0], [0.5, 0.5, 0], [0.9, 0.1, 0], [0.0, 0.0, 0]])  # without `gone`


def test_rows_of_new_classes_are_left_out_and_both_are_asked_which_of_the_shared_ones_it_is():
    found = gathering.of_shared_classes("3", CANDIDATE, CHAMPION, TARGETS, PREDICTIONS, ANSWERS)
    np.testing.assert_allclose(np.exp(-found.candidate), [0.75, 0.8, 0.5])
    np.testing.assert_allclose(np.exp(-found.losses), [0.75, 0.75, 0.5])  # the last gave all to `gone`
    assert (found.new.names, found.new.rows, found.new.hits) == (("new",), 2, 1)
    assert found.new.log_loss == pytest.approx(-np.log([0.8, 0.1]).mean())


def test_the_same_answers_on_what_both_know_differ_by_nothing():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(2), 50)
    more = np.column_stack([probabilities, np.zeros(50)])
    found = gathering.of_shared_classes("3", CANDIDATE, CHAMPION[:2], np.arange(50) % 2, more, more)
    assert (found.losses == found.candidate).all() and found.new is None


def test_without_a_shared_class_there_is_no_row():
    found = gathering.of_shared_classes("3", ["x", "y"], ["a"], np.array([0, 1]), PREDICTIONS[:2, :2], ANSWERS[:2, :2])
    assert len(found.losses) == len(found.candidate) == 0 and found.new.rows == 2


def test_the_interval_of_a_ranking_lies_about_it_and_a_reversed_one_below_chance():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 300)
    score = 1 / (1 + np.exp(-(targets + rng.normal(size=300))))
    config = tiny.config("binary")
    for ranked in (score, 1 - score):
        predictions = np.column_stack([1 - ranked, ranked])
        low, high = gathering.auc_interval(config, targets, predictions)
        assert low < metrics.evaluate(targets, predictions, target.DEFAULT_THRESHOLD)["roc_auc"] < high
    assert high < 0.5
    assert gathering.auc_interval(config, np.zeros(300, int), predictions) is None
    assert gathering.auc_interval(config, targets, predictions * np.nan) is None


def asked_of_all_rows(monkeypatch, config, model, raw) -> list[np.ndarray]:
    """All that is kept of raw rows: targets, output, the same model's losses as champion, the sketch's hashes."""
    monkeypatch.setattr(versions, "load", lambda uri, tags: model)
    targets, output = model.evaluate(raw)
    version = SimpleNamespace(name="lab", version="1", tags={})
    champion = gathering.champion_losses(config, version, model, raw, targets, output)
    assert champion.overlap.test == raw.num_rows and not champion.error
    sketch = looks.sketch(raw, model.preprocessor)
    return [targets, output, champion.losses, sketch.hashes, np.array([sketch.targets])]


def test_evidence_is_the_same_whatever_the_size_of_parts(regression, monkeypatch):
    """A part ends where a batch of the network's does, so that not even the last bit differs."""
    monkeypatch.setattr(prediction, "PREDICT_ROWS", 8)
    config, dataset = regression
    model = logged.untrained(config, dataset)
    whole = asked_of_all_rows(monkeypatch, config, model, dataset.raw_test())
    for rows in (8, 24):
        monkeypatch.setattr(row_parts, "PART_ROWS", rows)
        for one, other in zip(whole, asked_of_all_rows(monkeypatch, config, model, dataset.raw_rows()), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_version_keeps_the_moments_of_its_loss_and_nothing_if_it_has_none():
    losses = np.random.default_rng(5).exponential(size=50)
    evidence = Evidence({"rmse": 1.0}, losses + 1, losses, 0.0, looks=4)
    tags = gathering.tags(evidence)
    assert tags[names.TAG_TEST_LOOKS] == "4" and names.TAG_TEST_ROWS not in tags
    assert Moments(**json.loads(tags[names.TAG_TEST_LOSS])) == Moments.of(losses)
    assert gathering.tags(dataclasses.replace(evidence, metrics={})) == {}
