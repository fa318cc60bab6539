"""The Spark engine against the local one: the same datasets, the same predictions, the same training."""

import datetime
import gzip
import io
import json
import os
import re
import signal
import time
from collections import Counter
from pathlib import Path

import every_type
import horovod.spark as horovod_on_spark
import mlflow
import numpy as np
import odd_pictures as odd
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import tiny
import untidy
from command_lines import CommandLines
from logged import batch
from PIL import Image
from pyspark import SparkFiles
from pyspark.sql.functions import col
from pyspark.sql.functions import struct as spark_struct

from baton import names
from baton.config import schema
from baton.data import columns, petastorm, reference
from baton.data import dataset as dataset_module
from baton.data.dataset import Dataset
from baton.data.ingestion import local as building
from baton.data.ingestion import spark as spark_ingestion
from baton.data.sources import files as sources
from baton.data.sources import spark_rows
from baton.errors import BadInput, BatonError
from baton.monitoring import drift
from baton.networks import build as models
from baton.networks.views import View, viewed
from baton.runtime import spark
from baton.serving import export, raw_model, scoring
from baton.serving import spark as spark_scoring
from baton.serving import table as tables
from baton.serving.raw_columns import RawColumnModel
from baton.training import distributed
from baton.tuning import hyperopt

BASE = {
    "name": "t",
    "data": {"source": "-", "target": "y", "task": "regression"},
    "train": {"epochs": 1, "batch_size": 64},
    "model": {"hidden": [8], "networks": 1},
    "distributed_train": {"launcher": "spark"},
}
ROWS = 1200
SECRET = "canary-of-the-spark-engine"


def configured(source: str, **overrides) -> schema.Config:
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    return schema.validate(BASE, {}, "test").overridden({"data.source": source, **changes})


@pytest.fixture(scope="module", autouse=True)
def command_lines():
    """Of all processes while this module's tests run, with a secret in the environment."""
    os.environ["AWS_SECRET_ACCESS_KEY"] = SECRET
    with CommandLines() as lines:
        yield lines
    del os.environ["AWS_SECRET_ACCESS_KEY"]


@pytest.fixture(scope="module")
def session(command_lines):
    found = spark.session(configured("-", spark__config={"spark.hadoop.fs.s3a.secret.key": SECRET}))
    yield found
    found.stop()


def rows() -> pa.Table:
    """Rows of every kind, with what must be quarantined among them: 7 targets missing, 3 cells infinite."""
    rng = np.random.default_rng(5)
    y = rng.normal(size=ROWS).round(3)
    y[:7] = np.nan
    number = rng.normal(1e9, 1, ROWS)
    number[7:10] = np.inf
    start = np.datetime64("2013-01-01T00:00:00", "us")
    stamps = start + rng.integers(0, 400_000_000, ROWS).astype("timedelta64[s]")
    return pa.table(
        {
            "x.y": number,
            "a b": pa.array(rng.choice(["p", "q", "ü", None], ROWS)),
            "A": pa.array(rng.integers(0, 9, ROWS), pa.int16(), mask=rng.random(ROWS) < 0.1),
            "flag": rng.choice([True, False], ROWS),
            "when": pa.array(stamps, mask=np.arange(ROWS) == 10),
            "y": pa.array(y, from_pandas=True),
        }
    )


@pytest.fixture(scope="module")
def parquet(tmp_path_factory) -> str:
    """Two files of several row groups, in types that Spark lacks too."""
    folder = tmp_path_factory.mktemp("parquet") / tiny.ODD
    folder.mkdir()
    table = rows()
    table = table.set_column(1, "a b", table["a b"].dictionary_encode())
    table = table.set_column(2, "A", table["A"].cast(pa.uint16()))
    table = table.append_column("ns", table["when"].cast(pa.timestamp("ns")))
    milliseconds = table["when"].cast(pa.timestamp("ms"), safe=False)
    table = table.append_column("zone", milliseconds.cast(pa.timestamp("ms", "America/New_York")))
    table = table.append_column("day", table["when"].cast(pa.date32(), safe=False))
    table = table.append_column("nothing", pa.nulls(ROWS))
    table = table.append_column("clock", pa.array([datetime.time(1, 2)] * ROWS))  # dropped by the config
    pq.write_table(table.slice(0, 800), folder / "1.parquet", row_group_size=300)
    later = table.slice(800).select(table.column_names[::-1])
    later = later.set_column(later.column_names.index("A"), "A", later["A"].cast(pa.float64()))
    pq.write_table(later, folder / "2.parquet")
    return str(folder)


def spark_type(type_: pa.DataType) -> pa.DataType:
    """The type of `parquet`'s that Spark has in place of one."""
    if pa.types.is_dictionary(type_):
        return spark_type(type_.value_type)
    if pa.types.is_timestamp(type_):
        return pa.timestamp("us", "UTC" if type_.tz else None)
    others = {pa.uint16(): pa.int64(), pa.null(): pa.string()}
    return others.get(type_, type_)


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> str:
    """The same rows as two CSV files, with a stray cell, ragged lines and columns in another order."""
    folder = tmp_path_factory.mktemp("csv")
    table = rows()
    strays = table["x.y"].cast(pa.string()).to_pylist()
    strays[20] = "1,5"
    table = table.set_column(0, "x.y", pa.array(strays))
    csv.write_csv(table.slice(0, 700), folder / "1.csv")
    csv.write_csv(table.slice(700).select(table.column_names[::-1]), folder / "2.csv")
    with (folder / "1.csv").open("a") as file:
        file.write("only,three,cells\n")
    return str(folder)


def bag(table: pa.Table) -> Counter:
    """A table's rows, whatever their order and that of the columns; NaN counts as null."""
    cells = [table[name].to_pylist() for name in sorted(table.column_names)]
    return Counter(zip(*([None if c != c else c for c in column] for column in cells), strict=True))


def read(folder) -> pa.Table:
    return pa.concat_tables([pq.read_table(file) for file in sorted(folder.glob("*.parquet"))])


def written(folder) -> dict[str, bytes]:
    """What the files of a dataset hold; Petastorm's metadata apart, which names them in no fixed order."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    plain = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    return {name: content for name, content in plain.items() if not name.endswith("_common_metadata")}


def read_by_tasks(opened: spark_rows.SparkRows) -> pa.Table:
    """All rows, as the tasks of a stage see them."""

    def sent(tables):
        for table in tables:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
            yield spark_rows.partial_results({"rows": sink.getvalue().to_pybytes()})

    return pa.concat_tables([pa.ipc.open_stream(part).read_all() for part in opened.collect(sent, tasks=0)["rows"]])


def build_both(settings: schema.Config, folder) -> tuple[Dataset, Dataset]:
    """The dataset of each engine, after every check that they are the same."""
    source = sources.resolve(settings.data.source, sources.Reading.of(settings.data))
    for name, build in (("local", building.build), ("spark", spark_ingestion.build)):
        (folder / name).mkdir()
        reasons = build(settings, source, folder / name)
        (folder / name / "reasons.json").write_text(json.dumps(reasons, sort_keys=True))
    local, remote = Dataset.load(folder / "local"), Dataset.load(folder / "spark")
    for name in (names.PREPROCESSOR, names.PROFILE, names.COLUMNS, "reasons.json"):
        assert (local.folder / name).read_text() == (remote.folder / name).read_text(), name
    assert reference.load(local.folder) == reference.load(remote.folder) is not None
    assert local.rows == remote.rows
    assert local.manifest["schema"] == remote.manifest["schema"]
    assert written(local.folder) == written(remote.folder)
    assert local.fingerprint == remote.fingerprint
    remote.verify()
    return local, remote


@pytest.fixture(scope="module")
def built(session, parquet, tmp_path_factory) -> Dataset:
    """A dataset made by Spark from Parquet, the same as the local engine's."""
    settings = configured(parquet, data__drop=["clock"], data__row_group_size=100)
    folder = tmp_path_factory.mktemp("built") / tiny.ODD
    folder.mkdir()
    return build_both(settings, folder)[1]


def test_parquet_gives_the_same_dataset(built):
    assert built.rows["quarantined"] == 10
    sizes = built.row_groups("train")
    assert len(sizes) == 10 and max(sizes) - min(sizes) <= 3


def test_identifiers_of_bytes_far_dates_and_numbers_beyond_int64_give_the_same_dataset(session, tmp_path):
    rng = np.random.default_rng(2)
    table = tiny.regression_table(300).append_column(
        "uuid", pa.array([rng.bytes(16) for _ in range(300)], pa.binary(16))
    )
    table = table.append_column("unsigned", pa.array([2**63 + i for i in range(300)], pa.uint64()))
    far = [datetime.datetime(9999, 12, 31, 23, 59, 59), datetime.datetime(1600, 5, 6), datetime.datetime(2500, 1, 1)]
    table = table.append_column("far", pa.array(far * 100, pa.timestamp("us")))
    table = table.append_column("until", pa.array([moment.date() for moment in far] * 100))
    y = [None if i < 3 else value for i, value in enumerate(table["y"].to_pylist())]
    pq.write_table(table.set_column(4, "y", pa.array(y)), tmp_path / "in.parquet", row_group_size=100)
    local, remote = build_both(configured(str(tmp_path / "in.parquet"), data__id=["uuid"]), tmp_path)
    assert local.rows == remote.rows and local.rows["quarantined"] == 3
    kept = [set(dataset.raw_test()["uuid"].to_pylist()) for dataset in (local, remote)]
    assert kept[0] == kept[1] < set(table["uuid"].to_pylist())


def test_csv_split_by_time_gives_the_same_dataset_and_quarantine(session, text, tmp_path, monkeypatch):
    monkeypatch.setattr(spark_ingestion, "MERGED", 1)  # partial results are merged on executors
    _, remote = build_both(configured(text, data__time="when", data__numeric="quantile"), tmp_path)
    assert remote.rows["input"] == ROWS + 1
    assert remote.rows["quarantined"] == 7 + 3 + 1 + 1 + 1
    lines = pq.read_table(remote.folder / names.QUARANTINE_FOLDER / "lines.parquet").to_pylist()
    assert lines == [{"text": "1.csv: only,three,cells", "reason": "line 702: expected 6 values, got 3"}]


def test_a_spark_table_gives_the_same_dataset_and_again_the_same_files(session, built, parquet, tmp_path):
    table = sources.resolve(parquet).table().drop(["clock"])
    plain = pa.schema([(field.name, spark_type(field.type)) for field in table.schema])
    session.createDataFrame(table.cast(plain, safe=False)).createOrReplaceTempView("t")
    found = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        spark_ingestion.build(
            configured("table:t", data__row_group_size=100), sources.resolve("table:t"), tmp_path / name
        )
        found.append(Dataset.load(tmp_path / name))
    assert found[0].rows == built.rows
    assert found[0].fingerprint == found[1].fingerprint
    for split in names.SPLITS:
        assert bag(read(found[0].folder / split)) == bag(read(built.folder / split))
    with pytest.raises(BadInput, match=r"no Spark table of that name. Received: nowhere"):
        spark_ingestion.build(configured("table:nowhere"), sources.resolve("table:nowhere"), tmp_path)


def test_images_and_a_class_that_train_lacks(session, tmp_path):
    table = pq.read_table("data/fashion.parquet").slice(0, 150)
    image = io.BytesIO()
    Image.new("L", (7, 7)).save(image, "png")
    odd = pa.table({"image": [b"no image", image.getvalue()], "label": ["bag", "rare"]})
    odd = pa.concat_tables([odd, odd.slice(1)]).cast(table.schema)
    table = table.append_column("part", pa.array(["train", "train", "dev", "test", "train"] * 30))
    odd = odd.append_column("part", pa.array(["train", "test", "test"]))
    pq.write_table(pa.concat_tables([table, odd]), tmp_path / "images.parquet", row_group_size=64)
    source = str(tmp_path / "images.parquet")
    settings = configured(source, data__task="image", data__target="label", data__split_column="part")
    _, remote = build_both(settings, tmp_path)
    reasons = json.loads((remote.folder / "reasons.json").read_text())
    assert sorted(reasons.values()) == [1, 2], reasons
    assert remote.preprocessor.image_size == {"height": 28, "width": 28, "channels": 1}


def table_of_paths(folder) -> str:
    """Odd pictures, some of them several times in other files, some that cannot be used, as a table of their paths."""
    cells = [
        *odd.ODD.values(),
        *(odd.saved(odd.photo(seed, 60, 90), kind) for seed in range(25) for kind in ("PNG", "BMP")),
    ]
    cells += [*odd.UNUSABLE.values()]
    for number, cell in enumerate(cells):
        (folder / f"{number}.jfif").write_bytes(cell)
    paths = [*(f"{number}.jfif" for number in range(len(cells))), "gone.png", "../secret.png"]
    labels = [f"class {number % 2}" for number in range(len(paths))]
    csv.write_csv(pa.table({"file": paths, "label": labels}), folder / "labels.csv")
    return str(folder / "labels.csv")


def test_pictures_by_their_paths_give_the_same_dataset_pixels_and_predictions(session, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_module, "GROUP_BYTES", 100_000)
    (tmp_path / "source").mkdir()
    size = {"height": 12, "width": 10, "channels": 3}
    settings = configured(
        table_of_paths(tmp_path / "source"), data__task="image", data__target="label", data__image_column="file",
        data__image_size=size, distributed_train__workers=2,
    )  # fmt: skip
    local, remote = build_both(settings, tmp_path)
    assert local.rows["quarantined"] == len(odd.UNUSABLE) + 2
    assert (local.folder / names.PICTURES).read_text() == (remote.folder / names.PICTURES).read_text()
    assert "in 28 groups; each group is in one split" in (local.folder / names.COLUMNS).read_text()
    assert len(local.row_groups("train")) == 6  # even in bytes

    source = sources.resolve(settings.data.source, sources.Reading.of(settings.data))
    features, decoder = local.preprocessor.features, local.preprocessor.decoder

    def pixels(tables):
        for table in tables:
            typed, reasons = columns.typed(table, features, None)
            cells = typed.column("file_bytes").filter(reasons.is_null())
            yield pa.table({"pixels": pc.cast(pa.chunked_array(cells.chunks), pa.binary())})

    with spark_rows.opened(settings, source) as opened:
        seen = opened.over(pixels, "pixels binary").toArrow().column("pixels").to_pylist()
    assert {bytes(cell) for cell in seen} >= {decoder.decode(cell).tobytes() for cell in odd.ODD.values()}

    seen = viewed(models.build(local.preprocessor, settings.model), [View(), View(0.1, 0.2, 0.7, True)])
    model = RawColumnModel(local.preprocessor, seen)
    model.save(tmp_path / "raw")
    (tmp_path / "out").mkdir()
    lineage = scoring.Lineage("m", "1", "r", "f", "s")
    done = spark_scoring.score(settings, tmp_path / "raw", source, lineage, tmp_path / "out")
    assert done.rows_quarantined == len(odd.UNUSABLE) + 2
    scored = {row["file"]: row["probability_class 1"] for row in read(tmp_path / "out").to_pylist()}
    raw = source.table()
    expected = dict(zip(raw["file"].to_pylist(), model.score(raw)[0]["probability_class 1"].to_pylist(), strict=True))
    assert scored == {file: pytest.approx(value, abs=1e-6) for file, value in expected.items() if value is not None}


def wide_rows(folder) -> str:
    """Parquet in folders called key=value, its types different from file to file, with columns that are not read."""
    table = rows().append_column("reason", pa.nulls(ROWS)).append_column("Probability_x", pa.nulls(ROWS))
    for number, (unit, kind) in enumerate([("ns", pa.uint64()), ("us", pa.float64())]):
        part = table.slice(number * 600, 600)
        part = part.set_column(4, "when", part["when"].cast(pa.timestamp(unit)))
        part = part.set_column(2, "A", part["A"].cast(kind))
        place = folder / f"year={2024 + number}" / "place=a%20b"
        place.mkdir(parents=True)
        pq.write_table(part, place / "part.parquet", row_group_size=250)
    return str(folder)


def packed_rows(folder) -> str:
    """CSV packed by gzip, in Latin-1, with escaped quotes, in folders called key=value."""
    table = rows()
    table = table.set_column(1, "a b", pc.replace_substring(table["a b"], "ü", '\\"ü; ü\\"'))
    for number in range(2):
        out = io.BytesIO()
        csv.write_csv(table.slice(number * 600, 600), out, csv.WriteOptions(delimiter=";", quoting_style="needed"))
        text = out.getvalue().decode().replace('""', '"') + "1;2;\n"
        place = folder / ("part=__HIVE_DEFAULT_PARTITION__" if number else "part=1")
        place.mkdir()
        (place / "rows.csv.gz").write_bytes(gzip.compress(text.encode("latin-1")))
    return str(folder)


def untidy_rows(folder) -> str:
    """Numbers, dates and identifiers in text, as people write them."""
    table = untidy.frame(ROWS)
    table["y"] = untidy.european(np.random.default_rng(3).normal(size=ROWS))
    return untidy.write(folder / "table", table)


PACKED = {"data__delimiter": ";", "data__encoding": "latin-1", "data__escape": "\\"}
UNTIDY = {"data__delimiter": ";", "data__id": ["order"]}
KINDS_OF_SOURCES = [
    (wide_rows, {"data__drop": ["reason", "Probability_x"]}),
    (packed_rows, PACKED),
    (untidy_rows, UNTIDY),
]


@pytest.mark.parametrize(("write", "options"), KINDS_OF_SOURCES)
def test_partitions_packed_text_and_types_of_several_files_give_the_same_dataset(session, tmp_path, write, options):
    (tmp_path / "source").mkdir()
    settings = configured(write(tmp_path / "source"), **options)
    dataset = build_both(settings, tmp_path)[1]
    names_read = {column["source"] for column in dataset.manifest["schema"]}
    assert names_read >= {wide_rows: {"year", "place"}, packed_rows: {"part"}, untidy_rows: {"region", "rate"}}[write]
    source = sources.resolve(settings.data.source, sources.Reading.of(settings.data))
    with spark_rows.opened(settings, source) as opened:  # as when scoring
        read_there = read_by_tasks(opened)
    assert bag(read_there) == bag(source.table())


def test_a_spark_table_without_the_columns_that_are_not_read(session):
    session.sql("select 1 as a, 2 as `Prediction`, 'x' as `b.c`").createOrReplaceTempView("reserved")
    settings = configured("table:reserved", data__drop=["Prediction"])
    source = sources.resolve("table:reserved", sources.Reading.of(settings.data))
    with spark_rows.opened(settings, source) as opened:
        assert opened.schema.names == ["a", "b.c"]
        assert read_by_tasks(opened).to_pylist() == [{"a": 1, "b.c": "x"}]


@pytest.mark.parametrize("reader", ["make_reader", "make_batch_reader"])
def test_petastorm_opens_what_spark_wrote(built, reader):
    import petastorm

    from baton.data.petastorm import UrlPaths

    files = built.folder / "validation"
    where = files.as_uri() if reader == "make_reader" else [p.as_uri() for p in built.files("validation")]
    how = {"reader_pool_type": "dummy", "num_epochs": 1, "filesystem": UrlPaths()}
    with getattr(petastorm, reader)(where, **how) as rows_read:
        found = [row._asdict() for row in rows_read]
    expected = read(files)
    tables = [pa.table({k: np.atleast_1d(v) for k, v in row.items()}) for row in found]
    assert bag(pa.concat_tables(tables)) == bag(expected)


def test_both_engines_score_the_same(session, built, parquet, text, tmp_path):
    network = models.build(built.preprocessor, configured("-").model)
    RawColumnModel(built.preprocessor, network).save(tmp_path / "raw")
    model, lineage = RawColumnModel.load(tmp_path / "raw"), scoring.Lineage("m", "1", "r", "f", "s")
    source = sources.resolve(parquet)
    for name in ("local", "spark"):
        (tmp_path / name).mkdir()
    one = scoring.score(model, source, lineage, tmp_path / "local", 500)
    other = spark_scoring.score(configured(parquet), tmp_path / "raw", source, lineage, tmp_path / "spark")
    assert one == other and one.rows_quarantined == 3
    for folder in (".", names.QUARANTINE_OUTPUT):
        tables = [read(tmp_path / name / folder) for name in ("local", "spark")]
        assert tables[0].schema.names == tables[1].schema.names
        near = [t.set_column(t.column_names.index("prediction"), "prediction", pc.round(t["prediction"], 4))
                if "prediction" in t.column_names else t for t in tables]  # fmt: skip
        assert bag(near[0]) == bag(near[1])
    known = reference.load(built.folder)
    samples = [drift.sampled(tmp_path / name, built.preprocessor, 400) for name in ("local", "spark")]
    assert samples[0].drop_columns("prediction").equals(samples[1].drop_columns("prediction"))
    before = drift.ReferenceScores({})
    found = [drift.measure(known, built.preprocessor, rows, schema.Drift(), before) for rows in samples]
    assert found[0]["columns"] == found[1]["columns"] != []
    assert found[0]["domain_auc"] == found[1]["domain_auc"] is not None
    assert not list(tmp_path.glob("spark/.*")) and not list(tmp_path.glob(f"spark/{names.QUARANTINE_OUTPUT}/.*"))
    with pytest.raises(BadInput, match="The data lacks"):
        spark_scoring.score(configured(text), tmp_path / "raw", sources.resolve(text), lineage, (tmp_path / "raw"))


def scored_by_both(dataset: Dataset, source: sources.Source, folder) -> list[pa.Table]:
    """The predictions of each engine, in the source's order, without their own columns."""
    model = RawColumnModel(dataset.preprocessor, models.build(dataset.preprocessor, configured("-").model))
    model.save(folder / "raw")
    lineage = scoring.Lineage("m", "1", "r", "f", "s")
    for name in ("local", "spark"):
        (folder / name).mkdir(parents=True)
    scoring.score(RawColumnModel.load(folder / "raw"), source, lineage, folder / "local", 50)
    spark_scoring.score(configured("-"), folder / "raw", source, lineage, folder / "spark")
    return [read(folder / name).select(source.schema().names) for name in ("local", "spark")]


def test_both_engines_carry_csv_cell_for_cell(session, tmp_path):
    """A zip code with leading zeros, in the last file alone, makes the column of all files text."""
    _, dataset = tiny.build(tiny.regression_table(300), tmp_path, "regression")
    lines = [f"{i}.5,{i}.0,{i},a,{10**18 + i}" for i in range(200)]
    (tmp_path / "new").mkdir()
    for number, more in enumerate(([], ["1.5,3.50,00501,b,7"])):
        (tmp_path / "new" / f"{number}.csv").write_text("\n".join(["x1,x2,n,c,order", *lines, *more]) + "\n")
    local, remote = scored_by_both(dataset, sources.resolve(str(tmp_path / "new")), tmp_path / "both")
    assert local.schema == remote.schema and local.equals(remote)
    text = pa.string()
    assert local.schema.types == [pa.float64(), text, text, text, text]
    assert local.slice(400).to_pylist() == [{"x1": 1.5, "x2": "3.50", "n": "00501", "c": "b", "order": "7"}]


def test_both_engines_carry_every_type_of_parquet_value_for_value(session, tmp_path):
    _, dataset = tiny.build(tiny.regression_table(300), tmp_path, "regression")
    moment = datetime.datetime(2024, 5, 31, 8, 30, 0, 123456)
    table = tiny.regression_table(100, seed=7).append_column("zip", pa.array(["00501"] * 100))
    more = {
        "zone": pa.array([moment] * 100, pa.timestamp("us", "America/New_York")),
        "ns": pa.array([1_700_000_000_123_456_789] * 100, pa.timestamp("ns")),
        "far": pa.array([datetime.datetime(9999, 12, 31, 23, 59, 59)] * 100, pa.timestamp("us")),
        "old": pa.array([datetime.date(1, 1, 1)] * 100),
        "unsigned": pa.array([2**64 - 1] * 100, pa.uint64()),
        "order": pa.array([2**63 - 1] * 100, pa.int64()),
        "price": pa.array(["12345678901234567890.10"] * 100).cast(pa.decimal128(24, 2)),
        "wide": pa.array(["1.50"] * 100).cast(pa.decimal256(50, 2)),
        "uuid": pa.array([bytes(range(240, 256))] * 100, pa.binary(16)),
        "bytes": pa.array([b"\xff\x00"] * 100),
        "large": pa.array(["ü"] * 100, pa.large_string()),
        "half": pa.array(np.full(100, 0.1, np.float16)),
        "small": pa.array([-5] * 100, pa.int8()),
        "clock": pa.array([datetime.time(1, 2)] * 100),
        "list": pa.array([[1, 2]] * 100),
    }
    for name, values in more.items():
        table = table.append_column(name, values)
    pq.write_table(table, tmp_path / "new.parquet", row_group_size=30)
    source = sources.resolve(str(tmp_path / "new.parquet"))
    for found in scored_by_both(dataset, source, tmp_path / "both"):
        assert found.schema.types == table.schema.types
        assert found.equals(table)


INTERVALS = {"edges": [0.0], "half_widths": {"0.9": [1.0, 2.0]}}


def test_both_engines_give_the_same_intervals(session, built, parquet, tmp_path):
    preprocessor = built.preprocessor.with_target({"intervals": INTERVALS})
    RawColumnModel(preprocessor, models.build(preprocessor, configured("-").model)).save(tmp_path / "raw")
    settings = configured(parquet, batch_infer={"source": parquet, "output": "-", "interval": 0.9})
    lineage, source = scoring.Lineage("m", "1", "r", "f", "s"), sources.resolve(parquet)
    for name in ("local", "spark"):
        (tmp_path / name).mkdir()
    scoring.score(RawColumnModel.load(tmp_path / "raw", 0.9), source, lineage, tmp_path / "local", 500)
    spark_scoring.score(settings, tmp_path / "raw", source, lineage, tmp_path / "spark")
    for name in ("local", "spark"):
        found = read(tmp_path / name)
        place = found.schema.names.index("prediction")
        assert found.schema.names[place : place + 3] == ["prediction", "prediction_low", "prediction_high"]
        low, middle, high = (found.column(place + i).to_numpy() for i in (1, 0, 2))
        half = np.where(middle >= 0, 2.0, 1.0)
        np.testing.assert_allclose([middle - low, high - middle], [half, half], rtol=1e-6)
    with pytest.raises(BadInput, match="keeps no intervals of level 0.8"):
        other = configured(parquet, batch_infer={"source": parquet, "output": "-", "interval": 0.8})
        spark_scoring.score(other, tmp_path / "raw", source, lineage, tmp_path)


def test_both_engines_follow_the_threshold(session, tmp_path):
    """A threshold that every probability is below: nobody is predicted as the second class, on either engine."""
    _, dataset = tiny.build(tiny.binary_table(300), tmp_path, "binary")
    source, lineage = sources.resolve(str(tmp_path / "source.parquet")), scoring.Lineage("m", "1", "r", "f", "s")
    for threshold, expected in ((0.999, {3}), (0.001, {7})):
        preprocessor = dataset.preprocessor.with_target({"threshold": threshold})
        home = tmp_path / str(threshold)
        RawColumnModel(preprocessor, models.build(preprocessor, configured("-").model)).save(home / "raw")
        for name in ("local", "spark"):
            (home / name).mkdir()
        scoring.score(RawColumnModel.load(home / "raw"), source, lineage, home / "local", 500)
        spark_scoring.score(configured("-"), home / "raw", source, lineage, home / "spark")
        for name in ("local", "spark"):
            found = read(home / name)
            assert set(found["prediction"].to_pylist()) == expected
            assert found["probability_7"].to_numpy().min() < 0.9 and found.num_rows == 300


def test_both_engines_refuse_with_the_same_sentence(session, tmp_path):
    (tmp_path / "latin.csv").write_bytes(b"x,y\n1,2\n3,\xe9\n")
    (tmp_path / "empty.csv").write_bytes(b"x,y\n")
    (tmp_path / "one.csv").write_bytes(b"x,y\n1,2\n")
    pq.write_table(pa.table({"x": [[1], [2]], "z": [1, 2]}), tmp_path / "other.parquet")
    (tmp_path / "unreadable.csv").write_text("x;y\n" + "1;2,5\n3;-1\n2;1,0 kg\n" * 20)
    sentences = {
        "latin.csv": "line 3: byte 0xE9",
        "empty.csv": "holds no rows",
        "one.csv": "would be empty",
        "other.parquet": "The source has no column y.*Column x has a type",
        "unreadable.csv": r"20 of 60 rows have a target .*: y is not a number \(20 rows, such as '1,0 kg'\)",
    }
    for name, start in sentences.items():
        settings, said = configured(str(tmp_path / name), data__delimiter=";" if "unread" in name else ","), set()
        for number, build in enumerate((building.build, spark_ingestion.build)):
            (tmp_path / f"{name} {number}").mkdir()
            with pytest.raises(BadInput, match=start) as error:
                source = sources.resolve(settings.data.source, sources.Reading.of(settings.data))
                build(settings, source, tmp_path / f"{name} {number}")
            said.add(str(error.value))
        assert len(said) == 1


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """A binary model of features of every type, and rows each of which lacks one."""
    folder = tmp_path_factory.mktemp("every")
    asked = every_type.asked()
    unread = {"float16": pa.float32(), "ns": pa.timestamp("us"), "ns Berlin": pa.timestamp("us", "Europe/Berlin")}
    types = {field.name: unread.get(field.name, field.type) for field in asked.schema}  # as Spark reads them
    pq.write_table(asked.cast(pa.schema(types)), folder / "asked.parquet")
    return saved(*tiny.build(every_type.table(), folder, "binary"), folder), folder


def saved(config, dataset, folder) -> RawColumnModel:
    """An untrained model, saved as MLflow logs it into `model` in a folder."""
    model = RawColumnModel(dataset.preprocessor, models.build(dataset.preprocessor, config.model))
    model.save(folder / "raw")
    mlflow.pyfunc.save_model(
        str(folder / "model"),
        python_model=raw_model.__file__,
        artifacts={"model": str(folder / "raw")},
        signature=export.signature(dataset.preprocessor),
        pip_requirements=[],
    )
    return model


def by_udf(session, folder, source: str, **options) -> list:
    """The answers of MLflow's UDF for a Parquet file, as Spark's rows."""
    predict = mlflow.pyfunc.spark_udf(session, str(folder / "model"), env_manager="local", **options)
    frame = session.read.parquet(source)
    asked = frame.select(predict(spark_struct(*(col(f"`{name}`") for name in frame.columns))).alias("answer"))
    return [row.answer for row in asked.collect()]


def numbers(cells) -> list[float]:
    return [np.nan if cell is None else cell for cell in cells]


def test_spark_udf_gives_what_batch_infer_gives_for_every_type(session, every):
    """Classes: a struct, in which a row of no use is null and has a reason, and no other row has one."""
    model, folder = every
    rows = by_udf(session, folder, str(folder / "asked.parquet"))
    columns, reasons = model.score(every_type.asked())
    for name, values in columns.items():
        np.testing.assert_allclose(numbers(row[name] for row in rows), numbers(values.to_pylist()), rtol=1e-4)
    assert [row["reason"] for row in rows] == reasons.to_pylist() and reasons.null_count == len(rows) - 2


def test_spark_udf_gives_a_number_for_regression_or_a_reason_beside_it(session, built, tmp_path):
    model = saved(configured("-"), built, tmp_path)
    raw = built.raw_test().slice(0, 40)
    number = raw["x.y"].to_numpy().copy()
    number[3] = np.inf
    raw = raw.set_column(raw.column_names.index("x.y"), "x.y", pa.array(number))
    raw = raw.drop(["clock"])
    raw = raw.cast(pa.schema([(field.name, spark_type(field.type)) for field in raw.schema]), safe=False)
    pq.write_table(raw, tmp_path / "raw.parquet")
    expected, _ = model.score(raw)
    found = by_udf(session, tmp_path, str(tmp_path / "raw.parquet"))
    np.testing.assert_allclose(numbers(found), numbers(expected["prediction"].to_pylist()), rtol=1e-4)
    assert found[3] is None and None not in found[:3] + found[4:]
    rows = by_udf(session, tmp_path, str(tmp_path / "raw.parquet"), result_type="prediction double, reason string")
    assert [row.reason for row in rows] == [None] * 3 + ["x.y is infinite"] + [None] * 36


def test_the_lines_of_the_registrys_page_run(session, flights, monkeypatch, capsys):
    page = Path(__file__).parents[2] / "docs" / "reference" / "REGISTRY.md"
    (lines,) = re.findall(r"```python\n(import mlflow.*?)```", page.read_text(), re.DOTALL)
    monkeypatch.chdir(flights.folder)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(flights.uri)
    try:
        scope: dict = {}
        exec(lines, scope)
    finally:
        mlflow.set_tracking_uri(before)
    printed = [
        [cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines() if "|" in line
    ]
    asked = pq.read_table(flights.folder / "data" / "new_flights.parquet")
    expected = numbers(row["prediction"] for row in batch(flights.model, asked.slice(0, len(printed) - 1)))
    np.testing.assert_allclose([float(row[printed[0].index("prediction")]) for row in printed[1:]], expected, rtol=1e-4)


def test_spark_trials_give_finished_and_failed_trials(session):
    settings = configured(
        "-", tune__max_trials=3, tune__time_budget_s=60, tune__space={"train.batch_size": {"randint": 9}}
    )

    def objective(parameters):
        if parameters["train.batch_size"] % 2:
            raise RuntimeError("a worker broke")
        return {"parameters": parameters, "status": "ok", "loss": float(parameters["train.batch_size"]), "history": {}}

    found = hyperopt.spark_search(settings, objective)
    assert [trial.number for trial in found] == [0, 1, 2]
    own = hyperopt.own_values(settings.overridden({"train.batch_size": 4}), 100)
    assert hyperopt.spark_search(settings, objective, own)[0].parameters == {"train.batch_size": 4}
    assert found[0].parameters != {"train.batch_size": 4}
    for trial in found:
        odd = trial.parameters["train.batch_size"] % 2
        assert trial.status == ("failed" if odd else "ok")
        assert "a worker broke" in trial.error if odd else trial.loss == trial.parameters["train.batch_size"]


@pytest.mark.parametrize("budget", [3, 1])
def test_trials_that_hang_are_cancelled_with_the_time_budget(session, budget):
    """Frozen by SIGSTOP: Spark kills what does not end; so is the one trial that is run however small the budget."""
    space = {"train.batch_size": {"randint": 9}}
    settings = configured(
        "-", tune__max_trials=2, tune__time_budget_s=budget, tune__hang_timeout_s=3, tune__space=space
    )

    def freeze(parameters):
        os.kill(os.getpid(), signal.SIGSTOP)

    assert hyperopt.spark_search(settings, freeze) == []
    deadline = time.monotonic() + 60
    while any(p.status() == psutil.STATUS_STOPPED for p in psutil.Process().children(recursive=True)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_of_a_budget_that_leaves_time_for_no_trial_on_spark_one_has_it_all_the_same(session):
    space = {"train.batch_size": {"randint": 9}}
    settings = configured("-", tune__max_trials=2, tune__time_budget_s=1, tune__hang_timeout_s=60, tune__space=space)

    def slow(parameters):
        time.sleep(4)
        return {"parameters": parameters, "status": "ok", "loss": 1.0, "history": {}}

    assert [trial.status for trial in hyperopt.spark_search(settings, slow)] == ["ok"]


def test_workers_that_hang_on_spark_are_cancelled_and_are_sent_nothing_secret(session, built, tmp_path, monkeypatch):
    """Horovod's own way onto Spark stands aside for a job that never ends."""
    sent = {}

    def run(work, *, env, **_):
        sent.update(env)
        session.sparkContext.parallelize([0], 1).map(lambda _: time.sleep(3600)).collect()

    monkeypatch.setattr(horovod_on_spark, "run", run)
    monkeypatch.setenv("TF_DETERMINISTIC_OPS", "1")
    limits = {"distributed_train.hang_timeout_s": 0.5, "distributed_train.start_timeout_s": 1}
    with pytest.raises(BatonError, match=r"^The Horovod workers hang: for 1\.5 seconds none of them .*Restarts: 0"):
        settings = configured("-").overridden({**limits, "distributed_train.max_restarts": 0})
        distributed.train(settings, built, tmp_path, lambda epoch, logs: None)
    assert sent["TF_DETERMINISTIC_OPS"] == "1" and "OMP_NUM_THREADS" in sent
    assert SECRET not in sent.values()


def test_horovod_trains_on_spark(session, built, tmp_path, command_lines):
    settings = configured("-")
    epochs = []
    result = distributed.train(settings, built, tmp_path, lambda epoch, logs: epochs.append(epoch))
    assert epochs == [0]
    assert command_lines.started("horovod.spark.task.gloo_exec_fn") and command_lines.holding(SECRET) == []
    assert json.loads((tmp_path / "result.json").read_text())["workers"] == 2  # whose weights `work` found identical
    assert np.isfinite(result.best_value)
    many = configured("-", distributed_train__workers=99)
    with pytest.raises(BatonError, match="row groups for"):
        distributed.train(many, built, tmp_path, lambda epoch, logs: None)


def test_spark_keeps_to_this_machine(session):
    assert session.conf.get("spark.driver.host") == "127.0.0.1"
    assert session.conf.get("spark.sql.session.timeZone") == "UTC"
    assert spark.session(configured("-")) is session
    assert os.environ["PYSPARK_PYTHON"]


def test_sparks_workers_have_petastorms_names_and_todays_pyarrow(session):
    """Whatever a worker unpickles of Petastorm finds the names, though nothing of Baton is imported there."""

    def seen(schema):
        import sys

        import pyarrow

        return (
            list(schema.fields),
            "petastorm.unischema" in sys.modules,
            hasattr(pyarrow, "localfs"),
            "baton" in sys.modules,
        )

    sent = session.sparkContext.parallelize([petastorm.unischema({"x": "float32"})], 1)
    assert sent.map(seen).collect() == [(["x"], True, False, False)]


SPLITS = [
    {"data__group": "g"},
    {"data__split_column": "part"},
    {"data__time": "year"},
    {"data__task": "multiclass", "data__target": "c", "data__drop": ["y"]},
    {"data__drop": ["x", "year", "y"], "data__target": "c", "data__task": "multiclass"},  # few rows are distinct
]


KINDS_OF_SPLITS = [*[(options, "files") for options in SPLITS], (SPLITS[-1], "table")]


@pytest.mark.parametrize(("options", "kind"), KINDS_OF_SPLITS, ids=lambda value: "-".join(value))
def test_both_engines_split_alike(session, tmp_path, options, kind):
    rng = np.random.default_rng(11)
    size = 1500
    table = pa.table({
        "x": rng.normal(size=size), "y": rng.normal(size=size), "year": rng.integers(1990, 2020, size),
        "g": rng.choice([f"site {i}" for i in range(7)], size), "part": rng.choice(["train", "val", "test"], size),
        "c": rng.choice(["a", "b", "rare"], size, p=[0.7, 0.285, 0.015]),
    })  # fmt: skip
    for number in range(3):
        pq.write_table(table.slice(number * 500, 500), tmp_path / f"{number}.parquet", row_group_size=190)
    settings = configured(str(tmp_path / "*.parquet"), **options)
    if kind == "files":
        build_both(settings, tmp_path)
        return
    session.read.parquet(str(tmp_path / "0.parquet")).repartition(3).createOrReplaceTempView("split_rows")
    remote = tmp_path / "remote"
    remote.mkdir()
    asked = settings.overridden({"data.source": "table:split_rows"})
    spark_ingestion.build(asked, sources.resolve("table:split_rows"), remote)
    assert Dataset.load(remote).rows["input"] == 500 and min(Dataset.load(remote).rows[s] for s in names.SPLITS) > 0


def test_a_disk_that_is_full_in_a_task_is_a_sentence_and_leaves_nothing(session, parquet, tmp_path, monkeypatch):
    def full(*_):
        import errno
        import os

        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "part-00000.parquet")

    monkeypatch.setattr(spark_ingestion, "_assemble", full)
    settings = configured(parquet, data__drop=["clock"])
    with pytest.raises(BatonError, match=r"Spark's could not go on: \[Errno 28\] No space left on device: 'part-00000"):
        spark_ingestion.build(settings, sources.resolve(settings.data.source), tmp_path)
    assert not (tmp_path / names.MANIFEST).exists() and not [*tmp_path.glob(".*")]


def test_ctrl_c_is_not_pysparks(session):
    """Whose handler knows of no transaction, and is not the last to be called."""
    assert session is not None
    assert not getattr(signal.getsignal(signal.SIGINT), "__module__", "").startswith("pyspark")


def test_no_secret_is_on_a_command_line_of_sparks(session, command_lines):
    """Of the environment or `spark.config`; the last test, for it looks back at all that the others started."""
    assert session.range(2, numPartitions=2).mapInArrow(lambda batches: batches, "id long").count() == 2
    assert all(map(command_lines.started, ("org.apache.spark.deploy.SparkSubmit", "pyspark.daemon")))
    assert command_lines.holding(SECRET) == []
    assert session.sparkContext._jsc.hadoopConfiguration().get("fs.s3a.secret.key") == SECRET


def test_the_settings_of_somebody_elses_session_are_left_alone(session, monkeypatch):
    """As on Databricks, where the session that runs is the task's, and is not Baton's to stop."""
    monkeypatch.setattr(spark, "_own", None)
    monkeypatch.setattr(spark, "_others", {})
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    session.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    before = dict(session.conf.getAll)
    settings = configured("-", spark__config={"spark.sql.shuffle.partitions": "3"})
    one, again = spark.session(settings), spark.session(settings)
    assert one is again and one is not session and one.sparkContext is session.sparkContext
    assert one.conf.get("spark.sql.session.timeZone") == "UTC" and one.conf.get("spark.sql.shuffle.partitions") == "3"
    assert dict(session.conf.getAll) == before

    def place_of_code(batches):
        import baton

        list(batches)
        yield pa.RecordBatch.from_pydict({"place": [baton.__file__]})

    assert one.range(2, numPartitions=2).mapInArrow(place_of_code, "place string").count() == 2
    assert {path.name for path in Path(SparkFiles.getRootDirectory()).iterdir()} >= {"baton.zip"}
    session.conf.set("spark.sql.session.timeZone", "UTC")


@pytest.mark.parametrize(
    ("variable", "value", "master", "answer"),
    [
        (
            "SPARK_REMOTE",
            "sc://host:15002",
            "spark://host:7077",
            "set one of them. Received: sc://host",
        ),
        ("SPARK_CONNECT_MODE_ENABLED", "1", None, "no server is named: set spark.master: sc://host:port"),
    ],
)
def test_an_environment_that_contradicts_spark_master_is_refused(monkeypatch, variable, value, master, answer):
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadInput, match=answer):
        spark.connects(configured("-", spark__master=master))


def test_a_child_process_on_databricks_has_no_spark(monkeypatch):
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    with pytest.raises(BadInput, match="run the step as a task's entry point"):
        spark._demand_own_process(None)


@pytest.fixture
def scored(session, tmp_path, monkeypatch):
    """A schema of that name, which lasts as long as the test, and settings that send predictions to a table in it."""
    monkeypatch.setattr(tables, "_forgets", lambda spark, table: False)
    session.sql(f"CREATE DATABASE scored LOCATION '{tmp_path.as_uri()}/scored'")
    yield lambda table="scored.predictions", source="-": schema.BatchInfer(source=source, output="-", table=table)
    session.sql("DROP DATABASE scored CASCADE")


def test_predictions_replace_a_table_whole_with_their_lineage(session, scored, tmp_path):
    config = configured("-")
    summary = dict.fromkeys(tables.KEPT, "it's") | {"model_version": "7", "pipeline": config.name}
    for rows, quarantined in ((3, 2), (5, 0)):
        folder = tmp_path / str(rows)
        (folder / names.QUARANTINE_OUTPUT).mkdir(parents=True)
        pq.write_table(pa.table({"a b": range(rows), f"only {rows}": ["x"] * rows}), folder / "part-00000.parquet")
        if quarantined:
            bad = pa.table({"reason": ["bad"] * quarantined})
            pq.write_table(bad, folder / names.QUARANTINE_OUTPUT / "part-00000.parquet")
        tables.replace(config, scored(), folder, summary)
        assert session.table("scored.predictions").toArrow().column_names == ["a b", f"only {rows}"]
        assert session.table("scored.predictions").count() == rows
        assert session.catalog.tableExists("scored.predictions_quarantine") == bool(quarantined)
    properties = {row.key: row.value for row in session.sql("SHOW TBLPROPERTIES scored.predictions").collect()}
    assert properties["baton.model_version"] == "7" and properties["baton.source"] == "it's"


@pytest.mark.parametrize("table", ["t", "default.t", "spark_catalog.default.t", "nowhere.default.t"])
def test_a_table_that_nobody_could_read_later_is_refused(session, table):
    with pytest.raises(BadInput, match=f"forgets its tables .* Received: table:{table}$"):
        tables.check(configured("-"), schema.BatchInfer(source="-", output="-", table=table))


def test_a_table_that_is_somebody_elses_is_not_replaced(session, scored, tmp_path):
    create = "CREATE TABLE scored.{} USING parquet {} AS SELECT 1 AS a"
    session.sql(create.format("customers", ""))
    session.sql(create.format("fine_quarantine", ""))
    session.sql(create.format("others", "TBLPROPERTIES ('baton.pipeline' = 'others')"))
    session.sql("SELECT 1 AS a").createOrReplaceTempView("seen")
    for settings, sentence in (
        (scored("scored.customers"), "Received: scored.customers, which is no table of predictions$"),
        (scored("scored.fine"), "Received: scored.fine_quarantine, which is no table of predictions$"),
        (scored("scored.others"), "Received: scored.others, which is of others$"),
        (scored("seen"), "Received: seen, which is no table of predictions$"),
        (scored("nowhere.t"), "in a schema that there is not. Received: table:nowhere.t$"),
        (scored("scored.new", "table:Scored.new"), "must not be a source"),
    ):
        with pytest.raises(BadInput, match=sentence):
            tables.check(configured("-"), settings)
        with pytest.raises(BadInput, match=sentence):
            tables.replace(configured("-"), settings, tmp_path, {})
    assert session.table("scored.customers").count() == session.table("scored.fine_quarantine").count() == 1
    session.catalog.dropTempView("seen")
