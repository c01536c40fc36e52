"""Which implementation of the deformable convolution runs.

The environment variable ``LLVE_DCN`` says: ``torch`` (plain PyTorch), ``c``, ``triton``,
``torchvision``, or ``auto``, the default: C on a CPU, Triton on a CUDA device, where these cannot
be had torchvision's, and plain PyTorch at last. What was chosen is logged once for each kind of
tensors.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from llve_common.errors import ConfigError
from llve_common.ops.implementation import Implementation, Unavailable

if TYPE_CHECKING:
    import torch

VARIABLE = "LLVE_DCN"

T = TypeVar("T")

_NAMES = ("torch", "c", "triton", "torchvision")

_log = logging.getLogger(__name__)


def implementation_for(device: torch.device, dtype: torch.dtype) -> Implementation:
    """The implementation for tensors of this kind.

    Raises:
        ConfigError: the one that ``LLVE_DCN`` names does not exist or cannot be had.
    """
    return _choose(os.environ.get(VARIABLE, "auto"), device, dtype)


@cache
def _choose(name: str, device: torch.device, dtype: torch.dtype) -> Implementation:
    return choose(
        VARIABLE, name, _NAMES, f"deform_conv2d for {dtype} on {device}",
        _best(device, dtype), lambda wanted: _load(wanted, device, dtype),
    )  # fmt: skip


def choose(
    variable: str,
    name: str,
    names: Sequence[str],
    what: str,
    best: Sequence[str],
    load: Callable[[str], T],
) -> T:
    """Load an implementation of something, and log which.

    Args:
        variable: the environment variable that names it.
        name: what it says.
        names: what it may say, besides ``auto``.
        what: is computed, for the messages.
        best: what ``auto`` means, the first of them that can be had; ``torch`` always can.
        load: a name to the implementation; raises :class:`Unavailable`.

    Raises:
        ConfigError: the one that is named does not exist or cannot be had.
    """
    if name not in ("auto", *names):
        raise ConfigError(
            f"there is no such implementation of {what}",
            where=variable, got=repr(name), expected=" or ".join(("auto", *names)),
        )  # fmt: skip
    reasons: list[Unavailable] = []
    for wanted in [*best, "torch"] if name == "auto" else [name]:
        try:
            chosen = load(wanted)
        except Unavailable as error:
            reasons.append(error)
            continue
        if reasons:
            instead = "plain PyTorch" if wanted == "torch" else wanted
            message = "%s: %r cannot be had, %s runs instead, more slowly: %s"
            _log.warning(message, what, best[0], instead, reasons[0])
        else:
            _log.info("%s: %r runs", what, wanted)
        return chosen
    raise ConfigError(
        f"the implementation {name!r} of {what} cannot be had",
        where=variable, got=str(reasons[0]), mend=f"mend the cause, or set {variable}=auto",
    ) from reasons[0]  # fmt: skip


def _best(device: torch.device, dtype: torch.dtype) -> tuple[str, ...]:
    if device.type == "cpu":
        return "c", "torchvision"
    # Triton's kernels sum in float32.
    exact = str(dtype) == "torch.float64"
    return ("triton", "torchvision") if device.type == "cuda" and not exact else ()


def _load(name: str, device: torch.device, dtype: torch.dtype) -> Implementation:
    # Only what is asked for is imported: Triton is not installed everywhere.
    if name == "torch":
        from llve_common.ops import plain

        return plain
    if name == "c":
        from llve_common.ops import native

        native.require(device, dtype)
        return native
    if name == "torchvision":
        from llve_common.ops import vision

        vision.require(device, dtype)
        return vision
    try:
        from llve_common.ops import triton_kernels
    except ImportError as error:
        raise Unavailable(f"Triton is not installed here ({error})") from error
    triton_kernels.require(device, dtype)
    return triton_kernels
