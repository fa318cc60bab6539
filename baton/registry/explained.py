"""A model in, the one whose layers explanations can look into out."""

from __future__ import annotations

import logging

from baton.networks import ensemble
from baton.networks.views import View
from baton.registry.view_selection import seen_by, views_in
from baton.serving.raw_columns import RawColumnModel

log = logging.getLogger("baton")


def layered(model: RawColumnModel) -> tuple[RawColumnModel, dict[str, int]]:
    """A model → one whose layers can all be reached, and how many views the model itself has of a picture.

    Of an ensemble of pictures it is the member of the largest weight, and a picture is seen as it is. Nothing is said
    of views where there is one.
    """
    if model.preprocessor.names("image"):
        model = _of_main_member(model)
    views = views_in(model.network)
    if all(each == [View()] for each in views):
        return model, {}
    return RawColumnModel(model.preprocessor, seen_by(model.network, [View()])), {"views": max(map(len, views))}


def _of_main_member(model: RawColumnModel) -> RawColumnModel:
    member = ensemble.main_member(model.network)
    if member is not model.network:
        log.info("explained is the ensemble's member of the largest weight, not their mean")
    return RawColumnModel(model.preprocessor, member)
