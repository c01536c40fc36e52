"""A second reference set of the public one's form: ``python tests/perturbed.py SHARED FOLDER``.

Half of the cases are left out, the others renamed and one repeated; clips get other names; seeds,
sizes, widths and numbers change. Values follow from the sets' recipes, and where only a computation
can tell them, from our implementation: so the set tests no product but the reference tests, which
must take all of this from the files.
"""

import importlib.util
import json
import math
import random
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from recipes import (
    fingerprint,
    normal_values,
    recipe_weights,
    sdsd_frame,
    thinned,
    told_values,
)
from torch import nn

from llve_common.clips.windows import window_indices
from llve_common.config import ScheduleSettings
from llve_common.train.schedule import set_rates
from llve_sgz.objective import exposure, spatial
from llve_tcenet.objective import details, edge, temporal_consistency

# Where cases lie whose names tell nothing: file, key, and how the names of their arrays begin.
CASES = (
    *((f"sci_sgz/sci_{name}", None, "{}/") for name in ("forward", "loss", "train")),
    *((f"sci_sgz/sgz_{name}", None, "{}/") for name in ("forward", "fpn", "train")),
    *((f"sdsd_stcd/{name}_state_dict", "variants", "{}/") for name in ("sdsd", "stcd")),
    *((f"sdsd_stcd/{name}_forward", "cases", "{}/") for name in ("sdsd", "stcd")),
    *((f"sdsd_stcd/{name}_steps", "cases", "{}/") for name in ("sdsd", "stcd")),
    ("sdsd_stcd/dcn_op", "cases", "{}/"),
    ("sdsd_stcd/metrics", "pairs", "pairs/{}/"),
    ("sdsd_stcd/metrics", "tensor2img", "tensor2img/{}/"),
    ("tcenet/resample2d", None, "{}_"),
    ("tcenet/raft_forward", "cases", "{}_"),
    ("tcenet/vtce_forward", "cases", "{}_"),
    ("tcenet/train_steps", None, "{}_"),
)
# Files of arrays that keep some rows and columns, and the axes of these.
THINNED = (
    *((f"tcenet/{name}", (-2, -1)) for name in ("vtce_forward", "raft_forward", "losses")),
    ("sdsd_stcd/data_sdsd", (-2, -1)),
    ("sdsd_stcd/stcd_steps", (0, 1)),
    ("sci_sgz/official_outputs", (0, 1)),
    ("sci_sgz/pipeline", (-2, -1)),
)
CLIPS = ("data_sdsd", "data_stcd", "e2e_sdsd", "e2e_stcd", "metrics")
# Texts and names to replace.
TEXTS = (
    *((f"sdsd_stcd/{name}", r"pair(\d)", r"take\1") for name in CLIPS),
    ("sdsd_stcd/data_sdsd", r"\b00(07|11|21|99)\b", r"10\1"),
    ("sdsd_stcd/sdsd_forward", "input_sizes_small_", "input_sizes_small_2_"),
    ("tcenet/vtce_forward", "(grad_case_|for case )a", r"\1a_2"),
    ("tcenet/tester", "clipA", "reel"),
    ("tcenet/utils", r"(align_to|center_crop)_\d+", r"\1_48"),
)


@contextmanager
def edited(folder: Path, file: str) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """The content and the arrays of a file, written back when they are changed."""
    path, stored = folder / f"{file}.json", folder / f"{file}.npz"
    content = json.loads(path.read_text())
    arrays = dict(np.load(stored)) if stored.exists() else {}
    yield content, arrays
    path.write_text(json.dumps(content))
    if arrays:
        np.savez(stored, **arrays)


def perturb(shared: Path, target: Path) -> Path:
    """Make a shared folder with another set; images and weights are linked."""
    folder = target / "reference"
    shutil.copytree(shared / "reference", folder, copy_function=shutil.copyfile)
    for each in (folder, *folder.rglob("*/")):
        each.chmod(0o755)
    (target / "data").symlink_to((shared / "data").resolve())
    for change in (names, images, schedules, parts, clips, options, losses, steps):
        change(folder)
    return target


def names(folder: Path) -> None:
    for file, under, form in CASES:
        with edited(folder, file) as (content, arrays):
            cases = content if under is None else content[under]
            for number, old in enumerate(listed := list(cases)):
                facts, start = cases.pop(old), form.format(old)
                stored = {k: arrays.pop(k) for k in list(arrays) if k.startswith(start)}
                for new in [f"{old}_2"] * (number <= len(listed) // 2) + [f"{old}_3"] * (
                    not number
                ):
                    cases[new] = facts
                    arrays |= {form.format(new) + k[len(start) :]: v for k, v in stored.items()}
    with edited(folder, "dkm/cases") as (content, _):
        for name in ("localcorr_r2", "refiner2"):
            del content[name]
            (folder / f"dkm/{name}.npz").unlink()
    for file, pattern, by in TEXTS:
        path = folder / f"{file}.json"
        path.write_text(re.sub(pattern, by, path.read_text()))


def images(folder: Path) -> None:
    """Of SGZ, other levels, patches and sizes; images that are not at hand."""
    with edited(folder, "sci_sgz/sgz_loss") as (content, arrays):
        low, enhanced = (torch.from_numpy(arrays[f"case0/{name}"]) for name in ("low", "enhanced"))
        more = {"L_exp16_E0.8": exposure(enhanced, 0.8), "L_spa8_p6": spatial(enhanced, low, 6)}
        for name, value in more.items():
            arrays[f"case0/{name}"] = value.numpy()
            content["case0"]["arrays"][name] = {"noise_f64": 0.0, "noise_threads": 0.0}
        content["case12"] = content.pop("case1")
        arrays |= {k.replace("case1/", "case12/"): v for k, v in arrays.items() if "case1/" in k}
        del content["focal_scale5"]
        content["grey"]["note"] = "L_color on a constant grey 1x3x20x24 image of 0.4: value, and"
        ties = {"target": [0] * 6, "focal_g2": (1 - 1 / 13) ** 2 * math.log(13)}
        content["focal_ties"] = {"note": "all logits equal, 1x13x3x2", **ties}
    with edited(folder, "sci_sgz/pipeline") as (content, _):
        content["sci_loader"]["tensor_sha256"]["absent.png"] = ""
        content["sgz_loader"]["absent.jpg"] = {"source": "SCI data/difficult/absent.jpg"}


def schedules(folder: Path) -> None:
    with edited(folder, "sdsd_stcd/schedulers") as (content, _):
        del content["cosine_sdsd_config_with_ft_tsa_only_50000"], content["cosine_small"]["a"]
        base = content["cosine_sdsd_config"]
        base["args"] = {"T_period": [40, 60], "restarts": [40], "weights": [0.5], "eta_min": 1e-6}
        names = {"T_period": "periods", "weights": "restart_weights"}
        ours = {names.get(key, key): value for key, value in base["args"].items()}
        schedule = ScheduleSettings(**ours)
        groups = [{"params": [nn.Parameter(torch.zeros(1))]} for _ in range(2)]
        optimizer = torch.optim.Adam(groups, base["base_lr"])
        used, before = {"0": [base["base_lr"]] * 2}, {}
        for k in range(1, 96):
            set_rates(schedule, optimizer, k)
            before[str(k)] = [group["lr"] for group in optimizer.param_groups]
            optimizer.param_groups[0]["lr"] *= k >= 25
            used[str(k)] = [group["lr"] for group in optimizer.param_groups]
        base["lr"] = {k: rates[1] for k, rates in used.items()}
        frozen = {"lr_used": used, "lr_from_scheduler": before}
        content["cosine_sdsd_config_with_ft_tsa_only_25"] = frozen
    with edited(folder, "sdsd_stcd/metrics") as (content, _):
        content["gaussian_kernel_9_1.2"] = cv2.getGaussianKernel(9, 1.2)[:, 0].tolist()
        del content["gaussian_kernel_11_1.5"]


def tested(path: str) -> Any:
    """A module of tests, for what it makes of a case's arguments."""
    place = Path(__file__).parents[1] / "packages" / path
    spec: Any = importlib.util.spec_from_file_location(place.stem, place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parts(folder: Path) -> None:
    """Parts of networks, of other widths."""
    part_of = tested("stcd/tests/test_reference.py").part_of
    with edited(folder, "sdsd_stcd/stcd_modules") as (content, arrays):
        for name, facts in content["cases"].items():
            if "BiasFree" not in name:
                facts["arguments"][0] = 24
                compute_part(name, facts, arrays, part_of(name, facts["arguments"]), 24)
    packed = tested("common/tests/ops/test_deform_conv_reference.py").packed
    with edited(folder, "sdsd_stcd/sdsd_modules") as (content, arrays):
        for name, facts in content["cases"].items():
            if name.startswith("DCNPack"):
                told = facts["arguments"].replace("DCN(8, ", "DCN(6, ")
                facts["arguments"] = re.sub("deformable_groups=.", "deformable_groups=3", told)
                compute_part(name, facts, arrays, packed(facts["arguments"]), 6)
        fresh, shapes = content["DCNPack_at_construction"], ([6, 4, 3, 3], [6], [54, 4, 3, 3], [54])
        fresh |= {"keys": dict(zip(fresh["keys"], shapes, strict=True)), "bound": 1 / 6}
        said = [["WARNING", "Offset mean is 123.0, larger than 100."]]
        content["offset_warning"] = {"warnings_at_offset_90": 0, "warnings_at_123": said}


def compute_part(
    name: str, facts: dict[str, Any], arrays: dict[str, np.ndarray], part: nn.Module, width: int
) -> None:
    shapes = {key: list(value.shape) for key, value in part.named_parameters()}
    facts |= {"keys": shapes, "weight_seed": 91}
    facts["inputs"] = [[1, width, 8, 10]] * len(facts["inputs"])
    state = recipe_weights(shapes, 91, facts["scale"], overrides=facts["overrides"])
    part.double().load_state_dict(state)
    given = [normal_values(k, each).double() for k, each in enumerate(facts["inputs"])]
    given = [each.requires_grad_() for each in given]
    output = part(given[0], given[-1]) if name.startswith("DCN") else part(*given)
    weight = normal_values(9, output.shape)
    output.backward(weight.double())
    kept = {f"input{k}": each.detach() for k, each in enumerate(given)}
    kept |= {f"grad_input{k}": each.grad for k, each in enumerate(given)}
    kept |= {"output": output.detach(), "grad_output": weight}
    arrays |= {f"{name}/{key}": value.float().numpy() for key, value in kept.items()}
    prints = [fingerprint(value.grad) for value in part.parameters()]
    arrays[f"{name}/grad_parameter_fingerprints"] = np.stack(prints)


def clips(folder: Path) -> None:
    """Windows, crops and sizes of other numbers."""
    with edited(folder, "sdsd_stcd/data_sdsd") as (content, arrays):
        indices = content["index_generation"]
        for name in [name for name in indices if name.endswith("length=30")]:
            del indices[name]
        wide = {str(k): window_indices(k, 11, 9, "replicate") for k in range(12)}
        indices["replicate N=9 length=12"] = {"index": wide, "out_of_range_centers": []}
        rows: dict[str, Any] = {}
        for seed in range(200, 204):
            rng = random.Random(seed)
            place = [rng.randint(0, 300 - 96), rng.randint(0, 420 - 96)]
            rows[str(seed)] = [*place, rng.random() < 0.5, rng.random() < 0.5]
        even = {str(k): window_indices(k, 8, 6, "reflection") for k in range(9)}
        first = {"length": 20, "last": "19/20"}
        last = {"last_window_is_clipped_to_20": window_indices(19, 19, 5, "new_info")}
        for old in [key for key in content if re.search("_even_N4|_first_30_|_512x960_", key)]:
            del content[old]
        content["index_generation_even_N6"] = even
        content["test_keeps_first_20_frames"] = first | last
        content["crop_and_flip_draws_for_300x420_crop96"] = {"rows": rows}
        content["folders_are_paired_by_sorted_position"].reverse()
        content["DistIterSampler"]["results"].popitem()
        facts = content["dataset"]
        size = facts["height"], facts["width"]
        pair = [cv2.resize(sdsd_frame(facts["seed"], 0, t, 0, *size), (50, 34)) for t in (0, 1)]
        resized = np.stack(pair).transpose(0, 3, 1, 2).astype(np.float32)
        del arrays["read_img_seq2/resize_56x30"]
        arrays["read_img_seq2/resize_50x34"] = resized / np.float32(255)


def options(folder: Path) -> None:
    with edited(folder, "sdsd_stcd/options") as (content, _):
        del content["sdsd/train/train_smid.yml"]
        for each in content.values():
            each["name"] += "-2"
            each["network_G"]["nf"] = 32
            for data in each["datasets"].values():
                for key in data.keys() & {"batch_size", "n_workers", "GT_size", "LQ_size"}:
                    data[key] += 2
                data |= {"train_size": [480, 256], "testing_dir": "take3,take4"}
            if "train" in each:
                each["train"] |= {"lr_G": 7e-4, "niter": 90, "beta1": 0.8, "T_period": [40, 50]}
                each["train"] |= {"restarts": [40], "restart_weights": [0.5], "val_freq": 30.0}


def losses(folder: Path) -> None:
    """TCE-Net's losses of other draws, and fewer training steps."""
    with edited(folder, "tcenet/train_steps") as (content, _):
        for facts in content.values():
            facts["steps"] = facts["steps"][:1]
    with edited(folder, "tcenet/losses") as (content, arrays):
        facts = content["EdgeLoss_odd_size"]
        facts |= {"x": "uniform seed 163 shape [1,3,31,45]", "y": "uniform seed 164"}
        x = told_values(facts["x"]).requires_grad_()
        value = edge(x, told_values(facts["y"], x))
        value.backward()
        flat = x.grad.flatten().double()
        norms = {"l2": float(flat.norm()), "absmax": float(flat.abs().max())}
        kept = {"mean": float(flat.mean()), "idx": [3, 500], "val": flat[[3, 500]].tolist()}
        facts |= {"value": value.item(), "grad_first_arg": norms | kept}
        arrays["edge_laplacian_of_xo"] = details(x.detach()).numpy()
        facts = content["temporal_fixed"]
        facts["fixed_flow"] = facts["fixed_flow"].replace("(72)", "(172)").replace("*1.5", "*1.2")
        frames = torch.from_numpy(arrays["temporal_frames_u8"]).permute(0, 3, 1, 2) / 255
        pair = [frame[None].requires_grad_() for frame in frames]
        rng, shape = np.random.default_rng(172), (1, 2, *frames.shape[2:])
        flows = [(rng.standard_normal(shape) * 1.2).astype(np.float32) for _ in range(2)]
        drawn = iter(torch.from_numpy(flow) for flow in flows)
        value = temporal_consistency(*pair, lambda *_: next(drawn))
        value.backward()
        facts["value"] = value.item()
        for frame, number in zip(pair, (3, 4), strict=True):
            arrays[f"temporal_fixed_grad{number}_s2"] = frame.grad[..., ::2, ::2].numpy()


def steps(folder: Path) -> None:
    """Half of the rows and columns that arrays keep."""
    for file, axes in THINNED:
        with edited(folder, file) as (_, arrays):
            for old in list(arrays):
                name, step = thinned(old)
                if step > 1:
                    value, joint = arrays.pop(old), re.match(r"\D+", old.removeprefix(name))[0]
                    for axis in axes:
                        value = value.take(range(0, value.shape[axis], 2), axis)
                    arrays[f"{name}{joint}{2 * step}" + "th" * ("every" in joint)] = value


if __name__ == "__main__":
    perturb(Path(sys.argv[1]), Path(sys.argv[2]))
