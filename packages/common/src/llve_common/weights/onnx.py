"""A paper's network as an ONNX file, checked against the network before it is put in place."""

import importlib
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llve_common.errors import ExportError
from llve_common.io.atomic import replacing
from llve_common.ops import deform_conv
from llve_common.paper.contract import Model

OPSET = 20
TOLERANCE = 1e-4
_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")

Size = tuple[int, int, int]
"""Number of windows, height, width."""


@dataclass(frozen=True)
class Exported:
    """How far a written file is from the network.

    Attributes:
        sizes: (N, H, W) at which file and network were compared.
        difference: the largest absolute difference between their outputs.
    """

    sizes: tuple[Size, ...]
    difference: float


class _Window(nn.Module):
    """A paper's ``enhance`` as a module, which is what torch exports."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.enhance, self.network = model.paper.enhance, model.network

    def forward(self, frames: Tensor) -> Tensor:
        return self.enhance(self.network, frames)


def export_onnx(model: Model, path: Path, metadata: Mapping[str, str] | None = None) -> Exported:
    """Write one window of a network as ONNX, whole or not at all, and check what was written.

    The file's input ``frames`` is (N, T, 3, H, W) float32 RGB in [0, 1], T as the window's inputs;
    its output ``enhanced`` is (N, outputs, 3, H, W), not clipped. N, H and W are free; H and W are
    multiples of the window's multiple, to which the caller pads. A runtime needs :data:`OPSET`.

    Args:
        model: on the CPU.
        path: an ``.onnx`` file; one that exists is replaced once the new one has passed.
        metadata: further facts to keep in the file.

    Raises:
        ExportError: the extra ``llve-common[onnx]`` is not installed, the suffix is another, the
            network cannot be exported, or the file differs from it by more than 1e-4.
        MediaError: the file cannot be written.
    """
    if path.suffix != ".onnx":
        raise ExportError("not the name of an ONNX file", where=path, expected="the suffix .onnx")
    try:
        for name in _LIBRARIES:
            importlib.import_module(name)
    except ImportError as error:
        raise ExportError(
            "ONNX export needs libraries that are not installed",
            got=error,
            expected=", ".join(_LIBRARIES),
            mend="pip install 'llve-common[onnx]', "
            f"or in a checkout: pip install -e 'packages/{model.paper.name}[onnx]'",
        ) from error
    multiple = model.window.multiple
    rounding = model.paper.rounding
    facts = {"paper": model.paper.title, "multiple": str(multiple), "rounding": rounding}
    facts |= dict(metadata or {})
    # The smallest size, and one that shares no side with it or with the exporter's example.
    side = _base(multiple)
    sizes = (1, multiple, multiple), (3, side + multiple, 2 * side + multiple)
    with _quiet(), replacing(path) as temporary:
        temporary.write_bytes(_serialised(model, path, facts))
        difference = _difference(model, temporary.read_bytes(), sizes, path)
    return Exported(sizes, difference)


def _serialised(model: Model, path: Path, facts: Mapping[str, str]) -> bytes:
    """The serialised model, free of what only the exporter's machine could use."""
    onnx: Any = importlib.import_module("onnx")
    multiple = model.window.multiple
    side = _base(multiple)
    height, width = torch.export.Dim("H"), torch.export.Dim("W")
    free = {0: torch.export.Dim("N"), 3: multiple * height, 4: multiple * width}
    try:
        program = torch.onnx.export(
            _Window(model).eval(),
            # Sides that differ, and no 1: torch takes what is equal or 1 for what must be so.
            (_frames(model, (2, side, 2 * side)),),
            input_names=["frames"],
            output_names=["enhanced"],
            dynamic_shapes={"frames": free},
            opset_version=OPSET,
            dynamo=True,
            custom_translation_table={deform_conv.OPERATOR: _deform_conv},
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        what = "the network cannot be written as ONNX"
        raise ExportError(what, where=path, got=_reason(error)) from error
    assert program is not None
    written = program.model_proto
    _strip(written)
    onnx.helper.set_model_props(written, dict(facts))
    content: bytes = written.SerializeToString(deterministic=True)
    return content


def _deform_conv(
    image: Any, offset: Any, mask: Any, weight: Any, bias: Any,
    stride: Any, padding: Any, dilation: Any,
) -> Any:  # fmt: skip
    """Our operator :mod:`~llve_common.ops.deform_conv` as ONNX's, which orders offsets as we do."""
    operators: Any = importlib.import_module("onnxscript").opset20
    channels, *kernel = weight.shape[1:]
    return operators.DeformConv(
        image, weight, offset, bias, mask,
        kernel_shape=kernel, strides=stride, pads=[*padding, *padding], dilations=dilation,
        group=image.shape[1] // channels, offset_group=mask.shape[1] // math.prod(kernel),
    )  # fmt: skip


def _strip(written: Any) -> None:
    """Remove stack traces: they hold paths of this machine, and are most of a small file."""
    for whole in (written.graph, *written.functions):
        for part in (whole, *whole.node, *whole.value_info):
            part.ClearField("metadata_props")
    for part in (*written.graph.input, *written.graph.output):
        part.ClearField("metadata_props")


def _difference(model: Model, content: bytes, sizes: tuple[Size, ...], path: Path) -> float:
    """The largest absolute difference between a model and the network.

    Raises:
        ExportError: it is above the tolerance or not a number, or the runtime refuses the model.
    """
    largest = 0.0
    for size in sizes:
        frames = _frames(model, size)
        with torch.inference_mode():
            expected = model.paper.enhance(model.network, frames)
        got = _run(content, frames, path)
        if got.shape != expected.shape:
            raise _differs(path, f"{tuple(got.shape)}", f"{tuple(expected.shape)}", size)
        difference = float((got - expected).abs().max())
        if not difference <= TOLERANCE:  # also where it is not a number
            raise _differs(path, f"a difference of {difference:.2g}", f"<= {TOLERANCE:g}", size)
        largest = max(largest, difference)
    return largest


def _run(content: bytes, frames: Tensor, path: Path) -> Tensor:
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong comes as an exception
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        [enhanced] = session.run(["enhanced"], {"frames": frames.numpy()})
    except Exception as error:  # the runtime's own share no other base
        raise ExportError(
            "onnxruntime cannot run what was exported; nothing was written",
            where=path,
            got=f"{_reason(error)}, for frames {tuple(frames.shape)}",
        ) from error
    return torch.from_numpy(enhanced)


def _differs(path: Path, got: str, expected: str, size: Size) -> ExportError:
    return ExportError(
        "what was exported does not compute what the network does; nothing was written",
        where=path,
        got=f"{got} for N, H, W = {size}",
        expected=expected,
    )


def _base(multiple: int) -> int:
    """The first multiple of at least 16 pixels, and no less than the second."""
    # At the first, features at the network's smallest size would have a side of 1.
    return multiple * max(2, -(-16 // multiple))


def _frames(model: Model, size: Size) -> Tensor:
    """Random frames (N, T, 3, H, W) in [0, 1], the same at every call."""
    count, height, width = size
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, len(model.window.inputs), 3, height, width, generator=generator)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the libraries warn of and print: what matters of it comes as an exception."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _reason(error: BaseException) -> str:
    """The first line of the first cause; what torch puts around it is about torch."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"
