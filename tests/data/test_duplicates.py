"""Pictures that are the same or nearly: found whatever their order, and in one split."""

import json
from collections import Counter

import numpy as np
import odd_pictures as odd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from PIL import Image

from baton.data import duplicates, overlap, pictures
from baton.data.dataset import Dataset
from baton.data.ingestion import local
from baton.data.picture_profile import PictureProfile
from baton.data.preprocessing import Preprocessor
from baton.data.sources import files
from baton.errors import BadInput
from baton.registry import looks


def near(seed: int) -> list[bytes]:
    """One picture four times: as it is, as JPEG, a little smaller, a little brighter."""
    image = odd.photo(seed, 96, 160)
    brighter = Image.fromarray(np.clip(np.asarray(image).astype(int) + 6, 0, 255).astype(np.uint8))
    smaller = odd.saved(image.resize((120, 72), Image.Resampling.BILINEAR))
    return [odd.saved(image), odd.saved(image, "JPEG", quality=80), smaller, odd.saved(brighter)]


def looked_at(cells: list[bytes]) -> list[pictures.Look]:
    return [look for look in pictures.look_at_all(cells, None, 255) if isinstance(look, pictures.Look)]


def test_the_same_pixels_in_other_files_are_the_same_picture():
    image = odd.photo(3)
    looks = looked_at([odd.saved(image), odd.saved(image, "BMP"), odd.turned(image, 1, "WEBP"),
                       odd.saved(image, "TIFF"), odd.saved(odd.photo(4))])  # fmt: skip
    assert len({look.exact for look in looks[:4]}) == 1 and looks[4].exact != looks[0].exact


def test_near_pictures_have_near_hashes_and_flat_or_tiny_ones_none():
    hashes = [[look.perceptual for look in looked_at(near(seed))] for seed in range(8)]
    distances = [[(one ^ other).bit_count() for other in group] for group in hashes for one in group[:1]]
    assert max(map(max, distances)) <= duplicates.NEAR_BITS
    others = [(hashes[i][0] ^ hashes[j][0]).bit_count() for i in range(8) for j in range(i)]
    assert min(others) > 2 * duplicates.NEAR_BITS
    flat, tiny_ = odd.saved(Image.new("RGB", (90, 90), (9, 9, 9))), odd.saved(odd.photo(1, 31, 40))
    assert [look.perceptual for look in looked_at([flat, tiny_])] == [None, None]


def table(rows: list[tuple[int, int, int | None, str, int]]) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(duplicates.PRINTS.names, row, strict=True)) for row in rows], duplicates.PRINTS
    )


def test_groups_hang_on_no_order_and_on_no_cut():
    rng = np.random.default_rng(1)
    rows = [(int(rng.integers(2**63)), i // 2 if i < 20 else i, None, "ab"[i % 3 == 0], 3) for i in range(60)]
    rows += [(2**63 + i, 1000 + i, 0b1011 ^ (1 << i), "a", 3) for i in range(4)]
    found = duplicates.groups(table(rows))
    assert found.number == 11 and found.pictures == 24
    assert all(unit == min(row for row, other in found.unit.items() if other == unit) for unit in found.unit.values())
    for _ in range(3):
        rng.shuffle(rows)
        assert duplicates.groups(table(rows)) == found
    hashes = np.array([row[0] for row in rows], np.uint64)
    assert len(set(found.units(hashes).tolist())) == 64 - 24 + 11


def test_bits_that_differ_anywhere_are_found_and_no_more_than_allowed():
    rng = np.random.default_rng(2)
    bits = rng.integers(0, 2**63, 400).astype(np.uint64) * np.uint64(2)
    flips = [sum(1 << int(b) for b in rng.choice(64, number, replace=False)) for number in (1, 2, 3, 4, 5, 6) * 20]
    more = np.concatenate([bits, bits[: len(flips)] ^ np.array(flips, np.uint64)])
    pairs = {tuple(sorted(pair)) for pair in duplicates._near(more).tolist()}
    assert pairs == {(i, 400 + i) for i, flip in enumerate(flips) if flip.bit_count() <= duplicates.NEAR_BITS}


def test_a_near_group_that_is_much_of_a_class_is_counted_and_not_used():
    alike = [(i, i // 2, 0b1 << (i % 3), "cat", 3) for i in range(12)]
    rows = [*alike, *((100 + i, 100 + i, None, "cat", 3) for i in range(28))]
    found = duplicates.groups(table(rows))
    assert found.unused == ((12, "cat"),) and found.number == 6 and found.pictures == 12
    assert "12 that are nearly alike would be much of class cat" in found.words(kept_whole=True)[-1]
    assert duplicates.groups(table([*rows, *((200 + i, 200 + i, None, "cat", 3) for i in range(90))])).number == 1


def build(folder, table: pa.Table, **data) -> tuple[Dataset, dict[str, set[bytes]]]:
    _, dataset = tiny.build(table, folder, "image", data={"image_size": {"height": 8, "width": 8}, **data})
    read = {
        split: pa.concat_tables(pq.read_table(file) for file in dataset.files(split))
        for split in ("train", "validation", "test")
    }
    return dataset, {split: set(rows["image"].to_pylist()) for split, rows in read.items()}


def many(labels: str = "ab") -> pa.Table:
    """Twenty pictures, each four times in other files, of one class or of two."""
    cells = [cell for seed in range(20) for cell in near(seed)]
    return pa.table(
        {"image": pa.array(cells, pa.binary()), "label": [labels[i % 80 * len(labels) // 80] for i in range(80)]}
    )


@pytest.mark.parametrize("mixed", [False, True])
def test_groups_never_straddle_two_splits_of_batons_own(tmp_path, mixed):
    whole = many()
    if mixed:  # of every group, one picture is of the other class
        whole = whole.set_column(1, "label", pa.array(["ab"[(i % 4 == 0) ^ (i >= 40)] for i in range(80)]))
    dataset, held = build(tmp_path, whole)
    group = {cell: i // 4 for i, cell in enumerate(whole["image"].to_pylist())}
    places = Counter(number for cells in held.values() for number in {group[cell] for cell in cells})
    assert sum(map(len, held.values())) == 80 and set(places.values()) == {1} and min(map(len, held.values())) >= 4
    profile = PictureProfile.of(json.loads((dataset.folder / "pictures.json").read_text()))
    assert profile.pictures == 80 and len(profile.examples["duplicates"]) == 18
    assert "80 are the same as others or nearly, in 20 groups; each group is in one split" in columns_of(dataset)
    assert ("20 groups of those that are the same or nearly hold several classes" in columns_of(dataset)) is mixed


def columns_of(dataset: Dataset) -> str:
    return (dataset.folder / "columns.json").read_text()


def test_where_the_splits_are_given_duplicates_are_counted_and_nothing_moves(tmp_path):
    parts = [("train", "train", "val", "test")[i % 4] for i in range(80)]
    dataset, held = build(tmp_path, many("abab").append_column("part", pa.array(parts)), split_column="part")
    assert {split: len(cells) for split, cells in held.items()} == {"train": 40, "validation": 20, "test": 20}
    assert "20 groups of 80 that are the same or nearly lie in more than one split" in columns_of(dataset)


def test_an_exact_copy_follows_its_picture_whatever_its_class(tmp_path):
    cells = [odd.saved(odd.photo(seed, 12, 12)) for seed in range(100)]
    copies = [odd.saved(odd.photo(seed, 12, 12), "BMP") for seed in range(100)]
    whole = pa.table({"image": cells + copies, "label": ["a", "b"] * 50 + ["b", "a"] * 50})
    _, held = build(tmp_path, whole)
    for number, (cell, copy) in enumerate(zip(cells, copies, strict=True)):
        assert [split for split in held if cell in held[split]] == [s for s in held if copy in held[s]], number


def test_quarantined_pictures_are_named(tmp_path):
    for number in range(30):
        place = tmp_path / "pets" / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(odd.UNUSABLE["half a png"] if number < 12 else odd.saved(odd.photo(number, 12, 12)))
    config = tiny.config("image", str(tmp_path / "pets"))
    with pytest.raises(BadInput, match=r"image cannot be decoded as an image \(12 rows, such as 'a/0\.png'\)"):
        (tmp_path / "d").mkdir()
        local.build(config, files.resolve(str(tmp_path / "pets"), files.Reading.of(config.data)), tmp_path / "d")


def test_the_plan_knows_the_places_again_when_it_travels_with_a_model(tmp_path):
    dataset, held = build(tmp_path, many("abab"))
    whole = many("abab")
    found = overlap.places(whole, dataset.preprocessor)
    for cell, place in zip(whole["image"].to_pylist(), found.tolist(), strict=True):
        assert cell in held[("train", "validation", "test")[place]]
    other = dataset.preprocessor.spec | {"image_size": {"height": 3, "width": 3, "channels": 1}}
    sketches = [looks.sketch(whole, Preprocessor(spec)) for spec in (dataset.preprocessor.spec, other)]
    assert sketches[0].rows == 80 and looks.overlap(*sketches) == 1.0  # rows are what they are, whatever a network sees
