"""A dataset in, the page of its profile and the figure of its target out: what ingest logs for people."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from baton import names
from baton.config.schema import Config
from baton.data.dataset import Dataset
from baton.reporting.figures import data, pictures
from baton.reporting.html.pages import figure_uri
from baton.reporting.html.profile import profile_page

MAX_DRAWN = 1_000_000  # rows whose targets a figure shows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def of_dataset(config: Config, dataset: Dataset, reasons: Counter[str]) -> tuple[str, dict[str, Figure]]:
    """A dataset and its quarantine reasons → the page, and the figures that it shows: the target, odd pictures."""
    columns = json.loads((dataset.folder / names.PROFILE).read_text())
    preprocessor = dataset.preprocessor
    entry = columns[preprocessor.target]
    if preprocessor.classes:
        drawn = data.target(None, entry["top"], preprocessor.target)
    else:
        drawn = data.target(_targets(dataset), None, preprocessor.target, dataset.rows["train"])
    if (found := dataset.folder / names.PICTURES).is_file():
        drawn |= pictures.gallery(json.loads(found.read_text()))
    uris = {name: figure_uri(figure) for name, figure in drawn.items()}
    table = json.loads((dataset.folder / names.COLUMNS).read_text())
    return profile_page(config.name, dataset.manifest, columns, table, dict(reasons), uris), drawn


def _targets(dataset: Dataset) -> np.ndarray:
    """The train rows' targets; of many rows evenly spaced ones, `MAX_DRAWN` at most: memory does not grow with them."""
    column, step = dataset.preprocessor.target_encoded, -(-dataset.rows["train"] // MAX_DRAWN)
    taken, at = list[np.ndarray](), 0
    for file in dataset.files("train"):
        for batch in pq.ParquetFile(file).iter_batches(1 << 16, columns=[column]):
            taken.append(batch.column(0).to_numpy()[-at % step :: step].copy())
            at += batch.num_rows
    return np.concatenate(taken)
