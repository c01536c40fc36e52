"""TCE-Net's data sets, on small files."""

import random

import numpy as np
import pytest
import torch

from llve_common.errors import ConfigError, DataError
from llve_common.io.images import write_image
from llve_common.testing.conformance import dark_frames, write_video
from llve_common.train.batches import draw_batches
from llve_tcenet.config import TrainSettings
from llve_tcenet.data import PairedVideos, RealAndSynthetic, video_clips
from llve_tcenet.paper import training_set, validation_clips


@pytest.fixture
def ramps(tmp_path):
    """A video whose frame t is t everywhere, in 16 bits, with the frame's double as truth."""

    def make(name="a", frames=8, size=(40, 60), truths=None):
        for number in range(frames):
            pixels = np.full((*size, 3), 4000 * number, np.uint16)
            write_image(tmp_path / "low" / name / f"{number:05d}.png", pixels)
            if truths is None or number < truths:
                write_image(tmp_path / "normal" / name / f"{number:05d}.png", 2 * pixels)
        return tmp_path / "low", tmp_path / "normal"

    return make


def sample(clips, seed=0, crop=16, scales=(1.0, 1.0)):
    return PairedVideos(clips, crop, scales).sample(0, random.Random(seed))


def test_a_window_and_the_truth_of_its_middle_frames(ramps):
    clips = video_clips(*ramps())
    starts = set()
    for seed in range(30):
        found = sample(clips, seed)
        assert found["low"].shape == (6, 3, 16, 16)
        assert found["target"].shape == (2, 3, 16, 16)
        steps = found["low"][:, 0, 0, 0] * 65535 / 4000
        start = round(float(steps[0]))
        starts.add(start)
        torch.testing.assert_close(steps, torch.arange(6.0) + start, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found["target"], 2 * found["low"][2:4], rtol=1e-4, atol=1e-5)
    assert starts == {0, 1, 2}


def test_all_frames_are_cut_and_turned_alike(tmp_path):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (40, 60, 3), np.uint8)
    for number in range(6):
        for side in ("low", "normal"):
            write_image(tmp_path / side / "a" / f"{number}.png", picture)
    clips = video_clips(tmp_path / "low", tmp_path / "normal")
    views = set()
    for seed in range(40):
        found = sample(clips, seed, scales=(0.5, 2.0))
        frames = torch.cat([found["low"], found["target"]])
        assert (frames == frames[0]).all()
        views.add(frames[0].numpy().tobytes())
    assert len(views) == 40


def test_small_videos_are_scaled_up_to_the_crop(ramps):
    clips = video_clips(*ramps(size=(10, 14)))
    assert sample(clips, crop=32, scales=(0.5, 0.5))["low"].shape == (6, 3, 32, 32)


def test_an_epoch_draws_every_real_video_as_often(ramps):
    for name in ("a", "b", "c"):
        folders = ramps(name)
    real = PairedVideos(video_clips(*folders), 16, (1.0, 1.0))
    synthetic = PairedVideos(real.clips[:2], 16, (1.0, 1.0))
    drawn = []
    real.sample = lambda index, rng: drawn.append(index) or index
    synthetic.sample = lambda index, rng: index
    data = RealAndSynthetic(real, synthetic, repeat=4, batch_size=4)
    pairs = [tuple(data.sample(index, random.Random(0)).values()) for index in range(len(data))]
    assert sorted(drawn) == [0] * 4 + [1] * 4 + [2] * 4
    assert {pair[1] for pair in pairs if pair[0] == 0} == {0, 1}
    draws = draw_batches(len(data), 4, 0, range(1, 4), turn=data.turn)
    order = [pairs[draw.sample][0] for share in draws for draw in share.samples]
    assert all(sorted(order[start : start + 3]) == [0, 1, 2] for start in range(0, 12, 3))
    # An epoch is filled up to whole batches.
    assert len(RealAndSynthetic(real, synthetic, repeat=1, batch_size=2)) == 4


@pytest.mark.parametrize(
    ("real", "synthetic", "repeat", "epochs"),
    [
        (70, 100, 10, 1),
        (1, 10, 10, 1),
        (6, 4, 2, 1),
        (5, 5, 3, 1),
        (10, 30, 2, 9),
        (10, 300, 10, 30),
    ],
)
def test_every_synthetic_video_is_trained_on(ramps, real, synthetic, repeat, epochs):
    [clip] = video_clips(*ramps(frames=6, size=(4, 4)))
    sets = [PairedVideos([clip] * count, 16, (1.0, 1.0)) for count in (real, synthetic)]
    for each in sets:
        each.sample = lambda index, rng: index
    data = RealAndSynthetic(*sets, repeat, 1)
    met = [
        tuple(data.sample(draw, random.Random(f"{epoch}/{draw}")).values())
        for epoch in range(epochs) for draw in range(len(data))
    ]  # fmt: skip
    assert {partner for _, partner in met} == set(range(synthetic))
    assert epochs > 1 or len(set(met)) == min(len(met), real * synthetic)
    if real == synthetic:
        assert [partner for _, partner in met] == [
            (video + turn) % synthetic for turn in range(repeat) for video in range(real)
        ]


def test_one_truth_serves_a_whole_video(ramps):
    [clip] = video_clips(*ramps(truths=1))
    assert len(set(clip.targets)) == 1
    assert len(clip.targets) == 8


def test_lists(ramps, tmp_path):
    for name in ("a", "b"):
        low, normal = ramps(name)
    listed = tmp_path / "train_list.txt"
    listed.write_text("b\n\n", encoding="utf-8-sig")
    assert [clip.name for clip in video_clips(low, normal, listed)] == ["b"]
    listed.write_text("c\n")
    with pytest.raises(DataError, match="no such folder"):
        video_clips(low, normal, listed)
    for elsewhere in ("..", f"../{low.name}/b", str(low)):
        listed.write_text(elsewhere)
        with pytest.raises(DataError, match="names what is not in the folder"):
            video_clips(low, normal, listed)
    listed.write_text("\n")
    with pytest.raises(DataError, match="names no video"):
        video_clips(low, normal, listed)
    with pytest.raises(DataError, match="list of videos cannot be read"):
        video_clips(low, normal, tmp_path / "none.txt")


def test_a_set_needs_no_list_that_nobody_named(ramps):
    low, normal = map(str, ramps())
    own = {"low": low, "normal": normal}
    settings = TrainSettings.model_validate({"data": {"real": own}})
    assert settings.data.real.list is None
    assert settings.data.synthetic == TrainSettings().data.synthetic
    settings = TrainSettings.model_validate({"data": {"real": own, "synthetic": own}})
    assert len(training_set(settings)) == 12


def test_the_published_test_videos_validate_where_they_are(ramps, tmp_path, caplog):
    for name in ("a", "b"):
        low, normal = map(str, ramps(name))
    real = {"low": low, "normal": normal}

    def validated(**data):
        settings = TrainSettings.model_validate({"data": {"real": real, **data}})
        return [
            (clip.name, [file.stem for file in clip.frames]) for clip in validation_clips(settings)
        ]

    (tmp_path / "test_list.txt").write_text("b\nnot-downloaded\n")
    assert validated() == []  # all are trained on
    real["list"] = str(tmp_path / "train_list.txt")
    assert validated() == [("b", [f"0000{number}" for number in range(2, 8)])]
    assert [name for name, _ in validated(validation={"low": low, "normal": normal})] == ["a", "b"]
    assert "left out, not there: not-downloaded" in caplog.text
    real["list"] = str(tmp_path / "lists" / "train_list.txt")
    assert validated() == []


def test_video_files_may_be_tested_but_not_trained_on(ramps):
    low, normal = ramps()
    video = low / "b.mp4"
    write_video(video, dark_frames(8, 40, 60))
    (normal / "a").rename(normal / "b")
    [clip] = video_clips(video, normal / "b")
    assert (clip.name, clip.frames, clip.count, len(clip.targets)) == ("b", (video,), 8, 8)
    assert [each.name for each in video_clips(low, None)] == ["a", "b"]
    with pytest.raises(DataError, match="a video does not give"):
        PairedVideos([clip], 16, (1.0, 1.0))


def test_sizes_that_differ_are_named(ramps, tmp_path):
    low, normal = ramps(frames=6)
    odd = low / "a" / "00003.png"
    write_image(odd, np.zeros((40, 61, 3), np.uint16))
    with pytest.raises(DataError, match=r"00003.png: the frames .* differ in size"):
        sample(video_clips(low, normal))


@pytest.mark.parametrize(("count", "accumulate", "least"), [(3, 1, 6), (2, 2, 8)])
def test_a_process_with_too_few_samples_for_batch_norm(monkeypatch, count, accumulate, least):
    monkeypatch.setenv("WORLD_SIZE", str(count))
    chosen = {"batch_size": 4, "accumulate": accumulate}
    with pytest.raises(ConfigError, match="at least 2 samples") as caught:
        training_set(TrainSettings.model_validate({"train": chosen}))
    assert caught.value.expected == f"at least {least}"


def test_videos_too_short_are_refused(ramps):
    with pytest.raises(DataError, match=r"too short for a window[\s\S]*--low FOLDER"):
        PairedVideos(video_clips(*ramps(frames=5)), 16, (1.0, 1.0))
