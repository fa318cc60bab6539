"""Drift of pictures: strange ones are found, others are no alarm, and what travels is small and read safely."""

from pathlib import Path
from types import SimpleNamespace

import keras
import logged
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny

from baton import names
from baton.config.schema import BatchInfer, Drift
from baton.data import reference
from baton.data.feed import Feed
from baton.errors import BadInput
from baton.monitoring import drift, picture_drift
from baton.networks import ensemble, layers, prediction, views
from baton.networks.penultimate import penultimate
from baton.orchestration import batch_scoring
from baton.registry import candidates
from baton.serving import scoring

LIMITS = Drift()


@pytest.fixture(scope="module")
def learnt(tmp_path_factory) -> SimpleNamespace:
    """A model of pictures by an untrained network, and what would travel with it."""
    config, dataset = tiny.build(
        tiny.image_table(600), tmp_path_factory.mktemp("learnt"), "image", model={"filters": [8, 16]},
        data={"split": {"train": 0.5, "validation": 0.4, "test": 0.1}},
    )  # fmt: skip
    model = logged.untrained(config, dataset)
    rows = candidates.EvaluatedSplit.of(model.network, dataset, "validation")
    return SimpleNamespace(dataset=dataset, model=model, rows=rows, known=candidates.what_travels(dataset, model, rows))


def scored(learnt, table: pa.Table, folder: Path, files: int = 1) -> Path:
    """Predictions of a table's pictures as batch_infer writes them, cut into files."""
    lineage = scoring.Lineage("m", "1", "r", "f", "s")
    rows = scoring.score_rows(learnt.model, table.select(["image"]), lineage)[0]
    folder.mkdir()
    for number, places in enumerate(np.array_split(np.arange(rows.num_rows), files)):
        pq.write_table(rows.take(pa.array(places)), folder / f"part-{number:05d}.parquet", row_group_size=70)
    return folder


def dots(count: int, seed: int) -> list[bytes]:
    """Pictures of a kind that nothing was learnt from: a chessboard."""
    rng = np.random.default_rng(seed)
    board = 255 * (np.indices((8, 8)).sum(axis=0) % 2)
    return [tiny.png(np.clip(board + rng.normal(0, 10, (8, 8)), 0, 255)) for _ in range(count)]


def measured(learnt, folder: Path) -> dict:
    model = learnt.model
    found = picture_drift.of_scored(learnt.known, model.network, model.preprocessor, folder, LIMITS)
    assert found is not None
    return found


def test_the_features_are_what_the_head_makes_its_answer_of(learnt):
    pixels = {"image": Feed(learnt.dataset, "test", 32).arrays()["image"]}
    for network in (learnt.model.network, layers.calibrated(learnt.model.network, 2.0)):
        features = prediction.predict(penultimate(network), pixels)
        kernel, bias = network.get_layer("head").get_weights()
        logits = (features @ kernel + bias).astype(np.float64)
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert prediction.predict(learnt.model.network, pixels) == pytest.approx(expected, abs=1e-5)


def test_of_an_ensemble_of_views_the_features_are_those_that_the_heaviest_member_sees_in_the_whole_picture(learnt):
    network, pixels = learnt.model.network, {"image": Feed(learnt.dataset, "test", 32).arrays()["image"]}
    other = keras.models.clone_model(network)  # of other weights
    seen = [views.viewed(each, [views.View(), views.View(mirror=True)]) for each in (other, network)]
    whole = layers.calibrated(ensemble.combined(seen, [0.25, 0.75]), 2.0)
    expected = prediction.predict(penultimate(network), pixels)
    assert (prediction.predict(penultimate(whole), pixels) == expected).all()
    assert (prediction.predict(penultimate(other), pixels) != expected).any()


def test_other_pictures_of_the_same_kind_are_no_drift(learnt, tmp_path):
    found = measured(learnt, scored(learnt, tiny.image_table(300, seed=9), tmp_path / "new"))
    assert (found["rows"], found["reference_rows"]) == (300, learnt.dataset.rows["validation"])
    assert found["distance"]["verdict"] == found["domain_auc"]["verdict"] == "ok"
    assert drift._picture_warnings(found, LIMITS) == []


def test_pictures_of_another_kind_are_told(learnt, tmp_path):
    folder = scored(learnt, pa.table({"image": dots(80, seed=1)}), tmp_path / "new")
    found = measured(learnt, folder)
    assert found["domain_auc"]["auc"] > 0.99 and found["distance"]["effect_size"] > 0.9
    preprocessor = learnt.model.preprocessor
    rows = drift.sampled(folder, preprocessor, 100)
    told = drift.measure(learnt.known, preprocessor, rows, LIMITS, drift.ReferenceScores({}), found)
    assert told["pictures"] is found
    assert [sentence for sentence in told["warnings"] if sentence.startswith("distance of pictures has drifted: PSI")]
    assert "new pictures can be told from those of the training data: AUC 1.00 (limit 0.75)" in told["warnings"]


def test_the_strangest_come_first_however_the_predictions_are_cut_into_files(learnt, tmp_path, monkeypatch):
    """Spark writes a file a task, in the source's order."""
    usual = tiny.image_table(200, seed=9)["image"].to_pylist()
    odd = dots(2, seed=1)
    table = pa.table({"image": [*usual[:90], odd[0], *usual[90:], odd[1]]})
    whole = measured(learnt, scored(learnt, table, tmp_path / "whole"))
    assert [each["row"] for each in whole["strangest"][:2]] in ([90, 201], [201, 90])
    assert [each["farther_than"] for each in whole["strangest"][:2]] == [1, 1]
    assert len(whole["strangest"]) == picture_drift.STRANGEST
    parts = scored(learnt, table, tmp_path / "parts", files=5)
    again = measured(learnt, parts)
    near = [{**each, "distance": pytest.approx(each["distance"], abs=1e-5)} for each in whole["strangest"]]
    assert again == {**whole, "strangest": near}  # networks see other batches
    pixels = picture_drift.pixels_of(learnt.model.preprocessor, parts, np.array([201, 90]))
    decoded = {row: learnt.model.preprocessor.decoder.decode(cell) for row, cell in zip((90, 201), odd, strict=True)}
    assert list(pixels) == [90, 201] and all((pixels[row] == decoded[row]).all() for row in pixels)
    monkeypatch.setattr(picture_drift, "MAX_PICTURES", 60)
    some = measured(learnt, parts)
    assert some["rows"] == 60 and all(each["row"] < 202 for each in some["strangest"])


def test_a_step_logs_them_with_their_figure(learnt, tmp_path, monkeypatch):
    folder = scored(learnt, pa.table({"image": dots(80, seed=1)}), tmp_path / "new")
    logged_: dict = {}
    run = SimpleNamespace(
        json=lambda values, name: logged_.update({name: values}), figures=logged_.update, metrics=lambda values: None
    )
    monkeypatch.setattr(batch_scoring.store, "tag", lambda version, tags: None)
    settings = BatchInfer(source="new.parquet", output=str(folder))
    version = SimpleNamespace(run_id=None, tags={})
    model = learnt.model
    batch_scoring.report_drift(run, settings, version, model.preprocessor, learnt.known, model.network)
    assert {names.DRIFT, "drift", "drift_columns", "drift_pictures"} <= set(logged_)
    assert len([axis for axis in logged_["drift_pictures"].axes if axis.images]) == picture_drift.STRANGEST


def test_features_travel_within_their_bounds_or_not_at_all(learnt, tmp_path, monkeypatch):
    network, feed = learnt.model.network, learnt.rows.feed
    features = learnt.known.picture_features
    assert features.shape == (learnt.dataset.rows["validation"], 16) and features.dtype == np.float32
    assert len(picture_drift.to_travel(network, feed, 70)) == 70
    monkeypatch.setattr(picture_drift, "MAX_VALUES", 16 * 60)
    assert len(picture_drift.to_travel(network, feed, 5000)) == 60
    assert picture_drift.to_travel(network, feed, 49) is None
    few = scored(learnt, tiny.image_table(20, seed=9), tmp_path / "few")
    assert picture_drift.of_scored(learnt.known, network, learnt.model.preprocessor, few, LIMITS) is None


def test_no_feature_travels_where_no_row_may(tmp_path):
    data = {"reference_rows": 0, "split": {"train": 0.4, "validation": 0.5, "test": 0.1}}
    config, dataset = tiny.build(tiny.image_table(150), tmp_path, "image", data=data)
    model = logged.untrained(config, dataset)
    rows = candidates.EvaluatedSplit.of(model.network, dataset, "validation")
    assert rows.feed.rows > drift.MIN_ROWS
    known = candidates.what_travels(dataset, model, rows)
    known.save(tmp_path)
    assert known.picture_features is None and not (tmp_path / names.PICTURE_FEATURES).exists()


def test_features_are_the_same_after_a_round_trip_and_damaged_ones_are_refused(learnt, tmp_path):
    learnt.known.save(tmp_path)
    again = reference.load(tmp_path)
    assert again == learnt.known and (again.picture_features == learnt.known.picture_features).all()
    for damaged in (b"", b"\x93NUMPY torn", (tmp_path / names.PICTURE_FEATURES).read_bytes()[:-3]):
        (tmp_path / names.PICTURE_FEATURES).write_bytes(damaged)
        with pytest.raises(BadInput, match="picture_features.npy is damaged"):
            reference.load(tmp_path)
    np.save(tmp_path / names.PICTURE_FEATURES, np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(BadInput, match="picture_features.npy is damaged"):
        reference.load(tmp_path)
    assert reference.load(learnt.dataset.folder).picture_features is None
