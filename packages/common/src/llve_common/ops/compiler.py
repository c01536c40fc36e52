"""C files that are compiled where they are used, for the processor at hand.

A library is compiled once and kept in a cache folder, ``$XDG_CACHE_HOME/llve`` or
``~/.cache/llve``. Its name is a digest of all that it depends on, so what is there is never stale.
A library is a program: folder and file are the user's own, whom alone the folder lets in, and
others may not write to either. Where the folder cannot be used, each process compiles for itself.
"""

import ctypes
import hashlib
import logging
import os
import shutil
import stat
import subprocess
from pathlib import Path

from llve_common.errors import MediaError
from llve_common.io.atomic import replacing, temporary_folder
from llve_common.machine.folders import cache_folder
from llve_common.ops.implementation import Unavailable

_log = logging.getLogger(__name__)

# omp-simd: pragmas that allow sums in any order; no OpenMP library. no-trapping-math: nobody reads
# the processor's exception flags, and loops with comparisons can then be vectorised.
_FLAGS = (
    "-O3", "-march=native", "-fopenmp-simd", "-fno-trapping-math", "-shared", "-fPIC",
)  # fmt: skip
# Where the C files' own header lies.
_HEADER = Path(__file__).with_name("kernel.h")
_DIGEST = hashlib.sha256().digest_size
_SECONDS = 120


def shared_library(source: Path, *definitions: str) -> ctypes.CDLL:
    """A C file as a library, compiled with definitions such as ``-DREAL=float`` unless it was.

    Raises:
        Unavailable: there is no working C compiler, or what it makes cannot be loaded.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise Unavailable("there is no C compiler: no program `cc` on the PATH")
    command = [compiler, *_FLAGS, *definitions]
    name = f"{source.stem}-{_identity(source, command)}.so"
    try:
        path = _own_folder() / name
        if not _is_whole(path):
            with replacing(path) as temporary:
                _compile(command, source, temporary)
            path.chmod(0o600)
        return ctypes.CDLL(str(path))
    except (OSError, MediaError) as error:
        _log.info("the cache cannot be used, so this process compiles for itself: %s", error)
    # Not in the cache folder's file system, which may forbid programs as well.
    with temporary_folder() as folder:
        path = folder / name
        try:
            _compile(command, source, path)
            return ctypes.CDLL(str(path))
        except OSError as error:
            raise Unavailable(f"what {compiler} made cannot be loaded: {error}") from error


def _own_folder() -> Path:
    """The cache folder, made where it is missing, for this user alone.

    Raises:
        OSError: it cannot be made, or is another user's.
    """
    folder = cache_folder()
    for each in (folder.parent, folder):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_own(folder):
        raise OSError(f"{folder} is a link or another user's")
    folder.chmod(0o700)
    return folder


def _is_own(path: Path) -> bool:
    """Whether this user owns a file or folder, through no link."""
    found = path.lstat()
    return not stat.S_ISLNK(found.st_mode) and found.st_uid == os.geteuid()


def _identity(source: Path, command: list[str]) -> str:
    """A digest of the sources, the arguments, the compiler and the processor it compiles for."""
    # A compiler's predefined macros tell its version and the processor's instruction sets.
    macros = _run([*command, "-dM", "-E", "-x", "c", os.devnull])
    sources = (source.read_bytes(), _HEADER.read_bytes())
    content = b"\0".join([*sources, *map(os.fsencode, command), macros])
    return hashlib.sha256(content).hexdigest()[:32]


def _compile(command: list[str], source: Path, target: Path) -> None:
    """Compile, and append a digest by which damage shows: loading half a library may crash."""
    _run([*command, f"-I{_HEADER.parent}", "-o", str(target), str(source), "-lm"])
    content = target.read_bytes()
    target.write_bytes(content + hashlib.sha256(content).digest())


def _is_whole(path: Path) -> bool:
    """Whether a library is there, and as it was written."""
    if not path.is_file() or not _is_own(path) or path.stat().st_mode & 0o022:
        return False
    content = path.read_bytes()
    return hashlib.sha256(content[:-_DIGEST]).digest() == content[-_DIGEST:]


def _run(command: list[str]) -> bytes:
    """What the compiler writes.

    Raises:
        Unavailable: it fails, with what it said.
    """
    try:
        return subprocess.run(  # noqa: S603
            command, check=True, capture_output=True, timeout=_SECONDS, stdin=subprocess.DEVNULL
        ).stdout
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        if _FLAGS[1] in command and "march" in said:
            # Clang for ARM knows the processor at hand by this name alone.
            return _run(["-mcpu=native" if word == _FLAGS[1] else word for word in command])
        raise Unavailable(f"{' '.join(command)} failed:\n{said}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{' '.join(command)} failed: {error}") from error
