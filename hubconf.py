"""``torch.hub.load(REPO, "sci")``: a paper as a function, from a checkout, installed or not."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

dependencies = ["av", "cv2", "numpy", "PIL", "pydantic", "safetensors", "torch", "yaml"]

# After what is installed, so that an installed core is not hidden.
sys.path += [str(folder) for folder in sorted(Path(__file__).parent.glob("packages/*/src"))]


def _enhancer(paper: str, *args: Any, **options: Any) -> Any:
    from llve_common.enhance.enhancer import load_enhancer

    return load_enhancer(importlib.import_module(f"llve_{paper}.paper").PAPER, *args, **options)


def sci(*args: Any, **options: Any) -> Any:
    """SCI, with the arguments of ``llve.load`` after the name; likewise the others."""
    return _enhancer("sci", *args, **options)


def sgz(*args: Any, **options: Any) -> Any:
    """SGZ."""
    return _enhancer("sgz", *args, **options)


def sdsd(*args: Any, **options: Any) -> Any:
    """SDSD."""
    return _enhancer("sdsd", *args, **options)


def stcd(*args: Any, **options: Any) -> Any:
    """STCD."""
    return _enhancer("stcd", *args, **options)


def tcenet(*args: Any, **options: Any) -> Any:
    """TCE-Net; its weights have to be given."""
    return _enhancer("tcenet", *args, **options)
