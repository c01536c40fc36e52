"""Label maps against Cityscapes' ground truth, by hand."""

import json

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from llve_common.__main__ import app
from llve_common.errors import DataError, MediaError
from llve_common.evaluate.labels import read_labels, score_labels
from llve_common.metrics.segmentation import CLASSES, Agreement, train_ids


def save(file, rows, palette=False):
    file.parent.mkdir(parents=True, exist_ok=True)
    image = PIL.Image.fromarray(np.array(rows, np.uint8))
    if palette:
        image.putpalette([7, 8, 9] * 256)
    image.save(file)


def test_measures_by_hand():
    # road 0, sidewalk 1, building 2; 255 and -1 do not count.
    target = np.array([[0, 0, 0, 0], [1, 1, 255, -1]])
    found = Agreement()
    found.update(np.array([[0, 0, 0, 1], [1, 255, 0, 0]]), target)
    found.update(np.array([[2, 0]]), np.array([[0, 255]]))
    assert found.by_class() == {
        "road": {"iou": 3 / 5, "accuracy": 3 / 5},
        "sidewalk": {"iou": 1 / 3, "accuracy": 1 / 2},
        "building": {"iou": 0.0},  # predicted, and nowhere in the ground truth
    }
    assert found.means() == pytest.approx(
        {"pixel_accuracy": 4 / 7, "mpa": (3 / 5 + 1 / 2) / 2, "miou": (3 / 5 + 1 / 3) / 3}
    )
    assert Agreement().means() == {}
    with pytest.raises(DataError, match="differ in size"):
        found.update(target[:1], target)


def test_label_ids_are_brought_to_train_ids():
    ids = np.array(list(CLASSES.values()))
    np.testing.assert_array_equal(train_ids(ids), np.arange(19))
    np.testing.assert_array_equal(train_ids(np.array([-1, 0, 9, 255])), [255] * 4)


def test_maps_of_cityscapes_layout(tmp_path):
    truth = tmp_path / "gt" / "ulm"
    save(truth / "ulm_0_gtFine_labelIds.png", [[7, 7], [8, 0]])
    save(truth / "ulm_0_gtFine_color.png", np.zeros((2, 2, 3)))
    save(truth / "ulm_1_gtFine_labelIds.png", [[7, 7], [7, 7]])
    save(tmp_path / "out" / "ulm_0.png", [[7, 8], [8, 8]], palette=True)
    words = ["score", str(tmp_path / "out"), "--reference", str(tmp_path / "gt"), "--labels", "ids"]
    refused = CliRunner().invoke(app, [*words, "--clip", "--lpips", "a.pth"])
    assert "got: --clip, --lpips" in refused.output
    words += ["--pair", "{}={}_gtFine_labelIds", "-o", str(tmp_path / "scores")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1  # one of two has no result
    assert "ulm_1_gtFine_labelIds.png has no result" in done.output
    assert "0.7500" in done.output
    held = json.loads((tmp_path / "scores" / "labels.json").read_text())
    assert held["means"] == pytest.approx({"pixel_accuracy": 2 / 3, "mpa": 0.75, "miou": 0.5})


def test_what_is_no_label_map_is_said(tmp_path):
    save(tmp_path / "a" / "1.png", np.zeros((2, 2, 3)))
    with pytest.raises(DataError, match=r"one channel.*\n  got: 3 channels"):
        read_labels(tmp_path / "a" / "1.png")
    damaged = (tmp_path / "a" / "1.png").read_bytes().replace(b"IDAT", b"I AT")
    (tmp_path / "b").mkdir()
    PIL.Image.new("L", (2, 2)).save(tmp_path / "b" / "1.png", format="EPS")
    for content in (b"no image", damaged, (tmp_path / "b" / "1.png").read_bytes()):
        (tmp_path / "b" / "1.png").write_bytes(content)
        with pytest.raises(MediaError, match=r"cannot be decoded\n  got: (it holds no|broken)"):
            score_labels(tmp_path / "b", tmp_path / "a", label_ids=False)
    save(tmp_path / "c" / "1.png", [[0, 1]])
    save(tmp_path / "d" / "1.png", [[0]])
    with pytest.raises(DataError, match="differ in size") as caught:
        score_labels(tmp_path / "c", tmp_path / "d", label_ids=False)
    assert caught.value.where == tmp_path / "c" / "1.png"
