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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click
import yaml

from baton import names
from baton.config import loading
from baton.config import schema as configs
from baton.config.places import mounted
from baton.errors import BadInput, BatonError, escaped, explained
from baton.orchestration import warm_process
from baton.redaction import masked
from baton.runtime import interrupts, paths, processes

log = logging.getLogger("baton")


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


Load = Callable[[], configs.Config]  # raises `BadInput`
# {flag of the command line: (help, what prints, given what loads the config)}
Views = dict[str, tuple[str, Callable[[Load], None]]]
# {option of the command line: (help, what serves, given the value, the config and a step's own options)}
Servers = dict[str, tuple[str, Callable[[str, configs.Config, dict[str, str]], None]]]
# Before a step's turn: what it will need is started or imported; yields further arguments of its function.
Prepare = Callable[[configs.Config], AbstractContextManager[dict[str, Any]]]
# Before a step's run is made: why there is nothing to do, as a sentence; empty if there is something.
Idle = Callable[[configs.Config], str]


PIPELINE = ("pipeline", "the key of a scheduler's job run, in which this is a task and finds what is not given")
FORCE = ("force", "steps of a job run to run again though nothing changed, comma-separated, or all")


def step(
    name: str,
    *options: tuple[str, str],
    imports: Sequence[str] = (),
    prepare: Prepare | None = None,
    views: Views | None = None,
    idle: Idle | None = None,
    servers: Servers | None = None,
) -> Callable[[Callable[..., None]], click.Command]:
    """Turn `function(config, run, **options)` into the command of an entry point.

    Each option is (name, help). Which are optional, and what they default to, stands in MLproject
    only; on the command line `config` is not. `pipeline` is the key of a job run that a scheduler drives:
    the step's run is one of it, and what is not given is found there. `imports` are modules that the
    function imports late, and `prepare` starts what it needs: both are done before the step's turn. `idle`
    is asked before that: where it finds nothing to do, no run is made. A view is a flag of the command line alone: it
    prints something instead, without a run, and what is not given then has MLproject's default; so has it
    where one of `servers` works until it is stopped. The exit status is 0, 2 for bad input or config, 1 for
    the rest.
    """
    views, servers = views or {}, servers or {}
    prepare = prepare or (lambda config: nullcontext({}))
    idle = idle or (lambda config: "")

    def decorate(function: Callable[..., None]) -> click.Command:
        def command(config: str, overrides: str, **inputs: Any) -> None:
            asked = [view for flag, (_, view) in views.items() if inputs.pop(flag.replace("-", "_"))]
            if asked:
                sys.exit(guarded(name, lambda: asked[0](lambda: loading.load(enter_project(config), overrides))))
            serving = [partial(serve, value) for key, (_, serve) in servers.items() if (value := inputs.pop(key))]
            if serving:
                sys.exit(guarded(name, lambda: _serve(serving[0], config, overrides)))
            _leave(Work(name, function, imports, prepare, idle).execute(config, overrides, inputs))

        for flag, (text, _) in views.items():
            command = click.option(f"--{flag}", is_flag=True, help=text)(command)
        for option, (text, _) in servers.items():
            command = click.option(f"--{option}", default="", help=text)(command)
        for option, text in reversed((*options, *_common(name))):
            command = click.option(f"--{option}", required=True, help=text, callback=_plain)(command)
        overridden = "dotted overrides: train.epochs=3,tune.max_trials=4"
        command = click.option("--set", "overrides", required=True, help=overridden, callback=_plain)(command)
        command = click.option("--config", required=True, help="the pipeline's YAML file")(command)
        alone = {f"--{option}" for option in (*views, *servers)}
        return click.command(name, help=function.__doc__, cls=_command(alone))(command)

    return decorate


def _common(name: str) -> tuple[tuple[str, str], ...]:
    """The options of all entry points besides config and set; main asks the cache by itself, others in a job run."""
    return (PIPELINE, FORCE) if name in names.STEPS else (PIPELINE,)


def _plain(context: click.Context, option: click.Parameter, value: Any) -> Any:
    """An option's value; two quotes are an empty one, as MLflow logs it and as people copy it."""
    return "" if value in ("''", '""') else value


def _serve(serve: Callable[[configs.Config, dict[str, str]], None], config_path: str, overrides: str) -> None:
    file = enter_project(config_path)
    config = loading.load(file, overrides)
    _collect()  # it works for long
    serve(config, {"config": file, "set": overrides})


def _command(flags: set[str]) -> type[click.Command]:
    """A command that takes what is not given from MLproject's defaults; the config only with one of the flags."""

    class Command(click.Command):
        def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
            given = {argument.partition("=")[0] for argument in args}
            return super().parse_args(context, [*_defaults(str(self.name), bool(flags & given)), *args])

        def __call__(self, *args: Any, **given: Any) -> Any:
            try:
                return super().__call__(*args, **given)
            except SystemExit as ended:
                return _raise_in_notebook(self.name, ended)

    return Command


def _raise_in_notebook(name: str | None, ended: SystemExit) -> None:
    """End as a process does; but as a function where an entry point is called in a process that goes on.

    Databricks calls a wheel's entry point in the driver's own interpreter, where any `SystemExit` counts as a failure,
    and shows an exception's text.
    """
    if "DATABRICKS_RUNTIME_VERSION" not in os.environ:
        raise ended
    if ended.code:
        sentence = getattr(ended.code, "sentence", "") or f"{name} ended with {ended.code}: its log says why"
        raise BatonError(sentence) from None


class ExitStatus(int):
    """An exit status, and the sentence that says why."""

    sentence = ""


def _defaults(name: str, every: bool) -> list[str]:
    """The options of an entry point with MLproject's defaults; of `every` option: empty where there is none."""
    project = yaml.safe_load(paths.MLPROJECT.read_text(encoding="utf-8"))
    parameters = project["entry_points"][name]["parameters"]
    return [
        f"--{option}={entry.get('default', '')}"
        for option, entry in parameters.items()
        if every or (option != "config" and "default" in entry)
    ]


@dataclass(frozen=True)
class Work:
    """What a step does: its function, what that imports late and needs started, and when it has nothing to do."""

    name: str
    function: Callable[..., None]
    imports: Sequence[str]
    prepare: Prepare
    idle: Idle

    def execute(self, config_path: str, overrides: str, inputs: dict[str, str]) -> int:
        """Run the function inside its MLflow run; return the exit status."""
        return guarded(self.name, lambda: self._run(config_path, overrides, dict(inputs)))

    def _run(self, config_path: str, overrides: str, inputs: dict[str, str]) -> None:
        from baton.orchestration import job  # late, for --help and views need nothing of it
        from baton.tracking import runs

        key, force = inputs.pop("pipeline", ""), inputs.pop("force", "") if self.name in names.STEPS else ""
        job.check_key(key)
        file = enter_project(config_path)
        config = loading.load(file, overrides)
        if not key and not warm_process.waits():
            job.check_inputs(inputs)
        runs.reach()
        if why := self.idle(config):
            log.info("%s", why)
            return
        options = {"config": file, "set": overrides} | ({"pipeline": key} if key else {})
        mine = os.environ.pop("MLFLOW_RUN_ID", "")  # what is started ahead must not take this step's run for its own
        if not key or self.name == "main":
            self._in_a_run(config, options, inputs, mine)
        elif (task := job.begin(self.name, config, options, inputs, mine, force)) is not None:
            with runs.closed_on_failure(task.run_id):
                self._in_a_run(config, options, task.inputs, task.run_id)

    def _in_a_run(self, config: configs.Config, options: dict[str, str], inputs: dict[str, str], mine: str) -> None:
        """Call the function in its run: `mine`, the one that is handed over, or a new one."""
        from baton.tracking import runs

        with self.prepare(config) as prepared:
            for module in self.imports:
                importlib.import_module(module)
            if mine:
                os.environ["MLFLOW_RUN_ID"] = mine
            given, config = warm_process.handed_over(inputs, config)
            with runs.start(self.name, config, {**options, **given}) as run:
                _collect()
                started = time.monotonic()
                if self.name == "main" and "pipeline" in options:
                    from baton.orchestration import job

                    job.tag_main(config, run, options["pipeline"])
                self.function(config=config, run=run, **prepared, **given)
                run.metrics({names.SECONDS: time.monotonic() - started})
                if self.name != "main":
                    from baton.reporting.html import report

                    report.log_card(config, run)


def enter_project(config_path: str) -> str:
    """Make the project the working directory, which all relative paths are of; --config as it is found from there.

    A config that lies in the working directory counts before one of that name in the project. Raises `BadInput` if
    there is none.
    """
    config_path, home = mounted(config_path), paths.base()
    here, there = Path(config_path).absolute(), home / config_path
    if not here.is_file() and not there.is_file():
        where = f" in {here.parent} or {there.parent}" if here != there else ""
        raise BadInput(
            f"There is no config file of that name{where}. Give --config a YAML file. Received: {config_path}"
        )
    os.chdir(home)
    return config_path if not here.is_file() or (there.is_file() and here.samefile(there)) else str(here)


def _leave(status: int) -> NoReturn:
    """End the process that was started for this step, without taking TensorFlow apart: that takes over a second."""
    started_as = getattr(sys.modules["__main__"].__spec__, "name", "")
    if not started_as.startswith(f"{paths.STEPS}."):
        sys.exit(status)
    if not interrupts.stopped():  # else an upload, which MLflow does in threads, would still be waited for
        threading._shutdown()  # type: ignore[attr-defined]  # joins threads, as the interpreter does
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def guarded(name: str, work: Callable[[], None]) -> int:
    """Do the work; whatever goes wrong is told in one sentence. Returns the exit status."""
    printed = logging.StreamHandler()
    printed.setFormatter(_Clean(f"%(asctime)s {name}: %(message)s", "%H:%M:%S"))
    logging.basicConfig(handlers=[printed])
    logging.captureWarnings(True)  # they quote what they are about
    log.setLevel(logging.INFO)
    interrupts.listen()
    # MLflow does not pass a SIGTERM on: what it started would go on alone, and its run would stay open.
    driver = os.environ.pop(processes.DRIVER, None) or processes.launcher()
    processes.end_with(driver, lambda: os.kill(os.getpid(), signal.SIGTERM))
    gc.disable()  # MLflow's import makes very many objects, none of them garbage: looking for some takes half as long
    from baton.tracking import runs

    try:
        work()
        return 0
    except KeyboardInterrupt:
        interrupts.ignore()
        return _fail(interrupts.STOPPED, 1)
    except Exception as error:  # noqa: BLE001 - whatever it is, the last line says it in a sentence
        if (known := explained(error)) is None:
            sys.stderr.write(escaped(masked(traceback.format_exc()), keep="\n\t"))
        return _fail(runs.sentence(error), known.exit_status if known else 1)
    finally:
        _collect()


def _collect() -> None:
    """Collect garbage from now on, but not among what is there already."""
    gc.freeze()
    gc.enable()


class _Clean(logging.Formatter):
    """Log lines, and the traces below them, without the secrets and control characters that they may quote.

    A line of Baton's own stays one: what it quotes could begin another.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        return escaped(super().formatMessage(record), keep="" if record.name == log.name else "\n\t")

    def format(self, record: logging.LogRecord) -> str:
        return escaped(masked(super().format(record)), keep="\n\t")


def _fail(sentence: str, status: int) -> ExitStatus:
    sys.stdout.flush()
    print(sentence, file=sys.stderr, flush=True)
    ended = ExitStatus(status)
    ended.sentence = sentence
    return ended
