"""Makes ``pip install -e`` of this package alone bring llve-common from the checkout, live.

Every paper package holds an equal copy: a shared file would be missing from their sdists.
"""

import inspect
import tomllib
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

COMMON, VERSION = "llve-common", "~=0.1.0"
EXTRAS = ("fetch", "fsim", "onnx", "photos")
EDITABLE_CALLS = {"build_editable", "prepare_metadata_for_build_editable"}


class CommonDependency(MetadataHookInterface):
    """Fills in ``dependencies`` and ``optional-dependencies``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Depend on llve-common; in an editable install, on what the checkout's one depends on.

        An editable install puts ``../common/src`` on the path itself (``dev-mode-dirs``). The
        extras are llve-common's under the same names.
        """
        common = Path(self.root).parent / "common" / "pyproject.toml"
        editable = any(frame.function in EDITABLE_CALLS for frame in inspect.stack())
        if editable and common.is_file():
            project = tomllib.loads(common.read_text(encoding="utf-8"))["project"]
            metadata["dependencies"] = project["dependencies"]
            metadata["optional-dependencies"] = project["optional-dependencies"]
        else:
            metadata["dependencies"] = [COMMON + VERSION]
            metadata["optional-dependencies"] = {
                extra: [f"{COMMON}[{extra}]{VERSION}"] for extra in EXTRAS
            }
