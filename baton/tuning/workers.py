"""Trials in, finished trials out: one trial is a short training; here it runs in warm workers."""

from __future__ import annotations

import importlib
import math
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Any

from baton.config.schema import Config, Tune
from baton.data.dataset import Dataset
from baton.errors import BatonError, Diverged
from baton.runtime import heartbeat, processes
from baton.tuning.hyperopt import Trial

NETWORKS = 4  # side by side, at most: what suits them suits more of them, but what suits one by itself does not
START_S = 120  # a worker's first sign of life may come so much later: it imports TensorFlow before
Objective = Callable[[dict[str, Any]], dict[str, Any]]  # a trial's parameters → its fields once it has ended


class Workers:
    """Processes that keep TensorFlow loaded between trials; one that dies or hangs fails its trial.

    Each is a pool of its own, for a pool that loses one process ends them all. They start at once.
    """

    def __init__(self, settings: Tune):
        self.threads = max(1, (os.cpu_count() or 1) // settings.parallelism)
        self.hang_timeout_s = settings.hang_timeout_s
        self.home = Path(tempfile.mkdtemp(prefix="baton-trials-"))
        self.beats: dict[ProcessPoolExecutor, Path] = {}
        self.idle = [self._start() for _ in range(settings.parallelism)]
        # Without a task a process would not start yet; this one tells when it was up.
        self.ups = [worker.submit(time.time) for worker in self.idle]
        self.running: dict[Future, tuple[Trial, ProcessPoolExecutor, heartbeat.Watch]] = {}
        self.needed: float | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for worker in (*self.idle, *(worker for _, worker, _ in self.running.values())):
            _stop(worker)
        shutil.rmtree(self.home, ignore_errors=True)

    def evaluate(self, objective: Objective, trials: list[Trial], deadline: float) -> Iterator[Trial]:
        """Finished trials, as they finish; none is begun after `deadline` (of time.monotonic)."""
        self.needed = self.needed or time.time()
        waiting, finished = list(trials), list[Trial]()
        while waiting or self.running:
            while waiting and self.idle and time.monotonic() < deadline:
                self._submit(objective, waiting.pop(0), self.idle.pop())
            yield from finished  # not sooner: whoever takes them keeps no worker waiting
            if not self.running:
                return
            done, _ = wait(self.running, heartbeat.LOOK_S / 2, FIRST_COMPLETED)
            finished = [self._finish(future) for future in done] + self._end_hanging()
        yield from finished

    def waited(self) -> float:
        """For how long the search had to wait for its workers to be up: seconds, the mean of all workers."""
        ups = [up.result() for up in self.ups if up.done() and not up.exception()]
        return sum(max(0.0, up - (self.needed or up)) for up in ups) / len(self.ups)

    def _submit(self, objective: Objective, trial: Trial, worker: ProcessPoolExecutor) -> None:
        try:
            future = worker.submit(objective, trial.parameters)
        except BrokenProcessPool:  # it died between two trials
            worker = self._restarted(worker)
            future = worker.submit(objective, trial.parameters)
        beat = self.beats[worker]
        first = self.hang_timeout_s + (0 if beat.exists() else START_S)
        self.running[future] = trial, worker, heartbeat.Watch(beat, first, self.hang_timeout_s)

    def _finish(self, future: Future) -> Trial:
        trial, worker, _ = self.running.pop(future)
        try:
            outcome = future.result()
        except BrokenProcessPool:
            outcome = {"status": "failed", "error": "The worker process died."}
            worker = self._restarted(worker)
        self.idle.append(worker)
        return trial.ended(outcome)

    def _end_hanging(self) -> list[Trial]:
        """End the workers whose trials hang; these trials, failed."""
        return [self._end(future) for future, (_, _, watch) in list(self.running.items()) if watch.hangs()]

    def _end(self, future: Future) -> Trial:
        trial, worker, watch = self.running.pop(future)
        self.idle.append(self._restarted(worker))
        sentence = (
            f"The trial hangs: for {watch.limit:g} seconds it has trained or scored no batch (tune.hang_timeout_s)."
        )
        return trial.ended({"status": "failed", "error": sentence})

    def _start(self) -> ProcessPoolExecutor:
        beat = self.home / f"{heartbeat.FILE}-{len(self.beats)}"
        worker = ProcessPoolExecutor(1, get_context("spawn"), _start_worker, (self.threads, processes.me(), beat))
        self.beats[worker] = beat
        return worker

    def _restarted(self, worker: ProcessPoolExecutor) -> ProcessPoolExecutor:
        _stop(worker)
        return self._start()


def _stop(worker: ProcessPoolExecutor) -> None:
    for process in (worker._processes or {}).values():
        process.kill()  # one that is frozen does not see SIGTERM
    # Waits for the pool's thread: while it closes its pipe, the interpreter's end would write to it.
    worker.shutdown(wait=True, cancel_futures=True)


def run_trial(config: Config, folder: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Train as the parameters say → the trial's fields; a failure is an answer, not an exception."""
    from baton.training import fit

    started = time.monotonic()
    outcome: dict[str, Any] = {"parameters": parameters, "status": "ok", "loss": None, "error": ""}
    history: dict[str, list[float]] = {}

    def remember(epoch: int, logs: dict[str, float]) -> None:
        for name, value in logs.items():
            history.setdefault(name, []).append(value)

    try:
        networks = min(config.model.networks, NETWORKS)
        trial_config = config.overridden({"model.networks": networks, **parameters, "train.epochs": config.tune.epochs})
        dataset = Dataset.load(folder)
        shards = min(math.ceil(dataset.rows["train"] / config.tune.max_rows), len(dataset.row_groups("train")))
        result = fit.train(trial_config, dataset, on_epoch=remember, train_shards=shards, race=False)
        outcome["loss"] = result.best_value
    except Diverged as error:
        outcome |= {"status": "diverged", "error": str(error)}
    except Exception as error:  # noqa: BLE001 - a search goes on after any trial
        kind = "" if isinstance(error, BatonError) else f"{type(error).__name__}: "
        outcome |= {"status": "failed", "error": kind + " ".join(str(error).split())[:500]}
    return {**outcome, "history": history, "seconds": time.monotonic() - started}


def _start_worker(threads: int, driver: str, beat: Path) -> None:
    import logging

    heartbeat.start(beat)
    processes.end_with(driver, processes.die)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # it may be started while that one ignores it
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    logging.disable(logging.WARNING)  # TensorFlow warns that every trial's new network is traced anew
    for module in ("baton.training.fit", "petastorm"):  # the imports are what warms a worker
        importlib.import_module(module)
    heartbeat.beat()
