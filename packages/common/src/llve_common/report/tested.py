"""The page of a test: what was run, what it scored, and pictures of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llve_common.data.clip import read_frame
from llve_common.evaluate.test import Scores, Tested
from llve_common.io.images import Pixels, read_image
from llve_common.paper.contract import Clip, Detail
from llve_common.report.page import Group, Panel, Section, evenly_spread, write_page
from llve_common.report.tables import Table, score_table, steadiness_table

PICTURES = 4
"""How many frames are shown, the middle ones of clips that are spread evenly over all."""


def test_tables(tested: Tested) -> list[Table]:
    """The tables of what a test scored; none without ground truth or a flow."""
    scores, scoring, title = tested.scores, tested.scoring, tested.model.paper.title
    tables = []
    if tested.clips[0].targets is not None:
        tables.append(score_table(scores, title, ssim_definition=scoring.ssim))
    if scoring.flow is not None:
        tables.append(steadiness_table(scores, title))
    return tables


def write_test_page(
    path: Path, tested: Tested, facts: Mapping[str, Any], tables: Sequence[Table]
) -> None:
    """Write a test's page, one HTML file that needs nothing beside it.

    Args:
        path: the file.
        tested: a test that wrote its enhanced frames.
        facts: what the figures hold for; ``command`` among them.
        tables: of the scores.

    Raises:
        MediaError: a picture cannot be read, or the page not written.
    """
    held = tuple((name, str(value)) for name, value in facts.items() if name != "command")
    saved = tested.pictures.enhanced
    assert saved is not None
    shown = _shown(tested.scores, tested.clips)
    sections = [
        Section("Scores", commands=[facts["command"]], tables=tables),
        Section(
            "Pictures",
            "Drag a handle: left of it is the input. Zoom, and move the pointer to choose a place.",
            groups=[_group(clip, frame, saved) for clip, frame in shown],
        ),
        *_details(tested.details),
        Section("What this holds for", tables=[Table("", ("", ""), held, words=True)]),
    ]
    lead = "The figures hold for these weights on this data alone."
    write_page(path, f"{tested.model.paper.title}, tested", lead, sections)


def _details(details: Sequence[Detail]) -> Iterator[Section]:
    groups = []
    for detail in details:
        if detail.pictures:
            (label, before), *others = detail.pictures.items()
            panels = [Panel(name, picture) for name, picture in others]
            groups.append(Group(detail.text, before, label, panels))
    if groups:
        yield Section("In detail", groups=groups)


def _shown(scores: Scores, clips: Sequence[Clip]) -> list[tuple[Clip, int]]:
    """Some clips with a frame each, or of a single clip some frames."""
    tested = {(frame.clip, frame.frame) for frame in scores.frames}
    frames = [
        [(clip, n) for n, file in enumerate(clip.frames) if (clip.name, file.name) in tested]
        for clip in clips
    ]
    if len(frames) == 1:
        return evenly_spread(frames[0], PICTURES)
    return [each[len(each) // 2] for each in evenly_spread(frames, PICTURES)]


def _group(clip: Clip, index: int, saved: Callable[[Clip, Path], Path]) -> Group:
    frame = clip.frames[index]
    enhanced = read_image(saved(clip, frame)).pixels

    def alike(file: Path) -> Pixels:
        # A test may crop what the network cannot take, at the bottom and right.
        height, width = enhanced.shape[:2]
        return read_frame(file, clip.size)[:height, :width]

    panels = [Panel("enhanced", enhanced)]
    if clip.targets is not None:
        panels.append(Panel("ground truth", alike(clip.targets[index])))
    return Group(f"{clip.name}, {frame.name}", alike(frame), "input", panels)
