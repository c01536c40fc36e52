"""SCI's estimator as shaders of a browser: three convolutions and the division."""

from importlib.resources import files
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llve_common.paper.contract import Pass
from llve_sci.fast import folded


def shaders(network: nn.Module) -> list[Pass]:
    """The enhanced image by the network's ``enhance``, an ``IlluminationEstimator`` of 3 channels.

    Batch norm is folded, as of evaluation.
    """
    depth, layers = folded(network)
    first, block, last = (_weights(*each) for each in layers)
    features = _shader("features.glsl")
    names = [f"features{each}" for each in range(depth + 1)]
    return [
        Pass(features, {"features": "frame"}, names[0], first, {"BLOCK": 0}),
        *(
            Pass(features, {"features": before}, after, block, {"BLOCK": 1})
            for before, after in pairwise(names)
        ),
        Pass(
            _shader("reflectance.glsl"), {"features": names[-1], "frame": "frame"}, "enhanced", last
        ),
    ]


def _shader(name: str) -> str:
    folder = files("llve_sci") / "shaders"
    return "".join((folder / each).read_text("utf-8") for each in ("convolution.glsl", name))


def _weights(weight: Tensor, bias: Tensor) -> Tensor:
    """The three columns of each tap, then the bias, each (3) of (4)."""
    columns = weight.permute(2, 3, 1, 0).reshape(27, 3)
    return F.pad(torch.cat([columns, bias[None]]), (0, 1))
