"""The commands on the reference set, against what the published scripts print and write there."""

import re

import pytest
import yaml
from published_scripts import PublishedRuns, check_clips, logged, numbers
from recipes import check_pixels

from llve_common.io.images import read_image
from llve_common.testing.reference import reference_arrays, reference_json, require_known
from llve_common.weights.files import read_checkpoint
from llve_sdsd.__main__ import app
from llve_sdsd.network import RetinexNet

pytestmark = pytest.mark.reference


class TestPublishedRuns(PublishedRuns):
    paper = "sdsd"
    app = app
    tested = "quantitative_test"

    def network(self, arguments):
        sizes = arguments["nf"], arguments["nframes"], arguments["groups"]
        blocks = {"front_blocks": arguments["front_RBs"], "back_blocks": arguments["back_RBs"]}
        return RetinexNet(*sizes, **blocks)

    def training_options(self):
        options, state = super().training_options(), self.listed["state_file"]
        schedule, (beta1, beta2) = state["scheduler"], state["param_groups"][0]["betas"]
        log = logged(self.listed["train_none"]["log"])
        options["train"] |= {
            "lr_G": schedule["base_lrs"][0],
            "beta1": beta1,
            "beta2": beta2,
            "ft_tsa_only": next(number for number, rates, _ in log if rates[0] > 0),
            "T_period": schedule["T_period"],
            # The published scheduler counts them from 1.
            "restarts": [each - 1 for each in schedule["restarts"]],
            "restart_weights": schedule["restart_weights"],
            "eta_min": schedule["eta_min"],
        }
        return options

    def test_scores(self, tmp_path, option_file):
        """Of every frame, their means of clips, and of both clips; without --save-images."""
        published = self.listed["quantitative_test"]
        self.run("test", "-opt", option_file("test"))
        folder = tmp_path / "results" / "tiny"
        summary, printed = self.check_scores(folder), published["stdout"]
        means = next(line for line in printed if re.fullmatch(r"[\d.]+ [\d.]+", line)).split()
        assert summary["mean_of_clips"]["psnr"] == pytest.approx(float(means[0]), abs=1e-2)
        assert summary["mean_of_clips"]["ssim"] == pytest.approx(float(means[1]), abs=1e-4)
        check_clips(summary, "psnr", printed[-2])
        check_clips(summary, "ssim", printed[-1])
        assert published["files_written"] == []
        assert not (folder / "images").exists()

    def test_pictures(self, tmp_path, root, option_file):
        """Mended: names are the clip's and the frame's, not a list's repr; no truth is needed."""
        case, low_only = self.listed["qualitative_test"], tmp_path / "set"
        low_only.mkdir()
        (low_only / "input").symlink_to(root / "input")
        file = option_file("test")
        options = yaml.safe_load(file.read_text())
        del options["datasets"]["test"]["dataroot_GT"], options["datasets"]["test"]["dataroot_LQ"]
        file.write_text(yaml.dump(options))
        words = ("test", "-opt", file, "--data_path", low_only)
        assert "nothing to score" in self.run(*words, fails=True)
        output = self.run(*words, "--save-images")
        assert "without effect here" in " ".join(output.split())
        images = tmp_path / "results" / "tiny" / "images"
        clips = sorted(self.listed["quantitative_test_setup"]["testing_dir"])
        lengths = reference_json("sdsd_stcd/data_sdsd")["dataset"]["pairs_in_recipe_order"]
        for side in ("input", "output"):
            written = {path.relative_to(images / side) for path in images.glob(f"{side}/*/*.png")}
            assert {path.as_posix() for path in written} == {
                f"{clip}/{number:04d}.png" for clip in clips for number in range(lengths[clip])
            }
        first = images / "output" / clips[0] / "0000.png"
        pixels = read_image(first).pixels
        assert list(pixels.shape) == case["first_png_shape"]
        published = reference_arrays("sdsd_stcd/e2e_sdsd")["first_test_frame_enhanced_uint8_bgr"]
        check_pixels(pixels, published[..., ::-1], 1e-3)
        assert f"/input/['{clips[0]}']." in case["files_written"][0]

    def test_loading(self, tmp_path, weights, option_file):
        # A prefix is stripped, strict or not: the scores are those of the test above.
        assert self.listed["load_module_prefix_strict"]["error"] is None
        for name in ("conv_last.bias", "extra.key"):
            assert name in self.listed["load_missing_and_extra_keys_strict"]["error"]
        file = option_file("test")
        self.check_damaged(tmp_path, weights, file, "conv_last.bias")
        assert self.listed["missing_checkpoint"].startswith("FileNotFoundError")
        words = ("test", "-opt", file, "--model", tmp_path / "none.pth")
        assert "none.pth" in self.run(*words, fails=True)

    def test_training(self, tmp_path, option_file):
        """The files, the rates, the state; what is drawn and cut out differs, so the losses do."""
        file = option_file("train")
        self.run("train", "-opt", file)
        folder, wanted = tmp_path / "experiments" / "tiny", self.listed["state_file"]
        losses = self.check_training(folder)
        # Mended: the PSNR there is divided by the number of frames, of one frame of a training
        # clip.
        stacked = read_image(min((folder / "val_images").iterdir())).pixels
        assert list(stacked.shape) == self.with_pictures["val_image_shape"]
        state = read_checkpoint(folder / "checkpoints" / f"{wanted['iter']:08d}.ckpt")
        assert state["iteration"] == wanted["iter"]
        groups = state["optimizer"]["param_groups"]
        for group, published in zip(groups, wanted["param_groups"], strict=True):
            assert group["lr"] == pytest.approx(published["lr"], rel=1e-9)
            assert group["initial_lr"] == published["initial_lr"]
            assert list(group["betas"]) == published["betas"]
        assert sum(len(group["params"]) for group in groups) == wanted["state_entries"]
        assert len(state["optimizer"]["state"]) == wanted["state_entries"]

        # The same name again: the folder is renamed, never overwritten.
        self.run("train", "-opt", file, "train.iterations=1", "train.validate_every=null")
        names = sorted(each.name for each in folder.parent.iterdir())
        assert re.fullmatch(r"tiny_archived_\d{6}-\d{6}", names[1])
        assert names[0] == "tiny" == self.listed["same_name_again"]["folders"][0]
        assert (folder.parent / names[1] / "models" / f"{len(losses)}_G.pth").is_file()

    def test_slips_of_training_are_mended(self, tmp_path, option_file):
        listed, file = self.listed, option_file("train")
        # A batch larger than the set trained nothing there, and saved a model all the same.
        assert listed["bad_options"]["batch_larger_than_dataset"]["error"] is None
        [images] = numbers(r"Number of train images: (\d+)", listed["train_none"]["log"])
        output = self.run("train", "-opt", file, f"train.batch_size={images + 1}", fails=True)
        assert "the batch is larger than the data set" in output
        assert not (tmp_path / "experiments").exists()
        # These ended with an exception there.
        for broken in ("train_none_with_val", "use_tb_logger_false", "debug_in_name"):
            assert "Error" in listed[broken]["error"]
        few = ("train.iterations=1", "train.validate_every=1", "run.tensorboard=false")
        self.run("train", "-opt", file, *few, "--name", "debug")
        assert (tmp_path / "experiments" / "debug" / "models" / "latest_G.pth").is_file()

    def test_what_does_not_apply(self):
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
            "load_module_prefix_strict", "load_missing_and_extra_keys_strict", "state_file",
            "same_name_again", "train_none_with_val", "use_tb_logger_false", "debug_in_name",
            "bad_options", "train_distributed_one_process_with_val", "missing_checkpoint",
        }  # fmt: skip
        require_known(self.listed, *covered, *reasons)
        # Training's last weights follow from its draws and from options that are told nowhere.
        arrays = "first_test_frame_enhanced_uint8_bgr", "train_none/final_parameter_fingerprints"
        require_known(reference_arrays("sdsd_stcd/e2e_sdsd"), *arrays)
