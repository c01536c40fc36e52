"""SGZ does what every paper must do."""

from pathlib import Path
from typing import ClassVar

from llve_common.data.synthetic import write_image_set
from llve_common.testing.conformance import Conformance
from llve_common.weights.files import write_weights
from llve_sgz.__main__ import app
from llve_sgz.network import Enhancer
from llve_sgz.paper import PAPER


class TestConformance(Conformance):
    paper = PAPER
    app = app
    published_settings: ClassVar = {
        "train.lr": 1e-3,
        "train.weight_decay": 1e-3,
        "train.clip_norm": 0.2,
        "train.epochs": 1,
        "train.batch_size": 2,
        "train.workers": 0,
        "train.snapshot_every": 2,
        "run.log_every": 1,
        "network.scale_factor": 4,
        "network.conv_type": "tc",
        "objective.exp_level": 0.5,
        "objective.patch_size": 5,
        "load_pretrain": True,
        "segmentation.classes": 5,
    }
    instead = ("segmentation.use=false", "data.size=64")

    def published_training(self, folder: Path) -> list[str]:
        write_image_set(folder, clips=1, frames=1, height=24, width=32)
        write_weights(folder / "start.pth", Enhancer(4, "tc").state_dict())
        return [
            "train", "--lowlight_images_path", str(folder / "train" / "low"),
            "--lr", "1e-3", "--weight_decay", "1e-3", "--grad_clip_norm", "0.2",
            "--num_epochs", "1", "--train_batch_size", "2", "--num_workers", "0",
            "--display_iter", "1", "--snapshot_iter", "2", "--scale_factor", "4",
            "--snapshots_folder", str(folder / "EXP"), "--load_pretrain", "True",
            "--pretrain_dir", str(folder / "start.pth"), "--num_of_SegClass", "5",
            "--conv_type", "tc", "--patch_size", "5", "--exp_level", "0.5",
        ]  # fmt: skip

    def published_test(self, folder: Path, weights: Path) -> list[str]:
        write_image_set(folder, clips=1, frames=1, height=24, width=32)
        words = ["--input_dir", str(folder / "test" / "low"), "--weight_dir", str(weights)]
        return ["test", *words, "--test_dir", str(folder / "test_output")]

    def how_to_train(self, folder: Path) -> list[str]:
        write_image_set(folder, clips=1, frames=1, height=24, width=32)
        data = ["--data_path", str(folder / "train" / "low"), "data.size=64"]
        return ["train", *data, "--epochs", "1", "--num_workers", "0", "--no-seg"]

    def how_to_test(self, folder: Path) -> list[str]:
        write_image_set(folder, clips=1, frames=1, height=24, width=32)
        data = ["--data_path", folder / "test" / "low", "--target_path", folder / "test" / "high"]
        return ["test", *map(str, data), "--save_path", str(folder / "out")]
