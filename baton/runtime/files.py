"""Files by their content, and files and folders that outlast what ends their writer."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_hashes(folder: Path, prefix: str = "") -> dict[str, str]:
    """{prefix and relative path: SHA-256} of every file below a folder; links to files count as what they lead to."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {f"{prefix}{path.relative_to(folder).as_posix()}": sha256(path) for path in files}


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place at the end: nobody finds half of a file.

    If the writing fails, nothing is left of it, and what was there before stays. After a power cut one of both is
    there, whole.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}.aside")
    try:
        yield aside
        flush(aside)
        aside.rename(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    flush_names(path.parent)


def new_folder(parent: Path, prefix: str) -> Path:
    """A new folder of a random name, with the permissions that this process and `parent` give to folders."""
    while True:
        folder = parent / f"{prefix}{secrets.token_hex(4)}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder


def flush(place: Path) -> None:
    """Have a file, or all files below a folder and their names, written to the disk before this returns."""
    if place.is_file():
        _sync(place)
    for folder, _, names in os.walk(place):
        for name in names:
            _sync(Path(folder, name))
        flush_names(Path(folder))


def flush_names(folder: Path) -> None:
    """The same for the names in a folder alone: a rename outlasts a power cut then, where the file system can do so."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # CIFS: a folder cannot be flushed
            raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
