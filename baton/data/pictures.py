"""A picture's bytes in, a look at it out: its size and mode, hashes of what it shows, and what is odd about it.

One decoding serves the check whether it can be decoded at all, the size that training takes, the search for
duplicates and the profile. What is odd is measured as cleanvision measures it, on a copy of at most 256 pixels a side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from baton.data import images
from baton.runtime.threads import mapped

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 256  # pixels of the copy that is measured
GREY_MODES = ("1", "L", "LA", "La", *images.GREYS)
KEPT_LOOKS = 1 << 18  # looks that a process keeps: a stage of Spark, or a step, meets its pictures several times
GRID, LOW = 32, 8  # a perceptual hash is of the lowest 8 × 8 frequencies of 32 × 32 pixels
MIN_DETAIL = 8.0  # their median size, in grey levels, from which the hash's bits are no noise
# What is odd, and the value of its measure below which it is.
THRESHOLDS = {"dark": 0.32, "bright": 0.05, "odd aspect": 0.35, "low information": 0.3, "blurry": 0.29}
BLUR_SIDE = 64
WEIGHTS = np.array([0.241, 0.691, 0.068])  # of red, green and blue, squared, in brightness

_looks: dict[bytes, Look | str] = {}


@dataclass(frozen=True)
class Look:
    """What is known of a picture; `perceptual` is None where it has too little detail to be told from others."""

    shape: images.Shape  # as a person sees it, with the channels that it needs
    exact: int  # a hash of its pixels: alike for the same picture in another file
    perceptual: int | None
    oddities: tuple[str, ...]


def look(content: Any, max_pixels: int | None, background: int) -> Look | str:
    """A picture's bytes → a look at it, or why it cannot be used; what was seen before is remembered."""
    key = hashlib.blake2b(content, digest_size=16, salt=f"{max_pixels}:{background}".encode()[:16]).digest()
    if (seen := _looks.get(key)) is None:
        try:
            seen = _looked_at(content, max_pixels, background)
        except images.Unusable as fault:
            seen = str(fault)
        if len(_looks) >= KEPT_LOOKS:
            _looks.clear()
        _looks[key] = seen
    return seen


def look_at_all(cells: Sequence[Any], max_pixels: int | None, background: int) -> list[Look | str]:
    """Pictures' bytes [rows] → the look at each, or why it cannot be used."""
    images.pillow()
    return mapped(lambda cell: look(cell, max_pixels, background), cells)


def _looked_at(content: Any, max_pixels: int | None, background: int) -> Look:
    with images.failing(), images.opened(content, max_pixels) as image:
        height, width = images.upright_size(image)  # before a JPEG is reduced
        images.reduce(image, (SIDE // images.SPARE, SIDE // images.SPARE))
        whole = images.upright(image)
        if image.format not in images.JPEGS:  # some say at their end how they lie
            height, width = whole.height, whole.width
        channels = 1 if image.mode in GREY_MODES else 3
        flat = images.flattened(whole, 3, background)
        seen = hashlib.blake2b(flat.tobytes(), digest_size=8, key=f"{height}x{width}".encode()).digest()
        oddities = _oddities(flat, (height, width))
        exact = int.from_bytes(seen, "big")
        return Look((height, width, channels), exact, perceptual(flat.convert("L"), (height, width)), oddities)


def perceptual(grey: Image, size: tuple[int, int]) -> int | None:
    """A grey picture → 64 bits: which of its lowest frequencies are above their median; None without detail."""
    from scipy.fft import dctn

    if min(size) < GRID:
        return None
    pixels = np.asarray(grey.resize((GRID, GRID), images.pillow().Resampling.BILINEAR), np.float64)
    waves = dctn(pixels, norm="ortho")[:LOW, :LOW].ravel()
    if np.median(np.abs(waves[1:])) < MIN_DETAIL:
        return None
    return int.from_bytes(np.packbits(waves > np.median(waves)).tobytes(), "big")


def _oddities(flat: Image, size: tuple[int, int]) -> tuple[str, ...]:
    """An RGB picture, and the size of the whole → what is odd about it."""
    copy = flat.copy()
    copy.thumbnail((SIDE, SIDE), images.pillow().Resampling.BILINEAR)
    measured = measures(copy, size)
    odd = [name for name, value in measured.items() if value < THRESHOLDS[name]]
    return tuple(name for name in odd if name != "blurry" or "dark" not in odd)  # of the dark, edges say nothing


def measures(picture: Image, size: tuple[int, int]) -> dict[str, float]:
    """An RGB picture, and the (height, width) it had → cleanvision's measures, from 0 (odd) to 1.

    The 99th percentile of the pixels' brightness; one minus the 5th; the shorter side over the longer; a tenth of the
    histogram's entropy in bits; and of the edges, in grey and at most 64 pixels a side, one minus exp of minus a
    hundredth of the standard deviation.
    """
    from PIL import ImageFilter

    pixels = np.asarray(picture, np.float64)
    bright = np.sqrt((pixels**2) @ WEIGHTS) / 255
    ratio = max(picture.size) / BLUR_SIDE
    width, height = (max(1, int(side // max(ratio, 1))) for side in picture.size)
    small = picture.resize((width, height)) if ratio > 1 else picture
    edges = np.asarray(small.convert("L").filter(ImageFilter.FIND_EDGES), np.float64)
    return {
        "dark": float(np.percentile(bright, 99)),
        "bright": 1 - float(np.percentile(bright, 5)),
        "odd aspect": min(size) / max(size),
        "low information": min(1.0, 0.1 * picture.convert("RGB").entropy()),
        "blurry": float(1 - np.exp(-0.01 * edges.std())),
    }
