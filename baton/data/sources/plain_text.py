"""A CSV file, packed by gzip or in another encoding, in; its text as UTF-8, which can be mapped, out.

The copy has no name on the disk, only an open file: it is gone when it is closed, however the process ends.
"""

from __future__ import annotations

import codecs
import gzip
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from baton.data.sources import csv_text
from baton.errors import BadInput

PACKED_SUFFIX = ".gz"
CHUNK_BYTES = 1 << 20
UNPACKED_BYTES, UNPACKED_TIMES = 64 << 20, 200  # a packed file may hold so many bytes, or so many times its own


def is_packed(file: Path) -> bool:
    """Whether a file is packed by gzip, by its name."""
    return file.suffix.lower() == PACKED_SUFFIX


@contextmanager
def opened(file: Path, encoding: str, head: int | None = None) -> Iterator[Path]:
    """A path to the file's text as UTF-8: the file itself, if it is that, else a copy for as long as this is open.

    `head`: of a copy no more is made than the whole lines of its first so many bytes. Raises `BadInput`.
    """
    plain = codecs.lookup(encoding).name == "utf-8"
    if plain and not is_packed(file):
        yield file
        return
    chunks = _unpacked(file) if is_packed(file) else _chunks(file)
    if not plain:
        chunks = _recoded(file, chunks, encoding)
    with tempfile.TemporaryFile() as copy:
        _write(file, copy, chunks, head)
        yield Path(f"/proc/self/fd/{copy.fileno()}")


def _write(file: Path, copy: IO[bytes], chunks: Iterable[bytes], head: int | None) -> None:
    """Write the chunks, or those of the head, and end with a whole line then."""
    for chunk in chunks:
        try:
            if head is not None and copy.tell() + len(chunk) > head and b"\n" in chunk:
                copy.write(chunk[: chunk.rindex(b"\n") + 1])
                break
            copy.write(chunk)
        except OSError as error:
            raise BadInput(
                f"{file} cannot be unpacked into {tempfile.gettempdir()}: {error.strerror}. Set TMPDIR to a folder "
                "with more room."
            ) from None
    copy.flush()


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _unpacked(file: Path) -> Iterator[bytes]:
    """What a packed file holds, chunk by chunk; raises `BadInput` if it is damaged, or a bomb."""
    most, size = max(UNPACKED_BYTES, UNPACKED_TIMES * file.stat().st_size), 0
    try:
        with gzip.open(file) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                size += len(chunk)
                if size > most:
                    raise BadInput(f"{file} holds more than {most:,} bytes when it is unpacked: unpack it yourself.")
                yield chunk
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadInput(f"{file} is damaged: {error}. Pack it again.") from None


def _recoded(file: Path, chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Bytes of text in one encoding → in UTF-8; a file that starts with UTF-8's byte order mark is that already."""
    decoder, line = codecs.getincrementaldecoder(encoding)(), 1
    for number, chunk in enumerate(chunks):
        if number == 0:
            csv_text.check_start(file, chunk)
            if chunk.startswith(csv_text.UTF8_BOM):
                decoder = codecs.getincrementaldecoder("utf-8")()
        yield _decoded(file, decoder, chunk, line, encoding).encode()
        line += chunk.count(b"\n")
    yield _decoded(file, decoder, b"", line, encoding).encode()


def _decoded(file: Path, decoder: codecs.IncrementalDecoder, chunk: bytes, line: int, encoding: str) -> str:
    try:
        return decoder.decode(chunk, final=not chunk)
    except UnicodeDecodeError as error:
        at, byte = line + error.object.count(b"\n", 0, error.start), error.object[error.start]
        raise BadInput(
            f"{file}, line {at}: byte 0x{byte:02X} is not {encoding}: set data.encoding to what the file is in."
        ) from None
