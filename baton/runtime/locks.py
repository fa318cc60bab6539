"""Who works in a folder: a lock on the folder itself, which ends with the process that holds it, however that ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def take(folder: Path) -> int | None:
    """Make a folder if there is none and lock it until the descriptor is closed; None if another process has it."""
    while True:
        with suppress(FileExistsError):  # with exist_ok, pathlib looks again, and raises if it is gone by then
            folder.mkdir(parents=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue  # its last user has just removed it
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass  # so here
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether a process works in a folder now."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Meanwhile a folder, which only this process knows yet, is locked: gc takes no such one for a leftover."""
    descriptor = take(folder)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
