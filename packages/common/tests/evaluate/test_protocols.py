"""Protocols by name: what the file says, folders that follow it, and scores by it."""

import hashlib
import os
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from llve_common.__main__ import app
from llve_common.errors import ConfigError, DataError
from llve_common.evaluate.protocols import (
    data_digest,
    find_protocol,
    find_set,
    protocol_clips,
    protocols,
)
from llve_common.evaluate.score import score
from llve_common.io.images import read_image, write_image
from llve_common.metrics.fidelity import psnr, ssim

SIZE = (16, 24)


def make(root, names, picture, shift=0):
    for number, name in enumerate(names):
        write_image(root / f"{name}.png", picture(*SIZE, seed=number) // 2 + shift)


@pytest.mark.parametrize("name", protocols())
def test_what_is_not_known_is_said_to_be_not_at_hand(name):
    protocol = find_protocol(name)
    said = " ".join(protocol.not_at_hand)
    unknown = {"digest": protocol.sha256 is None, "names": not protocol.test}
    if protocol.high:
        unknown |= {"SSIM": protocol.ssim is None, "mean": protocol.mean is None}
    assert {word for word, lacking in unknown.items() if lacking} == {
        w for w in unknown if w in said
    }
    assert protocol.source
    if protocol.test and protocol.count:
        assert len(protocol.test) == protocol.count


def test_a_set_of_pairs_is_found_and_scored_by_its_names(tmp_path, picture, caplog):
    names = [*find_protocol("lol-v1").test, "2"]
    make(tmp_path / "LOL" / "eval15" / "low", names, picture)
    make(tmp_path / "LOL" / "eval15" / "high", names[1:], picture, 60)
    make(tmp_path / "out", names[2:], picture, 50)
    assert find_set("lol-v1", tmp_path / "LOL").missing == ["1"]
    clips = protocol_clips("lol-v1", tmp_path / "LOL")
    assert [clip.name for clip in clips] == names[1:-1]
    assert all(len(clip.frames) == 1 and clip.targets for clip in clips)
    assert "missing are 1" in caplog.text

    found = score(tmp_path / "out", tmp_path / "LOL", protocol="lol-v1")
    assert [frame.frame for frame in found.frames] == [f"{name}.png" for name in names[2:-1]]
    assert found.missing
    assert found.notes[0] == (
        "left out: 1, which lol-v1 tests, has no result; 22, which lol-v1 tests, has no result"
    )
    first = found.by_protocol()[0]
    assert first.startswith(f"lol-v1: PSNR {found.means()['RGB']['psnr']:.3f} dB, SSIM skimage7")
    assert first.endswith("13 images, of 15 images")
    with pytest.raises(DataError, match="got: a protocol, which goes by names"):
        score(tmp_path / "out", tmp_path / "LOL", protocol="lol-v1", pair="order")
    shutil.rmtree(tmp_path / "LOL" / "eval15" / "high")
    with pytest.raises(DataError, match=r"ground truth is not there\n  expected: .* eval15/high"):
        score(tmp_path / "out", tmp_path / "LOL", protocol="lol-v1")


def test_a_set_of_clips_is_cut_to_its_split_frames_and_size(tmp_path, picture):
    names = [f"{n:04}" for n in range(32)]
    for clip in ("pair13", "pair14"):
        make(tmp_path / "SDSD" / "indoor_png" / "LQ" / clip, names, picture)
    # Ground truth is needed of no other clip, and of no other frame.
    make(tmp_path / "SDSD" / "indoor_png" / "GT" / "pair13", names[:30], picture, 60)
    [clip] = protocol_clips("sdsd-indoor", tmp_path / "SDSD")
    assert (clip.name, clip.count, clip.size) == ("pair13", 30, (960, 512))
    assert next(clip.read_targets()).image.pixels.shape == (512, 960, 3)


def test_a_folder_of_frames_is_a_clip_where_the_protocol_has_clips(tmp_path, picture, monkeypatch):
    small = find_protocol("sdsd-indoor").model_copy(update={"size": None, "frames": 2})
    monkeypatch.setitem(protocols(), "sdsd-indoor", small)
    for folder, shift in (("input", 0), ("GT", 60), ("out", 50)):
        frames = ["0", "1"] if folder == "out" else ["0", "1", "2"]
        make(tmp_path / folder / "pair13", frames, picture, shift)
    found = score(tmp_path / "out" / "pair13", tmp_path, protocol="sdsd-indoor")
    assert set(found.temporal) == {"pair13"}
    assert "pair13" not in found.notes[0]
    assert "2.png" not in found.notes[0]
    with pytest.raises(DataError, match="no clip of results can be scored"):
        score(tmp_path, tmp_path, protocol="sdsd-indoor")


def test_all_frames_of_a_scene_have_one_ground_truth(tmp_path, picture, monkeypatch):
    small = find_protocol("smid").model_copy(update={"size": None})
    monkeypatch.setitem(protocols(), "smid", small)
    make(tmp_path / "SMID_LQ_png" / "0013", ["a", "b"], picture)
    make(tmp_path / "SMID_Long_png" / "0013", ["half", "long"], picture, 60)
    make(tmp_path / "out" / "0013", ["a", "b"], picture, 50)
    found = score(tmp_path / "out", tmp_path, protocol="smid")
    truth = read_image(tmp_path / "SMID_Long_png" / "0013" / "long.png").pixels
    results = [read_image(tmp_path / "out" / "0013" / f"{n}.png").pixels for n in "ab"]
    row = found.means("clips")["RGB"]
    assert row["psnr"] == pytest.approx(np.mean([psnr(each, truth) for each in results]))
    wanted = np.mean([ssim(each, truth, "gaussian11") for each in results])
    assert (
        f"SSIM gaussian11 {wanted:.4f}, over RGB, mean of clips; 2 frames" in found.by_protocol()[0]
    )


def test_inputs_and_ground_truth_of_other_names(tmp_path, picture, caplog):
    make(tmp_path / "Real_captured" / "Test" / "Low", ["low00690", "low00691"], picture)
    make(tmp_path / "Real_captured" / "Test" / "Normal", ["normal00690"], picture)
    (tmp_path / "Real_captured" / "Test" / "Normal" / "Thumbs.db").touch()
    find_set("lol-v2-real", tmp_path)
    assert caplog.text.count("Thumbs.db") == 1
    [clip] = protocol_clips("lol-v2-real", tmp_path)
    assert clip.targets[0].stem == "normal00690"
    assert find_set("lol-v2-real", tmp_path).missing == ["99 of 100 images"]
    for name, pair in (("low00690", "name"), ("ours_00690", "ours_{}=normal{}")):
        make(tmp_path / pair, [name], picture, 50)
        found = score(
            tmp_path / pair, tmp_path, inputs=clip.place, pair=pair, protocol="lol-v2-real"
        )
        assert found.frames[0].alone["loe"] < 400  # of 16x24 pixels


def test_what_is_no_protocol_is_said(tmp_path, picture):
    with pytest.raises(ConfigError, match="did you mean 'lol-v1'"):
        find_protocol("lolv1")
    make(tmp_path, ["1"], picture)
    with pytest.raises(DataError, match="not laid out as lol-v1"):
        find_set("lol-v1", tmp_path)
    with pytest.raises(ConfigError, match="lol-v1 needs ground truth"):
        score(tmp_path, protocol="lol-v1")


def test_the_command_lists_explains_and_recognises(tmp_path, picture, monkeypatch):
    def printed(*words):
        done = CliRunner().invoke(app, ["protocols", *map(str, words)], env={"COLUMNS": "300"})
        assert done.exit_code == 0, done.output
        return done.output

    assert all(name in printed() for name in protocols())
    assert "pair13, pair15" in printed("sdsd-indoor")
    make(tmp_path / "LIME", ["1", "2"], picture)
    assert "2 images" in printed(tmp_path / "LIME")
    assert "3; 4; 5; 6; 7; 8; 9; 10" in printed(tmp_path)
    hashed = []
    monkeypatch.setattr(
        "llve_common.evaluate.protocols.data_digest", lambda folder: hashed.append(folder) or "0"
    )
    for name in ("input/pair13/0", "input/pair14/0", "GT/pair13/0", "GT/pair14/0"):
        make(tmp_path / "SDSD", [name], picture)
    listed = printed(tmp_path / "SDSD")
    assert "sdsd-indoor" in listed
    assert "sdsd-outdoor" in listed
    assert hashed == [tmp_path / "SDSD"]
    make(tmp_path / "other", ["1"], picture)
    assert "no protocol's set" in printed(tmp_path / "other")


def test_manifest_is_what_sha256sum_prints(tmp_path):
    odd = os.fsdecode(b"low/\xff.png")
    for name, text in (("low/b.png", "1"), ("low/a.npy", "2"), ("high/b.png", "3"), (odd, "4")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for ignored in ("notes.txt", "low/.hidden.png"):
        (tmp_path / ignored).write_text("no frame")
    listing = "".join(
        f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n"
        for name, text in (("high/b.png", "3"), ("low/a.npy", "2"), ("low/b.png", "1"), (odd, "4"))
    )
    (tmp_path / "linked").mkdir()
    for side in ("high", "low"):
        (tmp_path / "linked" / side).symlink_to(tmp_path / side)
    before = data_digest(tmp_path / "linked")
    shutil.rmtree(tmp_path / "linked")
    assert data_digest(tmp_path) == before
    assert before == hashlib.sha256(os.fsencode(listing)).hexdigest()
    (tmp_path / "low" / "b.png").rename(tmp_path / "low" / "c.png")
    assert data_digest(tmp_path) != before


def test_manifest_of_nothing(tmp_path):
    with pytest.raises(DataError, match="holds no frames"):
        data_digest(tmp_path)
