"""Files through a paper's network: an image, a folder of frames, a video, or a folder of these."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from llve_common.enhance.background import in_background
from llve_common.enhance.frames import Enhance, frame_enhancer
from llve_common.errors import DataError, UserError
from llve_common.io.folders import is_image
from llve_common.io.frames import Frame, open_sink, open_source, sources_in, video_target
from llve_common.io.images import result_suffix
from llve_common.io.video import is_video
from llve_common.paper.about import About
from llve_common.paper.contract import Model

Job = tuple[Path, Path]
"""A source and its target: an image file, a folder of frames, or a video, each to its like.

No clip: depth, transparency, times and sound are kept, and there is nothing to compare with.
"""

Watcher = Callable[[int, int | None], None]
"""Is told (frames done, frames in all as far as known)."""


@dataclass(frozen=True)
class Enhanced:
    """What became of a list of jobs."""

    written: int
    frames: int
    seconds: float
    failures: tuple[str, ...]


def enhance_job(enhance: Enhance, job: Job, *, watch: Watcher | None = None) -> int:
    """Enhance one source into one target, and return the number of frames.

    Decoding, network and encoding overlap; the watcher is told of every frame.

    Raises:
        UserError: the source cannot be read or the target not written; a video's target is then as
            it was, a folder holds the frames up to there.
    """
    source_path, target_path = job
    done = 0
    with open_source(source_path) as source, open_sink(target_path, source) as write:

        def made() -> Iterator[Frame]:
            with closing(in_background(source.frames)) as decoded:
                yield from enhance(decoded)

        with closing(in_background(made())) as enhanced:
            for frame in enhanced:
                write(frame)
                done += 1
                if watch is not None:
                    watch(done, source.count)
    return done


def enhance_all(model: Model, jobs: Sequence[Job], *, watch: Watcher | None = None) -> Enhanced:
    """Enhance sources one after the other; one that fails is named in the result.

    Args:
        model: to enhance with.
        jobs: as :func:`plan_jobs` makes them.
        watch: is told of frames where there is one job, of jobs where there are several.

    Raises:
        DataError: two sources would be written to one target, or a result over a source.
    """
    naming_faults(jobs)
    started = time.perf_counter()
    failures: list[str] = []
    frames = 0
    inner = watch if len(jobs) == 1 else None
    enhance = frame_enhancer(model)
    for done, job in enumerate(jobs, 1):
        try:
            frames += enhance_job(enhance, job, watch=inner)
        except UserError as error:
            failures.append(str(error.at(job[0])))
        if watch is not None and inner is None:
            watch(done, len(jobs))
    seconds = time.perf_counter() - started
    return Enhanced(len(jobs) - len(failures), frames, seconds, tuple(failures))


def plan_jobs(paper: About, source: Path, output: Path | None) -> list[Job]:
    """Which source goes where.

    Args:
        paper: whose kind says whether images of a folder are frames of a clip.
        source: an image, a video, or a folder of them, with subfolders.
        output: a file for a file, else a folder; None: ``<name>-enhanced`` beside the source.

    Raises:
        DataError: the source folder is missing or holds neither image nor video.
        MediaError: there is no such file, or it is neither image nor video.
    """
    sources = sources_in(source, clips=paper.kind == "video")
    if source.is_dir():
        target = output or source.with_name(f"{source.resolve().name}-enhanced")
        return [(path, _alike(path, target / path.relative_to(source))) for path in sources]
    if output is None:
        target = _alike(source, source)
        return [(source, target.with_stem(f"{source.stem}-enhanced"))]
    if is_image(output) or is_video(output):
        return [(source, output)]
    return [(source, _alike(source, output / source.name))]


def _alike(source: Path, target: Path) -> Path:
    """The target, of a kind that can be written and holds what the source does."""
    if not source.is_file():
        return target
    if is_video(source):
        return target.with_name(video_target(target))
    return target.with_suffix(result_suffix(source))


def naming_faults(jobs: Sequence[Job], kept: Iterable[Path] = ()) -> None:
    """Refuse targets that would lose a result, a source, or what else is ``kept`` and read.

    Raises:
        DataError: two sources have one target, or a target is a file that is read.
    """
    read = {path.resolve() for path in (*(source for source, _ in jobs), *kept)}
    origin: dict[Path, Path] = {}
    elsewhere = "give another folder or name for the output"
    for source, written in jobs:
        target = written.resolve()
        if target == source.resolve():
            what = "the result would be written over its source"
            raise DataError(what, where=source, mend=elsewhere)
        if target in read:
            what = "the result would be written over another image that is read"
            raise DataError(what, where=written, got=f"the result of {source}", mend=elsewhere)
        if target in origin:
            raise DataError(
                "two inputs would be written to the same file",
                where=written,
                got=f"{origin[target]} and {source}",
                mend="rename one of them, or enhance them into two folders",
            )
        origin[target] = source
