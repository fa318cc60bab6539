"""How work grows with its size, by ratios: seconds differ from machine to machine."""

import time
from collections.abc import Callable
from typing import Any

ROUNDS = 4  # on a busy machine one round of calls may be slow by chance; what is quadratic is slow in all


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

    By the least of all rounds. Nobody can tell of a tenth of a millisecond.
    """
    least, most = float("inf"), float("inf")
    for _ in range(ROUNDS):
        least, most = min(least, seconds(function, short)), min(most, seconds(function, four_times))
        if most < 8 * max(least, 1e-4):
            return True
    return False
