"""The reference tests on another set of the same form: they take everything from the files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from perturbed import perturb

from llve_common.testing.reference import shared_file

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def another(tmp_path_factory):
    shared = shared_file("reference").parent
    return perturb(shared, tmp_path_factory.mktemp("another") / "shared")


@pytest.mark.slow
@pytest.mark.parametrize("package", ["common", "sci", "sgz", "sdsd", "stcd", "tcenet"])
def test_reference_tests_pass_on_another_set(another, package):
    words = ("-q", "-m", "reference", "-p", "no:cacheprovider", f"packages/{package}")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=ROOT, env={**os.environ, "LLVE_SHARED": str(another)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-1000:]
    assert "no reference data" not in result.stdout
