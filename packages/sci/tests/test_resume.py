"""What resumes of SCI add to those that every paper's conformance tests kill and compare."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from llve_common.data.synthetic import write_image_set
from llve_common.testing.conformance import ending, run_command
from llve_common.weights.files import read_checkpoint, read_weights
from llve_sci.__main__ import app

run = partial(run_command, app)
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "set"
    return write_image_set(folder, clips=1, frames=2, height=24, width=32) / "train" / "low"


def command(images, save, epochs, procedure="train"):
    chosen = ["run.log_every=3", "run.tensorboard=false", "train.batch_size=2"]
    options = ["--data-path", images, "--save", save, "--device", "cpu", "--epochs", epochs]
    return [str(word) for word in (procedure, *chosen, *options)]


def only(folder):
    (found,) = folder.iterdir()
    return found


def test_finetuning_is_exact_across_the_freezing_of_batch_norm(images, tmp_path):
    chosen = ["train.preview_every=4", "run.keep_checkpoints=9"]
    run(*command(images, tmp_path, 4, "finetune"), *chosen)
    folder = only(tmp_path)
    unbroken = ending(folder)
    for file in folder.glob("checkpoints/*.ckpt"):
        if int(file.stem) > 8:
            file.unlink()
    run("finetune", "--resume", folder)
    torch.testing.assert_close(ending(folder), unbroken, rtol=0, atol=0)


def test_what_a_run_that_goes_on_may_change(images, tmp_path):
    run(*command(images, tmp_path / "runs", 2))
    folder = only(tmp_path / "runs")
    for words, fails, message in [
        (["train", "--resume", tmp_path], True, "not a run's folder"),
        (["train", "--resume", folder, "--config", "train"], True, "a run that goes on keeps"),
        (["train", "--resume", folder, "train.lr=1"], True, "train.lr=1.0 instead of 0.0003"),
        (["train", "--resume", folder, "--epochs", 1], True, "the run is beyond its new end"),
        (["finetune", "--resume", folder], True, "procedure: got 'train'"),
        (["train", "--resume", folder], False, "the run is finished already"),
        (["train", "--resume", folder, "--epochs", 3], False, "train.epochs=3 instead of 2"),
        (["train", "--resume", folder], False, "the run is finished already"),
    ]:
        assert message in run(*words, fails=fails)
    assert "epochs: 3\n" in (folder / "settings.yml").read_text()


def test_a_training_says_at_its_end_what_came_of_it(images, tmp_path):
    chosen = [f"data.validation.low={images}", f"data.validation.high={images.parent / 'high'}"]
    said = run(*command(images, tmp_path, 2), *chosen)
    folder = only(tmp_path)
    validated = [
        line["validation"]
        for line in map(json.loads, (folder / "losses.jsonl").read_text().splitlines())
        if "validation" in line
    ]
    iterations = sorted(int(each.stem) for each in (folder / "checkpoints").iterdir())
    best = max(validated, key=lambda scores: scores["psnr"])
    assert said.splitlines() == [
        f"run folder: {folder}",
        f"last validation, iteration {iterations[-1]}: {listed(validated[-1])}",
        f"best validation, iteration {iterations[validated.index(best)]}: {listed(best)}",
        f"best weights, by PSNR: {folder / 'best.pt'}",
        f"next: sci test --model {folder / 'best.pt'}",
    ]


def listed(scores):
    return ", ".join(f"{name} {value:.6g}" for name, value in scores.items())


@pytest.mark.slow
@pytest.mark.multiprocess
def test_two_processes_of_torchrun_write_one_run_and_stop_together(images, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += ["--nproc_per_node", "2", "-m", "llve_sci", *command(images, tmp_path, 400)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(launch, env=ENVIRONMENT, **pipes)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/checkpoints/0*.ckpt")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    folder = only(tmp_path)
    assert said.count("error:") == 1
    assert "stopped by a signal" in said
    assert f"go on with --resume {folder}" in said
    last = sorted((folder / "checkpoints").iterdir())[-1]
    assert len(read_checkpoint(last)["processes"]) == 2
    lines = (folder / "losses.jsonl").read_text().splitlines()
    iterations = [json.loads(line)["iteration"] for line in lines]
    assert iterations == list(range(3, iterations[-1] + 1, 3))
    for file in folder.glob("model_epochs/*"):
        assert read_weights(file)
