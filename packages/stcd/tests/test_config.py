"""The published option files in our terms."""

from pathlib import Path

import pytest
import yaml

from llve_common.config import load_settings
from llve_common.data.sdsd.splits import SDSD_INDOOR_TEST
from llve_common.errors import ConfigError
from llve_common.published_options import read_options
from llve_common.testing.reference import reference_json
from llve_stcd import config
from llve_stcd.config import TEST_OPTIONS, TRAIN_OPTIONS, TrainSettings


def settings_of(file, settings, table):
    return load_settings(settings, None, (), {}, base=read_options(file, table).given)


def options(tmp_path, name):
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump(reference_json("sdsd_stcd/options")[name], sort_keys=False))
    return file


@pytest.mark.reference
def test_the_published_training_is_the_default(tmp_path):
    file = options(tmp_path, "stcd/train/SDSD_indoor.yml")
    found = settings_of(file, TrainSettings, TRAIN_OPTIONS.file)
    default = TrainSettings().model_dump()
    default["data"] |= {
        "low": Path("path_to_dataset/indoor_np/input"),
        "high": Path("path_to_dataset/indoor_np/GT"),
        "test_clips": SDSD_INDOOR_TEST,
    }
    default["train"]["workers"] = 16
    default["run"]["name"] = "SDSD_indoor_model2"
    assert found.model_dump() == default
    note = read_options(file, TRAIN_OPTIONS.file).note
    for key in ("nframes", "groups", "back_RBs", "w_TSA", "GT_size", "use_flip", "padding"):
        assert key in note


@pytest.mark.reference
def test_the_published_test_is_the_default(tmp_path):
    file = options(tmp_path, "stcd/test/SDSD_indoor_test.yml")
    found = settings_of(file, config.TestSettings, TEST_OPTIONS.file)
    default = config.TestSettings().model_dump()
    default["data"] |= {
        "low": Path("path_to_dataset/indoor_np/input"),
        "high": Path("path_to_dataset/indoor_np/GT"),
        "test_clips": SDSD_INDOOR_TEST,
    }
    default["weights"] = Path("pretrained_model/SDSD_indoor_model/indoor_G.pth")
    default["name"] = "SDSD_indoor_model2"
    assert found.model_dump() == default


def test_what_the_published_network_could_not_run_is_refused(tmp_path):
    file = tmp_path / "options.yml"
    file.write_text("network_G:\n  nf: 66\n  HR_in: false\n")
    with pytest.raises(ConfigError, match="HR_in"):
        read_options(file, TRAIN_OPTIONS.file)
    file.write_text("network_G:\n  nf: 66\n")
    with pytest.raises(ConfigError, match="nf"):
        settings_of(file, TrainSettings, TRAIN_OPTIONS.file)
    file.write_text("network_G:\n  nf: 32\n")
    assert settings_of(file, TrainSettings, TRAIN_OPTIONS.file).network.nf == 32
