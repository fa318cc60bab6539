"""Trials in, finished trials out, each a job of one task on Spark Connect, which SparkTrials does not work with."""

from __future__ import annotations

import functools
import json
import math
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import pyarrow as pa

from baton.config.schema import Config
from baton.runtime import spark
from baton.tuning.hyperopt import Trial

LOOK_S = 1.0  # between two times that jobs whose time is over are interrupted: one that begins now is no job yet
THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
Objective = Callable[[dict[str, Any]], dict[str, Any]]  # a trial's parameters → its fields once it has ended


class Tasks:
    """A session that runs `tune.parallelism` trials at once. A trial whose process dies whenever Spark tries it fails
    alone; those at work when the time is over are interrupted, as SparkTrials does."""

    def __init__(self, config: Config):
        self.session, self.settings = spark.session(config), config.tune
        self.tag = f"baton-trials-{uuid.uuid4().hex}"

    def evaluate(self, objective: Objective, trials: list[Trial], deadline: float) -> Iterator[Trial]:
        """Trials as they finish, none begun after `deadline` (of time.monotonic); those not done by then are left out.

        Without a deadline (inf) they may take `hang_timeout_s`.
        """
        end = deadline if math.isfinite(deadline) else time.monotonic() + self.settings.hang_timeout_s
        waiting, running = list(trials), dict[Future, Trial]()
        with ThreadPoolExecutor(self.settings.parallelism) as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < self.settings.parallelism and time.monotonic() < end:
                        trial = waiting.pop(0)
                        running[pool.submit(self._run, objective, trial.parameters)] = trial
                    done, _ = wait(running, max(0.0, end - time.monotonic()), FIRST_COMPLETED)
                    if not done:
                        return
                    yield from [running.pop(future).ended(future.result()) for future in done]
            finally:
                self._interrupt(running)

    def _run(self, objective: Objective, parameters: dict[str, Any]) -> dict[str, Any]:
        """One job → the trial's fields, where the job itself failed too."""
        from pyspark.errors import PySparkException

        self.session.addTag(self.tag)  # of this thread's jobs
        task = functools.partial(_answered, objective, parameters)
        try:
            rows = self.session.range(0, 1, 1, 1).mapInArrow(lambda batches: task(batches), "outcome string").collect()
        except PySparkException as error:
            return {"status": "failed", "error": f"Spark ran its task in vain: {_line(error)}"}
        return json.loads(rows[0]["outcome"])

    def _interrupt(self, running: dict[Future, Trial]) -> None:
        """End the jobs that still run."""
        while wait(running, 0).not_done:
            self.session.interruptTag(self.tag)
            wait(running, LOOK_S)


def _answered(objective: Objective, parameters: dict[str, Any], batches: Iterator[pa.RecordBatch]) -> Iterator[Any]:
    """In the task: run the trial on one core → its fields as JSON."""
    import os

    for name in THREADS:
        os.environ.setdefault(name, "1")
    for _ in batches:
        pass
    yield pa.RecordBatch.from_pydict({"outcome": [json.dumps(objective(parameters))]})


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
