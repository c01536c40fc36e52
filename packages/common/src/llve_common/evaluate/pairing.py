"""Files of results with their partners: by name, by a template of names, or by order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llve_common.clips.clip import Clip, clip_files, clips_in
from llve_common.clips.folders import entries, named, some_of
from llve_common.data.sdsd.layout import scene_target
from llve_common.errors import ConfigError, DataError
from llve_common.video import is_image, is_video

if TYPE_CHECKING:
    from llve_common.evaluate.protocols import Protocol


def keyed(files: Sequence[Path], pair: str, side: int) -> dict[str, Path]:
    """Files by what the partner's key is equal to.

    Args:
        files: of one side.
        pair: ``name``: the stem; ``order``: the place; or a template of both sides' stems such as
            ``{}_out=gt_{}``.
        side: 0 for what stands left in the template, 1 for what stands right.

    Raises:
        ConfigError: the template is not one.
        DataError: two files have one key, or none fits the template.
    """
    if pair == "order":
        return {str(number): file for number, file in enumerate(files)}
    keys = [file.stem for file in files]
    if pair != "name":
        templates = pair.split("=")
        if len(templates) != 2 or any(each.count("{}") != 1 for each in templates):
            raise ConfigError(
                "not a way to pair files", where="--pair", got=pair,
                expected="name, order, or a template such as {}_out=gt_{}",
            )  # fmt: skip
        pattern = re.escape(templates[side]).replace(re.escape("{}"), "(.+)")
        found = [re.fullmatch(pattern, key) for key in keys]
        fitting = [(each[1], file) for each, file in zip(found, files, strict=True) if each]
        if not fitting:
            raise DataError("no file fits the template", where=files[0], expected=templates[side])
        keys, files = [key for key, _ in fitting], [file for _, file in fitting]
    held = dict(zip(keys, files, strict=True))
    if len(held) < len(files):
        counts, twins = Counter(keys), sorted(zip(keys, map(str, files), strict=True))
        same = [file for key, file in twins if counts[key] > 1]
        raise DataError("several files have one name", got=some_of(same))
    return held


@dataclass(frozen=True)
class Matched:
    """A clip of results with its ground truth and its input, frame by frame, as far as given."""

    result: Clip
    target: Clip | None
    source: Clip | None

    def parts(self) -> list[Matched]:
        """Each image by itself."""
        return [
            Matched(replace(self.result, frames=(file,)), *(
                each and replace(each, frames=each.frames[number : number + 1])
                for each in (self.target, self.source)
            ))
            for number, file in enumerate(self.result.frames)
        ]  # fmt: skip


def match(
    results: Path,
    others: Sequence[Path | None],
    pair: str,
    left_out: list[str],
    *,
    together: bool = False,
    protocol: Protocol | None = None,
) -> Iterator[Matched]:
    """Clips of results with their partners.

    Args:
        results: a folder of images, of clips, or a video.
        others: the ground truth and the inputs, likewise; None: not given.
        pair: see :func:`keyed`.
        left_out: is told what lacks a partner; of a protocol's test, only results.
        together: the images in a folder are the frames of one clip, as they are beside a video
            and for a protocol of clips. Otherwise they are a clip without a name, which nothing
            is measured of over time. Partners are also looked for below the clip's name.
        protocol: whose test's names, frames and size count.

    Raises:
        ConfigError: the template is not one.
        DataError: a folder is missing or empty, or nothing has a partner.
    """
    single = is_video(results) or is_image(results)
    inside = [] if single else [each for each in entries(results) if each.name[0] != "."]
    clips = any(each.is_dir() or is_video(each) for each in inside)
    if single or any(map(is_image, inside)) or not clips:
        together = together or (protocol is not None and protocol.kind == "clips")
        together = together or any(each is not None and is_video(each) for each in others)
        name = results.stem if is_video(results) else named(results).name if together else ""
        below = [each and (each / name if (each / name).is_dir() else each) for each in others]
        yield _matched(name, results, below, pair, left_out, protocol)
        return
    of_results = clips_in(results)
    test = protocol.test if protocol is not None else ()
    if test:
        of_results = {name: of_results[name] for name in test if name in of_results}
    sides = [None if each is None else clips_in(each) for each in others]
    for side, folder in zip(sides, others, strict=True):
        if side is not None:
            lost = [f"{name} has no partner in {folder}" for name in of_results if name not in side]
            lacking = [name for name in side if name not in of_results and not test]
            left_out += [*lost, *(f"{folder}/{name} has no result" for name in lacking)]
    for name, path in of_results.items():
        if all(side is None or name in side for side in sides):
            partners = [None if side is None else side[name] for side in sides]
            yield _matched(name, path, partners, pair, left_out, protocol)


def _matched(
    name: str,
    results: Path,
    others: Sequence[Path | None],
    pair: str,
    left_out: list[str],
    protocol: Protocol | None,
) -> Matched:
    """The frames of a clip that have all their partners; beside a video, all, in order."""
    recursive = name == ""
    size, frames = (None, None) if protocol is None else (protocol.size, protocol.frames)
    files = [[] if each is None else clip_files(each, recursive=recursive)[:frames]
             for each in (results, *others)]  # fmt: skip
    if protocol is not None and protocol.one_truth and others[0] is not None:
        files[1] = [scene_target(others[0])] * len(files[0])
    elif not any(is_video(each[0]) for each in files if each):
        files = with_partners(files, pair, left_out, protocol)
    result, target, source = (
        Clip(name, tuple(each), None, size, frames) if each else None for each in files
    )
    assert result is not None
    return Matched(result, target, source)


def _template(results: Iterable[str], others: Iterable[str]) -> str:
    """What pairs the first result with the longest of the other names that it holds, if any."""
    first = next(iter(results))
    held = max((each for each in others if each in first), key=len, default="")
    return first.replace(held, "{}", 1) + "={}" if held else "{}_out=gt_{}"


def with_partners(
    files: Sequence[Sequence[Path]], pair: str, left_out: list[str], protocol: Protocol | None
) -> list[list[Path]]:
    """The files of every side that all sides have, in the results' order; a side may be empty.

    The sides are results, ground truth and inputs. Inputs have a protocol's own names, if there is
    one; otherwise they are paired as ground truth is.

    Raises:
        ConfigError: the template is not one.
        DataError: nothing has a partner.
    """
    test = protocol.test if protocol is not None and protocol.kind == "images" else ()
    counts = [len(each) for each in files if each]
    if pair == "order" and (test or len(set(counts)) > 1):
        raise DataError(
            "by order every result needs its partner, so all must be there",
            where=files[0][0].parent,
            got="a protocol, which goes by names" if test else " and ".join(map(str, counts)),
            expected="a protocol of clips" if test else "as many files on each side",
            mend="--pair name, or a template such as '{}_out=gt_{}'",
        )
    own = (pair, 1) if protocol is None or pair == "order" else (protocol.pair, 0)
    ways = (pair, 0), (pair, 1), own
    sides = [keyed(each, *way) if each else {} for each, way in zip(files, ways, strict=False)]
    if test:
        sides = [{key: each[key] for key in test if key in each} for each in sides]
    kept, keys = sides[0], list(sides[0])
    for side, given in zip(sides[1:], files[1:], strict=True):
        if not given:
            continue
        folder = given[0].parent
        left_out += [f"{kept[key]} has no partner in {folder}" for key in keys if key not in side]
        if not test:
            left_out += [f"{file} has no result" for key, file in side.items() if key not in kept]
        keys = [key for key in keys if key in side]
        if not keys:
            raise DataError(
                "no result has a partner",
                where=folder,
                got=f"results such as {files[0][0].name}, partners such as {given[0].name}",
                mend=f"--pair order, or --pair with a template such as '{_template(kept, side)}'",
            )
    if not keys:
        what = "no result is of the protocol's test"
        raise DataError(what, where=files[0][0], expected=", ".join(test))
    return [[side[key] for key in keys] if side else [] for side in sides]
