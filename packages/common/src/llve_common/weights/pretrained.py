"""Networks of others that papers and measures use but do not train, from their authors' files.

A file is given by its path, or as ``published:NAME`` of the core.
"""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llve_common.config import Statistics
from llve_common.errors import CheckpointError
from llve_common.flow.raft import Raft, raft_frame_flow
from llve_common.io.digest import file_digest
from llve_common.metrics.temporal import DIS, NamedFlow
from llve_common.nn.lpips import Lpips, lpips
from llve_common.nn.vgg import Vgg19Features, without_unused
from llve_common.weights.files import load_into, read_weights
from llve_common.weights.published import weights_file

Distance = Callable[[NDArray[np.uint8], NDArray[np.uint8]], float]

_RAFT = (
    "raft-things.pth or raft-small.pth of models.zip, to which RAFT's authors link at "
    "https://github.com/princeton-vl/RAFT"
)
_ALEXNET = "torchvision's, https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
_VGG19 = "torchvision's ImageNet weights, https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"


def load_raft(
    path: Path, *, statistics: Statistics = "batch", without: str = "flow: dis needs no weights"
) -> Raft:
    """RAFT with published weights, large or small as the file is, not to be trained.

    Args:
        path: such as ``raft-things.pth`` or ``published:raft-small``; a ``module.`` prefix is
            removed.
        statistics: ``"batch"`` keeps training mode, as TCE-Net's published trainer and tester do
            (the running statistics move); ``"running"`` is evaluation mode, as RAFT is meant.
        without: what the user does who has no such file, for the message.

    Raises:
        CheckpointError: the file is missing, unreadable, or does not fit RAFT, or its values are
            not finite.
    """
    path = weights_file(path)
    _require_file(path, "RAFT", _RAFT, without)
    state = read_weights(path)
    network = Raft(small="update_block.gru.convz.weight" in state)
    load_into(network, state, path)
    # Its flow would be valid nowhere, so that nothing would be measured, and nothing said.
    _require_finite(state, path, "RAFT")
    return network.requires_grad_(False).train(statistics == "batch")


def warping_flow(weights: Path | None, device: torch.device) -> NamedFlow:
    """The flow along which warping error is measured: RAFT's with weights, else DIS.

    RAFT is fed [-1, 1] and normalises by its running statistics, as its weights were trained.

    Raises:
        CheckpointError: as :func:`load_raft`.
    """
    if weights is None:
        return DIS
    weights = weights_file(weights)
    network = load_raft(weights, statistics="running", without="without --raft it is by DIS")
    name = f"RAFT, {weights.name}, sha256 {file_digest(weights)[:12]}..."
    return NamedFlow(name, partial(raft_frame_flow, network.to(device)))


def perceptual_distance(path: Path | None, device: torch.device) -> Distance | None:
    """LPIPS of two 8-bit images (H, W, 3), RGB, by :func:`llve_common.nn.lpips.lpips`.

    Args:
        path: AlexNet with torchvision's ImageNet weights, such as ``alexnet-owt-7be5be79.pth``,
            with or without its classifier, or ``published:alexnet``; None: none is measured. The
            weights of LPIPS's layers come with the package.
        device: that computes it.

    Raises:
        CheckpointError: the file is missing, unreadable, or does not fit AlexNet, or its values
            are not finite.
    """
    if path is None:
        return None
    path = weights_file(path)
    _require_file(path, "AlexNet", _ALEXNET, "without --lpips it is not measured")
    state = read_weights(path)
    state = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    with as_file(files("llve_common.nn").joinpath("lpips.npz")) as own, np.load(own) as held:
        state |= {key: torch.from_numpy(held[key]) for key in held.files}
    network = Lpips()
    load_into(network, state, path)
    _require_finite(state, path, "AlexNet")
    return partial(lpips, network.requires_grad_(False).eval().to(device))


def load_vgg19(path: Path) -> Vgg19Features:
    """VGG-19's features with torchvision's ImageNet weights, not to be trained.

    The file is such as ``vgg19-dcbb9e9d.pth``, with or without its classifier.

    Raises:
        CheckpointError: the file is missing, unreadable, or does not fit VGG-19.
    """
    _require_file(path, "VGG-19", _VGG19, "perceptual: off needs none")
    features = Vgg19Features()
    load_into(features, without_unused(read_weights(path), features), path)
    return features.requires_grad_(False).eval()


def _require_finite(state: Mapping[str, Tensor], path: Path, whose: str) -> None:
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{whose}'s weights are not finite numbers", where=path, got=name)


def _require_file(path: Path, name: str, source: str, without: str) -> None:
    if not path.is_file():
        raise CheckpointError(
            f"the weights of {name} are not here",
            where=path,
            expected=source,
            mend=f"get them as 'weights fetch' says, and give their path; {without}",
        )
