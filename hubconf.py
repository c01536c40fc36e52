"""``torch.hub.load(REPO, "sci")``: a paper as a function, from a checkout, installed or not."""

import importlib
import sys
from functools import partial
from pathlib import Path
from typing import Any

dependencies = ["av", "cv2", "numpy", "PIL", "pydantic", "safetensors", "torch", "yaml"]

# After what is installed, so that an installed core is not hidden.
sys.path += [str(folder) for folder in sorted(Path(__file__).parent.glob("packages/*/src"))]


def _enhancer(paper: str, *args: Any, **options: Any) -> Any:
    """With the arguments of ``llve.load`` after the name."""
    from llve_common.enhance.enhancer import load_enhancer

    return load_enhancer(importlib.import_module(f"llve_{paper}.paper").PAPER, *args, **options)


sci, sgz, sdsd, stcd, tcenet = (
    partial(_enhancer, paper) for paper in ("sci", "sgz", "sdsd", "stcd", "tcenet")
)
