"""A process's sign of life, a file that it writes as its work goes on, and how whoever waits for it sees a hang.

The work itself writes it and no thread of its own, which would go on in a process whose work hangs.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = "beat"
PERIOD_S = 1.0  # between two signs, at least
LOOK_S = 2.0  # between two looks; what is longer was no silence of the others, but a rest of the one who looks

_file: Path | None = None
_last = 0.0


def start(file: Path) -> None:
    """From now on this process's signs go to `file`; several processes may share it."""
    global _file
    _file = file


def beat() -> None:
    """Say that the work goes on; nothing in a process that nobody waits for."""
    global _last
    if _file is not None and time.monotonic() - _last >= PERIOD_S:
        _last = time.monotonic()
        with contextlib.suppress(OSError):  # of a sign that cannot be given the work need not end
            _file.touch()


def beat_in_graph() -> Callable[[], None]:
    """The same for a loop within a TensorFlow graph, which Python sees nothing of; some millionths of a second."""
    if _file is None:
        return lambda: None
    import tensorflow as tf

    path, last = str(_file), tf.Variable(0.0, dtype=tf.float64, trainable=False)

    def write() -> bool:
        tf.io.write_file(path, "")
        last.assign(tf.timestamp())
        return True

    return lambda: tf.cond(tf.timestamp() - last >= PERIOD_S, write, lambda: False)


class Watch:
    """Whether the work behind a file goes on.

    `first` seconds may pass until its first sign, and `between` until each other one, by the clock of this process:
    a file server's may be another.
    """

    def __init__(self, file: Path, first: float, between: float):
        self.file, self.limit, self.between = file, first, between
        self.sign, self.silence, self.looked = self._sign(), 0.0, time.monotonic()

    def hangs(self) -> bool:
        """Look: was it silent for longer than it may?"""
        sign, now = self._sign(), time.monotonic()
        if sign != self.sign:
            self.sign, self.silence, self.limit = sign, 0.0, self.between
        else:
            self.silence += min(now - self.looked, LOOK_S)
        self.looked = now
        return self.silence > self.limit

    def _sign(self) -> int:
        try:
            return self.file.stat().st_mtime_ns
        except OSError:
            return 0


@contextmanager
def watched(watch: Watch, end: Callable[[], None]) -> Iterator[None]:
    """Look, from a thread, while something is waited for; `end` it should it hang."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_S / 2):
            if watch.hangs():
                end()
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
