"""What one training process asks of the others. `Alone` asks nobody; `baton.horovod` asks Horovod."""

from __future__ import annotations

from typing import Any

import numpy as np


class SingleProcess:
    """A single process: every answer is its own."""

    rank = 0
    size = 1

    def distribute(self, optimizer: Any) -> Any:
        """An optimizer whose gradients are averaged over all processes before they are applied."""
        return optimizer

    def broadcast(self, model: Any) -> None:
        """Give every process the first one's variables, model's and optimizer's."""

    def sum(self, values: np.ndarray) -> np.ndarray:
        """float64 values added up over all processes."""
        return values
