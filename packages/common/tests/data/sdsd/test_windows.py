"""Windows of frames to train on."""

import random

import numpy as np
import pytest
import torch

from llve_common.clips.clip import Clip, paired_clips, read_frame
from llve_common.data.sdsd.windows import Windows, crop_and_flip, require_whole_batch
from llve_common.errors import ConfigError, DataError
from llve_common.io.images import write_image


def test_a_window_is_the_frame_with_its_neighbours(root):
    data = Windows(paired_clips(root / "input", root / "GT"))
    assert len(data) == 16
    sample = data.sample(6, random.Random(0))
    assert (sample["frames"].shape, sample["target"].shape) == ((5, 3, 6, 8), (3, 6, 8))
    expected = read_frame(root / "input" / "pair10" / "0004.npy").transpose(2, 0, 1) / 255
    np.testing.assert_allclose(sample["frames"][0], expected, atol=1e-7)


def test_chance_comes_from_the_generator_alone(root):
    data = Windows(
        paired_clips(root / "input", root / "GT"), crop=4, horizontal=True, vertical=True
    )
    one, same = (data.sample(3, random.Random("3/1")) for _ in range(2))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert one["frames"].shape == (5, 3, 4, 4)
    others = [data.sample(3, random.Random(seed))["target"] for seed in range(9)]
    assert any(not torch.equal(one["target"], other) for other in others)


def test_frames_and_target_are_cut_and_mirrored_alike():
    image = np.arange(7 * 9 * 3, dtype=np.uint8).reshape(7, 9, 3)
    for seed in range(20):
        chosen = {"crop": 4, "horizontal": True, "vertical": True}
        one, other = crop_and_flip([image, 255 - image], random.Random(seed), **chosen)
        torch.testing.assert_close(one + other, torch.ones(3, 4, 4))


def test_a_clip_that_is_too_short_is_named(tmp_path, write_clip):
    for side in ("GT", "input"):
        write_clip(tmp_path / side / "pair3", 4)
    clips = paired_clips(tmp_path / "input", tmp_path / "GT")
    with pytest.raises(DataError, match="input/pair3: the clip is too short"):
        Windows(clips)
    assert len(Windows(clips, border="replicate")) == 4


def test_what_cannot_be_trained_on_is_named(root, video_file):
    video = video_file("dark.mp4", range(6))
    with pytest.raises(DataError, match=r"pair1: the clip has no ground truth"):
        Windows(paired_clips(root / "input", None))
    with pytest.raises(DataError, match="a video does not give") as caught:
        Windows([Clip("dark", (video,), (video,))])
    assert caught.value.where == video


def test_a_window_of_several_sizes_is_refused(root):
    write_image(root / "input" / "pair1" / "0003.npy", np.zeros((4, 4, 3), np.uint8))
    clips = paired_clips(root / "input", root / "GT")
    with pytest.raises(DataError, match=r"0003\.npy: the frames of a window differ in size"):
        Windows(clips).sample(3, random.Random(0))
    resized = Windows(paired_clips(root / "input", root / "GT", (8, 6)))
    assert resized.sample(3, random.Random(0))["frames"].shape == (5, 3, 6, 8)


def test_a_batch_larger_than_the_set_is_refused():
    require_whole_batch(5, 5)
    with pytest.raises(ConfigError, match="larger than the data set"):
        require_whole_batch(5, 6)
