"""Files by their content, and files that are whole or not there."""

import errno
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from baton.runtime.files import flush, flush_names, folder_hashes, sha256, whole


def test_hashes_are_of_content_by_relative_path(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a").write_text("same")
    (tmp_path / "b").write_text("same")
    found = folder_hashes(tmp_path, "code/")
    assert list(found) == ["code/b", "code/inner/a"] and set(found.values()) == {sha256(tmp_path / "b")}


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    place = tmp_path / "file"
    with whole(place) as aside:
        aside.write_text("half")
        assert not place.exists()
    assert place.read_text() == "half" and list(tmp_path.iterdir()) == [place]


def test_what_was_there_stays_if_the_writing_fails(tmp_path):
    place = tmp_path / "file"
    place.write_text("before")
    with pytest.raises(ZeroDivisionError), whole(place) as aside:
        aside.write_text("half")
        raise ZeroDivisionError
    assert place.read_text() == "before" and list(tmp_path.iterdir()) == [place]


def test_what_fails_before_a_byte_is_written_is_what_is_raised(tmp_path):
    with pytest.raises(ZeroDivisionError), whole(tmp_path / "file"):
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_on_the_disk_before_it_takes_its_name_and_the_name_after(tmp_path, monkeypatch):
    seen: list[str] = []
    sync, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda fd: seen.append(Path(f"/proc/self/fd/{fd}").readlink().name) or sync(fd))
    monkeypatch.setattr(Path, "rename", lambda old, new: seen.append("rename") or rename(old, new))
    with whole(tmp_path / "file") as aside:
        aside.write_text("new")
    assert seen == [aside.name, "rename", tmp_path.name]


def test_all_files_below_a_folder_are_flushed_with_their_names(tmp_path, monkeypatch):
    for name in ("a/b/one", "a/two"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    seen, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: seen.append(Path(f"/proc/self/fd/{fd}").readlink().name) or sync(fd))
    flush(tmp_path / "a")
    assert sorted(seen) == ["a", "b", "one", "two"]
    assert seen.index("one") < seen.index("b") and seen.index("two") < seen.index("a")


@pytest.mark.parametrize(("number", "fails"), [
    (errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EBADF, False), (errno.EIO, True)
])  # fmt: skip
def test_a_file_system_that_cannot_flush_a_folders_names_is_no_error_and_a_broken_disk_is(
    tmp_path, monkeypatch, number, fails
):
    def refused(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(OSError, match=os.strerror(number)) if fails else nullcontext():
        flush_names(tmp_path)
