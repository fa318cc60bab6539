"""A table of every kind of column, and what a figure says: shared by the tests of explanation and label audit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
from matplotlib.text import Text

from baton.reporting.html import pages


def mixed_table(rows: int = 400) -> pa.Table:
    """Every kind of column, each with missing cells, and a target that hangs on all of them."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "size": rng.normal(50, 20, rows).round(3),
            "count": rng.integers(0, 9, rows),
            "flag": rng.random(rows) < 0.5,
            "city": rng.choice(["Oslo", "Rome", "$a_{b}$"], rows),
            "at": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300 * 24 * 60, rows), "min"),
        }
    )
    y = frame["size"] + 20 * frame["flag"] + 30 * (frame["city"] == "Rome") + 3 * frame["at"].dt.hour
    gone = rng.random((rows, 5)) < 0.1
    columns = {name: pa.array(frame[name].to_numpy(), mask=gone[:, i]) for i, name in enumerate(frame)}
    return pa.table(columns | {"y": y + rng.normal(0, 1, rows)})


def said(figure) -> str:
    """Everything a figure says, after it has been drawn."""
    assert pages.figure_uri(figure).startswith("data:image/png;base64,")
    return " ".join(artist.get_text() for artist in figure.findobj(Text))
