"""The published weights' key names: they are ours, which makes these two functions short."""

from __future__ import annotations

from llve_common.paper.contract import State


def to_published(state: State) -> State:
    """Our weights under the published names."""
    return dict(state)


def from_published(state: State) -> State:
    """Published weights under our names; weights under our names pass unchanged."""
    return dict(state)


def channels(state: State) -> int:
    """The network's width; the published one where the weights are foreign."""
    first = state.get("conv_first_1.weight")
    return 64 if first is None else len(first)


def front_blocks(state: State) -> int:
    """How many residual blocks on the joint features the weights hold."""
    prefix = "feature_extraction."
    return len({key.split(".")[1] for key in state if key.startswith(prefix)})
