"""What a network costs: parameters and multiply-accumulates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def parameter_count(network: nn.Module) -> int:
    """The number of learnable values, shared ones counted once."""
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_accumulates(run: Callable[[], Any]) -> int:
    """Multiply-accumulates of all convolutions, matrix products and attention in ``run()``.

    A multiplication with its addition counts as one. Biases, normalisation, activations and
    resampling do not count; papers that count them report some per cent more.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return int(counter.get_total_flops()) // 2
