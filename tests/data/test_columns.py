"""Raw columns → kinds, typed values and reasons."""

import datetime as dt
import io
import re

import numpy as np
import pyarrow as pa
import pytest
from growth import is_linear
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from baton.config.schema import Data
from baton.data import cell_counts, columns, pictures, recognition
from baton.data.columns import Column
from baton.errors import BadInput

DATA = Data(source="-", target="y", task="binary")


def read(data: Data = DATA, **cells):
    """Columns → (kind of each, typed table, reasons); a target is added where there is none."""
    cells.setdefault(data.target, [0] * len(next(iter(cells.values()))))
    table = pa.table(cells)
    found = recognition.infer(table.schema, cell_counts.counts(table, data), data)
    typed, reasons = columns.typed(table, found, data.target)
    return {column.name: column.kind for column in found}, typed, reasons.to_pylist()


def data(**values) -> Data:
    return Data(**{**DATA.model_dump(exclude_unset=True), **values})


@pytest.mark.parametrize(("stray", "kind"), [(1, "numeric"), (2, "categorical")])
def test_text_is_numeric_if_99_percent_are_numbers(stray, kind):
    cells = ["x"] * stray + ["1.5"] * (100 - stray) + [None, " "]
    kinds, typed, reasons = read(a=cells)
    assert kinds["a"] == kind
    if kind == "numeric":
        assert reasons == ["a is not a number"] + [None] * 101
        assert typed["a"].to_pylist() == [None] + [1.5] * 99 + [None, None]
    else:
        assert reasons == [None] * 102
        assert typed["a"].to_pylist() == ["x"] * 2 + ["1.5"] * 98 + [None, None]


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_numbers_as_text_are_read_exactly(numbers):
    kinds, typed, reasons = read(a=[f" {number!r}" for number in numbers])
    assert kinds["a"] == "numeric"
    assert typed["a"].to_pylist() == numbers
    assert [reason is not None for reason in reasons] == np.isinf(numbers).tolist()


@pytest.mark.parametrize(
    ("text", "number"), [("+3", 3.0), (".5", 0.5), ("2.", 2.0), ("1E3", 1000.0), ("-0", 0.0), ("1e-999", 0.0)]
)
def test_ways_to_write_a_number(text, number):
    assert read(a=[text])[1]["a"].to_pylist() == [number]


@pytest.mark.parametrize("text", ["1e999", "inf", "-Infinity", "+INF"])
def test_infinite_text_is_a_reason(text):
    assert read(a=["1", text])[2] == [None, "a is infinite"]


@pytest.mark.parametrize("text", ["0x1f", "1_000", "٣", "--1", "e5", "1,2,3"])
def test_what_is_no_number(text):
    assert read(data(kinds={"a": "numeric"}), a=["1", text])[2] == [None, "a is not a number"]


def test_numbers_infinite_or_missing():
    _, typed, reasons = read(a=[1.0, float("inf"), float("-inf"), float("nan"), None])
    assert reasons == [None, "a is infinite", "a is infinite", None, None]
    assert typed["a"].to_pylist()[3:] == [None, None]


def test_booleans_as_text_and_as_they_are():
    kinds, typed, reasons = read(a=["true", "FALSE", None], b=[True, None, False], c=["true", "no", "no"])
    assert (kinds["a"], kinds["b"], kinds["c"]) == ("boolean", "boolean", "categorical")
    assert typed["a"].to_pylist() == [True, False, None] and typed["b"].to_pylist() == [True, None, False]
    assert reasons == [None] * 3
    assert read(data(kinds={"c": "boolean"}), c=["true", "no"])[2] == [None, "c is not true or false"]


def test_iso_dates():
    texts = ["2024-02-29", "2024-02-29 12:30", "2024-02-29T12:30:15.250001", "2024-02-29T12:30:00+02:00"]
    kinds, typed, _ = read(a=texts, b=[dt.date(2024, 2, 29)] * 4)
    assert (kinds["a"], kinds["b"]) == ("datetime", "datetime")
    assert typed["a"].to_pylist() == [
        dt.datetime(2024, 2, 29),
        dt.datetime(2024, 2, 29, 12, 30),
        dt.datetime(2024, 2, 29, 12, 30, 15, 250001),
        dt.datetime(2024, 2, 29, 10, 30),
    ]
    assert typed["b"].to_pylist() == [dt.datetime(2024, 2, 29)] * 4


def test_a_time_without_a_zone_does_not_take_the_one_before_it():
    """pandas gives it that, so what a row meant would hang on the rows beside it."""
    texts = [
        "2024-02-29T12:30:00+02:00",
        "2024-02-29 12:30",
        "2024-02-29",
        "2024-02-29T12:30:00.5",
        "2024-02-29T12:30Z",
    ]
    hours = [moment.hour for moment in read(a=texts)[1]["a"].to_pylist()]
    assert hours == [10, 12, 0, 12, 12]


def test_dates_that_do_not_exist_are_a_reason():
    kinds, _, reasons = read(a=["2023-02-29"] + ["2024-02-29"] * 99)
    assert kinds["a"] == "datetime"
    assert reasons == ["a is not a date or time"] + [None] * 99


def test_zones_become_utc():
    stamps = pa.array([dt.datetime(2024, 1, 1, 12)], pa.timestamp("ns", "Europe/Berlin"))
    assert read(a=stamps)[1]["a"].to_pylist() == [dt.datetime(2024, 1, 1, 12)]


def test_kinds_overrule():
    wanted = {"a": "categorical", "b": "numeric", "c": "datetime", "d": "categorical"}
    kinds, typed, reasons = read(data(kinds=wanted), a=[1, 2], b=["x", "2"], c=["x", "2024-01-01"], d=[True, None])
    assert {name: kinds[name] for name in wanted} == wanted
    assert (typed["a"].to_pylist(), typed["d"].to_pylist()) == (["1", "2"], ["true", None])
    assert reasons == ["b is not a number", None]


@pytest.mark.parametrize(
    ("task", "target", "reasons"),
    [
        ("binary", ["a", None, " "], [None, "y (the target) is missing", "y (the target) is missing"]),
        ("binary", [0.0, float("nan"), 1.0], [None, "y (the target) is missing", None]),
        ("regression", [1.0, None, float("inf")], [None, "y (the target) is missing", "y is infinite"]),
        ("regression", ["1", "", "x"], [None, "y (the target) is missing", "y is not a number"]),
    ],
)
def test_a_target_that_cannot_be_learnt_is_a_reason(task, target, reasons):
    assert read(data(task=task), a=[1, 2, 3], y=target)[2] == reasons


def test_a_missing_target_is_no_reason_when_scoring():
    table = pa.table({"a": [1.0, None], "y": ["p", None]})
    found = recognition.infer(table.schema, cell_counts.counts(table, DATA), DATA)
    assert columns.typed(table, found, None)[1].to_pylist() == [None, None]
    without, reasons = columns.typed(table.drop(["y"]), columns.feature_columns(found, DATA), None)
    assert without.column_names == ["a"] and reasons.null_count == 2


def test_a_column_missing_when_scoring_is_named():
    found = [Column("a", "numeric", "double"), Column("b", "numeric", "double")]
    with pytest.raises(BadInput, match="The data lacks b. Received columns: a, c."):
        columns.typed(pa.table({"a": [1], "c": [2]}), found, None)


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([3, 4]),
        pa.array([3.0, 4.0]),
        pa.array([3.0, 4.0], pa.float32()),
        pa.array(["3", "4 "]),
        pa.array(["3", "4"]).dictionary_encode(),
        pa.array(["3", "4"], pa.large_string()),
        pa.array([3, 4]).cast(pa.decimal128(22, 2)),
    ],
    ids=lambda cells: str(cells.type),
)
def test_a_category_is_the_same_in_every_type(cells):
    assert read(data(kinds={"a": "categorical"}), a=cells)[1]["a"].to_pylist() == ["3", "4"]


def test_categories_that_are_no_whole_numbers():
    texts = columns.as_text(pa.array([0.5, -0.0, float("nan"), None, 1e300])).to_pylist()
    assert texts == ["0.5", "0", None, None, "1e+300"]


UUID = bytes(range(240, 256))


@pytest.mark.parametrize("type_", [pa.binary(16), pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("role", [{"id": ["a"]}, {"group": "a"}])
def test_bytes_that_name_a_row_or_a_group_are_no_image(type_, role):
    kinds, typed, reasons = read(data(**role), a=pa.array([UUID, None, bytes(16)], type_), b=[1, 2, 3])
    assert kinds == {"a": "categorical", "b": "numeric", "y": "categorical"} and reasons == [None] * 3
    assert typed["a"].to_pylist() == [UUID.hex(), None, "00" * 16]


def test_bytes_of_one_size_are_no_feature():
    with pytest.raises(
        BadInput, match=r"Column a holds bytes that are no images: name it in data\.id if .*, as a uuid"
    ):
        read(a=pa.array([UUID], pa.binary(16)), b=[1])


@pytest.mark.parametrize(("cell", "text"), [
    (b"yes", "yes"), ("ü".encode(), "ü"), (b"", ""), (b"\xff", "ff"), (b"\x00a", "0061"), (None, None),
])  # fmt: skip
def test_bytes_are_the_text_they_hold_or_digits(cell, text):
    assert columns.as_text(pa.array([cell], pa.binary())).to_pylist() == [text]


@pytest.mark.parametrize(("role", "type_"), [("numeric", "double"), ("categorical", "string")])
def test_numbers_beyond_int64_are_declared_as_what_holds_them(role, type_):
    settings = data(kinds={"a": role})
    table = pa.table({"a": pa.array([2**64 - 1], pa.uint64()), "y": ["p"]})
    (column, _) = recognition.infer(table.schema, cell_counts.counts(table, settings), settings)
    assert column.type == type_
    assert columns.typed(table, [column], None)[0]["a"].to_pylist() == [{"string": str(2**64 - 1)}.get(type_, 2.0**64)]


@settings(deadline=None)
@given(st.sets(st.integers(-50, 50).map(str) | st.integers(0, 50).map(lambda n: f"{n}.0")), st.randoms())
def test_classes_have_one_order(classes, random):
    shuffled = random.sample(sorted(classes), len(classes))
    assert columns.class_names(set(shuffled)) == sorted(classes, key=lambda c: (float(c), c))


def test_classes_are_ordered_as_numbers_only_if_all_are():
    assert columns.class_names({"10", "9", "1"}) == ["1", "9", "10"]
    assert columns.class_names({"10", "9", "nan"}) == ["10", "9", "nan"]


@pytest.mark.parametrize("piece", ["1", "1.", "9e", "+", "."])
def test_a_class_that_is_nearly_a_number_is_seen_through_at_once(piece):
    short, long = ({(piece * size)[:size] + "x"} for size in (8_000, 32_000))
    assert columns.class_names(long) == list(long) and is_linear(columns.class_names, short, long)


@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        (pa.array([[1]]), "list<int64>"),
        (pa.array([{"p": 1}]), "struct<p: int64>"),
        (pa.array([dt.time(1)]), "time64[us]"),
        (pa.array([dt.timedelta(1)]), "duration[us]"),
    ],
)
def test_types_that_are_not_supported(cells, shown):
    answer = "Column a has a type that is not supported; name it in data.drop. Received: "
    with pytest.raises(BadInput, match=answer + re.escape(shown)):
        read(a=cells)
    assert list(read(data(drop=["a"]), a=cells, b=[1])[0]) == ["b", "y"]


@pytest.mark.parametrize(
    ("cells", "kind"), [(pa.array([dt.datetime(2024, 1, 1)]), "numeric"), (pa.array([b"\x01"]), "numeric")]
)
def test_a_type_that_cannot_hold_its_kind(cells, kind):
    with pytest.raises(BadInput, match=f"Column a must be {kind}. Received: {re.escape(str(cells.type))}"):
        read(data(kinds={"a": kind}), a=cells)


@pytest.mark.parametrize("key", ["id", "drop", "group", "time", "image_column", "kinds", "target"])
def test_a_column_the_config_names_and_the_source_lacks(key):
    value = {"id": ["z"], "drop": ["z"], "kinds": {"z": "numeric"}}.get(key, "z")
    schema = pa.schema({"a": pa.int64(), "y": pa.int64()})
    with pytest.raises(BadInput, match="The source has no column z. Its columns: a, y."):
        recognition.infer(schema, {}, data(**{key: value}))


def test_ids_groups_and_dropped_columns_are_no_features():
    chosen = data(id=["i"], group="g", drop=["d"])
    schema = pa.schema([(name, pa.int64()) for name in ("i", "g", "d", "y", "a")])
    found = recognition.infer(schema, {}, chosen)
    assert [column.name for column in found] == ["i", "g", "y", "a"]
    assert [column.name for column in columns.feature_columns(found, chosen)] == ["a"]
    with pytest.raises(BadInput, match="No column is left to learn from"):
        recognition.infer(schema, {}, data(drop=["i", "g", "d", "a"]))


def test_a_date_is_no_target_for_regression():
    with pytest.raises(BadInput, match=r"The target y must be a number for regression. Received: timestamp\[us\]"):
        read(data(task="regression"), a=[1], y=pa.array([dt.datetime(2024, 1, 1)]))


def test_declared_types_are_those_of_a_signature():
    table = pa.table({"a": ["1", "2"], "b": ["1", None], "c": [1, 2], "d": ["x", "z"], "e": [None] * 2, "y": [0, 1]})
    found = recognition.infer(table.schema, cell_counts.counts(table, DATA), DATA)
    assert {c.name: c.type for c in found} == {
        "a": "long", "b": "double", "c": "long", "d": "string", "e": "string", "y": "long"
    }  # fmt: skip


@pytest.mark.parametrize(
    "made", [pa.array, lambda v: pa.array(v, pa.large_string()), lambda v: pa.array(v).dictionary_encode()]
)
def test_texts_that_mean_missing_do_so_in_every_kind_of_column(made):
    cells = {"number": ["1", " NA ", "-"], "truth": ["true", "NULL", "-"], "word": ["a", "nan", "-"],
             "day": ["2024-01-01", "None", "-"]}  # fmt: skip
    table = {name: made(values) for name, values in cells.items()}
    _, typed, reasons = read(data(missing=["-", "NA", "NULL", "nan", "None"]), **table)
    assert all(typed[name].is_null().to_pylist() == [False, True, True] for name in cells) and not any(reasons)
    kinds, typed, _ = read(data(missing=["-"]), **table)
    assert set(kinds.values()) == {"categorical"}  # half of the cells are no number, truth or day now
    assert typed["word"].to_pylist() == ["a", "nan", None]


def png(mode: str = "L") -> bytes:
    out = io.BytesIO()
    Image.new(mode, (3, 2)).save(out, "png")
    return out.getvalue()


def test_images_that_cannot_be_decoded_are_a_reason():
    images = [png(), png("RGBA"), png()[:40], b"", None]
    kinds, _, reasons = read(data(task="image"), a=pa.array(images, pa.binary()), y=list("pqpqp"))
    assert kinds == {"a": "image", "y": "categorical"}
    assert reasons == [None, None] + ["a cannot be decoded as an image"] * 3
    looks = pictures.look_at_all(images[:3], None, 255)
    assert [look if isinstance(look, str) else look.shape for look in looks] == [
        (2, 3, 1), (2, 3, 3), "cannot be decoded as an image"
    ]  # fmt: skip


def test_of_two_image_columns_one_must_be_named():
    schema = pa.schema({"a": pa.binary(), "b": pa.large_binary(), "y": pa.string(), "odd": pa.list_(pa.int8())})
    with pytest.raises(BadInput, match=r"data.image_column. Received: \['a', 'b'\]"):
        recognition.infer(schema, {}, data(task="image", drop=["odd"]))
    found = recognition.infer(schema, {}, data(task="image", drop=["odd"], image_column="b"))
    assert [(c.name, c.kind) for c in found] == [("b", "image"), ("y", "categorical")]


def test_typing_does_not_depend_on_how_the_table_is_cut():
    table = pa.table({"a": ["1", "x", None] * 40 + ["2"] * 9880, "y": ["p", "q"] * 5000})
    found = recognition.infer(table.schema, cell_counts.counts(table, DATA), DATA)
    parts = [columns.typed(table.slice(start, 1111), found, "y") for start in range(0, 10_000, 1111)]
    whole, reasons = columns.typed(table, found, "y")
    assert pa.concat_tables([part for part, _ in parts]).equals(whole)
    assert pa.concat_arrays([part for _, part in parts]).equals(reasons)
    assert reasons.null_count == 10_000 - 40


def test_an_empty_table_can_be_typed():
    schema = pa.schema({"a": pa.string(), "d": pa.string(), "n": pa.int8(), "y": pa.string()})
    chosen = data(kinds={"a": "numeric", "d": "datetime"})
    found = recognition.infer(schema, {}, chosen)
    typed, reasons = columns.typed(schema.empty_table(), found, "y")
    assert (typed.num_rows, len(reasons)) == (0, 0)
    assert [str(t) for t in typed.schema.types] == ["double", "timestamp[us]", "double", "string"]
