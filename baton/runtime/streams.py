"""A function and parts of a table in, its answers out, in order: a thread a part, in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from baton.runtime.threads import of_thread

Item = TypeVar("Item")
Answer = TypeVar("Answer")

MAX_THREADS = 8  # parts that are worked on at once, whatever the cores: each is held in memory


def streamed(function: Callable[[Item], Answer], items: Iterable[Item]) -> Iterator[Answer]:
    """function(item) for each item, in order, a thread an item; items are taken as fast as answers are.

    At most one item more than threads is under way, so that memory does not grow with their number.
    """
    threads = min(os.cpu_count() or 1, MAX_THREADS)
    waiting: deque[Future[Answer]] = deque()
    with ThreadPoolExecutor(threads, initializer=_stream) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _stream() -> None:
    of_thread.streams = True
