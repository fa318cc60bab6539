"""Sources: what is found, what is read, and that no row is lost on the way."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from baton.data.sources import files as sources
from baton.errors import BadInput

ROWS = {"a": ["1", "2"], "b": ["x", None]}


def write(folder, name: str, text: str = "a,b\n1,x\n2,\n") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".parquet", ".pq"):
        pq.write_table(pa.table(ROWS), path)
    else:
        path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("names", "location"),
    [
        (["r.csv"], "r.csv"),
        (["r.PQ"], "r.PQ"),
        (["d/1.csv", "d/sub/2.csv"], "d"),
        (["d/1.parquet", "d/2.parquet"], "d"),
        (["1.csv", "2.csv", "x.parquet"], "*.csv"),
        (["d/1.parquet", "d/sub/2.pq"], "d/**/*.p*"),
    ],
)
def test_a_file_a_folder_or_a_glob(tmp_path, names, location):
    for name in names:
        write(tmp_path, name) if name != "r.PQ" else pq.write_table(pa.table(ROWS), tmp_path / name)
    source = sources.resolve(str(tmp_path / location))
    files = [name for name in names if name != "x.parquet"]
    assert [str(file.relative_to(tmp_path)) for file in source.files] == files
    assert source.table().to_pydict() == {name: cells * len(files) for name, cells in ROWS.items()}
    assert source.bytes == sum((tmp_path / name).stat().st_size for name in files)


@pytest.mark.parametrize("location", ["d", "d/*"])
def test_files_of_spark_and_petastorm_are_no_data(tmp_path, location):
    for name in ("_SUCCESS", "_common_metadata", ".part.parquet.crc"):
        write(tmp_path, f"d/{name}")
    write(tmp_path, "d/part.parquet")
    assert [file.name for file in sources.resolve(str(tmp_path / location)).files] == ["part.parquet"]


def test_partial_writes_in_hidden_folders_are_no_data(tmp_path):
    write(tmp_path, "d/_temporary/0/part.parquet")
    write(tmp_path, "d/part.parquet")
    assert len(sources.resolve(str(tmp_path / "d")).files) == 1


@pytest.mark.parametrize(
    ("names", "received"),
    [
        (["1.csv", "2.parquet"], r"\.csv, \.parquet"),
        (["1.csv", "README", "x.json"], ".*/d/README"),
        (["notes.md"], r".*/d/notes\.md"),
    ],
)
def test_mixed_and_unknown_formats_are_refused(tmp_path, names, received):
    for name in names:
        write(tmp_path, f"d/{name}")
    answer = f"d must hold only CSV, only Parquet or only image files. Received: {received}$"
    with pytest.raises(BadInput, match=answer):
        sources.resolve(str(tmp_path / "d"))


@pytest.mark.parametrize("location", ["nowhere.csv", "*.csv", "."])
def test_nothing_found(tmp_path, location):
    with pytest.raises(BadInput, match=r"There is no file at the source\. Received: .*"):
        sources.resolve(str(tmp_path / location))


def test_a_spark_table_has_no_files():
    source = sources.resolve("table:db.flights")
    assert (source.format, source.files) == ("table", [])


def test_cells_stay_text(tmp_path):
    text = 'a,b,c\n007,1e3,"x,\n""y"""\nNA,"", z \nNone,null,nan\n'
    table = sources.resolve(write(tmp_path, "r.csv", text)).table()
    assert table.schema.types == [pa.string()] * 3
    assert table.to_pydict() == {
        "a": ["007", "NA", "None"],
        "b": ["1e3", None, "null"],
        "c": ['x,\n"y"', " z ", "nan"],
    }


def test_another_delimiter(tmp_path):
    path = write(tmp_path, "r.csv", "a;b\n1,5;x\n")
    assert sources.resolve(path, sources.Reading(delimiter=";")).table().to_pydict() == {"a": ["1,5"], "b": ["x"]}


def test_lines_that_are_no_rows_are_kept_aside(tmp_path):
    write(tmp_path, "d/1.csv", "a,b\n1,x\n2\n3,y,z\n4,w\n")
    write(tmp_path, "d/2.csv", "b,a\nonly\nv,5\n")
    source = sources.resolve(str(tmp_path / "d"))
    for _ in range(2):  # a second reading refills `broken`, it does not add to it
        assert source.table().to_pydict() == {"a": ["1", "4", "5"], "b": ["x", "w", "v"]}
        assert [line["text"] for line in source.broken] == ["1.csv: 2", "1.csv: 3,y,z", "2.csv: only"]
    reasons = [line["reason"].split(": ")[1] for line in source.broken]
    assert reasons == ["expected 2 values, got 1", "expected 2 values, got 3", "expected 2 values, got 1"]


@settings(deadline=None)
@given(st.lists(st.lists(st.text("ab1é", min_size=1, max_size=4), min_size=1, max_size=4)))
def test_every_line_is_a_row_or_broken(tmp_path_factory, lines):
    text = "a,b\n" + "".join(",".join(line) + "\n" for line in lines)
    source = sources.resolve(write(tmp_path_factory.mktemp("csv"), "r.csv", text))
    batches = list(source.batches())
    read = [row for batch in batches for row in zip(*batch.to_pydict().values(), strict=True)]
    assert read == [tuple(line) for line in lines if len(line) == 2]
    broken = [f"r.csv: {','.join(line)}" for line in lines if len(line) != 2]
    assert [line["text"] for line in source.broken] == broken


def test_no_line_is_lost_between_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CSV_BLOCK_BYTES", 1000)
    lines = [f"{n},{'x' * (n % 50)}" + (",more" if n % 7 == 0 else "") for n in range(2000)]
    source = sources.resolve(write(tmp_path, "r.csv", "a,b\n" + "\n".join(lines)))
    batches = list(source.batches())
    assert len(batches) > 10
    read = [int(n) for batch in batches for n in batch["a"].to_pylist()]
    assert read == [n for n in range(2000) if n % 7]
    assert [line["text"] for line in source.broken] == [f"r.csv: {lines[n]}" for n in range(0, 2000, 7)]


def test_parquet_is_read_in_pieces(tmp_path):
    pq.write_table(pa.table({"n": range(1000)}), tmp_path / "r.parquet", row_group_size=300)
    source = sources.resolve(str(tmp_path / "r.parquet"))
    batches = list(source.batches(rows=64))
    assert pa.concat_tables(batches)["n"].to_pylist() == list(range(1000))
    assert max(batch.num_rows for batch in batches) <= 64


@pytest.mark.parametrize(
    ("name", "content", "answer"),
    [
        ("r.csv", b"", "r.csv is not CSV that can be read: Empty CSV file"),
        ("r.csv", b"a,b\n\xff,1\n", "r.csv, line 2: byte 0xFF is not UTF-8, the file may be Latin-1"),
        ("r.csv", b"a,b,a\n1,2,3\n", "r.csv has columns of the same name: a"),
        ("r.csv", b"a,b\n", "r.csv holds no rows"),
        ("r.csv", b"a,b\n1\n2\n", "r.csv holds no rows"),
        ("r.parquet", b"PAR1 and then nothing", "r.parquet is not Parquet that can be read"),
        ("r.parquet", b"", "r.parquet is not Parquet that can be read"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, answer):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=answer):
        sources.resolve(str(tmp_path / name)).table()


def test_parquet_columns_of_the_same_name(tmp_path):
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "r.parquet")
    with pytest.raises(BadInput, match="r.parquet has columns of the same name: a"):
        sources.resolve(str(tmp_path / "r.parquet")).table()


def test_files_with_other_columns(tmp_path):
    write(tmp_path, "d/1.csv")
    write(tmp_path, "d/2.csv", "a,c\n1,2\n")
    with pytest.raises(BadInput, match=r"2\.csv has other columns .*: missing \['b'\], extra \['c'\]"):
        sources.resolve(str(tmp_path / "d")).table()


def test_an_image_folder_names_classes(tmp_path):
    for name in ("cat/1.png", "cat/old/2.PNG", "dog/3.jpg", "loose.gif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / name)
    source = sources.resolve(str(tmp_path), sources.Reading(label="animal"))
    table = source.table()
    assert source.format == "images"
    assert dict(zip(table["path"].to_pylist(), table["animal"].to_pylist(), strict=True)) == {
        "cat/1.png": "cat", "cat/old/2.PNG": "cat", "dog/3.jpg": "dog", "loose.gif": None
    }  # fmt: skip
    assert table["image"][0].as_py() == (tmp_path / "cat/1.png").read_bytes()
    with pytest.raises(BadInput, match=r"Images are read from a folder .*Received: .*\*\.png"):
        sources.resolve(str(tmp_path / "cat" / "*.png"))


def test_a_page_that_does_not_match_its_checksum_is_refused(tmp_path):
    """Without the checksum, one flipped bit of a value is another value, and nothing can tell."""
    values = pa.table({"x": [float(i) for i in range(400)]})
    for name, checksums in (("with", True), ("without", False)):
        file = tmp_path / f"{name}.parquet"
        pq.write_table(values, file, write_page_checksum=checksums, compression="none", use_dictionary=False)
        content = bytearray(file.read_bytes())
        content[1500] ^= 4
        file.write_bytes(content)
    with pytest.raises(BadInput, match=r"with\.parquet is not Parquet that can be read: .*CRC checksum"):
        sources.resolve(str(tmp_path / "with.parquet")).table()
    assert sources.resolve(str(tmp_path / "without.parquet")).table() != values
