"""A table as people really have it: numbers, dates and identifiers in text, written as Europeans write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

CLASSES = ("None", "NA", "severe")


def european(values: np.ndarray, unit: str = "") -> list[str]:
    """Numbers → 1.234,50 and the unit."""
    return [f"{value:,.2f}".translate(str.maketrans(",.", ".,")) + unit for value in values]


def frame(rows: int, seed: int = 8) -> pd.DataFrame:
    """Text columns; the class hangs on `revenue`, `day` and `rate`, none of which a plain reader takes for a number."""
    rng = np.random.default_rng(seed)
    revenue, rate = rng.lognormal(7, 1, rows), rng.uniform(0, 100, rows)
    days = rng.integers(0, 700, rows)
    score = (np.log(revenue) - 7) + (rate - 50) / 30 + (days - 350) / 200
    dates = pd.Timestamp("2022-01-01") + pd.to_timedelta(days, "D")
    return pd.DataFrame(
        {
            "zip": [f"{number:05d}" for number in rng.integers(501, 99_999, rows)],
            "order": [str(number) for number in rng.integers(10**18, 9 * 10**18, rows)],
            "revenue": european(revenue, " €"),
            "rate": ["?" if rng.random() < 0.04 else f"{value:.1f} %".replace(".", ",") for value in rate],
            "day": dates.strftime("%d.%m.%Y"),
            "since": [f"{date:%Y-%m-%d}T08:00:00+02:00" for date in dates],
            "severity": np.select([score < -0.7, score < 0.7], CLASSES[:2], CLASSES[2]),
        }
    )


def write(folder: Path, table: pd.DataFrame) -> str:
    """As CSV with semicolons, in a folder a region, the second file packed."""
    for number, (region, part) in enumerate((("north", table.iloc[::2]), ("south", table.iloc[1::2]))):
        place = folder / f"region={region}"
        place.mkdir(parents=True)
        part.to_csv(place / ("rows.csv.gz" if number else "rows.csv"), sep=";", index=False)
    return str(folder)
