"""Deformable convolution by torchvision, where that is installed: much faster than plain PyTorch.

Backward it is plain PyTorch's: torchvision offers its own to autograd alone.
"""

import importlib

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
    try:
        importlib.import_module("torchvision.ops")
    except (ImportError, RuntimeError, OSError) as error:
        raise Unavailable(f"torchvision cannot be imported ({error})") from error


def forward(operands: Operands, bias: Tensor | None) -> Tensor:
    """The output."""
    image, offset, mask, weight, (stride, padding, dilation) = operands
    result: Tensor = importlib.import_module("torchvision.ops").deform_conv2d(
        image, offset, weight, bias, stride=stride, padding=padding, dilation=dilation, mask=mask
    )
    return result
