"""Pictures in, the same pictures changed a little out: what training sees in their place, anew in each epoch.

All is done to a block of pictures at once, while it is bytes, where the feed puts a block together: neither
validation nor the exported model knows of it. What is drawn for a picture is a function of seed, epoch and the
picture's own pixels: wherever and whenever a row is read, an epoch changes it in the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from baton.config.schema import Augment
from baton.data.feed import Block
from baton.training import tones
from baton.training.draws import Draws
from baton.training.moves import Moves

ERASED = (0.02, 0.2)  # shares of the area
ASPECT = 3.3  # of a patch, at most


@dataclass(frozen=True)
class Augmentation:
    """The operations of `settings`, a flip decided; of pictures of so many `classes`."""

    settings: Augment
    seed: int
    classes: int

    @property
    def mixes(self) -> bool:
        """Whether targets are shares of classes [rows, classes]: pictures are mixed."""
        return bool(self.settings.mixup or self.settings.cutmix)

    def to_dict(self) -> dict[str, Any]:
        """The operations that are done, and how strongly."""
        return {name: value for name, value in self.settings.model_dump(mode="json").items() if value}

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.to_dict().items()) or "not at all"

    def __call__(self, rows: Block, epoch: int, batch_size: int) -> Block:
        """Rows of an epoch, in the batches that they train in → the same rows, changed."""
        draws = Draws(self.seed, epoch, rows["image"])
        pixels = self.changed(rows["image"], draws)
        if not self.mixes:
            return {**rows, "image": pixels}
        pixels, target = self._mixed(pixels, rows["target"], draws, batch_size)
        return {**rows, "image": pixels, "target": target}

    def changed(self, pixels: np.ndarray, draws: Draws) -> np.ndarray:
        """uint8 [n, h, w, c] → the same pictures moved, then toned, then with patches erased."""
        if not len(pixels):
            return pixels
        pixels = Moves.drawn(self.settings, draws, pixels.shape).applied(pixels)
        pixels = tones.applied(self.settings, draws, pixels)
        return _erased(pixels, draws, self.settings.erasing) if self.settings.erasing else pixels

    def _mixed(
        self, pixels: np.ndarray, target: np.ndarray, draws: Draws, batch_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pictures and classes → each mixed with another of its batch, and shares of classes float32 [n, classes]."""
        first = np.arange(len(pixels)) // batch_size * batch_size
        partner = first + (draws.uniform("partner") * np.minimum(batch_size, len(pixels) - first)).astype(int)
        mixup, cutmix = self.settings.mixup, self.settings.cutmix
        cut = draws.uniform("which mix") < 0.5 if mixup and cutmix else np.full(len(pixels), bool(cutmix))
        share = np.ones(len(pixels))  # that stays a picture's own
        out = pixels.copy()
        if cutmix:
            area = 1 - draws.beta("cutmix", cutmix)
            top, bottom, left, right = _patches(draws, "cutmix", area, np.ones(len(area)), pixels.shape)
            for row in np.flatnonzero(cut):
                patch = row, slice(top[row], bottom[row]), slice(left[row], right[row])
                out[patch] = pixels[partner[row]][patch[1:]]
            share[cut] -= ((bottom - top) * (right - left) / math.prod(pixels.shape[1:3]))[cut]
        if mixup:
            share[~cut] = draws.beta("mixup", mixup)[~cut]
            own = share[~cut, None, None, None].astype(np.float32)
            out[~cut] = np.rint(own * pixels[~cut] + (1 - own) * pixels[partner[~cut]])
        one_hot = np.eye(self.classes, dtype=np.float32)[target]
        own = share[:, None].astype(np.float32)
        return out, own * one_hot + (1 - own) * one_hot[partner]


def _erased(pixels: np.ndarray, draws: Draws, often: float) -> np.ndarray:
    """A patch takes the picture's mean tone (Zhong et al., "Random erasing", 2020)."""
    aspect = np.exp(draws.within("aspect", np.log(ASPECT)))
    top, bottom, left, right = _patches(draws, "erasing", draws.uniform("erased area", *ERASED), aspect, pixels.shape)
    out, mean = pixels.copy(), tones.means(pixels)
    for row in np.flatnonzero(draws.uniform("erased") < often):
        out[row, top[row] : bottom[row], left[row] : right[row]] = mean[row]
    return out


def _patches(
    draws: Draws, purpose: str, area: np.ndarray, aspect: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shares of the area [n] and widths over heights [n] → where patches begin and end: top, bottom, left and right.

    A patch's centre is anywhere; what lies beyond the picture is cut (Yun et al., "CutMix", 2019).
    """
    ends = []
    for axis, size, stretch in (("y", shape[1], aspect**-0.5), ("x", shape[2], aspect**0.5)):
        half = np.sqrt(area) * stretch * size / 2
        centre = draws.uniform(f"{purpose} {axis}", 0, size)
        ends += [np.clip(np.rint(end), 0, size).astype(int) for end in (centre - half, centre + half)]
    return ends[0], ends[1], ends[2], ends[3]
