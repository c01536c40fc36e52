"""A paper's network with weights, ready to use."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from llve_common.config import AnyPrecision
from llve_common.errors import CheckpointError, UserError, in_one_line
from llve_common.machine.device import choose_precision
from llve_common.metrics.cost import parameter_count
from llve_common.paper.about import About
from llve_common.paper.contract import LoadedWeights, Model, Paper, State
from llve_common.paper.installed import installed_papers, load_paper
from llve_common.weights.files import load_into, read_weights, require_fit
from llve_common.weights.published import ways_to_weights, weights_file

_MOST_BY_DEFAULT = 1_000


def bundled_weights(paper: About) -> Path:
    """The weights file that comes with a paper's package.

    Raises:
        CheckpointError: the paper has none.
    """
    if paper.bundled_file is None:
        raise CheckpointError(
            "no weights come with this package",
            where=paper.name,
            mend=f"give {ways_to_weights(paper)}",
        )
    return paper.bundled_file


def load_model(
    paper: Paper,
    weights: Path | None,
    device: torch.device,
    settings: Any = None,
    precision: AnyPrecision = "fp32",
) -> Model:
    """Build the inference network and load weights into it, every name and shape as expected.

    Args:
        paper: whose network.
        weights: a file under published or our names, a checkpoint, or ``published:NAME``; None: the
            bundled ones.
        device: where the network is put.
        settings: of a test or a training; None: those that enhancing uses.
        precision: the number format to enhance in.

    Raises:
        CheckpointError: the file cannot be read or does not fit.
        ConfigError: the device has no such number format.
    """
    # Papers that prepare their networks are bound by memory, and have float32 kernels of their own.
    chosen = choose_precision(precision, device, pays=paper.prepare is None)
    path = weights_file(weights or bundled_weights(paper), paper)
    found = read_weights(path)
    try:
        network = fitting_network(paper, paper.from_published(found), path, settings)
    except CheckpointError as error:
        owners = [each.name for each in _papers_of(found) if each.name != paper.name]
        if not owners:
            raise
        what, mend = f"not weights of {paper.name}", f"{owners[0]} enhance ... --weights {path}"
        raise CheckpointError(what, where=path, got=f"weights of {owners[0]}", mend=mend) from error
    loaded = LoadedWeights.of(path, bundled=weights is None)
    return Model(paper, network.to(device).eval(), settings, loaded, chosen)


def start_from(network: nn.Module, weights: Path | None, paper: About) -> None:
    """Load the weights that a training starts from, under our names; None leaves all as it is.

    Raises:
        CheckpointError: the file cannot be read or does not fit.
    """
    if weights is not None:
        path = weights_file(weights, paper)
        load_into(network, read_weights(path), path)


def paper_of(path: Path) -> Paper:
    """The installed paper whose network a file's weights fit.

    Raises:
        CheckpointError: the file cannot be read, or fits none.
    """
    owners = list(_papers_of(read_weights(path)))
    if not owners:
        what, mend = "the weights fit no installed paper", "install the paper that they are of"
        raise CheckpointError(what, where=path, expected=", ".join(installed_papers()), mend=mend)
    return owners[0]


def used_parameters(model: Model) -> int:
    """Learnable values that an enhanced frame depends on: files may hold more, for training."""
    window = model.window
    side = window.multiple * -(-16 // window.multiple)
    frames = torch.rand(1, len(window.inputs), 3, side, side, device=model.device)
    return parameter_count(model.network, lambda: model.paper.enhance(model.network, frames))


def _papers_of(found: State) -> Iterator[Paper]:
    """The installed papers whose networks these weights fit."""
    for entry in installed_papers().values():
        try:
            paper = load_paper(entry)
            fitting_network(paper, paper.from_published(found), Path(entry.name))
        except UserError:
            continue
        yield paper


def fitting_network(paper: Paper, state: State, path: Path, settings: Any = None) -> nn.Module:
    """The inference network that weights under our names are of, with the weights loaded.

    It is built without memory first, and with it only once every name and shape fits: the names
    and shapes in a file may promise any size.

    Raises:
        CheckpointError: the weights are of no network of the paper.
    """
    try:
        with torch.device("meta"), _Outline(len(state)), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of layers without a channel
            promised = paper.network(state, settings)
    except (UserError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        what = "the paper has no network with weights of such shapes"
        raise CheckpointError(what, where=path, got=in_one_line(error)) from error
    require_fit(promised, state, path)
    network = paper.network(state, settings)
    network.load_state_dict(state)
    return network


class _Outline(TorchFunctionMode):
    """Makes no more weights than a file holds, and draws no values for them.

    For tensors without memory torch would import its compiler to draw.
    """

    def __init__(self, held: int) -> None:
        super().__init__()
        # A file that lacks weights is told which, by the network as it is by default.
        self._left = max(held, _MOST_BY_DEFAULT)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._left -= func is torch.empty
        if self._left < 0:
            raise ValueError("its names are of layers that the file holds no weights of")
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))


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
