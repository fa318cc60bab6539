"""The examples in the docstrings of the public API: each is run, on real parts, and gives what it says."""

import doctest

import mlflow
import pytest
import yaml

from baton.config import loading, schema
from baton.data import dataset as datasets
from baton.data import preprocessing
from baton.networks import build
from baton.serving import raw_columns
from baton.tracking import runs

PUBLIC = [loading, schema, datasets, preprocessing, raw_columns, runs]
TESTS = [(module, test) for module in PUBLIC for test in doctest.DocTestFinder().find(module) if test.examples]


@pytest.fixture(scope="module")
def parts(regression, tmp_path_factory):
    """What the examples speak of."""
    config, dataset = regression
    folder = tmp_path_factory.mktemp("examples")
    (folder / "shop.yaml").write_text(yaml.safe_dump({"name": "shop", "data": {"source": "x", "task": "regression"}}))
    preprocessor = dataset.preprocessor
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        experiment = runs.client().create_experiment("examples", artifact_location=folder.as_uri())
        yield {
            "yaml_file": str(folder / "shop.yaml"),
            "config": config,
            "dataset": dataset,
            "folder": folder,
            "preprocessor": preprocessor,
            "rows": preprocessing.usable(dataset.raw_test(), preprocessor)[0],
            "model": raw_columns.RawColumnModel(preprocessor, build.build(preprocessor, config.model)),
            "run": runs.Run(runs.client().create_run(experiment).info.run_id, experiment, "train", {}),
        }
        mlflow.set_tracking_uri(None)


def test_the_public_api_has_examples():
    assert len(TESTS) >= 25


@pytest.mark.parametrize(("module", "test"), TESTS, ids=[test.name.removeprefix("baton.") for _, test in TESTS])
def test_an_example_gives_what_it_says(module, test, parts):
    told = []
    test.globs = {**vars(module), **parts}
    doctest.DocTestRunner(verbose=False).run(test, out=told.append)
    assert not told, "".join(told)
