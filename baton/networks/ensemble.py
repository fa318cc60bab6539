"""Networks of the same inputs in, one that answers the weighted mean of their outputs out.

It is a network like any other: whatever scores, serves or explains one needs to know nothing of its members.
"""

from __future__ import annotations

import keras

from baton.networks.layers import LogLink, WeightedMean
from baton.networks.views import OfViews

MEMBER = "member"  # the beginning of their names


def combined(networks: list[keras.Model], weights: list[float]) -> keras.Model:
    """Networks of the same inputs and a weight each → their ensemble, which holds their very layers."""
    inputs = {each.name: keras.Input(each.shape[1:], dtype=each.dtype, name=each.name) for each in networks[0].inputs}
    members = [
        keras.Model({each.name: each for each in network.inputs}, network.outputs[0], name=f"{MEMBER}_{number}")
        for number, network in enumerate(networks, 1)
    ]
    mean = WeightedMean(weights, name="ensemble")([member(inputs) for member in members])
    return keras.Model(inputs, mean, name="of_members")


def members_of(network: keras.Model) -> list[tuple[keras.Model, float]]:
    """An ensemble's members with their weights; none of a network that is no ensemble."""
    mean = next((layer for layer in network.layers if isinstance(layer, WeightedMean)), None)
    return [(network.get_layer(f"{MEMBER}_{n}"), share) for n, share in enumerate(mean.shares if mean else (), 1)]


def is_above_zero(network: keras.Model) -> bool:
    """Whether a network, or each member of an ensemble, has a logarithmic link, so that no answer is below 0."""
    members = members_of(network)
    if members:
        return all(is_above_zero(member) for member, _ in members)
    return any(isinstance(layer, LogLink) for layer in network.layers)


def main_member(network: keras.Model) -> keras.Model:
    """An ensemble's member of the largest weight, of members of members too; a network that is none is its own."""
    members = members_of(network)
    return main_member(max(members, key=lambda member: member[1])[0]) if members else network


def base_of(network: keras.Model) -> keras.Model:
    """The network that sees the views, of layers that all can be reached; itself, where it sees pictures once."""
    return next((layer.layer for layer in network.layers if isinstance(layer, OfViews)), network)
