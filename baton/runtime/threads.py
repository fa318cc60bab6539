"""A function and items in, its answers out, in order: computed in threads, a core each.

For work on columns, and on parts of a table: Arrow, and NumPy on whole arrays, let go of the interpreter while they
compute.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


RUNS = 16  # that a core gets one after the other, of many items: each costs a hand-over
PARTS_AT_ONCE = 8  # parts that are worked on at once, whatever the cores: each is held in memory
_of_thread = threading.local()


def mapped(function: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """[function(item) for item in items]; raises what the first of them that fails raises.

    Within `streamed` the thread does it alone: the cores are busy with other parts.
    """
    cores, whole = os.cpu_count() or 1, list(items)
    if getattr(_of_thread, "streams", False):
        return [function(item) for item in whole]
    size = max(1, len(whole) // (RUNS * cores))
    runs = [whole[start : start + size] for start in range(0, len(whole), size)]
    with ThreadPoolExecutor(cores) as pool:
        return [answer for answers in pool.map(lambda run: list(map(function, run)), runs) for answer in answers]


def together(*tasks: Callable[[], Any]) -> list[Any]:
    """[task() for task in tasks], in threads likewise."""
    return mapped(lambda task: task(), tasks)


def streamed(function: Callable[[Item], Answer], items: Iterable[Item]) -> Iterator[Answer]:
    """function(item) for each item, in order, a thread an item; items are taken as fast as answers are.

    At most one item more than threads is under way, so that memory does not grow with their number.
    """
    threads = min(os.cpu_count() or 1, PARTS_AT_ONCE)
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
    _of_thread.streams = True
