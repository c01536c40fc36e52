"""Every task of this repository: ``nox -l`` lists them.

All sessions share one environment, ``.nox/llve``, which is made once and made anew only when a
dependency changes; ``build`` makes a clean one of its own besides.
"""

import hashlib
import re
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

import nox

nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "none"
nox.needs_version = ">=2024.3"

ROOT = Path(__file__).parent
ENVIRONMENT = ROOT / ".nox" / "llve"
CONSTRAINTS = ROOT / "constraints.txt"
PAPERS = ["sci", "sgz", "sdsd", "stcd", "tcenet"]
TOOLS_OF_TESTS = ["fastapi", "httpx", "hypothesis", "pytest", "pytest-xdist"]
TOOLS = ["build", "hatchling", "mypy", "ruff", "types-PyYAML", *TOOLS_OF_TESTS]


@nox.session
def demo(session: nox.Session) -> None:
    """Enhance a photograph and a clip by all papers, train and test SCI, and write a page."""
    session.run(python(session), "tools/demo.py", *session.posargs, external=True)


@nox.session
def reproduce(session: nox.Session) -> None:
    """Check every claim that can be checked here; --data, --weights and --quick after a "--"."""
    session.run(
        python(session), "-m", "reproduce", *session.posargs, external=True,
        env={"PYTHONPATH": str(ROOT / "tools")}, interrupt_timeout=30,
    )  # fmt: skip


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests, then the sessions lint, types and build."""
    arguments = session.posargs or ["-n", "2"]
    session.run(python(session), "-m", "pytest", *arguments, external=True)
    if not session.posargs:
        for following in ("lint", "types", "build"):
            session.notify(following)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.run(python(session), "-m", "ruff", "check", ".", external=True)
    session.run(python(session), "-m", "ruff", "format", "--check", ".", external=True)


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    session.run(python(session), "-m", "mypy", external=True)


@nox.session
def build(session: nox.Session) -> None:
    """Build every wheel through its sdist, install them in a clean environment, and use them.

    The clean environment holds our wheels alone; PyTorch and the like are seen in the shared one.
    """
    with tempfile.TemporaryDirectory() as outside:
        for package in ["common", *PAPERS]:
            session.run(
                python(session), "-m", "build", "--no-isolation", "--outdir", outside,
                f"packages/{package}", external=True, silent=True,
            )  # fmt: skip
        wheels = [str(wheel) for wheel in sorted(Path(outside).glob("*.whl"))]
        clean = make_environment(session, Path(outside) / "clean")
        install(session, clean, "--no-deps", *wheels)
        # Nothing reads the .pth files of editable installs in a folder that a .pth file names.
        own, shared = packages_of(session, clean), packages_of(session, python(session))
        (own / "shared.pth").write_text(f"{shared}\n", encoding="utf-8")
        # What the wheels ask for and the shared environment lacks; a test compares with imports.
        install(session, clean, *wheels)
        session.chdir(outside)
        modules = ", ".join(f"llve_{paper}.paper" for paper in PAPERS)
        use(session, clean, "-c", f"import sys, {modules}\n{OURS_ARE_INSTALLED}")
        for paper in PAPERS:
            use(session, clean.parent / paper, "configs", "list")
        llve = clean.parent / "llve"
        use(session, llve, "synthetic", "set", "--clips", "1", "--frames", "1", "--width", "32")
        # TCE-Net comes without weights.
        use(session, llve, "compare", "set/test/low", "--papers", "sci,sgz,sdsd,stcd")


OURS_ARE_INSTALLED = """
for name, module in sys.modules.items():
    if name.startswith("llve_"):
        assert module.__file__.startswith(sys.prefix), module
"""


@nox.session
def fuzz(session: nox.Session) -> None:
    """Give the commands damaged and crafted input; options of tools/fuzz after a "--"."""
    session.run(
        python(session), "-m", "fuzz", *session.posargs, external=True,
        env={"PYTHONPATH": str(ROOT / "tools"), "OMP_NUM_THREADS": "1"}, interrupt_timeout=30,
    )  # fmt: skip


@nox.session
def floors(session: nox.Session) -> None:
    """Test with the lowest versions that the packages allow, but for those named after a "--".

    Such as ``torch==2.13.0``, where there is no older PyTorch without CUDA.
    """
    with tempfile.TemporaryDirectory() as folder:
        lowest = Path(folder) / "floors.txt"
        lowest.write_text("".join(f"{each}\n" for each in lowest_versions(session.posargs)))
        interpreter = make_environment(session, Path(folder) / "floors")
        editable = [word for paper in PAPERS for word in ("-e", f"packages/{paper}[onnx,photos]")]
        install(session, interpreter, *TOOLS_OF_TESTS, *editable, constraints=lowest)
        session.run(interpreter, "-m", "pytest", "-n", "2", *FLOORS_TESTED, external=True)


FLOORS_TESTED = ["packages/common/tests", "packages/sci/tests", "packages/sdsd/tests"]


def lowest_versions(others: list[str]) -> list[str]:
    """The lower bound of every dependency and extra as a version, unless others name it."""
    project = tomllib.loads((ROOT / "packages/common/pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["onnx"], *extras["photos"]]
    named = {other.partition("==")[0] for other in others}
    lowest = [re.sub(r">=([^,]+).*", r"==\1", each) for each in wanted]
    return [*others, *(each for each in lowest if each.partition("==")[0] not in named)]


@nox.session
def bench(session: nox.Session) -> None:
    """Measure beside other runtimes, in one table; or by the benchmarks named after a "--"."""
    scripts = {script.stem: script for script in sorted(Path("benchmarks").glob("*.py"))}
    del scripts["harness"]
    unknown = [name for name in session.posargs if name not in scripts]
    if unknown:
        session.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(scripts)}")
    if not session.posargs:
        install(session, python(session), "openvino")
    for name in session.posargs or ["peers"]:
        session.run(python(session), scripts[name], external=True)


@nox.session
def gpu(session: nox.Session) -> None:
    """Check and measure what runs on a CUDA device; PYTHON is the interpreter of its torch."""
    session.run("bash", "tools/gpu.sh", *session.posargs, external=True)


def python(session: nox.Session) -> Path:
    """The interpreter of the shared environment, which is made where it is missing or stale."""
    stamp = ENVIRONMENT / "llve-stamp"
    wanted = fingerprint()
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        interpreter = make_environment(session, ENVIRONMENT)
        # Not common: an editable paper must bring it by itself.
        editable = [
            word for paper in PAPERS for word in ("-e", f"packages/{paper}[fetch,onnx,photos]")
        ]
        install(session, interpreter, *TOOLS, *editable)
        # FSIM for the tests, without torchvision: FSIM does not use it, and PyPI's builds of it do
        # not fit a torch without CUDA.
        install(session, interpreter, "--no-deps", "piq")
        stamp.write_text(wanted)
    return executable(ENVIRONMENT)


def fingerprint() -> str:
    """What the shared environment depends on, as a digest."""
    files = [CONSTRAINTS, ROOT / "noxfile.py"]
    files += sorted(ROOT.glob("packages/*/pyproject.toml"))
    files += sorted(ROOT.glob("packages/*/hatch_build.py"))
    content = [sys.version, str(ROOT), *(file.read_text(encoding="utf-8") for file in files)]
    return hashlib.sha256("\n".join(content).encode()).hexdigest()


def make_environment(session: nox.Session, folder: Path) -> Path:
    """Make a virtual environment and return its interpreter."""
    session.run(sys.executable, "-m", "venv", folder, external=True)
    return executable(folder)


def executable(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def packages_of(session: nox.Session, interpreter: Path) -> Path:
    """The folder of an environment's packages."""
    program = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(use(session, interpreter, "-c", program).strip())


def use(session: nox.Session, program: Path, *words: str) -> str:
    """Run a program of an environment and return what it prints; shown only if it fails."""
    return str(session.run(program, *words, external=True, silent=True))


def install(
    session: nox.Session, interpreter: Path, *what: str, constraints: Path = CONSTRAINTS
) -> None:
    """Install with the versions that CI tests, or others."""
    session.run(
        interpreter, "-m", "pip", "install", "-q", "--disable-pip-version-check",
        "-c", str(constraints), *what, external=True,
    )  # fmt: skip
