"""Papers side by side: what is compared, with what, and what is measured."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from llve_common.clips.clip import Clip
from llve_common.clips.frames import Frame
from llve_common.errors import ConfigError, DataError
from llve_common.evaluate.compare import compare, gamma_curves
from llve_common.evaluate.contenders import find_clips, find_contenders
from llve_common.io.images import read_image, write_image
from llve_common.metrics.cost import parameter_count
from llve_common.metrics.fidelity import psnr, ssim
from llve_common.metrics.quality import colour_error, loe, scaled_to_mean
from llve_common.metrics.temporal import NamedFlow
from llve_common.paper.contract import Window

CPU = torch.device("cpu")


def flat(value, height=40, width=48):
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture
def contender(paper, weights):
    """Makes the tiny paper take part, parts of it replaced."""

    def make(**changes):
        entry = SimpleNamespace(name="tiny", load=lambda: paper(**changes))
        return find_contenders({"tiny": entry}, {"tiny": [weights]})

    return make


@pytest.fixture
def pairs(tmp_path):
    """Two images with ground truth; the errors of the input are 10 and 20 of 255."""
    for name, low, high in (("a", 20, 30), ("b", 20, 40)):
        write_image(tmp_path / "low" / f"{name}.png", flat(low))
        write_image(tmp_path / "high" / f"{name}.png", flat(high))
    return tmp_path / "low", tmp_path / "high"


# What is compared


def test_images_of_a_folder_are_frames_only_where_it_is_said(pairs):
    low, high = pairs
    images = find_clips(low, high, clips=False)
    assert images[0] == Clip("a.png", (low / "a.png",), (high / "a.png",))
    [clip] = find_clips(low, high, clips=True)
    frames = (tuple(folder / name for name in ("a.png", "b.png")) for folder in pairs)
    assert clip == Clip("low", *frames)
    rows = [compare([], clips, CPU).rows[0] for clips in (images, [clip])]
    assert [row.mean("mabd_mse") for row in rows] == [None, pytest.approx((10 / 255) ** 2)]
    assert rows[1].mean("mabd") == 0  # The input rests, the ground truth brightens by 10.


def test_a_file_and_videos_in_folders(pairs, video_file, tmp_path):
    low, high = pairs
    assert find_clips(low / "a.png", high / "b.png", clips=False) == [
        Clip("a.png", (low / "a.png",), (high / "b.png",))
    ]
    dark = video_file("low/sub/v.mp4", [1])
    found = find_clips(low, None, clips=True)
    assert [(clip.name, clip.frames[0]) for clip in found] == [
        ("sub/v.mp4", dark), (".", low / "a.png"),
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"v\.mp4 has no ground truth"):
        find_clips(low, high, clips=False)


@pytest.mark.parametrize(("low", "high"), [("input", "GT"), ("SMID_LQ_np", "SMID_Long_np")])
def test_a_set_brings_its_clips_and_ground_truth(tmp_path, low, high):
    for number in range(2):
        write_image(tmp_path / low / "one" / f"{number}.npy", flat(20))
        write_image(tmp_path / high / "one" / f"{number}.npy", flat(30 + number))
    [clip] = find_clips(tmp_path, None, clips=False)
    assert clip.name == "one"
    error = {"input": math.sqrt(10 * 11), "SMID_LQ_np": 10}[low]
    [row] = compare([], [clip], CPU).rows
    assert row.mean("psnr") == pytest.approx(20 * math.log10(255 / error))


def test_networks_see_all_of_16_bits(contender, tmp_path):
    write_image(tmp_path / "low.png", flat(100).astype(np.uint16) * 256 + 250)
    write_image(tmp_path / "high.png", flat(101))
    clips = find_clips(tmp_path / "low.png", tmp_path / "high.png", clips=False)
    # Rounded to the nearest of 8 bits, but the input's are the upper 8.
    assert [row.mean("psnr") for row in compare(contender(), clips, CPU).rows] == [
        pytest.approx(20 * math.log10(255)), math.inf,
    ]  # fmt: skip


# Who takes part


def test_several_weights_of_a_paper_are_a_row_each(weights):
    found = dict.fromkeys(("five", "tiny"))
    other = weights.with_name("other.safetensors")
    names = [one.name for one in find_contenders(found, {"tiny": [weights, other]})]
    assert names == ["five", "tiny-tiny", "tiny-other"]
    with pytest.raises(ConfigError, match="two weights files of one name"):
        find_contenders(found, {"tiny": [weights, weights]})
    with pytest.raises(ConfigError, match="does not take part"):
        find_contenders(found, {"six": [weights]})


# What is measured


def test_figures_are_means_of_clips(contender, pairs):
    found = compare(contender(), find_clips(*pairs, clips=False), CPU)
    by_hand = {"a.png": 20 * math.log10(25.5), "b.png": 20 * math.log10(12.75)}
    for row in found.rows:  # tiny gives its input back
        psnr = {name: each["psnr"] for name, each in row.figures.items()}
        assert psnr == pytest.approx(by_hand)
        assert row.mean("psnr") == pytest.approx(sum(by_hand.values()) / 2)
    assert found.frames == {"a.png": 1, "b.png": 1}
    assert list(found.references) == ["a.png", "b.png"]
    assert found.rows[1].views["a.png"].scores[0]["psnr"] == pytest.approx(by_hand["a.png"])


def test_ssim_is_measured_by_both_definitions(image_file):
    low, high = (image_file(f"{seed}.png", 20, 20, seed=seed) for seed in (1, 2))
    [row] = compare([], [Clip("a", (low,), (high,))], CPU).rows
    pair = [read_image(file).pixels for file in (low, high)]
    for definition in ("skimage7", "gaussian11"):
        assert row.mean(f"ssim_{definition}") == ssim(*pair, definition)


def test_a_video_is_measured_over_time_frame_by_its_own_frame(contender, video_file):
    video = video_file("dark.mp4", [10 + 12 * (number % 3) for number in range(8)])
    # Five frames in, the middle one out as it is: figures differ if frames are mixed up.
    five = contender(
        window=Window(inputs=(-2, -1, 0, 1, 2)), enhance=lambda network, frames: frames[:, 2:3]
    )
    seen = []
    clip = Clip("dark.mp4", (video,), (video,))
    found = compare(five, [clip], CPU, watch=lambda *each: seen.append(each))
    untouched, tiny = found.rows
    assert tiny.failure is None
    assert found.frames == {"dark.mp4": 8}
    assert tiny.figures == untouched.figures
    assert tiny.mean("psnr") == math.inf
    assert tiny.mean("mabd") == pytest.approx(12 * (5 + 2 * 2) / 7 / 255, rel=0.1)
    assert tiny.mean("mabd_mse") == 0
    views = [row.views["dark.mp4"] for row in found.rows]
    assert views[0].strip.shape == (8, 48, 3)
    assert len(views[0].pictures) == 8
    assert views[0].pictures == views[1].pictures
    assert seen[:2] == [(1, 16, "input"), (2, 16, "tiny")]
    assert len(seen) == 16


def test_multiply_accumulates_and_parameters_by_hand(contender, pairs):
    one = contender(enhance=lambda network, frames: network(frames[:, 0])[:, None])
    row = compare(one, find_clips(pairs[0], None, clips=False), CPU).rows[1]
    assert row.cost.macs == 9 * 40 * 48
    assert row.cost.parameters == parameter_count(torch.nn.Conv2d(3, 3, 1))
    assert row.cost.seconds > 0


def test_the_motion_of_a_clip_is_estimated_once_for_all_rows(contender, image_file):
    pairs = []

    def still(first, second):
        pairs.append((first, second))
        return np.zeros((*first.shape[:2], 2), np.float32)

    files = tuple(image_file(f"{n}.png", 40, 48, seed=n) for n in range(3))
    found = compare(contender(), [Clip("a", files)], CPU, flow=NamedFlow("still", still))
    assert len(pairs) == 2 * 2  # back and forth
    first, second = (row.mean("warping_error") for row in found.rows)
    assert first == second > 0


def test_quality_is_measured_where_it_is_asked_for(image_file):
    low, high = (image_file(f"{seed}.png", 40, 48, seed=seed) for seed in (1, 2))
    dark = image_file("dark.png", 40, 48)
    write_image(dark, read_image(low).pixels // 4)
    untouched, gamma = compare([], [Clip("a", (dark,), (high,))], CPU, quality=True).rows
    [frame] = gamma_curves([Frame(read_image(dark), "", "dark.png")])
    pixels = frame.image.pixels
    assert pixels.mean() / 255 == pytest.approx(0.4, abs=0.005)
    assert gamma.mean("loe") == loe(pixels, read_image(dark).pixels)
    assert untouched.mean("loe") == 0
    assert gamma.mean("colour_error") == colour_error(pixels, read_image(high).pixels)
    matched = scaled_to_mean(pixels, read_image(high).pixels)
    assert gamma.mean("psnr_gt_mean") == psnr(matched, read_image(high).pixels.astype(float))
    assert gamma.mean("niqe") is None  # too small for it


def test_lpips_needs_ground_truth(image_file):
    with pytest.raises(ConfigError, match="got: lpips"):
        compare([], [Clip("a", (image_file("a.png"),))], CPU, distance=psnr)


# What fails


def nowhere():
    raise ImportError("no such package")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("weights", "tiny.safetensors"),
        ("network", "RuntimeError: not enough memory"),
        ("import", "cannot be imported"),
        ("entry", "not the paper"),
        ("number", "not a number"),
        ("none", "--weights tiny=FILE"),
    ],
)
def test_a_failing_paper_is_a_row_with_its_reason(
    contender, weights, pairs, monkeypatch, paper, broken, said
):
    def fail(network, frames):
        if broken == "network":
            raise RuntimeError("not enough memory")
        return frames * torch.nan if broken == "number" else frames

    [one] = contender(enhance=fail)
    if broken == "weights":
        weights.write_bytes(b"no weights")
    if broken in ("import", "entry"):
        one.entry.load = nowhere if broken == "import" else lambda: paper(name="other")
    if broken == "none":
        [one] = find_contenders({"tiny": one.entry}, {})
    untouched, row = compare([one], find_clips(*pairs, clips=False), CPU).rows
    assert said in row.failure
    assert (row.cost, row.figures) == (None, {})
    assert len(untouched.figures) == 2


def test_a_clip_that_cannot_be_read_or_scored_is_left_out_for_all(contender, pairs):
    low, high = pairs
    (low / "c.png").write_bytes(b"no image")
    write_image(high / "c.png", flat(1))
    write_image(low / "d.png", flat(1))
    write_image(high / "d.png", flat(1, width=20))
    (low / "e.mp4").write_bytes(b"no video")
    write_image(high / "e.png", flat(1))
    found = compare(contender(), find_clips(low, high, clips=False), CPU)
    assert list(found.frames) == ["a.png", "b.png"]
    assert list(found.left_out) == ["e.mp4", "c.png", "d.png"]
    assert all(list(row.figures) == ["a.png", "b.png"] for row in found.rows)
    assert len(found.failures) == 3
    with pytest.raises(DataError, match=r"nothing can be compared\n  got: \n- c.png: .*c.png: "):
        compare([], find_clips(low / "c.png", None, clips=False), CPU)


def test_a_clip_too_large_for_the_flow_is_left_out(image_file):
    def estimate(first, second):
        if first.shape[0] > 50:
            raise RuntimeError("not enough memory")
        return np.zeros((*first.shape[:2], 2), np.float32)

    clips = [
        Clip(name, tuple(image_file(f"{name}/{n}.png", height, 48, seed=n) for n in range(2)))
        for name, height in (("small", 40), ("large", 60))
    ]
    found = compare([], clips, CPU, flow=NamedFlow("still", estimate))
    assert list(found.frames) == ["small"]
    assert found.flow == "still"
    assert "large: RuntimeError: not enough memory" in found.left_out["large"]
