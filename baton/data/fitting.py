"""The train split's statistics in, the fitted `Preprocessor` out."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from baton.config.schema import Data
from baton.data.columns import Column, class_names, feature_columns
from baton.data.identifiers import identity
from baton.data.preprocessing import BINS, DATE_PARTS, MISSING, Preprocessor, as_floats, date_part, scaled
from baton.data.statistics import Summary
from baton.errors import BadInput, listed


def fit_preprocessor(summary: Summary, columns: list[Column], data: Data) -> Preprocessor:
    """Train split's summary → the `Preprocessor`; raises `BadInput` for a target that can't be learnt."""
    taken: dict[str, int] = {}
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
    folded = Counter(name.casefold() for name in classes)
    if alike := [name for name in classes if folded[name.casefold()] > 1]:
        raise BadInput(
            f"Classes of {data.target} differ in case only: spell what is the same alike. Received: {listed(alike)}"
        )
    if len(classes) < 2 or (data.task == "binary" and len(classes) > 2):
        shown = ", ".join(classes[:10])
        need = "exactly 2" if data.task == "binary" else "at least 2"
        raise BadInput(f"{data.target} must have {need} classes for {data.task}. Received: {shown}")
    return {"classes": classes, "priors": [column.counts[name] / column.present for name in classes]}


def _fit_column(summary: Summary, column: Column, data: Data, taken: dict[str, int]) -> dict[str, Any]:
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


def _fit_number(summary: Summary, column: Column, data: Data, taken: dict[str, int]) -> dict[str, Any]:
    name, stats = column.name, summary.columns[column.name]
    parts, entries = [], []
    wanted = ("elapsed", *DATE_PARTS) if column.kind == "datetime" else ("value",)
    raw = summary.sample.column(name).drop_null().combine_chunks()
    for part in wanted:
        numbers = date_part(raw, part) if column.kind == "datetime" else as_floats(raw)
        if part in DATE_PARTS and (len(numbers) == 0 or numbers.min() == numbers.max()):
            continue
        slug = _slug(name if part in ("value", "elapsed") else f"{name}__{part}", taken)
        scale = _fit_scale(numbers, stats if part in ("value", "elapsed") else None, data, column.kind)
        encoding = part if part not in ("value",) else scale["encoding"]
        parts.append({"part": part, "encoded": slug, **scale})
        entries.append(_encoded(slug, "number", name, encoding, edges=_edges(scaled(numbers, scale))))
    feature: dict[str, Any] = {"kind": column.kind, "parts": parts, "columns": entries}
    if stats.missing:
        feature["missing"] = _slug(f"{name}__missing", taken)
        entries.append(_encoded(feature["missing"], "number", name, "missing", edges=(0.0, 1.0)))
    names_something = identity(column, summary, data) is not None
    feature["codes"] = _fit_codes(raw, column, stats.present, data, taken, names_something)
    for code in feature["codes"]:
        encoding = "identifier" if names_something else "date" if code["part"] == "date" else "value"
        entries.append(_encoded(code["encoded"], "category", name, encoding, rows=code.pop("rows")))
        entries[-1]["rows"][MISSING] = stats.missing
    return feature


def _fit_codes(
    raw: pa.Array, column: Column, present: int, data: Data, taken: dict[str, int], names_something: bool
) -> list[dict[str, Any]]:
    """The sample of a number or date with `present` values → the codes that it gets, with their sorted values.

    Fewer values than bins tell the network nothing new, and rare ones teach it nothing but where they name something.
    """
    codes: list[dict[str, Any]] = []
    kinds = {"numeric": ("value",), "datetime": ("elapsed", "date")}
    distinct = 0
    for part in kinds.get(column.kind, ()) if data.rows_per_value else ():
        values, counts = np.unique(as_floats(raw) if part == "value" else date_part(raw, part), return_counts=True)
        rare = len(values) * data.rows_per_value > present and not names_something
        if len(values) <= BINS or rare or len(values) == distinct:
            continue
        distinct = len(values)
        kept = np.sort(np.argsort(-counts, kind="stable")[: data.max_categories])
        kept = kept[counts[kept] >= data.min_category_count]
        if not len(kept):
            continue
        rows = [float(n) for n in counts[kept] * (present / counts.sum())]
        slug = _slug(f"{column.name}__{part}", taken)
        codes.append({"part": part, "encoded": slug, "values": [float(v) for v in values[kept]], "rows": rows})
    return codes


def _fit_scale(numbers: np.ndarray, stats: Any, data: Data, kind: str) -> dict[str, Any]:
    """How to scale one number: `stats` are exact over all rows, `numbers` the sorted-by-hash sample."""
    if data.numeric == "quantile" and kind == "numeric" and len(numbers):
        knots = np.unique(np.quantile(np.sort(numbers), np.linspace(0, 1, 1001)))
        return {"encoding": "quantile", "knots": [float(k) for k in knots]}
    mean = stats.mean if stats else float(numbers.mean())
    std = stats.std if stats else float(numbers.std())
    tiny = 1e-12 * abs(mean)
    return {"encoding": "standard", "mean": mean, "std": std if std > tiny else 1.0}


def _edges(numbers: np.ndarray) -> tuple[float, ...]:
    """Encoded numbers → at most `BINS` + 1 distinct quantile edges; at least two."""
    if len(numbers) == 0:
        return (0.0, 1.0)
    edges = np.unique(np.quantile(np.sort(numbers), np.linspace(0, 1, BINS + 1)).astype(np.float32))
    return tuple(float(e) for e in edges) if len(edges) > 1 else (float(edges[0]), float(edges[0]) + 1.0)


def _encoded(
    name: str, kind: str, source: str, encoding: str, edges: tuple[float, ...] = (), rows: list[float] | None = None
) -> dict[str, Any]:
    rows = [] if rows is None else [0, 0, *rows]
    return {
        "name": name, "kind": kind, "source": source,
        "encoding": encoding, "edges": list(edges), "size": len(rows), "rows": rows,
    }  # fmt: skip


def _slug(name: str, taken: dict[str, int]) -> str:
    """A name that Petastorm's namedtuples accept, like the column's own and not yet taken.

    `taken` holds of each name the number that was last hung on it: of thousands alike none is tried twice.
    """
    slug = re.sub(r"\W", "_", name, flags=re.ASCII).lstrip("_") or "column"
    if slug[0].isdigit() or keyword.iskeyword(slug):
        slug = f"c_{slug}"
    unique, number = slug, taken.get(slug, 1)
    while unique in taken:
        number += 1
        unique = f"{slug}_{number}"
    taken[slug] = number
    taken.setdefault(unique, 1)
    return unique
