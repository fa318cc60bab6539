"""What a folder's file system can do, asked of real ones and of one whose calls fail."""

import errno
import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from baton.errors import BadInput
from baton.runtime import file_systems, locks, replacing


@pytest.fixture
def fuse(tmp_path) -> Iterator[Path]:
    """A folder behind FUSE, which knows no exchange; where one cannot be had, the test says so."""
    if (bindfs := shutil.which("bindfs")) is None:
        pytest.skip("no FUSE mount without bindfs (apt-get install bindfs)")
    behind, folder = tmp_path / "behind", tmp_path / "fuse"
    behind.mkdir()
    folder.mkdir()
    done = subprocess.run([bindfs, behind, folder], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no FUSE mount here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_this_disk_needs_no_fallback_and_nothing_is_left(tmp_path):
    assert file_systems.fallbacks(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_what_fails_is_named_with_what_is_done_instead(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(fcntl, "flock", fail)
    monkeypatch.setattr(replacing, "exchange", lambda one, other: False)
    sentences = file_systems.fallbacks(tmp_path)
    assert [sentence.partition(":")[0] for sentence in sentences] == [
        "its files cannot be locked",
        "folders cannot be exchanged",
    ]
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(BadInput, match="cannot be renamed, so that nothing can appear there whole"):
        file_systems.fallbacks(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_on_fuse_a_folder_is_replaced_and_locked(fuse):
    (sentence,) = file_systems.fallbacks(fuse)
    assert sentence.startswith("folders cannot be exchanged")
    for text in ("old", "new"):
        with locks.held(fuse / "aside"):
            (fuse / "aside" / "file").write_text(text)
            assert locks.is_held(fuse / "aside")
            replacing.replace(fuse / "aside", fuse / "place")
        shutil.rmtree(fuse / "aside", ignore_errors=True)
    assert (fuse / "place" / "file").read_text() == "new"
    assert [path.name for path in fuse.iterdir()] == ["place"]
