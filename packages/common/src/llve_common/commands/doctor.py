"""What is installed here, what of it works, and what to do about the rest.

Libraries that may be broken are imported by what looks at them.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint, packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer
from rich.text import Text

import llve_common
from llve_common.commands.terminal import console
from llve_common.errors import UserError, in_one_line
from llve_common.io.digest import file_digest
from llve_common.machine.folders import VARIABLE as SHARED
from llve_common.machine.folders import cache_folder, shared_folder
from llve_common.paper.installed import installed_papers, load_paper

if TYPE_CHECKING:
    from llve_common.paper.contract import Paper

State = Literal["ok", "missing", "broken"]

_NEEDED = {
    "torch": "install it again, see https://pytorch.org/get-started",
    "cv2": "pip uninstall opencv-python, then pip install --force-reinstall opencv-python-headless",
    "av": "pip install --force-reinstall --only-binary av av",
}
_EXTRAS = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"), "fsim": ("piq",),
    "photos": ("pillow_heif", "rawpy"), "fetch": ("pooch",),
}  # fmt: skip
_COLOURS = {"ok": "green", "missing": "yellow", "broken": "bold red"}
_DECODERS = ("h264", "hevc", "vp9", "av1", "mpeg4")
_ENCODER = "libx264"


@dataclass(frozen=True)
class Check:
    """One line of the report: what was looked at, what is there, and what to do about it.

    One can do without what is ``missing``, and not without what is ``broken``.
    """

    subject: str
    state: State
    found: str
    mend: str = ""


def examine() -> list[Check]:
    """Look at everything; nothing is changed but the operator's compiler cache.

    Where a library that all commands need is broken, the rest waits for it.
    """
    python = Check("python", "ok", f"{platform.python_version()} at {sys.executable}")
    if broken := [*_broken_libraries()]:
        return [python, *broken, _core()]
    import torch

    checks = [python, _torch(), _cuda(), _core()]
    for entry in installed_papers().values():
        checks += _paper(entry)
    if not installed_papers():
        checks.append(Check("papers", "missing", "none", "pip install -e packages/sci"))
    checks += map(_deformable_convolution, ["cpu", "cuda"][: 1 + torch.cuda.is_available()])
    checks += [_extra(name, modules) for name, modules in _EXTRAS.items()]
    return [*checks, _opencv(), _encoder(), *_decoders(), _cache(), _shared()]


def _broken_libraries() -> Iterator[Check]:
    """Libraries that every command needs, and that cannot be imported."""
    for name, mend in _NEEDED.items():
        try:
            importlib.import_module(name)
        except (ImportError, AttributeError, RuntimeError, OSError) as error:
            # Such as for want of a library of the system's, or of another NumPy.
            yield Check(name, "broken", _line(error), mend)


def _torch() -> Check:
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    threads = f"{torch.get_num_threads()} of {os.cpu_count()} processors' threads"
    return Check("torch", "ok", f"{torch.__version__}, a build for {build}; uses {threads}")


def _cuda() -> Check:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
        return Check("CUDA", "ok", ", ".join(names))
    if torch.version.cuda is None:
        mend = "none is needed; for a GPU, install a CUDA build of torch"
        return Check("CUDA", "missing", "a build of torch without it", mend)
    return Check("CUDA", "missing", "torch sees no device", "none is needed; for a GPU, its driver")


def _core() -> Check:
    """The core that runs, and whether it hides another, such as a checkout's."""
    here = Path(llve_common.__file__).resolve().parent
    copies = {(Path(each) / "llve_common").resolve() for each in sys.path} - {here}
    hidden = sorted(str(copy) for copy in copies if (copy / "__init__.py").is_file())
    found = f"{llve_common.__version__} at {here}"
    if not hidden:
        return Check("llve-common", "ok", found)
    found += f", which hides {', '.join(hidden)}"
    if "site-packages" in here.parts:
        mend = "pip uninstall llve-common, then pip install -e the papers of the checkout"
        return Check("llve-common", "broken", found, mend)
    return Check("llve-common", "ok", found)


def _paper(entry: EntryPoint) -> Iterator[Check]:
    """A paper's package and its weights."""
    subject = f"llve-{entry.name}"
    try:
        paper = load_paper(entry)
    except UserError as error:
        yield Check(subject, "broken", str(error.got), f"pip install -e packages/{entry.name}")
        return
    module = importlib.import_module(paper.package)
    version = str(getattr(module, "__version__", "unknown"))
    found = f"{version} at {Path(str(module.__file__)).resolve().parent}"
    if version != llve_common.__version__:
        found += f"; llve-common is {llve_common.__version__}"
        yield Check(subject, "broken", found, "install both from one checkout or release")
    else:
        yield Check(subject, "ok", found)
    yield _weights(paper)


def _weights(paper: Paper) -> Check:
    """Whether the bundled weights are those that their provenance describes, and load."""
    import torch

    from llve_common.weights.network import bundled_weights, load_model
    from llve_common.weights.published import ways_to_weights

    subject = f"{paper.name}'s weights"
    if paper.bundled is None:
        mend = f"{paper.name} ... --weights FILE: {ways_to_weights(paper)}"
        return Check(subject, "missing", "none bundled", mend)
    path = bundled_weights(paper)
    try:
        recorded = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["sha256"]
        if file_digest(path) != recorded:
            raise UserError("not the file that was bundled", where=path)
        weights = load_model(paper, None, torch.device("cpu")).weights
    except (UserError, OSError, ValueError, KeyError) as error:
        return Check(subject, "broken", _line(error), f"install llve-{paper.name} again")
    return Check(subject, "ok", f"{weights}; sha256 {recorded[:12]}... as recorded")


def _deformable_convolution(device: str) -> Check:
    """Which implementation of the operator runs, as it is chosen when it is called."""
    import torch

    from llve_common.ops import plain, selection

    subject = f"deformable convolution on {device}"
    asked = os.environ.get(selection.VARIABLE, "auto")
    try:
        chosen = selection.implementation_for(torch.device(device), torch.float32)
    except UserError as error:
        return Check(subject, "broken", _line(error), f"unset {selection.VARIABLE}")
    found = f"{getattr(chosen, '__name__', chosen)}, as {selection.VARIABLE} is {asked}"
    if asked == "auto" and chosen is plain:
        mend = "install a C compiler, `cc`" if device == "cpu" else "pip install triton"
        return Check(subject, "missing", f"{found}; more slowly: {_why_plain(device)}", mend)
    return Check(subject, "ok", found)


def _why_plain(device: str) -> str:
    import torch

    from llve_common.ops import native
    from llve_common.ops.implementation import Unavailable

    if device == "cpu":
        try:
            native.require(torch.device(device), torch.float32)
        except Unavailable as error:
            return str(error)
    return "the kernels cannot be had, as the warning says"


def _extra(name: str, modules: tuple[str, ...]) -> Check:
    subject = f"extra {name}"
    install = f"pip install 'llve-common[{name}]', in a checkout -e 'packages/common[{name}]'"
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    if absent:
        return Check(subject, "missing", f"without {', '.join(absent)}", install)
    try:
        versions = [(module, importlib.import_module(module)) for module in modules]
    except ModuleNotFoundError as error:
        # A part of it is there alone, as piq without torchvision is for FSIM.
        return Check(subject, "missing", _line(error), install)
    except (ImportError, RuntimeError, OSError) as error:
        # Such as a torchvision of another build than torch.
        return Check(subject, "broken", _line(error), f"uninstall it, or anew: {install}")
    found = ", ".join(f"{module} {getattr(each, '__version__', '')}" for module, each in versions)
    return Check(subject, "ok", found)


def _opencv() -> Check:
    """The distributions that bring ``cv2``, of which only one can be there."""
    import cv2

    found = sorted(set(packages_distributions().get("cv2", ())))
    if len(found) < 2:
        return Check("OpenCV", "ok", f"{cv2.__version__}, of {', '.join(found) or 'no package'}")
    mend = f"pip uninstall {' '.join(found)}, then pip install opencv-python-headless"
    what = f"{' and '.join(found)}, which overwrite each other's files"
    return Check("OpenCV", "broken", what, mend)


def _encoder() -> Check:
    import av

    if _has_codec(_ENCODER, "w"):
        return Check("video encoder", "ok", f"{_ENCODER} of PyAV {av.__version__}")
    what = f"PyAV {av.__version__} without {_ENCODER}"
    return Check("video encoder", "broken", what, _NEEDED["av"])


def _decoders() -> Iterator[Check]:
    there = [name for name in _DECODERS if _has_codec(name, "r")]
    absent = [name for name in _DECODERS if name not in there]
    if there:
        yield Check("video decoders", "ok", ", ".join(there))
    if absent:
        yield Check("video decoders", "missing", ", ".join(absent), "install another build of av")


def _has_codec(name: str, mode: Literal["r", "w"]) -> bool:
    import av

    try:
        av.Codec(name, mode)
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def _cache() -> Check:
    """Where the compiled operator is kept; without it every process compiles for itself."""
    mend = "point XDG_CACHE_HOME to a folder that you may write to"
    try:
        folder = cache_folder()
    except OSError as error:
        return Check("cache folder", "missing", str(error), mend)
    nearest = next(each for each in (folder, *folder.parents) if each.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return Check("cache folder", "ok", str(folder))
    return Check("cache folder", "missing", f"{folder} cannot be written", mend)


def _shared() -> Check:
    """Values of the published implementations, for the tests marked ``reference``."""
    folder = shared_folder()
    sets = sorted(each.name for each in folder.glob("reference/*") if each.is_dir())
    if sets:
        return Check("reference values", "ok", f"{folder}: {', '.join(sets)}")
    if SHARED in os.environ:
        mend = f"correct {SHARED}, or unset it"
        return Check("reference values", "broken", f"{SHARED}={folder} holds none", mend)
    mend = f"only tests need them; {SHARED} says where they are"
    return Check("reference values", "missing", f"none at {folder}", mend)


def _line(error: Exception) -> str:
    return in_one_line(error) or type(error).__name__


def _show(check: Check) -> None:
    line = Text.assemble((f"{check.state:8}", _COLOURS[check.state]), f"{check.subject}: ")
    console.print(line.append(check.found), soft_wrap=True)
    if check.state != "ok" and check.mend:
        console.print(f"{'':8}-> {check.mend}", highlight=False, soft_wrap=True)


def report(*, as_json: bool) -> None:
    """Print what :func:`examine` finds; the exit status is 1 if anything is broken."""
    checks = examine()
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        for check in checks:
            _show(check)
    if any(check.state == "broken" for check in checks):
        raise typer.Exit(1)
