"""Looks at pictures in, what the profile says and shows of them out: counts of what is odd, and a few examples.

Summaries of parts add up to that of the whole: of each kind the pictures of the lowest hashes are shown.
"""

from __future__ import annotations

import base64
import io
import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from baton.data import images, pictures
from baton.data.columns import Column, as_text
from baton.data.duplicates import Groups
from baton.data.pictures import Look, look_at_all

SHOWN = 6  # pictures of a kind, and groups
IN_GROUP = 3  # pictures of a group that are shown
THUMBNAIL = 64  # pixels of the longer side
DUPLICATES = "duplicates"


class Example(NamedTuple):
    """A picture that is shown: which group it belongs to, the hash of its row, its class, its name, and a PNG."""

    group: int
    row: int
    label: str
    name: str
    png: str  # base64


@dataclass
class PictureProfile:
    """How many pictures there are, how many are odd in which way, and examples of each kind."""

    pictures: int = 0
    oddities: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Example]] = field(default_factory=dict)

    def __add__(self, other: PictureProfile) -> PictureProfile:
        kinds = {**self.examples, **other.examples}
        shown = {kind: _fewest(kind, [*self.examples.get(kind, []), *other.examples.get(kind, [])]) for kind in kinds}
        return PictureProfile(self.pictures + other.pictures, self.oddities + other.oddities, shown)

    def to_dict(self) -> dict[str, Any]:
        kept = {kind: [example._asdict() for example in shown] for kind, shown in sorted(self.examples.items())}
        return {"pictures": self.pictures, "oddities": dict(sorted(self.oddities.items())), "examples": kept}

    @staticmethod
    def of(kept: dict[str, Any]) -> PictureProfile:
        """The profile that `to_dict` made plain."""
        examples = {kind: [Example(**example) for example in shown] for kind, shown in kept["examples"].items()}
        return PictureProfile(kept["pictures"], Counter(kept["oddities"]), examples)

    def words(self) -> list[str]:
        """A sentence if pictures are odd."""
        if not self.oddities:
            return []
        counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.oddities.items()))
        return [f"Pictures: of {self.pictures:,}, some are odd: {counts} (figures/pictures.png shows some)."]


def profile(
    typed: pa.Table, hashes: np.ndarray, names: list[str], picture: Column, target: str, groups: Groups
) -> PictureProfile:
    """Typed rows of pictures that can be used, their hashes and names → their profile."""
    cells = [cell.as_buffer() for cell in typed.column(picture.name)]
    looks = look_at_all(cells, picture.max_pixels, picture.background)
    labels = as_text(typed.column(target)).to_pylist()
    shown = sorted(set(groups.unit.values()))[:SHOWN]
    kinds: dict[str, list[tuple[int, int, int]]] = {}
    for number, (row, seen) in enumerate(zip(hashes.tolist(), looks, strict=True)):
        group = groups.unit.get(row, row)
        for kind in seen.oddities if isinstance(seen, Look) else ():
            kinds.setdefault(kind, []).append((row, row, number))
        if group in shown and row in groups.unit:
            kinds.setdefault(DUPLICATES, []).append((group, row, number))
    examples = {
        kind: [
            Example(group, row, labels[number], names[number], _thumbnail(cells[number], picture))
            for group, row, number in _fewest(kind, found)
        ]
        for kind, found in kinds.items()
    }
    oddities = Counter(kind for seen in looks if isinstance(seen, Look) for kind in seen.oddities)
    return PictureProfile(len(looks), oddities, examples)


def _fewest(kind: str, examples: Iterable[Any]) -> list[Any]:
    """What starts with a group and a row's hash → those of the lowest: some of a kind, of duplicates some a group."""
    ordered = sorted(examples)
    if kind != DUPLICATES:
        return ordered[:SHOWN]
    return [kept for _, mine in itertools.groupby(ordered, lambda each: each[0]) for kept in [*mine][:IN_GROUP]]


def _thumbnail(cell: Any, picture: Column) -> str:
    """A picture → a small PNG of it, by the one decoder, as base64."""
    seen = pictures.look(cell, picture.max_pixels, picture.background)
    height, width, channels = seen.shape if isinstance(seen, Look) else (1, 1, 1)
    share = min(1.0, THUMBNAIL / max(height, width))
    shape = (max(1, round(height * share)), max(1, round(width * share)), channels)
    pixels = images.Decoder(shape, picture.background, picture.max_pixels).decode(cell)
    held = io.BytesIO()
    images.pillow().fromarray(pixels[..., 0] if channels == 1 else pixels).save(held, "PNG")
    return base64.b64encode(held.getvalue()).decode()
