"""main's closing table: what a person reads last."""

import io
from pathlib import Path

from rich.console import Console

from baton import names
from baton.config.schema import validate
from baton.reporting import console

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
