"""Deformable convolution by torchvision, where that is installed: much faster than plain PyTorch.

Backward it is plain PyTorch's: torchvision offers its own to autograd alone.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from llve_common.ops import plain
from llve_common.ops.implementation import Operands, Unavailable

backward = plain.backward


def require(device: torch.device, dtype: torch.dtype) -> None:
    """Import torchvision.

    Raises:
        Unavailable: it is not there, or of another build than torch.
    """
    _library()


def forward(operands: Operands, bias: Tensor | None) -> Tensor:
    """The output."""
    image, offset, mask, weight, geometry = operands
    stride, padding, dilation = geometry
    result: Tensor = _library().deform_conv2d(
        image, offset, weight, bias, stride=stride, padding=padding, dilation=dilation, mask=mask
    )
    return result


def _library() -> Any:
    try:
        return importlib.import_module("torchvision.ops")
    except (ImportError, RuntimeError, OSError) as error:
        raise Unavailable(f"torchvision cannot be imported ({error})") from error
