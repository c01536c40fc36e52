"""The page of a test: what was run, what it scored, and pictures of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from llve_common.evaluate.meter import evenly_spread
from llve_common.evaluate.scores import Scores
from llve_common.evaluate.test import Tested
from llve_common.io.frames import Frame
from llve_common.io.images import Pixels, read_image
from llve_common.paper.contract import Clip, Detail, FileOf
from llve_common.report.page import Group, Panel, Section, write_page
from llve_common.report.tables import FURTHER, STEADINESS, STEADINESS_UNITS, Column, Table

PICTURES = 4
"""How many frames are shown, the middle ones of clips that are spread evenly over all."""

_FIDELITY = (
    Column("PSNR", "psnr", ".3f"), Column("SSIM", "ssim", ".4f"), Column("FSIM", "fsim", ".4f"),
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
    return _before_and_after(f"{title} (PSNR in dB; SSIM: {ssim_definition})", shown, rows)


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
    text = "Drag the handle. The lists, or a click on a picture, choose what is on its two sides."
    details = [_detail_group(detail) for detail in tested.details if detail.pictures]
    sections = [
        Section("Scores", commands=[facts["command"]], tables=tables),
        Section("Pictures", text, groups=_groups(tested)),
        *([Section("In detail", groups=details)] if details else []),
        Section("What this holds for", tables=[Table("", ("", ""), held, words=True)]),
    ]
    lead = "The figures hold for these weights on this data alone."
    write_page(path, f"{tested.model.paper.title}, tested", lead, sections)


def _detail_group(detail: Detail) -> Group:
    return Group(detail.text, [Panel(name, [each]) for name, each in detail.pictures.items()])


def _groups(tested: Tested) -> list[Group]:
    """Some clips with a frame each, or of a single clip some frames."""
    frames = [
        [(clip, one.index) for one in tested.scores.frames if one.clip == clip.name]
        for clip in tested.clips
    ]
    if len(frames) == 1:
        shown = evenly_spread(frames[0], PICTURES)
    else:
        shown = [each[len(each) // 2] for each in evenly_spread(frames, PICTURES)]
    saved = tested.pictures.enhanced
    assert saved is not None
    return [_group(clip, index, saved) for clip, index in shown]


def _group(clip: Clip, index: int, saved: FileOf) -> Group:
    file = clip.file(index)
    enhanced = read_image(saved(clip, file)).pixels

    def alike(frame: Frame) -> Pixels:
        # A test may crop what the network cannot take, at the bottom and right.
        height, width = enhanced.shape[:2]
        return frame.image.pixels[:height, :width]

    panels = [Panel("input", [alike(next(clip.read(index)))]), Panel("enhanced", [enhanced])]
    targets = islice(clip.read_targets(index), 1)
    panels += [Panel("ground truth", [alike(frame)]) for frame in targets]
    return Group(f"{clip.name}, {file.name}", panels)
