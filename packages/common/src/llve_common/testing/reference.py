"""Values of the published implementations, read from outside the checkout.

They lie at ``$LLVE_SHARED``, by default ``../shared`` beside the checkout. Tests are made from the
cases that the files list; where the files are absent, one skipped test says so. Seeds, sizes,
numbers and names come from the files, so that another set of the same form is compared as well.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llve_common.machine.folders import shared_folder as shared_folder

Array = NDArray[Any]


def shared_file(*parts: str) -> Path:
    """A file or folder of the shared data; skips the test where it is absent."""
    path = shared_folder().joinpath(*parts)
    if not path.exists():
        pytest.skip(_absent(path))
    return path


def _absent(path: Path) -> str:
    return f"no reference data: {path} does not exist (LLVE_SHARED says where)"


@dataclass(frozen=True)
class Case:
    """One case of a reference file: its settings, and its arrays with their measured noise.

    ``joint`` stands between the names of the case and of its array.
    """

    file: str
    name: str
    settings: dict[str, Any]
    joint: str = "/"

    @property
    def arrays(self) -> list[str]:
        """The names of the case's arrays, as they stand in the file."""
        prefix = f"{self.name}{self.joint}"
        return [key.removeprefix(prefix) for key in _npz(self.file) if key.startswith(prefix)]

    @property
    def noise(self) -> dict[str, dict[str, Any]]:
        """What was measured of each single-precision array: its noise and largest value."""
        listed: dict[str, dict[str, Any]] = self.settings["arrays"]
        return listed

    def __getitem__(self, array: str) -> Array:
        value: Array = _npz(self.file)[f"{self.name}{self.joint}{array}"]
        return value

    def check(
        self, array: str, actual: Any, noise: float | None = None, first: int | None = None
    ) -> None:
        """Assert that a single-precision array is within its tolerance; integers are equal.

        The tolerance is ten times the noise between precisions and thread counts, and at least
        2e-6 of the largest value.

        Args:
            array: its name.
            actual: what was computed.
            noise: where the file lists none.
            first: compare only so many values, such as the losses of a run's first steps.
        """
        part = ... if first is None else slice(first)
        expected, value, name = self[array][part], np.asarray(actual), f"{self.name}/{array}"
        assert value.shape == expected.shape, name
        if np.issubdtype(expected.dtype, np.integer):
            np.testing.assert_array_equal(value, expected, err_msg=name)
            return
        measured: Any = noise
        if noise is None:
            facts = self.noise[array]
            each = np.array(facts.get("noise_f64_each", facts["noise_f64"]))[part]
            measured = np.fmax(each, facts["noise_threads"])
        largest = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
        limit = np.fmax(10 * measured, 2e-6 * largest)  # a noise of NaN is none
        close = np.isclose(value, expected, rtol=0, atol=limit, equal_nan=True)
        assert close.all(), f"{name}: {value[~close]} differs from {expected[~close]} by > {limit}"

    def check_exact(self, found: Mapping[str, Any], rtol: float) -> None:
        """Assert that what was computed in double precision equals the case's ``f64/`` arrays.

        Relative to the largest value of each: some hold single values near zero.
        """
        for array in self.arrays:
            if array.startswith("f64/"):
                expected, actual = self[array], np.asarray(found[array.removeprefix("f64/")])
                atol = rtol * np.abs(expected).max(initial=0.0, where=np.isfinite(expected))
                np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol, err_msg=array)


def cases(
    file: str, kind: str = ".*", *, holding: str = "", under: str | None = None, joint: str = "/"
) -> list[Any]:
    """Test parameters, one for each case of a reference file such as ``sci_sgz/sci_loss``.

    Args:
        file: set and name, without suffix.
        kind: only the cases whose whole name matches this expression.
        holding: only the cases with an array whose name starts so.
        under: the file's key that holds the cases; None where they are all of its content.
        joint: see :class:`Case`.
    """
    path = shared_folder() / "reference" / f"{file}.json"
    if not path.is_file():
        return [pytest.param(None, id="absent", marks=pytest.mark.skip(reason=_absent(path)))]
    content = reference_json(file)
    listed = [
        Case(file, name, settings, joint)
        for name, settings in (content if under is None else content[under]).items()
        if re.fullmatch(kind, name)
    ]
    wanted = [c for c in listed if not holding or any(a.startswith(holding) for a in c.arrays)]
    return [pytest.param(case, id=case.name) for case in wanted]


def require_known(names: Iterable[str], *kinds: str) -> None:
    """Assert that every name is of a kind that the tests handle: a new one must not pass unseen.

    Kinds are regular expressions, one of which matches the whole name.
    """
    unknown = [name for name in names if not any(re.fullmatch(kind, name) for kind in kinds)]
    assert not unknown, f"no test handles {', '.join(unknown)}"


@cache
def reference_json(file: str) -> dict[str, Any]:
    """The content of a reference JSON file; skips the test where it is absent."""
    content: dict[str, Any] = json.loads(shared_file("reference", f"{file}.json").read_text())
    return content


def reference_arrays(file: str) -> dict[str, Array]:
    """The arrays of a reference ``.npz`` file; skips the test where it is absent."""
    shared_file("reference", f"{file}.npz")
    return _npz(file)


def check_summary(
    actual: Any, summary: dict[str, Any], *, rtol: float, atol: float, name: str = ""
) -> None:
    """Assert that an array is the one that a file summarises instead of storing it.

    Its values at the listed places, ``absmax`` and ``mean`` are compared within ``atol``, times
    the largest value where that is above 1; its Euclidean norm within ``rtol``.

    Args:
        actual: the array that was computed.
        summary: ``mean``, ``l2``, ``absmax``, and the flat places ``idx`` with their values
            ``val``.
        rtol: relative, for the norm.
        atol: absolute, for single values.
        name: of the array, for the message.
    """
    flat = np.asarray(actual, np.float64).ravel()
    assert np.linalg.norm(flat) == pytest.approx(summary["l2"], rel=rtol, abs=0), name
    # Rounding grows with the values, and differs from one processor to the next.
    atol *= max(1.0, summary["absmax"])
    for label, value in (("mean", flat.mean()), ("absmax", np.abs(flat).max())):
        assert value == pytest.approx(summary[label], rel=0, abs=atol), f"{label} of {name}"
    np.testing.assert_allclose(
        flat[summary["idx"]], summary["val"], rtol=0, atol=atol, err_msg=name
    )


@cache
def _npz(file: str) -> dict[str, Array]:
    with np.load(shared_folder() / "reference" / f"{file}.npz") as arrays:
        return dict(arrays)
