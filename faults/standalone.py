"""A standalone Spark on loopback, of a master and workers that are processes of their own, by pip's PySpark.

It shares no more with whoever starts it than a cluster would: its workers are started in a folder of their own, with
nothing of the project on their path, and know the secret by a file that only this user may read.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyspark

START_S = 300
OF_SPARK = "org.apache.spark.deploy"
REGISTERED = "Successfully registered with master"
QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # Java that starts sooner, and is not at work for long
EXECUTOR = "CoarseGrainedExecutorBackend"
# What a process on another machine would have of this one's environment.
KEPT = ("PATH", "HOME", "JAVA_HOME", "LANG", "TMPDIR")


@dataclass
class Cluster:
    """A master and `workers` workers of `cores` cores each, from `start` to `stop`; all they keep is in `folder`."""

    folder: Path
    workers: int = 2
    cores: int = 1
    memory_mb: int = 1024
    secret: str = field(default_factory=lambda: secrets.token_hex(16))
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    master: str = ""

    def __enter__(self) -> Cluster:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_settings()
        try:
            self.master = self._listening(self._start("master", f"{OF_SPARK}.master.Master", "--port", "0"))
            logs = [self._start_worker(f"worker-{number}") for number in range(self.workers)]
            for log in logs:
                self._awaited(log, REGISTERED)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def add_worker(self, name: str) -> None:
        """Start one more worker; returns once the master has it."""
        self._awaited(self._start_worker(name), REGISTERED)

    def _start_worker(self, name: str) -> Path:
        size = ["--cores", str(self.cores), "--memory", f"{self.memory_mb + 384}m", "--work-dir", f"{self.folder}/work"]
        return self._start(name, f"{OF_SPARK}.worker.Worker", "--port", "0", *size, self.master)

    def environment(self) -> dict[str, str]:
        """What a driver has of the cluster in its environment."""
        return {"SPARK_CONF_DIR": str(self.folder), "SPARK_LOCAL_IP": "127.0.0.1"}

    def config(self) -> dict[str, Any]:
        """The section `spark` of a config whose steps are to run here."""
        return {
            "master": self.master,
            "config": {
                "spark.driver.host": "127.0.0.1",
                "spark.driver.bindAddress": "127.0.0.1",
                "spark.executor.memory": f"{self.memory_mb}m",
                "spark.executor.cores": "1",
                "spark.executor.extraJavaOptions": QUICK,
            },
        }

    def executors(self) -> list[psutil.Process]:
        """The executors' Java processes, which the workers have started."""
        return [
            child
            for process in self.processes
            for child in _children(process.pid)
            if any(EXECUTOR in word for word in _command(child))
        ]

    def kill(self, executor: psutil.Process, with_worker: bool) -> None:
        """SIGKILL an executor and its Python processes, or before them its worker too, as where a machine is lost."""
        worker = next(process for process in self.processes if executor.ppid() == process.pid)
        below = _children(executor.pid)
        if with_worker:
            worker.kill()
            worker.wait()
            self.processes.remove(worker)
        for victim in (executor, *below):
            _kill(victim)

    def works(self, executor: psutil.Process) -> bool:
        """Whether a Python process of an executor's runs a task, or has run one."""
        return any("pyspark.daemon" in _command(child) for child in _children(executor.pid))

    def stop(self) -> None:
        """End all processes that this one has started, and theirs; the workers first."""
        for process in reversed(self.processes):
            below = _children(process.pid)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for child in below:
                _kill(child)
        self.processes.clear()

    def _write_settings(self) -> None:
        """What master, workers and drivers read by `SPARK_CONF_DIR`; for this user alone."""
        settings = {
            "spark.authenticate": "true",
            "spark.authenticate.secret": self.secret,
            "spark.master.rest.enabled": "false",  # it would take what anyone submits
        }
        path = self.folder / "spark-defaults.conf"
        path.touch(mode=0o600)
        path.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))

    def _start(self, name: str, class_: str, *arguments: str) -> Path:
        """Start a process of Spark's → where it logs."""
        home = Path(pyspark.__file__).parent
        elsewhere = self.folder / name
        elsewhere.mkdir()
        environment = {key: os.environ[key] for key in KEPT if key in os.environ} | {
            "SPARK_HOME": str(home),
            "SPARK_CONF_DIR": str(self.folder),
            "SPARK_LOCAL_DIRS": str(elsewhere),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": QUICK,
            "PYSPARK_PYTHON": sys.executable,
        }
        log = elsewhere / "log.txt"
        command = [str(home / "bin" / "spark-class"), class_, "--host", "127.0.0.1", "--webui-port", "0", *arguments]
        with log.open("wb") as out:
            self.processes.append(
                subprocess.Popen(
                    command, env=environment, cwd=elsewhere, stdin=subprocess.DEVNULL, stdout=out, stderr=out
                )
            )
        return log

    def _listening(self, log: Path) -> str:
        """The master's URL, once it listens."""
        line = self._awaited(log, "Starting Spark master at ")
        return line.split("Starting Spark master at ")[1].strip()

    def _awaited(self, log: Path, words: str) -> str:
        """The first line of a log with such words in it, once it is there."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.processes[-1].poll() is None:
            for line in log.read_text(errors="replace").splitlines(True):
                if words in line and line.endswith("\n"):
                    return line
            time.sleep(0.1)
        raise RuntimeError(f"Spark did not say {words!r}:\n{log.read_text(errors='replace')[-2000:]}")


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
