import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import llve_common
import llve_sci
from llve_common.__main__ import app
from llve_common.commands import doctor
from llve_common.commands.doctor import examine
from llve_common.ops import native, plain, selection
from llve_common.ops.implementation import Unavailable
from llve_common.weights import network
from llve_common.weights.network import bundled_weights
from llve_sci.paper import PAPER

SCI = EntryPoint("sci", "llve_sci.paper:PAPER", "llve.papers")


@pytest.fixture(autouse=True)
def healthy(monkeypatch, tmp_path):
    """A machine on which nothing is broken: one core, one paper, a cache folder of its own."""
    install(monkeypatch, SCI)
    monkeypatch.setattr(llve_sci, "__version__", llve_common.__version__, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LLVE_SHARED", str(tmp_path / "shared"))
    (tmp_path / "shared" / "reference" / "a-set").mkdir(parents=True)


def install(monkeypatch, *entries):
    monkeypatch.setattr("llve_common.paper.installed.entry_points", lambda group: entries)


def line(subject):
    """The one check of this subject."""
    (found,) = [check for check in examine() if check.subject == subject]
    return found


def test_nothing_is_broken_and_every_fault_has_a_mend():
    checks = examine()
    assert {check.state for check in checks} <= {"ok", "missing"}
    assert all(check.mend for check in checks if check.state != "ok")
    subjects = {check.subject for check in checks}
    assert {"python", "torch", "CUDA", "llve-common", "llve-sci", "sci's weights"} <= subjects
    assert line("sci's weights").state == "ok"
    assert line("reference values").found.endswith("a-set")


def test_the_command_says_it_and_ends_with_0_and_json_is_the_same_list():
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "ok      llve-common: " in result.output
    listed = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert [each["subject"] for each in listed] == [check.subject for check in examine()]
    assert all(each.keys() == {"subject", "state", "found", "mend"} for each in listed)


def test_anything_broken_ends_with_1_and_says_what_to_do(monkeypatch):
    monkeypatch.setenv("LLVE_SHARED", "nowhere")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "broken  reference values: LLVE_SHARED=nowhere holds none" in result.output
    assert "-> correct LLVE_SHARED, or unset it" in result.output


def test_neither_reference_values_nor_papers_are_missing(monkeypatch, tmp_path):
    monkeypatch.delenv("LLVE_SHARED")
    monkeypatch.setattr(doctor, "shared_folder", lambda: tmp_path / "none")
    install(monkeypatch)
    assert line("reference values").state == line("papers").state == "missing"


def test_a_paper_of_another_version_or_that_cannot_be_imported_is_broken(monkeypatch):
    monkeypatch.setattr(llve_sci, "__version__", "0.0.9")
    install(monkeypatch, SCI, EntryPoint("gone", "llve_gone.paper:PAPER", "llve.papers"))
    for subject, said in (("llve-sci", "0.0.9"), ("llve-gone", "llve_gone")):
        assert line(subject).state == "broken"
        assert said in line(subject).found


@pytest.fixture
def bundle(monkeypatch, tmp_path):
    """A copy of the bundled weights and their provenance, which the doctor looks at."""
    own = bundled_weights(PAPER)
    for file in (own, own.with_suffix(".json")):
        shutil.copy(file, tmp_path / file.name)
    monkeypatch.setattr(network, "bundled_weights", lambda paper: tmp_path / own.name)
    return tmp_path / own.name


def test_bundled_weights_other_than_recorded_or_without_a_record_are_broken(bundle):
    whole, record = bundle.read_bytes(), bundle.with_suffix(".json")
    bundle.write_bytes(whole + b" ")
    assert line("sci's weights").state == "broken"
    bundle.write_bytes(whole)
    assert line("sci's weights").state == "ok"
    for content in ("{}", "not JSON"):
        record.write_text(content)
        assert line("sci's weights").state == "broken"
    record.unlink()
    assert line("sci's weights").state == "broken"


def test_a_paper_without_bundled_weights_is_missing_them(monkeypatch, paper):
    entry = SimpleNamespace(name="tiny", load=lambda: paper(package="llve_sci"))
    install(monkeypatch, entry)
    assert line("tiny's weights").state == "missing"
    assert "--weights FILE" in line("tiny's weights").mend


@pytest.mark.parametrize(("place", "state"), [("site-packages", "broken"), ("src", "ok")])
def test_an_installed_core_that_hides_a_checkout_s_is_broken(monkeypatch, tmp_path, place, state):
    for folder in (place, "checkout"):
        (tmp_path / folder / "llve_common").mkdir(parents=True)
        (tmp_path / folder / "llve_common" / "__init__.py").touch()
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    monkeypatch.setattr(llve_common, "__file__", str(tmp_path / place / "llve_common/__init__.py"))
    found = line("llve-common")
    assert found.state == state
    hidden = found.found.split("which hides ")[1].split(", ")
    assert str(tmp_path / "checkout/llve_common") in hidden


def test_an_operator_is_named_and_broken_where_it_cannot_be_had_as_asked(monkeypatch):
    monkeypatch.setenv("LLVE_DCN", "torch")
    found = line("deformable convolution on cpu")
    assert (found.state, found.found) == ("ok", "llve_common.ops.plain, as LLVE_DCN is torch")
    monkeypatch.setenv("LLVE_DCN", "nonsense")
    found = line("deformable convolution on cpu")
    assert (found.state, found.mend) == ("broken", "unset LLVE_DCN")
    assert "nonsense" in found.found
    # All of the fault is told.
    assert found.found.count("; ") > 1


def test_an_operator_that_falls_back_says_why(monkeypatch):
    def refuse(device, dtype):
        raise Unavailable("there is no C compiler")

    monkeypatch.delenv("LLVE_DCN", raising=False)
    monkeypatch.setattr(selection, "implementation_for", lambda device, dtype: plain)
    monkeypatch.setattr(native, "require", refuse)
    found = line("deformable convolution on cpu")
    assert found.state == "missing"
    assert "there is no C compiler" in found.found


def test_libraries_that_cannot_be_imported_are_broken(tmp_path):
    for library in ("av", "cv2", "torch"):
        (tmp_path / f"{library}.py").write_text(f"raise ImportError('lib{library}.so: no such')")
    words = [sys.executable, "-m", "llve_common", "doctor"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "")
    for library in ("av", "cv2", "torch"):
        assert f"broken  {library}: lib{library}.so: no such\n        -> " in ended.stdout


@pytest.mark.parametrize(
    ("content", "state", "said"),
    [
        (None, "missing", "llve_extra"),
        ("import llve_no_such_library", "missing", "llve_no_such_library"),
        ("raise ImportError('of another build')", "broken", "of another build"),
        ("raise RuntimeError('of another build')", "broken", "of another build"),
        ("raise OSError('of another build')", "broken", "of another build"),
    ],
)
def test_an_extra_that_is_not_there_or_cannot_be_imported(
    monkeypatch, tmp_path, content, state, said
):
    if content is not None:
        (tmp_path / "llve_extra.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(doctor._EXTRAS, "fsim", ("llve_extra",))
    found = line("extra fsim")
    assert found.state == state
    assert said in found.found
    assert "llve-common[fsim]" in found.mend


def test_two_opencvs_are_broken(monkeypatch):
    assert line("OpenCV").state == "ok"
    both = ["opencv-python", "opencv-python-headless"]
    monkeypatch.setattr(doctor, "packages_distributions", lambda: {"cv2": both})
    found = line("OpenCV")
    assert (found.state, found.mend.count("opencv-python-headless")) == ("broken", 2)


def test_codecs(monkeypatch):
    assert line("video encoder").state == "ok"
    monkeypatch.setattr(doctor, "_ENCODER", "no-such-codec")
    monkeypatch.setattr(doctor, "_DECODERS", ("no-such-codec",))
    assert line("video encoder").state == "broken"
    assert line("video decoders").state == "missing"


def test_a_cache_folder_that_cannot_be_made_is_missing(monkeypatch, tmp_path):
    assert line("cache folder").state == "ok"
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert line("cache folder").state == "missing"
