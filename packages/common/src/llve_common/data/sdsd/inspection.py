"""What a data set of clips lacks, all of it at once."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from llve_common.clips.clip import clip_files, clip_name, clips_in
from llve_common.clips.folders import entries, without_partner
from llve_common.data.sdsd.layout import low_and_high
from llve_common.errors import UserError, in_one_line
from llve_common.io.images import image_size
from llve_common.video import is_video, open_video

# Frames that a clip needs at least: those of the window that papers on these data sets look at.
_WINDOW = 5


@dataclass(frozen=True)
class ClipFacts:
    """One clip: its frames in low light, and height and width of the first that can be read.

    A video that does not tell has 0 frames.
    """

    name: str
    test: bool
    frames: int
    size: tuple[int, int] | None


@dataclass(frozen=True)
class Inspection:
    """A data set: its clips, and a sentence for everything that is wrong."""

    clips: tuple[ClipFacts, ...]
    faults: tuple[str, ...]


def inspect_clips(
    root: Path,
    test: Collection[str],
    *,
    needed: bool = True,
    watch: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Look at every file of a data set in the SDSD or SMID layout; of frames at the header alone.

    Args:
        root: see :func:`llve_common.data.sdsd.layout.low_and_high`.
        test: names of the clips that are the test's.
        needed: whether it is a fault if one of these is missing.
        watch: is told (clips done, clips in all).

    Raises:
        DataError: the root is missing, holds no image, or is not laid out so.
    """
    low, high = low_and_high(root)
    folders = clips_in(low)
    targets: dict[str, Path] = {}
    faults = [f"{high}: no such folder, so there is no ground truth"]
    if high.is_dir():
        found = [each for each in entries(high) if each.is_dir() or is_video(each)]
        targets = {clip_name(each): each for each in found}
        faults = without_partner(folders, targets)
    missing = sorted(set(test) - folders.keys()) if needed else ()
    faults += [f"{low / name}: a test clip is missing" for name in missing]
    one_target = high.name.startswith("SMID")
    clips = []
    for name, folder in folders.items():
        facts, wrong = _inspect(folder, targets.get(name), name in test, one_target=one_target)
        clips.append(facts)
        faults += wrong
        if not (facts.test or folder.is_dir()):
            faults.append(f"{folder}: a video, but training reads folders of frames")
        if 0 < facts.frames < _WINDOW:
            faults.append(f"{folder}: {facts.frames} frames, too few for windows of {_WINDOW}")
        if watch is not None:
            watch(len(clips), len(folders))
    return Inspection(tuple(clips), tuple(faults))


def _inspect(
    folder: Path, partner: Path | None, test: bool, *, one_target: bool
) -> tuple[ClipFacts, list[str]]:
    faults: list[str] = []
    frames, targets = (_files(each, faults) for each in (folder, partner))
    looked = {path: _look(path, faults) for path in (*frames, *targets)}
    sizes = {path: size for path, (_, size) in looked.items()}
    read = [size for size in sizes.values() if size is not None]
    size = read[0] if read else None
    faults += [
        f"{path}: {other[1]}x{other[0]}, but the clip's first frame is {size[1]}x{size[0]}"
        for path, other in sizes.items()
        if other is not None and size is not None and other != size
    ]
    if folder.is_dir() and partner is not None and partner.is_dir() and not one_target:
        faults += without_partner(
            *({path.stem: path for path in side} for side in (frames, targets))
        )
    count = sum(looked[path][0] for path in frames)
    return ClipFacts(clip_name(folder), test, count, size), faults


def _files(place: Path | None, faults: list[str]) -> Sequence[Path]:
    try:
        return [] if place is None else clip_files(place)
    except UserError as error:
        faults.append(in_one_line(error))
        return []


def _look(path: Path, faults: list[str]) -> tuple[int, tuple[int, int] | None]:
    """How many frames a file has, as far as it tells, and their height and width."""
    moves = is_video(path)
    try:
        if not moves:
            return 1, image_size(path)
        with open_video(path) as video:
            return video.info.frames or 0, (video.info.height, video.info.width)
    except UserError as error:
        faults.append(in_one_line(error))
        return int(not moves), None
