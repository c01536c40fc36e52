"""The page of a test: what was run, what it scored, and pictures of it."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from llve_common.clips.frames import Frame
from llve_common.evaluate.meter import evenly_spread
from llve_common.evaluate.scores import FrameScore, Scores
from llve_common.evaluate.test import Tested
from llve_common.io.images import read_image, to_webp
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
        Section("Pictures", HANDLE, groups=_groups(tested)),
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
    enhanced = [read_image(saved(clip, clip.file(one.index))).pixels for one in scored]
    height, width = enhanced[0].shape[:2]

    def panel(label: str, frames: Iterator[Frame], said: list[str]) -> Panel:
        # A test may crop what the network cannot take, at the bottom and right.
        pixels = (frame.image.pixels[:height, :width] for frame in islice(frames, len(scored)))
        return Panel(label, [to_webp(each) for each in pixels], said=said)

    panels = [
        panel("input", clip.read(first), _said(scored, "input_")),
        Panel("enhanced", [to_webp(each) for each in enhanced], said=_said(scored, "")),
    ]
    if clip.targets is not None:
        panels.append(panel("ground truth", clip.read_targets(first), []))
    return Group(f"{clip.name}, {names[0]}" if len(names) == 1 else clip.name, panels, names)


def _said(scored: Sequence[FrameScore], prefix: str) -> list[str]:
    return [listed((*_FIDELITY, *FURTHER), one.values, prefix) for one in scored]
