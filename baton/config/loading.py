"""A config file and dotted overrides in, a validated `Config` out; a wrong key or value is named with its line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from baton.config.schema import Config, put, validate
from baton.errors import BadInput


class _Loader(yaml.SafeLoader):
    """YAML in which on, off, yes and no are text, as in YAML 1.2: columns and classes are called so."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def load(path: str, overrides: str = "") -> Config:
    """Read, override and validate the config at `path`; raise `BadInput` if anything is wrong.

    Args:
        path: the YAML file.
        overrides: dotted overrides, as `parse_overrides` takes them; they count before the file's own values.

    Raises:
        BadInput: names every wrong key and value with its path, its line, what is allowed and what was received.

    Example:
        >>> load(yaml_file, "train.epochs=3").train.epochs
        3
    """
    file = Path(path)
    if not file.is_file():
        raise BadInput(f"There is no config file of that name. Give --config a YAML file. Received: {path}")
    try:
        text = file.read_text(encoding="utf-8")
        tree, lines = _parse(text)
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}.") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45
        raise BadInput(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise BadInput(f"{path} must hold keys and values (name:, data:, …). Received: {tree!r}")
    for key, value in parse_overrides(overrides).items():
        put(tree, key, value)
        place = tuple(key.split("."))
        lines = {path: line for path, line in lines.items() if path[: len(place)] != place} | {place: 0}
    return validate(tree, lines, where=str(path))


def parse_overrides(text: str) -> dict[str, Any]:
    """`train.epochs=3,tune.space={a: 1, b: 2}` → `{"train.epochs": 3, "tune.space": {…}}`.

    A comma starts a new override only before `key=`; values are YAML.

    Args:
        text: what `-P set=` gives; empty for none.

    Raises:
        BadInput: for what is no override, or no YAML.

    Example:
        >>> parse_overrides("train.epochs=3,data.drop=[a, b]")
        {'train.epochs': 3, 'data.drop': ['a', 'b']}
    """
    overrides: dict[str, Any] = {}
    if not text.strip():
        return overrides
    for part in re.split(r",(?=\s*[A-Za-z_][\w\-.]*=)", text):
        key, equals, value = part.partition("=")
        if not equals or not re.fullmatch(r"\s*[A-Za-z_][\w\-.]*\s*", key):
            raise BadInput(f"set takes dotted overrides such as train.epochs=3. Received: {part!r}")
        try:
            overrides[key.strip()] = yaml.load(value, Loader=_Loader)
        except (yaml.YAMLError, ValueError):
            raise BadInput(f"The value of {key.strip()} is not valid YAML. Received: {value!r}") from None
    return overrides


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the config, as published in docs/config.schema.json."""
    return Config.model_json_schema(by_alias=True)


def _parse(text: str) -> tuple[Any, dict[tuple, int]]:
    """YAML text → (values, line of each path); refuses a key given twice."""
    node = yaml.compose(text, Loader=_Loader)
    lines: dict[tuple, int] = {}
    if node is not None:
        _walk(node, (), lines)
    return yaml.load(text, Loader=_Loader), lines


def _walk(node: yaml.Node, path: tuple, lines: dict[tuple, int]) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            if inner in lines:
                raise BadInput(f"line {key.start_mark.line + 1}: {'.'.join(inner)} is given twice.")
            lines[inner] = key.start_mark.line + 1
            _walk(value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*path, str(index)), lines)
