"""Work that is killed goes on from what it left, and ends as if nothing had happened."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import killed_training
import mlflow
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import tiny
import yaml
from killed_training import Kill

from baton import names
from baton.data.dataset import Dataset
from baton.errors import BadInput, BatonError, WorkerLost
from baton.orchestration import cache, resume
from baton.runtime import processes
from baton.training import callbacks, distributed, fit, horovod
from baton.training.checkpoints import Checkpoint
from baton.training.collective import SingleProcess
from baton.tuning import hyperopt

ROOT = Path(__file__).parents[2]
EPOCHS = 4
CHANGES = {
    "model.hidden": [8, 8],
    "model.dropout": 0.3,
    "model.batch_normalization": True,
    "train.optimizer": "adamw",
    "train.schedule": "cosine",
    "train.learning_rate": 0.02,
    "train.warmup_epochs": 0.5,
    "train.epochs": EPOCHS,
    "train.steps_per_execution": 3,
}


class Killed(Exception):
    """What a callback raises in the middle of an epoch."""


def killed() -> None:
    raise Killed


def same(one: callbacks.Result, other: callbacks.Result) -> bool:
    """Bit-identical weights and the same way to them."""
    pairs = zip(one.model.get_weights(), other.model.get_weights(), strict=True)
    way = [(r.history, r.best_epoch, r.best_value) for r in (one, other)]
    return all(a.tobytes() == b.tobytes() for a, b in pairs) and way[0] == way[1]


@pytest.fixture(scope="module")
def work(regression):
    """A config with all that is random or has a state, its dataset, and the undisturbed result."""
    config, dataset = regression
    config = config.overridden(CHANGES)
    return config, dataset, fit.train(config, dataset)


@pytest.mark.parametrize("epoch", range(EPOCHS))
def test_a_training_stopped_in_any_epoch_ends_the_same(work, tmp_path, epoch):
    config, dataset, undisturbed = work
    checkpoint, told = Checkpoint(tmp_path / "epoch.npz", "one"), []
    with pytest.raises(Killed):
        fit.train(config, dataset, callbacks=[Kill(epoch, killed)], checkpoint=checkpoint)
    assert checkpoint.path.exists() == (epoch > 0)
    interrupted = []
    spy = Kill(-2, None)
    spy.on_train_batch_end = lambda batch, logs=None: interrupted.append(spy.now)
    resumed = fit.train(
        config, dataset, callbacks=[spy], checkpoint=checkpoint, on_epoch=lambda e, logs: told.append((e, logs))
    )
    assert min(interrupted) == epoch  # nothing was trained twice
    assert same(resumed, undisturbed)
    assert [e for e, _ in told] == list(range(EPOCHS))
    assert {name: [logs[name] for _, logs in told] for name in resumed.history} == resumed.history


def test_a_training_stopped_time_and_again_stops_early_where_it_should(work, tmp_path):
    """Stopped after every epoch, so that best weights and patience pass through four checkpoints."""
    config, dataset, _ = work
    config = config.overridden({"train.patience": 1, "train.learning_rate": 0.3, "train.epochs": 12})
    undisturbed = fit.train(config, dataset)
    ran = len(undisturbed.history["loss"])
    assert 1 < ran < 12
    checkpoint = Checkpoint(tmp_path / "epoch.npz")
    for epoch in range(1, ran):
        with pytest.raises(Killed):
            fit.train(config, dataset, callbacks=[Kill(epoch, killed)], checkpoint=checkpoint)
    assert same(fit.train(config, dataset, checkpoint=checkpoint), undisturbed)
    # Killed after the last epoch: there is nothing to train, and the best weights are there.
    nothing = Kill(-2, None)
    nothing.on_train_batch_end = lambda batch, logs=None: killed()
    assert same(fit.train(config, dataset, callbacks=[nothing], checkpoint=checkpoint), undisturbed)


def test_a_killed_process_leaves_a_checkpoint_that_another_goes_on_from(work, tmp_path):
    config, dataset, undisturbed = work
    path = tmp_path / "epoch.npz"
    command = [sys.executable, killed_training.__file__, json.dumps(config.dump()), str(dataset.folder), str(path), "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    assert subprocess.run(command, env=environment, timeout=120, check=False).returncode == -signal.SIGKILL
    state = Checkpoint(path).load()
    assert (state.epoch, state.run_id) == (1, "killed")
    resumed = fit.train(config, dataset, checkpoint=Checkpoint(path))
    assert same(resumed, undisturbed)


def test_a_damaged_checkpoint_is_ignored_with_a_warning(work, tmp_path, caplog):
    config, dataset, undisturbed = work
    checkpoint = Checkpoint(tmp_path / "epoch.npz")
    with pytest.raises(Killed):
        fit.train(config, dataset, callbacks=[Kill(2, killed)], checkpoint=checkpoint)
    whole = checkpoint.path.read_bytes()
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, meta=np.array([{"run_id": "x"}], dtype=object))
    for bad in (b"", whole[: len(whole) // 2], whole[:-1], pickled.read_bytes(), b"no such thing"):
        checkpoint.path.write_bytes(bad)
        caplog.clear()
        assert checkpoint.load() is None
        assert "damaged and not used" in caplog.text
    assert same(fit.train(config, dataset, checkpoint=checkpoint), undisturbed)


def test_a_flipped_bit_in_a_checkpoint_is_noticed_or_changes_nothing(work, tmp_path):
    """Some bytes of a zip file say nothing that is read, such as the times of its entries."""
    config, dataset, _ = work
    checkpoint = Checkpoint(tmp_path / "epoch.npz")
    with pytest.raises(Killed):
        fit.train(config, dataset, callbacks=[Kill(2, killed)], checkpoint=checkpoint)
    whole, kept, noticed = checkpoint.path.read_bytes(), checkpoint.load(), 0
    for place in range(0, len(whole), len(whole) // 300):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        checkpoint.path.write_bytes(bytes(flipped))
        found = checkpoint.load()
        noticed += found is None
        if found is not None:
            assert (found.epoch, len(found.variables)) == (kept.epoch, len(kept.variables))
            for mine, theirs in zip(found.variables, kept.variables, strict=True):
                np.testing.assert_array_equal(mine, theirs)
    assert noticed > 100


def test_a_checkpoint_of_another_network_is_not_used(work, tmp_path, caplog):
    config, dataset, _ = work
    checkpoint = Checkpoint(tmp_path / "epoch.npz")
    fit.train(config.overridden({"model.hidden": [4], "train.epochs": 1}), dataset, checkpoint=checkpoint)
    fit.train(config.overridden({"train.epochs": 1}), dataset, checkpoint=checkpoint)
    assert "is of another network" in caplog.text


def test_a_folder_belongs_to_the_same_work_and_to_one_process(work, tmp_path, caplog):
    config, dataset, _ = work
    config = config.overridden({"warehouse": str(tmp_path)})
    run = SimpleNamespace(id="r")
    places = []
    for changes in ({}, {"seed": 1}, {"train.epochs": 6}, {"model.dropout": 0.4}, {"register.tolerance": 1.0}):
        with (
            pytest.raises(Killed),
            resume.acquire(config.overridden(changes), "train", dataset, run) as folder,
        ):
            (folder / "left").touch()
            places.append(folder)
            raise Killed
    assert len(set(places)) == 4 and places[0] == places[4]  # the gate is none of training's business
    with resume.acquire(config, "train", dataset, run) as folder:
        assert (folder / "left").exists()  # what the interrupted one left
        with resume.acquire(config, "train", dataset, run) as other:
            assert other != folder and "Another process does the same work" in caplog.text
        assert folder.exists() and not other.exists()
    assert not folder.exists()  # removed once the work is through


def test_a_folder_belongs_to_a_dataset_with_all_that_is_read_of_it(work, tmp_path):
    """What the train rows were like is not in the fingerprint, and goes into the model."""
    config, dataset, _ = work
    config, run = config.overridden({"warehouse": str(tmp_path)}), SimpleNamespace(id="r")
    other = Dataset.load(shutil.copytree(dataset.folder, tmp_path / "dataset"))
    (other.folder / names.TRAINED_ON).write_bytes(b"no rows")
    with resume.acquire(config, "train", dataset, run) as one, resume.acquire(config, "train", other, run) as two:
        assert one != two and one.name.partition("-")[0] != two.name.partition("-")[0]


def test_a_folder_can_be_claimed_while_its_last_user_removes_it(work, tmp_path):
    config, dataset, _ = work
    config, run = config.overridden({"warehouse": str(tmp_path)}), SimpleNamespace(id="r")

    def claim(_):
        for _ in range(40):
            with resume.acquire(config, "train", dataset, run) as folder:
                (folder / "mine").touch(exist_ok=False)  # nobody else is in it

    cache.code("steps/train.py")  # remembered: CPython 3.11 cannot parse in several threads
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(claim, range(4)))
    assert not list((tmp_path / config.name / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """A config for two workers whose epochs take a while, and its dataset."""
    workers = {"workers": 2, "scale_learning_rate": False}
    config, dataset = tiny.build(
        tiny.regression_table(), tmp_path_factory.mktemp("together"), "regression", distributed_train=workers
    )
    return config.overridden({**CHANGES, "train.batch_size": 2, "train.learning_rate": 0.002}), dataset


def workers_of(pid: int) -> list[psutil.Process]:
    """The Horovod workers among a process's descendants."""
    found = psutil.Process(pid).children(recursive=True)
    return [
        p
        for p in found
        if p.name().startswith("python") and p.cmdline()[1:3] == ["-m", "baton.training.horovod_worker"]
    ]


@pytest.fixture(scope="module")
def undisturbed(together, tmp_path_factory):
    result = distributed.train(*together, tmp_path_factory.mktemp("undisturbed"), lambda epoch, logs: None)
    assert result.restarts == 0
    return result


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (signal.SIGKILL, "A Horovod worker was lost"),
        (signal.SIGSTOP, "The Horovod workers hang: for 25 seconds none of them has trained or scored a batch"),
    ],
    ids=["killed", "frozen"],
)
def test_a_lost_worker_costs_no_more_than_its_epoch(together, undisturbed, tmp_path, caplog, number, sentence):
    config, dataset = together
    seconds = 25 if number == signal.SIGSTOP else 60  # a busy machine takes its time for the first batch
    config = config.overridden({"distributed_train.hang_timeout_s": seconds})
    told, ended = [], []

    def lose_one(epoch, logs):
        told.append(epoch)
        if epoch == 0:  # the sooner, the more epochs are left, however late a busy machine tells of this one
            ended.extend(workers_of(os.getpid()))
            ended[-1].send_signal(number)

    result = distributed.train(config, dataset, tmp_path, lose_one, run_id="r")
    assert len(ended) == 2 and not any(process.is_running() for process in ended)
    assert result.restarts == 1 and same(result, undisturbed)
    assert told == list(range(EPOCHS))  # each epoch once
    assert sentence in caplog.text and "Restart 1 of 2" in caplog.text


class Attempts:
    """Stands for the workers: each launch does the next thing of a list."""

    def __init__(self, monkeypatch, folder: Path, *ends):
        self.folder, self.ends = folder, list(ends)
        monkeypatch.setattr(horovod, "WorkerGroup", lambda config: self)
        monkeypatch.setattr(distributed, "_watch", lambda process, epochs: self.ends.pop(0)())

    def work(self, job) -> None:
        """Nobody is told what to do."""

    def lost(self) -> None:
        raise WorkerLost("A Horovod worker was lost.")

    def failed(self) -> None:
        horovod._tell_error(self.folder, BadInput("The data are bad."))
        raise WorkerLost("A Horovod worker was lost.")


def test_restarts_end_after_as_many_as_allowed(together, tmp_path, monkeypatch):
    config, dataset = together
    attempts = Attempts(monkeypatch, tmp_path)
    attempts.ends = [attempts.lost] * 4
    with pytest.raises(BatonError, match=r"was lost\. Restarts: 1, as many as distributed_train\.max_restarts"):
        distributed.train(
            config.overridden({"distributed_train.max_restarts": 1}), dataset, tmp_path, lambda epoch, logs: None
        )
    assert len(attempts.ends) == 2


def test_a_workers_own_error_is_final(together, tmp_path, monkeypatch):
    config, dataset = together
    attempts = Attempts(monkeypatch, tmp_path)
    attempts.ends = [attempts.lost, attempts.failed, attempts.lost]
    with pytest.raises(BadInput, match=r"^The data are bad\.$"):
        distributed.train(config, dataset, tmp_path, lambda epoch, logs: None)
    assert len(attempts.ends) == 1


def test_workers_that_are_lost_after_their_work_do_not_do_it_again(together, tmp_path, monkeypatch, caplog):
    config, dataset = together
    attempts = Attempts(monkeypatch, tmp_path)

    def lost_at_the_end() -> None:
        (tmp_path / horovod.RESULT).write_text("{}")
        attempts.lost()

    attempts.ends = [lost_at_the_end]
    monkeypatch.setattr(distributed, "_result", lambda folder, started: callbacks.Result(None))
    assert distributed.train(config, dataset, tmp_path, lambda epoch, logs: None).restarts == 0
    assert "A Horovod worker was lost. Their work was done." in caplog.text


def test_only_the_loss_of_another_worker_is_no_error_of_its_own():
    import tensorflow as tf
    from horovod.common.exceptions import HorovodInternalError

    assert horovod._lost_another(HorovodInternalError("gone"))
    assert horovod._lost_another(tf.errors.UnknownError(None, None, "Connection closed by peer"))
    assert not any(map(horovod._lost_another, (BatonError("x"), ValueError("x"), OSError(28, "No space left"))))


class Pair(SingleProcess):
    """Two processes, the other of which has read a state of its own."""

    size = 2

    def __init__(self, other: float):
        self.other = other

    def sum(self, values):
        return values + np.array([self.other, self.other**2]) if len(values) == 2 else values * 2


@pytest.mark.parametrize("alike", [True, False])
def test_workers_that_read_different_states_start_anew(work, tmp_path, alike):
    config, dataset, _ = work
    checkpoint = Checkpoint(tmp_path / "epoch.npz")
    fit.train(config.overridden({"train.epochs": 1}), dataset, checkpoint=checkpoint)
    mark = float(checkpoint.load().digest())
    result = SimpleNamespace(model=SimpleNamespace(variables=checkpoint.load().variables, optimizer=None))
    result.model.optimizer = SimpleNamespace(variables=[])
    keeper = callbacks.BestWeights.__new__(callbacks.BestWeights)
    keeper.checkpoint, keeper.result, keeper.collective = checkpoint, result, Pair(mark if alike else 0.0)
    assert (keeper._agreed_state() is not None) == alike


SPACE = {
    "train.learning_rate": {"loguniform": [0.001, 0.1]},
    "optimizer": {"choice": [{"train.optimizer": "adam"}, {"train.optimizer": "momentum", "train.momentum": 0.8}]},
}


class Search:
    """A search whose trials' losses follow from their parameters, killed once `dies_at` trials are done."""

    def __init__(self, path: Path, dies_at: int | None = None, **tune):
        settings = {"space": SPACE, "max_trials": 14, "generation": 4, "time_budget_s": 600, **tune}
        self.config, self.path, self.dies_at = tiny.config(tune=settings), path, dies_at
        self.trained, self.told = [], []

    def evaluate(self, batch, deadline):
        for trial in reversed(batch):
            if len(self.trained) == self.dies_at:
                raise Killed
            self.trained.append(trial.number)
            trial.loss, trial.history = trial.parameters["train.learning_rate"] / 3, {"loss": [1 / 3, 0.1]}
            if trial.number == 3:
                trial.status, trial.loss, trial.error = "diverged", None, "why"
            yield trial

    def run(self):
        return hyperopt.search(self.config, self.evaluate, self.told.append, hyperopt.Journal(self.path))


@pytest.mark.parametrize("dies_at", [0, 1, 3, 4, 9, 13, 14])
def test_a_killed_search_replays_its_trials_and_finds_the_same(tmp_path, dies_at):
    undisturbed = Search(tmp_path / "undisturbed.jsonl").run()
    path = tmp_path / "trials.jsonl"
    first = Search(path, dies_at)
    if dies_at < 14:
        with pytest.raises(Killed):
            first.run()
    else:
        first.run()
    with path.open("ab") as file:
        file.write(b'{"elapsed": 3, "trial": {"num')  # what a kill in the middle of a write leaves
    second = Search(path)
    assert second.run() == undisturbed
    assert len(second.told) == 14  # the replayed ones are logged again
    assert sorted(first.trained + second.trained) == list(range(14))
    assert len(path.read_bytes().splitlines()) == 14
    assert hyperopt.best(second.run()) == hyperopt.best(undisturbed)


def test_the_time_a_killed_search_took_counts(tmp_path):
    path = tmp_path / "trials.jsonl"
    with pytest.raises(Killed):
        Search(path, 5).run()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**line, "elapsed": 50.0}) + "\n" for line in lines))
    late = Search(path, time_budget_s=20)
    assert [trial.number for trial in late.run()][:4] == [0, 1, 2, 3]
    assert not set(late.trained) & {0, 1, 2, 3, lines[-1]["trial"]["number"]}


def test_a_damaged_line_and_those_behind_it_are_run_again(tmp_path, caplog):
    path = tmp_path / "trials.jsonl"
    undisturbed = Search(path).run()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:6], b"\0\0\0\n", *lines[7:]]))
    again = Search(path)
    assert again.run() == undisturbed and len(again.trained) == 8
    assert "is damaged" in caplog.text


def test_a_trial_that_failed_is_run_again(tmp_path):
    path = tmp_path / "trials.jsonl"
    journal = hyperopt.Journal(path)
    journal._write(hyperopt.Trial(0, {}, "failed", error="The worker process died."))
    assert not hyperopt.Journal(path).trials


STOPS_WITHIN_S = 20  # OPERATIONS says about ten: this machine may be busy


class Main:
    """`python -m steps.main` or `mlflow run`, whose train step would go on for hours."""

    def __init__(self, home: Path, by_mlflow: bool = False):
        self.home, self.log = home, home / "log.txt"
        bin_folder = str(Path(sys.executable).parent)
        environment = {
            **os.environ,
            "PATH": bin_folder + os.pathsep + os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
        }
        command = [sys.executable, "-m", "steps.main", f"--config={home / 'tiny.yaml'}", "--set=", "--force="]
        if by_mlflow:
            project = ["mlflow", "run", ".", "-e", "main", "--env-manager", "local", "--experiment-name", "tiny"]
            command = [*project, "-P", f"config={home / 'tiny.yaml'}"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log, start_new_session=True)

    def child(self, step: str = "train") -> psutil.Process | None:
        found = living(psutil.Process(self.process.pid).children(recursive=True))
        return next((p for p in found if f"steps.{step}" in p.info["cmdline"]), None)

    def wait(self, happened):
        """Until `happened()` is something; main must live."""
        deadline = time.monotonic() + 150
        while not (result := happened()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                processes.Tree(self.process.pid).end()
                pytest.fail(self.log.read_text())
            time.sleep(0.1)
        return result


def living(found) -> list[psutil.Process]:
    """Those that have not ended, each with its command line in `info`; one that only waits to be reaped has ended."""
    ours = {process.pid for process in found if process.is_running()}
    every = psutil.process_iter(["cmdline", "status"])
    return [p for p in every if p.pid in ours and p.info["cmdline"] and p.info["status"] != psutil.STATUS_ZOMBIE]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a source and a config, and its tracking store."""
    pq.write_table(tiny.regression_table(), tmp_path / "source.parquet")
    tree = tiny.config(
        source=str(tmp_path / "source.parquet"),
        warehouse=str(tmp_path / "warehouse"),
        train={"epochs": 1_000_000, "patience": 1_000_000},
    ).dump()
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.create_experiment("tiny", artifact_location=(tmp_path / "artifacts").as_uri())
    return tmp_path


def found(step: str) -> list:
    """The runs of a step, the first one first."""
    runs = mlflow.MlflowClient().search_runs(["1"], f"tags.`{names.TAG_STEP}` = '{step}'")
    return sorted(runs, key=lambda run: run.info.start_time)


def test_a_killed_main_is_cleaned_up_after_and_a_stopped_one_leaves_nothing(project):
    first = Main(project)
    first.wait(lambda: list(project.glob("warehouse/*/checkpoints/*/epoch.npz")))
    started = processes.Tree(first.process.pid).known.values()
    assert any("steps.tune" in p.cmdline() for p in started)  # it waits for its turn
    first.process.kill()
    first.process.wait()
    assert not psutil.wait_procs(started, 60)[1]  # they have noticed
    (main,) = found("main")
    assert (main.info.status, found("train")[0].info.status) == ("RUNNING", "KILLED")
    # One step that has not, and a process of no concern to Baton that a tag names.
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "steps.train"])
    other = subprocess.Popen(["sleep", "600"])
    left = [
        mlflow.MlflowClient()
        .create_run("1", tags={names.TAG_PROCESS: processes.identity(p.pid), "mlflow.parentRunId": main.info.run_id})
        .info.run_id
        for p in (child, other)
    ]

    second = Main(project)
    second.wait(lambda: len(found("train")) == 2 and names.TAG_RESUMED in found("train")[1].data.tags)
    assert child.wait(1) == -signal.SIGTERM and other.poll() is None
    other.kill()
    assert {mlflow.get_run(run_id).info.status for run_id in (*left, main.info.run_id)} == {"KILLED"}
    earlier = found("train")[1].data.tags[names.TAG_RESUMED]
    assert re.fullmatch(rf"epoch \d+ of run {found('train')[0].info.run_id}", earlier)

    second.wait(lambda: second.child("tune") and second.child("tune").children())  # with workers that wait
    tree = processes.Tree(second.process.pid)
    assert len(tree.known) >= 5 and second.child().pid in tree.known
    second.process.send_signal(signal.SIGTERM)  # to main alone: it must reach the rest
    signalled = time.monotonic()
    assert second.process.wait(60) == 1
    assert not living(tree.known.values())
    assert time.monotonic() - signalled < STOPS_WITHIN_S
    assert second.log.read_text().splitlines()[-1] == "Stopped by a signal."
    (main,) = found("main")[1:]
    assert (main.info.status, found("train")[1].info.status) == ("KILLED", "KILLED")
    assert not mlflow.MlflowClient().search_runs(["1"], "attributes.status = 'RUNNING'")
    summary = mlflow.artifacts.load_dict(f"{main.info.artifact_uri}/{names.SUMMARY}")
    steps = {name: entry["status"] for name, entry in summary["steps"].items()}
    assert (steps["ingest"], steps["train"], steps["tune"]) == ("cached", "failed", "skipped")


@pytest.mark.parametrize(("by_mlflow", "number"), [(False, signal.SIGHUP), (True, signal.SIGTERM)])
def test_main_ends_with_its_terminal_and_with_its_launcher(project, by_mlflow, number):
    """SIGTERM ends `mlflow run` at once, which leaves its child alone: that one notices."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # where nohup runs the tests, main would ignore it too
    main = Main(project, by_mlflow)
    signal.signal(signal.SIGHUP, before)
    main.wait(lambda: main.child("ingest"))
    tree = processes.Tree(main.process.pid)
    assert len(tree.known) >= 2 + by_mlflow
    signalled = time.monotonic()
    # To `mlflow run` alone; the rest as a terminal does, to all at once.
    os.kill(main.process.pid, number) if by_mlflow else os.killpg(main.process.pid, number)
    assert not psutil.wait_procs([p for p in tree.known.values() if p.pid != main.process.pid], 60)[1]
    assert main.process.wait(60) == (-number if by_mlflow else 1)
    assert time.monotonic() - signalled < STOPS_WITHIN_S
    assert {run.info.status for step in ("main", "ingest") for run in found(step)} == {"KILLED"}
    assert not mlflow.MlflowClient().search_runs(["1"], "attributes.status = 'RUNNING'")


def test_an_identity_is_of_one_process_only():
    child = subprocess.Popen(["sleep", "600"])
    who = processes.identity(child.pid)
    assert processes.alive(who) and processes.alive(processes.me())
    pid, start, *rest = who.split(":")
    assert not processes.alive(":".join([pid, str(int(start) + 1), *rest]))  # its number was given anew
    assert not processes.alive("") and not processes.alive("no such")
    child.kill()
    child.wait()
    assert not processes.alive(who) and processes.identity(child.pid) is None


def test_a_tree_ends_with_its_orphans_and_those_that_ignore_signals(tmp_path):
    script = "trap '' TERM; (sleep 601 & echo $! > orphan); sh -c \"trap '' TERM; sleep 602\" & wait; sleep 603"
    root = subprocess.Popen(["sh", "-c", f"cd {tmp_path}; {script}"], start_new_session=True)
    tree = processes.Tree(root.pid)
    for _ in range(100):
        tree.look()
        time.sleep(0.02)
    assert len(tree.known) >= 3
    started = time.monotonic()
    tree.end(grace=0.5)
    assert time.monotonic() - started < 4
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in tree.known.values())
    os.kill(int((tmp_path / "orphan").read_text()), signal.SIGKILL)


def test_a_process_does_not_outlive_its_driver():
    driver = subprocess.Popen(["sleep", "600"])
    script = "import sys, time\nfrom baton.runtime import processes\n"
    script += "processes.end_with(sys.argv[1], processes.die)\nprint('up', flush=True)\ntime.sleep(600)"
    command = [sys.executable, "-c", script, processes.identity(driver.pid)]
    follower = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert follower.stdout.readline() == b"up\n"
    driver.kill()
    driver.wait()
    assert follower.wait(5) == -signal.SIGKILL


AMID_TRANSACTION = """
import os, signal, sys, time
import tiny
from sqlalchemy import event
from sqlalchemy.engine import Engine
from baton.orchestration import step
from baton.tracking import runs

met = []

def stop(connection):
    met.append(connection)
    if len(met) == 1:
        os.kill(os.getpid(), signal.SIGTERM)

def work():
    with runs.start("train", tiny.config(name="amid"), {}) as run:
        event.listen(Engine, "commit", stop)
        run.tag("amid", "a transaction")
        time.sleep(60)

sys.exit(step.guarded("train", work))
"""


def test_a_signal_amid_a_transaction_leaves_the_store_unlocked(tmp_path):
    store = f"sqlite:///{tmp_path}/mlflow.db"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environment |= {"MLFLOW_TRACKING_URI": store, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "support")))
    command = [sys.executable, "-c", AMID_TRANSACTION]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == "Stopped by a signal."
    (run,) = mlflow.MlflowClient(store).search_runs(["1"])
    assert run.info.status == "KILLED" and run.data.tags["amid"] == "a transaction"
