"""The shape that all entry points share: options in, a run around the step's function, an exit status out."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from baton import config as configs
from baton.errors import explained

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

log = logging.getLogger("baton")


def step(name: str, *options: tuple[str, str]) -> Callable[[Callable[..., None]], click.Command]:
    """Turn `function(config, run, **options)` into the command of an entry point.

    Each option is (name, help). Which are optional, and what they default to, stands in MLproject
    only; here all are required. The exit status is 0, 2 for bad input or config, 1 for the rest.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        def command(config: str, overrides: str, **inputs: str) -> None:
            sys.exit(execute(name, function, config, overrides, inputs))

        for option, text in reversed(options):
            command = click.option(f"--{option}", required=True, help=text)(command)
        command = click.option(
            "--set", "overrides", required=True, help="dotted overrides: train.epochs=3,tune.max_trials=4"
        )(command)
        command = click.option("--config", required=True, help="the pipeline's YAML file")(command)
        return click.command(name, help=function.__doc__)(command)

    return decorate


def execute(name: str, function: Callable[..., None], config_path: str, overrides: str, inputs: dict[str, str]) -> int:
    """Run a step's function inside its MLflow run; return the exit status."""
    logging.basicConfig(format=f"%(asctime)s {name}: %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    log.setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, _raise_interrupt)
    from baton import runs

    try:
        config = configs.load(config_path, overrides)
        with runs.start(name, config, {"config": config_path, "set": overrides, **inputs}) as run:
            function(config=config, run=run, **inputs)
        return 0
    except KeyboardInterrupt:
        return _fail("Stopped by a signal.", 1)
    except Exception as error:  # noqa: BLE001 - whatever it is, the last line says it in a sentence
        if (known := explained(error)) is None:
            traceback.print_exc()
        return _fail(runs.sentence(error), known.exit_status if known else 1)


def _fail(sentence: str, status: int) -> int:
    sys.stdout.flush()
    print(sentence, file=sys.stderr, flush=True)
    return status


def _raise_interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt
