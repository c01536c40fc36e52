"""Pairs of frames, by themselves and against the published values."""

import random
import re
from collections import Counter

import numpy as np
import pytest
import torch
from recipes import fingerprint, write_sdsd_set

from llve_common.clips.clip import Clip, paired_clips
from llve_common.clips.windows import index_in_clip
from llve_common.data.sdsd.layout import clips_to_test, clips_to_train
from llve_common.errors import DataError
from llve_common.io.images import Image, write_image
from llve_common.testing.reference import cases, reference_arrays, reference_json, require_known
from llve_stcd.data import FramePairs
from llve_stcd.matchers import Matches
from llve_stcd.paper import WINDOW

SET = "sdsd_stcd/data_stcd"
NAMES = {"low1": "LQs", "high1": "GT", "low2": "LQs1", "high2": "GT1"}


@pytest.fixture
def clip(tmp_path):
    """Four frames; the pixels of each hold its number, and 100 more in normal light."""
    for side, bright in (("input", 0), ("GT", 100)):
        for number in range(4):
            pixels = np.full((6, 8, 3), bright + number, np.uint8)
            write_image(tmp_path / side / "pair1" / f"{number:04d}.npy", pixels)
    [found] = paired_clips(tmp_path / "input", tmp_path / "GT")
    return found


def numbers(sample):
    return {name: round(float(image.mean()) * 255) for name, image in sample.items()}


def test_a_frame_and_its_neighbour_in_both_lights(clip):
    data, rng = FramePairs([clip, clip]), random.Random(0)
    assert len(data) == 8
    seen = {index: Counter() for index in range(8)}
    for index in range(8):
        for _ in range(60):
            found = numbers(data.sample(index, rng))
            assert found["low1"] == index % 4
            assert found["high1"] == found["low1"] + 100
            assert found["high2"] == found["low2"] + 100
            seen[index][found["low2"]] += 1
    assert [sorted(seen[index]) for index in range(4)] == [[0, 1], [0, 1, 2], [1, 2, 3], [2, 3]]
    # The range is cut before the draw, so at an end both have equal chances.
    assert min(seen[0].values()) > 15


def test_a_clip_of_one_frame_is_its_own_neighbour(clip):
    data = FramePairs([clip.first(1)])
    assert numbers(data.sample(0, random.Random(0))) == {
        "low1": 0, "high1": 100, "low2": 0, "high2": 100,
    }  # fmt: skip


def test_ground_truths_are_matched_with_the_data_where_that_is_wanted(clip):
    def match(first, second):
        assert first.shape == second.shape == (1, 3, 4, 8)
        return Matches(torch.cat([first, second], 1), first - second)

    sample = FramePairs([clip], match).sample(1, random.Random(0))
    warp, certainty = sample["matches"]
    assert torch.equal(warp, torch.cat([sample["high1"], sample["high2"]]))
    assert torch.equal(certainty, sample["high1"] - sample["high2"])


def test_clips_without_ground_truth_are_refused(clip):
    with pytest.raises(DataError, match="no ground truth"):
        FramePairs([Clip(clip.name, clip.frames)])


def test_frames_of_another_size_are_refused(clip):
    write_image(clip.targets[0], np.zeros((6, 10, 3), np.uint8))
    with pytest.raises(DataError, match="differ in size") as found:
        FramePairs([clip]).sample(0, random.Random(0))
    assert str(clip.targets[0]) in str(found.value)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    return write_sdsd_set(folder, reference_json(SET)["dataset"])


def pairs_of(root, size=None):
    clips = paired_clips(root / "input", root / "GT", size)
    test = set(reference_json(SET)["test_split"]["folder"])
    return FramePairs(clips_to_train(clips, test)), clips_to_test(clips, test, None)


@pytest.mark.reference
def test_published_split(published):
    facts = reference_json(SET)
    data, test = pairs_of(published)
    for split, items in (("train_split", data.items), ("test_split", FramePairs(test).items)):
        assert len(items) == facts[split]["length"]
        assert [clip.name for clip, _ in items] == facts[split]["folder"]
        assert [f"{index}/{len(clip.frames)}" for clip, index in items] == facts[split]["idx"]


@pytest.mark.reference
def test_published_neighbours(published, monkeypatch):
    read = []

    def note(path):
        read.append(int(path.stem))
        return Image(np.zeros((4, 4, 3), np.uint8))

    monkeypatch.setattr("llve_common.clips.clip.read_image", note)
    data, test = pairs_of(published)
    for name, facts in reference_json(SET)["train_neighbours"]["rows"].items():
        index, seed = (int(part.partition("=")[2]) for part in name.split())
        rng = random.Random(seed)
        read.clear()
        data.sample(index, rng)
        assert read == facts["read_order"], name
        assert rng.random() == facts["next_random"], name
        assert (read[0], read[-1]) == (facts["center"], facts["neighbour"]), name
    # There, the test drew a number too, and used it for nothing.
    items = FramePairs(test).items
    for index, facts in reference_json(SET)["test_neighbours"]["rows"].items():
        assert frames_at_test(*items[int(index)]) == [facts["center"], facts["neighbour"]]


def frames_at_test(clip, place):
    """The window around a frame, of which the window engine makes the test's items."""
    last, size = len(clip.frames) - 1, len(WINDOW.inputs)
    around = (place + offset for offset in WINDOW.inputs)
    return [index_in_clip(index, place, last, size, WINDOW.border) for index in around]


@pytest.mark.reference
@pytest.mark.parametrize("case", cases(SET, under="items"))
def test_published_items(case, published):
    facts, arrays = case.settings, reference_arrays(SET)
    require_known([case.name], r"item_\d+", r"resized_\d+x\d+")
    size = tuple(int(side) for side in re.findall(r"(?<=[_x])\d+", case.name))
    resized = case.name.startswith("resized")
    data, test = pairs_of(published, size if resized else None)
    first, _, second, _ = facts["frames"]
    if facts["split"] == "train":
        found = data.sample(facts["index"], random.Random(facts["seed"]))
    else:
        clip, place = FramePairs(test).items[facts["index"]]
        # A clip of one frame has no other choice.
        one, other = (
            FramePairs([Clip("", (clip.frames[k],), (clip.targets[k],))]).sample(0, random.Random())
            for k in (first, second)
        )
        found = one | {"low2": other["low1"], "high2": other["high1"]}
        assert frames_at_test(clip, place) == [first, second]
    # OpenCV versions may round resized values differently.
    tolerance = 1 / 255 if resized else 0
    for ours, theirs in NAMES.items():
        assert list(found[ours].shape) == facts["shapes"][theirs]
        expected = facts["fingerprints"][theirs]
        actual = fingerprint(found[ours])
        np.testing.assert_allclose(actual[3:], expected[3:], rtol=0, atol=tolerance or 1e-7)
        np.testing.assert_allclose(actual[:3], expected[:3], rtol=1e-3 if resized else 1e-6)
        stored = arrays.get(f"items/{case.name}/{theirs}")
        if stored is not None:
            np.testing.assert_array_equal(found[ours], stored)


@pytest.mark.reference
def test_all_of_the_published_data_is_looked_at():
    covered = ("dataset", "(train|test)_split", "(train|test)_neighbours", "items", "note")
    require_known(reference_json(SET), *covered)
    items = (f"items/{name}/(LQs|GT)1?" for name in reference_json(SET)["items"])
    require_known(reference_arrays(SET), *items, "color/.*")  # colours: the core's test_quality.py
