"""What the tests of measuring share: a clip of image files."""

import pytest

from llve_common.clips.clip import Clip


@pytest.fixture
def clip(image_file):
    """Makes a clip of random frames, with ground truth."""

    def make(name="a", frames=3, *, size=(12, 14), target_size=None, truth=True):
        low = [image_file(f"{name}/low/{n}.png", *size, seed=n) for n in range(frames)]
        size = target_size or size
        high = [image_file(f"{name}/high/{n}.png", *size, seed=n + 50) for n in range(frames)]
        return Clip(name, tuple(low), tuple(high) if truth else None)

    return make
