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
DIFFERENCES = ("paired", "independent", "_scaled", "_ends")
SPLITS = ("by_time", "_by_shares", "_overrule")
OUTPUTS = ("broken", "_other_source", "_predictions_changed", "_first_difference", "_upstream")
DESTINATION = ("check_replaceable", "replaced")
TARGETS = (
    # What may be promoted, and what may be called better or worse
    Target("baton/registry/gate.py", GATE, ("tests/registry/test_gate.py",)),
    Target(
        "baton/registry/looks.py", ("Look.tail", "Look.left", "overlap", "count"), ("tests/registry/test_looks.py",)
    ),
    Target("baton/evaluation/differences.py", DIFFERENCES, ("tests/evaluation/test_differences.py",)),
    Target(
        "baton/monitoring/drift.py",
        ("live_difference", "_live_warning"),
        ("tests/monitoring/test_drift.py", "-k", "live or before"),
    ),
    # Which row is in which split
    Target("baton/data/splits.py", SPLITS, ("tests/data/test_splits.py",)),
    # What is a hit
    Target(
        "baton/orchestration/cache.py", ("key", "Key.digest", "Key.difference"), ("tests/orchestration/test_cache.py",)
    ),
    Target(
        "baton/orchestration/outputs.py",
        OUTPUTS,
        (
            "tests/orchestration/test_outputs.py",
            "tests/orchestration/test_cache.py",
            "-k",
            "hit or upstream or scores or key",
        ),
    ),
    # Whose model is loaded
    Target("baton/serving/integrity.py", ("checked", "_check_loader", "_hashes"), ("tests/serving/test_integrity.py",)),
    # Whether a row was lost
    Target(
        "baton/data/ingestion/quarantine.py",
        ("Quarantine.__add__", "check", "check_splits"),
        ("tests/data/test_quarantine.py",),
    ),
    Target(
        "baton/serving/scoring.py",
        ("Scored.__add__", "Scored.check", "score_tables", "broken_lines"),
        ("tests/serving/test_scoring.py",),
    ),
    # Whether what is there is whole
    Target("baton/runtime/files.py", ("whole", "flush", "flush_names"), ("tests/runtime/test_files.py",)),
    Target("baton/runtime/replacing.py", ("replace", "_recover", "recover"), ("tests/serving/test_destination.py",)),
    Target("baton/serving/destination.py", DESTINATION, ("tests/serving/test_destination.py",)),
)

# Survivors that change nothing that anyone could see: {(file, function, change): why}.
EXPLAINED: dict[tuple[str, str, str], str] = {
    (
        "baton/runtime/replacing.py",
        "_recover",
        "place.rmdir() → pass",
    ): "Linux moves over an empty folder; CIFS does not",
    (
        "baton/registry/looks.py",
        "overlap",
        "0.0 → (1.0)",
    ): "without a row on either side the share is 0 whatever it is of",
    (
        "baton/registry/gate.py",
        "_same_data",
        "all(fingerprints.values()) → (any(fingerprints.values()))",
    ): "it is asked where all fingerprints are the same one",
}
