"""A paper's network for programs: whatever holds an image goes in, and the same comes out."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
import PIL.Image
import torch

from llve_common.clips.frames import Frame, of_one_size
from llve_common.config import AnyPrecision, Kind, Precision
from llve_common.enhance.frames import frame_enhancer
from llve_common.enhance.ready import as_wished
from llve_common.enhance.windows import latency
from llve_common.errors import ConfigError, MediaError
from llve_common.io.images import Image, Pixels
from llve_common.io.profiles import to_srgb, to_srgb_16
from llve_common.machine.device import choose_device
from llve_common.metrics.cost import multiply_accumulates
from llve_common.paper.contract import Model, Paper
from llve_common.weights.network import bundled_weights, load_model, used_parameters

# A multiple of what every window takes.
_SIDE = 48

T = TypeVar("T")
Order = Literal["rgb", "bgr"]

_Opened = tuple[list[Image], Callable[[list[Pixels]], Any]]
"""The images in what was given, and what puts enhanced ones together to the like of it."""

_INTEGERS = (np.dtype(np.uint8), np.dtype(np.uint16))
_MODES = ("L", "LA", "RGB", "RGBA", "I;16")
_TAKEN = (
    "an array (H, W), (H, W, 3) or (H, W, 4), a tensor (3, H, W) or (N, 3, H, W), uint8, uint16 or "
    f"floats in [0, 1], or a PIL image of mode {', '.join(_MODES)}"
)


class Enhancer:
    """A paper's network with weights, as a function of an image.

    Images are NumPy arrays (H, W), (H, W, 3) or (H, W, 4), RGB unless ``order`` is ``"bgr"``;
    tensors (3, H, W), or (N, 3, H, W) of images by themselves, on any device; or PIL images. Values
    are uint8, uint16, or floats in [0, 1]. The same kind, size and type comes out: transparency as
    it was, grey as grey. Integers come out as the command ``enhance`` writes them, floats unrounded
    and clipped to [0, 1]. A PIL image with an ICC profile is read by it, and comes out in sRGB.

    It may be called by several threads, in forked processes, and be pickled for others.

    Attributes:
        model: the paper, its network and where its weights come from.
    """

    def __init__(self, model: Model) -> None:
        self.model, self._process = model, os.getpid()
        self._enhance = as_wished(frame_enhancer(model))

    @property
    def latency(self) -> int:
        """How many frames after a frame :meth:`stream` reads before it gives that frame.

        At a clip's start some borders look twice as far ahead.
        """
        return latency(self.model.window)[0]

    def __call__(self, image: T, *, order: Order = "rgb") -> T:
        """Enhance one image, or each of a batch by itself.

        Raises:
            MediaError: it is no image of a kind that is taken, or one comes out as not a number.
        """
        self._after_fork()
        images, put_together = _open(image, order, "the image")
        found = [next(iter(self._enhance([Frame(each, "", "the image")]))) for each in images]
        result: T = put_together([frame.image.pixels for frame in found])
        return result

    def stream(self, frames: Iterable[T], *, order: Order = "rgb") -> Iterator[T]:
        """Enhance the frames of a clip, in order, :attr:`latency` frames after they are read.

        Args:
            frames: single images of one size, from anywhere, without an end if need be.
            order: of arrays and tensors.

        Raises:
            MediaError: as for one image, or a frame has another size than the first.
        """
        self._after_fork()
        waiting: deque[Callable[[list[Pixels]], Any]] = deque()

        def opened() -> Iterator[Frame]:
            for number, given in enumerate(frames):
                where = f"frame {number}"
                images, put_together = _open(_own(given), order, where)
                if len(images) != 1:
                    what = "a stream takes one frame after the other"
                    raise MediaError(what, where=where, got=f"{len(images)} images")
                waiting.append(put_together)
                yield Frame(images[0], "", where)

        for frame in self._enhance(of_one_size(opened())):
            yield waiting.popleft()([frame.image.pixels])

    def _after_fork(self) -> None:
        """Compute with the one thread that a forked process has: torch waits for those it left."""
        if os.getpid() != self._process:
            torch.set_num_threads(1)
            self._process = os.getpid()

    def __repr__(self) -> str:
        model, ahead = self.model, self.latency
        behind = f"{ahead} {'frame' if ahead == 1 else 'frames'} of latency"
        where = f"{model.device} in {model.precision}"
        return f"<{model.paper.title} on {where}, {behind}; weights: {model.weights}>"

    def __reduce__(self) -> tuple[Any, ...]:
        weights, paper = self.model.weights, self.model.paper
        path = None if weights is None or weights.bundled else weights.path.absolute()
        return _again, (paper.package, path, str(self.model.device), self.model.precision)


@dataclass(frozen=True)
class Installed:
    """An installed paper.

    Attributes:
        name: to be given to ``llve.load``.
        title: the method, its authors' venue and year.
        kind: whether it enhances images, or frames with their neighbours.
        weights: the file that comes with it, or None where a file has to be given.
        window: how many frames go into the network at once.
        parameters: learnable values that enhancing uses.
        macs: multiply-accumulates for a pixel of a frame, of a window of 48x48.
    """

    name: str
    title: str
    kind: Kind
    weights: Path | None
    window: int
    parameters: int
    macs: int


def installed(paper: Paper) -> Installed:
    """What there is to know of a paper before it is loaded."""
    if paper.bundled is None:
        model, weights = Model(paper, paper.network({}, None).eval()), None
    else:
        model, weights = load_model(paper, None, torch.device("cpu")), bundled_weights(paper)
    window = len(model.window.inputs)
    frames = torch.zeros(1, window, 3, _SIDE, _SIDE)
    macs = multiply_accumulates(lambda: paper.enhance(model.network, frames)) // _SIDE**2
    used = used_parameters(model)
    return Installed(paper.name, paper.title, paper.kind, weights, window, used, macs)


def load_enhancer(
    paper: Paper,
    weights: str | Path | None = None,
    *,
    device: str | torch.device = "auto",
    precision: AnyPrecision = "auto",
) -> Enhancer:
    """A paper's network as a function; arguments and errors are those of ``llve.load``."""
    path = None if weights is None else Path(weights)
    return Enhancer(load_model(paper, path, choose_device(str(device)), precision=precision))


def _again(package: str, weights: Path | None, device: str, precision: Precision) -> Enhancer:
    import importlib

    paper = importlib.import_module(f"{package}.paper").PAPER
    return load_enhancer(paper, weights, device=device, precision=precision)


def _open(given: Any, order: Order, where: str) -> _Opened:
    if order not in ("rgb", "bgr"):
        raise ConfigError("no such order", where="order", got=order, expected="rgb or bgr")
    if isinstance(given, torch.Tensor):
        return _open_tensor(given, order, where)
    if isinstance(given, PIL.Image.Image):
        return _open_picture(given, where)
    if not isinstance(given, np.ndarray):
        raise _refused(type(given).__name__, where)
    if given.ndim != 2 and (given.ndim != 3 or given.shape[2] not in (3, 4)):
        raise _refused(f"an array {given.shape} of {given.dtype}", where)
    return _open_array(given, order, where)


def _own(given: Any) -> Any:
    """A copy of an array or tensor, into which whoever reads a clip may read the next frame."""
    if isinstance(given, np.ndarray):
        return given.copy()
    return given.detach().clone() if isinstance(given, torch.Tensor) else given


def _open_array(given: np.ndarray[Any, Any], order: Order, where: str) -> _Opened:
    """An array (H, W), or (H, W, C) of grey or colour with or without transparency."""
    if (given.dtype not in _INTEGERS and given.dtype.kind != "f") or 0 in given.shape:
        raise _refused(f"an array {given.shape} of {given.dtype}", where)
    planes = np.atleast_3d(given)
    step = -1 if order == "bgr" else 1
    colours = 1 if planes.shape[2] < 3 else 3
    pixels = planes[..., :colours]
    if given.dtype.kind == "f":
        pixels = pixels.astype(np.float32)
        low, high = pixels.min(), pixels.max()
        if not (low >= 0 and high <= 1):  # also where one is not a number
            raise _refused(f"floats from {low:g} to {high:g}", where)
    rgb = np.repeat(pixels, 3, axis=2) if colours == 1 else pixels[..., ::step]

    def put_together(enhanced: list[Pixels]) -> np.ndarray[Any, Any]:
        [found] = enhanced
        # Of three equal channels the luma is what they are.
        made = cv2.cvtColor(found, cv2.COLOR_RGB2GRAY) if colours == 1 else found[..., ::step]
        parts = (np.atleast_3d(made).astype(given.dtype), planes[..., colours:])
        whole = np.concatenate(parts, axis=2).astype(given.dtype, copy=False)
        return np.ascontiguousarray(whole.reshape(given.shape))

    return [Image(np.ascontiguousarray(rgb))], put_together


def _open_picture(given: PIL.Image.Image, where: str) -> _Opened:
    if given.mode not in _MODES:
        wide = given.mode[0] in "IF"  # which convert() clips
        mend = "numpy.asarray(image) as uint16 or floats" if wide else 'image.convert("RGB")'
        raise _refused(f"a PIL image of mode {given.mode}", where, mend)
    if "transparency" in given.info and given.mode in {"L", "RGB"}:
        # One colour stands for it, which others may become.
        given = given.convert(f"{given.mode}A")
    profile = given.info.get("icc_profile")
    planes = _in_srgb(given, profile) if profile else np.asarray(given)
    images, put_together = _open_array(planes, "rgb", where)

    def picture(enhanced: list[Pixels]) -> PIL.Image.Image:
        made = PIL.Image.fromarray(put_together(enhanced))
        made.info = {name: each for name, each in given.info.items() if name != "icc_profile"}
        return made

    return images, picture


def _in_srgb(given: PIL.Image.Image, profile: bytes) -> np.ndarray[Any, Any]:
    """The planes of a picture, with the colours that its ICC profile means."""
    planes = np.asarray(given)
    if given.mode == "I;16":
        return to_srgb_16(np.dstack([planes] * 3), profile)[..., 0]
    colours = 1 if given.mode in {"L", "LA"} else 3
    seen = np.asarray(to_srgb(given.convert("L" if colours == 1 else "RGB"), profile))
    parts = (seen[..., :colours], np.atleast_3d(planes)[..., colours:])
    return np.concatenate(parts, axis=2).reshape(planes.shape)


def _open_tensor(given: torch.Tensor, order: Order, where: str) -> _Opened:
    shape = tuple(given.shape)
    if len(shape) not in (3, 4) or shape[-3] != 3 or 0 in shape:
        raise _refused(f"a tensor {shape} of {given.dtype}", where)
    held = given.detach().cpu()
    # NumPy has no bfloat16.
    held = held.float() if held.is_floating_point() else held
    several = held.reshape(-1, *shape[-3:]).movedim(1, -1).numpy()
    opened = [_open_array(each, order, where) for each in several]

    def put_together(enhanced: list[Pixels]) -> torch.Tensor:
        made = [back([pixels]) for (_, back), pixels in zip(opened, enhanced, strict=True)]
        stacked = torch.from_numpy(np.stack(made)).movedim(-1, 1).reshape(shape)
        return stacked.to(given.device, given.dtype)

    return [image for images, _ in opened for image in images], put_together


def _refused(got: str, where: str, mend: str | None = None) -> MediaError:
    return MediaError(
        "not an image that is taken", where=where, got=got, expected=_TAKEN, mend=mend
    )
