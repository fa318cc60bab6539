"""A version that was copied into another registered model in, the verdict of its new model out.

"Promote model" in the UI copies a version with all its tags, so also with a verdict that may have been given against
another champion. Judging needs TensorFlow, which asking whether there is something to do does without.
"""

from __future__ import annotations

from typing import Any

from baton import names
from baton.config.schema import Config
from baton.data.dataset import Dataset
from baton.errors import BadInput
from baton.registry import candidates, champions, evidence, gate, registration, versions
from baton.registry.gate import GateDecision
from baton.tracking import runs
from baton.tracking.runs import Run

ALLOW = "set batch_infer.allow_unvalidated: true to score with it all the same"


def settle(config: Config, run: Run, version: Any) -> GateDecision | None:
    """Give a copy a verdict of the model that it is in, if the one it bears is another's; the decision, if it took one.

    Raises `BadInput` if the copy does not pass, or what it is judged by is gone.
    """
    settings = config.to_score()
    if settings.allow_unvalidated or not versions.is_copy(version):
        return None
    champion = _champion_before(config.scoring_model, version)
    tags = registration.rival_tags(version.name, champion)
    if version.tags.get(names.TAG_JUDGED_AGAINST) == tags[names.TAG_JUDGED_AGAINST] != "":
        versions.demand_verdict(version, settings.alias)
        versions.retagged(version, tags)
        return None
    decision, asked = _judge(config, version, champion)
    passed = names.PROMOTED if settings.alias == names.CHAMPION else names.CHALLENGER
    verdict = passed if decision.passed else names.REFUSED
    registration.rejudge(version, decision, tags | asked | registration.verdict_tags(verdict, decision.reasons))
    run.json({"name": version.name, "version": str(version.version), "verdict": verdict, **decision.to_dict()},
             names.VERDICT)  # fmt: skip
    if not decision.passed:
        raise BadInput(
            f"Version {version.version} of {version.name} is a copy and did not pass the gate of this model: take the "
            f"alias {settings.alias} back by rollback, or {ALLOW}. Received: {'; '.join(decision.reasons)}"
        )
    return decision


def _champion_before(model: str, version: Any) -> Any | None:
    """The latest champion of a model before this version that had passed its gate and is still there."""
    present = versions.champion(model)
    numbers = [change.version for change in reversed(champions.history(model))]
    for number in dict.fromkeys([None if present is None else str(present.version), *numbers]):
        found = None if number in (None, str(version.version)) else versions.find(model, str(number))
        if found is not None and found.tags.get(names.TAG_VERDICT) in names.PASSED and not versions.is_copy(found):
            return found
    return None


def _judge(config: Config, version: Any, champion: Any | None) -> tuple[GateDecision, dict[str, str]]:
    """A copied version and the champion it is to replace → what the gate says of it on its own test rows, and the tags
    that tell of these."""
    chosen, dataset = _candidate(version)
    model = versions.load(f"models:/{version.name}/{version.version}", version.tags)
    test = candidates.EvaluatedSplit.of(model.network, dataset, "test")
    models = [version.name, versions.judged_for(version)]
    found, _, _ = evidence.gather(config, models, chosen, dataset, model, champion, test.output)
    return gate.judge(config, found), evidence.tags(found)


def _candidate(version: Any) -> tuple[Any, Dataset]:
    """The run that trained a version and the dataset that it was trained on; raises `BadInput` if either is gone."""
    run_id = version.tags[names.TAG_CANDIDATE_RUN]
    chosen = runs.find(run_id)
    try:
        if chosen is None:
            raise BadInput(f"The run {run_id} that trained it is not in this tracking store.")
        return chosen, Dataset.open(chosen.data.tags.get(names.TAG_DATASET, ""))
    except BadInput as error:
        raise BadInput(
            f"Version {version.version} of {version.name} is a copy whose verdict was given for the model "
            f"{versions.judged_for(version)}, and what it would be judged by here is gone: run main and promote what "
            f"that registers, or {ALLOW}. Received: {error}"
        ) from None
