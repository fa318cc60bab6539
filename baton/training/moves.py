"""How far pictures are flipped, shifted, turned, zoomed and sheared in, moved pictures out: one resampling for all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from baton.config.schema import Augment
from baton.training.draws import Draws
from baton.training.tones import KINDS


@dataclass
class Moves:
    """Of pictures [n]: whether they are flipped, the pixels that they are shifted by, degrees, scale and shear.

    What comes in at the edges is the edge, repeated.
    """

    flip_x: np.ndarray
    flip_y: np.ndarray
    shift_x: np.ndarray
    shift_y: np.ndarray
    degrees: np.ndarray
    scale: np.ndarray  # pixels of the picture that a pixel of the result stands for
    shear_x: np.ndarray
    shear_y: np.ndarray

    @staticmethod
    def drawn(settings: Augment, draws: Draws, shape: tuple[int, ...]) -> Moves:
        """What the settings make of so many pictures of that shape [n, h, w, c]."""
        count, height, width = shape[:3]
        never, zeros = np.zeros(count, bool), np.zeros(count)
        moves = Moves(
            draws.uniform("flip") < 0.5 if settings.flip is True else never,
            draws.uniform("vertical flip") < 0.5 if settings.vertical_flip else never,
            np.rint(draws.within("shift x", settings.shift * width)),
            np.rint(draws.within("shift y", settings.shift * height)),
            draws.within("rotation", settings.rotation),
            1 + draws.within("zoom", settings.zoom),
            zeros.copy(),
            zeros.copy(),
        )
        if settings.crop:
            moves._crop(draws, settings.crop, height, width)
        if settings.randaugment:
            for index in range(settings.randaugment.operations):
                moves._randomly(draws, f"randaugment {index}", settings.randaugment.magnitude, height, width)
        return moves

    def applied(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [n, h, w, c] → the same, moved; by whole pixels where that is all."""
        still = (self.degrees == 0) & (self.scale == 1) & (self.shear_x == 0) & (self.shear_y == 0)
        if still.all():
            return self._by_pixels(pixels)
        return self._resampled(pixels)

    def _crop(self, draws: Draws, most: float, height: int, width: int) -> None:
        """A part of the picture, anywhere in it, takes its place."""
        side = np.sqrt(1 - draws.uniform("crop", 0, most))
        self.scale *= side
        self.shift_x += draws.within("crop x", 0.5) * (1 - side) * width
        self.shift_y += draws.within("crop y", 0.5) * (1 - side) * height

    def _randomly(self, draws: Draws, purpose: str, magnitude: float, height: int, width: int) -> None:
        kind, strength = draws.chosen(purpose, KINDS), draws.within(f"{purpose} strength", magnitude)
        self.degrees += np.where(kind == "rotate", 30 * strength, 0)
        self.shear_x += np.where(kind == "shear x", 0.3 * strength, 0)
        self.shear_y += np.where(kind == "shear y", 0.3 * strength, 0)
        self.shift_x += np.where(kind == "shift x", np.rint(0.45 * strength * width), 0)
        self.shift_y += np.where(kind == "shift y", np.rint(0.45 * strength * height), 0)

    def _by_pixels(self, pixels: np.ndarray) -> np.ndarray:
        if not (self.flip_x.any() or self.flip_y.any() or self.shift_x.any() or self.shift_y.any()):
            return pixels
        rows = _places(pixels.shape[1], self.shift_y, self.flip_y)
        return _along(pixels[np.arange(len(pixels))[:, None], rows], self.shift_x, self.flip_x)

    def _resampled(self, pixels: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        return tf.raw_ops.ImageProjectiveTransformV3(
            images=pixels,
            transforms=self._transforms(*pixels.shape[1:3]).astype(np.float32),
            output_shape=pixels.shape[1:3],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="NEAREST",
        ).numpy()

    def _transforms(self, height: int, width: int) -> np.ndarray:
        """[n, 8]: where in the picture a pixel (x, y) of the result lies, (a x + b y + c, d x + e y + f)."""
        angle = np.deg2rad(self.degrees)
        cos, sin = self.scale * np.cos(angle), self.scale * np.sin(angle)
        a, b = cos - sin * self.shear_y, cos * self.shear_x - sin
        d, e = sin + cos * self.shear_y, sin * self.shear_x + cos
        a, b = np.where(self.flip_x, -a, a), np.where(self.flip_x, -b, b)
        d, e = np.where(self.flip_y, -d, d), np.where(self.flip_y, -e, e)
        x, y = (width - 1) / 2, (height - 1) / 2
        c = x - a * x - b * y - np.where(self.flip_x, -self.shift_x, self.shift_x)
        f = y - d * x - e * y - np.where(self.flip_y, -self.shift_y, self.shift_y)
        nothing = np.zeros_like(a)
        return np.stack([a, b, c, d, e, f, nothing, nothing], axis=1)


def _places(size: int, shift: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """Where in a side of `size` pixels those of the result come from [n, size]."""
    places = np.clip(np.arange(size) - shift.astype(int)[:, None], 0, size - 1)
    return np.where(flip[:, None], size - 1 - places, places)


def _along(pixels: np.ndarray, shift: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """Pictures [n, h, w, c], flipped and then shifted along their rows; those that are alike at once."""
    out = np.empty_like(pixels)
    for step, mirrored in sorted(set(zip(shift.astype(int).tolist(), flip.tolist(), strict=True))):
        alike = np.flatnonzero((shift == step) & (flip == mirrored))
        source = pixels[alike][:, :, ::-1] if mirrored else pixels[alike]
        moved = np.empty_like(source)
        kept = max(0, source.shape[2] - abs(step))
        if step >= 0:
            moved[:, :, :step], moved[:, :, step:] = source[:, :, :1], source[:, :, :kept]
        else:
            moved[:, :, kept:], moved[:, :, :kept] = source[:, :, -1:], source[:, :, -step:]
        out[alike] = moved
    return out
