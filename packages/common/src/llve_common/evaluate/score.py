"""Anybody's results scored under every protocol that tables use, side by side.

A table's PSNR depends on more than the images: on colours, on brightness that was matched first
(*GT-mean*), on borders that were left out, on how depths and sizes were brought together, on what
is averaged. Here each way is a row, so that a figure can be found among them.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from llve_common.clips.clip import Clip, fitted, frames_in_all
from llve_common.clips.folders import some_of
from llve_common.clips.frames import Watcher, open_source
from llve_common.errors import ConfigError, DataError, MediaError, in_one_line
from llve_common.evaluate.meter import STRIP_FRAMES, Measure, require_truth
from llve_common.evaluate.pairing import Matched, match
from llve_common.evaluate.protocols import find_protocol, find_set
from llve_common.evaluate.rows import ELSE_RGB, ROWS, rows_of
from llve_common.evaluate.scores import mean_of
from llve_common.io.images import Pixels, in_8_bits, read_image, size_of
from llve_common.metrics.fidelity import fsim
from llve_common.metrics.quality import Eight, further
from llve_common.metrics.temporal import DIS, GuideFlow, Mabd, NamedFlow, WarpingError

Place = tuple[Path, int]
CLIPS_SHOWN = 6
"""Of so many clips the strips and curves are kept."""


@dataclass(frozen=True)
class ScoredFrame:
    """One result: ``values[row][measure]``, and ``alone[measure]`` of :func:`~quality.further`.

    ``file`` and ``target`` are an image file and 0, or a video and the frame's number in it.
    """

    clip: str
    frame: str
    file: Place
    target: Place | None
    values: dict[str, dict[str, float]]
    alone: dict[str, float]


@dataclass(frozen=True)
class OverTime:
    """What is shown of a clip, of ``result``, ``ground truth`` and ``input``, as far as given.

    Attributes:
        strips: one row of pixels of its first frames, (frames, W, 3).
        curves: the mean absolute difference in brightness to the frame before, from the second on.
    """

    strips: dict[str, Eight]
    curves: dict[str, list[float]]


@dataclass
class Scored:
    """What results scored.

    Attributes:
        frames: in order.
        temporal: of each clip: ``warping_error``, ``mabd``, and ``mabd_mse`` against ground truth.
        over_time: of the first clips, what is shown of them.
        notes: what a reader must know, such as results that lack a partner.
        missing: whether something was left out.
        flow: what the flow of the warping error is called.
        protocol: whose test this is.
    """

    frames: list[ScoredFrame] = field(default_factory=list)
    temporal: dict[str, dict[str, float]] = field(default_factory=dict)
    over_time: dict[str, OverTime] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    missing: bool = False
    flow: str = DIS.name
    protocol: str | None = None

    def note(self, said: str) -> None:
        """Add a note; of one kind, what stands before its first comma, the first alone."""
        if not any(note.startswith(said.partition(",")[0]) for note in self.notes):
            self.notes.append(said)

    def means(self, over: str = "frames") -> dict[str, dict[str, float]]:
        """Protocol to measure to the mean over ``frames``, or over ``clips`` of their means."""
        groups: dict[str, list[dict[str, dict[str, float]]]] = {}
        for frame in self.frames:
            groups.setdefault(frame.clip if over == "clips" else "", []).append(frame.values)
        values = [frame.values for frame in self.frames]
        found: dict[str, dict[str, float]] = {}
        for protocol in ROWS:
            # Every row is over all frames: one that some are too small for is none.
            some = any if protocol in ELSE_RGB else all
            if values and some(protocol in each for each in values):
                found[protocol] = mean_of(
                    [mean_of([each.get(protocol) or each["RGB"] for each in group])
                     for group in groups.values()]
                )  # fmt: skip
        return found

    def means_alone(self) -> dict[str, float]:
        """The means, over frames, of what needs no ground truth; over time, over clips."""
        return mean_of([*(frame.alone for frame in self.frames), *self.temporal.values()])

    def by_protocol(self) -> list[str]:
        """The protocol's own figures, and what of it was not at hand; nothing without one."""
        if self.protocol is None:
            return []
        protocol, count = find_protocol(self.protocol), len(self.frames)
        ssim_name = f"ssim_{protocol.ssim}"
        if not protocol.high:
            figures = [f"{name.upper()} {value:.4f}" for name, value in self.means_alone().items()]
        else:
            row = self.means(protocol.mean or "frames")["RGB"]
            figures = [f"PSNR {row['psnr']:.3f} dB"]
            if ssim_name in row:
                figures.append(f"SSIM {protocol.ssim} {row[ssim_name]:.4f}")
            figures.append(f"over RGB, mean of {protocol.mean or 'frames'}")
        clips = len({frame.clip for frame in self.frames})
        there = f"{count} images" if protocol.kind == "images" else f"{count} frames, {clips} clips"
        of = f", of {protocol.count} {protocol.kind}" if protocol.count else ""
        lines = [f"{self.protocol}: {', '.join(figures)}; {there}{of}"]
        lines += [f"{self.protocol}, tables differ: {each}" for each in protocol.differs]
        if protocol.not_at_hand:
            lines.append(f"{self.protocol}, not at hand: {', '.join(protocol.not_at_hand)}")
        return lines

    def agreeing(self, said: str) -> list[str]:
        """The rows whose figure, rounded to as many digits as ``said`` has, is that number.

        Where none is, the nearest three with their differences. Each says what would have to be
        true of the table.

        Raises:
            ConfigError: ``said`` is no number, or there is no ground truth.
        """
        number, digits = figure_said(said)
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
            + f": the table was then computed {ROWS[protocol]}"
            for apart, value, measure, protocol, over in (exact or sorted(figures)[:3])
        ]


def figure_said(said: str) -> tuple[float, int]:
    """A table's figure, and how many digits it has after the point.

    Raises:
        ConfigError: it is no number.
    """
    if re.fullmatch(r"\d+(\.\d*)?|\.\d+", said) is None:
        raise ConfigError("not a figure of a table", where="--paper-says", got=said)
    return float(said), len(said.partition(".")[2])


def score(
    results: Path | str,
    reference: Path | str | None = None,
    *,
    inputs: Path | str | None = None,
    pair: str = "name",
    clip: bool = False,
    protocol: str | None = None,
    similarity: bool = False,
    distance: Measure | None = None,
    flow: NamedFlow = DIS,
    watch: Watcher | None = None,
) -> Scored:
    """Score results that any program wrote.

    Args:
        results: a folder of images, of clips (folders of frames, or videos), or a video.
        reference: the ground truth, likewise; with a protocol, also the data set's folder.
        inputs: the images as they were, for LOE; paired as the ground truth is, or under a
            protocol by its own names.
        pair: ``name``: files of one stem; ``order``; or a template such as ``{}_out=gt_{}`` for
            the stems of results and of the others.
        clip: the images in one folder are the frames of a clip.
        protocol: whose test to score: its names, frames and size (``llve protocols``).
        similarity: measure FSIM and FSIMc too, against ground truth.
        distance: LPIPS (:func:`llve_common.weights.pretrained.perceptual_distance`), likewise.
        flow: how motion is estimated for the warping error, on the ground truth, else on inputs.
        watch: is told (frames done, frames in all as far as known).

    Raises:
        ConfigError: the template or the protocol is none, or ground truth is needed and not given.
        DataError: a folder is missing or empty, or nothing has a partner.
        MediaError: no file can be decoded. One that cannot is named in the notes and left out,
            with its clip.
        UserError: FSIM's library is not installed.
    """
    against: dict[str, Measure] = {}
    if similarity:
        against |= {"fsim": fsim, "fsimc": partial(fsim, chromatic=True)}
    if distance is not None:
        against["lpips"] = distance
    require_truth(against, there=reference is not None)
    scored = Scored(flow=flow.name, protocol=protocol)
    folders = [None if each is None else Path(each) for each in (reference, inputs)]
    whose = None if protocol is None else find_protocol(protocol)
    if whose is not None:
        if whose.high and reference is None:
            mend = "--reference: the data set's folder, or its ground truth"
            raise ConfigError(f"{protocol} needs ground truth", mend=mend)
        folders[0] = _truth_of(str(protocol), Path(reference)) if reference else None
        pair = whose.pair if pair == "name" else pair
    lacking: list[str] = []
    sets = list(match(Path(results), folders, pair, lacking, together=clip, protocol=whose))
    if whose is not None and whose.test:
        got = {each.result.name for each in sets if each.result.name}
        stems = {file.stem for each in sets for file in each.result.frames}
        missing = whose.missing(got if whose.kind == "clips" else stems)
        lacking += [f"{name}, which {protocol} tests, has no result" for name in missing]
    if not sets:
        raise DataError("no clip of results can be scored", where=results, got=some_of(lacking))
    if lacking:
        scored.missing = True
        scored.notes.append(f"left out: {some_of(lacking)}")
    sets = [part for each in sets for part in (each.parts() if each.result.name == "" else [each])]
    total = frames_in_all(each.result for each in sets)
    failure = None
    for each in sets:
        before = len(scored.frames)
        try:
            _score_clip(
                each, flow, scored, against, lambda: watch and watch(len(scored.frames), total)
            )
        except (DataError, MediaError) as error:
            del scored.frames[before:]
            scored.missing, failure = True, error
            scored.notes.append(f"left out: {in_one_line(error.at(each.result.place))}")
    if failure is not None and not scored.frames:
        raise failure
    scored.notes += _not_of_all([frame.alone for frame in scored.frames])
    return scored


def _not_of_all(rows: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """A sentence for each measure that some frames do not have, and its mean leaves out."""
    for name in dict.fromkeys(["niqe", *(name for row in rows for name in row)]):
        count = sum(name in row for row in rows)
        if count < len(rows):
            said = name.replace("_", " ") if "_" in name else name.upper()
            yield (
                f"{said}: {count} of {len(rows)} frames have one; the others are too small, too "
                "flat or not grey enough for it"
            )


def _truth_of(protocol: str, reference: Path) -> Path:
    """The ground truth in a data set's folder, or the folder itself where it holds just that.

    Raises:
        DataError: the folder is the data set's, and holds its inputs alone.
    """
    try:
        found, expected = find_set(protocol, reference), find_protocol(protocol).high
    except DataError:
        return reference
    if found.high is None and expected:
        what = "the data set's ground truth is not there"
        raise DataError(what, where=reference, expected=f"in it: {' or '.join(expected)}")
    return found.high or reference


class _OverTime:
    """What is measured of a clip over time, and what is shown of it."""

    def __init__(self, flow: NamedFlow) -> None:
        self._guide, self._warping, self._mabd = GuideFlow(flow.estimate), WarpingError(), Mabd()
        self._strips: dict[str, list[Eight]] = {"result": [], "ground truth": [], "input": []}
        self._curves: dict[str, list[float]] = {"result": [], "ground truth": []}

    def add(self, result: Eight, target: Eight | None, source: Eight | None) -> None:
        """The next frame, its ground truth and its input, all of one size."""
        guide = source if target is None else target
        self._warping.update(result, None if guide is None else self._guide.next(guide))
        changes = self._mabd.update(result, target)
        for change, curve in zip(changes, self._curves.values(), strict=True):
            if change is not None:
                curve.append(change)
        for pixels, strip in zip((result, target, source), self._strips.values(), strict=True):
            if pixels is not None and len(strip) < STRIP_FRAMES:
                strip.append(pixels[pixels.shape[0] // 2].copy())

    def figures(self) -> dict[str, float]:
        """What could be measured."""
        mabd = self._mabd.compute()
        found = {
            "warping_error": self._warping.compute(), "mabd": mabd.mean, "mabd_mse": mabd.mse,
        }  # fmt: skip
        return {name: value for name, value in found.items() if value is not None}

    def shown(self) -> OverTime:
        """The strips of pixels and the curves."""
        return OverTime(
            {name: np.stack(strip) for name, strip in self._strips.items() if len(strip) > 1},
            {name: curve for name, curve in self._curves.items() if curve},
        )


def _score_clip(
    matched: Matched,
    flow: NamedFlow,
    scored: Scored,
    against: Mapping[str, Measure],
    advance: Callable[[], object],
) -> None:
    clip, target, source = matched.result, matched.target, matched.source
    readers = [None if each is None else _pixels(each) for each in (target, source)]
    over_time = _OverTime(flow) if clip.name else None
    index = -1
    for index, result in enumerate(_pixels(clip)):
        file = clip.file(index)
        wanted, before = (_next(each, file) for each in readers)
        if wanted is not None and result.shape != wanted.shape:
            scored.note(
                "results differ in size from their ground truth and were resized bilinearly, such "
                f"as {file.name}: {size_of(result)}, not {size_of(wanted)}"
            )
        # Beside ground truth at its size, else at its own.
        eight = in_8_bits(result)
        eight = fitted(eight, None if wanted is None else wanted.shape[1::-1])
        high, low = (
            None if each is None else fitted(in_8_bits(each), eight.shape[1::-1])
            for each in (wanted, before)
        )
        alone = further(eight, low, high)
        try:
            values = {} if wanted is None else rows_of(result, wanted)
            if high is not None:
                alone |= {name: measure(eight, high) for name, measure in against.items()}
        except DataError as error:
            raise error.at(file) from None
        own, other = _place(clip, index), None if target is None else _place(target, index)
        scored.frames.append(ScoredFrame(clip.name, file.name, own, other, values, alone))
        if over_time is not None:
            over_time.add(eight, high, low)
        advance()
    for reader in readers:
        if reader is not None and next(reader, None) is not None:
            what = "its ground truth or input has more frames than the result"
            raise DataError(what, where=clip.place, got=index + 1)
    if over_time is not None and (figures := over_time.figures()):
        scored.temporal[clip.name] = figures
        if len(scored.over_time) < CLIPS_SHOWN:
            scored.over_time[clip.name] = over_time.shown()


def _next(reader: Iterator[Pixels] | None, file: Path) -> Pixels | None:
    found = None if reader is None else next(reader, None)
    if reader is not None and found is None:
        raise DataError("its ground truth or input ends before this frame", where=file)
    return found


def _place(clip: Clip, index: int) -> Place:
    return (clip.frames[0], index) if clip.of_video else (clip.frames[index], 0)


def _pixels(clip: Clip) -> Iterator[Pixels]:
    """Frames in their own depth, resized as the clip says, one at a time."""
    if clip.of_video:
        with open_source(clip.frames[0]) as source:
            for frame in islice(source.frames, clip.length):
                yield fitted(frame.image.pixels, clip.size)
    else:
        for file in clip.frames:
            yield fitted(read_image(file).pixels, clip.size)
