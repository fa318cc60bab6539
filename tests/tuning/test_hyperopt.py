"""The search: spaces are data, proposals can be replayed, and no trial can stop the others."""

import functools
import json
import math
import os
import random
import signal
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tiny
from hyperopt.pyll.stochastic import sample

from baton.config.schema import validate
from baton.config.space import place_of
from baton.errors import BadInput, BatonError, Diverged
from baton.tuning import hyperopt
from baton.tuning import workers as trials
from baton.tuning.hyperopt import Proposer, Trial, best, flatten, to_hyperopt

SPACE = {
    "train.batch_size": {"choice": [16, 32, 64]},
    "optimizer": {
        "choice": [
            {"train.optimizer": "adamw", "train.weight_decay": {"loguniform": [0.001, 0.3]}},
            {
                "train.optimizer": "momentum",
                "train.momentum": {"uniform": [0.5, 0.9]},
                "depth": {"choice": [{"model.hidden": [{"choice": [4, 8]}]}, {"model.dropout": 0.1}]},
            },
        ]
    },
    "model.activation": "tanh",
}


def config(**tune):
    return tiny.config(tune={"space": SPACE, "max_trials": 12, "time_budget_s": 600, **tune})


def proposed(space, number: int = 60, algorithm: str = "random") -> list[dict]:
    from hyperopt import Trials

    proposer = Proposer(space, algorithm, seed=3)
    return [proposer.propose(Trials(), i)[0].parameters for i in range(number)]


def values(distribution: dict, number: int = 200) -> np.ndarray:
    return np.array([p["train.x"] for p in proposed({"train.x": distribution}, number)])


def test_a_parameter_of_a_branch_appears_only_there():
    points = proposed(SPACE)
    shapes = {tuple(sorted(point)) for point in points}
    always = ("model.activation", "train.batch_size", "train.optimizer")
    assert shapes == {
        tuple(sorted((*always, "train.weight_decay"))),
        tuple(sorted((*always, "train.momentum", "model.hidden"))),
        tuple(sorted((*always, "train.momentum", "model.dropout"))),
    }
    assert all((p["train.optimizer"] == "adamw") == ("train.weight_decay" in p) for p in points)
    assert {p["train.batch_size"] for p in points} == {16, 32, 64}
    assert {tuple(p["model.hidden"]) for p in points if "model.hidden" in p} == {(4,), (8,)}
    assert {p["model.activation"] for p in points} == {"tanh"}


def test_every_proposal_makes_a_config_and_is_plain_json():
    space = {**SPACE, "model.layers": [{"type": "dense", "units": {"randint": [1, 9]}}, {"type": "flatten"}]}
    for point in proposed(space, 20):
        assert json.loads(json.dumps(point)) == point
        tiny.config().overridden(point)


@pytest.mark.parametrize(
    ("task", "model"), [("regression", {}), ("image", {}), ("image", {"backbone": "VGG16", "weights": "imagenet"})]
)
def test_the_default_spaces_make_configs(task, model):
    made = tiny.config(task, model=model)
    for point in proposed(hyperopt.space_of(made), 20):
        made.overridden(point)


@pytest.mark.parametrize(
    ("distribution", "allowed"),
    [
        ({"quniform": [2, 11, 3]}, {3, 6, 9}),
        ({"quniform": [0.1, 0.3, 0.1]}, {0.1, 0.2, 0.3}),
        ({"qloguniform": [1, 10, 4]}, {4, 8}),
        ({"randint": [3, 6]}, {3, 4, 5}),
        ({"randint": 2}, {0, 1}),
        ({"randint": [2]}, {0, 1}),
        ({"choice": [None, "a", [1, 2]]}, {None, "a", (1, 2)}),
    ],
)
def test_discrete_ranges_are_honoured(distribution, allowed):
    points = [p["train.x"] for p in proposed({"train.x": distribution})]
    found = {tuple(v) if isinstance(v, list) else round(v, 9) if isinstance(v, float) else v for v in points}
    assert found == allowed


def test_continuous_ranges_are_honoured_and_logarithms_are_even():
    found = values({"loguniform": [1e-4, 1e-1]})
    assert 1e-4 <= found.min() < 2e-4 and 0.05 < found.max() <= 1e-1
    assert np.log10(found).mean() == pytest.approx(-2.5, abs=0.2)
    found = values({"uniform": [-2, 2]})
    assert -2 <= found.min() < -1.8 and 1.8 < found.max() <= 2
    assert np.median(values({"lognormal": [0, 0.1]})) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("algorithm", ["tpe", "random"])
def test_tpe_keeps_within_ranges_too(algorithm):
    space = {"train.batch_size": {"quniform": [2, 11, 3]}, "train.learning_rate": {"loguniform": [0.1, 1]}}
    made = tiny.config(tune={"space": space, "algorithm": algorithm, "max_trials": 30})

    def at_the_edge(batch, deadline):
        for trial in batch:
            trial.loss = -trial.parameters["train.batch_size"] - trial.parameters["train.learning_rate"]
            yield trial

    found = [trial.parameters for trial in hyperopt.search(made, at_the_edge, lambda _: None)]
    assert {p["train.batch_size"] for p in found} <= {3, 6, 9}
    assert all(0.1 <= p["train.learning_rate"] <= 1 for p in found)


@pytest.mark.parametrize(
    ("space", "answer"),
    [
        ({"train.x": {"choice": []}}, r"tune\.space\.train\.x: choice takes a list of options\. Received: \[\]"),
        ({"train.x": {"choice": "ab"}}, r"tune\.space\.train\.x: choice takes a list .*'ab'"),
        (
            {"o": {"choice": [{"a.b": {"uniform": [1]}}]}},
            r"tune\.space\.o\.choice\.0\.a\.b: uniform takes 2 numbers.*\[1\]",
        ),
        ({"model.hidden": [8, {"quniform": [1, 2]}]}, r"tune\.space\.model\.hidden\.1: quniform takes 3 numbers"),
        ({"train.x": {"uniform": [2, 1]}}, r"train\.x: uniform takes low < high\. Received: \[2, 1\]"),
        ({"train.x": {"uniform": ["1e-3", 1]}}, r"train\.x: uniform takes numbers\. Received: \['1e-3', 1\]"),
        ({"train.x": {"uniform": [False, True]}}, r"train\.x: uniform takes numbers"),
        ({"train.x": {"uniform": [0, math.inf]}}, r"train\.x: uniform takes numbers"),
        ({"train.x": {"loguniform": [0, 1]}}, r"train\.x: loguniform takes 0 < low < high"),
        ({"train.x": {"quniform": [1, 9, 0]}}, r"train\.x: quniform takes a step > 0"),
        ({"train.x": {"quniform": [1, 3, 5]}}, r"train\.x: quniform takes a range that holds a multiple"),
        ({"train.x": {"normal": [0, 0]}}, r"train\.x: normal takes a mean and a deviation > 0"),
        ({"train.x": {"randint": [1, 2, 3]}}, r"train\.x: randint takes 1 or 2 numbers"),
        ({"train.x": {"randint": [1.5]}}, r"train\.x: randint takes whole numbers low < high"),
        ({"train.x": {"randint": []}}, r"train\.x: randint takes 1 or 2 numbers"),
        ({"train.x": {"randint": [4, 4]}}, r"train\.x: randint takes whole numbers low < high"),
    ],
)
def test_a_malformed_space_is_bad_input_that_names_the_place(space, answer):
    with pytest.raises(BadInput, match=answer):
        config(space=space)


@pytest.mark.parametrize(
    ("space", "answer"),
    [
        ({"optimizer": "adam"}, r"tune\.space\.optimizer: has no dot, .*mappings of dotted keys\. Received: 'adam'"),
        (
            {"lr": {"uniform": [0, 1]}},
            r"tune\.space\.lr: has no dot, so it is a group.*Received: {'uniform': \[0, 1\]}",
        ),
        ({"o": {"choice": "ab"}}, r"tune\.space\.o: choice takes a list of options\. Received: 'ab'"),
        ({"o": {"choice": [{}, 3]}}, r"tune\.space\.o\.choice\.1: a group takes mappings .*Received: 3"),
        ({"o": {"choice": [{1.5: 3}]}}, r"tune\.space\.o\.choice\.0\.1\.5: is no key that can be searched"),
    ],
)
def test_a_group_must_be_made_of_mappings(space, answer):
    with pytest.raises(BadInput, match=answer):
        config(space=space)


def test_groups_are_merged_into_dotted_keys():
    assert flatten({"a": {"b.c": 1, "d": {"e.f": (1, np.int64(2))}}}) == {"b.c": 1, "e.f": [1, 2]}


def evaluator_of_nothing(batch, deadline):
    for trial in batch:
        trial.loss = float(trial.number)
        yield trial


def evaluator(shuffle: int | None = None, outcome=None):
    """Trials with a loss that their parameters decide, finished in an order that `shuffle` decides."""

    def evaluate(batch, deadline):
        order = list(batch)
        if shuffle is not None:
            random.Random(shuffle).shuffle(order)
        for trial in order:
            trial.loss = float(abs(trial.parameters["train.batch_size"] - 32)) + trial.number / 100
            if outcome:
                outcome(trial)
            yield trial

    return evaluate


@pytest.mark.parametrize("algorithm", ["tpe", "random"])
def test_the_same_seed_gives_the_same_proposals_in_whatever_order_trials_finish(algorithm):
    made = config(algorithm=algorithm, max_trials=14, generation=4)
    one = hyperopt.search(made, evaluator(1), lambda _: None)
    two = hyperopt.search(made, evaluator(2), lambda _: None)
    assert [t.number for t in one] == list(range(14))
    assert one == two
    other = hyperopt.search(made.overridden({"seed": 8}), evaluator(1), lambda _: None)
    assert [t.parameters for t in other] != [t.parameters for t in one]


def test_tpe_learns_from_what_finished():
    """The first losses decide later proposals; random search does not look at them."""

    def later(algorithm, sign):
        def outcome(trial):
            trial.loss *= sign

        found = hyperopt.search(config(algorithm=algorithm, max_trials=20), evaluator(None, outcome), lambda _: None)
        return [t.parameters for t in found[hyperopt.STARTUP + 4 :]]

    assert later("tpe", 1) != later("tpe", -1)
    assert later("random", 1) == later("random", -1)


@pytest.mark.parametrize("task", ["regression", "image"])
def test_the_first_trial_has_the_configs_own_values(task):
    made = tiny.config(task, tune={"max_trials": 3}, model={"hidden": [], "embedding": 32})
    made = made.overridden({"model.filters": [16, 32, 64], "train.learning_rate": 0.002})
    first = hyperopt.own_values(made, 5000)
    assert first is not None
    own = hyperopt.search(made, evaluator_of_nothing, lambda _: None, first=first)[0].parameters
    for key, value in own.items():
        section, _, name = key.partition(".")
        assert value in [getattr(getattr(each, section), name) for each in (made, made.sized(5000))], key
    assert {"train.learning_rate", "model.dropout"} < own.keys()


def test_a_loss_that_is_left_open_lies_where_its_trials_are():
    made = config(max_trials=5).overridden({"tune.space": {"train.objective": {"choice": ["poisson", "squared"]}}})
    assert hyperopt.own_values(made, 100) == {"space.train.objective": 1}


def test_a_place_is_found_for_whatever_a_space_gives_out():
    from hyperopt import Trials

    space = {
        **SPACE,
        "train.batch_size": {"quniform": [2, 20, 2]},
        "model.cross_rank": {"randint": [3, 9]},
        "model.l2": {"lognormal": [0, 1]},
        "model.layers": [{"type": "dense", "units": {"choice": [1, 2]}}],
    }
    proposer = Proposer(space, "random", seed=5)
    for number in range(1, 30):
        parameters = proposer.propose(Trials(), number)[0].parameters
        found = place_of(space, lambda key, parameters=parameters: [parameters.get(key)])
        assert Proposer(space, "random", 0, found).propose(Trials(), 0)[0].parameters == parameters


@pytest.mark.parametrize(
    "changed",
    [
        {"train.batch_size": 48},
        {"train.weight_decay": 0.5},
        {"model.activation": "relu"},
        {"train.optimizer": "momentum", "train.momentum": 0.7, "model.hidden": [9], "model.dropout": 0.3},
    ],
)
def test_a_config_outside_the_space_is_no_first_trial(changed):
    inside = {"train.batch_size": 32, "train.weight_decay": 0.01, "model.activation": "tanh"}
    made = config(max_trials=5).overridden(inside)
    assert hyperopt.own_values(made, 100) is not None
    assert hyperopt.own_values(made.overridden(changed), 100) is None


def test_the_search_goes_on_as_it_would_after_the_first_trial():
    """The other proposals of the random beginning are the same with and without it, and TPE is told of it."""
    made = config(max_trials=4).overridden({"train.batch_size": 32, "model.activation": "tanh"})
    with_own = hyperopt.search(made, evaluator(1), lambda _: None, first=hyperopt.own_values(made, 100))
    without = hyperopt.search(made, evaluator(1), lambda _: None)
    assert with_own[0].parameters["train.batch_size"] == 32
    assert with_own[0].parameters["train.optimizer"] == made.train.optimizer
    assert [t.parameters for t in with_own[1:]] == [t.parameters for t in without[1:]]
    longer = made.overridden({"tune.max_trials": 20})
    found = [hyperopt.search(longer, evaluator(1), lambda _: None, first=f)
             for f in (None, hyperopt.own_values(made, 100))]  # fmt: skip
    assert [t.parameters for t in found[0][12:]] != [t.parameters for t in found[1][12:]]


@pytest.mark.parametrize("bad", ["some", "all"])
def test_failed_and_diverged_trials_are_recorded_and_the_search_goes_on(bad):
    def outcome(trial):
        if bad == "all" or trial.number % 3:
            status = ("failed", "diverged")[trial.number % 2]
            trial.status, trial.loss, trial.error = status, None, f"why {trial.number}"

    told = []
    found = hyperopt.search(config(max_trials=15), evaluator(3, outcome), told.append)
    assert len(found) == 15 and sorted(t.number for t in told) == list(range(15))
    if bad == "all":
        with pytest.raises(BatonError, match="None of 15 trials ended well: why 0") as raised:
            best(found)
        assert raised.value.exit_status == 1
    else:
        assert {t.status for t in found} == {"ok", "failed", "diverged"}
        assert best(found).status == "ok"


def test_the_search_ends_on_max_trials_within_a_generation():
    sizes = []

    def evaluate(batch, deadline):
        sizes.append(len(batch))
        yield from evaluator()(batch, deadline)

    assert len(hyperopt.search(config(max_trials=6, generation=4), evaluate, lambda _: None)) == 6
    assert sizes == [4, 2]


def test_the_search_ends_on_the_time_budget():
    def slow(batch, deadline):
        for trial in evaluator()(batch, deadline):
            if time.monotonic() >= deadline:
                return
            time.sleep(0.06)
            yield trial

    started = time.monotonic()
    found = hyperopt.search(config(max_trials=500, time_budget_s=0.5), slow, lambda _: None)
    assert time.monotonic() - started < 3
    assert 0 < len(found) < 20
    assert [t.number for t in found] == list(range(len(found)))


def test_where_all_trials_diverged_the_config_asks_for_too_much():
    with pytest.raises(Diverged, match="None of 2 trials ended well: the loss") as raised:
        best([Trial(number, {}, "diverged", error="the loss is not finite") for number in range(2)])
    assert raised.value.exit_status == 2


def test_however_small_the_budget_one_trial_is_run():
    begun = []

    def evaluate(batch, deadline):
        begun.append((len(batch), deadline))
        return evaluator()(batch, deadline) if time.monotonic() < deadline else iter(())

    found = hyperopt.search(config(max_trials=9, generation=3, time_budget_s=1e-9), evaluate, lambda _: None)
    assert [trial.number for trial in found] == [0] and best(found).number == 0
    assert begun[-1] == (1, math.inf) and len(begun) == 2


def test_where_no_trial_is_begun_there_is_no_best():
    found = hyperopt.search(config(), lambda batch, deadline: iter(()), lambda _: None)
    assert found == []
    with pytest.raises(BatonError, match="None of 0 trials ended well: no trial was begun"):
        best(found)


def test_best_is_the_smallest_loss_the_first_of_a_tie():
    found = [Trial(0, {}, loss=2.0), Trial(1, {}, loss=1.0), Trial(2, {}, loss=1.0), Trial(3, {}, "failed", None)]
    assert best(found).number == 1


def test_samples_of_the_expression_are_those_of_the_space():
    """The expression is Hyperopt's own, so SparkTrials searches the same space."""
    point = sample(to_hyperopt(SPACE), rng=np.random.default_rng(1))
    assert flatten(point)["model.activation"] == "tanh"


GOOD = {"train.learning_rate": 0.01}
BAD_LAYER = {"model.layers": [{"type": "dense", "units": 4}, {"type": "danse"}]}
DIVERGING = {"train.optimizer": "sgd", "train.learning_rate": 1e30, "train.gradient_clip": None}


@pytest.fixture(scope="module")
def workers(regression):
    made, dataset = regression
    tune = {"parallelism": 2, "epochs": 2}
    made = validate({**made.model_dump(by_alias=True, exclude_unset=True), "tune": tune}, {}, "test")
    with trials.Workers(made.tune) as pool:
        pool.evaluate = functools.partial(pool.evaluate, functools.partial(trials.run_trial, made, str(dataset.folder)))
        yield pool


def processes(pool) -> list[int]:
    pools = [*pool.idle, *(worker for _, worker, _ in pool.running.values())]
    return sorted(pid for worker in pools for pid in (worker._processes or {}))


def test_workers_finish_good_failing_and_diverging_trials(workers):
    batch = [Trial(i, p) for i, p in enumerate([GOOD, BAD_LAYER, DIVERGING, GOOD, {"train.epoch": 3}])]
    found = {t.number: t for t in workers.evaluate(batch, time.monotonic() + 300)}
    assert [found[i].status for i in range(5)] == ["ok", "failed", "diverged", "ok", "failed"]
    assert found[0].loss == found[3].loss == min(found[0].history["val_rmse"])
    assert len(found[0].history["val_rmse"]) == 2 and found[0].seconds > 0
    assert "model.layers.1.type must be one of" in found[1].error
    assert "not finite" in found[2].error and found[2].loss is None
    assert "train.epoch is not a key here" in found[4].error
    assert json.dumps(found[0].to_dict())


def frozen_or_good(parameters):
    """An objective that freezes its own process where it is told a file for the process' number."""
    if parameters["file"]:
        Path(parameters["file"]).write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
    return {"loss": 0.5}


def test_a_trial_that_hangs_fails_and_the_search_goes_on(workers, tmp_path, monkeypatch):
    """Frozen by SIGSTOP, which SIGTERM does not end; nothing of its process is left."""
    monkeypatch.setattr(workers, "hang_timeout_s", 3)
    batch = [Trial(i, {"file": str(tmp_path / "pid") if i == 0 else ""}) for i in range(4)]
    found = {t.number: t for t in trials.Workers.evaluate(workers, frozen_or_good, batch, time.monotonic() + 300)}
    sentence = "The trial hangs: for 3 seconds it has trained or scored no batch (tune.hang_timeout_s)."
    assert (found[0].status, found[0].error) == ("failed", sentence)
    assert [(found[i].status, found[i].loss) for i in (1, 2, 3)] == [("ok", 0.5)] * 3
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text())) and len(workers.idle) == 2


def test_a_trial_trains_four_of_the_networks_unless_it_searches_for_their_number(tmp_path, monkeypatch):
    made, dataset = tiny.build(tiny.regression_table(60), tmp_path, "regression", model={"networks": 9})
    seen = []
    monkeypatch.setattr(
        "baton.training.fit.train", lambda config, *_, **__: seen.append(config.model.networks) or 1 / 0
    )
    for parameters in ({}, {"model.networks": 2}):
        assert "division" in trials.run_trial(made, str(dataset.folder), parameters)["error"]
    assert seen == [4, 2] and made.model.networks == 9


def test_a_killed_worker_fails_its_own_trial_and_the_pool_goes_on(workers):
    long = {"train.batch_size": 1, "train.steps_per_execution": 1, "model.hidden": [64, 64]}
    before = processes(workers)
    killed = []

    def kill_one():
        time.sleep(0.5)
        _, worker, _ = next(w for w in workers.running.values() if w[0].number == 0)
        killed.extend(worker._processes)
        os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=kill_one).start()
    batch = [Trial(0, long), Trial(1, long), Trial(2, GOOD)]
    found = {t.number: t for t in workers.evaluate(batch, time.monotonic() + 300)}
    assert (found[0].status, found[0].error) == ("failed", "The worker process died.")
    assert found[1].status == found[2].status == "ok"
    assert set(before) - set(killed) <= set(processes(workers))


def test_a_worker_that_dies_between_trials_is_replaced(workers):
    for worker in workers.idle:
        for process in list((worker._processes or {}).values()):
            os.kill(process.pid, signal.SIGKILL)
            process.join()
    time.sleep(0.5)
    (found,) = workers.evaluate([Trial(0, GOOD)], time.monotonic() + 300)
    assert found.status == "ok"


def test_no_trial_begins_after_the_deadline(workers):
    assert list(workers.evaluate([Trial(0, GOOD)], time.monotonic() - 1)) == []
