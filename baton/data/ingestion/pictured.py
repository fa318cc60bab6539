"""Checked rows of pictures in, what ingest has to know of them out: their sizes, their duplicates, what is odd.

What is known of parts adds up, so that both engines decide alike.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from baton.config.schema import Config, Data
from baton.data import columns as cols
from baton.data import duplicates, images, picture_profile, preprocessing, splits
from baton.data.duplicates import Groups
from baton.data.images import Shape
from baton.data.picture_profile import PictureProfile
from baton.data.pictures import Look, look_at_all
from baton.data.sources.files import Source
from baton.errors import listed

if TYPE_CHECKING:
    from baton.data.ingestion.rows import CheckedRows

DEFAULT_SIDE = 224  # pixels of a picture's longer side, at most, unless data.image_size says otherwise
HEADERS = 100  # that are looked at before a run


@dataclass
class Pictured:
    """The sizes of train's pictures, when turned, and the profile of all."""

    sizes: Counter[Shape] = field(default_factory=Counter)
    profile: PictureProfile = field(default_factory=PictureProfile)

    def __add__(self, other: Pictured) -> Pictured:
        return Pictured(self.sizes + other.sizes, self.profile + other.profile)

    def to_dict(self) -> dict[str, Any]:
        return {"sizes": [[*size, count] for size, count in self.sizes.items()], "profile": self.profile.to_dict()}

    @staticmethod
    def of(kept: dict[str, Any]) -> Pictured:
        """What `to_dict` made plain."""
        sizes = Counter({(height, width, channels): count for height, width, channels, count in kept["sizes"]})
        return Pictured(sizes, PictureProfile.of(kept["profile"]))


def keeps_duplicates_together(data: Data) -> bool:
    """Whether pictures are split by what they show: where nothing else decides."""
    return data.task == "image" and not (data.id or data.group or data.time or data.split_column)


def prints(rows: CheckedRows, places: np.ndarray | None, columns: list[cols.Column], data: Data) -> pa.Table:
    """Checked rows of pictures and their places, if they have some → the fingerprints of those that can be used."""
    places = np.full(len(rows.hashes), splits.UNPLACED, np.int8) if places is None else places
    good = rows.good
    typed = rows.typed.filter(pa.array(good))
    return duplicates.prints(typed, rows.hashes[good], places[good], _picture(columns), data.target)


def pictured(
    raw: pa.Table, rows: CheckedRows, places: np.ndarray, columns: list[cols.Column], data: Data, groups: Groups
) -> Pictured:
    """Raw and checked rows of pictures, and their places → what is known of those that can be used."""
    good, column = rows.good, _picture(columns)
    typed = rows.typed.filter(pa.array(good))
    found = picture_profile.profile(typed, rows.hashes[good], _names(raw, data, good), column, data.target, groups)
    return Pictured(image_sizes(rows.typed.column(column.name).filter(pa.array(places == 0)), column), found)


def _names(raw: pa.Table, data: Data, good: np.ndarray) -> list[str]:
    """What the pictures that can be used are called; nothing where no column says it."""
    called = ("path", data.image_column or "path")
    name = next((n for n in called if n in raw.column_names and cols.is_text(raw.schema.field(n).type)), None)
    cells = raw.column(name).filter(pa.array(good)).to_pylist() if name else [""] * int(good.sum())
    return [cell or "" for cell in cells]


def _picture(columns: list[cols.Column]) -> cols.Column:
    return next(column for column in columns if column.kind == "image")


def image_sizes(cells: pa.ChunkedArray, column: cols.Column) -> Counter[Shape]:
    """Pictures → how many of those that can be used have each (height, width, channels), when turned."""
    looks = look_at_all([cell.as_buffer() for cell in cells], column.max_pixels, column.background)
    return Counter(seen.shape for seen in looks if isinstance(seen, Look))


def with_image_size(
    preprocessor: preprocessing.Preprocessor, sizes: Counter[Shape], config: Config
) -> preprocessing.Preprocessor:
    """Fix the size every picture is resized to: the config's, else the most common one, if it is not too large."""
    if config.data.image_size:
        size = config.data.image_size.model_dump()
    else:
        height, width = within(*_common_size(sizes))
        size = {"height": height, "width": width, "channels": max(channels for _, _, channels in sizes)}
    return preprocessing.Preprocessor({**preprocessor.spec, "image_size": size})


def header_words(source: Source, config: Config) -> list[str]:
    """What is known of pictures before any is decoded, as sentences: files that are not there, headers, sizes."""
    places = source.pictures()
    wrong = Counter(place for place in places if isinstance(place, str))
    said = [f"Pictures: in {count:,} rows {config.data.image_column} {fault}." for fault, count in wrong.items()]
    there = [place for place in places if isinstance(place, Path)]
    sizes, faults = Counter[Shape](), list[str]()
    looked_at = there[:: max(1, len(there) // HEADERS)]
    for place in looked_at:
        try:
            sizes[*images.size(place.read_bytes(), config.data.max_image_pixels), 3] += 1
        except images.Unusable as fault:
            faults.append(f"{place} {fault}")
    if faults:
        said.append(f"Pictures: {len(faults):,} of {len(looked_at):,} looked at cannot be used: {listed(faults, 3)}.")
    return [*source.notes(), *said, *size_words(sizes, config)]


def _common_size(sizes: Counter[Shape]) -> tuple[int, int]:
    """The most common (height, width), the larger of equals."""
    sides = Counter[tuple[int, int]]()
    for (height, width, _), count in sizes.items():
        sides[height, width] += count
    return max(sides, key=lambda size: (sides[size], size))


def within(height: int, width: int) -> tuple[int, int]:
    """A size → the same, or of the same shape with `DEFAULT_SIDE` pixels on its longer side."""
    share = min(1.0, DEFAULT_SIDE / max(height, width))
    return max(1, round(height * share)), max(1, round(width * share))


def size_words(sizes: Counter[Shape], config: Config) -> list[str]:
    """A sentence if the pictures' most common size is not what they are resized to by default."""
    if config.data.image_size or not sizes or within(*(common := _common_size(sizes))) == common:
        return []
    height, width = within(*common)
    return [
        f"Pictures: most are {common[1]:,} × {common[0]:,} pixels (width × height); they are resized to {width} × "
        f"{height}, for by default no side is longer than {DEFAULT_SIDE}. data.image_size sets another size."
    ]
