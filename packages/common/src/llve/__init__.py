"""Low-light enhancement in three lines.

    import llve

    sci = llve.load("sci")
    image = sci(image)

Importing this module imports no PyTorch: :func:`load` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

    import torch

    from llve_common.enhance.enhancer import Enhancer, Installed
    from llve_common.evaluate.score import Scored

__all__ = ["load", "papers", "score"]


def load(
    name: str | Path,
    weights: str | Path | None = None,
    *,
    device: str | torch.device = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
) -> Enhancer:
    """A paper's network as a function of an image, with ``stream`` for clips.

    Args:
        name: of an installed paper, or a weights file, from which the paper is found.
        weights: a weights file of the paper, or ``published:NAME``; None: those that come with it.
        device: ``"auto"`` takes a GPU if there is one; ``"cpu"``, ``"cuda"``, ``"cuda:N"``, or
            PyTorch's own.
        precision: number format. ``"auto"`` is bfloat16 or float16 where that makes the paper
            faster on the device, within 1/255 in the mean; ``"fp32"`` is exact.

    Raises:
        llve_common.errors.UserError: there is no such paper or device, or the weights are missing,
            unreadable, or another paper's; the message says which and how to mend it.
    """
    from pathlib import Path

    from llve_common.enhance.enhancer import load_enhancer
    from llve_common.paper.installed import find_papers, installed_papers, load_paper
    from llve_common.weights.network import paper_of

    if str(name) not in installed_papers() and weights is None and Path(name).suffix:
        return load_enhancer(paper_of(Path(name)), name, device=device, precision=precision)
    [entry] = find_papers([str(name)]).values()
    return load_enhancer(load_paper(entry), weights, device=device, precision=precision)


def papers() -> list[Installed]:
    """The installed papers, in alphabetical order.

    Raises:
        llve_common.errors.UserError: a paper's package cannot be imported.
    """
    from llve_common.enhance.enhancer import installed
    from llve_common.paper.installed import installed_papers, load_paper

    return [installed(load_paper(entry)) for entry in installed_papers().values()]


def score(
    results: str | Path, reference: str | Path | None = None, *, protocol: str | None = None
) -> Scored:
    """What the command ``llve score`` measures, of anybody's results, with or without ground truth.

    With a protocol such as ``"lol-v1"``, the reference may be the data set's folder.

    Raises:
        llve_common.errors.UserError: a folder is missing or empty, nothing has a partner, or a file
            cannot be decoded.
    """
    from llve_common.evaluate.score import score as measure

    return measure(results, reference, protocol=protocol)
