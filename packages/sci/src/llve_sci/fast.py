"""SCI's estimator made ready for a CPU: the same function, laid out for its vector units.

The estimator's convolutions map three channels to three, which leaves 13 of 16 vector lanes empty.
In channels-last memory, five neighbouring pixels of three channels are one pixel of fifteen, with
nothing moved; so each convolution runs as one that gives five pixels at a time: its kernel is five
copies of the 3x3 one side by side, each a column further, and it steps by five columns.

Where a C compiler is found, all of this is done by one kernel instead: see ``kernel.py``. On a CUDA
device Triton's kernels do it: see ``triton_kernels.py``.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llve_common.ops.kernels import device_kernels
from llve_common.paper.contract import DeviceKernel, Prepared
from llve_sci import kernel
from llve_sci.network import IlluminationEstimator

# The most pixels of three channels that fit into 16 lanes.
COLUMNS = 5


class PackedConvolution:
    """A 3x3 convolution, stride 1, zero padding 1, that computes ``COLUMNS`` pixels at a time."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
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


def prepare(network: nn.Module) -> Prepared:
    """The enhanced image by the network's estimator as it is now, in evaluation mode.

    The network has an ``IlluminationEstimator`` named ``enhance``, on the CPU; later changes to its
    weights are not seen. Blocks of rows, fastest in channels-last memory, come out in [0, 1].
    """
    depth, layers = folded(network)
    first, block, last = (PackedConvolution(*each) for each in layers)

    def run(image: Tensor, first_row: int, seen: None) -> Tensor:
        width = image.shape[-1]
        spare = -width % COLUMNS
        padded = F.pad(image, (0, spare)) if spare else image
        padded = padded.contiguous(memory_format=torch.channels_last)
        features = _blank(first(padded).relu_(), width)
        for _ in range(depth):
            features = _blank(block(features).relu_().add_(features), width)
        illumination = last(features).sigmoid_().add_(padded).clamp_(1e-4, 1)
        # A pixel over an illumination in [1e-4, 1] is not negative: one bound is enough.
        reflectance = torch.div(padded, illumination, out=illumination).clamp_(max=1)
        return reflectance[..., :width]

    arrays = [(weight.numpy(), bias.numpy()) for weight, bias in layers]
    return Prepared(run, halo=depth + 2, kernel=kernel.fused(arrays, depth))


def fuse(network: nn.Module) -> DeviceKernel | None:
    """The same on the CUDA device of the network; None where PyTorch is to be used."""
    depth, layers = folded(network)
    device = next(network.parameters()).device
    kernels = device_kernels("llve_sci", device)
    if kernels is None or not kernel.is_narrow(layers):
        return None
    rows = [torch.vstack([w.permute(2, 3, 1, 0).flatten(0, 2), bias]) for w, bias in layers]
    return partial(kernels.enhance, weights=torch.stack(rows).to(device), depth=depth)


def folded(network: nn.Module) -> tuple[int, list[list[Tensor]]]:
    """How often the estimator applies its block, and each convolution's weight and bias, folded."""
    estimator = network.enhance
    assert isinstance(estimator, IlluminationEstimator)
    weights = {name: each.cpu().numpy() for name, each in network.state_dict().items()}
    return estimator.layers, [[*map(torch.from_numpy, each)] for each in kernel.folded(weights)]


def _blank(features: Tensor, width: int) -> Tensor:
    """Zero the columns beyond the image, which to the next convolution are its zero padding."""
    features[..., width:] = 0
    return features
