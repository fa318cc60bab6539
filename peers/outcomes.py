"""What pytest's JUnit files say, held against what is expected."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree


@dataclass(frozen=True)
class Outcome:
    """One test's end: `state` is passed, failed or skipped; `message` the first line of why."""

    test: str
    state: str
    message: str = ""


@dataclass(frozen=True)
class Expected:
    """`failures`: regular expression over whole test names → reason; `races`: the same for those that pass at times.

    `left_out`: module → reason.
    """

    failures: dict[str, str]
    races: dict[str, str]
    left_out: dict[str, str]

    @classmethod
    def read(cls, path: Path, suite: str) -> Expected:
        table = tomllib.loads(path.read_text())[suite]
        return cls(table["failures"], table.get("races", {}), table.get("left_out", {}))

    def covers(self, test: str) -> bool:
        return any(re.fullmatch(pattern, test) for pattern in (*self.failures, *self.races))


def read(junit: Path, module: str) -> list[Outcome]:
    """The outcomes in a module's JUnit file, named module::test or module::Class::test.

    A module that cannot be imported is one failure.
    """
    outcomes = []
    for case in ElementTree.parse(junit).getroot().iter("testcase"):
        owner = case.get("classname", "").rpartition(".")[2]
        name = "::".join([module, *([owner] if owner[:1].isupper() else []), case.get("name", "")])
        bad = next((case.find(kind) for kind in ("failure", "error") if case.find(kind) is not None), None)
        if bad is not None:
            outcomes.append(Outcome(name, "failed", bad.get("message", "").split("\n")[0]))
        else:
            outcomes.append(Outcome(name, "passed" if case.find("skipped") is None else "skipped"))
    return outcomes


def differences(outcomes: list[Outcome], expected: Expected) -> list[str]:
    """Failures that are not expected, expectations that nothing fails by, and a suite without a test."""
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    wrong = [f"failed: {case.test}: {case.message}" for case in failed if not expected.covers(case.test)]
    wrong += [
        f"expected to fail, but nothing does: {pattern}"
        for pattern in expected.failures
        if not any(re.fullmatch(pattern, case.test) for case in failed)
    ]
    return wrong or ([] if outcomes else ["no test ran"])
