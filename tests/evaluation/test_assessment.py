"""The Assessment: a planted bad slice is found and a good one is not; what the steps log is what was agreed."""

import json
from types import SimpleNamespace

import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import tiny
import yaml
from click.testing import CliRunner

from baton import names
from baton.config.schema import Evaluation
from baton.data.feed import Feed
from baton.evaluation import assessment, metrics, slices
from baton.formatting import slice_text
from baton.registry import candidates
from baton.tracking import runs
from baton.training import fit
from steps.register import register

KEYS = {
    "rows", "metrics", "intervals", "confidence", "slices", "calibration", "conformal", "thresholds", "class_balance",
}  # fmt: skip


def table(rows: int = 4000, seed: int = 1) -> pa.Table:
    """A column of every kind; half a year of hours; one number of ten is missing."""
    rng = np.random.default_rng(seed)
    hours = rng.integers(0, 24 * 180, rows).astype("timedelta64[h]")
    amount = rng.lognormal(3, 1, rows)
    return pa.table(
        {
            "amount": pa.array(amount, mask=rng.random(rows) < 0.1),
            "grade": rng.integers(1, 6, rows),
            "flag": rng.random(rows) < 0.3,
            "city": pa.array(
                rng.choice(["Oslo", "Rome", "Lima"], rows, p=[0.6, 0.3, 0.1]), mask=rng.random(rows) < 0.05
            ),
            "at": np.datetime64("2024-01-01", "us") + hours,
            "y": rng.normal(size=rows),
        }
    )


@pytest.fixture(scope="module", params=["standard", "quantile"])
def mixed(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    return tiny.build(table(), folder, "regression", data={"numeric": request.param, "row_group_size": 200})


def masks(dataset) -> dict[str, np.ndarray]:
    """Name of each slice → which of the test rows are in it, by the encoded columns."""
    rows = Feed(dataset, "test", 64).arrays()
    return {
        f"{cut.column}: {label}": cut.codes(rows) == code
        for cut in slices.cuts_of(dataset.preprocessor)
        for code, label in enumerate(cut.labels)
    }


def test_slices_are_the_raw_rows_that_they_name(mixed):
    """Cut from encoded rows, compared with the raw test rows, which come in the same order."""
    _, dataset = mixed
    raw, found = dataset.raw_test(), masks(dataset)
    amount, at = raw["amount"].to_numpy(), raw["at"].combine_chunks()
    expected = {
        "amount: missing": np.isnan(amount),
        "flag: true": raw["flag"].to_numpy(),
        "flag: false": ~raw["flag"].to_numpy(),
        "grade: 4": raw["grade"].to_numpy() == 4,
        "city: Rome": pc.equal(raw["city"], "Rome").fill_null(False).to_numpy(),
        "city: missing": raw["city"].is_null().to_numpy(),
        "at: weekday 3": pc.day_of_week(at).to_numpy() == 3,
        "at: month 2": pc.month(at).to_numpy() == 2,
        "at: hour 0": pc.hour(at).to_numpy() == 0,
    }
    for name, rows in expected.items():
        np.testing.assert_array_equal(found[name], rows, err_msg=name)
        assert rows.any(), name
    spans = {name: rows for name, rows in found.items() if name.startswith("amount: ") and name != "amount: missing"}
    assert len(spans) == slices.QUANTILES
    np.testing.assert_array_equal(sum(rows.astype(int) for rows in spans.values()), ~np.isnan(amount))
    for name, rows in spans.items():
        low, _, high = name.removeprefix("amount: ").replace("below ", "0 to ").partition(" to ")
        low, high = float(low.removesuffix(" and more")), float(high or "inf")
        near = 0.01 * amount[rows]  # labels are rounded
        assert ((low - near <= amount[rows]) & (amount[rows] <= high + near)).all(), name
        assert 0.06 < rows.mean() < 0.17, name  # an eighth of the rows that have a number
    days = [name for name in found if name.startswith("at: ") and "2024-" in name]
    assert len(days) == slices.QUANTILES and "at: before 2024-01-2" in "".join(days)
    for name in days[1:-1]:
        low, high = (np.datetime64(day) for day in name.removeprefix("at: ").split(" to "))
        inside = raw["at"].to_numpy()[found[name]]
        assert (low <= inside).all() and (inside <= high + np.timedelta64(1, "D")).all()


def looked_at(dataset, losses: np.ndarray, **settings) -> list[dict]:
    return slices.find(
        [Feed(dataset, "test", 64).arrays()], dataset.preprocessor, losses, Evaluation(**{"slice_rows": 20, **settings})
    )


@pytest.mark.parametrize("planted", ["city: Lima", "amount: missing", "at: weekday 3", "flag: true"])
def test_a_planted_bad_slice_is_found_and_named(mixed, planted):
    _, dataset = mixed
    rng = np.random.default_rng(2)
    here = masks(dataset)[planted]
    losses = rng.normal(size=len(here)) ** 2 * np.where(here, 9.0, 1.0)
    found = looked_at(dataset, losses)
    first = found[0]
    assert slice_text(first).replace(" is ", ": ") == planted and first["worse"]
    assert first["rows"] == here.sum()
    assert first["value"] == pytest.approx(np.sqrt(losses[here].mean()))
    assert first["difference"] == pytest.approx(np.sqrt(losses[here].mean()) - np.sqrt(losses.mean()))
    assert first["interval"][0] < first["value"] < first["interval"][1]
    kind = {"city": "category", "amount": "missing", "at": "date", "flag": "quantile"}[planted.split(":")[0]]
    assert (first["kind"], first["metric"]) == (kind, "rmse")
    assert sum(entry["worse"] for entry in found) == 1, "no other slice is"
    assert planted.split(": ")[1] in slices.log_line(found, "rmse", 1.0)


def test_where_no_slice_is_worse_seldom_one_is_called_so(mixed):
    """Heavy tails, 60 slices and 150 models: at most one model in ten has a slice that is said to be surely worse."""
    _, dataset = mixed
    rows = Feed(dataset, "test", 64).arrays()
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(150):
        losses = rng.standard_t(5, len(rows["target"])) ** 2
        found = slices.find([rows], dataset.preprocessor, losses, Evaluation(slice_rows=20))
        wrong += any(entry["worse"] for entry in found)
    assert len(found) > 40 and wrong <= 15
    assert (
        slices.log_line([e | {"worse": False} for e in found], "rmse", 1.0) == "no slice is surely worse than the whole"
    )


def test_intervals_of_slices_hold_the_truth(mixed):
    _, dataset = mixed
    rows, here = Feed(dataset, "test", 64).arrays(), masks(dataset)["city: Lima"]
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(200):
        losses = rng.normal(size=len(here)) ** 2 * np.where(here, 4.0, 1.0)
        found = slices.find([rows], dataset.preprocessor, losses, Evaluation(slice_rows=20))
        (entry,) = [entry for entry in found if entry["slice"] == "Lima"]
        held += entry["interval"][0] <= 2.0 <= entry["interval"][1]
    assert 0.88 <= held / 200 <= 0.99


def test_pieces_add_up_and_small_slices_are_none(mixed):
    _, dataset = mixed
    rows = Feed(dataset, "test", 64).arrays()
    losses = np.random.default_rng(5).exponential(size=len(rows["target"]))
    pieces = [{k: v[i : i + 70] for k, v in rows.items()} for i in range(0, len(losses), 70)]
    whole, parts = (slices.find(p, dataset.preprocessor, losses, Evaluation(slice_rows=30)) for p in ([rows], pieces))
    assert [slice_text(entry) for entry in whole] == [slice_text(entry) for entry in parts]
    for key in ("rows", "value", "difference", "worse"):
        assert [entry[key] for entry in whole] == pytest.approx([entry[key] for entry in parts])
    assert all(30 <= entry["rows"] < len(losses) for entry in whole)
    assert not looked_at(dataset, losses, slice_rows=len(losses))
    order = [(not entry["worse"], -entry["difference"]) for entry in whole]
    assert order == sorted(order)


def test_labels_of_whole_numbers_moments_and_constants():
    def bins(raw, kind="numeric", type_="double", part="value"):
        scale = {"part": part, "encoding": "standard", "mean": 0.0, "std": 1.0}
        return slices._bins(np.array(raw, float), scale, kind, type_)[0]

    assert bins([0, 1, 5], type_="long") == ("0", "1 to 4", "5")
    assert bins([0, 1, 5]) == ("0", "1 to 4", "5")  # floats that are whole
    assert bins([0.5, 1, 2.25]) == ("below 1", "1 and more")
    assert bins([-0.0, 1.0], type_="long", part="hour") == ("hour 0", "hour 1")
    assert bins(range(0, 330, 10), type_="long")[:2] == ("up to 39", "40 to 79")
    day = slices.DAY
    assert bins([0, 10 * day, 20 * day, 40 * day], part="elapsed") == (
        "before 1970-01-11", "1970-01-11 to 1970-01-21", "1970-01-21 and later",
    )  # fmt: skip
    assert bins([0, 1e23, 2e23], part="elapsed") == ("before 1e+17 s", "1e+17 s and later")
    assert bins([1, 2], kind="boolean") == ("true", "true")


def nothing_but_json(value) -> bool:
    """Whether a value survives strict JSON: no NaN, no NumPy."""
    return json.loads(json.dumps(value, allow_nan=False)) == value


@pytest.mark.parametrize("kind", ["regression", "binary", "images", "uneven"])
def test_an_assessment_has_what_was_agreed(kind, request):
    config, dataset = request.getfixturevalue(kind)
    model, rows = candidates.finished(config, dataset, fit.train(config, dataset).model)
    found = assessment.assess(config, model.preprocessor, "validation", rows.feed.in_order(), rows.targets, rows.output)
    assert set(found) == KEYS and nothing_but_json(found)
    assert found["rows"] == dataset.rows["validation"] and found["confidence"] == 0.95
    assert found["metrics"] == metrics.evaluate(rows.targets, rows.output, model.preprocessor.threshold)
    for name, (low, high) in found["intervals"].items():
        assert low <= found["metrics"][name] <= high, name
    regression = kind == "regression"
    assert (found["conformal"] is not None) == regression == (found["class_balance"] is None)
    assert (found["thresholds"] is not None) == (kind in ("binary", "uneven"))
    if kind == "uneven":
        assert found["class_balance"]["yes"] == pytest.approx(0.1, abs=0.04)
        assert {e["class"] for e in found["thresholds"]} == {"yes"} and found["thresholds"][0]["recall"] > 0.3
    told = " ".join(assessment.log_lines(found, config.primary_metric))
    assert config.primary_metric in told and f"{found['metrics'][config.primary_metric]:.4f} [" in told


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """An MLflow store of its own, the working folder beside it."""
    home = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")
        patch.chdir(home)
        mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
        mlflow.create_experiment("tiny", artifact_location=(home / "artifacts").as_uri())
        yield SimpleNamespace(home=home, client=mlflow.MlflowClient())
        mlflow.set_tracking_uri(None)


@pytest.mark.parametrize("mixed", ["standard"], indirect=True)
def test_train_and_register_log_it(store, mixed, caplog):
    """What the steps do with a candidate: validation's is in evaluation.json, both are in assessment.json."""
    config, dataset = mixed
    config = config.overridden({"name": "tiny", "warehouse": str(store.home / "warehouse"), "train.epochs": 1})
    path = store.home / "tiny.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in config.dump().items() if v is not None}))
    with caplog.at_level("INFO", "baton"), runs.start("train", config, {}) as run:
        candidates.log_candidate(config, run, dataset, fit.train(config, dataset))
    told = " ".join(caplog.messages)
    assert "90 % intervals cover" in told and "slice" in told
    kept = runs.artifact(runs.find(run.id), names.EVALUATION)
    assert set(kept["assessment"]) == KEYS and kept["assessment"]["metrics"] == pytest.approx(kept["validation"])
    done = CliRunner().invoke(register, [f"--config={path}", "--set=", f"--candidate_run_ids={run.id}"])
    assert done.exit_code == 0, done.output
    (last,) = store.client.search_runs(["1"], f"tags.`{names.TAG_STEP}` = 'register'", max_results=1)
    both = runs.artifact(last, names.ASSESSMENT)
    assert both["validation"] == kept["assessment"] and set(both["test"]) == KEYS
    assert (
        both["test"]["rows"] == dataset.rows["test"]
        and 0.7 < both["test"]["conformal"]["levels"]["0.9"]["coverage"] <= 1
    )
    drawn = {file.path for file in store.client.list_artifacts(last.info.run_id, "figures")}
    assert {"figures/slices.png", "figures/intervals.png"} <= drawn
