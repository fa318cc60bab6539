"""An alias that was moved in the registry's UI: who scores then, who is refused and why, and what the history keeps."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import chromium
import databases
import logged
import mlflow
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from playwright.sync_api import expect

from baton import names
from baton.orchestration import batch_scoring
from baton.registry import champions, descriptions, versions
from baton.registry.history import BY_HAND, PROMOTED
from baton.runtime import replacing
from baton.serving import destination
from baton.tracking import runs
from steps.batch_infer import batch_infer
from steps.reconcile import reconcile
from steps.register import register
from steps.rollback import rollback

ROOT = Path(__file__).parents[2]
PROD = "lab-prod"


@pytest.fixture(scope="module")
def store(laboratory, tmp_path_factory):
    """Two candidates, the second of which is better, that were promoted one after the other; the second has scored."""
    home = tmp_path_factory.mktemp("lab")
    made = laboratory(home)
    with logged.tracked(home) as patch:
        patch.chdir(home)
        for run_id in made.trained:
            done = invoke(made, register, f"--candidate_run_ids={run_id}")
            assert done.exit_code == 0, done.output
        assert reconciled(made).exit_code == 0
        shutil.copytree(home / "predictions", home / "kept")
        databases.copy(home / "mlflow.db", home / "kept.db")
        yield made


@pytest.fixture
def lab(store):
    """Version 1 and the better version 2, each promoted by register; version 2 has scored. All is as at first."""
    yield store
    databases.copy(store.home / "kept.db", store.home / "mlflow.db")
    shutil.rmtree(store.home / "predictions", ignore_errors=True)
    shutil.copytree(store.home / "kept", store.home / "predictions")


def invoke(lab, command, *options: str, **overrides: str):
    given = ",".join(f"{key.replace('__', '.')}={value}" for key, value in overrides.items())
    return CliRunner().invoke(command, [f"--config={lab.home / 'lab.yaml'}", f"--set={given}", *options])


def reconciled(lab, **overrides: str):
    return invoke(lab, reconcile, **overrides)


def refusal(lab, **overrides: str) -> str:
    """What reconcile says, which must be refused and leave the predictions as they are."""
    before = scored(lab)
    done = reconciled(lab, **overrides)
    assert done.exit_code == 2, done.output
    assert scored(lab) == before
    return done.output.strip().splitlines()[-1]


def scored(lab) -> dict | None:
    return destination.last_scoring(lab.home / "predictions")


def who_scored(lab) -> tuple[str, str]:
    mark = scored(lab)
    return mark["model_name"], mark["model_version"]


def by_hand(number: str | None, model: str = "lab") -> None:
    if number is None:
        runs.client().delete_registered_model_alias(model, names.CHAMPION)
    else:
        runs.client().set_registered_model_alias(model, names.CHAMPION, number)


def copied(number: str) -> str:
    """A version as “Promote model” copies it into the other model, with the alias on it."""
    version = runs.client().copy_model_version(f"models:/lab/{number}", PROD)
    by_hand(version.version, PROD)
    return str(version.version)


def steps_run(lab) -> list[str]:
    """The steps of all runs, newest first."""
    found = runs.client().search_runs([lab.experiment], order_by=["attributes.start_time DESC"])
    return [step for run in found if (step := run.data.tags.get(names.TAG_STEP))]


# A version that has passed


def test_a_champion_that_a_hand_has_moved_scores_once_and_is_on_record(lab, monkeypatch):
    assert who_scored(lab) == ("lab", "2")
    by_hand("1")
    done = reconciled(lab)
    assert done.exit_code == 0, done.output
    assert who_scored(lab) == ("lab", "1") and set(
        pq.read_table(lab.home / "predictions")["model_version"].to_pylist()
    ) == {"1"}
    changes = champions.history("lab")
    assert [(c.version, c.previous, c.how) for c in changes] == [
        ("1", None, PROMOTED), ("2", "1", PROMOTED), ("1", "2", BY_HAND),
    ]  # fmt: skip
    run = runs.client().get_run(changes[-1].by)
    assert run.data.tags[names.TAG_STEP] == "reconcile"
    kept = runs.artifact(run, names.RECONCILE)
    assert (kept["version"], kept["change"]["how"]) == ("1", BY_HAND)
    scoring = runs.client().get_run(kept["scoring_run_id"])
    assert scoring.data.tags["mlflow.parentRunId"] == run.info.run_id and scoring.info.status == "FINISHED"
    assert scoring.data.tags[names.TAG_STEP] == "batch_infer" and runs.content(scoring, names.CARD)
    assert scored(lab)["scoring_run_id"] == scoring.info.run_id
    card = runs.content(scoring, names.CARD).decode()
    assert "Version 1 is champion, set by hand, after version 2: " in card and f"run {run.info.run_id}." in card
    monkeypatch.setenv("COLUMNS", "200")
    last = invoke(lab, rollback, "--history").output.splitlines()[-1]
    assert BY_HAND in last and run.info.run_id in last
    before = steps_run(lab)
    assert reconciled(lab).exit_code == 0
    assert steps_run(lab) == before and champions.history("lab") == changes, "nothing to do makes no run"


def test_a_reconcile_that_failed_goes_on_where_it_was(lab, monkeypatch):
    """Before the predictions take their place, and after the change was recorded."""
    by_hand("1")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(replacing, "replace", full)
        assert reconciled(lab).exit_code == 2
    assert who_scored(lab) == ("lab", "2")
    tags = versions.version("lab", "1").tags
    assert "no room left" in tags[names.TAG_NOT_SCORED]
    assert tags[names.TAG_CHAMPION_BY] == champions.history("lab")[-1].by, "once there are predictions none comes back"
    assert reconciled(lab).exit_code == 0
    assert who_scored(lab) == ("lab", "1")
    assert [c.how for c in champions.history("lab")] == [PROMOTED, PROMOTED, BY_HAND]
    assert names.TAG_NOT_SCORED not in versions.version("lab", "1").tags


def test_predictions_of_a_run_that_was_killed_before_it_told_of_them_are_made_again(lab):
    """The run is still open, and its process is gone."""
    gone = runs.client().create_run(lab.experiment, tags=runs.owner_tags(lab.config) | {names.TAG_PROCESS: "1:1"})
    mark = lab.home / "predictions" / destination.MARK
    mark.write_text(json.dumps({**scored(lab), "scoring_run_id": gone.info.run_id}))
    assert reconciled(lab).exit_code == 0
    assert runs.find(gone.info.run_id).info.status == "KILLED"
    assert scored(lab)["scoring_run_id"] != gone.info.run_id and who_scored(lab) == ("lab", "2")


def test_to_look_and_find_nothing_to_do_needs_no_tensorflow(lab):
    """The schedule does it every few minutes."""
    code = (
        "import json, sys\nfrom steps.reconcile import reconcile\n"
        f"try: reconcile(['--config={lab.home / 'lab.yaml'}', '--set='])\n"
        "finally: print(json.dumps([m for m in ('tensorflow', 'keras', 'matplotlib') if m in sys.modules]))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "scored last: nothing to do" in done.stderr, done.stderr
    assert json.loads(done.stdout) == []


def test_a_version_that_was_rolled_back_does_not_score_by_the_alias_alone(lab):
    champions.roll_back(lab.config, "b" * 32, "worse on Mondays")
    assert reconciled(lab).exit_code == 0 and who_scored(lab) == ("lab", "1")
    by_hand("2")
    sentence = refusal(lab)
    assert sentence == (
        "Version 2 of lab bears the alias champion and was rolled back: give the alias to another version or run "
        "rollback; if it is wanted again delete its tag baton.rolled_back, or set batch_infer.allow_unvalidated: true "
        "to score with it. Received: rolled back because worse on Mondays"
    )
    assert versions.version("lab", "2").tags[names.TAG_NOT_SCORED] == sentence
    done = reconciled(lab, batch_infer__allow_unvalidated="true")
    assert done.exit_code == 0 and who_scored(lab) == ("lab", "2")
    assert names.TAG_ROLLED_BACK in versions.version("lab", "2").tags, "that is not lifted by this"


def test_who_was_rolled_back_while_it_scored_does_not_take_the_place_of_predictions(lab, monkeypatch):
    by_hand("1")
    score = batch_scoring.score

    def meanwhile(*arguments):
        champions.roll_back(lab.config, "b" * 32, "worse")
        return score(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(batch_scoring, "score", meanwhile)
        assert "was rolled back while it scored" in reconciled(lab).output
    assert who_scored(lab) == ("lab", "2")
    assert reconciled(lab).exit_code == 0 and who_scored(lab) == ("lab", "2")


# What a person can decide by


def described(number: str) -> str:
    return runs.client().get_model_version("lab", number).description


def test_a_version_and_its_model_tell_what_a_person_decides_by(lab):
    text = described("2")
    run = versions.version("lab", "2").tags[names.TAG_REGISTER_RUN]
    for part in (
        "**promoted.** It may score.",
        "- test rmse 0.24",
        "**Predicts** y (regression) from 4 columns (c, n, x1, x2); trained on the dataset ",
        "| metric on test rows | value | interval | version 1 |",
        "**Slices:** ",
        "**Drift at the last scoring:** none was measured yet",
        "**Data:** 600 rows; trained on 2",
        "give version 2 the alias `champion`",
        f"/runs/{run})",
    ):
        assert part in text, text
    rmse = next(line for line in text.splitlines() if line.startswith("| rmse |"))
    assert len([cell for cell in rmse.split("|") if cell.strip()]) == 4, "with its interval, and the champion's"
    model = runs.client().get_registered_model("lab").description
    assert "Champion is **version 2**, since 2" in model and text.partition(descriptions.OWN)[2].strip() in model


def test_what_a_person_has_written_stays_and_the_rest_is_kept_current(lab):
    runs.client().update_model_version("lab", "1", f"Ask Ann first.\n\n{described('1')}")
    by_hand("1")
    done = reconciled(lab, batch_infer__drift__measure="true")
    assert done.exit_code == 0, done.output
    text = described("1")
    assert text.startswith(f"Ask Ann first.\n\n{descriptions.OWN}\n\n**promoted.**")
    assert text.count(descriptions.OWN) == 1
    assert re.search(r"Drift at the last scoring:\*\* \d{4}-\d\d-\d\d: ", text)
    assert "Champion is **version 1**" in runs.client().get_registered_model("lab").description


@pytest.mark.parametrize(
    ("before", "above"),
    [("", ""), ("promoted: better", ""), ("mine", "mine\n\n"), (f"mine\n{descriptions.OWN}\nold", "mine\n\n")],
)
def test_a_description_keeps_what_is_above_batons_part(before, above):
    assert descriptions.merged(before, "new") == f"{above}{descriptions.OWN}\n\nnew"


def test_what_data_and_people_wrote_draws_nothing(lab):
    version = versions.version("lab", "1")
    tags = {**version.tags, names.TAG_REASONS: "[x](http://evil) <b>"}
    text = descriptions.of_version(lab.config, replace(version, tags=tags), ["a|b"], None)
    assert r"- \[x\](http://evil) \<b\>" in text and r"(a\|b)" in text


# A version that may not score, and an alias without one


def test_a_refused_version_does_not_score_and_tells_so_where_people_look(lab):
    done = invoke(lab, register, f"--candidate_run_ids={lab.trained[0]}")
    assert done.exit_code == 0, done.output
    by_hand("3")
    sentence = refusal(lab)
    assert sentence == (
        "Version 3 of lab bears the alias champion without having passed the gate; set batch_infer.allow_unvalidated: "
        "true to score with it. Received: refused verdict"
    )
    assert versions.version("lab", "3").tags[names.TAG_NOT_SCORED] == sentence
    before = steps_run(lab)
    assert refusal(lab) == sentence
    assert steps_run(lab) == before and [c.how for c in champions.history("lab")] == [PROMOTED, PROMOTED, BY_HAND]
    assert reconciled(lab, batch_infer__allow_unvalidated="true").exit_code == 0
    assert who_scored(lab) == ("lab", "3")


def test_a_version_that_somebody_else_registered_does_not_score(lab):
    folder = lab.home / "strange"
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    by_hand(runs.client().create_model_version("lab", folder.as_uri()).version)
    assert "Version 3 of lab bears the alias champion and was not registered by the step register" in refusal(lab)


@pytest.mark.parametrize(
    ("become", "sentence"),
    [
        (lambda: by_hand(None), "The alias champion was taken from version 2 of lab, .* Received: the versions 1, 2"),
        (
            lambda: runs.client().delete_model_version("lab", "2"),
            "Version 2 of lab, which scored last, was deleted, .* Received: the versions 1$",
        ),
        (
            lambda: runs.client().rename_registered_model("lab", "flights"),
            "Model lab, .* deleted or renamed: .* Received: the model flights with that version",
        ),
        (
            lambda: runs.client().delete_registered_model("lab"),
            "Model lab, .* deleted or renamed: .* Received: no model of that name",
        ),
    ],
    ids=["removed", "version-deleted", "renamed", "model-deleted"],
)
def test_an_alias_that_no_version_bears_leaves_the_predictions_and_a_sentence(lab, become, sentence):
    become()
    assert re.search(sentence, told := refusal(lab)), told
    assert "The predictions of version 2 stay as they are." in told


def test_a_pipeline_that_never_scored_scores_and_one_without_a_champion_says_so(lab):
    shutil.rmtree(lab.home / "predictions")
    by_hand(None)
    assert "Model lab has no version with the alias champion: run main first, or give" in refusal(lab)
    by_hand("2")
    assert reconciled(lab).exit_code == 0 and who_scored(lab) == ("lab", "2")


# A copy in another model


def test_a_copy_is_judged_against_the_champion_of_its_own_model(lab):
    """The first copy has no champion there to beat; the worse one that follows it was promoted once, over nobody."""
    assert copied("2") == "1"
    done = invoke(lab, batch_infer, "--register_run_id=", batch_infer__model=PROD)
    assert done.exit_code == 2 and "is a copy whose verdict was given for the model lab: run reconcile" in done.output
    done = reconciled(lab, batch_infer__model=PROD)
    assert done.exit_code == 0, done.output
    assert who_scored(lab) == (PROD, "1") and scored(lab)["pipeline"] == "lab"
    tags = versions.version(PROD, "1").tags
    assert (tags[names.TAG_VERDICT], tags[names.TAG_JUDGED_FOR]) == (names.PROMOTED, PROD)
    assert names.TAG_INTERVAL not in tags, "which was of the other model's champion"
    done = invoke(lab, batch_infer, "--register_run_id=", batch_infer__model=PROD)
    assert done.exit_code == 0, done.output
    assert copied("1") == "2"
    sentence = refusal(lab, batch_infer__model=PROD)
    assert "Version 2 of lab-prod is a copy and did not pass the gate of this model" in sentence
    assert "does not beat the champion's" in sentence and "2 models have been asked" in sentence
    assert versions.version(PROD, "2").tags[names.TAG_VERDICT] == names.REFUSED
    assert "without having passed the gate" in refusal(lab, batch_infer__model=PROD)
    assert versions.version("lab", "1").tags[names.TAG_VERDICT] == names.PROMOTED


def test_a_verdict_against_the_same_champion_counts_for_the_copy(lab, monkeypatch):
    """Version 2 was judged against version 1, whose copy is the champion there."""
    copied("1")
    assert reconciled(lab, batch_infer__model=PROD).exit_code == 0
    copied("2")
    monkeypatch.setattr("baton.registry.evidence.gather", lambda *_: pytest.fail("it is judged again"))
    done = reconciled(lab, batch_infer__model=PROD)
    assert done.exit_code == 0, done.output
    assert who_scored(lab) == (PROD, "2")
    assert json.loads(versions.version(PROD, "2").tags[names.TAG_INTERVAL])["champion_version"] == "1"


def test_a_copy_whose_test_rows_are_gone_is_refused_with_the_way_out(lab):
    copied("2")
    shutil.move(lab.dataset.folder, lab.home / "aside")
    try:
        sentence = refusal(lab, batch_infer__model=PROD)
    finally:
        shutil.move(lab.home / "aside", lab.dataset.folder)
    assert "Version 1 of lab-prod is a copy whose verdict was given for the model lab, and what it would" in sentence
    assert reconciled(lab, batch_infer__model=PROD).exit_code == 0


def test_a_copy_of_what_was_rolled_back_does_not_score(lab):
    champions.roll_back(lab.config, "b" * 32, "worse on Mondays")
    copied("2")
    assert "was rolled back: worse on Mondays" in refusal(lab, batch_infer__model=PROD)


# In a real browser

KEY = "a secret of many characters"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def process(lab, command: list[str], ready: str, **environment: str):
    """A process of the lab's store that has said that it is ready."""
    env = {**os.environ, **environment, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    log = lab.home / f"{command[-1].strip('-')[:20].replace('/', '_')}.log"
    with log.open("w") as held:
        started = subprocess.Popen(
            command, cwd=lab.home, env=env, stdout=held, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_for(lambda: ready in log.read_text() or started.poll() is not None, log)
        yield started, log
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGTERM)
        started.wait(60)


def wait_for(good, log: Path) -> None:
    end = time.monotonic() + 180
    while not good():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


@pytest.fixture(scope="module")
def page():
    with chromium.page() as opened:
        yield opened


def give_alias(page, address: str, number: str) -> None:
    """What a person does on a version's page."""
    page.goto("about:blank")  # else what the page shows may be of the version before
    page.goto(f"{address}/#/models/lab/versions/{number}")
    page.get_by_role("button", name="Add").first.click()
    dialog = page.get_by_role("dialog")
    alias = dialog.get_by_role("combobox")
    alias.fill(names.CHAMPION)
    alias.press("Enter")
    save = dialog.get_by_role("button", name="Save aliases")
    expect(save).to_be_enabled(timeout=chromium.MILLISECONDS)
    with page.expect_response("**/registered-models/alias") as answer:
        save.press("Enter")  # a click may miss: the warning of the alias's present version moves the button
    assert answer.value.ok, answer.value.text()
    dialog.wait_for(state="hidden")


def test_an_alias_that_is_given_in_the_ui_scores_and_one_that_may_not_is_refused_there(lab, page):
    done = invoke(lab, register, f"--candidate_run_ids={lab.trained[0]}")
    assert done.exit_code == 0, done.output
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    server = [
        "mlflow",
        "server",
        "--backend-store-uri",
        mlflow.get_tracking_uri(),
        "--workers",
        "1",
        "--port",
        str(port),
    ]
    allowed = {"MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"}
    hook = f"127.0.0.1:{free_port()}"
    options = [f"--config={lab.home / 'lab.yaml'}", f"--listen={hook}"]
    receiver = [sys.executable, "-m", "steps.reconcile", *options]
    with (
        process(lab, server, "startup complete", **allowed),
        process(lab, receiver, "ended with status", BATON_WEBHOOK_SECRET=KEY, PYTHONPATH=str(ROOT)) as (listening, log),
    ):
        remote = mlflow.MlflowClient(address, address)
        remote.create_webhook("reconcile", f"http://{hook}/", ["model_version_alias.created"], secret=KEY)
        give_alias(page, address, "1")
        wait_for(lambda: who_scored(lab) == ("lab", "1"), log)
        change = champions.history("lab")[-1]
        assert (change.version, change.previous, change.how) == ("1", "2", BY_HAND)
        wait_for(lambda: log.read_text().count("ended with status 0") == 2, log)
        give_alias(page, address, "3")
        wait_for(lambda: names.TAG_NOT_SCORED in versions.version("lab", "3").tags, log)
        page.reload()
        page.get_by_text("bears the alias champion without having passed the gate").first.wait_for()
        wait_for(lambda: "ended with status 2" in log.read_text(), log)
        os.kill(listening.pid, signal.SIGTERM)
        assert listening.wait(60) == 0, log.read_text()
        remote.delete_registered_model_alias("lab", names.CHALLENGER)  # who has no alias yet has the button
        give_alias(page, address, "2")  # nobody hears of it
    assert who_scored(lab) == ("lab", "1") and KEY not in log.read_text()
    assert reconciled(lab).exit_code == 0 and who_scored(lab) == ("lab", "2"), "the schedule makes good"
