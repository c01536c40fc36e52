"""A paper's network with weights, ready to use."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llve_common.errors import CheckpointError, UserError, in_one_line
from llve_common.paper.contract import LoadedWeights, Model, Paper, State
from llve_common.weights.files import file_digest, read_weights, require_fit


def bundled_weights(paper: Paper) -> Path:
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
    network = fitting_network(paper, paper.from_published(read_weights(path)), path, settings)
    loaded = LoadedWeights(path, file_digest(path), weights is None)
    return Model(paper, network.to(device).eval(), settings, loaded)


def fitting_network(paper: Paper, state: State, path: Path, settings: Any = None) -> nn.Module:
    """The inference network that weights under our names are of, with the weights loaded.

    It is built without memory first, and with it only once every name and shape fits: the shapes
    in a file may promise any size.

    Raises:
        CheckpointError: the weights are of no network of the paper.
    """
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of layers without a channel
            promised = paper.network(state, settings)
    except (UserError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        what = "the paper has no network with weights of such shapes"
        raise CheckpointError(what, where=path, got=in_one_line(error)) from error
    require_fit(promised, state, path)
    network = paper.network(state, settings)
    network.load_state_dict(state)
    return network


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
