"""What batch_infer may replace: its own predictions, and nothing else; how it does so, with and without an exchange."""

import errno
import json
import os
import re
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pyarrow.parquet as pq
import pytest
import tiny

from baton import names
from baton.config.schema import Config
from baton.errors import BadInput
from baton.runtime import replacing
from baton.serving import destination
from baton.serving.destination import MARK, replaced

PART = "part-00000.parquet"


def write(folder: Path, text: str = "new", pipeline: str = "tiny") -> None:
    """What batch_infer leaves: a part, the mark, and a quarantine."""
    (folder / names.QUARANTINE_OUTPUT).mkdir(parents=True)
    (folder / PART).write_text(text)
    (folder / names.QUARANTINE_OUTPUT / PART).write_text(text)
    (folder / MARK).write_text(json.dumps({"model_name": pipeline, "scoring_run_id": "run"}))


def replace(place: Path, text: str = "new") -> None:
    with replaced(place, "tiny") as aside:
        write(aside, text)


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def no_exchange(monkeypatch):
    """As NFS and CIFS answer."""
    monkeypatch.setattr(replacing, "exchange", lambda one, other: False)


@pytest.fixture
def config(tmp_path) -> Config:
    """A pipeline with two folders of sources, whose output is asked for by `checked`."""
    for day in ("1", "2"):
        (tmp_path / "in" / day).mkdir(parents=True)
        pq.write_table(tiny.regression_table(5), tmp_path / "in" / day / "rows.parquet")
    source = str(tmp_path / "old" / "rows.parquet")
    (tmp_path / "old").mkdir()
    pq.write_table(tiny.regression_table(5), source)
    settings = {"source": str(tmp_path / "in" / "*" / "rows.parquet"), "output": str(tmp_path / "out")}
    return tiny.config(source=source, warehouse=str(tmp_path / "warehouse"), batch_infer=settings)


def checked(config: Config, **changes: object) -> Path:
    settings = config.batch_infer.model_copy(update={key: str(value) for key, value in changes.items()})
    return destination.check(config, settings)


def test_a_new_or_empty_folder_and_own_predictions_may_be_replaced(config, tmp_path):
    assert checked(config) == tmp_path / "out"
    (tmp_path / "out").mkdir()
    assert checked(config) == tmp_path / "out"
    write(tmp_path / "out")
    for left in ("_SUCCESS", "_common_metadata", f".{PART}.crc", ".DS_Store", ".nfs0000000000c0ffee"):
        (tmp_path / "out" / left).touch()  # by readers and file servers
    assert checked(config) == tmp_path / "out"


def test_the_files_of_a_glob_are_sources(config, tmp_path):
    with pytest.raises(BadInput, match="must not hold a source"):
        checked(config, output=tmp_path / "in" / "2")
    with pytest.raises(BadInput, match="must not hold a source"):
        checked(config, output=tmp_path / "old")
    write(tmp_path / "out")
    (tmp_path / "in" / "2" / "rows.parquet").unlink()
    (tmp_path / "in" / "2" / "rows.parquet").symlink_to(tmp_path / "out" / PART)
    with pytest.raises(BadInput, match="must not hold a source"):
        checked(config)


@pytest.mark.parametrize(("source", "output", "read"), [
    ("in", "in/out", True),
    ("in", "in/_out", False),
    ("in/**/*.parquet", "in/a/b", True),
    ("in/*.parquet", "in/out", False),
    ("in/*/rows.parquet", "in/3", False),
    ("in/[123]/*.parquet", "in/3", True),
    ("in/[123]/*.csv", "in/3", False),
])  # fmt: skip
def test_predictions_must_not_become_a_source(config, tmp_path, source, output, read):
    pq.write_table(tiny.regression_table(5), tmp_path / "in" / "rows.parquet")
    if not read:
        assert checked(config, source=tmp_path / source, output=tmp_path / output) == tmp_path / output
        return
    with pytest.raises(BadInput, match="must not lie where .* reads"):
        checked(config, source=tmp_path / source, output=tmp_path / output)


def test_what_is_somebody_elses_is_refused(config, tmp_path):
    write(tmp_path / "predictions" / "other", pipeline="other")
    with pytest.raises(BadInput, match=r"holds what is no predictions: .* which holds other, other/"):
        checked(config, output=tmp_path / "predictions")
    with pytest.raises(BadInput, match="holds the predictions of other: give tiny a folder of its own"):
        checked(config, output=tmp_path / "predictions" / "other")
    write(tmp_path / "out")
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(BadInput, match=r"which holds notes\.txt"):
        checked(config)
    (tmp_path / "out" / "notes.txt").unlink()
    for name in (".env", "_notes.txt", ".gitignore"):
        (tmp_path / "out" / name).touch()
        with pytest.raises(BadInput, match=rf"which holds {re.escape(name)}"):
            checked(config)
        (tmp_path / "out" / name).unlink()
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / PART).touch()
    with pytest.raises(BadInput, match=rf"which holds {PART}"):
        checked(config, output=tmp_path / "plain")


def test_a_file_and_a_mount_point_are_no_output(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(BadInput, match="must be a folder, and there is a file"):
        destination.check_replaceable(tmp_path / "out", "tiny")
    with pytest.raises(BadInput, match="must not be a mount point"):
        destination.check_replaceable(Path("/proc"), "tiny")


def test_of_what_is_somebody_elses_three_names_are_given(tmp_path):
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).touch()
    with pytest.raises(BadInput, match="which holds a, b, c and 1 more$"):
        destination.check_replaceable(tmp_path, "tiny")


def test_project_warehouse_and_stores_are_never_in_an_output(config, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/store%20here/mlflow.db")
    places = {
        tmp_path / "warehouse": "hold the warehouse",
        tmp_path / "store here": r"hold the store mlflow\.db",
        Path.cwd(): "hold the project",
        Path("/"): "hold your home",
    }
    for place, sentence in places.items():
        with pytest.raises(BadInput, match=sentence):
            checked(config, output=place)
    for inside in ("tiny/datasets/x", "tiny"):
        with pytest.raises(BadInput, match="where datasets and checkpoints lie"):
            checked(config, output=tmp_path / "warehouse" / inside)


@pytest.mark.parametrize("output", ["circle", "a\0b"])
def test_what_is_no_path_is_told(config, tmp_path, output):
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(BadInput, match=r"batch_infer\.output is no path"):
        checked(config, output=tmp_path / output)


def test_a_user_without_a_home_may_score(config, tmp_path, monkeypatch):
    """As in a container that runs as any number."""

    def lacking(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", lacking)
    assert checked(config) == tmp_path / "out"


def test_the_output_is_replaced_whole(tmp_path):
    place = tmp_path / "deep" / "predictions"
    with replaced(place, "tiny") as aside:
        write(aside, "1")
        assert not place.exists()
    with replaced(place, "tiny") as aside:
        write(aside, "2")
        assert (place / PART).read_text() == "1"
    assert (place / PART).read_text() == "2" and listing(place.parent) == ["predictions"]


def test_without_an_exchange_it_is_replaced_in_two_moves(tmp_path, no_exchange):
    test_the_output_is_replaced_whole(tmp_path)


@pytest.mark.parametrize("code", [22, 38, 95])
def test_a_file_system_that_cannot_exchange_is_noticed(tmp_path, monkeypatch, code):
    """Past the wrapper: the call itself fails as it does on NFS (EINVAL), in old kernels (ENOSYS), and elsewhere."""

    class Library:
        def renameat2(self, *_):
            replacing.ctypes.set_errno(code)
            return -1

    monkeypatch.setattr(replacing.ctypes, "CDLL", lambda *_, **__: Library())
    test_the_output_is_replaced_whole(tmp_path)


def between_moves(monkeypatch, moves: int, end: Callable[[], object]) -> None:
    """From now on `end` is called once so many folders have been renamed."""
    real, done = Path.rename, []

    def rename(path: Path, target: Path) -> None:
        real(path, target)
        done.append(target)
        if len(done) == moves:
            end()

    monkeypatch.setattr(Path, "rename", rename)


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("moves", "left"), [(1, "old"), (2, "new")])
def test_what_a_process_that_was_killed_between_two_moves_has_left_is_put_back(
    tmp_path, no_exchange, monkeypatch, moves, left
):
    place, new = tmp_path / "out", tmp_path / ".out-abcdefgh"
    write(place, "old")
    write(new)
    if (process := os.fork()) == 0:
        between_moves(monkeypatch, moves, lambda: os._exit(9))
        replacing.replace(new, place)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9
    assert place.exists() == (moves == 2) and ".out.baton-old" in listing(tmp_path)
    replacing.recover(place)
    assert (place / PART).read_text() == left and ".out.baton-old" not in listing(tmp_path)


@pytest.mark.parametrize(("moves", "left"), [(1, "old"), (2, "new")])
def test_a_signal_between_two_moves_leaves_the_old_or_the_new_output(tmp_path, no_exchange, monkeypatch, moves, left):
    place, new = tmp_path / "out", tmp_path / ".out-abcdefgh"
    write(place, "old")
    write(new)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        between_moves(patch, moves, interrupt)
        replacing.replace(new, place)
    assert (place / PART).read_text() == left and ".out.baton-old" not in listing(tmp_path)


def test_a_move_that_is_refused_for_good_is_not_tried_for_ever(tmp_path, no_exchange, monkeypatch):
    """CIFS refuses so to rename a folder in which somebody has a file open."""
    place, new, real = tmp_path / "out", tmp_path / ".out-abcdefgh", Path.rename
    write(place, "old")
    write(new)
    tries = []

    def rename(path: Path, target: Path) -> None:
        if path == new:
            tries.append(path)
            raise OSError(errno.ENOTEMPTY if len(tries) == 1 else errno.EACCES if len(tries) < 99 else errno.EIO, "no")
        real(path, target)

    with monkeypatch.context() as patch, pytest.raises(PermissionError):
        patch.setattr(Path, "rename", rename)
        replacing.replace(new, place)
    assert (place / PART).read_text() == "old" and len(tries) == 2  # straight, and after the old one was moved aside


def test_what_another_process_has_left_between_two_moves_is_gone_after_a_replacement(tmp_path):
    write(tmp_path / ".out.baton-old", "old")
    write(tmp_path / ".out-abcdefgh")
    replacing.replace(tmp_path / ".out-abcdefgh", tmp_path / "out")
    assert (tmp_path / "out" / PART).read_text() == "new" and ".out.baton-old" not in listing(tmp_path)


@pytest.mark.parametrize(("number", "there"), [(errno.EIO, True), (errno.EIO, False), (errno.EACCES, False)])
def test_a_move_that_fails_for_another_reason_than_what_is_there_fails(tmp_path, monkeypatch, number, there):
    place, new = tmp_path / "out", tmp_path / ".out-abcdefgh"
    write(new)
    if there:
        write(place, "old")

    def rename(path: Path, target: Path) -> None:
        raise OSError(number, "no")

    with monkeypatch.context() as patch, pytest.raises(OSError) as failure:
        patch.setattr(Path, "rename", rename)
        replacing.replace(new, place)
    assert failure.value.errno == number and (new / PART).read_text() == "new"
    assert not there or (place / PART).read_text() == "old"


def test_an_empty_folder_is_no_new_output(tmp_path):
    write(tmp_path / ".out.baton-old", "old")
    (tmp_path / "out").mkdir()
    replacing.recover(tmp_path / "out")
    assert (tmp_path / "out" / PART).read_text() == "old" and ".out.baton-old" not in listing(tmp_path)


def test_the_next_batch_infer_puts_it_back_before_it_scores(tmp_path):
    write(tmp_path / ".out.baton-old", "old")
    with pytest.raises(RuntimeError), replaced(tmp_path / "out", "tiny"):
        assert (tmp_path / "out" / PART).read_text() == "old"
        raise RuntimeError
    assert listing(tmp_path) == ["out"]


def test_a_failure_leaves_the_old_output_whole(tmp_path):
    place = tmp_path / "predictions"
    replace(place, "old")
    with pytest.raises(RuntimeError, match="half way"), replaced(place, "tiny") as aside:
        write(aside)
        raise RuntimeError("half way")
    assert (place / PART).read_text() == "old" and listing(tmp_path) == ["predictions"]
    with pytest.raises(RuntimeError), replaced(tmp_path / "new", "tiny"):
        raise RuntimeError
    assert listing(tmp_path) == ["predictions"]


def test_what_comes_while_it_is_scored_is_not_replaced(tmp_path):
    place = tmp_path / "out"
    replace(place, "old")
    with pytest.raises(BadInput, match=r"which holds notes\.txt"), replaced(place, "tiny") as aside:
        write(aside)
        (place / "notes.txt").write_text("mine")
    assert (place / PART).read_text() == "old" and (place / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("exchanges", [True, False])
def test_of_outputs_that_are_replaced_at_once_one_is_there_whole(tmp_path, monkeypatch, exchanges):
    if not exchanges:
        monkeypatch.setattr(replacing, "exchange", lambda one, other: False)
    for number in range(20):
        place, ready = tmp_path / str(number), Barrier(4)

        def one(who: int, place=place, ready=ready):
            with replaced(place, "tiny") as aside:
                write(aside, str(who))
                ready.wait()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(one, range(4)))
        assert len({file.read_text() for file in place.rglob(PART)}) == 1
    assert len(list(tmp_path.iterdir())) == 20  # nothing is left aside


def test_a_link_is_kept_and_the_folder_that_it_leads_to_replaced(config, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "predictions")
    for text in ("1", "2"):
        replace(checked(config), text)
    assert (tmp_path / "out").is_symlink() and (tmp_path / "disk" / "predictions" / PART).read_text() == "2"
    assert listing(tmp_path / "disk") == ["predictions"]


def test_group_and_mode_are_kept_and_the_umask_respected(tmp_path):
    place = tmp_path / "out"
    before = os.umask(0o027)
    try:
        replace(place)
        assert stat.S_IMODE(place.stat().st_mode) == 0o750
        place.chmod(0o2775)
        if os.geteuid() == 0:
            os.chown(place, -1, 12345)
            place.chmod(0o2775)
        group = place.stat().st_gid
        replace(place, "again")
    finally:
        os.umask(before)
    assert (stat.S_IMODE(place.stat().st_mode), place.stat().st_gid) == (0o2775, group)
    assert {path.stat().st_gid for path in place.rglob("*")} == {group}


def test_predictions_are_on_the_disk_before_they_take_their_place(tmp_path, monkeypatch):
    seen: list[str] = []
    sync, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda fd: seen.append(Path(f"/proc/self/fd/{fd}").readlink().name) or sync(fd))
    monkeypatch.setattr(Path, "rename", lambda path, to: seen.append("rename") or rename(path, to))
    with replaced(tmp_path / "out", "tiny") as aside:
        write(aside)
        seen.clear()
    assert seen.index("rename") == len(seen) - 2 and seen[-1] == tmp_path.name
    assert {PART, MARK, names.QUARANTINE_OUTPUT, aside.name} <= {*seen[:-2]} and seen.count(PART) == 2
