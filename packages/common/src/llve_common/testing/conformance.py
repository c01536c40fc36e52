"""What every paper must do, as tests.

A paper's test file subclasses :class:`Conformance` and says how its commands are called on a tiny
set; an exception from the suite needs ``xfail(reason=...)`` there.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import typer
from numpy.typing import NDArray
from typer.testing import CliRunner

from llve_common.config import as_yaml, dotted_names, load_settings
from llve_common.data.windows import index_in_clip
from llve_common.enhance.frames import enhance_frames, frame_enhancer
from llve_common.enhance.windows import enhance_clip
from llve_common.io.frames import Frame
from llve_common.io.images import Image, read_image, to_pixels, to_tensor, write_image
from llve_common.io.video import VideoInfo, VideoReader, VideoWriter
from llve_common.paper.configs import settings_class, shipped_configs
from llve_common.paper.contract import Paper, Plan, Procedure
from llve_common.train.trainer import train
from llve_common.weights.files import (
    file_digest,
    load_into,
    read_checkpoint,
    read_weights,
    write_weights,
)
from llve_common.weights.network import bundled_weights, load_model

CPU = torch.device("cpu")


class Trap:
    """An object whose unpickling runs code: it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def dark_frames(count: int, height: int, width: int) -> list[NDArray[np.uint8]]:
    """Smooth dark frames (height, width, 3), which a video keeps nearly as they are."""
    y, x = np.mgrid[:height, :width]
    shades = (1 + np.sin(x / 9), 1 + np.cos(y / 7), 1 + np.sin((x + y) / 11))
    first = 30 * np.stack(shades, -1)
    return [(first + 2 * number).astype(np.uint8) for number in range(count)]


def write_video(file: Path, frames: Sequence[NDArray[np.uint8]]) -> None:
    """Write frames at 25 a second."""
    height, width = frames[0].shape[:2]
    info = VideoInfo(file, width, height, Fraction(25), Fraction(1, 12800))
    with VideoWriter(file, info, width=width, height=height) as writer:
        for number, pixels in enumerate(frames):
            writer.write(pixels, Fraction(number, 25))


def files_below(folder: Path) -> dict[Path, bytes]:
    """Every file with its content, temporary ones too."""
    return {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


class Conformance:
    """Subclass as ``TestConformance`` with the attributes and the four methods below."""

    paper: ClassVar[Paper]
    app: ClassVar[typer.Typer]
    smallest_share: ClassVar[int] = 1
    """How many samples of a batch a process needs at least."""
    published_settings: ClassVar[Mapping[str, object]]
    """What the words of :meth:`published_training` mean here: dotted settings to values."""
    instead: ClassVar[Sequence[str]] = ()
    """Settings of ours behind those words, for what a test does without, such as other networks."""

    def published_training(self, folder: Path) -> list[str]:
        """Make a tiny training set in ``folder``; the published words for a training on it.

        The command and its published options alone; ``-opt`` and the option file, made in
        ``folder`` as well, where the published script takes one.
        """
        raise NotImplementedError

    def published_test(self, folder: Path, weights: Path) -> list[str]:
        """Make a tiny test set in ``folder``; the published words for a test of ``weights``."""
        raise NotImplementedError

    def how_to_train(self, folder: Path) -> list[str]:
        """Make a tiny training set in ``folder``; the command that trains on it for an instant."""
        raise NotImplementedError

    def how_to_test(self, folder: Path) -> list[str]:
        """Make a tiny test set with ground truth in ``folder``; the command that tests on it.

        It writes to ``folder / "out"``.
        """
        raise NotImplementedError

    def data_of(self, command: list[str]) -> Path:
        """The data folder in a command of the methods above."""
        return Path(command[command.index("--data_path") + 1])

    def run(self, *command: object, fails: bool = False) -> str:
        """Run a console command and return what it printed: where it fails, one message."""
        result = CliRunner().invoke(self.app, [str(word) for word in command])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == int(fails), result.output
        assert len(re.findall("^error: ", result.output, re.MULTILINE)) == int(fails)
        return result.output

    @pytest.fixture
    def weights(self) -> Path:
        return bundled_weights(self.paper)

    @pytest.fixture
    def images(self, tmp_path: Path) -> Path:
        rng = np.random.default_rng(0)
        # Images of one folder are frames of one clip where the window has several.
        sizes = [(9, 13), (32, 40) if self.paper.kind == "image" else (9, 13)]
        for number, size in enumerate(sizes):
            pixels = rng.integers(0, 80, (*size, 3), dtype=np.uint8)
            write_image(tmp_path / "images" / f"{number}.png", pixels)
        return tmp_path / "images"

    # Weights

    def test_bundled_weights_say_where_they_come_from(self, weights: Path) -> None:
        facts = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
        assert facts["sha256"] == file_digest(weights)
        assert {"commands", "data", "seed", "versions"} <= facts.keys()

    @pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
    def test_weights_go_to_published_names_and_back(self, tmp_path: Path, suffix: str) -> None:
        network = load_model(self.paper, None, CPU).network
        ours = network.state_dict()
        file = tmp_path / f"published{suffix}"
        write_weights(file, self.paper.to_published(ours))
        back = self.paper.from_published(read_weights(file))
        assert back.keys() == ours.keys()
        assert all(torch.equal(back[key], value) for key, value in ours.items())
        load_into(network, back, file)

    def test_weights_commands(self, tmp_path: Path, weights: Path, images: Path) -> None:
        """Out to a file that plain torch reads, back in, and both enhance alike."""
        published, ours = tmp_path / "published.pt", tmp_path / "ours.safetensors"
        self.run("weights", "export", weights, published)
        self.run("weights", "import", published, ours)
        state = self.paper.from_published(read_weights(weights))
        exported = torch.load(published, weights_only=True)
        # Names, shapes and types as well.
        for found, wanted in (
            (exported, self.paper.to_published(state)),
            (read_weights(ours), state),
        ):
            torch.testing.assert_close(dict(found), dict(wanted), rtol=0, atol=0)
        assert file_digest(published) in self.run("weights", "inspect", published)
        pictures = []
        for file in (published, ours):
            target = tmp_path / file.stem / "out.png"
            self.run("enhance", images / "0.png", "-o", target, "--weights", file)
            pictures.append(target.read_bytes())
        assert pictures[0] == pictures[1]

    # Enhancing

    @pytest.mark.parametrize(
        "size", [(1, 1), (1, 40), (40, 1), (2, 3), (5, 19), (17, 33), (48, 64)]
    )
    def test_any_size(self, size: tuple[int, int]) -> None:
        """One window through the network, and the same as a clip of one frame by the commands."""
        model = load_model(self.paper, None, CPU)
        [pixels] = dark_frames(1, *size)
        frames = to_tensor(pixels).expand(1, len(model.window.inputs), 3, *size)
        enhanced = enhance_frames(model, frames)
        assert enhanced.shape == (1, len(model.window.outputs), 3, *size)
        assert torch.isfinite(enhanced).all()
        [frame] = frame_enhancer(model)([Frame(Image(pixels), "", "here")])
        index = model.window.outputs.index(0)
        expected = to_pixels(enhanced[0, index], self.paper.rounding)
        np.testing.assert_allclose(frame.image.pixels, expected.astype(int), atol=1)

    def test_enhance_an_image(self, tmp_path: Path, images: Path) -> None:
        target = tmp_path / "out.png"
        assert "bundled" in self.run("enhance", images / "0.png", "-o", target)
        before, after = read_image(images / "0.png"), read_image(target)
        assert after.pixels.shape == before.pixels.shape
        assert (after.pixels != before.pixels).any()

    def test_enhance_a_folder(self, tmp_path: Path, images: Path) -> None:
        """Under its names and sizes; where the window is one frame, each as by itself."""
        before = files_below(images)
        self.run("enhance", images)
        written = sorted(images.with_name("images-enhanced").iterdir())
        assert [file.name for file in written] == ["0.png", "1.png"]
        for file in written:
            source = read_image(images / file.name)
            assert read_image(file).pixels.shape == source.pixels.shape
            if self.paper.kind == "image":
                self.run("enhance", images / file.name, "-o", tmp_path / "alone.png")
                assert (tmp_path / "alone.png").read_bytes() == file.read_bytes()
        assert files_below(images) == before

    def test_enhance_a_video(self, tmp_path: Path) -> None:
        source, target = tmp_path / "dark.mp4", tmp_path / "bright.mp4"
        write_video(source, dark_frames(7, 26, 38))
        assert "enhanced 7 frames" in self.run("enhance", source, "-o", target)
        with VideoReader(source) as before, VideoReader(target) as after:
            assert (after.info.width, after.info.height) == (38, 26)
            assert after.info.rate == before.info.rate
            seen, shown = list(before), list(after)
        assert [frame.time for frame in shown] == [frame.time for frame in seen]
        # The network's frames but for what the codec loses, which of random weights' is much.
        enhance = frame_enhancer(load_model(self.paper, None, CPU))
        wanted = enhance(Frame(Image(frame.pixels), "", "here") for frame in seen)
        for frame, one, other in zip(wanted, shown, seen, strict=True):
            pixels = frame.image.pixels.astype(int)
            assert np.abs(one.pixels - pixels).mean() < 0.5 * np.abs(other.pixels - pixels).mean()

    def test_streaming_equals_window_by_window(self) -> None:
        model = load_model(self.paper, None, CPU)
        window, network = model.window, model.network
        inputs, border = window.inputs, window.border
        side = 48 + -48 % window.multiple
        frames = [torch.rand(1, 3, side, side) * 0.3 for _ in range(len(inputs) + 3)]
        last = len(frames) - 1
        streamed = list(enhance_clip(model, frames))
        assert len(streamed) == len(frames)
        for number, frame in enumerate(streamed):
            centre = number - window.outputs[0]
            around = [
                frames[index_in_clip(centre + offset, centre, last, len(inputs), border)]
                for offset in inputs
            ]
            with torch.inference_mode():
                whole = self.paper.enhance(network, torch.stack(around, 1))[:, 0]
            torch.testing.assert_close(frame, whole, rtol=1e-4, atol=1e-5)

    # Training and testing

    def test_published_commands_train_and_test(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What training leaves is tested: its weights as published, its checkpoint as ours."""
        monkeypatch.chdir(tmp_path)  # for published options that name no folder to write to
        words = self.published_training(tmp_path / "train")
        assert "--config" not in words
        assert not any("=" in word for word in words)
        printed = self.run(*words, *self.instead, "run.tensorboard=false")
        folder = Path(printed.partition("run folder: ")[2].strip())
        assert {"settings.yml", "command.txt", "train.log", "losses.jsonl"} <= {
            file.name for file in folder.iterdir()
        }
        settings = load_settings(self.paper.procedures["train"].settings, folder / "settings.yml")
        found = {name: attrgetter(name)(settings) for name in self.published_settings}
        assert found == self.published_settings
        [*_, weights] = sorted(folder.rglob("*.pt*"))
        state = read_weights(weights)
        published = self.paper.to_published(self.paper.from_published(state))
        assert state.keys() == {name.removeprefix("module.") for name in published}
        self.run(*self.published_test(tmp_path / "test", weights))
        [summary] = tmp_path.rglob("summary.json")
        facts = json.loads(summary.read_text(encoding="utf-8"))
        assert facts["weights_sha256"] == file_digest(weights)
        assert facts["frames"] > 0
        [*_, checkpoint] = sorted((folder / "checkpoints").iterdir())
        self.run(*self.how_to_test(tmp_path / "again"), "--model", checkpoint)
        out = tmp_path / "again" / "out"
        facts = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        assert facts["weights_sha256"] == file_digest(checkpoint)
        assert facts["mean_of_frames"]["psnr"] > 0
        lines = (out / "scores.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(lines) == facts["frames"] > 0

    def test_option_files(self, tmp_path: Path) -> None:
        """A slip in one is named; a paper that published none says that it takes none."""
        words = self.published_training(tmp_path / "train")
        wrong = tmp_path / "wrong.yml"
        wrong.write_text("nam: mine\n")
        before = files_below(tmp_path)
        for command in ("train", "test"):
            given = self.run(command, "-opt", wrong, fails=True)
            if "-opt" not in words:
                assert f"{command}: this command takes no published option file" in given
                continue
            assert f"{wrong}:1: nam: unknown key; did you mean 'name'?" in given
            missing = tmp_path / "missing.yml"
            assert f"{missing}: cannot be read" in self.run(command, "-opt", missing, fails=True)
            config = next(name for name in shipped_configs(self.paper) if name.startswith(command))
            both = ("-opt", words[words.index("-opt") + 1], "--config", config)
            assert "give --config or -opt, not both" in self.run("train", *both, fails=True)
        assert "takes no published option file" in self.run("enhance", "-opt", wrong, fails=True)
        assert files_below(tmp_path) == before

    def test_resume_is_exact(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A run of four updates that goes on after the second ends as one that never stopped."""

        def four_updates(paper: Paper, procedure: Procedure[Any], *rest: Any, **more: Any) -> Path:
            plan = Plan(iterations=4, weights_every=4, checkpoint_every=2)
            return train(paper, replace(procedure, plan=lambda *_: plan), *rest, **more)

        monkeypatch.setattr("llve_common.commands.paper.train", four_updates)
        command = self.how_to_train(tmp_path / "train")
        for name in ("whole", "broken"):
            self.run(*command, "--save", tmp_path / name, "run.tensorboard=false")
        (whole,), (broken,) = ((tmp_path / name).iterdir() for name in ("whole", "broken"))
        last = "checkpoints/00000004.ckpt"
        (broken / last).unlink()
        self.run("train", "--resume", broken)
        one, other = (read_checkpoint(folder / last) for folder in (whole, broken))
        for part in ("network", "optimizer", "processes"):
            torch.testing.assert_close(one[part], other[part], rtol=0, atol=0, equal_nan=True)
        middle = read_weights(broken / "checkpoints/00000002.ckpt")
        moved = [name for name, value in middle.items() if not value.equal(one["network"][name])]
        assert moved  # else the updates that are compared did nothing

    @pytest.mark.multiprocess
    def test_two_processes_make_one_run(self, tmp_path: Path) -> None:
        command = self.how_to_train(tmp_path / "train")
        batch = f"train.batch_size={2 * self.smallest_share}"
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        words = [*launch, "-m", self.paper.package, *command, "--save", str(tmp_path / "runs")]
        done = subprocess.run(  # noqa: S603
            [sys.executable, *words, "--device", "cpu", batch, "train.workers=0"],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        [folder] = (tmp_path / "runs").iterdir()
        [checkpoint, *_] = (folder / "checkpoints").iterdir()
        content = read_checkpoint(checkpoint)
        assert len(content["processes"]) == 2
        assert content["iteration"] > 0
        read_weights(checkpoint)

    # Settings

    def test_shipped_settings_are_valid_and_round_trip(self, tmp_path: Path) -> None:
        shipped = shipped_configs(self.paper)
        assert any(name.startswith("train/") for name in shipped)
        assert any(name.startswith("test/") for name in shipped)
        listed = self.run("configs", "list")
        for name, file in shipped.items():
            assert name in listed
            kind = settings_class(self.paper, file)
            settings = load_settings(kind, file)
            copy = tmp_path / "copy.yml"
            copy.write_text(as_yaml(settings), encoding="utf-8")
            assert load_settings(kind, copy) == settings
            self.run("configs", "check", file)
            self.run("configs", "show", name)
            taken = tmp_path / f"{name.replace('/', '-')}.yml"
            self.run("configs", "copy", name, taken)
            assert taken.read_bytes() == file.read_bytes()
            again = self.run("configs", "copy", name, taken, fails=True)
            assert f"{taken}: exists already" in again

    def test_wrong_settings(self, tmp_path: Path) -> None:
        """Misspelt or of the wrong type, they are all named before anything is done."""
        train, test = self.how_to_train(tmp_path / "train"), self.how_to_test(tmp_path / "test")
        before = files_below(tmp_path)
        save = ("--save", tmp_path / "runs")
        output = self.run(*train, *save, "train.batchsize=1", "train.seed=zero", fails=True)
        assert "2 settings are wrong" in output
        assert "did you mean 'train.batch_size'?" in output
        assert "train.seed: got 'zero'" in output
        output = self.run(*test, "sav=here", "ssim=[1]", fails=True)
        assert "2 settings are wrong" in output
        assert "sav: unknown setting; did you mean 'save'?" in output
        assert "ssim: got [1]" in output
        for command in (train, test):
            output = self.run(command[0], "--config", tmp_path / "none.yml", fails=True)
            assert "no such settings" in output
        assert files_below(tmp_path) == before
        file = tmp_path / "mine.yml"
        file.write_text("procedure: train\ntrain:\n  sead: 3\n  batch_size: zero\n")
        output = self.run("configs", "check", file, fails=True)
        assert f"{file}:3: train.sead: unknown setting; did you mean 'train.seed'?" in output
        assert f"{file}:4: train.batch_size: got 'zero'" in output

    def test_every_setting_has_a_default_or_says_that_it_is_missing(self) -> None:
        for procedure in self.paper.procedures.values():
            assert {"run.save", "run.device", "train.seed"} <= set(dotted_names(procedure.settings))

    # Mistakes

    def test_missing_and_empty_folders(self, tmp_path: Path) -> None:
        for command in (self.how_to_train(tmp_path / "a"), self.how_to_test(tmp_path / "b")):
            place = command.index("--data_path") + 1
            empty = tmp_path / "empty"
            empty.mkdir(exist_ok=True)
            command[place] = str(empty)
            assert f"{empty}: the folder holds no image" in self.run(*command, fails=True)
            command[place] = str(tmp_path / "nowhere")
            assert f"{tmp_path / 'nowhere'}: no such folder" in self.run(*command, fails=True)
        assert "no image" in self.run("enhance", tmp_path / "empty", fails=True)
        assert "no such file" in self.run("enhance", tmp_path / "nowhere", fails=True)

    def test_a_corrupt_image(self, tmp_path: Path) -> None:
        for command in (self.how_to_train(tmp_path / "a"), self.how_to_test(tmp_path / "b")):
            victim = sorted(self.data_of(command).rglob("*.png"))[-1]
            victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
            output = (
                self.run(*command, "--save", tmp_path / "runs", fails=True)
                if (command[0] == "train")
                else self.run(*command, fails=True)
            )
            assert f"{victim}: the image cannot be decoded" in output
        assert not [file for file in tmp_path.rglob(".*") if file.is_file()]

    def test_enhance_names_what_it_could_not_read(self, tmp_path: Path, images: Path) -> None:
        (images / "2.png").write_bytes((images / "1.png").read_bytes()[:200])
        output = self.run("enhance", images, "-o", tmp_path / "out", fails=True)
        assert f"{images / '2.png'}: the image cannot be decoded" in output
        if self.paper.kind == "image":
            assert "1 of 3 files" in output
            assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["0.png", "1.png"]

    def test_sources_that_cannot_be_enhanced(self, tmp_path: Path, images: Path) -> None:
        """Of the wrong kind or damaged: what stood at the target is kept, and nothing is added."""
        whole = tmp_path / "whole.mkv"
        write_video(whole, dark_frames(7, 26, 38))
        video, image = whole.read_bytes(), (images / "1.png").read_bytes()
        bad = {
            "notes.txt": b"neither",
            "empty.png": b"",
            "half.png": image[: len(image) // 2],
            "text.mp4": b"not a video",
            "half.mkv": video[: len(video) // 2],
        }
        for name, content in bad.items():
            (tmp_path / name).write_bytes(content)
            target = tmp_path / "out" / name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(b"from before")
        before = files_below(tmp_path)
        for name in bad:
            source, target = tmp_path / name, tmp_path / "out" / name
            assert f"{source}" in self.run("enhance", source, "-o", target, fails=True)
        over = self.run("enhance", images / "0.png", "-o", images / "0.png", fails=True)
        assert "the result would be written over its source" in over
        assert files_below(tmp_path) == before

    def test_bad_weights(self, tmp_path: Path, images: Path, weights: Path) -> None:
        whole = tmp_path / "whole.pt"
        write_weights(whole, self.paper.to_published(read_weights(weights)))
        bad = {
            "truncated.pt": whole.read_bytes()[: whole.stat().st_size // 2],
            "truncated.safetensors": weights.read_bytes()[:-100],
            "picture.pt": (images / "0.png").read_bytes(),
            "empty.pth": b"",
            "code.pt": pickle.dumps({"weight": Trap(tmp_path / "ran")}),
        }
        for name, content in bad.items():
            (tmp_path / name).write_bytes(content)
            target = tmp_path / "out.png"
            output = self.run(
                "enhance", images / "0.png", "-o", target, "--weights", tmp_path / name, fails=True
            )
            assert f"{tmp_path / name}:" in output
            assert not target.exists()
        assert not (tmp_path / "ran").exists()
        missing = tmp_path / "missing.pth"
        enhance, test = ["enhance", images / "0.png"], self.how_to_test(tmp_path / "test")
        for words in ([*enhance, "--weights", missing], [*test, "--model", missing]):
            assert f"{missing}: no such weights file" in self.run(*words, fails=True)

    def test_foreign_weights(self, tmp_path: Path, images: Path) -> None:
        foreign = tmp_path / "foreign.safetensors"
        write_weights(foreign, torch.nn.Linear(2, 2).state_dict())
        output = self.run("enhance", images / "0.png", "--weights", foreign, fails=True)
        assert f"{foreign}: the weights do not fit the network" in output
        assert "unknown bias, weight" in output

    def test_no_such_device(self, images: Path) -> None:
        output = self.run("enhance", images / "0.png", "--device", "cuda:99", fails=True)
        assert "no such CUDA device" in output

    # The command

    def test_help_of_every_command(self) -> None:
        for command in ("", "train", "test", "enhance", "weights", "configs"):
            assert "Usage" in self.run(*command.split(), "--help")

    def test_runs_as_a_module_whose_mistakes_are_messages(self, tmp_path: Path) -> None:
        missing = tmp_path / "missing.png"
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", self.paper.package, "enhance", str(missing)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"error: {missing}: no such file or folder\n")
        assert "Traceback" not in done.stderr
