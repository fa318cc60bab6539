"""The names of Arrow's former Parquet API that Petastorm calls, on today's pyarrow. Baton's addition.

pyarrow 15 removed `pyarrow.filesystem`, `pyarrow.hdfs` and the dataset made of pieces; Petastorm's last
good release is written for them (uber/petastorm#805). The recipe beside this file puts it into
Petastorm's wheel and makes Petastorm import these names from here, so that pyarrow itself stays as it is
for everybody else in the process. Files are reached through fsspec, which Petastorm needs anyway.
"""

import inspect
import operator
import posixpath

import pyarrow as pa
import pyarrow.fs
from fsspec.implementations.arrow import ArrowFSWrapper
from fsspec.implementations.arrow import HadoopFileSystem as FsspecHadoopFileSystem
from fsspec.implementations.local import LocalFileSystem as FsspecLocalFileSystem
from pyarrow.parquet import ParquetFile
from pyarrow.parquet import read_metadata as read_metadata

ArrowIOError = OSError

OPERATORS = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
    "in": lambda value, values: value in values,
    "not in": lambda value, values: value not in values,
}


class LocalFileSystem:
    """This machine's files, read and written by Arrow itself, which needs no interpreter lock for it.

    What else is asked of it fsspec answers. It is no subclass of fsspec's class, which cannot be pickled by value.
    """

    def open(self, path, mode="rb", **_):
        return pa.OSFile(path, mode=mode)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(FsspecLocalFileSystem(), name)


# The base of Petastorm's client for several name nodes, which passes each public method on to the one that answers.
PUBLIC = {
    name: member for name, member in inspect.getmembers(FsspecHadoopFileSystem, inspect.isfunction) if name[0] != "_"
}
HadoopFileSystem = type("HadoopFileSystem", (), {**PUBLIC, "_strip_protocol": FsspecHadoopFileSystem._strip_protocol})


class hdfs:  # it stands for a module, whose name it bears
    @staticmethod
    def connect(host="default", port=0, user=None, **_):
        """A connection to HDFS by libhdfs, through today's `pyarrow.fs`."""
        return FsspecHadoopFileSystem(host, port, user=user)


class PartitionSet:
    """One level of a hive-partitioned dataset: its name, and the values of its directories.

    `keys` are the values as text in the order of their codes; `dictionary` the same as an Arrow array,
    int64 where all are integers.
    """

    def __init__(self, name, keys=None):
        self.name = name
        self.keys = list(keys or [])

    @property
    def dictionary(self):
        try:
            return pa.array([int(key) for key in self.keys], pa.int64())
        except ValueError:
            return pa.array(self.keys, pa.string())

    def code(self, key):
        """The code of a value, which is given one if it has none."""
        if key not in self.keys:
            self.keys.append(key)
        return self.keys.index(key)


class ParquetPartitions:
    """The levels of a hive-partitioned dataset, outermost first."""

    def __init__(self):
        self.levels = []

    @property
    def partition_names(self):
        return {level.name for level in self.levels}

    def __len__(self):
        return len(self.levels)

    def __getitem__(self, index):
        return self.levels[index]

    def keys_of(self, directories):
        """["a=1", "b=x"] → [("a", code), ("b", code)]; raises `ValueError` if the levels differ between files."""
        keys = []
        for depth, directory in enumerate(directories):
            name, equals, key = directory.partition("=")
            if not equals:
                raise ValueError(f"{directory} is no directory of a partition: name=value")
            if depth == len(self.levels):
                self.levels.append(PartitionSet(name))
            if name != self.levels[depth].name:
                raise ValueError(f"{directory} lies where others are named {self.levels[depth].name}=value")
            keys.append((name, self.levels[depth].code(key)))
        return keys

    def accept(self, keys, condition):
        """Whether a file with these (name, code) pairs can hold what a condition (name, operator, value) wants."""
        name, symbol, wanted = condition
        for level, (key_name, code) in zip(self.levels, keys, strict=True):
            if key_name == name:
                several = symbol in ("in", "not in")
                kind = type(next(iter(wanted)) if several else wanted)
                return OPERATORS[symbol](kind(level.dictionary[code].as_py()), wanted)
        raise ValueError(f"filters: {name} is no partition of this dataset; use a predicate for other columns")


class ParquetDatasetPiece:
    """A file of a dataset, or one row group of it.

    :param path: of the file.
    :param open_file_func: path → readable file.
    :param row_group: its index, or None for the whole file.
    :param partition_keys: [(name, code)] of the directories that the file lies in.
    """

    def __init__(self, path, open_file_func, row_group=None, partition_keys=None):
        self.path = path
        self.open_file_func = open_file_func
        self.row_group = row_group
        self.partition_keys = partition_keys or []

    def get_metadata(self):
        with self.open_file_func(self.path) as file:
            return ParquetFile(file).metadata

    def read(self, columns=None, partitions=None):
        """The piece as a table, the partitions' values as dictionary columns at its end.

        Columns that the file lacks are passed over: partitions are asked for too.
        """
        columns = None if columns is None else list(columns)
        with self.open_file_func(self.path) as file:
            parquet = ParquetFile(file)
            table = parquet.read(columns) if self.row_group is None else parquet.read_row_group(self.row_group, columns)
        for level, (name, code) in zip(partitions or [], self.partition_keys, strict=True):
            codes = pa.repeat(pa.scalar(code, pa.int32()), table.num_rows)
            table = table.append_column(name, pa.DictionaryArray.from_arrays(codes, level.dictionary))
        return table


class ParquetDataset:
    """A Parquet file, a list of them, or a directory of them, perhaps with Spark's and Petastorm's metadata.

    :param path_or_paths: a path, or a list of paths of files; `paths` keeps it.
    :param filesystem: fsspec's or pyarrow's; None: this machine's.
    :param filters: [(name, operator, value)] or a list of such lists, over the partitions; keeps the
        pieces for which all conditions of one list hold.
    """

    def __init__(self, path_or_paths, filesystem=None, validate_schema=False, filters=None, metadata_nthreads=None):
        if validate_schema:
            raise NotImplementedError("Schemas are not compared here.")
        self.fs = _fsspec(filesystem)
        self.paths = path_or_paths
        self.partitions = ParquetPartitions()
        self.metadata_path = self.common_metadata_path = None
        if isinstance(path_or_paths, str) and self.fs.isdir(path_or_paths):
            self.pieces = self._pieces_below(path_or_paths)
        else:
            self.pieces = self._pieces_of([path_or_paths] if isinstance(path_or_paths, str) else path_or_paths)
        self.metadata = self._read_metadata(self.metadata_path)
        self.common_metadata = self._read_metadata(self.common_metadata_path) or self.metadata
        if filters:
            alternatives = [filters] if isinstance(filters[0], tuple) else filters
            self.pieces = [piece for piece in self.pieces if self._accept(piece, alternatives)]

    def _pieces_of(self, paths):
        for path in paths:
            if not self.fs.isfile(path):
                raise OSError(f"{path} is no file")
        return [ParquetDatasetPiece(path, self.fs.open) for path in paths]

    def _pieces_below(self, root):
        """A directory's files in the order of their paths; notes where its metadata lies."""
        pieces = []
        for path in sorted(self.fs.find(root)):
            *directories, name = posixpath.relpath(path, self.fs._strip_protocol(root)).split("/")
            if any(directory.startswith(("_", ".")) and "=" not in directory for directory in directories):
                continue
            if name.endswith("_common_metadata"):
                self.common_metadata_path = path
            elif name.endswith("_metadata"):
                self.metadata_path = path
            elif not name.startswith(("_", ".")) and not name.endswith((".crc", "_$folder$")):
                pieces.append(ParquetDatasetPiece(path, self.fs.open, None, self.partitions.keys_of(directories)))
        if len({len(piece.partition_keys) for piece in pieces}) > 1:
            raise ValueError(f"{root} holds files beside directories of files")
        return pieces

    def _read_metadata(self, path):
        if path is None:
            return None
        with self.fs.open(path) as file:
            return ParquetFile(file).metadata

    def _accept(self, piece, alternatives):
        return any(
            all(self.partitions.accept(piece.partition_keys, condition) for condition in conditions)
            for conditions in alternatives
        )


def _fsspec(filesystem):
    if filesystem is None or isinstance(filesystem, pa.fs.LocalFileSystem):
        return LocalFileSystem()
    return ArrowFSWrapper(filesystem) if isinstance(filesystem, pa.fs.FileSystem) else filesystem
