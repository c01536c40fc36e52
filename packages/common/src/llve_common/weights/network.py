"""A paper's network with weights, ready to use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llve_common.errors import CheckpointError
from llve_common.paper.about import About
from llve_common.paper.contract import LoadedWeights, Model, Paper
from llve_common.weights.files import file_digest, load_into, read_weights


def bundled_weights(paper: About) -> Path:
    """The weights file that comes with a paper's package.

    Raises:
        CheckpointError: the paper has none.
    """
    if paper.bundled is None:
        raise CheckpointError(
            "no weights come with this package",
            where=paper.name,
            mend="give a weights file: a published one, or one of your own training",
        )
    return Path(str(files(paper.package) / "bundled" / paper.bundled))


def load_model(
    paper: Paper, weights: Path | None, device: torch.device, settings: Any = None
) -> Model:
    """Build the inference network and load weights into it, every name and shape as expected.

    Args:
        paper: whose network.
        weights: a file under published or our names, or a checkpoint; None: the bundled ones.
        device: where the network is put.
        settings: of a test or a training; None: those that enhancing uses.

    Raises:
        CheckpointError: the file cannot be read or does not fit.
    """
    path = bundled_weights(paper) if weights is None else weights
    state = paper.from_published(read_weights(path))
    network = paper.network(state, settings)
    load_into(network, state, path)
    loaded = LoadedWeights(path, file_digest(path), weights is None)
    return Model(paper, network.to(device).eval(), settings, loaded)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the modes from before come back at the end."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
