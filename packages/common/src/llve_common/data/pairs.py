"""Your own pairs: two folders, or a set whose layout is known, as clips for any paper.

Images lie in the folders themselves or in subfolders. A subfolder is a clip. Images in the folders
themselves are one clip for a paper on images; for one on videos each is a clip that stands still,
since nobody can tell whether they follow one another. A pair has one name in both folders, or two
that differ as ``pairs.names`` says. A subfolder whose ground truth is a single image has it for all
its frames. Frames keep their size.

Where the ground truth is not given, the folder is LOL v1 (``our485`` and ``eval15``), LOL v2
(``Train`` and ``Test``), SDSD or SMID, or has ``low`` and ``high`` in it.
"""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from llve_common.clips.clip import Clip, paired_clips
from llve_common.clips.folders import entries, in_natural_order, list_images, named, some_of
from llve_common.config import Kind, PairSettings
from llve_common.data.sdsd.layout import SETS, SIDES, published_split, smid_clips
from llve_common.data.sdsd.splits import TEST_CLIPS
from llve_common.errors import DataError
from llve_common.machine.processes import processes
from llve_common.video import is_video

log = logging.getLogger(__name__)

Sides = tuple[Path, Path | None]
"""The folders of low light and of ground truth."""

_LOL_V2 = "low{}=normal{}"
_SPLITS = (("our485", "eval15"), ("Train", "Test"), ("train", "test"))
_TWO_WAYS = (
    "two folders with the same names in them (--low FOLDER --high FOLDER), and a template where "
    f"the names differ (--pair '{_LOL_V2}')"
)


def training_pairs(chosen: PairSettings, kind: Kind) -> list[Clip]:
    """The clips to train on, which are all that are not held out; none where no folder is given.

    Raises:
        DataError: a folder is missing or empty, names do not match, nothing is left, or a paper on
            videos has no ground truth.
    """
    if chosen.low is None:
        return []
    clips, held_out = _divided(chosen, kind)
    if not clips:
        raise DataError(
            "every clip is held out, so none is left to train on",
            where=chosen.low,
            got=some_of([clip.name for clip in held_out]),
            mend="name those to hold out: --test-clips A,B",
        )
    if kind == "video" and clips[0].targets is None:
        found = some_of([each.name for each in entries(chosen.low)])
        raise DataError("no ground truth", where=chosen.low, got=found, expected=_TWO_WAYS)
    _note_stills(clips, kind)
    if processes().first and not held_out:
        log.warning("no pairs are held out to validate with: give --val-low or --test-clips")
    return clips


def training_images(chosen: PairSettings) -> list[Path]:
    """The low-light images of :func:`training_pairs`, for a paper that needs no ground truth."""
    return [file for clip in training_pairs(chosen, "image") for file in clip.frames]


def held_out_pairs(chosen: PairSettings, kind: Kind) -> list[Clip]:
    """The clips to validate with: those given or named, or the layout's; perhaps none.

    Raises:
        DataError: a folder is missing or empty, names do not match, or are not there.
    """
    return _divided(chosen, kind)[1] if chosen.low else []


def pairs_to_test(chosen: PairSettings, kind: Kind) -> list[Clip]:
    """The clips to test on: those held out, else all; none where no folder is given.

    Raises:
        DataError: as :func:`held_out_pairs`.
    """
    if chosen.low is None:
        return []
    clips, held_out = _divided(chosen, kind)
    _note_stills(held_out or clips, kind)
    return held_out or clips


def _divided(chosen: PairSettings, kind: Kind) -> tuple[list[Clip], list[Clip]]:
    """The clips to train on, and those held out."""
    assert chosen.low is not None
    (low, high), other = _sides(chosen.low, chosen.high)
    clips, names = _clips(low, high, chosen.names), chosen.test_clips
    if chosen.val_low is not None:
        first, second = _sides(chosen.val_low, chosen.val_high)
        other = second or first
    elif names is not None:
        other = None
        missing = set(names) - {clip.name for clip in clips}
        if missing:
            raise DataError(
                "there is no such clip or image to hold out",
                where=low,
                got=", ".join(sorted(missing)),
                expected=f"some of {some_of([clip.name for clip in clips])}",
            )
    elif other is None and high is not None and (low.name, high.name) in SETS:
        names = TEST_CLIPS[published_split(low.parent)]
    held_out = [clip for clip in clips if clip.name in (names or ())]
    if other is not None:
        held_out = _clips(*other, chosen.names)
    # Whatever they are called: folders may be linked, or given from elsewhere.
    kept = {file.resolve() for clip in held_out for file in clip.frames}
    rest = [clip for clip in clips if not kept or kept.isdisjoint(map(Path.resolve, clip.frames))]
    return _as_taken(rest, low, kind), _as_taken(held_out, other[0] if other else low, kind)


def _sides(low: Path, high: Path | None) -> tuple[Sides, Sides | None]:
    """The folders of a set, and those of its test where the layout divides it."""
    if high is not None:
        return (low, high), None
    for parts in _SPLITS:
        train, test = (_sides_in(low / part) for part in parts)
        found = train or test
        if found is not None:
            return found, test
    return _sides_in(low) or (low, None), None


def _sides_in(folder: Path) -> Sides | None:
    found = ((folder / low, folder / high) for low, high in SIDES)
    return next((each for each in found if each[0].is_dir() and each[1].is_dir()), None)


def _clips(low: Path, high: Path | None, names: str) -> list[Clip]:
    """Videos; or every subfolder as a clip, and every other image as one of its own."""
    if is_video(low) or (low.is_dir() and any(map(is_video, entries(low)))):
        return paired_clips(low, high)
    if high is not None and high.name.startswith("SMID"):
        return smid_clips(low, high)
    frames = sorted(list_images(low, recursive=True), key=in_natural_order)
    partners = None if high is None else _partners(frames, low, high, names)
    clips = defaultdict[str, list[Path]](list)
    for file in frames:
        inside = file.parent.relative_to(low).as_posix()
        clips[file.stem if inside == "." else inside].append(file)
    return [
        Clip(name, tuple(files), None if partners is None else tuple(partners[f] for f in files))
        for name, files in clips.items()
    ]


def _partners(frames: Sequence[Path], low: Path, high: Path, names: str) -> dict[Path, Path]:
    """The ground truth of each frame; where the names are to be the same, or else LOL v2's."""
    targets = list_images(high, recursive=True)
    inside = Counter(file.parent for file in targets)
    scenes = {file.parent: file for file in targets if inside[file.parent] == 1}
    scenes.pop(high, None)
    said: list[str] = []
    for template in (names, _LOL_V2) if names == "{}={}" else (names,):
        ours, theirs = template.split("=")
        by_key = _keyed(targets, high, theirs)
        found = {
            file: by_key.get(key) or scenes.get(high / file.parent.relative_to(low))
            for key, file in _keyed(frames, low, ours).items()
        }
        partners = {file: partner for file, partner in found.items() if partner is not None}
        faults = [f"{file} has no ground truth" for file in frames if file not in partners]
        used = set(partners.values())
        faults += [f"{file} has no input" for file in targets if file not in used]
        if not faults:
            return partners
        said = said or faults
    what = "inputs and ground truth do not match by name"
    raise DataError(what, where=high, got=some_of(said), expected=_TWO_WAYS)


def _keyed(files: Sequence[Path], root: Path, template: str) -> dict[str, Path]:
    """Files by what both names of a pair share; what does not fit, or is taken, by itself."""
    pattern = re.escape(template).replace(re.escape("{}"), "(.+)")
    keyed: dict[str, Path] = {}
    for file in files:
        fits = re.fullmatch(pattern, file.stem)
        key = str(file.parent.relative_to(root) / fits[1]) if fits else str(file)
        keyed[str(file) if key in keyed else key] = file
    return keyed


def _as_taken(clips: list[Clip], low: Path, kind: Kind) -> list[Clip]:
    """The clips as a paper takes them: one on images has those of the folder itself as one clip."""
    if kind == "video":
        return clips
    alone = (clip for clip in clips if clip.frames[0].parent == low and not clip.of_video)
    flat = dict.fromkeys(alone)
    if not flat:
        return clips
    frames, targets = (
        tuple(file for clip in flat for file in side(clip) or ())
        for side in (lambda clip: clip.frames, lambda clip: clip.targets)
    )
    whole = Clip(named(low).name, frames, targets or None)
    return [whole, *(clip for clip in clips if clip not in flat)]


def _note_stills(clips: Sequence[Clip], kind: Kind) -> None:
    stills = [clip for clip in clips if len(clip.frames) == 1 and not clip.of_video]
    if kind == "video" and stills and processes().first:
        log.warning(
            "%d images are clips that stand still: put the frames of a clip into a subfolder",
            len(stills),
        )
