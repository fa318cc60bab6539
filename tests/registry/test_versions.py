"""The registry of a real MLflow store: who becomes champion, who scores, who comes back, and who must not."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
import tiny
import yaml
from click.testing import CliRunner

from baton import names
from baton.errors import BadInput, BatonError
from baton.evaluation.differences import Moments
from baton.networks import build
from baton.orchestration import outputs
from baton.registry import champions, history
from baton.registry import versions as registry
from baton.registry.history import BY_HAND, PROMOTED, ROLLED_BACK, Change
from baton.serving import export, layout
from baton.tracking import runs
from baton.training import fit
from steps.register import register
from steps.rollback import rollback

ROOT = Path(__file__).parents[2]
WHY = "worse on Mondays; $(touch x) 'it' {said} --so"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """An MLflow store of its own, the working folder beside it."""
    home = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{home}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.chdir(home)
        mlflow.set_tracking_uri(uri)
        experiment = mlflow.create_experiment("lab", artifact_location=(home / "artifacts").as_uri())
        yield SimpleNamespace(home=home, uri=uri, client=mlflow.MlflowClient(), experiment=experiment)
        mlflow.set_tracking_uri(None)


@pytest.fixture
def model(store, request) -> SimpleNamespace:
    """A registered model without versions, `add` to register some that hold no network, and its config."""
    name = request.node.name.replace("[", "-").replace("]", "")[:80]
    folder = store.home / "empty"
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    store.client.create_registered_model(name)

    def add(verdict: str | None = names.CHALLENGER, source: Path = folder, network: str = "") -> str:
        tags = ({names.TAG_VERDICT: verdict} if verdict else {}) | ({names.TAG_NETWORK: network} if network else {})
        return str(store.client.create_model_version(name, source.as_uri(), tags=tags).version)

    def by_hand(number: str) -> None:
        store.client.set_registered_model_alias(name, names.CHAMPION, number)

    config = tiny.config(name=name, warehouse=str(store.home / "warehouse"), batch_infer={"source": "-", "output": "-"})
    return SimpleNamespace(name=name, config=config, add=add, by_hand=by_hand)


def promote(model, number: str, judged_against: str | None, by: str = "a" * 32) -> str | None:
    with champions.locked(model.config):
        return champions.promote(model.config, number, judged_against, by, f"version {number} is better")


def chain(model, versions: int) -> list[str]:
    """So many versions, each promoted after the one before."""
    numbers: list[str] = []
    for _ in range(versions):
        numbers.append(model.add())
        assert promote(model, numbers[-1], numbers[-2] if len(numbers) > 1 else None) is None
    return numbers


def told(model) -> list[tuple[str | None, str]]:
    return [(change.version, change.how) for change in champions.history(model.name)]


# Who scores


@pytest.mark.parametrize("verdict", [names.REFUSED, None, "", "passed"])
def test_a_champion_set_by_hand_without_a_passed_verdict_scores_only_if_allowed(model, verdict):
    number = model.add(verdict)
    model.by_hand(number)
    sentence = (
        rf"Version {number} of .* set batch_infer\.allow_unvalidated: true .* Received: {verdict or 'no'} verdict"
    )
    with pytest.raises(BadInput, match=sentence):
        registry.to_score_with(model.config, "")
    allowed = model.config.overridden({"batch_infer.allow_unvalidated": True})
    assert str(registry.to_score_with(allowed, "").version) == number


@pytest.mark.parametrize("verdict", names.PASSED)
def test_a_champion_set_by_hand_with_a_verdict_is_used(model, verdict):
    number = model.add(verdict)
    model.by_hand(number)
    assert str(registry.to_score_with(model.config, "").version) == number


def test_no_champion_is_bad_input(model):
    model.add()
    with pytest.raises(BadInput, match="no version with the alias champion: run main first"):
        registry.to_score_with(model.config, "")


def promoted_by(monkeypatch, model, number: str) -> str:
    """The ID of a register run that says it promoted this version."""
    verdict = {"verdict": names.PROMOTED, "name": model.name, "version": number}
    monkeypatch.setattr(runs, "of_step", lambda run_id, step, parameter: SimpleNamespace(info=run_id))
    monkeypatch.setattr(runs, "artifact", lambda run, name: verdict)
    return "r" * 32


def test_what_a_register_run_promoted_scores_until_it_is_rolled_back(model, monkeypatch, caplog):
    first, second = chain(model, 2)
    run_id = promoted_by(monkeypatch, model, second)
    assert str(registry.to_score_with(model.config, run_id).version) == second
    third = model.add()
    assert promote(model, third, second) is None  # by another main: this one still scores with what it promoted
    assert str(registry.to_score_with(model.config, run_id).version) == second
    for _ in range(2):
        champions.roll_back(model.config, "b" * 32, WHY)
    assert str(registry.to_score_with(model.config, run_id).version) == first
    assert f"version {second}, which register promoted, was rolled back ({WHY})" in caplog.text
    model.by_hand(second)  # somebody wants it again
    with pytest.raises(BadInput, match="bears the alias champion and was rolled back: .* delete its tag .* on Mondays"):
        registry.to_score_with(model.config, run_id)
    runs.client().delete_model_version_tag(model.name, second, names.TAG_ROLLED_BACK)
    assert str(registry.to_score_with(model.config, run_id).version) == second


def test_a_rollback_while_main_runs_is_seen_before_the_predictions_take_their_place(model, monkeypatch):
    first, second = chain(model, 2)
    resolved = registry.to_score_with(model.config, promoted_by(monkeypatch, model, second))
    registry.demand_still_scores(resolved)
    champions.roll_back(model.config, "b" * 32, WHY)
    with pytest.raises(BatonError, match=f"version {second} of .* was rolled back while it scored .*predictions are"):
        registry.demand_still_scores(resolved)
    registry.demand_still_scores(registry.to_score_with(model.config, ""))


def test_from_before_the_alias_moves_nobody_takes_it_for_a_version_that_scores(model, monkeypatch):
    """A main that looks in the middle of a rollback finds the tag already."""
    first, second = chain(model, 2)
    run_id, seen = promoted_by(monkeypatch, model, second), []
    move = registry.set_alias

    def looked(*arguments):
        seen.append(names.TAG_ROLLED_BACK in registry.version(model.name, second).tags)
        move(*arguments)
        seen.append(str(registry.to_score_with(model.config, run_id).version))

    monkeypatch.setattr(registry, "set_alias", looked)
    champions.roll_back(model.config, "b" * 32, WHY)
    assert seen == [True, first]


def test_what_was_rolled_back_does_not_score_as_challenger_unless_allowed(model, store):
    first, second = chain(model, 2)
    champions.roll_back(model.config, "b" * 32, WHY)
    store.client.set_registered_model_alias(model.name, names.CHALLENGER, second)
    config = model.config.overridden({"batch_infer.alias": names.CHALLENGER})
    with pytest.raises(BadInput, match=f"Version {second} .* bears the alias challenger and was rolled back"):
        registry.to_score_with(config, "")
    allowed = config.overridden({"batch_infer.allow_unvalidated": True})
    assert str(registry.to_score_with(allowed, "").version) == second


# What a version knows of its test rows


def test_the_loss_on_test_rows_is_that_of_the_tag_or_of_the_register_runs_assessment(model, store, monkeypatch):
    losses = np.random.default_rng(0).normal(size=2000) ** 2
    moments = Moments.of(losses)
    tagged = SimpleNamespace(tags={names.TAG_TEST_LOSS: json.dumps(asdict(moments))})
    assert registry.test_loss(tagged) == moments
    half = 1.96 * (moments.variance / 2000) ** 0.5
    ends = [float(np.sqrt(moments.mean + sign * half)) for sign in (-1, 1)]
    assessed = {"metrics": {"rmse": moments.mean**0.5}, "intervals": {"rmse": ends}, "confidence": 0.95, "rows": 2000}
    with runs.start("register", model.config, {}) as run:
        run.json({"test": assessed}, names.ASSESSMENT)
    older = registry.test_loss(SimpleNamespace(tags={names.TAG_REGISTER_RUN: run.id}))
    assert (older.rows, older.mean, older.variance) == pytest.approx((2000, moments.mean, moments.variance), rel=1e-3)
    for tags in ({}, {names.TAG_REGISTER_RUN: "f" * 32}, {names.TAG_TEST_LOSS: "edited"}):
        assert registry.test_loss(SimpleNamespace(tags=tags)) is None


# Who becomes champion


def test_the_champion_moves_only_from_whom_was_judged_against(model):
    first, second = chain(model, 2)
    third = model.add()
    answer = promote(model, third, judged_against=first)
    assert answer == (
        f"the champion changed from version {first} to version {second} meanwhile and was left alone; "
        "run register again to be judged against it"
    )
    assert champions.current(model.name) == second
    store_client = runs.client()
    store_client.delete_registered_model_alias(model.name, names.CHAMPION)
    assert "from version 2 to nobody" in str(promote(model, third, judged_against=second))
    assert champions.current(model.name) is None


@pytest.mark.parametrize("interrupted_at", ["append", "_mark"])
def test_a_promotion_that_was_interrupted_is_finished_and_told_once(model, monkeypatch, interrupted_at):
    (first,) = chain(model, 1)
    second = model.add()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(history if interrupted_at == "append" else champions, interrupted_at, killed)
        promote(model, second, judged_against=first)
    assert champions.current(model.name) == second
    assert promote(model, second, judged_against=first) is None
    assert told(model) == [(first, PROMOTED), (second, PROMOTED)]
    assert registry.version(model.name, second).tags[names.TAG_PREVIOUS_CHAMPION] == first
    # Once another has been made champion by hand, it is a promotion like any other.
    model.by_hand(first)
    assert promote(model, second, judged_against=first) is None
    assert champions.current(model.name) == second
    assert told(model)[2:] == [(first, BY_HAND), (second, PROMOTED)]


def test_threads_that_promote_at_once_leave_one_champion_and_seven_reasons(model):
    numbers = [model.add() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: promote(model, number, None), numbers))
    (winner,) = [number for number, answer in zip(numbers, answers, strict=True) if answer is None]
    assert champions.current(model.name) == winner
    assert told(model) == [(winner, PROMOTED)]
    others = {answer for answer in answers if answer}
    assert others == {
        f"the champion changed from nobody to version {winner} meanwhile and was left alone; "
        "run register again to be judged against it"
    }


RACER = """
import json, sys, time
from pathlib import Path
from baton.config import schema
from baton.registry import champions, history
settings = schema.validate(json.loads(sys.argv[1]), {}, "test")
Path(sys.argv[2]).touch()
while not Path("go").exists():
    time.sleep(0.001)
for number in sys.argv[3:]:
    with champions.locked(settings):
        print(champions.promote(settings, number, champions.current(settings.name), "r" * 32, "race"))
"""


def test_two_processes_lose_no_change(model, store):
    """Each promotes five versions in turn with the other: all ten changes are in the history, one after the other."""
    numbers = [model.add() for _ in range(10)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": store.uri}
    command = [sys.executable, "-c", RACER, json.dumps(model.config.dump()), "ready", *numbers[:5]]
    with subprocess.Popen(command, cwd=store.home, env=env, text=True, stdout=subprocess.PIPE) as racer:
        while not (store.home / "ready").exists():
            assert racer.poll() is None
            time.sleep(0.01)
        (store.home / "go").touch()
        for number in numbers[5:]:
            with champions.locked(model.config):
                assert champions.promote(model.config, number, champions.current(model.name), "m" * 32, "race") is None
        said, _ = racer.communicate(timeout=120)
    assert (racer.returncode, said.split()) == (0, ["None"] * 5)
    changes = champions.history(model.name)
    assert [c.number for c in changes] == list(range(1, 11))
    assert {c.version for c in changes} == set(numbers)
    assert [c.previous for c in changes] == [None, *(c.version for c in changes[:-1])]
    assert champions.current(model.name) == changes[-1].version


# What a person has decided


def promoted(model, network: str) -> str:
    """A version of that network, promoted over whoever is champion."""
    number = model.add(network=network)
    assert promote(model, number, champions.current(model.name)) is None
    return number


def decide(model, store, decision: str, number: str) -> str:
    """Take `champion` from the version of that number → the reason that keeps its network from it."""
    if decision == "moved":
        model.by_hand(model.add(network="another"))
    elif decision == "removed":
        store.client.delete_registered_model_alias(model.name, names.CHAMPION)
    else:
        store.client.delete_model_version(model.name, number)
    return {
        "moved": "until version 3 was made champion by hand",
        "removed": "until the alias was taken away by hand",
    }.get(decision, ", which was deleted")


@pytest.mark.parametrize("decision", ["moved", "removed", "deleted"])
def test_a_network_that_a_person_has_taken_from_the_champion_is_not_promoted_again(model, store, decision):
    promoted(model, "a")
    number = promoted(model, "b")
    why = decide(model, store, decision, number)
    again, now = model.add(network="b"), champions.current(model.name)
    answer = promote(model, again, now)
    assert f"the same model was champion as version {number}" in answer and why in answer
    assert answer.endswith(f"give version {again} the alias champion by hand to lift it")
    assert champions.current(model.name) == now
    third = promoted(model, "c")  # another network may be promoted, and the decision is remembered
    assert "the same model was champion" in promote(model, again, third)
    model.by_hand(again)
    promoted(model, "d")
    assert promote(model, again, champions.current(model.name)) is None  # lifted


def test_a_former_champion_that_was_deleted_does_not_come_back_by_itself(model, store):
    """Its tags are gone with it: the history keeps what it answered by."""
    first = promoted(model, "a")
    second = promoted(model, "b")
    store.client.delete_model_version(model.name, first)
    assert f"version {first}, which was deleted" in promote(model, model.add(network="a"), second)


def test_a_rollback_and_a_promotion_decide_nothing_by_hand(model):
    promoted(model, "a")
    promoted(model, "b")
    champions.roll_back(model.config, "", WHY)
    promoted(model, "c")
    for network in ("a", "b"):
        assert promote(model, model.add(network=network), champions.current(model.name)) is None


def test_a_version_of_which_nothing_is_kept_is_no_other_ones_model(model):
    chain(model, 2)
    model.by_hand("1")
    assert promote(model, model.add(), "1") is None


# Who was champion, and who comes back


def test_a_promotion_is_kept_on_model_and_version(model, store):
    first, second = chain(model, 2)
    last = champions.history(model.name)[-1]
    assert (last.number, last.version, last.previous, last.how) == (2, second, first, PROMOTED)
    assert (last.by, last.why) == ("a" * 32, f"version {second} is better")
    tags = store.client.get_model_version(model.name, second).tags
    assert (tags[names.TAG_PREVIOUS_CHAMPION], tags[names.TAG_CHAMPION_BY]) == (first, "a" * 32)
    assert (tags[names.TAG_CHAMPION_SINCE], tags[names.TAG_CHAMPION_WHY]) == (last.at, last.why)


def test_rollbacks_go_back_one_by_one_and_end(model, store):
    chain(model, 3)
    back = [champions.roll_back(model.config, "b" * 32, WHY).version for _ in range(2)]
    assert back == ["2", "1"]
    with pytest.raises(BadInput, match="has no previous champion. Received: version 1 as the present one"):
        champions.roll_back(model.config, "b" * 32, WHY)
    assert champions.current(model.name) == "1"
    last = champions.history(model.name)[-1]
    assert (last.version, last.previous, last.how, last.by, last.why) == ("1", "2", ROLLED_BACK, "b" * 32, WHY)
    left = [names.TAG_ROLLED_BACK in store.client.get_model_version(model.name, n).tags for n in ("1", "2", "3")]
    assert left == [False, True, True]


def test_after_a_rollback_a_promotion_stands_on_what_is_left(model):
    """1, 2, back to 1, then 3: back from 3 is 1, not the 2 that was taken away."""
    chain(model, 2)
    champions.roll_back(model.config, "", WHY)
    third = model.add()
    assert promote(model, third, "1") is None
    assert champions.roll_back(model.config, "", WHY).version == "1"
    assert [version for version, _ in told(model)] == ["1", "2", "1", "3", "1"]


def test_a_change_by_hand_is_found_and_can_be_undone(model, store):
    chain(model, 2)
    third = model.add(None)
    model.by_hand(third)
    assert told(model) == [("1", PROMOTED), ("2", PROMOTED), (third, BY_HAND)]
    assert len(champions.history(model.name)) == len(champions.history(model.name))  # looking writes nothing
    assert champions.roll_back(model.config, "", WHY).version == "2"
    store.client.delete_registered_model_alias(model.name, names.CHAMPION)
    assert champions.roll_back(model.config, "", WHY).version == "2"
    assert told(model)[2:] == [(third, BY_HAND), ("2", ROLLED_BACK), (None, BY_HAND), ("2", ROLLED_BACK)]


def test_who_was_rolled_back_and_is_champion_again_is_not_called_so(model, store):
    first, second = chain(model, 2)
    champions.roll_back(model.config, "", WHY)
    model.by_hand(second)
    third = model.add()
    assert promote(model, third, second) is None
    assert names.TAG_ROLLED_BACK in store.client.get_model_version(model.name, second).tags
    assert champions.roll_back(model.config, "", WHY).version == second
    assert names.TAG_ROLLED_BACK not in store.client.get_model_version(model.name, second).tags
    assert told(model)[2:] == [(first, ROLLED_BACK), (second, BY_HAND), (third, PROMOTED), (second, ROLLED_BACK)]


def test_a_version_that_is_gone_or_has_no_files_is_passed_over(model, store, caplog):
    chain(model, 1)
    gone = store.home / "gone"
    gone.mkdir()
    second = model.add(source=gone)
    assert promote(model, second, "1") is None
    chained = [model.add(), model.add()]
    for before, number in zip([second, chained[0]], chained, strict=True):
        assert promote(model, number, before) is None
    store.client.delete_model_version(model.name, chained[0])
    assert champions.roll_back(model.config, "", WHY).version == "1"
    assert "version 3 of" in caplog.text and "version 2 of" in caplog.text


@pytest.mark.parametrize("reason", ["", "  \n"], ids=["empty", "blank"])
def test_a_rollback_needs_a_reason(model, reason):
    chain(model, 2)
    with pytest.raises(BadInput, match="reason is missing"):
        champions.roll_back(model.config, "", reason)
    assert champions.current(model.name) == "2"


def test_a_model_without_a_champion_has_nothing_to_go_back_to(model):
    with pytest.raises(BadInput, match="no previous champion. Received: nobody"):
        champions.roll_back(model.config, "", WHY)
    nobody = model.config.overridden({"name": "nothing-registered"})
    with pytest.raises(BadInput, match="no previous champion"):
        champions.roll_back(nobody, "", WHY)


def changes(*made: tuple[str | None, str]) -> list[Change]:
    return [Change(i, version, None, how, "", "", "") for i, (version, how) in enumerate(made, 1)]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ([], []),
        ([("1", PROMOTED)], []),
        ([("1", PROMOTED), ("2", PROMOTED), ("3", PROMOTED)], ["2", "1"]),
        ([("1", PROMOTED), ("2", PROMOTED), ("1", BY_HAND)], ["2"]),
        ([("1", PROMOTED), (None, BY_HAND), ("2", PROMOTED)], ["1"]),
        ([("1", PROMOTED), ("2", PROMOTED), ("3", PROMOTED), ("1", ROLLED_BACK)], []),  # 2 was gone
        ([("5", ROLLED_BACK)], []),  # its past is forgotten
        ([("5", ROLLED_BACK), ("6", PROMOTED)], ["5"]),
    ],
)
def test_what_a_rollback_may_return_to(made, expected):
    assert champions.returns(changes(*made)) == expected


def test_old_changes_are_forgotten_and_a_broken_record_is_passed_over(model, store, monkeypatch, caplog):
    monkeypatch.setattr(history, "KEPT", 3)
    chain(model, 5)
    assert [change.number for change in champions.history(model.name)] == [3, 4, 5]
    store.client.set_tag(history.run_id(model.name), f"{names.TAG_HISTORY}000004.aaaaaaaa", "edited by hand")
    assert [change.number for change in champions.history(model.name)] == [3, 5]
    assert "is no record of a champion" in caplog.text


def test_a_long_reason_fits_into_a_tag(model, store):
    chain(model, 2)
    champions.roll_back(model.config, "c" * 32, "ü" * 20_000)
    tags = store.client.get_run(history.run_id(model.name)).data.tags
    assert max(len(value.encode()) for value in tags.values()) <= 5000
    assert len(champions.history(model.name)[-1].why) == champions.MAX_REASON


def test_what_an_earlier_baton_kept_as_tags_is_carried_over_once(model, store):
    """Read as it is, until the next change takes it to the run; from then on the model's tag points there."""
    first, second = chain(model, 2)
    before, run_id = champions.history(model.name), history.run_id(model.name)
    for key, value in store.client.get_run(run_id).data.tags.items():
        if key.startswith(names.TAG_HISTORY):
            store.client.set_registered_model_tag(model.name, key, value)
    store.client.delete_registered_model_tag(model.name, names.TAG_HISTORY_RUN)
    assert champions.history(model.name) == before
    assert champions.roll_back(model.config, "b" * 32, WHY).version == first
    tags = store.client.get_registered_model(model.name).tags
    assert list(tags) == [names.TAG_HISTORY_RUN] and tags[names.TAG_HISTORY_RUN] != run_id
    assert champions.history(model.name)[:-1] == before and told(model)[-1] == (first, ROLLED_BACK)


def test_the_run_that_keeps_the_history_is_the_oldest_of_its_experiment_and_done(model, store):
    chain(model, 1)
    run = store.client.get_run(history.run_id(model.name))
    assert (run.info.run_name, run.info.status) == (f"champions of {model.name}", "FINISHED")
    assert run.data.tags[names.TAG_NAME] == model.config.name
    experiment = store.client.get_experiment(run.info.experiment_id)
    assert experiment.name == model.config.name and run.info.start_time == experiment.creation_time


def test_a_history_whose_run_was_deleted_goes_on_in_another(model, store):
    chain(model, 2)
    before, run_id = champions.history(model.name), history.run_id(model.name)
    store.client.delete_run(run_id)
    assert champions.history(model.name) == before
    assert champions.roll_back(model.config, "", WHY).version == "1"
    assert history.run_id(model.name) != run_id and champions.history(model.name)[:-1] == before


def test_a_registry_without_a_record_still_rolls_back(model, store):
    """Each version tells of its own latest time; what was taken back is none to return to."""
    chain(model, 3)
    champions.roll_back(model.config, "", WHY)
    store.client.delete_registered_model_tag(model.name, names.TAG_HISTORY_RUN)
    assert told(model) == [("1", PROMOTED), ("2", PROMOTED)]
    assert champions.roll_back(model.config, "", WHY).version == "1"


# The steps, on real candidates


@pytest.fixture(scope="module")
def lab(store, regression):
    """Candidates on one dataset, and the steps run on them in this process."""
    config, dataset = regression
    path = store.home / "lab.yaml"
    tree = {**config.dump(), "name": "lab", "warehouse": str(store.home / "warehouse")}
    tree["batch_infer"] = {"source": "-", "output": "-"}
    path.write_text(yaml.safe_dump(tree))

    loaded = config.overridden({"name": "lab", "warehouse": tree["warehouse"]})

    def candidate(epochs: int = 0, validation: float = 1.0, spoil: float | None = None, said: str | None = None) -> str:
        """A run like train's, its network trained for some epochs or spoilt → its ID."""
        network = build.build(dataset.preprocessor, config.model)
        if epochs:
            network = fit.train(config.overridden({"train.epochs": epochs}), dataset).model
        if spoil is not None:
            network.set_weights([np.full_like(w, spoil) for w in network.get_weights()])
        with runs.start("train", loaded, {}) as run:
            metadata = {"fingerprint": said or dataset.fingerprint, "run_id": run.id}
            uri = export.log_model(dataset.preprocessor, network, dataset.raw_test(), metadata)
            run.tag(names.TAG_MODEL_URI, uri)
            run.tag(names.TAG_FINGERPRINT, dataset.fingerprint)
            run.tag(names.TAG_DATASET, str(dataset.folder))
            run.tag(names.TAG_OUTPUT, f"{epochs} epochs, {spoil}")
            run.json({"validation": {"rmse": validation}, "files": runs.model_files(uri)}, names.EVALUATION)
        return run.id

    def do(step, *options: str, **config_set: object):
        overrides = ",".join(f"{key}={json.dumps(value)}" for key, value in config_set.items())
        return CliRunner().invoke(step, [f"--config={path}", f"--set={overrides}", *options])

    def judged(run_ids: str, overrides: dict | None = None) -> dict:
        done = do(register, f"--candidate_run_ids={run_ids}", **(overrides or {}))
        assert done.exit_code == 0, done.output
        (last,) = store.client.search_runs([store.experiment], f"tags.`{names.TAG_STEP}` = 'register'", max_results=1)
        return {**runs.artifact(last, names.VERDICT), "run": last}

    return SimpleNamespace(
        candidate=candidate, do=do, judged=judged, config=loaded, poor=candidate(4), good=candidate(30)
    )


def alias(lab) -> str | None:
    return champions.current(lab.config.name)


def test_the_first_candidate_is_promoted(lab, store):
    verdict = lab.judged(lab.poor)
    assert (verdict["verdict"], verdict["alias"], verdict["version"]) == (names.PROMOTED, names.CHAMPION, "1")
    assert verdict["comparison"] is None and verdict["champion_before"] is None
    tags = store.client.get_model_version("lab", "1").tags
    assert tags[names.TAG_VERDICT] == names.PROMOTED and names.TAG_INTERVAL not in tags
    (change,) = champions.history("lab")
    assert (change.version, change.by) == ("1", verdict["run"].info.run_id)


def test_the_very_same_model_is_refused_and_its_register_run_is_a_hit_until_the_registry_changes(lab):
    verdict = lab.judged(lab.poor)
    assert (verdict["verdict"], verdict["alias"], alias(lab)) == (names.REFUSED, None, "1")
    assert "is the champion's own: version 1 has the same loss on all " in verdict["reasons"][-1]
    assert outputs.broken("register", verdict["run"], lab.config) is None


def test_a_better_candidate_is_promoted_with_its_interval(lab, store):
    verdict = lab.judged(lab.good)
    assert (verdict["verdict"], verdict["version"], verdict["champion_before"]) == (names.PROMOTED, "3", "1")
    comparison = verdict["comparison"]
    assert comparison["high"] < 0 and comparison["champion_version"] == "1"
    assert json.loads(store.client.get_model_version("lab", "3").tags[names.TAG_INTERVAL]) == comparison
    assert "beats the champion's" in verdict["reasons"][-1]


def test_versions_tell_how_often_their_test_rows_were_asked(lab, store):
    """The second version is the first one's very model: no new look. The third is another."""
    tags = {number: store.client.get_model_version("lab", number).tags for number in ("1", "2", "3")}
    assert [tags[number][names.TAG_TEST_LOOKS] for number in tags] == ["1", "1", "2"]
    left = [float(tags[number][names.TAG_TEST_LEFT]) for number in tags]
    assert left == pytest.approx([0.025, 0.025, 0.05 / 3], rel=1e-5)
    assert len({tags[number][names.TAG_TEST_ROWS] for number in tags}) == 1
    loss = registry.test_loss(store.client.get_model_version("lab", "3"))
    assert loss.mean**0.5 == pytest.approx(float(tags["3"]["test_rmse"]), rel=1e-4)
    (last,) = store.client.search_runs([store.experiment], f"tags.`{names.TAG_STEP}` = 'register'", max_results=1)
    assert runs.artifact(last, names.VERDICT)["test_set"] == pytest.approx(
        {"looks": 2, "confidence": 0.95, "interval": 1 - 0.1 / 6, "error_left": 0.05 / 3}
    )


def test_a_worse_candidate_is_refused(lab):
    verdict = lab.judged(lab.poor)
    assert (verdict["verdict"], alias(lab)) == (names.REFUSED, "3")
    assert "does not beat the champion's" in verdict["reasons"][-1]


def test_a_champion_that_moves_meanwhile_is_left_alone(lab, store, monkeypatch):
    """Somebody sets version 2 by hand while a candidate is judged against version 3: it stays challenger."""
    whole = registry.register

    def and_meanwhile(*arguments):
        store.client.set_registered_model_alias("lab", names.CHAMPION, "2")
        return whole(*arguments)

    monkeypatch.setattr(registry, "register", and_meanwhile)
    verdict = lab.judged(lab.good, {"register.policy": "not_worse"})
    assert (verdict["verdict"], verdict["alias"], alias(lab)) == (names.CHALLENGER, names.CHALLENGER, "2")
    assert "the champion changed from version 3 to version 2 meanwhile" in verdict["reasons"][-1]
    tags = store.client.get_model_version("lab", verdict["version"]).tags
    assert tags[names.TAG_VERDICT] == names.CHALLENGER and "meanwhile" in tags[names.TAG_REASONS]
    store.client.set_registered_model_alias("lab", names.CHAMPION, "3")


def test_a_broken_champion_is_a_refusal_and_no_crash(lab, store):
    hidden = lab.candidate(6)
    uri = store.client.get_run(hidden).data.tags[names.TAG_MODEL_URI]
    broken = registry.register("lab", uri, {names.TAG_VERDICT: names.PROMOTED})
    (network,) = (store.home / "artifacts").rglob(f"{uri.split('/')[-1]}/**/{layout.KERAS_FILE}")
    network.write_bytes(b"damaged")
    before = alias(lab)
    store.client.set_registered_model_alias("lab", names.CHAMPION, broken.version)
    verdict = lab.judged(lab.good)
    assert (verdict["verdict"], alias(lab)) == (names.REFUSED, str(broken.version))
    assert f"the champion, version {broken.version}, cannot be compared with: " in verdict["reasons"][-1]
    store.client.set_registered_model_alias("lab", names.CHAMPION, before)


def test_a_candidate_with_a_missing_or_cut_file_is_no_hit(lab, store):
    run = store.client.get_run(lab.candidate(spoil=0.2))
    assert outputs.broken("train", run, lab.config) is None
    uri = run.data.tags[names.TAG_MODEL_URI]
    (network,) = (store.home / "artifacts").rglob(f"{uri.split('/')[-1]}/**/{layout.KERAS_FILE}")
    network.write_bytes(network.read_bytes()[:-1])
    assert re.fullmatch(r"output \S+\.keras changed", outputs.broken("train", run, lab.config))
    network.unlink()
    assert re.fullmatch(r"output \S+\.keras missing", outputs.broken("train", run, lab.config))
    shutil.rmtree(next((store.home / "artifacts").rglob(uri.split("/")[-1])))
    assert outputs.broken("train", run, lab.config) == "output MLmodel missing"


def test_predictions_that_are_not_finite_are_a_refusal_and_no_crash(lab, store):
    verdict = lab.judged(lab.candidate(spoil=float("nan")))
    assert verdict["verdict"] == names.REFUSED and verdict["metrics"]["test"] == {}
    assert any("the predictions are not finite on " in reason for reason in verdict["reasons"])
    assert store.client.get_model_version("lab", verdict["version"]).tags[names.TAG_VERDICT] == names.REFUSED


def test_a_model_of_another_dataset_is_refused(lab):
    verdict = lab.judged(lab.candidate(spoil=0.1, said="f" * 64))
    assert verdict["verdict"] == names.REFUSED
    assert "the model was not trained on this dataset" in verdict["reasons"][0]


def test_candidates_of_two_datasets_and_a_validation_without_a_number(lab, store):
    other = lab.candidate(validation=float("nan"))
    assert lab.judged(f"{other},{lab.poor}")["candidate_run_id"] == lab.poor
    store.client.set_tag(other, names.TAG_FINGERPRINT, "another")
    done = lab.do(register, f"--candidate_run_ids={other},{lab.poor}")
    assert (done.exit_code, "candidate_run_ids must be runs on one dataset" in done.output) == (2, True)


def test_rollback_the_step(lab, store):
    before = lab.judged(lab.poor)["run"]
    assert outputs.broken("register", before, lab.config) is None
    done = lab.do(rollback, f"--reason={WHY}")
    assert done.exit_code == 0, done.output
    assert outputs.broken("register", before, lab.config).startswith("registry changed: ")
    (run,) = store.client.search_runs([store.experiment], f"tags.`{names.TAG_STEP}` = 'rollback'")
    kept = runs.artifact(run, names.ROLLBACK)
    assert (run.info.status, kept["version"], kept["why"]) == ("FINISHED", alias(lab), WHY)
    assert champions.history("lab")[-1].by == run.info.run_id


def test_a_model_that_was_rolled_back_is_not_promoted_again_by_itself(lab, store):
    while alias(lab) != "1":
        assert lab.do(rollback, "--reason=further").exit_code == 0
    verdict = lab.judged(lab.good)
    assert (verdict["verdict"], alias(lab)) == (names.REFUSED, "1")
    assert "the same model was champion as version 3 and was rolled back: " in verdict["reasons"][0]
    for version in registry.versions("lab"):
        if names.TAG_ROLLED_BACK in version.tags:
            store.client.delete_model_version_tag("lab", version.version, names.TAG_ROLLED_BACK)
    assert lab.judged(lab.good, {"register.promote": "manual"})["verdict"] == names.CHALLENGER


@pytest.mark.parametrize(("reason", "sentence"), [("", "reason is missing"), ("once more", "has no previous champion")])
def test_a_rollback_that_cannot_be_exits_2(lab, reason, sentence):
    if reason:
        while lab.do(rollback, "--reason=on").exit_code == 0:
            pass
    done = lab.do(rollback, f"--reason={reason}")
    assert done.exit_code == 2
    assert sentence in done.output.strip().splitlines()[-1]


def test_history_prints_a_table_and_makes_no_run(lab, store, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    store.client.set_registered_model_alias("lab", names.CHAMPION, "2")
    before = len(store.client.search_runs([store.experiment]))
    done = CliRunner().invoke(rollback, ["--history", "--set=name=lab", f"--config={store.home / 'lab.yaml'}"])
    assert done.exit_code == 0, done.output
    assert len(store.client.search_runs([store.experiment])) == before
    for word in ("Champions of lab", PROMOTED, ROLLED_BACK, BY_HAND, "$(touch x) 'it' {said}", "beats the"):
        assert word in done.output
    shutil.rmtree(store.home / "warehouse", ignore_errors=True)
    defaults = CliRunner().invoke(rollback, ["--history"])
    assert defaults.exit_code == 0 and "flights" in defaults.output  # MLproject's, whatever the working folder
