"""Data sets on disk in SDSD's and SMID's layouts, and which clips are the test's."""

import numpy as np
import pytest

from llve_common.clips.clip import paired_clips
from llve_common.data.sdsd import layout
from llve_common.data.sdsd.layout import (
    clips_to_test,
    clips_to_train,
    clips_to_validate,
    either_name,
    is_set,
    low_and_high,
    set_clips,
    set_folders,
    smid_clips,
)
from llve_common.data.sdsd.layout import test_names as names_of_test
from llve_common.data.sdsd.settings import ClipData, ClipTestData
from llve_common.data.sdsd.splits import SDSD_INDOOR_TEST, SDSD_OUTDOOR_TEST, SMID_TEST
from llve_common.data.synthetic import write_clip_set
from llve_common.errors import DataError
from llve_common.io.images import write_image


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


def test_folders_of_single_images_are_told_of_low_and_high(tmp_path, write_clip):
    write_clip(tmp_path / "mine" / "low", 2, ".png")
    write_clip(tmp_path / "mine" / "high", 2, ".png")
    for folder in (tmp_path / "mine", tmp_path / "mine" / "low"):
        with pytest.raises(DataError, match=r"to mend: .*--low FOLDER --high FOLDER"):
            layout.training_clips(ClipData(root=folder))
    write_clip(tmp_path / "mine" / "low" / "walk", 2, ".png")
    write_clip(tmp_path / "mine" / "high" / "walk", 2, ".png")
    with pytest.raises(DataError, match=r"none of the test's clips .*\n.*\n.*\n.*--low FOLDER"):
        layout.test_clips(ClipTestData(root=tmp_path / "mine"))


def test_the_clips_of_a_set(root, tmp_path, write_clip):
    assert is_set(root)
    assert not is_set(root / "GT")
    assert set_clips(root) == paired_clips(root / "input", root / "GT")
    write_clip(tmp_path / "smid" / "SMID_LQ_png" / "0007", 2, ".png")
    write_clip(tmp_path / "smid" / "SMID_Long_png" / "0007", 1, ".png")
    [clip] = set_clips(tmp_path / "smid")
    assert [file.name for file in clip.targets] == ["0000.png"] * 2


def test_a_video_alone_is_tested_whatever_its_name(tmp_path, video_file):
    video = video_file("dark.mp4", range(5))
    assert set_folders(video, None, tmp_path / "bright") == (video, tmp_path / "bright")
    clips = paired_clips(*set_folders(video, None, None))
    [clip] = clips_to_test(clips, ["pair10"], 3)
    assert (clip.name, clip.count) == ("dark", 3)


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
    with pytest.raises(DataError, match=r"none of the test's clips"):
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


@pytest.mark.parametrize(
    ("given", "names"),
    [({"root": "SDSD/outdoor_np"}, SDSD_OUTDOOR_TEST), ({"root": "outdoor/np"}, SDSD_OUTDOOR_TEST),
     ({"root": "outdoor/indoor_np"}, SDSD_INDOOR_TEST), ({"root": "mine"}, SDSD_INDOOR_TEST),
     ({"low": "Outdoor_png/LQ"}, SDSD_OUTDOOR_TEST), ({"low": "."}, SDSD_OUTDOOR_TEST),
     ({"root": "outdoor_link"}, SDSD_OUTDOOR_TEST),
     ({"root": "outdoor_np", "test_clips": "indoor"}, SDSD_INDOOR_TEST),
     ({"root": "outdoor_np", "layout": "smid"}, SMID_TEST)],
)  # fmt: skip
def test_the_folders_name_tells_the_published_split(tmp_path, monkeypatch, given, names):
    here = tmp_path / "outdoor_np" / "input"
    here.mkdir(parents=True)
    (tmp_path / "outdoor_link").symlink_to(tmp_path)
    monkeypatch.chdir(here if given.get("low") == "." else tmp_path)
    assert names_of_test(ClipData.model_validate(given)) == names


def test_sets_made_here_have_indoors_names_whatever_their_folder_is_called(tmp_path):
    root = write_clip_set(tmp_path / "outdoor-photos_np", clips=1, frames=1, height=16, width=16)
    for given in (
        {"root": root},
        {"low": root / "input"},
        {"root": tmp_path / "outdoor-photos_png"},
    ):
        assert names_of_test(ClipData.model_validate(given)) == SDSD_INDOOR_TEST


def test_smid_has_one_ground_truth_for_a_scene(tmp_path, write_clip):
    write_clip(tmp_path / "SMID_LQ_np" / "0007", 5)
    for name in ("00_half.npy", "01.ARW.npy", "02.npy", "03.npy"):
        write_image(tmp_path / "SMID_Long_np" / "0007" / name, np.zeros((6, 8, 3), np.uint8))
    [clip] = smid_clips(*low_and_high(tmp_path))
    assert {path.name for path in clip.targets} == {"02.npy"}
    assert len(clip.targets) == len(clip.frames) == 5
    for name in ("02.npy", "03.npy"):
        (tmp_path / "SMID_Long_np" / "0007" / name).unlink()
    with pytest.raises(DataError, match="the scene has no ground truth"):
        smid_clips(*low_and_high(tmp_path))
