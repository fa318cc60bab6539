"""A reader should know a name before reading its code: none of the words that had to be learnt names anything."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from baton.config import schema
from baton.errors import BadInput

ROOT = Path(__file__).parents[2]
FOLDERS = ("baton", "steps", "bench", "faults", "mutants", "peers")
# Modules, functions and parameters, with or without underscores about them.
WORDS = {
    *("crew", "standby", "claimed", "earlier", "begun", "told", "shown", "said", "found", "known", "made", "dealt"),
    *("single", "fitted", "truth", "output", "findings", "insights", "reports", "rival", "judgement", "glance", "pace"),
}
CLASSES = {
    *("Findings", "Judged", "Compared", "Shares", "Cut", "Whole", "Part", "Pace", "Rival", "Judgement", "Glance"),
    *("Alone", "Crew", "Standby", "Fitted", "TrainedOn"),
}
CONSTANTS = {"FEW", "MANY", "MOST", "SURE", "HALF", "TINY", "FEWEST"}
ONE_EACH = ("Rows", "Column", "fit")  # names of one thing in the package, at most


def named(tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    """(kind, name, line) of every class, function, parameter and constant of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield "class", node.name, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield "function", node.name, node.lineno
            given = node.args
            for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg):
                if argument is not None:
                    yield "parameter", argument.arg, argument.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id.isupper():
            yield "constant", node.id, node.lineno


def old(kind: str, name: str) -> bool:
    bare = name.strip("_")
    return bare in {"class": CLASSES, "constant": CONSTANTS}.get(kind, WORDS)


def old_names(path: Path) -> list[str]:
    uses = [f"{path.name} is a module's name"] if old("module", path.stem) else []
    found = named(ast.parse(path.read_text()))
    return uses + [f"{path}:{line}: {kind} {name}" for kind, name, line in found if old(kind, name)]


def test_no_old_word_names_anything():
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert len(paths) > 120
    assert [use for path in paths for use in old_names(path)] == []


def test_an_old_word_is_noticed(tmp_path):
    (tmp_path / "told.py").write_text("class Rival:\n    def begun(self, truth, *found): ...\nMANY, few = 1, 2\n")
    named = [use.rsplit(" ", 1)[1] for use in old_names(tmp_path / "told.py")]
    assert sorted(named) == ["MANY", "Rival", "begun", "found", "name", "truth"]


@pytest.mark.parametrize("name", ONE_EACH)
def test_a_word_has_one_meaning(name):
    """Of the top level: methods are named by their class."""
    tops = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "baton").rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name
    ]
    assert len(tops) <= 1, tops


@pytest.mark.parametrize(("section", "key", "now", "value"), [
    ("model", "forget", "model.category_dropout", False),
    ("data", "travel_rows", "data.reference_rows", 10),
    ("data", "rows_per_group", "data.row_group_size", 10),
])  # fmt: skip
def test_a_renamed_key_is_answered_with_its_new_name(section, key, now, value):
    tree = {"name": "x", "data": {"source": "x", "task": "regression"}}
    tree[section] = {**tree.get(section, {}), key: value}
    with pytest.raises(BadInput, match=rf"{section}\.{key} is called {now} now\. Received: {value}"):
        schema.validate(tree, {}, "test")
    assert schema.validate(schema.with_new_names(tree), {}, "test").dump()[section][now.split(".")[1]] == value


def test_a_renamed_key_of_a_search_space_too():
    tree = {"name": "x", "data": {"source": "x", "task": "regression"}}
    tree["tune"] = {"space": {"model.forget": {"choice": [True, False]}}}
    with pytest.raises(BadInput, match=r"is called model\.category_dropout now"):
        schema.validate(tree, {}, "test")
    kept = schema.validate(schema.with_new_names(tree), {}, "test")  # as a run of an earlier version kept it
    assert kept.tune.space == {"model.category_dropout": {"choice": [True, False]}}
