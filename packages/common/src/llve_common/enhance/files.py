"""Files through a paper's network: an image, a folder of frames, a video, or a folder of these."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from threading import Lock

from llve_common.clips.frames import Frame, Source, Watcher, as_video, open_sink
from llve_common.clips.pipes import PIPE, raw_sink, raw_source
from llve_common.enhance.background import in_background
from llve_common.enhance.jobs import AS_IT_IS, Job, Wishes, naming_faults, opened
from llve_common.enhance.parts import frames_done, held_parts, join, made_by, part_sink
from llve_common.enhance.ready import Enhance, Ready, as_wished, previewed
from llve_common.errors import MediaError, UserError
from llve_common.video import VideoWriter, is_image, named_video

log = logging.getLogger(__name__)

# While one image is read or written, the network works on another.
_IMAGES_AT_ONCE = 3


@dataclass(frozen=True)
class Enhanced:
    """What became of a list of jobs."""

    frames: int
    seconds: float
    failures: tuple[str, ...]


def enhance_job(
    enhance: Enhance, job: Job, *, wishes: Wishes = AS_IT_IS, watch: Watcher | None = None
) -> int:
    """Enhance one source into one target, and return the number of frames.

    Raises:
        UserError: the source cannot be read or the target not written; a video's target is then as
            it was, a folder holds the frames up to there.
    """
    given = (
        nullcontext(raw_source(sys.stdin.buffer, wishes.raw))
        if wishes.raw is not None
        else opened(job[0], wishes)
    )
    with given as source:
        if named_video(job[1]):
            source = as_video(source, wishes.rate, wishes.sound)
        if source.video is not None and wishes.preview is not None:
            silent = replace(source.video, has_audio=False, has_subtitles=False, chapters=())
            source = replace(source, video=silent)
            enhance = previewed(enhance, wishes.preview)
        sink = open_sink(job[1], source, codec=wishes.codec, crf=wishes.crf, strip=wishes.strip)
        with nullcontext(raw_sink(sys.stdout.buffer)) if job[1] == Path(PIPE) else sink as write:
            return put_frames_through(enhance, source, write, watch=watch)


def _enhance_in_parts(ready: Ready, job: Job, wishes: Wishes, watch: Watcher | None) -> int:
    """Enhance a source into a video part by part, from the first frame on that no part holds.

    Returns how many frames that were. For its window the network sees the frames before as well.
    """
    source, target = job
    with held_parts(target, made_by(ready, source, wishes)) as folder:
        done = frames_done(folder)
        # A window at the clip's end may look twice as far back. One frame tells what it is like.
        first = max(0, done - max(1, *ready.latency))
        if done:
            log.warning("%s: goes on after the %d frames that are there", target, done)
        with opened(source, wishes, skip=first) as rest:
            rest = as_video(rest, wishes.rate, wishes.sound)
            assert rest.video is not None
            # What the file cannot hold is refused before hours of work, not after them.
            codec, crf, strip = wishes.codec, wishes.crf, wishes.strip
            VideoWriter(target, rest.video, codec=codec, crf=crf, strip=strip).discard()

            def missing(frames: Iterable[Frame]) -> Iterator[Frame]:
                return islice(ready.enhance(frames), done - first, None)

            def tell(count: int, total: int | None) -> None:
                if watch is not None:
                    watch(done + count, total)

            with part_sink(folder, rest.video, done, wishes) as write:
                frames = put_frames_through(missing, rest, write, watch=tell)
            join(folder, target, rest.video, wishes)
    return frames


def put_frames_through(
    enhance: Enhance,
    source: Source,
    write: Callable[[Frame], None],
    *,
    watch: Watcher | None = None,
) -> int:
    """Enhance a source's frames, hand each to ``write``, and return their number.

    Decoding, network and encoding overlap; the watcher is told of every frame.
    """
    done = 0

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


def enhance_all(
    ready: Ready, jobs: Sequence[Job], *, wishes: Wishes = AS_IT_IS, watch: Watcher | None = None
) -> Enhanced:
    """Enhance sources one after the other; one that fails, for whatever reason, is in the result.

    The watcher is told of frames where there is one job, of jobs where there are several.

    Raises:
        DataError: two sources would be written to one target, or a result over a source.
    """
    if wishes.raw is None:
        naming_faults(jobs)
    started = time.perf_counter()
    failures: list[str] = []
    frames = 0
    inner = watch if len(jobs) == 1 else None
    for done, outcome in enumerate(_outcomes(ready, jobs, wishes, inner), 1):
        if isinstance(outcome, str):
            failures.append(outcome)
        else:
            frames += outcome
        if watch is not None and inner is None:
            watch(done, len(jobs))
    seconds = time.perf_counter() - started
    return Enhanced(frames, seconds, tuple(failures))


def _outcomes(
    ready: Ready, jobs: Sequence[Job], wishes: Wishes, watch: Watcher | None
) -> Iterator[int | str]:
    """Of each job in order: how many frames were enhanced, or why none could be."""
    ready = replace(ready, enhance=as_wished(ready.enhance, wishes.strength))
    if len(jobs) == 1 or not all(is_image(source) for source, _ in jobs):
        yield from (_outcome(ready, job, wishes, watch) for job in jobs)
        return
    ready = replace(ready, enhance=_one_at_a_time(ready.enhance))
    with ThreadPoolExecutor(_IMAGES_AT_ONCE, "llve-image") as pool:
        yield from pool.map(lambda job: _outcome(ready, job, wishes, watch), jobs)


def _one_at_a_time(enhance: Enhance) -> Enhance:
    """The same for single images in several threads: the network's memory is needed once."""
    lock = Lock()

    def locked(frames: Iterable[Frame]) -> Iterator[Frame]:
        held = list(frames)
        with lock:
            yield from enhance(held)

    return locked


def _outcome(ready: Ready, job: Job, wishes: Wishes, watch: Watcher | None) -> int | str:
    try:
        if wishes.resume and named_video(job[1]):
            return _enhance_in_parts(ready, job, wishes, watch)
        return enhance_job(ready.enhance, job, wishes=wishes, watch=watch)
    except UserError as error:
        return str(error.at(job[0]))
    except Exception as error:
        # A decoder's fault, or no memory for so large a file: the others may do.
        log.debug("%s", job[0], exc_info=True)
        what = f"could not be enhanced: {type(error).__name__}"
        return str(MediaError(what, where=job[0], got=str(error) or None))
