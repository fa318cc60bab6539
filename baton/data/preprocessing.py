"""The preprocessing: fitted once on the train split's summary, then typed rows in, encoded out.

It is plain JSON, so it travels inside the model and nothing is unpickled. Encoded columns:

- numeric, boolean, dates: float32, (value - mean) / std or the standardised quantile; missing is 0,
  with a 0/1 column `<name>__missing` beside it where train had missing values;
- categorical: int32, 0 unknown (unseen or rare), 1 missing, 2… the vocabulary by frequency;
- numbers and dates whose values recur (`data.rows_per_value`): a code too, as if each value, and each
  day of a date, were a category;
- image: the encoded bytes as they are;
- target: float32 for regression, int32 class index otherwise.
"""

from __future__ import annotations

import json
import keyword
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from baton.config.schema import Data
from baton.data import target as target_module
from baton.data.columns import Column, as_text, class_names, feature_columns
from baton.data.statistics import Summary
from baton.errors import BadInput

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
    encoding: str  # standard | quantile | a part of a date | missing | vocabulary | value | date | bytes
    edges: tuple[float, ...] = ()
    size: int = 0
    rows: tuple[float, ...] = ()  # train rows of each code, unknown and missing included


class Preprocessor:
    """Raw typed columns → encoded arrays; made by `fit`, kept and read back as JSON."""

    def __init__(self, spec: dict[str, Any]):
        self.spec = spec
        self.columns = [Column.of(column) for column in spec["columns"]]
        self.target: str = spec["target"]["name"]
        self.task: str = spec["task"]
        self.classes: list[str] = spec["target"].get("classes", [])
        self.threshold: float = spec["target"].get("threshold", target_module.DEFAULT_THRESHOLD)
        self.image_size: dict[str, int] | None = spec.get("image_size")
        self.encoded = [Encoded(**{**e, "edges": tuple(e["edges"]), "rows": tuple(e["rows"])}) for e in spec["encoded"]]
        self._vocabularies = {
            name: pa.array(feature["vocabulary"], pa.string())
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

    def names(self, kind: str) -> list[str]:
        """Names of the encoded columns of one kind: number, category or image."""
        return [column.name for column in self.encoded if column.kind == kind]

    def with_target(self, fitted: dict[str, Any]) -> Preprocessor:
        """The same with more that is known of the target: what was fitted on validation data."""
        return Preprocessor({**self.spec, "target": {**self.spec["target"], **fitted}})

    def encode(self, typed: pa.Table) -> dict[str, Any]:
        """Typed table → {encoded column: array [rows]}; float32, int32, or Arrow binary for images."""
        out: dict[str, Any] = {}
        for name, feature in self.spec["features"].items():
            values = typed.column(name).combine_chunks()
            out.update(self._encode_column(name, feature, values))
        return out

    def unknown(self, encoded: dict[str, Any]) -> Counter[str]:
        """Encoded columns → how many cells of each categorical column are not in its vocabulary."""
        texts = [c for c in self.encoded if c.encoding == "vocabulary"]
        counts = {c.source: int((encoded[c.name] == UNKNOWN).sum()) for c in texts}
        return Counter({name: count for name, count in counts.items() if count})

    def encode_target(self, typed: pa.Table) -> np.ndarray:
        """Typed table with the target → float32 values or int32 class indices [rows]; -1: no such class."""
        values = typed.column(self.target).combine_chunks()
        if not self.classes:
            return values.to_numpy(zero_copy_only=False).astype(np.float32)
        index = pc.index_in(as_text(values), pa.array(self.classes, pa.string()))
        return index.fill_null(-1).to_numpy().astype(np.int32)

    def blocks(self, encoded: dict[str, Any]) -> dict[str, Any]:
        """Encoded columns → the network's inputs: numbers [rows, d], categories [rows, c], image [rows]."""
        blocks: dict[str, Any] = {}
        if names := self.names("number"):
            blocks["numbers"] = np.stack([encoded[name] for name in names], axis=1)
        if names := self.names("category"):
            blocks["categories"] = np.stack([encoded[name] for name in names], axis=1)
        for name in self.names("image"):
            blocks["image"] = encoded[name]
        return blocks

    def decode_prediction(self, output: np.ndarray) -> dict[str, pa.Array]:
        """Network output [rows, 1] or [rows, classes] → prediction and probability columns."""
        if self.task == "regression":
            return {"prediction": pa.array(output[:, 0].astype(np.float64))}
        best = target_module.decide(output, self.threshold)
        labels = pa.array(self.classes, pa.string()).take(pa.array(best))
        columns = {"prediction": _as_declared(labels, self.target_column.type)}
        for index, name in enumerate(self.classes):
            columns[f"probability_{name}"] = pa.array(output[:, index].astype(np.float64))
        return columns

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.spec, indent=1, sort_keys=True))

    @staticmethod
    def load(path: Path | str) -> Preprocessor:
        return Preprocessor(json.loads(Path(path).read_text()))

    def _encode_column(self, name: str, feature: dict[str, Any], values: pa.Array) -> dict[str, Any]:
        if feature["kind"] == "image":
            return {feature["encoded"]: values}
        if feature["kind"] == "categorical":
            codes = pc.index_in(values, self._vocabularies[name])
            codes = pc.add(pc.fill_null(codes, UNKNOWN - FIRST), FIRST)
            codes = pc.if_else(values.is_null(), MISSING, codes)
            return {feature["encoded"]: codes.to_numpy(zero_copy_only=False).astype(np.int32)}
        out = {}
        missing = values.is_null().to_numpy(zero_copy_only=False)
        for part in feature["parts"]:
            raw = _part(values, part["part"]) if feature["kind"] == "datetime" else _numbers(values)
            out[part["encoded"]] = np.where(missing, np.float32(0), _scale(raw, part))
        for code in feature.get("codes", []):
            raw = _numbers(values) if code["part"] == "value" else _part(values, code["part"])
            out[code["encoded"]] = np.where(missing, np.int32(MISSING), _codes(raw, np.asarray(code["values"])))
        if "missing" in feature:
            out[feature["missing"]] = missing.astype(np.float32)
        return out


def fit(summary: Summary, columns: list[Column], data: Data) -> Preprocessor:
    """Train split's summary → the `Preprocessor`; raises `BadInput` for a target that can't be learnt."""
    taken: set[str] = set()
    target: dict[str, Any] = {"name": data.target, "encoded": _slug(data.target, taken)}
    target |= _fit_target(summary, data)
    features: dict[str, Any] = {}
    encoded: list[dict[str, Any]] = []
    for column in feature_columns(columns, data):
        features[column.name] = _fit_column(summary, column, data, taken)
        encoded += features[column.name].pop("columns")
    spec = {
        "task": "multiclass" if data.task == "image" else data.task,
        "columns": [column.to_dict() for column in columns],
        "features": features,
        "encoded": encoded,
        "target": target,
    }
    return Preprocessor(spec)


def _fit_target(summary: Summary, data: Data) -> dict[str, Any]:
    column = summary.columns[data.target]
    if column.present == 0:
        raise BadInput(f"No row of the train split has a value of the target {data.target}.")
    if data.task == "regression":
        return {"mean": column.mean, "std": column.std or 1.0}
    classes = class_names(set(column.counts))
    if len(classes) < 2 or (data.task == "binary" and len(classes) > 2):
        shown = ", ".join(classes[:10])
        need = "exactly 2" if data.task == "binary" else "at least 2"
        raise BadInput(f"{data.target} must have {need} classes for {data.task}. Received: {shown}")
    return {"classes": classes, "priors": [column.counts[name] / column.present for name in classes]}


def _fit_column(summary: Summary, column: Column, data: Data, taken: set[str]) -> dict[str, Any]:
    name, stats = column.name, summary.columns[column.name]
    if column.kind == "image":
        slug = _slug(name, taken)
        return {"kind": "image", "encoded": slug, "columns": [_encoded(slug, "image", name, "bytes")]}
    if column.kind == "categorical":
        slug = _slug(name, taken)
        frequent = [c for c in stats.counts.items() if c[1] >= data.min_category_count]
        frequent.sort(key=lambda item: (-item[1], item[0]))
        vocabulary = [value for value, _ in frequent[: data.max_categories]]
        entry = _encoded(slug, "category", name, "vocabulary", rows=[stats.counts[value] for value in vocabulary])
        entry["rows"][MISSING] = stats.missing
        return {"kind": "categorical", "encoded": slug, "vocabulary": vocabulary, "columns": [entry]}
    return _fit_number(summary, column, data, taken)


def _fit_number(summary: Summary, column: Column, data: Data, taken: set[str]) -> dict[str, Any]:
    name, stats = column.name, summary.columns[column.name]
    parts, entries = [], []
    wanted = ("elapsed", *DATE_PARTS) if column.kind == "datetime" else ("value",)
    raw = summary.sample.column(name).drop_null().combine_chunks()
    for part in wanted:
        numbers = _part(raw, part) if column.kind == "datetime" else _numbers(raw)
        if part in DATE_PARTS and (len(numbers) == 0 or numbers.min() == numbers.max()):
            continue
        slug = _slug(name if part in ("value", "elapsed") else f"{name}__{part}", taken)
        scale = _fit_scale(numbers, stats if part in ("value", "elapsed") else None, data, column.kind)
        encoding = part if part not in ("value",) else scale["encoding"]
        parts.append({"part": part, "encoded": slug, **scale})
        entries.append(_encoded(slug, "number", name, encoding, edges=_edges(_scale(numbers, scale))))
    feature: dict[str, Any] = {"kind": column.kind, "parts": parts, "columns": entries}
    if stats.missing:
        feature["missing"] = _slug(f"{name}__missing", taken)
        entries.append(_encoded(feature["missing"], "number", name, "missing", edges=(0.0, 1.0)))
    feature["codes"] = _fit_codes(raw, column, stats.present, data, taken)
    for code in feature["codes"]:
        encoding = "date" if code["part"] == "date" else "value"
        entries.append(_encoded(code["encoded"], "category", name, encoding, rows=code.pop("rows")))
        entries[-1]["rows"][MISSING] = stats.missing
    return feature


def _fit_codes(raw: pa.Array, column: Column, present: int, data: Data, taken: set[str]) -> list[dict[str, Any]]:
    """The sample of a number or date with `present` values → the codes that it gets, with their sorted values.

    Fewer values than bins tell the network nothing new, and rare ones teach it nothing.
    """
    codes: list[dict[str, Any]] = []
    kinds = {"numeric": ("value",), "datetime": ("elapsed", "date")}
    distinct = 0
    for part in kinds.get(column.kind, ()) if data.rows_per_value else ():
        values, counts = np.unique(_numbers(raw) if part == "value" else _part(raw, part), return_counts=True)
        if len(values) <= BINS or len(values) * data.rows_per_value > present or len(values) == distinct:
            continue
        distinct = len(values)
        kept = np.sort(np.argsort(-counts, kind="stable")[: data.max_categories])
        kept = kept[counts[kept] >= data.min_category_count]
        rows = [float(n) for n in counts[kept] * (present / counts.sum())]
        slug = _slug(f"{column.name}__{part}", taken)
        codes.append({"part": part, "encoded": slug, "values": [float(v) for v in values[kept]], "rows": rows})
    return codes


def _codes(numbers: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Numbers → int32 codes of those that equal one of the sorted `values`, `UNKNOWN` of the rest."""
    place = np.minimum(np.searchsorted(values, numbers), len(values) - 1)
    return np.where(values[place] == numbers, place + FIRST, UNKNOWN).astype(np.int32)


def _fit_scale(numbers: np.ndarray, stats: Any, data: Data, kind: str) -> dict[str, Any]:
    """How to scale one number: `stats` are exact over all rows, `numbers` the sorted-by-hash sample."""
    if data.numeric == "quantile" and kind == "numeric" and len(numbers):
        knots = np.unique(np.quantile(np.sort(numbers), np.linspace(0, 1, 1001)))
        return {"encoding": "quantile", "knots": [float(k) for k in knots]}
    mean = stats.mean if stats else float(numbers.mean())
    std = stats.std if stats else float(numbers.std())
    tiny = 1e-12 * abs(mean)
    return {"encoding": "standard", "mean": mean, "std": std if std > tiny else 1.0}


def _scale(numbers: np.ndarray, scale: dict[str, Any]) -> np.ndarray:
    if scale["encoding"] == "standard":
        with np.errstate(over="ignore"):
            standard = (numbers - scale["mean"]) / scale["std"]
        return np.clip(standard, -STANDARD_LIMIT, STANDARD_LIMIT).astype(np.float32)
    from scipy.special import ndtri

    knots = np.asarray(scale["knots"])
    rank = np.interp(numbers, knots, np.linspace(0, 1, len(knots))) if len(knots) > 1 else 0.5
    normal = ndtri(np.broadcast_to(np.asarray(rank), numbers.shape))
    return np.clip(normal, -QUANTILE_LIMIT, QUANTILE_LIMIT).astype(np.float32)


def unscaled(encoded: np.ndarray, scale: dict[str, Any]) -> np.ndarray:
    """What `_scale` gave by one of a feature's `parts` → the numbers it came from, as near as float32 keeps them."""
    if scale["encoding"] == "standard":
        return encoded.astype(np.float64) * scale["std"] + scale["mean"]
    from scipy.special import ndtr

    knots = np.asarray(scale["knots"])
    return np.interp(ndtr(encoded.astype(np.float64)), np.linspace(0, 1, len(knots)), knots)


def _edges(numbers: np.ndarray) -> tuple[float, ...]:
    """Encoded numbers → at most `BINS` + 1 distinct quantile edges; at least two."""
    if len(numbers) == 0:
        return (0.0, 1.0)
    edges = np.unique(np.quantile(np.sort(numbers), np.linspace(0, 1, BINS + 1)).astype(np.float32))
    return tuple(float(e) for e in edges) if len(edges) > 1 else (float(edges[0]), float(edges[0]) + 1.0)


def _numbers(values: pa.Array) -> np.ndarray:
    """Numbers or booleans → float64, missing as 0."""
    return pc.fill_null(pc.cast(values, pa.float64()), 0.0).to_numpy(zero_copy_only=False)


def _part(stamps: pa.Array, part: str) -> np.ndarray:
    """Timestamps → one part of the date as float64, missing as 0; `elapsed` is µs since 1970, `date` days."""
    if part in ("elapsed", "date"):
        numbers = pc.cast(stamps, pa.int64())
        if part == "date":
            numbers = pc.floor(pc.divide(pc.cast(numbers, pa.float64(), safe=False), float(DAY_US)))
    else:
        numbers = getattr(pc, "day_of_week" if part == "weekday" else part)(stamps)
    return pc.fill_null(pc.cast(numbers, pa.float64(), safe=False), 0.0).to_numpy(zero_copy_only=False)


def _encoded(
    name: str, kind: str, source: str, encoding: str, edges: tuple[float, ...] = (), rows: list[float] | None = None
) -> dict[str, Any]:
    rows = [] if rows is None else [0, 0, *rows]
    return {
        "name": name, "kind": kind, "source": source,
        "encoding": encoding, "edges": list(edges), "size": len(rows), "rows": rows,
    }  # fmt: skip


def _slug(name: str, taken: set[str]) -> str:
    """A name that Petastorm's namedtuples accept, like the column's own and not yet taken."""
    slug = re.sub(r"\W", "_", name, flags=re.ASCII).lstrip("_") or "column"
    if slug[0].isdigit() or keyword.iskeyword(slug):
        slug = f"c_{slug}"
    unique, number = slug, 2
    while unique in taken:
        unique, number = f"{slug}_{number}", number + 1
    taken.add(unique)
    return unique


def _as_declared(labels: pa.Array, declared: str) -> pa.Array:
    """Class labels back in the type the target had in the source."""
    try:
        if declared == "boolean":
            return pc.equal(labels, "true")
        return pc.cast(labels, {"long": pa.int64(), "double": pa.float64()}.get(declared, pa.string()))
    except pa.ArrowInvalid:
        return labels
