"""A paired set in DS-LOL's layout from ordinary videos, by simulated low light.

``<out>/low_and_noise/<clip>/%05d.png`` and ``<out>/normal/<clip>/%05d.png``, with the drawn
parameters beside each clip, ``<out>/low_and_noise/<clip>.json``, and ``<out>/train_list.txt``. The
paper's own parameters are not at hand: the ranges are :mod:`llve_common.data.lowlight`'s. Every
pixel follows from the source and the seed, so a run that was stopped goes on where it was.
"""

import json
import logging
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from llve_common.clips.frames import open_source
from llve_common.config import NonNegativeInt, checked
from llve_common.data.lowlight import DarkeningRanges, darken, draw_darkening
from llve_common.errors import DataError, printable
from llve_common.io.atomic import write_text
from llve_common.io.images import in_8_bits, write_image
from llve_tcenet.data import WINDOW

log = logging.getLogger(__name__)

LOW, NORMAL = "low_and_noise", "normal"
RANGES = DarkeningRanges()


def clip_names(sources: list[Path], root: Path) -> dict[str, Path]:
    """Each source by its clip's name, which is made of its path below ``root``.

    Raises:
        DataError: two sources have one name.
    """
    named: dict[str, Path] = {}
    for source in sources:
        below = source.relative_to(root) if source != root else Path(root.name)
        # A line of the list.
        name = printable("_".join((below if source.is_dir() else below.with_suffix("")).parts))
        if name in named:
            what, got = "two sources would become one clip", f"{named[name]} and {source}"
            raise DataError(what, where=name, got=got, mend="rename one of them")
        named[name] = source
    return named


def simulate_clip(source: Path, name: str, out: Path, seed: int) -> int:
    """Write one clip and, last, its parameters, and return the number of its frames.

    A clip that has its parameters is left as it is. Parameters and noise follow from the set's seed
    and the clip's name.

    Raises:
        DataError: the clip is there already, made otherwise, or its parameters are damaged.
        MediaError: a frame cannot be read or written.
    """
    rng = random.Random(f"{seed}/{name}")  # noqa: S311
    darkening = draw_darkening(RANGES, rng)
    record = {"source": source.name, "seed": seed, **asdict(darkening)}
    file = out / LOW / f"{name}.json"
    if file.is_file():
        return _finished(file, record)
    noise = np.random.default_rng(rng.getrandbits(64))
    count = 0
    with open_source(source) as opened:
        for frame in opened.frames:
            pixels, place = in_8_bits(frame.image.pixels), f"{name}/{count:05d}.png"
            write_image(out / LOW / place, darken(pixels, darkening, noise))
            write_image(out / NORMAL / place, pixels)
            count += 1
    write_text(file, json.dumps({**record, "frames": count}, indent=2) + "\n")
    return count


def write_list(out: Path, counts: dict[str, int]) -> None:
    """Write ``train_list.txt``: the clips that are long enough to train on."""
    short = [name for name, count in counts.items() if count < WINDOW]
    if short:
        log.warning("not on the list, under %d frames: %s", WINDOW, ", ".join(short))
    names = [name for name in counts if name not in short]
    write_text(out / "train_list.txt", "".join(f"{name}\n" for name in names))


class _Record(BaseModel, extra="allow"):
    __pydantic_extra__: dict[str, float]
    source: str
    seed: int
    frames: NonNegativeInt


def _finished(file: Path, record: dict[str, Any]) -> int:
    there = checked(_Record, file, file).model_dump()
    count: int = there.pop("frames")
    if there != record:
        got, expected = (", ".join(f"{k} {v}" for k, v in each.items()) for each in (there, record))
        raise DataError(
            "the clip is there already, made otherwise",
            where=file,
            got=got,
            expected=expected,
            mend="give a new folder, or the seed that the clip was made with",
        )
    return count
