"""What the config says of how files are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton import names

if TYPE_CHECKING:
    from baton.config.schema import Data


@dataclass(frozen=True)
class Reading:
    """How the files of a source are read; the defaults are the config's."""

    delimiter: str = ","
    label: str = "label"  # the column of an image's class
    encoding: str = "utf-8"
    escape: str | None = None
    without: tuple[str, ...] = ()  # columns that are not read
    pictures: str | None = None  # the column of pictures, "" if none is named; None where there are none

    @staticmethod
    def of(data: Data) -> Reading:
        """The reading that `data` describes; a dropped column with a reserved name is in nobody's way then."""
        without = tuple(name for name in data.drop if names.is_reserved(name, interval=True))
        pictures = (data.image_column or "") if data.task == "image" else None
        return Reading(data.delimiter, data.target, data.encoding, data.escape, without, pictures)
