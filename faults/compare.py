"""Two plain values in, where they differ out. It imports nothing: so the loop starts at once."""

from __future__ import annotations

from typing import Any

NAME = "faults"  # of the config, the experiment and the registered model


def differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Where two plain values differ, each place as a sentence."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [*one, *(key for key in other if key not in one)]
        return [d for k in keys for d in differences(one.get(k), other.get(k), f"{place}.{k}".lstrip("."))]
    return [] if one == other else [f"{place}: {_short(one)} → {_short(other)}"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 300 else f"{text[:297]}…"
