"""Drives a headless Chromium, with its software renderer, over a pair of pipes."""

import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--remote-debugging-pipe", "--no-first-run",
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
)  # fmt: skip


class Browser:
    """One page; ``requests`` are the addresses that it asked for."""

    def __init__(self, read: int, write: int, downloads: Path) -> None:
        self._read, self._write, self._numbers = read, write, itertools.count(1)
        self._rest, self._session, self.requests = b"", {}, []
        self.downloads = downloads
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        made = self.do("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": made["sessionId"]}
        for domain in ("Page", "Network", "DOM"):
            self.do(f"{domain}.enable")
        where = {"behavior": "allow", "downloadPath": str(downloads)}
        self.do("Browser.setDownloadBehavior", **where)

    def do(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, and its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params, **self._session}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                got = os.read(self._read, 1 << 20)
                assert got, "the browser has ended"
                self._rest += got
            text, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(text)
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def run(self, script: str) -> Any:
        """What an expression comes to, promises awaited."""
        asked = {"expression": script, "awaitPromise": True, "returnByValue": True}
        answer = self.do("Runtime.evaluate", userGesture=True, **asked)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> Any:
        """What an expression comes to once that is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, (script, self.run("document.body.innerText"))
            time.sleep(0.05)
        return value

    def open(self, page: Path) -> None:
        """Load a page, and wait for it."""
        self.requests.clear()
        self.do("Page.navigate", url=page.as_uri())
        self.wait(
            f"location.href === {json.dumps(page.as_uri())} && document.readyState === 'complete'"
        )

    def choose(self, selector: str, file: Path) -> None:
        """Choose a file, as a person would."""
        root = self.do("DOM.getDocument")["root"]["nodeId"]
        node = self.do("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.do("DOM.setFileInputFiles", files=[str(file)], nodeId=node)

    def drop(self, file: Path) -> None:
        """Drag a file onto the page, and let it go."""
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.do("Input.dispatchDragEvent", type=kind, x=200, y=200, data=data)

    def saved(self, name: str, seconds: float = 60) -> Path:
        """A download, once it is whole."""
        file, end = self.downloads / name, time.monotonic() + seconds
        while not file.exists() or list(self.downloads.glob("*.crdownload")):
            assert time.monotonic() < end, list(self.downloads.iterdir())
            time.sleep(0.05)
        return file


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser whose profile and downloads are in a folder."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no browser is installed here: {', '.join(PROGRAMS)}")
    downloads = folder / "downloads"
    downloads.mkdir()
    (to_browser, write), (read, from_browser) = os.pipe(), os.pipe()

    def as_chromium_expects() -> None:
        # It reads file 3 and writes file 4; the copies made first cannot be either.
        ours, theirs = os.dup(to_browser), os.dup(from_browser)
        os.dup2(ours, 3)
        os.dup2(theirs, 4)

    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={folder / 'profile'}"],
        preexec_fn=as_chromium_expects, pass_fds=(3, 4),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        os.close(to_browser)
        os.close(from_browser)
        browser = Browser(read, write, downloads)
        yield browser
        browser._session = {}
        browser.do("Browser.close")
    finally:
        process.kill()
        process.wait()
        os.close(read)
        os.close(write)
