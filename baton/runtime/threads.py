"""A function and items in, its answers out, in order: computed in threads, a core each.

For work on columns, and on parts of a table: Arrow, and NumPy on whole arrays, let go of the interpreter while they
compute.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


RUNS = 16  # that a core gets one after the other, of many items: each costs a hand-over
of_thread = threading.local()


def mapped(function: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """[function(item) for item in items]; raises what the first of them that fails raises.

    Within `streams.streamed` the thread does it alone: the cores are busy with other parts.
    """
    cores, whole = os.cpu_count() or 1, list(items)
    if getattr(of_thread, "streams", False):
        return [function(item) for item in whole]
    size = max(1, len(whole) // (RUNS * cores))
    runs = [whole[start : start + size] for start in range(0, len(whole), size)]
    with ThreadPoolExecutor(cores) as pool:
        return [answer for answers in pool.map(lambda run: list(map(function, run)), runs) for answer in answers]


def together(*tasks: Callable[[], Any]) -> list[Any]:
    """[task() for task in tasks], in threads likewise."""
    return mapped(lambda task: task(), tasks)


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The items in order; a thread computes the next one while one is used, and holds no more than that."""
    end, iterator = object(), iter(items)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, iterator, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, iterator, end)
            yield item  # type: ignore[misc]
