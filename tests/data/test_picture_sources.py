"""Where pictures lie: folders of classes and of splits, tables of paths, and what lies between them."""

import os

import odd_pictures as odd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny

from baton.config.schema import Data
from baton.data import recognition
from baton.data.ingestion import rows
from baton.data.sources import files, picture_cells, spark_rows
from baton.data.sources.reading import Reading
from baton.errors import BadInput

PICTURE = odd.saved(odd.grey())


def write(folder, *names: str, content: bytes = PICTURE) -> str:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return str(folder)


def reading(**data) -> Reading:
    return Reading.of(Data(**{"source": "-", "task": "image", **data}))


def read(location: str, **data) -> tuple[files.Source, pa.Table]:
    source = files.resolve(location, reading(**data))
    return source, source.table()


@pytest.mark.parametrize(("validation", "test"), [("val", "test"), ("valid", "Test"), ("validation", "testing")])
def test_folders_of_splits_are_splits_and_not_classes(tmp_path, validation, test):
    location = write(tmp_path, "train/cat/1.png", "train/dog/2.jpg", f"{validation}/cat/3.png", f"{test}/dog/4/5.png")
    source, table = read(location)
    found = {
        path: (label, split)
        for path, label, split in zip(*(table[n].to_pylist() for n in ("path", "label", "split")), strict=True)
    }
    assert found == {
        "train/cat/1.png": ("cat", "train"), "train/dog/2.jpg": ("dog", "train"),
        f"{validation}/cat/3.png": ("cat", validation), f"{test}/dog/4/5.png": ("dog", test),
    }  # fmt: skip
    assert source.schema() == table.schema and "say each picture's split" in " ".join(source.notes())
    config = rows.laid_out(tiny.config("image", location), source)
    assert config.data.split_column == "split"
    named = tiny.config("image", location, data={"id": ["path"]})
    assert rows.laid_out(named, source) is named


def test_folders_of_splits_must_name_all_three(tmp_path):
    location = write(tmp_path, "train/cat/1.png", "test/dog/2.jpg")
    with pytest.raises(BadInput, match=r"are splits, and there is none for validation: make one, or let Baton split"):
        rows.laid_out(tiny.config("image", location), read(location)[0])


def test_classes_may_be_called_like_a_split_or_like_nothing(tmp_path):
    location = write(tmp_path, "train/1.png", "bus/2.png", "None/3.png", "NA/4.png", "_background_/5.png", "a b/6.png")
    source, table = read(location)
    assert "split" not in table.column_names and source.notes() == []
    assert set(table["label"].to_pylist()) == {"train", "bus", "None", "NA", "_background_", "a b"}
    assert recognition.infer(table.schema, {}, Data(source="-", task="image"))[1].missing == ()


def test_splits_without_classes_below_are_refused(tmp_path):
    location = write(tmp_path, "train/cat/1.png", "test/2.png")
    with pytest.raises(
        BadInput, match=r"are called test, train, which are splits and no classes.*Received: test/2\.png"
    ):
        rows.laid_out(tiny.config("image", location), files.resolve(location))
    assert read(location)[1].num_rows == 2  # to score


def test_what_lies_beside_the_folders_of_splits_is_left_out_and_counted(tmp_path):
    write(tmp_path, "README.txt", "data.csv", "train/classes.txt", "notes/train/1.json", content=b"-")
    kept = ["test/dog/3.png", "train/cat/1.png", "train/cat/4.png", "train/cat/5.png", "valid/dog/2.png"]
    location = write(tmp_path, "preview.png", *kept)
    source, table = read(location)
    assert table["path"].to_pylist() == kept
    assert source.notes()[0] == "Pictures: 5 files were left out: those beside the folders, as README.txt."
    assert source.notes()[1].startswith("Pictures: the folders test, train, valid say")


def test_pictures_beside_the_folders_of_splits_are_no_class(tmp_path):
    location = write(tmp_path, "train/cat/1.png", "valid/dog/2.png", "test/dog/3.png", "more/cat/4.png")
    with pytest.raises(BadInput, match=r"are called test, train, valid, which are splits, and others.*more/cat/4\.png"):
        rows.laid_out(tiny.config("image", location), files.resolve(location))
    assert read(location)[1].num_rows == 4  # to score
    other = write(tmp_path / "other", "train/1.png", "test/2.png", "bus/3.png")
    assert "split" not in read(other)[1].column_names


def test_folders_whose_names_are_the_same_text_are_one_class(tmp_path):
    write(tmp_path, "B\u00e4r/1.png", "Ba\u0308r/2.png", "dog/3.png")
    assert read(str(tmp_path))[1]["label"].to_pylist() == ["B\u00e4r", "B\u00e4r", "dog"]


@pytest.mark.parametrize(("name", "received"), [("1.png", "no folder"), ("cat/1.png", "cat")])
def test_folders_of_less_than_two_classes_are_refused_before_anything_is_read(tmp_path, name, received):
    location = write(tmp_path, name)
    with pytest.raises(BadInput, match=f"of two classes at least, .* Received: .* with {received}"):
        rows.laid_out(tiny.config("image", location), files.resolve(location))


def test_what_systems_leave_is_passed_over_and_counted(tmp_path):
    write(tmp_path, "cat/1.png", "dog/2.png", ".circle/3.png")
    (tmp_path / ".circle" / "link").symlink_to("nowhere")
    location = write(
        tmp_path,
        ".DS_Store",
        "cat/Thumbs.db",
        "dog/desktop.ini",
        "__MACOSX/cat/._1.png",
        "cat/.hidden.png",
        content=b"-",
    )
    source, table = read(location)
    assert table["path"].to_pylist() == ["cat/1.png", "dog/2.png"]
    assert source.notes() == [
        "Pictures: 2 files were left out: those in the folder .circle, for its name starts with a point.",
        "Pictures: 5 files were left out: those that systems leave behind, as .DS_Store and Thumbs.db.",
    ]


def test_other_files_are_rows_that_are_no_pictures_and_many_are_refused(tmp_path):
    write(tmp_path, *(f"{label}/{number}.jfif" for label in ("cat", "dog") for number in range(10)), "cat/no suffix")
    location = write(tmp_path, "cat/notes.md", content=b"# A long text")
    _, table = read(location)
    cells = dict(zip(table["path"].to_pylist(), table["image"].to_pylist(), strict=True))
    assert len(cells) == 22 and cells["cat/notes.md"] == b"# A long" and cells["cat/no suffix"] == PICTURE
    write(tmp_path, *(f"dog/{number}.md" for number in range(11)), content=b"-")
    with pytest.raises(BadInput, match=r"12 of 33 files in .* are no pictures: .*Received: cat/notes\.md, dog/0\.md"):
        files.resolve(location)


def test_names_that_are_no_utf_8_or_long_or_have_blanks(tmp_path):
    write(tmp_path, f"dog/{'x' * 236}.png", "cat/a b .png")
    write(tmp_path, os.fsdecode(b"caf\xe9/\xff.png"))
    source, table = read(str(tmp_path))
    assert sorted(table["path"].to_pylist()) == [r"caf\xe9/\xff.png", "cat/a b .png", f"dog/{'x' * 236}.png"]
    assert set(table["label"].to_pylist()) == {r"caf\xe9", "cat", "dog"}
    assert set(source.names().values()) == set(table["path"].to_pylist())


def test_a_flat_folder_beside_a_table_says_which_keys_to_set(tmp_path):
    location = write(tmp_path, "images/1.png", "images/2.png", "images/3.png")
    write(tmp_path, "labels.csv", content=b"file,label\n")
    with pytest.raises(BadInput, match=r"set data\.source to the table, data\.image_column.*Received: .*labels\.csv"):
        files.resolve(location)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_of_paths_relative_to_it(tmp_path, suffix):
    write(tmp_path, "here/cat/1.png", "here/dog/2.png", "secret.png")
    (tmp_path / "here" / "link.png").symlink_to("../secret.png")
    paths = [
        "cat/1.png",
        ".\\dog\\../dog/2.png",
        "../secret.png",
        str(tmp_path / "here/cat/1.png"),
        str(tmp_path / "secret.png"),
        "cat/gone.png",
        "link.png",
        None,
    ]
    table = pa.table({"file": paths, "label": list("ababbaba")})
    location = str(tmp_path / "here" / f"labels.{suffix}")
    if suffix == "csv":
        (tmp_path / "here" / "labels.csv").write_text(
            "file,label\n" + "".join(f"{p or ''},{label}\n" for p, label in zip(paths, "ababbaba", strict=True))
        )
    else:
        pq.write_table(table, location)
    source, read_ = read(location, image_column="file")
    assert source.schema() == read_.schema and read_.schema.names == ["file", "label", "file_bytes"]
    assert read_["file_bytes"].to_pylist() == [PICTURE] * 3 and read_["label"].to_pylist() == ["a", "b", "b"]
    reasons = [line["reason"].partition(": ")[2] for line in source.broken]
    assert reasons == [
        *["file names a file outside the table's folder"] * 2, "file names no file",
        "file names a file outside the table's folder", "file names no picture",
    ]  # fmt: skip
    assert source.broken[0]["text"] == f"labels.{suffix}: ../secret.png"
    places = source.pictures()
    assert [place.name for place in places if not isinstance(place, str)] == ["1.png", "2.png", "1.png"]
    assert [f"file {place}" for place in places if isinstance(place, str)] == reasons
    columns = recognition.infer(source.schema(), {}, Data(source="-", task="image", image_column="file"))
    assert [(column.name, column.kind) for column in columns] == [("file_bytes", "image"), ("label", "categorical")]


def test_structs_of_bytes_and_path_are_pictures(tmp_path):
    cells = [{"bytes": PICTURE, "path": "1.png"}, {"bytes": None, "path": "2.png"}]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(cells, struct), "label": [0, 1]}), tmp_path / "hf.parquet")
    source, table = read(str(tmp_path / "hf.parquet"))
    assert table["image"].to_pylist() == [PICTURE, None] and source.schema() == table.schema
    assert recognition.infer(table.schema, {}, Data(source="-", task="image"))[0].name == "image"


def test_a_column_that_is_neither_bytes_nor_paths_is_refused():
    schema = pa.schema([("file", pa.int64()), ("label", pa.string())])
    with pytest.raises(
        BadInput, match=r"data\.image_column must hold bytes or, in a file, paths\. Received: file, int64"
    ):
        recognition.infer(schema, {}, Data(source="-", task="image", image_column="file"))


def test_pictures_are_read_by_number_and_by_bytes(monkeypatch):
    assert list(picture_cells.batched([])) == []
    assert list(picture_cells.batched([1] * 2049)) == [(0, 1024), (1024, 2048), (2048, 2049)]
    monkeypatch.setattr(picture_cells, "BYTES_AT_ONCE", 10)
    assert list(picture_cells.batched([4, 4, 4, 20, 1, 1])) == [(0, 2), (2, 3), (3, 4), (4, 6)]


def test_batches_for_spark_are_bounded_by_bytes():
    cells = pa.array([bytes(n) for n in (10, 10, 500, 10, 3000, 10, 10)])
    (batch,) = pa.table({"image": cells}).to_batches()
    parts = list(spark_rows.bounded(batch, 600))
    assert pa.Table.from_batches(parts)["image"].to_pylist() == cells.to_pylist()
    assert all(part.nbytes <= 600 or part.num_rows == 1 for part in parts) and len(parts) < len(cells)
