"""Who a process is, also for one that cannot see it: a container with PIDs of its own and this machine's name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from baton import names
from baton.runtime import processes
from baton.tracking import runs

ROOT = Path(__file__).parents[2]
CONTAINER = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
SAYS_WHO = "import sys\nfrom baton.runtime import processes\nprint(processes.me(), flush=True)\nsys.stdin.read()"


def run_of(who: str) -> SimpleNamespace:
    """An open MLflow run of a process on a host of this name."""
    tags = {names.TAG_HOST: os.uname().nodename, names.TAG_PROCESS: who}
    return SimpleNamespace(info=SimpleNamespace(status="RUNNING"), data=SimpleNamespace(tags=tags))


def in_a_container() -> subprocess.Popen:
    if shutil.which("unshare") is None or subprocess.run([*CONTAINER, "true"], capture_output=True).returncode:
        pytest.skip("no PID namespace can be made here")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([*CONTAINER, sys.executable, "-c", SAYS_WHO], cwd=ROOT, text=True, **pipes)


def test_a_process_of_another_container_does_not_count_as_dead():
    with in_a_container() as process:
        who = process.stdout.readline().strip()
        assert who.startswith("1:"), "it is the first of its own namespace"
        assert not processes.alive(who) and not processes.ended(who)
        assert runs.is_working(run_of(who))
        process.stdin.close()


def test_without_one_what_was_written_before_counts_as_it_did():
    child = subprocess.Popen(["sleep", "600"])
    pid, start, boot, namespace = processes.identity(child.pid).split(":")
    earlier, other = f"{pid}:{start}:{boot}", f"{pid}:{start}:{boot}:1{namespace}"
    assert processes.alive(earlier) and runs.is_working(run_of(earlier))
    assert not processes.alive(other), "the same number in another namespace is another process"
    child.kill()
    child.wait()
    assert processes.ended(earlier) and not runs.is_working(run_of(earlier))
    assert not processes.ended(other) and runs.is_working(run_of(other))
