"""The lines that matter most, and the tests that should notice if one of them is wrong: a table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Functions of a file (methods as `Class.method`), and what pytest is given to notice their mutations."""

    file: str
    functions: tuple[str, ...]
    tests: tuple[str, ...]


GATE = ("judge", "compare", "skew", "_verdict", "_trivial", "_floor", "_enough", "_same_data", "_finite")
TARGETS = (
    Target("baton/registry/gate.py", GATE, ("tests/registry/test_gate.py",)),
    Target(
        "baton/registry/looks.py", ("Look.tail", "Look.left", "overlap", "count"), ("tests/registry/test_looks.py",)
    ),
    Target(
        "baton/evaluation/differences.py",
        ("Moments.of", "Moments.error", "Moments.third", "paired", "independent", "_scaled", "_ends", "_unskewed"),
        ("tests/evaluation/test_differences.py",),
    ),
    Target(
        "baton/monitoring/drift.py", ("live_difference", "_live_warning", "_grade"), ("tests/monitoring/test_drift.py",)
    ),
    Target(
        "baton/data/splits.py",
        ("Plan.place", "Plan._spread", "by_column", "by_time", "time_limits", "_by_shares", "_overrule", "_quotas"),
        ("tests/data/test_splits.py",),
    ),
)

# Survivors that change nothing that anyone could see: {(file, function, change): why}.
EXPLAINED: dict[tuple[str, str, str], str] = {
    (
        "baton/registry/looks.py",
        "overlap",
        "0.0 → (1.0)",
    ): "without a row on either side the share is 0 whatever it is of",
}
