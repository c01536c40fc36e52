"""TCE-Net's data: videos in low and in normal light, each a folder of frames.

Real pairs: ``<low>/<video>/%05d.png`` and the same names below ``<normal>``; DRV's have 16 bits,
and SDSD's may be ``.npy``. Synthetic ones (DS-LOL, or what ``tcenet simulate`` writes) are laid out
alike. A list file names the videos to use, one on a line.
"""

import math
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from llve_common.clips.clip import clip_files, clip_of, clips_in, files_of, require_pairs
from llve_common.clips.folders import entries, name_left_out
from llve_common.config import read_small
from llve_common.errors import DataError
from llve_common.io.images import read_image, to_tensor
from llve_common.paper.contract import Clip, Sample
from llve_common.video import is_video

WINDOW = 6
TARGETS = (2, 3)
"""The frames of a window that are enhanced."""


class PairedVideos:
    """Windows of six frames in low light, and the ground truth of the middle two.

    Args:
        clips: with ground truth, of at least six frames.
        crop: side of a sample, in pixels.
        scales: a sample is resized by a factor drawn uniformly between these.

    Raises:
        DataError: a clip is too short, or cannot be trained on.
    """

    def __init__(self, clips: list[Clip], crop: int, scales: tuple[float, float]) -> None:
        for clip in clips:
            require_pairs(clip)
            require_window(clip)
        self.clips, self.crop, self.scales = clips, crop, scales
        self.files = files_of(clips)

    def __len__(self) -> int:
        return len(self.clips)

    def sample(self, index: int, rng: random.Random) -> Sample:
        """``low`` (6, 3, crop, crop) and ``target`` (2, 3, crop, crop), RGB in [0, 1].

        The first frame, a square of the video, and a turn by quarters or a reflection are drawn
        once for all.

        Raises:
            DataError: the frames differ in size.
            MediaError: an image cannot be decoded.
        """
        clip = self.clips[index]
        assert clip.targets is not None
        start = rng.randrange(len(clip.frames) - WINDOW + 1)
        paths = list(clip.frames[start : start + WINDOW])
        paths += [clip.targets[start + target] for target in TARGETS]
        frames = self._augmented(_stacked(paths), rng)
        return {"low": frames[:WINDOW], "target": frames[WINDOW:]}

    def _augmented(self, frames: Tensor, rng: random.Random) -> Tensor:
        height, width = frames.shape[-2:]
        # Cutting first and resizing then is to resize and then cut, without resizing the rest.
        # A video that is too small for its factor gets a larger one.
        side = min(round(self.crop / rng.uniform(*self.scales)), height, width)
        top, left = rng.randrange(height - side + 1), rng.randrange(width - side + 1)
        cut = frames[..., top : top + side, left : left + side]
        square = (self.crop, self.crop)
        resized = F.interpolate(cut, square, mode="bilinear", align_corners=False)
        turned = torch.rot90(resized, rng.randrange(4), dims=(-2, -1))
        flipped = turned.flip(-1) if rng.random() < 0.5 else turned
        return flipped.contiguous()


class RealAndSynthetic:
    """One sample of a real set and one of a synthetic set at a time, as STCL's step takes them.

    An epoch draws each real video once, then again, ``repeat`` times; the synthetic videos take
    turns meanwhile, and meet another real one at each repeat. Where an epoch has no room for all of
    them, they are drawn by chance.

    Args:
        real: motion is not needed, the ground truth is.
        synthetic: clips that move.
        repeat: how often each real video is drawn in an epoch.
        batch_size: an epoch is filled up to whole batches, for batch norm needs more than one
            sample.
    """

    def __init__(
        self, real: PairedVideos, synthetic: PairedVideos, repeat: int, batch_size: int
    ) -> None:
        self.real, self.synthetic = real, synthetic
        self.files, self.turn = real.files + synthetic.files, len(real)
        self.length = -(-len(real) * repeat // batch_size) * batch_size

    def __len__(self) -> int:
        return self.length

    def file(self, index: int) -> Path:
        """The real video."""
        return self.real.clips[index % len(self.real)].place

    def sample(self, index: int, rng: random.Random) -> Sample:
        """``real`` and ``synthetic``, a sample each.

        Raises:
            UserError: as :meth:`PairedVideos.sample`.
        """
        among, others = len(self.real), len(self.synthetic)
        partner = (index + index // math.lcm(among, others)) % others
        if others > self.length:
            partner = rng.randrange(others)
        real = self.real.sample(index % among, rng)
        return {"real": real, "synthetic": self.synthetic.sample(partner, rng)}


def require_window(clip: Clip) -> None:
    """Refuse a clip that has no window of six frames.

    Raises:
        DataError: it has fewer.
    """
    if len(clip.frames) < WINDOW:
        raise DataError(
            "the video is too short for a window",
            where=clip.frames[0].parent,
            got=f"{len(clip.frames)} frames",
            expected=f"at least {WINDOW}",
            mend="take it off the list; single images are pairs by --low FOLDER --high FOLDER",
        )


def video_clips(
    low: Path, normal: Path | None, listed: Path | None = None, *, as_far: bool = False
) -> list[Clip]:
    """The videos below a folder, with ground truth where its folder is given.

    Args:
        low: a folder of folders of frames or of videos, or itself one of them.
        normal: the same names; a video with a single frame there has it for all frames.
        listed: a file with the names of the videos to use; None takes all.
        as_far: whether listed videos that are not on both sides are left out, with a line.

    Raises:
        DataError: a folder is missing or empty, the names do not match, or the list is not read.
    """
    lows, normals = _below(low), {} if normal is None else _below(normal)
    pairs = [
        (lows.get(name, low / name), normal and normals.get(name, normal / name))
        for name in (lows if listed is None else _listed(listed))
    ]
    there = [
        pair for pair in pairs if not as_far or all(not each or each.exists() for each in pair)
    ]
    name_left_out(low, [pair[0].name for pair in pairs if pair not in there], "not there")
    return [_clip(*pair) for pair in there]


def _clip(low: Path, normal: Path | None) -> Clip:
    clip_files(low)  # what is wrong with it is said first
    files = [] if normal is None else clip_files(normal)
    return clip_of(low, files[0] if len(files) == 1 else normal)


def _listed(file: Path) -> list[str]:
    try:
        # Editors on Windows begin a text with a byte order mark.
        lines = read_small(file).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            "the list of videos cannot be read",
            where=file,
            got=error,
            mend="give another list, or null to use all videos",
        ) from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError("the list names no video", where=file)
    for name in names:
        # A video's name becomes a part of the results' paths.
        if Path(name).is_absolute() or ".." in Path(name).parts:
            what = "the list names what is not in the folder of videos"
            raise DataError(what, where=file, got=name, expected="names of videos")
    return names


def _below(path: Path) -> dict[str, Path]:
    """The clips in a folder by name; where there is none, the folder or video itself, as ``""``."""
    inside = entries(path) if path.is_dir() else ()
    return clips_in(path) if any(each.is_dir() or is_video(each) for each in inside) else {"": path}


def _stacked(paths: list[Path]) -> Tensor:
    frames = [to_tensor(read_image(path).pixels) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        if frame.shape != frames[0].shape:
            raise DataError(
                "the frames of a video and its ground truth differ in size",
                where=path,
                got=f"{frame.shape[2]}x{frame.shape[1]}",
                expected=f"{frames[0].shape[2]}x{frames[0].shape[1]}, as {paths[0]}",
            )
    return torch.stack(frames)
