"""A model's preprocessing and raw rows in, where the model's own splits have put them out.

So that a successor whose rows were split otherwise is not judged on rows that the champion has learnt from.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from baton.config.schema import Data
from baton.data import columns as cols
from baton.data import splits
from baton.data.preprocessing import Preprocessor
from baton.data.raw_rows import RawRows
from baton.data.row_parts import parts

TEST = splits.SPLIT_INDEX["test"]


def places(raw: pa.Table | RawRows, preprocessor: Preprocessor) -> np.ndarray | None:
    """Raw rows → the split of the model's own in which each would be [rows]; None if that cannot be known.

    A row that was spread over the splits counts as a test row: it is in all of them anyway. A row that the model's
    data did not hold has a place too.
    """
    recipe = preprocessor.spec.get("split")
    if recipe is None:
        return None
    plan, data = splits.Plan.of(recipe), _data(recipe, preprocessor)
    deciding = _deciding(preprocessor.columns, data)
    if not deciding or {column.name for column in deciding} - set(raw.schema.names):
        return None
    if cols.type_faults(raw.schema, deciding):
        return None
    return np.concatenate([_places(part, deciding, plan, data) for part in parts(raw)])


def _places(raw: pa.Table, deciding: list[cols.Column], plan: splits.Plan, data: Data) -> np.ndarray:
    typed, _ = cols.typed(raw, deciding, None)
    hashes = splits.row_hash(typed)
    found = plan.place(typed, splits.unit_hash(typed, data, hashes), data)
    spread = np.isin(hashes, np.fromiter(plan.spread, np.uint64))
    return np.where(spread, TEST, found).astype(np.int8)


def _data(recipe: dict, preprocessor: Preprocessor) -> Data:
    """The part of a config that says how rows were split."""
    keys = {"id": recipe["id"], "group": recipe["group"], "time": recipe["time"], "split_column": recipe["column"]}
    return Data(source="-", target=preprocessor.target, task=preprocessor.task, **keys)


def _deciding(columns: list[cols.Column], data: Data) -> list[cols.Column]:
    """The columns by which rows were split: with the target, whose classes are cut each by itself."""
    named: Iterable[str] = {data.time, data.group, data.split_column, *data.id} - {None}  # type: ignore[assignment]
    wanted = {*named, data.target}
    return [column.undecoded for column in columns if not named or column.name in wanted]
