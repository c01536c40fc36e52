"""What is known of a paper without PyTorch: enough for help, completion and refusals."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llve_common.config import Kind, Settings
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
    """

    name: str
    title: str
    package: str
    kind: Kind
    bundled: str | None = None
    options: Mapping[type[Settings], PublishedOptions] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, type[Settings]]:
        """The settings classes by their commands' names."""
        return {kind.model_fields["procedure"].default: kind for kind in self.options}

    def paper(self) -> Paper:
        """All of the paper, whose import takes PyTorch's time."""
        found: Paper = importlib.import_module(f"{self.package}.paper").PAPER
        return found
