"""Counts of a table's cells in, what each column means out: its kind, how its text is read, why, and what is doubtful.

A column is recognised as a whole. What is ambiguous is not guessed: the column stays text, and a warning says which key
of the config decides.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from baton.data import columns as cols
from baton.data import text_dates, text_numbers
from baton.data.cell_counts import MARKS, CellCounts, style_key
from baton.data.columns import Column
from baton.data.sources import csv_text, picture_cells
from baton.data.sources.reading import Reading
from baton.data.text_numbers import NumberStyle
from baton.errors import BadInput, listed, quoted, refuse

if TYPE_CHECKING:
    from baton.config.schema import Data

MIN_SHARE = 0.99  # the share of a text column's cells that must parse for it to be of a kind
DOUBTFUL_SHARE = 0.5  # from here on, a column that is not taken for numbers or dates is warned of
MIN_PLAIN = 3  # whole numbers below 1000 without a comma, that tell commas of thousands from those of decimals
MIN_CODED_DATES = 20  # cells of eight digits, all of them dates, that can be no chance
LIKELY_CODED = 0.9  # the share of whole numbers that are dates, from which that is said
TIME_NAME = re.compile(
    r"(?:^|[_\W\d])(?i:time|timestamp|datetime|date|epoch|unix|ts|at)(?:$|[_\W\d])"
    r"|[a-z](?:Time|Timestamp|DateTime|Date|Epoch|At)(?:$|[A-Z_\d])"
)
PANDAS_INDEX = re.compile(r"^__index_level_\d+__$")
CODED = {
    "ymd": "dates of eight digits",
    "epoch_s": "seconds since 1970",
    "epoch_ms": "milliseconds since 1970",
    "epoch_us": "microseconds since 1970",
    "epoch_ns": "nanoseconds since 1970",
}
STORED = {"double": "numbers", "boolean": "true or false", "datetime": "dates"}  # whatever an engine's types are


@dataclass(frozen=True)
class Recognised:
    """A column, why it was taken so, how its text is read if that is an assumption, and what is doubtful about it."""

    column: Column
    why: str
    reading: str = ""
    warnings: tuple[str, ...] = ()
    ambiguous: bool = False  # its numbers can be read in two ways, of which the other columns may tell one


class Ambiguous(BadInput):
    """A column that must be of numbers can be read in two ways."""


def infer(schema: pa.Schema, counted: dict[str, CellCounts], data: Data) -> list[Column]:
    """The columns a pipeline uses, with their kinds; raises `BadInput` for what cannot be used."""
    return [recognised.column for recognised in recognise(schema, counted, data)]


def recognise(schema: pa.Schema, counted: dict[str, CellCounts], data: Data) -> list[Recognised]:
    """The columns a pipeline uses, each with why; raises one `BadInput` for all that cannot be used."""
    named = [data.target, *data.id, *data.drop, *data.kinds, *data.formats]
    named += data.missing if isinstance(data.missing, dict) else ()
    wanted = {*named, *(name for name in (data.group, data.time, data.split_column, data.image_column) if name)}
    faults = []
    if absent := sorted(wanted - {*schema.names, *Reading.of(data).without}):
        faults = [f"The source has no column {listed(cols.alike(absent, schema.names))}."]
        faults.append(f"Its columns: {listed(schema.names)}.{csv_text.header_hint(schema.names)}")
    if data.task == "image":
        refuse(faults)
        return _image_columns(schema, counted, data)
    kept = {data.target, data.group, data.split_column}
    used = [n for n in schema.names if (n not in data.drop or n in kept) and (n in wanted or not is_pandas_index(n))]
    results, more = _gathered([(schema.field(name), counted.get(name, CellCounts())) for name in used], data)
    refuse([*faults, *more, *cols.type_faults(schema, [result.column for result in results])])
    if len(cols.feature_columns([result.column for result in results], data)) == 0:
        raise BadInput("No column is left to learn from: data.id, data.group and data.drop name them all.")
    return results


def is_pandas_index(name: str) -> bool:
    """Whether pandas called a column so when it wrote its index into a file: it is no feature."""
    return PANDAS_INDEX.match(name) is not None


def _gathered(fields: list[tuple[pa.Field, CellCounts]], data: Data) -> tuple[list[Recognised], list[str]]:
    """Fields with their counts → their columns, and a sentence for each that cannot be one.

    Where a column alone does not tell its decimal mark, the others of the table do, if they agree.
    """
    results = [_attempt(*each, data) for each in fields]
    marks = {mark for result, (_, counted) in zip(results, fields, strict=True) if (mark := _decimal(result, counted))}
    if len(marks) == 1 and data.decimal is None:
        given = data.model_copy(update={"decimal": marks.pop()})
        unclear = [isinstance(result, Ambiguous) or getattr(result, "ambiguous", False) for result in results]
        results = [_attempt(*e, given) if u else r for e, r, u in zip(fields, results, unclear, strict=True)]
    good = [result for result in results if isinstance(result, Recognised)]
    return good, [f"{result}." for result in results if isinstance(result, BadInput)]


def _attempt(arrow_field: pa.Field, counted: CellCounts, data: Data) -> Recognised | BadInput:
    try:
        return _recognised(arrow_field, counted, data)
    except BadInput as error:
        return error


def _decimal(result: Recognised | BadInput, counted: CellCounts) -> str:
    """The decimal mark that a column shows; empty if it shows none."""
    if isinstance(result, BadInput) or result.ambiguous or result.column.kind != "numeric":
        return ""
    style = result.column.style
    return style.decimal if style.decimal == "," or style.thousands in (",", ".") or counted.sorts["points"] else ""


def _recognised(arrow_field: pa.Field, counted: CellCounts, data: Data) -> Recognised:
    name, declared = arrow_field.name, cols.declared_type(arrow_field)
    forced, why = _forced_kind(name, declared, arrow_field.type, data)
    if declared == "string":
        return _of_text(name, counted, data, forced, why)
    if declared == "binary" and forced in (None, "categorical"):
        return _of_bytes(name, counted, data, forced)
    column = Column(name, forced or _natural_kind(declared), declared, cols.missing_texts(name, data))
    if cols.is_whole(arrow_field.type) or declared == "double":
        if pa.types.is_uint64(arrow_field.type):
            column = replace(column, type="double")  # the long of signatures and of Spark ends at 2**63
        return _of_whole_numbers(column, counted, data, forced, why)
    return Recognised(column, why or f"stored as {STORED.get(declared, 'text')}")


def _forced_kind(name: str, declared: str, type_: pa.DataType, data: Data) -> tuple[str | None, str]:
    """The kind that the config asks for, and its words for that; None if the cells decide."""
    if name == data.target:
        if data.task == "regression" and declared in ("datetime", "binary"):
            raise BadInput(f"The target {name} must be a number for regression. Received: {type_}")
        return ("numeric" if data.task == "regression" else "categorical"), "the target"
    if name == data.split_column:
        return "categorical", "data.split_column"
    if name in data.kinds:
        return data.kinds[name], "data.kinds"
    return ("datetime", "data.formats") if name in data.formats else (None, "")


def _natural_kind(declared: str) -> str:
    return {"long": "numeric", "double": "numeric"}.get(declared, declared)


def _of_bytes(name: str, counted: CellCounts, data: Data, forced: str | None) -> Recognised:
    if name in (*data.id, data.group) or forced == "categorical":
        return Recognised(Column(name, "categorical", "binary"), "bytes that name a row or a group")
    if counted.cells and counted.sorts["image"] < MIN_SHARE * counted.cells:
        raise BadInput(
            f"Column {name} holds bytes that are no images: name it in data.id if they identify a row, "
            f"as a uuid does, else in data.drop. Received: {counted.sorts['image']:,} images in {counted.cells:,} cells"
        )
    return Recognised(_picture_column(name, data), "bytes of images")


def _of_whole_numbers(column: Column, counted: CellCounts, data: Data, forced: str | None, why: str) -> Recognised:
    """Whole numbers of a typed source: numbers, but for dates in disguise and identifiers."""
    if counted.sorts["fraction"]:  # floats, and not all of them whole
        counted = replace(counted, sorts=Counter())
    if counted.sorts["beyond"] and forced != "numeric":
        column = replace(column, type="string")  # no signed type of 64 bits holds it
    if forced in (None, "datetime") and (coded := _coded_date(column.name, counted, counted.cells, data, forced)):
        words = _coded_words(coded, column.name, counted, counted.cells, data)
        return Recognised(replace(column, kind="datetime", format=coded), *words)
    if forced is None and counted.sorts["many_digits"]:
        return Recognised(replace(column, kind="categorical"), "whole numbers of more than 15 digits: identifiers")
    warnings = _code_warning(column.name, counted, counted.cells) if forced is None else ()
    plain = "stored as numbers" if column.type == "double" else "whole numbers"
    return Recognised(column, why or plain, "", warnings)


def _of_text(name: str, counted: CellCounts, data: Data, forced: str | None, why: str) -> Recognised:
    column = Column(name, "categorical", "string", cols.missing_texts(name, data))
    if forced == "categorical":
        return Recognised(column, why)
    if forced == "boolean":
        return Recognised(replace(column, kind="boolean", type="boolean"), why)
    if forced == "datetime":
        return _as_date(column, counted, data, why)
    if forced == "numeric":
        return _as_number(column, counted, data, why)
    result = _natural(column, counted, data)
    if name not in (*data.id, data.group) or _reads_all(result.column, counted):
        return result
    return Recognised(column, "names a row or a group, as it is")


def _reads_all(column: Column, counted: CellCounts) -> bool:
    """Whether every cell is a plain number, a date or a truth: else a row or group would lose its name."""
    sort = {"numeric": "numeric", "datetime": "date iso", "boolean": "boolean"}.get(column.kind)
    return sort is not None and counted.sorts[sort] == counted.cells


def _natural(column: Column, counted: CellCounts, data: Data) -> Recognised:
    """What the cells of a text column say that they are."""
    sorts, cells = counted.sorts, counted.cells
    if not cells:
        return Recognised(column, "all its cells are missing")
    if sorts["boolean"] == cells:
        return Recognised(replace(column, kind="boolean", type="boolean"), "all its cells are true or false")
    marks = _marks(column, counted, data)
    rest = cells - sum(marks.values())
    if not rest:
        return Recognised(column, f"all its cells are {listed([repr(mark) for mark in marks])}")
    if coded := _coded_date(column.name, counted, rest, data):
        why, reading = _coded_words(coded, column.name, counted, rest, data)
        column = replace(column, kind="datetime", type="string", format=coded, missing=(*column.missing, *marks))
        return Recognised(column, why, _with_marks(reading, marks, counted))
    styles, share = _best_styles(sorts, rest, data)
    if share >= MIN_SHARE and (identifier := _identifier_words(sorts, cells)):
        return Recognised(column, identifier, "", _identifier_warning(column.name, sorts, cells))
    if share >= MIN_SHARE:
        return _number(column, counted, styles, marks, data)
    formats, dated = _best_formats(sorts, rest)
    if dated >= MIN_SHARE and _contradicts_itself(sorts):
        return Recognised(column, "text", "", (_day_or_month(column.name, counted, "some cells have the day first"),))
    if dated >= MIN_SHARE:
        return _date(column, counted, formats, marks)
    return Recognised(column, "text", "", _doubts(column.name, counted, dated, marks))


def _as_number(column: Column, counted: CellCounts, data: Data, why: str) -> Recognised:
    """A column that must be of numbers: the style that reads most cells. Raises `BadInput` where two read alike."""
    marks = _marks(column, counted, data)
    styles, _ = _best_styles(counted.sorts, counted.cells - sum(marks.values()), data)
    result = _number(column, counted, styles, marks, data)
    if result.column.kind != "numeric":
        raise Ambiguous(f"{result.warnings[0].removesuffix('.')}. Received: {quoted(counted.example)}")
    return replace(result, why=why if result.column.style.plain else f"{why}; {result.why}")


def _as_date(column: Column, counted: CellCounts, data: Data, why: str) -> Recognised:
    """A column that must be of dates, in the config's format or the one that reads most cells."""
    marks = _marks(column, counted, data)
    if column.name in data.formats:
        format_ = data.formats[column.name]
        column = replace(
            column, kind="datetime", type=_date_type(format_), format=format_, missing=(*column.missing, *marks)
        )
        return Recognised(column, why, _with_marks("", marks, counted))
    formats, share = _best_formats(counted.sorts, counted.cells - sum(marks.values()))
    if coded := _coded_date(column.name, counted, counted.cells - sum(marks.values()), data, "datetime"):
        formats, share = [coded], 1.0
    if not share:
        return Recognised(replace(column, kind="datetime", type="datetime"), why)
    result = _date(column, counted, formats, marks)
    if result.column.kind != "datetime":
        raise BadInput(f"{result.warnings[0].removesuffix('.')}. Received: {quoted(counted.example)}")
    return replace(result, why=why)


def _marks(column: Column, counted: CellCounts, data: Data) -> dict[str, int]:
    """The marks of missing cells and how many there are; where the config says what is missing, there are none."""
    if data.missing is not None and (isinstance(data.missing, list) or column.name in data.missing):
        return {}
    return {mark: n for mark in MARKS if (n := counted.sorts[f"mark {mark}"]) and mark not in column.missing}


# Numbers


def _best_styles(sorts: Counter[str], rest: int, data: Data | None) -> tuple[list[NumberStyle], float]:
    """The styles that read most cells, and their share; of those that `data` allows, or of all.

    Where plain numbers are nearly all, a style that reads the rest too must not give them other values.
    """
    allowed = text_numbers.allowed(data.decimal, data.thousands) if data else text_numbers.STYLES
    read = {style: _cells_read(sorts, style) for style in allowed}
    most = max(read.values(), default=0)
    styles = [style for style, count in read.items() if count == most] if most else []
    if sorts["numeric"] >= MIN_SHARE * rest > 0:
        if most < MIN_SHARE * rest:  # whatever marks the config gives other columns
            return [NumberStyle()], sorts["numeric"] / rest
        alike = [style for style in styles if style.decimal == "." or not sorts["points"]]
        decided = sorts["groups"] or NumberStyle() not in allowed
        styles = alike or (styles if decided else [NumberStyle(), *styles])
    unit, pure = _unit(sorts, most)
    if not pure:
        return styles, min(most / rest, MIN_SHARE - 1e-9) if rest else 0.0
    return [replace(style, unit=unit) for style in styles], most / rest if rest else 0.0


def _cells_read(sorts: Counter[str], style: NumberStyle) -> int:
    """How many cells a style reads: those of its own, and the plain numbers that mean the same or a number in it."""
    plain = sorts["numeric"] if style.decimal == "." else sorts["integer"]
    return sorts[style_key(style)] + plain + (sorts["three_points"] if style.thousands == "." else 0)


def _unit(sorts: Counter[str], most: int) -> tuple[str, bool]:
    """The one unit of a column's numbers; and whether it is clear that all of them have it.

    Money without its sign is money of the same sort; 12 beside 12 % may be a share.
    """
    units = {key.removeprefix("unit "): count for key, count in sorts.items() if key.startswith("unit ")}
    if not units:
        return "", True
    unit = max(units, key=lambda name: (units[name], name))
    alone = units[unit] >= MIN_SHARE * sum(units.values())
    return unit, alone and (unit != text_numbers.PERCENT or units[unit] >= MIN_SHARE * most)


def _number(
    column: Column, counted: CellCounts, styles: list[NumberStyle], marks: dict[str, int], data: Data
) -> Recognised:
    """A column of numbers in one of the styles; or the same as text, with a warning, if it cannot be told in which."""
    sorts, rest = counted.sorts, counted.cells - sum(marks.values())
    style = _one_style(styles, sorts, data)
    doubts: tuple[str, ...] = ()
    if style is None and sorts["numeric"] >= MIN_SHARE * rest and not _contested(styles, sorts):
        style, doubts = NumberStyle(), (f"{_ambiguous(column.name, counted)} Until then such rows are set aside.",)
    if style is None:
        return Recognised(column, "text", "", (_ambiguous(column.name, counted),), ambiguous=True)
    read = _cells_read(sorts, replace(style, unit=""))
    column = replace(
        column, kind="numeric", type=_number_type(style, counted, rest), missing=(*column.missing, *marks),
        decimal=style.decimal, thousands=style.thousands, unit=style.unit,
    )  # fmt: skip
    unclear = style.decimal == "." and not style.thousands and _could_be_thousands(sorts) and data.decimal is None
    doubts = doubts or (_point_warning(column.name, counted) if unclear else ())
    doubts = doubts or _code_warning(column.name, counted, rest)
    words = style.words() if column.type == "string" else "numbers"
    share = "all" if read >= rest else f"{100 * read / rest:.1f} % of"
    reading = _number_reading(column, counted, data)
    return Recognised(column, f"{share} its cells are {words}", _with_marks(reading, marks, counted), doubts, unclear)


def _number_type(style: NumberStyle, counted: CellCounts, rest: int) -> str:
    """As which type a signature declares numbers: text, where a caller must write them as the source does."""
    sorts = counted.sorts
    own = sorts[style_key(style)] if style.decimal == "." else rest - sorts["integer"]
    if style.unit or own > 0:
        return "string"
    whole = sorts["integer"] == _cells_read(sorts, replace(style, unit="")) > 0 and rest == counted.rows
    return "long" if whole else "double"


def _number_reading(column: Column, counted: CellCounts, data: Data) -> str:
    """What is assumed of how numbers are written, as a phrase; empty if nothing is."""
    sorts, phrase = counted.sorts, ""
    if column.type == "string" and not column.style.plain:
        phrase = f"read as {column.style.words()}"
    elif sorts["points"] and column.style.plain and (data.decimal == "," or data.thousands == "."):
        phrase = "read as numbers with '.' before decimals, for the config's marks do not fit their cells"
    if sorts["brackets"]:
        phrase = f"{phrase}; " * bool(phrase) + "brackets taken for a minus"
    return phrase


def _contested(styles: list[NumberStyle], sorts: Counter[str]) -> bool:
    """Whether plain numbers and another style, which reads more, give most cells other values."""
    bare = {replace(style, unit="") for style in styles}
    return NumberStyle() in bare and any(style.decimal == "," for style in bare) and sorts["points"] > 0


def _could_be_thousands(sorts: Counter[str]) -> bool:
    """Whether every point has three digits after it, and no number above 999 is without one."""
    points, whole = sorts["points"] + sorts["bare_points"], sorts["integer"] + sorts["bare_integer"]
    three, small = sorts["three_points"] + sorts["bare_three_points"], sorts["small"] + sorts["bare_small"]
    return points == three > 0 and whole == small


def _one_style(styles: list[NumberStyle], sorts: Counter[str], data: Data) -> NumberStyle | None:
    """The style of several that read the same cells; None if they give other numbers, and nothing tells which is right.

    1,234 beside 985 and no 15000 are thousands; with all cells like 1,234 nobody knows.
    """
    if not styles:
        return NumberStyle(data.decimal or ".", data.thousands or "")
    if _contested(styles, sorts):
        return None
    comma = {style.decimal for style in styles if style.thousands in ("", ",") and sorts["three"]}
    if comma != {".", ","}:
        return styles[0]
    small, whole = sorts["small"] + sorts["bare_small"], sorts["integer"] + sorts["bare_integer"]
    if small >= MIN_PLAIN and small == whole:
        return next(style for style in styles if style.thousands == ",")
    return None


def _ambiguous(name: str, counted: CellCounts) -> str:
    mark = "," if counted.sorts["three"] else "."
    return (
        f"{name}: cells such as {quoted(counted.odd or counted.example)} are numbers, but the "
        f"{'comma' if mark == ',' else 'point'} may separate thousands or decimals: set data.thousands or data.decimal "
        f"to {mark!r}."
    )


def _identifier_words(sorts: Counter[str], cells: int) -> str:
    if sorts["leading_zero"]:
        return f"digits, {sorts['leading_zero']:,} of {cells:,} with leading zeros: identifiers"
    return "whole numbers of more than 15 digits: identifiers" if sorts["many_digits"] else ""


def _identifier_warning(name: str, sorts: Counter[str], cells: int) -> tuple[str, ...]:
    """A word where few cells have made text of a column that else is of numbers."""
    few = sorts["leading_zero"] + sorts["many_digits"]
    if few >= (1 - MIN_SHARE) * cells:
        return ()
    return (
        f"{name}: {few:,} of {cells:,} cells have leading zeros or more than 15 digits, so it is text; "
        f"if it is a number, set data.kinds: {{{name}: numeric}}.",
    )


def _point_warning(name: str, counted: CellCounts) -> tuple[str, ...]:
    """Points are taken for decimals; where small whole numbers say that they could be thousands, that is said."""
    if not counted.sorts["small"] + counted.sorts["bare_small"]:
        return ()
    return (
        f"{name}: every point has three digits after it, and no number above 999 is without one, as in "
        f"{quoted(counted.example)}: it is read as a decimal point; if it separates thousands, set "
        f"data.thousands: '.'.",
    )


# Dates


def _best_formats(sorts: Counter[str], rest: int) -> tuple[list[str], float]:
    """The formats that read most cells, and their share."""
    read = {format_: sorts[f"date {format_}"] for format_ in text_dates.FORMATS}
    most = max(read.values())
    return [format_ for format_, count in read.items() if count == most] if most else [], most / rest if rest else 0.0


def _date(column: Column, counted: CellCounts, formats: list[str], marks: dict[str, int]) -> Recognised:
    if len(formats) > 1:
        return Recognised(column, "text", "", (_day_or_month(column.name, counted),))
    format_ = formats[0]
    column = replace(
        column, kind="datetime", type=_date_type(format_), missing=(*column.missing, *marks), format=format_
    )
    words = {"iso": "dates", "dmy": "dates, the day first", "mdy": "dates, the month first", "ymd": "dates"}
    phrase = words.get(format_, f"dates ({format_})")
    reading = "" if format_ == "iso" else f"read as {phrase}"
    return Recognised(column, f"its cells are {phrase}", _with_marks(reading, marks, counted))


def _date_type(format_: str) -> str:
    """As which type a model's signature declares it: others than ISO dates would be parsed by MLflow, otherwise."""
    return "datetime" if format_ == "iso" else "string"


def _day_or_month(name: str, counted: CellCounts, why: str = "no cell tells the day from the month") -> str:
    return (
        f"{name}: cells such as {quoted(counted.example)} are dates, but {why}"
        f"{', others the month' if 'some' in why else ''}: set data.formats: {{{name}: dmy}} or {{{name}: mdy}}."
    )


def _contradicts_itself(sorts: Counter[str]) -> bool:
    """Whether some cells can only have the day first, and not next to none of the others only the month."""
    only = sorted(sorts["day_month"] - sorts[f"date {format_}"] for format_ in ("dmy", "mdy"))
    return only[0] > 0 and only[0] >= 0.1 * only[1]


def _coded_date(name: str, counted: CellCounts, rest: int, data: Data, forced: str | None = None) -> str:
    """The format of whole numbers that are dates, by the config or beyond doubt; empty if they are numbers."""
    if name in data.formats:
        return data.formats[name]
    timely = forced == "datetime" or TIME_NAME.search(name)
    for format_, count in _codes(counted):
        if count >= MIN_SHARE * rest and count >= MIN_CODED_DATES and (format_ == "ymd" or timely):
            return format_
    return ""


def _codes(counted: CellCounts) -> list[tuple[str, int]]:
    """Each format of whole numbers that are dates, with the cells that fit it."""
    return [("ymd", counted.sorts["date ymd"]), *((epoch, counted.sorts[epoch]) for epoch in text_dates.EPOCHS)]


def _coded_words(format_: str, name: str, counted: CellCounts, rest: int, data: Data) -> tuple[str, str]:
    """Why whole numbers are dates, and how they are read where the config does not say so."""
    if name in data.formats:
        return "data.formats", ""
    others = rest - dict(_codes(counted))[format_]
    but = f", but for {others:,} of {rest:,} cells" if others else ""
    return f"its cells are {CODED[format_]}{but}", f"read as {CODED[format_]}{but}"


def _code_warning(name: str, counted: CellCounts, rest: int) -> tuple[str, ...]:
    """A word where whole numbers that are taken as such could be dates."""
    for format_, count in _codes(counted):
        if count >= LIKELY_CODED * rest and count >= MIN_CODED_DATES:
            share = "its numbers" if count == rest else f"{100 * count / rest:.1f} % of its numbers"
            return (
                f"{name}: {share} could be {CODED[format_]}; data.formats: {{{name}: {format_}}} would make dates of "
                f"them.",
            )
    return ()


def _with_marks(reading: str, marks: dict[str, int], counted: CellCounts) -> str:
    if not marks:
        return reading
    share = 100 * sum(marks.values()) / max(counted.cells, 1)
    taken = f"{listed([repr(mark) for mark in marks])} taken as missing ({share:.1f} % of the cells)"
    return f"{reading}; {taken}" if reading else taken


def _doubts(name: str, counted: CellCounts, dated: float, marks: dict[str, int]) -> tuple[str, ...]:
    """What a person should know of a column that nearly was one of numbers or dates."""
    sorts, rest = counted.sorts, max(counted.cells - sum(marks.values()), 1)
    styles, share = _best_styles(sorts, rest, None)
    most = max(share, dated)
    if most < DOUBTFUL_SHARE:
        return _dated_warning(name, counted, rest)
    if share >= dated and (mixed := _mixed_units(sorts)):
        return (f"{name}: its cells are numbers, but {mixed}, so it is text: make one unit of them.",)
    phrase = styles[0].words() if share >= dated and styles else "dates"
    rest_words = "but the config's marks are others" if most >= MIN_SHARE else "and the rest cannot"
    return (
        f"{name}: {100 * most:.1f} % of its cells can be read as {phrase}, {rest_words}, so it is text; another is "
        f"{quoted(counted.odd or counted.example)}. Say what is missing in data.missing, or set data.kinds, "
        f"data.decimal, data.thousands or data.formats.",
    )


def _dated_warning(name: str, counted: CellCounts, rest: int) -> tuple[str, ...]:
    if counted.sorts["dated"] < DOUBTFUL_SHARE * rest:
        return ()
    return (
        f"{name}: cells such as {quoted(counted.example)} look like dates, but are of no form that is known: say how "
        f"they are written, as in data.formats: {{{name}: '%d.%m.%y'}}.",
    )


def _mixed_units(sorts: Counter[str]) -> str:
    """What is wrong with the units of numbers, as a phrase; empty if nothing is."""
    units = sorted(key.removeprefix("unit ") for key in sorts if key.startswith("unit "))
    if len(units) > 1:
        return f"{' and '.join(units)} stand beside them"
    return f"{units[0]} stands beside some of them only" if units == [text_numbers.PERCENT] else ""


def _image_columns(schema: pa.Schema, counted: dict[str, CellCounts], data: Data) -> list[Recognised]:
    fields = [arrow_field for arrow_field in schema if arrow_field.name not in data.drop]
    binary = [arrow_field.name for arrow_field in fields if cols.declared_type(arrow_field) == "binary"]
    name = data.image_column or (binary[0] if len(binary) == 1 else None)
    if name is None:
        raise BadInput(
            f"Name the column of images, bytes or paths, in data.image_column. Received: {binary or schema.names}"
        )
    name = name + picture_cells.BYTES if name + picture_cells.BYTES in schema.names else name
    if cols.declared_type(schema.field(name)) != "binary":
        raise BadInput(
            f"data.image_column must hold bytes or, in a file, paths. Received: {name}, {schema.field(name).type}"
        )
    keep = [n for n in (*data.id, data.group, data.time, data.split_column) if n]
    columns = [
        Recognised(Column(name, "image", "binary", max_pixels=data.max_image_pixels), "bytes of images"),
        Recognised(Column(data.target, "categorical", "string", cols.missing_texts(data.target, data)), "the target"),
    ]
    return columns + [_recognised(schema.field(n), counted.get(n, CellCounts()), data) for n in dict.fromkeys(keep)]


def _picture_column(name: str, data: Data) -> Column:
    return Column(name, "image", "binary", max_pixels=data.max_image_pixels, background=data.image_background)
