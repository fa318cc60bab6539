"""tune: a dataset in, the best hyperparameters out, every trial a nested run."""

import functools
import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from baton import names
from baton.config.schema import Config
from baton.data.dataset import Dataset
from baton.data.sources.files import engine_for
from baton.orchestration import resume
from baton.orchestration.step import step
from baton.registry import pretrained
from baton.reporting.figures import training
from baton.runtime import spark
from baton.tracking import inputs, runs
from baton.tracking.runs import Run
from baton.training import objectives
from baton.tuning import connect, hyperopt
from baton.tuning import workers as trials
from baton.tuning.hyperopt import Trial

log = logging.getLogger("baton")
JOURNAL, STARTED = "trials.jsonl", "started"


@contextmanager
def workers_up(config: Config) -> Iterator[dict[str, Any]]:
    """The local workers, which import TensorFlow before the search begins; none where Spark runs the trials."""
    if engine_for(config) == "spark":
        yield {"workers": None}
    else:
        with trials.Workers(config.tune) as workers:
            yield {"workers": workers}


@step(
    "tune",
    ("ingest_run_id", "the ingest run whose dataset is searched on"),
    imports=("hyperopt",),
    prepare=workers_up,
)
def tune(config: Config, run: Run, workers: trials.Workers | None, ingest_run_id: str) -> None:
    """Search the hyperparameters, in warm local workers, with SparkTrials or in tasks of Spark Connect."""
    ingest = runs.of_step(ingest_run_id, "ingest", "ingest_run_id")
    dataset = Dataset.open(ingest.data.tags[names.TAG_DATASET])
    objectives.demand_targets(config, dataset)
    config = pretrained.local(config)
    own, config = hyperopt.own_values(config, dataset.rows["train"]), config.sized(dataset.rows["train"])
    inputs.log_dataset(run, dataset, ("train", "validation"))
    with resume.acquire(config, "tune", dataset, run) as state:
        finished = search_on(config, run, dataset, state, workers, own)
        report(config, run, finished)


def report(config: Config, run: Run, finished: list[Trial]) -> None:
    """Log all trials, figures of them, and the best."""
    run.json([trial.to_dict() for trial in finished], names.TRIALS)
    run.figures(training.search([trial.to_dict() for trial in finished]))
    winner = hyperopt.best(finished)
    run.json(winner.parameters, names.BEST_PARAMETERS)
    run.tag(names.TAG_OUTPUT, hashlib.sha256(json.dumps(winner.parameters, sort_keys=True).encode()).hexdigest())
    run.params({f"best.{key}": value for key, value in winner.parameters.items()})
    run.metrics({f"best_validation_{config.primary_metric}": winner.loss or 0.0, "trials": len(finished)})
    log.info("best of %d trials: %s %.4f with %s", len(finished), config.primary_metric, winner.loss, winner.parameters)


def search_on(
    config: Config,
    run: Run,
    dataset: Dataset,
    state: Path,
    workers: trials.Workers | None,
    own: dict[str, Any] | None,
) -> list[Trial]:
    """Run the search on the engine of the config, its `own` values first; log each trial, and keep it in `state`."""
    objective = functools.partial(trials.run_trial, config, str(dataset.folder.absolute()))
    if workers is None and not spark.connects(config):
        if (state / STARTED).exists():
            log.warning("SparkTrials cannot go on with the interrupted search: it starts anew.")
        (state / STARTED).touch()
        finished = hyperopt.spark_search(config, objective, own)
        for trial in finished:
            log_trial(config, run, trial)
        return finished
    journal = hyperopt.Journal(state / JOURNAL)
    if journal.trials:
        run.tag(names.TAG_RESUMED, f"trial {len(journal.trials)} of an interrupted search")
        log.info("going on after %d trials of an interrupted search", len(journal.trials))
    evaluate = functools.partial((workers or connect.Tasks(config)).evaluate, objective)
    finished = hyperopt.search(config, evaluate, lambda trial: log_trial(config, run, trial), journal, own)
    if workers is not None:
        run.metrics({names.SECONDS_WAITED: workers.waited()})
    return finished


def log_trial(config: Config, run: Run, trial: Trial) -> None:
    """A finished trial → a nested run with its parameters, curve and end."""
    log.info("trial %d/%d %s: %s", trial.number + 1, config.tune.max_trials, trial.status, trial.loss or trial.error)
    runs.log_nested(
        run,
        f"trial {trial.number + 1}",
        params=trial.parameters,
        history=trial.history,
        metrics={} if trial.loss is None else {config.primary_metric: trial.loss},
        error=trial.error,
    )


if __name__ == "__main__":
    tune()
