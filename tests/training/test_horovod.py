"""Two real workers: equal weights, the steps of one process, the metrics of the whole validation split."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import horovod_halves
import numpy as np
import pytest
import tiny
from sklearn.metrics import root_mean_squared_error

from baton.config.schema import Config
from baton.data.dataset import Dataset
from baton.data.feed import Feed
from baton.errors import BadInput
from baton.networks import prediction
from baton.runtime import paths
from baton.training import distributed, horovod
from baton.training.collective import SingleProcess

SCRIPT = Path(horovod_halves.__file__)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory) -> tuple[Config, Dataset]:
    """A dataset whose two shards have different numbers of rows, and of batches."""
    config, dataset = tiny.build(
        tiny.regression_table(),
        tmp_path_factory.mktemp("uneven"),
        "regression",
        data={"row_group_size": 21},  # an odd number of groups in each split
        distributed_train={"workers": 1, "scale_learning_rate": False},
    )
    for split in ("train", "validation"):
        shards = [sum(dataset.row_groups(split)[rank::2]) for rank in (0, 1)]
        assert abs(shards[0] - shards[1]) > 16
    return config.overridden({"distributed_train.workers": 2, "train.batch_size": 16}), dataset


@pytest.fixture(scope="module")
def halves(tmp_path_factory) -> Path:
    """Where two workers left their weights, each trained on half of every batch."""
    folder = tmp_path_factory.mktemp("halves")
    command = [
        str(Path(sys.executable).with_name("horovodrun")), "--gloo", "--network-interfaces", "lo",
        "-np", "2", "-H", "localhost:2", sys.executable, str(SCRIPT), str(folder),
    ]  # fmt: skip
    subprocess.run(command, env={**os.environ, **horovod.environment(2)}, check=True, timeout=240)
    return folder


@pytest.mark.parametrize("name", horovod_halves.OPTIMIZERS)
def test_two_workers_on_halves_take_the_steps_of_one_on_the_whole(halves, name):
    alone = horovod_halves.trained(name, SingleProcess())
    start = horovod_halves.network(seed=1).get_weights()
    with np.load(halves / "rank0.npz") as held:
        for index, (weight, first) in enumerate(zip(alone, start, strict=True)):
            assert np.abs(weight - first).max() > 1e-3
            np.testing.assert_allclose(held[f"{name}_{index}"], weight, atol=1e-5)


def test_all_ranks_hold_identical_weights(halves):
    with np.load(halves / "rank0.npz") as one, np.load(halves / "rank1.npz") as other:
        assert one.files == other.files and one["size"] == 2
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name])
        np.testing.assert_array_equal(one["total"], [2, 1, 2.0**61])  # float64, exactly


def test_uneven_shards_train_together(uneven, tmp_path):
    """Also: epochs are passed on as they end, and metrics are those of the whole validation split."""
    config, dataset = uneven
    told = []
    result = distributed.train(config, dataset, tmp_path, lambda epoch, logs: told.append((epoch, logs)))
    assert [epoch for epoch, _ in told] == [0, 1, 2]
    assert {n: [logs[n] for _, logs in told] for n in result.history} == result.history
    assert result.history["val_rmse"][-1] < result.history["val_rmse"][0]
    rows = Feed(dataset, "validation", 64).arrays()
    targets = rows.pop("target")
    output = prediction.predict(result.model, rows)
    assert result.best_value == pytest.approx(root_mean_squared_error(targets, output[:, 0]), rel=1e-6)
    assert json.loads((tmp_path / horovod.RESULT).read_text())["workers"] == 2
    with np.load(tmp_path / "epoch.npz") as held:
        assert held["epoch"] == 2


def test_a_failing_worker_ends_the_job(uneven, tmp_path, capfd):
    config, dataset = uneven
    changes = {"train.optimizer": "sgd", "train.learning_rate": 1e30, "train.gradient_clip": None}
    started = time.monotonic()
    with pytest.raises(BadInput, match=r"^Training diverged in epoch 1: the loss is not finite"):
        distributed.train(config.overridden(changes), dataset, tmp_path, lambda epoch, logs: None)
    assert time.monotonic() - started < 150
    assert "baton: Training diverged in epoch 1" in "".join(capfd.readouterr())
    assert not (tmp_path / horovod.RESULT).exists()


def test_a_dataset_of_too_few_row_groups_is_refused(uneven, tmp_path):
    config, dataset = uneven
    few = len(dataset.row_groups("validation"))
    more = config.overridden({"distributed_train.workers": few + 1})
    with pytest.raises(BadInput, match=rf"row groups for {few} workers: run ingest again with .*workers={few + 1}"):
        distributed.train(more, dataset, tmp_path, lambda epoch, logs: None)


@pytest.mark.parametrize(
    ("optimizer", "settings", "batch", "rate", "warmup"),
    [
        ("sgd", {}, 32, 0.02, 1.0),
        ("adamw", {}, 32, 0.01 * 2**0.5, 1.0),
        ("sgd", {"scale_learning_rate": False}, 32, 0.01, 0.25),
        ("momentum", {"batch_size": 16}, 16, 0.01, 1.0),
        ("nesterov", {"batch_size": 64, "workers": 4, "warmup_epochs": 0.1}, 64, 0.08, 0.25),
    ],
)
def test_the_learning_rate_is_scaled_with_the_batch_of_all(optimizer, settings, batch, rate, warmup):
    train = {"learning_rate": 0.01, "batch_size": 32, "warmup_epochs": 0.25, "optimizer": optimizer}
    scaled = distributed.scaled(tiny.config(train=train, distributed_train={"workers": 2, **settings}), 6400).train
    assert (scaled.batch_size, scaled.learning_rate, scaled.warmup_epochs) == (batch, pytest.approx(rate), warmup)


def test_a_config_without_sizes_is_scaled_from_those_its_rows_give():
    train = {"learning_rate": 0.01, "optimizer": "sgd", "batch_size": 0, "epochs": 0}
    own = distributed.scaled(tiny.config(train=train, distributed_train={"workers": 2}), 6400).train
    assert (own.batch_size, own.epochs, own.learning_rate) == (64, 30, pytest.approx(0.02))
    given = distributed.scaled(tiny.config(train=train, distributed_train={"workers": 2, "batch_size": 16}), 6400).train
    assert (given.batch_size, given.learning_rate) == (16, pytest.approx(0.005))


def test_workers_share_the_cores_and_find_the_project(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    given = horovod.environment(2)
    assert (given["TF_NUM_INTRAOP_THREADS"], given["OMP_NUM_THREADS"]) == ("2", "2")
    assert given["PYTHONPATH"].split(os.pathsep) == [str(paths.CODE), "/elsewhere"]
    assert horovod.environment(9)["OMP_NUM_THREADS"] == "1"


def test_workers_on_other_machines_have_the_code_that_they_are_sent_and_no_path_of_the_drivers(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert "PYTHONPATH" not in horovod._sent(2, path=False) and "PYTHONPATH" in horovod._sent(2, path=True)
    function, (code, fields) = horovod._shipped(horovod.Job({}, "dataset", "folder", "run"))
    assert horovod.Job(**fields) == horovod.Job({}, "dataset", "folder", "run")
    (tmp_path / "sent").write_bytes(cloudpickle.dumps((function, (code, {"no_field": 1}))))
    script = "import pickle; function, given = pickle.load(open('sent', 'rb')); function(*given)"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert "Job.__init__() got an unexpected keyword argument 'no_field'" in ended.stderr, ended.stderr


def test_a_crew_whose_end_is_cut_short_leaves_no_folder(tmp_path):
    """Workers take seconds to be ended, and whoever dismisses a waiting step does not wait for that."""

    def cut_short(grace: float) -> None:
        raise KeyboardInterrupt

    worker_group = object.__new__(horovod.WorkerGroup)
    worker_group.place, worker_group.tree = tmp_path / "crew" / horovod.JOB, SimpleNamespace(end=cut_short)
    worker_group.place.parent.mkdir()
    with pytest.raises(KeyboardInterrupt):
        worker_group.end()
    assert not worker_group.place.parent.exists()


@pytest.mark.parametrize(
    ("rank", "size", "cores", "own"),
    [
        (0, 2, {0, 1, 2, 3}, {0, 1}),
        (1, 2, {0, 1, 2, 3}, {2, 3}),
        (2, 3, {4, 5, 6, 7}, {6, 7}),
        (2, 4, {3, 9}, {3}),
        (2, 3, {5}, {5}),
    ],
)
def test_workers_of_a_machine_share_its_cores_evenly(monkeypatch, rank, size, cores, own):
    bound = []
    monkeypatch.setenv("HOROVOD_LOCAL_RANK", str(rank))
    monkeypatch.setenv("HOROVOD_LOCAL_SIZE", str(size))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: cores)
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, chosen: bound.append(set(chosen)))
    horovod.keep_to_own_cores()
    assert bound == [own]


def test_horovods_thread_wakes_when_there_are_tensors():
    """A sum takes a few hand-overs between threads, not the rest of a cycle."""
    script = (
        "import time, numpy as np\n"
        "from baton.training.horovod import Horovod\n"
        "collective = Horovod()\n"
        "for _ in range(3): collective.sum(np.ones(8))\n"
        "started = time.perf_counter()\n"
        "for _ in range(5): assert collective.sum(np.ones(8)).tolist() == [2.0] * 8\n"
        "assert time.perf_counter() - started < 5, 'it waited for the end of cycles'\n"
    )
    command = [
        sys.executable, "-m", "baton.training.horovod", "--gloo", "--network-interfaces", "lo",
        "-np", "2", "-H", "localhost:2", sys.executable, "-c", script,
    ]  # fmt: skip
    environment = {**os.environ, **horovod.environment(2), "HOROVOD_CYCLE_TIME": "3000"}
    subprocess.run(command, env=environment, check=True, timeout=240)


def test_two_workers_train_the_cnn_to_the_same_weights(tmp_path):
    """With batch statistics, averaged weights, smoothed and mixed targets, and a flip that the first decides.

    A worker compares the ranks' weights bit by bit and ends with an error where they differ.
    """
    config, dataset = tiny.build(
        tiny.image_table(),
        tmp_path,
        "image",
        data={"row_group_size": 10},
        train={"weight_average": 0.5, "label_smoothing": 0.1, "augment": {"flip": "auto", "shift": 0.2, "mixup": 0.2}},
        distributed_train={"workers": 2},
    )
    result = distributed.train(config, dataset, tmp_path / "job", lambda epoch, logs: None)
    statistics = [v for v in result.model.non_trainable_variables if v.name == "moving_mean"]
    assert len(statistics) == 2 and all((v.numpy() != 0).any() for v in statistics)
    assert result.augmentation.keys() >= {"shift", "mixup"}
    targets, output = prediction.predict_all(result.model, Feed(dataset, "validation", 64))
    assert result.best_value == pytest.approx(-np.log(output[np.arange(len(targets)), targets]).mean(), rel=1e-4)
