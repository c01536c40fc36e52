"""Every page of the checkout: its commands can be typed, what they print, and its links."""

import json
import re
import runpy
import shlex
import shutil
import tomllib
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from markdown import (
    broken_links,
    code_blocks,
    page_commands,
    page_files,
    page_sessions,
    pages,
    settings_commands,
)
from reproduce.claims import read_claims
from typer.core import TyperCommand
from typer.main import get_command
from typer.testing import CliRunner

from llve_common.config import load_settings
from llve_common.data.synthetic import write_clip_set, write_image_set
from llve_common.io.images import read_image, write_image
from llve_common.paper.configs import find_config, settings_class, shipped_configs
from llve_common.testing.conformance import dark_frames, write_video
from llve_common.weights.files import read_weights, write_weights
from llve_common.weights.network import bundled_weights

ROOT = Path(__file__).resolve().parents[1]


PROJECTS = [
    tomllib.loads(file.read_text())["project"]
    for file in sorted(ROOT.glob("packages/*/pyproject.toml"))
]


def loaded(*groups: dict[str, str]) -> dict[str, Any]:
    """What entry points lead to, by their names."""
    return {
        name: EntryPoint(name, place, "").load() for each in groups for name, place in each.items()
    }


PAPERS = loaded(*(each.get("entry-points", {}).get("llve.papers", {}) for each in PROJECTS))
PROGRAMS = {
    name: import_module(f"{place.removesuffix(':main')}.__main__").app
    for each in PROJECTS for name, place in each["scripts"].items()
}  # fmt: skip
PROGRAMS["python -m llve_common"] = PROGRAMS["llve"]
PARSERS = {name: get_command(app) for name, app in PROGRAMS.items()}

NOT_TYPED = {
    "REPOSITORY=": "stands for the repository's address",
    "git clone": "needs the repository's address",
    "python -m pip install": "needs an index; nox installs every package to run these tests",
    "nox": "runs these tests itself, or for minutes",
    "python -m pytest packages/gamma": "typed by test_add_a_paper.py",
    "gamma ": "typed by test_add_a_paper.py",
    "python benchmarks/": "measures for minutes",
    "python tools/": "measures for minutes",
}
"""What is no command of the programs here, by how it begins, and who types it."""

SMALL_SET = ["--clips", "1", "--height", "32", "--width", "40"]
SHORT = {
    "sci train": ["--epochs", "1"],
    "sci finetune": ["--epochs", "1"],
    "sdsd train": [
        "network.nf=8", "network.groups=2", "network.front_blocks=1", "network.back_blocks=1",
        "data.size=null", "data.crop=16", "train.batch_size=2", "train.workers=0",
        "train.iterations=1", "train.validate_every=null", "run.tensorboard=false",
    ],
    "sdsd test": ["data.size=null", "data.first=5"],
    "sdsd data synthetic": SMALL_SET,
    "python -m llve_common synthetic": SMALL_SET,
    "python -m llve_common data photographs": ["--frames", "5", "--height", "16", "--width", "16"],
}  # fmt: skip
"""What makes a command short enough for a test, appended to it."""


def written() -> dict[str, set[str]]:
    """Every command, and where it is written."""
    found: dict[str, set[str]] = {}
    for page in pages(ROOT):
        for command in page_commands(page):
            found.setdefault(command, set()).add(page.relative_to(ROOT).as_posix())
    for name, paper in PAPERS.items():
        claims = read_claims(ROOT / "packages" / name / "paper.toml").claim
        of_claims = [re.sub(r"\$(\w+)", r"\1", each.command) for each in claims if each.command]
        for command in [*settings_commands(paper), *of_claims]:
            found.setdefault(command, set()).add(f"{name}'s settings and claims")
    return found


def typed(command: str) -> tuple[dict[str, str], str, list[str]]:
    """Variables before the command, the program, and its arguments."""
    variables, words = {}, shlex.split(command)
    while re.match(r"[A-Z_]+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    if words[0] == "torchrun":
        # One process here: several have tests of their own.
        words = ["python", *words[words.index("-m") :]]
    length = 3 if words[:2] == ["python", "-m"] else 1
    program = " ".join(words[:length])
    if program != "python -m llve_common":
        program = program.removeprefix("python -m llve_")
    return variables, program, words[length:]


def kind_of(command: str) -> tuple[str, str]:
    """The command without its program, and what it works on."""
    _, program, words = typed(command)
    path, group = [], PARSERS[program]
    while words and words[0] in getattr(group, "commands", {}):
        path.append(words.pop(0))
        group = group.commands[path[-1]]
    # An image, a video or a folder is one kind each, and an option file is.
    on = Path(words[0]).suffix if path in (["enhance"], ["compare"]) else ""
    return " ".join(path), "-opt" if "-opt" in words else on


COMMANDS = written()
TYPED = [each for each in COMMANDS if not each.startswith(tuple(NOT_TYPED))]
ONE_OF_EACH_KIND = list({kind_of(each): each for each in reversed(TYPED)}.values())
SESSIONS = [(page, *each) for page in pages(ROOT) for each in page_sessions(page)]


def test_there_are_pages_and_commands():
    assert len(pages(ROOT)) > 10
    assert len(TYPED) > 60
    assert len(ONE_OF_EACH_KIND) > 20


def test_reasons_are_of_commands_that_there_are():
    for start in NOT_TYPED:
        assert any(command.startswith(start) for command in COMMANDS), start


def test_commands_that_are_not_typed_name_what_there_is():
    sessions = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.M))
    for command in COMMANDS.keys() - set(TYPED):
        for session in re.findall(r"nox -s (\w+)", command):
            assert session in sessions, command
        for path in re.findall(r"(?:packages|benchmarks|tools)/[\w/.]+", command):
            assert (ROOT / path).exists() or path == "packages/gamma", command


# Every command


@pytest.mark.parametrize("command", TYPED)
def test_command_and_its_options_and_settings_exist(command, monkeypatch, capsys):
    _, program, words = typed(command)
    contexts = []
    monkeypatch.setattr(TyperCommand, "invoke", lambda self, context: contexts.append(context))
    with pytest.raises(SystemExit) as ended:
        PARSERS[program].main(words)
    assert ended.value.code == 0, (COMMANDS[command], capsys.readouterr().err)
    for context in contexts:
        check_settings(PAPERS.get(program), context)


def check_settings(paper, context) -> None:
    """Load the settings file and the overrides that a command of a paper names."""
    files = shipped_configs(paper).values() if paper else ()
    kinds = {yaml.safe_load(file.read_text())["procedure"]: file for file in files}
    if context.info_name not in kinds:
        return
    parameters = context.command.params
    [overrides] = [each.name for each in parameters if each.param_type_name == "argument"]
    [config] = [each.name for each in parameters if "--config" in each.opts]
    file = find_config(paper, context.params[config])
    kind = settings_class(paper, kinds[context.info_name])
    load_settings(kind, file, context.params[overrides] or ())


# One command of each kind


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> Path:
    """What the pages speak of."""
    shelf = tmp_path_factory.mktemp("shelf")
    made = write_image_set(shelf / "mine", clips=1, frames=1, height=24, width=32) / "test"
    for low in ("photos", "LOW", "LOL/eval15/low", "results"):
        shutil.copytree(made / "low", shelf / low)
    for high in ("PHOTOGRAPHS", "LOL/eval15/high"):
        shutil.copytree(made / "high", shelf / high)
    for image in (made / "high").iterdir():
        write_image(shelf / "RESIZED" / image.name, read_image(image).pixels[:20, :30])
    write_image(shelf / "dark.jpg", read_image(next((made / "low").iterdir())).pixels)
    write_video(shelf / "dark.mp4", dark_frames(3, 48, 64))
    # Six clips of each photograph: all twelve of the test are there.
    size = {"frames": 6, "height": 32, "width": 40}
    clips = write_clip_set(shelf / "SDSD" / "indoor_np", clips=6, **size)
    write_clip_set(shelf / "SDSD" / "indoor_png", suffix=".png", clips=1, **size)
    frames = sorted((clips / "input" / "pair2").iterdir())
    for number, name in enumerate(("frame.png", "next.png", "VIDEOS/one/0.png")):
        write_image(shelf / name, read_image(frames[number]).pixels)
    write_weights_files(shelf)
    for command, start in (("train", {}), ("test", {"pretrain_model_G": "indoor_G.pth"})):
        data = {"dataroot_GT": "SDSD/indoor_np/GT", "dataroot_LQ": "SDSD/indoor_np/input"}
        options = {"name": "indoor", "datasets": {command: data}, "path": {"root": "./"} | start}
        (shelf / f"{command}_in_sdsd.yml").write_text(yaml.dump(options))
    return shelf


def write_weights_files(folder: Path) -> None:
    sci = ("medium.pt", "medium.safetensors", "finetuned.pt")
    for paper, names in (("sci", sci), ("sdsd", ("indoor_G.pth",))):
        weights = read_weights(bundled_weights(PAPERS[paper]))
        for name in names:
            write_weights(folder / name, PAPERS[paper].to_published(weights))
    write_weights(folder / "foreign.pth", torch.nn.Linear(2, 2).state_dict())
    torch.save(torch.nn.Linear(2, 2), folder / "pickled.pth")


@pytest.fixture
def run(shelf, tmp_path, monkeypatch):
    """Runs a command in a folder that holds what the pages speak of."""
    for path in shelf.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)

    def run(command: str, more: list[str]):
        variables, program, words = typed(command)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(PROGRAMS[program], words + more, prog_name=program)

    return run


@pytest.mark.parametrize("command", ONE_OF_EACH_KIND)
def test_one_command_of_each_kind(run, command):
    more = next((words for start, words in SHORT.items() if command.startswith(start)), [])
    result = run(command, more)
    assert result.exit_code == 0, (COMMANDS[command], result.output, result.exception)


@pytest.mark.parametrize(
    ("page", "command", "printed"), [pytest.param(*one, id=one[1]) for one in SESSIONS]
)
def test_what_a_page_says_a_command_prints(run, page, command, printed):
    output = rest = run(command, []).output
    for part in printed.split("...\n"):
        _, found, rest = rest.partition(part.rstrip("\n"))
        assert found or not part, f"{page}: it prints\n{output}"


def test_the_core_page_scores_from_python(shelf, tmp_path, monkeypatch, capsys):
    blocks = code_blocks(ROOT / "packages" / "common" / "README.md")
    [text] = [text for kind, text in blocks if kind == "python"]
    monkeypatch.chdir(shelf)
    (tmp_path / "score.py").write_text(text.replace("results", str(tmp_path / "results")))
    runpy.run_path(str(tmp_path / "score.py"))
    scores = json.loads((tmp_path / "results" / "summary.json").read_text())
    assert str(scores["mean_of_frames"]["psnr"]) in capsys.readouterr().out


def test_the_page_of_own_pairs_in_its_order_with_few_updates(run, tmp_path):
    bounded = runpy.run_path(str(ROOT / "tools" / "week.py"))["bounded"]
    for command in page_commands(ROOT / "docs" / "your-own-pairs.md"):
        result = run(shlex.join(bounded(command)), [])
        assert result.exit_code == 0, (command, result.output, result.exception)
    assert (tmp_path / "table" / "index.html").is_file()
    assert {file.parent.name for file in tmp_path.glob("runs/*/best.*")} == set(PAPERS)


# Links and files


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
