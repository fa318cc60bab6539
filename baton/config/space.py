"""A search space as data in, what is wrong with it and the values it can give out. Knows nothing of Hyperopt.

A dotted key sets that key of the config. A key without a dot is a group: a choice of mappings, or one mapping.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

DISTRIBUTIONS = ("uniform", "loguniform", "quniform", "qloguniform", "normal", "lognormal", "randint")
INNER = (3 - math.sqrt(5)) / 2  # of a range: a place that no whole number stands on by chance

ROOT = "space"  # what the paths of a space's ranges and choices begin with
Place = tuple[str, ...]
Fault = tuple[Place, str, Any]  # where in the space, what is allowed there, what was received


def faults(tree: Any) -> list[Fault]:
    """All that makes no space of a tree, whatever its keys mean."""
    return list(_group_faults(tree, ()))


def settings(tree: Any, place: Place = ()) -> Iterator[tuple[Place, str, Any]]:
    """Every dotted key of a faultless space: its place, the key, and what is written for its value."""
    for key, value in tree.items():
        here = (*place, str(key))
        if "." in str(key):
            yield here, str(key), value
        elif is_choice(value):
            for index, option in enumerate(value["choice"]):
                yield from settings(option, (*here, "choice", str(index)))
        else:
            yield from settings(value, here)


def samples(value: Any) -> list[Any]:
    """What can be drawn for a value: every option and both ends of every range occur, not all their combinations."""
    if is_choice(value):
        return [sample for option in value["choice"] for sample in samples(option)]
    if is_distribution(value):
        ((kind, arguments),) = value.items()
        return _drawn(kind, arguments if isinstance(arguments, list) else [arguments])
    if isinstance(value, dict):
        columns = _together([samples(v) for v in value.values()])
        return [dict(zip(value, column, strict=True)) for column in columns]
    if isinstance(value, list):
        return [list(column) for column in _together([samples(v) for v in value])]
    return [value]


def place_of(tree: Any, written: Callable[[str], list[Any]]) -> dict[str, Any] | None:
    """Where a config lies in a faultless space, by path: each range's value, the number of each choice's option.

    `written` gives for a dotted key the values that count as the config's. None: the config lies outside.
    """
    return _group_place(tree, written, ROOT)


def is_choice(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == ["choice"]


def is_distribution(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in DISTRIBUTIONS


def bounds(kind: str, low: float, high: float, step: float = 0) -> tuple[float, float]:
    """The least and the greatest value of a range; with a step, the outermost multiples of it."""
    if not kind.startswith("q"):
        return low, high
    return math.ceil(low / step - 1e-9) * step, math.floor(high / step + 1e-9) * step


def _group_place(tree: Any, written: Callable[[str], list[Any]], path: str) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        here = f"{path}.{key}"
        if "." in str(key):
            inside = _first(_value_place(value, wanted, here) for wanted in written(key))
        elif is_choice(value):
            inside = _chosen(value, here, lambda option, at: _group_place(option, written, at))
        else:
            inside = _group_place(value, written, here)
        if inside is None:
            return None
        found |= inside
    return found


def _value_place(value: Any, wanted: Any, path: str) -> dict[str, Any] | None:
    if is_choice(value):
        return _chosen(value, path, lambda option, at: _value_place(option, wanted, at))
    if is_distribution(value):
        return {path: wanted} if _holds(value, wanted) else None
    if isinstance(value, dict | list):
        alike = type(value) is type(wanted) and len(value) == len(wanted)
        keys = value if isinstance(value, dict) else range(len(value))
        if not alike or (isinstance(value, dict) and value.keys() != wanted.keys()):
            return None
        inner = [_value_place(value[key], wanted[key], f"{path}.{key}") for key in keys]
        return None if None in inner else {at: v for part in inner if part for at, v in part.items()}
    return {} if isinstance(value, bool) == isinstance(wanted, bool) and value == wanted else None


def _chosen(value: Any, path: str, inside: Callable[[Any, str], dict[str, Any] | None]) -> dict[str, Any] | None:
    """The first option that holds what is looked for, and where within it."""
    options = enumerate(value["choice"])
    found = ((index, inside(option, f"{path}.{index}")) for index, option in options)
    return _first({path: index, **at} for index, at in found if at is not None)


def _first(places: Iterator[dict[str, Any] | None]) -> dict[str, Any] | None:
    return next((at for at in places if at is not None), None)


def _holds(value: dict[str, Any], wanted: Any) -> bool:
    """Whether a distribution can give out a value."""
    ((kind, arguments),) = value.items()
    arguments = arguments if isinstance(arguments, list) else [arguments]
    if not isinstance(wanted, int | float) or isinstance(wanted, bool):
        return False
    if kind == "randint":
        low, high = [0, *arguments][-2:]
        return isinstance(wanted, int) and low <= wanted < high
    if kind in ("normal", "lognormal"):
        return kind == "normal" or wanted > 0
    low, high = bounds(kind, *arguments)
    steps = wanted / arguments[2] if kind.startswith("q") else 0
    return low <= wanted <= high and abs(steps - round(steps)) < 1e-9


def _group_faults(tree: Any, place: Place) -> Iterator[Fault]:
    if not isinstance(tree, dict):
        yield place, "a group takes mappings of dotted keys, such as train.learning_rate", tree
        return
    for key, value in tree.items():
        here = (*place, str(key))
        if "." in str(key):
            yield from _value_faults(value, here)
        elif is_choice(value) and isinstance(value["choice"], list) and value["choice"]:
            for index, option in enumerate(value["choice"]):
                yield from _group_faults(option, (*here, "choice", str(index)))
        elif is_choice(value):
            yield here, "choice takes a list of options", value["choice"]
        elif isinstance(value, dict) and not is_distribution(value):
            yield from _group_faults(value, here)
        else:
            yield here, "has no dot, so it is a group, whose options must be mappings of dotted keys", value


def _value_faults(value: Any, place: Place) -> Iterator[Fault]:
    if is_choice(value):
        options = value["choice"]
        if not isinstance(options, list) or not options:
            yield place, "choice takes a list of options", options
            return
        yield from _inner_faults(enumerate(options), (*place, "choice"))
    elif is_distribution(value):
        ((kind, arguments),) = value.items()
        if rule := _broken_rule(kind, arguments if isinstance(arguments, list) else [arguments]):
            yield place, f"{kind} takes {rule}", arguments
    elif isinstance(value, dict | list):
        yield from _inner_faults(value.items() if isinstance(value, dict) else enumerate(value), place)


def _inner_faults(items: Any, place: Place) -> Iterator[Fault]:
    for key, value in items:
        yield from _value_faults(value, (*place, str(key)))


def _broken_rule(kind: str, arguments: list[Any]) -> str | None:
    """What a distribution takes, if these arguments are not that."""
    if not all(isinstance(a, int | float) and not isinstance(a, bool) and math.isfinite(a) for a in arguments):
        return "numbers"
    wanted = {"quniform": (3,), "qloguniform": (3,), "randint": (1, 2)}.get(kind, (2,))
    if len(arguments) not in wanted:
        return f"{' or '.join(map(str, wanted))} number{'s' * (wanted != (1,))}"
    if kind == "randint":
        low, high = [0, *arguments][-2:]
        return None if all(isinstance(a, int) for a in arguments) and low < high else "whole numbers low < high"
    if kind in ("normal", "lognormal"):
        return None if arguments[1] > 0 else "a mean and a deviation > 0"
    return _broken_range(kind, *arguments)


def _broken_range(kind: str, low: float, high: float, step: float = 1) -> str | None:
    if low >= high:
        return "low < high"
    if step <= 0:
        return "a step > 0"
    first, last = bounds(kind, low, high, step)
    if "log" in kind and first <= 0:  # written in the parameter's own unit, not as logarithms
        return "0 < low < high"
    return None if first <= last else "a range that holds a multiple of its step"


def _drawn(kind: str, arguments: list[Any]) -> list[float]:
    """The ends of a distribution and a value amid it; of one without ends, a value."""
    if kind == "randint":
        low, high = [0, *arguments][-2:]
        return [low, high - 1]
    if kind in ("normal", "lognormal"):
        amid = arguments[0] + INNER * arguments[1]
        return [math.exp(amid) if kind == "lognormal" else amid]
    low, high = bounds(kind, *arguments)
    if kind.startswith("q"):
        return [low, min(low + arguments[2], high), high]
    return [math.nextafter(low, high), low + INNER * (high - low), math.nextafter(high, low)]


def _together(columns: list[list[Any]]) -> list[tuple[Any, ...]]:
    """Lists of values side by side, the shorter ones begun anew: every value occurs."""
    most = max(map(len, columns), default=1)
    return [tuple(column[i % len(column)] for column in columns) for i in range(most)]
