"""reconcile: an alias that was moved in, the change on record and predictions by the version that bears it out."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from baton import names
from baton.config.schema import Config
from baton.orchestration.step import step
from baton.registry import champions, reconciliation
from baton.tracking import runs
from baton.tracking.runs import Run

if TYPE_CHECKING:
    from baton.registry.gate import GateDecision

log = logging.getLogger("baton")


def listen(address: str, config: Config, options: dict[str, str]) -> None:
    """Reconcile whenever MLflow's webhook tells that the alias was moved."""
    from baton.orchestration import webhooks

    webhooks.listen(config, address, options)


@step(
    "reconcile",
    # Late, for most times there is nothing to do.
    imports=("baton.orchestration.batch_scoring", "baton.registry.copies", "mlflow.pyfunc", "petastorm"),
    idle=reconciliation.idle,
    servers={"listen": ("HOST:PORT where MLflow's webhooks are received, until it is stopped", listen)},
)
def reconcile(config: Config, run: Run) -> None:
    """Where the alias names another version than the one that last scored, record who moved it and score with it."""
    with reconciliation.alone(config):
        version = reconciliation.due(config)
        if version is None:
            log.info("another reconcile has scored meanwhile: nothing to do")
            return
        change = champions.record_by_hand(config, run.id)
        with reconciliation.noted(version):
            decision, scoring_run_id = _score(config, run, version)
    run.json(
        {
            "name": version.name,
            "version": str(version.version),
            "change": change and asdict(change),
            "decision": decision and decision.to_dict(),
            "scoring_run_id": scoring_run_id,
        },
        names.RECONCILE,
    )
    run.tag(names.TAG_OUTPUT, f"{version.name} {version.version}: scored")
    log.info("version %s of %s has scored%s", version.version, version.name, _how(change))


def _score(config: Config, run: Run, version: Any) -> tuple[GateDecision | None, str]:
    """Score with a version, which is judged first if it is a copy, in a run of batch_infer → (the decision, its ID)."""
    from baton.orchestration import batch_scoring
    from baton.registry import copies
    from baton.reporting.html import report

    decision = copies.settle(config, run, version)
    champions.mark(config, version)  # before it scores: once the predictions are there, no reconcile will come back
    with runs.nested(run, "batch_infer", config, {"register_run_id": ""}) as scoring:
        batch_scoring.predict(config, scoring, version)
        report.log_card(config, scoring)
    return decision, scoring.id


def _how(change: champions.Change | None) -> str:
    """What was recorded of the alias, for the log."""
    return f": champion was {change.how}, after version {change.previous or 'none'}" if change else ""


if __name__ == "__main__":
    reconcile()
