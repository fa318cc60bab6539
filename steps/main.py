"""main: the pipeline as a list of steps; run IDs go from one to the next."""

from collections.abc import Callable

from baton.config.schema import Config
from baton.orchestration.pipeline import Pipeline
from baton.orchestration.step import step
from baton.tracking.runs import Run


def validate(load: Callable[[], Config]) -> None:
    """Check what can be checked before a run, in seconds."""
    from baton.orchestration import preflight

    preflight.validate(load)


@step(
    "main",
    ("force", "steps to run again though nothing changed, comma-separated, or all"),
    views={"validate": ("check config, data, disk and environment in seconds, and run nothing", validate)},
)
def main(config: Config, run: Run, force: str) -> None:
    """Ingest, train, tune, train distributed, register the best candidate, score new data."""
    with Pipeline(config, run, force) as pipeline:
        ingest = pipeline.run("ingest")
        train = pipeline.run("train", ingest_run_id=ingest)
        tune = pipeline.run("tune", ingest_run_id=ingest)
        distributed = pipeline.run("distributed_train", ingest_run_id=ingest, tune_run_id=tune)
        register = pipeline.run("register", candidate_run_ids=f"{train},{distributed}")
        if pipeline.can_score():
            pipeline.run("batch_infer", register_run_id=register)


if __name__ == "__main__":
    main()
