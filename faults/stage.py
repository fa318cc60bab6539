"""A small project to run main on again and again: its folder, snapshots of it, and quick process starts.

Importing TensorFlow and MLflow takes longer than any of the steps does here. So main and the steps
are forked from a process that has imported everything and done nothing (multiprocessing's forkserver).
Each is a process of its own all the same, and Horovod's workers start as they always do.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
import types
from dataclasses import dataclass
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import yaml

from baton import names
from faults import points
from faults.compare import NAME

ROOT = Path(__file__).parent.parent
TOKEN, LOG, REAL_WORKERS = "BATON_FAULTS", "BATON_FAULTS_LOG", "BATON_FAULTS_HOROVODRUN"
WORKER = "distributed_train's worker"
ROLES = {"baton.training.horovod_worker": WORKER}
CONTEXT = get_context("forkserver")
PRELOADED = (
    "mlflow", "mlflow.tensorflow", "mlflow.pyfunc", "mlflow.store.db.utils", "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store", "sqlalchemy.dialects.sqlite", "git", "hyperopt", "pyarrow.dataset",
    "petastorm.reader", "tensorboard.summary", "matplotlib.pyplot", "h5py",
    "baton.orchestration.pipeline", "baton.reporting.console", "baton.registry.candidates", "baton.registry.evidence",
    "baton.tuning.hyperopt", "baton.tuning.workers", "baton.data.ingestion.local", "baton.serving.scoring",
    "baton.registry.champions", "baton.registry.copies", "baton.orchestration.batch_scoring",
    "baton.training.distributed", "baton.reporting.html.pages",
    "faults.state", "faults.frozen",
)  # fmt: skip
GONE_S = 25  # how long after a kill all other processes may take to end


@dataclass
class Ended:
    """How a main, or a reconcile, ended: its exit status (negative: the signal), what it said, and who outlived it."""

    status: int | None
    log: str
    seconds: float
    left: list[str]


class Stage:
    """A project in `folder`: sources, config, tracking store, warehouse and output, at fixed places."""

    def __init__(self, folder: Path, project: ModuleType, real_workers: bool = False):
        """`project` is `faults.tables` or `faults.pictures`: a config, what yesterday's differed in, and sources."""
        self.folder, self.home, self.project, self.real_workers = folder, folder / "home", project, real_workers
        self.record, self.log = folder / "record.jsonl", folder / "log.txt"
        self.home.mkdir(parents=True)
        self.write_sources(300, seed=1)
        config = {
            "name": NAME,
            **project.CONFIG,
            "distributed_train": {"workers": 2 if real_workers else 1},
            "warehouse": str(self.home / "warehouse"),
        }
        config["batch_infer"] = {**config["batch_infer"], "output": str(self.home / "predictions")}
        for section, key in (("data", "source"), ("batch_infer", "source"), ("model", "backbone")):
            if key in config[section]:
                config[section] = {**config[section], key: str(self.home / config[section][key])}
        (self.home / "faults.yaml").write_text(yaml.safe_dump(config))
        CONTEXT.set_forkserver_preload(list(PRELOADED))
        self.ask("prepare", str(self.home))

    def write_sources(self, rows: int, seed: int) -> None:
        """What is learnt from, some rows of it unusable, and what is scored."""
        self.project.write(self.home, rows, seed)

    def save(self, name: str) -> None:
        """Keep the state as it is now."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        shutil.copytree(self.home, self.folder / name, symlinks=True)

    def restore(self, name: str) -> None:
        """Bring a kept state back."""
        shutil.rmtree(self.home)
        shutil.copytree(self.folder / name, self.home, symlinks=True)

    def main(self, until: str, overrides: str = "", kill: points.Point | None = None) -> Ended:
        """Run main on the state until the step `until` is through, and wait for every process to end."""
        return self._run("main", [f"--set={overrides}", "--force="], kill, until)

    def reconcile(self, kill: points.Point | None = None) -> Ended:
        """Run reconcile on the state, and wait for every process to end."""
        return self._run("reconcile", ["--set="], kill)

    def _run(self, step: str, options: list[str], kill: points.Point | None, until: str = "") -> Ended:
        started = time.monotonic()
        self.record.write_text("")
        self.log.write_text("")
        options = [f"--config={self.home / 'faults.yaml'}", *options]
        environment = self.environment(kill)
        process = CONTEXT.Process(target=become, args=(f"steps.{step}", options, environment, str(self.log), until))
        process.start()
        process.join()
        left = outlived()
        return Ended(process.exitcode, self.log.read_text(errors="replace"), time.monotonic() - started, left)

    def ask(self, question: str, *arguments: str) -> Any:
        """The answer of a function of `faults.state`, in a process that sees the tracking store as it is now."""
        reader, writer = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=_answer, args=(writer, self.environment(None), question, arguments))
        process.start()
        writer.close()
        try:
            return reader.recv()
        except EOFError:
            raise RuntimeError(f"{question} ended without an answer") from None
        finally:
            process.join()

    def environment(self, kill: points.Point | None) -> dict[str, str]:
        path = os.pathsep.join(str(p) for p in (ROOT / "faults" / "outside", ROOT))
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        return {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": path,
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.home}/mlflow.db",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
            LOG: str(self.log),
            **({REAL_WORKERS: "yes"} if self.real_workers else {}),
            TOKEN: points.Order(str(self.home), str(self.record), kill).to_json(),
        }


class Forked:
    """Stands for `subprocess.Popen` of `python -m <module> <arguments>`: forked instead of started anew."""

    def __init__(self, command: list[str], env: dict[str, str], stderr: int | None = None, **_: Any):
        at = max(at for at, word in enumerate(command) if word == "-m")  # behind horovodrun's own
        (heard, tell), (asked, ask) = CONTEXT.Pipe(duplex=False), CONTEXT.Pipe(duplex=False)
        told = tell if stderr else env[LOG]
        self.process = CONTEXT.Process(target=become, args=(command[at + 1], command[at + 2 :], env, told, "", asked))
        self.process.start()
        self.stderr = os.fdopen(os.dup(heard.fileno()), errors="replace")
        self.stdin = os.fdopen(os.dup(ask.fileno()), "w")
        for end in (heard, tell, asked, ask):
            end.close()
        self.pid = self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int | None:
        self.process.join()
        return self.process.exitcode

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *error: Any) -> None:
        self.wait()


class Enough(Exception):
    """Ends main when the step that it was run for is through."""


def become(
    module: str,
    arguments: list[str],
    environment: dict[str, str],
    order: str | Connection,
    until: str = "",
    asked: Connection | None = None,
) -> None:
    """Turn this forked process into `python -m <module> <arguments>`, watched.

    What it says goes to `told`, what it is sent comes from `asked`.
    """
    os.chdir(ROOT)
    _environ(environment)
    _speak_to(order)
    faulthandler.register(signal.SIGUSR1, Path(environment[LOG]).open("a"))  # noqa: SIM115 - not to be closed
    if asked:
        os.dup2(asked.fileno(), 0)
        asked.close()
        sys.stdin = os.fdopen(0)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    sys.argv = [module, *arguments]
    met = points.watch(ROLES.get(module, module.removeprefix("steps.")), environment[TOKEN])
    vars(forkserver._forkserver)["ensure_running"] = lambda: None  # type: ignore[attr-defined]  # one for all
    _fork_instead(real_workers=REAL_WORKERS in environment)
    if until:
        _stop_after(until)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        met.meet(points.END)


def _speak_to(order: str | Connection) -> None:
    """Standard output and error of this process into a file or a pipe."""
    descriptor = os.open(order, os.O_WRONLY | os.O_APPEND) if isinstance(order, str) else order.fileno()
    for number in (1, 2):
        os.dup2(descriptor, number)


def _fork_instead(real_workers: bool) -> None:
    """What this process starts is forked too: steps, tune's workers and, unless they shall be real, Horovod's."""
    from baton.orchestration import warm_process
    from baton.training import horovod
    from baton.tuning import workers

    forking: Any = types.SimpleNamespace(Popen=Forked, PIPE=subprocess.PIPE, DEVNULL=subprocess.DEVNULL)
    warm_process.subprocess = forking
    workers.get_context = lambda _: CONTEXT  # type: ignore[assignment]
    if not real_workers:
        horovod.subprocess = forking


def _stop_after(until: str) -> None:
    """main ends with `Enough` when it comes to the step behind `until`."""
    from baton.orchestration import pipeline

    run = pipeline.Pipeline.run

    def stopping(self: Any, step: str, **inputs: str) -> str:
        if names.STEPS.index(step) > names.STEPS.index(until):
            raise Enough(f"{until} is through")
        return run(self, step, **inputs)

    pipeline.Pipeline.run = stopping  # type: ignore[method-assign]


def _answer(writer: Connection, environment: dict[str, str], question: str, arguments: tuple[str, ...]) -> None:
    from faults import state

    _environ(environment)
    writer.send(getattr(state, question)(*arguments))


def _environ(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    logging.getLogger().handlers.clear()


def outlived() -> list[str]:
    """Wait until all that was forked or started has ended; the command lines of what has not."""
    deadline = time.monotonic() + GONE_S
    while (found := _running()) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGUSR1)  # it tells where it is, in the log
            time.sleep(0.5)
            process.kill()
    return [" ".join(process.info["cmdline"])[:200] for process in found]


def _running() -> list[psutil.Process]:
    """Processes that bear our mark in their environment, and children of the process that forks."""
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    found = []
    for process in psutil.process_iter(["pid", "ppid", "cmdline", "status"]):
        if process.info["status"] == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
            continue
        if process.info["ppid"] == server or TOKEN in _environment(process):
            found.append(process)
    return found


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}
