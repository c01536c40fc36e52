"""Settings and published option files."""

import pytest
import yaml
from published_scripts import check_options, option_files, shipped_files

from llve_common.config import load_settings
from llve_common.data.sdsd.layout import (
    test_names as names_of_test,  # pytest takes test_* for tests
)
from llve_common.data.sdsd.splits import SDSD_INDOOR_TEST, SDSD_OUTDOOR_TEST, SMID_TEST
from llve_common.errors import ConfigError
from llve_common.paper.configs import find_config
from llve_common.published_options import read_options
from llve_common.testing.reference import reference_json, require_known
from llve_sdsd import config
from llve_sdsd.config import TEST_OPTIONS, TRAIN_OPTIONS, TrainSettings
from llve_sdsd.paper import PAPER

SUBSETS = {"in_sdsd": "indoor", "out_sdsd": "outdoor", "smid": "smid"}
SPLITS = {"indoor": SDSD_INDOOR_TEST, "outdoor": SDSD_OUTDOOR_TEST, "smid": SMID_TEST}


def shipped(name):
    kind = TrainSettings if name.startswith("train/") else config.TestSettings
    return load_settings(kind, find_config(PAPER, name))


@pytest.mark.parametrize("subset", SPLITS)
def test_the_shipped_settings_are_the_defaults_but_for_the_subset(subset):
    train = shipped(f"train/{subset}")
    assert train.network == TrainSettings().network
    own = {"seed": train.train.seed}
    assert train.train == TrainSettings().train.model_copy(update=own)
    for settings in (train, shipped(f"test/{subset}")):
        assert names_of_test(settings.data) == SPLITS[subset]
    assert names_of_test(TrainSettings().data) == SDSD_INDOOR_TEST


def test_an_even_window_is_refused():
    with pytest.raises(ConfigError, match="odd number of frames"):
        load_settings(TrainSettings, overrides=["network.frames=4"])


@pytest.mark.parametrize(("frames", "middle"), [(3, 1), (5, 2)])
def test_a_centre_other_than_the_middle_is_refused(frames, middle):
    """Nothing would aim at it: the ground truth is the middle frame's."""
    for center in ("null", middle):
        words = [f"network.frames={frames}", f"network.center={center}"]
        assert load_settings(TrainSettings, overrides=words).network.frames == frames
    for center in (0, frames, -1):
        words = [f"network.frames={frames}", f"network.center={center}"]
        with pytest.raises(ConfigError, match=rf"network\.center.*{center}.*{middle}, the middle"):
            load_settings(TrainSettings, overrides=words)


# The published files

KINDS = {
    "train": (TRAIN_OPTIONS.file, TrainSettings),
    "test": (TEST_OPTIONS.file, config.TestSettings),
}
OWN = {
    "data.padding": "data.border", "data.GT_size": "data.crop",
    "data.use_flip": "data.flip_horizontal", "data.use_rot": "data.flip_vertical",
    "data.N_frames": "network.frames", "network_G.nframes": "network.frames",
    "network_G.groups": "network.groups", "network_G.back_RBs": "network.back_blocks",
    "network_G.w_TSA": "network.attention", "train.ft_tsa_only": "train.fusion_only",
    "train.pixel_weight": "objective.weight", "train.manual_seed": "train.seed",
    "path.pretrain_model_G": "weights",
}  # fmt: skip


def read(tmp_path, content, table):
    file = tmp_path / "options.yml"
    file.write_text(yaml.dump(content, sort_keys=False))
    return read_options(file, table)


def settings_of(tmp_path, content, command="train"):
    table, kind = KINDS[command]
    return load_settings(kind, base=read(tmp_path, content, table).given)


@pytest.mark.reference
@pytest.mark.parametrize("command", KINDS)
def test_published_files_as_they_are(tmp_path, command):
    for content in option_files("sdsd", command):
        data, found = content["datasets"][command], settings_of(tmp_path, content, command)
        note = read(tmp_path, content, KINDS[command][0]).note
        assert note.startswith(f"{tmp_path / 'options.yml'}: without effect here: ")
        check_options(content, command, found, note, OWN)
        assert ("smid" in data["mode"]) == (found.data.layout == "smid")
        names = data["testing_dir"].split(",") if "testing_dir" in data else SMID_TEST
        assert names_of_test(found.data) == tuple(names)


@pytest.mark.reference
def test_the_shipped_settings_are_the_published_files(tmp_path):
    for command, name, content in shipped_files("sdsd"):
        found = settings_of(tmp_path, content, command)
        wanted = shipped(f"{command}/{SUBSETS[name.removeprefix(f'{command}_')]}")
        assert names_of_test(found.data) == names_of_test(wanted.data)
        # There a path to each of the folders, here to the one that holds both.
        same = {"root": wanted.data.root, "low": None, "high": None}
        same["test_clips"] = wanted.data.test_clips
        changes = {"data": found.data.model_copy(update=same), "weights": None}
        assert found.model_copy(update=changes) == wanted


@pytest.mark.reference
def test_published_files_with_a_slip(tmp_path):
    content = option_files("sdsd", "train")[0]
    content = content | {"train": content["train"] | {"lr_g": 1e-3}, "networkG": {"nf": 3}}
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, content, TRAIN_OPTIONS.file)
    said = str(caught.value)
    assert "train.lr_g: unknown key; did you mean 'train.lr_G'?" in said
    assert "networkG.nf: unknown key; did you mean 'network_G.nf'?" in said


@pytest.mark.reference
def test_published_errors_for_wrong_options(tmp_path):
    """What the published scripts refuse is refused here, with the file and the key."""
    content = option_files("sdsd", "train")[0]
    wrong = {
        "unknown_loss": ("train", "pixel_criterion", "l2"),
        "unknown_scheme": ("train", "lr_scheme", "x"),
        "unknown_network": ("network_G", "which_model_G", "x"),
        "unknown_model": ("model", None, "x"),
        "unknown_dataset_mode": ("datasets", "train", "x"),
        "unknown_phase": ("datasets", "foo", {"mode": "x"}),
        # See the test of the commands.
        "batch_larger_than_dataset": None,
    }
    require_known(reference_json("sdsd_stcd/e2e_sdsd")["bad_options"], *wrong)
    for place in filter(None, wrong.values()):
        section, key, value = place
        inner = value if key is None else content[section] | {key: value}
        if key == "train":
            inner = content[section] | {key: content[section][key] | {"mode": value}}
        with pytest.raises(ConfigError, match=rf"options\.yml:\d+: {section}"):
            settings_of(tmp_path, content | {section: inner})


def test_what_a_published_file_leaves_out(tmp_path):
    text = "train: {T_period: [5, 5], lr_G: !!float 4e-4}\ndatasets: {train: {N_frames: 3}}\n"
    (tmp_path / "options.yml").write_text(text)
    given = read_options(tmp_path / "options.yml", TRAIN_OPTIONS.file).given
    settings = load_settings(TrainSettings, base=given)
    assert settings.train.fusion_only == 0
    assert settings.train.schedule.restarts == ()
    assert settings.network.attention is False
    assert settings.network.frames == 3
