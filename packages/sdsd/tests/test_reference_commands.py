"""The commands on the reference set, against what the published scripts print and write there."""

import json
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
    numbers,
    option_file_like,
    run_options,
    write_recipe,
)
from recipes import write_sdsd_set

from llve_common.io.images import read_image
from llve_common.metrics.cost import parameter_count
from llve_common.testing.reference import reference_json, require_known
from llve_common.weights.files import read_checkpoint, write_weights
from llve_sdsd.__main__ import app
from llve_sdsd.network import RetinexNet

E2E, DATA = "sdsd_stcd/e2e_sdsd", "sdsd_stcd/data_sdsd"
pytestmark = pytest.mark.reference


run = partial(invoke, app)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_sdsd_set(tmp_path_factory.mktemp("set"), reference_json(DATA)["dataset"])


def tiny_network():
    given = reference_json(E2E)["quantitative_test_setup"]["weights"]["arguments"]
    sizes = given["nf"], given["nframes"], given["groups"]
    return RetinexNet(*sizes, front_blocks=given["front_RBs"], back_blocks=given["back_RBs"])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    recipe = reference_json(E2E)["quantitative_test_setup"]["weights"]
    return write_recipe(tmp_path_factory.mktemp("weights"), tiny_network(), recipe)


def training_options():
    """The published run's options, as far as it tells them."""
    listed = reference_json(E2E)
    run, state = listed["train_none"], listed["state_file"]
    options = run_options(run, listed["train_distributed_one_process_with_val"])
    schedule, (beta1, beta2) = state["scheduler"], state["param_groups"][0]["betas"]
    options["train"] |= {
        "lr_G": schedule["base_lrs"][0],
        "beta1": beta1,
        "beta2": beta2,
        "ft_tsa_only": next(number for number, rates, _ in logged(run["log"]) if rates[0] > 0),
        "T_period": schedule["T_period"],
        # The published scheduler counts them from 1.
        "restarts": [each - 1 for each in schedule["restarts"]],
        "restart_weights": schedule["restart_weights"],
        "eta_min": schedule["eta_min"],
    }
    return options


@pytest.fixture
def option_file(tmp_path, root, weights, write_option_file):
    """A published option file with the small settings of the published run, by its command."""

    def write(command, **options):
        return write_option_file(tmp_path, command, root, weights=weights, **options)

    listed = reference_json(E2E)
    setup, run = listed["quantitative_test_setup"], listed["train_none"]
    return lambda command: option_file_like(write, command, setup, run, training_options())


def test_published_scores(tmp_path, option_file):
    """Of every frame, their means of clips, and of both clips; a test without --save-images."""
    listed = reference_json(E2E)
    run("test", "-opt", option_file("test"))
    folder = tmp_path / "results" / "tiny"
    lines = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    check_frames(lines, listed["quantitative_test_frames"])
    summary = json.loads((folder / "summary.json").read_text())
    printed = listed["quantitative_test"]["stdout"]
    means = next(line for line in printed if re.fullmatch(r"[\d.]+ [\d.]+", line)).split()
    assert summary["mean_of_clips"]["psnr"] == pytest.approx(float(means[0]), abs=1e-2)
    assert summary["mean_of_clips"]["ssim"] == pytest.approx(float(means[1]), abs=1e-4)
    check_clips(summary, "psnr", printed[-2])
    check_clips(summary, "ssim", printed[-1])
    assert listed["quantitative_test"]["files_written"] == []
    assert not (folder / "images").exists()


def test_published_pictures(tmp_path, root, option_file):
    """Mended: names are the clip's and the frame's, not a list's repr; no truth is needed."""
    case = reference_json(E2E)["qualitative_test"]
    low_only = tmp_path / "set"
    low_only.mkdir()
    (low_only / "input").symlink_to(root / "input")
    file = option_file("test")
    options = yaml.safe_load(file.read_text())
    del options["datasets"]["test"]["dataroot_GT"], options["datasets"]["test"]["dataroot_LQ"]
    file.write_text(yaml.dump(options))
    words = ("test", "-opt", file, "--data_path", low_only)
    assert "nothing to score" in run(*words, fails=True)
    output = run(*words, "--save-images")
    assert "without effect here" in " ".join(output.split())
    images = tmp_path / "results" / "tiny" / "images"
    clips = sorted(reference_json(E2E)["quantitative_test_setup"]["testing_dir"])
    for side in ("input", "output"):
        written = sorted(path.relative_to(images / side) for path in images.glob(f"{side}/*/*.png"))
        lengths = reference_json(DATA)["dataset"]["pairs_in_recipe_order"]
        assert [path.as_posix() for path in written] == [
            f"{clip}/{number:04d}.png" for clip in clips for number in range(lengths[clip])
        ]
    first = images / "output" / clips[0] / "0000.png"
    assert list(read_image(first).pixels.shape) == case["first_png_shape"]
    assert f"/input/['{clips[0]}']." in case["files_written"][0]


def test_published_loading(tmp_path, weights, option_file):
    listed = reference_json(E2E)
    # A prefix is stripped, strict or not: the scores are those of the test above.
    assert listed["load_module_prefix_strict"]["error"] is None
    file = option_file("test")
    state = torch.load(weights, weights_only=True)
    state.pop("module.conv_last.bias")
    write_weights(tmp_path / "damaged.pth", state | {"extra.key": torch.zeros(1)})
    # Mended: without strict_load that went unsaid; with it, both keys were named.
    for name in ("conv_last.bias", "extra.key"):
        assert name in listed["load_missing_and_extra_keys_strict"]["error"]
        output = run("test", "-opt", file, "--model", tmp_path / "damaged.pth", fails=True)
        assert name in output
    assert listed["missing_checkpoint"].startswith("FileNotFoundError")
    assert "none.pth" in run("test", "-opt", file, "--model", tmp_path / "none.pth", fails=True)


def test_published_training(tmp_path, option_file):
    """The files, the rates, the state; what is drawn differs, so the losses do."""
    listed = reference_json(E2E)
    file = option_file("train")
    run("train", "-opt", file)
    folder = tmp_path / "experiments" / "tiny"
    lines = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    published = logged(listed["train_none"]["log"])
    for line, (iteration, rates, losses) in zip(lines, published, strict=True):
        assert line["iteration"] == iteration
        assert line["lr"] == pytest.approx(rates, rel=1e-3)
        assert 0.2 < line["losses"]["total"] / losses["l_pix"] < 5
    [parameters] = [line for line in listed["train_none"]["log"] if "with parameters" in line]
    assert f"{parameter_count(tiny_network()):,}" == parameters.split()[-1]
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.pth")}
    models = [path for path in listed["train_none"]["files"] if "/models/" in path]
    assert found == {path.removeprefix("experiments/tiny/") for path in models}
    pictures = listed["train_distributed_one_process_with_val"]
    names = {path for path in pictures["files"] if path.startswith("val_images/")}
    assert {f"val_images/{path.name}" for path in (folder / "val_images").iterdir()} == names
    stacked = read_image(folder / min(names)).pixels
    assert list(stacked.shape) == pictures["val_image_shape"]
    state = read_checkpoint(folder / "checkpoints" / f"{listed['state_file']['iter']:08d}.ckpt")
    assert state["iteration"] == listed["state_file"]["iter"]
    groups = state["optimizer"]["param_groups"]
    for group, wanted in zip(groups, listed["state_file"]["param_groups"], strict=True):
        assert group["lr"] == pytest.approx(wanted["lr"], rel=1e-9)
        assert group["initial_lr"] == wanted["initial_lr"]
        assert list(group["betas"]) == wanted["betas"]
    entries = listed["state_file"]["state_entries"]
    assert sum(len(group["params"]) for group in groups) == entries
    assert len(state["optimizer"]["state"]) == entries
    log = (folder / "train.log").read_text()
    assert log.count("without effect here") == 1
    # Mended: the PSNR there is divided by the number of frames, of one frame of a training clip.
    assert len(re.findall(r"iteration \d+, validation: psnr", log)) == len(names)

    # The same name again: the folder is renamed, never overwritten.
    run("train", "-opt", file, "train.iterations=1", "train.validate_every=null")
    names = sorted(each.name for each in folder.parent.iterdir())
    assert re.fullmatch(r"tiny_archived_\d{6}-\d{6}", names[1])
    assert names[0] == "tiny" == listed["same_name_again"]["folders"][0]
    assert (folder.parent / names[1] / "models" / f"{len(published)}_G.pth").is_file()


def test_published_slips_of_training_are_mended(tmp_path, option_file):
    listed = reference_json(E2E)
    file = option_file("train")
    # A batch larger than the set trained nothing there, and saved a model all the same.
    assert listed["bad_options"]["batch_larger_than_dataset"]["error"] is None
    [images] = numbers(r"Number of train images: (\d+)", listed["train_none"]["log"])
    output = run("train", "-opt", file, f"train.batch_size={images + 1}", fails=True)
    assert "the batch is larger than the data set" in output
    assert not (tmp_path / "experiments").exists()
    # These ended with an exception there.
    for broken in ("train_none_with_val", "use_tb_logger_false", "debug_in_name"):
        assert "Error" in listed[broken]["error"]
    few = ("train.iterations=1", "train.validate_every=1", "run.tensorboard=false")
    run("train", "-opt", file, *few, "--name", "debug")
    assert (tmp_path / "experiments" / "debug" / "models" / "latest_G.pth").is_file()


def test_what_of_the_published_runs_does_not_apply():
    reasons = {
        r"resume_from_\d+": "mended: it restarted the epoch and reseeded; see test_commands",
        "no_checkpoint_given": "mended: random weights are never used without a word",
        "model_file_keys_equal_state_dict": "see test_weights",
        "quantitative_test_setup": "read by the tests above",
        "load_module_prefix_test_config_without_strict_load": "the same as with it here",
        "load_missing_and_extra_keys_test_config_without_strict_load": "mended: always strict",
        "note": "prose",
    }
    covered = {
        "quantitative_test", "quantitative_test_frames", "qualitative_test", "train_none",
        "load_module_prefix_strict", "load_missing_and_extra_keys_strict", "missing_checkpoint",
        "state_file", "same_name_again", "train_none_with_val", "use_tb_logger_false",
        "debug_in_name", "bad_options", "train_distributed_one_process_with_val",
    }  # fmt: skip
    require_known(reference_json(E2E), *covered, *reasons)
