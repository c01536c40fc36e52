import re
from collections.abc import Iterator

import numpy as np
import PIL.Image
import pytest
import torch

from llve_common.enhance.enhancer import Enhancer
from llve_common.errors import ConfigError, MediaError
from llve_common.paper.contract import Window

GAINS = np.array([1.0, 0.5, 0.25])
TYPES = ["uint8", "uint16", "float16", "float32", "float64"]


@pytest.fixture
def tinted(model):
    """Halves green and quarters blue, so that it shows which channel is which."""

    def make(inputs=(0,), **changes):
        gains = torch.tensor(GAINS, dtype=torch.float32)[:, None, None]
        middle = inputs.index(0)
        window = Window(inputs=inputs, **changes)
        enhance = lambda network, frames: frames[:, middle : middle + 1] * gains  # noqa: E731
        return Enhancer(model(enhance=enhance, window=window, rounding="half-even"))

    return make


def values(shape, dtype):
    draws = np.random.default_rng(0).random(shape)
    return draws.astype(dtype) if "f" in dtype else (draws * np.iinfo(dtype).max).astype(dtype)


def step(dtype):
    """The difference between neighbouring values near 1."""
    return np.finfo(np.promote_types(dtype, "float16")).eps if "f" in dtype else 1


@pytest.mark.parametrize("dtype", [*TYPES, ">f4"])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_arrays(tinted, dtype, order):
    enhancer, gains = tinted(), GAINS if order == "rgb" else GAINS[::-1]
    with_alpha = values((9, 14, 4), dtype)
    with_alpha.flags.writeable = False
    for given in (with_alpha, with_alpha[::2, ::-1, :3], with_alpha[..., 1]):
        before = given.copy()
        made = enhancer(given, order=order)
        assert (made.shape, made.dtype) == (given.shape, given.dtype)
        # Grey is the luma of what is made of it.
        by = gains if given.ndim == 3 else [[GAINS @ [0.299, 0.587, 0.114]]]
        colours, made_of = np.atleast_3d(made), np.atleast_3d(given)
        expected = made_of[..., : len(gains)] * by
        np.testing.assert_allclose(colours[..., :3], expected, atol=step(dtype), rtol=1e-3)
        np.testing.assert_array_equal(colours[..., 3:], made_of[..., 3:])
        np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("dtype", [*TYPES, "bfloat16"])
@pytest.mark.parametrize("shape", [(3, 9, 14), (2, 3, 9, 14)])
def test_tensors(tinted, dtype, shape):
    kind = getattr(torch, dtype)
    given = torch.from_numpy(values(shape, dtype if dtype in TYPES else "float32")).to(kind)
    made = tinted()(given.requires_grad_(kind.is_floating_point))
    assert (made.shape, made.dtype, made.device) == (given.shape, given.dtype, given.device)
    assert not made.requires_grad
    gains = torch.tensor(GAINS)[:, None, None]
    expected = given.detach().double() * gains
    limit = 1 if "int" in dtype else max(torch.finfo(kind).eps, torch.finfo().eps)
    torch.testing.assert_close(made.double(), expected, atol=limit, rtol=0)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_pictures_in_their_mode(tinted, mode):
    picture = PIL.Image.fromarray(values((9, 14, 4), "uint8"))
    sixteen = PIL.Image.fromarray(values((9, 14), "uint16"))
    given = sixteen if mode == "I;16" else picture.convert(mode)
    given.info["dpi"] = (72, 72)
    made = tinted()(given)
    assert (made.mode, made.size, made.info) == (mode, (14, 9), {"dpi": (72, 72)})
    assert np.asarray(made).mean() < np.asarray(given).mean()
    if "A" in mode:
        assert made.getchannel("A").tobytes() == given.getchannel("A").tobytes()


@pytest.mark.parametrize(("mode", "key"), [("RGB", (9, 9, 9)), ("L", 9)])
def test_a_transparent_colour_becomes_alpha(tinted, mode, key):
    given = PIL.Image.new(mode, (8, 6), key)
    given.putpixel((3, 2), 200 if mode == "L" else (200, 0, 0))
    given.info["transparency"] = key
    made = tinted()(given)
    assert (made.mode, made.info) == (f"{mode}A", {})
    assert [made.getpixel(at)[-1] for at in ((0, 0), (3, 2))] == [0, 255]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("dark.jpg", "got: str"),
        ([[1]], "got: list"),
        (np.zeros((2, 3, 8, 8), np.uint8), "got: an array (2, 3, 8, 8) of uint8"),
        (np.zeros((8, 8, 2)), "got: an array (8, 8, 2) of float64"),
        (np.zeros((0, 8, 3), np.uint8), "got: an array (0, 8, 3) of uint8"),
        (np.zeros((8, 8), bool), "got: an array (8, 8) of bool"),
        (np.zeros((8, 8), np.int64), "got: an array (8, 8) of int64"),
        (np.full((8, 8, 3), 255.0), "got: floats from 255 to 255"),
        (np.full((8, 8, 3), np.nan), "got: floats from nan to nan"),
        (torch.zeros(8, 8, 3), "got: a tensor (8, 8, 3) of torch.float32"),
        (torch.zeros(0, 3, 8, 8), "got: a tensor (0, 3, 8, 8) of torch.float32"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "got: an array (8, 8, 3) of int64"),
        (PIL.Image.new("CMYK", (8, 8)), "got: a PIL image of mode CMYK"),
        (PIL.Image.new("I", (8, 8)), "got: a PIL image of mode I"),
    ],
)
def test_anything_else_is_named_beside_what_is_taken(tinted, given, named):
    for use in (tinted(), lambda given: next(tinted().stream([given]))):
        with pytest.raises(MediaError, match=re.escape(named)) as raised:
            use(given)
        assert "an array (H, W), (H, W, 3) or (H, W, 4), a tensor" in str(raised.value)


def test_no_such_order(tinted):
    with pytest.raises(ConfigError, match="rgb or bgr"):
        tinted()(np.zeros((8, 8, 3)), order="grb")


@pytest.mark.parametrize(
    ("inputs", "border", "latency", "first"),
    [((0,), "reflection", 0, 0), ((-2, -1, 0, 1, 2), "reflection", 2, 2),
     ((0, 1), "replicate", 1, 1), ((-2, -1, 0, 1, 2), "new_info", 2, 4)],
)  # fmt: skip
def test_frames_come_as_soon_as_they_can(tinted, inputs, border, latency, first):
    enhancer, read = tinted(inputs, border=border), 0
    frames = values((12, 6, 8, 4), "uint8")
    buffer = np.empty_like(frames[0])

    def camera() -> Iterator[np.ndarray]:
        nonlocal read
        for buffer[:] in frames:
            read += 1
            yield buffer

    assert enhancer.latency == latency
    assert f"{latency} frame" in repr(enhancer)
    for number, made in enumerate(enhancer.stream(camera())):
        assert read == min(12, 1 + max(first, number + latency))
        np.testing.assert_allclose(made, frames[number] * [*GAINS, 1], atol=1)
    assert number == 11


@pytest.mark.parametrize("inputs", [(0,), (-1, 0, 1)])
def test_a_stream_has_one_size(tinted, inputs):
    frames = [np.zeros((6, 8, 3)), np.zeros((8, 6, 3))]
    with pytest.raises(MediaError, match=r"frame 1: .*\n  got: 6x8\n  expected: 8x6"):
        list(tinted(inputs).stream(frames))
    with pytest.raises(MediaError, match=r"frame 0: .*one frame"):
        list(tinted(inputs).stream(torch.zeros(1, 2, 3, 6, 8)))
