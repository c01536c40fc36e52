"""The page of a test: what was run, what it scored, and pictures of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llve_common.data.clip import read_frame
from llve_common.evaluate.test import Scores
from llve_common.io.images import Pixels, read_image
from llve_common.paper.contract import Clip
from llve_common.report.page import Group, Panel, Section, evenly_spread, write_page
from llve_common.report.tables import Table

PICTURES = 4
"""How many frames are shown, the middle ones of clips that are spread evenly over all."""


def write_test_page(
    path: Path,
    title: str,
    facts: Mapping[str, Any],
    tables: Sequence[Table],
    scores: Scores,
    clips: Sequence[Clip],
    saved: Callable[[Clip, Path], Path],
    details: Sequence[Section] = (),
) -> None:
    """Write a test's page, one HTML file that needs nothing beside it.

    Args:
        path: the file.
        title: of the page.
        facts: what the figures hold for; ``command`` among them.
        tables: of the scores.
        scores: of every frame.
        clips: that were tested.
        saved: gives the file of an enhanced frame.
        details: what else the paper has to show.

    Raises:
        MediaError: a picture cannot be read, or the page not written.
    """
    held = tuple((name, str(value)) for name, value in facts.items() if name != "command")
    sections = [
        Section("Scores", commands=[facts["command"]], tables=tables),
        Section(
            "Pictures",
            "Drag a handle: left of it is the input. Zoom, and move the pointer to choose a place.",
            groups=[_group(clip, frame, saved) for clip, frame in _shown(scores, clips)],
        ),
        *details,
        Section("What this holds for", tables=[Table("", ("", ""), held, words=True)]),
    ]
    lead = "The figures hold for these weights on this data alone."
    write_page(path, title, lead, sections)


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
