"""The loop: an undisturbed run that lists the points, then for each point a kill, a new run, and the comparison."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from baton import names
from faults import compare
from faults.points import Point, chosen
from faults.stage import WORKER, Ended, Stage


@dataclass
class Result:
    """A point and what was wrong after it; nothing, if it was survived."""

    step: str
    point: Point
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


# One or two of each step, and main: for `make test`. (The first exchange only asks what the file system can do.)
TELLING = (
    ("ingest", Point("ingest", "rename to warehouse/faults/datasets/*")),
    ("train", Point("train", "rename to warehouse/faults/checkpoints/*/epoch.npz", 2)),
    ("tune", Point("tune", "append to warehouse/faults/checkpoints/*/trials.jsonl", 2)),
    ("tune", Point("tune", "rename to artifact trials.json", driver=True)),
    ("distributed_train", Point(WORKER, "rename to warehouse/faults/checkpoints/*/epoch.npz", 2)),
    ("register", Point("register", "set tag baton.champion.*")),
    ("batch_infer", Point("batch_infer", "exchange the output with the new one", 2)),
    ("main", Point("main", "rename to artifact summary.json")),
    ("reconcile", Point("reconcile", "rename to artifact scoring.json")),
)
RECONCILE = "reconcile"
ORDER = (*names.STEPS, "main", RECONCILE)


class Loop:
    """Kills main, its steps and reconcile on a stage, each from the state that the undisturbed run had before that."""

    def __init__(self, stage: Stage):
        self.stage = stage
        self.expected: dict[str, dict[str, Any]] = {}
        self.points: dict[str, list[Point]] = {}
        self.old: dict[str, Any] = {}  # the predictions before what replaces them

    def rehearse(self) -> None:
        """Run yesterday's pipeline, today's step by step, and a reconcile, undisturbed; keep every state on the way."""
        _demand(self.stage.main("batch_infer", self.stage.project.YESTERDAY))
        yesterday = self.stage.ask("seen", str(self.stage.home))["predictions"]
        self.old = dict.fromkeys(names.STEPS, yesterday)
        self.stage.write_sources(600, seed=3)
        for step in names.STEPS:
            self.stage.save(f"before {step}")
            _demand(self.stage.main(step), "" if step == names.STEPS[-1] else f"{step} is through")
            self.points[step] = self._points(step)
            self.expected[step] = self._outcome(step)
        self.points["main"] = chosen(self.stage.record, "main")
        self._rehearse_reconcile()

    def _rehearse_reconcile(self) -> None:
        """Somebody makes yesterday's version champion again."""
        self.stage.ask("promote_by_hand")
        self.old[RECONCILE] = self.expected[names.STEPS[-1]]["predictions"]
        self.stage.save(f"before {RECONCILE}")
        _demand(self.stage.reconcile())
        self.points[RECONCILE] = chosen(self.stage.record, RECONCILE)
        self.expected[RECONCILE] = self._outcome(RECONCILE)

    def _run(self, until: str, kill: Point | None = None) -> Ended:
        return self.stage.reconcile(kill) if until == RECONCILE else self.stage.main(until, kill=kill)

    def _outcome(self, until: str) -> dict[str, Any]:
        return self.stage.ask("outcome", str(self.stage.home), until)

    def _points(self, step: str) -> list[Point]:
        """The step's own points, its worker's, and main killed while the step is in the middle."""
        own = chosen(self.stage.record, step)
        middle = own[len(own) // 2]
        return [*own, *chosen(self.stage.record, WORKER), Point(step, middle.name, middle.nth, driver=True)]

    def kill_at(self, step: str, point: Point) -> Result:
        """Kill at a point, look, run it again, compare."""
        started = time.monotonic()
        until = names.STEPS[-1] if step == "main" else step
        self.stage.restore(f"before {until}")
        result = Result(step, point)
        result.faults += self._killed(until, point)
        result.faults += self._again(until)
        result.seconds = time.monotonic() - started
        return result

    def _killed(self, until: str, point: Point) -> Iterator[str]:
        ended = self._run(until, point)
        if not any(p.name == point.name and p.role == point.role for p in chosen(self.stage.record, point.role)):
            yield "the point was not come to"
        if ended.status == 0:
            yield "it ended well though a process was killed"
        yield from (f"outlived the kill: {process}" for process in ended.left)
        found = self.stage.ask("seen", str(self.stage.home))
        new = self.expected[until if until == RECONCILE else names.STEPS[-1]]["predictions"]
        if found["predictions"] not in (self.old[until], new):
            yield f"after the kill the output is neither the old nor the new one: {found['predictions']}"
        yield from (f"after the kill: {damage}" for damage in found["damage"])

    def _again(self, until: str) -> Iterator[str]:
        again = self._run(until)
        yield from (f"outlived it: {process}" for process in again.left)
        if fault := _fault(again, until):
            yield fault
            return
        yield from compare.differences(self.expected[until], self._outcome(until))


def _fault(ended: Ended, until: str) -> str | None:
    """Why a main that should have come through its steps, or a reconcile, has not; None if it has."""
    last = until in (names.STEPS[-1], RECONCILE)
    through = ended.status == 0 if last else f"{until} is through" in ended.log
    return None if through else f"it ended with {ended.status}: {' / '.join(ended.log.splitlines()[-3:])}"


def _demand(ended: Ended, expected: str = "") -> None:
    if (expected and expected not in ended.log) or (not expected and ended.status != 0) or ended.left:
        raise RuntimeError(f"The undisturbed run failed ({ended.status}, left: {ended.left}):\n{ended.log[-5000:]}")
