"""The networks of keras.applications as a table: what they cost, and what was published of their accuracy.

`scripts/zoo.py` makes the table.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from baton.errors import BadInput

TABLE = Path(__file__).with_name("zoo.csv")


@dataclass(frozen=True)
class Pretrained:
    """A network, its classifier of ImageNet's 1,000 classes with it.

    `multiply_adds` are counted at `size` pixels a side; `smallest` is the least size that its convolutions take.
    Accuracies in per cent are as published, by `protocol`, in `source`; None where they were not.
    """

    name: str
    size: int
    smallest: int
    parameters: int
    multiply_adds: int
    top1: float | None
    top5: float | None
    protocol: str
    source: str


def models() -> list[Pretrained]:
    """The table's rows, those of fewer multiply-adds first."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = [_of(row) for row in csv.DictReader(file)]
    return sorted(rows, key=lambda row: row.multiply_adds)


def demand(name: str | None) -> str:
    """A network's name; raises `BadInput` if it is not in the table."""
    if name is None or name not in {row.name for row in models()}:
        raise BadInput(
            f"model.backbone is one of keras.applications' networks (python -m steps.train --list-models) or a .keras "
            f"file. Received: {name}"
        )
    return name


def lines() -> list[str]:
    """The table as text."""
    head = f"{'model.backbone':<18}{'pixels':>7}{'least':>6}{'parameters':>13}{'multiply-adds':>16}"
    return [
        f"{head}{'top-1':>7}{'top-5':>7}  as published",
        *(
            f"{row.name:<18}{row.size:>7}{row.smallest:>6}{row.parameters:>13,}{row.multiply_adds:>16,}"
            f"{_percent(row.top1)}{_percent(row.top5)}  {row.protocol}: {row.source}"
            for row in models()
        ),
    ]


def _of(row: dict[str, str]) -> Pretrained:
    sizes = int(row["size"]), int(row["smallest"]), int(row["parameters"]), int(row["multiply_adds"])
    top1, top5 = (float(row[key]) if row[key] else None for key in ("top1", "top5"))
    return Pretrained(row["name"], *sizes, top1, top5, row["protocol"], row["source"])


def _percent(value: float | None) -> str:
    return f"{value:>7.1f}" if value is not None else f"{'–':>7}"
