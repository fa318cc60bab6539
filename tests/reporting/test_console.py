"""main's closing table: what a person reads last."""

import io
from pathlib import Path

from rich.console import Console

from baton import names
from baton.config.schema import validate
from baton.registry import champions
from baton.registry.champions import Change
from baton.reporting import console
from steps.rollback import history

CONFIG = validate({"name": "shop", "data": {"source": "x", "task": "regression"}}, {}, "test")


def summary(**changes) -> dict:
    steps = {name: {"status": "finished", "seconds": 1.25, "cache": "miss: first run"} for name in names.STEPS}
    model = {"name": "shop", "version": "3", "verdict": "promoted", "alias": "champion", "reasons": ["it is better"]}
    predictions = {"path": "out", "rows_in": 1200, "rows_scored": 1199, "rows_quarantined": 1}
    plain = {"steps": steps, "model": model, "metrics": {"test": {"rmse": 1.23456}}, "predictions": predictions}
    return {**plain, "data": None, "wall_seconds": 7.5, **changes}


DATA = {
    "rows_in": 1000,
    "rows_quarantined": 47,
    "reasons": {"y is not a number": 40, "x is infinite": 4, "b is not true or false": 2, "t is not a date": 1},
    "warnings": [f"c{number}: [bold]doubtful[/]." for number in range(15)],
}


def printed(values: dict) -> str:
    out = io.StringIO()
    console.table(CONFIG, values, Console(file=out, width=100, highlight=False))
    return out.getvalue()


def test_the_table_has_a_line_a_step_and_what_came_of_it_below():
    text = printed(summary())
    assert all(name in text for name in names.STEPS) and "7.5" in text
    for sentence in (
        "Model shop version 3: promoted as champion.",
        "  because it is better",
        "test: rmse 1.235",
        f"Predictions: {Path('out').absolute()} (1,199 of 1,200 rows, 1 quarantined)",
    ):
        assert sentence in text


def test_what_was_not_scored_is_told():
    refused = {"name": "shop", "version": "1", "verdict": "refused", "alias": None, "reasons": ["[bold]too few[/]"]}
    text = printed(summary(model=refused, predictions=None))
    assert "Predictions: none; there is nothing to score or no champion to score it with." in text
    assert "because [bold]too few[/]" in text, "a reason is text, no markup"


def test_what_was_set_aside_and_is_doubtful_is_said_last():
    lines = printed(summary(data=DATA)).splitlines()
    place = lines.index("Data: 1,000 rows, 47 quarantined (4.7 %)")
    assert lines[place + 1 : place + 5] == [
        "  40 because y is not a number",
        "  4 because x is infinite",
        "  2 because b is not true or false",
        f"  and 1 more reasons, in {names.REASONS}",
    ]
    assert lines[place + 5] == "Warning: c0: [bold]doubtful[/]."
    assert lines[-1] == f"and 3 more warnings, in {names.COLUMNS}"


def test_the_table_of_columns_says_what_each_is_taken_for():
    lines = [{"name": "a[b]", "kind": "numeric", "why": "all its cells are numbers", "missing": 0.0304,
              "unknown": None, "example": "'1,163.74'"}]  # fmt: skip
    lines += [{**lines[0], "name": f"c{number}"} for number in range(120)]
    out = io.StringIO()
    console.columns({"columns": lines, "warnings": []}, Console(file=out, width=120, highlight=False))
    text = out.getvalue()
    assert all(piece in text for piece in ("a[b]", "numeric", "all its cells are numbers", "3.0 %", "'1,163.74'"))
    assert "and 21 more columns, in columns.json" in text


def test_a_main_that_failed_early_has_no_model_to_tell_of():
    assert console.sentences(summary(model=None, metrics={}, predictions=None)) == []


HISTORY = [
    Change(
        1, "1", None, "promoted", "2026-11-28T12:00:01+00:00", "0" * 32, f"{'it is better; ' * 20}\x1b[31m\n[b]end[/]"
    ),
    Change(2, None, "1", "set by hand", "2026-11-28T12:01:01+00:00", "rollback" * 4, "nobody recorded it"),
]


def printed_history(monkeypatch, **terminal) -> list[str]:
    """What `rollback --history` prints on such a console."""
    out = io.StringIO()
    monkeypatch.setattr(champions, "history", lambda name: HISTORY)
    monkeypatch.setattr(console, "to_stdout", lambda: Console(file=out, highlight=False, color_system=None, **terminal))
    history(lambda: CONFIG)
    return out.getvalue().splitlines()


def test_the_history_of_champions_fits_a_terminal_of_80_columns(monkeypatch):
    lines = printed_history(monkeypatch, width=80, force_terminal=True)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80 and "\x1b" not in text
    assert f"run {'0' * 32}" in text and f"run {'rollback' * 4}" in text, "whole, to be copied"
    assert "2026-11-28 12:00 │ 1       │ promoted    │ it is better;" in text and "[b]end[/]" in text


def test_the_history_of_champions_is_a_line_each_in_a_pipe(monkeypatch):
    assert not console.to_stdout().is_terminal, "pytest's own"
    lines = printed_history(monkeypatch, width=console.to_stdout().width)
    assert len(lines) == 3 + len(HISTORY)
    fields = [[field.strip() for field in line.split("│")] for line in lines[3:]]
    why = f"{'it is better; ' * 20}\\x1b[31m [b]end[/]"
    assert fields == [
        ["2026-11-28 12:00", "1", "promoted", "0" * 32, why],
        ["2026-11-28 12:01", "none", "set by hand", "rollback" * 4, "nobody recorded it"],
    ]


def test_what_names_hold_for_a_terminal_is_written_out():
    text = printed(summary(data={**DATA, "reasons": {"\x1b[2J\u202ey is not a number": 9}}))
    assert "\x1b" not in text and "\u202e" not in text
    assert "  9 because \\x1b[2J\\u202ey is not a number" in text
