"""A function of players in, each player's share of its output out: Shapley values by sampling permutations.

A player of the explained row takes the place of the background row's, one after the other in a random
order, and each is given the change of the output that its turn makes (Štrumbelj and Kononenko, 2014).
Every background row is met by one order and by its reverse (antithetic, as in SHAP's permutation
explainer, Lundberg and Lee, 2017), so the shares of a row add up to its output minus the mean output
of the background, exactly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

# Explained rows [n], background rows [n], mask [n, players], true where the explained row's player plays → output
# [n, k].
Game = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Attributions:
    """Shares [rows, players, k], the rows' outputs [rows, k] and the mean output of the background [k]."""

    shares: np.ndarray
    outputs: np.ndarray
    base: np.ndarray


def sampled(
    game: Game, rows: int, background: int, players: int, seed: int, batch: int, deadline: float
) -> Attributions:
    """A game of so many rows and players → `Shares` of the first rows, as many as are done by the deadline.

    `batch` is how many outputs the game is asked for at once, at least a pair of orders; at the
    deadline (`time.monotonic`) the row that was begun is finished, so there is always one.
    """
    alone, absent = _ends(game, rows, background, players, batch)
    shares = np.zeros((rows, players, alone.shape[1]))
    done = 0
    for pairs in _batches(rows * background, max(1, batch // max(2 * (players - 1), 1))):
        row, other = pairs // background, pairs % background
        orders = np.random.default_rng([seed, int(pairs[0])]).random((len(pairs), players)).argsort(axis=1)
        gains = _gains(game, row, other, orders, alone[row], absent[other])
        np.add.at(shares, row, gains / background)
        done = int(pairs[-1] + 1) // background
        if done and time.monotonic() > deadline:
            break
    return Attributions(shares[:done], alone[:done], absent.mean(axis=0))


def _ends(game: Game, rows: int, background: int, players: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """The outputs of the explained rows as they are, and of the background rows."""
    zero = np.zeros(rows, int)
    alone = [game(part, zero[: len(part)], np.ones((len(part), players), bool)) for part in _batches(rows, batch)]
    parts = _batches(background, batch)
    absent = [game(np.zeros(len(part), int), part, np.zeros((len(part), players), bool)) for part in parts]
    return np.concatenate(alone).astype(np.float64), np.concatenate(absent).astype(np.float64)


def _gains(
    game: Game, row: np.ndarray, other: np.ndarray, orders: np.ndarray, outputs: np.ndarray, absent: np.ndarray
) -> np.ndarray:
    """Pairs of rows and an order of the players each → what each player gains [pairs, players, k]."""
    pairs, players = orders.shape
    ranks = orders.argsort(axis=1)
    turns = np.arange(1, players)[None, :, None]
    masks = np.stack([ranks[:, None] < turns, players - 1 - ranks[:, None] < turns], axis=1)  # the order, its reverse
    repeated = 2 * (players - 1)
    found = game(np.repeat(row, repeated), np.repeat(other, repeated), masks.reshape(-1, players))
    walks = np.empty((pairs, 2, players + 1, outputs.shape[1]))
    walks[:, :, 0], walks[:, :, -1] = absent[:, None], outputs[:, None]
    walks[:, :, 1:-1] = found.reshape(pairs, 2, players - 1, outputs.shape[1])
    steps = np.diff(walks, axis=2)
    forward = np.take_along_axis(steps[:, 0], ranks[:, :, None], axis=1)
    backward = np.take_along_axis(steps[:, 1], (players - 1 - ranks)[:, :, None], axis=1)
    return (forward + backward) / 2


def _batches(count: int, size: int) -> Iterator[np.ndarray]:
    return (np.arange(start, min(start + size, count)) for start in range(0, count, size))
