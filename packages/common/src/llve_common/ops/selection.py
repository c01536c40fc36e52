"""Which implementation of the deformable convolution runs.

The environment variable ``LLVE_DCN`` says: ``torch`` (plain PyTorch), ``c``, ``triton``, or
``auto``, the default: C on a CPU, Triton on a CUDA device, and plain PyTorch where these cannot be
had. What was chosen is logged once for each kind of tensors.
"""

from __future__ import annotations

import logging
import os
from functools import cache

import torch

from llve_common.errors import ConfigError
from llve_common.ops import plain
from llve_common.ops.implementation import Implementation, Unavailable

VARIABLE = "LLVE_DCN"

_log = logging.getLogger(__name__)
_NAMES = ("auto", "torch", "c", "triton")


def implementation_for(device: torch.device, dtype: torch.dtype) -> Implementation:
    """The implementation for tensors of this kind.

    Raises:
        ConfigError: the one that ``LLVE_DCN`` names does not exist or cannot be had.
    """
    return _choose(os.environ.get(VARIABLE, "auto"), device, dtype)


@cache
def _choose(name: str, device: torch.device, dtype: torch.dtype) -> Implementation:
    if name not in _NAMES:
        raise ConfigError(
            "there is no such implementation of the deformable convolution",
            where=VARIABLE, got=repr(name), expected=" or ".join(_NAMES),
        )  # fmt: skip
    wanted = _best(device, dtype) if name == "auto" else name
    try:
        chosen = _load(wanted, device, dtype)
    except Unavailable as error:
        if name != "auto":
            raise ConfigError(
                f"the deformable convolution's implementation {name!r} cannot be had",
                where=VARIABLE, got=str(error), mend=f"mend the cause, or set {VARIABLE}=auto",
            ) from error  # fmt: skip
        _log.warning(
            "deform_conv2d: %r cannot be had, plain PyTorch runs instead, more slowly: %s",
            wanted, error,
        )  # fmt: skip
        return plain
    _log.info("deform_conv2d: %r runs for %s on %s", wanted, dtype, device)
    return chosen


def _best(device: torch.device, dtype: torch.dtype) -> str:
    if device.type == "cpu":
        return "c"
    # Triton's kernels sum in float32.
    return "triton" if device.type == "cuda" and dtype != torch.float64 else "torch"


def _load(name: str, device: torch.device, dtype: torch.dtype) -> Implementation:
    if name == "torch":
        return plain
    if name == "c":
        # Only what is asked for is imported: Triton is not installed everywhere.
        from llve_common.ops import native

        native.require(device, dtype)
        return native
    try:
        from llve_common.ops import triton_kernels
    except ImportError as error:
        raise Unavailable(f"Triton is not installed here ({error})") from error
    triton_kernels.require(device, dtype)
    return triton_kernels
