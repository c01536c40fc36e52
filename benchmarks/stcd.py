"""STCD on the CPU: the streaming path against the whole network on every pair; DIS against truth.

The weights are random: they change neither the time nor whether both paths agree.
"""

from collections.abc import Callable

import harness
import numpy as np
import torch
from torch import Tensor, nn

from llve_common.metrics.cost import multiply_accumulates, parameter_count
from llve_common.report.tables import Table
from llve_common.testing.motion import moved_views
from llve_stcd.fast import combine, part
from llve_stcd.matchers import dis_matches
from llve_stcd.network import STCD
from llve_stcd.paper import enhance

SIZE = (512, 960)
MOTIONS = {
    "3 px": ((3, 0), 0),
    "6 px, 4 px": ((-6, 4), 0),
    "2.5 px, 1.5 px": ((2.5, -1.5), 0),
    "12 px, 8 px": ((12, 8), 0),
    "24 px": ((24, 0), 0),
    "2 degrees": ((0, 0), 2),
    "5 degrees": ((0, 0), -5),
    "10 degrees": ((0, 0), 10),
}


def main() -> None:
    """Measure, print, and write the results."""
    torch.manual_seed(0)
    network = STCD().eval()
    first, second = torch.rand(2, 1, 3, *SIZE) * 0.3
    paths = frame_paths(network, first, second)
    comparison = harness.compare(paths, repeats=2)
    tables = [speed_table(comparison, paths, parameter_count(network)), matching_table()]
    harness.write("stcd", tables, {"stcd": comparison})


def frame_paths(
    network: nn.Module, first: Tensor, second: Tensor
) -> dict[str, Callable[[], Tensor]]:
    """One more frame of a clip: a whole pair, or the new frame's part and what joins it."""
    with torch.inference_mode():
        kept = part(network, first[:, None])

    def whole() -> Tensor:
        with torch.inference_mode():
            return enhance(network, torch.stack([first, second], 1))

    def streaming() -> Tensor:
        with torch.inference_mode():
            return combine(network, [kept, part(network, second[:, None])], (0,))

    return {"whole": whole, "streaming": streaming}


def speed_table(
    comparison: harness.Comparison, paths: dict[str, Callable[[], Tensor]], parameters: int
) -> Table:
    """A row for each path, their ratios, and how far the results agree."""
    whole, streaming = (comparison.timings[name] for name in ("whole", "streaming"))
    macs = {name: multiply_accumulates(path) for name, path in paths.items()}
    rows = [
        (
            name,
            f"{each.seconds:.2f}",
            f"{each.processor_seconds:.2f}",
            f"{macs[name] / 1e9:.1f}",
        )
        for name, each in comparison.timings.items()
    ]
    rows.append(
        (
            "ratio",
            f"{comparison.ratio('whole', 'streaming'):.2f}",
            f"{whole.processor_seconds / streaming.processor_seconds:.2f}",
            f"{macs['whole'] / macs['streaming']:.2f}",
        )
    )
    difference = float((paths["whole"]() - paths["streaming"]()).abs().max())
    title = (
        f"STCD, one frame at {SIZE[0]}x{SIZE[1]}, {parameters} parameters, "
        f"largest difference {difference:.1e}"
    )
    return Table(title, ("path", "s a frame", "CPU s a frame", "GMACs"), tuple(rows))


def matching_table() -> Table:
    """How far DIS matches lie from the true ones, where they are sure (certainty above a half)."""
    rows = [matching_row(name, *motion) for name, motion in MOTIONS.items()]
    return Table(
        "DIS on a moved photograph, 240x320: mean end-point error (px)",
        ("motion", "all", "inside", "sure", "share that is sure"),
        tuple(rows),
    )


def matching_row(name: str, shift: tuple[float, float], degrees: float) -> tuple[str, ...]:
    """The error over all pixels, over those whose match is in the image, and over the sure ones."""
    first, second, flow, _ = moved_views(shift, degrees)
    height, width = flow.shape[:2]
    warp, certainty = (
        each[0, :, :width].numpy() for each in dis_matches(first[None], second[None])
    )
    size = np.array([width, height])
    found = (warp[..., 2:] - warp[..., :2]) * size / 2
    target = (warp[..., :2] + 1) * size / 2 + flow
    error = np.linalg.norm(found - flow, axis=-1)
    inside = ((target >= 0) & (target <= size)).all(-1)
    sure = certainty > 0.5
    means = [f"{error[chosen].mean():.3f}" for chosen in (np.full_like(sure, 1), inside, sure)]
    return (name, *means, f"{sure.mean():.1%}")


if __name__ == "__main__":
    main()
