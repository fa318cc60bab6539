"""Who works on what: a lock that ends with the process that holds it, however that ends.

A lock is a file opened for writing, for network file systems lock neither a folder nor what is open for reading. That
of a folder lies beside it. Where files cannot be locked at all, a second file tells who holds the lock: it is passed
over once that process has ended, if it was one of this host.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from baton.runtime import processes

log = logging.getLogger("baton")

UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF}
PAUSE_S, PATIENCE_S = 0.02, 10.0


@dataclass(frozen=True)
class Lock:
    """A lock that this process holds until it is released, or the process ends."""

    path: Path
    descriptor: int
    claimed: bool = False  # by a file, for the descriptor could not be locked

    def release(self) -> None:
        """Let go of it; its files are removed first, so that none is left of what nobody works on."""
        if self.claimed:
            _holder(self.path).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


def take(folder: Path) -> Lock | None:
    """Lock a folder, and make it if there is none; None if another process has it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = _attempt(_beside(folder))
    if lock is not None:
        folder.mkdir(exist_ok=True)  # its last user may have removed it until now
    return lock


def is_held(folder: Path) -> bool:
    """Whether a process works in a folder now."""
    path = _beside(folder)
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except PermissionError:  # another user's: who knows
        return True
    try:
        locked = _lock(descriptor, fcntl.LOCK_SH)
        return not locked if locked is not None else not _is_free(_read(_holder(path)))
    finally:
        os.close(descriptor)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Meanwhile a folder, which only this process knows yet, is locked: gc takes no such one for a leftover."""
    lock = take(folder)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Meanwhile no other process holds the lock file at `path`; waits for it."""
    started, patient = time.monotonic(), True
    while (lock := _attempt(path)) is None:
        if patient and time.monotonic() - started > PATIENCE_S:
            patient = False
            log.warning("waiting for the lock %s%s", path, _advice(path))
        time.sleep(PAUSE_S)
    try:
        yield
    finally:
        lock.release()


def works(folder: Path) -> bool:
    """Whether files in a folder can be locked; makes one for a moment."""
    path = folder / f".{os.getpid()}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        return _lock(descriptor, fcntl.LOCK_EX) is not None
    finally:
        path.unlink()
        os.close(descriptor)


def _attempt(path: Path) -> Lock | None:
    """The lock of that file, or None if another process has it."""
    while True:
        descriptor = _opened(path)
        locked = _lock(descriptor, fcntl.LOCK_EX)
        if locked and _is_at(path, descriptor):
            return Lock(path, descriptor)
        if locked is None and _claim(path):
            return Lock(path, descriptor, claimed=True)
        os.close(descriptor)
        if not locked:
            return None  # else its last user has just removed it


def _opened(path: Path) -> int:
    """A lock file, made if there is none."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    _share(descriptor, path.parent)
    return descriptor


def _share(descriptor: int, folder: Path) -> None:
    """Who may read or write in its folder may do so with the file, whatever this user's umask."""
    with suppress(OSError):  # it is another user's, who has done so
        os.fchmod(descriptor, folder.stat().st_mode & 0o666)


def _lock(descriptor: int, kind: int) -> bool | None:
    """Whether a file could be locked, or None if its file system locks none."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return None


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _beside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


# Where files cannot be locked


def _holder(path: Path) -> Path:
    return path.with_name(f"{path.name}.holder")


def _claim(path: Path) -> bool:
    """Write this process down as the holder of a lock; False if another one is, and may be alive."""
    holder = _holder(path)
    if (who := _read(holder)) is not None and _is_free(who):
        _remove(holder, who)
    try:
        with holder.open("x") as file:
            _share(file.fileno(), holder.parent)
            file.write(f"{socket.gethostname()} {processes.me()}")
    except FileExistsError:
        return False
    return True


def _is_free(who: str | None) -> bool:
    """Whether a lock is held by nobody, or by a process of this host that has ended."""
    host, _, process = (who or "").partition(" ")
    return who is None or (host == socket.gethostname() and bool(process) and processes.ended(process))


def _remove(holder: Path, who: str) -> None:
    """Remove what a dead process wrote, but not what another one, which came first, has written meanwhile."""
    aside = holder.with_name(f"{holder.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        holder.rename(aside)
        if aside.read_text() == who:
            aside.unlink()
        else:
            aside.rename(holder)


def _read(holder: Path) -> str | None:
    try:
        return holder.read_text()
    except FileNotFoundError:
        return None


def _advice(path: Path) -> str:
    who = _read(_holder(path))
    return f", which {who} holds: if that process is no more, remove {_holder(path)}" if who else ""
