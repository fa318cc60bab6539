"""A person's approval of a model version in, the alias `champion` out: the first task of a deployment job.

Unity Catalog starts such a job for every new version. Its page has a button for a task whose name begins with
`approval`: that gives the version a tag called as the task is, and runs the task again.
"""

from __future__ import annotations

import argparse
import logging

from baton import names
from baton.errors import BadInput
from baton.registry import versions

log = logging.getLogger("baton")

APPROVED = "approved"


def approve(model: str, number: str, task: str) -> None:
    """Make a version champion; raises `BadInput` if its gate or a person says otherwise, or nobody has said a thing."""
    version = versions.find(model, number)
    if version is None:
        raise BadInput(f"The registry has no such version: look at the job's model_name. Received: {model} {number}")
    verdict = version.tags.get(names.TAG_VERDICT, "no verdict")
    state = "rolled back" if names.TAG_ROLLED_BACK in version.tags else verdict
    if state not in names.PASSED:
        raise BadInput(
            f"Version {number} of {model} cannot be approved: it must have passed register's gate, and not have been "
            f"rolled back. Received: {state}"
        )
    if version.tags.get(task, "").strip().lower() != APPROVED:
        raise BadInput(
            f"Version {number} of {model} waits for its approval: give it the tag {task} with the value Approved and "
            f"run this task again. Received: {task} {version.tags.get(task, 'is not there')}"
        )
    versions.set_alias(model, names.CHAMPION, number)
    log.info("version %s of %s was approved, and is its champion", number, model)


def main() -> None:
    """The wheel's entry point `baton-approve`."""
    parser = argparse.ArgumentParser(prog="baton-approve", description=str(__doc__).splitlines()[0])
    for option, what in (
        ("model", "the registered model"),
        ("version", "its version's number"),
        ("task", "this task's name, which is the tag's"),
    ):
        parser.add_argument(f"--{option}", required=True, help=what)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    approve(given.model, given.version, given.task)
