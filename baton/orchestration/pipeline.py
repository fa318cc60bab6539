"""What main does with each step: start it as a process, keep its end, and sum all of it up."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Any

from baton import names
from baton.config.schema import Config
from baton.errors import StepFailed
from baton.orchestration import cache, results, summary
from baton.orchestration.warm_process import WarmProcess
from baton.registry import versions
from baton.tracking import runs
from baton.tracking.runs import Run

log = logging.getLogger("baton")


LAST_WORDS_S = 15.0  # a process that a killed step has left behind may hold its standard error open


class Pipeline:
    """Runs steps one after another under main's run; writes summary.json however it ends."""

    def __init__(self, config: Config, run: Run, force: str):
        self.config, self.main = config, run
        self.force = results.forced(force)
        self.steps = summary.skipped_steps()
        self.known: dict[str, Any] = {}  # finished MLflow runs by ID: what is in them will not change
        self.next: WarmProcess | None = None
        self.started = time.monotonic()

    def __enter__(self) -> Pipeline:
        # All code is hashed now, before any process has imported it: what is edited meanwhile, and run or not
        # run by a process that was started ahead, must not stand under the hash of the edited file.
        for step in names.STEPS:
            cache.code(f"steps/{step}.py")
        closed = runs.close_abandoned(self.main.experiment_id)
        if closed:
            log.warning("marked KILLED %d runs that a killed main had left open", len(closed))
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._close("" if error is None else runs.sentence(error))
        except Exception as second:
            if error is None:
                raise
            log.warning("main's summary could not be logged: %s", second)  # the first error is the one to tell

    def _close(self, error: str) -> None:
        """End what is left of the steps, log the summary and the report; `error` is what ended main, if it failed."""
        self._dismiss()
        runs.close_below(self.main, {entry["run_id"] for entry in self.steps.values() if entry["run_id"]})
        seconds = round(time.monotonic() - self.started, 2)
        summary.log(self.config, self.main, self.steps, seconds, error, self.known)

    def run(self, step: str, **inputs: str) -> str:
        """Run one step to its end, or find its result; return the run that has it. Raises `StepFailed`."""
        parameters = {"config": self.main.options["config"], "set": self.main.options["set"], **inputs}
        started = time.monotonic()
        run_id = runs.create_child(self.main, step, parameters)
        entry = self.steps[step]
        entry |= {"run_id": run_id, "status": "failed"}
        try:
            source, entry["cache"] = results.look_up(
                step, self.config, inputs, runs.client().get_run(run_id), step in self.force, self.known
            )
            log.info("%s: %s", step, entry["cache"])
            if source is None:
                self._process(step, inputs, run_id)
            else:
                self._dismiss()
            entry |= {"status": "cached", "run_id": source} if source else {"status": "finished"}
        except KeyboardInterrupt:
            runs.close(run_id, "KILLED")
            raise
        finally:
            entry["seconds"] = round(time.monotonic() - started, 2)
            if entry["status"] == "cached":  # by a run that nobody else could have closed
                runs.client().set_terminated(run_id, "FINISHED")
            else:
                runs.close(run_id, "FAILED" if entry["status"] == "failed" else "FINISHED")
        return source or run_id

    def can_score(self) -> bool:
        """Whether there is something to score and a champion to score it with."""
        return versions.can_score(self.config)

    def _process(self, step: str, inputs: dict[str, str], run_id: str) -> None:
        """Let the step's process work in its run, and start the next one's meanwhile."""
        process, self.next = self._warm_process(step), None
        try:
            last = process.work(run_id, inputs, self.config)
            self._prepare_next(step)
            status = process.process.wait()
        except BaseException:
            self._dismiss()
            process.end()
            raise
        last.join(LAST_WORDS_S)
        if status != 0:
            raise StepFailed(step, last.line, status)

    def _warm_process(self, step: str) -> WarmProcess:
        """The process of that step which waits already, or a new one."""
        import mlflow

        if self.next is not None and self.next.step == step:
            return self.next
        options = {name: self.main.options[name] for name in ("config", "set")}
        environment = {
            "MLFLOW_EXPERIMENT_ID": self.main.experiment_id,
            "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
        }
        return WarmProcess(step, options, environment)

    def _prepare_next(self, step: str) -> None:
        """Start the process of the step after this one, if there will be one."""
        later = names.STEPS[names.STEPS.index(step) + 1 :]
        if later and (later[0] != "batch_infer" or self.config.batch_infer is not None):
            self.next = self._warm_process(later[0])

    def _dismiss(self) -> None:
        """End the process that waits, if there is one: nobody needs it."""
        if self.next is not None:
            self.next.end()
            self.next = None
