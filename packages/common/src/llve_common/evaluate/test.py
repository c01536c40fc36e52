"""Enhance clips, score them against their ground truth, and keep the pictures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from llve_common.clips.clip import files_of
from llve_common.clips.frames import Watcher
from llve_common.data.pairs import pairs_to_test
from llve_common.enhance.frames import enhancer_to_8_bits
from llve_common.enhance.jobs import naming_faults
from llve_common.enhance.windows import inner_frames
from llve_common.errors import ConfigError, DataError
from llve_common.evaluate.meter import Guide, Measure, Meter, Passed, put_through, require_truth
from llve_common.evaluate.protocols import find_protocol, protocol_clips
from llve_common.evaluate.scores import FrameScore, Scores
from llve_common.io.images import image_size, write_image
from llve_common.machine.device import choose_device
from llve_common.machine.folders import shown_path
from llve_common.metrics.fidelity import fsim, psnr, ssim
from llve_common.paper.contract import (
    Clip,
    Detail,
    Model,
    Paper,
    Pictures,
    Scoring,
    Test,
    Window,
    files_below,
)
from llve_common.video import is_video, open_video
from llve_common.weights.network import load_model
from llve_common.weights.pretrained import perceptual_distance

NO_PICTURES = Pictures()


@dataclass(frozen=True)
class Tested:
    """A test that was run; ``protocol`` is the name of the data set's, where it was by one."""

    scores: Scores
    model: Model
    scoring: Scoring
    clips: Sequence[Clip]
    pictures: Pictures
    details: Sequence[Detail] = ()
    protocol: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What the scores hold for."""
        weights, flow = self.model.weights, self.scoring.flow
        assert weights is not None
        return {
            "paper": self.model.paper.name,
            "weights": shown_path(weights.path),
            "weights_sha256": weights.sha256,
            "ssim": self.scoring.ssim,
            **({} if self.protocol is None else {"protocol": self.protocol}),
            "rounding": self.model.paper.rounding,
            **({} if flow is None else {"warping_error_flow": flow.name}),
            "torch": str(torch.__version__),
            "device": str(self.model.device),
            "precision": self.model.precision,
        }


def run_test(paper: Paper, settings: Any, watch: Watcher | None = None) -> Tested:
    """Test a paper's weights by its protocol: the published score, from Python.

    The settings are of the class ``paper.test.settings``. Pictures are written as they say; scores
    are returned, and written by :func:`llve_common.evaluate.scores.write_scores`.

    Raises:
        ConfigError: there is neither ground truth nor a picture to write, or FSIM or LPIPS was
            asked for without ground truth, or both a protocol and one's own pairs.
        UserError: data or weights are missing or do not fit, and as :func:`evaluate`.
    """
    if settings.protocol is not None and settings.pairs.low is not None:
        raise ConfigError("give --protocol or --low, not both", got=settings.pairs.low)
    protocol, device = paper.test, choose_device(settings.device)
    distance = perceptual_distance(settings.lpips, device)
    model = load_model(paper, protocol.weights(settings), device, settings, settings.precision)
    own = pairs_to_test(settings.pairs, paper.kind)
    clips = own or _clips(protocol, settings, model.window)
    pictures = NO_PICTURES
    if settings.save_images:
        images = Pictures(files_below(settings.folder / "images"))
        pictures = images if own else protocol.pictures(settings)
    if clips[0].targets is None and pictures.enhanced is None and not settings.quality:
        raise ConfigError(
            "there is no ground truth, so there is nothing to score",
            where=clips[0].place.parent,
            mend="give --save-images to write the enhanced frames, or --quality for NIQE",
        )
    scoring = protocol.scoring(settings, device)
    if settings.protocol is not None and "ssim" not in settings.model_fields_set:
        scoring = replace(scoring, ssim=find_protocol(settings.protocol).ssim or scoring.ssim)
    scoring = replace(scoring, quality=settings.quality, distance=distance)
    asked = _measures(scoring).keys() - {"psnr", "ssim"}
    require_truth(sorted(asked), there=clips[0].targets is not None)
    if own:
        # They may be shorter than a window, or single images.
        scoring = replace(scoring, inner=False)
    more = None if protocol.details is None else protocol.details(settings, device)
    scores = evaluate(model, clips, scoring, pictures=pictures, watch=watch)
    details = [] if more is None else more(model, clips)
    return Tested(scores, model, scoring, clips, pictures, details, settings.protocol)


def _clips(test: Test[Any], settings: Any, window: Window) -> Sequence[Clip]:
    if settings.protocol is None:
        return test.clips(settings, window)
    return protocol_clips(settings.protocol, test.root(settings))


def evaluate(
    model: Model,
    clips: Sequence[Clip],
    scoring: Scoring,
    *,
    pictures: Pictures = NO_PICTURES,
    watch: Watcher | None = None,
) -> Scores:
    """Enhance every frame of every clip and score it on the 8-bit images, as the paper rounds them.

    Returns:
        Scores with ``psnr`` and ``ssim`` of the enhanced frames, and ``input_psnr`` and
        ``input_ssim`` of the frames as they were, and what else the scoring asks for.

    Raises:
        DataError: two clips have one name, or two frames would be written to one file, or one over
            a file that is read; ground truth has another size or length, or nothing is left to crop
            to; a clip is shorter than a window, where only inner frames are scored.
        MediaError: an image cannot be read or written.
        UserError: FSIM's library is not installed.
    """
    window, inner = model.window, scoring.inner and len(model.window.inputs) > 1
    _require_own_names(clips)
    _require_own_files(clips, pictures)
    places = [_places(window, clip, inner=inner) for clip in clips]
    total = sum(map(len, places)) or None
    multiple = window.multiple if scoring.fit == "crop" else 1
    enhance = enhancer_to_8_bits(model, inner=inner)
    frames: list[FrameScore] = []
    temporal: dict[str, dict[str, float]] = {}
    for clip, wanted in zip(clips, places, strict=True):
        guide = None if scoring.flow is None else Guide(scoring.flow)
        meter = Meter(_measures(scoring), guide, before=True, quality=scoring.quality)
        for passed in put_through(clip, enhance, multiple=multiple, first=wanted.start):
            values, file = meter.add(passed), clip.file(passed.index)
            kept = _write(pictures, clip, file, passed)
            label = clip.label(passed.index)
            frames.append(FrameScore(clip.name, label, passed.index, values, passed.seconds, kept))
            if watch is not None:
                watch(len(frames), total)
        temporal[clip.name] = meter.over_time()
    return Scores(tuple(frames), temporal, None if scoring.flow is None else scoring.flow.name)


def require_scorable(clips: Sequence[Clip], window: Window, scoring: Scoring) -> None:
    """Look at clips, and the headers of their images, before anything is computed.

    Raises:
        DataError: two clips have one name, one is shorter than a window where only inner frames
            are scored, or a frame and its ground truth differ in size.
        MediaError: a file is no image, or a video cannot be opened.
    """
    _require_own_names(clips)
    for clip in clips:
        _places(window, clip, inner=scoring.inner and len(window.inputs) > 1)
        for pair in zip(clip.frames, clip.targets or clip.frames, strict=False):
            # As stored; one of two may be turned when it is read.
            sizes = [_stored_size(file) for file in pair]
            if clip.size is None and len({*map(frozenset, sizes)}) > 1:
                got = ", and ".join(f"{width}x{height}" for height, width in sizes)
                raise DataError(
                    "a frame and its ground truth differ in size",
                    where=pair[0],
                    got=f"{got} in {pair[1]}",
                )


def _stored_size(file: Path) -> tuple[int, int]:
    if not is_video(file):
        return image_size(file)
    with open_video(file) as video:
        return video.info.height, video.info.width


def _measures(scoring: Scoring) -> dict[str, Measure]:
    found: dict[str, Measure] = {"psnr": psnr, "ssim": partial(ssim, definition=scoring.ssim)}
    if scoring.fsim:
        found["fsim"] = fsim
    if scoring.distance is not None:
        found["lpips"] = scoring.distance
    return found


def _write(pictures: Pictures, clip: Clip, file: Path, passed: Passed) -> tuple[Path, ...]:
    written = []
    for naming, pixels in (
        (pictures.enhanced, passed.result),
        (pictures.input, passed.source),
        (pictures.target, passed.target),
    ):
        if naming is not None and pixels is not None:
            written.append(naming(clip, file))
            write_image(written[-1], pixels)
    return tuple(written)


def _require_own_names(clips: Sequence[Clip]) -> None:
    """Scores are told apart by their clips' names."""
    for name, count in Counter(clip.name for clip in clips).items():
        if count > 1:
            raise DataError("several clips have one name", where=name, got=f"{count} of them")


def _require_own_files(clips: Sequence[Clip], pictures: Pictures) -> None:
    read = files_of(clips)
    for naming in (pictures.enhanced, pictures.input, pictures.target):
        if naming is not None:
            # Of a video the first frame stands for all, which differ by their numbers.
            pairs = [
                (clip.file(index), naming(clip, clip.file(index)))
                for clip in clips for index in range(len(clip.frames))
            ]  # fmt: skip
            naming_faults(pairs, kept=read)


def _places(window: Window, clip: Clip, *, inner: bool) -> range:
    """Which of a clip's frames are enhanced, as far as its length is known."""
    count = clip.count or 0
    if not inner:
        return range(count)
    if 0 < count < len(window.inputs):
        raise DataError(
            "the clip is shorter than the network's window",
            where=clip.place,
            got=f"{count} frames",
            expected=f"at least {len(window.inputs)}",
            mend="pad the clips, or leave this one out; single images are tested by --low FOLDER",
        )
    return inner_frames(window, count)
