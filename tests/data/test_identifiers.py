"""Numbers that name something are told from numbers that measure, by their name and by what they tell of the target."""

import json

import numpy as np
import pyarrow as pa
import pytest
import tiny

from baton import names
from baton.config.schema import Data
from baton.data.columns import Column
from baton.data.identifiers import numbers_that_name, speaks_of_names
from baton.data.statistics import summarise

ROWS, RNG = 3000, np.random.default_rng(4)
STORE = RNG.integers(1000, 1200, ROWS)
OF_STORE, NOISE = RNG.normal(size=200)[STORE - 1000], RNG.normal(0, 0.5, ROWS)


def warned(values, target, name: str = "store_id", kind: str = "numeric", **data) -> list[str]:
    table = pa.table({name: np.asarray(values, float), "y": np.asarray(target, float)})
    settings = Data(source="-", target="y", task="regression", **data)
    return numbers_that_name(Column(name, kind, "double"), summarise(table), settings)


def test_numbers_that_name_what_differs_are_warned_of():
    (sentence,) = warned(STORE, OF_STORE + NOISE)
    assert sentence.startswith("store_id: 200 whole numbers that seem to name something: each by itself tells 7")
    assert sentence.endswith("set data.kinds: {store_id: categorical}.")


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


def test_ingest_warns_of_them_once(tmp_path):
    places = RNG.permutation(np.arange(400) % 80)
    target = RNG.normal(size=80)[places] + RNG.normal(0, 0.3, 400)
    _, dataset = tiny.build(pa.table({"shop_id": places + 5000, "y": target}), tmp_path, "regression")
    warnings = json.loads((dataset.folder / names.COLUMNS).read_text())["warnings"]
    assert ["data.kinds: {shop_id: categorical}" in warning for warning in warnings] == [True]
