"""The page of a test: what was run, what it scored, and pictures of it."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from llve_common.evaluate.meter import LONGEST_SIDE, evenly_spread, reduced
from llve_common.evaluate.scores import FrameScore, Scores
from llve_common.evaluate.test import Tested
from llve_common.io.images import Image, image_size, in_8_bits, read_image, to_webp
from llve_common.paper.contract import Clip, FileOf
from llve_common.report.page import HANDLE, Group, Panel, Section, write_page
from llve_common.report.tables import (
    FURTHER,
    LPIPS,
    LPIPS_VERSION,
    STEADINESS,
    STEADINESS_UNITS,
    Column,
    Table,
    listed,
)

PICTURES = 4
"""How many images or clips are shown, spread evenly over all."""
FRAMES = 32
"""How many frames of clips are shown, of all clips together."""

_REDUCED = f"Those of more than {LONGEST_SIDE} pixels a side are reduced here, not in their files."

_FIDELITY = (
    Column("PSNR", "psnr", ".3f"), Column("SSIM", "ssim", ".4f"), Column("FSIM", "fsim", ".4f"),
    LPIPS,
)  # fmt: skip
_WHEN = (("before", "input_"), ("after", ""))


def test_tables(tested: Tested) -> list[Table]:
    """The tables of what a test scored; none without ground truth or a flow."""
    scores, scoring, title = tested.scores, tested.scoring, tested.model.paper.title
    tables = []
    if tested.clips[0].targets is not None or scores.mean_of_frames:
        tables.append(score_table(scores, title, ssim_definition=scoring.ssim))
    if scoring.flow is not None:
        tables.append(steadiness_table(scores, title))
    return tables


def score_table(scores: Scores, title: str, *, ssim_definition: str) -> Table:
    """PSNR, SSIM and what else was measured of the frames, before and after.

    There is a row for each frame of a single clip, or for each clip.
    """
    shown = [each for each in (*_FIDELITY, *FURTHER) if each.score in scores.mean_of_frames]
    shown = shown or list(_FIDELITY[:2])
    rows = list(scores.per_clip.items())
    if len(rows) == 1:
        rows = [(frame.frame, frame.values) for frame in scores.frames]
    rows.append((f"mean of {len(scores.frames)} frames", scores.mean_of_frames))
    if len(scores.per_clip) > 1:
        rows.append((f"mean of {len(scores.per_clip)} clips", scores.mean_of_clips))
    said = f"; {LPIPS_VERSION}" if LPIPS in shown else ""
    return _before_and_after(f"{title} (PSNR in dB; SSIM: {ssim_definition}{said})", shown, rows)


def steadiness_table(scores: Scores, title: str) -> Table:
    """The temporal scores before and after, a row for each clip."""
    rows = list(scores.temporal.items())
    if len(rows) > 1:
        rows.append((f"mean of {len(rows)} clips", scores.mean_of_clips))
    said = f"{STEADINESS_UNITS}; warping error by {scores.flow}"
    return _before_and_after(f"{title} ({said})", STEADINESS, rows)


def _before_and_after(
    title: str, shown: Sequence[Column], rows: Sequence[tuple[str, Mapping[str, float]]]
) -> Table:
    scores = [(each, when, prefix) for each in shown for when, prefix in _WHEN]
    columns = [f"{each.heading} {when}" for each, when, _ in scores]
    cells = [
        (name, *(each.cell(values.get(f"{prefix}{each.score}")) for each, _, prefix in scores))
        for name, values in rows
    ]
    return Table(title, ("", *columns), tuple(cells))


def write_test_page(
    path: Path, tested: Tested, facts: Mapping[str, Any], tables: Sequence[Table]
) -> None:
    """Write the page of a test that wrote its enhanced frames, one file that needs nothing beside.

    The facts are what the figures hold for; ``command`` is among them.

    Raises:
        MediaError: a picture cannot be read, or the page not written.
    """
    held = tuple((name, str(value)) for name, value in facts.items() if name != "command")
    details = [
        Group(each.text, [Panel(name, [picture]) for name, picture in each.pictures.items()])
        for each in tested.details if each.pictures
    ]  # fmt: skip
    sections = [
        Section("Pictures", f"{HANDLE} {_REDUCED}", groups=_groups(tested)),
        Section("Scores", commands=[facts["command"]], tables=tables),
        *([Section("In detail", groups=details)] if details else []),
        Section("What this holds for", tables=[Table("", ("", ""), held, words=True)]),
    ]
    lead = f"{_means(tested.scores)}The figures hold for these weights on this data alone."
    write_page(path, f"{tested.model.paper.title}, tested", lead, sections)


def _means(scores: Scores) -> str:
    """What one came for, in a sentence; nothing without scores."""
    means = scores.mean_of_frames
    before, after = (listed(_FIDELITY, means, prefix, ", ") for _, prefix in _WHEN)
    count = len(scores.frames)
    return f"Enhanced: {after}; input: {before} (mean of {count} frames). " if after else ""


def _groups(tested: Tested) -> list[Group]:
    """Some images, or some clips with frames from their middle."""
    scored: dict[str, list[FrameScore]] = {}
    for one in tested.scores.frames:
        scored.setdefault(one.clip, []).append(one)
    clips = [(clip, scored[clip.name]) for clip in tested.clips if clip.name in scored]
    if tested.model.paper.kind == "image":
        # The images of a folder are one clip here, and may differ in size.
        clips = [(clip, [one]) for clip, frames in clips for one in frames]
    clips = evenly_spread(clips, PICTURES)
    saved = tested.pictures.enhanced
    assert saved is not None
    return [_group(clip, _middle(frames, FRAMES // len(clips)), saved) for clip, frames in clips]


def _middle(frames: list[FrameScore], count: int) -> list[FrameScore]:
    start = max(0, (len(frames) - count) // 2)
    return frames[start : start + count]


def _group(clip: Clip, scored: Sequence[FrameScore], saved: FileOf) -> Group:
    first = scored[0].index
    names = [clip.file(one.index).name for one in scored]
    files = [saved(clip, clip.file(one.index)) for one in scored]
    height, width = image_size(files[0])

    def panel(label: str, images: Iterator[Image], said: list[str]) -> Panel:
        # A test may crop what the network cannot take, at the bottom and right. One by one, since
        # a clip's frames of full size may be more than the memory holds.
        pixels = (in_8_bits(each.pixels[:height, :width]) for each in islice(images, len(files)))
        return Panel(label, [to_webp(reduced(each)) for each in pixels], said=said)

    panels = [
        panel("input", (each.image for each in clip.read(first)), _said(scored, "input_")),
        panel("enhanced", map(read_image, files), _said(scored, "")),
    ]
    if clip.targets is not None:
        truth = (each.image for each in clip.read_targets(first))
        panels.append(panel("ground truth", truth, []))
    return Group(f"{clip.name}, {names[0]}" if len(names) == 1 else clip.name, panels, names)


def _said(scored: Sequence[FrameScore], prefix: str) -> list[str]:
    return [listed((*_FIDELITY, *FURTHER), one.values, prefix) for one in scored]
