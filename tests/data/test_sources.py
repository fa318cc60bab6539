"""Sources: what is found, what is read, and that no row is lost on the way."""

import gzip
import pickle
from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from baton.config.schema import Data
from baton.data.sources import csv_text, plain_text
from baton.data.sources import files as sources
from baton.data.sources.reading import Reading
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


@pytest.mark.parametrize("location", ["nowhere.csv", "*.csv", ".", "data[1]/nowhere.csv", "data[1]/*.csv"])
def test_nothing_found(tmp_path, location):
    (tmp_path / "data[1]").mkdir()
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
    assert sources.resolve(path, Reading(delimiter=";")).table().to_pydict() == {"a": ["1,5"], "b": ["x"]}


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
    source = sources.resolve(str(tmp_path), Reading(label="animal"))
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


# Columns that are not read


@pytest.mark.parametrize(
    ("drop", "without"),
    [
        ([], ()),
        (["a", "b"], ()),
        (["a", "Prediction", "reason", "probability_yes"], ("Prediction", "reason", "probability_yes")),
        (["run_id", "prediction_low", "predictions"], ("run_id", "prediction_low")),
    ],
)
def test_a_dropped_column_with_a_reserved_name_is_not_read(drop, without):
    data = Data(source="-", task="regression", drop=drop, encoding="cp1252", escape="\\", delimiter=";", target="y")
    assert Reading.of(data) == Reading(";", "y", "cp1252", "\\", without)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_columns_that_are_not_read_are_in_no_schema(tmp_path, suffix):
    (tmp_path / "reason=x").mkdir()
    path = tmp_path / "reason=x" / f"r.{suffix}"
    table = pa.table({"a": ["1"], "prediction": ["2"]})
    pq.write_table(table, path) if suffix == "parquet" else path.write_text("a,prediction\n1,2\n")
    source = sources.resolve(str(tmp_path), Reading(without=("prediction", "reason")))
    assert source.schema().names == ["a"]
    assert source.table().to_pydict() == {"a": ["1"]}


# Partitions


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("folders", "location", "columns", "whole"),
    [
        (["day=1", "day=-20"], "d", {"day": ["-20", "1"]}, True),
        (["day=1", "day=02"], "d", {"day": ["02", "1"]}, False),
        (["day=1", "day=9223372036854775808"], "d", {"day": ["1", "9223372036854775808"]}, False),
        (["day=1", "day=__HIVE_DEFAULT_PARTITION__"], "d", {"day": ["1", None]}, True),
        (["day="], "d", {"day": [None]}, False),
        (["x/year=2024/more/m=a%2Fb%20c"], "d", {"year": ["2024"], "m": ["a/b c"]}, None),
        (["year=2024/m=1", "year=2025/m=1"], "d/year=*/m=*/*", {"year": ["2024", "2025"], "m": ["1", "1"]}, True),
        (["year=2024/m=1", "year=2024/m=2"], "d/year=2024/**/r.*", {"m": ["1", "2"]}, True),
        (["_day=3", "_old"], "d", {"_day": ["3"]}, True),
        (["_day=3", "_old"], "d/**/r*", {"_day": ["3"]}, True),
        (["day=1", ".day=2"], "d", {"day": ["1"]}, True),
        (["=1"], "d", {}, True),
        (["a=7", "a=8"], "d", {}, True),  # the file's own column of that name counts
    ],
)
def test_folders_called_key_value_are_columns(tmp_path, suffix, folders, location, columns, whole):
    for folder in folders:
        write(tmp_path, f"d/{folder}/r.{suffix}")
    source = sources.resolve(str(tmp_path / location))
    table = source.table()
    assert table.schema == source.schema()
    assert table.column_names == ["a", "b", *columns]
    rows = len(source.files)
    assert table.select(["a", "b"]).to_pydict() == {name: cells * rows for name, cells in ROWS.items()}
    for name, values in columns.items():
        number = suffix == "parquet" and (whole if whole is not None else name == "year")
        assert table.schema.field(name).type == (pa.int64() if number else pa.string())
        cells = [int(value) if number and value is not None else value for value in values for _ in range(2)]
        assert sorted(table[name].to_pylist(), key=str) == sorted(cells, key=str)
    pieces = [pickle.loads(pickle.dumps(piece)) for piece in source.pieces(4)]
    again = pa.concat_tables([table for piece in pieces for table in piece.tables(source.schema())])
    assert sorted(map(str, again.to_pylist())) == sorted(map(str, table.to_pylist()))


@pytest.mark.parametrize(
    ("folders", "answer"),
    [
        (["day=1", "month=1"], r"month=1/r\.csv lies in other partitions .* Received: month and day"),
        (["", "day=1"], r"r\.csv lies in other partitions .* Received: none and day|Received: day and none"),
        (["day=1", "day=1/hour=2"], "Received: day, hour and day|Received: day and day, hour"),
        (["day=1/day=2"], r"A partition is named twice on the way to a file: day\. Received: .*r\.csv"),
        (["A=1"], "columns whose names differ in case only: A, a"),
        (["day=%FF"], r"The name of a folder is not UTF-8: rename it\. Received: .*r\.csv"),
    ],
)
def test_partitions_that_do_not_go_together(tmp_path, folders, answer):
    for folder in folders:
        write(tmp_path, f"d/{folder}/r.csv")
    with pytest.raises(BadInput, match=answer):
        sources.resolve(str(tmp_path / "d")).table()


# Tables of other engines


@pytest.mark.parametrize(
    ("location", "mark", "data", "kind"),
    [
        ("d", "_delta_log/0.json", "r.parquet", "Delta"),
        ("d/*.parquet", "_delta_log/0.json", "r.parquet", "Delta"),
        ("d", "x/_delta_log/0.json", "x/day=1/r.parquet", "Delta"),
        ("d/**/*.parquet", "x/_delta_log/0.json", "x/day=1/r.parquet", "Delta"),
        ("d/*.parquet", ".hoodie/hoodie.properties", "r.parquet", "Hudi"),
        ("d", "metadata/v1.metadata.json", "data/r.parquet", "Iceberg"),
        ("d/**/*.parquet", "metadata/v1.metadata.json", "data/r.parquet", "Iceberg"),
    ],
)
def test_a_folder_of_another_engines_table_is_refused(tmp_path, location, mark, data, kind):
    write(tmp_path, f"d/{data}")
    write(tmp_path, f"d/{mark}")
    answer = rf"d(/x)? is a table of {kind}, whose folder holds deleted rows too: read it with Spark as table:<name>"
    with pytest.raises(BadInput, match=answer):
        sources.resolve(str(tmp_path / location))


def test_the_data_folder_of_iceberg_is_refused_and_a_file_named_itself_is_read(tmp_path):
    write(tmp_path, "d/metadata/v1.metadata.json")
    path = write(tmp_path, "d/data/r.parquet")
    with pytest.raises(BadInput, match="d is a table of Iceberg"):
        sources.resolve(str(tmp_path / "d" / "data"))
    assert sources.resolve(path).table().num_rows == 2


# Text: packed, in other encodings, with escapes


@pytest.mark.parametrize("name", ["r.csv.gz", "r.TSV.GZ", "r.txt.gz", "r.data.gz", "r.txt", "r.data"])
def test_packed_and_other_text_is_read_as_csv(tmp_path, name):
    content = b"a,b\n1,x\n2,\n"
    packed = name.lower().endswith(".gz")
    (tmp_path / name).write_bytes(gzip.compress(content[:4]) + gzip.compress(content[4:]) if packed else content)
    source = sources.resolve(str(tmp_path / name))
    assert source.table().to_pydict() == ROWS
    assert source.bytes == (tmp_path / name).stat().st_size * (8 if packed else 1)


def test_a_copy_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(plain_text.tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "r.csv.gz").write_bytes(gzip.compress(b"a,b\n1,x\n" * 1000))
    tables = sources.resolve(str(tmp_path / "r.csv.gz")).batches()
    next(tables)
    assert list((tmp_path / "tmp").iterdir()) == []


def packed(content: bytes) -> bytes:
    """Packed to the same bytes at any time: they name a test, and the processes that share tests compare the names."""
    return gzip.compress(content, mtime=0)


PACKED = packed(b"a,b\n" + bytes(range(97, 107)) * 50)


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (PACKED[:-12], r"r\.csv\.gz is damaged: .*Pack it again"),
        (PACKED[:-6] + b"\0" + PACKED[-5:], r"r\.csv\.gz is damaged: CRC check failed.*Pack it again"),
        (b"a,b\n1,2\n", r"r\.csv\.gz is damaged: Not a gzipped file .*Pack it again"),
        (packed(b"a,b\n" + b"1,x\n" * 300), r"r\.csv\.gz holds more than 1,000 bytes when it is unpacked"),
        (packed(b"a" * 2000), r"r\.csv\.gz holds more than 1,000 bytes when it is unpacked"),
        (packed(b"a,b\n1,\xff\n"), r"r\.csv\.gz, line 2: byte 0xFF is not UTF-8"),
        (packed(b'a,b\n"1,2\n3,4\n'), r"r\.csv\.gz, line 2: a quote is opened and never closed"),
        (packed(b'"a,b\n1,2\n3,4\n'), r"r\.csv\.gz, line 1: a quote is opened and never closed"),
        (packed("a,b".encode("utf-16")), r"r\.csv\.gz, line 1: the text is UTF-16"),
        (packed(b""), r"r\.csv\.gz is not CSV that can be read: Empty CSV file"),
        (b"", r"r\.csv\.gz is not CSV that can be read: Empty CSV file"),
    ],
)
def test_packed_files_that_cannot_be_read(tmp_path, monkeypatch, content, answer):
    monkeypatch.setattr(plain_text, "UNPACKED_BYTES", 1000)
    monkeypatch.setattr(plain_text, "UNPACKED_TIMES", 1)
    (tmp_path / "r.csv.gz").write_bytes(content)
    with pytest.raises(BadInput, match=answer):
        sources.resolve(str(tmp_path / "r.csv.gz")).table()


def test_no_room_to_unpack_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "r.csv.gz").write_bytes(PACKED)
    monkeypatch.setattr(plain_text.tempfile, "TemporaryFile", lambda: open("/dev/full", "r+b", buffering=0))  # noqa: PTH123, SIM115
    with pytest.raises(BadInput, match=r"r\.csv\.gz cannot be unpacked into .*: No space left.*Set TMPDIR"):
        sources.resolve(str(tmp_path / "r.csv.gz")).table()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("encoding", "content", "cells"),
    [
        ("latin-1", "é,b\nMálaga,1\n".encode("latin-1"), {"é": ["Málaga"], "b": ["1"]}),
        ("cp1252", "é,b\n5 €,„x“\n".encode("cp1252"), {"é": ["5 €"], "b": ["„x“"]}),
        ("cp932", "表,b\nソ|能,1\n".encode("cp932"), {"表": ["ソ|能"], "b": ["1"]}),
        ("latin-1", "\ufeffé,b\nMálaga,1\n".encode(), {"é": ["Málaga"], "b": ["1"]}),  # the mark says UTF-8
        ("UTF8", "é,b\nMálaga,1\n".encode(), {"é": ["Málaga"], "b": ["1"]}),
    ],
)
def test_text_in_another_encoding(tmp_path, encoding, content, cells, pack, monkeypatch):
    monkeypatch.setattr(plain_text, "CHUNK_BYTES", 3)  # amid a character
    path = tmp_path / ("r.csv" if pack is bytes else "r.csv.gz")
    path.write_bytes(pack(content))
    assert sources.resolve(str(path), Reading(encoding=encoding)).table().to_pydict() == cells


@pytest.mark.parametrize(
    ("encoding", "content", "answer"),
    [
        ("cp1252", b"a\n1\n\x81\n", r"r\.csv, line 3: byte 0x81 is not cp1252: set data\.encoding"),
        ("ascii", b"\xe9\n1\n", r"r\.csv, line 1: byte 0xE9 is not ascii: set data\.encoding"),
        ("shift_jis", b"a\n1\n\x81", r"r\.csv, line 3: byte 0x81 is not shift_jis"),
        ("latin-1", "a\n".encode("utf-16"), r"r\.csv, line 1: the text is UTF-16"),
        ("utf-8", b"a\n\xe9\n", r"line 2: byte 0xE9 is not UTF-8, .*set data\.encoding: latin-1, cp1252 or what"),
        ("latin-1", b'a\n\xe9\n"x', r"r\.csv, line 3: a quote is opened and never closed"),
    ],
)
def test_text_that_is_not_in_its_encoding(tmp_path, encoding, content, answer, monkeypatch):
    monkeypatch.setattr(plain_text, "CHUNK_BYTES", 2)
    (tmp_path / "r.csv").write_bytes(content)
    with pytest.raises(BadInput, match=answer):
        sources.resolve(str(tmp_path / "r.csv"), Reading(encoding=encoding)).table()


@pytest.mark.parametrize(
    ("line", "cells"),
    [
        (r'"a \"b\" c",x', ['a "b" c', "x"]),
        (r"a\,b,x", ["a,b", "x"]),
        (r'a\,"b,x', ['a,"b', "x"]),
        (r'"a\\",x', ["a\\", "x"]),
        ('"a\\"\nb",x', ['a"\nb', "x"]),
        ("a\\\nb,x", ["a\nb", "x"]),
        ('"a ""b""",x', ['a "b"', "x"]),
        (r"\"a,x", ['"a', "x"]),
    ],
)
def test_an_escape_makes_text_of_the_next_character(tmp_path, line, cells):
    path = write(tmp_path, "r.csv", f"a,b\n{line}\nshort\n1,2\n")
    source = sources.resolve(path, Reading(escape="\\"))
    assert source.table().to_pydict() == {"a": [cells[0], "1"], "b": [cells[1], "2"]}
    (broken,) = source.broken
    assert broken["reason"] == f"line {3 + line.count(chr(10))}: expected 2 values, got 1"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('a,b\n"x\\",1\n2,3\n', r"line 2: a quote is opened and never closed"),
        ('a,b\n"x\\"\n', r"line 2: a quote is opened and never closed"),
        ('a,b\n"x\\"\n1,2\n3,4"y,5\n', r"line 2: a quote is opened and closed only amid line 4"),
    ],
)
def test_an_escaped_quote_closes_no_cell(tmp_path, text, answer):
    with pytest.raises(BadInput, match=answer):
        sources.resolve(write(tmp_path, "r.csv", text), Reading(escape="\\")).table()


# Headers and lines that say what is wrong


@pytest.mark.parametrize(
    ("names", "separator"),
    [
        (["a;b;c"], ";"),
        (["a\tb"], "\t"),
        (["a|b"], "|"),
        (["a,b,c;d"], ","),
        (["a"], None),
        (["a;b", "c"], None),
        (['"a;b"'], None),
        (['x;"a|b|c"'], ";"),
        ([], None),
    ],
)
def test_what_a_header_of_one_column_looks_separated_by(names, separator):
    assert csv_text.looks_separated(names) == separator


@pytest.mark.parametrize(
    ("names", "answer"),
    [
        (["1", "2.5", "a"], True),
        (["-1,5", "", "2024-05-31", "x"], True),
        (["31.12.2024", "1e-3", "5%"], True),
        (["2024-05-31T08:30:00Z"], True),
        (["a", "2023"], False),
        (["x1", "1st", "v2"], False),
        ([], False),
    ],
)
def test_a_header_that_looks_like_data(names, answer):
    assert csv_text.looks_like_data(names) is answer


@pytest.mark.parametrize(
    ("line", "reading", "reason"),
    [
        ("1,2,", Reading(), "expected 2 values, got 3 (it ends with a delimiter)"),
        ("1,2,,", Reading(), "expected 2 values, got 4 (it ends with a delimiter)"),
        ("1,,2,", Reading(), "expected 2 values, got 4"),
        ("1,2,3", Reading(), "expected 2 values, got 3"),
        ("1", Reading(), "expected 2 values, got 1"),
        ("1,2,\\,", Reading(escape="\\"), "expected 2 values, got 3"),
    ],
)
def test_lines_that_end_with_a_delimiter_are_told_apart(tmp_path, line, reading, reason):
    source = sources.resolve(write(tmp_path, "r.csv", f"a,b\n1,2\n{line}\r\n"), reading)
    list(source.batches())
    assert [broken["reason"] for broken in source.broken] == [f"line 3: {reason}"]


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        ("a,b,", r"without a name: number 3\. Its header ends with a delimiter\.$"),
        (",a,b", r"without a name: number 1\. The first may be the index of pandas: write it with index=False\.$"),
        (",a,", r"number 1, 3\. Its header ends with a delimiter\. The first may be the index of pandas"),
        ("a,,b", r"without a name: number 2\.$"),
    ],
)
def test_columns_without_a_name_and_why(tmp_path, header, answer):
    with pytest.raises(BadInput, match=answer):
        sources.resolve(write(tmp_path, "r.csv", f"{header}\n1,2,3\n")).schema()


def test_the_index_of_pandas_stays_a_column(tmp_path):
    pa.table({"a": [1, 2]}).to_pandas().set_index(pa.array([7, 8]).to_pandas()).to_parquet(tmp_path / "r.parquet")
    assert sources.resolve(str(tmp_path / "r.parquet")).table().to_pydict() == {
        "a": [1, 2],
        "__index_level_0__": [7, 8],
    }


# Files of one source with other types


US, NS = pa.timestamp("us"), pa.timestamp("ns")
EXACTLY = [
    ([datetime(2500, 1, 1)], US, [datetime(2020, 1, 1)], NS, US),
    ([datetime(2500, 1, 1)], US, [date(2020, 1, 1)], pa.date32(), US),
    ([date(2020, 1, 1)], pa.date64(), [date(2500, 1, 1)], pa.date32(), pa.date32()),
    ([1_000], pa.timestamp("ns", "UTC"), [2], pa.timestamp("s", "UTC"), pa.timestamp("us", "UTC")),
    ([1], NS, [2], NS, NS),
    ([2**53 + 2, None], pa.int64(), [1.5], pa.float64(), pa.float64()),
    ([2**63], pa.uint64(), [1.5], pa.float64(), pa.float64()),
    ([2**63 + 5], pa.uint64(), [1], pa.uint64(), pa.uint64()),
    ([2**63 - 1], pa.uint64(), [1], pa.int8(), pa.int64()),
    ([Decimal("1.10")], pa.decimal128(10, 2), [2**63 + 5], pa.uint64(), pa.decimal128(22, 2)),
    ([Decimal("1.10")], pa.decimal128(38, 2), [-(2**63)], pa.int64(), pa.decimal128(38, 2)),
    ([Decimal("1.10")], pa.decimal128(38, 30), [5], pa.int64(), pa.decimal256(49, 30)),
    ([Decimal("1.10")], pa.decimal128(10, 2), [1.5], pa.float32(), pa.float64()),
]


@pytest.mark.parametrize(("one", "one_type", "other", "other_type", "common"), EXACTLY)
def test_files_with_other_types_keep_every_value(tmp_path, one, one_type, other, other_type, common):
    for name, (cells, type_) in {"1": (one, one_type), "2": (other, other_type)}.items():
        pq.write_table(pa.table({"x": pa.array(cells, type_)}), tmp_path / f"{name}.parquet")
    table = sources.resolve(str(tmp_path)).table()
    assert table.schema.types == [common]
    parts = [table["x"].slice(0, len(one)), table["x"].slice(len(one))]
    for part, cells, type_ in zip(parts, (one, other), (one_type, other_type), strict=True):
        assert part.cast(type_, safe=False).equals(pa.chunked_array([pa.array(cells, type_)]))
        if pa.types.is_integer(type_) and not pa.types.is_timestamp(common):
            assert part.to_pylist() == cells


@pytest.mark.parametrize(
    ("one", "one_type", "other", "other_type", "answer"),
    [
        ([datetime(2500, 1, 1)], US, [1], NS, r"2\.parquet: column x .*timestamp\[ns\] that timestamp\[us\], "),
        ([2**60], pa.timestamp("ms"), [1000], NS, r"1\.parquet: column x .*timestamp\[ms\] that timestamp\[us\]"),
        ([2**53 + 1], pa.int64(), [1.5], pa.float64(), r"1\.parquet: column x holds values of type int64 that double"),
        ([1.5], pa.float64(), [2**63 - 1], pa.int64(), r"2\.parquet: column x .*int64 that double"),
        ([2**63 + 5], pa.uint64(), [1], pa.int64(), r"1\.parquet: column x .*uint64 that int64"),
        ([Decimal("12345678901234567.1")], pa.decimal128(30, 1), [1.5], pa.float64(), r"1\.parquet: column x .*deci"),
    ],
)
def test_files_with_other_types_that_would_change_a_value(tmp_path, one, one_type, other, other_type, answer):
    for name, (cells, type_) in {"1": (one, one_type), "2": (other, other_type)}.items():
        pq.write_table(pa.table({"x": pa.array(cells, type_)}), tmp_path / f"{name}.parquet")
    with pytest.raises(BadInput, match=f"{answer}.*cannot hold exactly.* Write the column in one type in all files"):
        sources.resolve(str(tmp_path)).table()
