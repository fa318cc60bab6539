"""By which loss a network of numbers learns, if the config lets losses race, is what validation surely prefers."""

from types import SimpleNamespace

import keras
import numpy as np
import pyarrow as pa
import pytest
import tiny

from baton import names
from baton.data.feed import Feed
from baton.errors import Diverged
from baton.networks import prediction
from baton.registry import candidates
from baton.serving.raw_columns import RawColumnModel
from baton.training import distributed, fit, objective_race
from baton.training.checkpoints import Checkpoint
from baton.training.collective import SingleProcess
from baton.training.transfer.task import Task

ROWS = 1600


def multiplied(rows: int = ROWS) -> pa.Table:
    """Amounts that three numbers multiply."""
    x, rng = np.random.default_rng(5).uniform(-1.5, 1.5, (rows, 3)).round(6), np.random.default_rng(6)
    return _table(x, rng.gamma(50, 4 * np.exp(0.8 * x.sum(axis=1))))


def added(rows: int = ROWS) -> pa.Table:
    """Amounts to which three numbers add."""
    x, rng = np.random.default_rng(5).normal(size=(rows, 3)).round(6), np.random.default_rng(6)
    return _table(x, np.maximum(350 + 100 * x.sum(axis=1) + rng.normal(0, 20, rows), 0.0))


def _table(x: np.ndarray, y: np.ndarray) -> pa.Table:
    return pa.table({**dict(zip("abc", x.T, strict=True)), "y": y})


def built(table: pa.Table, folder) -> tuple:
    """A table → a config and a dataset for a race of short trainings."""
    train = {"learning_rate": 0.03, "batch_size": 32, "objective": "race"}
    sections = {"data": {"row_group_size": 400}, "distributed_train": {"workers": 2, "scale_learning_rate": False}}
    return tiny.build(table, folder, "regression", train=train, **sections)


@pytest.fixture(scope="module")
def products(tmp_path_factory) -> tuple:
    return built(multiplied(), tmp_path_factory.mktemp("products"))


@pytest.fixture(scope="module")
def raced(products):
    return fit.train(*products)


def test_what_numbers_multiply_is_learnt_by_another_loss(raced):
    contest = raced.objective["contest"]
    assert raced.objective["chosen"] == min(contest, key=contest.get) != "squared" and len(contest) == 3
    assert raced.objective["reason"].startswith(f"{raced.objective['chosen']} is surely better; validation rmse")
    assert len(raced.history["loss"]) == 3


def test_what_numbers_add_to_is_learnt_by_squared_errors(tmp_path):
    config, dataset = built(added(), tmp_path)
    found = fit.train(config, dataset).objective
    assert found["chosen"] == "squared" and found["reason"].startswith("squared is kept, for no other is surely")


def test_the_rest_of_the_training_is_that_of_the_loss_that_won(products, raced):
    config = objective_race.settled(products[0], raced.objective)
    assert config.train.objective == raced.objective["chosen"]
    again = fit.train(config, products[1])
    assert again.objective == {} and again.history == raced.history


def task_of(config, smallest: float = 0.0, mean: float = 100.0) -> SimpleNamespace:
    dataset = SimpleNamespace(smallest_target=lambda: smallest)
    feed = SimpleNamespace(dataset=dataset, preprocessor=SimpleNamespace(spec={"target": {"mean": mean}}))
    return SimpleNamespace(config=config, feed=feed, collective=SingleProcess())


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        ({}, {"smallest": -0.1}),
        ({}, {"mean": 0.0}),
        ({"train.objective": "auto"}, {}),
        ({"evaluation.primary_metric": "mae"}, {}),
    ],
)
def test_only_where_another_loss_may_be_better_is_one_looked_for(changes, target):
    config = tiny.config("regression").overridden({"train.objective": "race", **changes}).sized(5000)
    assert objective_race.choose(task_of(config, **target), pytest.fail) == {}
    assert objective_race.settled(config, {}).train.objective in ("squared", "absolute")


@pytest.mark.parametrize(
    ("factor", "noise", "expected"),
    [(0.9, 0.0, "poisson"), (0.98, 0.0, "squared"), (1.2, 0.0, "squared"), (0.9, 20.0, "squared")],
)
def test_another_loss_must_be_better_by_enough_and_surely(factor, noise, expected):
    """Squared errors that are less by a factor, its square of them, on rows that differ by chance as well."""
    rng = np.random.default_rng(3)
    usual = rng.exponential(1.0, 400)
    centred = rng.normal(size=400)
    other = usual * factor**2 + noise * (centred - centred.mean())
    losses = {"squared": usual, "poisson": other}
    contest = {name: float(np.sqrt(found.mean())) for name, found in losses.items()}
    assert objective_race._winner(task_of(None), losses, contest) == expected


@pytest.mark.parametrize(("gone", "left"), [("squared", []), ("poisson", ["squared"])])
def test_a_loss_that_diverges_is_out(products, raced, gone, left):
    """Without the usual one there is nothing to compare with."""

    def train(task):
        if task.config.train.objective == gone:
            raise Diverged("far off")
        return raced

    config, dataset = products
    feeds = [Feed(dataset, split, 32) for split in ("train", "validation")]
    task = Task(config.sized(dataset.rows["train"]), *feeds, SingleProcess())
    found = objective_race.choose(task, train)
    assert found["chosen"] == "squared" and list(found["contest"]) == left


def test_a_race_that_was_killed_goes_on_to_the_same_end(products, raced, tmp_path, monkeypatch):
    real, trained = fit.train_on, []

    def train_on(config, *rest, **named):
        if len(trained) == 2:
            raise KeyboardInterrupt
        result = real(config, *rest, **named)
        trained.append(config.train.objective)
        return result

    checkpoint = Checkpoint(tmp_path / "epoch.npz")
    with monkeypatch.context() as patched:
        patched.setattr(fit, "train_on", train_on)
        with pytest.raises(KeyboardInterrupt):
            fit.train(*products, checkpoint=checkpoint)
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert trained == ["squared", "poisson"] and len(kept) == 2
    resumed = fit.train(*products, checkpoint=checkpoint)
    assert resumed.objective == raced.objective and resumed.history == raced.history
    assert kept.items() <= {path.name: path.read_bytes() for path in tmp_path.iterdir()}.items()  # not trained again
    for ours, theirs in zip(resumed.model.get_weights(), raced.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_two_workers_find_the_same_loss(products, raced, tmp_path):
    """A worker compares the ranks' weights and ends with an error where they differ."""
    config = products[0].overridden({"train.batch_size": 16})
    result = distributed.train(config, products[1], tmp_path, lambda epoch, logs: None)
    assert result.objective["chosen"] == raced.objective["chosen"]
    for name, value in raced.objective["contest"].items():
        assert result.objective["contest"][name] == pytest.approx(value, rel=0.2)


@pytest.fixture(scope="module")
def logarithms(products) -> SimpleNamespace:
    config = products[0].overridden({"train.objective": "log_squared"})
    model, rows = candidates.finished(config, products[1], fit.train(config, products[1]).model)
    return SimpleNamespace(dataset=products[1], model=model, rows=rows)


def test_a_network_of_logarithms_answers_on_the_targets_own_scale(logarithms):
    """Its predictions add up to the targets, none is below 0, and no interval begins there."""
    rows = logarithms.rows
    assert rows.output.sum() == pytest.approx(rows.targets.sum(), rel=1e-4) and rows.output.min() > 0
    factor = next(w for w in logarithms.model.network.non_trainable_weights if "factor" in w.path)
    assert float(factor) != 1.0
    held = RawColumnModel(logarithms.model.preprocessor, logarithms.model.network, interval=0.9)
    typed = logarithms.dataset.raw_test().select(["a", "b", "c"])
    columns, _ = held.score_typed(typed, pa.nulls(typed.num_rows, pa.string()))
    assert columns[names.PREDICTION_LOW].to_numpy().min() == 0


def test_a_network_of_logarithms_loads_with_its_factor(logarithms, tmp_path):
    logarithms.model.network.save(tmp_path / "n.keras")
    again = keras.saving.load_model(tmp_path / "n.keras", safe_mode=True, compile=False)
    rows = Feed(logarithms.dataset, "test", 64).arrays()
    rows.pop("target")
    expected = prediction.predict(logarithms.model.network, rows)
    np.testing.assert_array_equal(prediction.predict(again, rows), expected)
