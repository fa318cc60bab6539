"""Mutation testing itself: which changes are made, and whether a survivor is named."""

import ast
import subprocess
from pathlib import Path

import pytest

from mutants import __main__ as mutants
from mutants.operators import mutations
from mutants.targets import EXPLAINED, TARGETS, Target

ROOT = Path(__file__).parents[2]
SOURCE = '''"""A module with ümlauts before the function."""


def least(values, limit=3):
    """The docstring stays."""
    if not values:
        raise ValueError(f"nothing of {limit + 1}")
    values.sort()
    low = min(values) if limit > 0 and len(values) >= 2 else values[0]
    return low - 1
'''
CHANGES = [
    "not values → (values)",
    'raise ValueError(f"nothing of {limit + 1}") → pass',
    "values.sort() → pass",
    "limit > 0 and len(values) >= 2 → (not (limit > 0 and len(values) >= 2))",
    "limit > 0 and len(values) >= 2 → (limit > 0 or len(values) >= 2)",
    "limit > 0 → (limit >= 0)",
    "0 → (1)",
    "len(values) >= 2 → (len(values) > 2)",
    "2 → (3)",
    "min(values) → (max(values))",
    "0 → (1) #2",
    "return low - 1 → return None",
    "low - 1 → (low + 1)",
    "1 → (2)",
]


def test_every_slip_of_a_function_is_made_once():
    slips = mutations(SOURCE, ("least",))
    assert sorted(slip.change for slip in slips) == sorted(CHANGES)
    for slip in slips:
        changed = [a != b for a, b in zip(SOURCE.splitlines(), slip.source.splitlines(), strict=True)]
        assert changed.index(True) == slip.line - 1 and sum(changed) == 1
        ast.parse(slip.source)


def test_a_function_that_is_not_there_is_an_error():
    with pytest.raises(LookupError, match="there is no gone"):
        mutations(SOURCE, ("least", "gone"))


def test_a_change_that_no_test_notices_survives_and_is_named(tmp_path):
    (tmp_path / "code_.py").write_text(
        "def larger(a, b):\n    return a if a > b else b\n\n\ndef half(a):\n    return a / 2\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import code_ as code\n\n\ndef test_larger():\n    assert (code.larger(1, 2), code.larger(2, 1)) == (2, 2)\n"
    )
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    target = Target("code_.py", ("larger", "half"), ("test_it.py",))
    work = [(target, slip) for slip in mutations((tmp_path / "code_.py").read_text(), target.functions)]
    trials = list(mutants.attempts(work, 1, tmp_path))
    noticed = {trial.mutation.change: trial.noticed for trial in trials}
    assert noticed == {
        "return a if a > b else b → return None": True,
        "a > b → (a >= b)": False,  # of equals it does not matter which
        "return a / 2 → return None": False,
        "a / 2 → (a * 2)": False,
        "2 → (3)": False,
    }
    table = mutants.summary(trials, 60)
    assert "| code_.py | 5 | 1 | 0 | 4 |" in table
    assert "- code_.py:6 half: a / 2 → (a * 2): no test notices it" in table
    assert "def half(a):\n    return a / 2\n" in (tmp_path / "code_.py").read_text()


def test_the_table_names_functions_tests_and_mutations_that_are_there():
    named = set()
    for target in TARGETS:
        assert all((ROOT / test.split("::")[0]).is_file() for test in target.tests if test.startswith("tests/"))
        named |= {(target.file, slip.function, slip.change) for slip in mutants.mutations_of(target)}
    assert set(EXPLAINED) <= named
