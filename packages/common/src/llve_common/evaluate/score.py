"""Anybody's results scored under every protocol that tables use, side by side.

A table's PSNR depends on more than the images: on colours, on brightness that was matched first
(*GT-mean*), on borders that were left out, on how depths and sizes were brought together, on what
is averaged. Here each way is a row, so that a figure can be found among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from llve_common.data.clip import Clip, clip_files, clips_in
from llve_common.errors import ConfigError, DataError
from llve_common.io.folders import is_image, some_of
from llve_common.io.frames import open_source
from llve_common.io.images import Pixels, in_8_bits, read_image, size_of
from llve_common.io.video import is_video
from llve_common.metrics.fidelity import psnr, ssim
from llve_common.metrics.quality import (
    Eight,
    discrete_entropy,
    eme,
    grey,
    loe,
    luma,
    niqe,
    scaled_to_mean,
)
from llve_common.metrics.temporal import DIS, GuideFlow, Mabd, NamedFlow, WarpingError

Real = NDArray[Any]
P = TypeVar("P", bound=Pixels)
Watcher = Callable[[int, int | None], None]
BORDER = 4

PROTOCOLS: dict[str, str] = {
    "RGB": "over the three colours, on the images as they are stored, of 16 bits the upper 8",
    "RGB, GT-mean": "over the three colours, after each result was scaled to the mean brightness "
    "of its ground truth, which the method does not know",
    "Y": "on Y of BT.601 in studio range alone (MATLAB's rgb2ycbcr)",
    "Y, GT-mean": "on Y alone, after each result was scaled to the mean brightness of its ground "
    "truth",
    "grey": "on the grey image, rounded (MATLAB's rgb2gray)",
    "RGB, no border": f"over the three colours, without {BORDER} pixels at each edge",
    "RGB, truncated": "over the three colours, with results of 16 bits over 257, truncated",
    "RGB, 16 bits": "over the three colours, with results of 16 bits not brought to 8",
    "RGB, cropped": "over the three colours, on the upper left part that both images have, where "
    "they differ in size; the other rows resize the result",
}
"""What must be true of a table whose figures are those of a row."""

MEASURES = ("psnr", "ssim_skimage7", "ssim_gaussian11")
WITHOUT_REFERENCE = ("niqe", "loe", "de", "eme")


@dataclass(frozen=True)
class FrameScores:
    """One result: ``values[protocol][measure]``, and ``alone[measure]`` without ground truth.

    ``file`` and ``target`` are image files; None where there is none.
    """

    clip: str
    frame: str
    file: Path | None
    target: Path | None
    values: dict[str, dict[str, float]]
    alone: dict[str, float]


@dataclass
class Report:
    """What results scored.

    Attributes:
        frames: in order.
        temporal: of each clip: ``warping_error``, ``mabd``, and ``mabd_mse`` against ground truth.
        notes: what a reader must know, such as results that lack a partner.
        missing: whether something was left out.
        flow: what the flow of the warping error is called.
    """

    frames: list[FrameScores] = field(default_factory=list)
    temporal: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    missing: bool = False
    flow: str = DIS.name

    def means(self, over: str = "frames") -> dict[str, dict[str, float]]:
        """Protocol to measure to the mean over ``frames``, or over ``clips`` of their means."""
        groups: dict[str, list[dict[str, dict[str, float]]]] = {}
        for frame in self.frames:
            groups.setdefault(frame.clip if over == "clips" else "", []).append(frame.values)
        found: dict[str, dict[str, float]] = {}
        for protocol in PROTOCOLS:
            rows = [
                [each[protocol] for each in group if protocol in each] for group in groups.values()
            ]
            rows = [row for row in rows if row]
            if rows:
                found[protocol] = {
                    measure: fmean(fmean(each[measure] for each in row) for row in rows)
                    for measure in rows[0][0]
                }
        return found

    def means_alone(self) -> dict[str, float]:
        """The means, over frames, of what needs no ground truth; over time, over clips."""
        rows = [*(frame.alone for frame in self.frames), *self.temporal.values()]
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: fmean(row[name] for row in rows if name in row) for name in names}

    def agreeing(self, said: str) -> list[str]:
        """The rows whose figure, rounded to as many digits as ``said`` has, is that number.

        Where none is, the nearest three with their differences. Each says what would have to be
        true of the table.

        Raises:
            ConfigError: ``said`` is no number, or there is no ground truth.
        """
        if re.fullmatch(r"\d+(\.\d*)?|\.\d+", said) is None:
            raise ConfigError("not a figure of a table", where="--paper-says", got=said)
        number, digits = float(said), len(said.partition(".")[2])
        figures = [
            (abs(value - number), f"{value:.{max(digits, 2)}f}", measure, protocol, over)
            for over in ("frames", "clips")
            for protocol, row in self.means(over).items()
            for measure, value in row.items()
            # A figure of at most 1 can only be an SSIM, and a larger one a PSNR.
            if (number <= 1) == measure.startswith("ssim")
        ]
        if not figures:
            raise ConfigError("without ground truth there is no figure to compare", got=said)
        several = len({frame.clip for frame in self.frames}) > 1
        figures = [each for each in figures if several or each[-1] == "frames"]
        exact = [each for each in figures if each[0] <= 0.5 * 10**-digits]
        return [
            f"{'agrees' if exact else f'differs by {apart:.{digits + 1}f}'}: {value}, "
            f"{measure.replace('_', ' ')}, {protocol}"
            + (f", mean of {over}" if several else "")
            + f": the table was then computed {PROTOCOLS[protocol]}"
            for apart, value, measure, protocol, over in (exact or sorted(figures)[:3])
        ]


def score(
    results: Path | str,
    reference: Path | str | None = None,
    *,
    inputs: Path | str | None = None,
    pair: str = "name",
    flow: NamedFlow = DIS,
    watch: Watcher | None = None,
) -> Report:
    """Score results that any program wrote.

    Args:
        results: a folder of images, of clips (folders of frames, or videos), or a video.
        reference: the ground truth, likewise.
        inputs: the images as they were, for LOE; paired as the ground truth is.
        pair: ``name``: files of one stem; ``order``; or a template such as ``{}_out=gt_{}`` for
            the stems of results and of the others.
        flow: how motion is estimated for the warping error, on the ground truth, else on inputs.
        watch: is told (frames done, frames in all as far as known).

    Raises:
        ConfigError: the template is not one.
        DataError: a folder is missing or empty, or nothing has a partner.
        MediaError: a file cannot be decoded.
    """
    report = Report(flow=flow.name)
    folders = [None if each is None else Path(each) for each in (reference, inputs)]
    sets = list(_sets(Path(results), folders, pair, report))
    counts = [clip.count for clip, _, _ in sets]
    total = None if None in counts else sum(count or 0 for count in counts)
    for clip, target, source in sets:
        _score_clip(
            clip, target, source, flow, report, lambda: watch and watch(len(report.frames), total)
        )
    return report


def _score_clip(
    clip: Clip,
    target: Clip | None,
    source: Clip | None,
    flow: NamedFlow,
    report: Report,
    advance: Callable[[], object],
) -> None:
    readers = [None if each is None else _pixels(each) for each in (target, source)]
    warping, mabd, guide_flow = WarpingError(), Mabd(), GuideFlow(flow.estimate)
    index = -1
    for index, result in enumerate(_pixels(clip)):
        file = clip.file(index)
        wanted, before = (_next(each, file) for each in readers)
        eight = in_8_bits(result)
        values = {} if wanted is None else _values(result, wanted, file, report)
        alone = _alone(eight, None if before is None else in_8_bits(before))
        own, other = (_file(each, index) for each in (clip, target))
        report.frames.append(FrameScores(clip.name, file.name, own, other, values, alone))
        guide = before if wanted is None else wanted
        if clip.name and guide is not None:
            guide = in_8_bits(guide)
            eight = _resized(eight, guide)
            warping.update(eight, guide_flow.next(guide))
            mabd.update(eight, None if wanted is None else guide)
        advance()
    for reader in readers:
        if reader is not None and next(reader, None) is not None:
            what = "its ground truth or input has more frames than the result"
            raise DataError(what, where=clip.place, got=index + 1)
    brightness = mabd.compute()
    over_time = {
        "warping_error": warping.compute(), "mabd": brightness.mean, "mabd_mse": brightness.mse,
    }  # fmt: skip
    measured = {name: value for name, value in over_time.items() if value is not None}
    if measured:
        report.temporal[clip.name] = measured


def _next(reader: Iterator[Pixels] | None, file: Path) -> Pixels | None:
    found = None if reader is None else next(reader, None)
    if reader is not None and found is None:
        raise DataError("its ground truth or input ends before this frame", where=file)
    return found


def _file(clip: Clip | None, index: int) -> Path | None:
    return None if clip is None or clip.of_video else clip.frames[index]


def _values(
    result: Pixels, target: Pixels, file: Path, report: Report
) -> dict[str, dict[str, float]]:
    """Every protocol's figures of one result."""
    wanted, eight = in_8_bits(target), in_8_bits(result)
    pairs: dict[str, tuple[Real, Real]] = {}
    if eight.shape != wanted.shape:
        note = "results differ in size from their ground truth and were resized bilinearly, such as"
        _note(report, note, f"{file.name}: {size_of(eight)}, not {size_of(wanted)}")
        rows, columns = (min(each) for each in zip(eight.shape[:2], wanted.shape[:2], strict=True))
        pairs["RGB, cropped"] = eight[:rows, :columns], wanted[:rows, :columns]
        eight, result = _resized(eight, wanted), _resized(result, wanted)
    matched = scaled_to_mean(eight, wanted)
    pairs |= {
        "RGB": (eight, wanted),
        "RGB, GT-mean": (matched, wanted.astype(np.float64)),
        "Y": (luma(eight), luma(wanted)),
        "Y, GT-mean": (luma(matched), luma(wanted)),
        "grey": (np.rint(grey(eight)), np.rint(grey(wanted))),
    }
    if min(wanted.shape[:2]) > 4 * BORDER:
        inner = slice(BORDER, -BORDER)
        pairs["RGB, no border"] = eight[inner, inner], wanted[inner, inner]
    if result.dtype == np.uint16:
        exact = result / 257
        pairs["RGB, truncated"] = np.floor(exact), wanted.astype(np.float64)
        pairs["RGB, 16 bits"] = exact, wanted.astype(np.float64)
    try:
        return {
            protocol: _measured(*pairs[protocol]) for protocol in PROTOCOLS if protocol in pairs
        }
    except DataError as error:
        raise error.at(file) from None


def _measured(image: Real, target: Real) -> dict[str, float]:
    return {
        "psnr": psnr(image, target),
        "ssim_skimage7": ssim(image, target, "skimage7"),
        "ssim_gaussian11": ssim(image, target, "gaussian11"),
    }


def _alone(image: Eight, source: Eight | None) -> dict[str, float]:
    """What needs no ground truth, as far as the image's size allows it."""
    measures: dict[str, Callable[[], float]] = {
        "niqe": lambda: niqe(image),
        "de": lambda: discrete_entropy(image),
        "eme": lambda: eme(image),
    }
    if source is not None:
        measures["loe"] = lambda: loe(_resized(image, source), source)
    found = {}
    for name in WITHOUT_REFERENCE:
        try:
            if name in measures:
                found[name] = measures[name]()
        except DataError:
            continue
    return found


def _resized(image: P, like: Pixels) -> P:
    if image.shape == like.shape:
        return image
    height, width = like.shape[:2]
    resized: Any = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return cast(P, resized)


def _note(report: Report, what: str, example: str) -> None:
    """One note of a kind, with its first example."""
    if not any(note.startswith(what) for note in report.notes):
        report.notes.append(f"{what} {example}")


def _pixels(clip: Clip) -> Iterator[Pixels]:
    """Frames in their own depth, one at a time."""
    if not clip.of_video:
        yield from (read_image(file).pixels for file in clip.frames)
        return
    with open_source(clip.frames[0]) as source:
        yield from (frame.image.pixels for frame in source.frames)


def _sets(
    results: Path, others: Sequence[Path | None], pair: str, report: Report
) -> Iterator[tuple[Clip, Clip | None, Clip | None]]:
    """Each clip of results with its ground truth and its input; what lacks one is noted.

    Images in one folder are a clip without a name: nobody can tell whether they follow each other.
    """
    single = is_video(results) or is_image(results)
    of_clips = results.is_dir() and not any(map(is_image, results.iterdir()))
    if not of_clips:
        name = results.stem if single and is_video(results) else ""
        yield _matched(name, results, others, pair, report)
        return
    named = clips_in(results)
    sides = [None if each is None else clips_in(each) for each in others]
    for side, folder in zip(sides, others, strict=True):
        if side is not None:
            lacking = [f"{name} has no partner in {folder}" for name in named if name not in side]
            lacking += [f"{folder}/{name} has no result" for name in side if name not in named]
            _leave_out(report, lacking)
    for name, path in named.items():
        partners = [None if side is None else side.get(name) for side in sides]
        if all(p is not None or side is None for p, side in zip(partners, sides, strict=True)):
            yield _matched(name, path, partners, pair, report)


def _matched(
    name: str, results: Path, others: Sequence[Path | None], pair: str, report: Report
) -> tuple[Clip, Clip | None, Clip | None]:
    """The frames of a clip that have all their partners."""
    frames = clip_files(results, recursive=name == "")
    sides = [None if each is None else clip_files(each, recursive=name == "") for each in others]
    kept = _keyed(frames, pair, 0)
    keyed = [None if side is None else _keyed(side, pair, 1) for side in sides]
    if is_video(frames[0]) or any(side is not None and is_video(side[0]) for side in sides):
        keyed = [None if side is None else dict(zip(kept, side, strict=False)) for side in sides]
    for side, folder in zip(keyed, others, strict=True):
        if side is not None:
            partner = next(iter(side.values()), Path("nothing"))
            lacking = [
                f"{file} has no partner in {folder}"
                for key, file in kept.items()
                if key not in side
            ]
            lacking += [f"{file} has no result" for key, file in side.items() if key not in kept]
            kept = {key: file for key, file in kept.items() if key in side}
            if not kept:
                raise DataError(
                    "no result has a partner",
                    where=folder,
                    got=f"results such as {frames[0].name}, partners such as {partner.name}",
                    mend="--pair order, or --pair with a template such as '{}_out=gt_{}'",
                )
            _leave_out(report, lacking)
    clips = [
        None if side is None else Clip(name, tuple(side[key] for key in kept)) for side in keyed
    ]
    return Clip(name, tuple(kept.values())), clips[0], clips[1]


def _leave_out(report: Report, lacking: Sequence[str]) -> None:
    if lacking:
        report.missing = True
        report.notes.append(f"left out: {some_of(lacking)}")


def _keyed(files: Sequence[Path], pair: str, side: int) -> dict[str, Path]:
    """Files by what the partner's key is equal to.

    Raises:
        ConfigError: the template is not one.
        DataError: two files have one key.
    """
    if pair == "order":
        return {str(number): file for number, file in enumerate(files)}
    if pair == "name":
        keys = [file.stem for file in files]
    else:
        templates = pair.split("=")
        if len(templates) != 2 or any(each.count("{}") != 1 for each in templates):
            raise ConfigError(
                "not a way to pair files", where="--pair", got=pair,
                expected="name, order, or a template such as {}_out=gt_{}",
            )  # fmt: skip
        pattern = re.escape(templates[side]).replace(re.escape("{}"), "(.+)")
        found = [re.fullmatch(pattern, file.stem) for file in files]
        pairs = [(each[1], file) for each, file in zip(found, files, strict=True) if each]
        if not pairs:
            raise DataError("no file fits the template", where=files[0], expected=templates[side])
        keys, files = [key for key, _ in pairs], [file for _, file in pairs]
    keyed = dict(zip(keys, files, strict=True))
    if len(keyed) < len(files):
        twins = sorted({key for key in keys if keys.count(key) > 1})
        raise DataError("several files have one name", where=files[0].parent, got=some_of(twins))
    return keyed
