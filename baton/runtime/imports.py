"""What Python code of the project imports, by its syntax trees: nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PROJECT = ("baton", "steps")  # the packages whose imports are followed


def imported(tree: ast.AST) -> list[str]:
    """What a tree imports, late imports too, as dotted names; a relative one begins with its dots.

    What only a type checker imports is left out.
    """
    found: set[str] = set()
    for node in _run_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (f"{node.module}." if node.module else "")
            found |= {start.removesuffix(".") if node.module else start, *(start + alias.name for alias in node.names)}
    return sorted(found)


def files(names: list[str], importer: Path, root: Path) -> list[str]:
    """Dotted names that a file imports → the project's files that these are, and those of the packages above them."""
    package = importer.relative_to(root).parent.parts
    paths: set[str] = set()
    for name in names:
        plain = name.lstrip(".")
        dots = len(name) - len(plain)
        start = package[: len(package) - dots + 1] if dots else ()
        parts = [*start, *filter(None, plain.split("."))]
        if parts and parts[0] in PROJECT:
            paths.add("/".join(parts) + ".py")
            paths |= {"/".join([*parts[:depth], "__init__.py"]) for depth in range(1, len(parts) + 1)}
    return sorted(path for path in paths if (root / path).is_file())


def reached(entry: str, root: Path) -> list[str]:
    """A file, relative to the project's root → all of the project's files that importing it, or calling it, runs."""
    found: set[str] = set()
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            tree = ast.parse((root / path).read_bytes())
            waiting += files(imported(tree), root / path, root)
    return sorted(found)


def _run_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree, but for what stands under `if TYPE_CHECKING:`; what stands under its `else` does run."""
    yield tree
    only_checked = isinstance(tree, ast.If) and isinstance(tree.test, ast.Name) and tree.test.id == "TYPE_CHECKING"
    for node in tree.orelse if only_checked else ast.iter_child_nodes(tree):  # type: ignore[attr-defined]
        yield from _run_nodes(node)
