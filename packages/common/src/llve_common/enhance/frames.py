"""Any source through a paper's network, at its own size: an image, a folder of frames, a video."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llve_common.enhance.background import in_background
from llve_common.enhance.row_blocks import RowBlocks
from llve_common.enhance.windows import enhance_clip, enhance_inner_frames, inner_frames
from llve_common.errors import DataError, MediaError, UserError
from llve_common.io.folders import is_image, list_images
from llve_common.io.frames import Frame, open_sink, open_source, video_target
from llve_common.io.images import Image, Pixels, to_pixels, to_tensor
from llve_common.io.video import is_video
from llve_common.paper.contract import Paper, Prepared, Window

Job = tuple[Path, Path]
"""A source and its target: an image file, a folder of frames, or a video, each to its like."""

Watcher = Callable[[int, int | None], None]
"""Is told (frames done, frames in all as far as known)."""


@dataclass(frozen=True)
class Enhanced:
    """What became of a list of jobs."""

    written: int
    frames: int
    seconds: float
    failures: tuple[str, ...]


def enhance_frames(paper: Paper, network: nn.Module, frames: Tensor) -> Tensor:
    """Enhance one window of any size.

    Height and width are padded at the bottom and right to what the window takes, by reflection, or
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
        padded = pad_to_fit(frames, paper.window)
        enhanced: Tensor = paper.enhance(network, padded)[..., :height, :width]
        return enhanced


def pad_to_fit(frames: Tensor, window: Window) -> Tensor:
    """Pad (N, T, 3, H, W) at the bottom and right to sides that a window's network takes."""
    height, width = frames.shape[-2:]
    down, right = (_missing(side, window) for side in (height, width))
    if down == 0 and right == 0:
        return frames
    mode = "reflect" if down < height and right < width else "replicate"
    padded = F.pad(frames.flatten(0, 1), (0, right, 0, down), mode=mode)
    return padded.reshape(*frames.shape[:2], *padded.shape[1:])


def _missing(side: int, window: Window) -> int:
    fits = side >= window.multiple and side % window.multiple in window.remainders
    return 0 if fits else -side % window.multiple


def frame_enhancer(
    paper: Paper, network: nn.Module, device: torch.device, *, inner: bool = False
) -> Callable[[Iterable[Frame]], Iterator[Frame]]:
    """The way from frames to enhanced frames, prepared once for a network.

    Depth (8 or 16 bits) and transparency are kept, and memory is constant with the clip's length.

    Args:
        paper: how to enhance and to round.
        network: on ``device``, in evaluation mode; later changes to its weights may go unseen.
        device: to compute on.
        inner: leave out the frames at a clip's ends that no window within the clip gives.

    Returns:
        A function of a clip's frames, or of images one by one where the window is one frame. What
        it gives raises MediaError where a frame comes out as not a number.
    """
    if len(paper.window.inputs) == 1:
        enhance = pixel_enhancer(paper, network, device)
        return lambda frames: _one_by_one(enhance, frames)
    return lambda frames: _in_windows(paper, network, device, frames, inner)


def pixel_enhancer(
    paper: Paper, network: nn.Module, device: torch.device
) -> Callable[[Pixels], Pixels]:
    """The way from the pixels of one frame to the enhanced ones, prepared once for a network.

    On a CPU, a paper that prepares its network or whose halo is finite goes in blocks of rows.

    Args:
        paper: enhances single frames.
        network: on ``device``, in evaluation mode; later changes to its weights may go unseen.
        device: to compute on.

    Returns:
        A function of (H, W, 3) RGB, uint8 or uint16, that gives the same size and type.
    """
    prepared = _prepared(paper, network) if device.type == "cpu" else None
    if prepared is None:
        return lambda pixels: _enhance_whole(paper, network, pixels, device)
    return RowBlocks(prepared, paper.rounding)


def _prepared(paper: Paper, network: nn.Module) -> Prepared | None:
    """The network for blocks of rows; None where only whole frames go through it."""
    if paper.prepare is not None:
        return paper.prepare(network)
    if paper.window.multiple != 1 or paper.window.halo is None:
        return None

    def run(block: Tensor, first: int, seen: None) -> Tensor:
        return paper.enhance(network, block[:, None])[:, 0]

    return Prepared(run, paper.window.halo)


def _enhance_whole(
    paper: Paper, network: nn.Module, pixels: Pixels, device: torch.device
) -> Pixels:
    enhanced = enhance_frames(paper, network, to_tensor(pixels)[None, None].to(device))
    return to_pixels(enhanced[0, 0], paper.rounding, pixels.dtype)


def _one_by_one(enhance: Callable[[Pixels], Pixels], frames: Iterable[Frame]) -> Iterator[Frame]:
    for frame in frames:
        try:
            pixels = enhance(frame.image.pixels)
        except UserError as error:
            raise error.at(frame.where) from None
        yield replace(frame, image=Image(pixels, frame.image.alpha))


def _in_windows(
    paper: Paper, network: nn.Module, device: torch.device, frames: Iterable[Frame], inner: bool
) -> Iterator[Frame]:
    waiting: deque[Frame] = deque()

    def padded() -> Iterator[Tensor]:
        for frame in frames:
            waiting.append(frame)
            tensor = to_tensor(frame.image.pixels)[None, None].to(device)
            yield pad_to_fit(tensor, paper.window)[:, 0]

    streamed = enhance_inner_frames if inner else enhance_clip
    left_out = inner_frames(paper.window, 0).start if inner else 0
    for enhanced in streamed(paper, network, padded()):
        while left_out:
            waiting.popleft()
            left_out -= 1
        frame = waiting.popleft()
        height, width = frame.image.pixels.shape[:2]
        try:
            cropped = enhanced[0, :, :height, :width]
            pixels = to_pixels(cropped, paper.rounding, frame.image.pixels.dtype)
        except UserError as error:
            raise error.at(frame.where) from None
        yield replace(frame, image=Image(pixels, frame.image.alpha))


def enhance_job(
    enhance: Callable[[Iterable[Frame]], Iterator[Frame]],
    job: Job,
    *,
    watch: Watcher | None = None,
) -> int:
    """Enhance one source into one target; decoding, network and encoding overlap.

    Args:
        enhance: as :func:`frame_enhancer` makes it.
        job: the source and its target.
        watch: is told of every frame.

    Returns:
        The number of frames.

    Raises:
        UserError: the source cannot be read or the target not written; a video's target is then as
            it was, a folder holds the frames up to there.
    """
    source_path, target_path = job
    done = 0
    with open_source(source_path) as source, open_sink(target_path, source) as write:
        decoded = in_background(source.frames)
        enhanced = in_background(_closing(decoded, enhance(decoded)))
        with closing(enhanced):
            for frame in enhanced:
                write(frame)
                done += 1
                if watch is not None:
                    watch(done, source.count)
    return done


def _closing(inner: Generator[Frame], outer: Iterator[Frame]) -> Iterator[Frame]:
    """The outer iterator, whose end closes the inner one's thread as well."""
    with closing(inner):
        yield from outer


def enhance_all(
    paper: Paper,
    network: nn.Module,
    jobs: Sequence[Job],
    *,
    device: torch.device,
    watch: Watcher | None = None,
) -> Enhanced:
    """Enhance sources one after the other; one that fails is named in the result.

    Args:
        paper: how to enhance and to round.
        network: on ``device``, in evaluation mode.
        jobs: as :func:`plan_jobs` makes them.
        device: to compute on.
        watch: is told of frames where there is one job, of jobs where there are several.

    Raises:
        DataError: two sources would be written to one target, or a result over a source.
    """
    naming_faults(jobs)
    started = time.perf_counter()
    failures: list[str] = []
    frames = 0
    inner = watch if len(jobs) == 1 else None
    enhance = frame_enhancer(paper, network, device)
    for done, job in enumerate(jobs, 1):
        try:
            frames += enhance_job(enhance, job, watch=inner)
        except UserError as error:
            failures.append(str(error.at(job[0])))
        if watch is not None and inner is None:
            watch(done, len(jobs))
    seconds = time.perf_counter() - started
    return Enhanced(len(jobs) - len(failures), frames, seconds, tuple(failures))


def plan_jobs(paper: Paper, source: Path, output: Path | None) -> list[Job]:
    """Which source goes where.

    Args:
        paper: whose window says whether images of a folder are frames of a clip.
        source: an image, a video, or a folder of them, with subfolders.
        output: a file for a file, else a folder; None: ``<name>-enhanced`` beside the source.

    Raises:
        DataError: the source folder is missing or holds neither image nor video.
        MediaError: there is no such file, or it is neither image nor video.
    """
    if source.is_dir():
        target = output or source.with_name(f"{source.resolve().name}-enhanced")
        return _folder_jobs(paper, source, target)
    if not source.exists():
        raise MediaError("no such file or folder", where=source, mend="check the path")
    if output is None:
        name = video_target(source) if is_video(source) else source.name
        return [(source, source.with_name(name).with_stem(f"{source.stem}-enhanced"))]
    if is_image(output) or is_video(output):
        return [(source, output)]
    return [(source, output / (video_target(source) if is_video(source) else source.name))]


def sources_in(folder: Path, *, clips: bool) -> list[Path]:
    """The videos and images in a folder and its subfolders, videos first, each sorted.

    Args:
        folder: to look through.
        clips: images of one folder are the frames of a clip; the folder stands for them.

    Raises:
        DataError: the folder is missing or holds neither.
    """
    videos = sorted(path for path in folder.rglob("*") if path.is_file() and is_video(path))
    if videos:
        images = sorted(path for path in folder.rglob("*") if path.is_file() and is_image(path))
    else:
        images = list_images(folder, recursive=True)
    return videos + (sorted({path.parent for path in images}) if clips else images)


def _folder_jobs(paper: Paper, source: Path, target: Path) -> list[Job]:
    jobs = []
    for path in sources_in(source, clips=len(paper.window.inputs) > 1):
        written = target / path.relative_to(source)
        is_one = path.is_file() and is_video(path)
        jobs.append((path, written.with_name(video_target(path)) if is_one else written))
    return jobs


def naming_faults(jobs: Sequence[Job], kept: Iterable[Path] = ()) -> None:
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
