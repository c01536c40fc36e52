"""Any image through a paper's network, at its own size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llve_common.errors import DataError, UserError
from llve_common.io.images import read_image, to_pixels, to_tensor, write_image
from llve_common.paper import Paper


@dataclass(frozen=True)
class Enhanced:
    """What became of a list of images: how many were written, how fast, and what failed."""

    written: int
    seconds: float
    failures: tuple[str, ...]


def enhance_frames(paper: Paper, network: nn.Module, frames: Tensor) -> Tensor:
    """Enhance one window of any size.

    Height and width are padded at the bottom and right to the window's multiple, by reflection, or
    by replication where a side is too short to reflect, and the result is cropped back.

    Args:
        paper: gives the network's window and how to call it.
        network: in evaluation mode, on the frames' device.
        frames: (N, T, 3, H, W) RGB in [0, 1], T as the window's inputs.

    Returns:
        (N, outputs, 3, H, W), not clipped.
    """
    height, width = frames.shape[-2:]
    with torch.inference_mode():
        padded = pad_to_multiple(frames, paper.window.multiple)
        enhanced: Tensor = paper.enhance(network, padded)[..., :height, :width]
        return enhanced


def pad_to_multiple(frames: Tensor, multiple: int) -> Tensor:
    """Pad (N, T, 3, H, W) at the bottom and right to sides that are multiples of ``multiple``."""
    height, width = frames.shape[-2:]
    down, right = -height % multiple, -width % multiple
    if down == 0 and right == 0:
        return frames
    mode = "reflect" if down < height and right < width else "replicate"
    padded = F.pad(frames.flatten(0, 1), (0, right, 0, down), mode=mode)
    return padded.reshape(*frames.shape[:2], *padded.shape[1:])


def enhance_images(
    paper: Paper,
    network: nn.Module,
    jobs: Sequence[tuple[Path, Path]],
    *,
    device: torch.device,
    watch: Callable[[int, int], None] | None = None,
) -> Enhanced:
    """Enhance image files one by one; depth (8 or 16 bits) and transparency are kept.

    A file that cannot be read does not stop the others: it is named in the result.

    Args:
        paper: how to enhance and to round.
        network: on ``device``, in evaluation mode.
        jobs: (source, target) files.
        device: to compute on.
        watch: is told (images done, images in all).

    Raises:
        DataError: two sources would be written to one target, or a result over a source.
    """
    naming_faults(jobs)
    started = time.perf_counter()
    failures: list[str] = []
    for done, (source, target) in enumerate(jobs, 1):
        try:
            _enhance_image(paper, network, source, target, device)
        except UserError as error:
            failures.append(str(error.at(source)))
        if watch is not None:
            watch(done, len(jobs))
    return Enhanced(len(jobs) - len(failures), time.perf_counter() - started, tuple(failures))


def naming_faults(jobs: Sequence[tuple[Path, Path]], kept: Iterable[Path] = ()) -> None:
    """Refuse file names that would lose a result or a source.

    Args:
        jobs: (source, target) files.
        kept: further files that are read, such as ground truth.

    Raises:
        DataError: two sources have one target, or a target is a file that is read.
    """
    read = {path.resolve() for path in (*(source for source, _ in jobs), *kept)}
    origin: dict[Path, Path] = {}
    for source, written in jobs:
        target = written.resolve()
        if target == source.resolve():
            raise DataError(
                "the result would be written over its source",
                where=source,
                mend="give another folder or name for the output",
            )
        if target in read:
            raise DataError(
                "the result would be written over another image that is read",
                where=written,
                got=f"the result of {source}",
                mend="give another folder or name for the output",
            )
        if target in origin:
            raise DataError(
                "two inputs would be written to the same file",
                where=written,
                got=f"{origin[target]} and {source}",
                mend="rename one of them, or enhance them into two folders",
            )
        origin[target] = source


def _enhance_image(
    paper: Paper, network: nn.Module, source: Path, target: Path, device: torch.device
) -> None:
    image = read_image(source)
    enhanced = enhance_frames(paper, network, to_tensor(image.pixels)[None, None].to(device))
    pixels = to_pixels(enhanced[0, 0], paper.rounding, image.pixels.dtype)
    write_image(target, pixels, image.alpha)
