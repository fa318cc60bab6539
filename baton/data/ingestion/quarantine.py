"""Rows that cannot be used in: why, with a cell each, and whether they are more than the config allows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from baton.config.schema import Config
from baton.data import columns as cols
from baton.data.sources import picture_cells
from baton.errors import BadInput, quoted
from baton.formatting import percent_text

TOP_REASONS = 3  # that a sentence names
WAYS_OUT = (
    "Mend the source; or say how its cells are to be read (data.missing, data.decimal, data.thousands, data.formats, "
    "data.kinds); or allow more in"
)


@dataclass
class Quarantine:
    """Why rows are set aside: rows a reason, and for each a cell and the column; those of parts add up."""

    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)

    def __add__(self, other: Quarantine) -> Quarantine:
        examples = {**self.examples}
        for reason, example in other.examples.items():
            examples[reason] = min(example, examples.get(reason, example))
        return Quarantine(self.reasons + other.reasons, examples, self.columns | other.columns)

    @property
    def rows(self) -> int:
        return self.reasons.total()

    def words(self) -> str:
        """The most frequent reasons, with a cell each."""
        parts = []
        for reason, rows in sorted(self.reasons.items(), key=lambda item: (-item[1], item[0]))[:TOP_REASONS]:
            example = f", such as {self.examples[reason]}" if self.examples.get(reason) else ""
            parts.append(f"{reason} ({rows:,} rows{example})")
        more = len(self.reasons) - len(parts)
        return "; ".join(parts) + (f"; and {more} more reasons" if more > 0 else "")


def of_rows(raw: pa.Table, reasons: pa.Array, columns: list[cols.Column]) -> Quarantine:
    """Raw rows and their reasons (null: none) → the quarantine; a reason's example is the least of its cells."""
    counted = reasons.drop_null().value_counts()
    rows = dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
    named = {reason: column for reason in rows if (column := _column(reason, columns))}
    examples = {reason: _example(raw, reasons, reason, column) for reason, column in named.items()}
    return Quarantine(Counter(rows), examples, {reason: column.name for reason, column in named.items()})


def _column(reason: str, columns: list[cols.Column]) -> cols.Column | None:
    """The column that a reason starts with."""
    return max((c for c in columns if reason.startswith(f"{c.name} ")), key=lambda c: len(c.name), default=None)


def _example(raw: pa.Table, reasons: pa.Array, reason: str, column: cols.Column) -> str:
    """The least cell, as text, of the column, of an image its name; empty for missing ones."""
    name = _name_column(raw, column) if column.kind == "image" else column.name
    if name is None:
        return ""
    cells = raw.column(name).filter(pc.equal(reasons, reason))
    least = pc.min(_texts(cells.combine_chunks())).as_py()
    return quoted(least) if least is not None else ""


def _name_column(raw: pa.Table, column: cols.Column) -> str | None:
    """The column that says what images are called, if there is one."""
    called = ("path", column.name.removesuffix(picture_cells.BYTES))
    return next((n for n in called if n in raw.column_names and cols.is_text(raw.schema.field(n).type)), None)


def _texts(cells: pa.Array) -> pa.Array:
    """Cells of any type as text; moments that no calendar holds as their number."""
    try:
        return cols.as_text(cells.dictionary_decode() if pa.types.is_dictionary(cells.type) else cells)
    except pa.ArrowInvalid:
        return pc.cast(pc.cast(cells, pa.int32() if pa.types.is_date32(cells.type) else pa.int64()), pa.string())


def check(config: Config, quarantine: Quarantine, rows_in: int) -> None:
    """Raise `BadInput` if more is set aside than `data.max_quarantine` allows, with the reasons."""
    limits, target = config.data.max_quarantine, config.data.target
    readable = (cols.missing_target(target), unseen_class(target))
    of_target = {r: n for r, n in quarantine.reasons.items() if quarantine.columns.get(r) == target}
    unreadable = replace(quarantine, reasons=Counter({r: n for r, n in of_target.items() if r not in readable}))
    for key, share, found, words in (
        ("unreadable_targets", limits.unreadable_targets, unreadable, "have a target that cannot be read"),
        ("rows", limits.rows, quarantine, "cannot be used"),
    ):
        if found.rows > share * rows_in:
            raise BadInput(
                f"{found.rows:,} of {rows_in:,} rows {words} ({percent_text(found.rows / rows_in)}), and "
                f"data.max_quarantine.{key} allows {percent_text(share)}: {found.words()}. "
                f"{WAYS_OUT} data.max_quarantine.{key}."
            )


def of_lines(broken: list[dict[str, str]]) -> Quarantine:
    """Lines that were no rows → the quarantine, the least line of each reason as its example."""
    total = Quarantine()
    for line in broken:
        reason = line["reason"].partition(": ")[2]
        example = quoted(line["text"])
        total.reasons[reason] += 1
        total.examples[reason] = min(example, total.examples.get(reason, example))
    return total


def check_any(rows: int, location: str, broken: list[dict[str, str]]) -> None:
    """Raise `BadInput` if there are no rows at all, with what is wrong with the lines that are none."""
    if rows == 0:
        why = f": {of_lines(broken).words()}" if broken else ""
        raise BadInput(f"{location} holds no rows that can be read{why}.")


def check_splits(rows: dict[str, int], quarantine: Quarantine) -> None:
    """Raise `BadInput` if a split is empty."""
    empty = [name for name, count in rows.items() if count == 0]
    if empty:
        why = f": {quarantine.words()}" if quarantine.rows else ""
        raise BadInput(
            f"The {' and '.join(empty)} split would be empty: bring more rows. "
            f"Received: {sum(rows.values())} usable rows and {quarantine.rows} quarantined{why}"
        )


def write_lines(broken: list[dict[str, str]], folder: Path) -> None:
    """Lines that were no rows, as text with a reason; no file if there are none."""
    if broken:
        pq.write_table(pa.Table.from_pylist(broken), folder / "lines.parquet")


def unseen_class(target: str) -> str:
    return f"{target} is a class that does not occur in the train split"
