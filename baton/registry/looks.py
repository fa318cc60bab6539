"""Test rows and a model's versions in, how often these rows have been asked out; and what that leaves of the error.

Who asks one test set often enough finds a model that is better on it by luck. So the error that `register.confidence`
allows is that of all looks together: the k-th gets 1/(k (k + 1)) of it, which adds up to the whole. The first look has
half of it, as each end of an interval has; what is left after k looks is 1/(k + 1).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from baton import names
from baton.data import splits
from baton.data.columns import typed
from baton.data.preprocessing import Preprocessor
from baton.data.raw_rows import RawRows
from baton.data.row_parts import parts
from baton.registry.versions import network_of

SKETCHED = 160  # the smallest hashes that a sketch keeps: 856 characters, where a tag may hold 1,000
SAME = 0.5  # share of the present test rows beyond which an earlier version was asked about the same ones


@dataclass(frozen=True)
class Look:
    """The `number`-th question to a test set, of a history whose error is to be 1 - `confidence`."""

    number: int = 1
    confidence: float = 0.95

    @property
    def tail(self) -> float:
        """The chance that an equal model looks better at this look."""
        return (1 - self.confidence) / (self.number * (self.number + 1))

    @property
    def level(self) -> float:
        """Of the interval that has this tail at either end."""
        return 1 - 2 * self.tail

    @property
    def left(self) -> float:
        """The error that is left for all later looks."""
        return (1 - self.confidence) / (self.number + 1)

    def to_dict(self) -> dict[str, float]:
        return {
            "looks": self.number,
            "confidence": self.confidence,
            "interval": self.level,
            "error_left": self.left,
        }


@dataclass(frozen=True)
class Sketch:
    """What is kept of test rows to know them again: how many differ, their targets as one text, some row hashes."""

    rows: int
    targets: str
    hashes: np.ndarray

    def to_tag(self) -> str:
        held = base64.b64encode(self.hashes.astype("<u4").tobytes()).decode()
        return json.dumps({"rows": self.rows, "targets": self.targets, "hashes": held})

    @staticmethod
    def of_tag(value: str) -> Sketch | None:
        """A tag's value → the sketch; None if there is none, or it was edited by hand."""
        try:
            tag = json.loads(value)
            hashes = np.frombuffer(base64.b64decode(tag["hashes"], validate=True), "<u4")
            return Sketch(int(tag["rows"]), str(tag["targets"]), hashes)
        except (ValueError, KeyError, TypeError):
            return None


def sketch(raw: pa.Table | RawRows, preprocessor: Preprocessor) -> Sketch:
    """Raw test rows → their `Sketch`: of the hashes of the rows' typed values the smallest (Broder's MinHash)."""
    hashes, targets = zip(*(_hashed(part, preprocessor) for part in parts(raw)), strict=True)
    distinct = np.unique(np.concatenate(hashes))
    return Sketch(len(distinct), _targets(np.concatenate(targets)), distinct[:SKETCHED])


def _hashed(raw: pa.Table, preprocessor: Preprocessor) -> tuple[np.ndarray, np.ndarray]:
    """Raw rows → what is kept of each row's hash, and the hash of its target."""
    target = preprocessor.target_column
    columns = [column.undecoded for column in preprocessor.features]
    rows = typed(raw, [*columns, target], target.name)[0]
    kept = (splits.row_hash(rows) >> np.uint64(32)).astype(np.uint32)
    return kept, splits.row_hash(rows, [target.name])


def overlap(present: Sketch, past: Sketch) -> float:
    """The share of the present rows that the past ones hold, exactly or as the sketches estimate it; 0 to 1.

    Rows whose targets are the very same ones count as all, whatever columns they have by now.
    """
    if present.targets and present.targets == past.targets:
        return 1.0
    union = np.union1d(present.hashes, past.hashes)[:SKETCHED]
    both = np.isin(union, present.hashes) & np.isin(union, past.hashes)
    jaccard = both.mean() if len(union) else 0.0
    return float(min(1.0, jaccard / (1 + jaccard) * (present.rows + past.rows) / max(present.rows, 1)))


def count(versions: Iterable[Any], network: str, fingerprint: str, present: Sketch) -> int:
    """A model's versions, and a candidate's network, dataset and test rows → the how many-th model asks these rows.

    Looks are different networks: the same model asked again is told what it was told, and is no new look, whatever
    data it carries. A version from before there were sketches counts if it is of the same dataset.
    """
    asked = {network}
    for version in versions:
        earlier = Sketch.of_tag(version.tags.get(names.TAG_TEST_ROWS, ""))
        if earlier is None:
            same = version.tags.get(names.TAG_FINGERPRINT) == fingerprint and _was_measured(version)
        else:
            same = overlap(present, earlier) > SAME
        if same:
            asked.add(network_of(version.tags) or f"version {version.version}")
    return len(asked)


def _targets(hashes: np.ndarray) -> str:
    """Targets' hashes, in any order → one text; empty where few differ, for then other rows may well have the same."""
    few = len(np.unique(hashes)) <= SAME * len(hashes)
    return "" if few else f"{len(hashes)} {int(hashes.sum(dtype=np.uint64)):016x}"


def _was_measured(version: Any) -> bool:
    """Whether a version's test metrics were computed, and so seen."""
    return any(key.startswith("test_") for key in version.tags)
