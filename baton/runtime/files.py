"""Files by their content: hashes of one, of a folder, and a folder's digest."""

from __future__ import annotations

import hashlib
import os
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

    If the writing fails, nothing is left of it, and what was there before stays.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}.aside")
    try:
        yield aside
        aside.rename(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
