"""What every paper must do, as tests.

A paper's test file subclasses :class:`Conformance` and says how its commands are called on a tiny
set; an exception from the suite needs ``xfail(reason=...)`` there.
"""

import copy
import json
import os
import random
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from importlib import import_module
from itertools import product
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext, ForkServerProcess
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import pytest
import torch
import typer
from numpy.typing import NDArray
from pydantic.fields import FieldInfo
from torch.nn import Module
from torch.nn.modules.batchnorm import _BatchNorm
from typer.testing import CliRunner

from llve_common.clips.clip import clip_of
from llve_common.clips.frames import Frame, Watcher
from llve_common.commands.options import flags_of
from llve_common.config import Settings, as_yaml, field_of, load_settings
from llve_common.enhance.enhancer import load_enhancer
from llve_common.enhance.files import Enhanced, enhance_all
from llve_common.enhance.frames import enhance_frames, frame_enhancer, ready
from llve_common.enhance.jobs import Wishes
from llve_common.enhance.ready import ready_without_torch
from llve_common.enhance.windows import enhance_clip
from llve_common.errors import CheckpointError
from llve_common.io.digest import file_digest
from llve_common.io.images import Image, read_image, to_pixels, to_tensor, write_image
from llve_common.machine.replay import mapped
from llve_common.machine.shell import command_line
from llve_common.paper.configs import settings_class, shipped_configs
from llve_common.paper.contract import Paper, Plan, Procedure, Sample, TrainingSet
from llve_common.paper.installed import installed_papers
from llve_common.published_options import PublishedOptions
from llve_common.train.record import read_validations
from llve_common.train.trainer import train
from llve_common.video import VideoInfo, VideoReader, VideoWriter
from llve_common.weights.files import read_checkpoint, read_weights, write_weights
from llve_common.weights.network import bundled_weights, load_model
from llve_common.weights.published import published_weights

CPU = torch.device("cpu")


def dark_frames(count: int, height: int, width: int) -> list[NDArray[np.uint8]]:
    """Smooth dark frames (height, width, 3), which a video keeps nearly as they are."""
    y, x = np.mgrid[:height, :width]
    shades = (1 + np.sin(x / 9), 1 + np.cos(y / 7), 1 + np.sin((x + y) / 11))
    first = 30 * np.stack(shades, -1)
    return [(first + 2 * number).astype(np.uint8) for number in range(count)]


def write_pairs(low: Path, high: Path, count: int = 3, size: tuple[int, int] = (24, 32)) -> None:
    """Write images in low light to one folder, and in normal light under the same names."""
    for number, pixels in enumerate(dark_frames(count, *size)):
        for folder, image in ((low, pixels), (high, 3 * pixels)):
            write_image(folder / f"{number:04d}.png", image)


def write_video(file: Path, frames: Sequence[NDArray[np.uint8]]) -> None:
    """Write frames at 25 a second, every fourth of which stays twice as long."""
    height, width = frames[0].shape[:2]
    info = VideoInfo(file, width, height, Fraction(25), Fraction(1, 12800))
    with VideoWriter(file, info) as writer:
        for number, pixels in enumerate(frames):
            writer.write(pixels, Fraction(number + number // 4, 25))


def run_command(app: typer.Typer, *words: object, fails: bool = False) -> str:
    """Run a console command and return what it printed: where it fails, one message."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == int(fails), result.output
    assert len(re.findall("^error: ", result.output, re.MULTILINE)) == int(fails)
    return result.output


def another(field: FieldInfo, default: object) -> object:
    """Another value than a setting's default, where its kind tells of one that is allowed."""
    if isinstance(default, bool) or bool in get_args(field.annotation):
        return not default
    if isinstance(default, int | float):
        return 2 * default if isinstance(default, int) else default / 2
    return "1" if default is None or isinstance(default, Path) else default


def files_below(folder: Path) -> dict[Path, bytes]:
    """Every file with its content, temporary ones too."""
    return {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


# A program that enhances images by one paper, and must not import PyTorch.
WITHOUT_TORCH = """
import importlib, sys
from typer.main import get_command
from llve_common.paper import recommended
program, paper, *words = sys.argv[1:]
recommended.TABLE = {"image": [each for each in recommended.TABLE["image"] if each.paper == paper]}
try:
    get_command(importlib.import_module(program).app).main(words, prog_name="program")
except SystemExit as ended:
    assert not ended.code
assert "torch" not in sys.modules
"""


class InDouble:
    """A training set in float64."""

    def __init__(self, data: TrainingSet) -> None:
        self.data, self.files = data, data.files

    def __len__(self) -> int:
        return len(self.data)

    def file(self, index: int) -> Path:
        return self.data.file(index)

    def sample(self, index: int, rng: random.Random) -> Sample:
        sample: Sample = mapped(self.data.sample(index, rng), torch.Tensor.double)
        return sample


@contextmanager
def updates(count: int, pairs: Path | None = None) -> Iterator[None]:
    """Trainings update the weights so often, and keep what they have after two as well.

    Those that validate, on a clip in ``pairs``, do so after every update.
    """

    def train_so_often(paper: Paper, procedure: Procedure[Any], *rest: Any, **more: Any) -> Path:
        if pairs is None:
            plan, clips = Plan(count, weights_every=count, checkpoint_every=2), []
        else:
            plan, clips = (
                Plan(count, 2, 1, validate_every=1),
                [clip_of(pairs / "low", pairs / "high")],
            )
        changed = replace(procedure, plan=lambda *_: plan, validation=lambda settings: clips)
        return train(paper, changed, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llve_common.train.trainer.train", train_so_often)
        yield


def forking() -> ForkServerContext:
    """What starts processes that need to import little."""
    forks = get_context("forkserver")
    papers = [paper.module for paper in installed_papers().values()]
    forks.set_forkserver_preload([__name__, "torch._dynamo", *papers])
    return forks


def run_forked(
    package: str, count: int, pairs: Path, words: Sequence[str], rank: Mapping[str, str]
) -> None:
    """Run a package's command here, with :func:`updates`; its output goes to ``pairs/said``."""
    os.environ |= rank
    with (pairs / "said").open("ab") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    with updates(count, pairs):
        import_module(f"{package}.__main__").app(words)


def ending(folder: Path) -> dict[str, Any]:
    """What two runs have to have in common that are to be equal, at their ends."""
    state = read_checkpoint(max((folder / "checkpoints").glob("*.ckpt")))
    lines = (folder / "losses.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [{**json.loads(line), "seconds": 0} for line in lines]
    kept = ("iteration", "network", "optimizer", "processes")
    files = {each.relative_to(folder): each.read_bytes() for each in folder.rglob("*.pt*")}
    return {**{key: state[key] for key in kept}, "losses": losses, "files": files}


class Conformance:
    """Subclass as ``TestConformance`` with the attributes and the two methods below."""

    paper: ClassVar[Paper]
    app: ClassVar[typer.Typer]
    smallest_share: ClassVar[int] = 1
    """How many samples of a batch a process needs at least."""
    kinds_of_losses: ClassVar[Sequence[Sequence[str]]] = ((),)
    """Settings that change how losses depend on the samples of a batch."""
    device_alone: ClassVar[bool] = True
    """Whether a step of the training below leaves nothing to the processor."""

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
        """Run a console command of the paper and return what it printed."""
        return run_command(self.app, *command, fails=fails)

    @pytest.fixture(autouse=True)
    def weights(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
    ) -> Path:
        """The bundled weights; where none come with the package, a training's initial ones."""
        if self.paper.bundled is not None:
            return bundled_weights(self.paper)
        torch.manual_seed(0)
        training = self.paper.procedures["train"]
        path = tmp_path_factory.mktemp("weights") / "initial.safetensors"
        write_weights(path, training.network(training.settings()).state_dict())
        monkeypatch.setattr(f"{load_model.__module__}.bundled_weights", lambda paper: path)
        return path

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
        if self.paper.bundled is None:
            pytest.xfail("no weights come with the package")
        facts = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
        assert facts["sha256"] == file_digest(weights)
        assert {"commands", "data", "seed", "versions"} <= facts.keys()
        assert facts["purpose"] in str(load_model(self.paper, None, CPU).weights)

    def test_published_weights_are_listed_with_a_way_to_get_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        listed = self.run("weights", "fetch")
        for each in published_weights(self.paper).values():
            assert f"{each.name}: {each.file}, " in listed
            assert f", licence: {each.licence}\n    " in listed
            assert each.address or each.page or each.dead
            assert each.sha256 is None or re.fullmatch("[0-9a-f]{64}", each.sha256)
            for command in (["inspect"], ["average", "-o", tmp_path / "mean.pt"]):
                words = ["weights", *command, f"published:{each.name}"]
                assert each.way in self.run(*words, fails=True)

    def test_weights_commands(self, tmp_path: Path, weights: Path, images: Path) -> None:
        """Out to a file that plain torch reads, back in, and both enhance alike."""
        published, ours = tmp_path / "published.pt", tmp_path / "ours.safetensors"
        self.run("weights", "export", weights, published)
        self.run("weights", "import", published, tmp_path / "again.safetensors")
        # The mean of a file and itself is the file.
        self.run("weights", "average", weights, tmp_path / "again.safetensors", "-o", ours)
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

    def test_half_precision_stays_within_a_level(self) -> None:
        """bfloat16 on a CPU, in the mean over a clip's frames."""
        clip = [to_tensor(pixels)[None] for pixels in dark_frames(7, 48, 96)]
        models = [load_model(self.paper, None, CPU, precision=name) for name in ("fp32", "bf16")]
        exact, near = (torch.stack(list(enhance_clip(model, clip))) for model in models)
        assert 0 < (near - exact).abs().mean() < 1 / 255

    @pytest.mark.parametrize("package", ["", "llve_common"])
    def test_a_kernel_enhances_without_torch(self, tmp_path: Path, package: str) -> None:
        if not self.paper.has_kernel:
            pytest.skip("its network has no kernel for a CPU")
        write_image(tmp_path / "a.png", dark_frames(1, 9, 13)[0])
        program = f"{package or self.paper.package}.__main__"
        words = [program, self.paper.name, "enhance", str(tmp_path / "a.png"), "--device", "cpu"]
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", WITHOUT_TORCH, *words],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"weights: {load_model(self.paper, None, CPU).weights}\n" in done.stdout
        assert "in fp32): " in done.stdout
        assert (tmp_path / "a-enhanced.png").is_file()

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_a_kernel_gives_the_same_without_torch(
        self, dtype: type, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With any number of threads, and with what a report says."""
        if not self.paper.has_kernel:
            pytest.skip("its network has no kernel for a CPU")
        rng, top = np.random.default_rng(0), np.iinfo(dtype).max
        clip = [
            Frame(Image((rng.random((*size, 3)) ** 2.2 * top).astype(dtype)), "", "here")
            for size in [(1, 1), (7, 33), (31, 43), (50, 44), (121, 2010)]
        ]
        usual = ready(load_model(self.paper, None, CPU))
        expected = [frame.image.pixels for frame in usual.enhance(clip)]
        for threads in ("1", "3", "4,2"):
            monkeypatch.setenv("OMP_NUM_THREADS", threads)
            found = ready_without_torch(self.paper, None, "cpu", "auto")
            assert found is not None
            assert replace(found, enhance=usual.enhance) == usual
            for one, other in zip(found.enhance(clip), expected, strict=True):
                assert one.image.pixels.dtype == dtype
                np.testing.assert_array_equal(one.image.pixels, other)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
    def test_a_clip_on_a_gpu_is_that_on_a_cpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From the first frames, computed as usual, to those replayed from a graph."""
        for backend in (torch.backends.cudnn, torch.backends.cuda.matmul):
            monkeypatch.setattr(backend, "allow_tf32", False)
        clip = [to_tensor(pixels)[None] for pixels in dark_frames(12, 48, 96)]
        expected = enhance_clip(load_model(self.paper, None, CPU), clip)
        gpu = torch.device("cuda")
        found = enhance_clip(load_model(self.paper, None, gpu), [each.to(gpu) for each in clip])
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.cpu(), other, rtol=1e-3, atol=1e-4)

    def test_enhance_a_folder(
        self, tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Under its names and sizes; where the window is one frame, each as by itself."""
        for name in (".hidden.png", ".hidden/0.png", "inner/notes.txt"):
            (images / name).parent.mkdir(exist_ok=True)
            (images / name).write_bytes((images / "0.png").read_bytes())
        before = files_below(images)
        monkeypatch.chdir(images)
        output = " ".join(self.run("enhance", ".").split())
        assert "left out, neither images nor videos: .hidden; .hidden.png; inner/notes.t" in output
        written = sorted(images.with_name("images-enhanced").iterdir())
        assert [file.name for file in written] == ["0.png", "1.png"]
        for file in written:
            source = read_image(images / file.name)
            assert read_image(file).pixels.shape == source.pixels.shape
            if self.paper.kind == "image":
                self.run("enhance", images / file.name, "-o", tmp_path / "alone.png")
                assert (tmp_path / "alone.png").read_bytes() == file.read_bytes()
        monkeypatch.chdir(images / "inner")
        assert "results are there already" in self.run("enhance", "..", fails=True)
        self.run("enhance", "..", "-o", tmp_path / "input", "--strength", 0)
        for file in written:
            back = read_image(tmp_path / "input" / file.name).pixels
            np.testing.assert_array_equal(back, read_image(images / file.name).pixels)
        assert "a name is empty" in self.run("enhance", "", fails=True)
        assert files_below(images) == before

    def test_enhance_a_video(self, tmp_path: Path) -> None:
        source, target = tmp_path / "dark.mp4", tmp_path / "bright.mp4"
        write_video(source, dark_frames(7, 26, 38))
        assert "enhanced 7 frames" in self.run("enhance", source, "-o", target)
        with VideoReader(source) as before, VideoReader(target) as after:
            assert (after.info.width, after.info.height) == (38, 26)
            assert after.info.rate == pytest.approx(before.info.rate, rel=0.2)
            seen, shown = list(before), list(after)
        assert [frame.time for frame in shown] == [frame.time for frame in seen]
        # The network's frames but for what the codec loses, which of random weights' is much.
        enhance = frame_enhancer(load_model(self.paper, None, CPU))
        wanted = enhance(Frame(Image(frame.pixels), "", "here") for frame in seen)
        for frame, one, other in zip(wanted, shown, seen, strict=True):
            pixels = frame.image.pixels.astype(int)
            assert np.abs(one.pixels - pixels).mean() < 0.5 * np.abs(other.pixels - pixels).mean()

    def test_an_interrupted_video_goes_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The frames after those that are there are made as in a run that never stopped."""
        monkeypatch.setattr("llve_common.enhance.parts.SECONDS", Fraction(2, 25))
        source, model = tmp_path / "dark.mp4", load_model(self.paper, None, CPU)
        write_video(source, dark_frames(7, 26, 38))

        def stop(done: int, total: int | None) -> None:
            if done == 6:
                raise KeyboardInterrupt

        def run(name: str, watch: Watcher | None = None) -> Enhanced:
            job, wishes = (source, tmp_path / name), Wishes(codec="ffv1", resume=True)
            return enhance_all(ready(model), [job], wishes=wishes, watch=watch)

        with pytest.raises(KeyboardInterrupt):
            run("broken.mkv", stop)
        assert [run(name).frames for name in ("broken.mkv", "whole.mkv")] == [2, 7]
        assert len(list(tmp_path.iterdir())) == 3
        with (
            VideoReader(tmp_path / "broken.mkv") as broken,
            VideoReader(tmp_path / "whole.mkv") as whole,
        ):
            for one, other in zip(broken, whole, strict=True):
                assert one.time == other.time
                np.testing.assert_array_equal(one.pixels, other.pixels)

    def test_a_program_gets_what_the_command_writes(self, tmp_path: Path, images: Path) -> None:
        """Of images, or of a clip's frames; from a copy that another process was sent, too."""
        assert "bundled" in self.run("enhance", images, "-o", tmp_path / "out")
        enhancer = load_enhancer(self.paper, device="cpu")
        names = [file.name for file in sorted(images.iterdir())]
        taken = [read_image(images / name).pixels for name in names]
        for each in (enhancer, copy.copy(enhancer)):  # as pickle copies it
            made = map(each, taken) if self.paper.kind == "image" else each.stream(taken)
            for name, before, after in zip(names, taken, made, strict=True):
                np.testing.assert_array_equal(after, read_image(tmp_path / "out" / name).pixels)
                assert (after != before).any()

    def test_streaming_equals_whole_windows(self) -> None:
        if self.paper.stream is None:
            pytest.skip("its network is not cut in two")
        model = load_model(self.paper, None, CPU)
        whole = replace(model, paper=replace(self.paper, stream=None))
        side = 48 + -48 % model.window.multiple
        frames = [torch.rand(1, 3, side, side) * 0.3 for _ in range(len(model.window.inputs) + 3)]
        pairs = zip(enhance_clip(model, frames), enhance_clip(whole, frames), strict=True)
        for streamed, expected in pairs:
            torch.testing.assert_close(streamed, expected, rtol=1e-4, atol=1e-5)

    def test_a_single_image_takes_the_work_of_one_frame(self) -> None:
        if (stream := self.paper.stream) is None:
            pytest.skip("its network is not cut in two")
        model, made = load_model(self.paper, None, CPU), []

        def part(network: Module, frames: torch.Tensor) -> Any:
            made.append(frames)
            return stream.part(network, frames)

        counted = replace(self.paper, stream=replace(stream, part=part))
        list(enhance_clip(replace(model, paper=counted), [torch.rand(1, 3, 32, 32)]))
        assert len(made) == 1

    # Training and testing

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The folder of a run of four updates."""
        self, folder = cls(), tmp_path_factory.mktemp("trained")
        with updates(4):
            words = (*self.how_to_train(folder / "set"), "--save", folder / "runs")
            printed = self.run(*words, "run.tensorboard=false")
        [run] = (folder / "runs").iterdir()
        assert f"run folder: {run}" in printed
        return run

    def test_what_training_leaves_is_tested(self, tmp_path: Path, trained: Path) -> None:
        """Its weights as published and its checkpoint as ours, which score alike."""
        assert {"settings.yml", "command.txt", "train.log", "losses.jsonl"} <= {
            file.name for file in trained.iterdir()
        }
        [*_, weights] = sorted(trained.rglob("*.pt*"))
        self.run("weights", "export", weights, tmp_path / "exported.pt")
        assert read_weights(weights).keys() == read_weights(tmp_path / "exported.pt").keys()
        [*_, checkpoint] = sorted((trained / "checkpoints").iterdir())
        command, scores = self.how_to_test(tmp_path / "test"), []
        for file in (weights, checkpoint):
            self.run(*command, "--model", file)
            out = tmp_path / "test" / "out"
            facts = json.loads((out / "summary.json").read_text(encoding="utf-8"))
            assert facts["weights_sha256"] == file_digest(file)
            assert facts["precision"] == "fp32"
            assert facts["mean_of_frames"]["psnr"] > 0
            lines = (out / "scores.jsonl").read_text(encoding="utf-8").splitlines()
            assert len(lines) == facts["frames"] > 0
            scores.append(facts["mean_of_frames"])
        assert scores[0] == scores[1]

    def test_resume_is_exact(self, tmp_path: Path, trained: Path) -> None:
        """A run that goes on after the second of four updates ends as one that never stopped."""
        broken, last = tmp_path / "broken", "checkpoints/00000004.ckpt"
        shutil.copytree(trained, broken)
        (broken / last).unlink()
        with updates(4):
            self.run("train", "--resume", broken)
        one, other = (read_checkpoint(folder / last) for folder in (trained, broken))
        for part in ("network", "optimizer", "processes"):
            torch.testing.assert_close(one[part], other[part], rtol=0, atol=0, equal_nan=True)
        middle = read_weights(broken / "checkpoints/00000002.ckpt")
        moved = [name for name, value in middle.items() if not value.equal(one["network"][name])]
        assert moved  # else the updates that are compared did nothing

    def start(
        self, count: int, pairs: Path, *words: object, ranks: int = 1
    ) -> list[ForkServerProcess]:
        """Start a command in a process, or several told apart as torchrun does; none imports much.

        It runs as :func:`run_forked` says.
        """
        forks = forking()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        world = {"WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        started = []
        for number in range(ranks):
            rank = {**world, "RANK": number, "LOCAL_RANK": number} if ranks > 1 else {}
            named = {name: str(value) for name, value in rank.items()}
            given = (self.paper.package, count, pairs, [*map(str, words)], named)
            started.append(forks.Process(target=run_forked, args=given, daemon=True))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OMP_NUM_THREADS", "1")
            for process in started:
                process.start()
        return started

    @pytest.mark.multiprocess
    @pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
    def test_a_killed_run_ends_as_an_unbroken_one(self, tmp_path: Path, kills: int) -> None:
        """By SIGKILL at any moment; a batch is computed in parts, and every update validated."""
        write_pairs(tmp_path / "low", tmp_path / "high", 6, (16, 24))
        words = [*self.how_to_train(tmp_path / "set"), "--save", str(tmp_path / "runs")]
        words += [f"train.batch_size={2 * self.smallest_share}", "train.accumulate=2"]
        words += ["--device", "cpu", "run.tensorboard=false", "run.keep_checkpoints=1"]
        chance, count, resumed_from = random.Random(kills), 2 * kills + 2, set[int]()  # noqa: S311
        killed, whole = (tmp_path / "runs" / name for name in ("killed", "whole"))

        def newest() -> int:
            return max((int(each.stem) for each in killed.glob("checkpoints/0*.ckpt")), default=0)

        go = [*words, "--name", "killed"]
        for _ in range(kills):
            [process] = self.start(count, tmp_path, *go)
            wanted, deadline = newest() + chance.randrange(2), time.monotonic() + 60
            while newest() < wanted and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.05))
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL  # else a test of nothing
            if (killed / "settings.yml").is_file():
                go = [words[0], "--resume", str(killed)]
                resumed_from.add(newest())
        assert len(resumed_from) > kills // 3
        for last in (go, [*words, "--name", "whole"]):
            [process] = self.start(count, tmp_path, *last)
            process.join()
            assert process.exitcode == 0, (tmp_path / "said").read_text()
        one, other = ending(killed), ending(whole)
        assert (one.pop("losses"), one.pop("files")) == (other.pop("losses"), other.pop("files"))
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)

    @pytest.fixture
    def alike(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Networks in float64, without what a batch's parts do apart: batch norm and dropout."""
        for kind in (_BatchNorm, torch.nn.Dropout):
            monkeypatch.setattr(kind, "train", lambda layer, mode=True: Module.train(layer, False))
        torch.set_default_dtype(torch.float64)
        yield
        torch.set_default_dtype(torch.float32)

    @pytest.mark.usefixtures("alike")
    def test_parts_of_a_batch_have_its_losses_and_gradient(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also parts of several sizes; of every procedure, with every kind of losses."""
        networks: list[Module] = []

        def one_update(paper: Paper, procedure: Procedure[Any], *rest: Any, **more: Any) -> Path:
            def network(settings: Any) -> Module:
                networks.append(procedure.network(settings))
                return networks[-1]

            changed = replace(
                procedure,
                network=network,
                data=lambda settings: InDouble(procedure.data(settings)),
                plan=lambda *_: Plan(iterations=1, weights_every=1, checkpoint_every=1),
            )
            return train(paper, changed, *rest, **more)

        monkeypatch.setattr("llve_common.train.trainer.train", one_update)
        _, *words = self.how_to_train(tmp_path / "set")
        words += ["--save", str(tmp_path), "run.tensorboard=false"]
        words.append(f"train.batch_size={4 * self.smallest_share - 1}")
        for procedure, chosen in product(self.paper.procedures, self.kinds_of_losses):
            losses: list[dict[str, float]] = []
            for parts in ("1", "2", "3"):
                split = (f"train.accumulate={parts}", f"run.name=in-{parts}")
                self.run(procedure, *words, *chosen, *split)
                logged = (tmp_path / f"in-{parts}" / "losses.jsonl").read_text(encoding="utf-8")
                losses.append(json.loads(logged)["losses"])
                assert losses[-1] == pytest.approx(losses[0], rel=1e-9)
                pairs = zip(
                    networks[-1].parameters(), networks[-len(losses)].parameters(), strict=True
                )
                for own, whole in ((one.grad, other.grad) for one, other in pairs):
                    scale = 0 if whole is None else float(whole.abs().max())
                    torch.testing.assert_close(own, whole, rtol=0, atol=1e-9 * scale)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
    def test_a_training_from_a_graph_is_the_usual_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not self.device_alone:
            pytest.skip("the processor has a part in a step of this training")
        for backend in (torch.backends.cudnn, torch.backends.cuda.matmul):
            monkeypatch.setattr(backend, "allow_tf32", False)
        plan = Plan(iterations=8, weights_every=8, checkpoint_every=8)

        def longer(paper: Paper, procedure: Procedure[Any], *rest: Any, **more: Any) -> Path:
            unseen = replace(procedure, plan=lambda *_: plan, validation=lambda settings: [])
            return train(paper, unseen, *rest, **more)

        monkeypatch.setattr("llve_common.train.trainer.train", longer)
        words = [*self.how_to_train(tmp_path / "set"), "--save", str(tmp_path), "--device", "cuda"]
        words += ["run.tensorboard=false", "run.log_every=1"]
        losses = []
        for name, graph in (("usual", "false"), ("graph", "true")):
            self.run(*words, f"run.name={name}", f"train.graph={graph}")
            lines = (tmp_path / name / "losses.jsonl").read_text(encoding="utf-8").splitlines()
            losses.append([json.loads(line)["losses"]["total"] for line in lines])
        assert len(losses[1]) == plan.iterations
        assert losses[1] == pytest.approx(losses[0], rel=1e-3)

    @pytest.mark.multiprocess
    def test_two_processes_make_one_run(self, tmp_path: Path) -> None:
        write_pairs(tmp_path / "low", tmp_path / "high", 6, (16, 24))
        words = [*self.how_to_train(tmp_path / "train"), "--save", tmp_path / "runs"]
        words += ["--device", "cpu", "run.tensorboard=false", "train.workers=0"]
        words.append(f"train.batch_size={2 * self.smallest_share}")
        processes = self.start(2, tmp_path, *words, ranks=2)
        for process in processes:
            process.join(300)  # if one fails, the other one waits for it
            process.kill()
        ends = [process.exitcode for process in processes]
        assert ends == [0, 0], (tmp_path / "said").read_text()
        [folder] = (tmp_path / "runs").iterdir()
        for checkpoint in (folder / "checkpoints").iterdir():
            content = read_checkpoint(checkpoint)
            assert len(content["processes"]) == 2
        assert content["iteration"] > 0

    # Published names

    @property
    def tables(self) -> dict[str, tuple[type[Settings], PublishedOptions]]:
        """Each command that has settings, and what its published names mean."""
        return {k: (kind, self.paper.options[kind]) for k, kind in self.paper.settings.items()}

    def test_commands_are_those_that_the_paper_runs(self) -> None:
        """A procedure or the test without a command could not be run, nor one without it."""
        run = {name: each.settings for name, each in self.paper.procedures.items()}
        assert self.paper.settings == {**run, "test": self.paper.test.settings}

    def test_flags(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every flag of a setting is in the help, and gives what is typed."""
        monkeypatch.setenv("COLUMNS", "200")
        seen: list[Settings] = []

        def only_load(*args: Any, **more: Any) -> Settings:
            seen.append(load_settings(*args, **more))
            raise typer.Exit

        monkeypatch.setattr("llve_common.commands.paper.load_settings", only_load)
        for command, (kind, published) in self.tables.items():
            flags = flags_of(kind, published)
            help_ = self.run(command, "--help")
            words, wanted = [command], {}
            for flag, name in flags.items():
                assert flag.split("/")[0].replace("_", "-") in help_.replace("_", "-"), flag
                if isinstance(name, str):
                    value = wanted[name] = another(*field_of(kind, name))
                    on, _, off = flag.partition("/")
                    words += [on if value else off] if off else [on, str(value)]
            self.run(*words)
            found = {name: attrgetter(name)(seen[-1]) for name in wanted}
            assert {name: str(each) for name, each in found.items()} == {
                name: str(each) for name, each in wanted.items()
            }

    # Your own pairs

    def test_own_pairs(self, tmp_path: Path) -> None:
        """Images of odd sides; two are held out, validate, choose the best, and are tested."""
        write_pairs(tmp_path / "mine" / "low", tmp_path / "mine" / "high", 6, (50, 70))
        pairs = ["--low", tmp_path / "mine", "--test-clips", "0001,0004"]
        train, test = self.how_to_train(tmp_path / "a"), self.how_to_test(tmp_path / "b")
        own = tmp_path / "runs" / "own"
        save = ["--save", own.parent, "--name", "own"]
        output = self.run(*train, *pairs, *save, "run.tensorboard=true")
        assert command_line([str(each) for each in pairs]) in output.splitlines()[-1], "what next"
        validations = read_validations(own)
        assert validations
        assert all("psnr" in each["validation"] for each in validations)
        events = b"".join(file.read_bytes() for file in (own / "tensorboard").iterdir())
        assert b"validation/psnr" in events
        assert b"preview/val_images" in events
        assert list((own / "val_images").iterdir())
        [best] = own.glob("best.*")
        out = tmp_path / "out"
        more = ["--model", best, "--save_path", out, "--save-images"]
        self.run(*test, *pairs, *more)
        scores = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
        assert [each["frame"] for each in scores] == ["0001.png", "0004.png"]
        assert len(list((out / "images").rglob("*.png"))) == 2
        assert all("psnr" in each for each in scores)
        foreign = out / "images" / "mine" / "before.png"
        write_image(foreign, dark_frames(1, 4, 4)[0])
        output = self.run(*test, "--low", tmp_path / "mine", "--test-clips", "0001", *more)
        assert f"pictures that are not of this test: {foreign}\n" in output
        assert {file.stem for file in (out / "images").rglob("*.png")} == {"0001", "before"}

    # Settings

    def test_shipped_settings_are_valid_and_round_trip(self, tmp_path: Path) -> None:
        shipped = shipped_configs(self.paper)
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

    # Mistakes

    def test_missing_and_empty_folders(
        self, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        test = [*self.how_to_test(tmp_path / "b"), "--model", str(weights)]
        for command in (self.how_to_train(tmp_path / "a"), test):
            place = command.index("--data_path") + 1
            empty = tmp_path / "empty"
            empty.mkdir(exist_ok=True)
            command[place] = str(empty)
            assert f"{empty}: the folder holds no image" in self.run(*command, fails=True)
            command[place] = str(tmp_path / "nowhere")
            assert f"{tmp_path / 'nowhere'}: no such folder" in self.run(*command, fails=True)
        monkeypatch.chdir(tmp_path)
        output = self.run("test", "--model", weights, fails=True)
        assert re.search("to mend: this is the default of data.*: give .*PATH, or your own", output)
        assert "no image" in self.run("enhance", tmp_path / "empty", fails=True)
        assert "no such file" in self.run("enhance", tmp_path / "nowhere", fails=True)

    def test_a_corrupt_image(self, tmp_path: Path, images: Path, weights: Path) -> None:
        """It is named; images by themselves are enhanced all the same."""
        train = [*self.how_to_train(tmp_path / "a"), "--save", str(tmp_path / "runs")]
        test = [*self.how_to_test(tmp_path / "b"), "--model", str(weights)]
        enhance = ["enhance", str(images), "-o", str(tmp_path / "out")]
        folders = (self.data_of(train), self.data_of(test), images)
        for command, folder in zip((train, test, enhance), folders, strict=True):
            victim = sorted(folder.rglob("*.png"))[-1]
            victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
            output = self.run(*command, fails=True)
            assert f"{victim}: the image cannot be decoded" in output
        if self.paper.kind == "image":
            assert "1 of 2 files" in output
            assert [file.name for file in (tmp_path / "out").iterdir()] == ["0.png"]
        assert not [file for file in tmp_path.rglob(".*") if file.is_file()]

    def test_weights_whose_shapes_are_made_up(self, tmp_path: Path, weights: Path) -> None:
        """Nothing is built from shapes that the file does not hold."""
        self.run("weights", "export", weights, tmp_path / "whole.pt")
        state = read_weights(tmp_path / "whole.pt")
        crafted: dict[str, Any] = {
            "scalars": dict.fromkeys(state, torch.tensor(0.0)),
            "empty": {name: value.new_empty(0, 9) for name, value in state.items()},
            "wide": {name: torch.zeros(1, 5, 2) for name in state},
            "spread": {name: torch.zeros(1).expand(4096, 4096, 3, 3) for name in state},
            "integers": {name: value.long() for name, value in state.items()},
        }
        for name, content in crafted.items():
            file = tmp_path / f"{name}.pt"
            torch.save(content, file)
            with pytest.raises(CheckpointError) as caught:
                load_model(self.paper, file, torch.device("cpu"))
            assert str(caught.value).startswith(f"{file}: ")

    def test_weights_that_are_not_there_or_of_another_network(
        self, tmp_path: Path, images: Path
    ) -> None:
        missing, foreign = tmp_path / "missing.pth", tmp_path / "foreign.safetensors"
        write_weights(foreign, torch.nn.Linear(2, 2).state_dict())
        test = [*self.how_to_test(tmp_path / "test"), "--model"]
        for words in (["enhance", images / "0.png", "--weights"], test):
            assert f"{missing}: no such weights file" in self.run(*words, missing, fails=True)
            output = self.run(*words, foreign, fails=True)
            assert f"{foreign}: the weights do not fit the network" in output
            assert "unknown bias, weight" in output

    def test_no_such_device(self, images: Path) -> None:
        names = {"cuda:99": "no such CUDA device", "gpu": "auto, cpu, cuda, cuda:N or mps"}
        for name, said in {**names, "cuda:x": names["gpu"], "mps": "no Metal device"}.items():
            if not (name == "mps" and torch.backends.mps.is_available()):
                assert said in self.run("enhance", images / "0.png", "--device", name, fails=True)
        command = self.how_to_test(images.parent / "test")
        assert f"expected {names['gpu']}" in self.run(*command, "--device", "gpu", fails=True)

    # The command

    def test_the_module_is_the_command_whose_mistakes_are_messages(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        missing = tmp_path / "missing.png"
        module = str(import_module(f"{self.paper.package}.__main__").__file__)
        monkeypatch.setattr(sys, "argv", [self.paper.name, "enhance", str(missing)])
        usual = signal.getsignal(signal.SIGINT)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(module, run_name="__main__")
        signal.signal(signal.SIGINT, usual)  # a process's own until it ends
        said = capsys.readouterr()
        assert (ended.value.code, said.out) == (1, "")
        assert said.err.startswith(f"error: {missing}: no such file or folder\n")
        assert "Traceback" not in said.err
