"""The preprocessing: fitted once on the train split's summary, then typed rows in, encoded out.

It is plain JSON, so it travels inside the model and nothing is unpickled. Encoded columns:

- numeric, boolean, dates: float32, (value - mean) / std or the standardised quantile; missing is 0,
  with a 0/1 column `<name>__missing` beside it where train had missing values;
- categorical: int32, 0 unknown (unseen or rare), 1 missing, 2… the vocabulary by frequency;
- numbers that name something, and those and dates that recur (`data.rows_per_value`): a code too, as if
  each value, and each day of a date, were a category;
- image: the picture's own bytes in a dataset; pixels, uint8 [h, w, c], where a network is to see them;
- target: float32 for regression, int32 class index otherwise.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from baton import names
from baton.data import images
from baton.data import target as target_module
from baton.data.columns import Column, as_text, canonical, typed

DATE_PARTS = ("year", "month", "day", "weekday", "hour", "minute")
DAY_US = 86_400_000_000
BINS = 32
UNKNOWN, MISSING, FIRST = 0, 1, 2  # codes of a categorical column
QUANTILE_LIMIT = 5.0
STANDARD_LIMIT = 1e6  # out of reach for a train split of fewer than 1e12 rows; keeps new rows finite


@dataclass(frozen=True)
class Encoded:
    """One encoded column: `edges` are the quantile bin edges of a number, `size` a vocabulary's codes."""

    name: str
    kind: str  # number | category | image
    source: str
    encoding: str  # standard | quantile | part of a date | missing | vocabulary | identifier | value | date | bytes
    edges: tuple[float, ...] = ()
    size: int = 0
    rows: tuple[float, ...] = ()  # train rows of each code, unknown and missing included


class Preprocessor:
    """Raw typed columns → encoded arrays; made by `data.fitting`, kept as JSON."""

    def __init__(self, spec: dict[str, Any]):
        self.spec = spec
        self.image_size: dict[str, int] | None = spec.get("image_size")
        self.columns = [self._shaped(Column.of(column)) for column in spec["columns"]]
        self.target: str = spec["target"]["name"]
        self.task: str = spec["task"]
        self.classes: list[str] = spec["target"].get("classes", [])
        self.threshold: float = spec["target"].get("threshold", target_module.DEFAULT_THRESHOLD)
        self.encoded = [Encoded(**{**e, "edges": tuple(e["edges"]), "rows": tuple(e["rows"])}) for e in spec["encoded"]]
        self._vocabularies = {
            name: canonical(pa.array(feature["vocabulary"], pa.string()))  # an earlier Baton kept 1.0 as it was
            for name, feature in spec["features"].items()
            if "vocabulary" in feature
        }

    @property
    def features(self) -> list[Column]:
        """The raw columns a model reads, in order."""
        return [column for column in self.columns if column.name in self.spec["features"]]

    @property
    def target_column(self) -> Column:
        return next(column for column in self.columns if column.name == self.target)

    @property
    def target_encoded(self) -> str:
        """The name of the target's encoded column."""
        return self.spec["target"]["encoded"]

    @property
    def image_shape(self) -> images.Shape:
        """(height, width, channels) of the pictures that the network sees."""
        assert self.image_size is not None
        return self.image_size["height"], self.image_size["width"], self.image_size["channels"]

    @property
    def row_bytes(self) -> int:
        """What a row takes as the network sees it: 4 bytes a column, of a picture one each pixel and channel."""
        pixels = math.prod(self.image_shape) if self.names("image") else 0
        return 4 * len(self.names("number") + self.names("category")) + pixels + 4  # and the target

    @property
    def decoder(self) -> images.Decoder:
        """How pictures become what the network sees."""
        decoders = [column.decoder for column in self.features if column.decoder is not None]
        return decoders[0]

    @property
    def metric(self) -> str:
        """The primary metric that the model was trained by."""
        return self.spec["target"].get("metric", names.PRIMARY_METRIC[self.task])

    def names(self, kind: str) -> list[str]:
        """Names of the encoded columns of one kind: number, category or image.

        Args:
            kind: number, category or image.

        Example:
            >>> preprocessor.names("category")
            ['c']
        """
        return [column.name for column in self.encoded if column.kind == kind]

    def with_target(self, more: dict[str, Any]) -> Preprocessor:
        """The same with more that is known of the target: what was fitted on validation data."""
        return Preprocessor({**self.spec, "target": {**self.spec["target"], **more}})

    def with_split(self, recipe: dict[str, Any]) -> Preprocessor:
        """The same with how the rows were split."""
        return Preprocessor({**self.spec, "split": recipe})

    def encode(self, typed: pa.Table) -> dict[str, Any]:
        """Typed table → {encoded column: array [rows]}; float32, int32, for images uint8 [rows, h, w, c].

        Args:
            typed: the features, in the types that `columns.typed` gives.

        Example:
            >>> preprocessor.encode(rows)["c"].dtype
            dtype('int32')
        """
        out: dict[str, Any] = {}
        for name, feature in self.spec["features"].items():
            column = typed.column(name)
            values = column if feature["kind"] == "image" else column.combine_chunks()
            out.update(self._encode_column(name, feature, values))
        return out

    def unknown(self, encoded: dict[str, Any]) -> Counter[str]:
        """Encoded columns → how many cells of each category are not in its vocabulary."""
        texts = [c for c in self.encoded if c.encoding in ("vocabulary", "identifier")]
        counts = {c.source: int((encoded[c.name] == UNKNOWN).sum()) for c in texts}
        return Counter({name: count for name, count in counts.items() if count})

    def encode_target(self, typed: pa.Table) -> np.ndarray:
        """Typed table with the target → float32 values or int32 class indices [rows]; -1: no such class.

        Args:
            typed: a table with the target, typed.

        Example:
            >>> preprocessor.encode_target(rows).shape == (rows.num_rows,)
            True
        """
        values = typed.column(self.target).combine_chunks()
        if not self.classes:
            return values.to_numpy(zero_copy_only=False).astype(np.float32)
        index = pc.index_in(as_text(values), canonical(pa.array(self.classes, pa.string())))
        return index.fill_null(-1).to_numpy().astype(np.int32)

    def blocks(self, encoded: dict[str, Any]) -> dict[str, Any]:
        """Encoded columns → the network's inputs: numbers [rows, d], categories [rows, c], image [rows, h, w, c].

        Args:
            encoded: what `encode` gave.

        Example:
            >>> preprocessor.blocks(preprocessor.encode(rows))["numbers"].shape == (rows.num_rows, 4)
            True
        """
        blocks: dict[str, Any] = {}
        if names := self.names("number"):
            blocks["numbers"] = np.stack([encoded[name] for name in names], axis=1)
        if names := self.names("category"):
            blocks["categories"] = np.stack([encoded[name] for name in names], axis=1)
        for name in self.names("image"):
            blocks["image"] = encoded[name]
        return blocks

    def decode_prediction(self, predictions: np.ndarray) -> dict[str, pa.Array]:
        """Network output [rows, 1] or [rows, classes] → prediction and probability columns.

        Args:
            predictions: of the network, as `networks.prediction.probabilities` gives them.

        Example:
            >>> preprocessor.decode_prediction(model.predict(rows))["prediction"].type
            DataType(double)
        """
        if self.task == "regression":
            return {"prediction": pa.array(predictions[:, 0].astype(np.float64))}
        best = target_module.decide(predictions, self.threshold)
        labels = pa.array(self.classes, pa.string()).take(pa.array(best))
        columns = {"prediction": _as_declared(labels, self.target_column.type)}
        for index, name in enumerate(self.classes):
            columns[f"probability_{name}"] = pa.array(predictions[:, index].astype(np.float64))
        return columns

    def save(self, path: Path) -> None:
        """Write the preprocessing as JSON.

        Args:
            path: of the JSON file, which is replaced.

        Example:
            >>> preprocessor.save(folder / "kept.json")
            >>> Preprocessor.load(folder / "kept.json").spec == preprocessor.spec
            True
        """
        path.write_text(json.dumps(self.spec, indent=1, sort_keys=True))

    @staticmethod
    def load(path: Path | str) -> Preprocessor:
        """Read back what `save` wrote.

        Args:
            path: a `preprocessor.json`, of a dataset's folder or of a model's.

        Example:
            >>> Preprocessor.load(dataset.folder / "preprocessor.json").target
            'y'
        """
        return Preprocessor(json.loads(Path(path).read_text()))

    def _shaped(self, column: Column) -> Column:
        """A column of pictures with the size that all of a dataset have."""
        return replace(column, shape=self.image_shape) if column.kind == "image" and self.image_size else column

    def _encode_column(self, name: str, feature: dict[str, Any], values: pa.Array) -> dict[str, Any]:
        if feature["kind"] == "image":
            pixels = pa.types.is_fixed_size_binary(values.type)
            return {feature["encoded"]: images.of_arrow(values, self.image_shape) if pixels else values}
        if feature["kind"] == "categorical":
            codes = pc.index_in(values, self._vocabularies[name])
            codes = pc.add(pc.fill_null(codes, UNKNOWN - FIRST), FIRST)
            codes = pc.if_else(values.is_null(), MISSING, codes)
            return {feature["encoded"]: codes.to_numpy(zero_copy_only=False).astype(np.int32)}
        out = {}
        missing = values.is_null().to_numpy(zero_copy_only=False)
        for part in feature["parts"]:
            raw = date_part(values, part["part"]) if feature["kind"] == "datetime" else as_floats(values)
            out[part["encoded"]] = np.where(missing, np.float32(0), scaled(raw, part))
        for code in feature.get("codes", []):
            raw = as_floats(values) if code["part"] == "value" else date_part(values, code["part"])
            out[code["encoded"]] = np.where(missing, np.int32(MISSING), _codes(raw, np.asarray(code["values"])))
        if "missing" in feature:
            out[feature["missing"]] = missing.astype(np.float32)
        return out


def _codes(numbers: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Numbers → int32 codes of those that equal one of the sorted `values`, `UNKNOWN` of the rest."""
    place = np.minimum(np.searchsorted(values, numbers), len(values) - 1)
    return np.where(values[place] == numbers, place + FIRST, UNKNOWN).astype(np.int32)


def scaled(numbers: np.ndarray, scale: dict[str, Any]) -> np.ndarray:
    if scale["encoding"] == "standard":
        with np.errstate(over="ignore"):
            standard = (numbers - scale["mean"]) / scale["std"]
        return np.clip(standard, -STANDARD_LIMIT, STANDARD_LIMIT).astype(np.float32)
    from scipy.special import ndtri

    knots = np.asarray(scale["knots"])
    rank = np.interp(numbers, knots, np.linspace(0, 1, len(knots))) if len(knots) > 1 else 0.5
    normal = ndtri(np.broadcast_to(np.asarray(rank), numbers.shape))
    return np.clip(normal, -QUANTILE_LIMIT, QUANTILE_LIMIT).astype(np.float32)


def usable(raw: pa.Table, preprocessor: Preprocessor) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """Raw rows → (typed rows that can be used, their numbers among all, their targets)."""
    target = preprocessor.target_column
    rows, reasons = typed(raw, [*preprocessor.features, target], target.name)
    good = reasons.is_null().to_numpy(zero_copy_only=False)
    targets = preprocessor.encode_target(rows.filter(pa.array(good)))
    known = targets >= 0 if preprocessor.classes else np.ones(len(targets), bool)
    numbers = np.flatnonzero(good)[known]
    return rows.take(pa.array(numbers)).combine_chunks(), numbers, targets[known]


def unscaled(encoded: np.ndarray, scale: dict[str, Any]) -> np.ndarray:
    """What `_scale` gave by one of a feature's `parts` → the numbers it came from, as near as float32 keeps them."""
    if scale["encoding"] == "standard":
        return encoded.astype(np.float64) * scale["std"] + scale["mean"]
    from scipy.special import ndtr

    knots = np.asarray(scale["knots"])
    return np.interp(ndtr(encoded.astype(np.float64)), np.linspace(0, 1, len(knots)), knots)


def as_floats(values: pa.Array) -> np.ndarray:
    """Numbers or booleans → float64, missing as 0."""
    return pc.fill_null(pc.cast(values, pa.float64()), 0.0).to_numpy(zero_copy_only=False)


def date_part(stamps: pa.Array, part: str) -> np.ndarray:
    """Timestamps → one part of the date as float64, missing as 0; `elapsed` is µs since 1970, `date` days."""
    if part in ("elapsed", "date"):
        numbers = pc.cast(stamps, pa.int64())
        if part == "date":
            numbers = pc.floor(pc.divide(pc.cast(numbers, pa.float64(), safe=False), float(DAY_US)))
    else:
        numbers = getattr(pc, "day_of_week" if part == "weekday" else part)(stamps)
    return pc.fill_null(pc.cast(numbers, pa.float64(), safe=False), 0.0).to_numpy(zero_copy_only=False)


def _as_declared(labels: pa.Array, declared: str) -> pa.Array:
    """Class labels back in the type the target had in the source."""
    try:
        if declared == "boolean":
            return pc.equal(labels, "true")
        return pc.cast(labels, {"long": pa.int64(), "double": pa.float64()}.get(declared, pa.string()))
    except pa.ArrowInvalid:
        return labels
