"""Thresholds are the best there are, decisions follow them everywhere; weights change what is learnt and no more."""

import numpy as np
import pytest
from sklearn import metrics as sk

from baton.config.schema import validate
from baton.data import target as target_module
from baton.data.feed import Feed
from baton.data.preprocessing import Preprocessor
from baton.errors import BadInput
from baton.evaluation import assessment, metrics, thresholds
from baton.registry import candidates
from baton.training import fit


def scores(rows: int = 400, seed: int = 1, digits: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = (rng.random(rows) < 0.2).astype(np.int32)
    probability = (1 / (1 + np.exp(-(rng.normal(size=rows) + targets - 1)))).round(digits)
    return targets, np.stack([1 - probability, probability], axis=1)


@pytest.mark.parametrize("objective", thresholds.OBJECTIVES)
@pytest.mark.parametrize("rare", [0, 1])
def test_no_other_threshold_is_better(objective, rare):
    targets, probabilities = scores()
    value = {
        "f1": lambda decided: sk.f1_score(targets, decided, pos_label=rare, zero_division=0),
        "balanced_accuracy": lambda decided: sk.balanced_accuracy_score(targets, decided),
    }[objective]
    found = thresholds.chosen(targets, probabilities, rare)
    chosen = found[objective]
    reached = value(target_module.decide(probabilities, chosen))
    assert reached >= max(value(target_module.decide(probabilities, t)) for t in np.linspace(0.005, 0.995, 200))
    entries = thresholds.evaluated(targets, probabilities, ["no", "yes"], rare, found)
    (entry,) = [entry for entry in entries if entry["objective"] == objective]
    decided = target_module.decide(probabilities, chosen)
    assert (entry["class"], entry["threshold"]) == (["no", "yes"][rare], chosen)
    assert entry["precision"] == pytest.approx(sk.precision_score(targets, decided, pos_label=rare))
    assert entry["recall"] == pytest.approx(sk.recall_score(targets, decided, pos_label=rare))
    assert entry["f1"] == pytest.approx(sk.f1_score(targets, decided, pos_label=rare))


def test_where_there_is_nothing_to_choose():
    targets, probabilities = scores()
    assert thresholds.chosen(np.ones_like(targets), probabilities, 1) == {}
    (entry,) = thresholds.evaluated(np.ones_like(targets), probabilities, ["a", "b"], 0, {"f1": 0.0})
    assert (entry["precision"], entry["recall"], entry["f1"]) == (0, 0, 0)  # a split without the rarer class
    assert thresholds.best(targets, np.full((400, 2), 0.5), 1, "f1") == 0.5


def test_metrics_and_predictions_follow_the_threshold():
    targets, probabilities = scores()
    spec = {"task": "binary", "columns": [{"name": "y", "kind": "categorical", "type": "string"}], "features": {}}
    spec |= {"encoded": [], "target": {"name": "y", "encoded": "y", "classes": ["no", "yes"], "priors": [0.8, 0.2]}}
    bare, low = Preprocessor(spec), Preprocessor(spec).with_target({"threshold": 0.3})
    expected = np.where(probabilities[:, 1] > 0.3, "yes", "no").tolist()
    assert low.decode_prediction(probabilities)["prediction"].to_pylist() == expected
    assert bare.decode_prediction(probabilities)["prediction"].to_pylist() != expected
    assert (bare.threshold, low.threshold) == (0.5, 0.3)
    found = metrics.evaluate(targets, probabilities, low.threshold)
    assert found["accuracy"] == sk.accuracy_score(targets, probabilities[:, 1] > 0.3)
    assert found["f1_macro"] == sk.f1_score(targets, probabilities[:, 1] > 0.3, average="macro")
    rest = metrics.evaluate(targets, probabilities)
    assert all(found[name] == rest[name] for name in ("log_loss", "roc_auc", "average_precision"))


def recall(config, dataset, **train) -> tuple[float, float]:
    """Recall of the minority on test, and the mean predicted probability of it."""
    made = fit.train(config.overridden({f"train.{key}": value for key, value in train.items()}), dataset)
    rows = candidates.EvaluatedSplit.of(made.model, dataset, "test")
    return sk.recall_score(rows.targets, target_module.decide(rows.output)), float(rows.output[:, 1].mean())


def test_balanced_weights_find_more_of_the_minority(uneven):
    plain, weighted = recall(*uneven), recall(*uneven, class_weights="balanced")
    assert plain[0] < 0.3 and weighted[0] > 0.5
    assert (
        plain[1] == pytest.approx(0.1, abs=0.04) and weighted[1] > 0.25
    )  # what the weights cost: honest probabilities


def test_weights_have_the_mean_one_over_rows():
    target = {"name": "y", "classes": ["a", "b", "c"], "priors": [0.7, 0.2, 0.1]}
    balanced = thresholds.weights("balanced", target)
    np.testing.assert_allclose(balanced * target["priors"], 1 / 3, rtol=1e-6)
    given = thresholds.weights({"c": 5.0}, target)
    np.testing.assert_allclose(given / given[0], [1, 1, 5], rtol=1e-6)
    assert np.sum(given * target["priors"]) == pytest.approx(1)
    assert thresholds.weights("none", target) is None
    with pytest.raises(BadInput, match="class_weights names d, which is no class of y. Allowed: a, b, c"):
        thresholds.weights({"a": 1.0, "d": 2.0}, target)


@pytest.mark.parametrize("shards", [1, 3])
def test_padding_stays_without_weight_and_every_row_has_its_classes(uneven, shards):
    _, dataset = uneven
    preprocessor = dataset.preprocessor
    each = thresholds.weights("balanced", preprocessor.spec["target"])
    total = np.zeros(2)
    for rank in range(shards):
        feed = Feed(dataset, "train", 64, seed=1, shard=(rank, shards), class_weights=each)
        rows = 0
        for _, target, weight in feed.blocks(0):
            np.testing.assert_array_equal(weight[weight > 0], each[target[weight > 0]])
            rows += np.count_nonzero(weight)
            total += np.bincount(target.ravel(), weight.ravel(), 2)
        assert rows == feed.rows
    np.testing.assert_allclose(total, dataset.rows["train"] / 2, rtol=1e-5)  # each class weighs as much
    assert total.sum() == pytest.approx(dataset.rows["train"])


def test_a_threshold_is_chosen_on_validation_and_kept(uneven):
    config, dataset = uneven
    network = fit.train(config, dataset).model
    kept = {}
    for setting in ("argmax", "f1", "balanced_accuracy", 0.2):
        model, rows = candidates.finished(config.overridden({"train.threshold": setting}), dataset, network)
        kept[setting] = model.preprocessor.threshold
        assert rows.metrics(model.preprocessor)["accuracy"] == pytest.approx(
            np.mean((rows.output[:, 1] > model.preprocessor.threshold) == rows.targets)
        )
    assert (kept["argmax"], kept[0.2]) == (0.5, 0.2) and kept["f1"] < 0.5 and kept["balanced_accuracy"] < 0.2
    scored, _ = model.score(dataset.raw_test())
    above = scored["probability_yes"].to_numpy() > 0.2
    assert scored["prediction"].to_pylist() == np.where(above, "yes", "no").tolist() and 0 < above.sum() < len(above)


def test_people_are_told_of_uneven_classes_unless_they_care(uneven):
    config, dataset = uneven
    told = assessment.uneven(config, dataset.preprocessor)
    assert "of the training rows are yes" in told and "train.threshold" in told
    for key, value in (("threshold", "f1"), ("class_weights", "balanced")):
        assert assessment.uneven(config.overridden({f"train.{key}": value}), dataset.preprocessor) is None


BASE = {"name": "t", "data": {"source": "a", "target": "y", "task": "binary"}}


@pytest.mark.parametrize(
    ("task", "changes", "sentence"),
    [
        (
            "regression",
            {"train.class_weights": "balanced"},
            "train.class_weights: does not go with the task regression",
        ),
        ("multiclass", {"train.threshold": "f1"}, "train.threshold: does not go with the task multiclass"),
        ("binary", {"train.threshold": 1.0}, "train.threshold: must be argmax, f1, balanced_accuracy or a number"),
        ("binary", {"train.class_weights": {"a": 0}}, "train.class_weights: must give each class a weight above 0"),
        ("binary", {"train.class_weights": "some"}, "train.class_weights: must be none, balanced or"),
        (
            "binary",
            {"batch_infer": {"source": "a", "output": "b", "interval": 0.9}},
            "batch_infer.interval: does not go with the task binary",
        ),
        (
            "regression",
            {"batch_infer": {"source": "a", "output": "b", "interval": 0.7}},
            "batch_infer.interval: must be null or one of 0.8, 0.9, 0.95",
        ),
    ],
)
def test_what_the_task_does_not_have_is_refused(task, changes, sentence):
    with pytest.raises(BadInput, match=sentence):
        validate(BASE, {}, "test").overridden({"data.task": task, **changes})


def test_classes_may_be_spelt_as_yaml_reads_them():
    made = validate(BASE, {}, "test").overridden({"train.class_weights": {3: 1, 2.0: 2, True: 0.5, "x": 4}})
    assert made.train.class_weights == {"3": 1, "2": 2, "true": 0.5, "x": 4}
    assert made.overridden({"seed": 3}).train.class_weights == made.train.class_weights  # and once more
