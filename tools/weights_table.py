"""Weights beside a gamma curve and the input, on images with ground truth.

Prints PSNR, SSIM, warping error along the ground truth's motion, and the mean colour error on
near-grey objects: the distance in CIELAB's a and b where the ground truth's own
chroma is under 8 and its lightness between 30 and 95.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from llve_common.config import Ssim
from llve_common.data.clip import Clip, image_clips, paired_clips
from llve_common.enhance.frames import frame_enhancer
from llve_common.io.images import in_8_bits
from llve_common.metrics.fidelity import psnr, ssim
from llve_common.metrics.temporal import GuideFlow, WarpingError
from llve_common.paper.installed import installed_papers, load_paper
from llve_common.weights.network import load_model

Pixels = NDArray[np.uint8]
_GREY, _LIGHT = 8, (30, 95)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("low", type=Path, help="a folder of dark images, or of folders of frames")
    parser.add_argument("high", type=Path, help="the ground truth, under the same names")
    parser.add_argument("rows", nargs="*", metavar="PAPER[=WEIGHTS]", help="default: all")
    parser.add_argument("--ssim", choices=("skimage7", "gaussian11"), default="skimage7")
    arguments = parser.parse_args()
    low: Path = arguments.low
    if any(each.is_dir() for each in low.iterdir()):
        clips = paired_clips(low, arguments.high)
    else:
        # Images by themselves: a video method sees each as a clip of one frame.
        [alike] = image_clips(low, arguments.high)
        pairs = zip(alike.frames, alike.targets or (), strict=True)
        clips = [Clip(frame.stem, (frame,), (target,)) for frame, target in pairs]
    print(f"| | PSNR | SSIM ({arguments.ssim}) | warping error | colour error |")
    print("|---|---:|---:|---:|---:|")
    for row in arguments.rows or ("input", "gamma", *installed_papers()):
        scores = np.array([_scores(row, clip, arguments.ssim) for clip in clips])
        means = [np.nanmean(each) if np.isfinite(each).any() else math.nan for each in scores.T]
        print(f"| {row} | " + " | ".join(f"{mean:.4f}" for mean in means) + " |", flush=True)


def _scores(row: str, clip: Clip, definition: Ssim) -> list[float]:
    flow, warping = GuideFlow(), WarpingError()
    found = []
    for image, frame in zip(_enhanced(row, clip), clip.read_targets(), strict=True):
        target = in_8_bits(frame.image.pixels)
        warping.update(image, flow.next(target))
        similar = ssim(image, target, definition)
        found.append([psnr(image, target), similar, _colour_error(image, target)])
    *first, colour = map(fmean, zip(*found, strict=True))
    error = warping.compute()
    return [*first, math.nan if error is None else error, colour]


def _enhanced(row: str, clip: Clip) -> Iterator[Pixels]:
    if row == "input":
        yield from (in_8_bits(frame.image.pixels) for frame in clip.read())
    elif row == "gamma":
        yield from (_gamma(in_8_bits(frame.image.pixels)) for frame in clip.read())
    else:
        name, _, weights = row.partition("=")
        paper = load_paper(installed_papers()[name])
        model = load_model(paper, Path(weights) if weights else None, torch.device("cpu"))
        yield from (in_8_bits(each.image.pixels) for each in frame_enhancer(model)(clip.read()))


def _gamma(image: Pixels) -> Pixels:
    """The image under the gamma curve that brings its mean to 0.4."""
    low, high = 0.05, 3.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if ((image / 255) ** middle).mean() > 0.4 else (low, middle)
    return np.round((image / 255) ** low * 255).astype(np.uint8)


def _colour_error(image: Pixels, target: Pixels) -> float:
    ours, theirs = (
        cv2.cvtColor((each / 255).astype(np.float32), cv2.COLOR_RGB2LAB) for each in (image, target)
    )
    grey = (np.hypot(theirs[..., 1], theirs[..., 2]) < _GREY) & (theirs[..., 0] > _LIGHT[0])
    grey &= theirs[..., 0] < _LIGHT[1]
    apart = np.hypot(*np.moveaxis(ours - theirs, -1, 0)[1:])
    return float(apart[grey].mean()) if grey.any() else math.nan


if __name__ == "__main__":
    main()
