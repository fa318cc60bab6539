"""What code imports, read off its syntax trees."""

import ast

from baton.runtime import imports
from baton.runtime.paths import ROOT

CODE = """
import a.b, baton.errors
from baton import names
from . import beside
from ..up import one
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from baton.data import dataset
else:
    from baton.data import splits
def late():
    from baton.runtime import locks
"""


def test_late_and_relative_imports_are_seen_and_those_of_type_checkers_not():
    found = imports.imported(ast.parse(CODE))
    assert {"a.b", "baton.errors", "baton.names", ".", ".beside", "..up", "..up.one"} <= {*found}
    assert {"baton.runtime.locks", "baton.data.splits"} <= {*found}
    assert not any("dataset" in name for name in found)


def test_names_become_files_of_the_project_with_the_packages_above():
    here = ROOT / "baton" / "data" / "feed.py"
    found = imports.files(
        [".images", "..errors", "numpy", "baton.runtime.locks.take", "baton.runtime.locks"], here, ROOT
    )
    assert found == [
        *("baton/__init__.py", "baton/data/__init__.py", "baton/data/images.py", "baton/errors.py"),
        *("baton/runtime/__init__.py", "baton/runtime/locks.py"),
    ]


def test_what_a_model_needs_is_reached_and_no_more():
    found = imports.reached("baton/serving/raw_model.py", ROOT)
    assert {"baton/serving/raw_columns.py", "baton/networks/layers.py", "baton/data/images.py"} <= set(found)
    assert not any(path.startswith(("steps/", "baton/training/", "baton/reporting/")) for path in found)
