"""What a model keeps of its intervals and predictions in, their ends out: all of `conformal` that scoring needs."""

from __future__ import annotations

from typing import Any

import numpy as np


def bounds(kept: dict[str, Any], predicted: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """What `conformal.fit_intervals` gave, predictions [rows] and one of its levels → lower and upper ends [rows]."""
    widths = np.asarray(kept["half_widths"][str(level)])
    half = widths[np.searchsorted(np.asarray(kept["edges"]), predicted, side="right")]
    return np.maximum(predicted - half, kept.get("least", -np.inf)), predicted + half
