"""What the cases are made of: whole files, and the ways in which they are spoilt."""

import io
import json
import pickle
import random
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
import yaml
from reproduce.claims import claims_file, read_claims

from llve_common.errors import UserError
from llve_common.io.images import write_image
from llve_common.paper.configs import shipped_configs
from llve_common.paper.contract import Paper
from llve_common.paper.installed import find_papers, load_paper
from llve_common.testing.conformance import dark_frames, write_pairs, write_video
from llve_common.weights.files import read_checkpoint, write_weights
from llve_common.weights.network import bundled_weights

PAPERS = ("sci", "sgz", "sdsd", "stcd", "tcenet")
IMAGES = (".png", ".jpg", ".bmp", ".tif", ".webp")
VIDEOS = (".mp4", ".mkv", ".mov")


@dataclass(frozen=True)
class Case:
    """The words of a command line, and whether it may leave files where it fails."""

    words: list[str]
    may_write: bool = False


@dataclass(frozen=True)
class Base:
    """Whole files, in a folder: pictures, videos, weights of each paper, a run, a set."""

    folder: Path
    papers: dict[str, Paper]

    @property
    def cache(self) -> Path:
        """For compiled libraries."""
        return self.folder / "cache"


@cache
def program(name: str) -> Callable[[Sequence[str]], Any]:
    """A command by its name; ``claims`` reads a paper.toml."""
    if name == "claims":
        return _claims
    app = import_module(f"llve_{'common' if name == 'llve' else name}.__main__").app
    return lambda words: app(list(words), prog_name=name)


def _claims(words: Sequence[str]) -> None:
    try:
        read_claims(Path(words[0]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def make_base(folder: Path) -> Base:
    """Make the whole files, and import what the commands need."""
    folder.mkdir(parents=True)
    papers = {name: load_paper(entry) for name, entry in find_papers(None).items()}
    for number, suffix in enumerate((*IMAGES, ".npy")):
        write_image(folder / f"picture{suffix}", next(iter(dark_frames(1, 24 + number, 32))))
    for suffix in VIDEOS:
        write_video(folder / f"video{suffix}", list(dark_frames(4, 32, 48)))
    torch.manual_seed(0)
    for name, paper in papers.items():
        program(name)
        network = paper.network({}, None)
        state = network.state_dict() if paper.bundled is None else None
        if state is None:
            shutil.copy(bundled_weights(paper), folder / f"{name}.safetensors")
        else:
            write_weights(folder / f"{name}.safetensors", state)
    program("llve")
    write_pairs(folder / "low" / "clip", folder / "high" / "clip", 2)
    write_pairs(folder / "clips" / "input" / "pair13", folder / "clips" / "GT" / "pair13", 5)
    maps = folder / "maps"
    maps.mkdir()
    for number in range(2):
        PIL.Image.new("L", (9, 8), 7 + number).save(maps / f"{number}.png")
    _run("sci", "train", f"data.train={folder}/low", "train.epochs=2", "network.stages=1",
         f"run.save={folder}", "run.name=run", "run.tensorboard=false")  # fmt: skip
    _run("tcenet", "simulate", str(folder / "low"), str(folder / "set"))
    return Base(folder, papers)


def _run(name: str, *words: str) -> None:
    try:
        with redirect_stdout(io.StringIO()):
            program(name)(words)
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"{name} {words} failed") from None


def make_case(name: str, base: Base, folder: Path, seed: int) -> Case:
    """Write a case's files; ``name`` is ``KIND/NUMBER``."""
    kind = name.split("/")[0]
    return KINDS[kind](random.Random(f"{seed}/{name}"), base, folder)


def spoilt(rng: random.Random, content: bytes) -> bytes:
    """Bytes with something changed, mostly near the beginning or the end, where headers are."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        near = min(len(data), rng.choice((8, 64, 512, 10**9)))
        place = rng.randrange(near + 1)
        place = place if rng.random() < 0.7 else len(data) - place
        length = rng.choice((1, 2, 4, 8, 100))
        what = rng.randrange(6)
        if what == 0:
            data[place : place + length] = rng.randbytes(length)
        elif what == 1:
            data[place : place + length] = rng.choice((b"\xff", b"\0", b"\x7f", b"\x80")) * length
        elif what == 2:
            del data[place : place + length]
        elif what == 3:
            data[place:place] = rng.randbytes(length)
        elif what == 4 and len(data):
            place = min(place, len(data) - 1)
            data[place] ^= 1 << rng.randrange(8)
        elif what == 5 and rng.random() < 0.3:
            del data[place:]
    return bytes(data)


ODD_TEXT = (
    "", " ", "../../x", "/", "/dev/zero", "/proc/self/mem", "a" * 300, "a" * 5000, "\x1b[31mred",
    "a\nb", "[/b]", "[bold]x", "$\\frac$", "\u202e", "null", "true", "maybe", "1e-4", ".inf", "é夜",
)  # fmt: skip
ODD_NUMBERS = (0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**30, 0.5, 1e308, 1e-320, 100_000)
ODD_NAMES = ("b\x1b[31m", "x[bold]y", "a\nb", "\udcff", "$x$")


def odd(rng: random.Random, depth: int = 0) -> Any:
    """A value of any kind."""
    what = rng.randrange(7 if depth < 4 else 4)
    if what < 2:
        return rng.choice(ODD_TEXT)
    if what < 4:
        return rng.choice((None, True, False, *ODD_NUMBERS))
    if what == 4:
        return [odd(rng, depth + 1) for _ in range(rng.choice((0, 1, 2, 2, 5)))]
    return {str(rng.choice((*ODD_TEXT[:9], "a", "lr"))): odd(rng, depth + 1)
            for _ in range(rng.randrange(4))}  # fmt: skip


def _inside(rng: random.Random, content: Any) -> Any:
    """Nested content with one value changed, dropped, added or renamed."""
    if isinstance(content, dict) and content and rng.random() < 0.9:
        key = rng.choice(list(content))
        what = rng.randrange(8)
        if what == 0:
            return {k: v for k, v in content.items() if k != key}
        if what == 1:
            return {**content, rng.choice((f"{key}s", "zzz", str(key)[::-1])): odd(rng)}
        return {**content, key: _inside(rng, content[key])}
    if isinstance(content, list) and content and rng.random() < 0.6:
        place = rng.randrange(len(content))
        return [*content[:place], _inside(rng, content[place]), *content[place + 1 :]]
    return odd(rng)


_BOMBS = (
    "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 1}]\n" for n in range(12)),
    "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9) if n else '{b: 1}'}]}}\n"
            for n in range(12)),
    "a: &a {b: *a}\n", "a: &a [*a]\n", "a: " + "[" * 5000, "a: " + "{b: " * 900,
    "a: 0x" + "f" * 9000, "a: " + "9" * 9000, "a: " + "1:" * 9000 + "1", 'a: "\\0"\n',
    'a: "\\ud800"\n', "a: !!python/object/apply:os.system [id]\n", "a: !!bool x\n", "a: !!int ''\n",
    "? [a]\n: b\n", "? {a: b}\n: c\n", "a: 1\na: 2\n", "a: !!binary x\n", "--- a\n--- b\n",
    "a: !!timestamp x\n", "a: !!set {b, c}\n", "\xff\xfe", "a: 2001-99-99\n", "%YAML 9.9\n--- a\n",
)  # fmt: skip


def _yaml(rng: random.Random, content: Any) -> bytes:
    for _ in range(rng.choice((0, 1, 1, 2))):
        content = _inside(rng, content)
    text: bytes = yaml.safe_dump(content, sort_keys=False).encode("utf-8", "surrogatepass")
    what = rng.randrange(6)
    if what == 0:
        return spoilt(rng, text)
    return text + rng.choice(_BOMBS).encode("latin-1") if what == 1 else text


def _weights(rng: random.Random, base: Base, folder: Path) -> Case:
    name = rng.choice(list(base.papers))
    source = (base.folder / f"{name}.safetensors").read_bytes()
    suffix = rng.choice((".safetensors", ".pt", ".pt", ".pth", ".ckpt"))
    file = folder / f"w{suffix}"
    what = rng.randrange(4)
    if suffix == ".safetensors":
        file.write_bytes(spoilt(rng, source) if what else _header(rng, source))
    else:
        from safetensors.torch import load

        state: Any = load(source)
        for _ in range(rng.randrange(3) if what else 3):
            state = _state(rng, state)
        buffer = io.BytesIO()
        try:
            warnings.simplefilter("ignore")  # of what torch is not sure to support for ever
            torch.save(state, buffer, _use_new_zipfile_serialization=rng.random() < 0.7)
        except (RuntimeError, NotImplementedError, TypeError):
            buffer.write(pickle.dumps(odd(rng), rng.randrange(5)))
        content = buffer.getvalue()
        content = spoilt(rng, content) if what == 1 else content
        file.write_bytes(_deflated(content) if what == 2 else content)
    if rng.random() < 0.7:
        return Case([name, "weights", "inspect", file.name])
    if name in ("sci", "sgz") and rng.random() < 0.5:
        return Case([name, "page", "--weights", file.name, "-o", "out.html"])
    target = rng.choice(("out.safetensors", "out.pt", "out.onnx"))
    return Case([name, "weights", rng.choice(("import", "export")), file.name, target])


def _state(rng: random.Random, state: dict[Any, Any]) -> dict[Any, Any]:
    if not state:
        return {"a": torch.zeros(2)}
    key = rng.choice(list(state))
    value = state[key] if isinstance(state[key], torch.Tensor) else torch.zeros(3)
    many = {
        f"recon_trunk.{n}.conv1.weight": torch.zeros(1) for n in range(rng.choice((20, 20_000)))
    }
    made: list[Callable[[], Any]] = [
        lambda: {k: v for k, v in state.items() if k != key},
        lambda: {**state, key: value.to_sparse()},
        lambda: {**state, key: value.to("meta")},
        lambda: {**state, key: value.to(rng.choice((torch.bool, torch.int64, torch.complex64)))},
        lambda: {**state, key: torch.zeros(1).expand(rng.choice((4096, 10**6)), 3, 3, 3)},
        lambda: {**state, key: value.reshape(-1)},
        lambda: {**state, key: value.new_zeros(rng.choice(((), (0,), (0, 9), (1, 1, 1, 1, 1))))},
        lambda: {k: torch.zeros(1).expand(4096, 4096, 3, 3) for k in state},
        lambda: {**state, key: torch.quantize_per_tensor(value.float(), 1.0, 0, torch.qint8)},
        lambda: {**state, key: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])},
        lambda: {**state, **many},
        lambda: {"format": "llve-checkpoint-1", "network": rng.choice((state, [state], 3, {}))},
        lambda: {rng.choice(("state_dict", "x\x1b[31m", 3)): state, "more": odd(rng)},
        lambda: {**state, rng.choice((3, None, (1, 2), "a\nb\x1b[m", "[/b]")): value},
        lambda: {**state, "b": bytearray(rng.choice((3, 10**5)))},
        lambda: {f"module.{k}": v for k, v in state.items()},
        lambda: dict.fromkeys(state, value),
    ]
    try:
        found: dict[Any, Any] = rng.choice(made)()
    except (RuntimeError, NotImplementedError):  # what torch does not do to an odd tensor
        return state
    return found


def _header(rng: random.Random, source: bytes) -> bytes:
    """A safetensors file whose header says something else."""
    size = int.from_bytes(source[:8], "little")
    header = json.loads(source[8 : 8 + size])
    for _ in range(rng.randrange(1, 4)):
        header = _inside(rng, header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + source[8 + size :]


def _deflated(content: bytes) -> bytes:
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return content
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as stored,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as deflated,
    ):
        more = bytes(min(10**6, 10**9 // len(stored.namelist())))
        for name in stored.namelist():
            deflated.writestr(name, stored.read(name) + more)
    return buffer.getvalue()


def _settings(rng: random.Random, base: Base, folder: Path) -> Case:
    name = rng.choice(list(base.papers))
    shipped = rng.choice(list(shipped_configs(base.papers[name]).values()))
    file = folder / "c.yml"
    file.write_bytes(_yaml(rng, yaml.safe_load(shipped.read_text())))
    if rng.random() < 0.5:
        return Case([name, "configs", "check", file.name])
    return Case([name, rng.choice(("train", "test")), "--config", file.name])


def _overrides(rng: random.Random, base: Base, folder: Path) -> Case:
    """Settings on the command line; the data are nowhere, so that a right one is a message too."""
    name = rng.choice(list(base.papers))
    command = rng.choice(("train", "test"))
    paper = base.papers[name]
    kind = paper.settings[command]
    from llve_common.config import dotted_names

    words = []
    for key in rng.sample(list(dotted_names(kind)), 3):
        value = odd(rng)
        text = rng.choice(_BOMBS)[3:] if rng.random() < 0.2 else yaml.safe_dump(value).strip()
        words.append(f"{key}={text}".replace("\0", "")[:100_000])
    flags = list(paper.options[kind].flags)
    if flags and rng.random() < 0.5:
        words += [rng.choice(flags).split("/")[0], rng.choice(ODD_TEXT)]
    return Case([name, command, *words])


def _options(rng: random.Random, base: Base, folder: Path) -> Case:
    name = rng.choice(("sdsd", "stcd"))
    command = rng.choice(("train", "test"))
    paper = base.papers[name]
    options = paper.options[paper.settings[command]]
    assert options.file is not None
    content: dict[str, Any] = {}
    plausible = ("none", 3, 1e-4, [2, 3], True, str(folder), "indoor", *ODD_TEXT[:9], *ODD_NUMBERS)
    for key in rng.choices(list(options.file.settings), k=12):
        *sections, last = key.split(".")
        inner = content
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                break
        else:
            inner[last] = rng.choice(plausible)
    (folder / "o.yml").write_bytes(_yaml(rng, content))
    return Case([name, command, "-opt", "o.yml"])


def _images(rng: random.Random, base: Base, folder: Path) -> Case:
    name, suffix = rng.choice(("sci", "sgz")), rng.choice(IMAGES)
    content = (base.folder / f"picture{suffix}").read_bytes()
    other = rng.choice(IMAGES) if rng.random() < 0.2 else suffix
    return _pictures(rng, name, folder, spoilt(rng, content), other)


def _npy(rng: random.Random, base: Base, folder: Path) -> Case:
    content = (base.folder / "picture.npy").read_bytes()
    if rng.random() < 0.6:
        header = rng.choice((
            {"descr": "|O", "fortran_order": False, "shape": (3,)},
            {"descr": "|u1", "fortran_order": False, "shape": (10**9, 10**9, 3)},
            {"descr": "|u1", "fortran_order": True, "shape": (8, 8, 3)},
            {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2, 3)},
            {"descr": odd(rng), "fortran_order": odd(rng), "shape": odd(rng)},
            odd(rng),
        ))  # fmt: skip
        text = repr(header).encode() + b"\n"
        size = len(text).to_bytes(2, "little") if len(text) < 2**16 else b"\xff\xff"
        content = b"\x93NUMPY\x01\x00" + size + text + content[128:]
    else:
        content = spoilt(rng, content)
    return _pictures(rng, rng.choice(("sci", "sgz")), folder, content, ".npy")


def _pictures(rng: random.Random, name: str, folder: Path, content: bytes, suffix: str) -> Case:
    """A picture alone, or in a folder with a whole one, which is to be enhanced in any case."""
    if rng.random() < 0.6:
        (folder / f"a{suffix}").write_bytes(content)
        return Case([name, "enhance", f"a{suffix}", "-o", "out.png"])
    write_image(folder / "in" / "whole.png", np.zeros((8, 8, 3), np.uint8))
    (folder / "in" / f"{rng.choice(ODD_NAMES)}{suffix}").write_bytes(content)
    return Case([name, "enhance", "in", "-o", "out"], may_write=True)


def _videos(rng: random.Random, base: Base, folder: Path) -> Case:
    suffix = rng.choice(VIDEOS)
    content = spoilt(rng, (base.folder / f"video{suffix}").read_bytes())
    if rng.random() < 0.1:
        shutil.copy(base.folder / "video.mp4", folder / "other.mp4")
        content = b"ffconcat version 1.0\nfile other.mp4\n"
    (folder / f"v{suffix}").write_bytes(content)
    return Case(["sci", "enhance", f"v{suffix}", "-o", f"out{suffix}"])


_OVER_FILES = (
    "llve score clips/input --reference clips/GT --input clips/input -o out",
    "llve score clips/input/pair13 --reference clips/GT/pair13 --clip -o out",
    "llve score maps --reference maps --labels ids -o out",
    "llve compare clips --papers sci -o out",
    "llve compare clips/input/pair13 --reference clips/GT/pair13 --papers sgz --quality -o out",
    "llve protocols clips",
    "llve data photographs clips --frames 2 --height 16 --width 16 -o out",
    "sdsd data check clips",
    "sdsd data convert clips out",
    "tcenet simulate clips/input out",
    "stcd match clips/input/pair13/0000.png clips/GT/pair13/0000.png -o out.png",
    "stcd decompose clips/input/pair13/0000.png clips/input/pair13/0001.png -o out.png",
    "sgz video --choice I2V --image_folder clips/input/pair13 --save_path out.mp4",
    *(f"{paper} test --low clips --save_path out" for paper in PAPERS),
    "sci train --low clips/input/pair13 --high clips/GT/pair13 train.epochs=1 --save out",
)


def _files(rng: random.Random, base: Base, folder: Path) -> Case:
    """A command over clips, or over label maps, of which one file is amiss."""
    words = rng.choice(_OVER_FILES).split()
    kind = "maps" if "maps" in words else "clips"
    shutil.copytree(base.folder / kind, folder / kind)
    file = rng.choice(sorted((folder / kind).rglob("*.png")))
    what = rng.randrange(6)
    if what == 0:
        old = rng.choice((file, file.parent))
        old.rename(old.with_name(f"{rng.choice(ODD_NAMES)}{old.suffix}"))
    elif what == 1:
        file.unlink()
    elif what == 2:
        shutil.copy(base.folder / f"picture{rng.choice((*IMAGES, '.npy'))}", file)
    elif what == 3:
        video = spoilt(rng, (base.folder / "video.mp4").read_bytes())
        rng.choice((file, file.parent)).with_suffix(".mp4").write_bytes(video)
    else:
        file.write_bytes(spoilt(rng, file.read_bytes()))
    # Of a folder the rest is written, where one file cannot be used.
    return Case(words, may_write=words[-1] == "out")


def _own(rng: random.Random, base: Base, folder: Path) -> Case:
    """Files that llve or its users wrote: a run, a simulated clip, a list, a paper.toml."""
    what = rng.randrange(6)
    if what < 3:
        run = folder / "run"
        shutil.copytree(base.folder / "run", run)
        newest = max((run / "checkpoints").iterdir())
        if what == 0:
            for file in (run / "checkpoints").iterdir():
                file.write_bytes(spoilt(rng, newest.read_bytes()))
        elif what == 1:
            content = read_checkpoint(newest)
            for _ in range(rng.randrange(1, 3)):
                content = _inside(rng, content)
            torch.save(content, newest)
        else:
            file = run / rng.choice(("settings.yml", "losses.jsonl"))
            whole = file.read_bytes()
            more = rng.choice(
                (b"[" * 10**5, b'{"iteration": ' + b"9" * 5000 + b"}", b"\xff", b"[]")
            )
            file.write_bytes(spoilt(rng, whole) if rng.random() < 0.6 else whole + more + b"\n")
        return Case(["sci", "train", "--resume", "run"], may_write=True)
    if what == 3:
        shutil.copytree(base.folder / "set", folder / "set")
        file = folder / "set" / "low_and_noise" / "clip.json"
        content = _inside(rng, json.loads(file.read_text()))
        text = json.dumps(content).encode()
        file.write_bytes(spoilt(rng, text) if rng.random() < 0.5 else text)
        return Case(["tcenet", "simulate", str(base.folder / "low"), "set"], may_write=True)
    if what == 4:
        lines = rng.choices((*ODD_TEXT, "clip", "..", "../low/clip", "\xff"), k=3)
        (folder / "list.txt").write_text("\n".join(lines), encoding=rng.choice(("utf-8", "utf-16")))
        words = [f"data.low={base.folder}/low", "data.normal=null", "data.list=list.txt"]
        return Case(["tcenet", "test", "--model", str(base.folder / "tcenet.safetensors"), *words])
    whole = claims_file("llve_sdsd").read_bytes()
    bombs = ("a = " + "[" * 10**5, "a = " + "9" * 5000, "[claim]\nx = 1", r'a = "\ud800"')
    more = f"\n{rng.choice(bombs)}\n".encode()
    broken = spoilt(rng, whole) if rng.random() < 0.6 else whole + more
    (folder / "paper.toml").write_bytes(broken)
    return Case(["claims", "paper.toml"])


KINDS: dict[str, Callable[[random.Random, Base, Path], Case]] = {
    "weights": _weights,
    "settings": _settings,
    "overrides": _overrides,
    "options": _options,
    "images": _images,
    "npy": _npy,
    "videos": _videos,
    "files": _files,
    "own": _own,
}
