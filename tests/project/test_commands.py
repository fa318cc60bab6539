"""Every command that Baton prints, and every one of docs/reference/ENTRY_POINTS.md, is one that runs."""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import mlflow.cli
import pytest
from click.testing import CliRunner
from mlflow.exceptions import ExecutionException
from mlflow.projects._project_spec import load_project

ROOT = Path(__file__).parents[2]
QUOTED = re.compile(r"`((?:make|mlflow|python|git|pip|uv) [^`]*)`")
# `make` is a word, too: here it is a command if a target of the Makefile follows.
TARGETS = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
MAKE = re.compile(rf"(?<![\w`])(make (?:{'|'.join(TARGETS)})(?: [A-Z]+=\S+)?)\b")


def printed(file: Path) -> Iterator[str]:
    """The texts of a module that are no docstrings, each whole; what is put in stands as 1."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "1" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (inner | documents):
            yield node.value


def commands() -> dict[str, str]:
    """{command: where it is printed}; the report's and gc's own are tested with them."""
    files = [path for room in ("baton", "steps") for path in (ROOT / room).rglob("*.py")]
    texts = [(path, text) for path in files for text in printed(path)]
    texts += [(path, path.read_text(encoding="utf-8")) for path in (ROOT / "baton").rglob("*.j2")]
    found = ((where, text, pattern) for where, text in texts for pattern in (QUOTED, MAKE))
    return {
        command: str(where.relative_to(ROOT)) for where, text, pattern in found for command in pattern.findall(text)
    }


def refusal(command: str) -> str | None:
    """Why a command would not be taken, or None; nothing is done by it."""
    words = shlex.split(command.replace("...", "1"))
    if words[0] == "make":
        done = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True)
        return done.stderr if done.returncode else None
    if words[:2] == ["mlflow", "run"]:
        return _refusal_of_entry_point(words)
    if words[0] == "mlflow":
        done = CliRunner().invoke(mlflow.cli.cli, [*words[1:], "--help"])
        return done.output if done.exit_code else None
    assert words[:2] == ["python", "-m"], command
    module = __import__(words[2], fromlist=["x"])
    step = getattr(module, words[2].removeprefix("steps."))
    return _refusal_of(step, words[3:])


def _refusal_of(step, arguments: list[str]) -> str | None:
    try:
        step.make_context("step", arguments)
    except Exception as error:  # noqa: BLE001 - click's, whatever it is
        return repr(error)
    return None


def _refusal_of_entry_point(words: list[str]) -> str | None:
    given = dict(word.split("=", 1) for before, word in zip(words, words[1:], strict=False) if before == "-P")
    entry = load_project(str(ROOT)).get_entry_point(words[words.index("-e") + 1])
    try:
        return refusal(entry.compute_command(given, None))
    except ExecutionException as error:
        return str(error)


def test_there_are_commands_and_a_wrong_one_is_noticed():
    assert {"make run", "mlflow gc", "mlflow experiments restore --experiment-id=1"} <= commands().keys()
    for wrong in (
        "make rum",
        "mlflow experiments restore --number=1",
        "python -m steps.main --set=",
        "mlflow run . -e report",
    ):
        assert refusal(wrong), wrong


def test_every_command_that_baton_prints_is_one():
    wrong = {f"{where}: {command}": why for command, where in commands().items() if (why := refusal(command))}
    assert wrong == {}


def documented() -> list[str]:
    text = (ROOT / "docs" / "reference" / "ENTRY_POINTS.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    return [line.partition("  #")[0].strip() for line in blocks.splitlines() if line.strip()]


@pytest.mark.parametrize("command", documented())
def test_the_commands_of_the_documents_are_taken(command):
    assert refusal(command) is None
