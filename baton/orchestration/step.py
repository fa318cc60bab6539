"""The shape that all entry points share: options in, a run around the step's function, an exit status out."""

from __future__ import annotations

import atexit
import gc
import importlib
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click
import yaml

from baton import names
from baton.config import loading
from baton.config import schema as configs
from baton.errors import BadInput, explained
from baton.orchestration import warm_process
from baton.redaction import masked
from baton.runtime import processes
from baton.runtime.paths import MLPROJECT, ROOT

log = logging.getLogger("baton")


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


Load = Callable[[], configs.Config]  # raises `BadInput`
# {flag of the command line: (help, what prints, given what loads the config)}
Views = dict[str, tuple[str, Callable[[Load], None]]]
# Before a step's turn: what it will need is started or imported; yields further arguments of its function.
Prepare = Callable[[configs.Config], AbstractContextManager[dict[str, Any]]]


def step(
    name: str,
    *options: tuple[str, str],
    imports: Sequence[str] = (),
    prepare: Prepare | None = None,
    views: Views | None = None,
) -> Callable[[Callable[..., None]], click.Command]:
    """Turn `function(config, run, **options)` into the command of an entry point.

    Each option is (name, help). Which are optional, and what they default to, stands in MLproject
    only; here all are required. `imports` are modules that the function imports late, and `prepare`
    starts what it needs: both are done before the step's turn. A view is a flag of the command line
    alone: it prints something instead, without a run, and what is not given then has MLproject's
    default. The exit status is 0, 2 for bad input or config, 1 for the rest.
    """
    views = views or {}
    prepare = prepare or (lambda config: nullcontext({}))

    def decorate(function: Callable[..., None]) -> click.Command:
        def command(config: str, overrides: str, **inputs: Any) -> None:
            asked = [view for flag, (_, view) in views.items() if inputs.pop(flag)]
            if asked:
                sys.exit(guarded(name, lambda: asked[0](lambda: loading.load(enter_project(config), overrides))))
            _leave(execute(name, function, config, overrides, inputs, imports, prepare))

        for flag, (text, _) in views.items():
            command = click.option(f"--{flag}", is_flag=True, help=text)(command)
        for option, text in reversed(options):
            command = click.option(f"--{option}", required=not warm_process.waits(), help=text)(command)
        command = click.option(
            "--set", "overrides", required=True, help="dotted overrides: train.epochs=3,tune.max_trials=4"
        )(command)
        command = click.option("--config", required=True, help="the pipeline's YAML file")(command)
        return click.command(name, help=function.__doc__, cls=_command({f"--{flag}" for flag in views}))(command)

    return decorate


def _command(flags: set[str]) -> type[click.Command]:
    """A command that takes what is not given from MLproject's defaults, if one of the flags is given."""

    class Command(click.Command):
        def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
            return super().parse_args(context, [*_defaults(str(self.name)), *args] if flags & set(args) else args)

    return Command


def _defaults(name: str) -> list[str]:
    """The options of an entry point with MLproject's defaults; empty where there is none."""
    project = yaml.safe_load(MLPROJECT.read_text(encoding="utf-8"))
    parameters = project["entry_points"][name]["parameters"]
    return [f"--{option}={entry.get('default', '')}" for option, entry in parameters.items()]


def execute(
    name: str,
    function: Callable[..., None],
    config_path: str,
    overrides: str,
    inputs: dict[str, str],
    imports: Sequence[str],
    prepare: Prepare,
) -> int:
    """Run a step's function inside its MLflow run; return the exit status."""

    def run_it() -> None:
        from baton.tracking import runs

        file = enter_project(config_path)
        config = loading.load(file, overrides)
        runs.reach()
        mine = os.environ.pop("MLFLOW_RUN_ID", "")  # what is started ahead must not take this step's run for its own
        with prepare(config) as prepared:
            for module in imports:
                importlib.import_module(module)
            if mine:
                os.environ["MLFLOW_RUN_ID"] = mine
            given, config = warm_process.handed_over(inputs, config)
            with runs.start(name, config, {"config": file, "set": overrides, **given}) as run:
                _collect()
                started = time.monotonic()
                function(config=config, run=run, **prepared, **given)
                run.metrics({names.SECONDS: time.monotonic() - started})
                if name != "main":
                    from baton.reporting.html import report

                    report.log_card(config, run)

    return guarded(name, run_it)


def enter_project(config_path: str) -> str:
    """Make the project root the working directory, which all relative paths are of; --config as it is found from there.

    A config that lies in the working directory counts before one of that name in the project. Raises `BadInput` if
    there is none.
    """
    here, there = Path(config_path).absolute(), ROOT / config_path
    if not here.is_file() and not there.is_file():
        where = f" in {here.parent} or {there.parent}" if here != there else ""
        raise BadInput(
            f"There is no config file of that name{where}. Give --config a YAML file. Received: {config_path}"
        )
    os.chdir(ROOT)
    return config_path if not here.is_file() or (there.is_file() and here.samefile(there)) else str(here)


def _leave(status: int) -> NoReturn:
    """End the process that was started for this step, without taking TensorFlow apart: that takes over a second."""
    started_as = getattr(sys.modules["__main__"].__spec__, "name", "")
    if not started_as.startswith("steps."):
        sys.exit(status)
    threading._shutdown()  # type: ignore[attr-defined]  # joins threads, as the interpreter does
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def guarded(name: str, work: Callable[[], None]) -> int:
    """Do the work; whatever goes wrong is told in one sentence. Returns the exit status."""
    printed = logging.StreamHandler()
    printed.setFormatter(_Masked(f"%(asctime)s {name}: %(message)s", "%H:%M:%S"))
    logging.basicConfig(handlers=[printed])
    log.setLevel(logging.INFO)
    for number in _stopping():
        signal.signal(number, _raise_interrupt)
    # MLflow does not pass a SIGTERM on: what it started would go on alone, and its run would stay open.
    driver = os.environ.pop(processes.DRIVER, None) or processes.launcher()
    processes.end_with(driver, lambda: os.kill(os.getpid(), signal.SIGTERM))
    gc.disable()  # MLflow's import makes very many objects, none of them garbage: looking for some takes half as long
    from baton.tracking import runs

    try:
        work()
        return 0
    except KeyboardInterrupt:
        return _fail("Stopped by a signal.", 1)
    except Exception as error:  # noqa: BLE001 - whatever it is, the last line says it in a sentence
        if (known := explained(error)) is None:
            sys.stderr.write(masked(traceback.format_exc()))
        return _fail(runs.sentence(error), known.exit_status if known else 1)
    finally:
        _collect()


def _collect() -> None:
    """Collect garbage from now on, but not among what is there already."""
    gc.freeze()
    gc.enable()


class _Masked(logging.Formatter):
    """Log lines, and the traces below them, without the secrets that they may quote."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def _fail(sentence: str, status: int) -> int:
    sys.stdout.flush()
    print(sentence, file=sys.stderr, flush=True)
    return status


def _stopping() -> list[signal.Signals]:
    """The signals that stop a step: Ctrl-C, `kill`, and the end of its terminal, but for what nohup has started."""
    hang_up = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hang_up]


def _raise_interrupt(signum: int, frame: FrameType | None) -> None:
    """The first signal stops the step, more of them must not stop the stopping; but not amid a transaction.

    MLflow's store rolls back for an `Exception` only: left in between, SQLite stays locked against
    this very process, which could not close its run.
    """
    if _in_store(frame):
        later = threading.Timer(0.05, os.kill, (os.getpid(), signum))
        later.daemon = True
        later.start()
        return
    for number in _stopping():
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _in_store(frame: FrameType | None) -> bool:
    """Whether a call of MLflow's own stores, which write by SQLAlchemy, is under way."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(("sqlalchemy.", "mlflow.store.")):
            return True
        frame = frame.f_back
    return False
