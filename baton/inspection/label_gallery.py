"""Suspected labels of pictures in, beside each the nearest picture of the class that is suggested out.

Near is what the network sees as alike, by the directions of the features that its last layer sees. Who looks at both
sees at once whether the label or the suggestion is wrong.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from baton.data.row_parts import picture_rows
from baton.inspection.label_audit import LabelAudit
from baton.networks.penultimate import directions, penultimate
from baton.networks.prediction import predict

MAX_PICTURES = 24
MAX_COMPARED = 2000  # pictures that neighbours are looked for among


@dataclass(frozen=True)
class Neighbour:
    """Where a picture is that bears the suggested class, its pixels, and how far its direction is (0 to 2)."""

    split: str
    row: int
    pixels: np.ndarray
    distance: float

    def to_dict(self) -> dict[str, Any]:
        """`neighbour` of audit.json."""
        return {"split": self.split, "row": self.row, "distance": self.distance}


def by_turns(given: np.ndarray, most: int) -> np.ndarray:
    """Given labels of suspects [n], worst first → at most so many of their numbers, in order.

    Each class has its worst before any has its second, so that a class of many suspects leaves room for rare ones.
    """
    turn = np.zeros(len(given), int)
    for label in np.unique(given):
        mine = np.flatnonzero(given == label)
        turn[mine] = np.arange(len(mine))
    return np.sort(np.argsort(turn, kind="stable")[:most])


def gallery(
    audit: LabelAudit, described: dict[str, Any], table: pa.Table, network: Any, seconds: float, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """An audit, its `audit.json` and the table of suspects → pictures, and beside each its neighbour's, if any.

    `described` gets what `to_dict` gives. Both are empty where there are no pictures.
    """
    chosen = by_turns(audit.targets[audit.suspects.rows], MAX_PICTURES)
    pictures = audit.pictures(chosen)
    if not pictures:
        return [], []
    near = neighbours(audit, network, chosen, seconds, seed)
    described |= to_dict(described["shown"], table, chosen, near)
    return pictures, [neighbour.pixels if neighbour else None for neighbour in near]


def neighbours(
    audit: LabelAudit, network: Any, chosen: np.ndarray, seconds: float, seed: int
) -> list[Neighbour | None]:
    """Numbers of an audit's suspects [n] → the nearest picture of each one's suggested class, not suspected itself.

    A bounded number of pictures by chance is looked at, of them as many as there are seconds for. None where the class
    has no other.
    """
    ended, suspects = time.monotonic() + seconds, audit.suspects
    first, suggested = suspects.rows[chosen], suspects.suggested[chosen]
    others = np.setdiff1d(np.flatnonzero(np.isin(audit.targets, suggested)), suspects.rows)
    others = np.random.default_rng(seed).permutation(others)[:MAX_COMPARED]
    at_once, seeing = picture_rows(audit.preprocessor.image_shape), penultimate(network)
    looking = _directions_of(audit, seeing, first)
    nearest, least = np.full(len(first), -1), np.full(len(first), np.inf)
    for start in range(0, len(others), at_once):
        numbers = others[start : start + at_once]
        far = np.linalg.norm(looking[:, None] - _directions_of(audit, seeing, numbers)[None], axis=2)
        far[audit.targets[numbers][None] != suggested[:, None]] = np.inf
        best = far.min(axis=1)
        nearest = np.where(best < least, numbers[far.argmin(axis=1)], nearest)
        least = np.minimum(best, least)
        if time.monotonic() > ended:
            break
    return _with_pixels(audit, nearest, least)


def to_dict(
    rows: list[dict[str, Any]], table: pa.Table, chosen: np.ndarray, neighbours: list[Neighbour | None]
) -> dict[str, Any]:
    """The first suspects, the table of all, the neighbours of those chosen → `shown` and `gallery` of audit.json."""
    beside = {int(n) + 1: neighbour and neighbour.to_dict() for n, neighbour in zip(chosen, neighbours, strict=True)}
    kept = table.select(["rank", "split", "row", "given", "suggested", "confidence"]).take(pa.array(chosen))
    return {
        "shown": [{**row, **({"neighbour": beside[row["rank"]]} if row["rank"] in beside else {})} for row in rows],
        "gallery": [{**row, "neighbour": beside[row["rank"]]} for row in kept.to_pylist()],
    }


def _directions_of(audit: LabelAudit, seeing: Any, numbers: np.ndarray) -> np.ndarray:
    """Numbers of rows → the directions of what the network sees of them [n, d]."""
    inputs = audit.inputs(numbers)
    return directions(predict(seeing, {each.name: inputs[each.name] for each in seeing.inputs}))


def _with_pixels(audit: LabelAudit, numbers: np.ndarray, distances: np.ndarray) -> list[Neighbour | None]:
    """Numbers among all rows, -1 for none, and how far these are → neighbours."""
    splits, rows = audit.places(np.maximum(numbers, 0))
    pixels = iter(audit.inputs(numbers[numbers >= 0])["image"])
    return [
        Neighbour(str(split), int(row), next(pixels), float(distance)) if number >= 0 else None
        for split, row, number, distance in zip(splits, rows, numbers, distances, strict=True)
    ]
