"""TCE-Net's objective by its own rules; nothing here needs a file."""

import numpy as np
import pytest
import torch

from llve_tcenet.config import ObjectiveSettings
from llve_tcenet.objective import spatial_losses, temporal_consistency
from llve_tcenet.paper import dis_flow_of, notices


def no_motion(first, second):
    return torch.zeros(first.shape[0], 2, *first.shape[2:])


def test_perceptual_loss_is_left_out_where_nothing_is_compared():
    images = [torch.rand(1, 3, 16, 16)] * 2
    assert spatial_losses(images, images, None).keys() == {"charbonnier", "edge"}
    losses = spatial_losses(images, images, lambda image: [image])
    assert losses["perceptual"] == 0
    other = [image + 0.25 for image in images]
    assert spatial_losses(images, other, lambda image: [image, image])["perceptual"] == 1


def test_temporal_loss_follows_the_motion():
    frame = torch.rand(1, 3, 16, 24)
    moved = frame.roll(2, dims=-1)

    def right(first, second):
        flow = no_motion(first, second)
        # What is at x in the first frame is at x + 2 in the moved one.
        flow[:, 0] = 2 if torch.equal(first, frame) else -2
        return flow

    assert temporal_consistency(frame, moved, right) < temporal_consistency(frame, moved, no_motion)


def test_dis_flow_of_batches_has_no_gradient():
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((2, 3, 12, 16)).astype(np.float32))
    frame = torch.nn.functional.interpolate(coarse, size=(96, 128), mode="bicubic").clamp(0, 1)
    moved = frame.roll(3, dims=-1).requires_grad_()
    flow = dis_flow_of(frame, moved)
    assert flow.shape == (2, 2, 96, 128)
    assert not flow.requires_grad
    assert flow[:, 0, 20:-20, 20:-20].median().item() == pytest.approx(3, abs=0.3)


def test_what_the_objective_lacks_is_said():
    assert notices(ObjectiveSettings()) == []
    lacking = notices(ObjectiveSettings(perceptual=False, flow="dis"))
    assert ["perceptual" in lacking[0], "DIS" in lacking[1]] == [True, True]
