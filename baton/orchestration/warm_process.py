"""A step's process, started before its turn: it imports what it needs, then waits for its run on standard input.

Imports are most of a small step's time. `WarmProcess` is main's end of it, `handed_over` the step's. A
process that is not needed, or whose main is gone, sees the end of its input and ends without a word.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from typing import Any

from baton.config.schema import Config, validate
from baton.errors import escaped
from baton.redaction import masked
from baton.runtime import paths, processes

WAITS = "BATON_STANDBY"  # in the environment of a process that is to wait
# TensorFlow's C++ says this at every start, whatever its log level is set to.
NOISE = re.compile(r"All log messages before absl::InitializeLog|^(\[\d+\]<stderr>:)?I0000 ")
STEP_GRACE_S = 9.0  # a step ends its own children and closes its run meanwhile
WAITING_GRACE_S = 1.0


class WarmProcess:
    """The process `python -m steps.<step>`, with those of its options that are known already."""

    def __init__(self, step: str, options: dict[str, str], environment: dict[str, str]):
        self.step = step
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"{paths.STEPS}.{step}", *(f"--{name}={value}" for name, value in options.items())],
            cwd=paths.base(),
            env={**os.environ, **environment, WAITS: "1", processes.DRIVER: processes.me()},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",  # libraries print what they like
        )

    def work(self, run_id: str, inputs: dict[str, str], config: Config) -> _LastLine:
        """Hand over the run, the inputs and main's config; from now on its standard error is passed on."""
        assert self.process.stdin is not None
        last = _LastLine(self.process.stderr)
        try:
            self.process.stdin.write(json.dumps({"run_id": run_id, "inputs": inputs, "config": config.dump()}))
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it has failed already, and says why
        return last

    def end(self) -> None:
        """End the process and its children: one that works has time to close its run, one that waits has none."""
        assert self.process.stdin is not None
        processes.Tree(self.process.pid).end(STEP_GRACE_S if self.process.stdin.closed else WAITING_GRACE_S)
        self.process.wait()


def handed_over(inputs: dict[str, str], config: Config) -> tuple[dict[str, str], Config]:
    """A step's inputs and config: those of its command line, or those that main sends once it is this step's turn.

    The file may have changed since main read it, and main's is the one that the cache key tells of.
    """
    if not waits():
        return inputs, config
    text = sys.stdin.read()
    if not text:
        sys.exit(0)
    del os.environ[WAITS]
    message = json.loads(text)
    os.environ["MLFLOW_RUN_ID"] = message["run_id"]
    return message["inputs"], validate(message["config"], {}, "main")


def waits() -> bool:
    """Whether this process was started ahead, without its inputs."""
    return WAITS in os.environ


class _LastLine(threading.Thread):
    """Copies a stream to standard error and remembers its last line that is not blank."""

    def __init__(self, stream: Any):
        super().__init__(daemon=True)
        self.stream, self.line = stream, "it ended without a word"
        self.start()

    def run(self) -> None:
        for text in self.stream:
            if NOISE.search(text):
                continue
            with contextlib.suppress(OSError):  # nobody reads main's any more: the step must not wait for that
                sys.stderr.write(escaped(masked(text), keep="\n\t"))
                sys.stderr.flush()
            if text.strip():
                self.line = text.strip()
