"""What the benchmarks compare is alike: the same rows, the same training, the same predictions."""

import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from click.testing import CliRunner
from pyarrow.csv import write_csv

from baton.data.dataset import Dataset
from baton.data.feed import Feed
from baton.serving.raw_columns import RawColumnModel
from baton.serving.scoring import PART
from baton.training import collective, loop
from bench import __main__ as bench
from bench import (
    fashion,
    harness,
    horovod,
    image_infer,
    infer,
    ingest,
    inputs,
    labels,
    long_tails,
    memory,
    quality,
    reference,
    tables,
    transfer,
)
from bench import feed as feed_bench
from bench import fit as fit_bench
from bench import gate as gate_bench
from bench.harness import Comparison


def test_a_ratio_is_baton_over_the_anchor_and_the_goal_looks_its_way():
    more, less = (Comparison("x", 3.0, 2.0, 1.5, better, "rows/s") for better in ("higher", "lower"))
    assert (more.ratio, more.met, less.met) == (1.5, True, True)
    assert not Comparison("x", 2.9, 2.0, 1.5, "higher", "rows/s").met
    assert not Comparison("x", 3.1, 2.0, 1.5, "lower", "s").met


def test_sides_take_turns_and_the_median_counts():
    order: list[str] = []
    values = {"a": iter([5.0, 1.0, 2.0]), "b": iter([7.0, 8.0, 90.0])}

    def side(name):
        return lambda: order.append(name) or next(values[name])

    assert harness.alternate({name: side(name) for name in values}, 3) == {"a": 2.0, "b": 8.0}
    assert order == ["a", "b", "b", "a", "a", "b"]


def test_a_fresh_process_answers_and_its_failure_raises():
    assert harness.fresh(json.loads, "[1, 2]") == [1, 2]
    with pytest.raises(harness.subprocess.CalledProcessError):
        harness.fresh(json.loads, "no JSON")


def test_an_input_is_made_once_and_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "KEPT", tmp_path)

    def half(path):
        path.write_text("half")
        raise KeyError

    with pytest.raises(KeyError):
        harness.kept("input", half)
    assert not (tmp_path / "input").exists()
    assert harness.kept("input", lambda path: path.write_text("whole")).read_text() == "whole"
    assert harness.kept("input", half).read_text() == "whole"


def test_what_older_code_made_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "KEPT", tmp_path)
    older = tmp_path / "dataset-0123456789ab"
    for place in (older, tmp_path / "dataset-of-others"):
        place.mkdir()
    found = harness.build_once("dataset", lambda path: path.mkdir())
    assert found.is_dir() and not older.exists() and (tmp_path / "dataset-of-others").exists()
    assert harness.build_once("dataset", lambda path: 1 / 0) == found


def test_the_last_line_is_json_and_the_table_says_what_is_met(monkeypatch):
    found = [Comparison("one", 8.0, 1.0, 8.0, "higher", "rows/s"), Comparison("two", 3.0, 2.0, 1.1, "lower", "MiB")]
    monkeypatch.setattr(feed_bench, "measure", lambda runs: found)
    line = json.loads(CliRunner().invoke(bench.bench, ["feed", "--runs", "2"]).stdout.splitlines()[-1])
    assert (line["name"], line["runs"]) == ("feed", 2)
    keys = {"against", "baton", "anchor", "ratio", "goal", "better", "unit"}
    assert [set(result) for result in line["results"]] == [keys, keys]
    assert [result["ratio"] for result in line["results"]] == [8.0, 1.5]
    page = bench.page([line], ["fit"])
    assert "| `feed` | one | 8 | 1 | rows/s | 8 | ≥ 8 | yes |" in page
    assert "| `feed` | two | 3 | 2 | MiB | 1.5 | ≤ 1.1 | no |" in page
    assert "| `fit` | failed |" in page


def test_the_feed_gives_every_row_once_and_the_benchmark_would_notice(regression):
    _, dataset = regression
    rows, drain = dataset.rows["train"], feed_bench.drainer(feed_bench.block_rows)
    assert feed_bench.baton(dataset, 3, drain) == 3 * rows
    batches = Feed(dataset, "train", 7).stream().unbatch().map(lambda inputs, target, weight: (inputs, target))
    assert feed_bench.drainer(feed_bench.batch_rows)(batches) == -(-rows // 7) * 7
    assert feed_bench.reader(dataset, 2) == 2 * rows
    feed_bench.checked(lambda: rows, rows)(rows)
    with pytest.raises(ValueError, match="rows were fed"):
        feed_bench.checked(lambda: rows - 1, rows)(rows)


def test_baton_and_keras_in_memory_train_alike(regression):
    """Without shuffling, on whole batches, an epoch of either gives the same loss and weights."""
    config, dataset = regression
    config = config.overridden({"train.epochs": 1, "train.batch_size": 8, "train.steps_per_execution": 4})
    feed, validation = Feed(dataset, "train", 8), Feed(dataset, "validation", 64)
    model = fit_bench.compiled(config, dataset, feed.steps, 4)
    result = loop.fit(model, feed, validation, config, collective.SingleProcess(), [])
    rows = feed.arrays()
    target = rows.pop("target")
    twin = fit_bench.compiled(config, dataset, feed.steps, 1)
    history = twin.fit(rows, target, batch_size=8, shuffle=False, verbose=0).history
    assert result.history["loss"][0] == pytest.approx(history["loss"][0], rel=1e-5)
    for ours, theirs in zip(result.model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_network_of_the_alternatives_predicts_the_same_and_all_rows_are_scored(regression, tmp_path):
    from baton.networks import build

    config, dataset = tiny.build(
        tiny.regression_table(), tmp_path, "regression", data={"drop": ["c", "x2"]}, model={"numbers": "plain"}
    )
    network = build.build(dataset.preprocessor, config.model)
    RawColumnModel(dataset.preprocessor, network).save(tmp_path / "model")
    done = infer.baton(tmp_path / "model", tmp_path / "source.parquet", tmp_path / "out")
    assert (done.rows_in, done.rows_scored, done.rows_quarantined) == (tiny.ROWS, tiny.ROWS, 0)
    scored = pq.read_table(tmp_path / "out" / PART)
    raw = np.stack([scored[name].to_numpy() for name in ("x1", "n")], axis=1).astype(np.float32)
    other = infer.standardising(network, dataset.preprocessor)(raw).numpy()[:, 0]
    np.testing.assert_allclose(scored["prediction"].to_numpy(), other, rtol=1e-4, atol=1e-4)


def test_in_step_every_step_takes_as_long_as_the_slower_rank():
    assert horovod.pace_in_step([[[5.0, 6.0, 9.0]], [[5.5, 7.5, 9.5]]]) == 0.8
    assert horovod.pace_in_step([[[5.0, 6.0, 9.0]], [[7.0, 8.0, 11.0]]]) == 1


def test_what_passes_once_all_are_there_is_exchange_and_before_it_waiting():
    first, second = [[0.0, 6.0, 18.0], [2.0, 10.0, 20.0]], [[0.0, 8.0, 17.0], [2.0, 10.0, 20.0]]
    assert horovod.meeting([first, second]) == (4 / 18, 1.5 / 18)


def test_an_all_reduce_is_timed_before_and_after_it():
    import tensorflow as tf

    hvd = SimpleNamespace(size=lambda: 2, grouped_allreduce=lambda gradients, op: [op * g for g in gradients])
    timed = horovod.Timed(hvd)
    step = tf.function(lambda: timed.grouped_allreduce([tf.ones(3)], op=2.0))
    began = time.time()
    assert timed.size() == 2 and all(step()[0].numpy().sum() == 6 for _ in range(2))
    first, second = zip(*(clock.read() for clock in timed.clocks), strict=True)
    assert began - 1 < first[0] <= first[1] <= second[0] <= second[1] < time.time() + 1
    assert [clock.read() for clock in timed.clocks] == [[], []]


def test_a_silent_rank_waits_for_its_turn_and_times_every_step(images, tmp_path, monkeypatch):
    config, dataset = images
    monkeypatch.setattr(horovod, "settings", lambda: config.overridden({"train.epochs": 2}))
    monkeypatch.setenv("HOROVOD_RANK", "1")
    (tmp_path / "0.go").touch()
    watch, steps = horovod.turns(tmp_path, 1, 64), Feed(dataset, "train", 32, shard=(1, 2)).steps
    trained = threading.Thread(target=horovod.apart, args=(dataset, watch), daemon=True)
    trained.start()
    first, second = (tmp_path / f"{epoch}-1.json" for epoch in range(2))
    for place in (first, second):
        while trained.is_alive() and not place.exists():
            time.sleep(0.05)
        told = json.loads(place.read_text())
        (times,) = told["times"]
        assert told["images_a_second"] > 0 and len(times) == steps and times == sorted(times)
        if place == first:
            trained.join(0.5)
            assert trained.is_alive() and not second.exists()
            (tmp_path / "1.go").touch()
    trained.join()


def test_a_dataset_repeated_is_whole_and_has_so_many_times_the_rows(regression, tmp_path):
    from baton.data.dataset import Dataset

    _, dataset = regression
    memory.repeat(dataset.folder, tmp_path / "three", 3)
    three = Dataset.open(tmp_path / "three")
    assert three.rows == {key: 3 * rows for key, rows in dataset.rows.items()}
    assert Feed(three, "train", 32).rows == 3 * dataset.rows["train"]
    assert three.raw_test().num_rows == 3 * dataset.rows["test"]


def test_the_benchmarks_config_is_of_the_flights():
    assert inputs.config().train.batch_size == 256
    assert pq.read_metadata(inputs.FLIGHTS).num_rows == inputs.ROWS


def test_tables_of_quality_hold_what_is_predicted():
    for name in tables.TABLES:
        rows, target, task = tables.table(name)
        assert 100 < len(rows) <= tables.MAX_ROWS and rows[target].notna().all()
        classes = rows[target].nunique()
        assert classes > 10 if task == "regression" else classes == 2 if task == "binary" else 2 < classes < 12


def test_tables_of_long_tails_come_without_what_tells_the_target(monkeypatch, tmp_path):
    monkeypatch.setattr(long_tails, "FOLDER", tmp_path)
    with pytest.raises(SystemExit, match=r"Wage\.csv is missing: make tables"):
        tables.table("wages")
    place = tmp_path / "ISLP/data/Wage.csv"
    place.parent.mkdir(parents=True)
    place.write_text("age,logwage,wage\n30,4.6,100\n40,,\n")
    rows, target, task = tables.table("wages")
    assert (rows.to_dict("list"), target, task) == ({"age": [30], "wage": [100.0]}, "wage", "regression")
    assert not set(long_tails.LONG_TAILS) & set(tables.TABLES)


def test_small_tables_are_split_oftener_all_by_seeds_of_their_own():
    found = {name: quality.splits(name, 2) for name in ("iris", "seattle", "carrier")}
    assert {name: len(seeds) for name, seeds in found.items()} == {"iris": 8, "seattle": 4, "carrier": 2}
    assert {min(seeds) for seeds in found.values()} == {quality.FIRST_SEED}


def test_the_first_ingest_of_a_process_takes_every_line(tmp_path):
    source, out = tmp_path / "flights.csv", tmp_path / "out"
    write_csv(pq.read_table(inputs.FLIGHTS).slice(0, 700), source)
    assert ingest.count(source) == 700
    assert harness.fresh(ingest.first, "baton", str(source), 700, str(out)) > 0
    rows = Dataset.load(out).rows
    assert rows.pop("input") == sum(rows.values()) == 700


def test_a_win_is_more_than_chance():
    rng = np.random.default_rng(0)
    base = rng.exponential(size=400)
    sides = {"baton": base, "lightgbm": base + 0.3, "lightgbm_tuned": rng.permutation(base), "linear": base - 0.2}
    seed = {"metric": "log_loss", **sides, "hist_gradient_boosting": base + 0.5}
    found = quality.compare("x", [seed])
    assert found["verdicts"] == {
        "lightgbm": "win", "lightgbm_tuned": "tie", "hist_gradient_boosting": "win", "linear": "loss",
    }  # fmt: skip
    assert found["values"]["baton"] == pytest.approx(base.mean())


def test_a_tie_counts_half_and_long_tails_count_apart(monkeypatch):
    verdicts = {"short": "win", "long": "tie", "tail": "loss"}
    monkeypatch.setattr(quality, "splits", lambda table, runs: range(runs))
    monkeypatch.setattr(quality, "losses", lambda table, seed: table)
    monkeypatch.setattr(
        quality, "compare", lambda table, seeds: {
            "metric": "rmse", "values": dict.fromkeys(quality.SIDES, 1.0),
            "verdicts": dict.fromkeys(quality.SIDES[1:], verdicts[seeds[0]]),
        },
    )  # fmt: skip
    monkeypatch.setattr(quality.flights, "measure", lambda: [])
    monkeypatch.setattr(tables, "TABLES", ["short"])
    monkeypatch.setattr(long_tails, "LONG_TAILS", ["long", "tail"])
    found = {each.against: each.baton for each in quality.measure(1)}
    assert (found["lightgbm"], found["long tails: lightgbm"], found["long tails: lightgbm, not lost"]) == (1, 0.25, 0.5)


def test_trees_get_no_values_that_networks_embed(tmp_path):
    _, dataset = quality._dataset("seattle", 0, tmp_path, {})
    encoded = {e.name: e.encoding for e in dataset.preprocessor.encoded}
    assert {"value", "date"} & set(encoded.values())
    rows, targets = reference.frame(dataset, "test")
    assert set(rows) == {name for name, encoding in encoded.items() if encoding not in ("value", "date")}
    assert len(rows) == len(targets) == dataset.rows["test"]


def test_the_gates_shares_have_goals_that_look_their_way(monkeypatch):
    monkeypatch.setattr(gate_bench, "RETRAININGS", 3)
    monkeypatch.setattr(gate_bench, "ROWS", 100)
    found = {result.against: result for result in gate_bench.measure(20)}
    assert len(found) == 2 + 2 + 6 + 9 and {result.unit for result in found.values()} == {"share"}
    assert all(0 <= result.baton <= 1 for result in found.values())
    assert {result.better for name, result in found.items() if "better by" in name or "twice" in name} == {"higher"}
    assert found["better by 4 standard errors, asked as number 1"].met


def test_labelled_pictures_are_of_all_classes_and_in_one_split():
    labels = np.repeat(["cat", "dog", "ship"], 20)
    train, validation = transfer._drawn(labels, 10, 1)
    assert sorted(labels[train]) == ["cat"] * 8 + ["dog"] * 8 + ["ship"] * 8
    assert sorted(labels[validation]) == ["cat"] * 2 + ["dog"] * 2 + ["ship"] * 2
    assert len({*train, *validation}) == 30
    assert not np.array_equal(train, transfer._drawn(labels, 10, 2)[0])


def test_the_depth_that_is_best_on_validation_is_asked_about_test_pictures():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    good = (labels == 1)[:, None] + rng.normal(0, 0.1, (60, 3))
    arrays = {"train0": rng.normal(size=(60, 3)), "train1": good, "train_label": labels}
    arrays |= {"test0": -good, "test1": good, "test_label": labels}
    assert transfer._right_probed(arrays, *transfer._drawn(labels, 30, 0)) == 1.0


def test_what_transfer_lacks_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(transfer, "SOURCE", tmp_path / "data")
    with pytest.raises(SystemExit, match="data is missing: CIFAR-10"):
        transfer.measure(1)
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(transfer, "NETWORKS", {"x": tmp_path / "x.keras"})
    with pytest.raises(SystemExit, match="x.keras is missing: make weights"):
        transfer.measure(1)


def test_wrong_labels_are_the_share_asked_for_of_the_pictures_likest_the_other_class():
    classes = np.repeat(np.arange(10), 200)
    scores = np.random.default_rng(1).normal(size=len(classes))
    few, many = (labels.flipped(classes, scores, share) != classes for share in (0.1, 0.3))
    assert {label: int(many[classes == label].sum()) for label in range(10)} == {
        label: 60 if label in np.ravel(labels.PAIRS) else 0 for label in range(10)
    }
    assert many.sum() == 3 * few.sum() and many[few].all()
    assert scores[many].mean() > 1 > 0 > scores[~many & np.isin(classes, labels.PAIRS)].mean()
    assert set(labels.flipped(classes, scores, 0.3)[(classes == 7) & many]) == {9}


def test_a_score_is_of_the_class_alone_and_only_of_those_that_errors_touch():
    rng = np.random.default_rng(0)
    classes = np.tile(np.arange(10), 40)
    pixels = rng.uniform(size=(400, 5)) + classes[:, None] * np.arange(5)
    scores = labels.likeness(pixels, classes)(pixels, classes)
    touched = np.isin(classes, labels.PAIRS)
    assert np.isneginf(scores[~touched]).all() and np.isfinite(scores[touched]).all()
    assert all(abs(scores[classes == label].mean()) < 1e-6 for label in np.ravel(labels.PAIRS))


def test_the_network_that_labels_as_given_rank_first_is_judged_by_corrected_ones():
    given, corrected = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0])
    small, large = [0, 0, 0, 0], [0, 0, 1, 1]
    right = labels.readings(np.array([[[small, large]] * 2] * 3), given, corrected)
    assert right.shape == (2, 2, 2, 4)
    line = labels.ranked("x", np.concatenate([right[0], right[0][:, :1]], axis=1))
    assert (line.baton, line.anchor) == (0.75, 0.75)
    tied = labels.ranked("x", np.array([[[1, 1, 0, 0], [1, 1, 1, 0]], [[1, 1, 1, 1], [1, 0, 0, 0]]]))
    assert (tied.baton, tied.anchor, tied.met) == (0.25, 1.0, False)
    assert "4 channels, first as given, against 2" in tied.against


def test_all_networks_that_score_pictures_are_the_same_one(monkeypatch, tmp_path):
    from mlflow.pyfunc import load_model
    from pandas import DataFrame
    from PIL import Image

    rng = np.random.default_rng(0)
    contents = []
    for row in range(60):
        place = tmp_path / f"{row}.jpeg"
        Image.fromarray(rng.integers(0, 256, image_infer.SHAPE).astype(np.uint8)).save(place)
        contents.append(place.read_bytes())
    table = pa.table({"image": contents, "label": ["cat", "dog"] * 30, "file": [str(row) for row in range(60)]})
    pq.write_table(table, tmp_path / "cifar.parquet")
    for name, value in {"SOURCE": tmp_path / "cifar.parquet", "LEARNT": 60}.items():
        monkeypatch.setattr(image_infer, name, value)
    monkeypatch.setattr(harness, "KEPT", tmp_path)
    ours, plain = image_infer.networks()
    done = infer.baton(ours, image_infer.pictures(50), tmp_path / "out")
    assert (done.rows_in, done.rows_scored) == (50, 50)
    scored = pq.read_table(tmp_path / "out" / PART)
    pixels = [np.asarray(Image.open(tmp_path / f"{row}.jpeg"), np.float32).ravel() for row in range(50)]
    others = load_model(str(plain)).predict(DataFrame({"image": pixels}))
    np.testing.assert_allclose(scored["probability_dog"].to_numpy(), np.asarray(others)[:, -1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "module, place, sentence",
    [(image_infer, image_infer, "is missing: CIFAR-10"), (labels, fashion, "is missing: apt-get install dataset-f")],
)
def test_pictures_that_a_benchmark_lacks_are_named(module, place, sentence, monkeypatch, tmp_path):
    monkeypatch.setattr(place, "SOURCE", tmp_path / "none")
    with pytest.raises(SystemExit, match=sentence):
        module.measure(1)
