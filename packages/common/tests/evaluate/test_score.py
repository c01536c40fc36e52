"""Anybody's results under every protocol."""

import json
import weakref
from itertools import pairwise

import numpy as np
import PIL.Image
import pytest
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio
from typer.testing import CliRunner

from llve_common.__main__ import app
from llve_common.errors import ConfigError, DataError, MediaError
from llve_common.evaluate.score import score
from llve_common.io.images import read_image, write_image
from llve_common.metrics.fidelity import psnr, ssim
from llve_common.metrics.quality import grey
from llve_common.report.scored import score_tables, write_scored

SIZE = (40, 56)


@pytest.fixture(name="folders")
def folders_fixture(tmp_path, picture):
    """Five results, their ground truth, and the inputs: half as bright."""
    for number in range(5):
        target = picture(*SIZE, seed=number)
        noise = np.random.default_rng(number).normal(0, 20, target.shape)
        result = np.clip(target * 0.7 + noise, 0, 255).astype(np.uint8)
        for side, pixels in (("gt", target), ("result", result), ("low", target // 2)):
            write_image(tmp_path / side / f"{number}.png", pixels)
    return tmp_path


def test_every_protocol_side_by_side(folders):
    found = score(folders / "result", folders / "gt", inputs=folders / "low")
    means = found.means()
    pairs = [
        [read_image(folders / side / f"{n}.png").pixels for side in ("result", "gt")]
        for n in range(5)
    ]
    assert means["RGB"]["psnr"] == pytest.approx(np.mean([psnr(*pair) for pair in pairs]))
    expected = np.mean([ssim(*pair, "skimage7") for pair in pairs])
    assert means["RGB"]["ssim_skimage7"] == pytest.approx(expected)
    inner = [psnr(*(each[4:-4, 4:-4] for each in pair)) for pair in pairs]
    assert means["RGB, no border"]["psnr"] == pytest.approx(np.mean(inner))
    assert means["RGB, GT-mean"]["psnr"] > means["RGB"]["psnr"] + 1
    assert set(means) == {"RGB", "RGB, GT-mean", "Y", "Y, GT-mean", "grey", "RGB, no border"}
    # 40x56 pixels hold no block of NIQE, and images in a folder are no clip.
    assert set(found.means_alone()) == {"loe", "de", "eme", "colour_error"}
    assert "NIQE: 0 of 5 frames have one" in found.notes[0]
    assert not found.missing


def test_a_figure_of_a_table_is_found_among_the_rows(folders):
    found = score(folders / "result", folders / "gt")
    said = f"{found.means()['Y, GT-mean']['psnr']:.2f}"
    (line,) = found.agreeing(said)
    assert line.startswith(f"agrees: {said}, psnr, Y, GT-mean")
    assert "scaled to the mean brightness of its ground truth" in line
    nearest = found.agreeing("99.99")
    assert len(nearest) == 3
    assert all(line.startswith("differs by ") for line in nearest)
    assert all("ssim" in line for line in found.agreeing("0.5"))
    with pytest.raises(ConfigError, match="not a figure"):
        found.agreeing("good")


def test_the_right_one_of_five_protocols_is_named(folders):
    """For a folder that another program wrote, under other names; scikit-image has the figures."""
    pairs = []
    for file in sorted((folders / "result").iterdir()):
        image = PIL.Image.open(file)
        image.save(file.with_name(f"ours_{file.stem}.bmp"))
        file.unlink()
        pairs.append((np.array(image), np.array(PIL.Image.open(folders / "gt" / file.name))))
    brightness = [tuple(np.mean(each @ [0.299, 0.587, 0.114]) for each in pair) for pair in pairs]
    computed = {
        "RGB": pairs,
        "RGB, GT-mean": [
            (np.clip(result * (wanted / mean), 0, 255), target * 1.0)
            for (result, target), (mean, wanted) in zip(pairs, brightness, strict=True)
        ],
        "Y": [[rgb2ycbcr(each)[..., 0] for each in pair] for pair in pairs],
        "grey": [[np.rint(each @ [0.299, 0.587, 0.114]) for each in pair] for pair in pairs],
        "RGB, no border": [[each[4:-4, 4:-4] for each in pair] for pair in pairs],
    }
    for row, images in computed.items():
        figure = np.mean([peak_signal_noise_ratio(*pair, data_range=255) for pair in images])
        words = ["score", folders / "result", "--reference", folders / "gt"]
        words += ["--pair", "ours_{}={}", "--paper-says", f"{figure:.5f}"]
        done = CliRunner().invoke(app, list(map(str, words)))
        [line] = [each for each in done.output.splitlines() if each.startswith("agrees")]
        assert line.startswith(f"agrees: {figure:.5f}, psnr, {row}: the table was then computed ")


@pytest.mark.parametrize(
    ("pair", "rename"), [("order", "x{}"), ("{}_ours=gt_{}", "{}_ours"), ("out{}=gt_{}", "out{}")]
)
def test_pairing(folders, pair, rename):
    expected = score(folders / "result", folders / "gt").means()
    for file in (folders / "result").iterdir():
        file.rename(file.with_stem(rename.format(file.stem)))
    suggested = "{}_ours={}" if pair == "{}_ours=gt_{}" else rename + "={}"
    with pytest.raises(DataError, match="no result has a partner") as caught:
        score(folders / "result", folders / "gt")
    assert f"'{suggested}'" in caught.value.mend
    if pair != "order":
        for file in (folders / "gt").iterdir():
            file.rename(file.with_stem(f"gt_{file.stem}"))
    assert score(folders / "result", folders / "gt", pair=pair).means() == expected
    with pytest.raises(DataError, match="no file fits the template"):
        score(folders / "result", folders / "gt", pair="nothing{}=gt_{}")
    with pytest.raises(ConfigError, match="not a way to pair"):
        score(folders / "result", folders / "gt", pair="stem")


def test_fsim_and_lpips_are_measured_where_they_are_asked_for(folders, monkeypatch):
    def stand_in(image, target, *, chromatic=False):
        return psnr(image, target) / (50 if chromatic else 100)

    monkeypatch.setattr("llve_common.evaluate.score.fsim", stand_in)
    found = score(folders / "result", folders / "gt", similarity=True, distance=psnr)
    psnrs = found.means()["RGB"]["psnr"]
    assert found.means_alone()["lpips"] == pytest.approx(psnrs)
    assert "LPIPS: AlexNet, version 0.1" in score_tables(found)[-1].title
    assert found.means_alone()["fsim"] == pytest.approx(psnrs / 100)
    assert found.means_alone()["fsimc"] == pytest.approx(psnrs / 50)
    with pytest.raises(ConfigError, match=r"got: fsim, fsimc, lpips"):
        score(folders / "result", similarity=True, distance=psnr)


def test_what_is_missing_is_named_and_the_rest_scored(folders):
    (folders / "result" / "1.png").unlink()
    with pytest.raises(DataError, match=r"by order every .*\n  got: 4 and 5"):
        score(folders / "result", folders / "gt", pair="order")
    (folders / "gt" / "3.png").unlink()
    found = score(folders / "result", folders / "gt")
    assert [frame.frame for frame in found.frames] == ["0.png", "2.png", "4.png"]
    note = found.notes[0]
    assert "gt/1.png has no result" in note
    assert "3.png has no partner" in note
    assert found.missing


def test_sizes_and_depths_are_rows_of_their_own(folders):
    wide = read_image(folders / "result" / "0.png").pixels[:, :-6]
    write_image(folders / "result" / "0.png", wide)
    deep = read_image(folders / "result" / "1.png").pixels.astype(np.uint16) * 257 + 200
    write_image(folders / "result" / "1.png", np.minimum(deep, 65535).astype(np.uint16))
    found = score(folders / "result", folders / "gt")
    targets = [read_image(folders / "gt" / f"{n}.png").pixels for n in range(2)]
    first, second = (frame.values for frame in found.frames[:2])
    assert first["RGB, cropped"]["psnr"] == psnr(wide, targets[0][:, :-6])
    assert first["RGB"]["psnr"] < first["RGB, cropped"]["psnr"]
    assert second["RGB, truncated"] != second["RGB, 16 bits"]
    assert "0.png: 50x40, not 56x40" in found.notes[0]
    # Every row's mean is over all frames: of the others these rows are those of RGB.
    for row in ("RGB, cropped", "RGB, truncated", "RGB, 16 bits"):
        own = [frame.values.get(row, frame.values["RGB"])["psnr"] for frame in found.frames]
        assert found.means()[row]["psnr"] == pytest.approx(np.mean(own))
        assert found.means()[row]["psnr"] == pytest.approx(found.means("clips")[row]["psnr"])


def test_images_too_small_to_lose_a_border_have_no_such_row(tmp_path, picture):
    for side in (19, 18):
        write_image(tmp_path / f"{side}.png", picture(side, 40))
        found = score(tmp_path, tmp_path)
        assert len(found.frames) == 20 - side
        assert ("RGB, no border" in found.means()) == (side == 19)


@pytest.fixture(name="clips")
def clips_fixture(tmp_path, picture):
    """Clips of three and of two frames that flicker by 10 levels, and one that has no result."""
    for clip, length in (("a", 3), ("b", 2)):
        for index in range(length):
            target = picture(*SIZE, seed=index) // 2 + 60
            write_image(tmp_path / "gt" / clip / f"{index}.png", target)
            write_image(tmp_path / "out" / clip / f"{index}.png", target + 10 * (index % 2))
    write_image(tmp_path / "gt" / "c" / "0.png", picture(*SIZE))
    return tmp_path


def test_clips_have_means_of_their_own_and_measures_over_time(clips):
    found = score(clips / "out", clips / "gt")
    assert found.notes[0] == f"left out: {clips}/gt/c has no result"
    assert set(found.temporal) == {"a", "b"}
    finite = found.means("clips")["grey"]["ssim_skimage7"]
    assert finite != found.means()["grey"]["ssim_skimage7"]
    assert [table.title[:14] for table in score_tables(found)][:2] == [
        "mean of 5 fram",
        "mean of 2 clip",
    ]
    a = found.over_time["a"]
    frames = [[read_image(clips / side / "a" / f"{n}.png").pixels for n in range(3)]
              for side in ("out", "gt")]  # fmt: skip
    for (name, curve), own in zip(a.curves.items(), frames, strict=True):
        np.testing.assert_array_equal(a.strips[name], [each[SIZE[0] // 2] for each in own])
        differences = [np.abs(grey(y) - grey(x)).mean() / 255 for x, y in pairwise(own)]
        assert curve == pytest.approx(differences, abs=1e-6)
    mine, theirs = a.curves.values()
    assert found.temporal["a"]["mabd_mse"] == pytest.approx(np.mean(np.subtract(mine, theirs) ** 2))


def test_frames_of_one_folder_and_a_video_are_clips(clips, video_file):
    images = score(clips / "out" / "a", clips / "gt" / "a")
    assert images.temporal == {}
    frames = score(clips / "out" / "a", clips / "gt" / "a", clip=True)
    assert frames.temporal["a"] == score(clips / "out", clips / "gt").temporal["a"]
    # Without ground truth and input there is no motion to follow.
    assert set(score(clips / "out" / "a", clip=True).temporal["a"]) == {"mabd"}
    video = video_file("v.mp4", [10, 40, 20])
    assert set(score(video, inputs=video).temporal["v"]) == {"mabd", "warping_error"}
    with pytest.raises(DataError, match="has more frames than the result"):
        score(clips / "out" / "b" / "0.png", video)
    # Beside a video images are frames, and a clip is found among others by its name.
    assert set(score(clips / "out" / "a", video).temporal) == {"a"}
    assert score(clips / "out" / "a", clips / "gt", clip=True).means() == frames.means()
    with pytest.raises(DataError, match=r"one name\n  got: .*gt/a/0.png; .*gt/b/0.png"):
        score(clips / "out" / "a", clips / "gt")
    with pytest.raises(DataError, match=r"no clip .* can be scored\n  got: a has no partner"):
        score(clips / "out", clips)


@pytest.mark.parametrize("of_clip", [False, True])
def test_what_cannot_be_scored_is_named_and_the_rest_is_scored(clips, of_clip):
    for file in ("out/a/1.png", "out/v.mp4", "gt/v.mp4"):
        (clips / file).write_bytes(b"neither an image nor a video")
    folders = [clips / side / ("" if of_clip else "a") for side in ("out", "gt")]
    found = score(*folders)
    kept = [("b", "0.png"), ("b", "1.png")] if of_clip else [("", "0.png"), ("", "2.png")]
    assert [(frame.clip, frame.frame) for frame in found.frames] == kept
    assert found.missing
    assert "1.png: " in "".join(found.notes)
    assert ("v.mp4: " in "".join(found.notes)) == of_clip
    with pytest.raises(MediaError):
        score(clips / "out" / "a" / "1.png")


def test_frames_are_streamed(tmp_path, picture, monkeypatch):
    for index in range(24):
        write_image(tmp_path / "clip" / f"{index}.png", picture(*SIZE, seed=index))
    read, alive = [], []

    def counted(file):
        image = read_image(file)
        read.append(weakref.ref(image.pixels))
        alive.append(sum(each() is not None for each in read))
        return image

    monkeypatch.setattr("llve_common.evaluate.score.read_image", counted)
    score(tmp_path / "clip", tmp_path / "clip", inputs=tmp_path / "clip", clip=True)
    assert len(read) == 3 * 24
    # Of three clips this frame and the last one.
    assert max(alive) <= 6


def test_written_files(folders):
    found = score(folders / "result", folders / "gt")
    write_scored(folders / "out", found, ["agrees: a note"])
    assert {file.name for file in (folders / "out").iterdir()} == {
        "scores.json", "scores.csv", "scores.md", "index.html",
    }  # fmt: skip
    held = json.loads((folders / "out" / "scores.json").read_text())
    assert held["mean_of_frames"] == found.means()
    page = (folders / "out" / "index.html").read_text()
    assert "The 5 worst" in page
    assert "Over time" not in page
    assert str(folders) not in page
    assert len((folders / "out" / "scores.csv").read_text().splitlines()) == 6
    assert "agrees: a note" in (folders / "out" / "scores.md").read_text()


def test_equal_images_and_grey_files(tmp_path, picture):
    PIL.Image.fromarray(picture(*SIZE)[..., 0]).save(tmp_path / "1.png")
    found = score(tmp_path, tmp_path)
    assert found.means()["RGB"]["psnr"] == float("inf")
    assert found.agreeing("30") != []
    write_scored(tmp_path / "out", found, [])
    assert "Infinity" not in (tmp_path / "out" / "scores.json").read_text()


def test_a_tables_figure_is_looked_at_before_anything_is_measured(tmp_path):
    for words, said in ((["15,5"], "not a figure"), (["15.5"], "without ground truth")):
        done = CliRunner().invoke(app, ["score", str(tmp_path / "none"), "--paper-says", *words])
        assert said in done.output


def test_the_worst_frames_of_a_video_are_shown(tmp_path, video_file, monkeypatch):
    pages = []
    monkeypatch.setattr("llve_common.report.scored.write_page", lambda *words: pages.append(words))
    found = score(video_file("b.mkv", [40, 90, 85], 36), video_file("a.mp4", [40, 60, 80]))
    write_scored(tmp_path / "scores", found, [])
    [worst] = [each for each in pages[0][-1] if each.heading == "The 3 worst"]
    assert worst.groups[0].caption == "b/00001.png"
    levels = [[panel.frames[0].mean() for panel in group.panels] for group in worst.groups]
    assert worst.groups[0].panels[1].frames[0].shape == (40, 48, 3)
    np.testing.assert_allclose(levels, [(60, 90), (80, 85), (40, 40)], atol=2)


def test_the_page_of_clips_shows_them_over_time(clips):
    write_scored(clips / "scores", score(clips / "out", clips / "gt"), [])
    page = (clips / "scores" / "index.html").read_text()
    # Of each of two clips the result and the ground truth as a strip, and their curves.
    assert page.count('class="strip"') == 4
    assert page.count("<svg") == 2
    held = json.loads((clips / "scores" / "scores.json").read_text())
    assert len(held["over_time"]["a"]["brightness_differences"]["result"]) == 2
