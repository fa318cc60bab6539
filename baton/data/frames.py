"""Headers of pictures in, what they announce out, before anything is decoded: frames, and a WebP's canvas."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_STEPS = 1 << 18  # blocks of a GIF that are looked at, so that counting ends whatever the file holds
IMAGE, EXTENSION, HEADER = 0x2C, 0x21, 13  # of GIF


def count(image: Image, content: Any, most: int) -> int:
    """How many frames a picture announces; of a GIF, which must be counted, not far beyond `most`.

    The pages of a TIFF count as one: each has a size of its own, and only the first is looked at.
    """
    if image.format == "GIF":
        return _of_gif(content, most)
    return 1 if image.format == "TIFF" else int(getattr(image, "n_frames", 1))


def _of_gif(content: Any, most: int) -> int:
    found, steps, at = 0, 0, HEADER + _colours(content[10])
    while found <= most and steps < MAX_STEPS and at + 9 < len(content) and content[at] in (IMAGE, EXTENSION):
        found += content[at] == IMAGE
        at += 11 + _colours(content[at + 9]) if content[at] == IMAGE else 2
        while steps < MAX_STEPS and at < len(content) and content[at]:  # blocks of at most 255 bytes
            at, steps = at + 1 + content[at], steps + 1
        at, steps = at + 1, steps + 1
    return found


def _colours(flags: int) -> int:
    """The bytes of a colour table that a GIF's flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def webp_pixels(start: bytes) -> int:
    """The first 30 bytes of a WebP → width times height of its canvas; 0 of anything else."""
    if len(start) < 30 or start[:4] != b"RIFF" or start[8:12] != b"WEBP":
        return 0
    if start[12:16] == b"VP8X":
        width, height = (int.from_bytes(start[i : i + 3], "little") + 1 for i in (24, 27))
    elif start[12:16] == b"VP8L":
        bits = struct.unpack("<I", start[21:25])[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", start[26:30]))
    return width * height
