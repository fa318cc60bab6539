"""Raw rows in, the same in parts of bounded size out: what scoring and judging go through, one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from baton.data.preprocessing import Preprocessor

if TYPE_CHECKING:
    from baton.data.raw_rows import RawRows

PART_ROWS = 1 << 16
PIXELS_AT_ONCE = 8 << 20  # bytes of pictures that are decoded while as many are scored
PICTURE_ROWS, PICTURE_BYTES = 256, 16 << 20  # in a network at once, their pixels as floats: layers make many times more


def parts(raw: pa.Table | RawRows, rows: int | None = None) -> Iterator[pa.Table]:
    """Raw rows, in memory or in files → `rows` of them at a time, in order; one part at least."""
    if not isinstance(raw, pa.Table):
        yield from raw.parts(rows)
        return
    rows = rows or PART_ROWS
    yield from (raw.slice(start, rows) for start in range(0, max(raw.num_rows, 1), rows))


def parts_to_encode(raw: pa.Table | RawRows, preprocessor: Preprocessor) -> Iterator[pa.Table]:
    """Raw rows → so many at a time, in order, that they and, of pictures, their pixels take little room.

    Of pictures they are whole batches of a network.
    """
    rows = PART_ROWS
    if preprocessor.names("image"):
        shape = preprocessor.image_shape
        rows, batch = max(1, PIXELS_AT_ONCE // math.prod(shape)), picture_rows(shape)
        rows = rows // batch * batch or rows
    return parts(raw, rows)


def picture_rows(shape: tuple[int, ...]) -> int:
    """The (height, width, channels) of pictures → how many of them go through a network at once."""
    return max(1, min(PICTURE_ROWS, PICTURE_BYTES // (4 * math.prod(shape))))
