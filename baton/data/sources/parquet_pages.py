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
MAX_HEADER_BYTES = 16 << 20
ENCODINGS = {0, 2, 3, 4, 5, 6, 7, 8, 9}
DATA, INDEX, DICTIONARY, DATA_V2 = range(4)  # PageType
TYPE, UNCOMPRESSED, COMPRESSED, CRC = 1, 2, 3, 4  # fields of PageHeader
BODY = {DATA: 5, INDEX: 6, DICTIONARY: 7, DATA_V2: 8}  # the field with the header of that type of page
NUM_VALUES = 1  # in all of them
ENCODED_BY = {DATA: (2, 3, 4), DICTIONARY: (2,), DATA_V2: (4,)}
REQUIRED = {DATA: (1, 2, 3, 4), DICTIONARY: (1, 2), DATA_V2: (1, 2, 3, 4, 5, 6)}
# Thrift's compact types
TRUE, FALSE, I32, I64, BINARY, STRUCT = 1, 2, 5, 6, 8, 12
# The structures, field by field: a type, or the structure within.
INTEGERS = dict.fromkeys((1, 2, 3, 4), I32)
STATISTICS = {1: BINARY, 2: BINARY, 3: I64, 4: I64, 5: BINARY, 6: BINARY, 7: TRUE, 8: TRUE, 9: I64}
PAGE_HEADER: dict[int, Any] = {
    **INTEGERS,
    BODY[DATA]: {**INTEGERS, 5: STATISTICS},
    BODY[INDEX]: {},
    BODY[DICTIONARY]: {1: I32, 2: I32, 3: TRUE},
    BODY[DATA_V2]: {**INTEGERS, 5: I32, 6: I32, 7: TRUE, 8: STATISTICS},
}


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
    end = place + column.total_compressed_size
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
        _expect(place <= end, "a page is longer than its column")
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
            reader = _Compact(data)
            return reader.struct(PAGE_HEADER), reader.at
        except IndexError:
            if len(data) < wanted or wanted >= MAX_HEADER_BYTES:
                raise Damaged("a page's header has no end") from None
            wanted *= 16


class _Compact:
    """A reader of Thrift's compact protocol; raises `IndexError` where the bytes end, `Damaged` for nonsense."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def struct(self, schema: dict[int, Any]) -> dict[int, Any]:
        """field number → value; text is passed over."""
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            kind = TRUE if (head & 15) == FALSE else head & 15
            inner = schema.get(number)
            _expect(number not in fields and kind == (STRUCT if isinstance(inner, dict) else inner), "a header is torn")
            fields[number] = self.struct(inner) if isinstance(inner, dict) else self._value(kind)
        return fields

    def _value(self, kind: int) -> int | None:
        if kind in (I32, I64):
            return self._zigzag()
        if kind == BINARY:
            length = self._varint()
            self.at += length
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
