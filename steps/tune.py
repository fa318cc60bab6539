"""tune: a dataset in, the best hyperparameters out, every trial a nested run."""

import hashlib
import json
import logging
from pathlib import Path

from baton import checkpoints, figures, names, reports, runs, search, trials
from baton.config import Config
from baton.dataset import Dataset
from baton.runs import Run
from baton.search import Trial
from baton.sources import engine_for
from baton.step import step

log = logging.getLogger("baton")
JOURNAL, STARTED = "trials.jsonl", "started"


@step("tune", ("ingest_run_id", "the ingest run whose dataset is searched on"))
def tune(config: Config, run: Run, ingest_run_id: str) -> None:
    """Search the hyperparameters, in warm local workers or with SparkTrials."""
    ingest = runs.of_step(ingest_run_id, "ingest", "ingest_run_id")
    dataset = Dataset.open(ingest.data.tags[names.TAG_DATASET])
    config = config.sized(dataset.rows["train"])
    reports.log_inputs(run, dataset, ("train", "validation"))
    with checkpoints.claimed(config, "tune", dataset, run) as state:
        finished = search_on(config, run, dataset, state)
        report(config, run, finished)


def report(config: Config, run: Run, finished: list[Trial]) -> None:
    """Log all trials, figures of them, and the best."""
    run.json([trial.to_dict() for trial in finished], names.TRIALS)
    run.figures(figures.search([trial.to_dict() for trial in finished]))
    winner = search.best(finished)
    run.json(winner.parameters, names.BEST_PARAMETERS)
    run.tag(names.TAG_OUTPUT, hashlib.sha256(json.dumps(winner.parameters, sort_keys=True).encode()).hexdigest())
    run.params({f"best.{key}": value for key, value in winner.parameters.items()})
    run.metrics({f"best_validation_{config.primary_metric}": winner.loss or 0.0, "trials": len(finished)})
    log.info("best of %d trials: %s %.4f with %s", len(finished), config.primary_metric, winner.loss, winner.parameters)


def search_on(config: Config, run: Run, dataset: Dataset, state: Path) -> list[Trial]:
    """Run the search on the engine of the config; log each trial as it ends, and keep it in `state`."""
    folder = str(dataset.folder.absolute())
    if engine_for(config) == "spark":
        if (state / STARTED).exists():
            log.warning("SparkTrials cannot go on with the interrupted search: it starts anew.")
        (state / STARTED).touch()
        finished = search.spark_search(config, lambda parameters: trials.run_trial(config, folder, parameters))
        for trial in finished:
            log_trial(config, run, trial)
        return finished
    journal = search.Journal(state / JOURNAL)
    if journal.trials:
        run.tag(names.TAG_RESUMED, f"trial {len(journal.trials)} of an interrupted search")
        log.info("going on after %d trials of an interrupted search", len(journal.trials))
    with trials.Workers(config, folder) as workers:
        return search.search(config, workers.evaluate, lambda trial: log_trial(config, run, trial), journal)


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
