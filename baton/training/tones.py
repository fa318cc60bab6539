"""Pictures in, the same with other tones out: a table of 256 values a picture, and what no table can say."""

from __future__ import annotations

import numpy as np

from baton.config.schema import Augment, RandAugment
from baton.training.draws import Draws

KINDS = (
    *("identity", "rotate", "shear x", "shear y", "shift x", "shift y", "brightness", "contrast", "colour"),
    *("sharpness", "posterize", "solarize", "autocontrast", "equalize"),
)  # RandAugment's
SAMPLED = 64  # pixels a side that tell a picture's mean
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def applied(settings: Augment, draws: Draws, pixels: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, c] → the same, as the settings' brightness, contrast, colour and RandAugment say."""
    saturation = 1 + draws.within("colour", settings.colour)
    sharpness = np.zeros(len(pixels))
    if settings.brightness or settings.contrast or settings.randaugment:
        tables = np.tile(np.arange(256, dtype=np.float32), (len(pixels), 1))
        if settings.brightness or settings.contrast:
            factor = 1 + draws.within("contrast", settings.contrast)
            tables = _stretched(tables, means(pixels), factor) + 255 * draws.within("brightness", settings.brightness)[
                :, None
            ].astype(np.float32)
        if settings.randaugment:
            tables = _randomly(settings.randaugment, draws, pixels, tables, saturation, sharpness)
        pixels = _looked_up(pixels, tables)
    if pixels.shape[-1] == 3:
        pixels = _saturated(pixels, saturation)
    return _sharpened(pixels, sharpness)


def means(pixels: np.ndarray) -> np.ndarray:
    """Each picture's mean value float32 [n], of large ones of some of their pixels."""
    steps = [max(1, side // SAMPLED) for side in pixels.shape[1:3]]
    some = pixels[:, :: steps[0], :: steps[1]]
    return some.reshape(len(pixels), -1).mean(axis=1, dtype=np.float32)


def _randomly(
    settings: RandAugment,
    draws: Draws,
    pixels: np.ndarray,
    tables: np.ndarray,
    saturation: np.ndarray,
    sharpness: np.ndarray,
) -> np.ndarray:
    """RandAugment's operations that change tones: on the tables, or added to saturation and sharpness."""
    mean = means(pixels)
    for index in range(settings.operations):
        purpose = f"randaugment {index}"
        kind = draws.chosen(purpose, KINDS)
        strength = draws.within(f"{purpose} strength", settings.magnitude).astype(np.float32)
        size = np.abs(strength)[:, None]
        saturation += np.where(kind == "colour", 0.9 * strength, 0)
        sharpness += np.where(kind == "sharpness", 0.9 * strength, 0)
        levels = 2.0 ** np.rint(4 * size)
        changed = {
            "brightness": tables * (1 + 0.9 * strength)[:, None],
            "contrast": _stretched(tables, mean, 1 + 0.9 * strength),
            "posterize": np.floor(tables / levels) * levels,
            "solarize": np.where(tables >= 256 * (1 - size), 255 - tables, tables),
        }
        for name, values in changed.items():
            tables = np.where((kind == name)[:, None], values, tables)
        for name, of_histogram in (("autocontrast", _full_contrast), ("equalize", _equal)):
            for row in np.flatnonzero(kind == name):
                tables[row] = of_histogram(tables[row], np.bincount(pixels[row].ravel(), minlength=256))
    return tables


def _stretched(tables: np.ndarray, mean: np.ndarray, factor: np.ndarray) -> np.ndarray:
    return mean[:, None] + (tables - mean[:, None]) * factor[:, None].astype(np.float32)


def _full_contrast(table: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """A table [256] and how many pixels have each value → the table by which they reach from black to white."""
    low, high = table[counts > 0].min(), table[counts > 0].max()
    return (table - low) * (255 / (high - low)) if high > low else table


def _equal(table: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The same by which all values are about as frequent."""
    order = np.argsort(table, kind="stable")
    below = np.empty(256)
    below[order] = np.cumsum(counts[order]) - counts[order] / 2
    return (255 * below / counts.sum()).astype(np.float32)


def _looked_up(pixels: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Each picture's values [n, h, w, c] by its table [n, 256]."""
    values = np.clip(np.rint(tables), 0, 255).astype(np.uint8)
    out = np.empty_like(pixels)
    for row, table in enumerate(values):
        np.take(table, pixels[row], out=out[row], mode="clip")
    return out


def _saturated(pixels: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Colours drawn from grey by their factors [n], or towards it."""
    rows = np.flatnonzero(factor != 1)
    if not len(rows):
        return pixels
    colours = pixels[rows].astype(np.float32)
    grey = (colours @ LUMA)[..., None]
    return _with(pixels, rows, grey + (colours - grey) * factor[rows, None, None, None].astype(np.float32))


def _sharpened(pixels: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Sharpened, or blurred where the strength [n] is negative: moved from, or to, the mean of nine pixels."""
    rows = np.flatnonzero(strength)
    if not len(rows):
        return pixels
    own = pixels[rows].astype(np.float32)
    around = np.pad(own, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = own.shape[1:3]
    blurred = sum(around[:, y : y + height, x : x + width] for y in range(3) for x in range(3)) / 9
    return _with(pixels, rows, own + (own - blurred) * strength[rows, None, None, None].astype(np.float32))


def _with(pixels: np.ndarray, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    out = pixels.copy()
    out[rows] = np.clip(np.rint(values), 0, 255)
    return out
