"""A mutation in, whether a test noticed it out: in a copy of the checkout, by a pytest process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mutants.operators import Mutation
from mutants.targets import Target

SLOW = 5  # a test that takes so many times as long as it does undisturbed has noticed: it hangs
SPARE_S = 30.0
PASSED, FAILED = 0, (1, 2)  # pytest's exit statuses; 2: not even collected


@dataclass(frozen=True)
class Trial:
    """What came of a mutation: `noticed`, after so many seconds."""

    target: Target
    mutation: Mutation
    noticed: bool
    seconds: float


class Copy:
    """A copy of the checkout's tracked files, to be changed and tested in."""

    def __init__(self, root: Path, home: Path):
        self.home = home
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout
        for name in filter(None, listed.decode().split("\0")):
            if (root / name).is_file():
                (home / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, home / name)
        # What is compiled counts by its content: two mutations within a second have the same time.
        compiling = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "."]
        subprocess.run(compiling, cwd=home, check=True, stdout=subprocess.DEVNULL)

    def passes(self, tests: tuple[str, ...], limit_s: float | None = None) -> bool:
        """Whether all tests pass within a limit; raises `RuntimeError` if there are none, or pytest itself fails."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        try:
            done = subprocess.run(
                command, cwd=self.home, env=environ, capture_output=True, text=True, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        if done.returncode not in (PASSED, *FAILED):
            raise RuntimeError(f"pytest ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.returncode == PASSED

    def undisturbed(self, target: Target) -> float:
        """The seconds that a target's tests take; raises `RuntimeError` if they fail as things are."""
        started = time.monotonic()
        if not self.passes(target.tests):
            raise RuntimeError(f"the tests of {target.file} fail without any mutation: {' '.join(target.tests)}")
        return time.monotonic() - started

    def attempt(self, target: Target, mutation: Mutation, undisturbed_s: Mapping[Target, float]) -> Trial:
        """Put a mutation in, run the target's tests, and put back what was there."""
        path, started = self.home / target.file, time.monotonic()
        before = path.read_text(encoding="utf-8")
        path.write_text(mutation.source, encoding="utf-8")
        try:
            noticed = not self.passes(target.tests, SLOW * undisturbed_s[target] + SPARE_S)
        finally:
            path.write_text(before, encoding="utf-8")
        return Trial(target, mutation, noticed, time.monotonic() - started)
