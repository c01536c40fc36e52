"""Real training runs, killed at random moments or stopped, end as unbroken ones."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from llve_common.data.synthetic import write_image_set
from llve_common.engine.checkpoint import read_checkpoint, read_weights

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}

# Imports once, then forks a process for each run: starting Python anew takes seconds.
FORKS = """
import json, os, sys
import llve_sci.cli
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        sys.stdin.close()
        os.dup2(2, 1)
        sys.argv = ["sci", *json.loads(line)]
        llve_sci.cli.app(prog_name="sci")
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "set"
    return write_image_set(folder, clips=1, frames=2, height=24, width=32) / "train" / "low"


@pytest.fixture(scope="module")
def forks():
    """Starts ``sci`` with arguments in a process of its own and gives its id; and the pipe."""
    command = [sys.executable, "-c", FORKS]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=ENVIRONMENT, bufsize=1, **pipes) as server:

        def start(arguments):
            server.stdin.write(json.dumps([str(each) for each in arguments]) + "\n")
            return int(server.stdout.readline()), server.stdout.readline

        yield start
        server.stdin.close()


def command(images, save, epochs, procedure="train"):
    chosen = ["run.log_every=3", "run.tensorboard=false", "train.batch_size=2"]
    options = ["--data-path", images, "--save", save, "--device", "cpu", "--epochs", epochs]
    return [procedure, *chosen, *options]


def ending(folder):
    """All that has to be equal: last checkpoint, losses but for the times, published weights."""
    newest = sorted((folder / "checkpoints").glob("*.ckpt"))[-1]
    state = read_checkpoint(newest)
    lines = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    published = {file.name: read_weights(file) for file in folder.glob("model_*/*")}
    kept = ("iteration", "network", "optimizer", "processes")
    return {
        "state": {key: state[key] for key in kept},
        "losses": [line | {"seconds": 0} for line in lines],
        "published": published,
    }


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def only(folder):
    (found,) = folder.iterdir()
    return found


def writing(folder):
    return folder.is_dir() and any(folder.glob("*/checkpoints/.*"))


def kill_at_random(pid, chance, save):
    """Kill after a while, every third time while a checkpoint is being written."""
    within = chance.uniform(0.05, 0.25)
    into_a_write = chance.random() < 1 / 3
    started = time.monotonic()
    while time.monotonic() - started < within or (into_a_write and not writing(save)):
        if time.monotonic() - started > 5:
            break
    os.kill(pid, signal.SIGKILL)
    print(f"killed after {time.monotonic() - started:.3f} s, writing: {writing(save)}")


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("kills", "epochs"), [(3, 20), pytest.param(20, 120, marks=pytest.mark.slow)]
)
def test_killed_and_resumed_run_ends_as_an_unbroken_one(forks, images, tmp_path, kills, epochs):
    _, end = forks(command(images, tmp_path / "whole", epochs))
    assert int(end()) == 0
    chance, save = random.Random(kills), tmp_path / "killed"
    arguments, killed = command(images, save, epochs), 0
    while killed < kills:
        pid, end = forks(arguments)
        kill_at_random(pid, chance, save)
        # A run that came to its end before would make this test an empty one.
        assert int(end()) == signal.SIGKILL
        killed += 1
        if save.is_dir() and (only(save) / "settings.yml").is_file():
            arguments = ["train", "--resume", only(save)]
    _, end = forks(arguments)
    assert int(end()) == 0
    assert not writing(save)
    assert same(ending(only(save)), ending(only(tmp_path / "whole")))


def sci(*arguments, **options):
    command = [sys.executable, "-m", "llve_sci", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=ENVIRONMENT, **pipes, **options)


def wait_for(found, process):
    started = time.monotonic()
    while not found():
        assert process.poll() is None
        assert time.monotonic() - started < 60
        time.sleep(0.005)


@pytest.mark.multiprocess
def test_console_command_goes_on_after_a_signal(forks, images, tmp_path):
    save = tmp_path / "stopped"
    process = sci(*command(images, save, 40))
    wait_for(lambda: any(save.glob("*/checkpoints/*5.ckpt")), process)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.count("error:") == 1
    assert f"go on with --resume {only(save)}" in said
    _, end = forks(["train", "--resume", only(save)])
    assert int(end()) == 0
    _, end = forks(command(images, tmp_path / "whole", 40))
    assert int(end()) == 0
    assert same(ending(only(save)), ending(only(tmp_path / "whole")))


@pytest.mark.multiprocess
def test_finetuning_is_exact_across_the_freezing_of_batch_norm(forks, images, tmp_path):
    save = tmp_path / "stopped"
    arguments = [*command(images, save, 6, "finetune"), "train.preview_every=4"]
    pid, end = forks(arguments)
    while not any(save.glob("*/checkpoints/*8.ckpt")):
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    assert int(end()) == signal.SIGKILL
    for late in only(save).glob("checkpoints/*"):
        if late.name > "00000008.ckpt":
            late.unlink()
    _, end = forks(["finetune", "--resume", only(save)])
    assert int(end()) == 0
    whole = [*command(images, tmp_path / "whole", 6, "finetune"), "train.preview_every=4"]
    _, end = forks(whole)
    assert int(end()) == 0
    assert same(ending(only(save)), ending(only(tmp_path / "whole")))


@pytest.mark.multiprocess
def test_wrong_uses_of_resume_are_one_clear_error(forks, images, tmp_path, capfd):
    _, end = forks(command(images, tmp_path / "run", 1))
    assert int(end()) == 0
    folder = only(tmp_path / "run")
    for arguments, message in [
        (["train", "--resume", tmp_path], "not a run's folder"),
        (["train", "--resume", folder, "--epochs", 3], "a run that goes on keeps its settings"),
        (["finetune", "--resume", folder], "procedure: got 'train'"),
        (["train", "--resume", folder], "the run is finished already"),
    ]:
        capfd.readouterr()
        _, end = forks(arguments)
        assert os.waitstatus_to_exitcode(int(end())) == ("finished" not in message)


@pytest.mark.multiprocess
def test_two_processes_write_one_run_and_stop_together(images, tmp_path):
    save = tmp_path / "two"
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    launch += ["--standalone", "-m", "llve_sci"]

    def start(*arguments):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([*launch, *map(str, arguments)], env=ENVIRONMENT, **pipes)

    process = start(*command(images, save, 400))
    wait_for(lambda: any(save.glob("*/checkpoints/*5.ckpt")), process)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert said.count("error:") == 1
    assert "stopped by a signal" in said
    folder = only(save)
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    assert len(read_checkpoint(newest)["processes"]) == 2
    lines = (folder / "losses.jsonl").read_text().splitlines()
    iterations = [json.loads(line)["iteration"] for line in lines]
    assert iterations == list(range(3, iterations[-1] + 1, 3))
    for file in folder.glob("model_epochs/*"):
        assert read_weights(file)

    process = start(*command(images, tmp_path / "odd", 1), "train.batch_size=3")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.count("the batch cannot be shared out evenly") == 1
    assert not (tmp_path / "odd").exists()
