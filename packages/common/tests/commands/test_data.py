"""The command ``data``, as a paper's command has it."""

import shutil

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from llve_common.clips.clip import paired_clips, read_frame
from llve_common.commands.data import data_app
from llve_common.commands.terminal import Commands
from llve_common.data.sdsd.inspection import inspect_clips
from llve_common.data.sdsd.layout import low_and_high
from llve_common.data.sdsd.splits import SDSD_INDOOR_TEST
from llve_common.errors import DataError
from llve_common.io.images import write_image
from llve_common.testing.conformance import run_command


def run(*words, fails=False):
    app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
    app.add_typer(data_app(), name="data")
    return run_command(app, "data", *words, fails=fails)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    run("synthetic", folder, "--clips", 1, "--frames", 5, "--height", 16, "--width", 24, "--png")
    return folder / "indoor_png"


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made, tmp_path / "indoor_png")


def test_png_becomes_npy_of_the_same_pixels_and_goes_on_where_it_stopped(root):
    assert "wrote 70 frames" in run("convert", root)
    target = root.with_name("indoor_np")
    pairs = zip(paired_clips(*low_and_high(root)), paired_clips(*low_and_high(target)), strict=True)
    for images, arrays in pairs:
        assert images.name == arrays.name
        for image, array in zip(images.frames, arrays.frames, strict=True):
            assert array.suffix == ".npy"
            np.testing.assert_array_equal(read_frame(image), read_frame(array))
    stored = np.load(target / "GT" / "pair2" / "0000.npy")
    np.testing.assert_array_equal(stored[..., ::-1], read_frame(root / "GT" / "pair2" / "0000.png"))
    (target / "GT" / "pair2" / "0003.npy").unlink()
    whole = target / "GT" / "pair2" / "0002.npy"
    (target / "GT" / "pair2" / "0001.npy").write_bytes(b"")
    whole.write_bytes(whole.read_bytes()[:-1])
    assert "wrote 3 frames" in run("convert", root)
    assert "wrote 0 frames" in run("convert", root)
    write_image(root / "GT" / "pair2" / "0000.jpg", np.zeros((16, 24, 3), np.uint8))
    assert "two inputs would be written to the same file" in run("convert", root, fails=True)


def test_a_converted_set_may_be_resized_as_training_would(root, tmp_path, monkeypatch):
    run("convert", root, tmp_path / "small", "--size", "12x8")
    path = root / "input" / "pair2" / "0001.png"
    small = tmp_path / "small" / "input" / "pair2" / "0001.npy"
    np.testing.assert_array_equal(read_frame(small), read_frame(path, (12, 8)))
    assert "not a size" in run("convert", root, tmp_path / "x", "--size", "12", fails=True)
    monkeypatch.chdir(tmp_path / "small")
    assert "say where" in run("convert", ".", fails=True)
    output = run("convert", tmp_path / "small", tmp_path / "again", fails=True)
    assert "no image but .npy files" in output


def test_the_synthetic_set_lacks_ten_published_test_clips_only(root):
    output = run("check", root)
    assert "5 clips for training, 2 for the test (of 12 published ones)" in output
    output = run("check", root, "--subset", "indoor", fails=True)
    assert "10 things are missing" in output
    assert f"{root / 'input' / 'pair70'}: a test clip is missing" in output


def test_everything_that_is_wrong_is_named_at_once(root):
    (root / "input" / "pair2" / "0001.png").unlink()
    (root / "GT" / "pair3" / "0002.png").write_bytes(b"no image")
    write_image(root / "GT" / "pair4" / "0003.png", np.zeros((4, 4, 3), np.uint8))
    shutil.rmtree(root / "GT" / "pair6")
    for number in range(3):
        (root / "input" / "pair7" / f"000{number}.png").unlink()
        (root / "GT" / "pair7" / f"000{number}.png").unlink()
    found = inspect_clips(root, ["pair13", "pair99"])
    low, high = root / "input", root / "GT"
    said = [
        f"{low / 'pair6'} has no ground truth",
        f"{low / 'pair99'}: a test clip is missing",
        f"{high / 'pair2' / '0001.png'} has no input",
        f"{low / 'pair2'}: 4 frames, too few for windows of 5",
        f"{high / 'pair3' / '0002.png'}: not an image that can be read",
        f"{high / 'pair4' / '0003.png'}: 4x4, but the clip's first frame is 24x16",
        f"{low / 'pair7'}: 2 frames, too few for windows of 5",
    ]
    assert len(found.faults) == len(said)
    assert all(fault.startswith(words) for fault, words in zip(found.faults, said, strict=True))
    assert {clip.name for clip in found.clips if clip.test} == {"pair13"}


def test_videos_may_be_the_tests_clips(root, video_file):
    for side in ("GT", "input"):
        shutil.rmtree(root / side / "pair13")
    for name, frames in (("GT/pair13", 9), ("input/pair13", 9), ("input/pair2", 5)):
        video_file(f"indoor_png/{name}.mp4", range(frames), 16, 24)
    shutil.rmtree(root / "input" / "pair2")
    (root / "GT" / "pair15" / "0001.png").rename(root / "GT" / "pair15" / "5.png")
    found = inspect_clips(root, ["pair13", "pair15"])
    [clip] = [each for each in found.clips if each.name == "pair13"]
    assert (clip.test, clip.frames, clip.size) == (True, 9, (16, 24))
    assert len(found.faults) == 3
    assert (
        found.faults[2]
        == f"{root / 'input/pair2.mp4'}: a video, but training reads folders of frames"
    )
    (root / "input" / "pair2.mp4").write_bytes(b"")
    assert "pair2.mp4: " in inspect_clips(root, ["pair13", "pair15"]).faults[2]


def test_a_whole_set_and_one_without_ground_truth(root, tmp_path):
    assert inspect_clips(root, ["pair13", "pair15"]).faults == ()
    for name in SDSD_INDOOR_TEST[2:]:
        for side in ("GT", "input"):
            shutil.copytree(root / side / "pair13", root / side / name)
    assert "nothing is missing" in run("check", root)
    shutil.rmtree(root / "GT")
    [fault] = inspect_clips(root, []).faults
    assert fault.endswith("so there is no ground truth")
    with pytest.raises(DataError, match="no such folder"):
        inspect_clips(tmp_path / "nowhere", [])


def test_smid_needs_one_ground_truth_for_a_scene(tmp_path):
    for number in range(5):
        frame = np.zeros((8, 8, 3), np.uint8)
        write_image(tmp_path / "SMID_LQ_np" / "0007" / f"{number}.npy", frame)
    write_image(tmp_path / "SMID_Long_np" / "0007" / "00.npy", np.zeros((8, 8, 3), np.uint8))
    assert inspect_clips(tmp_path, ["0007"]).faults == ()
    assert "48 things are missing" in run("check", tmp_path, "--subset", "smid", fails=True)
    for old, new in (("LQ", "low"), ("Long", "high")):
        shutil.move(tmp_path / f"SMID_{old}_np" / "0007", tmp_path / "mine" / new / "walk")
    for number in range(1, 5):
        shutil.copy(tmp_path / "mine/low/walk/0.npy", tmp_path / f"mine/high/walk/{number}.npy")
    (tmp_path / "mine/high/walk/00.npy").rename(tmp_path / "mine/high/walk/0.npy")
    assert "1 clips for training, 0 for the test\nnothing is missing" in run(
        "check", tmp_path / "mine"
    )


def test_published_launch_lines(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
    calls = []

    @app.command()
    def train(opt: str = "none"):
        calls.append(opt)

    @app.command()
    def other():
        raise AssertionError

    def call(*words):
        return CliRunner().invoke(app, words, prog_name="sdsd")

    for words in (
        ["--local-rank=3", "train", "--opt", "a b.yml", "--launcher", "pytorch"],
        ["train", "--opt", "a b.yml", "--launcher=pytorch"],
    ):
        result = call(*words)
        assert result.exit_code == 1
        expected = "torchrun --nproc_per_node=<processes> --no-python sdsd train --opt 'a b.yml'"
        assert expected in result.output
    assert calls == []
    assert call("train", "--launcher", "none", "--local_rank", "0", "--opt", "x").exit_code == 0
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert call("train", "--launcher", "pytorch", "--opt", "y").exit_code == 0
    assert calls == ["x", "y"]


def test_a_set_of_photographs_passes_the_check(made, tmp_path):
    photographs = shutil.copytree(made / "GT" / "pair2", tmp_path / "photographs")
    options = ("-o", tmp_path / "set", "--clips", 1, "--frames", 5, "--height", 16, "--width", 16)
    assert "5 frames in a clip" in run("photographs", photographs, *options, "--light", "coloured")
    assert "4 clips for training, 1 for the test" in run("check", tmp_path / "set")
    assert "not empty" in run("photographs", photographs, *options, fails=True)
