"""Weights and checkpoints: whole or absent on disk, and read without running code."""

import mmap
import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from llve_common.errors import CheckpointError, printable
from llve_common.io.atomic import replacing
from llve_common.paper.contract import State

FORMAT = "llve-checkpoint-1"
TORCH_SUFFIXES = (".pt", ".pth", ".ckpt")
WEIGHTS_SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")
# What the readers raise for damaged files, depending on the byte that is wrong.
_DAMAGE = (
    SafetensorError, RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError,
    AttributeError, AssertionError, ArithmeticError, MemoryError, struct.error, zipfile.BadZipFile,
)  # fmt: skip
# The networks here have up to 1 000 weights, some of which published files hold four times.
_MOST_NAMES, _MOST_TIMES = 10_000, 8
_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_INTEGERS = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


def read_file(path: Path) -> dict[str, Any]:
    """The content of a weights or checkpoint file, on the CPU.

    All its tensors are dense, and the file holds their numbers.

    Raises:
        CheckpointError: missing, truncated, not such a file, a pickle that would run code, or
            tensors that are larger than the file.
    """
    if not path.is_file():
        mend = "check the path; the command 'weights fetch' lists the published ones"
        raise CheckpointError("no such weights file", where=path, mend=mend)
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            _require_stored(path)
            with warnings.catch_warnings():
                # torch warns of foreign files' pickle protocols, which are refused below anyway.
                warnings.simplefilter("ignore", UserWarning)
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not _is_pickle(path) or "nsupported" not in str(error):
            raise _unreadable(path, error) from error
        raise CheckpointError(
            "the file holds Python objects other than tensors and plain values; reading them "
            "could run code, so they were not read",
            where=path,
            got=_first_sentence(error),
            expected="a state dict of tensors",
            mend="get the weights as a plain state dict, or as .safetensors",
        ) from error
    except _DAMAGE as error:
        raise _unreadable(path, error) from error
    if not isinstance(content, Mapping):
        got = type(content).__name__
        raise CheckpointError("not a weights file", where=path, got=got, expected="a state dict")
    _require_held(content, path)
    return dict(content)


def read_weights(path: Path) -> State:
    """The weights in a file: a state dict, one of our checkpoints, or a dict that wraps one.

    Names are without the prefix ``module.`` that training on several devices adds.

    Raises:
        CheckpointError: as :func:`read_file`, or there is no state dict in it.
    """
    content = read_file(path)
    ours = content.get("format") == FORMAT
    places: list[Any] = [content.get("network")] if ours else [content, *content.values()]
    found = [each for each in places if _is_state(each)]
    if len(found) != 1:
        raise CheckpointError(
            "which weights is not clear" if found else "the file holds no network weights",
            where=path,
            got=f"the keys {_some(list(content))}",
            expected="a state dict, or one entry that is a state dict",
        )
    if len(found[0]) > _MOST_NAMES:
        what = "the file holds more weights than any network here has"
        raise CheckpointError(what, where=path, got=len(found[0]), expected=f"up to {_MOST_NAMES}")
    prefix = "" if ours else "module."
    return {key.removeprefix(prefix): value for key, value in found[0].items()}


def load_into(network: nn.Module, state: State, path: Path | str) -> None:
    """Load weights from a file into a network, every name and shape as expected.

    Raises:
        CheckpointError: as :func:`require_fit`.
    """
    require_fit(network, state, path)
    network.load_state_dict(state)


def require_fit(network: nn.Module, state: State, path: Path | str) -> None:
    """Compare weights from a file with a network, which may be on the device ``meta``.

    Raises:
        CheckpointError: names are missing or unknown, shapes differ, or values are of another kind:
            integers or complex numbers for real ones, or real numbers for integers.
    """
    wanted = network.state_dict()
    found = {
        "missing": sorted(wanted.keys() - state.keys()),
        "unknown": sorted(state.keys() - wanted.keys()),
        "shapes:": [
            f"{key} is {tuple(state[key].shape)}, expected {tuple(wanted[key].shape)}"
            for key in sorted(wanted.keys() & state.keys())
            if state[key].shape != wanted[key].shape
        ],
        "types:": [
            f"{key} is {state[key].dtype}, expected {wanted[key].dtype}"
            for key in sorted(wanted.keys() & state.keys())
            if _kind(state[key].dtype) != _kind(wanted[key].dtype)
        ],
    }
    faults = "; ".join(f"{label} {_some(keys)}" for label, keys in found.items() if keys)
    if faults:
        raise CheckpointError("the weights do not fit the network", where=path, got=faults)


def mean_of(states: Sequence[tuple[Path, State]]) -> State:
    """The mean of weights of one network; a file that is given twice counts twice.

    Raises:
        CheckpointError: a file's names or shapes are not the first's.
    """
    (first, like), *others = states
    for path, state in others:
        differing = [
            key for key in sorted(like.keys() | state.keys())
            if key not in like or key not in state or like[key].shape != state[key].shape
        ]  # fmt: skip
        if differing:
            what, got = "the weights are of another network", f"others are {_some(differing)}"
            raise CheckpointError(
                what, where=path, got=got, expected=f"names and shapes of {first}"
            )
    return {
        key: torch.stack([state[key].double() for _, state in states]).mean(0).to(value.dtype)
        for key, value in like.items()
    }


def write_weights(path: Path, state: State, metadata: Mapping[str, str] | None = None) -> None:
    """Write a state dict whole or not at all; ``.safetensors`` files take metadata along.

    Raises:
        CheckpointError: the suffix is unknown.
        MediaError: the file cannot be written.
    """
    if path.suffix not in WEIGHTS_SUFFIXES:
        raise CheckpointError(
            "unknown kind of weights file",
            where=path,
            got=path.suffix or "no suffix",
            expected=" or ".join(WEIGHTS_SUFFIXES),
        )
    with replacing(path, synced=True) as temporary:
        if path.suffix == ".safetensors":
            # safetensors refuses names that share memory, which published files have.
            plain = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
            temporary.write_bytes(safetensors.torch.save(plain, dict(metadata or {})))
        else:
            _save({key: value.detach().cpu() for key, value in state.items()}, temporary)


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a training checkpoint, as :func:`write_published` does."""
    write_published(path, {"format": FORMAT, **content})


def write_published(path: Path, content: Mapping[str, Any]) -> None:
    """Write weights among plain values, as published checkpoints have them, whole or not at all.

    Raises:
        MediaError: the file cannot be written.
    """
    with replacing(path, synced=True) as temporary:
        _save(content, temporary)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A training checkpoint written by :func:`write_checkpoint`.

    Raises:
        CheckpointError: as :func:`read_file`, or it is not one of ours.
    """
    content = read_file(path)
    if content.get("format") != FORMAT:
        raise CheckpointError(
            "not a training checkpoint of llve",
            where=path,
            got=f"the keys {_some(list(content))}",
            mend="to start from weights alone, give them as weights",
        )
    return content


def _save(content: Mapping[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # torch's writer hides the system's own error, such as that of a full disk.
            hidden = error.__context__
            raise (
                hidden if isinstance(hidden, OSError) else OSError(_first_sentence(error))
            ) from None


def _require_stored(path: Path) -> None:
    """Refuse what could grow in memory beyond the file: compressed records, and byte arrays."""
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
        if any(each.compress_type for each in records) or sum(r.file_size for r in records) > size:
            what = "the weights are compressed, which torch's files are not"
            raise CheckpointError(what, where=path, mend="save the weights again")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # A pickle can ask for as large an empty one as it likes; no weights need any.
        if content.find(b"bytearray\n") >= 0:
            what = "the file holds byte arrays, so it was not read"
            raise CheckpointError(what, where=path, expected="a state dict of tensors")


def _require_held(content: Any, path: Path) -> None:
    """Refuse tensors that are not dense, or whose shapes promise more than the file holds."""
    left = _MOST_TIMES * path.stat().st_size
    for name, tensor in _tensors(content):
        kinds = {
            str(tensor.layout): tensor.layout != torch.strided,
            "nested": tensor.is_nested,
            "quantised": tensor.is_quantized,
            f"on the device {tensor.device}": tensor.device.type != "cpu",
        }
        if any(kinds.values()):
            what = "a tensor of the file is not a dense one of plain numbers"
            got = f"{name} is {', '.join(kind for kind in kinds if kinds[kind])}"
            raise CheckpointError(what, where=path, got=got)
        size = tensor.numel() * tensor.element_size()
        left -= size
        if size > tensor.untyped_storage().nbytes() or left < 0:
            what = "the file holds fewer numbers than its tensors' shapes say"
            got = f"{name} of shape {tuple(tensor.shape)}"
            raise CheckpointError(what, where=path, got=got, mend="save contiguous tensors")


def _tensors(content: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested containers, a container that stands in several places once."""
    rest, seen = [("", content)], set[int]()
    while rest:
        name, value = rest.pop()
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, Mapping | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            inner = value.items() if isinstance(value, Mapping) else enumerate(value)
            rest += [(key if isinstance(key, str) else name, each) for key, each in inner]


def _kind(dtype: torch.dtype) -> str:
    return "real" if dtype in _FLOATS else "integer" if dtype in _INTEGERS else str(dtype)


def _is_pickle(path: Path) -> bool:
    """Whether a file begins as a pickle or as the archive that torch puts one into."""
    with path.open("rb") as file:
        head = file.read(2)
    return head == b"PK" or (head[:1] == b"\x80" and head[1:] <= b"\x05")


def _is_state(value: object) -> bool:
    items = value.items() if isinstance(value, Mapping) else ()
    return bool(items) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in items)


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        "the weights file is truncated or of another kind",
        where=path,
        got=_first_sentence(error),
        expected=f"a whole {', '.join(WEIGHTS_SUFFIXES)} file",
        mend="fetch or copy the file again",
    )


def _first_sentence(error: Exception) -> str:
    # torch puts a page of advice before what it found, and more behind it.
    found = str(error).rpartition("WeightsUnpickler error: ")[2].rpartition("trusted source.")[2]
    found = found.partition("Check the documentation")[0]
    words = " ".join(found.split()) or type(error).__name__
    return words[:160] + ("..." if len(words) > 160 else "")


def _some(names: Sequence[object]) -> str:
    head = ", ".join(printable(name) for name in names[:5])
    return head + (f" and {len(names) - 5} more" if len(names) > 5 else "")
