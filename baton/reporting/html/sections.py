"""What a pipeline's runs left in, the values of a page's sections out: one function a section, one template each.

A function gets {step: Findings} and gives plain values, or a sentence that says why there is nothing to show.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from baton import names
from baton.formatting import number_text, percent_text
from baton.reporting.html import charts
from baton.reporting.html.artifacts import StepArtifacts
from baton.reporting.html.profile import profile_values

Steps = dict[str, StepArtifacts]
Values = dict[str, Any] | str
CANDIDATES = ("train", "distributed_train")
SMALLER_IS_BETTER = ("rmse", "mae", "log_loss")
SLICES, SUSPECTS, TRIALS, IMPORTANT, DRIFTED, PANELS = 14, 20, 12, 20, 14, 6


@dataclass(frozen=True)
class Section:
    """A section of a page: `values` for its template, or the sentence `lacking` in their place."""

    key: str
    title: str
    values: dict[str, Any] | None = None
    lacking: str = ""


def build(keys: tuple[str, ...], steps: Steps) -> list[Section]:
    """The sections of these keys, in order."""
    found = []
    for key in keys:
        title, function = SECTIONS[key]
        values = function(steps)
        absent = isinstance(values, str)
        found.append(Section(key, title, None if absent else values, values if absent else ""))  # type: ignore[arg-type]
    return found


def data(steps: Steps) -> Values:
    """The rows, the columns' profile and the quarantine."""
    ingest = _of(steps, "ingest")
    manifest, profile = ingest.json(names.MANIFEST), ingest.json(names.PROFILE)
    if manifest is None or profile is None:
        return ingest.lacking(names.MANIFEST)
    preprocessor = ingest.json(names.PREPROCESSOR) or {"columns": []}
    reasons = ingest.json(names.REASONS)
    return profile_values(manifest, profile, preprocessor["columns"], reasons or {}) | {
        "reasons_known": reasons is not None
    }


def search(steps: Steps) -> Values:
    """Every trial's loss, the best so far, and the best trials' parameters."""
    tune = _of(steps, "tune")
    trials = tune.json(names.TRIALS)
    if not trials:
        return tune.lacking(names.TRIALS)
    good = [trial for trial in trials if trial["loss"] is not None and math.isfinite(trial["loss"])]
    best = sorted(good, key=lambda trial: trial["loss"])
    numbers = [trial["number"] + 1 for trial in good]
    lowest = [min(t["loss"] for t in good[: i + 1]) for i in range(len(good))]
    varied = sorted({key for trial in trials for key in trial["parameters"]})
    return {
        "trials": len(trials),
        "failed": [t for t in trials if t["status"] != "ok"],
        "seconds": sum(trial["seconds"] for trial in trials),
        "chart": charts.lines(
            {"trial": (numbers, [t["loss"] for t in good]), "best so far": (numbers, lowest)},
            "trial",
            "validation loss",
        )
        if good
        else None,
        "parameters": varied,
        "best": [
            {"number": t["number"] + 1, "loss": number_text(t["loss"]), "seconds": t["seconds"],
             "values": [_value(t["parameters"].get(key)) for key in varied]}
            for t in best[:TRIALS]
        ],
    }  # fmt: skip


def training(steps: Steps) -> Values:
    """Each candidate's learning curves."""
    shown = []
    for step in _candidates(steps):
        evaluation = steps[step].json(names.EVALUATION)
        if evaluation:
            shown.append({"step": step, "charts": _curves(evaluation), "best_epoch": evaluation.get("best_epoch")})
    if not shown:
        return _lacking(steps, CANDIDATES, names.EVALUATION)
    missing = [steps[s].lacking(names.EVALUATION) for s in _candidates(steps) if not steps[s].json(names.EVALUATION)]
    return {"candidates": shown, "missing": missing}


def candidates(steps: Steps) -> Values:
    """Validation metrics, sizes and hyperparameters side by side."""
    known = {s: e for s in _candidates(steps) if (e := steps[s].json(names.EVALUATION))}
    if not known:
        return _lacking(steps, CANDIDATES, names.EVALUATION)
    chosen = (_of(steps, "register").json(names.VERDICT) or {}).get("candidate_step")
    metrics = list(dict.fromkeys(m for e in known.values() for m in e["validation"]))
    rows = [_metric_row(metric, known) for metric in metrics]
    facts = {
        "Epochs": [_epochs(e) for e in known.values()],
        "Training": [f"{e['seconds']:,.1f} s" for e in known.values()],
        "Parameters": [f"{e['parameters']:,}" for e in known.values()],
        "Restarts": [str(e.get("restarts", 0)) for e in known.values()],
    }
    parameters = {step: steps[step].run.data.params for step in known}
    keys = sorted({key for values in parameters.values() for key in values if key.startswith(("model.", "train."))})
    differing = [key for key in keys if len({p.get(key) for p in parameters.values()}) > 1]
    return {
        "steps": list(known),
        "chosen": chosen,
        "metrics": rows,
        "facts": facts,
        "differing": [(key, [_setting(p.get(key)) for p in parameters.values()]) for key in differing],
        "same": [(key, _setting(next(iter(parameters.values())).get(key))) for key in keys if key not in differing],
    }


def gate(steps: Steps) -> Values:
    """The verdict, its reasons, the comparison with the champion and the metrics with their intervals."""
    register = _of(steps, "register")
    verdict = register.json(names.VERDICT)
    if verdict is None:
        return register.lacking(names.VERDICT)
    assessment = register.json(names.ASSESSMENT) or {}
    compared = verdict.get("comparison")
    rows = []
    if compared:
        row = {"label": f"{compared['metric']}: candidate minus version {compared['champion_version']}"}
        rows = [row | {"value": compared["difference"], "interval": [compared["low"], compared["high"]]}]
    return {
        "verdict": verdict,
        "compared": compared,
        "difference": charts.ranges(rows, reference=0.0) if rows else None,
        "metrics": _metrics(verdict["metrics"], assessment),
        "confidence": (assessment.get("test") or {}).get("confidence"),
    }


def slices(steps: Steps) -> Values:
    """The worst slices of test rows (or of validation, where there are no others) with their intervals."""
    found, where = _assessment(steps)
    if found is None or not found.get("slices"):
        return _of(steps, _assessed_step(steps)).lacking("slices")
    shown = found["slices"][:SLICES]
    metric = shown[0]["metric"]
    rows = [
        {
            "label": f"{s['column']}: {s['slice']}",
            "value": s["value"],
            "interval": s.get("interval"),
            "rows": s["rows"],
            "worse": s.get("worse", False),
            "difference": s.get("difference"),
        }
        for s in shown
    ]
    whole = (found.get("metrics") or {}).get(metric)
    return {
        "where": where,
        "metric": metric,
        "chart": charts.ranges(rows, reference=whole),
        "total": len(found["slices"]),
        "surely": sum(bool(s.get("worse")) for s in found["slices"]),
        "worst": rows[0],
        "whole": None if whole is None else number_text(whole),
        "times": rows[0]["value"] / whole if whole and rows[0]["value"] is not None else None,
    }


def calibration(steps: Steps) -> Values:
    """Reliability and thresholds of a classifier; prediction intervals of a regression."""
    found, where = _assessment(steps)
    calibrated, conformal, thresholds = ((found or {}).get(k) for k in ("calibration", "conformal", "thresholds"))
    if not (calibrated or conformal or thresholds):
        return _of(steps, _assessed_step(steps)).lacking("calibration or prediction intervals")
    levels = (conformal or {}).get("levels") or {}
    return {
        "where": where,
        "calibration": calibrated,
        "reliability": _reliability(calibrated["bins"]) if calibrated and calibrated.get("bins") else None,
        "levels": [{"level": float(level), **values} for level, values in sorted(levels.items())],
        "thresholds": thresholds or [],
        "balance": charts.bars((found or {}).get("class_balance") or {}),
    }


def explanation(steps: Steps) -> Values:
    """SHAP: each column's importance, figures, and single predictions explained."""
    register = _of(steps, "register")
    found = register.json(names.EXPLANATION)
    if not found:
        return register.lacking(names.EXPLANATION)
    columns = found["columns"][:IMPORTANT]
    drawn = _not_drawn_here(register.figures("shap_"))
    figures = {_title(name): register.image(f"{names.FIGURES}/{name}.png") for name in drawn}
    return {
        "found": found,
        "bars": [
            bar | {"share": column.get("share"), "kind": column.get("kind", "")}
            for bar, column in zip(charts.bars({c["name"]: c["importance"] for c in columns}), columns, strict=True)
        ],
        "more": len(found["columns"]) - len(columns),
        "figures": {title: uri for title, uri in figures.items() if uri},
        "too_large": [title for title, uri in figures.items() if not uri],
        "rows": [_explained(row, found.get("base_value")) for row in found.get("rows_explained") or []],
    }


def audit(steps: Steps) -> Values:
    """Suspected labels, and the models' ranking on original and on cleaned labels."""
    register = _of(steps, "register")
    found = register.json(names.AUDIT)
    if not found:
        return register.lacking(names.AUDIT)
    shown = found.get("shown") or []
    return {
        "found": found,
        "rate": found.get("estimated_error_rate"),
        "suspects": shown[:SUSPECTS],
        "more": max((found.get("issues") or 0) - len(shown[:SUSPECTS]), 0),
        "ranking": found.get("ranking") or [],
        "turned": any(r.get("rank_original") != r.get("rank_cleaned") for r in found.get("ranking") or []),
    }


def scoring(steps: Steps) -> Values:
    """What was scored, by which version."""
    found = _of(steps, "batch_infer").json(names.SCORING)
    return found or _of(steps, "batch_infer").lacking(names.SCORING)


def drift(steps: Steps) -> Values:
    """PSI of columns and predictions, the worst ones' distributions, the classifier's AUC, the live metrics."""
    scored = _of(steps, "batch_infer")
    found = scored.json(names.DRIFT)
    if not found:
        return scored.lacking(names.DRIFT)
    limits = found.get("thresholds") or {}
    entries = [{**found["prediction"], "name": "the prediction"}] if found.get("prediction") else []
    entries += found["columns"]
    measured = [entry for entry in entries if entry.get("psi") is not None]
    shown = measured[:DRIFTED]
    top = max([entry["psi"] for entry in shown] + [2 * limits.get("psi", 0.2)], default=1.0)
    cut = min(top, 5 * limits.get("psi", 0.2))  # beyond, bars only say that it is far too much
    return {
        "found": found,
        "limit": limits.get("psi", 0.2),
        "limit_at": 100 * limits.get("psi", 0.2) / cut,
        "bars": [
            bar | {"entry": entry, "beyond": entry["psi"] > cut, "text": f"{entry['psi']:.3f}"}
            for bar, entry in zip(charts.bars({e["name"]: e["psi"] for e in shown}, cut), shown, strict=True)
        ],
        "more": len(measured) - len(shown),
        "panels": [
            {"name": e["name"], "verdict": e["verdict"], **charts.columns(e["bins"], e["kind"] == "datetime")}
            for e in measured
            if len(e.get("bins") or ()) > 1
        ][:PANELS],
        "live": _live(found),
        "unmeasured": [e["name"] for e in entries if e.get("psi") is None],
    }


SECTIONS: dict[str, tuple[str, Callable[[Steps], Values]]] = {
    "data": ("Data", data),
    "search": ("Search", search),
    "training": ("Training", training),
    "candidates": ("Candidates", candidates),
    "gate": ("Gate", gate),
    "slices": ("Slices", slices),
    "calibration": ("Calibration", calibration),
    "explanation": ("Explanation", explanation),
    "audit": ("Label audit", audit),
    "scoring": ("Scoring", scoring),
    "drift": ("Drift", drift),
}


def _of(steps: Steps, step: str) -> StepArtifacts:
    return steps.get(step) or StepArtifacts(step)


def _candidates(steps: Steps) -> list[str]:
    return [step for step in CANDIDATES if step in steps]


def _lacking(steps: Steps, of: tuple[str, ...], what: str) -> str:
    return " ".join(_of(steps, step).lacking(what) for step in of if step in steps)


def _assessed_step(steps: Steps) -> str:
    """The step that is to tell of slices and calibration."""
    return "register" if "register" in steps else next(iter(_candidates(steps)), "register")


def _assessment(steps: Steps) -> tuple[dict[str, Any] | None, str]:
    """The chosen candidate's assessment on test rows, else on validation rows; else that of a candidate's own run."""
    judged = _of(steps, "register").json(names.ASSESSMENT) or {}
    for split in ("test", "validation"):
        if judged.get(split):
            return judged[split], f"{split} rows"
    for step in _candidates(steps):
        found = (steps[step].json(names.EVALUATION) or {}).get("assessment")
        if found:
            return found, f"validation rows, candidate of {step}"
    return None, ""


def _curves(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """A chart for each metric that was recorded, the one that compares candidates first; no learning rate."""
    history = evaluation.get("history") or {}
    metrics = list(dict.fromkeys(key.removeprefix("val_") for key in history))
    order = [m for m in ("rmse", "log_loss", "loss", "accuracy", "mae") if m in metrics]
    drawn = []
    for metric in order[:2]:
        both = {"train": history.get(metric) or [], "validation": history.get(f"val_{metric}") or []}
        series = {name: (list(range(1, len(v) + 1)), v) for name, v in both.items() if v}
        best = evaluation.get("best_epoch")
        drawn.append(charts.lines(series, "epoch", metric, best=None if best is None else best + 1))
    return drawn


def _metric_row(metric: str, evaluations: dict[str, dict[str, Any]]) -> dict[str, Any]:
    values = [e["validation"].get(metric) for e in evaluations.values()]
    finite = [v for v in values if v is not None and math.isfinite(v)]
    best = (min if metric in SMALLER_IS_BETTER else max)(finite) if finite else None
    spans = [((e.get("assessment") or {}).get("intervals") or {}).get(metric) for e in evaluations.values()]
    cells = [
        {
            "text": "–" if v is None or not math.isfinite(v) else number_text(v),
            "interval": charts.span_text(span),
            "best": v is not None and v == best and len(finite) > 1,
        }
        for v, span in zip(values, spans, strict=True)
    ]
    return {"name": metric, "cells": cells}


def _metrics(measured: dict[str, dict[str, float]], assessment: dict[str, Any]) -> list[dict[str, Any]]:
    """Validation and test metrics beside each other, with intervals where they are known."""
    rows = []
    for name in dict.fromkeys(metric for values in measured.values() for metric in values):
        row: dict[str, Any] = {"name": name}
        for split in ("validation", "test"):
            value = (measured.get(split) or {}).get(name)
            row[split] = "–" if value is None or not math.isfinite(value) else number_text(value)
            row[f"{split}_interval"] = charts.span_text(
                ((assessment.get(split) or {}).get("intervals") or {}).get(name)
            )
        rows.append(row)
    return rows


def _reliability(bins: list[dict[str, Any]]) -> dict[str, Any]:
    """Bins of confidence → places of a reliability diagram, the dots by their rows."""
    known = [b for b in bins if b.get("rows") and b.get("confidence") is not None and b.get("accuracy") is not None]
    most = max((b["rows"] for b in known), default=1)
    return {
        "points": " ".join(f"{100 * b['confidence']:.2f},{100 - 100 * b['accuracy']:.2f}" for b in known),
        "dots": [
            {
                "x": 100 * b["confidence"],
                "y": 100 * b["accuracy"],
                "size": 5 + 9 * math.sqrt(b["rows"] / most),
                "title": f"{b['rows']:,} rows: {percent_text(b['accuracy'])} right",
            }
            for b in known
        ],
    }


def _explained(row: dict[str, Any], base: float | None) -> dict[str, Any]:
    """One prediction explained: the columns that moved it most, from the base value to the prediction."""
    order = sorted((row.get("shap") or {}).items(), key=lambda item: -abs(item[1] or 0.0))
    top = {name: value or 0.0 for name, value in order[:8]}
    rest = sum(value or 0.0 for _, value in order[8:])
    drawn = charts.bars(top | ({f"{len(order) - 8} others": rest} if len(order) > 8 else {}))
    return {
        "row": row.get("row"),
        "prediction": _value(row.get("prediction")),
        "truth": _value(row.get("truth")),
        "base": "–" if base is None else number_text(base),
        "bars": [bar | {"cell": (row.get("values") or {}).get(bar["label"], "")} for bar in drawn],
    }


def _live(results: dict[str, Any]) -> dict[str, Any] | None:
    live, before = results.get("live"), results.get("reference_metrics") or {}
    if not live:
        return None
    rows = [
        {
            "name": name,
            "now": "–" if value is None else number_text(value),
            "interval": charts.span_text((live.get("intervals") or {}).get(name)),
            "test": number_text(before[name]) if before.get(name) is not None else "–",
        }
        for name, value in live["metrics"].items()
    ]
    return {"rows": rows, "count": live["rows"]}


def _epochs(evaluation: dict[str, Any]) -> str:
    epochs = max((len(v) for v in (evaluation.get("history") or {}).values()), default=0)
    best = evaluation.get("best_epoch")
    return f"{epochs}" if best is None else f"{epochs}, best {best + 1}"


def _not_drawn_here(figures: list[str]) -> list[str]:
    """SHAP's figures but for those that the page itself draws of explanation.json; of images it draws none."""
    table = any(name.startswith("shap_beeswarm") for name in figures)
    drawn = ("shap_row", "shap_importance") if table else ()
    return [name for name in figures if not name.startswith(drawn)]


def _title(figure: str) -> str:
    return figure.removeprefix("shap_").replace("_", " ").strip()


def _setting(text: str | None) -> str:
    """A parameter as MLflow keeps it → shorter, if it is a number of many digits."""
    try:
        return number_text(float(text or ""))
    except ValueError:
        return text or "–"


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ", ".join(str(v) for v in value) if isinstance(value, list) else str(value)
    return number_text(value)
