"""Real training runs, killed at random moments or stopped, end as unbroken ones."""

import functools
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from typer.testing import CliRunner

from llve_common.data.synthetic import write_image_set
from llve_common.weights.files import read_checkpoint, read_weights
from llve_sci.__main__ import app

log = logging.getLogger(__name__)
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}

# Imports once, then forks a process for each run: starting Python anew takes seconds.
FORKS = """
import json, os, sys
import torch
import llve_sci.__main__
torch.optim.Adam([torch.zeros(1, requires_grad=True)]).step()  # imports a great deal more
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        output, *arguments = json.loads(line)
        sys.stdin.close()
        sys.argv = ["sci", *arguments]
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        llve_sci.__main__.app(prog_name="sci")
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "set"
    return write_image_set(folder, clips=1, frames=2, height=24, width=32) / "train" / "low"


@pytest.fixture(scope="module")
def fork(tmp_path_factory):
    """Starts ``sci``; gives the process's id, and what waits for its exit code and output."""
    output = tmp_path_factory.mktemp("output") / "said"
    command = [sys.executable, "-c", FORKS]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=ENVIRONMENT, bufsize=1, **pipes) as server:

        def wait():
            code = os.waitstatus_to_exitcode(int(server.stdout.readline()))
            return code, output.read_text()

        def start(arguments):
            server.stdin.write(json.dumps([str(each) for each in (output, *arguments)]) + "\n")
            return int(server.stdout.readline()), wait

        yield start
        server.stdin.close()


@pytest.fixture(scope="module")
def whole(fork, images, tmp_path_factory):
    """Gives the folder of a run of so many epochs that nothing interrupts; made once."""

    @functools.cache
    def run(epochs):
        save = tmp_path_factory.mktemp("whole")
        assert fork(command(images, save, epochs))[1]()[0] == 0
        return only(save)

    return run


def command(images, save, epochs, procedure="train"):
    chosen = ["run.log_every=3", "run.tensorboard=false", "train.batch_size=2"]
    options = ["--data-path", images, "--save", save, "--device", "cpu", "--epochs", epochs]
    return [str(word) for word in (procedure, *chosen, *options)]


def sci(*arguments):
    """Runs ``sci`` in this process and gives the exit code and the output."""
    result = CliRunner().invoke(app, [str(word) for word in arguments])
    return result.exit_code, result.output


def ending(folder):
    """All that has to be equal: last checkpoint, losses but for the times, published weights."""
    state = read_checkpoint(sorted((folder / "checkpoints").glob("*.ckpt"))[-1])
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


def newest(save):
    """The iteration of the newest checkpoint, 0 where there is none."""
    return max((int(file.stem) for file in save.glob("*/checkpoints/0*.ckpt")), default=0)


def kill_at_random(pid, chance, save):
    """Kill some checkpoints later, every third time while one is being written."""
    before, more, pause = newest(save), chance.randrange(3), chance.uniform(0, 0.1)
    into_a_write = chance.random() < 1 / 3
    deadline = time.monotonic() + 20
    while newest(save) < before + 5 * more and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(pause)
    while into_a_write and not writing(save) and time.monotonic() < deadline:
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    log.info("killed %.3f s after iteration %d, writing: %s", pause, newest(save), writing(save))


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("kills", "epochs"), [(3, 10), pytest.param(20, 60, marks=pytest.mark.slow)]
)
def test_killed_and_resumed_run_ends_as_an_unbroken_one(
    fork, whole, images, tmp_path, kills, epochs, caplog
):
    caplog.set_level(logging.INFO)
    chance, save = random.Random(kills), tmp_path / "killed"
    arguments, resumed_from, leftovers = command(images, save, epochs), set(), 0
    for _ in range(kills):
        pid, wait = fork(arguments)
        kill_at_random(pid, chance, save)
        # A run that came to its end before would make this test an empty one.
        assert wait()[0] == -signal.SIGKILL
        leftovers += writing(save)
        if save.is_dir() and (only(save) / "settings.yml").is_file():
            arguments = ["train", "--resume", only(save)]
            resumed_from.add(newest(save))
    assert leftovers
    assert len(resumed_from) > kills // 3
    assert fork(arguments)[1]()[0] == 0
    assert not writing(save)
    assert same(ending(only(save)), ending(whole(epochs)))


def wait_for_a_checkpoint(save):
    deadline = time.monotonic() + 60
    while newest(save) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.multiprocess
def test_console_command_goes_on_after_a_signal(fork, whole, images, tmp_path):
    pid, wait = fork(command(images, tmp_path, 10))
    wait_for_a_checkpoint(tmp_path)
    os.kill(pid, signal.SIGTERM)
    code, said = wait()
    assert code == 1
    assert said.count("error:") == 1
    assert f"go on with --resume {only(tmp_path)}" in said
    assert fork(["train", "--resume", only(tmp_path)])[1]()[0] == 0
    assert same(ending(only(tmp_path)), ending(whole(10)))


def test_finetuning_is_exact_across_the_freezing_of_batch_norm(images, tmp_path):
    chosen = ["train.preview_every=4", "run.keep_checkpoints=9"]
    assert sci(*command(images, tmp_path, 4, "finetune"), *chosen)[0] == 0
    folder = only(tmp_path)
    unbroken = ending(folder)
    for file in folder.glob("checkpoints/*.ckpt"):
        if int(file.stem) > 8:
            file.unlink()
    assert sci("finetune", "--resume", folder)[0] == 0
    assert same(ending(folder), unbroken)


@pytest.mark.multiprocess
def test_uses_of_resume_that_cannot_go_on_say_so_in_one_message(whole, tmp_path):
    folder = whole(10)
    for arguments, expected, message in [
        (["train", "--resume", tmp_path], 1, "not a run's folder"),
        (["train", "--resume", folder, "--epochs", 3], 1, "a run that goes on keeps its settings"),
        (["finetune", "--resume", folder], 1, "procedure: got 'train'"),
        (["train", "--resume", folder], 0, "the run is finished already"),
    ]:
        code, said = sci(*arguments)
        assert (code, said.count("error:")) == (expected, expected)
        assert message in said
        assert "Traceback" not in said


@pytest.mark.multiprocess
def test_two_processes_write_one_run_and_stop_together(images, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += ["--nproc_per_node", "2", "-m", "llve_sci", *command(images, tmp_path, 400)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(launch, env=ENVIRONMENT, **pipes)
    wait_for_a_checkpoint(tmp_path)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert said.count("error:") == 1
    assert "stopped by a signal" in said
    folder = only(tmp_path)
    last = sorted((folder / "checkpoints").iterdir())[-1]
    assert len(read_checkpoint(last)["processes"]) == 2
    lines = (folder / "losses.jsonl").read_text().splitlines()
    iterations = [json.loads(line)["iteration"] for line in lines]
    assert iterations == list(range(3, iterations[-1] + 1, 3))
    for file in folder.glob("model_epochs/*"):
        assert read_weights(file)
