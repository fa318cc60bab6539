"""What one training process asks of the others: `SingleProcess` asks nobody, `training.horovod` asks Horovod."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np


class Collective(ABC):
    """The processes that train together: this one's number, how many they are, and what they do as one."""

    rank: int
    size: int

    @abstractmethod
    def distribute(self, optimizer: Any) -> Any:
        """An optimizer whose gradients are averaged over all processes before they are applied."""

    @abstractmethod
    def broadcast(self, model: Any) -> None:
        """Give every process the first one's variables, model's and optimizer's."""

    @abstractmethod
    def sum(self, values: np.ndarray) -> np.ndarray:
        """float64 values added up over all processes."""


class SingleProcess(Collective):
    """A process by itself: every answer is its own."""

    rank, size = 0, 1

    def distribute(self, optimizer: Any) -> Any:
        return optimizer

    def broadcast(self, model: Any) -> None:
        pass

    def sum(self, values: np.ndarray) -> np.ndarray:
        return values
