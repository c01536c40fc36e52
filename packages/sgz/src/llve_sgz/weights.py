"""The published weights' key names, which are ours too, and the segmentation network's files."""

from pathlib import Path

from torch import nn

from llve_common.nn.resnet import without_classifier
from llve_common.paper.contract import State
from llve_common.weights.files import load_into, read_weights
from llve_sgz.config import ConvType
from llve_sgz.network import Segmenter


def conv_type_of(state: State) -> ConvType:
    """Which convolutions a network of these weights has; the published default if it is foreign."""
    return "tc" if "e_conv1.conv.weight" in state else "dsc"


def load_segmenter(network: Segmenter, path: Path) -> None:
    """Load a whole segmentation network, or a ResNet-50 with torchvision's names alone.

    Raises:
        CheckpointError: the file cannot be read or fits neither.
    """
    state = read_weights(path)
    whole = any(key.startswith("fpn.") for key in state)
    target: nn.Module = network if whole else network.resnet
    load_into(target, state if whole else without_classifier(state), path)
