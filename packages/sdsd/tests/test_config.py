"""Settings and published option files."""

from operator import attrgetter
from pathlib import Path

import pytest
import yaml
from recipes import leaves, published_file

from llve_common.config import load_settings
from llve_common.data.sdsd.splits import SDSD_INDOOR_TEST, SDSD_OUTDOOR_TEST, SMID_TEST
from llve_common.errors import ConfigError
from llve_common.paper.configs import find_config
from llve_common.paper.published_options import read_options
from llve_common.testing.reference import reference_json, require_known
from llve_sdsd import config
from llve_sdsd.config import TEST_OPTIONS, TRAIN_OPTIONS, TrainSettings
from llve_sdsd.data import test_names as names_of_test  # pytest takes test_* for tests
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
        assert settings.data.test_clips == SPLITS[subset]
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

KINDS = {"train": (TRAIN_OPTIONS, TrainSettings), "test": (TEST_OPTIONS, config.TestSettings)}
# Our setting of a published key, where their values are the same.
SAME = {
    "data.dataroot_GT": "data.high", "data.dataroot_LQ": "data.low", "data.train_size": "data.size",
    "data.padding": "data.border", "data.GT_size": "data.crop",
    "data.use_flip": "data.flip_horizontal", "data.use_rot": "data.flip_vertical",
    "data.N_frames": "network.frames", "data.n_workers": "train.workers",
    "data.batch_size": "train.batch_size", "network_G.nf": "network.nf",
    "network_G.nframes": "network.frames", "network_G.groups": "network.groups",
    "network_G.front_RBs": "network.front_blocks", "network_G.back_RBs": "network.back_blocks",
    "network_G.w_TSA": "network.attention", "train.lr_G": "train.lr", "train.beta1": "train.beta1",
    "train.beta2": "train.beta2", "train.niter": "train.iterations",
    "train.ft_tsa_only": "train.fusion_only", "train.warmup_iter": "train.schedule.warmup",
    "train.T_period": "train.schedule.periods", "train.restarts": "train.schedule.restarts",
    "train.restart_weights": "train.schedule.restart_weights",
    "train.eta_min": "train.schedule.eta_min", "train.pixel_criterion": "objective.criterion",
    "train.pixel_weight": "objective.weight", "train.val_freq": "train.validate_every",
    "train.manual_seed": "train.seed", "logger.print_freq": "run.log_every",
    "logger.save_checkpoint_freq": "train.save_every", "path.pretrain_model_G": "weights",
}  # fmt: skip


def published_files(command):
    """The contents of the published option files of a command."""
    listed = reference_json("sdsd_stcd/options")
    return [content for name, content in listed.items() if name.startswith(f"sdsd/{command}/")]


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
    for content in published_files(command):
        data, found = content["datasets"][command], settings_of(tmp_path, content, command)
        note = read(tmp_path, content, KINDS[command][0]).note
        assert note.startswith(f"{tmp_path / 'options.yml'}: without effect here: ")
        idle = note.split(": ")[-1].split(", ")
        for key, value in leaves({**content, "datasets": {}, "data": data}).items():
            if key in SAME and key.replace("data.", f"datasets.{command}.") not in idle:
                ours = attrgetter(SAME[key])(found)
                wanted = tuple(value) if isinstance(value, list) else value
                assert (str(ours) if isinstance(ours, Path) else ours) == wanted, key
        assert ("smid" in data["mode"]) == (found.data.layout == "smid")
        names = data["testing_dir"].split(",") if "testing_dir" in data else SMID_TEST
        assert names_of_test(found.data) == tuple(names)
        assert (found.run.name if command == "train" else found.name) == content["name"]


@pytest.mark.reference
def test_the_shipped_settings_are_the_published_files(tmp_path):
    """As they were published once, whatever another set's options are."""
    for name, lines in reference_json("published_lines")["option_files"].items():
        paper, _, command, file = name.split("/")
        if paper == "sdsd":
            found = settings_of(tmp_path, published_file(lines), command)
            subset = file.removesuffix(".yml").removeprefix(f"{command}_")
            wanted = shipped(f"{command}/{SUBSETS[subset]}")
            assert names_of_test(found.data) == names_of_test(wanted.data)
            # There a path to each of the folders, here to the one that holds both.
            same = {"root": wanted.data.root, "low": None, "high": None}
            same["test_clips"] = wanted.data.test_clips
            changes = {"data": found.data.model_copy(update=same), "weights": None}
            assert found.model_copy(update=changes) == wanted


@pytest.mark.reference
def test_published_files_with_a_slip(tmp_path):
    content = published_files("train")[0]
    content = content | {"train": content["train"] | {"lr_g": 1e-3}, "networkG": {"nf": 3}}
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, content, TRAIN_OPTIONS)
    said = str(caught.value)
    assert "train.lr_g: unknown key; did you mean 'train.lr_G'?" in said
    assert "networkG.nf: unknown key; did you mean 'network_G.nf'?" in said


@pytest.mark.reference
def test_published_errors_for_wrong_options(tmp_path):
    """What the published scripts refuse is refused here, with the file and the key."""
    content = published_files("train")[0]
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
    given = read_options(tmp_path / "options.yml", TRAIN_OPTIONS).given
    settings = load_settings(TrainSettings, base=given)
    assert settings.train.fusion_only == 0
    assert settings.train.schedule.restarts == ()
    assert settings.network.attention is False
    assert settings.network.frames == 3
