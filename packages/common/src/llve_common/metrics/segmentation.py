"""How far label maps agree with ground truth: accuracy and intersection over union, by class.

Maps are (H, W), integers: Cityscapes' 19 train ids, or its label ids, brought to train ids by
:func:`train_ids`. Source: Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene
Understanding", CVPR 2016.
"""

from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llve_common.errors import DataError

Labels = NDArray[np.integer[Any]]

CLASSES = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17,
    "traffic light": 19, "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23,
    "person": 24, "rider": 25, "car": 26, "truck": 27, "bus": 28, "train": 31, "motorcycle": 32,
    "bicycle": 33,
}  # fmt: skip
"""The evaluated classes by train id, 0 to 18, with their label ids."""
_NONE = len(CLASSES)


def train_ids(labels: Labels) -> Labels:
    """Cityscapes' label ids as train ids; what is not evaluated becomes 255."""
    table = np.full(256, 255, np.uint8)
    table[list(CLASSES.values())] = range(_NONE)
    # Label id -1, a licence plate, is 255 in 8 bits.
    return table[np.clip(labels, -1, 255)]


class Agreement:
    """Counts pixels by class and predicted class, one map at a time.

    Pixels whose ground truth is none of the classes do not count. Where the prediction is none of
    them, it is wrong.
    """

    def __init__(self) -> None:
        self._counts = np.zeros((_NONE, _NONE + 1), np.int64)

    def update(self, predicted: Labels, target: Labels) -> None:
        """Add a map and its ground truth, both in train ids.

        Raises:
            DataError: they differ in size.
        """
        if predicted.shape != target.shape:
            what = "the label map and its ground truth differ in size"
            raise DataError(what, got=predicted.shape, expected=target.shape)
        counts = (target >= 0) & (target < _NONE)
        truth, found = target[counts].astype(np.int64), predicted[counts].astype(np.int64)
        found = np.where((found >= 0) & (found < _NONE), found, _NONE)
        pairs = np.bincount(truth * (_NONE + 1) + found, minlength=self._counts.size)
        self._counts += pairs.reshape(self._counts.shape)

    def by_class(self) -> dict[str, dict[str, float]]:
        """``accuracy`` and ``iou`` of each class that occurs.

        A class that was predicted and is nowhere in the ground truth has an IoU of 0 and no
        accuracy.
        """
        found: dict[str, dict[str, float]] = {}
        right, truth = self._counts.diagonal(), self._counts.sum(1)
        union = truth + self._counts[:, :_NONE].sum(0) - right
        for number, name in enumerate(CLASSES):
            if union[number]:
                found[name] = {"iou": float(right[number] / union[number])}
            if truth[number]:
                found[name]["accuracy"] = float(right[number] / truth[number])
        return found

    def means(self) -> dict[str, float]:
        """``pixel_accuracy``, and over classes ``mpa`` and ``miou``; none without pixels."""
        total, classes = int(self._counts.sum()), self.by_class().values()
        if total == 0:
            return {}
        return {
            "pixel_accuracy": float(np.trace(self._counts) / total),
            "mpa": fmean(each["accuracy"] for each in classes if "accuracy" in each),
            "miou": fmean(each["iou"] for each in classes),
        }
