"""train: a dataset in, a logged model with the config's own hyperparameters out: the baseline candidate."""

import logging
from collections.abc import Callable

from baton import names
from baton.config.schema import Config
from baton.data.dataset import Dataset
from baton.networks import zoo
from baton.orchestration import resume
from baton.orchestration.step import step
from baton.registry import candidates, pretrained
from baton.tracking import runs
from baton.tracking.runs import Run
from baton.training import callbacks, fit

log = logging.getLogger("baton")


def list_models(load: Callable[[], Config]) -> None:
    """Print what `model.backbone` takes by name."""
    print(*zoo.lines(), sep="\n")


@step(
    "train",
    ("ingest_run_id", "the ingest run whose dataset is trained on"),
    imports=("mlflow.tensorflow", "mlflow.pyfunc", "petastorm"),
    views={"list-models": ("print the networks that model.backbone takes by name, and run nothing", list_models)},
)
def train(config: Config, run: Run, ingest_run_id: str) -> None:
    """Train one model on one machine, evaluate it on validation data and log it."""
    ingest = runs.of_step(ingest_run_id, "ingest", "ingest_run_id")
    dataset = Dataset.open(ingest.data.tags[names.TAG_DATASET])
    config = pretrained.local(config).sized(dataset.rows["train"])
    with resume.acquire(config, "train", dataset, run) as folder:
        checkpoint, _ = resume.load_previous(folder, run)
        with candidates.autologging(run):
            shown = [callbacks.ProgressBar(config)]
            result = fit.train(config, dataset, callbacks=shown, checkpoint=checkpoint, aside=candidates.unlogged)
        candidates.log_candidate(config, run, dataset, result)


if __name__ == "__main__":
    train()
