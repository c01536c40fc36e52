"""Weights with which a narrow network of SDSD begins; ours, not the paper's.

What the network makes of a frame passes through features at a quarter of the frame's size. Random
features of few channels lose the picture there, and training hardly finds it again. So here 24
channels begin as the centre frame's pixels in 4:2:0: the 16 luma samples of 4x4 pixels, and 4
samples each of red and blue. With the objective's exposure e, a smooth frame s, and its local mean
m, the noise branch begins with ``(1 - e) s``, and the illumination branch with a tone curve. So the
enhanced frame begins as this, of the frame c::

    (c + (e - 1) s) / (e (0.06 + 0.8 m))

All other weights stay as they are.
"""

import torch
from torch import Tensor, nn

from llve_common.ops.packed import PackedDeformConv2d
from llve_sdsd.network import AttentionFusion, Branch, RetinexNet

Layer = nn.Conv2d | PackedDeformConv2d

CHANNELS = 24
"""A network needs as many at least, and 3 last ones."""

# Of the half and the full size: four luma samples or one, then red, then blue.
_HALF, _FULL = 6, 3
# Samples, of a Gaussian.
_NARROW, _WIDE = 1.5, 100.0
# Keeps signed values where a leaky ReLU changes nothing.
_OFFSET = 0.5


@torch.no_grad()
def begin_with_pixels(network: RetinexNet, exposure: float) -> None:
    """Change the weights of a new network, which has ``CHANNELS`` channels at least."""
    _take_apart(network)
    align = network.pcd_align
    for layer in (align.L1_dcnpack, align.cas_dcnpack):
        # Its mask begins at 0.5.
        _pass(layer, CHANNELS, gain=2)
    _pass(align.L1_fea_conv, CHANNELS)
    _take_the_centre(network)
    noise, light = network.branches()
    _put_together(noise, _NARROW, gain=1 - exposure)
    _put_together(light, _WIDE, gain=0.8 * exposure, least=0.06 * exposure)


def _take_apart(network: RetinexNet) -> None:
    """A frame into luma, red and blue, and these into the samples of a half and a quarter."""
    full, half, quarter = network.conv_first_1, network.conv_first_2, network.conv_first_3
    for layer, channels in ((full, _FULL), (half, _HALF), (quarter, CHANNELS)):
        _clear(layer, channels)
    full.weight[0, :, 1, 1] = 1 / 3
    full.weight[1, 0, 1, 1] = full.weight[2, 2, 1, 1] = 1
    for row in (0, 1):
        for column in (0, 1):
            sample, tap = 2 * row + column, (1 + row, 1 + column)
            half.weight[(sample, 0, *tap)] = 1
            for colour in (1, 2):
                half.weight[(3 + colour, colour, *tap)] = 1 / 4
            for channel in range(_HALF):
                quarter.weight[(4 * channel + sample, channel, *tap)] = 1


def _take_the_centre(network: RetinexNet) -> None:
    """The fusion gives the centre frame's features."""
    fusion = network.tsa_fusion
    first = network.center * network.conv_first_1.out_channels
    if isinstance(fusion, nn.Conv2d):
        _pass(fusion, CHANNELS, first=first)
        return
    assert isinstance(fusion, AttentionFusion)
    # Every frame's likeness to the centre begins at 0, whose sigmoid is 0.5.
    _clear(fusion.tAtt_1, fusion.tAtt_1.out_channels)
    _pass(fusion.fea_fusion, CHANNELS, gain=2, first=first)
    for layer in (fusion.sAtt_5, fusion.sAtt_add_2):
        _clear(layer, CHANNELS)


def _put_together(branch: Branch, sigma: float, gain: float, least: float = 0) -> None:
    """The smoothed samples into ``gain`` times an image, plus ``least``."""
    up = branch.upconv1
    _clear(up, CHANNELS)
    places = _places()
    for plane, side in ((range(16), 4), (range(16, 20), 2), (range(20, 24), 2)):
        for out in plane:
            offsets = places[list(plane)] - places[out]
            up.weight[out, list(plane)] = _gaussian(offsets, side, sigma)

    up = branch.upconv2
    _clear(up, 4 * _FULL)
    for sample in range(4):
        up.weight[sample, sample, 1, 1] = 1
        for colour in (1, 2):
            # A colour less luma, as it is known at half the size only.
            out = 4 * colour + sample
            up.weight[out, 3 + colour, 1, 1] = 1
            up.weight[out, :4, 1, 1] = -1 / 4
            _bias(up)[out] = _OFFSET
    _pass(branch.last_but_one, _FULL)
    last = branch.last
    last.weight.zero_()
    # Luma is the mean of the three colours.
    for channel, shares in enumerate(((1, 1, 1), (1, -1, 0), (0, -1, 1))):
        last.weight[:, channel, 1, 1] = gain * last.weight.new_tensor(shares)
    _bias(last).copy_(least - _OFFSET * last.weight[:, 1:].sum((1, 2, 3)))


def _places() -> Tensor:
    """Row and column of each channel's sample within 4x4 or, for the colours, 2x2: (24, 2)."""
    channel = torch.arange(CHANNELS)
    inner = torch.stack([channel % 4 // 2, channel % 2], 1)
    outer = torch.stack([channel // 4 // 2, channel // 4 % 2], 1)
    return torch.where((channel < 16)[:, None], 2 * inner + outer, inner)


def _gaussian(offsets: Tensor, side: int, sigma: float) -> Tensor:
    """Weights (S, 3, 3) of samples that are (S, 2) away, in the 3x3 squares around."""
    square = torch.arange(-1, 2) * side
    rows = offsets[:, 0, None, None] + square[:, None]
    columns = offsets[:, 1, None, None] + square
    weights = (-(rows**2 + columns**2) / (2 * sigma**2)).exp()
    return weights / weights.sum()


def _bias(layer: Layer) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def _clear(layer: Layer, channels: int) -> None:
    layer.weight[:channels] = 0
    _bias(layer)[:channels] = 0


def _pass(layer: Layer, channels: int, gain: float = 1, first: int = 0) -> None:
    """Let the first output channels be input channels from ``first`` on, times ``gain``."""
    _clear(layer, channels)
    middle = layer.weight.shape[-1] // 2
    for channel in range(channels):
        layer.weight[channel, first + channel, middle, middle] = gain
