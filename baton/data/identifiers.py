"""A feature of whole numbers and the train rows in, a warning out if the numbers seem to name something.

A network takes what is near in number for alike, which the numbers of routes, shops or districts are not: as a category
such a column tells more.
"""

from __future__ import annotations

import re

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


def numbers_that_name(column: Column, train: Summary, data: Data) -> list[str]:
    """A numeric feature → a warning if its name and what its values tell of the target are those of an identifier."""
    name = column.name
    if column.kind != "numeric" or name in data.kinds or not speaks_of_names(name):
        return []
    rows = train.sample.slice(0, LOOKED_AT).select([name, data.target]).drop_null()
    numbers = as_numbers(rows.column(name).combine_chunks()) if rows.num_rows >= MIN_ROWS else np.zeros(0)
    values, codes = np.unique(numbers, return_inverse=True)
    if not MIN_VALUES <= len(values) <= len(numbers) / VALUE_ROWS or (values != np.floor(values)).any():
        return []
    by_value, by_range = shares(codes, as_columns(rows.column(data.target)))
    if by_value < by_range + MORE:
        return []
    return [
        f"{name}: {len(values):,} whole numbers that seem to name something: each by itself tells "
        f"{100 * by_value:.0f} % of {data.target}'s variation, their size {100 * max(by_range, 0):.0f} %; if they do, "
        f"set data.kinds: {{{name}: categorical}}."
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
