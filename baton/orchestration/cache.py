"""A step's cache key: everything that could change its result, named, so that a miss can say why.

The parts are hashes by name, in the order in which a difference is told: the config the step reads,
the content of its inputs, what came from upstream, the code it can reach, the environment.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import platform
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from baton.config.schema import Config
from baton.redaction import masked_values
from baton.runtime import imports
from baton.runtime.files import whole
from baton.runtime.paths import CODE, HOROVOD, PETASTORM, ROOT, packaged

ENVIRONMENT = (
    "requirements.txt",
    *(f"{folder.name}/{file.name}" for folder in (PETASTORM, HOROVOD) for file in sorted(folder.glob("*.[pt]*"))),
)
# A module that reads files of the project, or starts another as a process, names them in this constant.
DECLARATION = "READS"
# What only draws, prints or lays out a page, or finds what a step is given, whose content is in the key, changes no
# result: it, and what only it reaches, is in no key.
UNCOUNTED = ("baton/reporting/", "baton/orchestration/job.py")

CONTENT = " content"  # the end of the name of a part that is what a source holds
# Parts that are no hashes, of which a miss tells both values.
VERSION, REGISTRY = "model version", "model registry"
READABLE = ("python", VERSION, REGISTRY)

# The parts of the config that each step reads, as dotted paths.
CONFIG_READ: dict[str, tuple[str, ...]] = {
    "ingest": ("engine", "spark", "data", "distributed_train.workers"),
    "train": ("seed", "data.task", "model", "train", "evaluation"),
    "tune": ("seed", "engine", "spark", "data.task", "model", "train", "evaluation.primary_metric", "tune"),
    "distributed_train": ("seed", "spark", "data.task", "model", "train", "evaluation", "distributed_train"),
    "register": ("name", "seed", "data.task", "evaluation", "register"),
    "batch_infer": (
        *("name", "engine", "spark", "data.task", "data.target", "data.drop", "data.delimiter", "data.encoding"),
        *("data.escape", "data.spark_above_mb", "data.image_column", "evaluation.primary_metric", "register.model"),
        "batch_infer",
    ),
}
# Where a source lies does not matter; what it holds does, and that is an input of its own.
BY_CONTENT = ("data.source", "batch_infer.source")


@dataclass(frozen=True)
class Key:
    """A step's key and the parts it was made of: {part: value or hash}."""

    parts: dict[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 of all parts, in hex."""
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()

    def masked_parts(self) -> dict[str, str]:
        """The parts as a run keeps them: without passwords and the like, which count in the digest alone."""
        return masked_values(self.parts)

    def difference(self, other: Key) -> str:
        """The first part in which this key differs from an `other`, earlier one, as a sentence."""
        mine, theirs = self.masked_parts(), other.masked_parts()
        for part in [*mine, *sorted(set(theirs) - set(mine))]:
            before, now = theirs.get(part), mine.get(part)
            if before != now:
                return _difference_text(part, before, now)
        return "nothing changed" if self.digest == other.digest else "a masked value changed"


def key(step: str, config: Config, inputs: dict[str, str], upstream: dict[str, str]) -> Key:
    """The key of a step: `inputs` are content hashes of files by name, `upstream` what earlier steps gave."""
    parts = {f"conf {path}": json.dumps(value) for path, value in _config_parts(step, config).items()}
    parts |= {f"{name}{CONTENT}": digest for name, digest in inputs.items()}
    parts |= upstream
    entry = f"steps/{step}.py"
    parts |= {f"code {_route(entry, name)}": digest for name, digest in code(entry).items()}
    return Key(parts | environment())


def environment() -> dict[str, str]:
    """The interpreter and the lock."""
    parts = {"python": platform.python_version()}
    return parts | {f"environment {name}": _file(ROOT / name) for name in ENVIRONMENT}


def code(entry: str) -> dict[str, str]:
    """A module's path → {path: hash} of every project module and declared file it can reach."""
    known = len(_parsed())
    found: dict[str, str] = {}
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path], reached = _read(_home(path) / packaged(path))
        waiting += reached
    if len(_parsed()) > known:
        _remember()
    return dict(sorted(found.items()))


@cache
def _read(file: Path) -> tuple[str, list[str]]:
    """A file → its hash and the project files it reaches itself; each is read once for all steps."""
    if file.suffix != ".py":
        return _file(file), []
    source = file.read_bytes()
    known = hashlib.sha256(source).hexdigest()
    if known not in _parsed():
        tree = ast.parse(source)
        _parsed()[known] = [syntax_hash(tree), imports.imported(tree), _declared(tree)]
    digest, names, patterns = _parsed()[known]
    found = imports.files(names, file, CODE)
    for home, pattern in ((_home(pattern), pattern) for pattern in patterns):
        found += sorted(path.relative_to(home).as_posix() for path in home.glob(pattern))
    return digest, [path for path in found if not path.startswith(UNCOUNTED)]


def _home(path: str) -> Path:
    """What a path in a checkout is relative to: in a wheel, code lies elsewhere than the rest."""
    return CODE if path.startswith(("baton/", "steps/")) else ROOT


@cache
def _parsed() -> dict[str, list[Any]]:
    """{SHA-256 of a source: what its tree says}, of earlier processes too: parsing all takes half a second."""
    try:
        return json.loads(_memory().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _remember() -> None:
    """Keep what was parsed for the next process; where nothing can be written, it parses again."""
    with suppress(OSError):
        _memory().parent.mkdir(exist_ok=True)
        with whole(_memory()) as aside:
            aside.write_text(json.dumps(_parsed()), encoding="utf-8")


@cache
def _memory() -> Path:
    """Beside what Python compiles, which goes with it; another interpreter or other rules have another file."""
    rules = hashlib.sha256(b"".join(Path(file).read_bytes() for file in (__file__, imports.__file__))).hexdigest()
    return Path(importlib.util.cache_from_source(__file__)).with_suffix(f".{rules[:16]}.json")


def syntax_hash(tree: ast.AST) -> str:
    """A module's syntax tree → its hash; comments, layout and docstrings do not count."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _declared(tree: ast.Module) -> list[str]:
    """The project files, or patterns of them, that a module's READS constant names."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == DECLARATION for t in node.targets):
            return list(ast.literal_eval(node.value))
    return []


def _docstring(node: Any) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _config_parts(step: str, config: Config) -> dict[str, Any]:
    """The leaves of the config that a step reads, by dotted path."""
    leaves: dict[str, Any] = {}
    for path in CONFIG_READ[step]:
        value: Any = config.dump()
        for part in path.split("."):
            value = None if value is None else value[part]
        _leaves(path, value, leaves)
    return {path: value for path, value in leaves.items() if path not in BY_CONTENT}


def _leaves(path: str, value: Any, out: dict[str, Any]) -> None:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            _leaves(f"{path}.{name}", inner, out)
    else:
        out[path] = value


def _route(entry: str, name: str) -> str:
    """A file as a miss names it: from the step to what it reaches."""
    return name if name == entry else f"{entry} → {name}"


def _file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _difference_text(part: str, before: str | None, now: str | None) -> str:
    if part.startswith("conf ") or part in READABLE:
        return f"{part} {_short(before)} → {_short(now)}"
    if part.startswith("code "):
        change = "is new" if before is None else "is gone" if now is None else "changed"
        return f"{part.removeprefix('code ')} {change}"
    return f"{part} changed"


def _short(value: str | None) -> str:
    text = "unset" if value is None else value.strip('"')
    return text if len(text) <= 60 else f"{text[:57]}…"
