"""batch_infer: new data and the champion in, predictions with lineage and a quarantine out."""

from baton.config.schema import Config
from baton.orchestration import batch_scoring
from baton.orchestration.step import step
from baton.registry import versions
from baton.tracking.runs import Run


@step(
    "batch_infer",
    ("register_run_id", "the register run whose promoted version scores; empty: the alias decides"),
    imports=batch_scoring.IMPORTS,
)
def batch_infer(config: Config, run: Run, register_run_id: str) -> None:
    """Score the new data with one model version and replace the output whole."""
    config.to_score()
    batch_scoring.predict(config, run, versions.to_score_with(config, register_run_id))


if __name__ == "__main__":
    batch_infer()
