"""Label maps of anybody's segmentation network against Cityscapes' ground truth."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llve_common.clips.folders import list_images, some_of
from llve_common.errors import DataError
from llve_common.evaluate.pairing import with_partners
from llve_common.io.decoders import opened, refuse_too_large
from llve_common.io.images import explained
from llve_common.metrics.segmentation import Agreement, Labels, train_ids


@dataclass
class LabelReport:
    """What so many label maps scored, and those left out, which lack a partner.

    A class has ``accuracy`` and ``iou``; means are ``pixel_accuracy``, ``mpa`` and ``miou``.
    """

    count: int
    classes: dict[str, dict[str, float]]
    means: dict[str, float]
    left_out: list[str] = field(default_factory=list)


def score_labels(
    results: Path,
    reference: Path,
    *,
    label_ids: bool,
    pair: str = "name",
    watch: Callable[[int, int | None], None] | None = None,
) -> LabelReport:
    """Score label maps: images of one channel, or with a palette whose indices are the labels.

    Args:
        results: their folder, with subfolders.
        reference: the ground truth's, likewise.
        label_ids: both hold Cityscapes' label ids (``_labelIds.png``); otherwise train ids.
        pair: see :func:`llve_common.evaluate.pairing.keyed`.
        watch: is told (maps done, maps in all).

    Raises:
        ConfigError: the template is not one.
        DataError: a folder is missing or empty, nothing has a partner, or maps do not fit.
        MediaError: a file is no image.
    """
    left_out: list[str] = []
    files = [list_images(folder, recursive=True) for folder in (results, reference)]
    predicted, targets = with_partners(files, pair, left_out, None)
    agreement = Agreement()
    for number, (mine, theirs) in enumerate(zip(predicted, targets, strict=True), 1):
        maps = [read_labels(file) for file in (mine, theirs)]
        try:
            agreement.update(*(train_ids(each) if label_ids else each for each in maps))
        except DataError as error:
            raise error.at(mine) from None
        if watch is not None:
            watch(number, len(predicted))
    left = [some_of(left_out)] if left_out else []
    return LabelReport(len(predicted), agreement.by_class(), agreement.means(), left)


def read_labels(file: Path) -> Labels:
    """A label map, (H, W), as stored: grey levels, or the indices of a palette.

    Raises:
        DataError: it has colours.
        MediaError: it is no image of a kind that is read, or a damaged one.
    """
    with explained(file, "the label map cannot be decoded"), opened(file) as image:
        refuse_too_large(file, image.width, image.height, 1)
        pixels: np.ndarray[Any, np.dtype[Any]] = np.asarray(image)
    if pixels.ndim != 2:
        raise DataError(
            "a label map has one channel", where=file, got=f"{pixels.shape[2]} channels",
            mend="give the files of labels, such as Cityscapes' _labelIds.png, not of colours",
        )  # fmt: skip
    return pixels.astype(np.int64)
