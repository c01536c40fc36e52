"""The published checkpoints' names, both ways.

The published network's names are ours. Its checkpoints, ``<version>_epoch_<n>.pth``, wrap them as
``G_net``, beside ``epoch``, ``g_optimizer`` and ``lr_scheduler_g``; a network that was trained on
several GPUs has ``module.`` before every name. The optimizer's state goes by the position of a
parameter, and ours stand in the published order.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from llve_common.paper import State


def to_published(state: State) -> State:
    """Our weights under the published names: the same."""
    return dict(state)


def from_published(state: State) -> State:
    """Published weights under our names; weights under our names pass unchanged."""
    return {key.removeprefix("module."): value for key, value in state.items()}


def published_checkpoint(network: nn.Module, optimizer: Optimizer, epochs: int) -> dict[str, Any]:
    """What the published trainer saves after ``epochs`` finished epochs."""
    return {
        "G_net": to_published(network.state_dict()),
        "epoch": epochs,
        "g_optimizer": optimizer.state_dict(),
        "lr_scheduler_g": {"last_epoch": epochs},
    }
