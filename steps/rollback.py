"""rollback: a reason in, the previous champion champion again out, with an audit trail."""

import logging
from dataclasses import asdict

from rich.table import Table

from baton import names
from baton.config.schema import Config
from baton.orchestration.step import Load, step
from baton.registry import champions, descriptions
from baton.reporting import console
from baton.tracking.runs import Run

log = logging.getLogger("baton")


def history(load: Load) -> None:
    """Print who was champion, since when, by which run and why; the latest last, a line each if it is piped."""
    config, stdout = load(), console.to_stdout()
    table = Table(title=f"Champions of {config.scoring_model}", title_justify="left", show_edge=False, pad_edge=False)
    for heading in ("since (UTC)", "version", "how", *(() if stdout.is_terminal else ("by run",)), "why"):
        table.add_column(heading, no_wrap=heading != "why", overflow="fold")
    for change in champions.history(config.scoring_model):
        by, why = console.cell(change.by), console.cell(change.why)
        last = (f"{why}\n[dim]run {by}[/]",) if stdout.is_terminal else (by, why)
        table.add_row(change.at[:16].replace("T", " "), change.version or "none", change.how, *last)
    stdout.print(table)


@step(
    "rollback",
    ("reason", "why the champion is taken back; kept with the model"),
    views={"history": ("print who was champion when, why and by which run, and do nothing else", history)},
)
def rollback(config: Config, run: Run, reason: str) -> None:
    """Make the previous champion champion again, and keep when, why and by which run."""
    change = champions.roll_back(config, run.id, reason)
    descriptions.refresh(config, config.scoring_model, str(change.version))
    run.json({"name": config.scoring_model, **asdict(change)}, names.ROLLBACK)
    run.tag(names.TAG_CHAMPION_WHY, change.why)
    run.tag(names.TAG_OUTPUT, f"{config.scoring_model} {change.version}: champion again")
    log.info(
        "version %s of %s is champion again, after version %s", change.version, config.scoring_model, change.previous
    )


if __name__ == "__main__":
    rollback()
