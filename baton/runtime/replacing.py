"""A finished folder in, put where an older one stands: readers see the old one or the new one, whole.

Linux exchanges two names in one move. Network file systems (NFS, CIFS) do not: there the old folder is moved aside and
the new one into its place, and what a process that was killed in between has moved aside is put back by `recover`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from baton.runtime import locks
from baton.runtime.files import flush_names

UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.EACCES}  # by a folder that holds something; CIFS: by any


def replace(new: Path, place: Path, check: Callable[[], None] = lambda: None) -> None:
    """Move a folder to `place`; the one that was there, if any held something, is at `new` then.

    What `check` raises is raised before; meanwhile no other process replaces what is at `place`.
    """
    with locks.exclusive(_lock(place)):
        _recover(place)
        check()
        try:
            new.rename(place)  # takes the place of nothing, or of an empty folder
        except OSError as error:
            if error.errno not in TAKEN or not place.is_dir():
                raise
            if not exchange(new, place):
                _move_twice(new, place)
    flush_names(place.parent)


def exchange(one: Path, other: Path) -> bool:
    """Swap two folders atomically (Linux' renameat2); False if their file system cannot."""
    at_cwd, flag = -100, 2
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), flag) == 0:
        return True
    if (code := ctypes.get_errno()) in UNSUPPORTED:
        return False
    raise OSError(code, f"{os.strerror(code)}: cannot exchange {one} and {other}")


def recover(place: Path) -> None:
    """Put back what a process that was killed between two moves has left aside; remove it if the new one is there."""
    if not _aside(place).is_dir():
        return
    with locks.exclusive(_lock(place)):
        _recover(place)


def _move_twice(new: Path, place: Path) -> None:
    old = _aside(place)
    try:
        place.rename(old)
        new.rename(place)
    except BaseException:  # a signal, too, leaves the old one or the new one
        _recover(place)
        raise
    old.rename(new)


def _recover(place: Path) -> None:
    """The same, while the lock is held."""
    old = _aside(place)
    if place.is_dir() and any(place.iterdir()):
        shutil.rmtree(old, ignore_errors=True)
    elif old.is_dir():
        with suppress(FileNotFoundError):
            place.rmdir()
        old.rename(place)


def _aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.baton-old")


def _lock(place: Path) -> Path:
    return place.with_name(f".{place.name}.baton-lock")
