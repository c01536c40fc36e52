"""Data sets of clips on disk, in SDSD's and SMID's layouts, and which clips are the test's.

The SDSD layout is ``<subset>/GT/<clip>/<frame>`` and ``<subset>/input/<clip>/<frame>`` (``LQ`` for
``input`` is known too); the SMID layout is ``SMID_LQ_np/<scene>/<frame>`` with one ground truth for
each scene in ``SMID_Long_np/<scene>``. Frames are ``.npy`` files of uint8 BGR (H, W, 3), or images.
"""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from llve_common.clips.clip import Clip, Size, clip_of, matched_clips, paired_clips
from llve_common.clips.folders import entries, list_images, named
from llve_common.data.sdsd.settings import TEST_FRAMES, ClipData, ClipTestData
from llve_common.data.sdsd.splits import TEST_CLIPS, Split
from llve_common.errors import DataError
from llve_common.video import is_video

log = logging.getLogger(__name__)

SETS = (
    ("input", "GT"), ("LQ", "GT"), ("SMID_LQ_np", "SMID_Long_np"), ("SMID_LQ_png", "SMID_Long_png"),
)  # fmt: skip
SIDES = (("low", "high"), ("Low", "Normal"), *SETS)
"""What the folders of low light and of ground truth are called, also in LOL v1 and v2."""

_TWO_FOLDERS = "give your own images or clips as two folders: --low FOLDER --high FOLDER"
_OTHER_NAMES = {"input": "LQ", "LQ": "input"}
_OTHER_KINDS = (("_np", "_png"), ("_png", "_np"))


def is_set(folder: Path) -> bool:
    """Whether a folder is laid out as a data set of clips."""
    return any((folder / low).is_dir() for low, _ in SETS)


def low_and_high(root: Path) -> tuple[Path, Path]:
    """The two folders of a set, by one of the pairs of names in :data:`SIDES`.

    Raises:
        DataError: the root is missing or holds no image, or is not laid out so.
    """
    found = [(root / low, root / high) for low, high in SIDES if (root / low).is_dir()]
    if not found:
        list_images(root, recursive=True)
        raise DataError(
            "not laid out as a data set of clips",
            where=root,
            got=", ".join(each.name for each in entries(root)[:10]),
            expected="GT and input (or LQ), high and low, or SMID_Long_np and SMID_LQ_np in it",
            mend=_TWO_FOLDERS,
        )
    return found[0]


def set_folders(root: Path, low: Path | None, high: Path | None) -> tuple[Path, Path | None]:
    """The folders of a set's input and ground truth: those given, and for the rest the root's.

    Args:
        root: see :func:`low_and_high`, or a video; not looked at where the input is given.
        low: the input's folder; None: the one in the root.
        high: the ground truth's folder; None: the one in the root, beside the input.

    Returns:
        Each by whichever of its names is there (:func:`either_name`); None for the ground truth
        where there is none.

    Raises:
        DataError: the root is missing or laid out otherwise.
    """
    low, high = (None if each is None else either_name(each) for each in (low, high))
    if low is None and is_video(root):
        return root, high
    if low is None:
        low, beside = low_and_high(either_name(root))
        if high is None and beside.is_dir():
            high = beside
    return low, high


def either_name(folder: Path) -> Path:
    """The folder, or where it is missing, what stands there under its other published names.

    The input is called ``input`` or ``LQ``, and a set in images ``_png`` instead of ``_np``.
    """
    folder = named(folder)
    names = [folder, folder.with_name(_OTHER_NAMES.get(folder.name, folder.name))]
    found = [each for each in (*names, *map(_other_kind, names)) if each.is_dir()]
    return found[0] if found else folder


def _other_kind(folder: Path) -> Path:
    """The same folder in a set of the other kind: ``indoor_png/GT`` for ``indoor_np/GT``."""
    for here in (folder, folder.parent):
        for ours, other in _OTHER_KINDS:
            if here.name.endswith(ours):
                swapped = here.with_name(here.name.removesuffix(ours) + other)
                return swapped if here is folder else swapped / folder.name
    return folder


def set_clips(root: Path) -> list[Clip]:
    """All clips of a set in either layout, sorted by name.

    Raises:
        DataError: a folder is missing or empty, or clips or frames do not match.
    """
    low, high = set_folders(root, None, None)
    return (smid_clips if low.name.startswith("SMID") else paired_clips)(low, high)


def smid_clips(low: Path, high: Path | None, size: Size | None = None) -> list[Clip]:
    """The clips of the SMID layout, sorted by name; every frame of a scene has one ground truth.

    Both are folders of folders; ``size`` is that of :class:`~llve_common.clips.clip.Clip`.

    Raises:
        DataError: a folder is missing or empty, or a scene has no ground truth.
    """
    return [
        clip_of(folder, scene and scene_target(scene), size=size)
        for folder, scene in matched_clips(low, high)
    ]


def scene_target(folder: Path) -> Path:
    """A scene's ground truth: the first file whose name holds neither ``.ARW`` nor ``half``.

    Raises:
        DataError: there is none.
    """
    for path in list_images(folder):
        if ".ARW" not in path.name and "half" not in path.name:
            return path
    raise DataError(
        "the scene has no ground truth",
        where=folder,
        expected="a file whose name holds neither '.ARW' nor 'half'",
    )


def published_split(root: Path) -> Split:
    """Which published test clips a set has, by its layout, or its folder's name or that above it.

    Links count by their own names first. Sets made here have indoor's, whatever they are called.
    """
    if any((root / low).is_dir() for low, _ in SETS if low.startswith("SMID")):
        return "smid"
    if (either_name(root) / "synthetic.json").is_file():
        return "indoor"
    paths = named(root).absolute(), root.resolve()
    names = [each.name.lower() for path in paths for each in (path, path.parent)]
    splits: tuple[Split, ...] = ("indoor", "outdoor")
    return next((split for name in names for split in splits if split in name), "indoor")


def all_clips(chosen: ClipData) -> list[Clip]:
    """All clips of the settings' data set, sorted by name.

    Raises:
        DataError: a folder is missing or empty, or clips or frames do not match.
    """
    low, high = set_folders(chosen.root, chosen.low, chosen.high)
    try:
        return (smid_clips if chosen.layout == "smid" else paired_clips)(low, high, chosen.size)
    except DataError as error:
        # Such as single images, of which no set of clips is.
        raise error if error.mend else error.mended_by(_TWO_FOLDERS) from None


def training_clips(chosen: ClipData) -> list[Clip]:
    """All clips but the test's.

    Raises:
        DataError: as :func:`all_clips`, or none is left.
    """
    return clips_to_train(all_clips(chosen), test_names(chosen))


def test_clips(chosen: ClipTestData) -> list[Clip]:
    """The test's clips, cut to their first frames; without ground truth where there is none.

    Raises:
        DataError: as :func:`all_clips`, or none of the test's is there.
    """
    return clips_to_test(all_clips(chosen), test_names(chosen), chosen.first)


def validation_clips(chosen: ClipData) -> list[Clip]:
    """The test's clips as the published test takes them, or none where training has none of them.

    Raises:
        DataError: as :func:`all_clips`.
    """
    return clips_to_validate(all_clips(chosen), test_names(chosen), TEST_FRAMES)


def test_names(chosen: ClipData) -> tuple[str, ...]:
    """The names of the test's clips: those given, or the published ones of a split or the set."""
    root = chosen.root if chosen.low is None else named(chosen.low).parent
    names = chosen.test_clips or ("smid" if chosen.layout == "smid" else published_split(root))
    return TEST_CLIPS[names] if isinstance(names, str) else names


def clips_to_train(clips: Sequence[Clip], test: Collection[str]) -> list[Clip]:
    """All clips but the test's.

    Raises:
        DataError: none is left.
    """
    chosen = [clip for clip in clips if clip.name not in test]
    if not chosen:
        raise DataError(
            "every clip is one of the test's, so none is left to train on",
            where=clips[0].place.parent,
            got=", ".join(clip.name for clip in clips[:10]),
        )
    return chosen


def clips_to_test(clips: Sequence[Clip], test: Collection[str], frames: int | None) -> list[Clip]:
    """The test's clips, cut to their first frames; missing ones are named in the log.

    Args:
        clips: to choose from; a video alone is the test's, whatever its name.
        test: names of the test's clips.
        frames: how many of each clip to keep; None keeps all.

    Raises:
        DataError: none is there.
    """
    if len(clips) == 1 and clips[0].of_video:
        test = [clips[0].name]
    chosen = [clip if frames is None else clip.first(frames) for clip in clips if clip.name in test]
    missing = sorted(set(test) - {clip.name for clip in clips})
    if not chosen:
        raise DataError(
            "none of the test's clips is there",
            where=clips[0].place.parent,
            got=", ".join(clip.name for clip in clips[:10]),
            expected=", ".join(sorted(test)[:10]),
            mend=f"name them: data.test_clips=[A,B]; or {_TWO_FOLDERS}",
        )
    if missing:
        log.warning(
            "%s: %d of the test's %d clips are missing, so the means are of the others alone: %s",
            clips[0].place.parent, len(missing), len(set(test)), ", ".join(missing),
        )  # fmt: skip
    return chosen


def clips_to_validate(
    clips: Sequence[Clip], test: Collection[str], frames: int | None
) -> list[Clip]:
    """The test's clips, as :func:`clips_to_test` gives them, where training has any; else none."""
    there = any(clip.name in test for clip in clips)
    return clips_to_test(clips, test, frames) if there else []
