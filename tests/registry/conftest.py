"""Trained candidates that the tests of promotion share."""

from pathlib import Path
from types import SimpleNamespace

import databases
import logged
import mlflow
import pyarrow.parquet as pq
import pytest
import tiny
import yaml

from baton.config import schema
from baton.registry import candidates
from baton.tracking import runs
from baton.training import callbacks, fit


@pytest.fixture(scope="session")
def trained(tmp_path_factory, regression):
    """A tracking store with two candidates of the pipeline `lab`, the second of which is better."""
    given, dataset = regression
    home = tmp_path_factory.mktemp("trained")
    config = schema.validate(given.dump() | {"name": "lab", "warehouse": str(home / "warehouse")}, {}, "test")
    with logged.tracked(home):
        experiment = mlflow.create_experiment("lab", artifact_location=(home / "artifacts").as_uri())
        run_ids = []
        for epochs in (4, 30):
            result = callbacks.Result(fit.train(config.overridden({"train.epochs": epochs}), dataset).model)
            with runs.start("train", config, {}) as run:
                candidates.log_candidate(config, run, dataset, result)
            run_ids.append(run.id)
    return SimpleNamespace(home=home, config=config, dataset=dataset, run_ids=run_ids, experiment=experiment)


@pytest.fixture(scope="session")
def laboratory(trained):
    """What makes a pipeline's folder with a copy of that store: (its folder, changes of the config) → the pipeline."""

    def made(home: Path, **changes) -> SimpleNamespace:
        settings = {
            "source": str(home / "new.parquet"), "output": str(home / "predictions"), "drift": {"measure": False}
        }  # fmt: skip
        places = {"warehouse": str(home / "warehouse"), "batch_infer": settings}
        config = schema.validate(trained.config.dump() | places | changes, {}, "test")
        (home / "lab.yaml").write_text(yaml.safe_dump(config.dump()))
        pq.write_table(tiny.regression_table(50, seed=5), home / "new.parquet")
        databases.copy(trained.home / "mlflow.db", home / "mlflow.db")
        return SimpleNamespace(
            home=home, config=config, dataset=trained.dataset, trained=trained.run_ids, experiment=trained.experiment
        )

    return made
