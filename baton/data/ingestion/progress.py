"""Rows as they are read or written in, a line in the log every few seconds out: how many, how fast, what is left."""

from __future__ import annotations

import logging
import time

log = logging.getLogger("baton")

EVERY_S = 10.0  # a short ingest says nothing


class Progress:
    """How far a pass over a source is; of its rows nothing is known before the first pass ends, of its bytes it is."""

    def __init__(self, done: str, of_bytes: int):
        self.done, self.of_bytes = done, max(1, of_bytes)
        self.rows, self.started = 0, time.monotonic()
        self.next = self.started + EVERY_S

    def add(self, rows: int, read: int) -> None:
        """So many rows more, with which so many bytes of the source are read in all."""
        self.rows += rows
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + EVERY_S
        passed, share = now - self.started, min(1.0, read / self.of_bytes)
        left = f", some {passed / share - passed:,.0f} s to go" if share else ""
        rate = self.rows / passed
        log.info("%s %s rows, %s a second: %.0f %%%s", self.done, f"{self.rows:,}", f"{rate:,.0f}", 100 * share, left)
