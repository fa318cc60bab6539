"""How work grows with its size, by ratios: seconds differ from machine to machine."""

import time
from collections.abc import Callable
from typing import Any


def seconds(function: Callable[[Any], object], argument: Any) -> float:
    """The least of three calls' own CPU time: what else the machine does counts little."""
    took = []
    for _ in range(3):
        started = time.thread_time()
        function(argument)
        took.append(time.thread_time() - started)
    return min(took)


def is_linear(function: Callable[[Any], object], short: Any, four_times: Any) -> bool:
    """Whether four times as much takes less than eight times as long: what is quadratic takes sixteen times.

    Nobody can tell of a tenth of a millisecond.
    """
    return seconds(function, four_times) < 8 * max(seconds(function, short), 1e-4)
