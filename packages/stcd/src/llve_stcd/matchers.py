"""Matches between two frames, which tie their view-independent parts together in training.

All matchers give one form, that of DKM (Edstedt et al., "DKM: Dense Kernelized Feature Matching for
Geometry Estimation", CVPR 2023). Places are (x, y) in [-1, 1], where -1 and 1 are the outer edges
of the outer pixels. Of a pair of h x w images, ``warp`` is (h, 2w, 4): the left half has, for each
pixel of the first image, its place (first two numbers) and its match's place in the second (last
two); the right half, for each pixel of the second image, its match's place in the first (first two)
and its own (last two). ``certainty`` is (h, 2w) in [0, 1].
"""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from torch import Tensor

from llve_common.errors import ConfigError
from llve_common.flow.dis import dis_flow, forward_backward_error
from llve_common.io.atomic import replacing
from llve_common.io.digest import file_digest
from llve_common.io.images import to_pixels
from llve_common.weights.published import weights_file
from llve_stcd.config import ABOUT, MatcherKind, Place
from llve_stcd.dkm.network import SOURCE, load, require_weights
from llve_stcd.dkm.positions import grid, resize

Images = npt.NDArray[np.uint8]
"""A batch (N, h, w, 3), RGB, or one image of it."""

HEIGHT, WIDTH = 480, 640

# What the reader raises for damaged files, depending on the byte that is wrong.
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class Matches(NamedTuple):
    """Matches of a batch of pairs: warp (N, h, 2w, 4) and certainty (N, h, 2w), float32."""

    warp: Tensor
    certainty: Tensor


class Matcher(Protocol):
    """Finds matches between the images of pairs."""

    def __call__(self, first: Images, second: Images) -> Matches:
        """Match two batches (N, h, w, 3) uint8 RGB, image by image."""
        ...


def matcher_images(frames: Tensor, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Images:
    """What a matcher is given of frames (N, 3, H, W) RGB in [0, 1]: (N, h, w, 3) uint8.

    They become 8 bits by truncation, and are then resized bicubically to ``size``, (width, height).
    """
    images = [PIL.Image.fromarray(to_pixels(frame, "truncate")) for frame in frames]
    return np.stack([np.asarray(image.resize(size)) for image in images])


def match_frames(matcher: Matcher, size: tuple[int, int], first: Tensor, second: Tensor) -> Matches:
    """The matches of two batches of frames (N, 3, H, W), by :func:`matcher_images` of that size."""
    with torch.no_grad():
        return matcher(*(matcher_images(frames, size) for frames in (first, second)))


def dis_matches(first: Images, second: Images) -> Matches:
    """Match by dense inverse search both ways; needs no weights.

    A match is the more certain the closer both flows lead back to the start: exp(-e²/2) for e
    pixels, and 0 where the match lies outside the image.

    Source: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016.
    """
    with ThreadPoolExecutor() as pool:
        pairs = list(pool.map(_dis_pair, first, second))
    places, certainty = (torch.from_numpy(np.stack(each)) for each in zip(*pairs, strict=True))
    return Matches(_common_form(places), certainty)


def _dis_pair(
    first: Images, second: Images
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Both directions side by side: places (h, 2w, 2) and certainty (h, 2w)."""
    forward, backward = dis_flow(first, second), dis_flow(second, first)
    height, width = forward.shape[:2]
    places, certainty = [], []
    for flow, back in ((forward, backward), (backward, forward)):
        steps = flow * np.array([2 / width, 2 / height], np.float32)
        places.append(np.clip(_grid(height, width).numpy() + steps, -1, 1))
        certainty.append(np.exp(-(forward_backward_error(flow, back) ** 2) / 2).astype(np.float32))
    return np.concatenate(places, 1), np.concatenate(certainty, 1)


def _common_form(places: Tensor) -> Tensor:
    """Matches' places (N, h, 2w, 2), to the second image and to the first, as (N, h, 2w, 4)."""
    to_second, to_first = places.chunk(2, dim=2)
    own = _grid(*to_second.shape[1:3]).expand_as(to_second)
    return torch.cat([torch.cat([own, to_second], -1), torch.cat([to_first, own], -1)], 2)


def _grid(height: int, width: int) -> Tensor:
    """The places of an image's own pixels, (h, w, 2) as (x, y)."""
    return grid(torch.empty(1, 1, height, width)).movedim(0, -1)


def make_matcher(
    kind: MatcherKind, weights: Path | None, place: Place, device: torch.device
) -> tuple[Matcher, str]:
    """A matcher by its name in the settings, and what its results depend on.

    Args:
        kind: ``dis``; ``dkm``, ours; or ``dkm-package``, its authors'.
        weights: of DKM, the published ``DKMv3_indoor.pth`` or ``DKMv3_outdoor.pth``, or
            ``published:dkm-indoor`` or ``published:dkm-outdoor``.
        place: which of the two it is.
        device: to match on; ``dis`` runs on the processor.

    Raises:
        CheckpointError: DKM's weights are missing or do not fit.
        ConfigError: the authors' package is missing, or another one has its name.
    """
    if kind == "dis":
        return dis_matches, kind
    weights = weights and weights_file(weights, ABOUT)
    build = dkm_matcher if kind == "dkm" else package_matcher
    matcher = build(weights, place, device)
    assert weights is not None
    return matcher, f"{kind}-{place}-{file_digest(weights)[:16]}"


def dkm_matcher(weights: Path | None, place: Place, device: torch.device) -> Matcher:
    """DKM of our own, at its published resolution; matches a batch at once.

    Raises:
        CheckpointError: the weights are missing or do not fit.
    """
    model = load(place, weights).to(device)

    def match(first: Images, second: Images) -> Matches:
        found = Matches(*model.match(list(first), list(second)))
        return _resized(found, first.shape[1], first.shape[2])

    return match


def package_matcher(weights: Path | None, place: Place, device: torch.device) -> Matcher:
    """DKM as its authors' own package has it, which must be installed.

    Raises:
        CheckpointError: there is no such file.
        ConfigError: the package is missing, or another one has its name.
    """
    weights = require_weights("dkm-package", place, weights)
    model = _authors_model(place)(path_to_weights=str(weights), device=device)

    def match(first: Images, second: Images) -> Matches:
        found = []
        with torch.no_grad():
            for pair in zip(first, second, strict=True):
                images = (PIL.Image.fromarray(image) for image in pair)
                found.append(model.match(*images, device=device))
        warp, certainty = (torch.stack(list(each)).float() for each in zip(*found, strict=True))
        return _resized(Matches(warp, certainty), first.shape[1], first.shape[2])

    return match


def _authors_model(place: Place) -> Callable[..., Any]:
    mend = f"install it from {SOURCE}, or choose the matcher dkm or dis, which need no package"
    try:
        from dkm import DKMv3_indoor, DKMv3_outdoor
    except ModuleNotFoundError as error:
        what = "the package dkm is not installed" if error.name == "dkm" else "dkm lacks a package"
        raise ConfigError(what, where="matcher", got=error, mend=mend) from error
    except ImportError as error:
        raise ConfigError(
            "the installed package dkm is not the matcher DKM: on the Python package index that "
            "name belongs to something else",
            where="matcher",
            got=error,
            mend=f"uninstall it, then {mend}",
        ) from error
    model: Callable[..., Any] = DKMv3_indoor if place == "indoor" else DKMv3_outdoor
    return model


def _resized(matches: Matches, height: int, width: int) -> Matches:
    """The same matches for h x w images; the outdoor model answers at a size of its own."""
    if matches.certainty.shape[1:] == (height, 2 * width):
        return matches
    both = torch.cat([matches.warp, matches.certainty[..., None]], -1).movedim(-1, 1)
    halves = [resize(half, (height, width)) for half in both.chunk(2, dim=3)]
    whole = torch.cat(halves, 3).movedim(1, -1)
    return Matches(whole[..., :4].contiguous(), whole[..., 4].contiguous())


class CachedMatcher:
    """Keeps matches on disk, because ground truth is the same in every epoch.

    A pair's file is named by the content of both images and by the matcher. It takes 7 MiB at
    640x480. Processes may share the folder: files appear whole, and a damaged one is made anew.

    Args:
        matcher: what finds matches that are not on disk.
        name: of the matcher, with all that its results depend on, such as ``dkm-indoor-<digest>``.
        folder: made where it is missing.
    """

    def __init__(self, matcher: Matcher, name: str, folder: Path) -> None:
        self.matcher, self.name, self.folder = matcher, name, folder
        self.hits = self.misses = 0
        self.size = sum(file.stat().st_size for file in folder.glob("*.npz"))

    def __call__(self, first: Images, second: Images) -> Matches:
        """Match two batches; what is not on disk is matched in one batch.

        Raises:
            MediaError: the folder cannot be written to, or is full.
        """
        files = [self._file(*pair) for pair in zip(first, second, strict=True)]
        found = {index: _read(file) for index, file in enumerate(files)}
        missing = [index for index, each in found.items() if each is None]
        if missing:
            warp, certainty = self.matcher(first[missing], second[missing])
            places = _places(warp).cpu()
            for index, *one in zip(missing, places, certainty.cpu(), strict=True):
                self._write(files[index], *one)
                found[index] = (one[0], one[1])
        self.misses += len(missing)
        self.hits += len(files) - len(missing)
        kept = [each for each in found.values() if each is not None]
        all_places, all_certainties = (torch.stack(each) for each in zip(*kept, strict=True))
        return Matches(_common_form(all_places), all_certainties)

    def summary(self) -> str:
        """Hits and size, for the log."""
        asked = self.hits + self.misses
        share = f"{self.hits} of {asked} pairs ({self.hits / max(asked, 1):.1%})"
        size = f"{self.size / 2**20:.0f} MiB on disk"
        return f"matches of {self.name} from {self.folder}: {share}, {size}"

    def _file(self, first: Images, second: Images) -> Path:
        digest = hashlib.sha256(f"{self.name} {first.shape} {second.shape} ".encode())
        digest.update(first.tobytes())
        digest.update(second.tobytes())
        return self.folder / f"{digest.hexdigest()}.npz"

    def _write(self, file: Path, places: Tensor, certainty: Tensor) -> None:
        before = file.stat().st_size if file.is_file() else 0
        with replacing(file) as temporary:
            np.savez(temporary, places=places.numpy(), certainty=certainty.numpy())
        self.size += file.stat().st_size - before


def _places(warp: Tensor) -> Tensor:
    """What of a warp is not known beforehand: the inverse of :func:`_common_form`."""
    to_second, to_first = warp.chunk(2, dim=2)
    return torch.cat([to_second[..., 2:], to_first[..., :2]], 2)


def _read(file: Path) -> tuple[Tensor, Tensor] | None:
    """The places and certainty of one pair; None where the file is missing or damaged."""
    if not file.is_file():
        return None
    try:
        # Not by its path: of a damaged file, NumPy would leave the handle open.
        with np.load(io.BytesIO(file.read_bytes())) as arrays:
            return torch.from_numpy(arrays["places"]), torch.from_numpy(arrays["certainty"])
    except _DAMAGE:
        return None
