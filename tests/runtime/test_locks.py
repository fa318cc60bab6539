"""Locks that hold between processes, on file systems with and without locks of files."""

import errno
import fcntl
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from baton.runtime import locks, processes

HOLD = """
import sys
from pathlib import Path
from baton.runtime import locks
{patch}
lock = locks.take(Path(sys.argv[1]))
print(lock is not None, flush=True)
sys.stdin.read()
"""
NO_FLOCK = "def no(*_): raise OSError({code}, 'no locks')\nlocks.fcntl.flock = no"


def no_flock(code: int = errno.ENOLCK) -> str:
    return NO_FLOCK.format(code=code)


@pytest.fixture(params=["flock", "no flock"])
def patch(request, monkeypatch) -> str:
    """What another process does at its start, for what this one has been made to believe."""
    if request.param == "flock":
        return ""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(locks.fcntl, "flock", fail)
    return no_flock()


def holder(folder: Path, patch: str) -> subprocess.Popen:
    """A process that takes a folder, and holds it until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(patch=patch), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "True\n"
    return process


def test_a_folder_is_one_process_s_until_that_ends(tmp_path, patch):
    folder = tmp_path / "deep" / "folder"
    with holder(folder, patch) as other:
        assert locks.is_held(folder) and locks.take(folder) is None
        other.kill()
        other.wait()
    assert not locks.is_held(folder)
    lock = locks.take(folder)
    assert lock is not None and locks.is_held(folder) and locks.take(folder) is None
    lock.release()
    assert not locks.is_held(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]  # no file of a lock is left


def test_a_lock_is_waited_for(tmp_path, patch):
    with holder(tmp_path / "x", patch) as other:
        other.stdin.close()
        with locks.exclusive(tmp_path / ".x.lock"):
            assert locks.take(tmp_path / "x") is None
    assert locks.take(tmp_path / "x") is not None


def test_a_folder_that_is_renamed_or_removed_leaves_no_lock(tmp_path):
    with locks.held(tmp_path / "aside"):
        (tmp_path / "aside").rename(tmp_path / "place")
    with locks.held(tmp_path / "place"):
        (tmp_path / "place").rmdir()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", sorted(locks.UNSUPPORTED))
def test_every_way_to_say_that_nothing_can_be_locked_is_understood(tmp_path, monkeypatch, code):
    def fail(*_: object) -> None:
        raise OSError(code, "no locks")

    monkeypatch.setattr(locks.fcntl, "flock", fail)
    assert not locks.works(tmp_path)
    lock = locks.take(tmp_path / "x")
    assert lock is not None and locks.take(tmp_path / "x") is None


def test_a_holder_of_another_host_is_never_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(locks.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "no locks")))
    path = tmp_path / ".x.lock.holder"
    for who in ("elsewhere 1:2:3", "", "elsewhere"):
        path.write_text(who)
        (tmp_path / ".x.lock").touch()
        assert locks.take(tmp_path / "x") is None and locks.is_held(tmp_path / "x")
    path.write_text(f"{socket.gethostname()} 1:2:gone")
    assert not processes.alive("1:2:gone") and not locks.is_held(tmp_path / "x")
    assert locks.take(tmp_path / "x") is not None


def test_what_is_locked_is_open_for_writing(tmp_path, monkeypatch):
    """NFS locks nothing else."""
    modes, flock = [], fcntl.flock

    def look(descriptor: int, kind: int) -> None:
        modes.append(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE)
        assert Path(f"/proc/self/fd/{descriptor}").is_file()
        flock(descriptor, kind)

    monkeypatch.setattr(locks.fcntl, "flock", look)
    lock = locks.take(tmp_path / "x")
    assert locks.is_held(tmp_path / "x")
    lock.release()
    assert len(modes) == 2 and {*modes} == {os.O_RDWR}


@pytest.mark.parametrize("works", [True, False], ids=["flock", "no flock"])
def test_whoever_may_write_in_a_folder_may_take_a_lock_that_a_killed_user_has_left(tmp_path, monkeypatch, works):
    if not works:
        monkeypatch.setattr(locks, "_lock", lambda descriptor, kind: None)
    tmp_path.chmod(0o775)
    before = os.umask(0o077)
    try:
        with locks.exclusive(tmp_path / "lock"):
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
            assert modes == dict.fromkeys(("lock",) if works else ("lock", "lock.holder"), 0o664)
    finally:
        os.umask(before)
