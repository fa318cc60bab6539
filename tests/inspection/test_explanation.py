"""SHAP values of raw columns: exact where they can be computed, those of the shap package, and told to people."""

import itertools
import json
import math
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import tiny
from mixed import mixed_table, said

from baton.config.schema import Explain
from baton.data.columns import typed
from baton.data.preprocessing import usable
from baton.errors import OverBudget
from baton.inspection import explanation, shapley
from baton.reporting.figures import explanation as drawn_explanation
from baton.serving.raw_columns import RawColumnModel
from baton.training import fit

LATER = time.monotonic() + 1e6


def exact(value, players: int) -> np.ndarray:
    """A set's value → Shapley values by their definition, over all sets."""
    shares = np.zeros(players)
    for player in range(players):
        rest = [p for p in range(players) if p != player]
        for size in range(players):
            weight = math.factorial(size) * math.factorial(players - size - 1) / math.factorial(players)
            for chosen in itertools.combinations(rest, size):
                shares[player] += weight * (value({*chosen, player}) - value(set(chosen)))
    return shares


def interacting(rows: np.ndarray, others: np.ndarray) -> shapley.Game:
    """Players that work together: the first two multiply, the third is squared, the rest adds nothing."""

    def game(row, other, mask):
        x = np.where(mask, rows[row], others[other])
        return np.stack([x[:, 0] * x[:, 1] + x[:, 2] ** 2, x.sum(axis=1)], axis=1)

    return game


def test_sampled_shares_come_close_to_the_exact_ones_and_add_up_exactly():
    rng = np.random.default_rng(0)
    rows, others = rng.normal(size=(3, 5)), rng.normal(size=(400, 5))
    game = interacting(rows, others)
    found = shapley.sampled(game, 3, 400, 5, seed=1, batch=1000, deadline=LATER)

    def value(row: int):
        def of(players: set[int]) -> float:
            mask = np.isin(np.arange(5), list(players))[None].repeat(400, axis=0)
            return float(game(np.full(400, row), np.arange(400), mask)[:, 0].mean())

        return of

    for row in range(3):
        assert found.shares[row, :, 0] == pytest.approx(exact(value(row), 5), abs=0.12)
    assert found.shares[:, 3:, 0] == pytest.approx(0, abs=1e-12)
    assert found.shares[:, :, 1] == pytest.approx(rows - others.mean(axis=0))  # a sum: no order matters
    assert found.base + found.shares.sum(axis=1) == pytest.approx(found.outputs, abs=1e-12)


def test_a_game_of_one_player_gives_it_all():
    game = interacting(np.full((2, 3), 2.0), np.zeros((4, 3)))
    found = shapley.sampled(lambda r, o, m: game(r, o, m.repeat(3, axis=1)), 2, 4, 1, seed=0, batch=10, deadline=LATER)
    assert found.shares[:, 0] == pytest.approx(np.array([[8.0, 6.0]] * 2))


class Clock:
    """Time that passes only where a game is asked: so many seconds an output."""

    def __init__(self, seconds: float):
        self.seconds, self.now, self.asked, self.largest = seconds, 100.0, 0, 0

    def monotonic(self) -> float:
        return self.now

    def of(self, game: shapley.Game) -> shapley.Game:
        def timed(row, other, mask):
            self.now += self.seconds * len(row)
            self.asked += len(row)
            self.largest = max(self.largest, len(row))
            return game(row, other, mask)

        return timed


@pytest.fixture
def within(monkeypatch):
    """Explain 50 rows of 4 players against 40 background rows, an output a millisecond → in so many seconds."""
    rng = np.random.default_rng(0)
    rows, others = rng.normal(size=(50, 4)), rng.normal(size=(40, 4))

    def explained(seconds: float, slower: float = 1.0, batch: int = 12):
        clock = Clock(0.001)
        monkeypatch.setattr(shapley, "time", clock)
        game = clock.of(interacting(rows, others))

        def slowing(row, other, mask):
            clock.seconds = 0.001 * (1 if clock.asked < 26 else slower)
            return game(row, other, mask)

        return clock, lambda: shapley.sampled(slowing, 50, 40, 4, 0, batch, clock.now + seconds)

    return explained


@pytest.mark.parametrize(("seconds", "least", "most", "background"), [
    (100.0, 50, 50, 40), (6.0, 20, 25, 40), (1.5, 4, 7, 40), (0.5, 4, 5, 16), (0.15, 2, 4, 5), (0.07, 1, 1, 5),
])  # fmt: skip
def test_rows_and_background_are_as_many_as_there_is_time_for(within, seconds, least, most, background):
    clock, explain = within(seconds)
    found = explain()
    assert least <= len(found.shares) == len(found.outputs) <= most and len(found.absent) <= background
    assert found.base + found.shares.sum(axis=1) == pytest.approx(found.outputs, abs=1e-12)
    assert clock.now <= 100 + seconds + 1e-9


def test_without_time_for_one_row_none_is_begun(within):
    clock, explain = within(0.03)
    with pytest.raises(OverBudget, match=r"one row of 4 columns against 5 background rows would take about 0.03\d s"):
        explain()
    assert clock.asked <= 25  # what tells the rate: one to warm up, and two batches


def test_a_first_row_that_takes_longer_than_it_should_is_told_by_what_it_met(within):
    """Planned with a millisecond an output, which then takes three."""
    clock, explain = within(0.15, slower=3.0)
    found = explain()
    assert len(found.shares) == 1 and len(found.absent) >= 5
    assert found.base + found.shares.sum(axis=1) == pytest.approx(found.outputs, abs=1e-12)
    clock, explain = within(0.09, slower=40.0)
    with pytest.raises(OverBudget, match="the time was over when the first row had met"):
        explain()
    assert clock.now < 100 + 0.09 + 12 * 0.04 * 2


def test_no_batch_is_larger_than_it_may_be_however_many_players_there_are():
    clock = Clock(0.0)
    rows = np.random.default_rng(0).normal(size=(3, 300))
    found = shapley.sampled(clock.of(interacting(rows, rows)), 3, 3, 300, seed=0, batch=64, deadline=LATER)
    assert clock.largest == 64 and len(found.shares) == 3
    assert found.base + found.shares.sum(axis=1) == pytest.approx(found.outputs, abs=1e-9)


# Of tables


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A network trained on `mixed_table`, and its dataset."""
    config, dataset = tiny.build(mixed_table(), tmp_path_factory.mktemp("mixed"), "regression")
    config = config.overridden({"train.epochs": 20, "train.learning_rate": 0.02})
    return RawColumnModel(dataset.preprocessor, fit.train(config, dataset).model), dataset


@pytest.fixture(scope="module")
def told(mixed):
    model, dataset = mixed
    return explanation.explain(model, dataset.raw_test(), Explain(rows=1000, background=30), 1)


def test_mixing_encoded_columns_is_mixing_raw_ones(mixed):
    model, dataset = mixed
    preprocessor = model.preprocessor
    rows, reasons = typed(dataset.raw_test(), preprocessor.features, None)
    assert reasons.null_count == rows.num_rows > 20
    blocks = preprocessor.blocks(preprocessor.encode(rows))
    rng = np.random.default_rng(0)
    row, other = rng.integers(0, rows.num_rows, (2, 300))
    mask = rng.random((300, len(preprocessor.features))) < 0.5
    by_encoded = explanation.Game(model, blocks, blocks, explanation.players(preprocessor, blocks, None))(
        row, other, mask
    )
    mine, theirs = rows.take(pa.array(row)), rows.take(pa.array(other))
    raw = {
        c.name: pc.if_else(pa.array(mask[:, i]), mine[c.name].combine_chunks(), theirs[c.name].combine_chunks())
        for i, c in enumerate(preprocessor.features)
    }
    assert by_encoded == pytest.approx(model.predict(pa.table(raw)), rel=1e-5, abs=1e-4)
    assert np.ptp(by_encoded) > 50


def test_the_values_are_those_of_the_shap_package(mixed):
    """Its exact explainer, given the same function of raw columns, each cell as the number of its row."""
    import shap

    model, dataset = mixed
    raw = dataset.raw_test()
    found = explanation.explain(model, raw, Explain(rows=5, background=100), 1)
    rows, numbers, _ = usable(raw, model.preprocessor)
    background = np.random.default_rng(1).permutation(raw.num_rows)[-found.background :]
    names = rows.column_names

    def output(cells: np.ndarray) -> np.ndarray:
        columns = {name: rows.column(name).take(pa.array(cells[:, i].astype(int))) for i, name in enumerate(names[:-1])}
        return model.predict(pa.table(columns))[:, 0]

    def as_cells(which: np.ndarray) -> np.ndarray:
        return np.repeat(which[:, None], len(names) - 1, axis=1).astype(float)

    assert names[:-1] == found.names and len(numbers) == raw.num_rows
    masker = shap.maskers.Independent(as_cells(background), max_samples=1000)
    theirs = shap.explainers.ExactExplainer(output, masker)(as_cells(found.rows))
    spread = np.abs(theirs.values).mean()
    assert theirs.base_values == pytest.approx(found.found.base[0], abs=1e-3)
    assert np.abs(found.values - theirs.values).mean() < 0.1 * spread
    assert np.corrcoef(found.values.ravel(), theirs.values.ravel())[0, 1] > 0.99


def test_the_explanation_in_numbers(mixed, told):
    model, dataset = mixed
    plain = json.loads(json.dumps(explanation.to_dict(told), allow_nan=False))
    assert set(plain) == {
        "rows", "background", "seconds", "output", "unit", "base_value", "columns", "additivity", "rows_explained",
    }  # fmt: skip
    assert plain["rows"] == dataset.rows["test"] and plain["output"] == plain["unit"] == "y"
    shares = [column["share"] for column in plain["columns"]]
    assert sum(shares) == pytest.approx(1) and shares == sorted(shares, reverse=True)
    assert {column["name"] for column in plain["columns"][:2]} <= {"size", "at", "city"}
    assert plain["columns"][-1]["name"] == "count"  # the target does not hang on it
    assert plain["additivity"] < 1e-3
    raw = dataset.raw_test()
    for row in plain["rows_explained"]:
        assert row["base_value"] + sum(row["shap"].values()) == pytest.approx(row["output_value"])
        assert float(row["truth"]) == pytest.approx(raw["y"][row["row"]].as_py(), rel=1e-5)
        city = raw["city"][row["row"]].as_py()
        assert row["values"]["city"] == ("missing" if city is None else city)
    assert 3 <= len(plain["rows_explained"]) <= 4


def test_the_figures_name_columns_categories_and_dates(told):
    drawn = {name: said(figure) for name, figure in drawn_explanation.draw(told).items()}
    rows = len(explanation.examples(told))
    assert list(drawn) == [
        "shap_importance", "shap_beeswarm", *(f"shap_dependence_{n}" for n in range(1, 5)),
        *(f"shap_row_{n}" for n in range(1, rows + 1)),
    ]  # fmt: skip
    for name in told.names:
        assert name in drawn["shap_importance"] and name in drawn["shap_beeswarm"]
    of = {name: next(text for text in drawn.values() if f"What {name} does" in text) for name in ("city", "at")}
    assert all(city in of["city"] for city in ("Oslo", "Rome", r"\$a_{b}\$", "missing"))
    assert "2024-" in of["at"] and "rows without a value stand at the left" in of["at"]
    assert "furthest from the truth" in drawn["shap_row_1"] and "size = " in drawn["shap_row_1"]


def test_without_time_nothing_is_explained(mixed):
    model, dataset = mixed
    with pytest.raises(OverBudget):
        explanation.explain(model, dataset.raw_test(), Explain(rows=1000, background=2000, seconds=1e-6), 1)


# Of classes and images


@pytest.fixture(scope="module")
def classifier(binary):
    config, dataset = binary
    config = config.overridden({"train.epochs": 8, "train.learning_rate": 0.02})
    return RawColumnModel(dataset.preprocessor, fit.train(config, dataset).model), dataset


def test_of_two_classes_the_second_ones_probability_is_explained(classifier):
    model, dataset = classifier
    found = explanation.explain(model, dataset.raw_test(), Explain(rows=100, background=20), 1)
    plain = json.loads(json.dumps(explanation.to_dict(found), allow_nan=False))
    assert plain["output"] == "probability of 7" and plain["unit"] == "probability" and 0 < plain["base_value"] < 1
    assert {row["prediction"] for row in plain["rows_explained"]} <= {"3", "7"}
    assert plain["additivity"] < 1e-6
    x1 = np.array([float(cell) for cell in found.cells()["x1"]])
    assert np.corrcoef(x1, found.values[:, found.names.index("x1")])[0, 1] > 0.6  # the larger, the likelier
    assert len(drawn_explanation.draw(found)) >= 6


def test_of_more_classes_the_predicted_ones(tmp_path):
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, 300))
    y = np.select([x < -0.5, x > 0.5], ["low", "high"], "middle")
    config, dataset = tiny.build(pa.table({"x": x, "noise": noise, "y": y}), tmp_path, "multiclass")
    network = fit.train(config.overridden({"train.epochs": 20, "train.learning_rate": 0.02}), dataset).model
    found = explanation.explain(RawColumnModel(dataset.preprocessor, network), dataset.raw_test(), Explain(rows=30), 1)
    assert found.found.shares.shape[2] == 3 and found.found.shares.sum(axis=2) == pytest.approx(0, abs=1e-5)
    plain = explanation.to_dict(found)
    assert plain["base_value"] is None and plain["columns"][0]["name"] == "x" and plain["columns"][0]["share"] > 0.8
    for row in plain["rows_explained"]:
        assert row["output"] == f"probability of {row['prediction']}"
        assert row["base_value"] + sum(row["shap"].values()) == pytest.approx(row["output_value"])
    swarm = said(drawn_explanation.draw(found)["shap_beeswarm"])
    assert all(f"probability of {name}" in swarm for name in ("low", "middle", "high"))


def test_of_images_patches_are_explained(images):
    config, dataset = images
    network = fit.train(config.overridden({"train.epochs": 12, "train.learning_rate": 0.02}), dataset).model
    model = RawColumnModel(dataset.preprocessor, network)
    found = explanation.explain(model, dataset.raw_test(), Explain(rows=1000, background=100), 1)
    assert found.grid == (7, 7) and len(found.rows) == min(dataset.rows["test"], explanation.IMAGES)
    plain = json.loads(json.dumps(explanation.to_dict(found), allow_nan=False))
    assert [(c["name"], c["kind"], c["share"]) for c in plain["columns"]] == [("image", "image", 1.0)]
    assert plain["additivity"] < 1e-5 and plain["rows_explained"][0]["values"] == {"image": "image"}
    drawn = {name: said(figure) for name, figure in drawn_explanation.draw(found).items()}
    assert (
        set(drawn) == {"shap_importance", "shap_images"}
        and "actual" in drawn["shap_images"]
        or "right" in drawn["shap_images"]
    )
