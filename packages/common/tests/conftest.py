"""What the tests of the core share: a whole paper in a few lines, and files to work on."""

import random
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from llve_common.clips.clip import image_clips
from llve_common.config import RunSettings, Settings, TestSettings, TrainerSettings
from llve_common.io.images import write_image
from llve_common.paper.contract import Model, Paper, Plan, Procedure, Test, Window
from llve_common.published_options import PublishedOptions
from llve_common.video import VideoInfo, VideoWriter
from llve_common.weights.files import write_weights


class TinyTrain(TrainerSettings):
    iterations: int = 6
    lr: float = 0.05


class TinySettings(Settings):
    procedure: Literal["train"] = "train"
    train: TinyTrain = TinyTrain()
    run: RunSettings = RunSettings(device="cpu", tensorboard=False, log_every=1)


class TinyTest(TestSettings):
    low: Path
    high: Path | None = None
    device: str = "cpu"


class TinySet:
    """Constant pictures and their doubles; an augmentation adds a little of the sample's chance."""

    def __init__(
        self, length: int = 5, size: tuple[int, int] = (8, 8), files: Sequence[Path] = ()
    ) -> None:
        self.length, self.size, self.files = length, size, files

    def __len__(self) -> int:
        return self.length

    def sample(self, index: int, rng: random.Random) -> dict[str, Any]:
        low = torch.full((3, *self.size), 0.05 * (index + 1)) + 0.01 * rng.random()
        return {"low": low, "high": 2 * low}


class TinyNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.Dropout(0.0)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(image))


def _objective(settings: TinySettings, device: torch.device) -> Any:
    return lambda network, batch, _: {"l2": ((network(batch["low"]) - batch["high"]) ** 2).mean()}


def make_procedure(**changes: Any) -> Procedure:
    parts: dict[str, Any] = {
        "name": "Train",
        "settings": TinySettings,
        "network": lambda settings: TinyNetwork(),
        "data": lambda settings: TinySet(),
        "objective": _objective,
        "optimizer": lambda settings, network: torch.optim.Adam(
            network.parameters(), settings.train.lr
        ),
        "plan": lambda settings, epoch_length: Plan(settings.train.iterations, 2, 2),
        "weights_name": "weights/{epoch}_{iteration}.pt",
    }
    return Procedure(**(parts | changes))


ONE_FRAME = Window()


def make_paper(window: Window = ONE_FRAME, **changes: Any) -> Paper:
    parts: dict[str, Any] = {
        "name": "tiny",
        "title": "Tiny",
        "package": "llve_common",
        "kind": "image" if len(window.inputs) == 1 else "video",
        "network": lambda state, settings: TinyNetwork(),
        # The enhanced image is the image itself: what comes back shows what went in.
        "enhance": lambda network, frames: frames,
        "window": lambda network, settings: window,
        "rounding": "round",
        "procedures": {"train": make_procedure()},
        "options": {TinySettings: PublishedOptions(), TinyTest: PublishedOptions()},
        "test": Test(TinyTest, lambda settings, window: image_clips(settings.low, settings.high)),
        "to_published": lambda state: {f"net.{key}": value for key, value in state.items()},
        "from_published": lambda state: {k.removeprefix("net."): v for k, v in state.items()},
    }
    return Paper(**(parts | changes))


@pytest.fixture(name="paper")
def paper_fixture() -> Callable[..., Paper]:
    """Makes a tiny paper of one window; keywords replace its parts."""
    return make_paper


@pytest.fixture(name="model")
def model_fixture() -> Callable[..., Model]:
    """Makes a tiny paper's model on the CPU, whose network does nothing unless another is given."""

    def make(network: nn.Module | None = None, **changes: Any) -> Model:
        return Model(make_paper(**changes), network or nn.Identity())

    return make


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A weights file of the tiny network."""
    write_weights(tmp_path / "tiny.safetensors", TinyNetwork().state_dict())
    return tmp_path / "tiny.safetensors"


@pytest.fixture(name="procedure")
def procedure_fixture() -> Callable[..., Procedure]:
    """Makes a tiny procedure; keywords replace its parts."""
    return make_procedure


@pytest.fixture
def tiny_set() -> type[TinySet]:
    return TinySet


@pytest.fixture
def settings_in(tmp_path: Path) -> Callable[..., TinySettings]:
    """Makes settings of the tiny procedure that write below the test's folder."""

    def make(run: dict[str, Any] | None = None, **train: Any) -> TinySettings:
        where = {"save": tmp_path / "runs", "device": "cpu", "tensorboard": False, "log_every": 1}
        return TinySettings(train=TinyTrain(**train), run=RunSettings(**where | (run or {})))

    return make


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    """Makes random pixels (H, W, 3)."""

    def make(height: int = 8, width: int = 10, dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
        top = np.iinfo(dtype).max
        draws = np.random.default_rng(seed).integers(0, top + 1, (height, width, 3))
        return draws.astype(dtype)

    return make


@pytest.fixture
def image_file(tmp_path: Path, picture: Callable[..., np.ndarray]) -> Callable[..., Path]:
    """Writes a random image file and gives its path."""

    def make(name: str, *args: Any, **options: Any) -> Path:
        path = tmp_path / name
        write_image(path, picture(*args, **options))
        return path

    return make


@pytest.fixture
def video_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a video of grey frames of the levels given, and gives its path."""

    def make(name: str, levels: Sequence[int], height: int = 40, width: int = 48) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        info = VideoInfo(path, width, height, Fraction(25), Fraction(1, 12800))
        with VideoWriter(path, info) as writer:
            for number, level in enumerate(levels):
                frame = np.full((height, width, 3), level, np.uint8)
                writer.write(frame, Fraction(number, 25))
        return path

    return make


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Files may not grow beyond 20 kB, as on a disk that is full."""
    resource = pytest.importorskip("resource", reason="this system has no limits of files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(params=["torch", "c", "triton"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Asks for one implementation of the deformable convolution after the other."""
    name: str = request.param
    if name == "triton":
        request.getfixturevalue("triton_on_a_cpu")
    monkeypatch.setenv("LLVE_DCN", name)
    return name


@pytest.fixture(scope="session")
def write_clip() -> Callable[..., None]:
    """Writes random frames into a folder; ``size`` is height and width."""

    def write(
        folder: Path, length: int, kind: str = ".npy", size: tuple[int, int] = (6, 8)
    ) -> None:
        rng = np.random.default_rng(0)
        for number in range(length):
            pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            write_image(folder / f"{number:04d}{kind}", pixels)

    return write


@pytest.fixture
def root(tmp_path: Path, write_clip: Callable[..., None]) -> Path:
    """Three clips in SDSD's layout, of six, five and five frames."""
    for side in ("GT", "input"):
        for clip, length in (("pair1", 6), ("pair2", 5), ("pair10", 5)):
            write_clip(tmp_path / "indoor_np" / side / clip, length)
    return tmp_path / "indoor_np"
