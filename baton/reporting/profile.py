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
        drawn = data.target(_targets(dataset), None, preprocessor.target)
    if (found := dataset.folder / names.PICTURES).is_file():
        drawn |= pictures.gallery(json.loads(found.read_text()))
    uris = {name: figure_uri(figure) for name, figure in drawn.items()}
    table = json.loads((dataset.folder / names.COLUMNS).read_text())
    return profile_page(config.name, dataset.manifest, columns, table, dict(reasons), uris), drawn


def _targets(dataset: Dataset) -> np.ndarray:
    """The train rows' targets [rows]."""
    column = dataset.preprocessor.target_encoded
    return np.concatenate([pq.read_table(f, columns=[column])[column].to_numpy() for f in dataset.files("train")])
