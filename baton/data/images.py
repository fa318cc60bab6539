"""Encoded pictures in, pixels out: the one decoder, Pillow, wherever Baton looks at a picture.

A picture is what a person would see: turned as its EXIF says, the first frame of several, what is transparent laid over
a background, greys of any declared depth brought to 8 bits, resized once. Nothing is decoded before its header has
been looked at: bombs are refused by what they announce.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from baton import names
from baton.data import frames
from baton.runtime.threads import mapped

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile as Encoded

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")  # by content; Pillow has more, and runs Ghostscript for one
JPEGS = ("JPEG", "MPO")  # phones put a second picture behind the first, and Pillow calls that MPO
STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
TOO_LARGE = "has more pixels than data.max_image_pixels"
TOO_MANY = "has more pixels in all its frames than eight times data.max_image_pixels"
BROKEN = "cannot be decoded as an image"
FRAMES_TIMES = 8  # how many times the limit of one frame all of them may have together
SPARE = 3  # how many times the wanted size a picture may be reduced to by cheaper means than the antialiased resize
TURNED = range(5, 9)  # EXIF's orientations that lie on their side
PHOTOMETRIC, SAMPLE_FORMAT, BITS, SMALLEST, LARGEST = 262, 339, 258, 340, 341  # tags of TIFF
GREYS = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # modes of more than 8 bits
ALPHA = ("LA", "PA", "RGBA", "La", "RGBa")

Shape = tuple[int, int, int]  # height, width, channels


class Unusable(Exception):
    """A picture that cannot be used; its text goes on where the name of a column ends."""


@dataclass(frozen=True)
class Decoder:
    """What a network sees of a picture: its size in pixels, what lies behind it, and how large it may be at most."""

    shape: Shape
    background: int = names.IMAGE_BACKGROUND  # a grey, 0 to 255
    max_pixels: int | None = None

    def decode(self, content: Any) -> np.ndarray:
        """A picture's bytes → uint8 [height, width, channels]; raises `Unusable`."""
        height, width, channels = self.shape
        with failing(), opened(content, self.max_pixels) as image:
            reduce(image, (width, height))
            flat = flattened(upright(image), channels, self.background)
            if flat.size != (width, height):
                flat = flat.resize((width, height), pillow().Resampling.BILINEAR, reducing_gap=SPARE)
            return np.asarray(flat).reshape(self.shape)

    def decode_all(self, cells: Sequence[Any], out: np.ndarray | None = None) -> tuple[np.ndarray, list[str | None]]:
        """Pictures' bytes [rows] → (uint8 [rows, h, w, c], what is wrong with each or None); faulty ones are black.

        `out` is where the pixels go, if they have a place already.
        """
        pixels = np.zeros((len(cells), *self.shape), np.uint8) if out is None else out

        def put(row: int) -> str | None:
            try:
                pixels[row] = self.decode(cells[row])
            except Unusable as fault:
                pixels[row] = 0
                return str(fault)
            return None

        pillow()  # imported by one thread
        return pixels, mapped(put, range(len(cells)))


@cache
def pillow() -> Any:
    """`PIL.Image` with the plugins of `FORMATS` alone; what it warns of, `opened` refuses."""
    from PIL import Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401 - else Pillow loads all plugins that it has

    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    return Image


def is_image(start: bytes) -> bool:
    """Whether a file's first bytes are those of a picture that may be decoded."""
    return start.startswith(STARTS)


def size(content: Any, max_pixels: int | None = None) -> tuple[int, int]:
    """A picture's bytes → (height, width) as a person sees it, by its header; raises `Unusable`."""
    with failing(), opened(content, max_pixels) as image:
        return upright_size(image)


def opened(content: Any, max_pixels: int | None) -> Encoded:
    """A picture's header, read; raises `Unusable` for one that announces too many pixels, all frames together."""
    module, most, held = pillow(), max_pixels or math.inf, io.BytesIO(content)
    if frames.webp_pixels(held.read(30)) > most:
        raise Unusable(TOO_LARGE)  # WebP's decoder takes the memory when the header is read
    try:
        image = module.open(held, formats=FORMATS)
    except (module.DecompressionBombError, module.DecompressionBombWarning):
        raise Unusable(TOO_LARGE) from None
    pixels = image.width * image.height
    if pixels > most:
        raise Unusable(TOO_LARGE)
    if max_pixels and frames.count(image, held.getbuffer(), FRAMES_TIMES * max_pixels // pixels) * pixels > (
        FRAMES_TIMES * max_pixels
    ):
        raise Unusable(TOO_MANY)
    return image


def reduce(image: Encoded, wanted: tuple[int, int]) -> None:
    """Let a JPEG be decoded at a half, a quarter or an eighth of its size, where that is far above the wanted one."""
    width, height = wanted if _orientation(image) not in TURNED else wanted[::-1]
    if image.format in JPEGS:
        image.draft(None, (SPARE * width, SPARE * height))


def upright_size(image: Encoded) -> tuple[int, int]:
    """(height, width) of a picture when it is turned as its EXIF says."""
    turned = image.format != "TIFF" and _orientation(image) in TURNED  # of a TIFF, Pillow turns the size itself
    return (image.width, image.height) if turned else (image.height, image.width)


def upright(image: Encoded) -> Image:
    """A picture, decoded, turned as its EXIF says; one whose EXIF cannot be read as it lies."""
    from PIL import ImageOps

    box = image.tile[0].extents if image.format == "GIF" and image.tile else None
    image.load()
    if box and box != (0, 0, *image.size):
        image.info["frame"] = box
    if _orientation(image) == 1:
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - pixels are there, whatever is wrong with what is said of them
        return image


def _orientation(image: Encoded) -> int:
    """EXIF's orientation; of a PNG, which may have it at its end, only when it is decoded."""
    if image.format == "PNG" and image.tile and "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # noqa: BLE001
        return 1


def flattened(image: Image, channels: int, background: int) -> Image:
    """A decoded picture of any mode → grey or RGB, over the background where it is transparent."""
    module, mode = pillow(), "L" if channels == 1 else "RGB"
    if image.mode in GREYS:
        greys, transparent = _eight_bits(image), image.info.get("transparency")
        if transparent is not None:
            greys[np.asarray(image) == transparent] = background
        return module.fromarray(greys).convert(mode)
    if image.mode in ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        image = module.alpha_composite(module.new("RGBA", image.size, (background,) * 3 + (255,)), image)
    if frame := image.info.get("frame"):  # a GIF's frame that does not fill its screen
        screen = module.new("RGB", image.size, (background,) * 3)
        screen.paste(image.convert("RGB").crop(frame), frame)
        image = screen
    return image.convert(mode)


def _eight_bits(image: Image) -> np.ndarray:
    """A picture of greys of more than 8 bits → uint8 [h, w], by the depth that its file declares."""
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    if image.mode == "F":
        low, high = (float(np.ravel(tags.get(tag, end))[0]) for tag, end in ((SMALLEST, 0), (LARGEST, 1)))
    else:
        bits, signed = int(np.ravel(tags.get(BITS, 16))[0]), np.ravel(tags.get(SAMPLE_FORMAT, 1))[0] == 2
        low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
        values = values.view(np.uint32) if bits == 32 and not signed else values
    if not (high > low and low <= values.min() and values.max() <= high):  # a NaN is not either
        raise Unusable(BROKEN)
    shares = (values.astype(np.float64) - low) / (high - low)
    shares = 1 - shares if tags.get(PHOTOMETRIC) == 0 else shares  # white is zero
    return np.rint(255 * shares).astype(np.uint8)


@contextmanager
def failing() -> Iterator[None]:
    """Whatever Pillow raises for bytes made by strangers comes out as `Unusable`."""
    try:
        yield
    except (Unusable, MemoryError):
        raise
    except Exception:  # noqa: BLE001
        raise Unusable(BROKEN) from None


def as_arrow(pixels: np.ndarray) -> pa.Array:
    """Pixels uint8 [rows, h, w, c] → a column of as many bytes a row, which are not copied."""
    rows = pa.py_buffer(np.ascontiguousarray(pixels))
    return pa.Array.from_buffers(pa.binary(math.prod(pixels.shape[1:])), len(pixels), [None, rows])


def of_arrow(column: pa.ChunkedArray, shape: Shape) -> np.ndarray:
    """Columns as `as_arrow` makes them → their pixels [rows, h, w, c], of one chunk not copied."""
    parts = [_of_chunk(chunk, shape) for chunk in column.chunks]
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros((0, *shape), np.uint8), *parts])


def _of_chunk(chunk: pa.Array, shape: Shape) -> np.ndarray:
    flat, width = np.frombuffer(chunk.buffers()[1] or b"", np.uint8), math.prod(shape)
    return flat[chunk.offset * width : (chunk.offset + len(chunk)) * width].reshape(-1, *shape)
