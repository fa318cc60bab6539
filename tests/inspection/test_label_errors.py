"""The audit of labels: planted errors are found in real tables, clean ones left alone, and nobody judges itself."""

import json
import time
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from mixed import mixed_table, said
from sklearn import datasets

from baton.config.schema import Audit, Config
from baton.data import cells
from baton.data.dataset import Dataset
from baton.data.preprocessing import usable
from baton.errors import BadInput, OverBudget
from baton.inspection import crossfit, label_errors
from baton.inspection import label_audit as label_audit_module
from baton.inspection.crossfit import LearningRows
from baton.reporting.figures import label_audit

PLANTED = 0.05
LONG = 600.0  # seconds: epochs are not cut, so a test finds the same on any machine


def table(bunch) -> pa.Table:
    columns = {f"x{i}": np.asarray(values, float) for i, values in enumerate(np.asarray(bunch.data).T)}
    return pa.table(columns | {"y": bunch.target})


def plant(rows: LearningRows, preprocessor, seed: int) -> np.ndarray:
    """Make 5 % of the targets wrong: another class, or 4 to 8 standard deviations away → their rows' numbers."""
    rng = np.random.default_rng(seed)
    wrong = np.sort(rng.permutation(len(rows.targets))[: round(PLANTED * len(rows.targets))])
    spoilt = rows.targets.copy()
    if k := len(preprocessor.classes):
        spoilt[wrong] = (spoilt[wrong] + rng.integers(1, k, len(wrong))) % k
    else:
        spoilt[wrong] += rng.choice([-1, 1], len(wrong)) * rng.uniform(4, 8, len(wrong)) * rows.targets.std()
    for numbers, piece in rows.pieces():
        piece["target"] = spoilt[numbers].astype(piece["target"].dtype)
    rows.targets = spoilt
    return wrong


def audited(
    config: Config, dataset: Dataset, folds: int = 3
) -> tuple[float, float, label_errors.Suspects, LearningRows]:
    """Plant errors, look for them → precision, recall, the suspects and the rows."""
    preprocessor, rows = dataset.preprocessor, LearningRows(dataset)
    wrong = plant(rows, preprocessor, seed=1)
    settings = Audit(folds=folds, seconds=LONG)
    found = crossfit.out_of_fold(config, preprocessor, rows, settings, lambda network: np.zeros((1, 1)))
    judge = label_errors.classes if preprocessor.classes else lambda t, o: label_errors.numbers(t, o[:, 0])
    suspects = judge(rows.targets, found.outputs)
    hits = np.isin(suspects.rows, wrong).sum()
    precision, recall = hits / max(len(suspects.rows), 1), hits / len(wrong)
    print(f"{len(rows.targets):,} rows: precision {precision:.2f}, recall {recall:.2f}, estimate {suspects.rate:.3f}")
    return precision, recall, suspects, rows


@pytest.mark.parametrize(
    ("load", "task", "epochs", "precise", "complete"),
    [
        (datasets.load_breast_cancer, "binary", 25, 0.5, 0.7),
        (datasets.load_wine, "multiclass", 40, 0.5, 0.4),
        (datasets.load_digits, "multiclass", 15, 0.6, 0.65),
        (datasets.load_diabetes, "regression", 20, 0.85, 0.85),
    ],
    ids=["breast_cancer", "wine", "digits", "diabetes"],
)
def test_planted_errors_are_found_in_real_tables(tmp_path, load, task, epochs, precise, complete):
    network = {"hidden": [64, 64], "networks": 0, "number_width": 8}
    config, dataset = tiny.build(
        table(load()), tmp_path, task, model=network, train={"epochs": epochs, "learning_rate": 0.005}
    )
    precision, recall, suspects, rows = audited(config, dataset)
    assert precision > precise and recall > complete
    assert 0.5 * PLANTED < suspects.rate < 2.5 * PLANTED
    assert (np.diff(suspects.quality) >= 0).all() and (suspects.quality <= 1).all()
    if dataset.preprocessor.classes:
        assert (suspects.suggested != rows.targets[suspects.rows]).all()


def test_planted_errors_are_found_in_pictures(tmp_path):
    pictures = pq.read_table("data/fashion.parquet").slice(0, 1200)
    config, dataset = tiny.build(pictures, tmp_path, "image", train={"epochs": 6}, data={"row_group_size": 400})
    precision, recall, suspects, _ = audited(config, dataset, folds=2)
    assert precision > 0.15 and recall > 0.6  # the network itself is wrong on a fifth of so few


# Who judges whom


def test_rows_are_dealt_evenly_over_classes():
    targets = np.repeat([0, 1, 2], [100, 50, 7])
    folds = crossfit.assign_folds(targets, 3, np.random.default_rng(0))
    counts = np.array([np.bincount(folds[targets == c], minlength=3) for c in range(3)])
    assert (np.ptp(counts, axis=1) <= 1).all() and np.ptp(counts.sum(axis=0)) <= 1


def test_no_network_judges_a_row_that_it_has_seen(regression, monkeypatch):
    config, dataset = regression
    preprocessor, rows = dataset.preprocessor, LearningRows(dataset)
    seen: list[set[bytes]] = []
    asked: list[np.ndarray] = []

    def trained(config, preprocessor, parts, pace):
        seen.append({row.tobytes() for part in parts for row in part["numbers"]})
        return None

    def answered(network, preprocessor, rows, which):
        asked.append(which)
        return np.full((which.sum(), 1), len(asked))

    monkeypatch.setattr(crossfit, "_trained", trained)
    monkeypatch.setattr(crossfit, "_answers", answered)
    found = crossfit.out_of_fold(config, preprocessor, rows, Audit(folds=4, rows=200), lambda network: np.ones((3, 1)))
    keys = [row.tobytes() for _, piece in rows.pieces() for row in piece["numbers"]]
    assert len(keys) == dataset.rows["train"] + dataset.rows["validation"]
    assert np.sum(asked, axis=0).tolist() == [1] * len(keys)
    for own, which in zip(seen, asked, strict=True):
        assert 125 <= len(own) <= 175
        assert not own & {key for key, mine in zip(keys, which, strict=True) if mine}
    assert sorted(np.unique(found.outputs)) == [1, 2, 3, 4] and found.other.shape == (3, 1)


def test_epochs_are_cut_to_the_seconds_there_are(regression):
    config, dataset = regression
    config = config.overridden({"train.epochs": 5000, "train.patience": 5000})
    started = time.monotonic()
    found = crossfit.out_of_fold(
        config, dataset.preprocessor, LearningRows(dataset), Audit(folds=2, seconds=8), lambda network: np.zeros((1, 1))
    )
    assert 1 <= found.epochs < 2500 and time.monotonic() - started < 20
    assert np.isfinite(found.outputs).all()


@pytest.fixture
def budget(monkeypatch):
    """A budget of so many seconds, of which a fold's first block has taken `first` and its second `second`."""

    def spent(seconds: float, folds: int, first: float, second: float, steps: int, answers: float = 0.5):
        now = [0.0]
        monkeypatch.setattr(crossfit, "time", SimpleNamespace(monotonic=lambda: now[0]))
        found = crossfit.TimeBudget(seconds, folds, answers, foreseeing=folds > 0)
        found.set_params({"steps": steps, "epochs": 9})
        found.set_model(SimpleNamespace(stop_training=False))
        for batch, took in enumerate((first, second)):
            now[0] += took
            found.on_train_batch_end(batch)
        return found

    return spent


def test_an_epoch_that_would_not_fit_is_foreseen_in_its_second_block(budget):
    fits = budget(seconds=40, folds=3, first=8, second=2, steps=10)  # 8 to trace, 20 an epoch, 10 to answer
    assert fits.share == 1 and not fits.model.stop_training
    fewer = budget(seconds=30, folds=3, first=8, second=2, steps=10)
    assert fewer.model.stop_training and fewer.needed == 38
    assert fewer.share == pytest.approx((30 - 10 / 3 - 8 - 10) / 20)  # what was spent is gone for all folds
    assert budget(seconds=10, folds=3, first=8, second=2, steps=10).share == 0
    traced = budget(seconds=5, folds=3, first=8, second=2, steps=10)
    assert traced.share == 0 and traced.over and traced.needed >= 8
    last = budget(seconds=30, folds=0, first=8, second=2, steps=10)
    assert last.share == 1 and not last.model.stop_training  # without folds it only stops at the end


@pytest.mark.parametrize("share", [0.5, 0.001])
def test_where_an_epoch_does_not_fit_fewer_rows_are_learnt_or_none(regression, monkeypatch, share):
    config, dataset = regression
    learnt: list[tuple[int, int]] = []

    def trained(config, preprocessor, parts, budget):
        learnt.append((sum(len(part["target"]) for part in parts), config.train.epochs))
        budget.share = share if len(learnt) == 1 else 1.0

    monkeypatch.setattr(crossfit, "_trained", trained)
    monkeypatch.setattr(crossfit, "_answers", lambda n, p, rows, asked: np.zeros((asked.sum(), 1)))
    rows = LearningRows(dataset)

    def audit():
        return crossfit.out_of_fold(config, dataset.preprocessor, rows, Audit(folds=3), lambda network: np.ones((3, 1)))

    if share < 0.1:
        with pytest.raises(OverBudget, match="to learn from .* rows once and to answer; 100 rows would take too long"):
            audit()
        assert len(learnt) == 1
        return
    found = audit()
    whole = round(len(rows.targets) * 2 / 3)
    assert found.learnt == whole // 2 and found.epochs == 1
    assert [count for count, _ in learnt[1:]] == [whole // 2] * 3 and {epochs for _, epochs in learnt[1:]} == {1}


def test_rows_are_taken_by_their_numbers(regression):
    _, dataset = regression
    rows = LearningRows(dataset)
    whole = np.concatenate([piece["numbers"] for _, piece in rows.pieces()])
    wanted = np.array([0, 3, dataset.rows["train"], len(whole) - 1])
    assert (rows.take(wanted)["numbers"] == whole[wanted]).all()
    splits, numbers = rows.places(np.append(wanted, len(whole) + 2))
    assert splits.tolist() == ["train", "train", "validation", "validation", "test"]
    assert numbers.tolist() == [0, 3, 0, dataset.rows["validation"] - 1, 2]


def test_one_fold_is_refused():
    with pytest.raises(BadInput, match=r"register\.audit\.folds: one fold would leave no row to learn from: 0, or at"):
        tiny.config(register={"audit": {"folds": 1}})


# What is suspected


def test_clean_labels_are_left_alone():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 2000)
    sure = np.full((2000, 3), 0.05)
    sure[np.arange(2000), targets] = 0.9
    found = label_errors.classes(targets, sure)
    assert len(found.rows) == 0 and found.rate == 0


def test_flipped_labels_are_found_with_the_class_they_should_have():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 4, 1000)
    sure = np.full((1000, 4), 0.02)
    sure[np.arange(1000), targets] = 0.94
    given = targets.copy()
    given[:50] = (targets[:50] + 1) % 4
    found = label_errors.classes(given, sure)
    assert sorted(found.rows) == list(range(50)) and (found.suggested == targets[found.rows]).all()
    assert found.rate == pytest.approx(0.05, abs=0.005) and (found.confidence > 0.9).all()


def test_a_class_without_rows_and_a_single_class():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 300)
    targets = np.where(rng.random(300) < 0.5, 0, 3)
    found = label_errors.classes(targets, probabilities)
    assert (found.suggested != targets[found.rows]).all()
    assert len(label_errors.classes(np.zeros(300, int), probabilities).rows) == 0


@pytest.mark.parametrize("draw", [lambda r: r.normal(size=20_000), lambda r: r.standard_t(4, 20_000)])
def test_the_errors_of_a_good_model_are_not_suspected(draw):
    rng = np.random.default_rng(0)
    predicted = rng.normal(0, 10, 20_000)
    found = label_errors.numbers(predicted + draw(rng) * (1 + np.abs(predicted)), predicted)
    assert len(found.rows) <= 4 and found.rate < 1e-3


def test_gross_errors_are_found_where_predictions_are_sure():
    """At small predictions errors are small: what would be usual at large ones is not there."""
    rng = np.random.default_rng(0)
    predicted = rng.uniform(0, 100, 10_000)
    targets = predicted + rng.normal(size=10_000) * (0.1 + predicted / 10)
    low = np.flatnonzero(predicted < 5)[:40]
    targets[low] += 15
    found = label_errors.numbers(targets, predicted)
    assert set(low) <= set(found.rows.tolist()) and len(found.rows) <= 46
    assert found.rate == pytest.approx(0.004, abs=0.001)
    assert found.suggested == pytest.approx(predicted[found.rows])


def test_predictions_without_any_error():
    exact = np.arange(500.0)
    assert len(label_errors.numbers(exact, exact).rows) == 0
    wrong = exact.copy()
    wrong[7] = 1e4
    assert label_errors.numbers(wrong, exact).rows.tolist() == [7]


# Models with and without suspects


def test_cleaned_labels_can_change_the_order_of_models():
    """One model has learnt the wrong labels, one the right ones: on all rows the first looks better."""
    clean = np.arange(10) >= 3
    losses = {
        "parrot": np.array([0.1] * 3 + [0.5] * 7),
        "honest": np.array([3.0] * 3 + [0.1] * 7),
        "trivial": np.full(10, 0.7),
        "broken": np.full(10, np.nan),
    }
    table = label_errors.ranking(losses, clean, "log_loss")
    assert [entry["model"] for entry in table] == ["honest", "parrot", "trivial", "broken"]
    ranks = {entry["model"]: (entry["rank_original"], entry["rank_cleaned"]) for entry in table}
    assert ranks == {"parrot": (1, 2), "honest": (3, 1), "trivial": (2, 3), "broken": (None, None)}
    assert table[0]["cleaned"] == pytest.approx(0.1) and table[0]["original"] == pytest.approx(0.97)
    assert label_errors.ranking(losses, np.zeros(10, bool), "rmse")[0]["cleaned"] is None


# Told to people


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A table whose source has 40 wrong labels, all of them in rows with an `id` below 40, audited."""
    rng = np.random.default_rng(3)
    x = rng.uniform(-2, 2, 600).round(4)
    right = np.where(x > 0, "over", "under")
    wrong = np.where((np.arange(600) < 40) & (np.abs(x) > 0.5), np.where(x > 0, "under", "over"), right)
    source = pa.table({"x": x, "city": rng.choice(["Oslo", "$x$"], 600), "id": np.arange(600), "y": wrong})
    config, dataset = tiny.build(
        source, tmp_path_factory.mktemp("judged"), "binary",
        data={"id": ["id"]}, train={"epochs": 15, "learning_rate": 0.02}, register={"audit": {"folds": 2}},
    )  # fmt: skip
    found = label_audit_module.LabelAudit(config, dataset, config, dataset.preprocessor)
    return source.to_pandas(), dataset, found


def test_the_table_names_the_rows_so_that_they_can_be_found(judged):
    source, dataset, found = judged
    table = found.table().to_pandas()
    assert list(table) == [
        "rank",
        "split",
        "row",
        "given",
        "suggested",
        "quality",
        "confidence",
        "value_x",
        "value_city",
    ]
    planted = source[(source.index < 40) & (source["x"].abs() > 0.5)]
    named = {(round(float(x), 4), city) for x, city in zip(table["value_x"], table["value_city"], strict=True)}
    hits = sum((x, city) in named for x, city in zip(planted["x"], planted["city"], strict=True))
    assert hits > 0.9 * len(planted) and len(table) < 1.3 * len(planted)
    assert set(table["split"]) == {"train", "validation", "test"} and table["rank"].tolist() == [
        *range(1, len(table) + 1)
    ]
    raw = dataset.raw_test().to_pandas()
    for _, row in table[table["split"] == "test"].iterrows():
        assert (raw["y"][row["row"]], str(raw["x"][row["row"]])) == (row["given"], row["value_x"])
    assert {(row.given, row.suggested) for row in table.itertuples()} == {("over", "under"), ("under", "over")}


def test_the_audit_in_numbers(judged):
    _, dataset, found = judged
    table = found.table()
    plain = json.loads(json.dumps(found.to_dict(table, [], "log_loss"), allow_nan=False))
    assert plain["rows_audited"] == 600 and plain["issues"] == table.num_rows and plain["folds"] == 2
    assert plain["estimated_error_rate"] == pytest.approx(plain["issues"] / 600, abs=0.02)
    assert 1 - 2 * plain["issues"] / 600 < plain["agreement"] <= 1 - plain["issues"] / 600
    first = plain["shown"][0]
    assert first["values"].keys() == {"x", "city"} and first["rank"] == 1 and 0.5 < first["confidence"] <= 1
    assert len(found.test_numbers()) == dataset.rows["test"] and found.pictures(np.arange(5)) == []


def test_of_images_the_suspects_pictures_are_shown(images):
    config, dataset = images
    config = config.overridden({"register.audit.folds": 2, "train.epochs": 2})
    found = label_audit_module.LabelAudit(config, dataset, config, dataset.preprocessor)
    suspected = found.suspects.rows[:10]
    pictures = found.pictures(np.arange(len(suspected)))
    for number, picture in zip(suspected, pictures, strict=True):
        assert picture.shape == (8, 8, 1) and picture.max() > 1
        if number < len(found.rows.targets):
            held = crossfit.LearningRows(dataset).take(np.array([number]))["image"]
            assert np.array_equal(held[0], picture)
    assert found.table().num_rows == len(found.suspects.rows)


@pytest.mark.parametrize("numeric", ["standard", "quantile"])
def test_encoded_rows_are_shown_as_the_raw_ones(tmp_path, numeric):
    """Test rows are kept raw and encoded: decoded, they show the same cells, but what the vocabulary lacks."""
    _, dataset = tiny.build(mixed_table(), tmp_path, "regression", data={"numeric": numeric})
    preprocessor = dataset.preprocessor
    typed, _, _ = usable(dataset.raw_test(), preprocessor)
    decoded = cells.encoded_cells(preprocessor.encode(typed), preprocessor)
    for column in preprocessor.features:
        raw = cells.typed_cells(typed.column(column.name), column)
        if column.kind == "numeric" and numeric == "quantile":
            both = [(float(a), float(b)) for a, b in zip(raw, decoded[column.name], strict=True) if a != "missing"]
            assert all(a == pytest.approx(b, rel=0.02, abs=0.6) for a, b in both)  # ends are cut
        else:
            assert decoded[column.name] == raw, column.name
    assert set(decoded["city"]) >= {"Oslo", "Rome", "missing"}


def test_the_figures_tell_what_was_found():
    told = {
        "issues": 2, "rows_audited": 100, "estimated_error_rate": 0.021, "metric": "log_loss",
        "ranking": label_errors.ranking(
            {"train": np.ones(9), "trivial": np.full(9, 2.0)}, np.ones(9, bool), "log_loss"
        ),
        "gallery": [{"given": "a", "suggested": "$b$", "confidence": 0.9, "split": "test", "row": 1234}],
    }  # fmt: skip
    found = pa.table({"given": ["a", "a"], "suggested": ["$b$", "$b$"]})
    drawn = label_audit.draw(told, found, ["a", "$b$"], [np.zeros((4, 4, 1))], [None])
    texts = {name: said(figure) for name, figure in drawn.items()}
    assert set(texts) == {"audit_ranking", "audit_labels", "audit_suspects"}
    assert "2 of 100 rows (2.00%) look wrong; by estimate 2.10% are" in texts["audit_labels"]
    assert "test 1,234" in texts["audit_suspects"] and r"→ \$b\$ 90%" in texts["audit_suspects"]
    assert "train 1 → 1" in " ".join(texts["audit_ranking"].split())
    numbers = label_audit.draw(told, pa.table({"given": ["1", "20"], "suggested": ["2", "3"]}), [], [], [])
    assert "given = suggested" in said(numbers["audit_targets"])
