"""A stand-in for Databricks' jobs: the bundle's own files in, its tasks run in order with what each is given there.

It reads databricks.yml, resolves a target with its variables, checks the graph, the entry points and the libraries,
and runs the tasks from the unpacked wheel, far from the checkout. `{{…}}` is replaced as there: what is unknown in a
known namespace is refused, and anything else stays text. What it cannot show is listed in docs/how-to/DATABRICKS.md.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
VARIABLE = re.compile(r"\$\{([\w.]+)\}")
REFERENCE = re.compile(r"\{\{\s*([\w.]+)\s*\}\}")
NAMESPACES = ("job", "task", "tasks", "workspace", "backfill")
HOST = Path(__file__).with_name("databricks_host.py")


@dataclass(frozen=True)
class Workspace:
    """Where the stand-in keeps what lies in a workspace: below `home` the volumes, the bundle's files and the wheel."""

    home: Path
    registry: str = ""  # a registry's URI; the tracking store's without one

    @property
    def files(self) -> Path:
        return self.home / "Workspace" / "files"

    @property
    def site(self) -> Path:
        return self.home / "site"

    def mounted(self, text: str) -> str:
        """A text in which a volume's paths are those of this machine."""
        return text.replace("/Volumes/", f"{self.home}/Volumes/")


class Bundle:
    """databricks.yml and what it includes, for one target."""

    def __init__(self, target: str, workspace: Workspace, **given: str):
        self.tree = yaml.safe_load((ROOT / "databricks.yml").read_text())
        self.own = self.tree["targets"][target]
        self.workspace = workspace
        values = {name: entry.get("default") for name, entry in self.tree["variables"].items()}
        chosen = self.own.get("variables", {}) | given
        if unknown := chosen.keys() - values.keys():
            raise ValueError(f"no such variables: {sorted(unknown)}")
        self.values = {f"var.{name}": value for name, value in (values | chosen).items()} | {
            "bundle.name": self.tree["bundle"]["name"],
            "bundle.target": target,
            "workspace.file_path": str(workspace.files),
            "workspace.current_user.userName": "somebody",
        }
        resources = [path for pattern in self.tree["include"] for path in sorted(ROOT.glob(pattern))]
        self.jobs = {}
        for path in resources:
            for name, job in yaml.safe_load(path.read_text())["resources"]["jobs"].items():
                self.jobs[name] = self.resolved(job)

    def resolved(self, value: Any) -> Any:
        """A value of the bundle with all `${…}` replaced; raises `KeyError` for what there is not."""
        if isinstance(value, dict):
            return {key: self.resolved(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.resolved(each) for each in value]
        if not isinstance(value, str):
            return value
        while match := VARIABLE.search(value):
            replacement = self.values[match[1]]
            if replacement is None:
                raise KeyError(f"{match[1]} has no default and was not given")
            if match[0] == value and not isinstance(replacement, str):
                return replacement
            value = value.replace(match[0], str(replacement))
        return value

    def run_as(self) -> Any:
        return self.resolved(self.own.get("run_as"))


def check(job: dict[str, Any], wheel: Path) -> None:
    """Raise `ValueError` for what Databricks would refuse, or what would fail at the start of a task."""
    keys = [task["task_key"] for task in job["tasks"]]
    clusters = {cluster["job_cluster_key"] for cluster in job.get("job_clusters", ())}
    with zipfile.ZipFile(wheel) as archive:
        text = next(archive.read(n).decode() for n in archive.namelist() if n.endswith("entry_points.txt"))
    points = {line.partition(" = ")[0] for line in text.splitlines()}
    faults = [f"{key} twice" for key in {key for key in keys if keys.count(key) > 1}]
    for task in job["tasks"]:
        key, point = task["task_key"], task["python_wheel_task"]["entry_point"]
        faults += [f"{key} depends on {need}" for need in _needs(task) if need not in keys]
        if point not in points:
            faults.append(f"{key}: no entry point {point}")
        if "new_cluster" not in task and task.get("job_cluster_key") not in clusters:
            faults.append(f"{key}: no cluster {task.get('job_cluster_key')}")
        own = [lib["whl"] for lib in task["libraries"] if "whl" in lib and not lib["whl"].startswith("/")]
        if not any(fnmatch(wheel.name, Path(name).name) for name in own):
            faults.append(f"{key}: not installed by {own}")
    if faults:
        raise ValueError("; ".join(faults))
    tuple(TopologicalSorter({task["task_key"]: _needs(task) for task in job["tasks"]}).static_order())


def _needs(task: dict[str, Any]) -> list[str]:
    return [each["task_key"] for each in task.get("depends_on", ())]


def replaced(text: str, values: dict[str, str]) -> str:
    """A task's parameter with the `{{…}}` that Databricks knows replaced."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in values:
            return values[name]
        if name.partition(".")[0] in NAMESPACES:
            raise ValueError(f"{match[0]} is no reference of the namespace")
        return match[0]

    return REFERENCE.sub(value, text)


@dataclass
class JobRun:
    """A run of a job: the tasks' results, and what the last attempt of each printed."""

    job: dict[str, Any]
    run_id: str
    parameters: dict[str, str]
    results: dict[str, str] = field(default_factory=dict)  # success, failed, upstream_failed
    printed: dict[str, str] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        """By the tasks that no other depends on, as there."""
        needed = {need for task in self.job["tasks"] for need in _needs(task)}
        return all(result == "success" for key, result in self.results.items() if key not in needed)

    def last_line(self, key: str) -> str:
        return self.printed[key].strip().splitlines()[-1]


class Jobs:
    """Runs jobs with the wheel; `host` is one process that has imported it, and forks for each task."""

    def __init__(self, workspace: Workspace, wheel: Path, forks: bool = True):
        self.workspace = workspace
        zipfile.ZipFile(wheel).extractall(workspace.site)
        (workspace.home / "run").mkdir()
        store = f"sqlite:///{workspace.home}/mlflow.db"
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PYTEST"))},
            "PYTHONPATH": str(workspace.site),
            "STAND_IN": str(Path(__file__).parent),
            "DATABRICKS_RUNTIME_VERSION": "17.3",
            "MLFLOW_TRACKING_URI": store,
            "MLFLOW_REGISTRY_URI": workspace.registry or store,
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        self.host = self._start("--forks") if forks else None

    def _start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(HOST), *words],
            cwd=self.workspace.home / "run", env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, **more,
        )  # fmt: skip

    def close(self) -> None:
        if self.host is not None:
            self.host.stdin.close()
            self.host.wait(60)

    def run(
        self,
        job: dict[str, Any],
        run_id: str,
        before: Callable[[str, int], None] = lambda key, attempt: None,
        kill: str = "",
        repair: JobRun | None = None,
        **parameters: str,
    ) -> JobRun:
        """Run a job to its end, or repair a run of it: what did not succeed, and all that depends on that.

        `before` is called before each attempt of a task; `kill` is a task that is killed once it works, each time.
        """
        defaults = {each["name"]: each["default"] for each in job.get("parameters", ())}
        run = repair or JobRun(job, run_id, defaults | parameters)
        tasks = {task["task_key"]: task for task in job["tasks"]}
        again: set[str] = set()
        for key in TopologicalSorter({key: _needs(task) for key, task in tasks.items()}).static_order():
            needs = _needs(tasks[key])
            if run.results.get(key) == "success" and not again & set(needs):
                continue
            again.add(key)
            all_done = tasks[key].get("run_if") == "ALL_DONE"
            if not all_done and any(run.results[need] != "success" for need in needs):
                run.results[key] = "upstream_failed"
                continue
            for _ in range(1 + tasks[key].get("max_retries", 0)):
                run.attempts[key] = run.attempts.get(key, 0) + 1
                before(key, run.attempts[key])
                status, run.printed[key] = self._task(tasks[key], run, key == kill)
                run.results[key] = "failed" if status else "success"
                if not status or key == kill:  # a task that is cancelled is not tried again
                    break
        return run

    def _task(self, task: dict[str, Any], run: JobRun, kill: bool) -> tuple[int, str]:
        """Run one task → its exit status and what it printed."""
        values = {"job.run_id": run.run_id, "task.name": task["task_key"], "job.name": run.job["name"]}
        values |= {f"job.parameters.{name}": value for name, value in run.parameters.items()}
        wheel_task = task["python_wheel_task"]
        words = [self.workspace.mounted(replaced(text, values)) for text in wheel_task["parameters"]]
        log = self.workspace.home / f"{run.run_id}-{task['task_key']}-{run.attempts[task['task_key']]}.log"
        point = (wheel_task["package_name"], wheel_task["entry_point"])
        command = "\0".join((str(log), "kill" if kill else "", *point, *words))
        if self.host is None:
            process = self._start("--once")
            process.communicate(command)
            return process.returncode, log.read_text()
        self.host.stdin.write(command + "\n")
        self.host.stdin.flush()
        return int(self.host.stdout.readline()), log.read_text()
