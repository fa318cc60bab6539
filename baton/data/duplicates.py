"""Fingerprints of pictures in, groups of those that are the same or nearly out: what must not straddle two splits.

The same pixels make an exact group, hashes of few different bits a near one (Zauner, "Implementation and benchmarking
of perceptual image hash functions", 2010). Groups hang on the pictures alone, not on their order or cutting. A near
group that is much of a class is how that class looks: it is counted, and not kept together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from baton.data.columns import Column, as_text
from baton.data.pictures import Look, look_at_all
from baton.data.splits import SPLIT_INDEX, UNPLACED, replaced

NEAR_BITS = 4  # of 64 that may differ between two that are nearly the same
BANDS = NEAR_BITS + 1  # of two such, one band of bits at least is the same in both
LARGEST_BUCKET = 4096  # pictures with a band in common that are compared; more are alike for another reason
MAX_SHARE, MAX_FREE = 0.1, 10  # of a class's pictures: a near group of more than both is not used
PRINTS = pa.schema(
    [("row", pa.uint64()), ("exact", pa.uint64()), ("near", pa.uint64()), ("label", pa.string()), ("place", pa.int8())]
)


@dataclass(frozen=True)
class Groups:
    """Rows of pictures that belong together: `unit` is what decides of each, `label` the class most of a group are."""

    unit: dict[int, int] = field(default_factory=dict)  # row's hash → the least of its group, where there are others
    mixed: dict[int, str] = field(default_factory=dict)  # the same of groups of several classes → that of most
    pictures: int = 0  # in groups, copies included
    straddling: tuple[int, int] = (0, 0)  # groups in more than one split, and their pictures
    unused: tuple[tuple[int, str], ...] = ()  # near groups that are too large: pictures, class

    @property
    def number(self) -> int:
        return len(set(self.unit.values()))

    def units(self, hashes: np.ndarray) -> np.ndarray:
        """Rows' hashes → those that decide."""
        return replaced(hashes, self.unit)

    def words(self, kept_whole: bool) -> list[str]:
        """What a person should know of them, as sentences."""
        said = []
        if kept_whole and self.number:
            said.append(
                f"Pictures: {self.pictures:,} are the same as others or nearly, in {self.number:,} groups; each group "
                f"is in one split."
            )
        elif self.straddling[0]:
            said.append(
                f"Pictures: {self.straddling[0]:,} groups of {self.straddling[1]:,} that are the same or nearly lie in "
                f"more than one split, as the splits are given: test rows have equals among train rows."
            )
        if self.mixed:
            said.append(
                f"Pictures: {len(self.mixed):,} groups of those that are the same or nearly hold several classes: look "
                f"at their labels."
            )
        return said + [
            f"Pictures: {count:,} that are nearly alike would be much of class {label}: only those that are the same "
            f"are kept together."
            for count, label in self.unused
        ]


def prints(typed: pa.Table, hashes: np.ndarray, places: np.ndarray, picture: Column, target: str) -> pa.Table:
    """Typed rows of pictures that can be used, their hashes and splits → their fingerprints, `PRINTS`."""
    cells = [cell.as_buffer() for cell in typed.column(picture.name)]
    looks = [seen for seen in look_at_all(cells, picture.max_pixels, picture.background) if isinstance(seen, Look)]
    columns: list[Any] = [
        hashes, [seen.exact for seen in looks], [seen.perceptual for seen in looks],
        as_text(typed.column(target)), places,
    ]  # fmt: skip
    return pa.table([pa.array(c, f.type) if not isinstance(c, pa.ChunkedArray) else c
                     for c, f in zip(columns, PRINTS, strict=True)], PRINTS)  # fmt: skip


def groups(fingerprints: pa.Table) -> Groups:
    """The fingerprints of all rows → their groups."""
    if fingerprints.num_rows == 0:
        return Groups()
    rows, first, of_row, counts = np.unique(
        fingerprints.column("row").to_numpy(), return_index=True, return_inverse=True, return_counts=True
    )
    labels = np.array(fingerprints.column("label").to_pylist(), object)[first]
    exact = _linked(len(rows), _equal(fingerprints.column("exact").to_numpy()[first]))
    near = fingerprints.column("near").take(pa.array(first)).combine_chunks()
    detailed = np.flatnonzero(near.is_valid())
    bits = pc.fill_null(near, 0).to_numpy()[detailed]
    pairs = np.concatenate([_equal(exact), detailed[_near(bits)]])
    whole = _linked(len(rows), pairs)
    of_class = Counter(dict(zip(*_sums(labels, counts), strict=True)))
    unused = []
    for group in np.flatnonzero(np.bincount(whole) > 1):
        mine = np.flatnonzero(whole == group)
        size, label = int(counts[mine].sum()), _most(labels[mine], counts[mine])
        if len(np.unique(exact[mine])) > 1 and size > max(MAX_FREE, MAX_SHARE * of_class[label]):
            unused.append((size, label))
            whole[mine] = whole.max() + 1 + exact[mine]
    return _described(rows, whole, counts, labels, of_row, fingerprints.column("place").to_numpy(), unused)


def _described(
    rows: np.ndarray, group: np.ndarray, counts: np.ndarray, labels: np.ndarray, of_row: np.ndarray,
    places: np.ndarray, unused: list[tuple[int, str]],
) -> Groups:  # fmt: skip
    """Distinct rows with their groups, and each row's place → `Groups`."""
    _, group = np.unique(group, return_inverse=True)
    sizes = np.bincount(group, counts).astype(int)
    splits = np.zeros((len(sizes), len(SPLIT_INDEX)), bool)
    placed = places < UNPLACED
    splits[group[of_row][placed], places[placed]] = True
    apart = (splits.sum(axis=1) > 1) & (sizes > 1)
    order = np.argsort(group, kind="stable")
    unit: dict[int, int] = {}
    mixed: dict[int, str] = {}
    for mine in np.split(order, np.cumsum(np.bincount(group))[:-1]):
        if sizes[group[mine[0]]] < 2:
            continue
        least = int(rows[mine].min())
        unit |= {int(row): least for row in rows[mine]}
        if len(set(labels[mine])) > 1:
            mixed[least] = _most(labels[mine], counts[mine])
    straddling = (int(apart.sum()), int(sizes[apart].sum()))
    return Groups(unit, mixed, int(sizes[sizes > 1].sum()), straddling, tuple(sorted(unused)))


def _most(labels: np.ndarray, counts: np.ndarray) -> str:
    """The class of most rows, the first by name of equals."""
    names, sums = _sums(labels, counts)
    return max(zip(sums, [-i for i in range(len(names))], names, strict=True))[2]


def _sums(labels: np.ndarray, counts: np.ndarray) -> tuple[list[str], list[int]]:
    names, place = np.unique(labels.astype(str), return_inverse=True)
    return names.tolist(), np.bincount(place, counts).astype(int).tolist()


def _linked(number: int, pairs: np.ndarray) -> np.ndarray:
    """Pairs [n, 2] of so many things → the number of each thing's group."""
    links = coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), (number, number))
    return connected_components(links, directed=False)[1]


def _equal(values: np.ndarray) -> np.ndarray:
    """Values → pairs [n, 2] that chain those that are equal."""
    order = np.argsort(values, kind="stable")
    same = values[order[1:]] == values[order[:-1]]
    return np.stack([order[:-1][same], order[1:][same]], axis=1)


def _near(bits: np.ndarray) -> np.ndarray:
    """Hashes → pairs [n, 2] of those that differ in few bits: all in which a band is alike are compared."""
    distinct, first = np.unique(bits, return_index=True)
    pairs = [_equal(bits)]
    for band in np.array_split(np.arange(64, dtype=np.uint64), BANDS):
        keys = (distinct >> band[0]) & np.uint64((1 << len(band)) - 1)
        for mine in _buckets(keys):
            different = np.bitwise_count(distinct[mine][:, None] ^ distinct[mine][None, :])
            one, other = np.nonzero(np.triu(different <= NEAR_BITS, 1))
            pairs.append(np.stack([first[mine[one]], first[mine[other]]], axis=1))
    return np.concatenate(pairs)


def _buckets(keys: np.ndarray) -> Iterator[np.ndarray]:
    """Keys → the places of each key that several have, unless they are very many."""
    order = np.argsort(keys, kind="stable")
    ends = np.flatnonzero(np.diff(keys[order])) + 1
    for mine in np.split(order, ends):
        if 1 < len(mine) <= LARGEST_BUCKET:
            yield mine
