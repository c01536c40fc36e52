"""Every command, ended by a signal at any of its steps on files, and then run twice at once.

The conformance suite kills trainings.
"""

import random
import re
import shutil
import signal
from pathlib import Path

import pytest
from kills import start

from llve_common.io.images import write_image
from llve_common.testing.conformance import dark_frames, write_pairs, write_video

BUNDLED = Path(__file__).parents[1] / "packages/stcd/src/llve_stcd/bundled"
PAIRS = "--data_path {0}/pairs/low --target_path {0}/pairs/high --save_path out --save-images"
CLIPS = "--data_path {0}/clips data.size=null --save_path out --save-images"
QUICK = [
    "sci enhance {0}/pairs -o out/set",
    "sgz enhance {0}/a.mp4 -o out/a.mp4 --resume",
    f"sci test {PAIRS}",
    "sdsd data convert {0}/clips out",
    "llve data photographs {0}/pairs -o out --height 16 --width 16 --frames 2",
    "tcenet simulate {0}/a.mp4 out",
]
SLOW = [
    *(f"{paper} enhance {{0}}/a.mp4 -o out/a.mp4" for paper in ("sci", "sdsd", "stcd", "tcenet")),
    *(f"{paper} enhance {{0}}/a.mp4 -o out/frames" for paper in ("sgz", "tcenet")),
    "llve enhance {0}/frames/0.png -o out/a.png",
    *(f"{paper} test {CLIPS}" for paper in ("sdsd", "stcd")),
    f"sgz test {PAIRS}",
    "tcenet test --data_path {0}/clips/input --target_path {0}/clips/GT --save_path out "
    "--save-images --flow dis",
    "llve compare {0}/pairs/low --reference {0}/pairs/high --papers sci,sgz -o out",
    "llve score {0}/pairs/low --reference {0}/pairs/high -o out",
    "llve synthetic out --height 16 --width 16",
    "stcd data synthetic out --height 16 --width 16 --frames 5",
    "llve photograph out",
    *(f"{paper} weights onnx out/a.onnx" for paper in ("sci", "sgz")),
    f"stcd weights export {BUNDLED}/stcd-photographs.safetensors out/a.pt",
    f"stcd weights import {BUNDLED}/stcd-photographs.safetensors out/a.safetensors",
    *(f"{paper} page -o out/a.html" for paper in ("sci", "sgz")),
    "sdsd configs copy train/indoor out/a.yml",
    "sgz video --choice V2I --video_path {0}/a.mp4 --image_lowlight_folder out/%d.png",
    "sgz video --choice I2V --video_path {0}/a.mp4 --image_folder {0}/frames --save_path out/a.mp4",
    "stcd match {0}/frames/0.png {0}/frames/1.png -o out/a.png",
    "stcd decompose {0}/frames/0.png {0}/frames/1.png -o out/a.png",
]
WORDS = [*QUICK, *(pytest.param(each, marks=pytest.mark.slow) for each in SLOW)]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TEMPORARY = re.compile(r"\.llve-[0-9a-f]{16}(\.\w+)?")
OTHERS = {".llve-notes.txt", ".llve-0123456789abcdef.d.png", ".notes-20261126.txt"}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    write_pairs(folder / "pairs" / "low", folder / "pairs" / "high")
    write_pairs(folder / "clips" / "input" / "pair13", folder / "clips" / "GT" / "pair13", 6)
    frames = dark_frames(6, 32, 48)
    write_video(folder / "a.mp4", frames)
    for number, pixels in enumerate(frames):
        write_image(folder / "frames" / f"{number}.png", pixels)
    return folder


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")
            if path.is_file() and path.name not in OTHERS}  # fmt: skip


def like(path):
    """A file's content; of text what is no number, such as a time that it took; a page's end."""
    content = path.read_bytes()
    if path.suffix == ".html":
        return content[-10:]
    text = path.suffix in {".json", ".jsonl", ".md", ".csv", ".txt"}
    return re.sub(rb"[\d.e\s|+-]+", b"", content) if text else content


def said(folder):
    return "".join(file.read_text(errors="replace") for file in sorted(folder.glob("said-*")))


def contents(folder):
    return {name: like(path) for name, path in files_in(folder).items()}


@pytest.mark.multiprocess
@pytest.mark.parametrize("kills", [1, pytest.param(6, marks=pytest.mark.slow)])
@pytest.mark.parametrize("line", WORDS)
def test_what_stands_is_whole_and_the_next_run_gives_the_rest(given, tmp_path, line, kills):
    chance, words, unbroken = random.Random(line), line.format(given).split(), tmp_path / "unbroken"
    process = start(words, unbroken)
    process.join()
    assert process.exitcode == 0, said(unbroken)
    steps, wanted = int((unbroken / "steps").read_text()), contents(unbroken / "out")
    assert wanted
    others = set() if {"photographs", "synthetic"} & {*words} else OTHERS
    for number in range(kills):
        folder = tmp_path / str(number)
        for name in others:
            (folder / "out").mkdir(parents=True, exist_ok=True)
            (folder / "out" / name).write_text("mine")
        # Threads may save a step.
        whole = ended(words, folder, chance.choice(SIGNALS), chance.randint(1, max(1, steps - 3)))
        assert contents(folder / "out").items() >= {(name, wanted[name]) for name in whole}
        if whole and not others:
            shutil.rmtree(folder / "out")  # as the message says: the last moves were cut off
        run_twice(words, folder, whole == wanted.keys())
        assert contents(folder / "out") == wanted
        assert {each.name for each in (folder / "out").iterdir()} >= others


def ended(words, folder, signal_, step):
    """End a command, and return the names of the files that it leaves, less temporary ones."""
    process = start(words, folder, signal_, step)
    process.join()
    ends = {-signal_} if signal_ == signal.SIGKILL else {-signal_, 128 + signal_, 0}
    assert process.exitcode in ends, said(folder)
    assert "Traceback" not in said(folder)
    names = files_in(folder / "out").keys()
    half = {name for name in names if any(map(TEMPORARY.fullmatch, Path(name).parts))}
    if signal_ != signal.SIGKILL:
        assert "--resume" in words or not half
        assert not list((folder / "tmp").glob(".llve-*"))
    return names - half


def run_twice(words, folder, done):
    """Run a command twice at once: either one is refused by one message, or both end well."""
    more = ["--skip-existing"] if "enhance" in words else []
    two = [start([*words, *more], folder) for _ in range(2)]
    for each in two:
        each.join()
    codes = [each.exitcode for each in two]
    assert set(codes) <= {0, 1}, said(folder)
    assert 0 in codes or done
    assert len(re.findall("^error: ", said(folder), re.MULTILINE)) == sum(codes)
