"""How the field tests on each public data set: ``protocols.toml``, and folders that follow it."""

import hashlib
import logging
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, TypeAdapter

from llve_common.clips.clip import Clip, clip_of, clips_in
from llve_common.clips.folders import list_images, some_of, walk
from llve_common.config import Settings, Ssim, nearest
from llve_common.data.sdsd.layout import scene_target
from llve_common.data.sdsd.splits import TEST_CLIPS, Split
from llve_common.errors import ConfigError, DataError
from llve_common.evaluate.pairing import keyed
from llve_common.io.digest import file_digest
from llve_common.video import is_image

log = logging.getLogger(__name__)

Size = tuple[PositiveInt, PositiveInt]
Names = tuple[str, ...]


class Protocol(Settings):
    """How tables test on one data set; the head of ``protocols.toml`` says what each key means."""

    title: str
    source: str
    kind: Literal["images", "clips"]
    low: Annotated[Names, Field(min_length=1)]
    high: Names = ()
    names: Split | Names | None = None
    count: PositiveInt | None = None
    pair: str = "name"
    stored: Size | None = None
    size: Size | None = None
    frames: PositiveInt | None = None
    rounding: Literal["truncate", "round", "half-even"] | None = None
    ssim: Ssim | None = None
    mean: Literal["frames", "clips"] | None = None
    sha256: str | None = None
    differs: Names = ()
    not_at_hand: Names = ()

    @property
    def test(self) -> Names:
        """The names of the test's images or clips; none where they are not at hand."""
        if isinstance(self.names, str):
            return TEST_CLIPS[self.names]
        return self.names or ()

    @property
    def one_truth(self) -> bool:
        """Whether all frames of a clip have one ground truth, as a scene of SMID has."""
        return self.names == "smid"

    def missing(self, there: set[str]) -> list[str]:
        """What the test has and ``there`` lacks, or how many it lacks."""
        if self.test:
            return [name for name in self.test if name not in there]
        lacking = max((self.count or 0) - len(there), 0)
        return [f"{lacking} of {self.count} {self.kind}"] if lacking else []


@dataclass(frozen=True)
class Found:
    """A folder laid out as a protocol's set.

    Attributes:
        name: of the protocol.
        low: folder of the inputs.
        high: folder of the ground truth; None where the set has none, or it is not there.
        there: names of the test's images or clips that are there; of all, where the test's are not
            at hand.
        missing: what the test lacks.
    """

    name: str
    low: Path
    high: Path | None
    there: list[str]
    missing: list[str]


@cache
def protocols() -> dict[str, Protocol]:
    """All protocols by name."""
    text = files("llve_common.evaluate").joinpath("protocols.toml").read_text("utf-8")
    return TypeAdapter(dict[str, Protocol]).validate_python(tomllib.loads(text))


def find_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ConfigError: there is none.
    """
    known = protocols()
    if name not in known:
        near = nearest(name, known)
        raise ConfigError(
            "no such protocol", got=name, expected=", ".join(known),
            mend=f"did you mean '{near}'?" if near else None,
        )  # fmt: skip
    return known[name]


def find_set(name: str, root: Path) -> Found:
    """The folders of a protocol's set, in the folder that it was unpacked to or one within it.

    Raises:
        ConfigError: there is no such protocol.
        DataError: the folder is missing, or not laid out so.
    """
    found = _look(name, root)
    if found is None:
        protocol = find_protocol(name)
        raise DataError(
            f"not laid out as {name}", where=root, expected=f"in it: {' or '.join(protocol.low)}"
        )
    return found


def recognised(root: Path) -> list[Found]:
    """The sets that a folder may be or hold, the fullest first.

    A set that is a mere folder of images is known by its name.

    Raises:
        DataError: the folder is missing.
    """
    list_images(root, recursive=True)
    found = [
        each for name in protocols()
        if (each := _look(name, root)) and each.there
        and (each.low != root or root.resolve().name.lower() == name)
    ]  # fmt: skip
    return sorted(found, key=lambda each: len(each.missing) / (find_protocol(each.name).count or 1))


def protocol_clips(name: str, root: Path) -> list[Clip]:
    """A protocol's test, as clips of its frames and size; of images, each is a clip.

    What the folder lacks is named in the log.

    Raises:
        ConfigError: there is no such protocol.
        DataError: as :func:`find_set`, or nothing of the test is there.
    """
    protocol, found = find_protocol(name), find_set(name, root)
    if found.missing:
        log.warning("%s: not all of %s: missing are %s", root, name, some_of(found.missing))
    if protocol.kind == "images":
        lows = keyed(list_images(found.low), protocol.pair, 0)
        highs = keyed(list_images(found.high), protocol.pair, 1) if found.high else {}
        clips = [
            Clip(each, (lows[each],), (highs[each],) if highs else None, protocol.size)
            for each in found.there
        ]
    else:
        lows = {each: path for each, path in clips_in(found.low).items() if each in found.there}
        highs = clips_in(found.high) if found.high else {}
        if protocol.one_truth:
            highs = {each: scene_target(highs[each]) for each in lows if each in highs}
        clips = [
            clip_of(low, highs.get(each), size=protocol.size, length=protocol.frames)
            for each, low in lows.items()
        ]
    if not clips:
        raise DataError(f"nothing of {name}'s test is there", where=root, expected=protocol.title)
    return clips


def data_digest(folder: Path) -> str:
    """The SHA-256 of a data set's manifest: of all its frames' digests and names.

    It is what ``sha256sum`` prints for ``find -L -type f | LC_ALL=C sort``, without the leading
    ``./``, hidden files and folders, and files that are neither images nor ``.npy``.

    Raises:
        DataError: the folder is missing, or holds no such file.
    """
    files = filter(is_image, walk(folder, recursive=True)[0])
    frames = {file.relative_to(folder).as_posix(): file for file in files}
    if not frames:
        raise DataError("the folder holds no frames", where=folder)
    whole = hashlib.sha256()
    for name in sorted(frames):
        whole.update(f"{file_digest(frames[name])}  {name}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()


def _look(name: str, root: Path) -> Found | None:
    """The set in a folder; None where it is not laid out so."""
    protocol = find_protocol(name)
    low = _first_there(root, protocol.low)
    if low is None:
        return None
    high = _first_there(root, protocol.high)
    there = _names_in(protocol, low, 0)
    if high is not None:
        inside = set(_names_in(protocol, high, 1))
        there = [each for each in there if each in inside]
    if protocol.test:
        there = [each for each in protocol.test if each in there]
    return Found(name, low, high, there, protocol.missing(set(there)))


def _first_there(root: Path, names: Names) -> Path | None:
    return next((root / each for each in names if (root / each).is_dir()), None)


def _names_in(protocol: Protocol, folder: Path, side: int) -> list[str]:
    try:
        if protocol.kind == "clips":
            return list(clips_in(folder))
        return list(keyed(list_images(folder), protocol.pair, side))
    except DataError:
        return []
