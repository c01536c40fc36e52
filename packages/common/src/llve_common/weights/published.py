"""Published weights by name: ``published:NAME`` stands for a file that its authors publish.

A paper's package names them in ``weights.toml``, and the core those of the networks that measures
look through. ``weights fetch NAME`` brings one into a cache folder, and only that does; files that
no program can fetch are put there by hand.
"""

import importlib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from llve_common.config import PUBLISHED
from llve_common.errors import CheckpointError, MediaError
from llve_common.io.atomic import temporary_folder
from llve_common.io.digest import file_digest
from llve_common.machine.folders import cache_folder
from llve_common.machine.locks import holding
from llve_common.paper.about import About

Watch = Callable[[int, int | None], None]
"""Is told (bytes that are here, bytes in all as far as known)."""

_CHUNK = 1 << 16
_SECONDS = 30
"""How long a server may say nothing."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published weights file, as ``weights.toml`` describes it.

    Attributes:
        name: what it is asked for by.
        paper: whose package names it; ``llve``: the core.
        file: what its authors call it.
        licence: under which they publish it, as far as they say.
        of: the network that it is of, where that is not the paper's own.
        address: where a program can fetch it.
        page: where it is fetched by hand.
        dead: why it cannot be had any more.
        size: in bytes, where known.
        sha256: in hexadecimal, where known.
    """

    name: str
    paper: str
    file: str
    licence: str
    of: str | None = None
    address: str | None = None
    page: str | None = None
    dead: str | None = None
    size: int | None = None
    sha256: str | None = None

    @property
    def path(self) -> Path:
        """Where it lies once it is here.

        Raises:
            MediaError: the user has no home.
        """
        try:
            return cache_folder() / "weights" / self.paper / self.file
        except OSError as error:
            what, mend = "there is no folder to keep weights in", "set XDG_CACHE_HOME"
            raise MediaError(what, got=error, mend=mend) from error

    @property
    def way(self) -> str:
        """How it gets there, for a message."""
        if self.address is not None:
            return f"{self.paper} weights fetch {self.name}"
        if self.dead is not None:
            return f"{self.dead}; if you have the file, save it as {self.path}"
        return f"open {self.page}, and save {self.file} as {self.path}"

    @property
    def is_here(self) -> bool:
        """Whether the file is here, and whole as far as is known."""
        right = self.path.is_file() and self.size in (None, self.path.stat().st_size)
        return right and self.sha256 in (None, file_digest(self.path))


def published_weights(paper: About | None) -> dict[str, Published]:
    """The published weights that a paper's package names, or the core, by their names."""
    owner, package = ("llve", "llve_common") if paper is None else (paper.name, paper.package)
    table = files(package) / "weights.toml"
    if not table.is_file():
        return {}
    named = tomllib.loads(table.read_text(encoding="utf-8"))
    return {name: Published(name=name, paper=owner, **known) for name, known in named.items()}


def find_published(paper: About | None, name: str) -> Published:
    """One of the core's, or of a paper's.

    Raises:
        CheckpointError: there is none of this name.
    """
    known = ({} if paper is None else published_weights(paper)) | published_weights(None)
    if name not in known:
        what = "no published weights have this name"
        raise CheckpointError(what, got=name, expected=", ".join(known))
    return known[name]


def ways_to_weights(paper: About) -> str:
    """What a user can give as weights of a paper's network, for messages where there are none."""
    alive = [each for each in published_weights(paper).values() if each.of is each.dead is None]
    own = "a file such as one of your own training"
    if not alive:
        return own
    names, command = ", ".join(each.name for each in alive), f"{paper.name} weights fetch NAME"
    return f"{own}, or {PUBLISHED}NAME after '{command}', which is one of {names}"


def weights_file(path: Path, paper: About | None = None) -> Path:
    """The file that a user means by ``published:NAME``; another path is the file's own.

    The name is one of the paper's, or of the core's.

    Raises:
        CheckpointError: no published weights have this name, or the file is not here yet, or not
            the published one.
    """
    name = str(path).removeprefix(PUBLISHED)
    if name == str(path):
        return path
    wanted = find_published(paper, name)
    if wanted.is_here:
        return wanted.path
    there = wanted.path.exists()
    what = "not the published file" if there else "these published weights are not here"
    raise CheckpointError(
        what,
        where=path,
        got=f"{wanted.path}, which differs in size or SHA-256" if there else None,
        expected=f"SHA-256 {wanted.sha256}" if there else wanted.path,
        mend=f"{wanted.way}; or give a file of your own",
    )


def fetch(wanted: Published, watch: Watch = lambda done, total: None) -> Path:
    """Fetch published weights, unless they are here; what was cut off before is gone on with.

    Proxies are those of the environment, such as ``HTTPS_PROXY``.

    Raises:
        CheckpointError: they cannot be fetched by a program, the library pooch is not installed,
            the server cannot be reached or breaks off, or the file is not the published one.
        MediaError: the cache folder cannot be written.
    """
    path = wanted.path
    if wanted.is_here:
        return path
    if wanted.address is None:
        what = "no program can fetch these weights"
        raise CheckpointError(what, where=PUBLISHED + wanted.name, mend=wanted.way)
    by_hand = f"open {wanted.page or wanted.address}, and save the file as {path}"
    try:
        pooch = importlib.import_module("pooch")
    except ImportError as error:
        mend = f"pip install 'llve-common[fetch]'; or {by_hand}"
        raise CheckpointError("fetching needs the library pooch", got=error, mend=mend) from error
    pooch.get_logger().setLevel("WARNING")
    broken = importlib.import_module("requests").RequestException
    digest = None if wanted.sha256 is None else f"sha256:{wanted.sha256}"
    download = partial(_download, path.with_name(f"{path.name}.part"), wanted.size, watch)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # pooch leaves a file of its own where it is killed: in a folder that is removed then.
        with holding(path.parent), temporary_folder(path.parent) as folder:
            pooch.retrieve(wanted.address, digest, path.name, folder, downloader=download)
            (folder / path.name).replace(path)
    except broken as error:
        again = f"'{wanted.way}' goes on with what has arrived; or {by_hand}"
        what = "the weights could not be fetched"
        raise CheckpointError(what, where=wanted.address, got=error, mend=again) from error
    except OSError as error:
        mend = "set XDG_CACHE_HOME to a folder that you may write to"
        what, got = "the cache folder cannot be written", error.strerror or error
        raise MediaError(what, where=path.parent, got=got, mend=mend) from error
    except ValueError as error:  # pooch's, of a digest
        raise CheckpointError(
            "what the server sent is not the published file, and was thrown away",
            where=wanted.address,
            got=error,
            expected=f"SHA-256 {wanted.sha256}",
            mend=f"try once more; or {by_hand}",
        ) from error
    return path


def _download(
    part: Path, size: int | None, watch: Watch, address: str, target: str, pooch: Any
) -> None:
    """A downloader of pooch's that keeps what has arrived in ``part``, and asks for the rest."""
    requests: Any = importlib.import_module("requests")
    done = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={done}-"} if done else {})}
    with requests.get(address, headers=headers, stream=True, timeout=_SECONDS) as answer:
        if done and answer.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()
            return _download(part, size, watch, address, target, pooch)
        answer.raise_for_status()
        goes_on = answer.status_code == requests.codes.partial_content
        done = done if goes_on else 0
        length = answer.headers.get("Content-Length", "")
        total = done + int(length) if length.isdigit() else size
        with part.open("ab" if goes_on else "wb") as file:
            for chunk in answer.iter_content(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                watch(done, total)
    if total is not None and done < total:
        raise requests.ConnectionError(f"cut off after {done} of {total} bytes")
    part.replace(target)
    return None
