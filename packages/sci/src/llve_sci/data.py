"""SCI's data: a folder of low-light images, whole, without crops or flips."""

import random
from collections.abc import Sequence
from pathlib import Path

from llve_common.errors import DataError
from llve_common.io.images import image_size, read_image, to_tensor
from llve_common.paper.contract import Sample

_SMALLEST = 3


class LowLightImages:
    """Images as ``{"low": (3, H, W)}``, RGB in [0, 1].

    Raises:
        DataError: an image is too small for the objective.
        MediaError: a file is no image.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        for path in self.files:
            height, width = image_size(path)
            if min(height, width) < _SMALLEST:
                raise DataError(
                    "the image is too small to train on",
                    where=path,
                    got=f"{width}x{height}",
                    expected=f"sides of at least {_SMALLEST} pixels: the smoothness compares "
                    "pixels two apart",
                    mend="remove the image",
                )

    def __len__(self) -> int:
        return len(self.files)

    def file(self, index: int) -> Path:
        """The image."""
        return self.files[index]

    def sample(self, index: int, rng: random.Random) -> Sample:
        """The image as it is: the published training augments nothing.

        Raises:
            MediaError: the image cannot be decoded.
        """
        return {"low": to_tensor(read_image(self.files[index]).pixels)}
