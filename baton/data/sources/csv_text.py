"""The text of a CSV file in, a `BadInput` that names file and line out, for what Arrow reads wrongly or unclearly.

Arrow takes a quote that is never closed for a cell that goes on to the end of the file, so that rows
vanish in it; it lets NUL bytes pass; and it tells no line of a byte that is not UTF-8.
"""

from __future__ import annotations

import csv
import mmap
import re
from dataclasses import dataclass
from pathlib import Path

from baton.errors import BadInput

BLOCK_BYTES = 8 << 20
BOMS = {b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
UTF8_BOM = b"\xef\xbb\xbf"
CELL_CHARACTERS = 1 << 30
SEPARATORS = ",|\t;"
# A number, with a decimal comma or separated thousands too; a date, with or without a time; nothing.
VALUE = re.compile(
    r"|[+-]?[\d.,]*\d[.,]?([eE][+-]?\d+)?%?"
    r"|\d{1,4}([-/.])\d{1,2}\2\d{1,4}([ T]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?"
)


@dataclass(frozen=True)
class Text:
    """UTF-8 text of a CSV file: where it lies, which file sentences name, and how its cells are told apart."""

    path: Path
    file: Path
    delimiter: str = ","
    escape: str | None = None


@dataclass(frozen=True)
class FileScan:
    """What one cheap pass over a file finds: how many lines it has, and how many quotes."""

    lines: int
    quotes: int

    def explains(self, records: int, escape: str | None) -> bool:
        """Whether so many records, header included, leave no room for a cell of several lines, nor for blank ones."""
        return self.lines == records and (self.quotes == 0 if escape else self.quotes % 2 == 0)


def scan(text: Text) -> FileScan:
    """Count lines and quotes; raises `BadInput` for UTF-16, UTF-32 and NUL bytes."""
    lines = quotes = 0
    last = b""
    with text.path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            if not last:
                check_start(text.file, block)
            if (at := block.find(b"\0")) >= 0:
                line = lines + block.count(b"\n", 0, at) + 1
                raise BadInput(f"{text.file}, line {line}: a NUL byte. {_AS_UTF8}")
            lines, quotes, last = lines + block.count(b"\n"), quotes + block.count(b'"'), block[-1:]
    return FileScan(lines + (last not in (b"", b"\n")), quotes)


def header(text: Text) -> list[str]:
    """The names in the first line that is not blank; raises `BadInput` if there is none, `ValueError` if garbled."""
    limit = csv.field_size_limit(CELL_CHARACTERS)
    try:
        with text.path.open("rb") as start:
            check_start(text.file, start.read(4))
        with text.path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.reader(stream, delimiter=text.delimiter, escapechar=text.escape)
            names = next((row for row in rows if row), None)
    except csv.Error as error:
        raise ValueError(f"its header: {error}") from None
    finally:
        csv.field_size_limit(limit)
    if names is None:
        raise BadInput(f"{text.file} is not CSV that can be read: Empty CSV file, without even a header.")
    if any("\0" in name for name in names):
        scan(text)
    if any("\n" in name or "\r" in name for name in names):  # one that is never closed goes on to the end of the file
        check_quotes(text)
    return names


def looks_separated(names: list[str]) -> str | None:
    """A header of one column → what seems to separate its names, if anything does: what stands in quotes does not."""
    if len(names) != 1:
        return None
    unquoted = re.sub(r'"[^"]*"', "", names[0])
    number, separator = max((unquoted.count(mark), mark) for mark in SEPARATORS)
    return separator if number else None


def looks_like_data(names: list[str]) -> bool:
    """Whether a header is more likely the first row: most of its cells are numbers, dates or empty."""
    return 2 * sum(bool(VALUE.fullmatch(name.strip())) for name in names) > len(names)


def header_hint(names: list[str]) -> str:
    """What may be wrong with a header that lacks a column, as a sentence after a blank; empty if nothing seems so."""
    if separator := looks_separated(names):
        return f" Its header looks separated by {separator!r}: set data.delimiter: {separator!r}."
    if looks_like_data(names):
        return " Its header looks like a row: the line of names may be missing."
    return ""


def ends_with_delimiter(line: str, text: Text, surplus: int) -> bool:
    """Whether the last so many values of a line are empty, for it ends with delimiters."""
    line = line.rstrip("\r\n")
    escaped = text.escape is not None and line.endswith(text.escape + text.delimiter)
    return surplus > 0 and line.endswith(text.delimiter * surplus) and not escaped


def check(text: Text, most: int) -> None:
    """Raise `BadInput` that names the line of a byte that is not UTF-8, a NUL byte, a quote gone wrong, or too much.

    `most` is how many bytes a line may have.
    """
    scan(text)
    _check_encoding(text)
    check_quotes(text)
    with text.path.open("rb") as stream:
        if long := next((number for number, line in enumerate(stream, 1) if len(line) > most), None):
            raise BadInput(f"{text.file}, line {long}: longer than {most:,} bytes.")


def check_quotes(text: Text) -> None:
    """Raise `BadInput` if a quote is never closed, or closes in the middle of a cell some lines further down.

    Both mean that a quote is missing, and that rows have gone into one cell.
    """
    data = _content(text)
    lines = _Lines(data)
    after = (b"", text.delimiter.encode(), b"\r", b"\n")
    for cell in _cells(text).finditer(data):
        closed = cell["close"] != b""  # None where no quote is opened
        if closed and not (cell["close"] and _several(cell) and bytes(data[cell.end() : cell.end() + 1]) not in after):
            continue
        first = lines.at(cell.start())
        end = f"closed only amid line {lines.at(cell.end())}" if closed else "never closed"
        raise BadInput(f"{text.file}, line {first}: a quote is opened and {end}. Close it, or double it if it is text.")


def record_lines(text: Text) -> list[int]:
    """The line on which each record starts, the header first: blank lines and lines within cells start none."""
    data = _content(text)
    lines = _Lines(data)
    inner: set[int] = set()
    for cell in filter(_several, _cells(text).finditer(data)):
        inner |= set(range(lines.at(cell.start()) + 1, lines.at(cell.end()) + 1))
    return [n for n, line in enumerate(re.split(rb"\r\n|\n|\r", data), 1) if line and n not in inner]


_AS_UTF8 = "Save the file as UTF-8 text."


def check_start(file: Path, block: bytes) -> None:
    """Raise `BadInput` if a file that starts so is text of 16 or 32 bits a character."""
    found = next((name for bom, name in BOMS.items() if block.startswith(bom)), None)
    if found is None and b"\0" in block[:2]:
        found = "UTF-16"
    if found:
        raise BadInput(f"{file}, line 1: the text is {found}. {_AS_UTF8}")


def _check_encoding(text: Text) -> None:
    with text.path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                raise BadInput(
                    f"{text.file}, line {number}: byte 0x{byte:02X} is not UTF-8, the file may be Latin-1. "
                    "Save it as UTF-8, or set data.encoding: latin-1, cp1252 or what it is in."
                ) from None


def _content(text: Text) -> memoryview:
    """The file's bytes without a byte order mark; mapped, not read."""
    with text.path.open("rb") as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    return memoryview(mapped)[len(UTF8_BOM) if mapped[:3] == UTF8_BOM else 0 :]


def _cells(text: Text) -> re.Pattern[bytes]:
    """What may hold line ends: a cell that starts with a quote, to its end, or what is escaped outside of such cells.

    The group `close` is the closing quote; empty if there is none, None outside of quotes.
    """
    start = rb'(?<![^%s\r\n])"' % re.escape(text.delimiter.encode())
    if text.escape is None:
        return re.compile(start + rb'[^"]*+(?:""[^"]*+)*+(?P<close>"?)')
    mark = re.escape(text.escape.encode())
    # A quote behind something escaped is amid a cell, though a delimiter may stand before it.
    quoted = rb'%s(?:[^"%s]++|%s.|"")*+(?P<close>"?)' % (start, mark, mark)
    return re.compile(rb'(?:%s.)++"*+|%s' % (mark, quoted), re.DOTALL)


def _several(cell: re.Match[bytes]) -> bool:
    """Whether a cell goes over several lines."""
    return b"\n" in cell[0] or b"\r" in cell[0]


class _Lines:
    """The number of the line that holds a byte, for positions that only grow; lines end in \\n, or all in \\r."""

    def __init__(self, data: memoryview):
        self.data, self.place, self.line = data, 0, 1
        self.end = b"\n" if re.search(rb"\n", data) else b"\r"

    def at(self, place: int) -> int:
        self.line += bytes(self.data[self.place : place]).count(self.end)
        self.place = place
        return self.line
