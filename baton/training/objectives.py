"""What a loss or a metric asks of a dataset's targets."""

from __future__ import annotations

from baton.config.schema import OBJECTIVES, Config
from baton.data.dataset import Dataset
from baton.data.target import LOG_LINKED
from baton.errors import BadInput


def demand_targets(config: Config, dataset: Dataset) -> None:
    """Raise `BadInput` if a split has a target that the objective or the primary metric is not defined for."""
    asked = {  # the metric first: a config that rows have sized names its loss as the objective, too
        "evaluation.primary_metric": OBJECTIVES.get(config.primary_metric, ""),
        "train.objective": config.train.objective,
    }
    keys = {key: name for key, name in asked.items() if name in LOG_LINKED}
    if not keys:
        return
    smallest, strict = dataset.smallest_target(), "gamma" in keys.values()
    if smallest < 0 or (strict and smallest == 0) or dataset.preprocessor.spec["target"]["mean"] <= 0:
        key = next((key for key, name in keys.items() if name == "gamma"), next(iter(keys)))
        rule = "above 0" if strict else "0 or more, and some above"
        raise BadInput(
            f"{key}: {keys[key]} is for targets of which all are {rule}: choose another one. "
            f"Received: {dataset.preprocessor.target} of {smallest:g}"
        )
