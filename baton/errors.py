"""The errors whose message is meant for a person. Exit statuses hang on their class."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK = {
    errno.ENOSPC: "there is no room left on its disk",
    errno.EDQUOT: "the quota of its disk is used up",
    errno.EFBIG: "the file would be larger than this system allows",
    errno.EROFS: "its disk is read-only",
    errno.EACCES: "this user may not",
    errno.EPERM: "this user may not",
    errno.ENOTDIR: "a file is where a folder should be",
    errno.EEXIST: "a file is where a folder should be",
    errno.EISDIR: "a folder is where a file should be",
    errno.ENAMETOOLONG: "its name is too long",
}
QUOTED_CHARACTERS = 40
# How libraries say the same in an error of their own.
DISK_TEXT = {
    "No space left on device": errno.ENOSPC,
    "database or disk is full": errno.ENOSPC,
    "Read-only file system": errno.EROFS,
    "attempt to write a readonly database": errno.EROFS,
}


class BatonError(Exception):
    """Something failed and one sentence says what, in one line. `python -m steps.<name>` exits with 1."""

    exit_status = 1

    def __init__(self, sentence: str):
        super().__init__(printable(sentence))


class BadInput(BatonError):
    """The data, the config or a parameter is wrong. `python -m steps.<name>` exits with 2."""

    exit_status = 2


class StepFailed(BatonError):
    """A step that main started has failed; carries that step's sentence and exit status."""

    def __init__(self, step: str, sentence: str, exit_status: int):
        super().__init__(f"{step}: {sentence}")
        self.exit_status = exit_status if exit_status in (1, 2) else 1


class Diverged(BadInput):
    """A training run whose loss is no longer a finite number: the config, or the data, asks for too much."""


class OverBudget(BatonError):
    """What was to be looked into would take more than its seconds: the step goes on without it."""


class WorkerLost(BatonError):
    """Workers ended without saying why: killed, or cut off. Training can go on from its checkpoint."""


def printable(text: str) -> str:
    """Text that may quote anything → one line that a terminal and a database take as it is."""
    return escaped(" ".join(text.split()))


def escaped(text: str, keep: str = "") -> str:
    """Text → the same, but what a terminal obeys or turns round is written out (`\\x1b`); `keep` stays."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def listed(names: list[str], most: int = 20) -> str:
    """Names for a sentence, the first `most` of them, and of each the first 100 characters."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name if len(name) <= 100 else f"{name[:99]}…" for name in names[:most]) + more


def quoted(cell: str) -> str:
    """A cell as a sentence quotes it: in quotes, in one line, and not for long."""
    cell = printable(cell)
    return repr(cell if len(cell) <= QUOTED_CHARACTERS else f"{cell[: QUOTED_CHARACTERS - 1]}…")


def refuse(faults: list[str]) -> None:
    """Raise one `BadInput` that names all faults, a sentence each; do nothing if there are none."""
    if faults:
        raise BadInput(" ".join(faults))


def explained(error: BaseException, place: Path | str = "") -> BatonError | None:
    """Any error → the sentence about the disk that it means, or the error itself if it is Baton's; else None."""
    if isinstance(error, BatonError):
        return error
    number = error.errno if isinstance(error, OSError) else None
    number = number if number in DISK else next((n for text, n in DISK_TEXT.items() if text in str(error)), None)
    if number is None:
        return None
    where = place or getattr(error, "filename", None) or "An output"
    kept = " What was there before is as it was." if place else ""
    return BadInput(f"{where}: {DISK[number]}.{kept} Received: {error}")


@contextmanager
def writing(place: Path | str) -> Iterator[None]:
    """Around the writing of an output: a disk that is full or read-only comes out as a sentence about it."""
    try:
        yield
    except Exception as error:
        if (known := explained(error, place)) is None or known is error:
            raise
        raise known from error
