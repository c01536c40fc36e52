"""Modulated deformable convolution (DCNv2), as the operator ``llve::deform_conv2d``.

Zhu, Hu, Lin, Dai, *Deformable ConvNets v2: More Deformable, Better Results*, CVPR 2019, Eq. 1:
each tap k of the kernel samples the input where its offset points and weights it by its mask,

    y(p) = sum_k w_k m_k(p) x(p stride - padding + k dilation + offset_k(p))

with bilinear interpolation and zeros outside. There are several implementations, which
:mod:`llve_common.ops.selection` chooses from.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from llve_common.errors import DataError
from llve_common.ops.implementation import Geometry, Operands, Pair
from llve_common.ops.selection import implementation_for


def deform_conv2d(
    input: Tensor,  # noqa: A002
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """Convolve an image sampled where offsets point.

    With G deformable groups and K = kh kw taps, numbered row by row over the kernel. A sample at
    (y, x) counts only where ``-1 < y < H`` and ``-1 < x < W``, and each of the four pixels around
    it only where it lies in the image. The offset's gradient is the right-hand derivative at exact
    integers, and 0 where a sample lies exactly at -1, H or W.

    Under autocast, all is computed in autocast's type on a GPU and in float32 on a CPU.

    Args:
        input: (N, C, H, W); N may be 0. float32 or float64 on a CPU, and float16 or bfloat16 (with
            float32 sums) elsewhere.
        offset: (N, 2 G K, H', W') in pixels; group g and tap k hold (dy, dx) at channels
            ``2 (g K + k)`` and the one after it.
        mask: (N, G K, H', W'), channel ``g K + k``. The channels of the input are split evenly
            over the deformable groups, in order.
        weight: (C', C / groups, kh, kw).
        bias: (C') or none.
        stride: of the kernel, for both axes or as (rows, columns).
        padding: zeros on each side, likewise.
        dilation: distance of the taps, likewise.

    Returns:
        (N, C', H', W'), channels last in memory where the input is so;
        H' = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1.

    Raises:
        DataError: shapes, types or devices do not fit.
        ConfigError: ``LLVE_DCN`` asks for an implementation that cannot be had.
    """
    tensors = {"input": input, "offset": offset, "mask": mask, "weight": weight}
    if bias is not None:
        tensors["bias"] = bias
    device = input.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        dtype = torch.float32 if device == "cpu" else torch.get_autocast_dtype(device)
        tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    geometry = Geometry(
        _pair("stride", stride, 1), _pair("padding", padding, 0), _pair("dilation", dilation, 1)
    )
    _check_kinds(tensors)
    _check_shapes(tensors, geometry)
    output: Tensor = _operator(
        tensors["input"], tensors["offset"], tensors["mask"], tensors["weight"],
        tensors.get("bias"), *map(list, geometry),
    )  # fmt: skip
    return output


def _pair(name: str, value: int | Sequence[int], least: int) -> Pair:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(each, int) and each >= least for each in pair):
        raise DataError(
            f"a deformable convolution cannot have this {name}",
            got=repr(value),
            expected=f"an integer of at least {least}, or two: (rows, columns)",
        )
    return pair


def _check_kinds(tensors: dict[str, Tensor]) -> None:
    """Check that all are of one type and on one device."""
    first = tensors["input"]
    wide = (torch.float32, torch.float64)
    allowed = wide if first.device.type == "cpu" else (torch.float16, torch.bfloat16, *wide)
    if first.dtype not in allowed:
        raise DataError(
            "input of a deformable convolution has a type that it does not take",
            got=f"{first.dtype} on {first.device}",
            expected=" or ".join(map(str, allowed)),
        )
    for name, tensor in tensors.items():
        if (tensor.dtype, tensor.device) != (first.dtype, first.device):
            what = f"{name} of a deformable convolution is of another kind than its input"
            got, expected = (f"{each.dtype} on {each.device}" for each in (tensor, first))
            raise DataError(what, got=got, expected=expected)


def _check_shapes(tensors: dict[str, Tensor], geometry: Geometry) -> None:
    input, weight = tensors["input"], tensors["weight"]  # noqa: A001
    for name in ("input", "offset", "mask", "weight"):
        if tensors[name].ndim != 4:
            _refuse(tensors, name, "four dimensions")
    channels, height, width = input.shape[1:]
    outputs, group_channels, kernel_height, kernel_width = weight.shape
    if min(channels, height, width) < 1:
        _refuse(tensors, "input", "at least one channel, row and column")
    if min(weight.shape) < 1 or channels % group_channels:
        _refuse(tensors, "weight", f"(C', a divisor of {channels} channels, kh, kw)")
    groups = channels // group_channels
    if outputs % groups:
        _refuse(tensors, "weight", f"outputs that {groups} groups can share evenly")
    rows, columns = geometry.output_size((height, width), (kernel_height, kernel_width))
    if min(rows, columns) < 1:
        _refuse(tensors, "input", "an image that the dilated kernel fits into")
    taps = kernel_height * kernel_width
    mask_channels = tensors["mask"].shape[1]
    deformable_groups = mask_channels // taps
    if mask_channels % taps or deformable_groups < 1 or channels % deformable_groups:
        _refuse(tensors, "mask", f"G * {taps} channels, G a divisor of {channels}")
    expected = {
        # Not len(input), which fixes the batch's size in a network that is exported.
        "mask": (input.shape[0], mask_channels, rows, columns),
        "offset": (input.shape[0], 2 * mask_channels, rows, columns),
        "bias": (outputs,),
    }
    for name, shape in expected.items():
        if name in tensors and tensors[name].shape != shape:
            _refuse(tensors, name, str(shape))


def _refuse(tensors: dict[str, Tensor], name: str, expected: str) -> None:
    shapes = ", ".join(f"{each} {tuple(tensor.shape)}" for each, tensor in tensors.items())
    raise DataError(
        f"{name} of a deformable convolution has the wrong shape",
        got=f"{tuple(tensors[name].shape)} among {shapes}",
        expected=expected,
    )


@torch.library.custom_op("llve::deform_conv2d", mutates_args=())
def _operator(
    image: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
) -> Tensor:  # fmt: skip
    operands = Operands(image, offset, mask, weight, _geometry(stride, padding, dilation))
    with _without_autocast(image.device.type):
        output = implementation_for(image.device, image.dtype).forward(operands, bias)
    return output.contiguous(memory_format=_layout(image))


@torch.library.custom_op("llve::deform_conv2d_backward", mutates_args=())
def _backward_operator(
    grad_output: Tensor, image: Tensor, offset: Tensor, mask: Tensor, weight: Tensor,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of image, offset, mask, weight and bias."""
    operands = Operands(image, offset, mask, weight, _geometry(stride, padding, dilation))
    chosen = implementation_for(image.device, image.dtype)
    with _without_autocast(image.device.type):
        by_image, *others = chosen.backward(grad_output, operands)
    by_offset, by_mask, by_weight = (each.contiguous() for each in others)
    by_image = by_image.contiguous(memory_format=_layout(image))
    return by_image, by_offset, by_mask, by_weight, grad_output.sum((0, 2, 3))


@_operator.register_fake
def _(image: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, *rest: object) -> Tensor:
    shape = (image.shape[0], weight.shape[0], *mask.shape[2:])
    return torch.empty(shape, dtype=image.dtype, device=image.device, memory_format=_layout(image))


@_backward_operator.register_fake
def _(
    grad_output: Tensor, image: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, *rest: object
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    by_image = torch.empty_like(image, memory_format=_layout(image))
    by_offset, by_mask, by_weight = (
        tensor.new_empty(tensor.shape) for tensor in (offset, mask, weight)
    )
    return by_image, by_offset, by_mask, by_weight, weight.new_empty(weight.shape[0])


OPERATOR = torch.ops.llve.deform_conv2d.default
"""What stands in a traced network for a deformable convolution."""


@register_flop_formula(torch.ops.llve.deform_conv2d)
def _count(
    image: Sequence[int], offset: Sequence[int], mask: Sequence[int], weight: Sequence[int],
    *rest: object, out_shape: Sequence[int],
) -> int:  # fmt: skip
    """Operations of a forward pass: the convolution's, without the sampling, as for resampling."""
    return 2 * math.prod(out_shape) * math.prod(weight[1:])


@register_flop_formula(torch.ops.llve.deform_conv2d_backward)
def _count_backward(
    grad_output: Sequence[int], image: Sequence[int], offset: Sequence[int], mask: Sequence[int],
    weight: Sequence[int], *rest: object, out_shape: Sequence[int],
) -> int:  # fmt: skip
    """Likewise: a product for the samples' gradients, and one for the weight's."""
    return 4 * math.prod(grad_output) * math.prod(weight[1:])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    image, offset, mask, weight, bias, *ctx.geometry = inputs
    ctx.save_for_backward(image, offset, mask, weight)
    ctx.bias = bias is not None


def _differentiate(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    *gradients, by_bias = _backward_operator(grad_output, *ctx.saved_tensors, *ctx.geometry)
    return *gradients, by_bias if ctx.bias else None, None, None, None


_operator.register_autograd(_differentiate, setup_context=_save)


def _without_autocast(device: str) -> AbstractContextManager[object]:
    """The operands are in one type already. To turn autocast off takes a while, so only if on."""
    on = torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if on else nullcontext()


def _layout(image: Tensor) -> torch.memory_format:
    """The memory format of the output, and of the image's gradient: the image's, as in torch."""
    last = torch.channels_last
    plain = image.is_contiguous() or not image.is_contiguous(memory_format=last)
    return torch.contiguous_format if plain else last


def _geometry(*pairs: Sequence[int]) -> Geometry:
    stride, padding, dilation = ((rows, columns) for rows, columns in pairs)
    return Geometry(stride, padding, dilation)
