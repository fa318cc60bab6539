"""The one decoder: what a person would see, in 8 bits and one size, the same wherever Baton looks at a picture."""

import numpy as np
import odd_pictures as odd
import pyarrow as pa
import pytest
from PIL import Image

from baton.data import images, pictures
from baton.data.images import Decoder

GREY, COLOUR = Decoder((8, 8, 1)), Decoder((8, 8, 3))


def corners(name: str, decoder: Decoder = COLOUR) -> list:
    pixels = decoder.decode(odd.ODD[name])
    return [pixels[0, 0].tolist(), pixels[-1, -1].tolist()]


@pytest.mark.parametrize("name", odd.ODD)
def test_odd_pictures_become_grey_or_coloured_pixels(name):
    for decoder in (GREY, COLOUR):
        pixels = decoder.decode(odd.ODD[name])
        assert pixels.shape == decoder.shape and pixels.dtype == np.uint8
        assert name in ("hidden colours", "grey with alpha") or pixels.min() < 230  # nothing is all white by mistake


@pytest.mark.parametrize("name", odd.UNUSABLE)
def test_what_cannot_be_decoded_is_a_reason(name):
    with pytest.raises(images.Unusable, match="^cannot be decoded as an image$"):
        COLOUR.decode(odd.UNUSABLE[name])
    assert pictures.look(odd.UNUSABLE[name], None, 255) == images.BROKEN


def test_a_picture_that_fits_is_not_changed():
    grey = np.asarray(odd.grey())
    for name in ("png without its end", "grey bmp", "animated gif"):
        assert np.array_equal(GREY.decode(odd.ODD[name])[..., 0], grey), name
    assert np.array_equal(COLOUR.decode(odd.ODD["grey bmp"]), np.repeat(grey[..., None], 3, axis=2))


def test_palettes_and_other_colours_are_what_they_stand_for():
    assert corners("palette bmp") == [[255, 0, 0], [0, 255, 0]]
    assert corners("rle bmp") == [[0, 255, 0], [255, 0, 0]]
    assert corners("16-bit bmp") == [[255, 0, 0]] * 2
    assert corners("cmyk jpeg") == [[255, 0, 0]] * 2


@pytest.mark.parametrize("name", ["16-bit png", "16-bit tiff"])
def test_greys_of_16_bits_are_brought_to_8(name):
    values = np.arange(64).reshape(8, 8) * 1040 / 257
    assert np.array_equal(GREY.decode(odd.ODD[name])[..., 0], np.rint(values))


def test_greys_are_scaled_by_the_depth_that_the_file_declares():
    floats = Image.fromarray(np.array([[0, 0.2], [0.6, 1]], np.float32))
    assert Decoder((2, 2, 1)).decode(odd.saved(floats, "TIFF"))[..., 0].tolist() == [[0, 51], [153, 255]]
    scaled = odd.saved(Image.fromarray(np.full((2, 2), 3, np.float32)), "TIFF", tiffinfo={340: 0.0, 341: 5.0})
    assert Decoder((2, 2, 1)).decode(scaled)[..., 0].tolist() == [[153] * 2] * 2
    signed = Image.fromarray(np.array([[-(2**31), 2**31 - 1]], np.int32))
    assert Decoder((1, 2, 1)).decode(odd.saved(signed, "TIFF"))[..., 0].tolist() == [[0, 255]]
    white_is_zero = odd.saved(Image.fromarray(np.array([[0, 65535]], np.uint16)), "TIFF", tiffinfo={262: 0})
    assert Decoder((1, 2, 1)).decode(white_is_zero)[..., 0].tolist() == [[255, 0]]


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_as_exif_says(format_, orientation):
    upright = odd.photo(7)
    content = odd.turned(upright, orientation, format_)
    assert pictures.look(content, None, 255).shape == (60, 100, 3)
    if format_ != "PNG":  # which may say it at its end
        assert images.size(content) == (60, 100)
    off = np.abs(Decoder((60, 100, 3)).decode(content).astype(int) - np.asarray(upright))
    assert off.mean() < 3


def test_what_is_transparent_lies_over_the_background():
    assert corners("hidden colours") == [[255] * 3] * 2
    assert corners("hidden colours", Decoder((8, 8, 3), background=40)) == [[40] * 3] * 2
    assert corners("grey with alpha", Decoder((8, 8, 1), background=255)) == [[127]] * 2
    framed = COLOUR.decode(odd.ODD["small frame"])
    assert framed[0, 0].tolist() == [255] * 3 and framed[3, 3].tolist() == [255, 0, 0]


def test_a_transparent_grey_of_16_bits_is_the_background():
    greys = Image.fromarray(np.array([[30000, 65535]], np.uint16))
    content = odd.saved(greys, transparency=30000)
    assert images.Decoder((1, 2, 1), background=9).decode(content).ravel().tolist() == [9, 255]


@pytest.mark.parametrize("of_a_phone", [False, True])
def test_large_jpegs_are_decoded_at_a_fraction_of_their_size(of_a_phone, monkeypatch):
    two = {"save_all": True, "append_images": [odd.grey(40)]}  # as phones do
    content = odd.saved(odd.photo(5, 600, 800), "MPO", quality=95, **two) if of_a_phone else odd.ODD["large jpeg"]
    assert pictures.look(content, None, 255).shape == (600, 800, 3)
    sizes = []
    load = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda image, size, *a, **k: [sizes.append(image.size), load(image, size, *a, **k)][1]
    )
    reduced = Decoder((30, 40, 3)).decode(content)
    assert sizes == [(200, 150)]
    whole = load(odd.photo(5, 600, 800), (40, 30), Image.Resampling.BILINEAR)
    assert np.abs(reduced.astype(int) - np.asarray(whole)).mean() < 2


@pytest.mark.parametrize("format_", ["PNG", "GIF", "BMP", "WEBP", "TIFF", "JPEG"])
def test_bombs_are_refused_by_their_header(format_, monkeypatch):
    content = odd.saved(Image.new("RGB", (300, 200)), format_)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    monkeypatch.setattr("PIL._webp.WebPAnimDecoder", None)
    with pytest.raises(images.Unusable, match=images.TOO_LARGE):
        Decoder((8, 8, 1), max_pixels=59_999).decode(content)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG"])
def test_of_several_frames_the_first_counts_and_bombs_of_frames_are_refused(format_, monkeypatch):
    content = odd.animated(format_, frames=40)
    assert Decoder((8, 8, 1), max_pixels=8 * 8 * 5).decode(content)[-1, -1, 0] > 250
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    with pytest.raises(images.Unusable, match=images.TOO_MANY):
        Decoder((8, 8, 1), max_pixels=8 * 8 * 4).decode(content)


def test_frames_are_not_counted_for_long():
    endless = odd.animated()[:-1] + b"," + bytes(9) + b"\x02" + b"\x01\x00" * (1 << 22)
    assert Decoder((8, 8, 1), max_pixels=64).decode(endless).shape == (8, 8, 1)


def test_pixels_go_through_arrow_uncopied():
    pixels, faults = COLOUR.decode_all([odd.ODD["tiff"], b"-", odd.ODD["webp"]])
    assert faults == [None, images.BROKEN, None] and not pixels[1].any()
    column = pa.chunked_array([images.as_arrow(pixels)])
    assert np.shares_memory(images.of_arrow(column, (8, 8, 3)), pixels)
    kept = column.filter(pa.array([True, False, True]))
    assert np.array_equal(images.of_arrow(kept, (8, 8, 3)), pixels[[0, 2]])
    assert images.of_arrow(column.slice(3), (8, 8, 3)).shape == (0, 8, 8, 3)
