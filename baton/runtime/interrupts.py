"""The signals that stop a process: an exception where its work may be left, again and again until that is under way."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

STOPPED = "Stopped by a signal."  # what ended the work, as the last line and the run's tag tell it
AGAIN_S = 1.0  # an exception out of a weak reference's callback, or out of C, is printed and gone
AMID_TRANSACTION_S = 0.05
# A step that was stopped still closes its run; it waits no longer for a server that does not answer.
HURRY = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}

_stopped = False


def listen() -> None:
    """From now on `KeyboardInterrupt` is raised in the main thread by each of `numbers()`; only that can ask for it."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in numbers():
        signal.signal(number, _interrupt)


def ignore() -> None:
    """What was stopped has ended: there is nothing more to stop."""
    global _stopped
    _stopped = True
    if threading.current_thread() is threading.main_thread():
        for number in numbers():
            signal.signal(number, signal.SIG_IGN)


def stopped() -> bool:
    """Whether this process's work was stopped, and has ended."""
    return _stopped


def numbers() -> list[signal.Signals]:
    """The signals that stop: Ctrl-C, `kill`, and the end of the terminal, but for what nohup has started."""
    hang_up = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hang_up]


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The first signal stops the work, more of them must not stop the stopping; but not amid a transaction.

    MLflow's store rolls back for an `Exception` only: left in between, SQLite stays locked against
    this very process, which could not close its run.
    """
    if _under_way():
        return
    if _in_transaction(frame):
        _again(number, AMID_TRANSACTION_S)
        return
    os.environ.update(HURRY)
    _again(number, AGAIN_S)
    raise KeyboardInterrupt


def _again(number: int, seconds: float) -> None:
    later = threading.Timer(seconds, os.kill, (os.getpid(), number))
    later.daemon = True
    later.start()


def _under_way() -> bool:
    """Whether the main thread, where handlers run, is leaving its work already: within an except, finally or with."""
    error = sys.exception()
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _in_transaction(frame: FrameType | None) -> bool:
    """Whether a call of MLflow's SQL stores is under way; those that speak HTTP, and uploads, may be left."""
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("sqlalchemy.") or (name.startswith("mlflow.store.") and _is_of_sql(name)):
            return True
        frame = frame.f_back
    return False


def _is_of_sql(module: str) -> bool:
    return "sqlalchemy" in module or module.startswith("mlflow.store.db.")
