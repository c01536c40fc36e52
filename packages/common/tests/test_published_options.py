"""Published option files as settings."""

from pathlib import Path

import pytest

from llve_common.config import Settings, TrainerSettings, load_settings
from llve_common.data.sdsd import settings as sdsd
from llve_common.errors import ConfigError
from llve_common.published_options import OptionTable, below, only, read_options, renamed


class Train(TrainerSettings):
    lr: float = 1.0
    scheme: str = "none"


class All(Settings):
    train: Train = Train()
    folder: str = "here"
    save: Path = Path()


TABLE = OptionTable(
    settings={
        "train.lr_G": "train.lr",
        "train.manual_seed": "train.seed",
        "train.lr_scheme": renamed("train.scheme", {"CosineAnnealingLR": "cosine"}),
        "datasets.train.batch_size": "train.batch_size",
        "datasets.val.batch_size": "train.batch_size",
        "model": only("video_base"),
        "datasets.train.list": lambda value: {"folder": "/".join(value.split(","))},
        "path.root": below("save", "results"),
    },
    without_effect=["distortion", "datasets.train.odd.key"],
    left_out={"train.clip_norm": 2.0},
)


@pytest.fixture
def options(tmp_path):
    def read(text):
        file = tmp_path / "train.yml"
        file.write_text(text)
        return read_options(file, TABLE)

    return read


def test_keys_become_settings(options):
    read = options(
        "model: video_base\ntrain:\n  lr_G: !!float 4e-4\n  lr_scheme: CosineAnnealingLR\n"
        "datasets: {train: {batch_size: 3, list: 'a,b'}}\n"
    )
    settings = load_settings(All, base=read.given)
    assert settings.train == Train(lr=4e-4, scheme="cosine", batch_size=3, clip_norm=2)
    assert settings.folder == "a/b"
    assert read.note is None


def test_a_folder_in_the_one_given(options):
    given = options("path: {root: /out}\n").given
    assert load_settings(All, base=given).save == Path("/out/results")
    with pytest.raises(ConfigError, match="got 3; input should be a folder"):
        options("path: {root: 3}")


def test_names_with_commas_between_them():
    table = sdsd.test_options({}, {}, idle_data=(), idle=())
    read = table.settings["datasets.test.testing_dir"]
    assert read("pair1, pair2,") == {"data.test_clips": ("pair1", "pair2")}
    with pytest.raises(ValueError, match="commas"):
        read(3)


def test_overrides_and_options_win_over_the_file(options):
    given = options("train: {lr_G: 2, manual_seed: 5}\n").given
    settings = load_settings(All, None, ["train.lr=3"], {"train.seed": 6}, base=given)
    assert (settings.train.lr, settings.train.seed) == (3, 6)


def test_a_key_without_a_value_leaves_the_default(options):
    read = options("train: {lr_G: ~}\ndatasets: ~\n")
    assert load_settings(All, base=read.given) == All(train=Train(clip_norm=2))


def test_keys_without_effect_are_listed_once(options, tmp_path):
    note = options("distortion: sr\ndatasets:\n  train:\n    odd.key: 0\n").note
    assert note.startswith(f"{tmp_path / 'train.yml'}: without effect here: ")
    assert note.endswith(": distortion, datasets.train.odd.key")


def test_all_mistakes_are_named_with_line_and_nearest_key(options, tmp_path):
    text = "model: sr\ntrain:\n  lr_D: 1\n  lr_scheme: x\ndataset:\n  train: {batch_size: 2}\n"
    with pytest.raises(ConfigError) as caught:
        options(text)
    file = tmp_path / "train.yml"
    assert str(caught.value).splitlines() == [
        "4 keys are wrong",
        f"{file}:1: model: got 'sr'; input should be 'video_base'",
        f"{file}:3: train.lr_D: unknown key; did you mean 'train.lr_G'?",
        f"{file}:4: train.lr_scheme: got 'x'; input should be 'CosineAnnealingLR'",
        f"{file}:6: dataset.train.batch_size: unknown key; "
        "did you mean 'datasets.train.batch_size'?",
    ]


def test_a_value_of_the_wrong_kind_is_named_with_its_published_key(options, tmp_path):
    given = options("train:\n  lr_G: fast\n").given
    with pytest.raises(ConfigError, match="got 'fast'") as caught:
        load_settings(All, base=given)
    assert f"{tmp_path / 'train.yml'}:2: train.lr_G: train.lr: got 'fast'" in str(caught.value)


def test_keys_that_contradict_one_another(options):
    with pytest.raises(ConfigError, match=r"got 4, which datasets\.train\.batch_size contradicts"):
        options("datasets: {train: {batch_size: 3}, val: {batch_size: 4}}\n")
    options("datasets: {train: {batch_size: 3}, val: {batch_size: 3}}\n")


@pytest.mark.parametrize(
    "text", ["- a\n", "a: [\n", "train: 3\n", "train: {lr_G: {a: 1}}\n", "model: [1]\n"]
)
def test_files_of_another_form(options, text):
    with pytest.raises(ConfigError):
        options(text)
