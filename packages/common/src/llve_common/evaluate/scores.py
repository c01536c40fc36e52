"""What frames and clips scored, and the files that hold it."""

import json
import math
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel

from llve_common.config import checked
from llve_common.errors import UserError
from llve_common.io.atomic import write_text
from llve_common.io.images import IMAGE_SUFFIXES


@dataclass(frozen=True)
class FrameScore:
    """What one enhanced frame scored, nothing without ground truth, and the pictures written of it.

    ``frame`` is its name (:meth:`llve_common.clips.clip.Clip.label`), ``index`` its place from 0.
    """

    clip: str
    frame: str
    index: int
    values: dict[str, float]
    seconds: float
    pictures: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Scores:
    """The scores of every frame, and the two means that published tables use.

    Attributes:
        frames: in order.
        temporal: what each clip scored as a whole, where that was asked for.
        flow: what the flow of their warping error is called.
    """

    frames: tuple[FrameScore, ...]
    temporal: dict[str, dict[str, float]] = field(default_factory=dict)
    flow: str | None = None

    @property
    def per_clip(self) -> dict[str, dict[str, float]]:
        """The mean of each clip's frames, and what the clip scored as a whole."""
        clips: dict[str, list[dict[str, float]]] = {}
        for frame in self.frames:
            clips.setdefault(frame.clip, []).append(frame.values)
        return {name: mean_of(rows) | self.temporal.get(name, {}) for name, rows in clips.items()}

    @property
    def mean_of_frames(self) -> dict[str, float]:
        """The mean of all frames, whatever clip they are of."""
        return mean_of([frame.values for frame in self.frames])

    @property
    def mean_of_clips(self) -> dict[str, float]:
        """The mean of the clips' means."""
        return mean_of(list(self.per_clip.values()))


def mean_of(rows: Collection[Mapping[str, float]]) -> dict[str, float]:
    """Each score's mean over the rows that have it."""
    # A clip without ground truth, or of a single frame, lacks some scores.
    names = {name: None for row in rows for name in row}
    return {name: fmean(row[name] for row in rows if name in row) for name in names}


def write_scores(scores: Scores, folder: Path, facts: dict[str, Any]) -> None:
    """Write ``scores.jsonl``, a line for each frame, and ``summary.json``, the means and facts.

    Raises:
        MediaError: the files cannot be written.
    """
    lines = []
    for one in scores.frames:
        line = {"clip": one.clip, "frame": one.frame, **one.values}
        below = [file for file in one.pictures if file.is_relative_to(folder)]
        more = {"pictures": [file.relative_to(folder).as_posix() for file in below]}
        lines.append({**line, "seconds": round(one.seconds, 6), **(more if below else {})})
    write_text(folder / "scores.jsonl", "".join(json.dumps(plain(line)) + "\n" for line in lines))
    summary = {
        **facts,
        "frames": len(scores.frames),
        "mean_of_frames": scores.mean_of_frames,
        "mean_of_clips": scores.mean_of_clips,
        "per_clip": scores.per_clip,
    }
    write_text(folder / "summary.json", json.dumps(plain(summary), indent=2) + "\n")


class _Line(BaseModel):
    pictures: tuple[str, ...] = ()


def remove_earlier(folder: Path, kept: Iterable[Path]) -> None:
    """Remove what an earlier test wrote to a folder and the next may not: pictures, table and page.

    Pictures that are ``kept``, or that the earlier test's scores do not name, stay.
    """
    scores, stays = folder / "scores.jsonl", {file.resolve() for file in kept}
    if not scores.is_file():
        return
    names: list[str] = []
    with suppress(UserError):  # another program's file
        for line in scores.read_bytes().splitlines():
            names += checked(_Line, line, scores).pictures
    pictures = (name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES)
    for file in (folder / name for name in ("summary.md", "index.html", *pictures)):
        if ".." not in file.parts and file.is_relative_to(folder) and file.resolve() not in stays:
            file.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """The same with infinite numbers, the PSNR of equal images, as text: JSON has none."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value
