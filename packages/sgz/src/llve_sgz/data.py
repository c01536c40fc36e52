"""SGZ's data: a folder of low-light images, squeezed to one square size."""

import random
from pathlib import Path

import numpy as np
import PIL.Image

from llve_common.clips.clip import read_frame
from llve_common.errors import ConfigError
from llve_common.io.images import image_size, to_tensor
from llve_common.paper.contract import Sample

_ORDER_SEED = 1143


class LowLightImages:
    """Images as ``{"low": (3, size, size)}``, RGB in [0, 1].

    As published, they are resized without keeping their shape, and their order is shuffled once.

    Raises:
        MediaError: a file is no image.
    """

    def __init__(self, files: list[Path], size: int) -> None:
        self.size = size
        self.files = shuffled(files)
        for path in self.files:
            image_size(path)

    def __len__(self) -> int:
        return len(self.files)

    def file(self, index: int) -> Path:
        """The image."""
        return self.files[index]

    def sample(self, index: int, rng: random.Random) -> Sample:
        """The whole image, resized (Lanczos): the published training augments nothing.

        Raises:
            MediaError: the image cannot be decoded.
        """
        picture = PIL.Image.fromarray(read_frame(self.files[index]))
        resized = picture.resize((self.size, self.size), PIL.Image.Resampling.LANCZOS)
        return {"low": to_tensor(np.asarray(resized))}


def shuffled(paths: list[Path]) -> list[Path]:
    """The published order of a sorted list of files."""
    order = list(paths)
    random.Random(_ORDER_SEED).shuffle(order)  # noqa: S311
    return order


def fitting_size(size: int, scale_factor: int) -> int:
    """The multiple of the scale factor that is nearest to a size.

    Raises:
        ConfigError: the scale factor is larger than the size.
    """
    if scale_factor > size:
        raise ConfigError(
            "the scale factor is larger than the images",
            where="network.scale_factor",
            got=scale_factor,
            expected=f"at most data.size, {size}",
        )
    return round(size / scale_factor) * scale_factor
