"""The command lines of all processes on this machine, which anybody on it can read, looked at time and again."""

import base64
import binascii
import contextlib
import threading
from pathlib import Path

PERIOD_S = 0.03  # a shell that only starts a worker lives longer


class CommandLines(threading.Thread):
    """All command lines that there were within its `with` block."""

    def __init__(self):
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self.over = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.over.set()
        self.join()

    def run(self):
        while not self.over.wait(PERIOD_S):
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):  # it has ended
                    self.seen.add((process / "cmdline").read_bytes())

    def started(self, name: str) -> bool:
        """Whether one of them has that in it."""
        return any(name.encode() in line for line in self.seen)

    def holding(self, text: str) -> list[str]:
        """Those with a text in them, be it in base64."""
        wanted = text.encode()
        return sorted(line.decode(errors="replace") for line in self.seen if wanted in line or wanted in decoded(line))


def decoded(line: bytes) -> bytes:
    """Those of a command line's words that are base64, decoded."""
    words = []
    for word in line.replace(b"'", b" ").replace(b"\0", b" ").split():
        with contextlib.suppress(binascii.Error):
            words.append(base64.b64decode(word, validate=True))
    return b" ".join(words)
