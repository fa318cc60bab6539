"""The labels of all splits judged out of sample: which look wrong, and what they should be."""

from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np
import pyarrow as pa

from baton import formatting
from baton.config.schema import Config
from baton.data import cells as shown
from baton.data.dataset import Dataset
from baton.data.feed import Block
from baton.data.preprocessing import Preprocessor, usable
from baton.data.raw_rows import RawRows
from baton.data.row_parts import parts_to_encode
from baton.inspection import crossfit
from baton.inspection import label_errors as audits
from baton.inspection.crossfit import LearningRows, OutOfFold
from baton.serving.raw_columns import RawColumnModel

MAX_SHOWN = 100  # suspects in audit.json; the Parquet file has all


def lacking(reason: str) -> dict[str, Any]:
    """Why no label is judged → `audit.json`."""
    return {"rows_audited": 0, "reason": reason}


class UsableRows:
    """The raw test rows that can be used: their numbers among all and their targets are held, rows are read anew."""

    def __init__(self, raw: RawRows, preprocessor: Preprocessor):
        self.raw, self.preprocessor, start = raw, preprocessor, 0
        numbers, targets = list[np.ndarray](), list[np.ndarray]()
        for part in parts_to_encode(raw, preprocessor):
            _, inside, its_targets = usable(part, preprocessor)
            numbers.append(start + inside)
            targets.append(its_targets)
            start += part.num_rows
        self.numbers, self.targets = np.concatenate(numbers), np.concatenate(targets)

    def predictions(self, network: keras.Model) -> np.ndarray:
        """A network's output on all of them [rows, k]."""
        return RawColumnModel(self.preprocessor, network).evaluate(self.raw)[1]

    def take(self, places: np.ndarray) -> pa.Table:
        """Places among them → these rows, typed, in this order."""
        return usable(self.raw.take(self.numbers[places]), self.preprocessor)[0]


class LabelAudit:
    """The rows of all splits, one after the other, judged out of sample, and those that are suspected.

    Raises `Diverged`, and `OverBudget` where the seconds are too few to learn anything.
    """

    def __init__(self, config: Config, dataset: Dataset, trained_by: Config, preprocessor: Preprocessor):
        started = time.monotonic()
        self.preprocessor, self.rows = preprocessor, LearningRows(dataset)
        self.test = UsableRows(dataset.raw_rows(), preprocessor)
        settings = config.register_.audit
        learning = trained_by.overridden({"seed": config.seed})
        self.found: OutOfFold = crossfit.out_of_fold(
            learning,
            preprocessor,
            self.rows,
            settings,
            self.test.predictions,
            started,
        )
        self.folds = settings.folds
        self.targets = np.concatenate([self.rows.targets, self.test.targets])
        outputs = np.concatenate([self.found.outputs, self.found.other])
        judge = audits.classes if preprocessor.classes else lambda t, o: audits.numbers(t, o[:, 0])
        self.suspects = judge(self.targets, outputs)
        self.seconds = time.monotonic() - started

    def test_numbers(self) -> np.ndarray:
        """The numbers, among all rows, of the test rows."""
        return np.arange(len(self.rows.targets), len(self.targets))

    def places(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers among all rows → the split of each, and its number in that."""
        splits, inside = self.rows.places(numbers)
        of_test = splits == "test"
        inside[of_test] = self.test.numbers[inside[of_test]]
        return splits, inside

    def inputs(self, numbers: np.ndarray) -> Block:
        """Numbers among all rows [n] → the network's inputs of these rows, in this order."""
        ordered, back = np.unique(numbers, return_inverse=True)
        inner = len(self.rows.targets)
        test = self.test.take(ordered[ordered >= inner] - inner)
        parts = [self._taken(ordered[ordered < inner]), self.preprocessor.blocks(self.preprocessor.encode(test))]
        held = [part for part in parts if part]
        return {name: np.concatenate([part[name] for part in held])[back] for name in held[-1]}

    def table(self) -> pa.Table:
        """The suspects, worst first: where they are, what they are given and suggested, and their cells."""
        suspects = self.suspects
        splits, numbers = self.places(suspects.rows)
        columns = {
            "rank": np.arange(1, len(suspects.rows) + 1),
            "split": splits.tolist(),
            "row": numbers,
            "given": self._named(self.targets[suspects.rows]),
            "suggested": self._named(suspects.suggested),
            "quality": suspects.quality,
            "confidence": suspects.confidence,
        }
        return pa.table(columns | {f"value_{name}": cells for name, cells in self._cells().items()})

    def to_dict(self, table: pa.Table, ranking: list[dict[str, Any]], metric: str) -> dict[str, Any]:
        """The table and the ranking → `audit.json`: plain values."""
        shown_ = []
        for row in table.slice(0, MAX_SHOWN).to_pylist():
            values = {key.removeprefix("value_"): row.pop(key) for key in list(row) if key.startswith("value_")}
            shown_.append({**row, "values": values})
        return {
            "task": self.preprocessor.task,
            "rows_audited": len(self.targets),
            "folds": self.folds,
            "epochs": self.found.epochs,
            "rows_learnt": self.found.learnt,
            "seconds": round(self.seconds, 2),
            "estimated_error_rate": self.suspects.rate,
            "agreement": self.suspects.agreement,
            "issues": table.num_rows,
            "shown": shown_,
            "ranking": ranking,
            "metric": metric,
            "method": self.suspects.method,
        }

    def pictures(self, chosen: np.ndarray) -> list[np.ndarray]:
        """Numbers of suspects → their images as pixels; none where there are no images."""
        if not self.preprocessor.names("image"):
            return []
        return list(self.inputs(self.suspects.rows[chosen])["image"])

    def _cells(self) -> dict[str, list[str]]:
        """The suspects' raw columns as text: train's and validation's decoded, test's as they came."""
        rows, inner = self.suspects.rows, len(self.rows.targets)
        own = np.sort(rows[rows < inner])
        test = rows[rows >= inner] - inner
        found: dict[str, list[str]] = {}
        decoded = (
            shown.encoded_cells(shown.unblocked(self._taken(own), self.preprocessor), self.preprocessor)
            if len(own)
            else {}
        )
        typed = self.test.take(test)
        for column in self.preprocessor.features:
            texts = dict(zip(own.tolist(), decoded.get(column.name, []), strict=True))
            texts |= dict(
                zip((test + inner).tolist(), shown.typed_cells(typed.column(column.name), column), strict=True)
            )
            found[column.name] = [texts[number] for number in rows.tolist()]
        return found

    def _taken(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        return self.rows.take(np.sort(numbers)) if len(numbers) else {}

    def _named(self, targets: np.ndarray) -> list[str]:
        if self.preprocessor.classes:
            return [self.preprocessor.classes[int(target)] for target in targets]
        return [formatting.exact_text(float(f"{target:.6g}")) for target in targets]
