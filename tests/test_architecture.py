"""The rules of the house, read from the source."""

import ast
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAPERS = sorted(path.parent.name for path in ROOT.glob("packages/*/paper.toml"))
SOURCES = sorted((ROOT / "packages").glob("*/src/**/*.py"))
CORE = [path for path in SOURCES if "llve_common" in path.parts]
# Each room imports only those before it.
ROOMS = [
    "__init__", "errors", "config", "published_options", "machine", "io", "video", "clips", "nn",
    "flow", "metrics", "ops", "data", "paper", "weights", "enhance", "evaluate", "train", "report",
    "commands", "testing", "__main__",
]  # fmt: skip
FILES_OF_A_PAPER = {
    "__init__.py", "__main__.py", "config.py", "configs", "data.py", "network.py",
    "objective.py", "paper.py",
}  # fmt: skip
ELSEWHERE = {
    "triton": "comes with PyTorch for CUDA",
    "pydantic_core": "comes with pydantic",
    "pytest": "what tests a paper has it",
    "dkm": "an installation of the DKM that published weights are of",
}
BANNED_CALLS = {"eval", "exec", "compile", "__import__", "yaml.load", "os.system", "os.popen"}


def name_of(path):
    return path.relative_to(ROOT / "packages").as_posix()


def module_of(path):
    parts = path.relative_to(next(p for p in path.parents if p.name == "src")).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def imports_of(path):
    """The full names of what a file imports, wherever in it."""
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def roots_of(path):
    return {name.split(".")[0] for name in imports_of(path)}


def room_of(path):
    """The part of the core that a file belongs to."""
    below = path.relative_to(ROOT / "packages" / "common" / "src" / "llve_common")
    return below.parts[0].removesuffix(".py")


def test_there_is_source_to_read():
    assert len(CORE) > 20
    assert len(PAPERS) >= 5
    assert "common/src/llve_common/train/trainer.py" in map(name_of, SOURCES)


def test_rooms_are_those_listed():
    assert {room_of(path) for path in CORE} == set(ROOMS)


def test_rooms_import_only_those_before_them():
    imports = [(path, name.split(".")[1]) for path in CORE for name in imports_of(path)
               if name.startswith("llve_common.")]  # fmt: skip
    order = {room: place for place, room in enumerate(ROOMS)}
    back = [(name_of(path), room) for path, room in imports
            if order.get(room, 0) > order[room_of(path)]]  # fmt: skip
    assert back == []


def test_no_room_holds_over_a_tenth_of_the_source():
    lines = Counter()
    for path in SOURCES:
        own = room_of(path) if path in CORE else module_of(path).split(".")[0]
        lines[own] += len(path.read_text(encoding="utf-8").splitlines())
    assert max(lines.values()) <= lines.total() / 10, lines


@pytest.mark.parametrize("paper", PAPERS)
def test_who_knows_one_paper_knows_them_all(paper):
    folder = ROOT / "packages" / paper / "src" / f"llve_{paper}"
    assert {each.name for each in folder.iterdir()} >= FILES_OF_A_PAPER


def test_papers_import_the_core_and_themselves_only():
    for path in SOURCES:
        own = module_of(path).split(".")[0]
        ours = {root for root in roots_of(path) if root.startswith("llve_")}
        assert ours <= {"llve_common", own}, path


def test_what_is_imported_is_declared():
    """By the core: the papers declare the core alone."""
    core = tomllib.loads((ROOT / "packages" / "common" / "pyproject.toml").read_text())
    declared = {re.match(r"[\w-]+", each)[0].lower() for each in core["project"]["dependencies"]}
    known = packages_distributions()
    imported = set().union(*map(roots_of, SOURCES)) - sys.stdlib_module_names - set(ELSEWHERE)
    for root in (each for each in imported if not each.startswith("llve_")):
        assert {name.lower() for name in known[root]} <= declared, root


def test_weights_have_the_same_bytes_on_every_system():
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    files = [str(path) for path in ROOT.glob("packages/*/src/*/bundled/*")]
    asked = ["git", "-C", str(ROOT), "check-attr", "text", "eol", "--", *files]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    known = {
        (Path(file).suffix, name, value)
        for file, name, value in (line.rsplit(": ", 2) for line in told)
    }
    assert known >= {(".safetensors", "text", "unset"), (".json", "eol", "lf")}


def test_every_module_says_what_it_is():
    assert [path for path in SOURCES if not ast.get_docstring(tree_of(path))] == []


def test_nothing_runs_text_as_code_or_reads_files_that_could():
    nodes = ((path, node) for path in SOURCES for node in ast.walk(tree_of(path)))
    assert [(path, ast.unparse(node)) for path, node in nodes if is_unsafe(node)] == []


def is_unsafe(node):
    if isinstance(node, ast.Attribute):
        return ast.unparse(node) in {"pickle.load", "pickle.loads"}
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    said = {word.arg: ast.unparse(word.value) for word in node.keywords}
    return (
        called in BANNED_CALLS
        or said.get("shell") == "True"
        or said.get("weights_only") == "False"
        or (called == "torch.load" and said.get("weights_only") != "True")
        or (called in {"np.load", "numpy.load"} and "allow_pickle" in said)
    )


def test_what_is_unsafe_is_found():
    unsafe = """
        eval(x), yaml.load(x), run(x, shell=True), pickle.loads, torch.load(x),
        torch.load(x, weights_only=False), np.load(x, allow_pickle=True)
    """
    assert all(map(is_unsafe, ast.parse(f"({unsafe})").body[0].value.elts))


def test_build_hooks_are_equal():
    hooks = {name_of(path): path.read_text() for path in ROOT.glob("packages/*/hatch_build.py")}
    assert sorted(hooks) == [f"{paper}/hatch_build.py" for paper in PAPERS]
    assert len(set(hooks.values())) == 1


def test_build_hooks_name_every_extra_of_the_core():
    core = tomllib.loads((ROOT / "packages" / "common" / "pyproject.toml").read_text())
    extras = tuple(sorted(core["project"]["optional-dependencies"]))
    for path in ROOT.glob("packages/*/hatch_build.py"):
        assert f"EXTRAS = {extras}".replace("'", '"') in path.read_text(), path
        project = tomllib.loads((path.parent / "pyproject.toml").read_text())["project"]
        assert "optional-dependencies" in project["dynamic"]


def test_every_package_installed_alone_brings_the_program_llve():
    for path in ROOT.glob("packages/*/pyproject.toml"):
        scripts = tomllib.loads(path.read_text())["project"]["scripts"]
        assert scripts["llve"] == "llve_common:main", path


def test_ctrl_c_while_a_program_is_imported_shows_nothing(tmp_path):
    """Each of the programs, and as a module."""
    (tmp_path / "typer.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    )
    places = {"llve_common:main"}
    for path in ROOT.glob("packages/*/pyproject.toml"):
        places |= set(tomllib.loads(path.read_text())["project"]["scripts"].values())
    assert len(places) == 1 + len(PAPERS)
    for module, _, main in (place.partition(":") for place in places):
        for words in (["-c", f"import {module}; {module}.{main}()"], ["-m", module]):
            done = subprocess.run(
                [sys.executable, *words, "--help"],
                env={**os.environ, "PYTHONPATH": str(tmp_path)},
                # A background job of a shell ignores Ctrl-C, and so would what it starts.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
                capture_output=True,
                check=False,
            )
            assert (done.returncode, done.stdout + done.stderr) == (-signal.SIGINT, b""), words


def test_importing_the_core_prints_nothing_and_touches_no_gpu():
    # Triton's kernels need Triton, and are imported on demand.
    modules = [module_of(path) for path in CORE if path.stem not in {"__main__", "triton_kernels"}]
    program = (
        "import importlib, logging, sys\n"
        "handlers = list(logging.getLogger().handlers)\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        "import torch\n"
        "assert not torch.cuda.is_initialized()\n"
        "assert logging.getLogger().handlers == handlers\n"
        "assert not {'tensorboard', 'onnx', 'onnxscript', 'onnxruntime', 'piq', 'torchvision'}"
        " & sys.modules.keys()\n"
        "assert not any(name.startswith('llve_') and not name.startswith('llve_common')"
        " for name in sys.modules)\n"
    )
    source = str(ROOT / "packages" / "common" / "src")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "PYTHONPATH": source, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("program", ["llve_common", *(f"llve_{paper}" for paper in PAPERS)])
def test_help_and_refusals_do_not_wait_for_what_computes(program):
    done = subprocess.run(
        [sys.executable, "-c", HELP_AND_REFUSALS, program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Something was printed for every command.
    assert done.stdout.count("Usage:") > 3


HELP_AND_REFUSALS = """
import importlib, sys
from typer.main import get_command

def lines(command, path=()):
    yield [*path, "--help"]
    yield [*path, "--no-such-option"]
    for name, inner in getattr(command, "commands", {}).items():
        yield from lines(inner, (*path, name))

command = get_command(importlib.import_module(f"{sys.argv[1]}.__main__").app)
codes = set()
refused = [["test", "no.such=1"]] if "test" in command.commands else []
refused.append(["enhance", "nowhere.png"])
for words in [*lines(command), *refused]:
    try:
        command.main(words, prog_name="program")
    except SystemExit as ended:
        codes.add(ended.code)
    found = sys.modules.keys() & {"torch", "matplotlib", "av", "cv2", "skimage", "numpy", "PIL"}
    assert not found - ({"av", "numpy", "PIL"} if "nowhere.png" in words else set()), (words, found)
assert codes == {0, 1, 2}, codes
"""
