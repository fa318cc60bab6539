"""A config with a pretrained backbone and pictures in, networks with a linear head that other pictures taught out.

Few pictures teach a network from scratch too little to judge labels by. A frozen backbone sees each picture once; a
head for each fold takes a second.
"""

from __future__ import annotations

import logging
import time

import keras
import numpy as np

from baton.config.schema import Config
from baton.data.feed import Block
from baton.data.preprocessing import Preprocessor
from baton.data.row_parts import picture_rows
from baton.networks import build
from baton.networks.backbones import block_ends, build_backbone
from baton.networks.prediction import predict
from baton.training.collective import SingleProcess
from baton.training.transfer import finetuning
from baton.training.transfer.probes import Rows, fit_probe

log = logging.getLogger("baton")


class ProbeJudges:
    """One network of a backbone whose head is fitted anew for each fold; `held` are all rows that heads learn from."""

    def __init__(self, config: Config, preprocessor: Preprocessor, held: Block):
        backbone = build_backbone(config.model, preprocessor.image_shape)
        self.network = build.on_backbone(backbone, block_ends(backbone)[-1], preprocessor, config.model)
        pooled = self.network.get_layer("head").input
        self.extractor = keras.Model(self.network.inputs, pooled)
        self.held, self.classes = held, len(preprocessor.classes)
        self.features = np.zeros((0, pooled.shape[-1]), np.float32)

    def seconds(self) -> float:
        """About how long it takes to look at one picture."""
        few = {"image": self.held["image"][: picture_rows(self.held["image"].shape[1:])]}
        predict(self.extractor, few)  # traces
        started = time.monotonic()
        predict(self.extractor, few)
        return (time.monotonic() - started) / len(few["image"])

    def learnt(self, numbers: np.ndarray, aside: np.ndarray) -> keras.Model:
        """Numbers of rows that the head learns from, and of those that choose its penalty → the network with it."""
        if not len(self.features):
            self.features = predict(self.extractor, {"image": self.held["image"]})
        train, validation = (
            Rows(self.features[part], self.held["target"][part], np.ones(len(part))) for part in (numbers, aside)
        )
        finetuning.with_head(self.network, fit_probe(train, validation, self.classes, SingleProcess()))
        return self.network


def affordable(judges: ProbeJudges, looks: int, seconds: float) -> bool:
    """Whether there is time to look at so many pictures; says so if not."""
    needed = looks * judges.seconds()
    if needed > seconds:
        log.info("audit: the backbone would take %.0f s of %.0f: the default network judges", needed, seconds)
    return needed <= seconds
