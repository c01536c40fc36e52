"""What a network that begins with pixels does at first."""

import pytest
import torch
import torch.nn.functional as F

from llve_common.config import load_settings
from llve_common.errors import ConfigError
from llve_sdsd.config import TrainSettings
from llve_sdsd.network import RetinexNet
from llve_sdsd.paper import build_network
from llve_sdsd.pixels import CHANNELS, begin_with_pixels

WORDS = [
    "objective.exposure=2",
    "network.groups=1",
    "network.front_blocks=1",
    "network.back_blocks=1",
]


@pytest.mark.parametrize("attention", [True, False])
@torch.no_grad()
def test_a_frame_is_mixed_with_a_smooth_one_at_first(attention):
    torch.manual_seed(0)
    network = RetinexNet(
        CHANNELS + 1, groups=1, front_blocks=1, back_blocks=1, attention=attention, last_features=4
    )
    begin_with_pixels(network, exposure=3)
    for blocks in (network.feature_extraction, network.recon_trunk, network.recon_trunk_denoise):
        blocks[0].conv2.weight.zero_()
    frames = torch.rand(1, 5, 3, 64, 64) * 0.1
    found = network(frames)
    # Red and blue pass at half the size; of the mean of all three no pixel is lost.
    luma = frames[:, 2].mean(1, keepdim=True)
    denoised = luma + 2 * smoothed(luma, 1.5)
    light = 3 * (0.06 + 0.8 * smoothed(luma, 100))
    inside = (..., slice(8, -8), slice(8, -8))
    for image, expected in ((found.denoised, denoised), (found.illumination, light)):
        assert (image.mean(1, keepdim=True) - expected)[inside].abs().max() < 1e-5


def smoothed(luma, sigma):
    """A Gaussian of the 3x3 blocks around the 4x4 pixels of each block."""
    far = torch.arange(12)
    weights = torch.stack([
        torch.exp(-((far[:, None] - row) ** 2 + (far - column) ** 2) / (2 * sigma**2)).flatten()
        for row in range(4, 8)
        for column in range(4, 8)
    ])  # fmt: skip
    weights /= weights.sum(1, keepdim=True)
    blocks = weights @ F.unfold(luma, 12, padding=4, stride=4)
    return F.fold(blocks, luma.shape[-2:], 4, stride=4)


def test_a_training_begins_with_pixels_where_its_settings_say_so():
    words = [*WORDS, f"network.nf={CHANNELS}", "network.last_features=3"]
    networks = []
    for begin in ("random", "pixels"):
        torch.manual_seed(0)
        settings = load_settings(TrainSettings, overrides=[*words, f"network.begin={begin}"])
        networks.append(build_network(settings))
    assert not torch.equal(*(network.conv_first_1.weight for network in networks))
    begin_with_pixels(networks[0], settings.objective.exposure)
    for weights in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(*weights)


@pytest.mark.parametrize("word", [f"network.nf={CHANNELS - 1}", "network.last_features=2"])
def test_too_few_channels_for_pixels_are_refused(word):
    with pytest.raises(ConfigError, match="pixels need nf of 24"):
        load_settings(TrainSettings, overrides=[*WORDS, word, "network.begin=pixels"])


def test_a_setting_that_is_wrong_itself_is_what_the_message_is_of():
    with pytest.raises(ConfigError, match=r"last_features.*0"):
        load_settings(TrainSettings, overrides=["network.last_features=0", "network.begin=pixels"])
