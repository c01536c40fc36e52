"""Which files are enhanced into which: planned, and refused, before PyTorch is imported.

Whether all frames of a video are written, only decoding it may tell.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from itertools import count, islice
from pathlib import Path

from llve_common.clips.folders import named, some_of, walk
from llve_common.clips.frames import (
    Source,
    frame_name,
    numbered,
    open_source,
    require_known,
    sources_in,
)
from llve_common.clips.pipes import PIPE, Raw
from llve_common.enhance.ready import previewed
from llve_common.errors import ConfigError, DataError
from llve_common.io.atomic import require_writable
from llve_common.io.images import WRITTEN, result_suffix
from llve_common.machine.locks import LOCK
from llve_common.video import OUTPUT_FORMATS, is_image, is_video, named_video
from llve_common.video.decoder import packets_in
from llve_common.video.writer import check_coding

Job = tuple[Path, Path]
"""A source and its target: an image file, a folder of frames, or a video.

No clip: depth, transparency, times and sound are kept, and there is nothing to compare with.
"""


@dataclass(frozen=True)
class Wishes:
    """What is wanted of results besides a paper's enhancing.

    Attributes:
        strength: of the enhanced frame in the result, from 0 to 1; the rest is the source's frame.
        rate: of a video that is made of images, in frames a second; None: 25.
        sound: a file whose sound a video gets; None: the source's own.
        preview: of a video, enhance one second in so many, and leave out the others and the sound.
        start: of the part of a video that is read, in seconds; None: its start.
        end: likewise; None: its end.
        keep_going: pass over a video's damage.
        codec: of a video that is written; so is ``crf``.
        crf: None: the codec's default.
        strip: leave out tags.
        raw: the source is standard input, and holds such frames; None: it is a file.
        resume: write a video in parts, after those of a run that was interrupted.
    """

    strength: float = 1.0
    rate: Fraction | None = None
    sound: Path | None = None
    preview: int | None = None
    start: float | None = None
    end: float | None = None
    keep_going: bool = False
    codec: str = "h264"
    crf: int | None = None
    strip: bool = False
    raw: Raw | None = None
    resume: bool = False


AS_IT_IS = Wishes()


def plan_jobs(
    kind: str,
    sources: Sequence[Path],
    output: Path | None,
    *,
    suffix: str | None = None,
    wishes: Wishes = AS_IT_IS,
) -> list[Job]:
    """Which source goes where.

    Args:
        kind: a paper's, which says whether images of a folder are frames of a clip.
        sources: images, videos, or folders of them, with subfolders.
        output: a file for a file; a video for a folder of frames; else a folder, in which a video
            that is the only source becomes frames. None: beside the source.
        suffix: ends the names of what is written; by default ``-enhanced`` where ``output`` is
            None, and nothing elsewhere.
        wishes: what is wanted besides.

    Raises:
        DataError: a folder is missing, may not be read or holds neither image nor video, a source
            cannot become what ``output`` says, or as :func:`naming_faults`.
        MediaError: there is no such file.
        ConfigError: a wish is for nothing that would be written.
    """
    if wishes.raw is None:
        given = [named(source) for source in sources]
        if len(given) == 1 and given[0].is_file():
            require_known(given[0])
        if output is not None and _is_one_file(output):
            jobs = [_job_of_one_file(given, output)]
        else:
            ending = suffix if suffix is not None else "" if output else "-enhanced"
            jobs = [job for each in given for job in _jobs_of(kind, each, output, ending, given)]
        naming_faults(jobs)
    elif output is None or (_is_one_file(output) and not named_video(output)):
        raise DataError("frames cannot become an image", where=output, mend="give a folder")
    else:
        jobs = [(Path(PIPE), output)]
    check_coding(wishes.codec, wishes.crf)
    _refuse_idle_wishes(wishes, jobs)
    return jobs


def _refuse_idle_wishes(wishes: Wishes, jobs: Sequence[Job]) -> None:
    made = any(named_video(target) for _, target in jobs)
    cut = any(is_video(source) for source, _ in jobs)
    for option, value, serves in (
        ("--fps", wishes.rate, made),
        ("--sound", wishes.sound, made),
        ("--preview", wishes.preview, cut or wishes.raw is not None),
        ("--start", wishes.start, cut),
        ("--end", wishes.end, cut),
        ("--crf", wishes.crf, made),
        ("--resume", wishes.resume or None, made),
    ):
        if value is not None and not serves:
            what = "this is for videos, and there is none"
            raise ConfigError(what, where=option, got=value)
    if wishes.resume and (wishes.raw is not None or wishes.preview is not None):
        other = "--raw, whose frames come once" if wishes.raw else "--preview"
        raise ConfigError("a run does not go on so", where="--resume", got=other)


def _jobs_of(
    kind: str, source: Path, output: Path | None, ending: str, given: Sequence[Path]
) -> list[Job]:
    """The jobs of one source into a folder, or beside it."""
    if not source.is_dir():
        sources_in(source, clips=False)  # says if it is missing
        if output is not None and is_video(source) and len(given) == 1:
            return [(source, output)]
        return [(source, _alike(source, (output or source.parent) / source.name, ending))]
    paths = sources_in(source, clips=kind == "video", but=output)
    if output is None:
        output, ending = source.parent / f"{source.name}{ending}", ""
    elif len(given) > 1:
        output = output / source.name
    return [(path, _alike(path, output / path.relative_to(source), ending)) for path in paths]


def _is_one_file(output: Path) -> bool:
    """Whether an output is to be a file and no folder.

    Raises:
        DataError: it is to be a file of a kind that cannot be written.
    """
    if output.is_dir():
        return False
    writable = output.suffix.lower() in {*WRITTEN, *OUTPUT_FORMATS}
    if writable or not (output.exists() or re.fullmatch(r"\.[A-Za-z]\w{1,4}", output.suffix)):
        return writable
    raise DataError(
        "files of this kind cannot be written",
        where=output,
        got=output.suffix or "a file that is there",
        expected=f"one of {', '.join([*WRITTEN, *OUTPUT_FORMATS])}, or a folder",
        mend="make the folder first, if one of this name is meant",
    )


def _job_of_one_file(given: Sequence[Path], output: Path) -> Job:
    """The job whose result is one file."""
    source = given[0]
    inside = sources_in(source, clips=True)
    if len(given) > 1 or inside != [source]:
        raise DataError(
            "several results cannot be written to one file",
            where=output,
            got=", ".join(map(str, given)),
            expected="one file, or one folder of frames, for it",
            mend="give a folder: -o FOLDER",
        )
    frames = source.is_dir() or is_video(source)
    if frames and not named_video(output):
        what = "frames cannot become an image"
        raise DataError(what, where=output, got=source, mend="give a folder")
    if is_image(source) and named_video(output):
        what, mend = "an image cannot become a video", "give a folder of frames as the source"
        raise DataError(what, where=output, got=source, mend=mend)
    if is_image(source) and result_suffix(source, output.suffix) != output.suffix:
        what = "files of this kind cannot hold the source's 16 bits or transparency"
        raise DataError(what, where=output, got=source, expected=".png or .tif")
    return source, output


def _alike(source: Path, target: Path, ending: str) -> Path:
    """The target with an ending, of a kind that can be written and holds what the source does."""
    if source.is_dir():
        return Path(f"{named(target)}{ending}") if ending else target
    suffix = result_suffix(source)
    if is_video(source):
        suffix = target.suffix if target.suffix.lower() in OUTPUT_FORMATS else ".mp4"
    return target.with_name(f"{target.stem}{ending}{suffix}")


def jobs_to_do(
    jobs: Sequence[Job], asked: Path | None, wishes: Wishes, *, overwrite: bool, skip_existing: bool
) -> list[Job]:
    """The jobs whose results are not there, or all if they may be replaced.

    Args:
        jobs: as :func:`plan_jobs` makes them.
        asked: the output that was asked for: where it is a file, it may be replaced.
        wishes: as :func:`plan_jobs` takes them.
        overwrite: whether all may be.
        skip_existing: whether to leave out the jobs whose results are there.

    Raises:
        DataError: results are there, and nothing says what to do with them; or two frames of a
            folder have one result.
        MediaError: a target cannot be written.
    """
    files = {job: _files_of(job) for job in jobs}
    kept = files
    if skip_existing:
        written = [job for job, each in files.items() if each and all(map(_holds_something, each))]
        done = {job for job in written if not _is_in_frames(job) or _all_written(job, wishes)}
        if wishes.resume:  # a run that was cut off while it removed its parts goes on
            done = {job for job in done if not (folder_of(job[1]) / LOCK).exists()}
        files = {job: each for job, each in files.items() if job not in done}
        # What an interrupted run left of a video begins with the first frame.
        kept = {
            job: each for job, each in files.items() if _is_in_frames(job) and not each[0].exists()
        }
    there = [file for each in kept.values() for file in each if file.exists()]
    if set(there) - {asked} and not overwrite:
        raise DataError(
            "results are there already",
            got=some_of(list(map(str, there))),
            mend="--overwrite replaces them, --skip-existing makes the others; -o chooses a new "
            "place",
        )
    for file in {file.parent: file for each in files.values() for file in each}.values():
        require_writable(file)
    return list(files)


def _holds_something(result: Path) -> bool:
    return result.is_file() and result.stat().st_size > 0


def folder_of(target: Path) -> Path:
    """The hidden folder beside a video for its parts, whose name is of fixed length."""
    digest = hashlib.sha256(target.name.encode("utf-8", "surrogateescape")).hexdigest()
    return target.with_name(f".llve-{digest[:16]}.parts")


def _files_of(job: Job) -> list[Path]:
    """The files that a job writes; of a video's frames the first, and those that may be its."""
    source, target = job
    if target == Path(PIPE):
        return []
    if source.is_dir() and not named_video(target):
        files, _ = walk(source, recursive=False)
        frames = [(path, target / frame_name(path)) for path in files if is_image(path)]
        # The jobs are apart already; to resolve thousands of paths takes seconds.
        twins = len({file for _, file in frames}) < len(frames)
        if twins or any(path.is_symlink() for path, _ in frames):
            naming_faults(frames)
        return [file for _, file in frames]
    if not _is_in_frames(job):
        return [target]
    # How many they are, decoding alone may tell.
    there = (each for each in target.glob("?????*.png") if each.stem.isdecimal())
    return sorted({target / numbered(0), *there})


def _is_in_frames(job: Job) -> bool:
    """Whether a video, or raw frames, become frames in a folder."""
    return (is_video(job[0]) or job[0] == Path(PIPE)) and not named_video(job[1])


def _all_written(job: Job, wishes: Wishes) -> bool:
    """Whether a folder holds all frames of a video; raw ones come once.

    Most videos have a packet for each frame; where there are not as many, all is decoded.
    """
    if wishes.raw is not None:
        return False
    written = next(n for n in count() if not (job[1] / numbered(n)).is_file())
    whole = {wishes.start, wishes.end, wishes.preview} == {None}
    if whole and written == packets_in(job[0]):
        return True
    skip = 0 if wishes.preview else written
    with opened(job[0], wishes, skip) as source:
        frames = source.frames
        if wishes.preview:
            frames = previewed(iter, wishes.preview)(frames)
        return next(islice(frames, written - skip, None), None) is None


def opened(source: Path, wishes: Wishes, skip: int = 0) -> AbstractContextManager[Source]:
    """The part of a source that is wanted, see :func:`~llve_common.clips.frames.open_source`."""
    start, end, keep_going = wishes.start, wishes.end, wishes.keep_going
    return open_source(source, start=start, end=end, keep_going=keep_going, skip=skip)


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
