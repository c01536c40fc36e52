"""Matches: their form, dense inverse search, the authors' package, the cache, the pictures."""

import hashlib
import sys

import numpy as np
import PIL.Image
import pytest
import torch
from skimage import data

from llve_common.errors import CheckpointError, ConfigError, MediaError
from llve_common.testing.motion import moved_views
from llve_stcd.dkm.network import DKMv3, Resolution
from llve_stcd.matchers import (
    CachedMatcher,
    Matches,
    dis_matches,
    dkm_matcher,
    make_matcher,
    matcher_images,
    package_matcher,
)

CPU = torch.device("cpu")
HEIGHT, WIDTH = 240, 320


def grid(height=HEIGHT, width=WIDTH):
    """Pixels' own places (h, w, 2) in [-1, 1]."""
    x, y = ((2 * np.arange(side, dtype=np.float32) + 1) / side - 1 for side in (width, height))
    return np.stack(np.meshgrid(x, y), -1)


def moved_pair(shift=(0.0, 0.0), degrees=0.0):
    """Two (1, h, w, 3) views of a photograph, the second moved, and the true flows both ways."""
    first, second, there, back = moved_views(shift, degrees, (HEIGHT, WIDTH))
    return first[None], second[None], (there, back)


def end_point_errors(first, second, flows):
    """Mean distance, in pixels, of sure matches from the true ones, each way; and their share."""
    warp, certainty = (each.numpy()[0] for each in dis_matches(first, second))
    left, right = warp[:, :WIDTH, 2:], warp[:, WIDTH:, :2]
    errors, shares = [], []
    for places, flow, sure in (
        (left, flows[0], certainty[:, :WIDTH] > 0.5),
        (right, flows[1], certainty[:, WIDTH:] > 0.5),
    ):
        found = (places - grid()) * np.array([WIDTH / 2, HEIGHT / 2])
        errors.append(np.linalg.norm(found - flow, axis=-1)[sure].mean())
        shares.append(sure.mean())
    return errors, shares


@pytest.mark.parametrize(
    ("shift", "degrees", "bound"),
    [
        ((3, 0), 0, 0.3),
        ((-6, 4), 0, 0.3),
        ((2.5, -1.5), 0, 0.4),
        ((24, 0), 0, 0.3),
        ((0, 0), 2, 0.6),
        ((0, 0), -5, 1.0),
    ],
)
def test_dis_finds_known_motion_of_a_real_image(shift, degrees, bound):
    errors, shares = end_point_errors(*moved_pair(shift, degrees))
    assert max(errors) < bound
    assert min(shares) > 0.8


def test_the_form():
    first, second, _ = moved_pair((3, 0))
    matches = dis_matches(np.concatenate([first, second]), np.concatenate([second, first]))
    assert matches.warp.shape == (2, HEIGHT, 2 * WIDTH, 4)
    assert matches.certainty.shape == (2, HEIGHT, 2 * WIDTH)
    assert matches.warp.dtype == matches.certainty.dtype == torch.float32
    np.testing.assert_allclose(matches.warp[0, :, :WIDTH, :2], grid(), atol=1e-6)
    np.testing.assert_allclose(matches.warp[0, :, WIDTH:, 2:], grid(), atol=1e-6)
    assert matches.warp.abs().max() <= 1
    assert matches.certainty.min() == 0
    assert matches.certainty.max() <= 1
    # A frame matches itself surely.
    warp, certainty = dis_matches(first, first)
    assert torch.equal(warp[..., :2], warp[..., 2:])
    assert (certainty == 1).all()
    # Exchanging the images exchanges the halves.
    exchanged = matches.warp[1].roll(WIDTH, dims=1).roll(2, dims=2)
    assert torch.equal(exchanged, matches.warp[0])
    assert torch.equal(matches.certainty[1].roll(WIDTH, dims=1), matches.certainty[0])


def test_matches_outside_the_image_are_not_sure():
    first, second, _ = moved_pair((12, 0))
    certainty = dis_matches(first, second).certainty[0]
    # The first image's right border has left the second one, and the second's left border is new.
    assert certainty[:, WIDTH - 8 : WIDTH].max() < 0.1
    assert certainty[:, WIDTH : WIDTH + 8].mean() < 0.3


@pytest.mark.parametrize("size", [(640, 480), (80, 48)])
def test_images_are_cut_to_8_bits_and_resized_by_pillow(size):
    levels = torch.full((1, 3, 6, 8), 99.9 / 255)
    assert (matcher_images(levels) == 99).all()
    picture = data.astronaut()[:300, :400]
    given = torch.from_numpy(picture / 255.0).movedim(-1, 0)[None]
    expected = PIL.Image.fromarray(picture).resize(size, PIL.Image.Resampling.BICUBIC)
    images = matcher_images(given + 1e-4, size)
    np.testing.assert_array_equal(images[0], np.asarray(expected))


def random_pairs(number, height=12, width=16, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (2, number, height, width, 3), dtype=np.uint8)


class Counting:
    """A matcher whose answer depends on both images; notes the size of each batch."""

    def __init__(self):
        self.batches = []

    def __call__(self, first, second):
        self.batches.append(len(first))
        own = torch.from_numpy(grid(*first.shape[1:3])).expand(len(first), -1, -1, -1)
        shift = (first.mean((1, 2, 3)) - 2 * second.mean((1, 2, 3))) / 1e3
        moved = own + torch.from_numpy(shift).float()[:, None, None, None]
        warp = torch.cat([torch.cat([own, moved], -1), torch.cat([moved, own], -1)], 2)
        return Matches(warp, warp[..., 2].abs())


def test_the_cache_gives_the_same_and_matches_once(tmp_path):
    first, second = random_pairs(3)
    expected, counting = Counting()(first, second), Counting()
    cached = CachedMatcher(counting, "a", tmp_path / "cache")
    cached(first[:2], second[:2])
    found = cached(first, second)
    assert counting.batches == [2, 1]
    torch.testing.assert_close(found.warp, expected.warp)
    assert torch.equal(found.certainty, expected.certainty)
    again = CachedMatcher(counting, "a", tmp_path / "cache")
    repeated = again(first, second)
    assert counting.batches == [2, 1]
    assert torch.equal(repeated.warp, found.warp)
    assert (again.hits, again.misses, cached.hits, cached.misses) == (3, 0, 2, 3)
    assert cached.size == again.size == sum(f.stat().st_size for f in tmp_path.glob("cache/*"))
    assert "2 of 5 pairs (40.0%)" in cached.summary()


def test_the_cache_tells_order_content_and_matcher_apart(tmp_path):
    first, second = random_pairs(1)
    counting = Counting()
    CachedMatcher(counting, "a", tmp_path)(first, second)
    CachedMatcher(counting, "a", tmp_path)(second, first)
    CachedMatcher(counting, "b", tmp_path)(first, second)
    changed = first.copy()
    changed[0, 0, 0, 0] ^= 1
    CachedMatcher(counting, "a", tmp_path)(changed, second)
    assert counting.batches == [1, 1, 1, 1]
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("damage", ["empty", "cut", "bit", "text"])
def test_a_damaged_entry_is_made_anew(tmp_path, damage):
    first, second = random_pairs(1)
    counting = Counting()
    cached = CachedMatcher(counting, "a", tmp_path)
    expected = cached(first, second)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    content = {"empty": b"", "cut": whole[:-50], "bit": bytes(flipped), "text": b"no archive"}
    file.write_bytes(content[damage])
    found = cached(first, second)
    assert counting.batches == [1, 1]
    assert torch.equal(found.warp, expected.warp)
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cached = CachedMatcher(Counting(), "a", tmp_path / "file" / "cache")
    with pytest.raises(MediaError, match="cannot be written"):
        cached(*random_pairs(1))


AUTHORS_PACKAGE = """
import torch

class Model:
    def __init__(self, path_to_weights, device):
        self.weights, self.device = path_to_weights, device

    def match(self, first, second, device):
        assert first.mode == second.mode == "RGB"
        assert device == self.device
        height, width = {size}
        warp = torch.zeros(height, 2 * width, 4)
        warp[:, :width] = first.getpixel((0, 0))[0] / 255
        warp[:, width:] = second.getpixel((0, 0))[0] / 255
        return warp, torch.full((height, 2 * width), 0.5)

DKMv3_indoor = DKMv3_outdoor = Model
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    def write(source):
        (tmp_path / "packages").mkdir()
        (tmp_path / "packages" / "dkm.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path / "packages")
        monkeypatch.delitem(sys.modules, "dkm", raising=False)

    yield write
    sys.modules.pop("dkm", None)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "DKMv3_indoor.pth"
    path.touch()
    return path


@pytest.mark.parametrize("size", [(12, 16), (20, 30)])
def test_the_authors_package(install, weights, size):
    install(AUTHORS_PACKAGE.format(size=size))
    first, second = random_pairs(2)
    warp, certainty = package_matcher(weights, "indoor", CPU)(first, second)
    assert warp.shape == (2, 12, 32, 4)
    assert certainty.shape == (2, 12, 32)
    for index in range(2):
        np.testing.assert_allclose(warp[index, :, :16], first[index, 0, 0, 0] / 255, atol=1e-6)
        np.testing.assert_allclose(warp[index, :, 16:], second[index, 0, 0, 0] / 255, atol=1e-6)
    np.testing.assert_allclose(certainty, 0.5)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("__version__ = '0.0.1'", "belongs to something else"),
        ("import kornia_of_another_name", "kornia_of_another_name"),
        (None, "dkm is not installed"),
    ],
)
def test_a_package_that_cannot_serve(install, weights, monkeypatch, source, said):
    """The unrelated one of that name; one that lacks another; none."""
    if source is None:
        monkeypatch.setitem(sys.modules, "dkm", None)
    else:
        install(source)
    with pytest.raises(ConfigError, match=said) as found:
        package_matcher(weights, "indoor", CPU)
    assert "github.com/Parskatt/DKM" in str(found.value)


@pytest.mark.parametrize("kind", ["dkm", "dkm-package"])
@pytest.mark.parametrize("place", ["indoor", "outdoor"])
def test_missing_weights_are_named_with_where_to_get_them(tmp_path, kind, place):
    with pytest.raises(CheckpointError, match="no weights"):
        make_matcher(kind, None, place, CPU)
    with pytest.raises(CheckpointError) as found:
        make_matcher(kind, tmp_path / "nowhere.pth", place, CPU)
    message = str(found.value)
    needless = "the matcher dis, which needs no weights"
    for part in ("nowhere.pth", f"DKMv3_{place}.pth", "https://github.com/Parskatt/DKM", needless):
        assert part in message


def test_matchers_by_name(install, weights):
    install(AUTHORS_PACKAGE.format(size=(12, 16)))
    matcher, name = make_matcher("dkm-package", weights, "indoor", CPU)
    # The weights' digest: other weights have other matches in a cache.
    assert name == f"dkm-package-indoor-{hashlib.sha256(b'').hexdigest()[:16]}"
    assert matcher(*random_pairs(1)).warp.shape == (1, 12, 32, 4)
    assert make_matcher("dis", None, "indoor", CPU) == (dis_matches, "dis")


def test_our_dkm_answers_in_the_common_form(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = DKMv3(Resolution((96, 128)))
    monkeypatch.setattr("llve_stcd.matchers.load", lambda place, weights: network)
    first, second = random_pairs(2, 64, 96)
    warp, certainty = dkm_matcher(tmp_path / "unread.pth", "indoor", CPU)(first, second)
    assert warp.shape == (2, 64, 192, 4)
    assert certainty.shape == (2, 64, 192)
    np.testing.assert_allclose(warp[0, :, :96, :2], grid(64, 96), atol=1e-5)
    np.testing.assert_allclose(warp[0, :, 96:, 2:], grid(64, 96), atol=1e-5)
