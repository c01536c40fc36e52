"""The published option files in our terms."""

from operator import attrgetter
from pathlib import Path

import pytest
import yaml
from recipes import leaves, published_file

from llve_common.config import load_settings
from llve_common.errors import ConfigError
from llve_common.paper.published_options import read_options
from llve_common.testing.reference import reference_json
from llve_stcd import config
from llve_stcd.config import TEST_OPTIONS, TRAIN_OPTIONS, TrainSettings

KINDS = {"train": (TRAIN_OPTIONS, TrainSettings), "test": (TEST_OPTIONS, config.TestSettings)}
# Our setting of a published key, where their values are the same.
SAME = {
    "data.dataroot_GT": "data.high", "data.dataroot_LQ": "data.low", "data.train_size": "data.size",
    "data.n_workers": "train.workers", "data.batch_size": "train.batch_size",
    "network_G.nf": "network.nf", "network_G.front_RBs": "network.front_blocks",
    "train.lr_G": "train.lr", "train.beta1": "train.beta1", "train.beta2": "train.beta2",
    "train.niter": "train.iterations", "train.warmup_iter": "train.schedule.warmup",
    "train.T_period": "train.schedule.periods", "train.restarts": "train.schedule.restarts",
    "train.restart_weights": "train.schedule.restart_weights",
    "train.eta_min": "train.schedule.eta_min", "train.pixel_criterion": "objective.criterion",
    "train.pixel_weight": "objective.pixel_weight", "train.val_freq": "train.validate_every",
    "train.manual.resize960x512_seed": "train.seed", "logger.print_freq": "run.log_every",
    "logger.save_checkpoint_freq": "train.save_every",
}  # fmt: skip


def settings_of(file, settings, table):
    return load_settings(settings, None, (), {}, base=read_options(file, table).given)


@pytest.mark.reference
@pytest.mark.parametrize("command", KINDS)
def test_published_files_as_they_are(tmp_path, command):
    table, kind = KINDS[command]
    for name, content in reference_json("sdsd_stcd/options").items():
        if not name.startswith(f"stcd/{command}/"):
            continue
        file = tmp_path / "options.yml"
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        found, note = settings_of(file, kind, table), read_options(file, table).note
        idle, data = note.split(": ")[-1].split(", "), content["datasets"][command]
        for key, value in leaves({**content, "datasets": {}, "data": data}).items():
            if key in SAME and key.replace("data.", f"datasets.{command}.") not in idle:
                ours = attrgetter(SAME[key])(found)
                wanted = tuple(value) if isinstance(value, list) else value
                assert (str(ours) if isinstance(ours, Path) else ours) == wanted, key
        assert found.data.test_clips == tuple(data["testing_dir"].split(","))
        assert (found.run.name if command == "train" else found.name) == content["name"]
        for key in ("nframes", "groups", "back_RBs", "w_TSA"):
            assert f"network_G.{key}" in idle


@pytest.mark.reference
def test_the_defaults_are_the_published_files(tmp_path):
    """As they were published once, whatever another set's options are."""
    for name, lines in reference_json("published_lines")["option_files"].items():
        paper, _, command, _ = name.split("/")
        if paper != "stcd":
            continue
        table, kind = KINDS[command]
        content = published_file(lines)
        file = tmp_path / "options.yml"
        file.write_text(yaml.safe_dump(content))
        found, default = settings_of(file, kind, table).model_dump(), kind().model_dump()
        for key in ("low", "high"):
            default["data"][key] = found["data"][key]
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
        read_options(file, TRAIN_OPTIONS)
    file.write_text("network_G:\n  nf: 66\n")
    with pytest.raises(ConfigError, match="nf"):
        settings_of(file, TrainSettings, TRAIN_OPTIONS)
    file.write_text("network_G:\n  nf: 32\n")
    assert settings_of(file, TrainSettings, TRAIN_OPTIONS).network.nf == 32
