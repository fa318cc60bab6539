"""distributed_train: a dataset and tune's best hyperparameters in, a model trained by Horovod workers out."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from baton import names
from baton.config.schema import Config
from baton.data.dataset import Dataset
from baton.orchestration import resume
from baton.orchestration.step import step
from baton.registry import pretrained
from baton.tracking import runs
from baton.tracking.runs import Run
from baton.training import distributed, horovod

log = logging.getLogger("baton")


@contextmanager
def workers_up(config: Config) -> Iterator[dict[str, Any]]:
    """The workers on this machine, which import TensorFlow before there is work; none where Spark starts them."""
    worker_group = None if config.distributed_train.launcher == "spark" else horovod.WorkerGroup(config)
    try:
        yield {"worker_group": worker_group}
    finally:
        if worker_group:
            worker_group.end()


@step(
    "distributed_train",
    ("ingest_run_id", "the ingest run whose dataset is trained on"),
    ("tune_run_id", "the tune run whose best hyperparameters are taken; may be empty"),
    imports=("baton.registry.candidates", "mlflow.pyfunc"),  # after the workers' start, for it takes as long
    prepare=workers_up,
)
def distributed_train(
    config: Config, run: Run, worker_group: horovod.WorkerGroup | None, ingest_run_id: str, tune_run_id: str
) -> None:
    """Train with Horovod, each worker on its own shards, and log the model as a candidate."""
    ingest = runs.of_step(ingest_run_id, "ingest", "ingest_run_id")
    dataset = Dataset.open(ingest.data.tags[names.TAG_DATASET])
    config = tuned = pretrained.local(config).sized(dataset.rows["train"])
    if tune_run_id:
        tune = runs.of_step(tune_run_id, "tune", "tune_run_id")
        tuned = pretrained.local(config.overridden(runs.artifact(tune, names.BEST_PARAMETERS)))
    scaled = distributed.scaled(tuned, dataset.rows["train"])
    run.params({f"distributed_train.{k}": v for k, v in config.dump()["distributed_train"].items()})
    with resume.acquire(scaled, "distributed_train", dataset, run) as folder:
        _, earlier = resume.load_previous(folder, run)
        told = 0 if earlier is None else earlier.epoch + 1
        result = distributed.train(
            scaled, dataset, folder, on_epoch(run), run_id=run.id, epochs_told=told, worker_group=worker_group
        )
        run.tag(names.TAG_RESTARTS, str(result.restarts))
        run.metrics({names.SECONDS_WAITED: result.waited})
        from baton.registry import candidates  # not sooner: it loads TensorFlow, and the workers start first

        candidates.log_candidate(scaled, run, dataset, result)


def on_epoch(run: Run) -> Callable[[int, dict[str, float]], None]:
    """What logs an epoch's metrics on the run."""
    return lambda epoch, logs: run.metrics(logs, epoch)


if __name__ == "__main__":
    distributed_train()
