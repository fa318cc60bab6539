"""Pictures that decoders disagree about, made by Pillow: what the tests of reading, training and serving share."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image

RED, GREEN = (255, 0, 0), (0, 255, 0)


def saved(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    held = io.BytesIO()
    image.save(held, format_, **options)
    return held.getvalue()


def grey(side: int = 8) -> Image.Image:
    """Greys that rise from the left above to the right below."""
    return Image.fromarray(np.linspace(0, 255, side * side).astype(np.uint8).reshape(side, side))


def photo(seed: int, height: int = 60, width: int = 100) -> Image.Image:
    """A smooth picture of colours that no other seed has."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 10, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def turned(image: Image.Image, orientation: int, format_: str = "JPEG") -> bytes:
    """A file that shows the picture as EXIF's orientation says, its pixels lying otherwise."""
    methods = [None, *(Image.Transpose(number) for number in (0, 3, 1, 5, 2, 6, 4))]  # what undoes 1 to 8
    method = methods[orientation - 1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format_ == "WEBP" else {"quality": 95} if format_ == "JPEG" else {}
    return saved(image if method is None else image.transpose(method), format_, exif=exif, **options)


def hidden(color: tuple[int, int, int] = RED) -> bytes:
    """A picture that is wholly transparent, and of a colour where it cannot be seen."""
    return saved(Image.new("RGBA", (8, 8), (*color, 0)))


def palette_bmp() -> bytes:
    """A BMP whose palette makes red of 0 and green of 255."""
    image = grey().convert("P")
    image.putpalette([value for index in range(256) for value in (255 - index, index, 0)])
    return saved(image, "BMP")


def rle_bmp(side: int = 8) -> bytes:
    """A BMP of rows of one colour each, packed by run lengths: red below, green above."""
    colours = bytes((0, 0, 255, 0, 0, 255, 0, 0)) + bytes(4 * 254)
    rows = b"".join(bytes((side, int(row >= side // 2), 0, 0)) for row in range(side)) + b"\0\1"
    offset = 14 + 40 + len(colours)
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(rows), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + header + colours + rows


def small_frame_gif() -> bytes:
    """A GIF with a red frame of 4 × 4 pixels at (2, 2) of a screen of 8 × 8."""
    image = Image.new("P", (4, 4), 0)
    image.putpalette([*RED, *GREEN])
    content = bytearray(saved(image, "GIF"))
    content[6:10] = struct.pack("<HH", 8, 8)
    frame = content.index(b",", 13)
    content[frame + 1 : frame + 5] = struct.pack("<HH", 2, 2)
    return bytes(content)


def animated(format_: str = "GIF", frames: int = 3, side: int = 8) -> bytes:
    """The first frame is as `grey`, each of the others of one grey."""
    others = [Image.new("L", (side, side), 37 * number % 251) for number in range(1, frames)]
    options = {"lossless": True} if format_ == "WEBP" else {}
    return saved(grey(side), format_, save_all=True, append_images=others, duration=50, **options)


ODD: dict[str, bytes] = {
    "png without its end": saved(grey())[:-12],
    "colour gif": saved(photo(1, 8, 8), "GIF"),
    "grey bmp": saved(grey(), "BMP"),
    "1-bit bmp": saved(grey().convert("1"), "BMP"),
    "16-bit bmp": b"BM" + struct.pack("<IHHI", 54 + 128, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 16, 0, 128, 0, 0, 0, 0) + struct.pack("<H", 0x7C00) * 64,
    "rle bmp": rle_bmp(),
    "palette bmp": palette_bmp(),
    "cmyk jpeg": saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"),
    "16-bit png": saved(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040)),
    "16-bit tiff": saved(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040), "TIFF"),
    "turned jpeg": turned(photo(2, 16, 24), 6),
    "hidden colours": hidden(),
    "grey with alpha": saved(Image.new("LA", (8, 8), (0, 128))),
    "animated gif": animated(),
    "animated webp": animated("WEBP"),
    "small frame": small_frame_gif(),
    "webp": saved(photo(3, 20, 20), "WEBP", lossless=True),
    "tiff": saved(photo(4, 20, 20), "TIFF"),
    "large jpeg": saved(photo(5, 600, 800), "JPEG"),
}  # fmt: skip
UNUSABLE: dict[str, bytes] = {
    "no picture": b"no picture",
    "half a png": saved(grey(64))[:-40],
    "half a jpeg": saved(photo(6), "JPEG")[:700],
    "empty": b"",
    "floats beyond": saved(Image.fromarray(np.full((4, 4), 3.0, np.float32)), "TIFF"),
}
