"""What is odd about a picture, by cleanvision's measures, and what the profile shows of it."""

import io

import numpy as np
import odd_pictures as odd
import pytest
import tiny
from PIL import Image

from baton.data import pictures
from baton.data.ingestion import pictured
from baton.data.picture_profile import PictureProfile
from baton.data.sources import files
from baton.reporting.figures.pictures import gallery

SHARP = np.random.default_rng(1).integers(0, 256, (80, 100, 3)).astype(np.uint8)


def oddities(pixels: np.ndarray) -> tuple[str, ...]:
    look = pictures.look(odd.saved(Image.fromarray(pixels.astype(np.uint8))), None, 255)
    return look.oddities


def test_thresholds_are_cleanvisions():
    assert oddities(SHARP) == ()
    assert oddities(SHARP * 0.3) == ("dark",)
    assert oddities(SHARP * 0.36) == ()
    assert oddities(245 + SHARP / 26) == ("bright",)
    assert oddities(SHARP[:34]) == ("odd aspect",) and oddities(SHARP[:36]) == ()
    assert oddities(np.full((60, 60, 3), 128)) == ("low information", "blurry")
    assert oddities(np.asarray(odd.photo(1, 256, 256))) == ("blurry",)


def test_measures_are_of_what_they_say():
    half = np.zeros((64, 64, 3), np.uint8)
    half[:32] = (0, 255, 0)
    found = pictures.measures(Image.fromarray(half), (64, 64))
    assert found["dark"] == pytest.approx(0.691**0.5) and found["bright"] == 1 and found["odd aspect"] == 1
    counts = np.array([64 * 64, 64 * 32, 64 * 32, 64 * 64]) / (3 * 64 * 64)
    assert found["low information"] == pytest.approx(-0.1 * (counts * np.log2(counts)).sum())
    assert 0 < found["blurry"] < 1


def test_a_picture_is_looked_at_once(monkeypatch):
    content = odd.saved(odd.photo(99))
    first = pictures.look(content, None, 255)
    monkeypatch.setattr("PIL.Image.open", None)
    assert pictures.look(content, None, 255) is first
    assert pictures.look(content, None, 254) == "cannot be decoded as an image"  # over another background it is another


def test_profiles_of_parts_add_up_and_are_drawn(images):
    rows = tiny.image_table(40)
    typed = rows.rename_columns(["image", "label"])
    _, dataset = images
    column = dataset.preprocessor.features[0]
    from baton.data import picture_profile
    from baton.data.duplicates import Groups

    hashes = np.arange(40, dtype=np.uint64)
    groups = Groups({3: 3, 21: 3})

    def of(part: slice) -> PictureProfile:
        names = [f"{number}.png" for number in hashes[part]]
        return picture_profile.profile(
            typed.slice(part.start, part.stop - part.start), hashes[part], names, column, "label", groups
        )

    whole, cut = of(slice(0, 40)), of(slice(0, 15)) + of(slice(15, 40))
    assert whole == cut == PictureProfile.of(whole.to_dict())
    assert [example.name for example in whole.examples["duplicates"]] == ["3.png", "21.png"]
    figure = gallery(whole.to_dict())["pictures"]
    held = io.BytesIO()
    figure.savefig(held)
    texts = [axis.get_title(loc="left") for axis in figure.axes]
    assert any("21.png" in text for text in texts) and len(held.getvalue()) > 5000
    assert gallery(PictureProfile(3).to_dict()) == {}


def test_the_default_size_has_a_ceiling_and_says_so(images):
    config, dataset = images
    from collections import Counter

    sizes = Counter({(4032, 3024, 3): 20, (3024, 4032, 3): 5, (4032, 3024, 1): 4, (8, 8, 1): 23})
    assert pictured.with_image_size(dataset.preprocessor, sizes, config).image_shape == (224, 168, 3)
    assert (
        "most are 3,024 × 4,032 pixels (width × height); they are resized to 168 × 224"
        in pictured.size_words(sizes, config)[0]
    )
    assert pictured.size_words(Counter({(224, 100, 3): 1}), config) == []
    chosen = config.overridden({"data.image_size": {"height": 400, "width": 500}})
    assert pictured.with_image_size(dataset.preprocessor, sizes, chosen).image_shape == (400, 500, 3)
    assert pictured.size_words(sizes, chosen) == []


def test_what_headers_tell_before_a_run(tmp_path, monkeypatch):
    for name, content in {"train/a/1.jpg": odd.saved(odd.photo(1, 300, 400), "JPEG"), "test/b/2.png": b"-"}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)  # nothing is decoded
    config = tiny.config("image", str(tmp_path))
    said = pictured.header_words(files.resolve(str(tmp_path), files.Reading.of(config.data)), config)
    assert "the folders test, train say each picture's split" in said[0]
    assert said[1].startswith("Pictures: 1 of 2 looked at cannot be used: ") and "2.png cannot be" in said[1]
    assert "most are 400 × 300 pixels" in said[2]
    (tmp_path / "labels.csv").write_text("file,label\ntrain/a/1.jpg,a\ngone.png,b\n/etc/x.png,a\n")
    config = tiny.config("image", str(tmp_path / "labels.csv"), data={"image_column": "file"})
    said = pictured.header_words(files.resolve(config.data.source, files.Reading.of(config.data)), config)
    assert said[:2] == [
        "Pictures: in 1 rows file names no file.", "Pictures: in 1 rows file names a file outside the table's folder."
    ]  # fmt: skip
