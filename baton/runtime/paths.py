"""Where the project lies: the one place that looks for its files, in a checkout and in a wheel alike."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent  # the folder `baton`
ROOT = PACKAGE.parent  # beside it lie MLproject, the lock, steps, conf and the folder that builds Horovod
MLPROJECT = ROOT / "MLproject"
LOCK = ROOT / "requirements.txt"
HOROVOD = ROOT / "horovod-0.28.1-tf2.21"
PETASTORM = ROOT / "petastorm-0.12.1-arrow"
SPACES = ROOT / "conf" / "spaces"
TEMPLATES = PACKAGE / "reporting" / "html" / "templates"
