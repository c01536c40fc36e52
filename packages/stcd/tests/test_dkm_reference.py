"""DKMv3 against values computed by its authors' code, stage by stage and as a whole."""

import numpy as np
import pytest
import torch
from recipes import check_keys, dkm_scale, recipe_weights
from torch import Tensor

from llve_common.testing.reference import (
    Case,
    cases,
    reference_arrays,
    reference_json,
    require_known,
    shared_file,
)
from llve_common.weights.files import load_into
from llve_stcd.dkm.correlation import local_correlation
from llve_stcd.dkm.decoder import Estimate
from llve_stcd.dkm.gaussian_process import kernel
from llve_stcd.dkm.network import DKMv3, Resolution, prepare, warp_and_certainty
from llve_stcd.dkm.positions import grid

pytestmark = pytest.mark.reference
SET = "dkm"
# The largest difference allowed, as the set's README lists them.
ATOL = {
    "preprocess": 1e-5,
    "encoder": 5e-5,
    "proj": 3e-5,
    "gp": 2e-5,
    "emb": 1e-5,
    "localcorr": 2e-5,
    "refiner": 3e-5,
    "post": 1e-6,
}
# By their stage, which a stride or a radius follows. Cases have generated inputs.
CASES = (r"gp\d+", r"emb\d+", r"localcorr_r\d+", r"refiner\d+", "post")
# Draws single matches to estimate geometry with: training takes the whole warp.
NOT_OURS = "sample"
FILES = (
    *CASES, "images", "weights", "preprocess", "encoder", "proj", "decoder", "match",
    "match_onesided", "match_upsample",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def arrays(file: str) -> dict[str, np.ndarray]:
    return reference_arrays(f"{SET}/{file}")


@pytest.fixture(scope="module")
def matcher() -> DKMv3:
    network = DKMv3(Resolution(sizes()["res"]))
    seed = reference_json(f"{SET}/cases")["_config"]["weights"]
    load_into(network, recipe_weights(reference_json(f"{SET}/keys"), seed, dkm_scale), "recipe")
    return network


def sizes() -> dict[str, tuple[int, int]]:
    settings = reference_json(f"{SET}/cases")["_config"]
    return {name: tuple(settings[name]) for name in ("res", "lo", "up")}


def inputs(case: Case) -> dict[str, Tensor]:
    """The generated inputs of a case, checked against the recorded values."""
    made = {}
    for name, entry in case.settings["inputs"].items():
        rng = np.random.default_rng(entry["seed"])
        if entry["kind"] == "normal":
            value = rng.standard_normal(entry["shape"]).astype(np.float32)
            value *= np.float32(entry["scale"])
        else:
            assert entry["kind"] == "uniform"
            value = rng.uniform(entry["low"], entry["high"], entry["shape"]).astype(np.float32)
        found = [*value.ravel()[:3], value.mean()]
        np.testing.assert_allclose(found, arrays(case.name)[f"check_{name}"], atol=1e-6)
        made[name] = torch.from_numpy(value)
    return made


def mean_and_deviation(value: Tensor) -> Tensor:
    return torch.stack([value.mean(), value.std(correction=0)])


def compare(
    file: str, found: dict[str, Tensor], atol: float | dict[str, float], *others: str
) -> None:
    """Every array of a file but the inputs' checks and some others, within its tolerance."""
    expected = {k: v for k, v in arrays(file).items() if not k.startswith(("check_", *others))}
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value.shape == expected[name].shape, name
        limit = atol if isinstance(atol, float) else limit_of(name, atol)
        np.testing.assert_allclose(
            value, expected[name], rtol=0, atol=limit, err_msg=f"{file}/{name}"
        )


def limit_of(name: str, limits: dict[str, float]) -> float:
    return next(limit for part, limit in limits.items() if part in name)


def test_every_file_is_compared():
    # A set with other stages would otherwise pass without them.
    require_known(
        (path.stem for path in shared_file("reference", SET).glob("*.npz")), *FILES, NOT_OURS
    )
    require_known(reference_json(f"{SET}/cases"), *CASES, NOT_OURS, "_config")


def stage(kind: str):
    return pytest.mark.parametrize("case", cases(f"{SET}/cases", kind))


def test_keys_shapes_types_and_their_order(matcher):
    check_keys(matcher.state_dict(), reference_json(f"{SET}/keys"))


def test_weight_recipe(matcher):
    state, probes = matcher.state_dict(), arrays("weights")
    assert len(probes["probe_keys"])
    for key, (first, total) in zip(probes["probe_keys"], probes["probe_first_sum"], strict=True):
        value = state[str(key)].double()
        assert value.flatten()[0].item() == first
        assert value.sum().item() == pytest.approx(total, rel=1e-12, abs=1e-9)


def pictures() -> tuple[np.ndarray, np.ndarray]:
    return arrays("images")["A"], arrays("images")["B"]


def prepared(size: tuple[int, int]) -> Tensor:
    return torch.stack([prepare(picture, size) for picture in pictures()])


def test_preprocessing():
    found = dict(zip("AB", prepared(sizes()["res"]), strict=True))
    compare("preprocess", found, ATOL["preprocess"])


def test_encoder(matcher):
    features = matcher.encoder(prepared(sizes()["res"]))
    found = {}
    for stride, each in features.items():
        if stride == 1:
            continue
        step = {2: 4, 4: 2}.get(stride, 1)
        found[f"s{stride}_cmean"] = each.mean((2, 3))
        found[f"s{stride}_cstd"] = each.std((2, 3), correction=0)
        found[f"s{stride}_sub"] = each[:, :: each.shape[1] // 16, ::step, ::step]
    compare("encoder", found, ATOL["encoder"])


def test_projections(matcher):
    features = matcher.encoder(prepared(sizes()["res"]))
    found = {
        f"s{stride}_sub": matcher.decoder.proj[str(stride)](features[stride])[:, ::32]
        for stride in (32, 16)
    }
    compare("proj", found, ATOL["proj"])


@stage(r"gp\d+")
def test_gaussian_process(matcher, case):
    given = inputs(case)
    second = given["y0"] + given["base"]
    first = 0.7 * second + given["n0"]
    process = matcher.decoder.gps[case.name.removeprefix("gp")]
    a, b = (features.flatten(2).mT for features in (first, second))
    mean = process(first, second)
    rows = len(arrays(case.name)["Kxy0"])
    found = {
        "pos": process.embedding(second)[::8],
        "Kxy0": kernel(a, b)[0, :rows],
        "Kyy0": kernel(b, b)[0, :rows],
        "out_sub": mean[:, ::4],
        "ms": mean_and_deviation(mean),
        "out_tiny_sub": process(0.001 * first, 0.001 * second)[:, ::16],
    }
    compare(case.name, found, ATOL["gp"])


@stage(r"emb\d+")
def test_embedding_decoder(matcher, case):
    given = inputs(case)
    decode = matcher.decoder.embedding_decoder
    flow, certainty, context = decode(
        int(case.name.removeprefix("emb")), given["gp"], given["feats"], given["context"]
    )
    found = {
        "coord": flow,
        "certainty": certainty,
        "context_sub": context[:, ::24],
        "context_ms": mean_and_deviation(context),
    }
    compare(case.name, found, ATOL["emb"])


@stage(r"localcorr_r\d+")
def test_local_correlation(case):
    given = inputs(case)
    radius = int(case.name.removeprefix("localcorr_r"))
    found = local_correlation(given["f0"], given["f1"], given["flow"], radius)
    compare(case.name, {"out": found}, ATOL["localcorr"])


@stage(r"refiner\d+")
def test_refiner(matcher, case):
    given = inputs(case)
    refiner = matcher.decoder.conv_refiner[case.name.removeprefix("refiner")]
    flow = grid(given["x"]) + given["dflow"]
    evidence = refiner.evidence(given["x"], given["y"], flow)
    block1 = refiner.block1(evidence)
    certainty, displacement = refiner(given["x"], given["y"], flow)
    found = {
        "in_sub": some_channels(evidence, 12),
        "block1_sub": some_channels(block1, 8),
        "hidden_ms": mean_and_deviation(refiner.hidden_blocks(block1)),
        "certainty": certainty,
        "displacement": displacement,
    }
    compare(case.name, found, ATOL["refiner"])


def some_channels(features: Tensor, number: int) -> Tensor:
    return features[:, np.linspace(0, features.shape[1] - 1, number).astype(int)]


def described(prefix: str, estimate: Estimate, step: int) -> dict[str, Tensor]:
    found = {}
    for name, value in (("flow", estimate.flow), ("cert", estimate.certainty)):
        found[f"{prefix}_{name}"] = value[..., ::step, ::step]
        found[f"{prefix}_{name}_ms"] = mean_and_deviation(value)
    return found


def every(stride: int) -> int:
    return {2: 2, 1: 4}.get(stride, 1)


def test_decoder(matcher):
    estimates, second = matcher.estimates(prepared(sizes()["res"]))
    assert second == {}
    found = {}
    for stride, estimate in estimates.items():
        found |= described(f"s{stride}", estimate, every(stride))
    compare("decoder", found, {"flow": 1e-4, "cert": 1e-3})


@stage("post")
def test_post_processing(case):
    given = inputs(case)
    estimate = Estimate(0.9 * grid(given["logit"]) + given["dflow"], given["logit"])
    warp, certainty = warp_and_certainty(estimate, given["low_logit"])
    compare("post", {"warp": warp[0], "certainty": certainty[0]}, ATOL["post"])


def compare_certainty(found: Tensor, expected: np.ndarray, warp: Tensor, atol: float) -> None:
    """All but one in a thousand: a match on the border may fall to either side, and so to 0."""
    assert found.shape == expected.shape
    differs = np.abs(found.numpy() - expected) > atol
    on_border = (warp.abs() > 1 - 1e-4).any(-1).numpy()
    fell = ((found.numpy() == 0) != (expected == 0)) & on_border
    assert not (differs & ~fell).any()
    assert fell.mean() <= 1e-3


def matched(matcher: DKMv3) -> tuple[Tensor, Tensor]:
    warp, certainty = matcher.match(*([picture] for picture in pictures()))
    return warp[0], certainty[0]


def test_match(matcher):
    warp, certainty = matched(matcher)
    compare("match", {"warp": warp}, 1e-4, "certainty")
    compare_certainty(certainty, arrays("match")["certainty"], warp, 3e-4)


def test_one_sided_match_is_the_left_half(matcher):
    whole, whole_certainty = matched(matcher)
    expected = arrays("match_onesided")
    assert expected.keys() == {"warp_sub", "certainty_sub", "certainty_shape"}
    _, height, width = expected["certainty_shape"]
    warp, certainty = whole[:, :width], whole_certainty[None, :, :width]
    assert certainty.shape == (1, height, width)
    np.testing.assert_allclose(warp[::2, ::2], expected["warp_sub"], rtol=0, atol=1e-4)
    compare_certainty(certainty[..., ::2, ::2], expected["certainty_sub"], warp[::2, ::2], 3e-4)


def test_match_in_two_passes(matcher, monkeypatch):
    monkeypatch.setattr(matcher, "resolution", Resolution(sizes()["lo"], sizes()["up"]))
    first, second = matcher.estimates(prepared(sizes()["lo"]), prepared(sizes()["up"]))
    found = {**described("pass1_s16", first[16], 1), **described("pass1_s1", first[1], 4)}
    for stride, estimate in second.items():
        found |= described(f"pass2_s{stride}", estimate, every(stride))
    warp, certainty = matched(matcher)
    found |= {"warp_sub": warp[::2, ::2], "warp_ms": mean_and_deviation(warp)}
    found["certainty_ms"] = mean_and_deviation(certainty)
    limits = {"certainty": 5e-4, "cert": 2e-3, "": 1e-4}
    compare("match_upsample", found, limits, "certainty_sub")
    expected = arrays("match_upsample")["certainty_sub"]
    compare_certainty(certainty[::2, ::2], expected, warp[::2, ::2], 5e-4)
