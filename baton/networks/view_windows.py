"""What `model.views` asks for in, the views of a picture out."""

from __future__ import annotations

from collections.abc import Iterator

from baton.config import schema
from baton.config.schema import Views
from baton.networks.views import View

MIDDLE, CORNERS = (0.5, 0.5), ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))  # down and across what room there is
DECIMALS = 6
# What `auto` tries: the middle at every scale, corners at the first.
TRIED = (Views(scales=[1.0, *schema.LARGER], mirror=True), schema.VIEWS["ten_crops"])


def views_of(asked: str | Views, upright: bool = False) -> list[View]:
    """A word or a mapping of `model.views` → its views, each once; those of `auto` begin with the picture as it is.

    `upright` pictures, higher than wide, have their three squares one below the other.
    """
    if asked == "none":
        return [View()]
    specs = TRIED if asked == "auto" else (schema.VIEWS[asked] if isinstance(asked, str) else asked,)
    return list(dict.fromkeys(view for spec in specs for view in _views(spec, upright)))


def _views(spec: Views, upright: bool) -> Iterator[View]:
    for scale in spec.scales:
        for square in _squares(spec, scale, upright):
            for top, left, size in _crops(spec, square, 1 / scale):
                window = View(round(top, DECIMALS), round(left, DECIMALS), round(size, DECIMALS))
                yield window
                if spec.mirror:
                    yield window._replace(mirror=True)


Window = tuple[float, float, float]  # top, left, size


def _squares(spec: Views, scale: float, upright: bool) -> list[Window]:
    """The whole picture; or three, of a size half way to the crops'.

    The paper's pictures are longer than their squares; what comes here has the network's shape, as its squares have.
    """
    if spec.squares == 1:
        return [(0.0, 0.0, 1.0)]
    size = scale**-0.5
    places = [((1 - size) / 2, (1 - size) * along) for along in (0.0, 0.5, 1.0)]
    return [(along, across, size) if upright else (across, along, size) for across, along in places]


def _crops(spec: Views, square: Window, size: float) -> list[Window]:
    top, left, side = square
    places = (MIDDLE,) if spec.crops == 1 else (MIDDLE, *CORNERS)
    crops = [(top + (side - size) * down, left + (side - size) * across, size) for down, across in places]
    return [*crops, square] if spec.crops == 6 else crops
