"""`python -m peers`: the peers' own tests on Baton's builds of them; anything but the expected failures fails."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import click

from peers import suites
from peers.outcomes import Expected, Outcome, differences

EXPECTED = Path(__file__).parent / "expected.toml"
CHECKOUT = "HOROVOD_SOURCE"
SUITES = {"petastorm": suites.petastorm, "horovod": suites.horovod}


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice(list(SUITES)))
def peers(names: tuple[str, ...]) -> None:
    wrong = []
    for name in names or SUITES:
        if name == "horovod" and not os.environ.get(CHECKOUT):
            click.echo(
                f"horovod: not run. Its tests are in no package: set {CHECKOUT} to a checkout of its tag v0.28.1."
            )
            continue
        expected = Expected.read(EXPECTED, name)
        with tempfile.TemporaryDirectory(prefix="baton-peers-") as scratch:
            outcomes = SUITES[name](Path(scratch), expected.left_out)
        wrong += print_outcomes(name, outcomes, expected)
    if wrong:
        sys.exit(f"{len(wrong)} outcomes are not as {EXPECTED.name} expects them.")


def print_outcomes(name: str, outcomes: list[Outcome], expected: Expected) -> list[str]:
    """Print the counts, and what is not as expected; return the latter."""
    wrong = differences(outcomes, expected)
    for line in wrong:
        click.echo(f"{name}: {line}")
    counts = {state: sum(outcome.state == state for outcome in outcomes) for state in ("passed", "failed", "skipped")}
    click.echo(f"{name}: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    for module, reason in expected.left_out.items():
        click.echo(f"{name}: {module} left out: {reason}")
    return wrong


if __name__ == "__main__":
    peers()
