import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from llve_common.data.clip import read_frame
from llve_common.errors import DataError, MediaError
from llve_common.evaluate import test as evaluator
from llve_common.evaluate.test import FrameScore, Pictures, Scores, evaluate, write_scores
from llve_common.io.images import read_image, write_image
from llve_common.metrics.fidelity import psnr, ssim
from llve_common.metrics.temporal import DIS, Mabd, NamedFlow
from llve_common.paper.contract import Clip, Window
from llve_common.report.tables import steadiness_table

CPU = torch.device("cpu")


@pytest.fixture
def score(paper):
    """Scores clips with the tiny paper, which halves the image, parts of it replaced."""

    def run(
        *clips, save=None, written=None, definition="skimage7", watch=None, fit="pad", also=None,
        **changes,
    ):  # fmt: skip
        changes = {"enhance": lambda network, frames: frames / 2} | changes
        return evaluate(
            paper(**changes),
            nn.Identity(),
            clips,
            device=CPU,
            ssim_definition=definition,
            fit=fit,
            pictures=Pictures(save, **(written or {})),
            watch=watch,
            **(also or {}),
        )

    return run


@pytest.fixture
def clip(image_file):
    """Makes a clip of random frames, with ground truth."""

    def make(name, frames=1, *, size=(12, 14), target_size=None, truth=True):
        low = [image_file(f"{name}/low/{n}.png", *size, seed=n) for n in range(frames)]
        high = [
            image_file(f"{name}/high/{n}.png", *(target_size or size), seed=n + 50)
            for n in range(frames)
        ]
        return Clip(name, tuple(low), tuple(high) if truth else None)

    return make


def scores_of(**clips):
    return Scores(
        tuple(
            FrameScore(name, f"{number}.png", {"psnr": value}, 0.5)
            for name, values in clips.items()
            for number, value in enumerate(values)
        )
    )


def test_mean_of_frames_and_mean_of_clips_differ():
    scores = scores_of(a=[10.0], b=[20.0, 30.0, 40.0])
    assert scores.per_clip == {"a": {"psnr": 10}, "b": {"psnr": 30}}
    assert scores.mean_of_frames == {"psnr": 25}
    assert scores.mean_of_clips == {"psnr": 20}


def test_nothing_to_score():
    assert Scores(()).mean_of_frames == Scores(()).mean_of_clips == Scores(()).per_clip == {}


@pytest.mark.parametrize("definition", ["skimage7", "gaussian11"])
def test_scores_are_those_of_the_rounded_image_and_of_the_input(score, clip, definition):
    pair = clip("a")
    low, high = (read_image(path).pixels for path in (pair.frames[0], pair.targets[0]))
    halved = np.floor(low / 2 + 0.5).astype(np.uint8)
    (frame,) = score(pair, definition=definition).frames
    assert (frame.clip, frame.frame) == ("a", "0.png")
    assert frame.values == pytest.approx(
        {
            "psnr": psnr(halved, high),
            "ssim": ssim(halved, high, definition),
            "input_psnr": psnr(low, high),
            "input_ssim": ssim(low, high, definition),
        }
    )
    assert frame.seconds > 0


def test_fsim_where_it_is_asked_for(score, clip, monkeypatch):
    # The library is an extra; what it computes is tested with the metric.
    monkeypatch.setattr(evaluator, "fsim", lambda image, target: psnr(image, target) / 100)
    means = score(clip("a"), also={"with_fsim": True}).mean_of_frames
    assert means["fsim"] == pytest.approx(means["psnr"] / 100)
    assert means["input_fsim"] == pytest.approx(means["input_psnr"] / 100)
    assert "fsim" not in score(clip("b")).mean_of_frames


def test_16_bit_images_are_scored_at_8_bits(score, clip):
    pair = clip("a")
    for path in (*pair.frames, *pair.targets):
        write_image(path.with_suffix(".tif"), read_image(path).pixels.astype(np.uint16) * 257)
    deep = Clip(
        "a",
        tuple(path.with_suffix(".tif") for path in pair.frames),
        tuple(path.with_suffix(".tif") for path in pair.targets),
    )
    assert score(deep).mean_of_frames == score(pair).mean_of_frames


def test_frames_are_saved_as_scored(score, clip, tmp_path):
    pair, told = clip("a", 2), []
    score(
        pair, save=lambda one, path: tmp_path / "out" / path.name, watch=lambda *n: told.append(n)
    )
    for path in pair.frames:
        halved = np.floor(read_image(path).pixels / 2 + 0.5)
        np.testing.assert_array_equal(read_image(tmp_path / "out" / path.name).pixels, halved)
    assert told == [(1, 2), (2, 2)]


def test_inputs_and_ground_truth_are_kept_at_the_size_they_were_used_at(score, clip, tmp_path):
    def into(folder):
        return lambda one, path: tmp_path / folder / one.name / path.name

    pair = replace(clip("a"), size=(20, 16))
    scores = score(pair, save=into("out"), written={"input": into("in"), "target": into("truth")})
    low, high = (read_frame(each, (20, 16)) for each in (pair.frames[0], pair.targets[0]))
    for folder, expected in (("in", low), ("truth", high), ("out", np.floor(low / 2 + 0.5))):
        written = read_image(tmp_path / folder / "a" / "0.png").pixels
        np.testing.assert_array_equal(written, expected)
    assert scores.frames[0].values["input_psnr"] == psnr(low, high)


def test_an_input_kept_over_ground_truth_is_refused(score, clip):
    pair = clip("a")
    with pytest.raises(DataError, match="over another image that is read"):
        score(pair, written={"input": lambda one, path: one.targets[0]})


def test_without_ground_truth_there_are_pictures_and_no_scores(score, clip, tmp_path):
    scores = score(clip("a", truth=False), save=lambda one, path: tmp_path / "out.png")
    assert scores.frames[0].values == {}
    assert scores.mean_of_frames == scores.mean_of_clips == {}
    assert (tmp_path / "out.png").exists()


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_clips_without_ground_truth_leave_the_means_alone(score, clip, order):
    made = {"a": clip("a", 2), "b": clip("b", truth=False)}
    scores = score(*(made[name] for name in order))
    assert scores.mean_of_frames == scores.mean_of_clips == score(made["a"]).mean_of_frames
    assert scores.per_clip["b"] == {}


def test_ground_truth_of_another_size(score, clip):
    pair = clip("a", target_size=(12, 20))
    with pytest.raises(DataError, match="differ in size") as caught:
        score(pair)
    assert caught.value.where == pair.frames[0]
    assert caught.value.got == f"14x12, and {pair.targets[0]} 20x12"


def test_ground_truth_of_another_size_that_would_be_cropped_alike(score, clip):
    pair = clip("a", target_size=(12, 15))
    with pytest.raises(DataError, match="differ in size"):
        score(pair, window=Window(multiple=12), fit="crop")


def test_clips_of_one_name_are_refused(score, clip):
    with pytest.raises(DataError, match="a: several clips have one name"):
        score(clip("a"), clip("b"), clip("a"))


def test_frame_too_small_to_score_is_named(score, clip):
    pair = clip("a", size=(6, 9))
    with pytest.raises(DataError, match="too small for SSIM") as caught:
        score(pair)
    assert caught.value.where == pair.frames[0]


def test_result_that_is_no_number_is_named(score, clip):
    pair = clip("a")
    with pytest.raises(MediaError, match="not a number") as caught:
        score(pair, enhance=lambda network, frames: frames * torch.nan)
    assert caught.value.where == pair.frames[0]


def test_two_frames_to_one_file_are_refused_before_anything_is_written(score, clip, tmp_path):
    with pytest.raises(DataError, match="two inputs would be written to the same file"):
        score(clip("a"), clip("b"), save=lambda one, path: tmp_path / "out" / path.name)
    assert not (tmp_path / "out").exists()


def test_results_over_frames_or_ground_truth_are_refused(score, clip):
    pair = clip("a", 2)
    before = [path.read_bytes() for path in (*pair.frames, *pair.targets)]
    with pytest.raises(DataError, match="over its source"):
        score(pair, save=lambda one, path: path)
    with pytest.raises(DataError, match="over another image that is read"):
        score(pair, save=lambda one, path: path.parents[1] / "high" / path.name)
    assert [path.read_bytes() for path in (*pair.frames, *pair.targets)] == before


def test_scores_on_disk(tmp_path):
    write_scores(scores_of(a=[10.0], b=[20.0, 40.0]), tmp_path / "out", {"paper": "tiny"})
    lines = (tmp_path / "out" / "scores.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"clip": "a", "frame": "0.png", "psnr": 10.0, "seconds": 0.5}
    assert len(lines) == 3
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == {
        "paper": "tiny",
        "frames": 3,
        "mean_of_frames": {"psnr": pytest.approx(70 / 3)},
        "mean_of_clips": {"psnr": 20.0},
        "per_clip": {"a": {"psnr": 10.0}, "b": {"psnr": 30.0}},
    }
    assert sorted(Path(tmp_path / "out").iterdir()) == [
        tmp_path / "out" / "scores.jsonl",
        tmp_path / "out" / "summary.json",
    ]


def test_scores_of_equal_images_are_json(tmp_path):
    def refuse(constant):
        raise AssertionError(constant)

    write_scores(scores_of(a=[float("inf")]), tmp_path, {})
    summary = json.loads((tmp_path / "summary.json").read_text(), parse_constant=refuse)
    assert summary["mean_of_frames"]["psnr"] == "inf"


def test_cropping_to_the_multiple_crops_the_ground_truth_alike(score, clip, tmp_path):
    one, window = clip("a", size=(13, 17)), Window(multiple=4)
    target = tmp_path / "out.png"
    cropped = score(one, window=window, fit="crop", save=lambda clip, frame: target)
    low, high = (read_image(path).pixels[:12, :16] for path in (one.frames[0], one.targets[0]))
    assert read_image(target).pixels.shape == (12, 16, 3)
    assert cropped.mean_of_frames["input_psnr"] == psnr(low, high)
    padded = score(one, window=window, save=lambda clip, frame: target)
    assert read_image(target).pixels.shape == (13, 17, 3)
    assert padded.mean_of_frames != cropped.mean_of_frames


def test_an_image_smaller_than_the_multiple_cannot_be_cropped(score, clip):
    with pytest.raises(DataError, match="too small to be cropped") as caught:
        score(clip("a", size=(12, 3)), window=Window(multiple=4), fit="crop")
    assert "0.png" in str(caught.value)


MIDDLE = Window(inputs=(-1, 0, 1), outputs=(0,))


def test_inner_frames_alone(score, clip, tmp_path):
    one = clip("a", frames=5)
    result = score(
        one,
        window=MIDDLE,
        enhance=lambda network, frames: frames[:, 1:2],
        save=lambda clip, frame: tmp_path / "out" / frame.name,
        also={"inner": True},
    )
    assert [frame.frame for frame in result.frames] == ["1.png", "2.png", "3.png"]
    for frame in result.frames:
        # The network gives the middle frame as it is: every frame met its own ground truth.
        assert frame.values["psnr"] == frame.values["input_psnr"]
        written = read_image(tmp_path / "out" / frame.frame).pixels
        np.testing.assert_array_equal(written, read_image(one.frames[int(frame.frame[0])]).pixels)


def test_a_clip_too_short_for_inner_frames_is_refused(score, clip):
    with pytest.raises(DataError, match=r"shorter than the network's window\n  got: 2 frames"):
        score(clip("a", frames=2), window=MIDDLE, also={"inner": True})


def test_steadiness_of_each_clip(score, clip):
    several, alone = clip("a", frames=3, size=(40, 48)), clip("b", frames=1)
    result = score(several, alone, also={"temporal": DIS})
    brightness = Mabd()
    for path in several.frames:
        brightness.update(read_image(path).pixels)
    before = brightness.compute().mean
    assert result.temporal["a"]["input_mabd"] == pytest.approx(before)
    # The tiny paper halves every frame.
    assert result.temporal["a"]["mabd"] == pytest.approx(before / 2, rel=0.02)
    assert result.temporal["a"]["mabd_mse"] > result.temporal["a"]["input_mabd_mse"] >= 0
    # A clip of one frame has no neighbours to differ.
    assert result.temporal["b"] == {}
    assert result.mean_of_clips["mabd"] == result.temporal["a"]["mabd"]
    table = steadiness_table(result, "Tiny").markdown()
    assert f"{before * 1e3:.4f}" in table
    assert "mean of 2 clips" in table
    assert steadiness_table(result, "Tiny").title.endswith("warping error by DIS)")


def test_warping_error_is_along_the_flow_given(score, clip):
    one = clip("a", frames=3, size=(40, 48))
    still = NamedFlow("still", lambda first, _: np.zeros((*first.shape[:2], 2), np.float32))
    result = score(one, also={"temporal": still})
    frames = np.stack([read_image(path).pixels for path in one.frames]) / 255
    by_hand = np.square(np.diff(frames, axis=0)).mean()
    assert result.temporal["a"]["input_warping_error"] == pytest.approx(by_hand)
    assert "warping error by still" in steadiness_table(result, "Tiny").title
