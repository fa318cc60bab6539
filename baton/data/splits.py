"""Typed rows in, their split out: by a hash of the row, of an id or a group, by time, or as a column says.

The answer depends on the rows alone, so neither their order, nor the cutting of files, nor the format they came in, nor
the engine can move a row to another split. What has to be known of all rows first adds up over parts (`Tally`); it
makes a `Plan`, by which every row is placed, and which travels in the model.

Many rows go by fixed limits of their hash, so that none moves when rows are added. Of few rows each class, or range of
the target, is cut exactly; groups are dealt out whole. Rows that are equal stay together, unless so few are distinct
that a split would hold next to none of them: then they are spread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from baton import names
from baton.config.schema import Data
from baton.data.columns import as_text
from baton.runtime.threads import mapped

EXACT_ROWS = 10_000  # below, classes are cut exactly; from here on, hashes have fixed limits
FEW_TARGETS = 2000  # rows of a regression, below which ranges of its target are cut each by itself
RANGES, RANGE_ROWS = 10, 30  # of the target, at most so many, of so many rows at least
SURE_ROWS = 10  # a class of so many rows, or groups, is in every split
POOLED_ROWS = 5  # classes of fewer rows are cut together
WATCHED_ROWS = 200  # rows of a class, below which it is seen to that each split has one
MIN_EFFECTIVE = 1000  # distinct rows, as it were, below which equal rows are spread
HEAVY_SHARE = 0.001  # of all rows: a row that recurs so often counts
SPLIT_WORDS = {
    "train": 0, "training": 0, "validation": 1, "valid": 1, "val": 1, "dev": 1, "test": 2, "testing": 2,
}  # fmt: skip
END = 1 << 64
Shares = tuple[float, float, float]
_ODD = np.uint64(0x9E3779B97F4A7C15)
_MISSING = np.uint64(0xD6E8FEB86659FD93)
_ALL = ""  # the stratum of rows that are not told apart


def row_hash(table: pa.Table, columns: list[str] | None = None) -> np.ndarray:
    """Typed table → one uint64 a row over the named columns (default: all), whatever their order."""
    total = np.zeros(table.num_rows, np.uint64)
    named = sorted(columns or table.column_names)
    for hashes in mapped(_column_hash, [table.column(name) for name in named]):
        total *= _ODD
        total += hashes
        _mix(total)
    return total


def unit_hash(table: pa.Table, data: Data, hashes: np.ndarray) -> np.ndarray:
    """Typed table and its rows' hashes → those that decide: of the group, the id or the row."""
    columns = [data.group] if data.group else data.id
    return row_hash(table, columns) if columns else hashes


@dataclass
class Tally:
    """What is known of the usable rows of a part; tallies of parts add up.

    `strata` are the rows of each class; `units` the rows, ids or groups of each, as {hash: rows}, None where they are
    too many to matter; `targets` those of a regression by hash, None where they are many; `frequent` the hashes of rows
    that may recur often.
    """

    grouped: bool = False
    rows: int = 0
    strata: Counter[str] = field(default_factory=Counter)
    units: dict[str, Counter[int] | None] = field(default_factory=dict)
    targets: dict[int, float] | None = field(default_factory=dict)
    frequent: set[int] = field(default_factory=set)

    def __add__(self, other: Tally) -> Tally:
        rows = self.rows + other.rows
        units = {s: _joined(self.units.get(s, Counter()), other.units.get(s, Counter()))
                 for s in {**self.units, **other.units}}  # fmt: skip
        targets = None if self.targets is None or other.targets is None else {**self.targets, **other.targets}
        return Tally(
            self.grouped, rows, self.strata + other.strata, _bounded(units, rows, self.grouped),
            targets if rows < FEW_TARGETS else None, self.frequent | other.frequent,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        units = {s: None if held is None else {str(h): n for h, n in held.items()} for s, held in self.units.items()}
        targets = None if self.targets is None else {str(h): value for h, value in self.targets.items()}
        return {"grouped": self.grouped, "rows": self.rows, "strata": dict(self.strata), "units": units,
                "targets": targets, "frequent": sorted(map(str, self.frequent))}  # fmt: skip

    @staticmethod
    def of(kept: dict[str, Any]) -> Tally:
        """The tally that `to_dict` made plain."""
        units = {s: None if held is None else Counter({int(h): n for h, n in held.items()})
                 for s, held in kept["units"].items()}  # fmt: skip
        targets = None if kept["targets"] is None else {int(h): value for h, value in kept["targets"].items()}
        frequent = set(map(int, kept["frequent"]))
        return Tally(kept["grouped"], kept["rows"], Counter(kept["strata"]), units, targets, frequent)


def tally(table: pa.Table, hashes: np.ndarray, data: Data) -> Tally:
    """Usable typed rows and the hashes that decide → their tally."""
    rows, grouped = table.num_rows, bool(data.group)
    target = table.column(data.target)
    few = data.task == "regression" and not grouped and rows < FEW_TARGETS
    targets = dict(zip(hashes.tolist(), target.to_pylist(), strict=True)) if few else None
    labels, codes = _labels(target, data)
    sizes = np.bincount(codes, minlength=len(labels))
    units: dict[str, Counter[int] | None] = dict.fromkeys(labels)
    for code in np.flatnonzero((sizes < WATCHED_ROWS) | (rows < EXACT_ROWS) | grouped):
        values, counts = np.unique(hashes[codes == code], return_counts=True)
        units[labels[code]] = Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    frequent: set[int] = set()
    if not (data.group or data.id):
        order, times = np.sort(hashes), int(HEAVY_SHARE / 2 * rows)  # more often in some part, whatever the cut
        frequent = set(order[: rows - times][order[times:] == order[: rows - times]].tolist())
        frequent |= {value for held in units.values() if held and len(held) < 3 for value in held}
    strata = Counter({label: int(size) for label, size in zip(labels, sizes, strict=True) if size})
    return Tally(grouped, rows, strata, _bounded(units, rows, grouped), targets, frequent)


def recurring(hashes: np.ndarray, frequent: Iterable[int]) -> Counter[int]:
    """Hashes of rows → how often each of the `frequent` ones occurs."""
    wanted = np.fromiter(frequent, np.uint64)
    values, counts = np.unique(hashes[np.isin(hashes, wanted)], return_counts=True)
    return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))


@dataclass(frozen=True)
class Plan:
    """By which rows are placed: the shares of the splits, and what differs from them.

    `times` are the last moments of train and validation, where time decides.
    `limits` are the first hashes of validation and test of a class or range of the target (`edges`), `units` the splits
    of single hashes, `spread` how many of a row's copies go to each split. `same` are the hashes of pictures that go
    with others, each with the one that decides of all.
    """

    shares: Shares
    times: tuple[float, float] | None = None
    limits: dict[str, tuple[int, int]] = field(default_factory=dict)
    edges: tuple[float, ...] = ()
    units: dict[int, int] = field(default_factory=dict)
    spread: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    same: dict[int, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "shares": list(self.shares),
            "times": None if self.times is None else list(self.times),
            "limits": {stratum: list(pair) for stratum, pair in self.limits.items()},
            "edges": list(self.edges),
            "units": {str(value): index for value, index in self.units.items()},
            "spread": {str(value): list(counts) for value, counts in self.spread.items()},
            "same": {str(value): str(other) for value, other in self.same.items()},
        }

    @staticmethod
    def of(kept: dict[str, Any]) -> Plan:
        """The plan that `to_dict` made plain."""
        return Plan(
            tuple(kept["shares"]),
            None if kept["times"] is None else tuple(kept["times"]),
            {stratum: (pair[0], pair[1]) for stratum, pair in kept["limits"].items()},
            tuple(kept["edges"]),
            {int(value): index for value, index in kept["units"].items()},
            {int(value): tuple(counts) for value, counts in kept["spread"].items()},
            {int(value): int(other) for value, other in kept.get("same", {}).items()},  # an earlier Baton kept none
        )

    def place(self, table: pa.Table, hashes: np.ndarray, data: Data, before: Counter[int] | None = None) -> np.ndarray:
        """Typed rows and the hashes that decide → a split's index a row.

        `before` is how many copies of the rows that are spread stand in parts before this one.
        """
        if data.split_column:
            return by_column(table.column(data.split_column))[0]
        if self.times is not None:
            return by_time(moments(table.column(str(data.time))), self.times)
        hashes = replaced(hashes, self.same)
        places = _by_shares(hashes, self.shares)
        if self.limits:
            labels, codes = self._strata(table.column(data.target), data)
            for code, label in enumerate(labels):
                if label in self.limits:
                    first, second = (np.uint64(min(limit, END - 1)) for limit in self.limits[label])
                    mine = codes == code
                    places[mine] = (hashes[mine] >= first).astype(np.int8) + (hashes[mine] >= second)
        _overrule(places, hashes, self.units)
        return self._spread(places, hashes, before or Counter())

    def keeping(self, same: dict[int, int], mixed: dict[int, str]) -> Plan:
        """A plan by which pictures go with their groups; those of several classes where a group's {class} goes."""
        units = {value: self._split_of(value, label) for value, label in mixed.items()}
        return replace(self, units=units | self.units, same=same)

    def _split_of(self, value: int, label: str) -> int:
        if label in self.limits:
            return sum(value >= limit for limit in self.limits[label])
        return int(_by_shares(np.array([value], np.uint64), self.shares)[0])

    def _strata(self, target: pa.ChunkedArray, data: Data) -> tuple[list[str], np.ndarray]:
        if self.edges:
            numbers = target.to_numpy(zero_copy_only=False)
            return list(map(str, range(len(self.edges) + 1))), np.searchsorted(self.edges, numbers, side="right")
        return _labels(target, data)

    def _spread(self, places: np.ndarray, hashes: np.ndarray, before: Counter[int]) -> np.ndarray:
        """The k-th copy of a row that is spread goes where the k-th place is; which is which does not matter."""
        for number in np.flatnonzero(np.isin(np.fromiter(self.spread, np.uint64), hashes)) if self.spread else ():
            value = list(self.spread)[number]
            mine = np.flatnonzero(hashes == np.uint64(value))
            order = before[value] + np.arange(len(mine))
            places[mine] = np.searchsorted(np.cumsum(self.spread[value]), order, side="right").clip(0, 2)
        return places


def replaced(hashes: np.ndarray, others: dict[int, int]) -> np.ndarray:
    """Hashes → the same, but for those that others take the place of."""
    if not others:
        return hashes
    keys = np.array(sorted(others), np.uint64)
    values = np.array([others[int(key)] for key in keys], np.uint64)
    at = np.minimum(np.searchsorted(keys, hashes), len(keys) - 1)
    return np.where(keys[at] == hashes, values[at], hashes)


def plan(tallied: Tally, counts: Counter[int], data: Data) -> Plan:
    """The tally of all rows, and how often the frequent ones occur, where rows are many → the plan."""
    if tallied.rows < EXACT_ROWS:
        counts = Counter() if data.id else sum((held for held in tallied.units.values() if held), Counter())
    shares = (data.split.train, data.split.validation, data.split.test)
    if tallied.grouped:
        return Plan(shares, units=_assigned(tallied, shares))
    if data.task == "image":  # equal pictures stay together
        spread, giants = {}, {h: 0 for h, n in counts.items() if n > _large(tallied, shares)}
    else:
        spread, giants = _spread_counts(tallied, counts, shares), {}
    apart = {*spread, *giants}
    if tallied.rows >= EXACT_ROWS:
        return Plan(shares, None, _watched(tallied, shares, apart), units=giants, spread=spread)
    edges, strata = _ranges(tallied) if tallied.targets else ((), tallied.units)
    kept = {s: Counter({h: n for h, n in held.items() if h not in apart}) for s, held in strata.items() if held}
    pooled = {s for s in kept if len(kept) > 1 and tallied.strata[s] < POOLED_ROWS} if not edges else set()
    limits = _cuts({s: held for s, held in kept.items() if held and s not in pooled}, shares)
    chosen = Plan(shares, None, limits, edges, _pool([kept[s] for s in sorted(pooled)], shares) | giants, spread)
    if _sound(chosen, kept):
        return chosen
    every = [*kept.values(), Counter({h: counts[h] for h in giants})]
    return Plan(shares, units=_pool(every, shares), spread=spread)


def recipe(chosen: Plan, data: Data) -> dict[str, Any]:
    """A plan and by what rows were split → what is kept of it with a model, whose columns are kept there too."""
    return {"id": data.id, "group": data.group, "time": data.time, "column": data.split_column, **chosen.to_dict()}


def _sound(chosen: Plan, strata: dict[str, Counter[int]]) -> bool:
    """Whether no split is empty."""
    held = set(chosen.units.values())
    held |= {split for counts in chosen.spread.values() for split, count in enumerate(counts) if count}
    for stratum, (first, second) in chosen.limits.items():
        held |= {int(value >= first) + int(value >= second) for value in strata[stratum]}
    return len(held) == 3


def words(chosen: Plan, rows: int) -> list[str]:
    """What a person must know of how the rows were split, as sentences."""
    if not chosen.spread:
        return []
    copies = sum(map(sum, chosen.spread.values()))
    return [
        f"Splits: {copies:,} of {rows:,} rows are copies of {len(chosen.spread):,} rows; they are spread over the "
        f"splits, so that test rows have equals among train rows. If they belong together, set data.id or data.group."
    ]


def by_column(values: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Cells that name a split → its index a row, and which cells name none."""
    text = pc.utf8_lower(pc.utf8_trim_whitespace(pc.cast(as_text(values), pa.string())))
    text = text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text
    place = pc.index_in(text, pa.array(list(SPLIT_WORDS)))
    unknown = place.is_null().to_numpy(zero_copy_only=False)
    indices = np.array(list(SPLIT_WORDS.values()), np.int8)[place.fill_null(0).to_numpy(zero_copy_only=False)]
    return indices, unknown


def moments(values: pa.ChunkedArray) -> np.ndarray:
    """Dates and times in µs, or numbers → float64; missing ones as 0."""
    if pa.types.is_timestamp(values.type):
        values = pc.cast(values, pa.int64())
    return pc.fill_null(pc.cast(values, pa.float64(), safe=False), 0.0).to_numpy()


def by_time(times: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Moments or numbers → split index a row, given the last of train and of validation."""
    return (times > limits[0]).astype(np.int8) + (times > limits[1])


def time_limits(moments: np.ndarray, counts: np.ndarray, data: Data) -> tuple[float, float]:
    """Distinct moments or numbers (sorted) and their row counts → the last of train and of validation.

    Each split has one at least, while there are three.
    """
    done = np.cumsum(counts) / counts.sum()
    last = len(moments) - 1
    train = int(np.searchsorted(done, data.split.train - 1e-12))
    validation = int(np.searchsorted(done, data.split.train + data.split.validation - 1e-12))
    validation = min(max(validation, 1), max(last - 1, 0))
    train = min(train, max(validation - 1, 0))
    return moments[train].item(), moments[validation].item()


def _labels(target: pa.ChunkedArray, data: Data) -> tuple[list[str], np.ndarray]:
    """Targets → the classes' names and the number of each row's; of numbers there is one class."""
    if data.task == "regression":
        return [_ALL], np.zeros(len(target), np.int64)
    encoded = as_text(target.combine_chunks()).dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.fill_null(0).to_numpy().astype(np.int64)


def _joined(one: Counter[int] | None, other: Counter[int] | None) -> Counter[int] | None:
    return None if one is None or other is None else one + other


def _bounded(units: dict[str, Counter[int] | None], rows: int, grouped: bool) -> dict[str, Counter[int] | None]:
    """The units without those of strata that are so many that they need no look."""
    most = EXACT_ROWS if grouped or rows < EXACT_ROWS else WATCHED_ROWS
    size = len if grouped else Counter.total
    return {s: None if held is None or size(held) >= most else held for s, held in units.items()}


def _by_shares(hashes: np.ndarray, shares: Shares) -> np.ndarray:
    share = hashes.astype(np.float64) / 2.0**64
    return (share >= shares[0]).astype(np.int8) + (share >= shares[0] + shares[1])


def _overrule(places: np.ndarray, hashes: np.ndarray, units: dict[int, int]) -> None:
    """Put the rows of single hashes where they belong."""
    if not units:
        return
    keys = np.fromiter(sorted(units), np.uint64)
    values = np.array([units[key] for key in sorted(units)], np.int8)
    at = np.minimum(np.searchsorted(keys, hashes), len(keys) - 1)
    mine = keys[at] == hashes
    places[mine] = values[at[mine]]


def _quotas(rows: int, shares: Shares, before: int = 0) -> tuple[int, int, int]:
    """Rows, with so many before them → how many go to each split: rounded in all, and one at least of `SURE_ROWS`."""
    least = 1 if rows >= SURE_ROWS else 0
    validation, test = (
        max(least, int((before + rows) * share + 0.5) - int(before * share + 0.5)) for share in shares[1:]
    )
    return rows - validation - test, validation, test


def _boundaries(weights: np.ndarray, shares: Shares, before: int = 0) -> tuple[int, int]:
    """Units in order, by their rows → the places of the first unit of validation and of test, nearest to the quotas.

    No split is empty while there are three units, and train never is.
    """
    train, validation, _ = _quotas(int(weights.sum()), shares, before)
    done, units = np.concatenate([[0], np.cumsum(weights)]), len(weights)
    first = int(np.abs(done - train).argmin())
    second = int(np.abs(done - (train + validation)).argmin())
    if units >= 3 and int(weights.sum()) >= SURE_ROWS:
        second = min(max(second, 2), units - 1)
        first = min(max(first, 1), second - 1)
    first = max(first, 1)
    return first, max(first, second)


def _cuts(strata: dict[str, Counter[int]], shares: Shares) -> dict[str, tuple[int, int]]:
    """{stratum: {hash: rows}} → the first hashes of validation and of test in each; together they keep the shares."""
    limits, before = {}, 0
    for stratum in sorted(strata):
        limits[stratum] = _cut(strata[stratum], shares, before)
        before += strata[stratum].total()
    return limits


def _cut(units: Counter[int], shares: Shares, before: int) -> tuple[int, int]:
    hashes = sorted(units)
    first, second = _boundaries(np.array([units[h] for h in hashes]), shares, before)
    return tuple(hashes[i] if i < len(hashes) else END for i in (first, second))  # type: ignore[return-value]


def _pool(classes: list[Counter[int]], shares: Shares) -> dict[int, int]:
    """Classes of very few rows → the split of each row, of all together; the first of each class is in train."""
    first = {min(held) for held in classes if held}
    units: Counter[int] = sum(classes, Counter())
    order = sorted(units, key=lambda h: (h not in first, h))
    if not order:
        return {}
    ends = _boundaries(np.array([units[h] for h in order]), shares)
    return {h: max(int(i >= ends[0]) + int(i >= ends[1]), 0) if h not in first else 0 for i, h in enumerate(order)}


def _ranges(tallied: Tally) -> tuple[tuple[float, ...], dict[str, Counter[int] | None]]:
    """A regression's targets by hash → the edges of ranges of even numbers of rows, and the units of each."""
    assert tallied.targets is not None
    units = tallied.units[_ALL] or Counter()
    values = np.array(sorted(tallied.targets.values()))
    number = int(np.clip(len(values) // RANGE_ROWS, 1, RANGES))
    if number == 1:
        return (), tallied.units
    edges = np.unique(np.quantile(values, np.linspace(0, 1, number + 1)[1:-1]))
    strata: dict[str, Counter[int] | None] = {}
    for value, rows in units.items():
        label = str(int(np.searchsorted(edges, tallied.targets[value], side="right")))
        strata.setdefault(label, Counter())[value] = rows  # type: ignore[index]
    return tuple(map(float, edges)), strata


def _large(tallied: Tally, shares: Shares) -> float:
    """Of so many rows are two validation splits: what belongs together and is more is in train."""
    return 2 * min(shares[1:]) * tallied.rows


def _watched(tallied: Tally, shares: Shares, apart: set[int]) -> dict[str, tuple[int, int]]:
    """The limits of rare classes of which a split would hold no row: as near to the common ones as serves.

    Hashes that are placed `apart` count for none.
    """
    limits = {}
    for stratum, held in tallied.units.items():
        hashes = np.array(sorted(h for h in held if h not in apart), np.uint64) if held else np.array([], np.uint64)
        if len(hashes) < 3 or tallied.strata[stratum] < SURE_ROWS:
            continue
        sizes = np.bincount(_by_shares(hashes, shares), minlength=3)
        if sizes.all():
            continue
        second = min(max(int(sizes[:2].sum()), 2), len(hashes) - 1)
        first = min(max(int(sizes[0]), 1), second - 1)
        limits[stratum] = (int(hashes[first]), int(hashes[second]))
    return limits


def _spread_counts(tallied: Tally, counts: Counter[int], shares: Shares) -> dict[int, tuple[int, int, int]]:
    """How many copies of each recurring row go to each split; none if the splits are sound with copies together."""
    rows = max(tallied.rows, 1)
    frequent = {h: n for h, n in counts.items() if n >= max(2, HEAVY_SHARE * rows)}
    concentration = sum((n / rows) ** 2 for n in frequent.values())
    spread = {}
    if concentration > max(1 / MIN_EFFECTIVE, 2 / rows):
        spread = {h: n for h, n in frequent.items() if n >= SURE_ROWS}
    for stratum, held in tallied.units.items():  # a class of one or two distinct rows
        if held is not None and len(held) < 3 and tallied.strata[stratum] >= SURE_ROWS and not tallied.targets:
            spread |= {h: n for h, n in held.items() if n >= SURE_ROWS // 2 and h in counts}
    return {h: _quotas(n, shares) for h, n in sorted(spread.items())}


def _assigned(tallied: Tally, shares: Shares) -> dict[int, int]:
    """Groups → the split of each, by rows; none if they are so many that their hashes' limits do.

    A group larger than two validation splits is in train. A class of `SURE_ROWS` groups is in every split.
    """
    if any(held is None for held in tallied.units.values()):
        return {}
    groups: Counter[int] = sum((held for held in tallied.units.values() if held), Counter())
    if len(groups) >= EXACT_ROWS:
        return {}
    giants = [h for h in groups if groups[h] > _large(tallied, shares)] if len(groups) > 3 else []
    order = sorted(groups, key=lambda h: (h not in giants, h))
    first, second = _boundaries(np.array([groups[h] for h in order]), shares)
    first = max(first, min(len(giants), len(order) - 2))
    second = max(second, first + 1) if len(order) >= 3 else max(second, first)
    assigned = {h: int(i >= first) + int(i >= second) for i, h in enumerate(order)}
    for stratum in sorted(tallied.strata):
        _represent(assigned, sorted(tallied.units[stratum] or ()), groups)
    return assigned


def _represent(assigned: dict[int, int], mine: list[int], groups: Counter[int]) -> None:
    """Let a class of many groups be in every split: of a split that has several, the smallest group moves."""
    if len(mine) < SURE_ROWS:
        return
    for split in range(3):
        held = Counter(assigned[h] for h in mine)
        if not held[split]:
            donor = max(range(3), key=lambda i: held[i])
            assigned[min((h for h in mine if assigned[h] == donor), key=lambda h: (groups[h], h))] = split


def _column_hash(column: pa.ChunkedArray) -> np.ndarray:
    """Pandas' documented, platform-independent hash of the values; missing ones get a constant."""
    if pa.types.is_binary(column.type) and isinstance(column, pa.ChunkedArray) and column.num_chunks > 1:
        return np.concatenate([_column_hash(chunk) for chunk in column.chunks])  # one array may not hold them all
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    missing = column.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
        encoded = column.dictionary_encode()
        texts = encoded.dictionary.to_numpy(zero_copy_only=False)
        texts = np.array([t.hex() if isinstance(t, bytes) else t for t in texts], dtype=object)
        hashes = pd.util.hash_array(texts, categorize=False) if len(texts) else np.zeros(1, np.uint64)
        values = hashes[encoded.indices.fill_null(0).to_numpy()]
    elif pa.types.is_timestamp(column.type):
        values = pd.util.hash_array(column.cast(pa.int64()).fill_null(0).to_numpy())
    else:
        numbers = column.cast(pa.float64()).fill_null(0.0).to_numpy() + 0.0  # -0.0 becomes 0.0
        values = pd.util.hash_array(numbers)
    return np.where(missing, _MISSING, values)


def _mix(x: np.ndarray) -> None:
    """The finaliser of SplitMix64, in place: every input bit moves every output bit."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)


SPLIT_INDEX = {name: index for index, name in enumerate(names.SPLITS)}
UNPLACED = len(SPLIT_INDEX)  # the place of a row that is in no split: quarantined, or not placed yet
