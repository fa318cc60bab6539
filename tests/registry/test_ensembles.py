"""An ensemble from candidates and versions: made, judged, registered, scored; and who may be no member."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import keras
import logged
import mlflow
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from baton import names
from baton.errors import BadInput
from baton.orchestration import preflight
from baton.registry import candidates, ensembles, versions
from baton.tracking import runs
from baton.training import callbacks
from steps.batch_infer import batch_infer
from steps.register import register

SHIFT = 0.3  # of the last layer's weights, up in one member and down in the other: their mean is the network itself


def shifted(network: keras.Model, by: float) -> keras.Model:
    """A copy of a network whose answers are wrong otherwise."""
    copy = keras.models.clone_model(network)
    noise = np.random.default_rng(0)
    *hidden, kernel, bias = network.get_weights()
    copy.set_weights([*hidden, kernel + by * noise.choice([-1, 1], kernel.shape), bias])
    return copy


@pytest.fixture(scope="module")
def lab(laboratory, tmp_path_factory):
    """A pipeline's folder with two candidates that are wrong in opposite ways, and what registers and scores there."""
    home = tmp_path_factory.mktemp("ensembles")
    given = laboratory(home)
    with logged.tracked(home) as patch:
        patch.chdir(home)
        network = model_of(given.trained[1]).network
        members = []
        for step, by in (("train", SHIFT), ("distributed_train", -SHIFT)):
            with runs.start(step, given.config, {}) as run:
                candidates.log_candidate(given.config, run, given.dataset, callbacks.Result(shifted(network, by)))
            members.append(run.id)

        def called(step, **options):
            words = [f"--config={home / 'lab.yaml'}", *(f"--{key}={value}" for key, value in options.items())]
            return CliRunner().invoke(step, words)

        def registered(ids: list[str], ensemble: str) -> SimpleNamespace:
            override = f"register.ensemble={ensemble}"
            done = called(register, set=override, candidate_run_ids=",".join(ids))
            assert done.exit_code == 0, done.output
            (run,) = runs.client().search_runs(
                [given.experiment], f"tags.`{names.TAG_STEP}` = 'register'", max_results=1
            )
            return SimpleNamespace(run=run, verdict=runs.artifact(run, names.VERDICT))

        yield SimpleNamespace(**vars(given) | {"members": members}, called=called, registered=registered)


@pytest.fixture(scope="module")
def promoted(lab):
    return lab.registered(lab.members, "auto")


def model_of(run_id: str):
    tags = runs.client().get_run(run_id).data.tags
    return versions.load(tags[names.TAG_MODEL_URI], tags)


def test_it_is_a_candidate_of_its_own_judged_by_the_gate_and_registered_with_its_lineage(lab, promoted):
    verdict = promoted.verdict
    assert (verdict["candidate_step"], verdict["verdict"]) == (ensembles.STEP, names.PROMOTED), verdict
    child = runs.client().get_run(verdict["candidate_run_id"])
    assert child.data.tags["mlflow.parentRunId"] == promoted.run.info.run_id
    assert set(child.data.params["candidate_run_ids"].split(",")) == set(lab.members)  # which gc keeps with it
    described = runs.artifact(promoted.run, names.ENSEMBLE)
    weights = [member["weight"] for member in described["members"]]
    assert described["kept"] and sum(weights) == pytest.approx(1) and described["difference"]["high"] < 0
    assert described["tags"][names.TAG_MODEL_URI] == child.data.tags[names.TAG_MODEL_URI]
    version = versions.version("lab", verdict["version"])
    assert version.run_id == child.info.run_id
    assert all(f"{weight:.2f}" in version.tags[names.TAG_MEMBERS] for weight in weights)
    best = min(member["rmse"] for member in described["members"])
    assert verdict["metrics"]["validation"]["rmse"] < best
    raw = lab.dataset.raw_test()
    answers = [model_of(run_id).evaluate(raw)[1] for run_id in lab.members]
    mean = np.tensordot(weights, answers, 1)
    held = versions.load(f"models:/lab/{verdict['version']}", version.tags)
    np.testing.assert_allclose(held.evaluate(raw)[1], mean, rtol=1e-4, atol=1e-4)
    assert held.preprocessor.spec["target"]["intervals"]["half_widths"]  # fitted on what the mean answers


def test_it_scores_and_is_served_like_any_model(lab, promoted):
    done = lab.called(batch_infer, set="engine=local", register_run_id=promoted.run.info.run_id)
    assert done.exit_code == 0, done.output
    scored = pq.read_table(next(Path(lab.home / "predictions").glob("part-*.parquet")))
    assert set(scored["run_id"].to_pylist()) == {promoted.verdict["candidate_run_id"]}
    served = mlflow.pyfunc.load_model(f"models:/lab/{promoted.verdict['version']}")
    answers = served.predict(pq.read_table(lab.home / "new.parquet").to_pandas())
    np.testing.assert_allclose(answers["prediction"], scored["prediction"], rtol=1e-5)


def test_without_two_models_or_without_gain_the_best_candidate_is_judged(lab, caplog):
    caplog.set_level("INFO", "baton")
    alone = lab.registered(lab.members[:1] * 2, "auto")  # one model, named twice
    assert alone.verdict["candidate_run_id"] == lab.members[0]
    assert "an ensemble needs two different models" in caplog.text
    better = lab.registered(lab.trained, "auto")  # the same network, trained less and more
    described = runs.artifact(better.run, names.ENSEMBLE)
    assert not described["kept"] and not described["tags"]
    assert better.verdict["candidate_run_id"] == lab.trained[1]
    assert "is not surely better than the best model alone, train" in caplog.text


def test_a_version_is_a_member_once_and_must_be_of_the_same_rows_and_not_rolled_back(lab, promoted):
    number = promoted.verdict["version"]
    place, version = f"models:/lab/{number}", versions.version("lab", number)
    again = lab.registered(lab.members[:1], f"[{place}]")
    described = runs.artifact(again.run, names.ENSEMBLE)
    assert [member["name"] for member in described["members"]] == [f"train {lab.members[0][:8]}", place]
    assert described["best"] == place

    def refusal() -> str:
        done = lab.called(register, set=f"register.ensemble=[{place}]", candidate_run_ids=lab.members[0])
        assert done.exit_code == 2, done.output
        return done.output.splitlines()[-1]

    try:
        versions.retagged(version, {names.TAG_FINGERPRINT: "0" * 64})
        assert (
            "was trained on other rows" in refusal() and f"Received: {place}, of the dataset 000000000000" in refusal()
        )
        versions.retagged(version, {names.TAG_FINGERPRINT: lab.dataset.fingerprint})
        versions.retagged(version, {names.TAG_ROLLED_BACK: "too slow"})
        assert f"was rolled back: take it out. Received: {place}, too slow" in refusal()
    finally:
        runs.client().delete_model_version_tag("lab", number, names.TAG_ROLLED_BACK)


def test_a_version_that_is_not_there_is_named_before_a_run_too(lab):
    place = "models:/lab/99"
    done = lab.called(register, set=f"register.ensemble=[{place}]", candidate_run_ids=lab.members[0])
    sentence = f"register.ensemble names a version that is not in the registry. Received: {place}"
    assert done.exit_code == 2 and sentence in done.output
    given = lab.config.overridden({"register.ensemble": [place]})
    (look,) = (look for name, look in preflight._of_config(given) if name == "ensemble")
    with pytest.raises(BadInput, match=re.escape(sentence)):
        look()


def test_a_member_whose_files_were_changed_is_refused(lab):
    uri = runs.client().get_run(lab.members[0]).data.tags[names.TAG_MODEL_URI]
    kept = Path(mlflow.artifacts.download_artifacts(uri)) / "artifacts" / "model" / names.PREPROCESSOR
    before = kept.read_text()
    kept.write_text(json.dumps(json.loads(before) | {"task": "regression "}))
    try:
        done = lab.called(register, set="register.ensemble=auto", candidate_run_ids=",".join(lab.members[::-1]))
        assert done.exit_code == 2 and "is refused, and nothing of it was run" in done.output, done.output
    finally:
        kept.write_text(before)
