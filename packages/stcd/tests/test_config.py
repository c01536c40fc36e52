"""The published option files in our terms."""

import pytest
import yaml
from published_scripts import check_options, option_files, shipped_files

from llve_common.config import load_settings
from llve_common.errors import ConfigError
from llve_common.published_options import read_options
from llve_stcd import config
from llve_stcd.config import TEST_OPTIONS, TRAIN_OPTIONS, TrainSettings

KINDS = {
    "train": (TRAIN_OPTIONS.file, TrainSettings),
    "test": (TEST_OPTIONS.file, config.TestSettings),
}
OWN = {
    "train.pixel_weight": "objective.pixel_weight",
    "train.manual.resize960x512_seed": "train.seed",
}


def settings_of(file, settings, table):
    return load_settings(settings, None, (), {}, base=read_options(file, table).given)


def written(tmp_path, content):
    file = tmp_path / "options.yml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


@pytest.mark.reference
@pytest.mark.parametrize("command", KINDS)
def test_published_files_as_they_are(tmp_path, command):
    table, kind = KINDS[command]
    for content in option_files("stcd", command):
        file = written(tmp_path, content)
        found, note = settings_of(file, kind, table), read_options(file, table).note
        idle = check_options(content, command, found, note, OWN)
        clips = content["datasets"][command]["testing_dir"].split(",")
        assert found.data.test_clips == tuple(clips)
        for key in ("nframes", "groups", "back_RBs", "w_TSA"):
            assert f"network_G.{key}" in idle


@pytest.mark.reference
def test_the_defaults_are_the_published_files(tmp_path):
    for command, _, content in shipped_files("stcd"):
        table, kind = KINDS[command]
        found = settings_of(written(tmp_path, content), kind, table).model_dump()
        default = kind().model_dump()
        for key in ("low", "high"):
            default["data"][key] = found["data"][key]
        names = content["datasets"][command]["testing_dir"].split(",")
        default["data"]["test_clips"] = tuple(names)
        if command == "train":
            default["run"]["name"] = content["name"]
            default["train"]["workers"] = content["datasets"]["train"]["n_workers"]
        else:
            default |= {"name": content["name"], "weights": found["weights"]}
        assert found == default


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
