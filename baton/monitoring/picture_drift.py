"""What a network makes of the pictures it was judged by and of scored ones in, how far they lie apart out.

A picture is what the network's last layer sees of it: its features. A new one is as strange as its features are far
from the nearest of those that travel with the model (Sun et al., "Out-of-distribution detection with deep nearest
neighbors", 2022, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from baton import names
from baton.config.schema import Drift
from baton.data import reference as references
from baton.data.columns import typed
from baton.data.feed import Feed
from baton.data.preprocessing import Preprocessor
from baton.data.reference import ReferenceData
from baton.data.row_parts import picture_rows
from baton.monitoring import drift
from baton.networks.penultimate import directions, penultimate
from baton.networks.prediction import predict

MAX_PICTURES = 1000  # of each side
MAX_VALUES = 1 << 19  # of all features that travel: 2 MB
NEIGHBOURS = 5  # the distance is that to the fifth: a single odd picture makes no others of its kind usual
COMPONENTS = 64  # of wider features, what the classifier sees
STRANGEST = 12
BUFFER = 1 << 20  # bytes of a column of pictures that are read at once
DISTANCE = "distance of pictures"


@dataclass(frozen=True)
class SeenPictures:
    """Scored pictures, some of all: their numbers among these, their predictions, and features [n, d]."""

    rows: np.ndarray
    predictions: list[Any]
    features: np.ndarray


def to_travel(network: Any, feed: Feed, most: int) -> np.ndarray | None:
    """A network and rows that it has not learnt → features of some [n, d], at even distances; None of too few."""
    seeing = penultimate(network)
    kept = min(most, feed.rows, MAX_PICTURES, MAX_VALUES // seeing.output_shape[-1])
    if kept < drift.MIN_ROWS:
        return None
    wanted, parts, start = np.arange(kept) * feed.rows // kept, [], 0
    for piece in feed.in_order():
        end = start + len(piece["target"])
        inside = wanted[(wanted >= start) & (wanted < end)] - start
        parts.append(predict(seeing, {each.name: piece[each.name][inside] for each in seeing.inputs}))
        start = end
    return np.concatenate(parts)


def seen(network: Any, preprocessor: Preprocessor, folder: Path, most: int) -> SeenPictures:
    """A folder of predictions → what the network sees of at most so many of its pictures, one of every so many."""
    seeing, parts, predictions = penultimate(network), list[np.ndarray](), list[Any]()
    total = sum(pq.ParquetFile(path).metadata.num_rows for path in sorted(folder.glob("*.parquet")))
    rows = drift.chosen(total, min(most, MAX_PICTURES))
    for table in _taken(folder, preprocessor, rows):
        blocks = _blocks(table, preprocessor)
        parts.append(predict(seeing, {each.name: blocks[each.name] for each in seeing.inputs}))
        predictions += table.column(names.PREDICTION).to_pylist()
    return SeenPictures(rows, predictions, np.concatenate([np.zeros((0, seeing.output_shape[-1])), *parts]))


def of_scored(
    reference: ReferenceData | None, network: Any, preprocessor: Preprocessor, folder: Path, settings: Drift
) -> dict[str, Any] | None:
    """What travels with a model, its network, and a folder of predictions → `pictures` of drift.json.

    None where no features travel, or too few pictures were scored.
    """
    if reference is None or reference.picture_features is None or network is None:
        return None
    return measure(reference.picture_features, seen(network, preprocessor, folder, settings.rows), settings)


def pixels_of(preprocessor: Preprocessor, folder: Path, rows: np.ndarray) -> dict[int, np.ndarray]:
    """A folder of predictions and numbers of its rows → {number: its picture [h, w, c], as the network sees it}."""
    wanted = np.unique(rows)
    pictures = [_blocks(table, preprocessor)["image"] for table in _taken(folder, preprocessor, wanted)]
    return dict(zip(wanted.tolist(), (pixels for part in pictures for pixels in part), strict=True))


def measure(reference: np.ndarray, now: SeenPictures, settings: Drift) -> dict[str, Any] | None:
    """Features that travelled [n, d] and scored pictures → `pictures` of drift.json; None with too few of these."""
    if len(now.rows) < drift.MIN_ROWS:
        return None
    own, others = _distances(reference, reference, itself=True), _distances(reference, now.features)
    profile = references.of_values(pa.array(own))
    compared = drift.compare(DISTANCE, profile, pa.chunked_array([others]), settings, drift.SIGNIFICANCE)
    strangest = np.argsort(-others, kind="stable")[:STRANGEST]
    return {
        "rows": len(now.rows),
        "reference_rows": len(reference),
        "distance": asdict(compared),
        "domain_auc": _domain_auc(reference, now.features, settings),
        "strangest": [
            {
                "row": int(now.rows[i]),
                "prediction": now.predictions[i],
                "distance": float(others[i]),
                "farther_than": float(np.mean(own < others[i])),
            }
            for i in strangest
        ],
    }


def _domain_auc(reference: np.ndarray, now: np.ndarray, settings: Drift) -> dict[str, Any]:
    from sklearn.decomposition import PCA

    rows = min(len(reference), len(now))
    rng = np.random.default_rng(0)
    x = np.concatenate([side[np.sort(rng.permutation(len(side))[:rows])] for side in (reference, now)])
    if x.shape[1] > COMPONENTS:
        x = PCA(min(COMPONENTS, len(x)), svd_solver="randomized", random_state=0).fit_transform(x)
    return drift.told_apart(x, [False] * x.shape[1], settings)


def _distances(reference: np.ndarray, features: np.ndarray, *, itself: bool = False) -> np.ndarray:
    """Features [n, d] and [m, d], by their directions → how far each of [m] is from its neighbours in [n]."""
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=NEIGHBOURS + itself, n_jobs=1).fit(directions(reference))
    return near.kneighbors(directions(features))[0][:, -1].astype(np.float64)


def _taken(folder: Path, preprocessor: Preprocessor, rows: np.ndarray) -> Iterator[pa.Table]:
    """A folder of predictions → features and prediction of the rows of these numbers, in order, some at a time."""
    start, at_once = 0, picture_rows(preprocessor.image_shape)
    columns = [*(column.name for column in preprocessor.features), names.PREDICTION]
    for path in sorted(folder.glob("*.parquet")):
        for batch in pq.ParquetFile(path, buffer_size=BUFFER).iter_batches(at_once, columns=columns):
            mine = rows[(rows >= start) & (rows < start + batch.num_rows)] - start
            if len(mine):
                yield pa.Table.from_batches([batch]).take(pa.array(mine))
            start += batch.num_rows


def _blocks(table: pa.Table, preprocessor: Preprocessor) -> dict[str, Any]:
    rows, _ = typed(table, preprocessor.features, target=None)  # none has a reason: they were scored
    return preprocessor.blocks(preprocessor.encode(rows))
