"""Where the project lies: the one place that looks for its files, in a checkout and in a wheel alike.

In a checkout the package `baton` has the rest beside it. A wheel (scripts/wheel.py) has no other package than `baton`:
the steps are `baton.steps` there, and the files that are no code lie in `baton/project`.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent  # the folder `baton`
CODE = PACKAGE.parent  # what is on the path of a process that imports it
IN_WHEEL = (PACKAGE / "project").is_dir()
ROOT = PACKAGE / "project" if IN_WHEEL else CODE  # where MLproject, the lock, conf and what builds Horovod lie
STEPS = "baton.steps" if IN_WHEEL else "steps"  # the package of the entry points
MLPROJECT = ROOT / "MLproject"
LOCK = ROOT / "requirements.txt"
HOROVOD = ROOT / "horovod-0.28.1-tf2.21"
PETASTORM = ROOT / "petastorm-0.12.1-arrow"
SPACES = ROOT / "conf" / "spaces"
TEMPLATES = PACKAGE / "reporting" / "html" / "templates"


def base() -> Path:
    """The folder that relative paths of a config are of: the project, or for a wheel the working directory."""
    return Path.cwd() if IN_WHEEL else ROOT


def packaged(path: str) -> str:
    """The path of a module in a checkout, such as `steps/train.py` → the same relative to `CODE`."""
    return f"baton/{path}" if IN_WHEEL and path.startswith("steps/") else path
