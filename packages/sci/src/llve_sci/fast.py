"""SCI's estimator made ready for a CPU: the same function, laid out for its vector units.

The estimator's convolutions map three channels to three, which leaves 13 of 16 vector lanes empty.
In channels-last memory, five neighbouring pixels of three channels are one pixel of fifteen, with
nothing moved; so each convolution runs as one that gives five pixels at a time: its kernel is five
copies of the 3x3 one side by side, each a column further, and it steps by five columns.

Where a C compiler is found, all of this is done by one kernel instead: see ``fast.c``. On a CUDA
device Triton's kernels do it: see ``triton_kernels.py``.
"""

import ctypes
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llve_common.io.images import Pixels
from llve_common.ops.kernels import device_kernels, enhance_rows, kernel_library
from llve_common.paper.contract import DeviceKernel, Kernel, Prepared
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


def folded(layers: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Weight and bias, float32, of a convolution with the batch norm that may follow it."""
    convolution, norm = layers[0], layers[1]
    assert isinstance(convolution, nn.Conv2d)
    # In double precision, so that folding adds one rounding and no more.
    weight, bias = convolution.weight.detach().double(), _vector(convolution.bias)
    if isinstance(norm, nn.BatchNorm2d):
        scale = _vector(norm.weight) / torch.sqrt(_vector(norm.running_var) + norm.eps)
        weight = weight * scale[:, None, None, None]
        bias = (bias - _vector(norm.running_mean)) * scale + _vector(norm.bias)
    return weight.float(), bias.float()


def prepare(network: nn.Module) -> Prepared:
    """The enhanced image by the network's estimator as it is now, in evaluation mode.

    The network has an ``IlluminationEstimator`` named ``enhance``, on the CPU; later changes to its
    weights are not seen. Blocks of rows, fastest in channels-last memory, come out in [0, 1].
    """
    estimator, layers = _layers(network)
    first, block, last = (PackedConvolution(*each) for each in layers)

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

    return Prepared(run, halo=estimator.layers + 2, kernel=_kernel(layers, estimator.layers))


def fuse(network: nn.Module) -> DeviceKernel | None:
    """The same on the CUDA device of the network; None where PyTorch is to be used."""
    estimator, layers = _layers(network)
    kernels = device_kernels("llve_sci", layers[0][0].device)
    if kernels is None or not _is_narrow(layers):
        return None
    rows = [torch.vstack([w.permute(2, 3, 1, 0).flatten(0, 2), bias]) for w, bias in layers]
    return partial(kernels.enhance, weights=torch.stack(rows), depth=estimator.layers)


def _layers(network: nn.Module) -> tuple[IlluminationEstimator, list[tuple[Tensor, Tensor]]]:
    """The estimator, and its first convolution, its block and its last convolution, folded."""
    estimator = network.enhance
    assert isinstance(estimator, IlluminationEstimator)
    layers = (estimator.in_conv, estimator.conv, estimator.out_conv)
    return estimator, [folded(each) for each in layers]


def _is_narrow(layers: Sequence[tuple[Tensor, Tensor]]) -> bool:
    """Whether kernels are for it: all features have three channels."""
    return all(weight.shape == (3, 3, 3, 3) for weight, _ in layers)


class _Convolution(ctypes.Structure):
    """``Convolution`` of the C file."""

    _fields_ = (("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p))


class _Network(ctypes.Structure):
    """``Network`` of the C file."""

    _fields_ = (
        ("height", ctypes.c_int64), ("width", ctypes.c_int64), ("bytes", ctypes.c_int64),
        ("layers", ctypes.c_int64), ("convolutions", 3 * _Convolution),
    )  # fmt: skip


def _kernel(layers: Sequence[tuple[Tensor, Tensor]], depth: int) -> Kernel | None:
    """The whole function by ``fast.c``; levels are truncated, as SCI writes images."""
    library = kernel_library("llve_sci")
    if library is None or not _is_narrow(layers):
        return None
    kept = [(_products(weight), bias) for weight, bias in layers]

    def run(pixels: Pixels, result: Pixels, rows: range, seen: Any) -> bool:
        convolutions = [_Convolution(*(each.data_ptr() for each in pair)) for pair in kept]
        size = (*pixels.shape[:2], pixels.itemsize, depth)
        network = _Network(*size, (3 * _Convolution)(*convolutions))
        return enhance_rows(library, network, pixels, result, rows)

    return run


def _products(weight: Tensor) -> Tensor:
    """Kernels (out, in, 3, 3) as those of the four products, (4, in, 3, out): see ``fast.c``."""
    sums = weight.new_tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]).double()
    products: Tensor = torch.einsum("pr,oirc->pico", sums, weight.double())
    return products.float().contiguous()


def _blank(features: Tensor, width: int) -> Tensor:
    """Zero the columns beyond the image, which to the next convolution are its zero padding."""
    features[..., width:] = 0
    return features


def _vector(values: Tensor | None) -> Tensor:
    assert values is not None
    return values.detach().double()
