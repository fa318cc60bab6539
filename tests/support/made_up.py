"""What the runs of a whole pipeline leave: made-up artifacts in the shapes that the steps log, for tests of pages."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PIL import Image

from baton import names
from baton.reporting.html.artifacts import StepArtifacts

HOSTILE = "<script>alert(1)</script>"
FIGURES = {
    "train": ("curves", "predicted_vs_actual", "residuals", "slices", "intervals"),
    "tune": ("search",),
    "distributed_train": ("curves", "predicted_vs_actual", "residuals", "slices", "intervals"),
    "register": (
        *("predicted_vs_actual", "residuals", "slices", "intervals", "comparison", "costs"),
        *("shap_importance", "shap_beeswarm", "shap_dependence_1", "shap_row_1", "audit_ranking", "audit_targets"),
    ),
    "batch_infer": ("drift", "drift_columns"),
}


def png(of: str, width: int = 750, dpi: int = 150) -> bytes:
    """A name → a small PNG that no other name has, of so many pixels and dots an inch."""
    content = io.BytesIO()
    colour = zlib.crc32(of.encode())
    Image.new("RGB", (width, 30), (colour & 255, colour >> 8 & 255, colour >> 16 & 255)).save(
        content, "png", dpi=(dpi, dpi)
    )
    return content.getvalue()


def figures(step: str) -> dict[str, bytes]:
    """The figures that a step's run has: {artifact: PNG}."""
    return {f"{names.FIGURES}/{name}.png": png(f"{step} {name}") for name in FIGURES[step]}


def slice_of(column: str, text: str, rows: int, value: float, worse: bool) -> dict[str, Any]:
    return {
        "column": column, "slice": text, "kind": "category", "rows": rows, "metric": "rmse", "value": value,
        "interval": [value * 0.95, value * 1.06], "difference": value - 15.2, "worse": worse,
    }  # fmt: skip


def assessment(rows: int, rmse: float) -> dict[str, Any]:
    """An Assessment of a regression."""
    return {
        "rows": rows,
        "metrics": {"rmse": rmse, "mae": 10.1, "r2": 0.88},
        "intervals": {"rmse": [rmse - 0.4, rmse + 0.5], "mae": [10.0, 10.3], "r2": None},
        "confidence": 0.95,
        "slices": [
            slice_of("dest", "ANC", 31, 41.2, False),
            slice_of("dep_delay", "15 to 1301", 4_480, 24.9, True),
            slice_of("carrier", HOSTILE, 610, 19.2, True),
            slice_of("time_hour", "weekday 4", 4_312, 16.8, True),
            slice_of("origin", "JFK", 9_981, 15.1, False),
            {**slice_of("tailnum", "missing", 12, 15.0, False), "value": None, "interval": None, "difference": None},
        ],
        "calibration": None,
        "conformal": {
            "levels": {"0.8": {"coverage": 0.803, "mean_width": 33.1}, "0.9": {"coverage": 0.899, "mean_width": 46.0}}
        },
        "thresholds": None,
        "class_balance": None,
    }


def classified() -> dict[str, Any]:
    """An Assessment of a classifier."""
    bins = [{"confidence": 0.55 + 0.1 * i, "accuracy": 0.5 + 0.11 * i, "rows": 40 * 3**i} for i in range(5)]
    thresholds = [
        {"class": HOSTILE, "objective": "f1", "threshold": 0.31, "precision": 0.7, "recall": 0.8, "f1": 0.746},
        {"class": "yes", "objective": "balanced_accuracy", "threshold": None, "precision": None, "recall": 1, "f1": 0},
    ]
    return {
        **assessment(1000, 0.3),
        "metrics": {"log_loss": 0.3, "accuracy": 0.9, "roc_auc": None},
        "intervals": {"log_loss": [0.28, 0.33]},
        "slices": [],
        "conformal": None,
        "calibration": {
            "before": {"ece": 0.041, "log_loss": 0.31}, "after": {"ece": 0.012, "log_loss": 0.3},
            "temperature": 1.32, "applied": True, "bins": [*bins, {"confidence": None, "accuracy": None, "rows": 0}],
        },
        "thresholds": thresholds,
        "class_balance": {HOSTILE: 0.8, "yes": 0.2},
    }  # fmt: skip


def evaluation(rmse: float) -> dict[str, Any]:
    history = {
        "loss": [0.4 / (i + 1) for i in range(12)],
        "rmse": [30 / (i + 1) ** 0.3 for i in range(12)],
        "val_rmse": [29 / (i + 1) ** 0.27 for i in range(11)] + [None],
        "learning_rate": [0.002] * 12,
    }
    return {
        "validation": {"rmse": rmse, "mae": 10.4, "r2": None}, "best_epoch": 10, "history": history, "seconds": 41.5,
        "restarts": 0, "parameters": 180_201, "files": {}, "assessment": assessment(30_119, rmse),
    }  # fmt: skip


def trials() -> list[dict[str, Any]]:
    losses = [21.0, 18.4, None, 19.9, 16.2, 16.9]
    return [
        {
            "number": number, "status": "ok" if loss else "diverged", "loss": loss, "seconds": 3.5,
            "error": "" if loss else f"the loss is not finite {HOSTILE}", "history": {},
            "parameters": {"model.hidden": [256, 128], "train.learning_rate": 0.002 * (number + 1)},
        }
        for number, loss in enumerate(losses)
    ]  # fmt: skip


def verdict() -> dict[str, Any]:
    comparison = {
        "metric": "rmse", "candidate": 15.2, "champion": 15.9, "champion_version": "3", "difference": -0.7,
        "low": -0.9, "high": -0.5, "confidence": 0.95, "rows": 29_939,
    }  # fmt: skip
    metrics = {"validation": {"rmse": 15.4, "mae": 10.4}, "test": {"rmse": 15.2, "mae": 10.1, "r2": None}}
    return {
        "name": "made-up", "version": "4", "alias": "champion", "verdict": "promoted",
        "reasons": ["29,939 test rows are enough", f"it beats the champion {HOSTILE}"],
        "candidate_run_id": "run-distributed_train", "candidate_step": "distributed_train", "metrics": metrics,
        "champion_before": "3", "comparison": comparison,
        "test_set": {"looks": 3, "confidence": 0.95, "interval": 0.99167, "error_left": 0.0125},
    }  # fmt: skip


def explanation() -> dict[str, Any]:
    importance = {"dep_delay": 21.3, "time_hour": 3.1, "dest": 2.2, HOSTILE: 0.4}
    explained = {
        "row": 17, "prediction": 62.1, "truth": None, "values": {"dep_delay": "71", "dest": HOSTILE},
        "shap": {"dep_delay": 58.1, "time_hour": -3.0, "dest": 0.9},
    }  # fmt: skip
    return {
        "rows": 2000, "background": 100, "seconds": 19.0, "output": "arr_delay", "unit": "arr_delay's own",
        "base_value": 6.1, "additivity": 1e-5,
        "columns": [
            {"name": name, "kind": "numeric", "importance": value, "share": value / 27}
            for name, value in importance.items()
        ],
        "rows_explained": [explained, {**explained, "truth": 55.0}],
    }  # fmt: skip


def audit() -> dict[str, Any]:
    shown = [
        {
            "rank": i + 1, "split": "train", "row": 1000 + i, "given": HOSTILE if i == 0 else "cat", "suggested": "dog",
            "quality": 0.01 * i, "confidence": 0.97, "values": {"x": "1", "y": HOSTILE},
        }
        for i in range(30)
    ]  # fmt: skip
    ranking = [
        {"model": "train", "original": 0.31, "cleaned": 0.21, "rank_original": 1, "rank_cleaned": 2},
        {"model": "champion", "original": 0.32, "cleaned": 0.2, "rank_original": 2, "rank_cleaned": 1},
        {"model": "trivial", "original": None, "cleaned": None, "rank_original": None, "rank_cleaned": None},
    ]
    return {
        "task": "multiclass", "rows_audited": 4000, "folds": 5, "seconds": 30.0, "estimated_error_rate": 0.031,
        "issues": 130, "shown": shown, "ranking": ranking, "metric": "log_loss", "method": "confident learning",
    }  # fmt: skip


def costs() -> dict[str, Any]:
    one = {
        "model": "train", "asked": "none", "views": 1, "multiply_adds": 4_000_000, "seconds_a_row": 0.0004,
        "value": 0.1007, "interval": [0.095, 0.107], "difference": None,
    }  # fmt: skip
    many = {
        **one, "asked": "googlenet", "views": 144, "multiply_adds": 576_000_000, "seconds_a_row": 0.06,
        "value": 0.0789, "interval": [0.073, 0.085], "difference": {"value": -0.0218, "low": -0.026, "high": -0.018},
    }  # fmt: skip
    other = {**one, "model": HOSTILE, "multiply_adds": None, "interval": None}
    left_out = [f"{HOSTILE} by 144 views would take about 90 s"]
    return {
        "metric": "error", "rows": 2990, "confidence": 0.95, "seconds": 50.0, "costs": [one, many, other],
        "left_out": left_out,
    }  # fmt: skip


def drift() -> dict[str, Any]:
    column = {
        "name": "month", "kind": "numeric", "psi": 9.8, "statistic": "ks", "distance": 1.0, "p_value": 0.0,
        "effect_size": 1.0, "missing_reference": 0.0, "missing_now": 0.0, "unseen_share": None, "verdict": "drift",
        "bins": [[1.0, 0.6, 0.0], [6.0, 0.4, 0.1], [11.0, 0.0, 0.9]],
    }  # fmt: skip
    other = {**column, "name": HOSTILE, "kind": "categorical", "psi": 0.12, "verdict": "warn", "unseen_share": 0.02,
             "statistic": "chi2", "bins": [[HOSTILE, 0.9, 0.8], ["unseen", 0.0, 0.2]]}  # fmt: skip
    empty = {**column, "name": "empty", "psi": None, "statistic": None, "distance": None, "p_value": None,
             "effect_size": None, "verdict": "ok", "bins": []}  # fmt: skip
    area = {"auc": 1.0, "interval": [1.0, 1.0], "verdict": "drift"}
    return {
        "rows": 28_135, "reference_rows": 240_268, "columns": [column, other, empty],
        "prediction": {**column, "name": "prediction", "psi": 0.05, "verdict": "ok"},
        "domain_auc": {**area, "without": {"columns": ["month"], **area, "auc": 0.71}},
        "live": {
            "metrics": {"rmse": 19.2, "r2": None}, "intervals": {"rmse": [18.9, 19.5]}, "rows": 27_020,
            "difference": {"metric": "rmse", "confidence": 0.95, "value": 4.0, "low": 3.6, "high": 4.4},
        },
        "reference_metrics": {"rmse": 15.2}, "warnings": ["month has drifted: PSI 9.80", HOSTILE],
        "thresholds": {"psi": 0.2, "auc": 0.75}, "seconds": 0.6,
    }  # fmt: skip


def manifest() -> dict[str, Any]:
    rows = {"input": 1100, "train": 800, "validation": 100, "test": 100, "quarantined": 100}
    files = [{"split": s, "path": f"{s}/part-00000.parquet", "sha256": "a" * 64, "rows": 1} for s in names.SPLITS]
    return {"rows": rows, "files": files, "schema": [], "fingerprint": "f" * 64}


def profile() -> dict[str, Any]:
    quantiles = dict(zip(("0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99"), range(7), strict=True))
    number = {"rows": 1000, "missing": 3, "mean": 3.0, "std": 1.0, "min": 0, "max": 9, "quantiles": quantiles}
    return {"month": number, HOSTILE: {"rows": 1000, "missing": 0, "distinct": 2, "top": {HOSTILE: 900, "b": 100}}}


def columns() -> dict[str, Any]:
    """columns.json: a number with a mark for missing cells, and a category that few rows share."""
    lines = [
        {"name": "month", "kind": "numeric", "why": "all its cells are numbers", "missing": 0.003, "unknown": None},
        {"name": HOSTILE, "kind": "categorical", "why": "text", "missing": 0.0, "unknown": 0.7},
    ]
    warning = f"{HOSTILE}: 70 % of the cells of new rows are unknown to the model."
    return {
        "columns": [{**line, "example": f"'{HOSTILE}'"} for line in lines],
        "warnings": ["month: '?' taken as missing (0.3 % of the cells).", warning],
    }


def artifacts() -> dict[str, dict[str, Any]]:
    """{step: {artifact: content}} of a run in which everything was on."""
    return {
        "ingest": {
            names.MANIFEST: manifest(),
            names.PROFILE: profile(),
            names.COLUMNS: columns(),
            names.REASONS: {f"month is infinite {HOSTILE}": 100},
            names.CACHE_PARTS: {"data/made-up.csv content": "c" * 64},
        },
        "train": {names.EVALUATION: evaluation(16.0), **figures("train")},
        "tune": {names.TRIALS: trials(), **figures("tune")},
        "distributed_train": {names.EVALUATION: evaluation(15.4), **figures("distributed_train")},
        "register": {
            names.VERDICT: verdict(),
            names.ASSESSMENT: {"validation": assessment(30_119, 15.4), "test": assessment(29_939, 15.2)},
            names.EXPLANATION: explanation(),
            names.AUDIT: audit(),
            names.COSTS: costs(),
            **figures("register"),
        },
        "batch_infer": {
            names.SCORING: {
                "rows_in": 28_140, "rows_scored": 28_135, "rows_quarantined": 5, "path": "predictions/made-up",
                "reasons": {HOSTILE: 5}, "unseen_categories": {"tailnum": 255}, "model_name": "made-up",
                "model_version": "4",
            },
            names.DRIFT: drift(),
            **figures("batch_infer"),
        },
    }  # fmt: skip


def steps(
    home: Path, left: dict[str, dict[str, Any]], failed: dict[str, str] | None = None
) -> dict[str, StepArtifacts]:
    """Write artifacts as runs would and open them; steps that left nothing were skipped, or `failed` with an error."""
    failed = failed or {}
    return {
        name: _step_artifacts(home / name, name, left.get(name), failed.get(name, "")) for name in names.STEPS
    }  # fmt: skip


def run_of(folder: Path, step: str, tags: dict[str, str] | None = None, params: dict[str, str] | None = None) -> Any:
    """What pages need of an MLflow run."""
    info = SimpleNamespace(run_id=f"run-{step}", artifact_uri=folder.as_uri(), start_time=1_763_800_000_000)
    return SimpleNamespace(info=info, data=SimpleNamespace(tags=tags or {}, params=params or {}))


def _step_artifacts(folder: Path, step: str, left: dict[str, Any] | None, error: str) -> StepArtifacts:
    if left is None and not error:
        return StepArtifacts(step)
    for name, content in (left or {}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    params = {"model.dropout": "0.1" if step == "train" else "0.2", "train.optimizer": "adamw"}
    run = run_of(folder, step, {names.TAG_ERROR: error} if error else {names.TAG_MODEL_URI: "models:/m-1"}, params)
    return StepArtifacts(step, "failed" if error else "finished", run, "miss: first run", 4.2)


def _data(ingest: StepArtifacts) -> dict[str, Any] | None:
    held = ingest.json(names.MANIFEST)
    if not held:
        return None
    rows, reasons = held["rows"], ingest.json(names.REASONS)
    warnings = (ingest.json(names.COLUMNS) or {"warnings": []})["warnings"]
    counts = {"rows_in": rows["input"], "rows_quarantined": rows["quarantined"]}
    return {**counts, "reasons": reasons or {}, "warnings": warnings}


def summary(found: dict[str, StepArtifacts]) -> dict[str, Any]:
    """summary.json of such a run."""
    judged, scored = found["register"].json(names.VERDICT), found["batch_infer"].json(names.SCORING)
    kept = ("name", "version", "alias", "verdict", "reasons")
    return {
        "steps": {
            name: {"run_id": f.run and f.run.info.run_id, "status": f.status, "cache": f.cache, "seconds": f.seconds}
            for name, f in found.items()
        },
        "model": judged and {key: judged[key] for key in kept},
        "metrics": judged["metrics"] if judged else {},
        "data": _data(found["ingest"]),
        "predictions": scored and {k: scored[k] for k in ("path", "rows_in", "rows_scored", "rows_quarantined")},
        "wall_seconds": 130.2,
    }
