"""Where a process commits, counted from outside the code; and the process killed there, if so asked.

A commit point is an operation that changes what others can read: a transaction of MLflow's stores
that writes, a file copied to where artifacts lie, a rename or an exchange of folders, a line appended,
a file or folder removed. A process is killed just before one. So the state after each is met before
the next one, and the state after the last one at the end of the process.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

END = "the end of the process"
# What differs from run to run: IDs of runs and models, keys of checkpoints, names of temporary folders.
CHANGING = re.compile(r"(m-)?[0-9a-f]{32}|(?<=-)[a-z0-9_]{8}(?=/|$)|(?<=/)tmp[a-z0-9_]{8}(?=/)")
KEPT_ASIDE = re.compile(r"artifacts/\*/artifacts/|artifacts/models/\*/artifacts/")


@dataclass(frozen=True)
class Point:
    """The `nth` time (from 1) that a process of that role comes to an operation; and who is killed then.

    With `driver` it is the process that started this one: a worker's step, a step's main.
    """

    role: str
    name: str
    nth: int = 1
    driver: bool = False

    def __str__(self) -> str:
        times = f" (time {self.nth})" if self.nth > 1 else ""
        return f"{self.role}: {'its driver, at ' if self.driver else ''}{self.name}{times}"


@dataclass(frozen=True)
class Order:
    """What the watched processes are told: where the state lies, where to write what is met, whom to kill."""

    home: str
    record: str
    kill: Point | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def parsed(text: str) -> Order:
        tree = json.loads(text)
        return Order(tree["home"], tree["record"], Point(**tree["kill"]) if tree["kill"] else None)


class Watch:
    """Meets a process's commit points one after another."""

    def __init__(self, role: str, order: Order):
        self.role, self.order = role, order
        self.driver = int(os.environ.get("BATON_DRIVER", "0").partition(":")[0])
        self.seen: Counter[str] = Counter()
        self.lock = threading.Lock()

    def meet(self, name: str) -> None:
        with self.lock:
            self.seen[name] += 1
            self._write(name)
            if self.order.kill in (me := self._here(name, False), self._here(name, True)):
                os.kill(os.getpid() if self.order.kill == me else self.driver, signal.SIGKILL)
                time.sleep(3)  # whoever lost its driver notices within a second or so

    def _here(self, name: str, driver: bool) -> Point:
        return Point(self.role, name, self.seen[name], driver)

    def _write(self, name: str) -> None:
        descriptor = os.open(self.order.record, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, (json.dumps([self.role, name]) + "\n").encode())
        os.close(descriptor)

    def place(self, path: Any) -> str | None:
        """A path as a reader knows it; None if it does not lie where the state lies."""
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        full = str(Path(os.fsdecode(path)).absolute())
        if not full.startswith(self.order.home + "/"):
            return None
        return KEPT_ASIDE.sub("artifact ", CHANGING.sub("*", full.removeprefix(self.order.home + "/")))


def watch(role: str, order: str) -> Watch:
    """Watch this process from now on, as an `Order` in JSON says."""
    found = Watch(role, Order.parsed(order))
    sys.addaudithook(lambda event, arguments: _audit(found, event, arguments))
    if "sqlalchemy" in sys.modules:
        _listen(found)
    return found


def _audit(met: Watch, event: str, arguments: tuple) -> None:
    """Python's audit events → commit points: each is raised just before the operation."""
    if event == "ctypes.dlsym" and arguments[1] == "renameat2":
        met.meet("exchange the output with the new one")
    elif event in ("os.rename", "shutil.copyfile") and (target := met.place(arguments[1])):
        met.meet(f"{'rename to' if event == 'os.rename' else 'copy'} {_grouped(target)}")
    elif event in ("shutil.rmtree", "os.remove") and (target := met.place(arguments[0])):
        if not target.endswith(".lock"):  # which tells nothing once nobody holds it
            met.meet(f"remove {target}")
    elif event == "open" and str(arguments[1]).startswith("a") and (target := met.place(arguments[0])):
        met.meet(f"append to {target}")


def _grouped(target: str) -> str:
    """Files of a model's or a report's folder go by the folder's name."""
    parts = target.split("/")
    return target if len(parts) < 3 or not target.startswith("artifact ") else f"{'/'.join(parts[:2])}/…"


def _listen(met: Watch) -> None:
    """Every transaction that writes is a commit point, just before it is committed."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE"):
            connection.info["writes"] = True

    def commit(connection: Any) -> None:
        if connection.info.pop("writes", False):
            met.meet(_transaction())

    event.listen(Engine, "before_cursor_execute", note)
    event.listen(Engine, "commit", commit)
    event.listen(Engine, "rollback", lambda connection: connection.info.pop("writes", None))


def _transaction() -> str:
    """The method of MLflow's store that is about to commit, and of what, from the stack."""
    frame = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        store = type(frame.f_locals.get("self")).__name__
        if store == "SqlAlchemyStore" and not frame.f_code.co_name.startswith("_"):
            return f"{frame.f_code.co_name.replace('_', ' ')} {_described(frame.f_locals)}".strip()
    return "another transaction"


def _described(values: dict[str, Any]) -> str:
    """What a store's method is about, from its arguments."""
    from mlflow.entities import RunStatus

    if values.get("run_status") is not None:
        return RunStatus.to_string(values["run_status"])
    if "alias" in values:
        return str(values["alias"])
    if hasattr(values.get("tag"), "key"):
        return re.sub(r"\d{6}\.\w+", "*", values["tag"].key)
    for kind in ("metrics", "params", "tags"):
        if values.get(kind):
            return _listed(entry.key for entry in values[kind])
    return str(values["key"]) if isinstance(values.get("key"), str) else ""


def _listed(keys: Iterable[str]) -> str:
    names = sorted(set(keys))
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def chosen(record: Path, role: str) -> list[Point]:
    """A recording → the points of a role in order; of repeated ones the first, one in the middle, the last."""
    met = [name for who, name in map(json.loads, record.read_text().splitlines()) if who == role]
    often, seen, found = Counter(met), Counter[str](), []
    for name in met:
        seen[name] += 1
        if seen[name] in (1, (often[name] + 1) // 2, often[name]):
            found.append(Point(role, name, seen[name]))
    return found
