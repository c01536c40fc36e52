"""A paper's claims as data: ``paper.toml``, with what came out when they were last run.

The commands in it can be typed as they stand once three shell variables are set: ``$DATA`` is the
data set's folder, ``$WEIGHTS`` the weights file, ``$OUT`` a new folder.
"""

import datetime
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, ValidationError, model_validator

from llve_common.config import Settings, read_small, unknown
from llve_common.errors import ConfigError
from llve_common.report.tables import Table

Figure = int | Annotated[float, Field(allow_inf_nan=False)]
Figures = Mapping[str, Figure]
"""Metrics by name: ``psnr`` (dB) and ``ssim`` as in ``summary.json``, others as they are shown."""

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Mean = Literal["frames", "clips"]
NotAtHand = Literal["not at hand"]

_LABELS = {
    "psnr": "PSNR", "ssim": "SSIM", "ssim_skimage7": "SSIM skimage7",
    "ssim_gaussian11": "SSIM gaussian11", "warping_error": "warping error", "mabd": "MABD",
    "mabd_mse": "MABD MSE", "niqe": "NIQE",
}  # fmt: skip
_UNITS = {"psnr": " dB"}


class About(Settings):
    """The paper."""

    title: str
    authors: str
    venue: str


class Measured(Settings):
    """Figures of a run, with all that it takes to judge them."""

    metrics: Figures
    command: str
    date: datetime.date
    versions: Mapping[str, str]
    hardware: str
    weights_sha256: Sha256 | None = None
    data_sha256: Sha256 | None = Field(None, description="as llve protocols computes it")


class Counted(Settings):
    """Figures that need no run, such as a number of parameters, and the test that shows them."""

    metrics: Figures
    test: str = Field(pattern=r"^packages/\w+/tests/test_\w+\.py::test_\w+$")


class Claim(Settings):
    """A row of one of the paper's tables, or a figure that published code and weights give."""

    name: str = Field(pattern="^[a-z0-9]+(-[a-z0-9]+)*$")
    source: str = Field(description="where it stands")
    data: str
    protocol: str = ""
    metrics: Mapping[str, Figure | NotAtHand] = Field(min_length=1, description="as published")
    tolerance: Mapping[str, NonNegativeFloat] = {}
    status: str = Field(
        pattern=r"^(reproduced|differs|secondary|not run: needs \S.*|not at hand)$",
        description="secondary: quoted at second hand, never a target",
    )
    command: str | None = Field(None, description="that would run it")
    weights: str | None = Field(None, description="name of the published file")
    mean: Mean = "frames"
    note: str = ""
    measured: Measured | None = None
    counted: Counted | None = None

    @property
    def published(self) -> dict[str, Figure]:
        """The figures that are at hand."""
        return {k: v for k, v in self.metrics.items() if not isinstance(v, str)}

    @property
    def found(self) -> Figures | None:
        """What came out, by the last run or by a test; None where neither was."""
        known = self.measured or self.counted
        return known.metrics if known else None

    @model_validator(mode="after")
    def _figures_are_at_hand_or_not(self) -> Self:
        absent = len(self.metrics) - len(self.published)
        if (self.status == "not at hand") != (absent == len(self.metrics)):
            raise ValueError('"not at hand" is the status of claims without any figure, and theirs')
        if absent and self.status != "not at hand":
            raise ValueError("leave out the metrics that are not at hand")
        return self

    @model_validator(mode="after")
    def _status_rests_on_something(self) -> Self:
        shown = self.status in {"reproduced", "differs"}
        if self.measured and self.counted:
            raise ValueError("either measured or counted, not both")
        if shown and not (self.measured or self.counted):
            raise ValueError(f'"{self.status}" needs a measured or a counted block')
        if self.status.startswith("not run") and (self.measured or self.counted):
            raise ValueError('"not run" has neither a measured nor a counted block')
        if self.status == "secondary" and (self.measured or self.counted or self.tolerance):
            raise ValueError('"secondary" has no measured or counted block, and no tolerance')
        return self

    @model_validator(mode="after")
    def _status_agrees_with_the_figures(self) -> Self:
        if self.found is None or not self.published:
            return self
        for kind, names in (("measured", self.found), ("tolerance", self.tolerance)):
            missing = self.published.keys() - names.keys()
            if missing:
                raise ValueError(f"no {kind} value of {', '.join(sorted(missing))}")
        agrees = agreeing(self.published, self.found, self.tolerance)
        if agrees != (self.status == "reproduced"):
            raise ValueError(
                f"the figures {'agree' if agrees else 'do not agree'} within the tolerance, "
                f'but the status is "{self.status}"'
            )
        return self

    @model_validator(mode="after")
    def _a_run_names_its_input(self) -> Self:
        if self.measured is None:
            return self
        if self.command is None:
            raise ValueError("a measured claim needs the command that runs it")
        for variable, digest in (
            ("$WEIGHTS", self.measured.weights_sha256),
            ("$DATA", self.measured.data_sha256),
        ):
            if variable in self.command and digest is None:
                raise ValueError(f"measured with {variable}, whose sha256 is missing")
        if ("$WEIGHTS" in self.command) != (self.weights is not None):
            raise ValueError("$WEIGHTS in the command and the name of the weights go together")
        return self


class Embedded(Settings):
    """What is checked on the embedded set: a short training, and the bundled weights' scores.

    Attributes:
        make: the command that renders the set into ``$DATA``.
        train: a training of some iterations that writes its run below ``$OUT``.
        loss: what its loss has to do; ``falls`` compares the last third's mean with the first's.
        test: the command that scores the bundled weights; None where there are none.
        mean: over frames or clips.
        tolerance: how far another machine's scores may be off.
        measured: the scores.
    """

    make: str
    train: str
    loss: Literal["falls", "finite"] = "falls"
    test: str | None = None
    mean: Mean = "frames"
    tolerance: Mapping[str, NonNegativeFloat] = {}
    measured: Measured | None = None

    @model_validator(mode="after")
    def _scores_have_a_command_and_a_tolerance(self) -> Self:
        if (self.test is None) != (self.measured is None):
            raise ValueError("test and measured go together")
        if self.measured and self.measured.metrics.keys() != self.tolerance.keys():
            raise ValueError("each measured metric needs a tolerance, and nothing else has one")
        if self.measured and self.measured.weights_sha256 is None:
            raise ValueError("the sha256 of the bundled weights is missing")
        return self


class PaperClaims(Settings):
    """A whole ``paper.toml``."""

    paper: About
    claim: tuple[Claim, ...] = Field(min_length=1)
    embedded: Embedded | None = None

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [claim.name for claim in self.claim]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"several claims are named {', '.join(twice)}")
        return self


def agreeing(published: Figures, found: Figures, tolerance: Mapping[str, float]) -> bool:
    """Whether every published figure was found within its tolerance."""
    # The last digit of a decimal fraction is not exact in binary.
    return all(
        abs(found[name] - figure) <= tolerance[name] + 1e-9 for name, figure in published.items()
    )


def claims_file(package: str) -> Path:
    """A paper's ``paper.toml``, in the checkout that its package is live from.

    Args:
        package: the import name, such as ``llve_sci``.

    Raises:
        ConfigError: there is none.
    """
    file = Path(str(files(package))).parent.parent / "paper.toml"
    if not file.is_file():
        raise ConfigError("the package comes without a paper.toml", where=package)
    return file


def read_claims(file: Path) -> PaperClaims:
    """Read and validate a ``paper.toml``.

    Raises:
        ConfigError: it cannot be read, is not TOML, or says something wrong; all that is wrong at
            once.
    """
    try:
        content = tomllib.loads(read_small(file).decode("utf-8"))
    except OSError as error:
        raise ConfigError("cannot be read", where=file, got=error.strerror) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError("not a TOML file", where=file, got=error) from error
    try:
        return PaperClaims.model_validate(content)
    except ValidationError as error:
        lines = [_explain(content, fault["loc"], fault["type"], fault["msg"])
                 for fault in error.errors()]  # fmt: skip
        raise ConfigError("\n- ".join(["does not hold:", *lines]), where=file) from None


def _explain(content: object, place: tuple[int | str, ...], kind: str, message: str) -> str:
    """A fault with the claim's name instead of its number, and the nearest key there is."""
    words = [str(part) for part in place]
    if len(place) > 1 and place[0] == "claim" and isinstance(content, dict):
        claim = content["claim"][place[1]]
        words[1] = str(claim.get("name", place[1])) if isinstance(claim, dict) else str(place[1])
    if kind == "extra_forbidden":
        known = [name for each in _MODELS for name in each.model_fields]
        message = unknown("key", words[-1], known)
    return f"{'.'.join(words) or 'the file'}: {message.removeprefix('Value error, ')}"


_MODELS: tuple[type[Settings], ...] = (PaperClaims, About, Claim, Measured, Counted, Embedded)


def claims_table(claims: PaperClaims) -> Table:
    """The table of the package's README."""
    rows = [
        (
            "; ".join(filter(None, (claim.data, claim.source, claim.protocol))),
            show(claim.metrics),
            show(claim.found or {}) or "-",
            claim.status + (f" ({claim.note})" if claim.note else ""),
        )
        for claim in claims.claim
    ]
    return Table("Claims", ("claim", "published", "ours", "status"), tuple(rows))


def show(figures: Mapping[str, Figure | str]) -> str:
    """Figures in a cell, such as ``PSNR 14.784 dB, SSIM 0.5254``."""
    return ", ".join(f"{_LABELS.get(name, name)} {_cell(name, figures[name])}" for name in figures)


def _cell(name: str, figure: Figure | str) -> str:
    if isinstance(figure, str):
        return figure
    short = f"{figure:.6g}" if isinstance(figure, float) else str(figure)
    return short + _UNITS.get(name, "")
