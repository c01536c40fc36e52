"""SCI's estimator made ready for a CPU: the same function, laid out for its vector units.

The estimator's convolutions map three channels to three, which leaves 13 of 16 vector lanes empty.
In channels-last memory, five neighbouring pixels of three channels are one pixel of fifteen, with
nothing moved; so each convolution runs as one that gives five pixels at a time: its kernel is five
copies of the 3x3 one side by side, each a column further, and it steps by five columns.

A kernel written by hand would replace ``PackedConvolution``; nothing else knows of the packing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llve_common.paper.contract import Prepared
from llve_sci.network import IlluminationEstimator

# The most pixels of three channels that fit into 16 lanes.
COLUMNS = 5


class PackedConvolution:
    """A 3x3 convolution, stride 1, zero padding 1, that computes ``COLUMNS`` pixels at a time.

    A batch norm after it, in evaluation mode, is folded into it.
    """

    def __init__(self, layers: nn.Sequential) -> None:
        convolution, after = layers[0], layers[1]
        assert isinstance(convolution, nn.Conv2d)
        weight, bias = folded(convolution, after if isinstance(after, nn.BatchNorm2d) else None)
        self.channels = weight.shape[0]
        self.weight = packed(weight).contiguous(memory_format=torch.channels_last)
        self.bias = bias.repeat(COLUMNS)

    def __call__(self, features: Tensor) -> Tensor:
        """(1, channels, H, W), channels last, W a multiple of ``COLUMNS``, to the same size."""
        height, width = features.shape[-2:]
        groups = F.conv2d(features, self.weight, self.bias, stride=(1, COLUMNS), padding=1)
        rows = groups.permute(0, 2, 3, 1).reshape(1, height, width, self.channels)
        return rows.permute(0, 3, 1, 2)


def packed(weight: Tensor) -> Tensor:
    """Kernels (out, in, 3, 3) as (COLUMNS x out, in, 3, COLUMNS + 2), one shifted copy a column."""
    outputs, inputs = weight.shape[:2]
    copies = weight.new_zeros(COLUMNS, outputs, inputs, 3, COLUMNS + 2)
    for column in range(COLUMNS):
        copies[column, ..., column : column + 3] = weight
    return copies.flatten(0, 1)


def folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor]:
    """Weight and bias, float32, of a convolution with the batch norm that follows it."""
    # In double precision, so that folding adds one rounding and no more.
    weight, bias = convolution.weight.detach().double(), _vector(convolution.bias)
    if norm is not None:
        scale = _vector(norm.weight) / torch.sqrt(_vector(norm.running_var) + norm.eps)
        weight = weight * scale[:, None, None, None]
        bias = (bias - _vector(norm.running_mean)) * scale + _vector(norm.bias)
    return weight.float(), bias.float()


def prepare(network: nn.Module) -> Prepared:
    """The enhanced image by the network's estimator as it is now, in evaluation mode.

    The network has an ``IlluminationEstimator`` named ``enhance``, on the CPU; later changes to its
    weights are not seen. Blocks of rows, fastest in channels-last memory, come out in [0, 1].
    """
    estimator = network.enhance
    assert isinstance(estimator, IlluminationEstimator)
    first, block, last = (
        PackedConvolution(each) for each in (estimator.in_conv, estimator.conv, estimator.out_conv)
    )

    def run(image: Tensor, first_row: int, seen: None) -> Tensor:
        width = image.shape[-1]
        spare = -width % COLUMNS
        padded = F.pad(image, (0, spare)) if spare else image
        padded = padded.contiguous(memory_format=torch.channels_last)
        features = _blank(first(padded).relu_(), width)
        for _ in range(estimator.layers):
            features = _blank(block(features).relu_().add_(features), width)
        illumination = last(features).sigmoid_().add_(padded).clamp_(1e-4, 1)
        # A pixel over an illumination in [1e-4, 1] is not negative: one bound is enough.
        reflectance = torch.div(padded, illumination, out=illumination).clamp_(max=1)
        return reflectance[..., :width]

    return Prepared(run, halo=estimator.layers + 2)


def _blank(features: Tensor, width: int) -> Tensor:
    """Zero the columns beyond the image, which to the next convolution are its zero padding."""
    features[..., width:] = 0
    return features


def _vector(values: Tensor | None) -> Tensor:
    assert values is not None
    return values.detach().double()
