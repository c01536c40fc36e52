"""Means of scores, and the files that hold them."""

import json

import pytest

from llve_common.evaluate.scores import FrameScore, Scores, remove_earlier, write_scores


def scores_of(**clips):
    return Scores(
        tuple(
            FrameScore(name, f"{number}.png", number, {"psnr": value}, 0.5)
            for name, values in clips.items()
            for number, value in enumerate(values)
        ),
        {"a": {"mabd": 0.25}},
    )


def test_mean_of_frames_and_mean_of_clips_differ():
    scores = scores_of(a=[10.0], b=[20.0, 30.0, 40.0])
    assert scores.per_clip == {"a": {"psnr": 10, "mabd": 0.25}, "b": {"psnr": 30}}
    assert scores.mean_of_frames == {"psnr": 25}
    # Only one clip has the second score.
    assert scores.mean_of_clips == {"psnr": 20, "mabd": 0.25}


def test_nothing_to_score():
    assert Scores(()).mean_of_frames == Scores(()).mean_of_clips == Scores(()).per_clip == {}


def test_scores_on_disk(tmp_path):
    write_scores(scores_of(a=[10.0], b=[20.0, 40.0]), tmp_path / "out", {"paper": "tiny"})
    lines = (tmp_path / "out" / "scores.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"clip": "a", "frame": "0.png", "psnr": 10.0, "seconds": 0.5}
    assert len(lines) == 3
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == {
        "paper": "tiny",
        "frames": 3,
        "mean_of_frames": {"psnr": pytest.approx(70 / 3)},
        "mean_of_clips": {"psnr": 20.0, "mabd": 0.25},
        "per_clip": {"a": {"psnr": 10.0, "mabd": 0.25}, "b": {"psnr": 30.0}},
    }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "scores.jsonl",
        "summary.json",
    ]


def test_scores_of_equal_images_are_json(tmp_path):
    def refuse(constant):
        raise AssertionError(constant)

    write_scores(scores_of(a=[float("inf")]), tmp_path, {})
    summary = json.loads((tmp_path / "summary.json").read_text(), parse_constant=refuse)
    assert summary["mean_of_frames"]["psnr"] == "inf"


def test_an_earlier_tests_files_are_removed_by_their_names_alone(tmp_path):
    folder, beside = tmp_path / "out", tmp_path / "beside.png"
    names = ("index.html", "old.png", "kept.png", "foreign.png", "notes.txt")
    files = {name: folder / name for name in names}
    folder.mkdir()
    for file in (*files.values(), beside):
        file.touch()
    remove_earlier(folder, [])
    assert all(file.exists() for file in files.values())
    pictures = ["old.png", "kept.png", "gone.png", "notes.txt", "../beside.png", str(beside)]
    (folder / "scores.jsonl").write_text(json.dumps({"clip": "a", "pictures": pictures}) + "\n")
    remove_earlier(folder, [files["kept.png"]])
    assert {name for name in names if files[name].exists()} == set(names[2:])
    assert beside.exists()
    (folder / "scores.jsonl").write_bytes(b"\xff not ours\n")
    remove_earlier(folder, [])
    assert files["kept.png"].exists()
