"""register: candidate runs in, a model version with a gate verdict and aliases out."""

import logging
from typing import Any

import pyarrow as pa

from baton import candidates, gate, metrics, names, outputs, registry, reports, runs
from baton.config import Config
from baton.dataset import Dataset
from baton.errors import BadInput
from baton.gate import Judgement
from baton.runs import Run
from baton.serving import RawColumnModel
from baton.step import step

log = logging.getLogger("baton")


@step("register", ("candidate_run_ids", "runs of train and distributed_train, comma-separated"))
def register(config: Config, run: Run, candidate_run_ids: str) -> None:
    """Choose the best candidate by validation, judge it on test data, register and maybe promote it."""
    chosen, validation = choose(config, candidate_run_ids)
    dataset = Dataset.open(chosen.data.tags[names.TAG_DATASET])
    raw = dataset.raw_test()
    model = registry.load(chosen.data.tags[names.TAG_MODEL_URI])
    truth, output = model.evaluate(raw)
    test = metrics.evaluate(truth, output)
    trivial = metrics.evaluate(truth, metrics.trivial(model.fitted.spec["target"], len(truth)))
    rival = registry.champion(config.name)
    skew = gate.skew(candidates.test_output(model, dataset), output)
    judgement = gate.judge(config, test, trivial, champion_metrics(config, rival, raw), skew)
    verdict = publish(config, run, chosen, dataset, judgement, {"validation": validation, "test": test})
    run.tag(names.TAG_OUTPUT, f"{verdict['name']} {verdict['version']}: {verdict['verdict']}")
    run.tag(names.TAG_REGISTRY, outputs.registry_state(config.name))
    report(run, verdict, rival, model, truth, output, dataset)


def choose(config: Config, candidate_run_ids: str) -> tuple[Any, dict[str, float]]:
    """Comma-separated run IDs → the run with the best validation metric, and its metrics."""
    ids = [part.strip() for part in candidate_run_ids.split(",") if part.strip()]
    if not ids:
        raise BadInput("candidate_run_ids is missing: give it runs of train or distributed_train.")
    candidates = []
    for run_id in ids:
        candidate = runs.of_steps(run_id, ("train", "distributed_train"), "candidate_run_ids")
        validation = runs.artifact(run_id, names.EVALUATION)["validation"]
        log.info(
            "candidate %s (%s): %s %.6g",
            candidate.info.run_name,
            run_id,
            config.primary_metric,
            validation[config.primary_metric],
        )
        candidates.append((validation[config.primary_metric], candidate, validation))
    _, chosen, validation = min(candidates, key=lambda c: c[0])
    return chosen, validation


def champion_metrics(config: Config, rival: Any, raw: pa.Table) -> dict[str, float] | None:
    """The champion's metrics on the same test rows; None if there is no champion."""
    if rival is None:
        return None
    model = registry.load(f"models:/{config.name}/{rival.version}")
    return metrics.evaluate(*model.evaluate(raw))


def publish(
    config: Config, run: Run, chosen: Any, dataset: Dataset, judgement: Judgement, measured: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """Register a version with its tags, set the aliases the verdict allows, return the verdict."""
    verdict = "refused"
    if judgement.passed:
        verdict = "promoted" if config.register_.promote == "auto" else names.CHALLENGER
    tags = version_tags(run, chosen, dataset, judgement, verdict, measured)
    version = registry.register(config.name, chosen.data.tags[names.TAG_MODEL_URI], tags)
    runs.client().update_model_version(config.name, version.version, f"{verdict}: {'; '.join(judgement.reasons)}")
    alias = {"promoted": names.CHAMPION, names.CHALLENGER: names.CHALLENGER}.get(verdict)
    if judgement.passed:
        registry.set_alias(config.name, names.CHALLENGER, version.version)
    if verdict == "promoted":
        registry.set_alias(config.name, names.CHAMPION, version.version)
    return {
        "name": config.name,
        "version": str(version.version),
        "alias": alias,
        "verdict": verdict,
        "reasons": judgement.reasons,
        "candidate_run_id": chosen.info.run_id,
        "candidate_step": chosen.data.tags[names.TAG_STEP],
        "metrics": measured,
    }


def version_tags(
    run: Run,
    chosen: Any,
    dataset: Dataset,
    judgement: Judgement,
    verdict: str,
    measured: dict[str, dict[str, float]],
) -> dict[str, str]:
    """What a model version tells of itself: verdict, reasons, lineage and metrics."""
    return {
        names.TAG_VERDICT: verdict,
        names.TAG_REASONS: "; ".join(judgement.reasons),
        names.TAG_FINGERPRINT: dataset.fingerprint,
        names.TAG_CANDIDATE_RUN: chosen.info.run_id,
        names.TAG_REGISTER_RUN: run.id,
        names.TAG_COMMIT: runs.git_commit() or "unknown",
        **{f"{split}_{k}": f"{v:.6g}" for split, values in measured.items() for k, v in values.items()},
    }


def report(
    run: Run, verdict: dict[str, Any], rival: Any, model: RawColumnModel, truth: Any, output: Any, dataset: Dataset
) -> None:
    """Log the verdict, the metrics and the figures on test data."""
    verdict["champion_before"] = None if rival is None else str(rival.version)
    run.json(verdict, names.VERDICT)
    run.tag(names.TAG_VERDICT, verdict["verdict"])
    run.tag(names.TAG_FINGERPRINT, dataset.fingerprint)
    run.metrics({f"{s}_{k}": v for s, values in verdict["metrics"].items() for k, v in values.items()})
    reports.evaluation(run, model.fitted.task, model.fitted.classes, truth, output, model.fitted.target)
    reports.log_inputs(run, dataset, ("test",))
    log.info(
        "version %s of %s: %s: %s",
        verdict["version"],
        verdict["name"],
        verdict["verdict"],
        "; ".join(verdict["reasons"]),
    )


if __name__ == "__main__":
    register()
