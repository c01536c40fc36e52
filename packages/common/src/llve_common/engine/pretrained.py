"""Networks of others that a paper uses but does not train, from their authors' files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from llve_common.engine.checkpoint import load_into, read_weights
from llve_common.errors import CheckpointError
from llve_common.flow.raft import Raft
from llve_common.nn.vgg import Vgg19Features, without_unused

Statistics = Literal["batch", "running"]
"""What batch norm normalises by: the images at hand, or what training collected."""


def load_raft(path: Path, *, statistics: Statistics = "batch") -> Raft:
    """RAFT with published weights, large or small as the file is, not to be trained.

    Args:
        path: such as ``raft-things.pth`` or ``raft-small.pth``; a ``module.`` prefix is removed.
        statistics: ``"batch"`` keeps training mode, as TCE-Net's published trainer and tester do
            (the running statistics move); ``"running"`` is evaluation mode, as RAFT is meant.

    Raises:
        CheckpointError: the file is missing, unreadable, or does not fit RAFT.
    """
    _require_file(
        path,
        "RAFT",
        source="raft-things.pth or raft-small.pth of models.zip, to which RAFT's authors link at "
        "https://github.com/princeton-vl/RAFT",
        without="flow: dis needs no weights",
    )
    state = read_weights(path)
    network = Raft(small="update_block.gru.convz.weight" in state)
    load_into(network, state, path)
    return network.requires_grad_(False).train(statistics == "batch")


def load_vgg19(path: Path) -> Vgg19Features:
    """VGG-19's features with torchvision's ImageNet weights, not to be trained.

    Args:
        path: such as ``vgg19-dcbb9e9d.pth``, with or without its classifier.

    Raises:
        CheckpointError: the file is missing, unreadable, or does not fit VGG-19.
    """
    _require_file(
        path,
        "VGG-19",
        source="torchvision's ImageNet weights, "
        "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        without="perceptual: off needs none",
    )
    features = Vgg19Features()
    load_into(features, without_unused(read_weights(path), features), path)
    return features.requires_grad_(False).eval()


def _require_file(path: Path, name: str, *, source: str, without: str) -> None:
    if not path.is_file():
        raise CheckpointError(
            f"the weights of {name} are not here",
            where=path,
            expected=source,
            mend=f"fetch them and say where they are; {without}",
        )
