"""Clips in folders and windows of them, against the published values and by themselves."""

import hashlib
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from recipes import SDSD_RESIZED, fingerprint, write_sdsd_set, write_smid_set

from llve_common.data.clip import (
    Clip,
    Windows,
    clips_to_test,
    clips_to_train,
    clips_to_validate,
    crop_and_flip,
    either_name,
    low_and_high,
    paired_clips,
    read_frame,
    require_length,
    require_whole_batch,
    set_folders,
    smid_clips,
)
from llve_common.data.sdsd.splits import SDSD_INDOOR_TEST, SDSD_OUTDOOR_TEST, SMID_TEST
from llve_common.data.windows import window_indices
from llve_common.errors import ConfigError, DataError, MediaError
from llve_common.io.images import write_image
from llve_common.testing.reference import cases, reference_arrays, reference_json, require_known

PUBLISHED = "sdsd_stcd/data_sdsd"


def write_clip(folder, length, kind=".npy", size=(6, 8), seed=0):
    """Random frames; ``size`` is height and width."""
    rng = np.random.default_rng(seed)
    for number in range(length):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        write_image(folder / f"{number:04d}{kind}", pixels)


@pytest.fixture
def root(tmp_path):
    for side in ("GT", "input"):
        for clip, length in (("pair1", 6), ("pair2", 5), ("pair10", 5)):
            write_clip(tmp_path / "indoor_np" / side / clip, length)
    return tmp_path / "indoor_np"


# The layout


def test_clips_and_frames_are_matched_by_name(root):
    clips = paired_clips(*low_and_high(root))
    assert [clip.name for clip in clips] == ["pair1", "pair10", "pair2"]
    assert [len(clip.frames) for clip in clips] == [6, 5, 5]
    for clip in clips:
        for frame, target in zip(clip.frames, clip.targets, strict=True):
            assert frame.relative_to(root / "input") == target.relative_to(root / "GT")


def test_numpy_and_images_may_face_each_other(root, tmp_path):
    write_clip(tmp_path / "png" / "pair7", 5, ".png")
    write_clip(tmp_path / "npy" / "pair7", 5, ".npy")
    [clip] = paired_clips(tmp_path / "png", tmp_path / "npy")
    assert (clip.frames[3].name, clip.targets[3].name) == ("0003.png", "0003.npy")
    np.testing.assert_array_equal(read_frame(clip.frames[3]), read_frame(clip.targets[3]))


def test_without_ground_truth_there_are_frames_alone(root):
    assert [clip.targets for clip in paired_clips(root / "input", None)] == [None] * 3


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("GT/pair10/0002.npy", "input/pair10/0002.npy has no ground truth"),
        ("input/pair1/0005.npy", "GT/pair1/0005.npy has no input"),
        ("GT/pair2", "input/pair2 has no ground truth"),
    ],
)
def test_what_has_no_partner_is_named(root, lost, said):
    for file in [root / lost, *(root / lost).glob("*")][::-1]:
        file.rmdir() if file.is_dir() else file.unlink()
    with pytest.raises(DataError, match=said):
        paired_clips(root / "input", root / "GT")


def test_the_input_may_be_called_lq_and_the_set_may_be_images(root):
    (root / "input").rename(root / "LQ")
    assert low_and_high(root) == (root / "LQ", root / "GT")
    assert either_name(root / "input") == root / "LQ"
    images = root.with_name("indoor_png")
    root.rename(images)
    assert either_name(root) == images
    assert either_name(root / "GT") == images / "GT"
    assert either_name(root / "input") == images / "LQ"
    assert either_name(root / "elsewhere") == root / "elsewhere"


def test_folders_that_are_given_and_those_in_the_root(root, tmp_path):
    low, high = root / "input", root / "GT"
    assert set_folders(root, None, None) == (low, high)
    assert set_folders(root, None, tmp_path / "elsewhere") == (low, tmp_path / "elsewhere")
    # An input that is given may have no ground truth, whatever stands in the root.
    assert set_folders(tmp_path / "nowhere", low, None) == (low, None)
    assert set_folders(root, root / "LQ", high) == (low, high)
    high.rename(root / "other")
    assert set_folders(root, None, None) == (low, None)


def test_a_folder_that_is_laid_out_otherwise(root, tmp_path):
    with pytest.raises(DataError, match="not laid out as a data set of clips"):
        low_and_high(root / "GT")
    with pytest.raises(DataError, match="no such folder"):
        low_and_high(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no clip"):
        paired_clips(root / "GT" / "pair1", None)


def test_training_and_test_are_disjoint(root, caplog):
    clips = paired_clips(*low_and_high(root))
    assert [clip.name for clip in clips_to_train(clips, ["pair10"])] == ["pair1", "pair2"]
    chosen = clips_to_test(clips, ["pair10", "pair1"], 4)
    assert [(clip.name, len(clip.frames), len(clip.targets)) for clip in chosen] == [
        ("pair1", 4, 4),
        ("pair10", 4, 4),
    ]
    assert not caplog.records
    clips_to_test(clips, ["pair1", "pair99"], None)
    assert "1 of the test's 2 clips are missing" in caplog.text
    assert "pair99" in caplog.text
    with pytest.raises(DataError, match="none of the test's clips"):
        clips_to_test(clips, ["pair99"], None)
    with pytest.raises(DataError, match="none is left to train on"):
        clips_to_train(clips, ["pair1", "pair2", "pair10"])


def test_clips_to_validate_with_need_not_be_there(root, caplog):
    clips = paired_clips(*low_and_high(root))
    assert clips_to_validate(clips, ["pair99"], 4) == []
    assert not caplog.records
    assert clips_to_validate(clips, ["pair1", "pair99"], 4) == [clips[0].first(4)]
    assert "1 of the test's 2 clips are missing" in caplog.text


def test_published_splits():
    assert (len(SDSD_INDOOR_TEST), len(SDSD_OUTDOOR_TEST), len(SMID_TEST)) == (12, 13, 49)
    assert all(len(set(names)) == len(names) for names in (SDSD_OUTDOOR_TEST, SMID_TEST))


def test_smid_has_one_ground_truth_for_a_scene(tmp_path):
    write_clip(tmp_path / "SMID_LQ_np" / "0007", 5)
    rng = np.random.default_rng(0)
    for name in ("00_half.npy", "01.ARW.npy", "02.npy", "03.npy"):
        pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        write_image(tmp_path / "SMID_Long_np" / "0007" / name, pixels)
    [clip] = smid_clips(*low_and_high(tmp_path))
    assert {path.name for path in clip.targets} == {"02.npy"}
    assert len(clip.targets) == len(clip.frames) == 5
    for name in ("02.npy", "03.npy"):
        (tmp_path / "SMID_Long_np" / "0007" / name).unlink()
    with pytest.raises(DataError, match="the scene has no ground truth"):
        smid_clips(*low_and_high(tmp_path))


# Windows


def test_a_window_is_the_frame_with_its_neighbours(root):
    data = Windows(paired_clips(*low_and_high(root)))
    assert len(data) == 16
    sample = data.sample(6, random.Random(0))
    assert (sample["frames"].shape, sample["target"].shape) == ((5, 3, 6, 8), (3, 6, 8))
    expected = read_frame(root / "input" / "pair10" / "0004.npy").transpose(2, 0, 1) / 255
    np.testing.assert_allclose(sample["frames"][0], expected, atol=1e-7)


def test_chance_comes_from_the_generator_alone(root):
    data = Windows(paired_clips(*low_and_high(root)), crop=4, horizontal=True, vertical=True)
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


def test_a_clip_that_is_too_short_is_named(tmp_path):
    for side in ("GT", "input"):
        write_clip(tmp_path / side / "pair3", 4)
    clips = paired_clips(tmp_path / "input", tmp_path / "GT")
    with pytest.raises(DataError, match="input/pair3: the clip is too short"):
        Windows(clips)
    assert len(Windows(clips, border="replicate")) == 4


def test_a_window_of_several_sizes_is_refused(root):
    write_image(root / "input" / "pair1" / "0003.npy", np.zeros((4, 4, 3), np.uint8))
    clips = paired_clips(*low_and_high(root))
    with pytest.raises(DataError, match=r"0003\.npy: the frames of a window differ in size"):
        Windows(clips).sample(3, random.Random(0))
    resized = Windows(paired_clips(*low_and_high(root), size=(8, 6)))
    assert resized.sample(3, random.Random(0))["frames"].shape == (5, 3, 6, 8)


def test_a_batch_larger_than_the_set_is_refused():
    require_whole_batch(5, 5)
    with pytest.raises(ConfigError, match="larger than the data set"):
        require_whole_batch(5, 6)


# The published values


def only_key(listed, form):
    """The key of a form, and the numbers and names in it."""
    [found] = [match for key in listed if (match := re.fullmatch(form, key))]
    return listed[found[0]], found.groups()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The synthetic set of the reference values; its seventh of frames is checked by digest."""
    dataset = reference_json(PUBLISHED)["dataset"]
    folder = write_sdsd_set(tmp_path_factory.mktemp("set") / "sdsd", dataset)
    for name, digest in dataset["sha256_16"].items():
        side, pair, number = name.split("/")
        frame = np.load(folder / side / pair / f"{int(number):04d}.npy")
        assert hashlib.sha256(frame.tobytes()).hexdigest()[:16] == digest
    return folder


@pytest.fixture(scope="module")
def published_smid(tmp_path_factory):
    listed = reference_json(PUBLISHED)
    size = listed["dataset"]["height"], listed["dataset"]["width"]
    return write_smid_set(tmp_path_factory.mktemp("smid"), listed["smid"]["recipe"], *size)


@pytest.mark.reference
@pytest.mark.parametrize("case", cases(PUBLISHED, under="index_generation"))
def test_published_window_indices(case):
    border, size, length = re.fullmatch(r"(\w+) N=(\d+) length=(\d+)", case.name).groups()
    for centre, expected in case.settings["index"].items():
        arguments = int(centre), int(length) - 1, int(size), border
        if int(centre) in case.settings["out_of_range_centers"]:
            # Mended: an IndexError there, or frames of the clip's other end.
            with pytest.raises(DataError, match="too short"):
                window_indices(*arguments)
        else:
            assert window_indices(*arguments) == expected


@pytest.mark.reference
def test_published_even_windows_have_a_frame_more():
    listed, [size] = only_key(reference_json(PUBLISHED), r"index_generation_even_N(\d+)")
    for centre, expected in listed.items():
        assert window_indices(int(centre), len(listed) - 1, int(size), "reflection") == expected


@pytest.mark.reference
def test_published_short_clips():
    case, [size] = only_key(
        reference_json(PUBLISHED)["clips_shorter_than_N_frames"], r"new_info_N(\d+)"
    )
    for length, outcome in case.items():
        clip = Clip("pair1", tuple(Path("input/pair1", f"{t}.npy") for t in range(int(length))))
        if "IndexError" in str(outcome):
            # Mended: ours says so before training, and names the clip.
            with pytest.raises(DataError, match="too short"):
                require_length(clip, int(size), "new_info")
        else:
            require_length(clip, int(size), "new_info")


@pytest.mark.reference
def test_published_frames(published):
    """Exact, and to 1/255 where they are resized."""
    listed = reference_json(PUBLISHED)
    facts, first = listed["read_img_seq2"], next(iter(listed["dataset"]["pairs_in_recipe_order"]))
    times = re.fullmatch(r"GT of the first pair, t = (.*)", facts["frames"])[1].split(", ")
    frames = [published / "GT" / first / f"{int(t):04d}.npy" for t in times]

    def read(size):
        read = [read_frame(each, size).transpose(2, 0, 1) for each in frames]
        return np.stack(read) / np.float32(255)

    for name, stored in reference_arrays(PUBLISHED).items():
        if name == "read_img_seq2/no_resize":
            np.testing.assert_array_equal(read(None), stored)
        elif resized := re.fullmatch(r"read_img_seq2/resize_(\d+)x(\d+)(?:_every_(\d+)nd)?", name):
            width, height, step = (int(each or 1) for each in resized.groups())
            found = read((width, height))
            thinned = found[..., ::step, ::step]
            np.testing.assert_allclose(thinned, stored, rtol=0, atol=1 / 255 + 1e-6)
            if f"shape_{width}x{height}" in facts:
                assert list(found.shape) == facts[f"shape_{width}x{height}"]
                wanted = facts[f"fingerprint_{width}x{height}"]
                assert fingerprint(found)[:2] == pytest.approx(wanted[:2], abs=1e-4)


@pytest.mark.reference
def test_published_odd_frames(tmp_path, published):
    """Mended: grey, transparent and floating-point frames were taken as they came; ours refuses."""
    listed = reference_json(PUBLISHED)
    require_known(listed["read_img2"], "gray_.*", "four_channel_.*", "float64_file_.*")
    odd = [np.zeros((6, 7), np.uint8), np.zeros((6, 7, 4), np.uint8), np.zeros((6, 7, 3))]
    for number, array in enumerate(odd):
        np.save(tmp_path / f"{number}.npy", array)
        with pytest.raises(MediaError, match=rf"{number}\.npy: the image cannot be decoded"):
            read_frame(tmp_path / f"{number}.npy")
    assert listed["read_img_missing_file"].startswith("AttributeError")
    with pytest.raises(MediaError, match="no such image file"):
        read_frame(tmp_path / "none.npy")
    assert listed["read_img_png_equals_npy"]
    frame = next(published.rglob("*.npy"))
    write_image(tmp_path / "0.png", read_frame(frame))
    np.testing.assert_array_equal(read_frame(tmp_path / "0.png"), read_frame(frame))


@pytest.mark.reference
def test_published_flips():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    for name, expected in reference_json(PUBLISHED)["augment_torch"]["results"].items():
        seed, horizontal, vertical = (part.split("=")[1] for part in name.split())
        rng = random.Random(int(seed))
        chosen = {"horizontal": horizontal == "True", "vertical": vertical == "True"}
        [result] = crop_and_flip([image], rng, crop=None, **chosen)
        wanted = image[:, ::-1] if expected["flipped_left_right"] else image
        wanted = wanted[::-1] if expected["flipped_up_down"] else wanted
        np.testing.assert_array_equal(result * 255, wanted.transpose(2, 0, 1))
        assert rng.random() == expected["next_random"]


@pytest.mark.reference
def test_published_crops():
    case, numbers = only_key(
        reference_json(PUBLISHED), r"crop_and_flip_draws_for_(\d+)x(\d+)_crop(\d+)"
    )
    height, width, crop = (int(each) for each in numbers)
    # Every pixel tells its place.
    y, x = np.indices((height, width))
    image = np.stack([y % 256, x % 256, y // 256 * 16 + x // 256], -1).astype(np.uint8)
    for seed, (row, column, mirrored, upside_down) in case["rows"].items():
        [result] = crop_and_flip(
            [image], random.Random(int(seed)), crop=crop, horizontal=True, vertical=True
        )
        wanted = image[row : row + crop, column : column + crop]
        wanted = wanted[:, ::-1] if mirrored else wanted
        wanted = wanted[::-1] if upside_down else wanted
        np.testing.assert_array_equal((result * 255).round(), wanted.transpose(2, 0, 1))


def places(data):
    """The clip of every item, and its frame of how many."""
    items = [(clip.name, place, len(clip.frames)) for clip, place in data.items]
    return [name for name, _, _ in items], [f"{place}/{length}" for _, place, length in items]


@pytest.mark.reference
def test_published_splits_of_the_set(published):
    listed = reference_json(PUBLISHED)
    clips, test = paired_clips(*low_and_high(published)), listed["test_split"]["folders"]
    splits = {
        "train_split": clips_to_train(clips, test),
        "test_split": clips_to_test(clips, test, 30),
        # Mended: validation took the training class and its folders; ours takes the test split.
        "validation_during_training": clips,
    }
    for name, chosen in splits.items():
        case, data = listed[name], Windows(chosen)
        assert len(data) == case["length"]
        assert [clip.name for clip in chosen] == case["folders"]
        assert places(data) == (case["folder"], case["idx"])
        half = data.frames // 2
        ends = [int(not half <= place < len(clip.frames) - half) for clip, place in data.items]
        assert ends == case["border"]
        for path, file in zip(chosen[0].frames, case["files"], strict=False):
            assert file == f"sdsd/input/{chosen[0].name}/{path.name}"


@pytest.mark.reference
def test_published_first_frames(tmp_path):
    case, [first] = only_key(reference_json(PUBLISHED), r"test_keeps_first_(\d+)_frames")
    for side in ("GT", "input"):
        write_clip(tmp_path / side / "pair10", int(first) + 3, size=(2, 2))
    clips = paired_clips(tmp_path / "input", tmp_path / "GT")
    [clip] = clips_to_test(clips, ["pair10"], int(first))
    last = len(clip.frames) - 1
    assert len(clip.frames) == case["length"]
    assert f"{last}/{len(clip.frames)}" == case["last"]
    window, _ = only_key(case, r"last_window_is_clipped_to_(\d+)")
    assert window_indices(last, last, len(window), "new_info") == window


@pytest.mark.reference
def test_published_pairing_is_mended(tmp_path):
    """There, folders were paired by their place in the sorted lists."""
    listed = reference_json(PUBLISHED)
    assert listed["different_frame_counts"].startswith("AssertionError")
    assert listed["empty_or_missing_root_length"] == 0
    for low, high in listed["folders_are_paired_by_sorted_position"]:
        write_clip(tmp_path / "input" / low, 5)
        write_clip(tmp_path / "GT" / high, 5)
    said = rf"{low} has no ground truth; .*{high} has no input"
    with pytest.raises(DataError, match=said):
        paired_clips(tmp_path / "input", tmp_path / "GT")
    with pytest.raises(DataError, match="no such folder"):
        paired_clips(tmp_path / "nowhere", None)


@pytest.mark.reference
def test_published_smid_split(published_smid):
    case = reference_json(PUBLISHED)["smid"]
    clips = smid_clips(*low_and_high(published_smid))
    for name, chosen in (
        ("train", clips_to_train(clips, case["test_list"])),
        ("test", clips_to_test(clips, case["test_list"], 30)),
    ):
        data = Windows(chosen)
        assert len(data) == case[name]["length"]
        assert places(data) == (case[name]["folder"], case[name]["idx"])
        assert {clip.targets[0].name for clip in chosen} == {case["gt_files_kept"][0]}
    # Mended: the test's list was a hard-coded path.
    assert reference_json(PUBLISHED)["smid_test_without_the_hard_coded_list"].startswith("FileNot")


ITEMS = (
    r"(?:smid_)?(?:train|test|val)_\d+", r"train_(?P<width>\d+)x(?P<height>\d+)_crop\d+",
    "train_resized", "crop_larger_than_frame_height", r"test_padding_(?P<border>\w+)",
    r"train_\d+frames_noflip",
)  # fmt: skip


@pytest.mark.reference
@pytest.mark.parametrize("case", cases(PUBLISHED, under="items"))
def test_published_items(case, published, published_smid):
    """Exact; 1/255 where frames are resized. The draw after each shows how many there were."""
    name, facts, listed = case.name, case.settings, reference_json(PUBLISHED)
    [told] = [match.groupdict() for form in ITEMS if (match := re.fullmatch(form, name))]
    size = (int(told["width"]), int(told["height"])) if "width" in told else None
    size = SDSD_RESIZED if name == "train_resized" else size
    training = "test" not in name and "val" not in name
    flips = training and "noflip" not in name
    if name.startswith("smid"):
        clips, test = smid_clips(*low_and_high(published_smid)), listed["smid"]["test_list"]
    else:
        clips = paired_clips(*low_and_high(published), size=size)
        test = listed["test_split"]["folders"]
    if training:
        clips = clips_to_train(clips, test)
    elif "test" in name:
        clips = clips_to_test(clips, test, 30)
    data = Windows(
        clips,
        frames=facts["LQs_shape"][0],
        border=told.get("border", "new_info"),
        crop=max(facts["GT_shape"]) if training else None,
        horizontal=flips,
        vertical=flips,
    )
    rng = random.Random(facts["seed"])
    clip, centre = data.items[facts["index"]]
    assert (clip.name, f"{centre}/{len(clip.frames)}") == (facts["folder"], facts["idx"])
    sample = data.sample(facts["index"], rng)
    assert rng.random() == facts["next_random"]
    for ours, theirs in (("frames", "LQs"), ("target", "GT")):
        assert list(sample[ours].shape) == facts[f"{theirs}_shape"]
        tolerance = 1e-6 if size is None else 1 / 255 + 1e-6
        found, wanted = fingerprint(sample[ours]), facts[f"{theirs}_fingerprint"]
        # The third number, the norm, grows with the number of pixels.
        assert found[2] == pytest.approx(wanted[2], rel=1e-3)
        np.testing.assert_allclose(np.delete(found, 2), np.delete(wanted, 2), atol=tolerance)
        stored = reference_arrays(PUBLISHED).get(f"items/{name}/{theirs}")
        if stored is not None:
            np.testing.assert_array_equal(sample[ours], stored)


@pytest.mark.reference
def test_what_of_the_published_data_does_not_apply():
    reasons = {
        "lmdb": "published code refuses it; ours has no such setting",
        "cache_data_false": "crashed there; ours never keeps the whole set in memory",
        "printed_at_construction": "what the published code prints",
        "index_generation_wrong_padding": "settings take the four names only",
        "index_generation_wrong_padding_in_the_interior": "the same",
        "dataloader_batch_at_test": "ours tests clip by clip, not through a loader",
        "train_dataloader": "a short last batch is dropped there; see the sampler's tests",
        "DistIterSampler": "see the sampler's tests",
    }
    covered = (
        "dataset", "index_generation", r"index_generation_even_N\d+", "read_img_seq2", "read_img2",
        "read_img_png_equals_npy", "read_img_missing_file", "augment_torch", "train_split",
        "test_split", "validation_during_training", "items", r"test_keeps_first_\d+_frames",
        r"crop_and_flip_draws_for_\d+x\d+_crop\d+", "clips_shorter_than_N_frames",
        "different_frame_counts", "folders_are_paired_by_sorted_position", "smid",
        "empty_or_missing_root_length", "smid_test_without_the_hard_coded_list",
    )  # fmt: skip
    require_known(reference_json(PUBLISHED), *covered, *reasons)
