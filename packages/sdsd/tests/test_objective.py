"""The losses, on values that can be checked by hand."""

import pytest
import torch

from llve_sdsd.network import Decomposition
from llve_sdsd.objective import charbonnier, illumination_target, l1, noisier, supervised_losses


def tiny(frames: torch.Tensor) -> Decomposition:
    """A "network" whose outputs are simple functions of frame 2."""
    centre = frames[:, 2]
    return Decomposition(centre + 1, centre + 2, centre + 3)


def test_criteria_are_sums():
    image, target = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    assert l1(image, target) == 3
    expected = (9 + 1e-6) ** 0.5 + 1e-3
    torch.testing.assert_close(charbonnier(image, target), torch.tensor(expected))
    assert l1(image.repeat(2, 1), target.repeat(2, 1)) == 6


def test_noisier_doubles_the_distance_from_the_mean_of_each_frame_and_channel():
    torch.manual_seed(0)
    frames = torch.rand(2, 5, 3, 4, 6, dtype=torch.double)
    copy = noisier(frames)
    for index in ((0, 0, 0), (1, 4, 2)):
        plane = frames[index]
        torch.testing.assert_close(copy[index], 2 * plane - plane.mean())


@pytest.mark.parametrize(("weight", "exposure", "denoised"), [(1, 1, 1), (0.25, 1, 1), (1, 4, 0.5)])
def test_each_loss_by_hand(weight, exposure, denoised):
    torch.manual_seed(0)
    frames = torch.rand(2, 5, 3, 4, 6, dtype=torch.double)
    truth = torch.rand(2, 3, 4, 6, dtype=torch.double)
    centre, copy = frames[:, 2], noisier(frames)[:, 2]
    light = exposure * centre / (truth + 1e-4)
    losses = supervised_losses(
        tiny, frames, truth,
        criterion="l1", pixel_weight=weight, exposure=exposure, denoised_weight=denoised,
    )  # fmt: skip
    expected = {
        "enhanced": 0.5 * (centre + 1 - truth).abs().sum(),
        "enhanced_noisier": 0.5 * (copy + 1 - truth).abs().sum(),
        "illumination": 0.25 / exposure * (centre + 2 - light).abs().sum(),
        "illumination_noisier": 0.25 / exposure * (copy + 2 - light).abs().sum(),
        "denoised": denoised / exposure * (copy + 3 - exposure * centre).abs().sum(),
    }
    torch.testing.assert_close(losses, {name: weight * loss for name, loss in expected.items()})


def test_the_criterion_compares_images_and_never_the_illumination():
    torch.manual_seed(0)
    frames, truth = torch.rand(1, 5, 3, 4, 4), torch.rand(1, 3, 4, 4)
    by = {name: supervised_losses(tiny, frames, truth, criterion=name) for name in ("cb", "l1")}
    differ = {name for name in by["cb"] if by["cb"][name] != by["l1"][name]}
    assert differ == {"enhanced", "enhanced_noisier", "denoised"}


def test_the_illumination_target_is_not_clipped_and_takes_no_gradient():
    dark = torch.tensor([0.5], requires_grad=True)
    target = illumination_target(dark, torch.tensor([0.0]))
    assert target.item() == pytest.approx(5000)
    assert not target.requires_grad


def test_windows_of_three_frames_take_the_last_one_as_the_centre():
    torch.manual_seed(0)
    frames, truth = torch.rand(1, 3, 3, 4, 4), torch.rand(1, 3, 4, 4)
    loss = supervised_losses(tiny, frames, truth, criterion="l1")["enhanced"]
    torch.testing.assert_close(loss, 0.5 * (frames[:, 2] + 1 - truth).abs().sum())
