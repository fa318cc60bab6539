"""What register logs of a model beside its verdict: how it comes to its predictions, and which labels look wrong."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from baton import names
from baton.config.schema import Config, validate
from baton.data import cells as shown
from baton.data.dataset import Dataset
from baton.data.preprocessing import Preprocessor
from baton.errors import Diverged
from baton.evaluation import metrics
from baton.inspection import crossfit
from baton.inspection import explanation as explain
from baton.inspection import label_errors as audits
from baton.inspection.crossfit import OutOfFold, Rows
from baton.registry import evidence, versions
from baton.registry.gate import Evidence
from baton.reporting.figures import explanation as figures_explain
from baton.reporting.figures import label_audit
from baton.serving.raw_columns import RawColumnModel
from baton.tracking import runs
from baton.tracking.runs import Run

log = logging.getLogger("baton")


MOST_SHOWN = 100  # suspects in audit.json; the Parquet file has all
MOST_PICTURES = 24
MOST_TOLD = 4  # columns in the log's line
CHAMPION, TRIVIAL = "champion", "trivial"


def explanation(config: Config, run: Run, dataset: Dataset, model: RawColumnModel) -> None:
    """Explain a sample of the test rows; log `explanation.json` and its figures."""
    settings = config.register_.explain
    if not settings.rows or not dataset.rows["test"]:
        run.json(None, names.EXPLANATION)
        return
    found = explain.explain(model, dataset.raw_test(), settings, config.seed)
    told = explain.to_dict(found)
    run.json(told, names.EXPLANATION)
    run.figures(figures_explain.draw(found))
    top = ", ".join(f"{column['name']} {column['share']:.0%}" for column in told["columns"][:MOST_TOLD])
    log.info("explained %s test rows in %.1f s: %s", f"{told['rows']:,}", told["seconds"], top)
    if told["rows"] < min(settings.rows, dataset.rows["test"]) and not found.grid:
        log.warning("register.explain.seconds is over: %d of %d rows were explained.", told["rows"], settings.rows)


def audit(config: Config, run: Run, dataset: Dataset, chosen: Any, candidate_ids: list[str], found: Evidence) -> None:
    """Look for wrong labels in all splits; log `audit.json`, the table of all suspects, and figures."""
    settings = config.register_.audit
    if not settings.folds or not dataset.rows["test"]:
        run.json(None, names.AUDIT)
        return
    try:
        judged = Judged(config, dataset, candidate_config(chosen), dataset.preprocessor)
    except Diverged as error:
        log.warning("no audit of the labels, for a fold's training diverged: %s", error)
        run.json(None, names.AUDIT)
        return
    losses = _losses(dataset, chosen, candidate_ids, found, judged.truth[judged.numbers("test")])
    ranking = audits.ranking(losses, ~np.isin(judged.numbers("test"), judged.suspects.rows), config.primary_metric)
    table = judged.table()
    told = judged.told(table, ranking, config.primary_metric)
    run.json(told, names.AUDIT)
    _log_table(run, table)
    pictures = judged.pictures(MOST_PICTURES)
    run.figures(label_audit.draw(told, table, judged.fitted.classes, pictures))
    moved = [entry["model"] for entry in ranking if entry["rank_original"] != entry["rank_cleaned"]]
    log.info(
        "audit: %s of %s rows look wrong, by estimate %.1f %% are; without them the order of models %s; %.1f s",
        f"{told['issues']:,}", f"{told['rows_audited']:,}", 100 * told["estimated_error_rate"],
        f"changes: {', '.join(moved)}" if moved else "stays", told["seconds"],
    )  # fmt: skip


def candidate_config(chosen: Any) -> Config:
    """The config that a candidate's run was given, with the hyperparameters that its tune run found."""
    config = validate(runs.artifact(chosen, names.CONFIG, yaml.safe_load), {}, f"run {chosen.info.run_id}")
    if not (tune := chosen.data.params.get("tune_run_id")):
        return config
    return config.overridden(runs.artifact(runs.of_step(tune, "tune", "tune_run_id"), names.BEST_PARAMETERS))


class Judged:
    """The rows of all splits, one after the other, judged out of sample, and those that are suspected."""

    def __init__(self, config: Config, dataset: Dataset, trained_by: Config, fitted: Preprocessor):
        self.fitted, self.rows = fitted, Rows(dataset)
        self.test, self.test_numbers, truth = explain.usable(dataset.raw_test(), fitted)
        settings = config.register_.audit
        learning = trained_by.overridden({"seed": config.seed})
        self.found: OutOfFold = crossfit.out_of_fold(
            learning, fitted, self.rows, settings, lambda network: RawColumnModel(fitted, network).output(self.test)
        )
        self.folds = settings.folds
        self.truth = np.concatenate([self.rows.truth, truth])
        outputs = np.concatenate([self.found.outputs, self.found.other])
        judge = audits.classes if fitted.classes else lambda t, o: audits.numbers(t, o[:, 0])
        self.suspects = judge(self.truth, outputs)

    def numbers(self, split: str) -> np.ndarray:
        """The numbers, among all rows, of a split's."""
        first = len(self.rows.truth)
        return np.arange(first, len(self.truth)) if split == "test" else np.flatnonzero(self.rows.places()[0] == split)

    def table(self) -> pa.Table:
        """The suspects, worst first: where they are, what they are given and suggested, and their cells."""
        suspects = self.suspects
        splits, numbers = self.rows.places()
        splits = np.concatenate([splits, np.repeat("test", len(self.test_numbers))])[suspects.rows]
        numbers = np.concatenate([numbers, self.test_numbers])[suspects.rows]
        columns = {
            "rank": np.arange(1, len(suspects.rows) + 1),
            "split": splits.tolist(),
            "row": numbers,
            "given": self._named(self.truth[suspects.rows]),
            "suggested": self._named(suspects.suggested),
            "quality": suspects.quality,
            "confidence": suspects.confidence,
        }
        return pa.table(columns | {f"value_{name}": cells for name, cells in self._cells().items()})

    def told(self, table: pa.Table, ranking: list[dict[str, Any]], metric: str) -> dict[str, Any]:
        """The table and the ranking → `audit.json`: plain values."""
        shown_ = []
        for row in table.slice(0, MOST_SHOWN).to_pylist():
            values = {key.removeprefix("value_"): row.pop(key) for key in list(row) if key.startswith("value_")}
            shown_.append({**row, "values": values})
        return {
            "task": self.fitted.task,
            "rows_audited": len(self.truth),
            "folds": self.folds,
            "epochs": self.found.epochs,
            "rows_learnt": self.found.learnt,
            "seconds": round(self.found.seconds, 2),
            "estimated_error_rate": self.suspects.rate,
            "issues": table.num_rows,
            "shown": shown_,
            "ranking": ranking,
            "metric": metric,
            "method": self.suspects.method,
        }

    def pictures(self, most: int) -> list[np.ndarray]:
        """The first suspects' images as pixels; none where there are no images."""
        if not self.fitted.names("image"):
            return []
        from baton.data.feed import pixels

        first, inner = self.suspects.rows[:most], len(self.rows.truth)
        held = self._taken(first[first < inner])
        images: dict[int, Any] = dict(zip(np.sort(first[first < inner]).tolist(), held.get("image", []), strict=True))
        test = first[first >= inner] - inner
        column = self.test.column(self.fitted.features[0].name)
        images |= {int(i) + inner: column[int(i)].as_py() for i in test}
        encoded = [images[int(i)] for i in first]
        whole = [i for i, image in enumerate(encoded) if isinstance(image, bytes)]
        decoded: Any = pixels(np.array([encoded[i] for i in whole], object), self.fitted.image_size) if whole else []
        for place, image in zip(whole, decoded, strict=True):
            encoded[place] = image
        return encoded

    def _cells(self) -> dict[str, list[str]]:
        """The suspects' raw columns as text: train's and validation's decoded, test's as they came."""
        rows, inner = self.suspects.rows, len(self.rows.truth)
        own = np.sort(rows[rows < inner])
        test = rows[rows >= inner] - inner
        found: dict[str, list[str]] = {}
        decoded = shown.encoded_cells(shown.unblocked(self._taken(own), self.fitted), self.fitted) if len(own) else {}
        typed = self.test.take(pa.array(test))
        for column in self.fitted.features:
            texts = dict(zip(own.tolist(), decoded.get(column.name, []), strict=True))
            texts |= dict(
                zip((test + inner).tolist(), shown.typed_cells(typed.column(column.name), column), strict=True)
            )
            found[column.name] = [texts[number] for number in rows.tolist()]
        return found

    def _taken(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        return self.rows.take(np.sort(numbers)) if len(numbers) else {}

    def _named(self, targets: np.ndarray) -> list[str]:
        if self.fitted.classes:
            return [self.fitted.classes[int(target)] for target in targets]
        return [shown.number_text(float(f"{target:.6g}")) for target in targets]


def _losses(
    dataset: Dataset, chosen: Any, candidate_ids: list[str], found: Evidence, truth: np.ndarray
) -> dict[str, np.ndarray]:
    """Each candidate's, the champion's and the trivial predictor's loss on every test row."""
    raw = dataset.raw_test()
    losses: dict[str, np.ndarray] = {}
    for run_id in candidate_ids:
        candidate = runs.of_steps(run_id, ("train", "distributed_train"), "candidate_run_ids")
        name = str(candidate.data.tags[names.TAG_STEP])
        name = f"{name} {run_id[:8]}" if name in losses else name
        if run_id == chosen.info.run_id:
            losses[name] = found.losses
            continue
        other = versions.load(candidate.data.tags[names.TAG_MODEL_URI], candidate.data.tags)
        losses[name] = evidence.losses(*other.evaluate(raw))
    if found.rival is not None and found.rival.losses is not None and len(found.rival.losses) == len(found.losses):
        losses[CHAMPION] = found.rival.losses
    losses[TRIVIAL] = metrics.row_losses(truth, metrics.trivial(dataset.preprocessor.spec["target"], len(truth)))
    return losses


def _log_table(run: Run, table: pa.Table) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / names.SUSPECTS
        pq.write_table(table, path)
        run.file(path, names.AUDIT_FOLDER)
