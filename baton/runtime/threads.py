"""A function and items in, its answers out, in order: computed in threads, a core each.

For work on columns: Arrow, and NumPy on whole arrays, let go of the interpreter while they compute.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def mapped(function: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """[function(item) for item in items]; raises what the first of them that fails raises."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))


def together(*tasks: Callable[[], Any]) -> list[Any]:
    """[task() for task in tasks], in threads likewise."""
    return mapped(lambda task: task(), tasks)
