"""Published weights by name, fetched from a server on the loopback address."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from llve_common.__main__ import app
from llve_common.errors import CheckpointError, MediaError
from llve_common.weights.pretrained import warping_flow
from llve_common.weights.published import (
    Published,
    fetch,
    find_published,
    ways_to_weights,
    weights_file,
)

CONTENT = bytes(range(256)) * 1000


class Server(ThreadingHTTPServer):
    """Serves the content, or as much of it as ``cut`` says, and keeps what it was asked for."""

    def __init__(self, *, ranges=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut, self.ranges, self.asked = CONTENT, None, ranges, []

    @property
    def root(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers["Range"]
        server.asked.append((self.path, wanted))
        start = int(wanted[6:-1]) if wanted and server.ranges else 0
        if start >= len(server.content):
            self.send_error(416)
            return
        left = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(left)))
        self.end_headers()
        self.wfile.write(left[: server.cut])

    def log_message(self, *_):
        pass


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own, and no proxy."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/llve/weights/tiny"


@pytest.fixture
def start():
    """Starts servers, which end with the test."""
    pytest.importorskip("pooch", reason="the extra llve-common[fetch] is not installed")
    started = []

    def make(**how):
        server = Server(**how)
        started.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        return server

    yield make
    for server in started:
        server.shutdown()
        server.server_close()


def published(root, **changes):
    digest = hashlib.sha256(CONTENT).hexdigest()
    known = {"size": len(CONTENT), "sha256": digest, "address": f"{root}/tiny.pt"} | changes
    return Published(name="medium", paper="tiny", file="tiny.pt", licence="MIT", **known)


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_what_was_cut_off_is_gone_on_with(start, cache, ranges):
    server = start(ranges=ranges)
    wanted, seen = published(server.root), []
    server.cut = 100_000
    with pytest.raises(CheckpointError, match="could not be fetched") as caught:
        fetch(wanted)
    assert "'tiny weights fetch medium' goes on with what has arrived" in str(caught.value)
    assert f"save the file as {cache / 'tiny.pt'}" in str(caught.value)
    assert not wanted.is_here
    kept = (cache / "tiny.pt.part").stat().st_size
    assert 0 < kept <= 100_000
    server.cut = None

    def watch(*so_far):
        seen.append(so_far)
        # What is left if the process is killed now: the next one removes what is named so.
        left = {each.name for each in cache.iterdir() if not each.name.startswith(".llve-")}
        assert left == {"tiny.pt.part", "lock"}

    assert fetch(wanted, watch) == cache / "tiny.pt"
    assert {each.name for each in cache.iterdir()} == {"tiny.pt", "lock"}
    assert (cache / "tiny.pt").read_bytes() == CONTENT
    assert [each for _, each in server.asked] == [None, f"bytes={kept}-"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert {each.name for each in cache.iterdir()} == {"tiny.pt", "lock"}
    fetch(wanted)
    assert len(server.asked) == 2, "it was here"


def test_a_part_that_is_longer_than_the_file_is_begun_again(start, cache):
    cache.mkdir(parents=True)
    (cache / "tiny.pt.part").write_bytes(CONTENT + b"more")
    assert fetch(published(start().root)).read_bytes() == CONTENT


@pytest.mark.parametrize("known", [{}, {"size": None}], ids=["size", "digest"])
def test_another_file_is_thrown_away(start, cache, known):
    server = start()
    server.content = CONTENT[::-1]
    with pytest.raises(CheckpointError, match="not the published file") as caught:
        fetch(published(server.root, **known))
    assert hashlib.sha256(CONTENT).hexdigest() in str(caught.value)
    assert [each.name for each in cache.iterdir()] == ["lock"]


def test_without_a_known_digest_what_comes_is_taken(start):
    assert fetch(published(start().root, size=None, sha256=None)).read_bytes() == CONTENT


def test_a_proxy_of_the_environment_is_asked(start, monkeypatch):
    proxy = start()
    monkeypatch.setenv("HTTP_PROXY", proxy.root)
    fetch(published("http://weights.invalid"))
    assert proxy.asked == [("http://weights.invalid/tiny.pt", None)]


def test_no_network_and_no_such_file_are_one_message(start, cache):
    server = start()
    nobody = published(server.root.replace(str(server.server_port), "1"))
    missing = published(server.root)
    server.content = b""  # 416
    for wanted, said in ((nobody, "refused"), (missing, "416")):
        with pytest.raises(CheckpointError, match=said) as caught:
            fetch(wanted)
        assert str(caught.value).startswith(f"{wanted.address}: the weights could not be fetched")
        assert not (cache / "tiny.pt").exists()


def test_a_cache_that_cannot_be_written(start, cache):
    """Even root cannot make a folder in a file."""
    server = start()
    cache.parent.parent.mkdir(parents=True)
    cache.parent.write_bytes(b"")
    with pytest.raises(MediaError, match="set XDG_CACHE_HOME to a folder that you may write to"):
        fetch(published(server.root))
    assert server.asked == []


def test_a_cache_that_is_only_read_serves_what_is_in_it(cache, monkeypatch):
    cache.mkdir(parents=True)
    (cache / "tiny.pt").write_bytes(CONTENT)
    monkeypatch.setattr("llve_common.weights.published.holding", None)
    assert fetch(published("http://weights.invalid")) == cache / "tiny.pt"


TABLE = """
[easy]
file = "easy.pt"
licence = "MIT"
address = "http://weights.invalid/easy.pt"
size = 1
[hand]
file = "hand.pth"
licence = "not stated"
page = "https://page.invalid"
[lost]
file = "lost.pth"
licence = "not stated"
dead = "the link is dead"
[flow]
of = "RAFT"
file = "raft.pth"
licence = "BSD"
page = "https://flow.invalid"
"""


@pytest.fixture
def tiny(paper, tmp_path, monkeypatch):
    """A paper whose package names published weights."""
    (tmp_path / "names_weights").mkdir()
    (tmp_path / "names_weights/__init__.py").touch()
    (tmp_path / "names_weights/weights.toml").write_text(TABLE)
    monkeypatch.syspath_prepend(tmp_path)
    return paper(package="names_weights")


def test_a_name_stands_for_its_file_and_every_message_says_how_to_get_it(tiny, paper, cache):
    own = cache / "own.pt"
    assert weights_file(own, tiny) == own
    ways = {
        "easy": "tiny weights fetch easy",
        "hand": f"open https://page.invalid, and save hand.pth as {cache / 'hand.pth'}",
        "lost": f"the link is dead; if you have the file, save it as {cache / 'lost.pth'}",
        "none": "easy, hand, lost, flow, alexnet",
    }
    for name, way in ways.items():
        with pytest.raises(CheckpointError) as caught:
            weights_file(Path(f"published:{name}"), tiny)
        assert way in str(caught.value)
    for name in ("hand", "lost"):
        with pytest.raises(CheckpointError, match="no program can fetch"):
            fetch(find_published(tiny, name))
    cache.mkdir(parents=True)
    (cache / "easy.pt").write_bytes(b"longer")
    with pytest.raises(CheckpointError, match="differs in size or SHA-256"):
        weights_file(Path("published:easy"), tiny)
    (cache / "easy.pt").write_bytes(b"1")
    assert weights_file(Path("published:easy"), tiny) == cache / "easy.pt"
    assert ways_to_weights(tiny).endswith("'tiny weights fetch NAME', which is one of easy, hand")
    assert "published" not in ways_to_weights(paper())


def test_names_of_the_core_stand_for_files_everywhere(tiny, cache):
    """Those of networks that measures look through."""
    path = cache.with_name("llve") / "raft-small.pth"
    name = Path("published:raft-small")
    by_hand = f"open https://github.com/princeton-vl/RAFT, and save raft-small.pth as {path}"
    for command in (["weights", "fetch"], ["score", str(cache), "--raft", str(name)]):
        done = CliRunner().invoke(app, command, env={"COLUMNS": "300"})
        assert by_hand in f"{done.output}{done.exception}"
    path.parent.mkdir(parents=True)
    path.touch()
    assert weights_file(name, tiny) == weights_file(name) == path
    with pytest.raises(CheckpointError, match="truncated") as caught:
        warping_flow(name, torch.device("cpu"))
    assert str(path) in str(caught.value)
