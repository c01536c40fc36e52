"""Deformable convolution: every implementation, the operator, and the errors."""

import importlib
import itertools
import math
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import conv2d

from llve_common.errors import ConfigError, DataError
from llve_common.ops import native, plain, selection, vision
from llve_common.ops.compiler import shared_library
from llve_common.ops.deform_conv import deform_conv2d
from llve_common.ops.implementation import Geometry, Operands, Unavailable
from llve_common.ops.packed import PackedDeformConv2d


def draw(count=2, channels=4, outputs=6, size=(5, 6), *, groups=1, deformable_groups=2,
         kernel=(3, 2), dtype=torch.float64, seed=0, **geometry):  # fmt: skip
    """Random arguments that fit together; offsets of some pixels, in and out of the image."""
    chance = torch.Generator().manual_seed(seed)
    taps = kernel[0] * kernel[1] * deformable_groups
    whole = {"stride": 1, "padding": 0, "dilation": 1} | geometry
    stride, padding, dilation = (whole[name] for name in ("stride", "padding", "dilation"))
    shape = [
        (side + 2 * padding - dilation * (k - 1) - 1) // stride + 1
        for side, k in zip(size, kernel, strict=True)
    ]

    def normal(*sizes):
        return torch.randn(*sizes, generator=chance, dtype=torch.float64).to(dtype)

    return {
        "input": normal(count, channels, *size),
        "offset": 2 * normal(count, 2 * taps, *shape),
        "mask": normal(count, taps, *shape).sigmoid(),
        "weight": normal(outputs, channels // groups, *kernel),
        "bias": normal(outputs),
    } | geometry


def by_loops(input, offset, mask, weight, bias, stride=1, padding=0, dilation=1):  # noqa: A002
    """The definition, one pixel at a time."""
    (count, channels, height, width), (outputs, group_channels, kh, kw) = input.shape, weight.shape
    taps, rows, columns = kh * kw, *mask.shape[2:]
    deformable_groups, groups = mask.shape[1] // taps, channels // group_channels
    result = bias[None, :, None, None].repeat(count, 1, rows, columns).numpy()
    input, offset, mask, weight = (t.numpy() for t in (input, offset, mask, weight))  # noqa: A001
    spans = (count, outputs, rows, columns, group_channels, kh, kw)
    for n, o, i, j, c, v, h in itertools.product(*map(range, spans)):
        channel = o // (outputs // groups) * group_channels + c
        tap = v * kw + h
        place = channel // (channels // deformable_groups) * taps + tap
        y = i * stride - padding + v * dilation + float(offset[n, 2 * place, i, j])
        x = j * stride - padding + h * dilation + float(offset[n, 2 * place + 1, i, j])
        if not (-1 < y < height and -1 < x < width):
            continue
        top, left = math.floor(y), math.floor(x)
        for row, column in itertools.product((top, top + 1), (left, left + 1)):
            if 0 <= row < height and 0 <= column < width:
                share = (1 - abs(y - row)) * (1 - abs(x - column)) * mask[n, place, i, j]
                result[n, o, i, j] += weight[o, c, v, h] * share * input[n, channel, row, column]
    return torch.from_numpy(result)


def gradients(arguments, dtype=None):
    """The output and all gradients of its sum with fixed weights."""
    tensors = {
        name: (value if dtype is None else value.to(dtype)).detach().requires_grad_()
        for name, value in arguments.items()
        if isinstance(value, torch.Tensor)
    }
    output = deform_conv2d(**(arguments | tensors))
    output.backward(torch.linspace(-1, 1, output.numel()).reshape(output.shape).to(output))
    return [output.detach(), *(tensor.grad for tensor in tensors.values())]


def assert_equal(actual, expected, tolerance):
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one.to(other.dtype), other, rtol=tolerance, atol=tolerance)


CASES = [
    {},
    {"stride": 2, "padding": 2, "dilation": 2, "kernel": (2, 3)},
    {"groups": 2, "deformable_groups": 4, "padding": 1},
    {"groups": 2, "deformable_groups": 1, "padding": 1},
    {"channels": 6, "groups": 3, "deformable_groups": 2},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_definition(case, implementation):
    arguments = draw(**case, dtype=torch.float32 if implementation == "triton" else torch.float64)
    tolerance = 1e-5 if implementation == "triton" else 1e-12
    assert_equal([deform_conv2d(**arguments)], [by_loops(**arguments)], tolerance)


@pytest.mark.parametrize("case", [*CASES, {"count": 33, "size": (3, 4)}, {"count": 0}], ids=str)
def test_implementations_agree(case, implementation, monkeypatch):
    arguments = draw(**case)
    actual = gradients(arguments, torch.float32)
    monkeypatch.setenv("LLVE_DCN", "torch")
    assert_equal(actual, gradients(arguments), 2e-4)


@pytest.mark.parametrize("implementation", ["triton"], indirect=True)
def test_tiles_of_positions_and_some_images_at_a_time(implementation, monkeypatch):
    kernels = importlib.import_module("llve_common.ops.triton_kernels")
    # Two images at a time; tiles of 8 x 16 positions, three of four channels in use.
    arguments = draw(count=3, channels=6, size=(11, 18))
    monkeypatch.setattr(kernels, "_ROOM", 2 * 6 * 6 * 9 * 17)
    actual = gradients(arguments, torch.float32)
    monkeypatch.setenv("LLVE_DCN", "torch")
    assert_equal(actual, gradients(arguments), 2e-4)


@pytest.fixture
def choosing():
    """Forgets what was chosen and loaded, before and after."""
    for each in range(2):
        selection._choose.cache_clear()
        native._library.cache_clear()
        if each == 0:
            yield


def compiled_without_openmp(source, *definitions):
    if "-fopenmp" in definitions:
        raise Unavailable("unsupported option '-fopenmp'")
    return shared_library(source, *definitions)


@pytest.mark.parametrize(("threads", "openmp"), [(2, True), (3, True), (3, False)])
@pytest.mark.parametrize(
    "case",
    [
        *({"channels": channels, "size": (19, 23)} for channels in (2, 8, 16, 32, 40)),
        # Wider than a block of the C code, and more outputs than one of its tiles.
        {"count": 3, "outputs": 70, "size": (6, 250)},
    ],
    ids=str,
)
def test_threads_and_widths(case, threads, openmp, choosing, monkeypatch):
    if not openmp:
        monkeypatch.setattr(native, "shared_library", compiled_without_openmp)
    arguments = draw(**case, padding=1)
    monkeypatch.setenv("LLVE_DCN", "torch")
    expected = gradients(arguments)
    monkeypatch.setenv("LLVE_DCN", "c")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        actual, again = gradients(arguments), gradients(arguments)
        with torch.inference_mode():
            deform_conv2d(**arguments)
    finally:
        torch.set_num_threads(before)
    assert_equal(actual, expected, 1e-10)
    assert all(torch.equal(one, other) for one, other in zip(actual, again, strict=True))


@pytest.mark.parametrize("edge", [-1.0, 3.0, 1.0])
def test_offset_gradient_at_exact_integers(edge, implementation):
    """0 at -1 and H, the right-hand derivative inside."""
    image = torch.tensor([1.0, 4.0, 9.0])[None, None, :, None]
    offset = torch.tensor([edge, 0.0]).reshape(1, 2, 1, 1).requires_grad_()
    one = torch.ones(1, 1, 1, 1)
    deform_conv2d(image, offset, one, one, stride=3).sum().backward()
    assert offset.grad[0, 0].item() == (5.0 if edge == 1 else 0.0)


def test_positions_that_are_no_number_count_as_outside(implementation):
    arguments = draw(dtype=torch.float32)
    values = torch.tensor([math.nan, math.inf, -math.inf, 1e30])
    arguments["offset"][:] = values[torch.arange(15) % 4].reshape(3, 5)
    output, by_input, by_offset, by_mask, by_weight, _ = gradients(arguments)
    assert torch.equal(output, arguments["bias"][None, :, None, None].expand_as(output))
    assert not any(each.any() for each in (by_input, by_offset, by_mask, by_weight))


def test_any_strides_and_the_memory_format_of_torch(implementation):
    arguments = draw(dtype=torch.float32)
    expected = gradients(arguments)
    for change in (
        lambda each: each.to(memory_format=torch.channels_last),
        lambda each: each.repeat_interleave(2, dim=3)[..., ::2],
        lambda each: each.transpose(2, 3).contiguous().transpose(2, 3),
    ):
        changed = {k: change(v) if k not in {"bias"} else v for k, v in arguments.items()}
        assert_equal(gradients(changed), expected, 1e-5)
        like = conv2d(changed["input"], changed["weight"])
        assert deform_conv2d(**changed).stride() == like.stride()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
def test_the_output_may_be_changed_in_place(implementation, layout, bias):
    arguments = draw(dtype=torch.float32)
    arguments["input"] = arguments["input"].to(memory_format=layout).requires_grad_()
    if not bias:
        arguments["bias"] = None
    output = deform_conv2d(**arguments).relu_()
    assert output._base is None
    output.sum().backward()
    assert arguments["input"].grad.abs().max() > 0


@pytest.mark.parametrize("name", ["torch", "c"])
def test_numerical_gradients_and_what_torch_expects_of_an_operator(name, monkeypatch):
    monkeypatch.setenv("LLVE_DCN", name)
    arguments = draw(count=1, channels=2, outputs=2, size=(3, 3), kernel=(2, 2), padding=1)
    tensors = [value.requires_grad_() for value in arguments.values() if torch.is_tensor(value)]
    assert torch.autograd.gradcheck(lambda *each: deform_conv2d(*each, padding=1), tensors)
    geometry = ([1, 1], [1, 1], [1, 1])
    torch.library.opcheck(torch.ops.llve.deform_conv2d.default, (*tensors, *geometry))
    grad = torch.ones(1, 2, 4, 4, dtype=torch.float64)
    detached = [each.detach() for each in (grad, *tensors[:4])]
    torch.library.opcheck(torch.ops.llve.deform_conv2d_backward.default, (*detached, *geometry))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_compiles_as_one_graph(layout):
    layer = PackedDeformConv2d(4, 6, deformable_groups=2)
    torch.nn.init.normal_(layer.conv_offset_mask.weight)
    image = torch.rand(2, 4, 8, 9).to(memory_format=layout)
    run = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(run(image, image), layer(image, image))
    run(image, image).sum().backward()
    assert layer.weight.grad.any()


def test_few_calls_wait_for_a_device_to_look_at_offsets():
    # A device without values: to wait for one is an error.
    layer, image = PackedDeformConv2d(4, 6).to("meta"), torch.rand(1, 4, 8, 9, device="meta")
    for _ in range(99):
        layer(image, image)
    with pytest.raises(RuntimeError, match="meta"):
        layer(image, image)


def test_autocast_computes_in_float32_on_a_cpu():
    layer = PackedDeformConv2d(4, 6, deformable_groups=2)
    image = torch.rand(1, 4, 8, 9)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(image.bfloat16(), image)
    assert output.dtype == torch.float32
    output.sum().backward()
    assert layer.weight.grad.dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["torch", "triton"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_cuda(name, dtype, monkeypatch):
    arguments = draw(channels=16, size=(19, 23), padding=1, dtype=dtype)
    monkeypatch.setenv("LLVE_DCN", "torch")
    expected = gradients(arguments, torch.float64)
    monkeypatch.setenv("LLVE_DCN", name)
    moved = {k: v.cuda() if torch.is_tensor(v) else v for k, v in arguments.items()}
    tolerance = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}[dtype]
    for one, other in zip(gradients(moved), expected, strict=True):
        assert one.dtype == dtype
        assert (one.cpu().double() - other).norm() <= tolerance * other.norm()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("input", torch.zeros(4, 5, 6), "four dimensions"),
        ("offset", torch.zeros(2, 24, 3, 4), "(2, 24, 3, 5)"),
        ("mask", torch.zeros(2, 11, 3, 5), "G * 6 channels, G a divisor of 4"),
        ("mask", torch.zeros(2, 18, 3, 5), "G a divisor of 4"),
        ("mask", torch.zeros(1, 12, 3, 5), "(2, 12, 3, 5)"),
        ("weight", torch.zeros(6, 3, 3, 2), "a divisor of 4 channels"),
        ("weight", torch.zeros(5, 2, 3, 2), "2 groups can share evenly"),
        ("weight", torch.zeros(6, 4, 9, 2), "dilated kernel fits"),
        ("bias", torch.zeros(5), "(6,)"),
        ("bias", torch.zeros(6, device="meta"), "torch.float32 on cpu"),
        ("mask", torch.zeros(2, 12, 3, 5, dtype=torch.float64), "torch.float32 on cpu"),
        ("input", torch.zeros(2, 4, 5, 6, dtype=torch.float16), "torch.float32 or torch.float64"),
        ("stride", 0, "at least 1"),
        ("dilation", (1, 1, 1), "(rows, columns)"),
    ],
)  # fmt: skip
def test_errors(name, value, said):
    arguments = draw(dtype=torch.float32) | {name: value}
    with pytest.raises(DataError) as caught:
        deform_conv2d(**arguments)
    assert said in str(caught.value)
    named = "input" if "fits" in said else name
    assert named in caught.value.what
    if torch.is_tensor(value) and "torch." not in said:
        assert str(tuple(value.shape)) in str(caught.value)


def test_jobs_are_waited_for_whatever_ends_the_wait():
    """They write to the caller's memory."""
    done = []
    with pytest.raises(ZeroDivisionError):
        native._do([lambda: 1 // 0, lambda: (time.sleep(0.2), done.append(True))])
    assert done or torch.get_num_threads() == 1


def test_a_forked_process_takes_one_thread(monkeypatch):
    native._first_process()
    monkeypatch.setattr(native.os, "getpid", lambda: 0)
    assert native._threads() == 1


CPU = torch.device("cpu")


def test_a_choice_is_logged_once(choosing, monkeypatch, caplog):
    monkeypatch.setenv("LLVE_DCN", "auto")
    with caplog.at_level("INFO"):
        assert selection.implementation_for(CPU, torch.float32) is native
        assert selection.implementation_for(CPU, torch.float32) is native
    [record] = caplog.records
    assert record.getMessage() == "deform_conv2d for torch.float32 on cpu: 'c' runs"


def test_without_a_compiler(choosing, monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "torchvision.ops", None)
    monkeypatch.setenv("LLVE_DCN", "c")
    with pytest.raises(ConfigError, match="no program `cc` on the PATH"):
        selection.implementation_for(CPU, torch.float32)
    monkeypatch.setenv("LLVE_DCN", "auto")
    assert selection.implementation_for(CPU, torch.float32) is plain
    assert selection.implementation_for(CPU, torch.float32) is plain
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "no program `cc`" in record.getMessage()


def test_torchvision_comes_before_plain_pytorch(choosing, monkeypatch, caplog, tmp_path):
    def stand_in(input, offset, weight, bias, stride, padding, dilation, mask):  # noqa: A002
        geometry = Geometry(stride, padding, dilation)
        return plain.forward(Operands(input, offset, mask, weight, geometry), bias)

    there = SimpleNamespace(deform_conv2d=stand_in)
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(ops=there))
    monkeypatch.setitem(sys.modules, "torchvision.ops", there)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LLVE_DCN", "auto")
    given = draw(stride=2, padding=1)
    torch.testing.assert_close(deform_conv2d(**given), by_loops(**given))
    assert selection.implementation_for(CPU, torch.float64) is vision
    assert "'c' cannot be had, torchvision runs instead" in caplog.text


@pytest.mark.parametrize(("name", "said"), [("cuda", "auto or torch"), ("triton", "Triton is")])
def test_what_cannot_be_had_says_why(name, said, choosing, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("LLVE_DCN", name)
    with pytest.raises(ConfigError, match=said):
        selection.implementation_for(CPU, torch.float32)
