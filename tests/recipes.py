"""Weights and inputs that are made from a seed, so that reference values need not store them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llve_common.io.images import write_image


def image_recipe_weights(
    entries: Mapping[str, Mapping[str, Any]], seed: int, gain: float = 1.0
) -> dict[str, Tensor]:
    """The weights of the SCI and SGZ reference set.

    One generator for the whole state dict, keys in sorted order: integer tensors are 0 and draw
    nothing; all others draw standard normal float32 values times 0.05 ``gain``; a ``running_var``
    is its draw's absolute value plus 0.5, a one-dimensional ``weight`` its draw plus 1.

    Args:
        entries: published key to ``shape`` and ``dtype``, aliases included.
        seed: of the generator.
        gain: of the draws.
    """
    rng = np.random.default_rng(seed)
    state: dict[str, Tensor] = {}
    for key in sorted(entries):
        shape, kind = tuple(entries[key]["shape"]), entries[key]["dtype"]
        if kind.startswith("int"):
            state[key] = torch.zeros(shape, dtype=getattr(torch, kind))
            continue
        draw = np.asarray(rng.standard_normal(shape)).astype(np.float32) * np.float32(0.05 * gain)
        if key.endswith("running_var"):
            draw = np.abs(draw) + np.float32(0.5)
        elif key.endswith("weight") and len(shape) == 1:
            draw = np.float32(1) + draw
        state[key] = torch.from_numpy(np.asarray(draw, np.float32))
    return state


def tcenet_recipe_weights(keys: Mapping[str, Any], seed: int, scale: float) -> dict[str, Tensor]:
    """The weights of the TCE-Net reference set, of RAFT and VGG-19 there as well.

    One generator for the whole state dict, keys in plain string order (``features.10`` comes
    before ``features.2``): integer tensors are 0 and draw nothing; all others draw standard normal
    float32 values times ``scale``; a ``running_var`` is its draw's absolute value plus 0.5, the
    weight of a normalisation its draw plus 1. Both names of a layer that RAFT registers twice draw;
    the one loaded last, ``downsample.1``, is what the network keeps.

    Args:
        keys: a ``keys_*.json`` file of the set: ``keys`` maps each published key to ``shape`` and
            ``dtype``, ``norm_weight_keys`` lists the weights of normalisations.
        seed: of the generator.
        scale: of the draws.
    """
    rng = np.random.default_rng(seed)
    state: dict[str, Tensor] = {}
    for key, entry in sorted(keys["keys"].items()):
        if not entry["dtype"].startswith("float"):
            state[key] = torch.zeros(entry["shape"], dtype=getattr(torch, entry["dtype"]))
            continue
        draw = np.asarray(rng.standard_normal(entry["shape"])).astype(np.float32)
        draw = draw * np.float32(scale)
        if key.endswith("running_var"):
            draw = np.abs(draw) + np.float32(0.5)
        elif key in keys["norm_weight_keys"]:
            draw = np.float32(1) + draw
        state[key] = torch.from_numpy(np.asarray(draw, np.float32))
    return state


def normal_values(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal float32 values."""
    draw = np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy(draw.astype(np.float32))


def uniform_values(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Uniform float32 values in [0, 1)."""
    return torch.from_numpy(np.random.default_rng(seed).random(shape).astype(np.float32))


def low_light_input(seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A dark random image: uniform to the power 2.2, times 0.3."""
    return (np.random.default_rng(seed).random(shape) ** 2.2 * 0.3).astype(np.float32)


def video_recipe_weights(
    shapes: Mapping[str, Sequence[int]],
    seed: int,
    scale: float = 0.05,
    overrides: Sequence[tuple[str, float]] = (),
) -> dict[str, Tensor]:
    """The weights of the SDSD and STCD reference set: all floating, without running statistics.

    As :func:`image_recipe_weights`, but a ``temperature`` too is its draw plus 1, and the draws of
    a key are scaled by the first override whose pattern is found in it.

    Args:
        shapes: published key to shape.
        seed: of the generator.
        scale: of the draws.
        overrides: pattern and scale.
    """
    rng = np.random.default_rng(seed)
    state: dict[str, Tensor] = {}
    for key in sorted(shapes):
        own = next((value for pattern, value in overrides if re.search(pattern, key)), scale)
        draw = rng.standard_normal(tuple(shapes[key])).astype(np.float32) * np.float32(own)
        norm = key.endswith("weight") and draw.ndim == 1
        one = np.float32(norm or key.endswith("temperature"))
        state[key] = torch.from_numpy(one + draw)
    return state


def fingerprint(array: NDArray[Any]) -> NDArray[np.float64]:
    """Thirteen numbers: mean, deviation, L2 norm, least, largest, eight evenly spaced values."""
    flat = np.asarray(array, np.float64).ravel()
    places = np.linspace(0, flat.size - 1, 8).astype(int)
    summary = [flat.mean(), flat.std(), np.linalg.norm(flat), flat.min(), flat.max()]
    return np.concatenate([summary, flat[places]])


def sdsd_frame(
    seed: int, pair: int, time: int, kind: int, height: int, width: int
) -> NDArray[np.uint8]:
    """A frame of the SDSD and STCD reference set's video, (H, W, 3) uint8 RGB.

    Args:
        seed: of the set.
        pair: the clip's number.
        time: the frame's number.
        kind: 0 in normal light, 1 in low light.
        height: in pixels.
        width: in pixels.
    """
    rng = np.random.default_rng([seed, pair, time, kind])
    y = np.arange(height)[:, None, None] / height
    x = np.arange(width)[None, :, None] / width
    tint = 0.15 * np.array([0.9, 0.6, 0.3])
    waves = 0.3 * np.sin(6.0 * x + 0.35 * time + pair) * np.cos(5.0 * y - 0.2 * time)
    frame = 0.5 + waves + tint + rng.normal(0, 0.03, (height, width, 3))
    if kind == 1:
        dark = np.clip(frame, 0, 1) ** 2.2 * 0.3
        frame = dark + rng.normal(0, 0.02, (height, width, 3))
    # The recipe's channels are B, G, R.
    return np.clip(np.round(frame * 255), 0, 255).astype(np.uint8)[..., ::-1]


def write_sdsd_set(folder: Path, dataset: Mapping[str, Any]) -> Path:
    """Write the reference set's video in the SDSD layout.

    Args:
        folder: for ``GT`` and ``input``.
        dataset: the entry of that name in the reference file.
    """
    pairs: Mapping[str, int] = dataset["pairs_in_recipe_order"]
    size = dataset["height"], dataset["width"]
    for number, (pair, length) in enumerate(pairs.items()):
        for time in range(length):
            for kind, side in enumerate(("GT", "input")):
                frame = sdsd_frame(dataset["seed"], number, time, kind, *size)
                write_image(folder / side / pair / f"{time:04d}.npy", frame)
    return folder
