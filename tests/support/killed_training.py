"""A training that kills itself in an epoch: `python killed_training.py CONFIG DATASET CHECKPOINT EPOCH`."""

import json
import os
import signal
import sys
from pathlib import Path

import keras

from baton.config.schema import validate
from baton.data.dataset import Dataset
from baton.training import fit
from baton.training.checkpoints import Checkpoint


class Kill(keras.callbacks.Callback):
    """Stops all by `how` after the first execution of an epoch."""

    def __init__(self, epoch: int, how) -> None:
        super().__init__()
        self.at, self.how, self.now = epoch, how, -1

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        self.now = epoch

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        if self.now == self.at:
            self.how()


if __name__ == "__main__":
    config, dataset, checkpoint, epoch = sys.argv[1:]
    kill = Kill(int(epoch), lambda: os.kill(os.getpid(), signal.SIGKILL))
    config = validate(json.loads(config), {}, "test")
    fit.train(config, Dataset.load(dataset), callbacks=[kill], checkpoint=Checkpoint(Path(checkpoint), "killed"))
