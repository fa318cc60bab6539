"""Typed rows → encoded numbers: what each kind becomes, and that it never varies."""

import datetime as dt
from collections import namedtuple

import numpy as np
import pyarrow as pa
import pytest
from growth import is_linear
from hypothesis import given, settings
from hypothesis import strategies as st

from baton.config.schema import Config, Data
from baton.data import cell_counts, columns, fitting, recognition
from baton.data.ingestion import pictured
from baton.data.preprocessing import MISSING, UNKNOWN, Preprocessor
from baton.data.statistics import summarise
from baton.errors import BadInput

DATA = Data(source="-", target="y", task="binary", min_category_count=1)


def fit(table: pa.Table, **changes) -> tuple[Preprocessor, pa.Table]:
    """Raw table, config changes → (its preprocessor, the typed table); a target is added if none is there."""
    data = Data(**{**DATA.model_dump(exclude_unset=True), **changes})
    if data.target not in table.column_names:
        table = table.append_column(data.target, pa.array(np.arange(table.num_rows) % 2))
    found = recognition.infer(table.schema, cell_counts.counts(table, data), data)
    typed = columns.typed(table, found, data.target)[0]
    return fitting.fit_preprocessor(summarise(typed), found, data), typed


def pictures(**data) -> Config:
    return Config.model_validate({"name": "p", "data": {"source": "-", "task": "image", **data}})


def encode(table: pa.Table, **changes) -> dict:
    preprocessor, typed = fit(table, **changes)
    return preprocessor.encode(typed)


def everything(rows: int = 400) -> pa.Table:
    """A column of every kind, with missing cells."""
    rng = np.random.default_rng(5)
    start = dt.datetime(2023, 5, 6, 7, 8)
    some = rng.random(rows) < 0.2
    return pa.table(
        {
            "x": pa.array(rng.normal(3, 20, rows), mask=some),
            "whole": rng.integers(0, 5, rows),
            "flag": pa.array(rng.random(rows) < 0.3, mask=some),
            "text": pa.array(rng.choice(["a", "b", "c"], rows, p=[0.2, 0.5, 0.3]).tolist(), mask=some),
            "when": [start + dt.timedelta(minutes=int(m)) for m in rng.integers(0, 10**6, rows)],
            "y": rng.choice(["no", "yes"], rows),
        }
    )


SCALES = {
    "plain": (0, 1), "large": (1e9, 1e-2), "tiny": (0, 1e-15), "huge": (0, 1e200), "smallest": (0, 1e-300),
}  # fmt: skip


@pytest.mark.parametrize("scale", SCALES)
def test_numbers_are_standardised(scale):
    mean, std = SCALES[scale]
    normal = np.random.default_rng(0).normal(size=5000)
    got = encode(pa.table({"x": mean + std * normal}))["x"]
    assert got.dtype == np.float32
    assert abs(got.mean(dtype=float)) < 1e-5 and abs(got.std(dtype=float) - 1) < 1e-5
    assert np.allclose(got, (normal - normal.mean()) / normal.std(), atol=1e-4)


@pytest.mark.parametrize("numeric", ["standard", "quantile"])
def test_numbers_beyond_all_that_train_had_stay_finite(numeric):
    preprocessor, _ = fit(pa.table({"x": [-1e307, 1e307], "n": [1.0, 2.0]}), numeric=numeric)
    got = preprocessor.encode(pa.table({"x": [1.7e308, -1.7e308], "n": [1e308, -1e308]}))
    assert np.isfinite(got["x"]).all() and np.isfinite(got["n"]).all()
    assert got["x"][0] > got["x"][1] and got["n"][0] > got["n"][1]


def test_missing_numbers_are_zero_with_an_indicator():
    got = encode(pa.table({"x": [1.0, None, 3.0, None]}))
    assert got["x"].tolist() == [-1, 0, 1, 0]
    assert got["x__missing"].tolist() == [0, 1, 0, 1] and got["x__missing"].dtype == np.float32


def test_no_indicator_where_train_lacked_nothing():
    preprocessor, _ = fit(pa.table({"x": [1.0, 3.0]}))
    got = preprocessor.encode(pa.table({"x": pa.array([None, 2.0, 5.0], pa.float64())}))
    assert {name: values.tolist() for name, values in got.items()} == {"x": [0, 0, 3]}


@pytest.mark.parametrize("numeric", ["standard", "quantile"])
def test_constant_and_all_missing_columns_are_finite(numeric):
    table = pa.table({"c": [0.1] * 9, "none": pa.nulls(9, pa.float64()), "day": [dt.date(2024, 1, 1)] * 9})
    preprocessor, typed = fit(table, numeric=numeric)
    got = preprocessor.encode(typed)
    assert set(got) == {"c", "none", "none__missing", "day"}
    assert all((got[name] == 0).all() for name in ("c", "none", "day")) and (got["none__missing"] == 1).all()
    other = preprocessor.encode(pa.table({**{n: typed[n] for n in ("day", "c")}, "none": [5.0] * 9}))
    assert all(np.isfinite(values).all() for values in other.values())
    assert all(len(e.edges) >= 2 and np.diff(e.edges).min() > 0 for e in preprocessor.encoded)


def test_booleans_are_numbers():
    got = encode(pa.table({"flag": [True, False, None, False, True]}))
    assert got["flag"].tolist() == [1, -1, 0, -1, 1]
    assert got["flag__missing"].tolist() == [0, 0, 1, 0, 0]


def test_categories_are_coded_by_frequency():
    preprocessor, typed = fit(pa.table({"t": ["b", "c", "c", "a", None, "d", "c", "b", "d"]}), min_category_count=2)
    assert preprocessor.spec["features"]["t"]["vocabulary"] == ["c", "b", "d"]
    assert preprocessor.encode(typed)["t"].tolist() == [3, 2, 2, UNKNOWN, MISSING, 4, 2, 3, 4]
    assert preprocessor.encoded[0].size == 5
    new = preprocessor.encode(pa.table({"t": pa.array(["zebra", None, "a", "c"])}))["t"]
    assert new.tolist() == [UNKNOWN, MISSING, UNKNOWN, 2] and new.dtype == np.int32


def test_large_vocabularies_keep_the_most_frequent():
    got = encode(pa.table({"t": ["a", "b", "b", "c", "c", "c"]}), max_categories=2)
    assert got["t"].tolist() == [UNKNOWN, 3, 3, 2, 2, 2]


def test_a_column_without_any_category():
    preprocessor, typed = fit(pa.table({"t": pa.array([None, None], pa.string())}))
    assert preprocessor.encode(typed)["t"].tolist() == [MISSING, MISSING]
    assert preprocessor.encode(pa.table({"t": ["a"]}))["t"].tolist() == [UNKNOWN]


@settings(deadline=None)
@given(st.lists(st.floats(-1e300, 1e300), min_size=2), st.lists(st.floats(-1e300, 1e300), min_size=1))
def test_quantile_encoding_keeps_the_order(train, new):
    preprocessor, _ = fit(pa.table({"x": train}), numeric="quantile")
    got = preprocessor.encode(pa.table({"x": sorted(train + new)}))["x"]
    assert (np.diff(got) >= 0).all() and np.isfinite(got).all() and abs(got).max() <= 5


def test_quantile_encoding_is_normal():
    got = encode(pa.table({"x": np.random.default_rng(0).exponential(size=20_000)}), numeric="quantile")["x"]
    assert np.allclose(np.quantile(got, [0.16, 0.5, 0.84]), [-0.994, 0, 0.994], atol=0.03)


def test_date_parts():
    days = [dt.datetime(2023, 1, 2, 3), dt.datetime(2024, 1, 9, 3), dt.datetime(2025, 1, 5, 3), None]
    preprocessor, typed = fit(pa.table({"d": days}))
    got = preprocessor.encode(typed)
    assert list(got) == [
        "d",
        "d__year",
        "d__day",
        "d__weekday",
        "d__missing",
    ]  # month, hour, minute: constant
    for name, raw in {"d__year": [2023, 2024, 2025], "d__day": [2, 9, 5], "d__weekday": [0, 1, 6]}.items():
        assert np.allclose(got[name][:3], (raw - np.mean(raw)) / np.std(raw))
        assert got[name][3] == 0
    assert [e.encoding for e in preprocessor.encoded] == ["elapsed", "year", "day", "weekday", "missing"]
    assert abs(got["d"][:3].mean()) < 1e-5 and abs(got["d"][:3].std() - 1) < 1e-5


def test_moments_close_together_are_told_apart():
    base = dt.datetime(2024, 1, 1)
    got = encode(pa.table({"d": [base + dt.timedelta(seconds=s) for s in range(50)]}))["d"]
    assert abs(got.std(dtype=float) - 1) < 1e-5 and np.allclose(np.diff(got), np.diff(got)[0], atol=1e-6)


def test_dates_far_from_today():
    got = encode(pa.table({"d": pa.array([dt.datetime(9999, 12, 31), dt.datetime(1, 1, 1)], pa.timestamp("us"))}))
    assert got["d"].tolist() == [1, -1]


@pytest.mark.parametrize("numeric", ["standard", "quantile"])
def test_encoding_leaves_its_input_alone(numeric):
    preprocessor, typed = fit(everything(), numeric=numeric)
    before = pa.ipc.open_stream(_bytes(typed)).read_all()
    encoded = preprocessor.encode(typed)
    preprocessor.blocks(encoded)
    assert typed.equals(before)
    again = preprocessor.encode(typed)
    assert all(encoded[name].tobytes() == again[name].tobytes() for name in encoded)


def _bytes(table: pa.Table) -> pa.Buffer:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)
    return out.getvalue()


@pytest.mark.parametrize("numeric", ["standard", "quantile"])
def test_json_gives_the_very_same_encoding(tmp_path, numeric):
    preprocessor, typed = fit(everything(), numeric=numeric)
    preprocessor.save(tmp_path / "p.json")
    again = Preprocessor.load(tmp_path / "p.json")
    ours, theirs = preprocessor.encode(typed), again.encode(typed)
    assert list(again.names("number")) == preprocessor.names("number") and set(ours) == set(theirs)
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)
    assert again.encode_target(typed).tobytes() == preprocessor.encode_target(typed).tobytes()
    assert again.encoded == preprocessor.encoded


def test_a_row_is_encoded_alike_alone_and_among_others():
    preprocessor, typed = fit(everything(60))
    whole = preprocessor.encode(typed)
    for row in (0, 31, 59):
        alone = preprocessor.encode(typed.slice(row, 1))
        assert all(alone[name].tobytes() == whole[name][row : row + 1].tobytes() for name in whole)


def test_an_empty_table_is_encoded():
    preprocessor, typed = fit(everything())
    assert {len(values) for values in preprocessor.encode(typed.slice(0, 0)).values()} == {0}


def test_names_become_unique_and_valid():
    odd = ["mean radius", "mean-radius", "class", "1st", "_x", "x", "é", "", "a", "a__missing", "None", "y"]
    table = pa.table({name: pa.array([1.0, None, 2.0]) for name in odd})
    table = table.set_column(len(odd) - 1, "y", pa.array([0, 1, 1]))
    preprocessor, _ = fit(table)
    names = [e.name for e in preprocessor.encoded] + [preprocessor.target_encoded]
    assert len(names) == 2 * len(odd) - 1
    assert namedtuple("Row", names)._fields == tuple(names)  # what Petastorm makes of them
    assert {"mean_radius", "mean_radius_2", "c_class", "c_1st", "x", "x_2", "c_None", "y"} <= set(names)


def test_thousands_of_names_that_are_alike_become_unique_at_once():
    def slugs(names: list[str]) -> list[str]:
        taken: dict[str, int] = {}
        return [fitting._slug(name, taken) for name in names]

    short, long = (["λ" * (i + 1) for i in range(size)] for size in (500, 2_000))
    assert slugs(long)[:3] == ["column", "column_2", "column_3"] and len(set(slugs(long))) == 2_000
    assert is_linear(slugs, short, [*short, *["μ"] * 1_500])


def test_blocks_are_the_inputs_of_a_network():
    preprocessor, typed = fit(everything())
    blocks = preprocessor.blocks(preprocessor.encode(typed))
    assert {name: (values.shape, values.dtype.name) for name, values in blocks.items()} == {
        "numbers": ((400, len(preprocessor.names("number"))), "float32"),
        "categories": ((400, 1), "int32"),
    }


@pytest.mark.parametrize(
    ("target", "classes", "prediction"),
    [
        ([10, 9, 9], ["9", "10"], [10, 9]),
        ([1.5, 0.0, 0.0], ["0", "1.5"], [1.5, 0.0]),
        ([True, False, False], ["false", "true"], [True, False]),
        (["b", "a", "a"], ["a", "b"], ["b", "a"]),
    ],
)
def test_predictions_have_the_targets_type(target, classes, prediction):
    preprocessor, typed = fit(pa.table({"x": [1, 2, 3], "y": target}))
    assert preprocessor.classes == classes
    assert preprocessor.encode_target(typed).tolist() == [1, 0, 0]
    assert preprocessor.spec["target"]["priors"] == [2 / 3, 1 / 3]
    got = preprocessor.decode_prediction(np.array([[0.25, 0.75], [0.5, 0.5]], np.float32))
    assert {name: values.to_pylist() for name, values in got.items()} == {
        "prediction": prediction,
        f"probability_{classes[0]}": [0.25, 0.5],
        f"probability_{classes[1]}": [0.75, 0.5],
    }


def test_a_class_that_train_lacked_is_minus_one():
    preprocessor, _ = fit(pa.table({"x": [1, 2, 3], "y": ["a", "b", "c"]}), task="multiclass")
    target = preprocessor.encode_target(pa.table({"y": ["c", "z"]}))
    assert target.tolist() == [2, -1] and target.dtype == np.int32


def test_regression():
    preprocessor, typed = fit(pa.table({"x": [1, 2], "y": [2.0, 4.0]}), task="regression")
    assert preprocessor.spec["target"] == {"name": "y", "encoded": "y", "mean": 3.0, "std": 1.0}
    assert preprocessor.encode_target(typed).tolist() == [2, 4]
    got = preprocessor.decode_prediction(np.array([[1.5], [2]], np.float32))
    assert {name: values.to_pylist() for name, values in got.items()} == {"prediction": [1.5, 2.0]}


@pytest.mark.parametrize(
    ("task", "target", "answer"),
    [
        ("binary", ["a", "a"], "y must have exactly 2 classes for binary. Received: a"),
        ("multiclass", ["a", "a"], "y must have at least 2 classes for multiclass. Received: a"),
        ("binary", ["a", "b", "c"], "y must have exactly 2 classes for binary. Received: a, b, c"),
        ("binary", [None, ""], "No row of the train split has a value of the target y"),
        ("regression", [None, float("nan")], "No row of the train split has a value of the target y"),
    ],
)
def test_targets_that_cannot_be_learnt(task, target, answer):
    with pytest.raises(BadInput, match=answer):
        fit(pa.table({"x": range(len(target)), "y": target}), task=task)


def test_images_are_passed_on_and_their_size_is_fixed(tmp_path):
    import io

    from PIL import Image

    def png(width: int, mode: str) -> bytes:
        out = io.BytesIO()
        Image.new(mode, (width, 8)).save(out, "png")
        return out.getvalue()

    images = [png(5, "L"), png(6, "RGB"), png(5, "RGB"), png(5, "RGB")]
    table = pa.table({"pixels": images, "y": ["a", "b", "a", "b"]})
    preprocessor, typed = fit(table, task="image")
    assert preprocessor.task == "multiclass" and preprocessor.names("image") == ["pixels"]
    assert preprocessor.blocks(preprocessor.encode(typed))["image"].to_pylist() == images
    sizes = pictured.image_sizes(typed["pixels"], preprocessor.features[0])
    sized = pictured.with_image_size(preprocessor, sizes, pictures())
    assert sized.image_size == {"height": 8, "width": 5, "channels": 3}
    sized = pictured.with_image_size(preprocessor, sizes, pictures(image_size={"height": 4, "width": 4, "channels": 1}))
    assert sized.image_size == {"height": 4, "width": 4, "channels": 1}
