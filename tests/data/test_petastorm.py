"""Petastorm on today's Arrow: every read exact, Spark's workers served, and nobody else's pyarrow or NumPy changed."""

import itertools
import pickle
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from petastorm import legacy_arrow, make_batch_reader, tf_utils
from petastorm.predicates import in_intersection

ROWS, FILES, GROUP = 1200, 5, 50
SPIN = "while True: pass"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """1,200 numbered rows in five files of different sizes, 26 row groups."""
    folder, rows = tmp_path_factory.mktemp("parts"), np.random.default_rng(3).permutation(ROWS)
    for number, ids in enumerate(np.split(rows, [90, 301, 700, 955])):
        table = pa.table({"id": pa.array(ids, pa.int32()), "x": np.float32(ids), "text": [f"row {i}" for i in ids]})
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=GROUP)
    return sorted(folder.glob("*.parquet"))


def read(parts, **options):
    """The ids that a reader gives, in its order; the other columns must agree with them."""
    ids = []
    with make_batch_reader([part.as_uri() for part in parts], num_epochs=1, **options) as reader:
        for group in reader:
            assert group.x.tolist() == group.id.tolist()
            assert group.text.tolist() == [f"row {i}" for i in group.id]
            ids += group.id.tolist()
    return ids


def ways():
    """(seed, size of the pool, shards, groups shuffled, rows shuffled): all of them, then more seeds of some."""
    yield from ((0, *way) for way in itertools.product(range(1, 11), range(1, 6), (False, True), (False, True)))
    rng = np.random.default_rng(5)
    for seed in itertools.count(1):
        yield seed, int(rng.integers(1, 11)), int(rng.integers(1, 6)), True, bool(rng.integers(2))


@pytest.mark.parametrize(("pool", "reads"), [("thread", 1000), ("dummy", 100)])
def test_a_thousand_reads_under_load_are_exact(parts, pool, reads):
    """Two processes keep both cores busy, so that threads are interrupted anywhere."""
    load = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(2)]
    try:
        done, several = 0, ways()
        while done < reads:
            seed, workers, shards, groups, rows = next(several)
            options = {"workers_count": workers, "reader_pool_type": pool, "seed": seed}
            options |= {"shuffle_row_groups": groups, "shuffle_rows": rows}
            mine = [{"cur_shard": shard, "shard_count": shards} if shards > 1 else {} for shard in range(shards)]
            found = [read(parts, **options, **shard) for shard in mine]
            assert sorted(sum(found, [])) == list(range(ROWS)), (options, shards)
            done += shards
    finally:
        for process in load:
            process.kill()
            process.wait()


def test_reads_by_processes_are_exact(parts):
    assert sorted(read(parts, reader_pool_type="process", workers_count=2)) == list(range(ROWS))


def test_numpys_and_arrows_new_names_are_used():
    assert in_intersection([2, 3], "tags").do_include({"tags": np.array([1, 2])})  # np.in1d, once
    assert np.str_ in tf_utils._NUMPY_TO_TF_DTYPES_MAPPING  # np.unicode_


FORMER = """
import sys
import numpy, pyarrow, pyarrow.parquet
def names():
    modules = {name: module for name, module in sys.modules.items() if name.split(".")[0] in ("numpy", "pyarrow")}
    return {name: set(vars(module)) for name, module in modules.items()}
before = names()
import petastorm.reader, petastorm.tf_utils, petastorm.unischema, petastorm.spark
after = names()
lent = {f"{name}.{one}" for name in before for one in after[name] - before[name] if f"{name}.{one}" not in sys.modules}
assert not lent, lent
missing = ["localfs", "LocalFileSystem", "filesystem", "hdfs"]
assert not any(hasattr(pyarrow, name) for name in missing)
assert not any(hasattr(pyarrow.parquet, name) for name in ("ParquetDatasetPiece", "PartitionSet"))
assert not any(hasattr(numpy, name) for name in ("string_", "unicode_"))
assert pyarrow.parquet.ParquetDataset.__module__ == "pyarrow.parquet.core"
assert "distutils" not in sys.modules
"""


def test_nobody_else_sees_a_changed_pyarrow_or_numpy():
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORMER], check=True)


def test_hive_partitions_are_columns_and_filters(tmp_path):
    for number, key in enumerate(["a", "b", "a b"]):
        folder = tmp_path / f"year={2020 + number}" / f"key={key}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"id": [number, number + 10]}), folder / "part.parquet")
    dataset = legacy_arrow.ParquetDataset(str(tmp_path), filters=[[("year", ">", 2020)], [("key", "in", {"a"})]])
    assert [piece.partition_keys for piece in dataset.pieces] == [[("year", code), ("key", code)] for code in range(3)]
    table = dataset.pieces[2].read(columns=["id", "key"], partitions=dataset.partitions)
    assert table.to_pydict() == {"id": [2, 12], "year": [2022, 2022], "key": ["a b", "a b"]}
    assert len(legacy_arrow.ParquetDataset(str(tmp_path), filters=[("year", "=", 2021)]).pieces) == 1
    with pytest.raises(ValueError, match="id is no partition"):
        legacy_arrow.ParquetDataset(str(tmp_path), filters=[("id", "=", 1)])
    assert pickle.loads(pickle.dumps(dataset.pieces[0])).read(["id"], dataset.partitions).num_rows == 2


def test_files_beside_directories_and_missing_files_are_errors(tmp_path):
    (tmp_path / "a=1").mkdir()
    for file in (tmp_path / "a=1" / "part.parquet", tmp_path / "part.parquet"):
        pq.write_table(pa.table({"id": [1]}), file)
    with pytest.raises(ValueError, match="holds files beside directories"):
        legacy_arrow.ParquetDataset(str(tmp_path))
    with pytest.raises(OSError, match="gone.parquet is no file"):
        legacy_arrow.ParquetDataset([str(tmp_path / "gone.parquet")])
