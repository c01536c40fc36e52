"""SGZ as shaders of a browser: the factor of the reduced picture, and the brightening."""

from importlib.resources import files

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llve_common.errors import ConfigError
from llve_common.paper.contract import Pass
from llve_sgz.network import STEPS, Enhancer

_LAYERS = {
    "e_conv1": (("reduced",), "x1"),
    "e_conv2": (("x1",), "x2"),
    "e_conv3": (("x2",), "x3"),
    "e_conv4": (("x3",), "x4"),
    "e_conv5": (("x3", "x4"), "x5"),
    "e_conv6": (("x2", "x5"), "x6"),
    "e_conv7": (("x1", "x6"), "factor"),
}
"""What each layer reads and draws."""


def shaders(network: nn.Module) -> list[Pass]:
    """The enhanced picture by a network of depthwise separable convolutions.

    Raises:
        ConfigError: its convolutions are traditional.
    """
    assert isinstance(network, Enhancer)
    if "e_conv1.point_conv.weight" not in network.state_dict():
        raise ConfigError(
            "the page's shaders are of depthwise separable convolutions", got="traditional ones"
        )
    scale = network.scale_factor
    layers = [
        _layer(network.get_submodule(name), inputs, output, scale)
        for name, (inputs, output) in _LAYERS.items()
    ]
    return [
        Pass(_shader("reduced"), {"frame": "frame"}, "reduced", None, {"SCALE": scale}, scale),
        *layers,
        Pass(
            _shader("brightened"), {"factor": "factor", "frame": "frame"}, "enhanced",
            defines={"SCALE": scale, "STEPS": STEPS},
        ),
    ]  # fmt: skip


def _layer(layer: nn.Module, inputs: tuple[str, ...], output: str, scale: int) -> Pass:
    depth, point = layer.get_submodule("depth_conv"), layer.get_submodule("point_conv")
    assert isinstance(depth, nn.Conv2d)
    assert isinstance(point, nn.Conv2d)
    channels = depth.in_channels // len(inputs)
    one, other = _groups(channels), _groups(channels) * (len(inputs) - 1)
    groups = _groups(point.out_channels)
    return Pass(
        _shader("separable"), dict(zip(("one", "other"), inputs, strict=False)), output,
        _weights(depth, point, one + other, groups),
        {"ONE": one, "OTHER": other, "LAST": int(output == "factor")}, scale, groups,
    )  # fmt: skip


def _weights(depth: nn.Conv2d, point: nn.Conv2d, inputs: int, outputs: int) -> Tensor:
    """The weights in the order of ``separable.glsl``, for so many groups of four channels."""

    def padded(values: Tensor, *sides: int) -> Tensor:
        room = [(0, side - have) for side, have in zip(sides, values.shape, strict=True)]
        return F.pad(values, [each for pair in reversed(room) for each in pair])

    assert depth.bias is not None
    assert point.bias is not None
    taps = padded(depth.weight.flatten(1), 4 * inputs, 9).reshape(inputs, 4, 9).mT
    bias = padded(depth.bias, 4 * inputs).reshape(inputs, 1, 4)
    columns = padded(point.weight[..., 0, 0], 4 * outputs, 4 * inputs)
    columns = columns.reshape(outputs, 4, 4 * inputs).mT
    last = padded(point.bias, 4 * outputs).reshape(outputs, 1, 4)
    parts = (torch.cat([taps, bias], 1), torch.cat([columns, last], 1))
    return torch.cat([part.reshape(-1, 4) for part in parts])


def _groups(channels: int) -> int:
    return -(-channels // 4)


def _shader(name: str) -> str:
    return (files("llve_sgz") / "shaders" / f"{name}.glsl").read_text("utf-8")
