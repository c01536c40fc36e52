"""The simulated low light beside real dark images: brightness, and noise against level.

Draws the images' means, histograms of 8-bit levels, and the noise's standard deviation against the
level, of each folder given, such as the input of a set that ``data photographs`` made.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from llve_common.clips.clip import read_frame
from llve_common.clips.folders import list_images

_LEVELS = np.array([0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 256])


def main() -> None:
    """Draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", metavar="NAME=FOLDER", help="dark images")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the picture to write")
    parser.add_argument("--most", type=int, default=150, help="images of a folder")
    arguments = parser.parse_args()
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    means, levels, noise = figure.subplots(1, 3)
    for number, each in enumerate(arguments.folders):
        name, _, folder = each.partition("=")
        images = list(_read(Path(folder), arguments.most))
        colour = f"C{number}"
        of_images = np.sort([image.mean() for image in images])
        means.plot(of_images, np.linspace(0, 1, len(of_images)), colour, label=name)
        shares, edges = np.histogram(np.concatenate([image.ravel() for image in images]), _LEVELS)
        levels.stairs(shares / shares.sum(), np.maximum(edges, 0.5), color=colour, label=name)
        middle, *quartiles = _noise_by_level(images)
        places = np.sqrt(np.maximum(_LEVELS[:-1], 0.5) * _LEVELS[1:])
        noise.plot(places, middle, colour, marker=".", label=name)
        noise.fill_between(places, *quartiles, color=colour, alpha=0.15)
    means.set(xscale="log", xlabel="mean of an image, in 8-bit levels", ylabel="share below")
    levels.set(xscale="log", xlabel="8-bit level", ylabel="share of the pixels")
    noise.set(xscale="log", yscale="log", xlabel="8-bit level", ylabel="noise, 8-bit levels")
    noise.set_title("median image, and half of the images", fontsize="small")
    levels.legend(fontsize="small")
    figure.savefig(arguments.out, dpi=90)


def _read(folder: Path, most: int) -> Iterator[NDArray[np.uint8]]:
    files = list_images(folder, recursive=True)
    for place in np.unique(np.linspace(0, len(files) - 1, most).astype(int)):
        yield read_frame(files[place])


def _noise_by_level(images: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Median and quartiles over images of the noise's standard deviation in flat parts, by level.

    Noise is what a 3x3 second difference leaves of the green channel (Immerkaer, *Fast noise
    variance estimation*, 1996), and a part is flat where the smoothed image has little gradient.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6
    found = np.full((len(images), len(_LEVELS) - 1), np.nan)
    for number, image in enumerate(images):
        green = image[..., 1].astype(np.float32)
        smooth = cv2.GaussianBlur(green, (0, 0), 2)
        steep = np.hypot(cv2.Sobel(smooth, -1, 1, 0), cv2.Sobel(smooth, -1, 0, 1))
        flat = steep <= np.quantile(steep, 0.4)
        residual, places = cv2.filter2D(green, -1, kernel), np.digitize(smooth, _LEVELS) - 1
        for place in range(found.shape[1]):
            chosen = residual[flat & (places == place)]
            if chosen.size > 200:
                found[number, place] = chosen.std()
    few = np.isfinite(found).sum(0) < 3
    found[:, few] = np.nan
    return np.array([_quantile(found, share) for share in (0.5, 0.25, 0.75)])


def _quantile(values: NDArray[np.float64], share: float) -> list[float]:
    kept = (column[np.isfinite(column)] for column in values.T)
    return [float(np.quantile(each, share)) if each.size else np.nan for each in kept]


if __name__ == "__main__":
    main()
