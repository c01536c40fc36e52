"""Whether training in bf16 follows the curve of fp32: all five papers at tiny width, 20 seeds each.

The trainer itself updates the weights, by the papers' procedures, on smooth scenes that move, in
low light with noise. Both formats see the same scenes from the same initial weights. Prints and
writes a table, and draws the papers that are named, or all, to ``docs/images/bf16-curves.png``.
"""

import logging
import random
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import harness
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from llve_common.config import Precision
from llve_common.paper.contract import Paper, Plan, Sample
from llve_common.report.tables import Table
from llve_common.train.trainer import train
from llve_sci.paper import PAPER as SCI
from llve_sdsd.paper import PAPER as SDSD
from llve_sgz.paper import PAPER as SGZ
from llve_stcd.paper import PAPER as STCD
from llve_tcenet.paper import PAPER as TCENET

SEEDS = 20
BLOCK = 5
"""Updates that a point of a curve is a mean of."""

FORMATS: tuple[Precision, ...] = ("fp32", "bf16")
PLOT = Path(__file__).parents[1] / "docs" / "images" / "bf16-curves.png"


@dataclass(frozen=True)
class Case:
    """A paper, how often it updates the weights, its settings, and what makes a seed's sample."""

    paper: Paper
    updates: int
    options: dict[str, Any]
    sample: Callable[[int], Sample]


@dataclass(frozen=True)
class Scenes:
    """A training set that makes its samples."""

    make: Callable[[int], Sample]
    files: ClassVar[tuple[Path, ...]] = ()

    def __len__(self) -> int:
        return 64

    def file(self, index: int) -> Path:
        """A name for messages."""
        return Path(f"scene {index}")

    def sample(self, index: int, rng: random.Random) -> Sample:
        """Another scene whenever it is asked for."""
        return self.make(rng.randrange(2**31))


def main() -> None:
    """Train the papers that are named, or all; print, write and draw."""
    logging.disable()
    warnings.filterwarnings("ignore")
    chosen = [each for each in cases() if not sys.argv[1:] or each.paper.name in sys.argv[1:]]
    _, axes = plt.subplots(1, len(chosen), figsize=(3 * len(chosen), 2.6), squeeze=False)
    rows = []
    for axis, case in zip(axes[0], chosen, strict=True):
        found = {each: curves(case, each) for each in FORMATS}
        rows.append((case.paper.name, str(case.updates), *compared(*found.values())))
        print(*rows[-1], sep="  ", flush=True)
        axis.set(title=case.paper.title.partition(" ")[0], xlabel="update", yscale="log")
        for name, losses in found.items():
            places = (np.arange(losses.shape[1]) + 0.5) * BLOCK
            mean, spread = losses.mean(0), losses.std(0, ddof=1)
            axis.plot(places, mean, label=name)
            axis.fill_between(places, mean - spread, mean + spread, alpha=0.3)
    axes[0, 0].legend()
    plt.tight_layout()
    plt.savefig(PLOT, dpi=70)
    lasts = (f"last, {name}" for name in FORMATS)
    columns = ("", "updates", "first, fp32", *lasts, "difference", "in its standard error")
    title = f"Loss of {BLOCK} updates, mean ± deviation over {SEEDS} seeds"
    harness.write("curves", [Table(title, columns, tuple(rows))], {})


def cases() -> list[Case]:
    """Each paper at tiny width."""
    sdsd = {"nf": 8, "groups": 2, "front_blocks": 1, "back_blocks": 1}
    stcd = {"matcher": {"size": (32, 32)}}
    tcenet = {
        "network": {"features": 8, "blocks": 2},
        "objective": {"perceptual": False, "flow": "dis"},
    }
    one = {"batch_size": 1}
    plain = {"segmentation": {"use": False}}
    return [
        Case(SCI, 100, {"train": one}, lambda seed: {"low": scene(seed, 1, 16)[0][0]}),
        Case(SGZ, 60, {**plain, "train": one}, lambda seed: {"low": scene(seed, 1, 32)[0][0]}),
        Case(SDSD, 40, {"network": sdsd, "train": {**one, "fusion_only": 0}}, window),
        Case(STCD, 80, {"network": {"nf": 8}, "objective": stcd, "train": one}, pair),
        Case(TCENET, 30, {**tcenet, "train": {"batch_size": 2}}, clips),
    ]


def window(seed: int) -> Sample:
    """SDSD's: five dark frames and the bright one in the middle."""
    low, bright = scene(seed, 5, 16)
    return {"frames": low, "target": bright[2]}


def pair(seed: int) -> Sample:
    """STCD's: two frames, dark and bright."""
    (low1, low2), (high1, high2) = scene(seed, 2, 32)
    return {"low1": low1, "high1": high1, "low2": low2, "high2": high2}


def clips(seed: int) -> Sample:
    """TCE-Net's: six dark frames and the two bright ones in the middle, twice."""
    low, bright = scene(seed, 6, 16)
    clip = {"low": low, "target": bright[2:4]}
    return {"real": clip, "synthetic": clip}


def scene(seed: int, count: int, side: int) -> tuple[Tensor, Tensor]:
    """A view that moves by a pixel a frame, in low light with noise, and as it is."""
    chance = torch.Generator().manual_seed(seed)
    shades = torch.rand(1, 3, 6, 6, generator=chance)
    size = (side + count, side + count)
    whole = F.interpolate(shades, size, mode="bicubic", align_corners=False)[0].clamp(0, 1)
    bright = torch.stack([whole[:, at : at + side, at : at + side] for at in range(count)])
    noise = torch.randn(bright.shape, generator=chance)
    return (0.15 * bright + 0.01 * noise).clamp(0, 1), bright


def curves(case: Case, precision: Precision) -> NDArray[np.float64]:
    """The losses, (seeds, points), each a mean of a few updates."""
    procedure = replace(
        case.paper.procedures["train"],
        data=lambda settings: Scenes(case.sample),
        plan=lambda *_: Plan(case.updates, case.updates, case.updates),
        validation=lambda settings: [],
    )
    found: list[float] = []
    for seed in range(SEEDS):
        chosen = {"seed": seed, "precision": precision, "workers": 0, "lr": 1e-3}
        with tempfile.TemporaryDirectory() as folder:
            run = {"save": folder, "device": "cpu", "tensorboard": False}
            options = {**case.options, "train": case.options["train"] | chosen, "run": run}
            settings = procedure.settings.model_validate(options)
            train(case.paper, procedure, settings, watch=lambda *now: found.append(now[2]))
    return np.reshape(found, (SEEDS, -1, BLOCK)).mean(2)


def compared(exact: NDArray[np.float64], half: NDArray[np.float64]) -> tuple[str, ...]:
    """Cells: the loss at first and at last, the formats' difference, and that in its error."""
    lasts = [each[:, -1] for each in (exact, half)]
    difference = lasts[1].mean() - lasts[0].mean()
    error = np.sqrt(sum(each.var(ddof=1) for each in lasts) / SEEDS)
    cells = [f"{each.mean():.4g} ± {each.std(ddof=1):.2g}" for each in (exact[:, 0], *lasts)]
    return (*cells, f"{difference / lasts[0].mean():+.2%}", f"{difference / error:+.2f}")


if __name__ == "__main__":
    main()
