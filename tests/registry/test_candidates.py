"""What a candidate's run tells of its content, what travels with its model, and how the gate takes it."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
import tiny
import yaml
from click.testing import CliRunner

from baton import names
from baton.data import reference, row_parts
from baton.data.dataset import Dataset
from baton.data.raw_rows import RawRows
from baton.errors import BadInput
from baton.orchestration import outputs
from baton.registry import candidates, champions, versions
from baton.tracking import runs
from baton.training import callbacks, fit
from steps.register import register


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """One table as two datasets, rows of which travel or do not, and candidates on them of one network, or another."""
    home = tmp_path_factory.mktemp("lab")
    uri = f"sqlite:///{home}/mlflow.db"
    built = {}
    for rows in (40, 0):
        (home / str(rows)).mkdir()
        built[rows] = tiny.build(
            tiny.regression_table(), home / str(rows), "regression", name="lab", data={"reference_rows": rows},
            warehouse=str(home / "warehouse"), batch_infer={"source": "-", "output": "-"},
            evaluation={"primary_metric": "mae"},
        )  # fmt: skip
    config, dataset = built[0]
    networks = {epochs: fit.train(config.overridden({"train.epochs": epochs}), dataset).model for epochs in (4, 30)}
    (home / "lab.yaml").write_text(yaml.safe_dump(config.dump()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.chdir(home)
        mlflow.set_tracking_uri(uri)
        mlflow.create_experiment("lab", artifact_location=(home / "artifacts").as_uri())

        def candidate(epochs: int, rows: int) -> SimpleNamespace:
            config, dataset = built[rows]
            result = callbacks.Result(networks[epochs])
            with runs.start("train", config, {}) as run:
                candidates.log_candidate(config, run, dataset, result)
            return runs.client().get_run(run.id)

        def judged(candidate) -> SimpleNamespace:
            options = [f"--config={home / 'lab.yaml'}", "--set=", f"--candidate_run_ids={candidate.info.run_id}"]
            done = CliRunner().invoke(register, options)
            assert done.exit_code == 0, done.output
            (run,) = runs.client().search_runs([candidate.info.experiment_id], max_results=1)
            return SimpleNamespace(**runs.artifact(run, names.VERDICT), run=run)

        yield SimpleNamespace(
            home=home, config=config, dataset=dataset, judged=judged, candidate=candidate,
            with_rows=candidate(4, 40), without=candidate(4, 0), better=candidate(30, 0),
        )  # fmt: skip
        mlflow.set_tracking_uri(None)


@pytest.fixture
def held(monkeypatch) -> list[int]:
    """Raw test rows are in parts of 16, and never whole; the numbers of rows that were held at once."""
    sizes, parts = [], RawRows.parts

    def noted(self, rows=None):
        for part in parts(self, rows):
            sizes.append(part.num_rows)
            yield part

    monkeypatch.setattr(row_parts, "PART_ROWS", 16)
    monkeypatch.setattr(RawRows, "parts", noted)
    monkeypatch.setattr(Dataset, "raw_test", None)
    return sizes


def files(lab, candidate) -> dict[str, Path]:
    """{relative path: path} of a candidate's model."""
    (home,) = (lab.home / "artifacts").rglob(candidate.data.tags[names.TAG_MODEL_URI].rpartition("/")[2])
    found = next(home.rglob("MLmodel")).parent
    return {path.relative_to(found).as_posix(): path for path in found.rglob("*") if path.is_file()}


def by_hand(number: str | None) -> None:
    if number is None:
        runs.client().delete_registered_model_alias("lab", names.CHAMPION)
    else:
        runs.client().set_registered_model_alias("lab", names.CHAMPION, number)


def afresh(number: str) -> None:
    """Forget who was champion; this version is."""
    for tag in versions.model_tags("lab"):
        runs.client().delete_registered_model_tag("lab", tag)
    by_hand(number)


def test_what_travels_is_part_of_the_content_and_no_part_of_the_network(lab):
    one, other = lab.with_rows.data.tags, lab.without.data.tags
    assert one[names.TAG_NETWORK] == other[names.TAG_NETWORK]
    assert one[names.TAG_FINGERPRINT] == other[names.TAG_FINGERPRINT]
    for tag in (names.TAG_MODEL_CONTENT, names.TAG_OUTPUT):
        assert one[tag] != other[tag]
        assert lab.better.data.tags[tag] != other[tag]
    again = lab.candidate(4, 0).data.tags
    assert [again[tag] for tag in (names.TAG_NETWORK, names.TAG_MODEL_CONTENT, names.TAG_OUTPUT)] == [
        other[tag] for tag in (names.TAG_NETWORK, names.TAG_MODEL_CONTENT, names.TAG_OUTPUT)
    ]


def test_no_row_is_in_the_model_where_none_may_travel(lab):
    """Not as an example either, which MLflow keeps beside the data."""
    held = files(lab, lab.with_rows)
    assert "input_example.json" in held
    assert reference.load(held[f"artifacts/model/{names.TRAINED_ON}"].parent).rows.num_rows == 40
    held = files(lab, lab.without)
    assert not [name for name in held if "example" in name]
    assert reference.load(held[f"artifacts/model/{names.TRAINED_ON}"].parent).rows.num_rows == 0
    described = held["MLmodel"].read_text()
    assert not [x for x in lab.dataset.raw_test()["x1"].to_pylist() if str(x) in described]


def test_the_same_network_that_carries_other_data_takes_its_own_place(lab, held):
    """Under `better`: what nobody can tell from the champion is never better, and a privacy switch must count."""
    assert lab.judged(lab.with_rows).verdict == names.PROMOTED
    assert max(held) == 16 and sum(held) >= 2 * lab.dataset.rows["test"]  # the model and the sketch of the rows
    verdict = lab.judged(lab.without)
    assert (verdict.verdict, champions.current("lab")) == (names.PROMOTED, "2")
    assert "the candidate is the champion, version 1, itself" in verdict.reasons[-1]
    assert "what travels with it differs, so it takes that version's place" in verdict.reasons[-1]
    assert verdict.test_set["looks"] == 1
    assert [reason for reason in verdict.reasons if reason.startswith("test mae")]  # the config's primary metric
    again = lab.judged(lab.without)
    assert again.verdict == names.REFUSED and "is the champion's own" in again.reasons[-1]
    assert outputs.broken("register", again.run, lab.config) is None


def test_a_champion_whose_files_are_gone_is_no_hit_and_is_mended_by_its_own_network(lab):
    again = lab.judged(lab.without)
    for name in ("network.keras", ""):
        kept = files(lab, lab.without)
        path = kept[f"artifacts/model/{name}"] if name else kept["MLmodel"].parent
        shutil.move(path, lab.home / "kept")
        assert outputs.broken("register", again.run, lab.config).endswith("is missing")
        if not name:
            sentence = "The files of a model are gone, .* run main, .* or rollback, .* Received: models:/lab/2"
            with pytest.raises(BadInput, match=sentence), versions.downloaded("models:/lab/2", {}):
                pass
            mended = lab.judged(lab.candidate(4, 0))
        shutil.move(lab.home / "kept", path)
    assert (mended.verdict, champions.current("lab")) == (names.PROMOTED, mended.version)
    assert "the candidate is the champion, version 2, itself, which can be used no more" in mended.reasons[-1]


def test_what_a_person_has_taken_from_the_champion_is_not_promoted_by_a_step(lab):
    afresh("1")
    promoted = lab.judged(lab.better)
    assert promoted.verdict == names.PROMOTED
    by_hand("1")
    assert outputs.broken("register", promoted.run, lab.config).startswith("registry changed: champion version ")
    verdict = lab.judged(lab.better)
    assert (verdict.verdict, champions.current("lab")) == (names.CHALLENGER, "1")
    assert verdict.reasons[-1] == (
        f"the same model was champion as version {promoted.version} until version 1 was made champion by hand, and "
        f"that is left so: give version {verdict.version} the alias champion by hand to lift it"
    )
    assert outputs.broken("register", verdict.run, lab.config) is None  # the next main asks no more
    by_hand(verdict.version)
    assert str(versions.to_score_with(lab.config, "").version) == verdict.version
