"""What all benchmarks share: comparisons, sides measured in turn, fresh processes, kept inputs.

A benchmark is a module `bench/<name>.py` with `RUNS`, how often each side is measured by default, and
`measure(runs) -> list[Comparison]`. Its docstring stands under the table in docs/BENCHMARKS.md.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KEPT = Path("warehouse/bench")  # git ignores it


@dataclass(frozen=True)
class Comparison:
    """Baton and one alternative (`against`), both in `unit`; the goal is for baton / anchor."""

    against: str
    baton: float
    anchor: float
    goal: float
    better: str  # higher | lower
    unit: str

    @property
    def ratio(self) -> float:
        return self.baton / self.anchor

    @property
    def met(self) -> bool:
        return self.ratio >= self.goal if self.better == "higher" else self.ratio <= self.goal

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio}


def alternate(sides: Mapping[str, Callable[[], float]], runs: int) -> dict[str, float]:
    """Measure all sides in turn, `runs` times → the median of each, in the unit they return.

    Every second turn goes the other way round, so that none always follows the same one.
    """
    values: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(runs):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            values[name].append(sides[name]())
            say(f"{turn + 1}/{runs} {name}: {values[name][-1]:,.4g}")
    return {name: statistics.median(found) for name, found in values.items()}


def rate(side: Callable[[int], Any], rows: int) -> Callable[[], float]:
    """A side that works on so many rows → what measures its rows a second."""

    def timed() -> float:
        started = time.perf_counter()
        side(rows)
        return rows / (time.perf_counter() - started)

    return timed


def fresh(function: Callable[..., Any], *arguments: Any, **environment: str) -> Any:
    """What a module's function returns in a Python process of its own; arguments and answer are JSON.

    Raises `subprocess.CalledProcessError` if it fails; its standard error is passed on only then.
    """
    command = [sys.executable, "-m", "bench.harness", f"{function.__module__}:{function.__name__}"]
    with tempfile.TemporaryDirectory() as folder:
        answer, errors = Path(folder) / "answer.json", Path(folder) / "errors"
        with errors.open("w") as told:
            done = subprocess.run(
                [*command, json.dumps(arguments), str(answer)],
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **environment},
                stdout=told,
                stderr=told,
            )
        if done.returncode:
            sys.stderr.write(errors.read_text()[-5000:])
        done.check_returncode()
        return json.loads(answer.read_text())


def kept(name: str, make: Callable[[Path], object]) -> Path:
    """A file or folder under `warehouse/bench`, made by `make(path)` if it is not there yet, whole or not at all."""
    place = KEPT / name
    if not place.exists():
        say(f"making {place}")
        aside = place.with_name(f".aside-{place.name}")
        shutil.rmtree(aside, ignore_errors=True)
        aside.unlink(missing_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        make(aside)
        aside.rename(place)
    return place


def build_once(name: str, make: Callable[[Path], object]) -> Path:
    """The same of what Baton makes: made anew once Baton's code is another, and what the older code made removed."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path("baton").rglob("*.py"))))
    named = f"{name}-{digest.hexdigest()[:12]}"
    for older in set(KEPT.glob(f"{name}-" + "[0-9a-f]" * 12)) - {KEPT / named}:
        shutil.rmtree(older)
    return kept(named, make)


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def _answer(target: str, arguments: str, place: str) -> None:
    module, _, name = target.partition(":")
    answer = getattr(importlib.import_module(module), name)(*json.loads(arguments))
    Path(place).write_text(json.dumps(answer))


if __name__ == "__main__":
    _answer(*sys.argv[1:])
