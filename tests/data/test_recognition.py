"""Whole columns of text, whole numbers and bytes → what they are taken for, why, and what is doubtful."""

import datetime as dt
import uuid

import numpy as np
import pyarrow as pa
import pytest

from baton.config.schema import Data
from baton.data import cell_counts, columns, recognition
from baton.errors import BadInput

DATA = Data(source="-", target="y", task="binary")


def data(**values) -> Data:
    return Data(**{**DATA.model_dump(exclude_unset=True), **values})


def recognised(cells, config: Data = DATA, name: str = "a"):
    """A column's cells → what it was recognised as, its typed cells, and the reasons of rows set aside."""
    table = pa.table({name: cells, "y": ["p", "n"] * (len(cells) // 2) + ["p"] * (len(cells) % 2)})
    results = recognition.recognise(table.schema, cell_counts.counts(table, config), config)
    typed, reasons = columns.typed(table, [r.column for r in results], config.target)
    return results[0], typed[name].to_pylist(), reasons.to_pylist()


def repeated(*cells: str, times: int = 50) -> list[str]:
    return [*cells] * times


NUMBERS = [
    # what people write, and the numbers it means
    (["1,163.74", "985", "12.5", "1,000,000"], [1163.74, 985.0, 12.5, 1e6]),
    (["1.163,74", "985", "12,5", "1.000.000"], [1163.74, 985.0, 12.5, 1e6]),
    (["3,5", "0,125", "7", "-2,25"], [3.5, 0.125, 7.0, -2.25]),
    (["1 234,5", "12", "1 000 000"], [1234.5, 12.0, 1e6]),
    (["1\u00a0234.5", "1\u202f000"], [1234.5, 1000.0]),
    (["1'234.50", "1\u2019000'000"], [1234.5, 1e6]),
    (["$1,234.00", "$0.50", "-$3", "$ 7"], [1234.0, 0.5, -3.0, 7.0]),
    (["($1,234.50)", "$20.00"], [-1234.5, 20.0]),
    (["1.234,56 €", "12,00 €"], [1234.56, 12.0]),
    (["EUR 12.50", "EUR 8.00"], [12.5, 8.0]),
    (["12 %", "0.5%", "100 %"], [12.0, 0.5, 100.0]),
    (["1,163", "985", "12", "4"], [1163.0, 985.0, 12.0, 4.0]),  # thousands: small whole numbers have no comma
    (["\u22125.5", "3"], [-5.5, 3.0]),
    (["1.5", "2e3", "7"], [1.5, 2000.0, 7.0]),
]


@pytest.mark.parametrize(("cells", "numbers"), NUMBERS, ids=lambda value: str(value[0]))
def test_numbers_as_people_write_them(cells, numbers):
    result, typed, reasons = recognised(repeated(*cells))
    assert result.column.kind == "numeric"
    assert typed == repeated(*numbers) and not any(reasons)
    assert columns.Column.of(result.column.to_dict()) == result.column  # it travels in the model
    assert bool(result.reading) is not result.column.style.plain


UTC_NOON = dt.datetime(2022, 3, 1, 12)
DATES = [
    (["31.12.2022", "01.03.2022"], {}, [dt.datetime(2022, 12, 31), dt.datetime(2022, 3, 1)]),
    (["31/12/2022 13:45", "1/3/2022 0:00"], {}, [dt.datetime(2022, 12, 31, 13, 45), dt.datetime(2022, 3, 1)]),
    (["12/31/2022 01:45 PM", "3/1/2022 12:00 am"], {}, [dt.datetime(2022, 12, 31, 13, 45), dt.datetime(2022, 3, 1)]),
    (["2022-1-5", "2022-12-31"], {}, [dt.datetime(2022, 1, 5), dt.datetime(2022, 12, 31)]),
    (["2022/01/05 7:30"], {}, [dt.datetime(2022, 1, 5, 7, 30)]),
    (["20220105", "20221231"], {}, [dt.datetime(2022, 1, 5), dt.datetime(2022, 12, 31)]),
    (["2022-03-01 12:00:00 UTC"], {}, [UTC_NOON]),
    (["2022-03-01T14:00:00+02:00"], {}, [UTC_NOON]),
    (["5 Jan 2022", "31-December-2022"], {}, [dt.datetime(2022, 1, 5), dt.datetime(2022, 12, 31)]),
    (["Jan 5, 2022", "December 31, 2022"], {}, [dt.datetime(2022, 1, 5), dt.datetime(2022, 12, 31)]),
    (["9999-12-31", "0001-01-01"], {}, [dt.datetime(9999, 12, 31), dt.datetime(1, 1, 1)]),
    (["1646136000"], {"name": "created_at"}, [UTC_NOON]),
    (["1646136000000"], {"name": "eventTime"}, [UTC_NOON]),
    (["03.04.22"], {"formats": "%d.%m.%y"}, [dt.datetime(2022, 4, 3)]),
    (["03/04/2022"], {"formats": "mdy"}, [dt.datetime(2022, 3, 4)]),
    (["1646136000.5"], {"formats": "epoch_s"}, [UTC_NOON + dt.timedelta(seconds=0.5)]),
    (["01|2600"], {"formats": "%m|%Y"}, [dt.datetime(2600, 1, 1)]),  # beyond what nanoseconds hold
]


@pytest.mark.parametrize(("cells", "given", "moments"), DATES, ids=lambda value: str(value)[:40])
def test_dates_as_people_write_them(cells, given, moments):
    name = given.get("name", "a")
    config = data(formats={name: given["formats"]}) if "formats" in given else DATA
    result, typed, reasons = recognised(repeated(*cells), config, name)
    assert result.column.kind == "datetime"
    assert typed == repeated(*moments) and not any(reasons)
    assert columns.Column.of(result.column.to_dict()) == result.column


IDENTIFIERS = [["00501", "10001", "94103"], ["1234567890123456789", "9"], ["007", "7"]]


@pytest.mark.parametrize("cells", IDENTIFIERS, ids=lambda cells: cells[0])
def test_leading_zeros_or_many_digits_make_text(cells):
    result, typed, _ = recognised(repeated(*cells))
    assert (result.column.kind, typed) == ("categorical", repeated(*cells))
    assert "identifiers" in result.why and not result.warnings
    assert recognised(repeated(*cells), data(kinds={"a": "numeric"}))[1] == [float(cell) for cell in repeated(*cells)]


def test_few_leading_zeros_are_warned_of():
    result, _, _ = recognised([*map(str, range(1, 1000)), "007"])
    assert result.column.kind == "categorical"
    assert result.warnings == (
        "a: 1 of 1,000 cells have leading zeros or more than 15 digits, so it is text; if it is a number, set "
        "data.kinds: {a: numeric}.",
    )


def test_decimals_of_many_digits_stay_numbers():
    cells = repeated("0.30000000000000004", "1234567.12345678901")
    assert recognised(cells)[0].column.kind == "numeric"


@pytest.mark.parametrize("mark", ["?", "-", ".", "n.a.", "#DIV/0!"])
@pytest.mark.parametrize(("cell", "kind"), [("1.5", "numeric"), ("2022-01-05", "datetime"), ("3,5", "numeric")])
def test_marks_are_missing_where_the_rest_is_numbers_or_dates(mark, cell, kind):
    result, typed, reasons = recognised(repeated(cell, times=96) + [mark] * 4)
    assert result.column.kind == kind
    assert typed[-4:] == [None] * 4 and None not in typed[:96] and not any(reasons)
    assert f"{mark!r} taken as missing (4.0 % of the cells)" in result.reading


def test_marks_are_text_where_the_rest_is_text():
    result, typed, _ = recognised(repeated("red", "?"))
    assert (result.column.kind, typed[1], result.reading) == ("categorical", "?", "")


def test_marks_are_nothing_where_the_config_says_what_is_missing():
    result, _, _ = recognised(repeated("1.5", times=96) + ["?"] * 4, data(missing=["NA"]))
    assert result.column.kind == "categorical"
    assert "96.0 % of its cells can be read as numbers" in result.warnings[0]
    only_b = data(missing={"y": ["NA"]})
    assert recognised(repeated("1.5", times=96) + ["?"] * 4, only_b)[0].column.kind == "numeric"


@pytest.mark.parametrize("text", ["<NA>", "#N/A", "NaT", "\\N", "NA", "null", "None"])
def test_texts_that_always_mean_missing(text):
    assert recognised(["1.5", text, "x"])[1] == ["1.5", None, "x"]


def test_a_class_may_be_called_anything():
    table = pa.table({"a": [1.0] * 4, "y": ["None", "NA", "null", " "]})
    config = data(task="multiclass")
    found = recognition.infer(table.schema, cell_counts.counts(table, config), config)
    typed, reasons = columns.typed(table, found, "y")
    assert typed["y"].to_pylist() == ["None", "NA", "null", None]
    assert reasons.to_pylist() == [None, None, None, "y (the target) is missing"]
    for missing in (["NA"], {"y": ["NA"]}):  # unless it is said
        config = data(task="multiclass", missing=missing)
        found = recognition.infer(table.schema, cell_counts.counts(table, config), config)
        assert columns.typed(table, found, "y")[0]["y"].to_pylist() == ["None", None, "null", None]


def test_missing_numbers_count_in_numbers_too():
    config = data(missing={"a": [-999]})
    assert (
        recognised(["1", "-999", "3"], config)[1] == recognised(pa.array([1, -999, 3]), config)[1] == [1.0, None, 3.0]
    )


DOUBTFUL = [
    # cells, the config, a piece of the warning
    (["1,163", "985,001"], {}, "the comma may separate thousands or decimals: set data.thousands or data.decimal"),
    (["01/02/2022", "03/04/2022"], {}, "no cell tells the day from the month: set data.formats: {a: dmy} or {a: mdy}"),
    (["1.5", "2.5", "low"], {}, "66.7 % of its cells can be read as numbers"),
    (["2022-01-05", "2022-01-06", "soon"], {}, "66.7 % of its cells can be read as dates"),
    (["$5", "€6"], {}, "$ and € stand beside them, so it is text"),
    (["12 %", "13"], {}, "% stands beside some of them only, so it is text"),
    (["03.04.22", "05.06.22"], {}, "look like dates, but are of no form that is known: say how they are written"),
]


@pytest.mark.parametrize(("cells", "config", "words"), DOUBTFUL, ids=lambda value: str(value)[:40])
def test_what_is_doubtful_stays_text_and_is_warned_of(cells, config, words):
    result, typed, _ = recognised(repeated(*cells), data(**config))
    assert (result.column.kind, typed[: len(cells)]) == ("categorical", cells)
    assert words in result.warnings[0] and result.warnings[0].startswith("a: ")


def test_the_config_decides_what_is_doubtful():
    assert recognised(repeated("1,163", "985,001"), data(decimal=","))[1][:2] == [1.163, 985.001]
    assert recognised(repeated("1,163", "985,001"), data(thousands=","))[1][:2] == [1163.0, 985001.0]
    assert recognised(repeated("1.163", "985"), data(thousands="."))[1][:2] == [1163.0, 985.0]
    assert recognised(repeated("01/02/2022"), data(formats={"a": "dmy"}))[1][0] == dt.datetime(2022, 2, 1)


def test_plain_numbers_stay_numbers_whatever_mark_the_config_gives():
    result, typed, _ = recognised(repeated("1.5", "2.25"), data(decimal=","))
    assert (result.column.kind, typed[0]) == ("numeric", 1.5)
    assert result.reading == "read as numbers with '.' before decimals, for the config's marks do not fit their cells"


def test_points_that_could_be_thousands_are_warned_of():
    result, typed, _ = recognised(repeated("1.163", "985", "12"))
    assert (result.column.kind, typed[0]) == ("numeric", 1.163)
    assert "if it separates thousands, set data.thousands: '.'" in result.warnings[0]
    assert not recognised(repeated("1.163", "985", "1.5"))[0].warnings


def test_numbers_that_could_be_moments_are_warned_of():
    result, _, _ = recognised(repeated("1646136000"), name="n")
    assert result.column.kind == "numeric"
    assert "data.formats: {n: epoch_s} would make dates of them" in result.warnings[0]


@pytest.mark.parametrize("task", ["regression", "kinds"])
def test_what_must_be_a_number_and_is_ambiguous_is_refused(task):
    cells = repeated("1,163", "985,001")
    table = pa.table({"a": cells, "y": cells if task == "regression" else ["p", "n"] * 50})
    config = data(task="regression") if task == "regression" else data(kinds={"a": "numeric"})
    with pytest.raises(BadInput, match="set data.thousands or data.decimal to ','"):
        recognition.recognise(table.schema, cell_counts.counts(table, config), config)


WHOLE_NUMBERS = [
    (pa.array([20220105, 20221231] * 10), "a", "datetime", dt.datetime(2022, 1, 5)),
    (pa.array([1646136000] * 20), "ts", "datetime", UTC_NOON),
    (pa.array([1646136000] * 20), "amount", "numeric", 1646136000.0),
    (pa.array([20220105, 20221399] * 10), "a", "numeric", 20220105.0),
    (pa.array([1234567890123456789, 5] * 10), "a", "categorical", "1234567890123456789"),
    (pa.array([2**63 + 5, 5] * 10, pa.uint64()), "a", "categorical", str(2**63 + 5)),
    (pa.array([7, 8] * 10), "a", "numeric", 7.0),
]


@pytest.mark.parametrize(("cells", "name", "kind", "first"), WHOLE_NUMBERS, ids=lambda value: str(value)[:20])
def test_whole_numbers_mean_the_same_as_text_and_as_numbers(cells, name, kind, first):
    for form in (cells, cells.cast(pa.string())):
        result, typed, reasons = recognised(form, name=name)
        assert (result.column.kind, typed[0], any(reasons)) == (kind, first, False)


def test_bytes_are_images_or_identifiers_or_refused():
    cells = pa.array([uuid.UUID(int=n).bytes for n in range(4)])
    with pytest.raises(BadInput, match="Column a holds bytes that are no images: name it in data.id"):
        recognised(cells)
    table = pa.table({"a": cells, "x": range(4), "y": ["p", "n"] * 2})
    config = data(id=["a"])
    found = recognition.infer(table.schema, cell_counts.counts(table, config), config)
    assert columns.typed(table, found, "y")[0]["a"].to_pylist()[3] == uuid.UUID(int=3).hex


def test_a_number_is_a_number():
    column = columns.Column("a", "numeric", "long")
    assert columns.typed(pa.table({"a": ["3", "3.5"]}), [column], None)[0]["a"].to_pylist() == [3.0, 3.5]


def test_a_whole_category_is_the_same_with_and_without_decimals():
    for cells in (["1", "2.50", "x", "-3"], ["1.0", "2.50", "x", "-3.00"]):
        assert recognised(cells)[1] == ["1", "2.50", "x", "-3"]
    assert recognised(pa.array([1.0, 2.5]), data(kinds={"a": "categorical"}))[1] == ["1", "2.5"]


def test_pandas_index_is_no_feature_and_need_not_be_there():
    table = pa.table({"a": [1.0, 2.0], "__index_level_0__": [0, 1], "y": ["p", "n"]})
    found = recognition.infer(table.schema, cell_counts.counts(table, DATA), DATA)
    assert [column.name for column in found] == ["a", "y"]
    config = data(id=["__index_level_0__"])
    assert len(recognition.infer(table.schema, cell_counts.counts(table, config), config)) == 3


def test_counts_of_parts_add_up():
    rng = np.random.default_rng(4)
    texts = ("1", "x", "2.5", "1,163.74", "985", "?", "2024-01-01", "true", "00501", "$5", "12%", "31.12.2022", "1.163")
    pool = np.array([*texts, None, " "], object)
    table = pa.table({"a": rng.choice(pool, 400), "n": rng.integers(0, 10**17, 400)})
    whole = cell_counts.counts(table, DATA)
    parts = [cell_counts.counts(table.slice(start, 70), DATA) for start in range(0, 400, 70)]
    assert cell_counts.merge(parts) == whole
    assert {n: cell_counts.CellCounts.of(c.to_dict()) for n, c in whole.items()} == whole


@pytest.mark.parametrize(
    "cells", [c for c, _ in NUMBERS] + [c for c, given, _ in DATES if not given], ids=lambda value: value[0]
)
def test_a_part_of_plain_cells_does_not_change_what_the_whole_is(cells):
    table = pa.table({"a": repeated(*cells, times=30) + ["7"] * 5, "y": ["p"] * (30 * len(cells) + 5)})
    whole = recognition.recognise(table.schema, cell_counts.counts(table, DATA), DATA)
    parts = [cell_counts.counts(table.slice(start, 7), DATA) for start in range(0, table.num_rows, 7)]
    assert recognition.recognise(table.schema, cell_counts.merge(parts), DATA) == whole


@pytest.mark.parametrize(
    ("other", "first"), [(["2,5", "0,25"], 1.163), (["2.5", "0.25"], 1163.0), (["1.234,5", "7"], 1.163)]
)
def test_other_columns_tell_the_decimal_mark(other, first):
    for target in ("a", "y"):
        table = pa.table({"a": repeated("1,163", "985,001"), "b": repeated(*other), "y": ["1,163", "985,001"] * 50})
        config = data(task="regression", target=target)
        results = recognition.recognise(table.schema, cell_counts.counts(table, config), config)
        typed, _ = columns.typed(table, [r.column for r in results], target)
        assert typed["a"][0].as_py() == typed["y"][0].as_py() == first


def test_columns_that_contradict_each_other_tell_nothing():
    table = pa.table({"a": repeated("1,163", "985,001"), "b": ["2,5"] * 100, "c": ["2.5"] * 100, "y": ["p", "n"] * 50})
    results = recognition.recognise(table.schema, cell_counts.counts(table, DATA), DATA)
    assert [r.column.kind for r in results] == ["categorical", "numeric", "numeric", "categorical"]


# What a review with fresh eyes found


def first_and_reading(cells, config: Data = DATA, name: str = "a"):
    result, typed, reasons = recognised(cells, config, name)
    return result.column.kind, typed, result, [reason for reason in reasons if reason]


def test_the_few_largest_numbers_are_not_set_aside():
    kind, typed, _, reasons = first_and_reading(["12.50", "850.10"] * 496 + ["1,200.50"] * 8)
    assert (kind, typed[-1], reasons) == ("numeric", 1200.5, [])
    kind, typed, _, reasons = first_and_reading(["12.345"] * 995 + ["1.234.567"] * 5)
    assert (kind, typed[0], typed[-1], reasons) == ("numeric", 12345.0, 1234567.0, [])
    kind, typed, _, reasons = first_and_reading(["12.50"] * 995 + ["$5"] * 5)
    assert (kind, typed[-1], reasons) == ("numeric", 5.0, [])


def test_plain_numbers_are_kept_where_few_cells_are_ambiguous():
    kind, typed, result, reasons = first_and_reading(["15000"] * 995 + ["1,163"] * 5)
    assert (kind, typed[0], len(reasons)) == ("numeric", 15000.0, 5)
    assert "the comma may separate thousands or decimals" in result.warnings[0]


def test_what_would_give_most_cells_another_value_is_asked():
    kind, _, result, _ = first_and_reading(["12.345"] * 995 + ["1,5"] * 5)
    assert kind == "categorical" and "the point may separate thousands or decimals" in result.warnings[0]


@pytest.mark.parametrize(("other", "first"), [("3,5", 12345.0), ("3.5", 12.345)])
def test_points_of_three_digits_follow_the_table(other, first):
    table = pa.table({"a": ["12.345", "54.321"] * 50, "b": [other] * 100, "c": ["1,163", "985,001"] * 50,
                      "y": ["p", "n"] * 50})  # fmt: skip
    results = recognition.recognise(table.schema, cell_counts.counts(table, DATA), DATA)
    typed, _ = columns.typed(table, [r.column for r in results], "y")
    assert typed["a"][0].as_py() == first
    assert typed["c"][0].as_py() == (1.163 if other == "3,5" else 1163.0)


def test_points_of_three_digits_are_no_proof_of_a_decimal_point():
    table = pa.table({"a": ["12.345", "54.321"] * 50, "c": ["1,163", "985,001"] * 50, "y": ["p", "n"] * 50})
    results = recognition.recognise(table.schema, cell_counts.counts(table, DATA), DATA)
    assert [r.column.kind for r in results] == ["numeric", "categorical", "categorical"]


def test_units_do_not_hide_what_is_ambiguous():
    _, typed, result, _ = first_and_reading(repeated("1.163 €", "985 €", "12 €", "4 €"))
    assert typed[0] == 1.163 and "set data.thousands: '.'" in result.warnings[0]
    assert first_and_reading(repeated("$1,163", "$985", "$12", "$4"))[1][0] == 1163.0
    kind, typed, _, _ = first_and_reading(repeated("$1,234.00", "985", "1,200.50"))
    assert (kind, typed[:3]) == ("numeric", [1234.0, 985.0, 1200.5])


@pytest.mark.parametrize(
    ("cells", "name", "last"),
    [
        (["20220105", "20220228"] * 500 + ["99991231"], "a", dt.datetime(9999, 12, 31)),
        (["20220105", "20220228"] * 500 + ["-"], "a", None),
        (["20220105.0", "20220228.0"] * 500 + [None], "a", None),
        (pa.array([20220105.0, 20220228.0] * 500 + [None]), "a", None),
        (pa.array([20220105, 99991231] * 500), "a", dt.datetime(9999, 12, 31)),
        (["1646136000000000"] * 100, "created_at", dt.datetime(2022, 3, 1, 12)),
        (pa.array([1646136000000000000] * 100), "event_time", dt.datetime(2022, 3, 1, 12)),
    ],
    ids=lambda value: str(value)[:12],
)
def test_coded_dates_with_gaps_and_ends(cells, name, last):
    kind, typed, _, reasons = first_and_reading(cells, name=name)
    assert (kind, typed[-1], reasons) == ("datetime", last, [])


def test_a_sentinel_among_coded_dates_is_said():
    kind, typed, result, reasons = first_and_reading(["20220105", "20220228"] * 500 + ["0"])
    assert (kind, typed[-1], reasons) == ("datetime", None, ["a is not a date or time"])
    assert result.reading == "read as dates of eight digits, but for 1 of 1,001 cells"
    _, _, result, _ = first_and_reading(["20220105"] * 95 + ["17"] * 5)
    assert "95.0 % of its numbers could be dates of eight digits" in result.warnings[0]


def test_formats_count_for_typed_numbers_too():
    config = data(formats={"t": "epoch_s"})
    assert recognised(pa.array([1646136000.5] * 4), config, "t")[1][0] == UTC_NOON + dt.timedelta(seconds=0.5)
    config = data(formats={"t": "%d%m%Y"})
    assert recognised(pa.array([1052024] * 4), config, "t")[1][0] == dt.datetime(2024, 5, 1)
    assert recognised(repeated("31.12.2022", "-"), data(formats={"a": "dmy"}))[1][:2] == [
        dt.datetime(2022, 12, 31),
        None,
    ]


def test_what_is_missing_is_so_in_every_type():
    config = data(missing={"a": ["-1", "9999-12-31"]})
    for cells in (["-1.0", "2"], pa.array([-1, 2]), pa.array([-1.0, 2.0])):
        assert recognised(cells, config)[1] == [None, 2.0]
    typed = recognised(pa.array([-1, 2]), data(missing={"a": ["-1"]}, kinds={"a": "categorical"}))[1]
    assert typed == [None, "2"]
    dates = pa.array([dt.date(9999, 12, 31), dt.date(2024, 1, 1)])
    assert recognised(dates, config)[1] == [None, dt.datetime(2024, 1, 1)]
    table = pa.table({"a": [1.0, 2.0], "y": [-1, 3]})
    config = data(task="multiclass", missing={"y": ["-1"]})
    found = recognition.infer(table.schema, cell_counts.counts(table, config), config)
    assert columns.typed(table, found, "y")[0]["y"].to_pylist() == [None, "3"]


def test_parts_of_other_lengths_do_not_change_what_a_column_is():
    parts = [pa.table({"a": cells}) for cells in (["20220105"] * 500 + ["2022010"], ["20220105 10:30"] * 500)]
    merged = cell_counts.merge([cell_counts.counts(part, DATA) for part in parts])
    assert merged == cell_counts.counts(pa.concat_tables(parts), DATA)


def test_percent_needs_its_sign_when_scoring_too():
    column = recognised(repeated("12 %", "0.5 %"))[0].column
    for cells in (["0.12", "3 %"], pa.array([0.12, None])):
        typed, reasons = columns.typed(pa.table({"a": cells}), [column], None)
        assert typed["a"].to_pylist()[0] is None and reasons[0].as_py() is not None
    assert columns.typed(pa.table({"a": ["3 %", "0"]}), [column], None)[0]["a"].to_pylist() == [3.0, 0.0]


def test_days_and_months_that_contradict_each_other_are_asked():
    kind, _, result, _ = first_and_reading(["01/02/2022"] * 990 + ["05/13/2022"] * 6 + ["13/05/2022"] * 4)
    assert kind == "categorical" and "some cells have the day first, others the month" in result.warnings[0]
    assert first_and_reading(["01/02/2022"] * 500 + ["05/13/2022"] * 499 + ["13/05/2022"])[0] == "datetime"


def test_brackets_are_said_to_mean_minus():
    _, typed, result, _ = first_and_reading(repeated("3", "4", "(5.5)"))
    assert typed[:3] == [3.0, 4.0, -5.5] and "brackets taken for a minus" in result.reading
    assert result.column.type != "long"


def test_a_mark_makes_whole_numbers_no_column_without_gaps():
    assert recognised(["7"] * 99 + ["-"])[0].column.type == "double"


@pytest.mark.parametrize("role", [{"id": ["a"]}, {"group": "a"}])
def test_identifiers_lose_no_row(role):
    table = pa.table({"a": ["17"] * 997 + ["A300"] * 3, "x": range(1000), "y": ["p", "n"] * 500})
    config = data(**role)
    found = recognition.infer(table.schema, cell_counts.counts(table, config), config)
    typed, reasons = columns.typed(table, found, "y")
    assert reasons.null_count == 1000 and typed["a"].to_pylist()[-1] == "A300"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("created_at", "datetime"), ("eventTime", "datetime"), ("ts", "datetime"), ("unix_time", "datetime"),
     ("candidate_id", "numeric"), ("sentiment", "numeric"), ("estimate", "numeric")],
)  # fmt: skip
def test_names_that_speak_of_time(name, kind):
    assert recognised(["1646136000"] * 30, name=name)[0].column.kind == kind


def test_telephones_are_identifiers():
    assert recognised(repeated("+4915112345678"))[0].column.kind == "categorical"


@pytest.mark.parametrize(
    "cell", ["2024-05-31 10:00:00+00", "2024-05-31t10:00:00z", "May 31, 2024 10:00", "31 May 2024 10:00"]
)
def test_more_ways_to_write_a_moment(cell):
    assert recognised(repeated(cell))[1][0] == dt.datetime(2024, 5, 31, 10)


@pytest.mark.parametrize("cell", ["Fri, 31 May 2024", "31-May-24", "31.12.2022 10.30", "2024-05-31-10.00.00"])
def test_what_looks_like_a_date_and_is_not_read_is_warned_of(cell):
    result, _, _ = recognised(repeated(cell))
    assert result.column.kind == "categorical" and "look like dates" in result.warnings[0]


def test_names_of_people_are_no_months():
    assert recognised(repeated("Mark 5 2022", "Mayor 7, 2022"))[0].column.kind == "categorical"


def test_a_warning_shows_a_cell_that_does_not_fit():
    result, _, _ = recognised(repeated("5", "9", "x"), data(missing=["unknown"]))
    assert "another is 'x'" in result.warnings[0]
    assert recognised(["-"] * 10)[0].why == "all its cells are '-'"


@pytest.mark.parametrize("thousands", [",", "."])
def test_marks_of_the_config_do_not_touch_plain_columns(thousands):
    config = data(thousands=thousands)
    result, typed, _ = recognised(repeated("1.5", "2.25"), config)
    assert (result.column.type, typed[0]) == ("double", 1.5)
    assert bool(result.reading) is (thousands == ".")


def test_booleans_of_text_and_of_numbers():
    column = columns.Column("a", "boolean", "boolean")
    for cells in (["1", "0", "TRUE"], pa.array([1, 0, 1])):
        assert columns.typed(pa.table({"a": cells}), [column], None)[0]["a"].to_pylist() == [True, False, True]


def test_half_floats_are_categories():
    typed = recognised(pa.array(np.array([1, 2.5], np.float16)), data(kinds={"a": "categorical"}))[1]
    assert typed == ["1", "2.5"]
