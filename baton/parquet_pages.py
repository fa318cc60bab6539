"""The page headers of a Parquet file in, a sentence about the damage out.

pyarrow 14 takes page headers on trust: one flipped bit in them ends the whole process (of 6,000 files
with a flipped bit each, 20 did). Here they are read first, a few dozen microseconds each, and where the
writer has left checksums (Spark does), the pages themselves are held against them.

The format: https://github.com/apache/parquet-format, parquet.thrift and README (checksumming),
in Thrift's compact protocol.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq

HEADER_BYTES = 4096  # read at first for a header; statistics can make one longer
MOST_HEADER_BYTES = 16 << 20
ENCODINGS = {0, 2, 3, 4, 5, 6, 7, 8, 9}
DATA, INDEX, DICTIONARY, DATA_V2 = range(4)  # PageType
TYPE, UNCOMPRESSED, COMPRESSED, CRC = 1, 2, 3, 4  # fields of PageHeader
BODY = {DATA: 5, INDEX: 6, DICTIONARY: 7, DATA_V2: 8}  # the field with the header of that type of page
NUM_VALUES = 1  # in all of them
ENCODED_BY = {DATA: (2, 3, 4), DICTIONARY: (2,), DATA_V2: (4,)}
REQUIRED = {DATA: (1, 2, 3, 4), DICTIONARY: (1, 2), DATA_V2: (1, 2, 3, 4, 5, 6)}
# Thrift's compact types
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)


class Damaged(ValueError):
    """What is wrong with a page, without the file's name."""


def fault(file: Path, parquet: pq.ParquetFile, groups: list[int]) -> str | None:
    """What is wrong with the pages of these row groups, and in which column; None if nothing is."""
    metadata = parquet.metadata
    with file.open("rb") as stream:
        for group in groups:
            row_group = metadata.row_group(group)
            for index in range(row_group.num_columns):
                column = row_group.column(index)
                try:
                    if parquet.schema.column(index).max_repetition_level == 0:
                        _expect(column.num_values == row_group.num_rows, "it has another number of values than rows")
                    _check_pages(stream, column)
                except Damaged as error:
                    return f"row group {group}, column {column.path_in_schema}: {error}"
    return None


def _check_pages(stream: BinaryIO, column: Any) -> None:
    """Follow a column's pages from the first to the last; raises `Damaged`."""
    place = column.dictionary_page_offset or column.data_page_offset
    values = 0
    while values < column.num_values:
        header, size = _page_header(stream, place)
        _check_header(header, column)
        if CRC in header:
            stream.seek(place + size)
            body = stream.read(header[COMPRESSED])
            _expect(zlib.crc32(body) == header[CRC] & 0xFFFFFFFF, "a page does not match its checksum")
        if header[TYPE] in (DATA, DATA_V2):
            values += header[BODY[header[TYPE]]][NUM_VALUES]
        place += size + header[COMPRESSED]
    _expect(values == column.num_values, "its pages hold another number of values than the footer says")


def _check_header(header: dict[int, Any], column: Any) -> None:
    """Raise `Damaged` if a page's header is not one that can be followed."""
    kind: Any = header.get(TYPE)
    _expect(kind in REQUIRED, "a page has no known type")
    body: Any = header.get(BODY[kind])
    _expect(isinstance(body, dict), "a page has no header of its type")
    _expect(all(isinstance(body.get(field), int) for field in REQUIRED[kind]), "a header lacks a field")
    _expect(all(body[field] in ENCODINGS for field in ENCODED_BY[kind]), "a page has no known encoding")
    sizes = [header.get(UNCOMPRESSED), header.get(COMPRESSED), body[NUM_VALUES]]
    _expect(all(isinstance(size, int) and size >= 0 for size in sizes), "a page has no size")
    _expect(column.compression != "UNCOMPRESSED" or sizes[0] == sizes[1], "a page has two sizes")
    _expect(kind != DICTIONARY or body[NUM_VALUES] <= max(sizes[0], 1), "a dictionary is larger than its page")


def _page_header(stream: BinaryIO, place: int) -> tuple[dict[int, Any], int]:
    """The header at a place in the file → (its fields, its size in bytes)."""
    wanted = HEADER_BYTES
    while True:
        stream.seek(place)
        data = stream.read(wanted)
        try:
            return _Compact(data).struct()
        except IndexError:
            if len(data) < wanted or wanted >= MOST_HEADER_BYTES:
                raise Damaged("a page's header has no end") from None
            wanted *= 16


class _Compact:
    """A reader of Thrift's compact protocol; raises `IndexError` where the bytes end, `Damaged` for nonsense."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def struct(self, depth: int = 0) -> tuple[dict[int, Any], int]:
        """(field number → value, bytes read so far); lists and maps are passed over."""
        _expect(depth < 8, "a header is nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._zigzag()
            _expect(number not in fields and kind in range(TRUE, STRUCT + 1), "a header is torn")
            fields[number] = self._value(kind, depth)
        return fields, self.at

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if kind == STRUCT:
            return self.struct(depth + 1)[0]
        if kind in (I16, I32, I64):
            return self._zigzag()
        size = {BYTE: 1, DOUBLE: 8}.get(kind) or (self._varint() if kind == BINARY else -1)
        _expect(size >= 0, "a header is torn")  # lists, sets and maps: a page's header has none
        self.at += size
        if self.at > len(self.data):
            raise IndexError
        return None

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            _expect(shift < 64, "a header is torn")
        return value | byte << shift

    def _zigzag(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Damaged(otherwise)
