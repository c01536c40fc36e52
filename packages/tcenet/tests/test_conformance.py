"""TCE-Net does what every paper must do."""

from pathlib import Path

from llve_common.testing.conformance import Conformance, write_pairs
from llve_tcenet.__main__ import app
from llve_tcenet.paper import PAPER


class TestConformance(Conformance):
    paper = PAPER
    app = app
    smallest_share = 2  # batch norm sees one value per channel and sample
    device_alone = False  # DIS flow is OpenCV's

    def how_to_train(self, folder: Path) -> list[str]:
        write_pairs(folder / "low" / "a", folder / "normal" / "a", 7)
        low, normal = str(folder / "low"), str(folder / "normal")
        return [
            "train", "--data_path", low, "--target_path", normal,
            "--syn_dir", low, "--syn_ref_dir", normal,
            "--epochs", "1", "--repeat_times", "1", "--crop_size", "16", "--threads", "0",
            "train.batch_size=2", "--flow", "dis", "--no-perceptual", "--base_dim", "8",
            "network.blocks=2",
        ]  # fmt: skip

    def how_to_test(self, folder: Path) -> list[str]:
        write_pairs(folder / "low" / "a", folder / "normal" / "a", 6)
        low, normal = str(folder / "low"), str(folder / "normal")
        data = ["--data_path", low, "--target_path", normal]
        return ["test", *data, "--save_path", str(folder / "out")]
