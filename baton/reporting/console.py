"""main's closing table: what was trained, what won and why, what was promoted, where predictions are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from baton import names
from baton.config.schema import Config
from baton.errors import escaped, printable
from baton.formatting import percent_text

WIDTH = 150  # of a log
UNFOLDED = 10_000  # wider than what is piped into another program, which takes a line for a record
MAX_COLUMNS, MAX_WARNINGS, TOP_REASONS = 100, 12, 3  # printed
COLOURS = {"finished": "green", "cached": "cyan", "failed": "red", "skipped": "yellow"}


def to_stdout() -> Console:
    """A console as wide as the terminal; what is piped is not folded."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else UNFOLDED)


def cell(text: str) -> str:
    """Text that may quote anything → one line of a table, without markup."""
    return escape(printable(text))


def table(config: Config, summary: dict[str, Any], console: Console | None = None) -> None:
    """Print `summary` (that of summary.json) for a person."""
    console = console or Console(highlight=False)
    steps = Table(title=f"Baton: {config.name}", title_justify="left", show_edge=False, pad_edge=False)
    for heading in ("step", "status", "seconds", "cache"):
        steps.add_column(heading, justify="right" if heading == "seconds" else "left", no_wrap=heading != "cache")
    for name, entry in summary["steps"].items():
        status = f"[{COLOURS[entry['status']]}]{entry['status']}[/]"
        steps.add_row(name, status, f"{entry['seconds']:.1f}", cell(entry["cache"] or ""))
    steps.add_row("all", "", f"{summary['wall_seconds']:.1f}", "")
    console.print()
    console.print(steps)
    for line in sentences(summary):
        console.print(escaped(line), markup=False, soft_wrap=True)


def columns(table: dict[str, Any], console: Console | None = None) -> None:
    """Print `table` (that of columns.json): what each column is taken for, and why."""
    console = console or Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    grid = Table(show_edge=False, pad_edge=False)
    for heading in ("column", "kind", "why", "missing", "unknown", "example"):
        grid.add_column(heading, justify="right" if heading in ("missing", "unknown") else "left", overflow="fold")
    for line in table["columns"][:MAX_COLUMNS]:
        shares = ["" if line[key] is None else percent_text(line[key]) for key in ("missing", "unknown")]
        grid.add_row(*map(cell, (line["name"], line["kind"], line["why"], *shares, line["example"])))
    console.print()
    console.print(grid)
    if (more := len(table["columns"]) - MAX_COLUMNS) > 0:
        console.print(f"and {more:,} more columns, in {names.COLUMNS}", markup=False)
    console.print()


def data_sentences(data: dict[str, Any]) -> list[str]:
    """The `data` of summary.json → the lines that say how many rows were set aside, why, and what to look at."""
    share = f" ({percent_text(data['rows_quarantined'] / data['rows_in'])})" if data["rows_quarantined"] else ""
    lines = [f"Data: {data['rows_in']:,} rows, {data['rows_quarantined']:,} quarantined{share}"]
    for reason, rows in list(data["reasons"].items())[:TOP_REASONS]:
        lines.append(f"  {rows:,} because {reason}")
    if (more := len(data["reasons"]) - TOP_REASONS) > 0:
        lines.append(f"  and {more} more reasons, in {names.REASONS}")
    lines += [f"Warning: {warning}" for warning in data["warnings"][:MAX_WARNINGS]]
    if (more := len(data["warnings"]) - MAX_WARNINGS) > 0:
        lines.append(f"and {more} more warnings, in {names.COLUMNS}")
    return lines


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
            f"Predictions: {Path(predictions['path']).absolute()} ({predictions['rows_scored']:,} of "
            f"{predictions['rows_in']:,} rows, {predictions['rows_quarantined']:,} quarantined)"
        )
    elif model and not model["alias"]:
        lines.append("Predictions: none; there is nothing to score or no champion to score it with.")
    if summary["data"]:
        lines += data_sentences(summary["data"])
    return lines
