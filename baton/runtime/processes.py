"""Processes: who they are beyond their number, how to end them with all their descendants, and orphans."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

GRACE_S = 7.0  # horovodrun takes 5 to end its workers
DRIVER = "BATON_DRIVER"  # in the environment of a process that must not outlive the one named


def identity(pid: int) -> str | None:
    """`pid:start:boot:namespace`, which no other process ever has; None if there is no such process (or a dead one).

    The namespace is that of the number: containers of one machine, each with its own, may have one host name.
    """
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    return None if state in "ZX" else f"{pid}:{rest[18]}:{boot}:{_namespace()}"


def _namespace() -> str:
    """The number of the PID namespace that this process's numbers are of."""
    return str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")


def me() -> str:
    """This process's identity."""
    return identity(os.getpid()) or ""


def alive(who: str) -> bool:
    """Whether the process of that identity is seen to run; earlier versions wrote it without the namespace."""
    pid, _, more = who.partition(":")
    now = identity(int(pid)) if pid.isdigit() else None
    return now is not None and now.split(":")[: 2 + more.count(":")] == who.split(":")


def ended(who: str) -> bool:
    """Whether the process of that identity has certainly ended: nobody can tell of another PID namespace."""
    namespace = who.split(":")[3:]
    return not alive(who) and namespace in ([], [_namespace()])


def runs_step(who: str) -> bool:
    """Whether a process is one of Baton's: a tag that anyone could write must not end anything else."""
    try:
        words = psutil.Process(int(who.partition(":")[0])).cmdline()
        return any(part.removeprefix("baton.").startswith("steps.") for part in words)
    except psutil.Error:
        return False


def launcher() -> str | None:
    """The identity of the `mlflow run` that this process was started by, or None."""
    for parent in psutil.Process().parents():
        try:
            if any(Path(part).name == "mlflow" for part in parent.cmdline()[:3]):
                return identity(parent.pid)
        except psutil.Error:
            pass
    return None


class Tree:
    """A process and the descendants seen so far, to be ended together.

    They must be looked at while their parents live: one that lost its parent is nobody's child.
    """

    def __init__(self, pid: int):
        self.known: dict[int, psutil.Process] = {}
        self.root = pid
        self.look()

    def look(self) -> None:
        try:
            # The one seen first: its number may be another process's by now, whose children are not ours.
            root = self.known.get(self.root) or psutil.Process(self.root)
            for process in (root, *root.children(recursive=True)):
                self.known.setdefault(process.pid, process)
        except psutil.NoSuchProcess:
            pass

    def end(self, grace: float = GRACE_S) -> None:
        """SIGTERM to the root, which ends its children in order; SIGKILL to all that is left after `grace`."""
        self.look()
        _send(self.known.get(self.root), signal.SIGTERM)
        _, left = psutil.wait_procs(list(self.known.values()), timeout=grace)
        self.look()  # what was started meanwhile
        for process in {*left, *self.known.values()}:
            _send(process, signal.SIGKILL)
        psutil.wait_procs(left, timeout=2)


def end_with(driver: str | None, action: Callable[[], None]) -> None:
    """Do `action` within a second or so of the end of the process `driver`, from a thread."""

    def watch() -> None:
        while driver and not ended(driver):
            time.sleep(1)
        action()

    if driver:
        threading.Thread(target=watch, daemon=True).start()


def die() -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def _send(process: psutil.Process | None, number: int) -> None:
    try:
        if process is not None:
            process.send_signal(number)
    except psutil.NoSuchProcess:
        pass
