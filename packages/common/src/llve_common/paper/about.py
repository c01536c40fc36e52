"""What is known of a paper without PyTorch: enough for help, completion and refusals."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from llve_common.config import Kind, Settings
from llve_common.io.digest import file_digest
from llve_common.published_options import PublishedOptions

if TYPE_CHECKING:
    from llve_common.paper.contract import Paper


@dataclass(frozen=True, kw_only=True)
class About:
    """A paper's names, and the settings of its commands.

    The command line is made of this alone, so that ``--help`` need not wait for PyTorch.

    Attributes:
        name: the package's and the command's name, such as ``sci``.
        title: the method, its authors' venue and year.
        package: the import name, whose ``configs`` and ``bundled`` folders hold data files.
        kind: whether images of one folder are images by themselves or the frames of a clip.
        bundled: file name of our own weights in the package, or None.
        options: the settings class of each command that has one, whose docstring is the command's
            help and whose ``procedure`` is its name, and the published names of its settings.
        has_kernel: whether the package has a module ``kernel``, which imports no PyTorch. Its
            ``kernel_of`` takes a file's weights, arrays by their names, to a
            :data:`~llve_common.ops.kernels.Kernel`, or to None where PyTorch is needed.
    """

    name: str
    title: str
    package: str
    kind: Kind
    bundled: str | None = None
    options: Mapping[type[Settings], PublishedOptions] = field(default_factory=dict)
    has_kernel: bool = False

    @property
    def settings(self) -> dict[str, type[Settings]]:
        """The settings classes by their commands' names."""
        return {kind.model_fields["procedure"].default: kind for kind in self.options}

    @property
    def bundled_file(self) -> Path | None:
        """Our own weights in the package."""
        own = self.bundled and files(self.package) / "bundled" / self.bundled
        return Path(str(own)) if own else None

    def paper(self) -> Paper:
        """All of the paper, whose import takes PyTorch's time."""
        found: Paper = importlib.import_module(f"{self.package}.paper").PAPER
        return found


@dataclass(frozen=True)
class LoadedWeights:
    """Where a network's weights come from, so that a result can say it.

    ``purpose`` says of bundled ones in plain words what they are for.
    """

    path: Path
    sha256: str
    bundled: bool
    purpose: str = "trained by llve, not the paper's"

    def __str__(self) -> str:
        if self.bundled:
            return f"{self.path.name}, bundled: {self.purpose}"
        return f"{self.path} (sha256 {self.sha256[:12]}...)"

    @classmethod
    def of(cls, path: Path, *, bundled: bool) -> LoadedWeights:
        """Of a file, whose record says the purpose where it is bundled."""
        record, purpose = path.with_suffix(".json"), cls.purpose
        if bundled and record.is_file():
            purpose = json.loads(record.read_text(encoding="utf-8")).get("purpose", purpose)
        return cls(path, file_digest(path), bundled, purpose)
