"""A function of players in, each player's share of its output out: Shapley values by sampling permutations.

A player of the explained row takes the place of the background row's, one after the other in a random
order, and each is given the change of the output that its turn makes (Štrumbelj and Kononenko, 2014).
Every background row is met by one order and by its reverse (antithetic, as in SHAP's permutation
explainer, Lundberg and Lee, 2017), so the shares of a row add up to its output minus the mean output
of the background, exactly. How many background rows there is time for is planned before the first row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from baton.errors import OverBudget

# Explained rows [n], background rows [n], mask [n, players], true where the explained row's player plays → output
# [n, k].
Game = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


PROBED = 256  # outputs that tell what one costs
CAUTION = 0.8  # of the seconds that are left, what is planned with
WANTED_ROWS = 4  # to show one by one: for fewer than these, background rows are left out
MIN_BACKGROUND = 5


@dataclass(frozen=True)
class Attributions:
    """Shares [rows, players, k], the rows' outputs [rows, k] and those of the background rows [background, k]."""

    shares: np.ndarray
    outputs: np.ndarray
    absent: np.ndarray

    @property
    def base(self) -> np.ndarray:
        """The mean output of the background [k]."""
        return self.absent.mean(axis=0)


def sampled(
    game: Game, rows: int, background: int, players: int, seed: int, batch: int, deadline: float
) -> Attributions:
    """A game of so many rows and players → `Attributions` of the first rows, as many as are done by the deadline.

    `batch` is how many outputs the game is asked for at once. The deadline is one of `time.monotonic`; if
    there is no time for all background rows, the first of them are met. Raises `OverBudget` if there
    is none for a single row against a few.
    """
    background = _affordable_background(game, rows, background, players, batch, deadline)
    absent = _ends(game, np.zeros(background, int), np.arange(background), players, batch, plays=False)
    sums = np.zeros((rows, players, absent.shape[1]))
    outputs = np.zeros((rows, absent.shape[1]))
    pairs, slowest = 0, 0.0
    for part in _batches(rows * background, max(1, batch // max(2 * (players - 1), 1))):
        started = time.monotonic()
        if started + slowest * len(part) > deadline:
            break
        row, other = part // background, part % background
        new = np.unique(row[other == 0])
        outputs[new] = _ends(game, new, np.zeros(len(new), int), players, batch, plays=True)
        orders = np.random.default_rng([seed, int(part[0])]).random((len(part), players)).argsort(axis=1)
        np.add.at(sums, row, _gains(game, row, other, orders, outputs[row], absent[other], batch))
        pairs = int(part[-1]) + 1
        slowest = max(slowest, (time.monotonic() - started) / len(part))
    return _of_whole_rows(sums, outputs, absent, pairs)


def _affordable_background(game: Game, rows: int, background: int, players: int, batch: int, deadline: float) -> int:
    """How many of the background rows there is time for; raises `OverBudget` if those are too few to mean anything."""
    pair = 2 * max(players - 1, 1) * _seconds_per_output(game, background, players, min(batch, PROBED))
    left = deadline - time.monotonic()
    pairs = int(CAUTION * left / pair) if pair > 0 else rows * background
    least = min(MIN_BACKGROUND, background)
    if left <= 0 or pairs < least:
        raise OverBudget(
            f"one row of {players:,} columns against {least} background rows would take about "
            f"{pair * least / CAUTION:.2g} s, and {max(left, 0.0):.2g} s are left."
        )
    return max(least, min(background, pairs // min(rows, WANTED_ROWS)))


def _seconds_per_output(game: Game, background: int, players: int, outputs: int) -> float:
    """What an output takes, the lesser of two tries, once the game is warm: the first call traces the network."""
    row, other = np.zeros(outputs, int), np.arange(outputs) % background
    mask = np.arange(outputs)[:, None] % 2 == np.arange(players) % 2
    game(row[:1], other[:1], mask[:1])
    moments = [time.monotonic()]
    for _ in range(2):
        game(row, other, mask)
        moments.append(time.monotonic())
    return float(np.diff(moments).min()) / outputs


def _of_whole_rows(sums: np.ndarray, outputs: np.ndarray, absent: np.ndarray, pairs: int) -> Attributions:
    """Sums of gains over so many pairs → the rows that are done; a first row that is not, by what it has met."""
    background = len(absent)
    if 0 < pairs < background:
        background = pairs
    if pairs < min(MIN_BACKGROUND, len(absent)):
        raise OverBudget(f"the time was over when the first row had met {pairs} background rows.")
    done = pairs // background
    return Attributions(sums[:done] / background, outputs[:done], absent[:background])


def _ends(game: Game, rows: np.ndarray, others: np.ndarray, players: int, batch: int, *, plays: bool) -> np.ndarray:
    """The outputs of rows as they are, or of background rows where nobody plays [n, k]."""
    parts = [
        game(rows[part], others[part], np.full((len(part), players), plays)) for part in _batches(len(rows), batch)
    ]
    return np.concatenate(parts).astype(np.float64) if parts else np.zeros((0, 1))


def _gains(
    game: Game, row: np.ndarray, other: np.ndarray, orders: np.ndarray, outputs: np.ndarray, absent: np.ndarray,
    batch: int,
) -> np.ndarray:  # fmt: skip
    """Pairs of rows and an order of the players each → what each player gains [pairs, players, k]."""
    pairs, players = orders.shape
    ranks = orders.argsort(axis=1).astype(np.int32)
    both = np.stack([ranks, players - 1 - ranks], axis=1).reshape(-1, players)  # each order, and its reverse
    walks = np.empty((pairs, 2, players + 1, outputs.shape[1]))
    walks[:, :, 0], walks[:, :, -1] = absent[:, None], outputs[:, None]
    inner = walks.reshape(-1, players + 1, outputs.shape[1])
    for part in _batches(len(both) * (players - 1), batch):  # masks of all turns at once would fill the memory
        walk, turn = np.divmod(part, players - 1)
        inner[walk, turn + 1] = game(row[walk // 2], other[walk // 2], both[walk] <= turn[:, None])
    steps = np.diff(walks, axis=2)
    forward = np.take_along_axis(steps[:, 0], ranks[:, :, None], axis=1)
    backward = np.take_along_axis(steps[:, 1], (players - 1 - ranks)[:, :, None], axis=1)
    return (forward + backward) / 2


def _batches(count: int, size: int) -> Iterator[np.ndarray]:
    return (np.arange(start, min(start + size, count)) for start in range(0, count, size))
