"""Weights and inputs that are made from a seed, so that reference values need not store them.

Seeds, sizes and scales are arguments: they come from the reference files. What only the prose of a
set's README says stands here, and says so.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from llve_common.enhance.frames import enhance_frames
from llve_common.evaluate.protocols import data_digest, find_protocol
from llve_common.io.images import to_pixels, to_tensor, write_image
from llve_common.metrics.cost import parameter_count
from llve_common.paper.contract import Model, Paper
from llve_common.testing.reference import Case, reference_json
from llve_common.train.batches import stack_samples

Network = TypeVar("Network", bound=nn.Module)

# Weights


def recipe_weights(
    entries: Mapping[str, Any],
    seed: int,
    scale: float | Callable[[str, Sequence[int]], float] = 0.05,
    *,
    overrides: Sequence[Sequence[Any]] = (),
    norms: Collection[str] | None = None,
) -> dict[str, Tensor]:
    """The weights of every reference set, of published keys with their shapes (and ``dtype``).

    One generator for the whole state dict, keys in plain string order (``features.10`` comes
    before ``features.2``), all names of a layer that has several included. Integer tensors are 0
    and draw nothing; all others draw standard normal float32 values times the scale, or times that
    of the first override whose pattern is found in the key. To the weights of normalisations
    (``norms``; None: the one-dimensional ones) and to temperatures 1 is added; a ``running_var``
    is its draw's absolute value plus 0.5.
    """
    rng = np.random.default_rng(seed)
    state: dict[str, Tensor] = {}
    for key in sorted(entries):
        entry = entries[key]
        kind = entry["dtype"] if isinstance(entry, dict) else "float32"
        shape = tuple(entry["shape"] if isinstance(entry, dict) else entry)
        if not kind.startswith("float"):
            state[key] = torch.zeros(shape, dtype=getattr(torch, kind))
            continue
        usual = scale if isinstance(scale, float) else scale(key, shape)
        own = next((value for pattern, value in overrides if re.search(pattern, key)), usual)
        draw = np.asarray(rng.standard_normal(shape)).astype(np.float32) * np.float32(own)
        one = key.endswith("weight") and len(shape) == 1 if norms is None else key in norms
        if key.endswith("running_var"):
            draw = np.abs(draw) + np.float32(0.5)
        elif one or key.endswith("temperature"):
            draw = np.float32(1) + draw
        state[key] = torch.from_numpy(np.asarray(draw, np.float32))
    return state


def with_recipe(network: Network, facts: Mapping[str, Any]) -> Network:
    """A network with the weights of a case of the SDSD and STCD set."""
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    seed = facts["weight_seed"] if "weight_seed" in facts else facts["seed"]
    state = recipe_weights(shapes, seed, facts["scale"], overrides=facts["overrides"])
    network.load_state_dict(state)
    return network


def tcenet_recipe_weights(keys: Mapping[str, Any], seed: int, scale: float) -> dict[str, Tensor]:
    """The weights of a ``keys_*.json`` file of the TCE-Net set."""
    return recipe_weights(keys["keys"], seed, scale, norms=keys["norm_weight_keys"])


def with_tcenet_recipe(
    build: Callable[[dict[str, Tensor]], Network], keys: str, seed: int, scale: float
) -> Network:
    """The network that ``build`` makes for the weights of such a file, with them, to evaluate."""
    state = tcenet_recipe_weights(reference_json(f"tcenet/{keys}"), seed, scale)
    network = build(state)
    network.load_state_dict(state)
    return network.eval()


# Of the weights of two or more dimensions; the README of the DKM set lists them.
_DKM_GAINS = {
    r"^encoder\.": 0.8,
    r"^decoder\.proj\.": 0.7,
    r"^decoder\.gps\.": 0.6,
    r"^decoder\.embedding_decoder\.rrb_[du]\.": 0.9,
    r"^decoder\.embedding_decoder\.terminal_module\.": 2.0,
    r"^decoder\.conv_refiner\..*\.out_conv\.": 1.5,
}


def dkm_scale(key: str, shape: Sequence[int]) -> float:
    """The scale of the DKM set: 0.1 for vectors, a gain over the root of the fan-in for others."""
    gain = next((gain for pattern, gain in _DKM_GAINS.items() if re.search(pattern, key)), 1.0)
    return 0.1 if len(shape) == 1 else gain / float(np.sqrt(np.prod(shape[1:])))


# Inputs


def normal_values(seed: int, shape: Sequence[int]) -> Tensor:
    """Standard normal float32 values."""
    draw = np.random.default_rng(seed).standard_normal(tuple(shape))
    return torch.from_numpy(draw.astype(np.float32))


def uniform_values(seed: int, shape: Sequence[int]) -> Tensor:
    """Uniform float32 values in [0, 1)."""
    return torch.from_numpy(np.random.default_rng(seed).random(tuple(shape)).astype(np.float32))


def told_values(text: str, like: Tensor | None = None) -> Tensor:
    """What a text tells: ``uniform seed 63 shape [1,3,33,27]``, or a seed for another's shape."""
    found = re.search(r"seed (\d+)(?: shape)?(?: \[([\d, ]+)\])?", text)
    assert found, text
    if found[2] is None:
        assert like is not None, text
        return uniform_values(int(found[1]), like.shape)
    return uniform_values(int(found[1]), [int(side) for side in found[2].split(",")])


def low_light_input(seed: int, shape: Sequence[int]) -> NDArray[np.float32]:
    """A dark random image: uniform to the power 2.2, times 0.3."""
    return (np.random.default_rng(seed).random(tuple(shape)) ** 2.2 * 0.3).astype(np.float32)


def case_image(settings: Mapping[str, Any]) -> Tensor:
    """The dark image of a case of the SCI and SGZ set."""
    image = low_light_input(settings["input_seed"], settings["input_shape"])
    assert sha256(image) == settings.get("input_sha256", sha256(image))
    return torch.from_numpy(image)


def sha256(array: Any) -> str:
    """The digest of an array's bytes."""
    return hashlib.sha256(np.asarray(array).tobytes()).hexdigest()


def smooth_warp(
    seed: int, height: int, width: int, amplitude: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The STCD set's stand-in for a matcher: six plane waves each way, (H, 2W, 4) and (H, 2W)."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-1 + 1 / width, 1 - 1 / width, width)[None]
    y = np.linspace(-1 + 1 / height, 1 - 1 / height, height)[:, None]
    grid = np.broadcast_arrays(x, y)

    def waves(scale: float) -> NDArray[np.float64]:
        total = np.zeros((height, width))
        for _ in range(6):
            kx, ky = rng.uniform(-4, 4, 2)
            phase = rng.uniform(0, 2 * np.pi)
            total = total + rng.normal() * np.sin(kx * x + ky * y + phase)
        return scale * total / np.sqrt(6)

    halves, certainties = [], []
    for half in range(2):
        places = [axis + waves(amplitude) for axis in grid]
        certainty = 1 / (1 + np.exp(-(waves(2.5) + 0.5)))
        outside = np.any(np.abs(places) > 1, axis=0)
        places = list(np.clip(places, -1, 1))
        halves.append(np.stack([*grid, *places] if half == 0 else [*places, *grid], -1))
        certainties.append(np.where(outside, 0.0, certainty))
    warp, certainty = np.concatenate(halves, 1), np.concatenate(certainties, 1)
    return warp.astype(np.float32), certainty.astype(np.float32)


# What the sets tell of networks


def check_keys(state: Mapping[str, Tensor], entries: Mapping[str, Any]) -> None:
    """Assert that a state dict has the published names, shapes and types, in their order."""
    ours = [(key, list(value.shape), str(value.dtype)) for key, value in state.items()]
    assert ours == [(k, v["shape"], f"torch.{v['dtype']}") for k, v in entries.items()]


def check_variant(facts: Mapping[str, Any], network: nn.Module, paper: Paper) -> None:
    """Compare a new network's keys and counts with those of a variant of SDSD's or STCD's."""
    state = paper.to_published(network.state_dict())
    check_keys(state, facts["keys"])
    assert [name for name, _ in network.named_parameters()] == list(facts["keys"])
    assert len(state) == facts["number_of_keys"]
    assert len(list(network.buffers())) == facts["number_of_buffers"]
    assert parameter_count(network) == facts["parameter_count"]


def check_module(
    case: Case, module: nn.Module, run: Callable[..., Tensor], dtype: torch.dtype = torch.float32
) -> None:
    """Compare what a part of SDSD or STCD gives, and all gradients, with a case.

    ``run`` calls the part with the case's inputs.
    """
    facts, module = case.settings, with_recipe(module, case.settings).to(dtype)
    names, parameters = zip(*module.named_parameters(), strict=True)
    assert list(names) == facts["parameters_in_order"]
    inputs = [
        torch.from_numpy(case[f"input{index}"]).to(dtype).requires_grad_()
        for index in range(len(facts["inputs"]))
    ]
    output = run(*inputs)
    output.backward(torch.from_numpy(case["grad_output"]).to(dtype))
    assert relative_l2(output.detach(), case["output"]) <= 1e-5
    for index, each in enumerate(inputs):
        assert relative_l2(each.grad, case[f"grad_input{index}"]) <= 1e-4
    prints = case["grad_parameter_fingerprints"]
    for name, value, expected in zip(names, parameters, prints, strict=True):
        check_fingerprint(value.grad, expected, 1e-4, name)


def idle(network: nn.Module, outputs: Sequence[Tensor]) -> list[str]:
    """The names of the parameters that some outputs do not depend on."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    total = torch.stack([output.sum() for output in outputs]).sum()
    gradients = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
    return [name for name, value in zip(names, gradients, strict=True) if value is None]


def check_initial(state: Mapping[str, Tensor], expected: Mapping[str, Sequence[float]]) -> None:
    """Assert that new weights are distributed as published: mean, deviation, least, largest."""
    assert state.keys() == expected.keys()
    for key, (mean, std, least, largest) in expected.items():
        value = state[key].double()
        if std == 0:
            assert (value == mean).all(), key
            continue
        # Of n draws, the mean is known to std / sqrt(n), and the deviation to std / sqrt(2 n).
        known = std / value.numel() ** 0.5
        assert value.mean() == pytest.approx(mean, abs=8 * known), key
        assert value.std(correction=0) == pytest.approx(std, abs=6 * known), key
        extremes = abs(value.max() - largest) + abs(value.min() - least)
        assert extremes < 0.5 * (abs(least) + abs(largest)), key


# Arrays, whole and summarised


def check_arrays(case: Case, found: Mapping[str, Any], *inputs: str) -> None:
    """Compare every array of a case but its inputs and those of double precision."""
    for array in case.arrays:
        if array not in inputs and not array.startswith("f64"):
            case.check(array, found[array])


def thinned(array: str) -> tuple[str, int]:
    """Of an array ``NAME_s4``, ``NAME_every_4th`` or ``NAME``: of what, and at which step it is."""
    found = re.fullmatch(r"(.+?)(?:[_/]s(\d+)|_every_(\d+)(?:st|nd|rd|th))?", array)
    assert found, array
    return found[1], int(found[2] or found[3] or 1)


def check_thinned(case: Case, found: Mapping[str, tuple[Tensor, float]]) -> None:
    """Compare every array of a case, ``NAME_sSTEP``, with some pixels of planes (C, H, W).

    ``found`` holds the planes and their noise by name.
    """
    for array in case.arrays:
        name, step = thinned(array)
        planes, noise = found[name]
        case.check(array, planes[:, ::step, ::step].permute(1, 2, 0), noise)


def check_pixels(actual: Any, expected: Any, share: float = 1e-4) -> None:
    """Assert that pixels are one level off at most, and so on at most a share of the values."""
    difference = np.abs(np.asarray(actual, int) - expected)
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= share * difference.size


def plain_frame(paper: Paper, network: nn.Module, pixels: NDArray[Any]) -> NDArray[Any]:
    """Pixels enhanced by a network as it stands, padded and cropped, rounded as the paper does."""
    enhanced = enhance_frames(Model(paper, network), to_tensor(pixels)[None, None])[0, 0]
    return to_pixels(enhanced, paper.rounding, pixels.dtype)


def check_frames(actual: Iterable[NDArray[Any]], expected: Iterable[NDArray[Any]]) -> None:
    """Assert that frames equal others but for float32: see :func:`check_pixels`.

    A level of 8 bits is 257 of 16, and rounding in float32 is about one level of 16.
    """
    pairs = [(one.ravel(), other.ravel()) for one, other in zip(actual, expected, strict=True)]
    assert all(one.shape == other.shape and one.dtype == other.dtype for one, other in pairs)
    found, wanted = map(np.concatenate, zip(*pairs, strict=True))
    if found.dtype == np.uint8:
        check_pixels(found, wanted)
    else:
        assert np.abs(found.astype(int) - wanted).max() <= 2


def is_published_lol(folder: Path) -> bool:
    """Whether a folder holds the images of LOL's test, of which the specifications give scores."""
    return data_digest(folder) == find_protocol("lol-v1").sha256


def digest(state: Mapping[str, Tensor]) -> str:
    """The digest of a state dict's floating values in the order of their names."""
    floats = [v.numpy().tobytes() for _, v in sorted(state.items()) if v.is_floating_point()]
    return hashlib.sha256(b"".join(floats)).hexdigest()


def check_fingerprint(actual: Any, expected: Any, tolerance: float, name: str = "") -> None:
    """Compare an array with a fingerprint, relative to the largest value: some are near zero."""
    found, wanted = fingerprint(actual), np.asarray(expected)
    largest = np.abs(wanted[3:5]).max()
    scales = np.array([largest] * 2 + [wanted[2]] + [largest] * 10)
    assert (np.abs(found - wanted) <= tolerance * scales).all(), name


def fingerprint(array: Any) -> NDArray[np.float64]:
    """Thirteen numbers: mean, deviation, L2 norm, least, largest, eight evenly spaced values."""
    flat = np.asarray(array, np.float64).ravel()
    places = np.linspace(0, flat.size - 1, 8).astype(int)
    summary = [flat.mean(), flat.std(), np.linalg.norm(flat), flat.min(), flat.max()]
    return np.concatenate([summary, flat[places]])


def relative_l2(actual: Any, expected: Any) -> float:
    """The norm of the difference over that of what is expected."""
    wanted = np.asarray(expected, np.float64)
    difference = np.asarray(actual, np.float64) - wanted
    return float(np.linalg.norm(difference) / np.linalg.norm(wanted))


def state_summary(state: Mapping[str, Tensor]) -> dict[str, NDArray[np.float64]]:
    """What the SCI and SGZ training cases keep: ``p/KEY/stats`` and ``/samples``, and counters."""
    found = {}
    for key, value in state.items():
        flat = value.double().numpy().ravel()
        places = np.unique(np.linspace(0, flat.size - 1, min(flat.size, 8)).astype(int))
        found[f"p/{key}/stats"] = np.array([flat.mean(), flat.std(), np.linalg.norm(flat)])
        found[f"p/{key}/samples"] = flat[places]
        if not value.is_floating_point():
            found[f"p/{key}"] = value.numpy()
    return found


# Training


def training_steps(
    paper: Paper, settings: Any, network: nn.Module, image: Tensor, number: int
) -> Iterator[tuple[list[float], float]]:
    """Train on one batch by a paper's procedure: each step's losses, and its gradient's norm."""
    procedure = paper.procedures[settings.procedure]
    objective = procedure.objective(settings, torch.device("cpu"))
    optimizer = procedure.optimizer(settings, network)
    batch = stack_samples([{"low": one} for one in image])
    for iteration in range(1, number + 1):
        network.train()
        optimizer.zero_grad()
        losses = list(objective(network, batch, iteration).values())
        torch.stack(losses).sum().backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), settings.train.clip_norm)
        optimizer.step()
        yield [loss.item() for loss in losses], norm.item()


def check_parameters(actual: Any, expected: Any, rates: Any) -> None:
    """Compare the fingerprints (P, 13) of parameters after steps of Adam, at rates of some sum.

    Its first steps are about rate times sign: single values may differ by twice that.
    """
    limits = np.broadcast_to(rates, len(expected))
    difference = np.abs(actual - expected)
    rounding = 1e-6 * np.abs(expected[:, 3:5]).max(1)
    assert (difference[:, :2] <= (0.1 * limits + rounding)[:, None]).all()
    assert (difference[:, 2] <= 1e-3 * expected[:, 2]).all()
    assert (difference[:, 3:] <= (2.1 * limits + rounding)[:, None]).all()


def check_moments(
    optimizer: torch.optim.Adam, network: nn.Module, expected: Any, rtol: float
) -> None:
    """Compare Adam's state: of each parameter the number of steps, the norms of both moments."""
    states = [optimizer.state[parameter] for parameter in network.parameters()]
    norms = [[each[k].double().norm() for k in ("exp_avg", "exp_avg_sq")] for each in states]
    assert [float(each["step"]) for each in states] == expected[:, 0].tolist()
    np.testing.assert_allclose(norms, expected[:, 1:], rtol=rtol)


# The video of the SDSD and STCD set


def sdsd_frame(
    seed: int, pair: int, time: int, kind: int, height: int, width: int
) -> NDArray[np.uint8]:
    """A frame of a clip, both by number, in normal light (0) or low (1): (H, W, 3) uint8 RGB."""
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
    """Write the video in the SDSD layout, as the reference file's ``dataset`` tells."""
    pairs: Mapping[str, int] = dataset["pairs_in_recipe_order"]
    size = dataset["height"], dataset["width"]
    for number, (pair, length) in enumerate(pairs.items()):
        for time in range(length):
            for kind, side in enumerate(("GT", "input")):
                frame = sdsd_frame(dataset["seed"], number, time, kind, *size)
                write_image(folder / side / pair / f"{time:04d}.npy", frame)
    return folder


def write_smid_set(folder: Path, recipe: str, height: int, width: int) -> Path:
    """Write the video in the SMID layout, as the recipe of the reference file's ``smid`` tells.

    ``folder k (NAMES): LQ frames tiny_frame(SEED, k, t, 1), t < LENGTH + k; GT files NAMES = ...``
    """
    told = re.search(
        r"\(([\w, ]+)\): .*tiny_frame\((\d+), .*t < (\d+) \+ k; GT files (.*) = ", recipe
    )
    assert told, recipe
    seed, shortest = int(told[2]), int(told[3])
    for k, scene in enumerate(told[1].split(", ")):
        for t in range(shortest + k):
            frame = sdsd_frame(seed, k, t, 1, height, width)
            write_image(folder / "SMID_LQ_np" / scene / f"{t:04d}.npy", frame)
        for t, name in enumerate(told[4].split(", ")):
            frame = sdsd_frame(seed, k, t, 0, height, width)
            write_image(folder / "SMID_Long_np" / scene / name, frame)
    return folder
