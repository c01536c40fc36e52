"""What a data set of clips lacks, all of it at once."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from llve_common.clips.clip import clips_in
from llve_common.clips.folders import entries, list_images, without_partner
from llve_common.data.sdsd.layout import low_and_high
from llve_common.errors import UserError, in_one_line
from llve_common.io.images import image_size

# Frames that a clip needs at least: those of the window that papers on these data sets look at.
_WINDOW = 5


@dataclass(frozen=True)
class ClipFacts:
    """One clip: its frames in low light, and height and width of the first that can be read."""

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
        targets = {each.name: each for each in entries(high) if each.is_dir()}
        faults = without_partner(folders, targets)
    missing = sorted(set(test) - folders.keys()) if needed else ()
    faults += [f"{low / name}: a test clip is missing" for name in missing]
    one_target = high.name.startswith("SMID")
    clips = []
    for name, folder in folders.items():
        facts, found = _inspect(folder, targets.get(name), name in test, one_target=one_target)
        clips.append(facts)
        faults += found
        if 0 < facts.frames < _WINDOW:
            faults.append(f"{folder}: {facts.frames} frames, too few for windows of {_WINDOW}")
        if watch is not None:
            watch(len(clips), len(folders))
    return Inspection(tuple(clips), tuple(faults))


def _inspect(
    folder: Path, partner: Path | None, test: bool, *, one_target: bool
) -> tuple[ClipFacts, list[str]]:
    faults: list[str] = []
    frames, targets = (_images(each, faults) for each in (folder, partner))
    sizes = {path: _size(path, faults) for path in (*frames, *targets)}
    read = [size for size in sizes.values() if size is not None]
    size = read[0] if read else None
    faults += [
        f"{path}: {other[1]}x{other[0]}, but the clip's first frame is {size[1]}x{size[0]}"
        for path, other in sizes.items()
        if other is not None and size is not None and other != size
    ]
    if partner is not None and not one_target:
        faults += without_partner(
            *({path.stem: path for path in side} for side in (frames, targets))
        )
    return ClipFacts(folder.name, test, len(frames), size), faults


def _images(folder: Path | None, faults: list[str]) -> Sequence[Path]:
    try:
        return [] if folder is None else list_images(folder)
    except UserError as error:
        faults.append(in_one_line(error))
        return []


def _size(path: Path, faults: list[str]) -> tuple[int, int] | None:
    try:
        return image_size(path)
    except UserError as error:
        faults.append(in_one_line(error))
        return None
