"""SCI's training on real dark photographs, and its scores on pairs that it never saw, as a curve.

    python tools/sci_curve.py DARK TEST PUBLISHED -o OUT

``DARK`` holds dark photographs, shrunk here to 128 pixels; of these two sets are made, all and the
darkest, and SCI is trained on each by ``sci train``. ``TEST`` holds the pairs in ``low`` and
``high``, ``PUBLISHED`` the authors' weights. OUT gets ``curve.png`` and ``curve.md``. The pairs
choose nothing: the epochs shown are fixed beforehand, and no weights are kept for use.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from llve_common.clips.folders import list_images
from llve_common.evaluate.test import run_test
from llve_common.io.images import in_8_bits, read_image, write_image
from llve_common.report.tables import Table
from llve_sci.paper import PAPER

SIDE, DARKEST = 128, 30
PUBLISHED = ("easy", "medium", "difficult")
SHOWN = 12
"""Of so many epochs the weights are tested, their numbers in equal ratios."""


def main() -> None:
    """Train, test and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dark", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("published", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--updates", type=int, default=1500, help="of each training, about")
    given = parser.parse_args()
    sizes = shrink(given.dark, given.out)
    curves = {}
    for name, count in sizes.items():
        epochs = max(given.updates // count, 1)
        train(given.out, name, epochs)
        chosen = sorted({round(epochs ** (step / (SHOWN - 1))) for step in range(SHOWN)})
        curves[f"{name}: {count} photographs"] = {
            epoch * count: tested(given.out / name / f"model_epochs/weights_{epoch - 1}.pt", given)
            for epoch in chosen
        }
    lines = {f"{name}.pt": tested(given.published / f"{name}.pt", given) for name in PUBLISHED}
    draw(curves, lines, given.out / "curve.png")
    rows = [
        *((name, "by its authors", *shown(scores)) for name, scores in lines.items()),
        *((name, str(updates), *shown(scores)) for name, curve in curves.items()
          for updates, scores in curve.items()),
    ]  # fmt: skip
    table = Table("Scores", ("weights", "updates", "PSNR", "SSIM"), tuple(rows))
    (given.out / "curve.md").write_text(table.markdown(), encoding="utf-8")


def shrink(source: Path, out: Path) -> dict[str, int]:
    """Write both sets below ``out``; how many photographs each has."""
    counts = {"all": 0, "darkest": 0}
    for file in list_images(source, recursive=True):
        pixels = in_8_bits(read_image(file).pixels)
        factor = min(SIDE / max(pixels.shape[:2]), 1)
        resized = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        small = np.asarray(resized, np.uint8)
        for name in ("all", "darkest") if pixels.mean() < DARKEST else ("all",):
            write_image(out / "sets" / name / f"{file.parent.name}-{file.stem}.png", small)
            counts[name] += 1
    return counts


def train(out: Path, name: str, epochs: int) -> None:
    """Run ``sci train`` on a set, one thread: more would give other weights."""
    words = ["--data_path", f"sets/{name}", "--epochs", str(epochs), "--lr", "3e-3"]
    words += ["--save", ".", "--name", name, "run.tensorboard=false"]
    command = [str(Path(sys.executable).parent / "sci"), "train", *words]
    print(f"$ sci {' '.join(command[1:])}", flush=True)
    subprocess.run(command, cwd=out, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    shutil.rmtree(out / name / "checkpoints")


def tested(weights: Path, given: argparse.Namespace) -> dict[str, float]:
    """PSNR and SSIM of a weights file, as ``sci test`` prints them."""
    settings = PAPER.test.settings(
        data={"low": given.test / "low", "high": given.test / "high"}, weights=weights,
        save=given.out / "test", save_images=False,
    )  # fmt: skip
    return run_test(PAPER, settings).scores.mean_of_frames


def shown(scores: dict[str, float]) -> tuple[str, str]:
    """For the table."""
    return f"{scores['psnr']:.2f}", f"{scores['ssim']:.3f}"


def draw(
    curves: dict[str, dict[int, dict[str, float]]], lines: dict[str, dict[str, float]], file: Path
) -> None:
    """Both scores against the updates, and the published files' as level lines."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    labels = {"psnr": "PSNR, dB", "ssim": "SSIM skimage7"}
    for axes, (score, label) in zip(figure.subplots(1, 2), labels.items(), strict=True):
        for name, curve in curves.items():
            axes.plot(list(curve), [each[score] for each in curve.values()], marker=".", label=name)
        for number, (name, scores) in enumerate(lines.items()):
            axes.axhline(scores[score], color="0.4", ls=("-", "--", ":")[number], label=name)
        axes.set(xscale="log", xlabel="updates", ylabel=label)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize="small")
    figure.savefig(file, dpi=90)


if __name__ == "__main__":
    main()
