"""Clips enhanced and scored, and a paper's whole test."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from llve_common.clips.clip import Clip, read_frame
from llve_common.errors import CheckpointError, ConfigError, DataError, MediaError
from llve_common.evaluate import test as evaluator
from llve_common.evaluate.test import evaluate, run_test
from llve_common.io.images import Rounding, read_image, to_pixels, write_image
from llve_common.metrics.fidelity import psnr
from llve_common.metrics.temporal import NamedFlow
from llve_common.nn.lpips import Lpips
from llve_common.paper.contract import Pictures, Scoring, Window
from llve_common.weights.files import write_weights

MIDDLE = Window(inputs=(-1, 0, 1), outputs=(0,))


@pytest.fixture
def score(model):
    """Scores clips with the tiny paper, which halves the image, parts of it replaced."""

    def run(*clips, scoring=None, watch=None, pictures=None, **changes):
        tiny = model(**{"enhance": lambda network, frames: frames / 2} | changes)
        return evaluate(
            tiny, clips, scoring or Scoring(), pictures=Pictures(**pictures or {}), watch=watch
        )

    return run


def halved(pixels):
    return np.floor(pixels / 2 + 0.5)


def below(folder):
    return lambda clip, frame: folder / clip.name / frame.name


def test_pictures_are_kept_as_scored_at_the_size_they_were_used_at(score, clip, tmp_path):
    folders = {name: tmp_path / name for name in ("enhanced", "input", "target")}
    pair, told = replace(clip("a", 2), size=(20, 16)), []
    scores = score(
        pair,
        pictures={name: below(folder) for name, folder in folders.items()},
        watch=lambda *each: told.append(each),
    )
    assert told == [(1, 2), (2, 2)]
    for index, files in enumerate(zip(pair.frames, pair.targets, strict=True)):
        low, high = (read_frame(file, (20, 16)) for file in files)
        for name, expected in (("enhanced", halved(low)), ("input", low), ("target", high)):
            written = read_image(folders[name] / "a" / f"{index}.png").pixels
            np.testing.assert_array_equal(written, expected)
        frame = scores.frames[index]
        assert (frame.clip, frame.frame, frame.index) == ("a", f"{index}.png", index)
        assert frame.values["psnr"] == psnr(halved(low).astype(np.uint8), high)
        assert frame.values["input_psnr"] == psnr(low, high)
        assert frame.seconds > 0


@pytest.mark.parametrize("rounding", get_args(Rounding))
@pytest.mark.parametrize("window", [Window(), Window(halo=1), MIDDLE])
def test_a_network_sees_all_of_16_bits(score, image_file, tmp_path, window, rounding):
    """Of 10 bits in 16, 8 bits would leave four levels."""
    dark = np.random.default_rng(0).integers(0, 1024, (2, 12, 14, 3)).astype(np.uint16)
    low, high = ([tmp_path / side / f"{n}.png" for n in range(2)] for side in ("low", "high"))
    for files, frames in ((low, dark), (high, 64 * dark)):
        for file, pixels in zip(files, frames, strict=True):
            write_image(file, pixels)
    kept = {name: below(tmp_path / name) for name in ("enhanced", "input", "target")}

    def enhance(network, frames):
        return 64 * frames[:, len(window.inputs) // 2][:, None]

    scores = score(
        Clip("a", tuple(low), tuple(high)),
        window=window, rounding=rounding, enhance=enhance, pictures=kept,
    )  # fmt: skip
    whole = torch.from_numpy(dark.astype(np.float32)).movedim(-1, 1) / 65535 * 64
    for n, frame in enumerate(scores.frames):
        expected = to_pixels(whole[n], rounding), dark[n] // 256, 64 * dark[n] // 256
        for name, pixels in zip(kept, expected, strict=True):
            written = read_image(tmp_path / name / "a" / f"{n}.png").pixels
            np.testing.assert_array_equal(written, pixels)
        assert frame.values["psnr"] > 45
        assert frame.values["input_psnr"] < 10


def test_scores_by_what_is_asked_for(score, clip, monkeypatch):
    # The library of FSIM is an extra; what it computes is tested with the metric.
    monkeypatch.setattr(evaluator, "fsim", lambda image, target: psnr(image, target) / 100)
    means = score(clip("a"), scoring=Scoring("gaussian11", fsim=True, distance=psnr)).mean_of_frames
    assert means["fsim"] == pytest.approx(means["psnr"] / 100)
    assert means["input_fsim"] == pytest.approx(means["input_psnr"] / 100)
    assert (means["lpips"], means["input_lpips"]) == (means["psnr"], means["input_psnr"])
    plain = score(clip("a")).mean_of_frames
    assert plain.keys() == {"psnr", "ssim", "input_psnr", "input_ssim"}
    assert plain["ssim"] != means["ssim"]


def test_each_clip_is_measured_over_time(score, clip):
    still = NamedFlow("still", lambda first, _: np.zeros((*first.shape[:2], 2), np.float32))
    scores = score(clip("a", 3), clip("b", 3, truth=False), scoring=Scoring(flow=still))
    assert scores.flow == "still"
    assert {"warping_error", "mabd", "mabd_mse"} <= scores.temporal["a"].keys()
    assert scores.temporal["b"].keys() == {
        "warping_error", "mabd", "input_warping_error", "input_mabd",
    }  # fmt: skip
    assert scores.per_clip["a"]["mabd"] == scores.temporal["a"]["mabd"]


# How frames are fitted, and which count


def test_cropping_to_the_multiple_crops_the_ground_truth_alike(score, clip, tmp_path):
    one, window = clip("a", 1, size=(13, 17)), Window(multiple=4)
    pictures = {"enhanced": below(tmp_path)}
    cropped = score(one, window=window, scoring=Scoring(fit="crop"), pictures=pictures)
    low, high = (read_image(path).pixels[:12, :16] for path in (one.frames[0], one.targets[0]))
    assert read_image(tmp_path / "a" / "0.png").pixels.shape == (12, 16, 3)
    assert cropped.mean_of_frames["input_psnr"] == psnr(low, high)
    padded = score(one, window=window, pictures=pictures)
    assert read_image(tmp_path / "a" / "0.png").pixels.shape == (13, 17, 3)
    assert padded.mean_of_frames != cropped.mean_of_frames


def test_inner_frames_alone(score, clip, tmp_path):
    told = []
    scores = score(
        clip("a", frames=5),
        window=MIDDLE,
        enhance=lambda network, frames: frames[:, 1:2],
        scoring=Scoring(inner=True),
        pictures={"enhanced": below(tmp_path / "out")},
        watch=lambda *each: told.append(each),
    )
    assert [frame.frame for frame in scores.frames] == ["1.png", "2.png", "3.png"]
    assert told[-1] == (3, 3)
    for frame in scores.frames:
        # The network gives the middle frame as it is: every frame met its own ground truth.
        assert frame.values["psnr"] == frame.values["input_psnr"]
        assert (tmp_path / "out" / "a" / frame.frame).exists()


def test_a_clip_too_short_for_inner_frames_is_refused(score, clip):
    with pytest.raises(DataError, match=r"shorter than the network's window\n  got: 2 frames"):
        score(clip("b", 5), clip("a", 2), window=MIDDLE, scoring=Scoring(inner=True))


# What is refused


def test_clips_of_one_name_are_refused(score, clip):
    with pytest.raises(DataError, match="a: several clips have one name"):
        score(clip("a"), clip("b"), clip("a"))


@pytest.mark.parametrize(
    ("kind", "naming", "said"),
    [
        ("enhanced", lambda one, path: path, "over its source"),
        ("enhanced", lambda one, path: path.parents[1] / "high" / path.name, "that is read"),
        ("input", lambda one, path: one.targets[0], "that is read"),
        ("enhanced", lambda one, path: path.parents[2] / "out" / path.name, "to the same file"),
    ],
)
def test_pictures_over_one_another_or_what_is_read_are_refused(score, clip, kind, naming, said):
    pairs = [clip("a", 2), clip("b", 2)]
    files = [file for pair in pairs for file in (*pair.frames, *pair.targets)]
    before = [path.read_bytes() for path in files]
    with pytest.raises(DataError, match=said):
        score(*pairs, pictures={kind: naming})
    assert [path.read_bytes() for path in files] == before
    assert not (files[0].parents[2] / "out").exists()


# A paper's test


@pytest.fixture
def settings(tmp_path, paper, weights):
    """Makes settings of the tiny paper's test."""

    def make(**given):
        return paper().test.settings(weights=weights, save=tmp_path / "results", **given)

    return make


@pytest.mark.parametrize("kind", ["video", "frames"])
def test_a_test_takes_a_video(paper, settings, video_file, tmp_path, image_file, kind):
    dark, bright = video_file("dark.mp4", [40, 60]), video_file("bright.mkv", [80, 120])
    if kind == "frames":
        bright = image_file("bright/0.png", 40, 48).parent
        image_file("bright/1.png", 40, 48, seed=1)
    twice = paper(enhance=lambda network, frames: frames * 2)
    tested = run_test(twice, settings(low=dark, high=bright))
    targets = tested.clips[0].read_targets()
    for index, (frame, target) in enumerate(zip(tested.scores.frames, targets, strict=True)):
        written = read_image(tmp_path / "results" / "images" / "dark" / f"{index:05d}.png").pixels
        assert written.mean() == pytest.approx((80, 120)[index], abs=2)
        assert frame.values["psnr"] == psnr(written, target.image.pixels)
    assert (tested.facts["ssim"], tested.facts["device"]) == ("skimage7", "cpu")


def test_a_video_that_cannot_be_opened_is_refused_before_any_work(
    paper, settings, video_file, tmp_path
):
    for name in ("low/a.mp4", "low/b.mp4"):
        video_file(name, [40, 60])
    (tmp_path / "low" / "b.mp4").write_bytes(b"no video")
    with pytest.raises(MediaError, match=r"b\.mp4"):
        run_test(paper(), settings(low=tmp_path / "low"))
    assert not (tmp_path / "results").exists()


def test_a_test_without_anything_to_do_is_refused(paper, settings, image_file):
    low = image_file("low/a.png").parent
    assert run_test(paper(), settings(low=low)).scores.mean_of_frames == {}
    with pytest.raises(ConfigError, match="nothing to score"):
        run_test(paper(), settings(low=low, save_images=False))


def test_lpips_is_measured_by_given_weights_against_ground_truth(
    paper, settings, image_file, tmp_path
):
    low, high = (
        image_file(f"{side}/a.png", 40, 48, seed=n) for n, side in enumerate(("low", "high"))
    )
    with pytest.raises(CheckpointError, match="AlexNet are not here"):
        run_test(paper(), settings(low=low.parent, lpips=tmp_path / "none.pth"))
    write_weights(tmp_path / "alexnet.pth", Lpips().state_dict())
    with pytest.raises(ConfigError, match=r"against\n  got: lpips"):
        run_test(paper(), settings(low=low.parent, lpips=tmp_path / "alexnet.pth"))
    given = settings(low=low.parent, high=high.parent, lpips=tmp_path / "alexnet.pth")
    means = run_test(paper(), given).scores.mean_of_frames
    assert means["lpips"] == means["input_lpips"] > 0  # tiny gives its input back


def test_a_data_sets_protocol_says_what_is_tested_and_how(paper, settings, image_file):
    for side in ("low", "high"):
        for name in ("1", "22", "other"):
            low = image_file(f"eval15/{side}/{name}.png", 20, 24).parent
    root = low.parents[1]
    tiny = paper(window=Window((-1, 0, 1)), enhance=lambda network, frames: frames[:, 1:2])
    own = Scoring("gaussian11")
    tests = replace(tiny.test, root=lambda given: given.low, scoring=lambda given, device: own)
    whose = replace(tiny, test=tests)
    tested = run_test(whose, settings(low=root, protocol="lol-v1"))
    # Each image is a clip: no window mixes them.
    assert [clip.name for clip in tested.clips] == ["1", "22"]
    assert (tested.facts["protocol"], tested.facts["ssim"]) == ("lol-v1", "skimage7")
    tested = run_test(whose, settings(low=root, protocol="lol-v1", ssim="gaussian11"))
    assert tested.facts["ssim"] == "gaussian11"
    pairs = {"low": root / "low", "high": root / "high"}
    with pytest.raises(ConfigError, match="--protocol or --low, not both"):
        run_test(whose, settings(low=root, protocol="lol-v1", pairs=pairs))


def test_frames_of_a_clip_have_one_size(score, clip, image_file):
    pair = clip("a", 3)
    odd = replace(pair, frames=(*pair.frames[:2], image_file("a/low/2.png", 10, 14)))
    with pytest.raises(MediaError, match=r"2.png: the frame has another size than the first"):
        score(odd, window=Window((-1, 0, 1)), enhance=lambda network, frames: frames[:, 1:2])
