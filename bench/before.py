"""An earlier commit in, a checkout of it to measure beside this one out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.harness import KEPT
from bench.memory import ROOT

BEFORE = "c4aff51"  # held the whole table in ingest, and all raw test rows in register


@contextmanager
def worktree(commit: str = BEFORE) -> Iterator[Path]:
    """A checkout of a commit, for as long as this is open."""
    folder = (KEPT / f"before-{commit}").absolute()
    subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)
    subprocess.run(["git", "worktree", "add", "--quiet", "--force", "--detach", folder, commit], cwd=ROOT, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", folder], cwd=ROOT, check=True)
