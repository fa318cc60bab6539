"""Raw rows in, their place (a split, or the quarantine) and fitted preprocessing out: the rules of both engines."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from baton import names
from baton.config.schema import Config
from baton.data import columns as cols
from baton.data import fitting, overview, preprocessing, reference, splits, statistics
from baton.data.cell_counts import CellCounts
from baton.data.recognition import Recognised, shortened
from baton.errors import BadInput, listed, refuse
from baton.formatting import percent_text
from baton.runtime.threads import together

QUARANTINED = 3  # after the indices of train, validation and test
TOP_REASONS = 3  # of a quarantine, that a sentence names


def assign(
    raw: pa.Table, columns: list[cols.Column], config: Config, limits: tuple[int, int] | None
) -> tuple[pa.Table, np.ndarray, pa.Array, np.ndarray]:
    """Raw rows → (typed rows, place of each: 0, 1, 2 or `QUARANTINED`, reasons, hashes)."""
    data = config.data
    typed, reasons = cols.typed(raw, columns, data.target)
    hashes = splits.row_hash(typed)
    if data.time:
        stamps = typed.column(data.time).combine_chunks()
        reasons = pc.coalesce(reasons, pc.if_else(stamps.is_null(), f"{data.time} (data.time) is missing", None))
        place = splits.by_time(stamps.fill_null(0), limits)  # type: ignore[arg-type]
    else:
        place = splits.by_hash(typed, data, hashes)
    bad = reasons.is_valid().to_numpy(zero_copy_only=False)
    return typed, np.where(bad, QUARANTINED, place), reasons, hashes


@dataclass
class Quarantine:
    """Why rows are set aside: rows a reason, and a cell for each; those of parts add up."""

    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def __add__(self, other: Quarantine) -> Quarantine:
        examples = {**self.examples}
        for reason, example in other.examples.items():
            examples[reason] = min(example, examples.get(reason, example))
        return Quarantine(self.reasons + other.reasons, examples)

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


def quarantine_of(raw: pa.Table, reasons: pa.Array, columns: list[cols.Column]) -> Quarantine:
    """Raw rows and their reasons (null: none) → the quarantine; a reason's example is the least of its cells."""
    counted = reasons.drop_null().value_counts()
    rows = dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
    return Quarantine(Counter(rows), {reason: _example(raw, reasons, reason, columns) for reason in rows})


def _example(raw: pa.Table, reasons: pa.Array, reason: str, columns: list[cols.Column]) -> str:
    """The least cell, as text, of the column that a reason starts with; empty for missing ones and bytes."""
    named = [c.name for c in columns if reason.startswith(f"{c.name} ") and c.kind != "image"]
    if not named:
        return ""
    cells = raw.column(max(named, key=len)).filter(pc.equal(reasons, reason))
    least = pc.min(_texts(cells.combine_chunks())).as_py()
    return shortened(least) if least is not None else ""


def _texts(cells: pa.Array) -> pa.Array:
    """Cells of any type as text; moments that no calendar holds as their number."""
    try:
        return cols.as_text(cells.dictionary_decode() if pa.types.is_dictionary(cells.type) else cells)
    except pa.ArrowInvalid:
        return pc.cast(pc.cast(cells, pa.int32() if pa.types.is_date32(cells.type) else pa.int64()), pa.string())


def check_quarantine(config: Config, quarantine: Quarantine, rows_in: int) -> None:
    """Raise `BadInput` if more is set aside than `data.max_quarantine` allows, with the reasons."""
    limits, target = config.data.max_quarantine, config.data.target
    unreadable = Counter({r: n for r, n in quarantine.reasons.items() if _is_unreadable_target(r, target)})
    ways_out = (
        "Mend the source; or say how its cells are to be read (data.missing, data.decimal, data.thousands, "
        "data.formats, data.kinds); or allow more in data.max_quarantine"
    )
    for key, share, rows, words in (
        ("unreadable_targets", limits.unreadable_targets, unreadable.total(), "have a target that cannot be read"),
        ("rows", limits.rows, quarantine.rows, "cannot be used"),
    ):
        if rows > share * rows_in:
            shown = replace(quarantine, reasons=unreadable) if key == "unreadable_targets" else quarantine
            raise BadInput(
                f"{rows:,} of {rows_in:,} rows {words} ({percent_text(rows / rows_in)}), and "
                f"data.max_quarantine.{key} allows {percent_text(share)}: {shown.words()}. {ways_out}.{key}."
            )


def _is_unreadable_target(reason: str, target: str) -> bool:
    return reason.startswith(f"{target} ") and reason not in (cols.missing_target(target), unseen_class(target))


def fit_and_profile(
    config: Config,
    recognised: list[Recognised],
    counted: dict[str, CellCounts],
    parts: dict[str, statistics.Summary],
    source_names: list[str],
    folder: Path,
) -> preprocessing.Preprocessor:
    """Fit preprocessing on train's summary alone; write the profile and the table of columns, of all rows."""
    columns = [r.column for r in recognised]

    def write_profile() -> None:
        _write_json(statistics.profile(_in_order(statistics.merge(list(parts.values())))), folder / names.PROFILE)

    preprocessor = together(lambda: fitting.fit_preprocessor(parts["train"], columns, config.data), write_profile)[0]
    table = overview.of_rows(recognised, counted, parts, preprocessor, config.data, source_names)
    _write_json(table, folder / names.COLUMNS)
    reference.profile_reference(parts["train"], preprocessor, config.data.reference_rows).save(folder)
    return preprocessor


def _write_json(values: Any, path: Path) -> None:
    path.write_text(json.dumps(values, indent=1))


def refuse_unseen_classes(
    typed: pa.Table, place: np.ndarray, reasons: pa.Array, preprocessor: preprocessing.Preprocessor
) -> tuple[np.ndarray, pa.Array]:
    """Quarantine rows of validation and test whose class does not occur in train."""
    if not preprocessor.classes:
        return place, reasons
    unseen = (preprocessor.encode_target(typed) < 0) & (place != QUARANTINED)
    reasons = pc.if_else(pa.array(unseen), unseen_class(preprocessor.target), reasons)
    return np.where(unseen, QUARANTINED, place), reasons


def unseen_class(target: str) -> str:
    return f"{target} is a class that does not occur in the train split"


def image_sizes(images: pa.ChunkedArray) -> Counter[tuple[int, int, int]]:
    """Image bytes → how many have each (height, width, channels); counts add up."""
    return Counter(size for size in cols.images_size(images.combine_chunks()) if size)


def with_image_size(
    preprocessor: preprocessing.Preprocessor, sizes: Counter[tuple[int, int, int]], config: Config
) -> preprocessing.Preprocessor:
    """Fix the size every image is resized to: the config's, else the most common, the larger of equals."""
    if config.data.image_size:
        size = config.data.image_size.model_dump()
    else:
        height, width, _ = max(sizes, key=lambda size: (sizes[size], size))
        size = {"height": height, "width": width, "channels": max(channels for _, _, channels in sizes)}
    return preprocessing.Preprocessor({**preprocessor.spec, "image_size": size})


def time_counts(raw: pa.Table, columns: list[cols.Column], config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Raw rows → the distinct moments (µs) of `data.time` and how many rows each has; counts add up."""
    stamps, _ = cols.typed(raw, [_time_column(columns, config)], None)
    counted = stamps.column(config.data.time).drop_null().value_counts()
    return pc.cast(counted.field("values"), pa.int64()).to_numpy(), counted.field("counts").to_numpy()


def time_limits(moments: np.ndarray, counts: np.ndarray, config: Config) -> tuple[int, int]:
    """Distinct moments in any order and their rows → the last moments of train and validation."""
    if len(moments) == 0:
        raise BadInput(f"data.time: column {config.data.time} holds no time at all.")
    order = np.argsort(moments)
    return splits.time_limits(moments[order], counts[order], config.data)


def check_reserved(columns: list[str], interval: float | None = None) -> None:
    """Raise `BadInput` if a column bears a name that Baton's outputs use."""
    refuse(reserved_faults(columns, interval))


def reserved_faults(columns: list[str], interval: float | None = None) -> list[str]:
    """A sentence if there are columns that bear a name that Baton's outputs use, with or without an interval."""
    taken = [column for column in columns if names.is_reserved(column, interval is not None)]
    return [f"Rename these columns: their names are reserved for predictions. Received: {listed(taken)}."] * bool(taken)


def check_splits(rows: dict[str, int], quarantine: Quarantine) -> None:
    """Raise `BadInput` if a split is empty."""
    empty = [name for name, count in rows.items() if count == 0]
    if empty:
        why = f": {quarantine.words()}" if quarantine.rows else ""
        raise BadInput(
            f"The {' and '.join(empty)} split would be empty: bring more rows. "
            f"Received: {sum(rows.values())} usable rows and {quarantine.rows} quarantined{why}"
        )


def check_any(rows: int, location: str, broken: list[dict[str, str]]) -> None:
    """Raise `BadInput` if there are no rows at all, with what is wrong with the lines that are none."""
    if rows == 0:
        why = f": {broken_lines(broken).words()}" if broken else ""
        raise BadInput(f"{location} holds no rows that can be read{why}.")


def write_broken(broken: list[dict[str, str]], folder: Path) -> None:
    """Lines that were no rows, as text with a reason; no file if there are none."""
    if broken:
        pq.write_table(pa.Table.from_pylist(broken), folder / "lines.parquet")


def broken_reasons(broken: list[dict[str, str]]) -> Counter[str]:
    """Reasons of lines that were no rows, counted without the lines' numbers."""
    return broken_lines(broken).reasons


def broken_lines(broken: list[dict[str, str]]) -> Quarantine:
    """Lines that were no rows → the quarantine, the least line of each reason as its example."""
    total = Quarantine()
    for line in broken:
        reason = line["reason"].partition(": ")[2]
        example = shortened(line["text"])
        total.reasons[reason] += 1
        total.examples[reason] = min(example, total.examples.get(reason, example))
    return total


def _in_order(whole: statistics.Summary) -> statistics.Summary:
    """Categories by name, so that which of equals the profile shows does not depend on the rows' order."""
    columns = {n: replace(c, counts=Counter(dict(sorted(c.counts.items())))) for n, c in whole.columns.items()}
    return statistics.Summary(columns, whole.sample)


def _time_column(columns: list[cols.Column], config: Config) -> cols.Column:
    column = next(c for c in columns if c.name == config.data.time)
    if column.kind != "datetime":
        raise BadInput(f"data.time must be a date or time column. Received: {column.name}, {column.kind}")
    return column
