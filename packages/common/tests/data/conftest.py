"""What the tests of clips share: frames in folders."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llve_common.io.images import write_image


@pytest.fixture(scope="session")
def write_clip() -> Callable[..., None]:
    """Writes random frames into a folder; ``size`` is height and width."""

    def write(
        folder: Path, length: int, kind: str = ".npy", size: tuple[int, int] = (6, 8)
    ) -> None:
        rng = np.random.default_rng(0)
        for number in range(length):
            pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            write_image(folder / f"{number:04d}{kind}", pixels)

    return write


@pytest.fixture
def root(tmp_path: Path, write_clip: Callable[..., None]) -> Path:
    """Three clips in SDSD's layout, of six, five and five frames."""
    for side in ("GT", "input"):
        for clip, length in (("pair1", 6), ("pair2", 5), ("pair10", 5)):
            write_clip(tmp_path / "indoor_np" / side / clip, length)
    return tmp_path / "indoor_np"
