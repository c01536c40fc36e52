import json
from dataclasses import asdict

import numpy as np
import pytest

from llve_common.clips.clip import paired_clips, read_frame
from llve_common.clips.folders import list_images, match_by_name
from llve_common.data.sdsd.layout import clips_to_test, clips_to_train, low_and_high
from llve_common.data.sdsd.splits import SDSD_INDOOR_TEST, SDSD_OUTDOOR_TEST
from llve_common.data.synthetic import (
    SPLITS,
    read_photograph,
    synthetic_clips,
    write_clip_set,
    write_clips,
    write_image_set,
    write_images,
)
from llve_common.errors import DataError
from llve_common.io.images import read_image

SMALL = {"clips": 1, "frames": 3, "height": 16, "width": 24}


@pytest.fixture(scope="module")
def clips():
    return list(synthetic_clips(**SMALL))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_image_set(tmp_path_factory.mktemp("set"), **SMALL)


def test_every_pixel_follows_from_the_seed(clips):
    for one, same in zip(clips, synthetic_clips(**SMALL), strict=True):
        assert (one.split, one.name, one.darkening) == (same.split, same.name, same.darkening)
        np.testing.assert_array_equal(one.low, same.low)
        np.testing.assert_array_equal(one.normal, same.normal)
    for one, other in zip(clips, synthetic_clips(**SMALL, seed=1), strict=True):
        assert one.darkening != other.darkening
        assert (np.array(one.normal) != other.normal).any()


def test_more_clips_leave_the_first_ones_as_they_were(clips):
    first = next(synthetic_clips(**SMALL | {"clips": 2}))
    np.testing.assert_array_equal(first.low, clips[0].low)


def test_training_and_test_photographs_are_disjoint():
    assert not set(SPLITS["train"]) & set(SPLITS["test"])
    pictures = {
        name: read_photograph(name).tobytes() for names in SPLITS.values() for name in names
    }
    assert len(set(pictures.values())) == len(pictures) == sum(map(len, SPLITS.values()))


def test_clips_have_the_size_asked_for(clips):
    splits = [split for split, names in SPLITS.items() for _ in names]
    assert [clip.split for clip in clips] == splits
    for clip in clips:
        assert np.array(clip.low).shape == np.array(clip.normal).shape == (3, 16, 24, 3)
        assert clip.low[0].dtype == np.uint8


def test_something_moves_from_frame_to_frame(clips):
    for clip in clips:
        frames = np.array(clip.normal).astype(float)
        assert (abs(np.diff(frames, axis=0)).mean((1, 2, 3)) > 0.5).all(), clip.name


def test_low_light_is_darker(clips):
    for clip in clips:
        assert np.mean(clip.low) < 0.6 * np.mean(clip.normal), clip.name
        assert np.ptp(clip.normal) > 50, clip.name


def test_folder_holds_the_clips_in_the_layout_of_a_paired_set(folder, clips):
    for split, names in SPLITS.items():
        low, high = (list_images(folder / split / side) for side in ("low", "high"))
        assert len(match_by_name(low, high)) == 3 * len(names)
        assert [path.name for path in low] == [path.name for path in high]
    assert (folder / "train" / "low" / "chelsea0_0002.png").is_file()
    assert sorted(path.name for path in folder.iterdir()) == ["synthetic.json", "test", "train"]
    for clip in clips:
        for number in range(3):
            file = f"{clip.name}_{number:04d}.png"
            low = read_image(folder / clip.split / "low" / file).pixels
            high = read_image(folder / clip.split / "high" / file).pixels
            np.testing.assert_array_equal(low, clip.low[number])
            np.testing.assert_array_equal(high, clip.normal[number])


def test_record_says_how_it_was_made(folder, clips):
    record = json.loads((folder / "synthetic.json").read_text())
    assert record["made_with"].items() >= SMALL.items()
    assert "scikit-image" in record["made_with"]
    assert record["made_with"]["seed"] == 0
    for clip in clips:
        assert record[f"{clip.split}/{clip.name}"] == asdict(clip.darkening)


def test_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="the folder is not empty") as caught:
        write_image_set(tmp_path, **SMALL)
    assert caught.value.where == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(DataError, match="is a file, not a folder"):
        write_image_set(tmp_path / "notes.txt", **SMALL)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("write", [write_images, write_clips])
def test_a_set_is_whole_or_absent_and_one_run_s(clips, tmp_path, write):
    def stopped():
        yield from clips
        raise KeyboardInterrupt

    def overtaken():
        yield from clips
        assert all(each.name.startswith(".llve-") for each in tmp_path.iterdir())
        for first in ("GT", "test"):
            (tmp_path / first / "mine").mkdir(parents=True)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, stopped(), {})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="the folder is not empty"):
        write(tmp_path, overtaken(), {})
    assert sorted(each.name for each in tmp_path.iterdir()) == ["GT", "test"]


def test_the_set_in_the_layout_of_sdsd(tmp_path):
    for suffix in (".npy", ".png"):
        root = write_clip_set(tmp_path / suffix, suffix=suffix, **SMALL | {"clips": 2})
        clips = paired_clips(*low_and_high(root))
        assert {path.suffix for clip in clips for path in clip.frames} == {suffix}
        names = {
            "train": [clip.name for clip in clips_to_train(clips, SDSD_INDOOR_TEST)],
            "test": [clip.name for clip in clips_to_test(clips, SDSD_INDOOR_TEST, None)],
        }
        assert {split: len(found) for split, found in names.items()} == {
            split: 2 * len(photographs) for split, photographs in SPLITS.items()
        }
        assert not set(names["train"]) & set(SDSD_OUTDOOR_TEST)
        first = next(synthetic_clips(**SMALL | {"clips": 2}))
        [same] = [clip for clip in clips if clip.name == "pair2"]
        np.testing.assert_array_equal(read_frame(same.frames[1]), first.low[1])
        np.testing.assert_array_equal(read_frame(same.targets[1]), first.normal[1])
        assert json.loads((root / "synthetic.json").read_text())["pair2"]["photograph"]


def test_more_clips_than_names(tmp_path):
    with pytest.raises(DataError, match="too many clips"):
        write_clip_set(tmp_path, clips=7, frames=1, height=16, width=16)
