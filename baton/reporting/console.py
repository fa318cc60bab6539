"""main's closing table: what was trained, what won and why, what was promoted, where predictions are."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from baton.config.schema import Config

COLOURS = {"finished": "green", "cached": "cyan", "failed": "red", "skipped": "yellow"}


def table(config: Config, summary: dict[str, Any], console: Console | None = None) -> None:
    """Print `summary` (that of summary.json) for a person."""
    console = console or Console(highlight=False)
    steps = Table(title=f"Baton: {config.name}", title_justify="left", show_edge=False, pad_edge=False)
    for heading in ("step", "status", "seconds", "cache"):
        steps.add_column(heading, justify="right" if heading == "seconds" else "left", no_wrap=heading != "cache")
    for name, entry in summary["steps"].items():
        status = f"[{COLOURS[entry['status']]}]{entry['status']}[/]"
        steps.add_row(name, status, f"{entry['seconds']:.1f}", escape(entry["cache"] or ""))
    steps.add_row("all", "", f"{summary['wall_seconds']:.1f}", "")
    console.print()
    console.print(steps)
    for line in sentences(summary):
        console.print(line, markup=False, soft_wrap=True)


def sentences(summary: dict[str, Any]) -> list[str]:
    """`summary` → the lines below the table."""
    lines = []
    model, predictions = summary["model"], summary["predictions"]
    if model:
        alias = f" as {model['alias']}" if model["alias"] else ""
        lines.append(f"Model {model['name']} version {model['version']}: {model['verdict']}{alias}.")
        lines += [f"  because {reason}" for reason in model["reasons"]]
    for split, values in summary["metrics"].items():
        lines.append(f"{split}: " + "  ".join(f"{name} {value:.4g}" for name, value in values.items()))
    if predictions:
        lines.append(
            f"Predictions: {predictions['path']} ({predictions['rows_scored']:,} of {predictions['rows_in']:,} rows, "
            f"{predictions['rows_quarantined']:,} quarantined)"
        )
    elif model and not model["alias"]:
        lines.append("Predictions: none; there is nothing to score or no champion to score it with.")
    return lines
