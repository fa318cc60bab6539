"""A signal stops a step, from outside: amid a request that is never answered, and where an exception is swallowed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tracking_server

from baton.runtime.interrupts import STOPPED

ROOT = Path(__file__).parents[2]
LIMIT_S = 30  # MLflow waits for two minutes, and tries again
IN_A_RUN = """
import sys
import tiny
from baton.orchestration import step
from baton.tracking import runs

def work():
    runs.reach()
    with runs.start("train", tiny.config(), {}) as run:
        run.tag("before", "all is well")
        LINE

sys.exit(step.guarded("train", work))
"""
IN_A_CALLBACK = """
import os, signal, sys, time, weakref
from baton.orchestration import step

class Thing:
    pass

def work():
    thing = Thing()
    lost = weakref.ref(thing, lambda reference: os.kill(os.getpid(), signal.SIGINT))
    del thing
    print("went on", flush=True)
    time.sleep(600)

sys.exit(step.guarded("train", work))
"""
IN_A_THREAD = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from baton.orchestration import step

def work():
    uploaded = ThreadPoolExecutor().submit(time.sleep, 600)
    print("uploads", flush=True)
    uploaded.result()

sys.modules["__main__"].__spec__ = SimpleNamespace(name="steps.train")
step._leave(step.guarded("train", work))
"""


def started(code: str, **environment: str) -> subprocess.Popen:
    """A process of its own that runs the code as a step does."""
    settings = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")} | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "support"))),
        **environment,
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=settings, text=True, **pipes)


@pytest.mark.parametrize(
    ("line", "hangs_at", "dead"),
    [('run.tag("slow", "1")', "slow", False), ('run.text("slow", "slow.txt")', "/slow.txt", True)],
    ids=["a request", "an upload, and the server is gone"],
)
def test_a_signal_amid_a_request_that_is_not_answered(line, hangs_at, dead):
    with tracking_server.serving(hangs_at=hangs_at, dead=dead) as server:
        step = started(IN_A_RUN.replace("LINE", line), MLFLOW_TRACKING_URI=server.uri)
        try:
            assert server.hangs.wait(120), step.communicate()
            step.send_signal(signal.SIGTERM)
            _, errors = step.communicate(timeout=LIMIT_S)
        finally:
            step.kill()
    assert (step.returncode, errors.splitlines()[-1]) == (1, STOPPED)
    assert dead or any("runs/update" in asked and "KILLED" in asked for asked in server.asked)


def test_an_interrupt_that_is_lost_in_a_callback_comes_again():
    step = started(IN_A_CALLBACK)
    try:
        output, errors = step.communicate(timeout=120)
    finally:
        step.kill()
    assert output == "went on\n" and "Exception ignored in" in errors, "the first was lost"
    assert (step.returncode, errors.splitlines()[-1]) == (1, STOPPED)


def test_an_upload_in_a_thread_is_left():
    """As MLflow uploads into S3 and the like."""
    step = started(IN_A_THREAD)
    try:
        assert step.stdout.readline() == "uploads\n"
        step.send_signal(signal.SIGTERM)
        _, errors = step.communicate(timeout=LIMIT_S)
    finally:
        step.kill()
    assert (step.returncode, errors.splitlines()[-1]) == (1, STOPPED)
