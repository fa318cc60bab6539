"""Numbers that name something are told from numbers that measure, by their name and by what they tell of the target."""

import json

import numpy as np
import pyarrow as pa
import pytest
import tiny

from baton import names
from baton.config.schema import Data
from baton.data import identifiers
from baton.data.columns import Column
from baton.data.feed import Feed
from baton.data.identifiers import speaks_of_names
from baton.data.preprocessing import FIRST, MISSING, UNKNOWN
from baton.data.statistics import summarise
from baton.networks import prediction
from baton.training import fit

ROWS, RNG = 3000, np.random.default_rng(4)
STORE = RNG.integers(1000, 1200, ROWS)
OF_STORE, NOISE = RNG.normal(size=200)[STORE - 1000], RNG.normal(0, 0.5, ROWS)


def warned(values, target, name: str = "store_id", kind: str = "numeric", **data) -> list[str]:
    table = pa.table({name: np.asarray(values, float), "y": np.asarray(target, float)})
    settings = Data(source="-", target="y", task="regression", **data)
    return identifiers.words(Column(name, kind, "double"), summarise(table), settings)


def test_numbers_that_name_what_differs_are_warned_of():
    (sentence,) = warned(STORE, OF_STORE + NOISE)
    assert sentence.startswith("store_id: 200 whole numbers that seem to name something: each by itself tells 7")
    assert sentence.endswith("{store_id: numeric}; if most new rows will be of others, data.group: store_id.")


@pytest.mark.parametrize(
    "case",
    {
        "another name": {"name": "rooms"},
        "a trend": {"target": STORE / 50 + NOISE},
        "it tells nothing": {"target": NOISE},
        "few values": {"values": STORE // 10},
        "each only once or twice": {"values": RNG.permutation(ROWS) // 2},
        "parts of a number": {"values": STORE / 3},
        "a category": {"kind": "categorical"},
        "the config says so": {"kinds": {"store_id": "numeric"}},
        "no value is to be a category": {"rows_per_value": 0},
    }.items(),
    ids=lambda case: case[0],
)
def test_other_columns_are_not(case):
    settings = {"values": STORE, "target": OF_STORE + NOISE, **case[1]}
    assert warned(settings.pop("values"), settings.pop("target"), **settings) == []


def test_names_end_in_a_word_of_identifiers():
    of_names = "id", "store_id", "zipCode", "postal code", "FLIGHT_NO", "unitid", "storeId", "route", "zipcode"
    others = "paid", "grid", "number_of_rooms", "n", "code_lines", "route_km", "identity", "bid", "", "casino"
    assert [name for name in of_names if not speaks_of_names(name)] == []
    assert [name for name in others if speaks_of_names(name)] == []


@pytest.fixture(scope="module")
def shops(tmp_path_factory):
    """Eighty shops of five rows each, whose number alone says what they sell: one dataset as it is, one by config."""
    places = RNG.permutation(np.arange(400) % 80)
    table = pa.table({"shop_id": places + 5000, "y": RNG.normal(size=80)[places] + RNG.normal(0, 0.3, 400)})
    return [
        tiny.build(table, tmp_path_factory.mktemp(name), "regression", data={"kinds": kinds})
        for name, kinds in {"default": {}, "numeric": {"shop_id": "numeric"}}.items()
    ]


def test_ingest_warns_of_them_once(shops):
    warnings = [json.loads((dataset.folder / names.COLUMNS).read_text())["warnings"] for _, dataset in shops]
    said = [["data.kinds: {shop_id: numeric}" in warning for warning in each] for each in warnings]
    assert [sum(each) for each in said] == [1, 0]


def test_each_is_learnt_as_a_number_and_as_a_category(shops):
    (_, dataset), (_, undone) = shops
    found = [(e.kind, e.encoding) for e in dataset.preprocessor.encoded]
    assert found == [("number", "standard"), ("category", "identifier")]
    assert [(e.kind, e.encoding) for e in undone.preprocessor.encoded] == [("number", "standard")]
    encoded = dataset.preprocessor.encode(pa.table({"shop_id": [5003.0, 5003.5, None, 9999.0]}))
    codes = encoded[dataset.preprocessor.names("category")[0]]
    assert codes[0] >= FIRST and codes[1:].tolist() == [UNKNOWN, MISSING, UNKNOWN]
    assert dataset.preprocessor.unknown(encoded) == {"shop_id": 2}


def test_where_all_are_rarer_than_the_config_allows_none_is_learnt_and_nothing_said(tmp_path):
    table = pa.table({"shop_id": np.arange(400) % 80, "y": RNG.normal(size=80)[np.arange(400) % 80]})
    _, dataset = tiny.build(table, tmp_path, "regression", data={"min_category_count": 9})
    assert [e.kind for e in dataset.preprocessor.encoded] == ["number"]
    assert "learnt as a category" not in str(json.loads((dataset.folder / names.COLUMNS).read_text())["warnings"])


def test_what_is_learnt_is_said_beside_another_doubt(tmp_path):
    """Codes of eight digits, nine in ten of them dates, which is doubtful by itself."""
    places = np.arange(400) % 80
    codes = np.where(places < 76, 20200101 + places // 28 * 100 + places % 28, 99 + places)
    table = pa.table({"day_code": codes, "y": RNG.normal(size=80)[places] + RNG.normal(0, 0.1, 400)})
    _, dataset = tiny.build(table, tmp_path, "regression")
    warnings = json.loads((dataset.folder / names.COLUMNS).read_text())["warnings"]
    assert len(warnings) >= 2 and sum("learnt as a category too" in warning for warning in warnings) == 1


def test_what_few_rows_of_each_say_is_learnt(shops):
    """A shop has three or four train rows: learnt as a number alone it tells nothing."""
    errors = []
    changes = {"train.epochs": 60, "train.patience": 60, "train.learning_rate": 0.01}
    for config, dataset in shops:
        network = fit.train(config.overridden(changes), dataset).model
        targets, output = prediction.predict_all(network, Feed(dataset, "test", 100))
        errors.append(np.sqrt(((targets - output[:, 0]) ** 2).mean()))
    assert errors[0] < 0.6 * errors[1]
