"""Pictures in, numbers by chance out, the same wherever and whenever a picture is read in an epoch."""

from __future__ import annotations

import math
import zlib

import numpy as np

ODD = np.uint64(0x9E3779B97F4A7C15)  # of splitmix64 (Steele et al., 2014), as are the numbers of `_scrambled`


class Draws:
    """Numbers by chance for pictures uint8 [n, h, w, c]: a function of seed, epoch, pixels and their purpose."""

    def __init__(self, seed: int, epoch: int, pixels: np.ndarray):
        start = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
        self.state = _scrambled(_fingerprints(pixels) ^ start)

    def uniform(self, purpose: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """[n] from `low` to below `high`."""
        bits = _scrambled(self.state + np.array([zlib.crc32(purpose.encode())], np.uint64) * ODD)
        return low + (high - low) * (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def chosen(self, purpose: str, names: tuple[str, ...]) -> np.ndarray:
        """One of the names for each picture [n]."""
        return np.array(names)[(self.uniform(purpose) * len(names)).astype(int)]

    def within(self, purpose: str, most: float) -> np.ndarray:
        """[n] from -`most` to `most`."""
        return self.uniform(purpose, -most, most)

    def beta(self, purpose: str, alpha: float) -> np.ndarray:
        """[n] of the Beta distribution whose two parameters are `alpha`."""
        from scipy.special import betaincinv

        return betaincinv(alpha, alpha, self.uniform(purpose))


def _fingerprints(pixels: np.ndarray) -> np.ndarray:
    """Pictures uint8 [n, ...] → a number a picture [n], which another picture's differs from."""
    flat = pixels.reshape(len(pixels), math.prod(pixels.shape[1:]))
    flat = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 8)))
    words = np.ascontiguousarray(flat).view(np.uint64)
    return words @ (_scrambled(np.arange(1, words.shape[1] + 1, dtype=np.uint64) * ODD) | np.uint64(1))


def _scrambled(bits: np.ndarray) -> np.ndarray:
    """uint64 → uint64, each bit of which hangs on all: splitmix64's last steps."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
