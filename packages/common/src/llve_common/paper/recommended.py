"""Which paper ``llve enhance`` takes, and the figures behind that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llve_common.clips.folders import walk_without_results
from llve_common.config import Kind
from llve_common.errors import ConfigError
from llve_common.paper.installed import installed_papers
from llve_common.video import is_image, is_video


@dataclass(frozen=True)
class Recommended:
    """A paper, by its name, and what its bundled weights score.

    PSNR, in dB, and SSIM are those of ``llve compare``, on the 15 images of LOL's evaluation set,
    and on the 30 frames of 960x512 of SDSD indoor's pair21. The highest SSIM comes first: PSNR
    follows the brightness above all, which a paper without ground truth can only guess::

        llve compare LOL --protocol lol-v1 --papers sci,sgz,stcd,tcenet
        llve compare SDSD --protocol sdsd-indoor
    """

    paper: str
    psnr: float
    ssim: float
    but: str = ""


TABLE: Mapping[Kind, Sequence[Recommended]] = {
    "image": (
        Recommended("stcd", 18.51, 0.745, ", slow on a CPU"),
        Recommended("sgz", 17.75, 0.576),
        Recommended("sci", 14.02, 0.527),
    ),
    "video": (
        Recommended("stcd", 22.05, 0.828, ", slow on a CPU"),
        Recommended("tcenet", 22.58, 0.801, ", slower"),
        Recommended("sdsd", 18.60, 0.711, ", slow on a CPU"),
        Recommended("sci", 21.32, 0.707),
        Recommended("sgz", 21.58, 0.655),
    ),
}
"""The papers for each kind of source, the one to take first."""

DATA: Mapping[Kind, str] = {"image": "LOL's evaluation set", "video": "SDSD indoor's pair21"}


def recommended(kind: Kind) -> tuple[str, str]:
    """The name of the best paper for a kind of source among those installed, and why it is.

    Raises:
        ConfigError: none of the table is installed.
    """
    papers = installed_papers()
    there = [each for each in TABLE[kind] if each.paper in papers]
    if not there:
        raise ConfigError(
            f"no paper that is recommended for {kind}s is installed",
            expected=f"one of {', '.join(each.paper for each in TABLE[kind])}",
            mend="pip install -e packages/NAME in a checkout of llve",
        )
    best = there[0].paper
    figures = "; ".join(
        f"{each.paper} {each.ssim:.3f}, {each.psnr:.2f} dB{each.but}" for each in there
    )
    measured = f"bundled weights on {DATA[kind]}, SSIM and PSNR: {figures}"
    line = f"{best} is recommended for {kind}s ({measured})"
    return best, f"{line}; to take another: {there[1].paper} enhance" if there[1:] else line


def kind_of(sources: Sequence[Path]) -> Kind:
    """Whether sources are videos, or folders of nothing but videos; images otherwise."""
    inside = [
        walk_without_results(each, recursive=True)[0] if each.is_dir() else [each]
        for each in sources
    ]
    files = [file for each in inside for file in each if is_image(file) or is_video(file)]
    return "video" if files and all(map(is_video, files)) else "image"
