"""What models and views cost, and what they bring: on the same rows, with intervals, within the seconds."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from logged import untrained
from mixed import said

from baton import names
from baton.config.schema import Model
from baton.evaluation import calibration
from baton.networks import build, ensemble
from baton.networks.costs import layer_costs, totals
from baton.networks.layers import calibrated
from baton.networks.views import View, viewed
from baton.registry import cost_table, evidence
from baton.reporting.figures import costs as figures
from baton.serving.raw_columns import RawColumnModel
from baton.training import fit


@pytest.fixture(scope="module")
def trained(images) -> RawColumnModel:
    config, dataset = images
    config = config.overridden({"train.epochs": 8, "train.learning_rate": 0.02})
    return RawColumnModel(dataset.preprocessor, fit.train(config, dataset).model)


class Ensemble:
    """The mean of models of the same pictures, as an ensemble has to look."""

    def __init__(self, preprocessor, networks):
        self.preprocessor, self.networks = preprocessor, networks

    def with_networks(self, networks):
        return Ensemble(self.preprocessor, networks)

    def answers(self, raw, asked):
        return np.mean([RawColumnModel(self.preprocessor, n).answers(raw, asked) for n in self.networks], axis=0)


def measured(config, models, dataset, seconds: float, **settings) -> cost_table.CostTable:
    changed = config.overridden({"register.costs.seconds": seconds, **settings})
    targets, _ = next(iter(models.values())).evaluate(dataset.raw_test())
    return cost_table.measure(changed, models, dataset.preprocessor, dataset.raw_test(), targets)


def test_models_and_views_are_measured_on_the_same_rows(images, trained):
    """One and two models by 1, 2, 10 and 144 views; the first by one view is the base."""
    config, dataset = images
    other = untrained(config, dataset).network
    models = {"one": trained, "two": Ensemble(dataset.preprocessor, [trained.network, other])}
    found = measured(config, models, dataset, 100)
    assert [(c.variant.name, c.variant.views) for c in found.costs] == [
        (name, views) for views in (1, 2, 10, 144) for name in ("one", "two")
    ]
    sums = totals(layer_costs(trained.network))[1]
    counted = [cost.variant.multiply_adds for cost in found.costs]
    assert counted == [views * number * sums for views in (1, 2, 10, 144) for number in (1, 2)]
    base, ten = found.costs[0], found.costs[4]
    targets, output = trained.evaluate(dataset.raw_test())
    wrong = output.argmax(axis=1) != targets
    assert base.value == pytest.approx(wrong.mean()) and base.difference is None
    assert base.interval[0] <= base.value < base.interval[1] < 0.5
    seen = cost_table.by_views(trained, cost_table.views_of("ten_crops")).evaluate(dataset.raw_test())[1]
    changed = (seen.argmax(axis=1) != targets).astype(float) - wrong
    assert ten.difference.value == pytest.approx(changed.mean())
    assert ten.difference.low <= ten.difference.value <= ten.difference.high
    assert all(cost.seconds > 0 for cost in found.costs) and found.costs[6].seconds > base.seconds
    assert found.rows == len(targets) and found.metric == "error" and not found.left_out


def test_what_there_is_no_time_for_is_left_out_and_named(images, trained, monkeypatch):
    """A row by one view takes a second."""
    config, dataset = images
    rows = dataset.rows["test"]
    monkeypatch.setattr(cost_table, "_seconds", lambda variant, *_: float(variant.views))
    found = measured(config, {"train": trained}, dataset, 5 * rows)
    assert [cost.variant.views for cost in found.costs] == [1, 2]
    assert len(found.left_out) == 2
    assert found.left_out[1].startswith(f"train by 144 views would take about {144 * rows:.3g} s, and of ")
    told = json.loads(json.dumps(measured(config, {"train": trained}, dataset, 1e-9).to_dict(), allow_nan=False))
    assert told["costs"] == [] and len(told["left_out"]) == 4 and figures.draw(told) == {}


def test_views_of_a_models_own_are_a_line_of_their_own(images, trained):
    config, dataset = images
    own = viewed(trained.network, [View(), View(0.1, 0.1, 0.8), View(0.2, 0.0, 0.8)])
    listed = list(cost_table.variants({"train": RawColumnModel(dataset.preprocessor, own)}))
    assert [(each.asked, each.views) for each in listed] == [
        ("none", 1), ("mirror", 2), ("ten_crops", 10), ("googlenet", 144), ("own", 3),
    ]  # fmt: skip
    mirrored = viewed(trained.network, [View(mirror=True), View()])
    listed = list(cost_table.variants({"train": RawColumnModel(dataset.preprocessor, mirrored)}))
    assert [each.views for each in listed] == [1, 2, 10, 144]


def test_members_of_an_ensemble_see_what_a_line_says_and_their_own_views_are_a_line(images, trained):
    _, dataset = images
    member = calibrated(viewed(trained.network, [View(), View(mirror=True)]), 2.0)
    both = calibrated(ensemble.combined([trained.network, member], [0.5, 0.5]), 1.5)
    listed = list(cost_table.variants({"both": RawColumnModel(dataset.preprocessor, both)}))
    assert [(each.asked, each.views) for each in listed] == [
        ("none", 1), ("mirror", 2), ("ten_crops", 10), ("googlenet", 144), ("own", 2),
    ]  # fmt: skip
    sums = totals(layer_costs(trained.network))[1]
    assert [each.multiply_adds for each in listed] == [2 * sums, 4 * sums, 20 * sums, 288 * sums, 3 * sums]
    raw = dataset.raw_test()
    none, alone = (each.answers(raw, dataset.preprocessor) for each in (listed[0].model, trained))
    softer = calibration.scaled(alone, 2.0)
    expected = calibration.scaled((alone + softer) / 2, 1.5)
    np.testing.assert_allclose(none, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["regression", "binary"])
def test_tables_are_seen_once_and_judged_in_their_own_metric(kind, request):
    config, dataset = request.getfixturevalue(kind)
    rows = min(40, dataset.rows["test"])
    keras.utils.set_random_seed(2)
    wider = build.build(dataset.preprocessor, Model(hidden=[16, 8], members=2, networks=2))
    models = {"train": untrained(config, dataset), "wider": RawColumnModel(dataset.preprocessor, wider)}
    found = measured(config, models, dataset, 100, **{"register.costs.rows": rows})
    assert found.rows == rows and [cost.variant.views for cost in found.costs] == [1, 1]
    one, two = found.costs
    assert 0 < one.variant.multiply_adds < two.variant.multiply_adds
    assert found.metric == ("rmse" if kind == "regression" else "error")
    if kind == "regression":
        targets, output = models["train"].evaluate(dataset.raw_test())
        every = cost_table._sample(len(targets), rows, config.seed)
        assert one.value == pytest.approx(np.sqrt(np.mean((output[every, 0] - targets[every]) ** 2)), rel=1e-4)
        assert one.interval[0] < one.value < one.interval[1]


def test_the_figure_has_a_line_a_model_and_names_views(images, trained):
    config, dataset = images
    told = measured(config, {"a": trained, "b$": trained}, dataset, 100, **{"register.costs.rows": 9}).to_dict()
    (figure,) = figures.draw(told).values()
    texts = said(figure)
    assert "144" in texts and "9 test rows" in texts and "error on test rows" in texts
    assert len(figure.axes[0].containers) == 2


def test_all_candidates_and_what_was_made_of_them_are_measured(monkeypatch):
    """The chosen one's model is at hand; the others and the champion are loaded."""

    def run(number: str, step: str) -> SimpleNamespace:
        tags = {names.TAG_STEP: step, names.TAG_MODEL_URI: f"models:/{number}"}
        return SimpleNamespace(info=SimpleNamespace(run_id=number), data=SimpleNamespace(tags=tags))

    held = {"a" * 32: run("a" * 32, "train"), "b" * 32: run("b" * 32, "train"), "e": run("e", "ensemble")}
    monkeypatch.setattr(evidence.runs, "of_steps", lambda run_id, *_: held[run_id])
    monkeypatch.setattr(evidence.versions, "load", lambda uri, tags: uri)
    champion = SimpleNamespace(name="shoes", version="3", tags={})
    ids = ["a" * 32, "b" * 32]
    found = evidence.models_by_name(held["b" * 32], "model", ids, champion)
    assert found == {"train": f"models:/{'a' * 32}", "train bbbbbbbb": "model", "champion": "models:/shoes/3"}
    assert evidence.models_by_name(held["e"], "model", ids, None)["ensemble"] == "model"
