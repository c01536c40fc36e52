"""The ways in which tables compute PSNR and SSIM of one result, each as a row."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llve_common.clips.clip import fitted
from llve_common.io.images import Pixels, in_8_bits
from llve_common.metrics.fidelity import psnr, ssim
from llve_common.metrics.quality import grey, luma, scaled_to_mean

Real = NDArray[Any]
BORDER = 4

ROWS: dict[str, str] = {
    "RGB": "over the three colours, on the images as they are stored, of 16 bits the upper 8",
    "RGB, GT-mean": "over the three colours, after each result was scaled to the mean brightness "
    "of its ground truth, which the method does not know",
    "Y": "on Y of BT.601 in studio range alone (MATLAB's rgb2ycbcr)",
    "Y, GT-mean": "on Y alone, after each result was scaled to the mean brightness of its ground "
    "truth",
    "grey": "on the grey image, rounded (MATLAB's rgb2gray)",
    "RGB, no border": f"over the three colours, without {BORDER} pixels at each edge",
    "RGB, truncated": "over the three colours, with results of 16 bits over 257, truncated",
    "RGB, 16 bits": "over the three colours, with results of 16 bits not brought to 8",
    "RGB, cropped": "over the three colours, on the upper left part that both images have, where "
    "they differ in size; the other rows resize the result",
}
"""What must be true of a table whose figures are those of a row."""
ELSE_RGB = ("RGB, truncated", "RGB, 16 bits", "RGB, cropped")
"""Rows that results of one depth or size lack, of which they are those of ``RGB``."""

MEASURES: Mapping[str, Callable[[Real, Real], float]] = {
    "psnr": psnr,
    "ssim_skimage7": partial(ssim, definition="skimage7"),
    "ssim_gaussian11": partial(ssim, definition="gaussian11"),
}
"""What is measured against ground truth, by both definitions of SSIM that tables use."""


def rows_of(result: Pixels, target: Pixels) -> dict[str, dict[str, float]]:
    """Every row's figures of one result, in its own depth; of another size it is resized.

    Raises:
        DataError: a side is shorter than SSIM's window.
    """
    wanted, eight = in_8_bits(target), in_8_bits(result)
    pairs: dict[str, tuple[Real, Real]] = {}
    if eight.shape != wanted.shape:
        rows, columns = (min(each) for each in zip(eight.shape[:2], wanted.shape[:2], strict=True))
        pairs["RGB, cropped"] = eight[:rows, :columns], wanted[:rows, :columns]
        size = wanted.shape[1::-1]
        eight, result = fitted(eight, size), fitted(result, size)
    matched = scaled_to_mean(eight, wanted)
    pairs |= {
        "RGB": (eight, wanted),
        "RGB, GT-mean": (matched, wanted.astype(np.float64)),
        "Y": (luma(eight), luma(wanted)),
        "Y, GT-mean": (luma(matched), luma(wanted)),
        "grey": (np.rint(grey(eight)), np.rint(grey(wanted))),
    }
    if min(wanted.shape[:2]) >= 2 * BORDER + 11:  # SSIM's wider window is left
        inner = slice(BORDER, -BORDER)
        pairs["RGB, no border"] = eight[inner, inner], wanted[inner, inner]
    if result.dtype == np.uint16:
        exact = result / 257
        pairs["RGB, truncated"] = np.floor(exact), wanted.astype(np.float64)
        pairs["RGB, 16 bits"] = exact, wanted.astype(np.float64)
    return {
        row: {name: measure(*pairs[row]) for name, measure in MEASURES.items()}
        for row in ROWS if row in pairs
    }  # fmt: skip
