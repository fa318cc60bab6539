"""main's closing table: what a person reads last."""

import io

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
    return {**plain, "wall_seconds": 7.5, **changes}


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
        "Predictions: out (1,199 of 1,200 rows, 1 quarantined)",
    ):
        assert sentence in text


def test_what_was_not_scored_is_told():
    refused = {"name": "shop", "version": "1", "verdict": "refused", "alias": None, "reasons": ["[bold]too few[/]"]}
    text = printed(summary(model=refused, predictions=None))
    assert "Predictions: none; there is nothing to score or no champion to score it with." in text
    assert "because [bold]too few[/]" in text, "a reason is text, no markup"


def test_a_main_that_failed_early_has_no_model_to_tell_of():
    assert console.sentences(summary(model=None, metrics={}, predictions=None)) == []
