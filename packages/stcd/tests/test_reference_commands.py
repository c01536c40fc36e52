"""The commands on the reference set, against what the published scripts print and write there."""

import json
import math
import re
from functools import partial

import pytest
import torch
import yaml
from published_scripts import (
    check_clips,
    check_frames,
    invoke,
    logged,
    option_file_like,
    run_options,
    write_recipe,
)
from recipes import write_sdsd_set

from llve_common.io.images import read_image
from llve_common.metrics.cost import parameter_count
from llve_common.testing.reference import reference_json, require_known
from llve_common.weights.files import write_weights
from llve_stcd.__main__ import app
from llve_stcd.network import STCD

E2E, DATA = "sdsd_stcd/e2e_stcd", "sdsd_stcd/data_stcd"
pytestmark = pytest.mark.reference


run = partial(invoke, app)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_sdsd_set(tmp_path_factory.mktemp("set"), reference_json(DATA)["dataset"])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    recipe = reference_json(E2E)["test_setup"]["weights"]
    return write_recipe(tmp_path_factory.mktemp("weights"), tiny_network(), recipe)


def tiny_network():
    given = reference_json(E2E)["test_setup"]["weights"]["arguments"]
    return STCD(given["nf"], given["front_RBs"])


def training_options():
    """The published run's options, as far as it tells them: one cosine over the whole run."""
    listed = reference_json(E2E)
    run = listed["train_none"]
    options = run_options(run, listed["train_distributed_one_process_with_val"])
    number, [least] = options["train"]["niter"], logged(run["log"])[-1][1]
    [after_one_step] = logged(run["log"])[0][1]
    first = least + 2 * (after_one_step - least) / (1 + math.cos(math.pi / number))
    period = {"T_period": [number], "restarts": [number], "restart_weights": [1]}
    options["train"] |= {"lr_G": first, "eta_min": least, **period}
    return options


@pytest.fixture
def option_file(tmp_path, root, weights, write_option_file):
    """A published option file with the small settings of the published run, by its command."""

    def write(command, **options):
        return write_option_file(tmp_path, command, root, weights=weights, **options)

    listed = reference_json(E2E)
    setup, run = listed["test_setup"], listed["train_none"]
    return lambda command: option_file_like(write, command, setup, run, training_options())


def test_published_scores_and_pictures(tmp_path, option_file):
    """Of every frame, and the means of clips, of both clips and of all frames."""
    listed = reference_json(E2E)
    published = listed["test"]
    output = run("test", "-opt", option_file("test"))
    assert "without effect here" in " ".join(output.split())
    folder = tmp_path / "results" / "tiny"
    lines = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    check_frames(lines, listed["test_frames"])
    summary = json.loads((folder / "summary.json").read_text())
    frames = [line for line in published["stdout"] if re.fullmatch(r"[\d.]+", line)]
    assert summary["mean_of_frames"]["psnr"] == pytest.approx(float(frames[0]), abs=1e-2)
    assert summary["mean_of_frames"]["ssim"] == pytest.approx(float(frames[1]), abs=1e-4)
    for score, line in zip(("psnr", "ssim"), published["log"][1:], strict=True):
        check_clips(summary, score, line)

    # Mended: names are the clip's and the frame's, not a list's repr.
    written = {path.relative_to(folder).as_posix() for path in folder.glob("images/*/*/*.png")}
    names = [path for path in published["files_written"] if path.endswith(".png")]
    assert written == {
        re.sub(
            r".*(images/\w+/)\['(.+)'\]\.(\d+)-\d+\.png",
            lambda found: f"{found[1]}{found[2]}/{int(found[3]):04d}.png",
            name,
        )
        for name in names
    }
    # Mended: the input was one grey channel.
    assert len(published["png_shapes"]["input"][1]) == 2
    first = min(reference_json(E2E)["test_setup"]["testing_dir"])
    for side in ("output", "GT", "input"):
        shape = read_image(folder / "images" / side / first / "0000.png").pixels.shape
        assert list(shape) == published["png_shapes"]["output"][1]


def test_published_training(tmp_path, option_file):
    """The files, the rates, the form and the size of the losses; what is drawn differs."""
    listed = reference_json(E2E)
    published = listed["train_none"]
    file = option_file("train")
    run("train", "-opt", file)
    folder = tmp_path / "experiments" / "tiny"
    lines = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    for line, (iteration, rates, losses) in zip(lines, logged(published["log"]), strict=True):
        assert line["iteration"] == iteration
        assert line["lr"] == pytest.approx(rates, rel=1e-3)
        # The same weights on other pairs of the same set.
        assert line["losses"]["pixel"] == pytest.approx(losses["l_pix"], rel=0.05)
        assert line["losses"]["smoothness"] == pytest.approx(losses["l_tv"], rel=0.25)
    [parameters] = [line for line in published["log"] if "with parameters" in line]
    assert f"{parameter_count(tiny_network()):,}" == parameters.split()[-1]
    models = [path for path in published["files"] if "/models/" in path]
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.pth")}
    assert found == {path.removeprefix("experiments/tiny/") for path in models}
    pictures = listed["train_distributed_one_process_with_val"]
    names = {path for path in pictures["files"] if path.startswith("val_images/")}
    assert {f"val_images/{path.name}" for path in (folder / "val_images").iterdir()} == names
    # Five pictures of ours, with the parts between input and target; six there.
    height, width, _ = read_image(folder / min(names)).pixels.shape
    assert [height // 5 * 6, width, 3] == pictures["val_image_shape"]
    log = (folder / "train.log").read_text()
    assert log.count("without effect here") == 1
    # Mended: in one process, its validation ended with an exception.
    assert "AttributeError" in listed["train_none_with_val"]["error"]
    assert len(re.findall(r"iteration \d+, validation: psnr", log)) == len(names)


def test_published_slips_of_training_are_mended(tmp_path, option_file):
    listed = reference_json(E2E)
    file = option_file("train")
    # Beyond the end of its one period the rate stays; there, training ended with an exception.
    assert "IndexError" in listed["niter_beyond_restart_plus_one"]
    small = ("weights=null", "network.nf=8")
    few = (*small, "train.validate_every=null", "run.tensorboard=false")
    end, least = (training_options()["train"][key] for key in ("niter", "eta_min"))
    run("train", "-opt", file, f"train.iterations={end + 2}", *few)
    folder = tmp_path / "experiments" / "tiny"
    rates = [json.loads(line)["lr"] for line in (folder / "losses.jsonl").read_text().splitlines()]
    assert rates[end - 1 :] == [pytest.approx([least])] * 3
    # The key of the seed as it is published does what it was meant to do.
    assert "random seed" in listed["shipped_seed_key"]["note"]
    options = yaml.safe_load(file.read_text())
    seed = options["train"].pop("manual_seed") + 1
    options["train"]["manual.resize960x512_seed"] = seed
    options["name"] = "seeded"
    file.write_text(yaml.dump(options))
    run("train", "-opt", file, "train.iterations=1", *few)
    settings = yaml.safe_load((folder.parent / "seeded" / "settings.yml").read_text())
    assert settings["train"]["seed"] == seed


def test_weights_are_loaded_whole_or_not_at_all(tmp_path, weights, option_file):
    """Mended: with ``strict_load: false``, as published, missing and unknown keys went unsaid."""
    state = torch.load(weights, weights_only=True)
    state.pop("module.conv_last_ill.bias")
    write_weights(tmp_path / "damaged.pth", state | {"extra.key": torch.zeros(1)})
    file = option_file("test")
    output = run("test", "-opt", file, "--model", tmp_path / "damaged.pth", fails=True)
    assert "conv_last_ill.bias" in output
    assert "extra.key" in output


def test_every_published_run_is_looked_at():
    require_known(
        reference_json(E2E),
        "test", "test_frames", "test_setup", "train_none", "train_none_with_val",
        "shipped_seed_key", "niter_beyond_restart_plus_one",
        "train_distributed_one_process_with_val",
    )  # fmt: skip
