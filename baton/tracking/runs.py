"""MLflow runs: open the one that was handed over or a new one, find what earlier runs left, log."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from baton import names
from baton.config.schema import Config
from baton.errors import BadInput, BatonError, explained, printable
from baton.redaction import masked, masked_values
from baton.runtime import interrupts, processes
from baton.tracking import experiments
from baton.tracking.servers import check_servers, exclusive, local_place

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
# MLflow's own 7 retries wait for four minutes, each time; 5 wait for one.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")

OPEN = ("RUNNING", "SCHEDULED")
INPUT_TRIES = 5
PAGE = 50  # runs asked for at once where most often the first will do

KIND = "mlflow.experimentKind"


@dataclass(frozen=True)
class Run:
    """An active MLflow run of a step, the options its entry point was given, and the run's tags when it began.

    What it logs is masked.
    """

    id: str
    experiment_id: str
    step: str
    options: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)

    def tag(self, key: str, value: str) -> None:
        """Set a tag of the run.

        Args:
            key: of the tag.
            value: its text, of which at most 5,000 characters are kept.

        Example:
            >>> run.tag("note", "by hand")
        """
        client().set_tag(self.id, key, masked(value)[:5000])

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        """Log numbers, all at one step.

        Args:
            values: {name: number}.
            step: of the curve, such as the epoch.

        Example:
            >>> run.metrics({"rmse": 1.5}, step=2)
        """
        from mlflow.entities import Metric

        now = _now_ms()
        rows = [Metric(key, float(value), now, step) for key, value in values.items()]
        client().log_batch(self.id, metrics=rows)

    def params(self, values: dict[str, Any]) -> None:
        """Log parameters, as many as there are.

        Args:
            values: {name: value}; logging one again with another value fails.

        Raises:
            MlflowException: if the store refuses them.

        Example:
            >>> run.params({"train.epochs": 3})
        """
        rows = _params(values)
        for start in range(0, len(rows), 100):
            client().log_batch(self.id, params=rows[start : start + 100])

    def json(self, value: Any, name: str) -> None:
        """Log a value as a JSON artifact, secrets in it masked.

        Args:
            value: what JSON holds.
            name: of the artifact.

        Example:
            >>> run.json({"password": "x"}, "settings.json")
            >>> artifact(client().get_run(run.id), "settings.json")
            {'password': '***'}
        """
        client().log_text(self.id, json.dumps(masked_values(value), indent=1), name)

    def text(self, text: str, name: str) -> None:
        """Log a text artifact, secrets in it masked.

        Args:
            text: of the artifact.
            name: of the artifact.

        Example:
            >>> run.text("<p>all is well</p>", "page.html")
        """
        client().log_text(self.id, masked(text), name)

    def file(self, path: Path, folder: str | None = None) -> None:
        client().log_artifact(self.id, str(path), folder)

    def table(self, table: pa.Table, folder: str, name: str) -> None:
        """Log an Arrow table as a Parquet file."""
        import pyarrow.parquet as pq

        with tempfile.TemporaryDirectory() as home:
            pq.write_table(table, Path(home) / name)
            self.file(Path(home) / name, folder)

    def figures(self, figures: dict[str, Figure], folder: str = names.FIGURES) -> None:
        for name, figure in figures.items():
            client().log_figure(self.id, figure, f"{folder}/{name}.png")


def client() -> Any:
    """An MLflow client of the configured tracking store and registry."""
    from mlflow import MlflowClient

    return MlflowClient()


def reach() -> None:
    """Open the tracking store, which takes a while at first; raises `BadInput` within seconds if none answers."""
    import mlflow

    check_servers(mlflow.get_tracking_uri(), mlflow.get_registry_uri())
    with exclusive(mlflow.get_tracking_uri()):
        client().search_experiments(max_results=1)  # makes the tables of a new store


@contextmanager
def start(step: str, config: Config, options: dict[str, str]) -> Iterator[Run]:
    """The run handed over in MLFLOW_RUN_ID, else a new one in the pipeline's experiment.

    The run ends FINISHED, FAILED with the error's sentence as a tag, or KILLED if a signal stopped it.
    """
    failure: Exception | None = None
    try:
        with _started(step, config, options) as run:
            try:
                yield run
            except Exception as error:
                failure = error
                run.tag(names.TAG_ERROR, sentence(error))
                raise
    except Exception as error:  # noqa: BLE001 - if the failure could not even be told, it still counts first
        raise (failure or error) from None


@contextmanager
def _started(step: str, config: Config, options: dict[str, str]) -> Iterator[Run]:
    import mlflow

    handed_over = os.environ.get("MLFLOW_RUN_ID", "")
    if handed_over:
        _demand_open(handed_over, step)
    else:
        set_experiment(config.experiment_name)
    # From its first moment a run tells whose it is: whenever this process is killed, the next main can close it.
    tags = {"mlflow.runName": step, names.TAG_STEP: step} | owner_tags(config)
    with mlflow.start_run(tags=tags, log_system_metrics=False) as active:
        run = Run(active.info.run_id, active.info.experiment_id, step, options, active.data.tags)
        experiments.check_location(active.info.artifact_uri)
        try:
            # A Horovod worker or Spark's JVM must not take this run for its own.
            os.environ.pop("MLFLOW_RUN_ID", None)
            if not handed_over:
                run.params(options)  # MLflow's launcher logs them by itself
            for key, value in active.data.tags.items():
                if masked(value) != value:
                    run.tag(key, value)  # MLflow's own, such as mlflow.source.name
            _mark(run.experiment_id)
            run.text(_yaml(config), names.CONFIG)
            yield run
        except KeyboardInterrupt:
            _end_killed(run)
            raise


def owner_tags(config: Config) -> dict[str, str]:
    """Which pipeline's, and which process's, a run is."""
    whose = {names.TAG_HOST: socket.gethostname(), names.TAG_PROCESS: processes.me()}
    return {names.TAG_NAME: config.name} | whose


def _end_killed(run: Run) -> None:
    """End the innermost open run of this process, which a signal has stopped."""
    import mlflow

    with suppress(Exception):  # a server that does not answer
        run.tag(names.TAG_ERROR, interrupts.STOPPED)
    with suppress(Exception):
        mlflow.end_run("KILLED")


def set_experiment(name: str) -> None:
    """Make the experiment, if it is not there, and MLflow's active one; raises `BadInput` if it was deleted."""
    import mlflow

    mlflow.set_experiment(experiment_id=experiment_of(name))


def experiment_of(name: str) -> str:
    """The ID of the experiment of that name, which is made if it is not there; raises `BadInput` if it was deleted.

    MLflow keeps the default place of its artifacts as a plain path, and reads it as a URL: where that would be
    another place, the experiment is given a URL.
    """
    import mlflow

    uri, place = mlflow.get_tracking_uri(), Path("mlruns").absolute()
    with exclusive(uri):
        existing = client().get_experiment_by_name(name)
        if existing is not None and existing.lifecycle_stage == "deleted":
            raise experiments.deleted(name, existing.experiment_id)
        if existing is None and local_place(uri) is not None and experiments.is_misread(str(place)):
            return str(client().create_experiment(name, artifact_location=(place / name).as_uri()))
        return str(client().create_experiment(name) if existing is None else existing.experiment_id)


def _demand_open(run_id: str, step: str) -> None:
    """Raise `BadInput` if a run that was handed over has ended, or is another step's: it would be overwritten."""
    run = find(run_id)
    if run is None:
        raise BadInput(f"MLFLOW_RUN_ID is not a run of this tracking store: unset it. Received: {run_id}")
    if run.info.status not in OPEN:
        raise BadInput(
            f"MLFLOW_RUN_ID names a run that has ended, which a step would overwrite: unset it. "
            f"Received: {run_id}, which is {run.info.status}"
        )
    if (other := run.data.tags.get(names.TAG_STEP, step)) != step:
        raise BadInput(f"MLFLOW_RUN_ID must be a run of {step}: unset it. Received: {run_id}, a run of {other}")


def _mark(experiment_id: str) -> None:
    """Tell MLflow what the experiment is of: the UI would open it as one of language models.

    Two runs that write the tag for the first time at once would have the database refuse one of them.
    """
    import mlflow

    with exclusive(mlflow.get_tracking_uri()):
        if KIND not in client().get_experiment(experiment_id).tags:
            client().set_experiment_tag(experiment_id, KIND, "custom_model_development")


def create_child(parent: Run, step: str, parameters: dict[str, str]) -> str:
    """A new run nested under `parent`, with the tags and parameters MLflow's own launch would set."""
    import mlflow

    kept = ("mlflow.source.", "mlflow.project.", "mlflow.user", "mlflow.gitRepoURL", names.TAG_NAME)
    tags = {k: v for k, v in parent.tags.items() if k.startswith(kept)}
    tags |= {
        "mlflow.parentRunId": parent.id,
        "mlflow.project.entryPoint": step,
        "mlflow.source.type": "PROJECT",
        "mlflow.source.name": tags.get("mlflow.source.name", Path.cwd().as_uri()),
        "mlflow.project.backend": tags.get("mlflow.project.backend", "local"),
        "mlflow.project.trackingUri": mlflow.get_tracking_uri(),
        names.TAG_STEP: step,
        names.TAG_PIPELINE_RUN: parent.id,
    }
    if "mlflow.source.git.commit" not in tags and (commit := git_commit()):
        tags["mlflow.source.git.commit"] = commit
    tags = {key: masked(value) for key, value in tags.items()}
    run = client().create_run(parent.experiment_id, tags=tags, run_name=step)
    client().log_batch(run.info.run_id, params=_params(parameters))
    return run.info.run_id


def create_main(config: Config, experiment_id: str, key: str, options: dict[str, str]) -> str:
    """A new run of main for a job run that a scheduler drives, tagged with its key; the report ends it."""
    from mlflow.tracking.context.registry import resolve_tags

    tags = {**resolve_tags(), names.TAG_STEP: "main", names.TAG_NAME: config.name, names.TAG_PIPELINE: key}
    tags = {name: masked(value) for name, value in tags.items()}
    run_id = client().create_run(experiment_id, tags=tags, run_name="main").info.run_id
    client().log_batch(run_id, params=_params(options))
    client().log_text(run_id, _yaml(config), names.CONFIG)
    return run_id


def adopt(run_id: str, main: Run, step: str, tags: dict[str, str]) -> None:
    """Put a step's run below main's, with more tags."""
    above = {"mlflow.parentRunId": main.id, names.TAG_PIPELINE_RUN: main.id}
    whose = {names.TAG_STEP: step, names.TAG_HOST: socket.gethostname(), names.TAG_PROCESS: processes.me()}
    tag(run_id, above | whose | tags)


def of_job(main: Run, step: str) -> list[Any]:
    """The runs of a step below main's, the newest first."""
    query = f"tags.`{names.TAG_PIPELINE_RUN}` = '{main.id}' AND tags.`{names.TAG_STEP}` = '{step}'"
    order = ["attributes.start_time DESC"]
    return pages(partial(client().search_runs, [main.experiment_id], query, max_results=PAGE, order_by=order))


@contextmanager
def closed_on_failure(run_id: str) -> Iterator[None]:
    """Around what is done for a step in its run before that is started: if it fails, the run ends with that."""
    try:
        yield
    except BaseException as error:
        if client().get_run(run_id).info.status in OPEN:
            stopped = isinstance(error, KeyboardInterrupt)
            tag(run_id, {names.TAG_ERROR: interrupts.STOPPED if stopped else sentence(error)})
            close(run_id, "KILLED" if stopped else "FAILED")
        raise


@contextmanager
def nested(parent: Run, step: str, config: Config, inputs: dict[str, str]) -> Iterator[Run]:
    """A run of another step below one's own, whose work is done in this process; it ends as `start`'s does."""
    import mlflow

    options = {name: parent.options[name] for name in ("config", "set")} | inputs
    run_id = create_child(parent, step, options)
    tag(run_id, owner_tags(config))
    with mlflow.start_run(run_id, nested=True, log_system_metrics=False):
        run = Run(run_id, parent.experiment_id, step, options)
        run.text(_yaml(config), names.CONFIG)
        try:
            yield run
        except KeyboardInterrupt:
            _end_killed(run)
            raise
        except Exception as error:
            run.tag(names.TAG_ERROR, sentence(error))
            raise


def tag(run_id: str, values: dict[str, str]) -> None:
    """Set tags of a run that is not this process's own, all at once."""
    from mlflow.entities import RunTag

    client().log_batch(run_id, tags=[RunTag(key, masked(value)[:5000]) for key, value in values.items()])


def log_nested(
    parent: Run,
    name: str,
    params: dict[str, Any],
    history: dict[str, list[float]],
    metrics: dict[str, float],
    error: str = "",
) -> None:
    """A finished nested run: parameters, a curve a metric, and FAILED with the error if there is one."""
    from mlflow.entities import Metric, RunTag

    tags = {"mlflow.parentRunId": parent.id, "mlflow.user": _user(parent.id)}
    run_id = client().create_run(parent.experiment_id, tags=tags, run_name=name).info.run_id
    now = _now_ms()
    points = [Metric(key, v, now, step) for key, values in history.items() for step, v in enumerate(values)]
    points += [Metric(key, value, now, 0) for key, value in metrics.items()]
    marks = [RunTag(names.TAG_ERROR, masked(error)[:5000])] if error else []
    client().log_batch(run_id, metrics=points, params=_params(params), tags=marks)
    client().set_terminated(run_id, "FAILED" if error else "FINISHED")


def copy_inputs(source_id: str, run: Run) -> None:
    """Log the dataset inputs of another run on `run` too."""
    log_inputs(run, client().get_run(source_id).inputs.dataset_inputs)


def log_inputs(run: Run, inputs: list[Any]) -> None:
    """Log MLflow's `DatasetInput`s; raises `MlflowException` if the store refuses them.

    MLflow looks whether a dataset is known and inserts it if not: if another run does so in between, the store
    refuses the second. Then it is known, and the next try succeeds.
    """
    from mlflow.exceptions import MlflowException

    for more in range(INPUT_TRIES)[::-1]:
        try:
            return client().log_inputs(run.id, inputs)
        except MlflowException as error:
            if not more or "IntegrityError" not in str(error):
                raise


def close(run_id: str, status: str) -> None:
    """End a run that its own process could not end."""
    if client().get_run(run_id).info.status in OPEN:
        client().set_terminated(run_id, status)


def close_abandoned(experiment_id: str) -> list[str]:
    """End what a killed driver of this host left: its steps' processes, and every run still open as KILLED.

    A run is abandoned if its own process, or its driver's, is gone; or if it has no process yet, and its driver's
    run has ended. What a living main does is left alone. Returns the runs closed.
    """
    opened = _opened(experiment_id)
    gone = {run.info.run_id for run in opened if _is_gone(run) or _has_lost_its_driver(run)}
    ours = _below(gone, opened) + [run for run in opened if run.info.run_id in gone]
    for run in ours:
        who = run.data.tags.get(names.TAG_PROCESS, "")
        if processes.alive(who) and processes.runs_step(who):
            processes.Tree(int(who.partition(":")[0])).end()
        close(run.info.run_id, "KILLED")
    return [run.info.run_id for run in ours]


def close_below(run: Run, steps: set[str], but: Collection[str] = ()) -> None:
    """Close as KILLED what is still open below a run and its steps' runs: what they had no time to close."""
    for left in _below({run.id, *steps}, _opened(run.experiment_id)):
        if left.info.run_id not in but:
            close(left.info.run_id, "KILLED")


def _opened(experiment_id: str) -> list[Any]:
    return list(client().search_runs([experiment_id], "attributes.status = 'RUNNING'", max_results=1000))


def _below(parents: set[str], opened: list[Any]) -> list[Any]:
    """The open runs below the `parents`, without these."""
    found = set(parents)
    for _ in range(2):  # main → step → trial
        found |= {run.info.run_id for run in opened if run.data.tags.get("mlflow.parentRunId") in found}
    return [run for run in opened if run.info.run_id in found - parents]


def _has_lost_its_driver(run: Any) -> bool:
    """Whether a run was made for a process that did not come to take it, by one of Baton's runs that has ended."""
    from mlflow.exceptions import MlflowException

    tags = run.data.tags
    if names.TAG_PROCESS in tags or "mlflow.parentRunId" not in tags:
        return False
    try:
        parent = client().get_run(tags["mlflow.parentRunId"])
    except MlflowException:
        return False  # deleted
    return names.TAG_STEP in parent.data.tags and parent.info.status not in OPEN


def is_working(run: Any) -> bool:
    """Whether a run is open and its process, as far as this host can know, still runs."""
    return run.info.status in OPEN and not _is_gone(run)


def _is_gone(run: Any) -> bool:
    """Whether a run's process was on this host and has ended; of another container's nobody can know here."""
    tags = run.data.tags
    here = tags.get(names.TAG_HOST) == socket.gethostname() and names.TAG_PROCESS in tags
    return here and processes.ended(tags[names.TAG_PROCESS])


def of_step(run_id: str, step: str, parameter: str) -> Any:
    """The MLflow run `run_id`, which must be of `step`; raises `BadInput` naming the parameter."""
    return of_steps(run_id, (step,), parameter)


def of_steps(run_id: str, steps: tuple[str, ...], parameter: str) -> Any:
    """The MLflow run `run_id`, which must be a finished one of `steps`; raises `BadInput`."""
    from mlflow.exceptions import MlflowException

    wanted = " or ".join(steps)
    if not run_id:
        raise BadInput(f"{parameter} is missing: give it the run ID of a finished {wanted} run.")
    try:
        run = client().get_run(run_id)
    except MlflowException:
        raise BadInput(f"{parameter} is not a run of this tracking store. Received: {run_id}") from None
    found = run.data.tags.get(names.TAG_STEP)
    if found not in steps:
        raise BadInput(f"{parameter} must be a run of {wanted}. Received: {run_id}, a run of {found}")
    if run.info.status != "FINISHED":
        raise BadInput(f"{parameter} must be a finished run. Received: {run_id}, which is {run.info.status}")
    return run


def parameters(run: Any) -> dict[str, str]:
    """An MLflow run's parameters as they were given: MLflow's launcher logs them as it quotes them for its shell."""
    return {key: _unquoted(value) for key, value in run.data.params.items()}


def _unquoted(value: str) -> str:
    """What `shlex.quote` made a value of, or the value itself."""
    try:
        words = shlex.split(value)
    except ValueError:
        return value
    return words[0] if len(words) == 1 and shlex.quote(words[0]) == value else value


def find(run_id: str) -> Any | None:
    """The MLflow run of that ID, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return client().get_run(run_id)
    except MlflowException:
        return None


def artifact(run: Any, name: str, parse: Callable[[str], Any] = json.loads) -> Any:
    """An artifact of an MLflow run, parsed, as JSON by default; raises `BatonError` if it has none of that name."""
    return parse(content(run, name).decode())


def content(run: Any, name: str) -> bytes:
    """An artifact of an MLflow run, byte for byte; raises `BatonError` if it has none of that name."""
    from mlflow.exceptions import MlflowException

    try:
        if (folder := local_artifacts(run)) is not None:
            return (folder / name).read_bytes()
        with tempfile.TemporaryDirectory() as home:
            return Path(client().download_artifacts(run.info.run_id, name, home)).read_bytes()
    except (MlflowException, OSError) as error:
        raise BatonError(f"Run {run.info.run_id} has no artifact {name}: {error}") from None


def local_artifacts(run: Any) -> Path | None:
    """The folder of a run's artifacts, if it lies on this machine; reading there spares MLflow a dozen queries."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    place = urlparse(run.info.artifact_uri)
    if place.scheme not in ("", "file") or place.netloc:
        return None
    return Path(local_file_uri_to_path(run.info.artifact_uri))  # which decodes plain paths, too


def model_files(uri: str) -> dict[str, int]:
    """A logged model's URI (`models:/<model ID>`) → {path: bytes} of its files; none if it is not there."""
    from mlflow.exceptions import MlflowException

    model_id = uri.rpartition("/")[2]
    files: dict[str, int] = {}
    waiting: list[str | None] = [None]
    try:
        while waiting:
            for found in client().list_logged_model_artifacts(model_id, waiting.pop()):
                if found.is_dir:
                    waiting.append(found.path)
                else:
                    files[found.path] = found.file_size
    except (MlflowException, OSError):
        return {}
    return files


def git_commit() -> str | None:
    """The commit of the working tree, or None outside a git checkout."""
    command = ["git", "rev-parse", "--verify", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def sentence(error: BaseException) -> str:
    """An error in one line, without the secrets that it may quote."""
    known = explained(error)
    return masked(str(known) if known else f"{type(error).__name__}: {printable(str(error))}".removesuffix(": "))


def _yaml(config: Config) -> str:
    import yaml

    return yaml.safe_dump(masked_values(config.dump()), sort_keys=False)


def _params(values: dict[str, Any]) -> list[Any]:
    from mlflow.entities import Param

    return [Param(key, str(value)[:6000]) for key, value in masked_values(values).items()]


@cache
def _user(run_id: str) -> str:
    return client().get_run(run_id).data.tags.get("mlflow.user", "")


def cached(experiment_id: str, step: str, digest: str) -> Iterator[Any]:
    """Finished runs of a step with this cache key, newest first, but for hits, which are no sources of hits."""
    return _finished(experiment_id, step, f" AND tags.`{names.TAG_CACHE_KEY}` = '{digest}'")


def latest(experiment_id: str, step: str) -> Any | None:
    """The newest finished run of a step that has a cache key, or None."""
    found = _finished(experiment_id, step, "")
    return next((run for run in found if names.TAG_CACHE_KEY in run.data.tags), None)


def _finished(experiment_id: str, step: str, more: str) -> Iterator[Any]:
    """Newest first, asked for a page at a time; hits, of which there may be any number, are left out."""
    worked = f"tags.`{names.TAG_CACHE}` LIKE '{names.MISS}%' AND attributes.status = 'FINISHED'"
    query = f"tags.`{names.TAG_STEP}` = '{step}' AND {worked}{more}"
    order = ["attributes.start_time DESC"]
    return paged(partial(client().search_runs, [experiment_id], query, max_results=PAGE, order_by=order))


def of_pipeline(name: str) -> list[Any]:
    """All runs of a pipeline's steps that are not deleted, in whatever experiment."""
    experiments = [found.experiment_id for found in pages(client().search_experiments)]
    query = f"tags.`{names.TAG_NAME}` = '{name}'"
    return pages(partial(client().search_runs, experiments, query, max_results=1000))


def children(run: Any) -> list[str]:
    """The IDs of all runs nested under one."""
    query = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    return [found.info.run_id for found in client().search_runs([run.info.experiment_id], query, max_results=50_000)]


def pages(search: Callable[..., Any]) -> list[Any]:
    """Every page of one of MLflow's searches."""
    return list(paged(search))


def paged(search: Callable[..., Any]) -> Iterator[Any]:
    """What one of MLflow's searches finds; the next page is asked for when the last one is used up."""
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def now() -> str:
    """The present moment, ISO 8601."""
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat()


def _now_ms() -> int:
    import time

    return int(time.time() * 1000)
