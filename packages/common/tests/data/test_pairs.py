"""One's own pairs: layouts, names, and what is held out."""

import pytest
from pydantic import ValidationError

from llve_common.config import PairSettings
from llve_common.data.pairs import held_out_pairs, pairs_to_test, training_images, training_pairs
from llve_common.errors import DataError

LAYOUTS = {
    "two folders": ("a b", "low/{}.png", "high/{}.png", {}, "a b", ""),
    "held out by name": ("a b c", "low/{}.png", "high/{}.jpg", {"test_clips": "b"}, "a c", "b"),
    "LOL v1": ("1 22 1000", "{s}/low/{}.png", "{s}/high/{}.png", {}, "1 22", "1000"),
    "LOL v2": (
        "00001 00690 1000", "{S}/Low/low{}.png", "{S}/Normal/normal{}.png", {},
        "low00001 low00690", "low1000",
    ),
    "LOL v2, synthetic": ("r1 1000", "{S}/Low/{}.png", "{S}/Normal/{}.png", {}, "r1", "1000"),
    "a template": (
        "1 2", "low/{}_in.png", "high/gt-{}.png", {"names": "{}_in=gt-{}"}, "1_in 2_in", "",
    ),
    "clips": ("a/1 a/2 b/1 b/2", "low/{}.png", "high/{}.png", {"test_clips": "b"}, "a:2", "b:2"),
    "clips in folders": ("x/a/1 x/b/1", "low/{}.png", "high/{}.png", {}, "x/a x/b", ""),
    "SDSD": ("pair1/1 pair13/1 pair13/2", "LQ/{}.npy", "GT/{}.npy", {}, "pair1", "pair13:2"),
    "SMID": ("0001/1 0007/1", "SMID_LQ_np/{}.npy", "SMID_Long_np/{}.npy", {}, "0001", "0007"),
}  # fmt: skip
"""Names, the files of either side, further settings, and the clips to train on and held out."""


def listed(clips):
    """The clips by name, and by how many frames where these are several."""
    counted = ((clip.name, len(clip.frames)) for clip in clips)
    return " ".join(name if count == 1 else f"{name}:{count}" for name, count in counted)


@pytest.mark.parametrize(
    ("names", "low", "high", "more", "train", "out"), LAYOUTS.values(), ids=LAYOUTS
)
def test_layouts(image_file, tmp_path, names, low, high, more, train, out):
    for name in names.split():
        part = {"s": "eval15", "S": "Test"} if name == "1000" else {"s": "our485", "S": "Train"}
        for side in (low, high):
            image_file(side.format(name, **part))
    chosen = PairSettings(
        low=tmp_path, **{k: (v,) if k == "test_clips" else v for k, v in more.items()}
    )
    found, held_out = training_pairs(chosen, "video"), held_out_pairs(chosen, "video")
    assert (listed(found), listed(held_out)) == (train, out)
    for clip in (*found, *held_out):
        assert len(clip.frames) == len(clip.targets)
        for frame, target in zip(clip.frames, clip.targets, strict=True):
            assert frame != target
            assert {c for c in frame.stem if c.isdigit()} == {c for c in target.stem if c.isdigit()}
    assert pairs_to_test(chosen, "video") == (held_out or found)
    assert training_images(chosen) == [file for clip in found for file in clip.frames]


def test_images_of_a_folder_are_one_clip_for_a_paper_on_images(image_file, tmp_path, caplog):
    for name in ("1", "2", "10", "night/1"):
        image_file(f"low/{name}.png")
    pairs = PairSettings(low=tmp_path / "low", val_low=tmp_path / "low" / "night")
    [clip] = training_pairs(pairs, "image")
    assert (clip.name, clip.targets) == ("low", None)
    assert [file.stem for file in clip.frames] == ["1", "2", "10"]
    assert [each.name for each in held_out_pairs(pairs, "image")] == ["night"]
    assert caplog.text == ""
    pairs_to_test(PairSettings(low=tmp_path / "low"), "video")
    assert "4 images are clips that stand still" in caplog.text
    assert training_pairs(PairSettings(), "image") == []


def test_one_ground_truth_serves_a_clip_and_short_clips_go_to_and_fro(image_file, tmp_path):
    for name in ("low/a/1", "low/a/2", "low/a/3", "high/a/0"):
        image_file(f"{name}.png")
    [clip] = training_pairs(PairSettings(low=tmp_path, test_clips=()), "video")
    assert [file.stem for file in clip.targets] == ["0"] * 3
    longer = clip.at_least(6)
    assert [file.stem for file in longer.frames] == list("123212")
    assert len(longer.targets) == 6
    assert clip.at_least(2) == clip


def test_what_is_held_out_is_known_by_any_name(image_file, tmp_path, monkeypatch):
    for name in ("low/1", "low/2", "low/walk/1"):
        image_file(f"{name}.png")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "1.png").symlink_to(tmp_path / "low" / "1.png")
    for val, left in ((tmp_path / "low" / "walk", "low:2"), ("val", "low walk")):
        pairs = PairSettings.model_validate({"low": "low", "val_low": val})
        assert listed(training_pairs(pairs, "image")) == left


@pytest.mark.parametrize(
    ("files", "more", "said"),
    [
        (
            "low/a low/b high/a high/c",
            {},
            "low/b.png has no ground truth; .*high/c.png has no input",
        ),
        ("low/a-1 high/a", {"names": "{}_x={}"}, "low/a-1.png has no ground truth"),
        (
            "dark/a",
            {},
            "got: dark\n  expected: two folders .*--low FOLDER .*--pair 'low{}=normal{}'",
        ),
        ("low/a high/a", {"test_clips": ["a"]}, "every clip is held out.*got: a\n.*--test-clips"),
        ("eval15/low/a eval15/high/a", {}, "every clip is held out.*got: a\n.*--test-clips"),
        ("low/a high/a", {"test_clips": ["b"]}, "no such clip .*\n  got: b\n  expected: some of a"),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(image_file, tmp_path, files, more, said):
    for name in files.split():
        image_file(f"{name}.png")
    with pytest.raises(DataError, match=f"(?s){said}"):
        training_pairs(PairSettings(low=tmp_path, **more), "video")


@pytest.mark.parametrize(
    "values",
    [{"high": "a"}, {"low": "a", "val_high": "b"}, {"low": "a", "names": "low=high"},
     {"low": "a", "val_low": "b", "test_clips": ["c"]}],
)  # fmt: skip
def test_settings_that_contradict_one_another(values):
    with pytest.raises(ValidationError):
        PairSettings.model_validate(values)
