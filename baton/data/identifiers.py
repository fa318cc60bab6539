"""A feature of whole numbers and the train rows in, whether the numbers seem to name something out, and words for it.

A network takes what is near in number for alike, which the numbers of routes, shops or districts are not: learnt as a
category too, such a column tells more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from baton.config.schema import Data
from baton.data.columns import Column
from baton.data.explained import MIN_ROWS, as_columns, group_error
from baton.data.reference import as_numbers
from baton.data.statistics import Summary

# What a name ends with, as a word of its own, that speaks of a number that names.
WORDS = {"id", "ids", "code", "number", "num", "no", "nr", "key", "zip", "zipcode", "postcode", "postal", "plz"}
WORDS |= {"route", "sku", "fips", "tract", "ean", "isbn", "uid", "pid"}
THINGS = "user|item|store|shop|unit|county|state|city|customer|client|product|route|region|station|school|team|player"
JOINED = re.compile(rf"({THINGS}|zip|postal)(id|no|nr|number|code|fips)$")
MIN_VALUES, VALUE_ROWS = 50, 3  # fewer values the network sees one by one anyhow; fewer rows a value say nothing of it
LOOKED_AT = 20_000  # train rows
RANGES = 32  # of a number, as many as the network sees
MORE = 0.1  # of the target's variation is told more by the values than by their ranges


@dataclass(frozen=True)
class Identity:
    """That a feature's numbers name something: how many there are, and what each and their ranges tell of the target.

    `by_value` and `by_range` are shares of the target's variation.
    """

    values: int
    by_value: float
    by_range: float


def identity(column: Column, train: Summary, data: Data) -> Identity | None:
    """A feature → that it names something, by its name and by what its values tell of the target; else None.

    What `data.kinds` says of a column is left as it is, and so are all where `data.rows_per_value` is 0.
    """
    name = column.name
    if column.kind != "numeric" or name in data.kinds or not data.rows_per_value or not speaks_of_names(name):
        return None
    rows = train.sample.slice(0, LOOKED_AT).select([name, data.target]).drop_null()
    numbers = as_numbers(rows.column(name).combine_chunks()) if rows.num_rows >= MIN_ROWS else np.zeros(0)
    values, codes = np.unique(numbers, return_inverse=True)
    if not MIN_VALUES <= len(values) <= len(numbers) / VALUE_ROWS or (values != np.floor(values)).any():
        return None
    by_value, by_range = shares(codes, as_columns(rows.column(data.target)))
    return None if by_value < by_range + MORE else Identity(len(values), by_value, by_range)


def words(column: Column, train: Summary, data: Data) -> list[str]:
    """A feature → what a person must know of it if it names something."""
    found = identity(column, train, data)
    if found is None:
        return []
    return [
        f"{column.name}: {found.values:,} whole numbers that seem to name something: each by itself tells "
        f"{100 * found.by_value:.0f} % of {data.target}'s variation, their size {100 * max(found.by_range, 0):.0f} %; "
        f"so each is learnt as a category too. If they measure, set data.kinds: {{{column.name}: numeric}}; if most "
        f"new rows will be of others, data.group: {column.name}."
    ]


def speaks_of_names(name: str) -> bool:
    """Whether a column's name ends as those of identifiers do: store_id, zipCode, route, but not paid or rooms."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)
    return bool(words) and (words[-1].lower() in WORDS or JOINED.search(name.lower()) is not None)


def shares(codes: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Places of numbers in their order [rows] and targets [rows, k] → the share of the targets' variation that the
    numbers explain one by one, and in ranges of about as many rows; each row left out itself.
    """
    total = float(((targets - targets.mean(axis=0)) ** 2).sum())
    if not total:
        return 0.0, 0.0
    edges = np.unique(np.quantile(codes, np.arange(1, RANGES) / RANGES))
    ranges = np.unique(np.searchsorted(edges, codes, side="right"), return_inverse=True)[1]
    return 1 - group_error(codes, targets) / total, 1 - group_error(ranges, targets) / total
