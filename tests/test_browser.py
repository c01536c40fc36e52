"""The page that enhances, in a browser: what it saves is what the command writes."""

import numpy as np
import PIL.Image
import pytest
from browser import chromium
from clips import make_clip
from typer.testing import CliRunner

from llve_common.io.images import read_image
from llve_common.report.page import Group, Panel, Section, write_page
from llve_common.video import VideoReader
from llve_common.weights.files import write_weights
from llve_sci.__main__ import app as sci
from llve_sgz.__main__ import app as sgz
from llve_sgz.network import Enhancer

APPS = {"sci": sci, "sgz": sgz}
TOLD = "document.getElementById('told').textContent"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def page(browser, tmp_path):
    """Opens a paper's page."""

    def open_page(paper):
        run(paper, "page", "-o", tmp_path / "page.html")
        browser.open(tmp_path / "page.html")
        return browser

    return open_page


def run(paper, *words):
    result = CliRunner().invoke(APPS[paper], [str(word) for word in words])
    assert result.exit_code == 0, result.output


def photograph(path, height, width, **options):
    """Smooth colours with noise, as dark as the networks expect."""
    rng = np.random.default_rng(0)
    smooth = np.kron(
        rng.uniform(0, 90, (height // 16 + 1, width // 16 + 1, 3)), np.ones((16, 16, 1))
    )
    pixels = smooth[:height, :width] + rng.normal(0, 3, (height, width, 3))
    PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, **options)
    return path


def choose(browser, file):
    browser.choose("#file", file)
    return browser.wait(f"{TOLD}.startsWith('{file.name}') && {TOLD}", 300)


def saved(browser, file):
    browser.run("document.getElementById('save').click()")
    return read_image(browser.saved(f"{file.stem}-enhanced.png", 300)).pixels


def turned():
    exif = PIL.Image.Exif()
    exif[0x112] = 6
    return exif


PHOTOGRAPHS = {
    "odd.png": ((61, 47), {}),
    "tiny.png": ((5, 7), {}),
    "turned.jpg": ((48, 80), {"exif": turned(), "quality": 95}),
}
LARGE = pytest.param("large.png", (3000, 4000), {}, marks=pytest.mark.slow)


@pytest.mark.parametrize("paper", APPS)
@pytest.mark.parametrize(
    ("name", "size", "options"), [*((name, *each) for name, each in PHOTOGRAPHS.items()), LARGE]
)
def test_a_photograph_comes_out_as_the_command_writes_it(
    page, tmp_path, paper, name, size, options
):
    file, browser = photograph(tmp_path / f"{paper}-{name}", *size, **options), page(paper)
    strength = 0.5 if name == "odd.png" else 1
    choose(browser, file)
    browser.run(f"Object.assign(find('strength'), {{value: {strength}}}).oninput()")
    found = saved(browser, file).astype(int)
    run(paper, "enhance", file, "-o", tmp_path / "want.png", "--strength", strength)
    want = read_image(tmp_path / "want.png").pixels
    assert found.shape == want.shape
    assert (abs(found - want) <= 1).mean() >= 0.999


def test_a_turned_clip_plays_upright_and_the_camera_after_it(page, tmp_path):
    file = make_clip(tmp_path / "clip.mp4", ticks=range(40), rotation={"degrees": 90})
    browser = page("sci")
    assert choose(browser, file) == "clip.mp4: 48x64"
    browser.run("find('play').click()")
    browser.wait("video.paused && !video.seeking")
    run("sci", "enhance", file, "-o", tmp_path / "frames")
    frames = [read_image(each).pixels for each in sorted((tmp_path / "frames").iterdir())]
    found = saved(browser, file)
    assert found.shape == (64, 48, 3)
    # Players differ in how they enlarge chroma: the frame itself is told by what is left over.
    assert min(abs(found.astype(int) - each).mean() for each in frames) < 4
    browser.run("find('record').click()")
    with VideoReader(browser.saved("clip-enhanced.webm")) as video:
        assert (video.info.width, video.info.height) == (48, 64)
        assert sum(1 for _ in video) > 2
    browser.run("find('camera').click()")
    browser.wait(f"{TOLD}.startsWith('camera: ') && canvas.width === video.videoWidth")
    browser.wait("find('rate').textContent.endsWith('frames a second')")
    browser.run("stop()")


def test_the_page_can_ask_for_nothing_and_says_what_it_cannot_do(page, tmp_path):
    browser = page("sci")
    browser.drop(photograph(tmp_path / "a.png", 8, 8))
    assert browser.wait(f"{TOLD}.startsWith('a.png') && {TOLD}") == "a.png: 8x8"
    assert all(each.startswith(("file:", "blob:")) for each in browser.requests)
    refused = """new Promise(done => {
        const tell = event => done(event.effectiveDirective);
        document.addEventListener('securitypolicyviolation', tell);
        fetch('https://example.org').catch(() => 0);
    })"""
    assert browser.run(refused) == "connect-src"
    (tmp_path / "b.txt").write_text("no picture")
    assert "cannot be read here" in choose(browser, tmp_path / "b.txt")
    script = "HTMLCanvasElement.prototype.getContext = () => null"
    added = browser.do("Page.addScriptToEvaluateOnNewDocument", source=script)
    assert "does not offer WebGL2" in page("sci").wait(TOLD)
    browser.do("Page.removeScriptToEvaluateOnNewDocument", **added)


def key(browser, code):
    for kind in ("rawKeyDown", "keyUp"):
        browser.do(
            "Input.dispatchKeyEvent", type=kind, key=code, code=code, windowsVirtualKeyCode=39
        )


def test_a_report_s_pictures_follow_lists_frames_clicks_and_keys(browser, tmp_path):
    def panel(label, level):
        pixels = [np.full((6, 8, 3), level + each, np.uint8) for each in range(3)]
        return Panel(label, pixels, said=[f"{label} {each}" for each in range(3)])

    panels = [panel(label, 60 * number) for number, label in enumerate("abc")]
    groups = [Group("a clip", panels, ("x", "y", "z"))]
    section = Section("Pictures", commands=["sci enhance a.png"], groups=groups)
    write_page(tmp_path / "page.html", "A page", "of pictures", [section])
    phone = {"width": 360, "height": 780, "deviceScaleFactor": 2, "mobile": True}
    browser.do("Emulation.setDeviceMetricsOverride", **phone)
    browser.open(tmp_path / "page.html")
    assert browser.run("document.documentElement.scrollWidth") == 360
    assert browser.run("document.querySelector('.view').getBoundingClientRect().bottom") < 780
    browser.do("Emulation.clearDeviceMetricsOverride")

    def shown():
        return browser.run("""['left', 'right'].map(side => {
            const image = document.querySelector(`.of-${side}`), canvas = new OffscreenCanvas(1, 1);
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            return context.getImageData(0, 0, 1, 1).data[0];
        })""")

    assert shown() == pytest.approx([1, 61], abs=1)
    browser.run("document.querySelectorAll('.pick')[2].click()")
    browser.run("Object.assign(document.querySelector('.left'), {value: 1}).onchange()")
    browser.run("Object.assign(document.querySelector('.frame'), {value: 2}).oninput()")
    browser.wait("document.querySelector('.of-right').complete")
    assert shown() == pytest.approx([62, 122], abs=1)
    assert browser.run("document.querySelector('.shown').value") == "z"
    assert browser.run("document.querySelector('.pick .said').textContent") == "a 2"
    browser.run("document.querySelector('.at').focus()")
    key(browser, "ArrowRight")
    assert browser.run("document.querySelector('.view').style.getPropertyValue('--at')") == "51%"
    browser.run("document.querySelector('.play').click()")
    browser.wait("document.querySelector('.frame').value === '1'")
    # A headless page has no clipboard: the command is chosen, to be copied by keys.
    browser.run("document.querySelector('.copy').click()")
    copied = "document.querySelector('.copy').textContent === 'Copied' || `${getSelection()}`"
    assert browser.wait(copied) in (True, "$ sci enhance a.png")
    assert browser.requests[0].endswith("page.html")
    assert all(each.startswith(("file:", "data:")) for each in browser.requests)


def test_traditional_convolutions_of_sgz_are_refused(tmp_path):
    write_weights(tmp_path / "tc.pth", Enhancer(12, "tc").state_dict())
    words = ["page", "--weights", str(tmp_path / "tc.pth"), "-o", str(tmp_path / "page.html")]
    result = CliRunner().invoke(sgz, words)
    assert (result.exit_code, "depthwise separable" in result.output) == (1, True)
    assert not (tmp_path / "page.html").exists()
