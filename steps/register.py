"""register: candidate runs in, a model version with a gate verdict and aliases out."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from baton import names
from baton.config.schema import Config
from baton.data.dataset import Dataset
from baton.data.raw_rows import PART_BYTES, RawRows
from baton.errors import Diverged, OverBudget
from baton.inspection import confusions, explanation, feature_maps, grad_cam, label_audit, label_errors, label_gallery
from baton.inspection.label_audit import LabelAudit
from baton.orchestration.step import step
from baton.registry import (
    candidates,
    cost_table,
    descriptions,
    ensembles,
    evidence,
    explained,
    gate,
    registration,
    store,
    versions,
)
from baton.reporting.figures import assessment as assessment_figures
from baton.reporting.figures import confusions as confusions_figures
from baton.reporting.figures import costs as costs_figures
from baton.reporting.figures import evaluation as figures
from baton.reporting.figures import explanation as explanation_figures
from baton.reporting.figures import feature_maps as feature_maps_figures
from baton.reporting.figures import grad_cam as grad_cam_figures
from baton.reporting.figures import label_audit as label_audit_figures
from baton.serving.raw_columns import RawColumnModel
from baton.tracking import inputs, runs
from baton.tracking.runs import Run

log = logging.getLogger("baton")
MAX_NAMED = 4  # columns in the log's line


@step(
    "register",
    ("candidate_run_ids", "runs of train and distributed_train, comma-separated"),
    imports=("mlflow.pyfunc", "petastorm", "cleanlab.filter"),
)
def register(config: Config, run: Run, candidate_run_ids: str) -> None:
    """Choose the best candidate by validation, judge it on test data, register and maybe promote it."""
    store.check_names(config)
    model_name = config.registered_model
    best, validation = registration.choose(config, candidate_run_ids)
    candidate_ids = registration.candidate_ids(candidate_run_ids)
    dataset = Dataset.open(best.data.tags[names.TAG_DATASET])
    chosen = ensembles.add(config, run, dataset, candidate_ids) or best
    if chosen is not best:
        validation = runs.artifact(chosen, names.EVALUATION)["validation"]
    model = versions.load(chosen.data.tags[names.TAG_MODEL_URI], chosen.data.tags)
    interrupted = versions.find_interrupted(model_name, versions.network_of(chosen.data.tags), run)
    champion = registration.champion_before(interrupted) if interrupted else versions.champion(model_name)
    test = candidates.EvaluatedSplit.of(model.network, dataset, "test", PART_BYTES)
    found, targets, output = evidence.gather(config, [model_name], chosen, dataset, model, champion, test.output)
    decision = gate.judge(config, found)
    assessed = {"validation": runs.artifact(chosen, names.EVALUATION).get("assessment"), "test": None}
    if found.metrics:  # none: the output is not finite and cannot be drawn
        assessed["test"] = candidates.assess(config, run, model.preprocessor, test)
        run.figures(figures.draw(model.preprocessor, targets, output))
        log_explanation(config, run, dataset, model, targets, output)
        losses = partial(evidence.losses_by_model, config, dataset, chosen, candidate_ids, found)
        log_label_audit(config, run, dataset, best, losses, model.network)
        if config.register_.costs.seconds:
            compared = champion if evidence.champion_on_all_rows(found) is not None else None
            models = evidence.models_by_name(chosen, model, candidate_ids, compared)
            log_costs(config, run, dataset, models, targets)
    run.json(assessed, names.ASSESSMENT)
    inputs.log_dataset(run, dataset, ("test",))
    judged_against = None if champion is None else str(champion.version)
    measured = {"validation": validation, "test": found.metrics}
    asked = evidence.tags(found) | registration.rival_tags(model_name, champion)
    verdict = registration.publish(config, run, chosen, dataset, decision, judged_against, measured, asked, interrupted)
    report(run, dataset, verdict)
    descriptions.refresh(config, verdict["name"], verdict["version"])
    if judged_against:
        descriptions.refresh(config, verdict["name"], judged_against)


def log_explanation(
    config: Config, run: Run, dataset: Dataset, model: RawColumnModel, targets: np.ndarray, predictions: np.ndarray
) -> None:
    """Explain some test rows, given the targets and predictions of all; log `explanation.json` and its figures."""
    settings = config.register_.explain
    if not settings.rows or not dataset.rows["test"]:
        run.json(None, names.EXPLANATION)
        return
    raw = dataset.raw_rows()
    model, views = explained.layered(model)
    learnt = log_feature_maps(config, run, raw, model) | log_pictures(config, run, raw, model, targets, predictions)
    learnt |= views
    spent = sum(learnt.get(key, {}).get("seconds", 0) for key in ("feature_maps", "grad_cam"))  # figures come on top
    left = settings.model_copy(update={"seconds": settings.seconds - spent})
    try:
        found = explanation.explain(model, raw, left, config.seed)
    except OverBudget as error:
        reason = f"No row is explained: register.explain.seconds is {settings.seconds:g}, and {error}"
        log.warning("%s", reason)
        run.json({**explanation.lacking(reason), **learnt}, names.EXPLANATION)
        return
    told = explanation.to_dict(found)
    run.json({**told, **learnt}, names.EXPLANATION)
    run.figures(explanation_figures.draw(found))
    top = ", ".join(f"{column['name']} {column['share']:.0%}" for column in told["columns"][:MAX_NAMED])
    log.info("explained %s test rows in %.1f s: %s", f"{told['rows']:,}", told["seconds"], top)
    if told["rows"] < min(settings.rows, dataset.rows["test"]) and not found.grid:
        log.warning(
            "register.explain.seconds is over: %d of %d rows were explained, against %d background rows.",
            told["rows"], settings.rows, told["background"],
        )  # fmt: skip


def log_feature_maps(config: Config, run: Run, raw: RawRows, model: RawColumnModel) -> dict[str, Any]:
    """Of pictures, log figures of what the network's convolutions learnt → its key of `explanation.json`."""
    settings = config.register_.explain
    if not settings.feature_maps or not model.preprocessor.names("image"):
        return {}
    found = feature_maps.learnt(model, raw, feature_maps.SHARE * settings.seconds, config.seed)
    if found is None:
        return {}
    told = feature_maps.to_dict(found)
    run.figures(feature_maps_figures.draw(found))
    most = feature_maps.STEPS[-1]
    log.info(
        "changed %d test pictures by at most %d of 255 a pixel: %d became another class; %.1f s",
        told["changed"], most, found.turned(most), told["seconds"],
    )  # fmt: skip
    return {"feature_maps": told}


def log_pictures(
    config: Config, run: Run, raw: RawRows, model: RawColumnModel, targets: np.ndarray, predictions: np.ndarray
) -> dict[str, Any]:
    """Of pictures, log what is mixed up most often and where the network looks → their keys of `explanation.json`."""
    settings = config.register_.explain
    if not model.preprocessor.names("image"):
        return {}
    mixed = confusions.confusions(model.preprocessor, raw, targets, predictions)
    run.figures(confusions_figures.draw(mixed))
    if mixed:
        log.info("mixed up most often: %s", ", ".join(map(str, mixed[:MAX_NAMED])))
    told = {"confusions": confusions.to_dict(mixed)}
    if not settings.grad_cam:
        return told
    looked = grad_cam.grad_cam(model, raw, targets, predictions, grad_cam.SHARE * settings.seconds)
    run.figures(grad_cam_figures.draw(looked))
    return {**told, "grad_cam": grad_cam.to_dict(looked)}


def log_label_audit(
    config: Config,
    run: Run,
    dataset: Dataset,
    candidate: Any,
    losses_of: Callable[[np.ndarray], dict[str, np.ndarray]],
    network: Any,
) -> None:
    """Look for wrong labels in all splits; log `audit.json`, the table of all suspects, and figures.

    Judges are trained as the candidate was; `losses_of` gives every model's losses for the targets of the test rows. By
    what the `network` sees, suspected pictures are shown beside their neighbours.
    """
    settings = config.register_.audit
    if not settings.folds or not dataset.rows["test"]:
        run.json(None, names.AUDIT)
        return
    try:
        judged = LabelAudit(config, dataset, candidates.config_of(candidate), dataset.preprocessor)
    except (Diverged, OverBudget) as error:
        limit = f"register.audit.seconds is {settings.seconds:g}, and "
        reason = f"No label is audited: {'' if isinstance(error, Diverged) else limit}{error}"
        log.warning("%s", reason)
        run.json(label_audit.lacking(reason), names.AUDIT)
        return
    ranking = label_errors.ranking(
        losses_of(judged.test.targets), ~np.isin(judged.test_numbers(), judged.suspects.rows), config.primary_metric
    )
    table = judged.table()
    told = judged.to_dict(table, ranking, config.primary_metric)
    left = settings.seconds - judged.seconds
    pictures, beside = label_gallery.gallery(judged, told, table, network, left, config.seed)
    run.json(told, names.AUDIT)
    run.table(table, names.AUDIT_FOLDER, names.SUSPECTS)
    run.figures(label_audit_figures.draw(told, table, judged.preprocessor.classes, pictures, beside))
    moved = [entry["model"] for entry in ranking if entry["rank_original"] != entry["rank_cleaned"]]
    judge = "" if told["agreement"] is None else f", by a judge that agrees with {told['agreement']:.0%} of all labels"
    log.info(
        "audit: %s of %s rows look wrong, by estimate %.1f %% are%s; without them the order of models %s; %.1f s",
        f"{told['issues']:,}", f"{told['rows_audited']:,}", 100 * told["estimated_error_rate"], judge,
        f"changes: {', '.join(moved)}" if moved else "stays", told["seconds"],
    )  # fmt: skip


def log_costs(config: Config, run: Run, dataset: Dataset, models: dict[str, Any], targets: np.ndarray) -> None:
    """Measure what models cost and how wrong they are on test rows; log `costs.json` and its figure."""
    found = cost_table.measure(config, models, dataset.preprocessor, dataset.raw_rows(), targets)
    told = found.to_dict()
    run.json(told, names.COSTS)
    run.figures(costs_figures.draw(told))
    for sentence in found.left_out:
        log.warning("costs: %s", sentence)
    best = min(found.costs, key=lambda cost: cost.value, default=None)
    if best:
        log.info(
            "costs: the least %s is %.4g, of %s (views: %d), at %.3g ms a row; %d variants in %.1f s",
            found.metric, best.value, best.variant.name, best.variant.views, 1000 * best.seconds,
            len(found.costs), found.seconds,
        )  # fmt: skip


def report(run: Run, dataset: Dataset, verdict: dict[str, Any]) -> None:
    """Log the verdict, a figure of its comparison with the champion, and the metrics."""
    run.json(verdict, names.VERDICT)
    run.figures(assessment_figures.comparison(verdict["comparison"]))
    run.tag(names.TAG_VERDICT, verdict["verdict"])
    run.tag(names.TAG_FINGERPRINT, dataset.fingerprint)
    run.tag(names.TAG_OUTPUT, f"{verdict['name']} {verdict['version']}: {verdict['verdict']}")
    run.metrics({f"{s}_{k}": v for s, values in verdict["metrics"].items() for k, v in values.items()})
    told = "; ".join(verdict["reasons"])
    log.info("version %s of %s: %s: %s", verdict["version"], verdict["name"], verdict["verdict"], told)


if __name__ == "__main__":
    register()
