"""All that one training is given, in one piece."""

from __future__ import annotations

from dataclasses import dataclass, field

import keras
import numpy as np

from baton.config.schema import Config
from baton.data.feed import Feed
from baton.networks.prediction import predict_pieces
from baton.training.callbacks import OnEpoch
from baton.training.checkpoints import Checkpoint
from baton.training.collective import Collective

TEMPERATURES = np.exp(np.linspace(-1.5, 1.5, 31))


@dataclass(frozen=True)
class Task:
    """A config, its sizes filled in, the feeds, and what is called and kept on the way."""

    config: Config
    feed: Feed
    validation: Feed
    collective: Collective
    callbacks: list[keras.callbacks.Callback] = field(default_factory=list)
    on_epoch: OnEpoch | None = None
    checkpoint: Checkpoint | None = None

    def log_loss(self, network: keras.Model) -> float:
        """A network → its log loss on all validation rows, at the temperature that suits it best."""
        losses = np.zeros(len(TEMPERATURES))
        for target, shares in predict_pieces(network, self.validation):
            logits = np.log(np.clip(shares, 1e-7, 1.0))
            for index, temperature in enumerate(TEMPERATURES):
                warm = logits / temperature
                of_target = warm[np.arange(len(target)), target]
                losses[index] += (np.log(np.exp(warm).sum(axis=1)) - of_target).sum()
        rows = self.collective.sum(np.array([float(self.validation.rows)]))[0]
        return float(self.collective.sum(losses).min() / rows)
