"""A training's state after an epoch, as one file that is whole or absent."""

from __future__ import annotations

import io
import json
import logging
import math
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from baton.runtime.files import whole

log = logging.getLogger("baton")


FILE = "epoch.npz"
META = ("run_id", "history", "best_value", "seconds")
# What reading a cut, altered or foreign file can raise.
DAMAGE = (OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass
class State:
    """All that the epochs after `epoch` depend on, and the run that reached it."""

    epoch: int
    variables: list[np.ndarray]
    best: list[np.ndarray]
    best_epoch: int = 0
    best_value: float = math.inf
    history: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    run_id: str = ""

    def logs(self) -> list[dict[str, float]]:
        """What each epoch so far has logged."""
        return [{name: values[i] for name, values in self.history.items()} for i in range(self.epoch + 1)]

    def digest(self) -> int:
        """A number below 2**21 that differs where states do; its square is exact as a float64."""
        total = zlib.crc32(str((self.epoch, self.best_epoch, self.best_value)).encode())
        for value in (*self.variables, *self.best):
            total = zlib.crc32(value.tobytes(), total)
        return total >> 11


@dataclass(frozen=True)
class Checkpoint:
    """Where a training keeps its state, and for which run."""

    path: Path
    run_id: str = ""

    def save(self, state: State) -> None:
        """Written aside, flushed to the disk and renamed: never half."""
        meta = {name: getattr(state, name) for name in META} | {"run_id": self.run_id}
        arrays: dict[str, Any] = {f"variable_{i}": value for i, value in enumerate(state.variables)}
        arrays |= {f"best_{i}": value for i, value in enumerate(state.best)}
        arrays |= {"epoch": np.array(state.epoch), "best_epoch": np.array(state.best_epoch)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        held = io.BytesIO()  # a ZIP is not written from its first byte to its last, which some disks want
        np.savez(held, meta=np.array(json.dumps(meta)), **arrays)
        with whole(self.path) as aside:
            aside.write_bytes(held.getbuffer())

    def load(self) -> State | None:
        """The state last saved; None if there is none, or (with a warning) if it is damaged."""
        if not self.path.is_file():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as held:
                return _state({name: held[name] for name in held.files})
        except DAMAGE as error:
            log.warning("The checkpoint %s is damaged and not used: %s", self.path, error)
            return None


def _state(held: dict[str, np.ndarray]) -> State:
    meta = json.loads(str(held["meta"]))
    variables, best = (
        [held[f"{kind}_{i}"] for i in range(sum(name.startswith(f"{kind}_") for name in held if name != "best_epoch"))]
        for kind in ("variable", "best")
    )
    return State(int(held["epoch"]), variables, best, int(held["best_epoch"]), **{name: meta[name] for name in META})
