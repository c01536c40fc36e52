"""What the shapes of published weights, whose names are ours, tell of their network."""

from __future__ import annotations

from llve_common.paper.contract import State


def channels(state: State) -> int:
    """The network's width; the published one where the weights are foreign."""
    first = state.get("conv_first_1.weight")
    return 64 if first is None else len(first)


def front_blocks(state: State) -> int:
    """How many residual blocks on the joint features the weights hold."""
    prefix = "feature_extraction."
    return len({key.split(".")[1] for key in state if key.startswith(prefix)})
