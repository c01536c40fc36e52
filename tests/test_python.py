"""The module ``llve``, and every block of the page that shows it."""

import os
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from markdown import code_blocks, page_files

import llve
from llve_common.data.synthetic import write_image_set
from llve_common.errors import CheckpointError, ConfigError
from llve_common.io.images import read_image, write_image
from llve_common.testing.conformance import dark_frames, run_command, write_video
from llve_common.video import VideoReader
from llve_common.weights.network import bundled_weights
from llve_sci.__main__ import app as sci_app
from llve_sci.paper import PAPER as SCI
from llve_sgz.__main__ import app as sgz_app
from llve_sgz.paper import PAPER as SGZ

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "python.md"
BLOCKS = [text for kind, text in code_blocks(PAGE) if kind == "python"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with what the page speaks of."""
    monkeypatch.chdir(tmp_path)
    made = write_image_set(tmp_path / "made", clips=1, frames=1, height=45, width=62) / "test"
    write_image(tmp_path / "dark.jpg", read_image(next((made / "low").iterdir())).pixels)
    for name, folder in (("results", "low"), ("ground_truth", "high")):
        (made / folder).rename(tmp_path / name)
    write_video(tmp_path / "dark.mp4", dark_frames(6, 26, 38))
    return tmp_path


def run_block(text, **names):
    """Run a block as a program, with the names that it takes as given."""
    Path("block.py").write_text(text)
    return runpy.run_path("block.py", names)


def by_the_command(app, source, *words):
    """What the command makes of an image, written without loss."""
    run_command(app, "enhance", source, "-o", "command.png", *words)
    return read_image(Path("command.png")).pixels


def test_the_lines_as_typed_on_a_photograph_and_a_clip(here):
    with VideoReader(here / "dark.mp4") as reader:
        frames = [frame.pixels for frame in reader]
    shown = []
    image = np.asarray(PIL.Image.open("dark.jpg"))
    found = run_block(BLOCKS[0], image=image, frames=frames, show=shown.append)
    np.testing.assert_array_equal(found["image"], by_the_command(sci_app, "dark.jpg"))
    assert [frame.shape for frame in shown] == [frame.shape for frame in frames]


def test_in_a_notebook(here):
    *before, last = BLOCKS[1].splitlines()
    found = run_block("\n".join([*before, f"shown = {last}"]))
    np.testing.assert_array_equal(found["shown"], by_the_command(sci_app, "dark.jpg"))


def test_from_a_webcam(here, monkeypatch):
    camera, shown = cv2.VideoCapture("dark.mp4"), []
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: camera)

    class Label:
        def pack(self):
            pass

        update = pack

        def configure(self, image):
            shown.append(image)

    monkeypatch.setitem(sys.modules, "tkinter", type(sys)("tkinter"))
    monkeypatch.setattr("tkinter.Label", Label, raising=False)
    monkeypatch.setattr("PIL.ImageTk.PhotoImage", lambda picture: picture, raising=False)
    run_block(BLOCKS[2])
    assert [picture.size for picture in shown] == [(38, 26)] * 6


def test_with_onnxruntime_alone(here):
    pytest.importorskip("onnxruntime")
    run_command(sgz_app, "weights", "onnx", "sgz.onnx")
    run_block(BLOCKS[3])
    made = read_image(here / "bright.png").pixels.astype(int)
    assert abs(made - by_the_command(sgz_app, "dark.jpg")).max() <= 1


SERVED = """
import os, sys, threading
from pathlib import Path
from fastapi.testclient import TestClient
from service import app

wanted = {source: Path(source).with_suffix(".wanted").read_bytes() for source in sys.argv[1:]}
client = TestClient(app)

def ask(source, wrong):
    answer = client.post("/enhance", content=Path(source).read_bytes())
    if answer.status_code != 200 or pixels_of(answer.content) != wanted[source]:
        wrong.append(source)

def pixels_of(png):
    import io
    from PIL import Image
    return Image.open(io.BytesIO(png)).tobytes()

def serve(requests):
    wrong = []
    turns = [(list(wanted) * requests)[number:requests:4] for number in range(4)]
    threads = [threading.Thread(target=lambda turn=turn: [ask(each, wrong) for each in turn])
               for turn in turns]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return len(wrong)

if serve(10):  # here too, so that the workers inherit threads that are used
    sys.exit(1)
workers = []
for _ in range(2):
    workers.append(os.fork())
    if workers[-1] == 0:
        os._exit(serve(20))
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_web_service_answers_threads_and_forked_workers_as_the_command_does(here):
    (here / "service.py").write_text(page_files(PAGE)["service.py"])
    (here / "served.py").write_text(SERVED)
    sources = []
    for number, pixels in enumerate(dark_frames(5, 40, 50)):
        sources.append(f"{number}.png")
        write_image(here / sources[-1], pixels + np.uint8(10))
        wanted = by_the_command(sci_app, sources[-1])
        (here / f"{number}.wanted").write_bytes(wanted.tobytes())
    done = subprocess.run(
        [sys.executable, "served.py", *sources],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_module_is_quick():
    program = "import sys, llve; assert not sys.modules.keys() & {'torch', 'numpy', 'pydantic'}"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_paper_is_found_from_its_weights(tmp_path):
    assert llve.load(bundled_weights(SGZ)).model.paper.name == "sgz"
    with pytest.raises(CheckpointError, match=r"not weights of sci\n  got: weights of sgz"):
        llve.load("sci", bundled_weights(SGZ))
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "foreign.pth")
    with pytest.raises(CheckpointError, match=r"fit no installed paper\n  expected: .*sci.*sgz"):
        llve.load(tmp_path / "foreign.pth")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": "scy"}, "no such paper"),
        ({"name": "sci", "precision": "fp8"}, "no such precision"),
        ({"name": "sci", "device": "cuda:99"}, "no such CUDA device"),
    ],
)
def test_what_there_is_not_is_said(wrong, said):
    with pytest.raises(ConfigError, match=said):
        llve.load(**wrong)


def test_papers_say_what_enhancing_takes():
    found = {paper.name: paper for paper in llve.papers()}
    sci = found["sci"]
    assert (sci.kind, sci.window, sci.weights) == ("image", 1, bundled_weights(SCI))
    # Three convolutions of three channels with biases, and a batch norm; no calibration.
    assert (sci.parameters, sci.macs) == (3 * (81 + 3) + 6, 3 * 81)


def test_every_paper_is_in_the_hub_of_a_checkout(here):
    papers = (path.parent.name for path in ROOT.glob("packages/*/paper.toml"))
    offered = runpy.run_path(str(ROOT / "hubconf.py"))
    assert {name for name, each in offered.items() if isinstance(each, partial)} == set(papers)
    image = np.asarray(PIL.Image.open("dark.jpg"))
    sci = torch.hub.load(str(ROOT), "sci", source="local", device="cpu")
    np.testing.assert_array_equal(sci(image), by_the_command(sci_app, "dark.jpg"))
