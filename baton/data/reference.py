"""What the train rows were like, small enough to travel with the model: batch_infer compares new rows with it.

One Parquet file beside the preprocessing: its rows are a sample of the train split's feature columns, its
metadata holds each column's counts and quantiles, and those of the model's predictions on validation. Of pictures no
pixel travels: a model has a file more, of the features that its network finds in some of them.
It is data, read by Baton's own code; a dataset or a model from before has none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from baton import names
from baton.data.columns import Column, as_text
from baton.data.preprocessing import Preprocessor
from baton.data.statistics import Summary
from baton.errors import BadInput

KEY = b"baton"  # of the file's metadata
STEPS = 250  # between the quantiles that are kept
MAX_CATEGORIES = 10_000


@dataclass(frozen=True)
class ColumnProfile:
    """What is kept of a column: `knots` are a number's quantiles (dates in µs), `counts` categories and their rows.

    `single` is the number of categories that occurred once; `sampled` the rows that the knots stand for.
    """

    kind: str  # numeric | boolean | categorical | datetime
    rows: int
    missing: int
    sampled: int = 0
    knots: tuple[float, ...] = ()
    counts: dict[str, int] | None = None
    single: int = 0

    @property
    def present(self) -> int:
        return self.rows - self.missing


@dataclass(frozen=True)
class ReferenceData:
    """A sample of the train rows (typed features), each column's `Profile`, and that of validation's predictions.

    Of at most so many `pictures` the features may travel, which a model has as `picture_features` [n, d].
    """

    rows: pa.Table
    columns: dict[str, ColumnProfile]
    prediction: ColumnProfile | None = None
    pictures: int = 0
    picture_features: np.ndarray | None = field(default=None, compare=False)

    def predicting(self, values: pa.Array) -> ReferenceData:
        """The same with the profile of a model's predictions."""
        return replace(self, prediction=of_values(values))

    def save(self, folder: Path) -> None:
        plain: dict[str, Any] = {"columns": {name: vars(profile) for name, profile in self.columns.items()}}
        plain["prediction"] = vars(self.prediction) if self.prediction else None
        plain["pictures"] = self.pictures
        pq.write_table(
            self.rows.replace_schema_metadata({KEY: json.dumps(plain)}),
            folder / names.TRAINED_ON,
            compression="zstd",
        )
        if self.picture_features is not None:
            np.save(folder / names.PICTURE_FEATURES, self.picture_features.astype(np.float32), allow_pickle=False)


def load(folder: Path) -> ReferenceData | None:
    """Read the file in a dataset's or a model's folder; None if there is none. Raises `BadInput` if it is damaged."""
    path = folder / names.TRAINED_ON
    if not path.is_file():
        return None
    try:
        rows = pq.ParquetFile(path).read()
        plain = json.loads((rows.schema.metadata or {})[KEY])
        columns = {name: _profile(profile) for name, profile in plain["columns"].items()}
        prediction = plain["prediction"] and _profile(plain["prediction"])
        pictures = int(plain.get("pictures", 0))
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError) as error:
        raise BadInput(f"{names.TRAINED_ON} is damaged: {error!s:.300}") from None
    return ReferenceData(rows.replace_schema_metadata(None), columns, prediction, pictures, _picture_features(folder))


def profile_reference(train: Summary, preprocessor: Preprocessor, rows: int) -> ReferenceData:
    """The train split's summary → what travels: profiles of the features and at most `rows` rows.

    The summary's sample is in the order of its hashes, so rows at even distances are a sample of it, in which
    equal rows have their share.
    """
    light = [column for column in preprocessor.features if column.kind != "image"]
    held = train.sample.num_rows
    taken = np.arange(min(rows, held)) * held // max(min(rows, held), 1)
    sample = train.sample.select([column.name for column in light]).take(pa.array(taken, pa.int64()))
    pictures = rows if len(light) < len(preprocessor.features) else 0
    profiles = {column.name: _of_summary(train, column) for column in light}
    return ReferenceData(sample.combine_chunks(), profiles, pictures=pictures)


def of_values(values: pa.Array) -> ColumnProfile:
    """Predictions, or any values, → their `Profile`: numbers by quantiles, all else by counts."""
    missing = values.null_count
    if pa.types.is_floating(values.type):
        numbers = np.sort(values.drop_null().to_numpy(zero_copy_only=False))
        return ColumnProfile("numeric", len(values), missing, len(numbers), knots(numbers))
    found = as_text(values).drop_null().value_counts()
    counts = dict(zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True))
    return _of_counts("categorical", counts, len(values), missing)


def knots(numbers: np.ndarray) -> tuple[float, ...]:
    """Sorted numbers → themselves, or their quantiles at even steps if they are more."""
    if len(numbers) > STEPS + 1:
        numbers = numbers[np.linspace(0, len(numbers) - 1, STEPS + 1).round().astype(int)]
    return tuple(float(number) for number in numbers)


def as_numbers(values: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Typed numbers or moments (in µs) → float64, nan where missing."""
    if pa.types.is_timestamp(values.type):
        values = pc.cast(values, pa.int64())
    return pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _picture_features(folder: Path) -> np.ndarray | None:
    """The features of pictures in a model's folder [n, d]; None if there are none. Raises `BadInput` if damaged."""
    path = folder / names.PICTURE_FEATURES
    if not path.is_file():
        return None
    try:
        features = np.load(path, allow_pickle=False)
        if features.ndim != 2 or features.dtype != np.float32:
            raise ValueError(f"{features.dtype}{list(features.shape)} is no table of features")
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"{names.PICTURE_FEATURES} is damaged: {error!s:.300}") from None
    return features


def _of_summary(train: Summary, column: Column) -> ColumnProfile:
    stats = train.columns[column.name]
    if column.kind in ("categorical", "boolean"):
        counts = dict(stats.counts)
        if column.kind == "boolean":
            true = round(stats.mean * stats.present)
            counts = {"true": true, "false": stats.present - true}
        return _of_counts(column.kind, counts, stats.rows, stats.missing)
    values = train.values(column.name)
    return ColumnProfile(column.kind, stats.rows, stats.missing, len(values), knots(values))


def _of_counts(kind: str, counts: dict[str, int], rows: int, missing: int) -> ColumnProfile:
    """Categories by frequency, the most frequent kept; equals by name, so that no order of rows matters."""
    kept = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_CATEGORIES]
    single = sum(count == 1 for count in counts.values())
    return ColumnProfile(kind, rows, missing, counts={name: n for name, n in kept if n}, single=single)


def _profile(plain: dict[str, Any]) -> ColumnProfile:
    return ColumnProfile(**{**plain, "knots": tuple(plain["knots"])})
