"""What a pipeline's runs left in, the values of a page's sections out: one function a section, one template each.

A function gets {step: StepArtifacts} and gives plain values, or a sentence that says why there is nothing to show.
Nothing is drawn here: pictures are the figures that the steps logged, texts and tables are the templates'.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from baton import names
from baton.evaluation.metrics import SMALLER_IS_BETTER
from baton.formatting import confidence_text, number_text, slice_text, span_text
from baton.reporting.html.artifacts import Picture, StepArtifacts
from baton.reporting.html.profile import profile_values

Steps = dict[str, StepArtifacts]
Values = dict[str, Any] | str
CANDIDATES = ("train", "distributed_train")
SUSPECTS, TRIALS, SLICES = 20, 12, 50
SHAP = ("shap_importance", "shap_beeswarm", "shap_dependence", "shap_images", "shap_row")  # in the order given
TRAINED = ("augmentation", "transfer", "views")
LOOKED = ("cnn_grad_cam", "cnn_confusions")
LEARNT = ("cnn_filters", "cnn_feature_maps", "cnn_adversarial")
REGRESSION, CLASSIFICATION = ("predicted_vs_actual", "residuals"), ("confusion_matrix", "roc", "precision_recall")


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
    table = ingest.json(names.COLUMNS) or {"columns": [], "warnings": []}
    reasons = ingest.json(names.REASONS)
    return profile_values(manifest, profile, table, reasons or {}) | {"reasons_known": reasons is not None}


def search(steps: Steps) -> Values:
    """The search's figure, and the best trials' parameters."""
    tune = _of(steps, "tune")
    trials = tune.json(names.TRIALS)
    if not trials:
        return tune.lacking(names.TRIALS)
    good = [trial for trial in trials if trial["loss"] is not None and math.isfinite(trial["loss"])]
    best = sorted(good, key=lambda trial: trial["loss"])
    varied = sorted({key for trial in trials for key in trial["parameters"]})
    return {
        "trials": len(trials),
        "failed": [t for t in trials if t["status"] != "ok"],
        "seconds": sum(trial["seconds"] for trial in trials),
        "figures": [tune.image("search")],
        "parameters": varied,
        "best": [
            {"number": t["number"] + 1, "loss": number_text(t["loss"]), "seconds": t["seconds"],
             "values": [_value(t["parameters"].get(key)) for key in varied]}
            for t in best[:TRIALS]
        ],
    }  # fmt: skip


def _asked(step: StepArtifacts, transfer: dict[str, Any]) -> dict[str, Any]:
    """A step's `transfer` with its backbone as the config names it: what is trained on is a copy named by its hash."""
    name = transfer["backbone"] or transfer["weights"]
    model = yaml.safe_load(step.text(names.CONFIG) or "{}").get("model", {})
    return {**transfer, "name": (model.get("backbone") or model.get("weights") or name) if "/" in name else name}


def training(steps: Steps) -> Values:
    """Each candidate's learning curves, what was made of its pictures, what a backbone knew of them, and its views."""
    shown = []
    for step in _candidates(steps):
        evaluation = steps[step].json(names.EVALUATION)
        if evaluation:
            drawn = ["curves", *(f for name in TRAINED for f in steps[step].figures(name))]
            figures = [steps[step].image(name) for name in drawn]
            transfer = evaluation.get("transfer")
            objective = evaluation.get("objective")
            asked = transfer and _asked(steps[step], transfer)
            shown.append({"step": step, "figures": figures, "transfer": asked, "objective": objective})
    if not shown:
        return _lacking(steps, CANDIDATES, names.EVALUATION)
    missing = [steps[s].lacking(names.EVALUATION) for s in _candidates(steps) if not steps[s].json(names.EVALUATION)]
    return {"candidates": shown, "missing": missing}


def candidates(steps: Steps) -> Values:
    """Validation metrics, sizes and hyperparameters side by side; without a test, figures of the validation rows."""
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
    if any(e.get("views") for e in known.values()):
        facts["Views of each picture"] = [_views(e.get("views")) for e in known.values()]
    parameters = {step: steps[step].run.data.params for step in known}
    keys = sorted({key for values in parameters.values() for key in values if key.startswith(("model.", "train."))})
    differing = [key for key in keys if len({p.get(key) for p in parameters.values()}) > 1]
    drawn = [] if chosen else _evaluated(steps[next(iter(known))], next(iter(known.values())).get("assessment"))
    return {
        "figures": drawn,
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
    return {
        "verdict": verdict,
        "compared": compared,
        "test_set": _test_set(verdict.get("test_set")),
        "difference": [register.image("comparison")] if compared else [],
        "figures": _evaluated(register, assessment.get("test")),
        "metrics": _metrics(verdict["metrics"], assessment),
        "confidence": (assessment.get("test") or {}).get("confidence"),
    }


def costs(steps: Steps) -> Values:
    """What models and views of pictures cost on test rows, and what they bring, each with its interval."""
    register = _of(steps, "register")
    found = register.json(names.COSTS)
    if not found:
        return "What models cost was not measured: register.costs.seconds says how long that may take."
    return {
        "found": found,
        "figures": [register.image("costs")] if found["costs"] else [],
        "level": confidence_text(found["confidence"]),
        "rows": [_cost_row(cost, found["costs"][0]) for cost in found["costs"]],
    }


def slices(steps: Steps) -> Values:
    """The worst slices of test rows (or of validation, where there are no others) with their intervals."""
    found, where, step = _assessment(steps)
    if found is None or not found.get("slices"):
        return _of(steps, _assessed_step(steps)).lacking("slices")
    entries = [{**entry, "label": slice_text(entry), "span": span_text(entry["interval"])} for entry in found["slices"]]
    metric, worst = entries[0]["metric"], entries[0]
    whole = (found.get("metrics") or {}).get(metric)
    return {
        "where": where,
        "metric": metric,
        "figures": [_of(steps, step).image("slices")],
        "slices": entries[:SLICES],
        "total": len(entries),
        "surely": sum(bool(entry["worse"]) for entry in entries),
        "worst": worst,
        "times": worst["value"] / whole if whole and worst["value"] is not None else None,
    }


def calibration(steps: Steps) -> Values:
    """Reliability and thresholds of a classifier; prediction intervals of a regression."""
    found, where, step = _assessment(steps)
    calibrated, conformal, thresholds = ((found or {}).get(k) for k in ("calibration", "conformal", "thresholds"))
    if not (calibrated or conformal or thresholds):
        return _of(steps, _assessed_step(steps)).lacking("calibration or prediction intervals")
    levels = (conformal or {}).get("levels") or {}
    return {
        "where": where,
        "calibration": calibrated,
        "figures": [_of(steps, step).image(name) for name in _of_calibration(calibrated, levels)],
        "levels": [{"level": float(level), **values} for level, values in sorted(levels.items())],
        "thresholds": thresholds or [],
    }


def explanation(steps: Steps) -> Values:
    """SHAP: figures of the columns and of single predictions, each column in numbers.

    Of pictures it is where the network looks, what it mixes up and what it learnt too.
    """
    register = _of(steps, "register")
    found = register.json(names.EXPLANATION)
    if not found or not any(found.get(key) for key in ("rows", "grad_cam", "confusions", "feature_maps")):
        return (found or {}).get("reason") or register.lacking(names.EXPLANATION)
    drawn = [name for prefix in SHAP for name in register.figures(prefix)]
    of_network = register.figures("cnn_")
    return {
        "found": found,
        "figures": [register.image(name) for name in drawn or SHAP[:1]] if found.get("rows") else [],
        "looked": found.get("grad_cam"),
        "mixed": found.get("confusions"),
        "looked_figures": [register.image(name) for name in LOOKED if name in of_network],
        "learnt": found.get("feature_maps"),
        "learnt_figures": [register.image(name) for name in LEARNT if name in of_network],
    }


def audit(steps: Steps) -> Values:
    """Suspected labels, and the models' ranking on original and on cleaned labels."""
    register = _of(steps, "register")
    found = register.json(names.AUDIT)
    if not found or not found.get("rows_audited"):
        return (found or {}).get("reason") or register.lacking(names.AUDIT)
    shown = found.get("shown") or []
    return {
        "found": found,
        "figures": [register.image(name) for name in register.figures("audit_") or ["audit_ranking"]],
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
    """How far columns and predictions have drifted, the classifier's AUC, the live metrics."""
    scored = _of(steps, "batch_infer")
    found = scored.json(names.DRIFT)
    if not found:
        return scored.lacking(names.DRIFT)
    entries = [{**found["prediction"], "name": "the prediction"}] if found.get("prediction") else []
    pictures = found.get("pictures")
    entries += [pictures["distance"]] if pictures else []
    entries += found["columns"]
    measured = [entry for entry in entries if entry.get("psi") is not None]
    return {
        "found": found,
        "figures": [scored.image(name) for name in _of_drift(measured, pictures)],
        "measured": measured,
        "live": _live(found),
        "unmeasured": [entry["name"] for entry in entries if entry.get("psi") is None],
    }


SECTIONS: dict[str, tuple[str, Callable[[Steps], Values]]] = {
    "data": ("Data", data),
    "search": ("Search", search),
    "training": ("Training", training),
    "candidates": ("Candidates", candidates),
    "gate": ("Gate", gate),
    "costs": ("Accuracy and cost", costs),
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


def _assessment(steps: Steps) -> tuple[dict[str, Any] | None, str, str]:
    """The chosen candidate's assessment on test rows, else on validation rows; else that of a candidate's own run.

    With it come the words for its rows, and the step whose run has its figures.
    """
    register = _of(steps, "register")
    judged, chosen = register.json(names.ASSESSMENT) or {}, (register.json(names.VERDICT) or {}).get("candidate_step")
    for split, step in (("test", "register"), ("validation", chosen or "train")):
        if judged.get(split):
            return judged[split], f"{split} rows", step
    for step in _candidates(steps):
        found = (steps[step].json(names.EVALUATION) or {}).get("assessment")
        if found:
            return found, f"validation rows, candidate of {step}", step
    return None, "", ""


def _evaluated(step: StepArtifacts, assessment: dict[str, Any] | None) -> list[Picture]:
    """A step and its assessment, if it has one → the figures of predictions against the target."""
    if not assessment:
        return []
    return [step.image(name) for name in (CLASSIFICATION if assessment.get("class_balance") else REGRESSION)]


def _of_calibration(calibrated: Any, levels: Any) -> list[str]:
    return (["calibration"] if calibrated else []) + (["intervals"] if levels else [])


def _of_drift(measured: list[dict[str, Any]], pictures: Any) -> list[str]:
    """The figures that there are, as `baton.reporting.figures.drift` draws them."""
    columns = any(len(entry.get("bins") or ()) > 1 for entry in measured)
    drawn = {"drift": measured, "drift_columns": columns, "drift_pictures": pictures}
    return [name for name, there in drawn.items() if there]


def _metric_row(metric: str, evaluations: dict[str, dict[str, Any]]) -> dict[str, Any]:
    values = [e["validation"].get(metric) for e in evaluations.values()]
    finite = [v for v in values if v is not None and math.isfinite(v)]
    best = (min if metric in SMALLER_IS_BETTER else max)(finite) if finite else None
    spans = [((e.get("assessment") or {}).get("intervals") or {}).get(metric) for e in evaluations.values()]
    cells = [
        {
            "text": "–" if v is None or not math.isfinite(v) else number_text(v),
            "interval": span_text(span),
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
            row[f"{split}_interval"] = span_text(((assessment.get(split) or {}).get("intervals") or {}).get(name))
        rows.append(row)
    return rows


def _test_set(look: dict[str, Any] | None) -> dict[str, str] | None:
    """How often the test rows were asked, and what that leaves, as texts; None of a verdict from before they were."""
    if not look:
        return None
    errors = {"left": look["error_left"], "allowed": 1 - look["confidence"]}
    percents = {name: f"{number_text(100 * value)} %" for name, value in errors.items()}
    return {"looks": f"{look['looks']:,}", "interval": confidence_text(look["interval"]), **percents}


def _live(results: dict[str, Any]) -> dict[str, Any] | None:
    live, before = results.get("live"), results.get("reference_metrics") or {}
    if not live:
        return None
    rows = [
        {
            "name": name,
            "now": "–" if value is None else number_text(value),
            "interval": span_text((live.get("intervals") or {}).get(name)),
            "test": number_text(before[name]) if before.get(name) is not None else "–",
        }
        for name, value in live["metrics"].items()
    ]
    kept = {"count": live["rows"], "left_out": live.get("left_out") or {}, "difference": _difference(live)}
    return {"rows": rows, **kept}


def _difference(live: dict[str, Any]) -> str | None:
    """By how much the live metric differs from that on test rows, as a sentence; None where they were not compared."""
    found = live.get("difference")
    if not found:
        return None
    ends = span_text([found["low"], found["high"]])
    level = confidence_text(found["confidence"])
    return f"{found['metric']}, live minus test: {number_text(found['value'])}, {level} interval {ends}."


def _cost_row(cost: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    change = cost["difference"]
    sums = [entry["multiply_adds"] for entry in (cost, base)]
    return {
        "model": cost["model"],
        "views": cost["views"],
        "sums": f"{sums[0]:,}" if sums[0] else "–",
        "times": f"{sums[0] / sums[1]:,.3g}" if all(sums) else "–",
        "seconds": f"{1000 * cost['seconds_a_row']:.3g} ms",
        "value": number_text(cost["value"]),
        "interval": span_text(cost["interval"]),
        "difference": "base" if change is None else f"{change['value']:+.4g}",
        "span": "" if change is None else span_text([change["low"], change["high"]]),
        "better": change is not None and change["high"] < 0,
    }


def _epochs(evaluation: dict[str, Any]) -> str:
    epochs = max((len(v) for v in (evaluation.get("history") or {}).values()), default=0)
    best = evaluation.get("best_epoch")
    return f"{epochs}" if best is None else f"{epochs}, best {best + 1}"


def _views(selection: dict[str, Any] | None) -> str:
    """evaluation.json's `views` → how many, and what the choice gave on validation."""
    if not selection:
        return "1"
    count = f"{len(selection['views'])}"
    if selection["asked"] != "auto":
        return count
    ends = [selection["log_loss"], *(step["log_loss"] for step in selection["added"])]
    gain = f", log_loss {number_text(ends[0])} → {number_text(ends[-1])}" if selection["added"] else ""
    return f"{count} of {selection['tried']} tried{gain}"


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
