"""Every page of the checkout: its commands typed, what it says they print, and its links."""

import importlib
import re
import shlex
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from markdown import (
    broken_links,
    page_commands,
    page_files,
    page_sessions,
    pages,
    settings_commands,
)
from reproduce.claims import read_claims
from typer.testing import CliRunner

import llve_common.__main__ as common
from llve_common.data.sdsd.splits import SDSD_OUTDOOR_TEST, SMID_TEST
from llve_common.data.synthetic import write_clip_set, write_image_set
from llve_common.flow.raft import Raft
from llve_common.io.images import read_image, write_image
from llve_common.io.video import VideoInfo, VideoWriter
from llve_common.nn.vgg import Vgg19Features
from llve_common.paper.installed import installed_papers
from llve_common.weights.files import read_weights, write_weights
from llve_common.weights.network import bundled_weights
from llve_sci.weights import to_published
from llve_sgz.network import Segmenter
from llve_stcd.matchers import dis_matches
from llve_tcenet.network import TCENet

ROOT = Path(__file__).resolve().parents[1]
PAPERS = {
    name: importlib.import_module(f"llve_{name}.paper").PAPER
    for name in ("sci", "sgz", "sdsd", "stcd", "tcenet")
}
APPS = {name: importlib.import_module(f"llve_{name}.cli").app for name in PAPERS}
PROGRAMS = {**APPS, "python -m llve_common": common.app, "llve": common.app}

NOT_TYPED = {
    "git clone": "needs the repository's address",
    "python -m pip install": "needs an index; nox installs every package to run these tests",
    "nox": "runs these tests itself, or for minutes",
    "python -m pytest packages/gamma": "typed by test_add_a_paper.py",
    "gamma ": "typed by test_add_a_paper.py",
    "python benchmarks/": "measures for minutes",
}
"""What is not run here, by how it begins, and why."""

SHORT = {
    ("sci", "train"): ["--epochs", "1"],
    ("sci", "finetune"): ["--epochs", "1"],
    ("sgz", "train"): ["--epochs", "1", "--num_workers", "0", "data.size=64"],
    ("sdsd", "data synthetic"): ["--clips", "1", "--height", "32", "--width", "40"],
    ("sdsd", "train"): [
        "network.nf=8", "network.groups=2", "network.front_blocks=1", "network.back_blocks=1",
        "data.size=null", "data.crop=16", "train.batch_size=2", "train.workers=0",
        "train.iterations=1", "train.validate_every=null", "run.tensorboard=false",
    ],
    ("sdsd", "test"): ["data.size=null", "data.first=5"],
    ("stcd", "data synthetic"): ["--clips", "1", "--height", "32", "--width", "40"],
    ("stcd", "train"): [
        "network.nf=8", "data.size=null", "train.batch_size=1", "train.workers=0",
        "train.iterations=1", "train.validate_every=null", "run.tensorboard=false",
    ],
    ("stcd", "test"): ["data.size=null", "data.first=2"],
    ("tcenet", "train"): [
        "--epochs", "1", "--repeat_times", "1", "--batch_size", "2", "--threads", "0",
        "train.crop=32", "objective.raft.iterations=1", "--use_tensorboard", "false",
    ],
    ("python -m llve_common", "synthetic"): ["--clips", "1", "--height", "32", "--width", "40"],
}  # fmt: skip
"""What makes a command short enough for a test, appended to it."""

NEW = {
    "python -m llve_common synthetic synthetic": "synthetic",
    "tcenet simulate": "data",
    "sdsd data synthetic": "synthetic",
    "stcd data synthetic": "synthetic",
}
"""What commands make: it is not there before."""


def written() -> dict[str, set[str]]:
    """Every command, and where it is written."""
    found: dict[str, set[str]] = {}
    for page in pages(ROOT):
        for command in page_commands(page):
            found.setdefault(command, set()).add(page.relative_to(ROOT).as_posix())
    for name, paper in PAPERS.items():
        for command in settings_commands(paper):
            found.setdefault(command, set()).add(f"{name}'s settings")
        for claim in read_claims(ROOT / "packages" / name / "paper.toml").claim:
            if claim.command:
                data = {"LOL v1 eval15": "LOL/eval15", "SDSD outdoor": "SDSD/outdoor_np",
                        "SDSD indoor": "SDSD/indoor_np"}.get(claim.data, "LOL/eval15")  # fmt: skip
                command = claim.command.replace("$DATA", data).replace("$OUT", "results")
                command = command.replace("$WEIGHTS", "WEIGHTS")
                found.setdefault(command, set()).add(f"{name}'s claims")
    return found


COMMANDS = written()
TYPED = {
    command: places
    for command, places in COMMANDS.items()
    if not command.startswith(tuple(NOT_TYPED))
}
SESSIONS = [(page, *each) for page in pages(ROOT) for each in page_sessions(page)]


def typed(command: str) -> tuple[dict[str, str], str, list[str]]:
    """Variables before the command, the program, and its arguments."""
    variables, words = {}, shlex.split(command)
    while re.match(r"[A-Z_]+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    if words[0] == "torchrun":
        # One process here: several have tests of their own.
        words = [
            words[words.index("-m") + 1].removeprefix("llve_"),
            *words[words.index("-m") + 2 :],
        ]
    length = 3 if words[:2] == ["python", "-m"] else 1
    program = " ".join(words[:length])
    if program.startswith("python -m llve_") and program != "python -m llve_common":
        program = program.removeprefix("python -m llve_")
    return variables, program, words[length:]


def shortened(program: str, words: list[str]) -> list[str]:
    start = " ".join(words).removeprefix("--mode ")
    for (name, begin), more in SHORT.items():
        if name == program and start.startswith(begin):
            return words + more
    return words


# What the pages speak of


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    """What all pages speak of, in the folder ``all``; each paper's own is added when needed."""
    shelf = tmp_path_factory.mktemp("shelf")
    every = shelf / "all"
    made = write_image_set(every / "synthetic", clips=1, frames=1, height=24, width=32)
    for low in ("photos", "LOW", "IMAGES", "FRAMES", "LOL/eval15/low"):
        shutil.copytree(made / "test" / "low", every / low)
    for high in ("HIGH", "LOL/eval15/high"):
        shutil.copytree(made / "test" / "high", every / high)
    write_image(every / "dark.png", read_image(next((made / "test" / "low").iterdir())).pixels)
    (every / "dark.png").rename(every / "dark.jpg")
    write_video(every / "dark.mp4")
    # Six clips of each photograph: all twelve of the test are there.
    size = {"frames": 6, "height": 32, "width": 40}
    clips = write_clip_set(every / "SDSD" / "indoor_np", clips=6, **size)
    write_clip_set(every / "SDSD" / "indoor_png", suffix=".png", clips=1, **size)
    write_clip_set(every / "synthetic" / "indoor_np", clips=1, **size)
    for side in ("GT", "input"):
        for name in (SDSD_OUTDOOR_TEST[0], "pair2"):
            shutil.copytree(clips / side / "pair2", every / "SDSD" / "outdoor_np" / side / name)
    return shelf


def write_video(path: Path) -> None:
    info = VideoInfo(path, 64, 48, Fraction(25), Fraction(1, 12800))
    with VideoWriter(path, info, width=64, height=48) as writer:
        for number in range(3):
            writer.write(np.full((48, 64, 3), 20 * number, np.uint8), Fraction(number, 25))


def own_of_sci(folder: Path) -> None:
    # The small RAFT: a file says itself which one it holds.
    write_weights(folder / "raft-things.pth", Raft(small=True).state_dict())
    published = to_published(read_weights(bundled_weights(PAPERS["sci"])))
    for name in ("medium.pt", "WEIGHTS.pt"):
        write_weights(folder / name, published)
    write_weights(folder / "medium.safetensors", published)
    wrapped = {f"module.{key}": value for key, value in published.items()}
    torch.save({"epoch": 3, "net": wrapped}, folder / "wrapped.pth")
    write_weights(folder / "foreign.pth", torch.nn.Linear(2, 2).state_dict())
    torch.save(torch.nn.Linear(2, 2), folder / "pickled.pth")
    every = folder.parent / "all"
    for image in (every / "HIGH").iterdir():
        write_image(folder / "RESIZED" / image.name, read_image(image).pixels[:20, :30])
    train = ["train", "--data_path", every / "photos", "--save", folder / "runs", "--epochs", "1"]
    words = [*map(str, train), "run.name=mine", "run.tensorboard=false"]
    assert CliRunner().invoke(APPS["sci"], words).exit_code == 0


def own_of_sgz(folder: Path) -> None:
    for name in ("Epoch99.pth", "WEIGHTS.pth"):
        write_weights(folder / name, read_weights(bundled_weights(PAPERS["sgz"])))
    write_weights(folder / "resnet50.pth", Segmenter().resnet.state_dict())


def own_of_sdsd(folder: Path) -> None:
    write_option_files(folder, "train_in_sdsd.yml", "test_in_sdsd.yml")
    sdsd = write_weights_and_clips(folder)
    for scene in (SMID_TEST[0], "0001"):
        for side, name in (("GT", "SMID_Long_np"), ("input", "SMID_LQ_np")):
            shutil.copytree(
                sdsd / "indoor_np" / side / "pair2", folder / "data" / "smid" / name / scene
            )


def own_of_stcd(folder: Path) -> None:
    write_option_files(folder, "SDSD_indoor.yml", "SDSD_indoor_test.yml")
    sdsd = write_weights_and_clips(folder)
    frames = sorted((sdsd / "indoor_np" / "input" / "pair2").iterdir())
    for name, frame in zip(("frame.png", "next.png"), frames, strict=False):
        write_image(folder / name, read_image(frame).pixels)
    # Never opened: the matcher itself, with its 72 million weights, has tests of its own.
    (folder / "DKMv3_indoor.pth").touch()


def write_option_files(folder: Path, train: str, test: str) -> None:
    """The keys of published option files that say where things are."""
    for name, command in ((train, "train"), (test, "test")):
        data = {"dataroot_GT": "SDSD/indoor_np/GT", "dataroot_LQ": "SDSD/indoor_np/input"}
        weights = {"pretrain_model_G": "indoor_G.pth"} if command == "test" else {}
        options = {"name": "indoor", "datasets": {command: data}, "path": {"root": "./"} | weights}
        (folder / name).write_text(yaml.dump(options))


def write_weights_and_clips(folder: Path) -> Path:
    """A paper's bundled weights under published names, and SDSD where its settings look for it."""
    for name in ("indoor_G.pth", "outdoor_G.pth"):
        write_weights(folder / name, read_weights(bundled_weights(PAPERS[folder.name])))
    sdsd = folder.parent / "all" / "SDSD"
    (folder / "data").mkdir()
    for name in ("indoor_np", "outdoor_np"):
        (folder / "data" / name).symlink_to(sdsd / name)
    return sdsd


def own_of_tcenet(folder: Path) -> None:
    torch.manual_seed(0)
    write_weights(folder / "WEIGHTS.pth", TCENet().state_dict())
    (folder / "models").mkdir()
    (folder / "models" / "Mine_epoch_300.pth").symlink_to(folder / "WEIGHTS.pth")
    write_weights(folder / "raft-things.pth", Raft().state_dict())
    (folder / "Pretrained_RAFT").mkdir()
    (folder / "Pretrained_RAFT" / "raft-things.pth").symlink_to(folder / "raft-things.pth")
    write_weights(folder / "vgg19-dcbb9e9d.pth", Vgg19Features().state_dict())
    made = write_clip_set(
        folder / "made", suffix=".png", clips=1, frames=6, height=40, width=48
    )  # fmt: skip
    sdsd, ds_lol = folder / "data" / "SDSD_CUHK", folder / "data" / "DS_LOL"
    names = sorted(each.name for each in (made / "input").iterdir())[:2]
    low = (folder / "LOW", sdsd / "videoSDSD_low", ds_lol / "low_and_noise")
    normal = (folder / "NORMAL", sdsd / "videoSDSD_normal", ds_lol / "normal")
    for side, places in (("input", low), ("GT", normal)):
        for place in places:
            for name in names:
                shutil.copytree(made / side / name, place / name)
    for file in (sdsd / "train_list.txt", ds_lol / "train_list.txt", sdsd / "test_list.txt"):
        file.write_text("".join(f"{name}\n" for name in names))
    shutil.copytree(made / "GT" / names[0], folder / "VIDEOS" / "one")


OWN = {
    "sci": own_of_sci,
    "sgz": own_of_sgz,
    "sdsd": own_of_sdsd,
    "stcd": own_of_stcd,
    "tcenet": own_of_tcenet,
}

WEIGHTS = {
    "sci": "WEIGHTS.pt",
    "sgz": "WEIGHTS.pth",
    "sdsd": "indoor_G.pth",
    "stcd": "indoor_G.pth",
    "tcenet": "WEIGHTS.pth",
}
"""What the pages mean by WEIGHTS."""


@pytest.fixture
def desk(shelf, tmp_path, monkeypatch):
    """Makes the current folder one that holds what a program's commands need."""

    def lay_out(program: str) -> None:
        # The core's commands speak of SCI's weights.
        own = shelf / (program if program in OWN else "sci")
        if not own.exists():
            own.mkdir()
            OWN[own.name](own)
            (own / "WEIGHTS").symlink_to(own / WEIGHTS[own.name])
        for folder in (shelf / "all", own):
            for path in folder.iterdir():
                place = tmp_path / path.name
                place.unlink(missing_ok=True)
                place.symlink_to(path)
        monkeypatch.chdir(tmp_path)

    return lay_out


# The tests


def test_there_are_pages_and_commands():
    assert len(pages(ROOT)) > 10
    assert len(TYPED) > 60


def test_every_command_is_typed_or_listed_with_its_reason():
    unknown = [
        (command, places) for command, places in TYPED.items() if typed(command)[1] not in PROGRAMS
    ]
    assert unknown == []


def test_reasons_are_of_commands_that_there_are():
    for start in NOT_TYPED:
        assert any(command.startswith(start) for command in COMMANDS), start


def test_commands_that_are_not_typed_name_what_there_is():
    sessions = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.M))
    for command in COMMANDS.keys() - TYPED.keys():
        for session in re.findall(r"nox -s (\w+)", command):
            assert session in sessions, command
        for path in re.findall(r"(?:packages|benchmarks|tools)/[\w/.]+", command):
            assert (ROOT / path).exists() or path == "packages/gamma", command


def skip_where_not_installed(words: list[str]) -> None:
    """Papers that a comparison names are found by their entry points, unlike the others here."""
    if "--papers" in words:
        missing = set(words[words.index("--papers") + 1].split(",")) - installed_papers().keys()
        if missing:
            pytest.skip(f"not installed: {', '.join(sorted(missing))}")


@pytest.mark.parametrize("command", TYPED)
def test_command_of_a_page(desk, monkeypatch, tmp_path, command):
    variables, program, words = typed(command)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    skip_where_not_installed(words)
    monkeypatch.setattr("llve_stcd.matchers.dkm_matcher", lambda *settings: dis_matches)
    desk(program)
    for start, made in NEW.items():
        if command.startswith(start):
            (tmp_path / made).unlink()
    result = CliRunner().invoke(PROGRAMS[program], shortened(program, words))
    assert result.exit_code == 0, (TYPED[command], result.output, result.exception)


@pytest.mark.parametrize(
    ("page", "command", "printed"), [pytest.param(*one, id=one[1]) for one in SESSIONS]
)
def test_what_a_page_says_a_command_prints(desk, monkeypatch, page, command, printed):
    variables, program, words = typed(command)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    desk(program)
    output = CliRunner().invoke(PROGRAMS[program], words, prog_name=program).output
    rest = output
    for part in printed.split("...\n"):
        _, found, rest = rest.partition(part.rstrip("\n"))
        assert found or not part, f"{page}: it prints\n{output}"


@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    assert broken_links(page) == []


PAGE = """
# A page, of two parts

[here](#a-page-of-two-parts) [there](other.md#part) [nowhere](missing.md) [no part](other.md#none)
[outside](https://example.org) `[code](no.md)`

```sh
program one   # what it does
# a remark
program two
```

- A point:

  ```console
  $ program three
  printed
  ```

```python folder/file.py
x = 1
```
"""


def test_what_a_page_holds(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    (tmp_path / "other.md").write_text("## Part\n")
    assert page_commands(page) == ["program one", "program two"]
    assert page_sessions(page) == [("program three", "printed\n")]
    assert page_files(page) == {"folder/file.py": "x = 1\n"}
    assert broken_links(page) == ["missing.md", "other.md#none"]
