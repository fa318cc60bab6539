"""What the file system of a folder can do of what Baton needs, found by trying it."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from baton.errors import BadInput
from baton.runtime import locks, replacing
from baton.runtime.files import new_folder

PROBE = ".baton-probe-"  # how the name of the folder begins in which it is tried


def fallbacks(folder: Path) -> list[str]:
    """What is done in another way in this folder, a sentence each; raises `BadInput` if there is no other way.

    A folder of a random name is made in it for a moment.
    """
    probe = new_folder(folder, PROBE)
    try:
        _check_rename(probe)
        sentences = []
        if not locks.works(probe):
            sentences.append("its files cannot be locked: a file tells who works where")
        if not _exchanges(probe):
            sentences.append("folders cannot be exchanged: an output is replaced in two moves")
        return sentences
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def _check_rename(probe: Path) -> None:
    """Raise `BadInput` if a folder that holds a file cannot be renamed."""
    before, after = probe / ".before", probe / ".after"
    before.mkdir()
    (before / "file").touch()
    try:
        before.rename(after)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BadInput(
            f"Folders in {probe.parent} cannot be renamed, so that nothing can appear there whole: choose another "
            f"disk. Received: {error}"
        ) from None


def _exchanges(probe: Path) -> bool:
    one, other = probe / ".one", probe / ".other"
    one.mkdir()
    other.mkdir()
    return replacing.exchange(one, other)
