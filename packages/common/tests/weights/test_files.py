import contextlib
import io
import os
import pickle
import re
import zipfile
from pathlib import Path

import PIL.Image
import pytest
import safetensors
import torch
from torch import nn

from llve_common.errors import CheckpointError, MediaError
from llve_common.io.digest import file_digest
from llve_common.weights.files import (
    load_into,
    mean_of,
    read_checkpoint,
    read_file,
    read_weights,
    write_checkpoint,
    write_weights,
)

SUFFIXES = [".pt", ".pth", ".ckpt", ".safetensors"]
NOT_WEIGHTS = "the weights file is truncated or of another kind"


@pytest.fixture
def state():
    weight = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    # As in published files, names share memory.
    return {
        "conv.weight": weight, "conv.bias": weight[3].clone(), "norm.count": torch.tensor(3),
        "again": weight, "turned": weight.T,
    }  # fmt: skip


def assert_equal(actual, expected):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(actual[key], value), key


class Command:
    """An object whose pickle runs a command when it is read."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_weights_come_back_equal(tmp_path, state, suffix):
    file = tmp_path / f"w{suffix}"
    write_weights(file, state, {"paper": "tiny"})
    assert_equal(read_weights(file), state)
    if suffix == ".safetensors":
        with safetensors.safe_open(file, "pt") as opened:
            assert opened.metadata() == {"paper": "tiny"}


def test_unknown_suffix_is_refused(tmp_path, state):
    with pytest.raises(CheckpointError, match=r"unknown kind of weights file\n  got: \.bin"):
        write_weights(tmp_path / "w.bin", state)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0, 0.05, 0.5, 0.99])
def test_truncated_file_is_named(tmp_path, state, suffix, share):
    file = tmp_path / f"w{suffix}"
    write_weights(file, state)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=NOT_WEIGHTS) as caught:
        read_weights(file)
    assert caught.value.where == file
    assert "fetch or copy the file again" in str(caught.value)


def foreign(kind):
    buffer = io.BytesIO()
    if kind == "picture":
        PIL.Image.new("RGB", (4, 4)).save(buffer, "PNG")
    if kind == "archive":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a.txt", "hello")
    words = {"text": b"hello world, no weights", "page": b"<!doctype html><html>Not found</html>"}
    return words.get(kind, buffer.getvalue())


@pytest.mark.parametrize("kind", ["picture", "archive", "text", "page", "empty"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_foreign_file_is_named(tmp_path, kind, suffix):
    (tmp_path / f"w{suffix}").write_bytes(foreign(kind))
    with pytest.raises(CheckpointError, match=NOT_WEIGHTS) as caught:
        read_weights(tmp_path / f"w{suffix}")
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("protocol", [None, 2, 4])
def test_code_in_a_file_is_not_run(tmp_path, protocol):
    witness = tmp_path / "witness"
    content = {"weight": torch.zeros(1), "x": Command(f"touch {witness}")}
    if protocol is None:
        torch.save(content, tmp_path / "w.pt")
    else:
        (tmp_path / "w.pt").write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(CheckpointError, match="reading them could run code"):
        read_file(tmp_path / "w.pt")
    assert not witness.exists()
    # It would run otherwise.
    pickle.loads(pickle.dumps(content["x"]))
    assert witness.exists()


def test_whole_module_is_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="Python objects other than tensors") as caught:
        read_weights(tmp_path / "w.pt")
    assert "Linear" in str(caught.value)


def test_old_format_is_read_and_damage_anywhere_is_one_kind_of_error(tmp_path, state):
    torch.save(state, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(tmp_path / "w.pt")
    assert_equal(read_weights(tmp_path / "w.pt"), state)
    whole = (tmp_path / "w.pt").read_bytes()
    for place in range(0, 600, 3):
        (tmp_path / "w.pt").write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
        with contextlib.suppress(CheckpointError):
            read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrap", [None, "state_dict", "params"])
def test_wrapped_and_prefixed_weights_are_found(tmp_path, state, prefix, wrap):
    content = {prefix + key: value for key, value in state.items()}
    torch.save({wrap: content, "epoch": 3} if wrap else content, tmp_path / "w.pt")
    assert_equal(read_weights(tmp_path / "w.pt"), state)


TWO = {"params": {"a": torch.zeros(1)}, "params_ema": {"a": torch.zeros(1)}}
NONE = "the file holds no network weights"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TWO, "which weights is not clear\n  got: the keys params, params_ema"),
        ({"epoch": 3}, NONE), ({}, NONE), ({"params": {}}, NONE),
        (torch.zeros(3), "not a weights file\n  got: Tensor"),
    ],
)  # fmt: skip
def test_file_without_clear_weights(tmp_path, content, said):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=said):
        read_weights(tmp_path / "w.pt")


PLAIN = torch.arange(64.0)
CRAFTED = {
    "sparse": (lambda: {"a": PLAIN.to_sparse()}, "a is torch.sparse_coo"),
    "compressed sparse": (lambda: {"a": PLAIN[None].to_sparse_csr()}, "a is torch.sparse_csr"),
    "meta": (lambda: {"a": PLAIN.to("meta")}, "a is on the device meta"),
    "nested": (lambda: {"a": torch.nested.nested_tensor([PLAIN, PLAIN])}, "a is nested"),
    "quantised": (lambda: {"a": torch.quantize_per_tensor(PLAIN, 1, 0, torch.qint8)}, "quantised"),
    "spread": (lambda: {"a": torch.zeros(1).expand(4096, 3, 3, 3)}, "a of shape (4096, 3, 3, 3)"),
    "deep": (lambda: {"a": [{"b": (torch.zeros(1).expand(99),)}]}, "fewer numbers"),
    "many times": (lambda: dict.fromkeys("abcdefghijklmn", torch.zeros(10**4)), "fewer numbers"),
    "many": (lambda: dict.fromkeys(map(str, range(10_001)), torch.zeros(1)), "up to 10000"),
    "no network": (lambda: {"format": "llve-checkpoint-1", "paper": "sci"}, NONE),
    "odd network": (lambda: {"format": "llve-checkpoint-1", "network": [1]}, NONE),
    "odd names": (lambda: {1: PLAIN, ("a",): PLAIN}, NONE),
    "byte array": (lambda: {"a": PLAIN, "b": bytearray(8)}, "the file holds byte arrays"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # torch warns of what it is no longer sure to support
@pytest.mark.parametrize(
    ("kind", "old"),  # torch's old format has no nested tensors
    [(kind, old) for kind in CRAFTED for old in (False, True) if (kind, old) != ("nested", True)],
)
def test_what_is_no_plain_file_of_weights(tmp_path, kind, old):
    make, said = CRAFTED[kind]
    torch.save(make(), tmp_path / "w.pt", _use_new_zipfile_serialization=not old)
    with pytest.raises(CheckpointError, match=re.escape(said)) as caught:
        read_weights(tmp_path / "w.pt")
    assert caught.value.where == tmp_path / "w.pt"


def test_lists_within_lists_are_looked_through_once(tmp_path):
    inner = [PLAIN]
    for _ in range(200):
        inner = [inner, inner]
    torch.save({"a": {"w": PLAIN}, "b": inner}, tmp_path / "w.pt")
    assert_equal(read_weights(tmp_path / "w.pt"), {"w": PLAIN})


def test_compressed_weights_are_not_unpacked(tmp_path, state):
    torch.save(state, tmp_path / "w.pt")
    with (
        zipfile.ZipFile(tmp_path / "w.pt") as stored,
        zipfile.ZipFile(tmp_path / "z.pt", "w", zipfile.ZIP_DEFLATED) as deflated,
    ):
        for name in stored.namelist():
            deflated.writestr(name, stored.read(name))
    with pytest.raises(CheckpointError, match="the weights are compressed"):
        read_weights(tmp_path / "z.pt")


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.complex64, torch.float8_e5m2])
def test_numbers_of_another_kind_do_not_fit(dtype):
    network = nn.Linear(2, 2)
    state = {"weight": network.weight.detach().to(dtype), "bias": network.bias.detach().half()}
    with pytest.raises(CheckpointError, match=f"types: weight is {dtype}, expected torch.float32"):
        load_into(network, state, "w.pt")


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "no.pt", tmp_path):
        with pytest.raises(CheckpointError, match="no such weights file") as caught:
            read_weights(path)
        assert caught.value.where == path


def test_every_misfit_is_told_and_the_network_is_left_alone():
    network = nn.Conv2d(3, 4, 1)
    before = network.bias.clone()
    misfit = {"weight": torch.zeros(4, 3, 3, 3), "scale": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="do not fit the network") as caught:
        load_into(network, misfit, "w.pt")
    assert str(caught.value).splitlines() == [
        "w.pt: the weights do not fit the network",
        "  got: missing bias; unknown scale; shapes: weight is (4, 3, 3, 3), expected (4, 3, 1, 1)",
    ]
    assert torch.equal(network.bias, before)


def test_long_lists_of_names_are_cut():
    with pytest.raises(CheckpointError, match=r"missing .* and 3 more"):
        load_into(nn.Sequential(*[nn.Linear(1, 1) for _ in range(4)]), {}, "w.pt")


def test_checkpoint_comes_back_and_gives_its_weights(tmp_path, state):
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(2))])
    content = {"network": state, "optimizer": optimizer.state_dict(), "iteration": 4}
    write_checkpoint(tmp_path / "4.ckpt", content)
    back = read_checkpoint(tmp_path / "4.ckpt")
    assert back["iteration"] == 4
    assert back["optimizer"] == optimizer.state_dict()
    assert_equal(read_weights(tmp_path / "4.ckpt"), state)


def test_weights_alone_are_no_checkpoint(tmp_path, state):
    write_weights(tmp_path / "w.pt", state)
    with pytest.raises(CheckpointError, match="not a training checkpoint of llve") as caught:
        read_checkpoint(tmp_path / "w.pt")
    assert "conv.weight" in str(caught.value)


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "c.ckpt"])
def test_full_disk_keeps_the_old_file_and_leaves_nothing_else(tmp_path, full_disk, name):
    large = {"weight": torch.zeros(100, 100)}
    (tmp_path / name).write_text("old")
    write = write_checkpoint if name == "c.ckpt" else write_weights
    with pytest.raises(MediaError, match="cannot be written") as caught:
        write(tmp_path / name, large)
    assert caught.value.where == tmp_path / name
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "old")]


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "c.ckpt"])
def test_a_power_cut_leaves_no_name_without_content(tmp_path, monkeypatch, name):
    synced = []
    monkeypatch.setattr("os.fsync", lambda file: synced.append(os.fstat(file.fileno())))
    write = write_checkpoint if name == "c.ckpt" else write_weights
    write(tmp_path / name, {"weight": torch.zeros(100, 100)})
    written = (tmp_path / name).stat()
    assert [(each.st_ino, each.st_size) for each in synced] == [(written.st_ino, written.st_size)]


def test_digest(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a").startswith("ba7816bf8f01cfea")


def test_mean_of_several_files():
    files = [
        (Path(f"{number}.pt"), {"w": torch.full((2,), number), "n": torch.tensor(int(number))})
        for number in (1.0, 1.0, 4.0)
    ]
    mean = mean_of(files)
    assert mean["w"].tolist() == [2, 2]
    assert mean["w"].dtype == torch.float32
    assert mean["n"] == 2
    assert not mean["n"].is_floating_point()


@pytest.mark.parametrize("other", [{"w": torch.zeros(3)}, {"v": torch.zeros(2)}, {}])
def test_files_of_two_networks_have_no_mean(other):
    with pytest.raises(CheckpointError, match="another network") as caught:
        mean_of([(Path("one.pt"), {"w": torch.zeros(2)}), (Path("other.pt"), other)])
    assert caught.value.where == Path("other.pt")
