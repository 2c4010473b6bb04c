"""One run trained by several processes: the weights of one, checkpoints of any number, and the loss of a process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mkfa.engines.work import SAVED, STOP_FILE
from mkfa.engines.worker import Task
from mkfa.experiments.needed_runs import Domains, Setting, plan_bases
from mkfa.images.domain_file import make_domain, write_domain
from mkfa.training.device import Execution
from mkfa.training.folder import ATTEMPTS, CHECKPOINT, FAILURE, RESULT, WEIGHTS
from mkfa.training.recipe import load_recipe

pytestmark = pytest.mark.slow
EVERYTHING = {"size": 32, "crop_from": 0, "eval_size": 0, "drop_path": 0.3, "erasing": 0.5, "clip": 1.0}
"""All that the paper's recipe draws, on small images: crops, RandAugment, mixup, cutmix, erasing, drop path."""
STEPS = 20
NETWORKS = {"convmixer_16_4": {"patch": 4}, "test_convnext": {}, "test_resnet": {}}
TRAIN = """
import sys
from pathlib import Path
import torch
from mkfa.engines.worker import train_task
from mkfa.training import run
from mkfa.training.batches import Side
from mkfa.training.ranks import joined
from mkfa.training.stopping import Stop, Stopped

kind = torch.float32
last, resnet, *folders = sys.argv[1:]

def build(spec, *more, real=run.build):
    global kind
    kind = getattr(torch, resnet) if spec.arch == "test_resnet" else torch.float32
    model, planted = real(spec, *more)
    return model.to(kind), planted

run.build = build
Side.normalise = lambda self, x, real=Side.normalise: real(self, x).to(kind)
with joined() as ranks:
    stop = Stop()
    def tell(report):
        stop.requested = report.step >= int(last) and ranks.rank == ranks.world - 1
    for folder in map(Path, folders):
        try:
            train_task(folder, stop=stop, tell=tell, ranks=ranks)
        except Stopped:
            print("stopped")
"""
"""Trains run folders, up to a step: a process that does not write asks for the stop.

At the full learning rate, ResNet is trained in float64. In float32 a ReLU whose input is near zero is on in one sum
order and off in another: a change of the images by 1e-6 changed gradients of resnet10t by 2 %, in one process as well.
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(0)
    y = np.arange(130, dtype=np.int64) % 3
    x = (rng.integers(0, 160, (130, 32, 32, 3)) + 30 * y[:, None, None, None]).astype(np.uint8)
    made = make_domain("a", ("k", "l", "m"), train=(x[:100], y[:100]), test=(x[100:], y[100:]))
    return str(write_domain(made, tmp_path_factory.mktemp("images") / "a.h5", facts={"source": "made"}))


def order(images: str, root: Path, arch: str = "convmixer_16_4", *, steps: int = STEPS, **execution: object) -> Path:
    recipe = load_recipe("paper", {**EVERYTHING, "batch": 25, "equal_steps": steps})  # 25: one image is its own pair
    domains = Domains(recipe.size, recipe.max_size, crop_from=recipe.crop_from, eval_size=recipe.eval_size)
    [planned] = plan_bases(Setting(arch, recipe, options=NETWORKS[arch]), domains, names=[images], seeds=1)
    return Task.of(planned, domains, Execution(device="cpu", threads=1, **execution)).write(root)


def train(world: int, last: int, *folders: Path, resnet: str = "float64") -> list[str]:
    """Train run folders in so many processes, up to a step; return what each printed."""
    ends = processes(world, TRAIN, str(last), resnet, *map(str, folders))
    assert [code for code, _, _ in ends] == [0] * world, ends
    return [out for _, out, _ in ends]


def processes(world: int, code: str, *words: str) -> list[tuple[int, str, str]]:
    """Run a program in processes as torchrun starts them; return the exit code, output and errors of each."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    variables = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = []
    for rank in range(world):
        ours = {name: str(value) for name, value in (variables | {"RANK": rank, "LOCAL_RANK": rank}).items()}
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | ours
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([sys.executable, "-c", code, *words], env=environment, **pipes))
    said = [process.communicate(timeout=900) for process in started]
    return [(process.returncode, *texts) for process, texts in zip(started, said, strict=True)]


def distance(one: Path, two: Path) -> float:
    """Return the relative distance of the weights of two runs."""
    return apart(*(torch.load(folder / WEIGHTS, weights_only=True) for folder in (one, two)))


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Return the relative distance of weights."""
    assert list(a) == list(b)
    pairs = [(a[name].double(), b[name].double()) for name in a if a[name].is_floating_point()]
    return float(sum((p - q).square().sum() for p, q in pairs) / sum(p.square().sum() for p, _ in pairs)) ** 0.5


@pytest.fixture(scope="module")
def runs(images: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Return, for each network, a run trained by one process and one trained by two."""
    root = tmp_path_factory.mktemp("runs")
    folders = {arch: (order(images, root / "one", arch), order(images, root / "two", arch)) for arch in NETWORKS}
    for world in (1, 2):
        train(world, STEPS + 1, *(pair[world - 1] for pair in folders.values()))
    return folders


@pytest.mark.parametrize("arch", NETWORKS)
def test_two_processes_train_the_run_of_one(runs, arch):
    one, two = runs[arch]
    assert one.name == two.name  # the number of processes is no part of a run's identity
    assert distance(one, two) < 1e-5
    mine, theirs = (json.loads((folder / RESULT).read_text()) for folder in (one, two))
    for name in ("loss_train", "loss_test"):
        assert theirs[name] == pytest.approx(mine[name], rel=1e-5)
    assert theirs["test_right"] == mine["test_right"]
    assert [place["device"] for place in theirs["execution"]["ranks"]] == ["cpu", "cpu"]
    assert "ranks" not in mine["execution"]
    started = json.loads((two / ATTEMPTS).read_text().splitlines()[0])
    assert (started["event"], len(started["ranks"])) == ("started", 2)


def test_two_processes_train_a_resnet_in_float32_under_the_learning_rate_of_the_recipe(images, tmp_path):
    """The first 20 steps of as many as the paper's 300 epochs of CIFAR-10 have: the rate rises to 8e-5 in them.

    At the recipe's highest rate, .004, two steps carry rounding farther than the bar (see `TRAIN`).
    """
    folders = [order(images, tmp_path / name, "test_resnet", steps=300 * (50_000 // 1024)) for name in ("one", "two")]

    def weights(world: int, last: int, folder: Path) -> dict[str, torch.Tensor]:
        assert train(world, last, folder, resnet="float32") == ["stopped\n"] * world
        saved = torch.load(folder / CHECKPOINT, weights_only=True)
        assert last <= saved["step"] <= last + 1
        return {name: t for name, t in saved["model"].items() if t.is_floating_point()}

    begun, one, two = weights(1, 1, folders[0]), weights(1, STEPS, folders[0]), weights(2, STEPS, folders[1])
    assert {t.dtype for t in one.values()} == {torch.float32}
    assert apart(one, two) < 1e-5 < 1e-3 * apart(begun, one)


def test_a_checkpoint_goes_on_in_any_number_of_processes(images, runs, tmp_path):
    calm, folder = runs["convmixer_16_4"][0], order(images, tmp_path)
    assert calm.name == folder.name
    assert train(1, 6, folder) == ["stopped\n"]
    assert train(2, 13, folder) == ["stopped\n", "stopped\n"]
    assert torch.load(folder / CHECKPOINT, weights_only=True)["step"] in (13, 14)
    train(1, STEPS + 1, folder)
    assert json.loads((folder / RESULT).read_text())["resumed"] == 2
    assert distance(calm, folder) < 1e-5
    losses = [json.loads((run / RESULT).read_text())["loss_train"] for run in (calm, folder)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def torchrun(folder: Path) -> list[str]:
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mkfa", "work"]
    return [sys.executable, *words, str(folder)]


def test_torchrun_says_once_that_a_run_is_saved_and_its_report_has_the_exit_code(images, tmp_path):
    folder = order(images, tmp_path)
    (folder.parent / STOP_FILE).touch()
    saved = subprocess.run(torchrun(folder), capture_output=True, text=True, check=False)
    assert saved.returncode == 1  # as of any process that does not end with 0
    assert (saved.stdout + saved.stderr).count("its state is saved, and the same command goes on") == 1
    assert f"exitcode  : {SAVED}" in saved.stderr
    assert json.loads((folder / ATTEMPTS).read_text().splitlines()[-1])["event"] == "stopped"
    assert (folder / CHECKPOINT).exists() and not (folder / FAILURE).exists()
    (folder.parent / STOP_FILE).unlink()
    again = subprocess.run(torchrun(folder), capture_output=True, text=True, check=False)
    assert again.returncode == 0 and again.stdout.count("done") == 1, again.stderr
    assert json.loads((folder / RESULT).read_text())["resumed"] == 1


REFUSED = """
import sys
from mkfa.cli.app import main
from mkfa.errors import MkfaError
from mkfa.networks import batch_norm

def refuse(model, name, group):
    raise MkfaError(name, "cannot be wrapped", "train it in one process")

batch_norm.share_batch_norms = refuse
sys.argv = ["mkfa", "work", sys.argv[1]]
main()
"""


def test_a_network_that_cannot_be_wrapped_is_refused_by_one_sentence_of_all_processes(images, tmp_path):
    folder = order(images, tmp_path)
    first, *others = processes(3, REFUSED, str(folder))
    assert (first[0], first[1]) == (1, "") and "cannot be wrapped; train it in one process." in first[2]
    assert others == [(1, "", "")] * 2
    assert (folder / FAILURE).exists()


SHORT = """
import sys
from mkfa.cli.app import main
from mkfa.training.step import Step

def compute(self, batch, real=Step.compute):
    if self.ranks.rank == 1:
        raise MemoryError
    return real(self, batch)

Step.compute = compute
sys.argv = ["mkfa", "work", sys.argv[1]]
main()
"""


def test_a_process_that_dies_of_its_own_memory_says_so_and_the_others_do_not_wait_for_it(images, tmp_path):
    first, second = processes(2, SHORT, str(order(images, tmp_path)))
    assert (second[0], second[1]) == (1, "it ran out of memory\n")
    assert first[0] == 1 and "has lost another of its 2 processes; see what that one says" in first[2]


def children(parent: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def rank_of(process: int) -> str:
    words = dict(line.split("=", 1) for line in Path(f"/proc/{process}/environ").read_text().split("\0") if "=" in line)
    return words.get("RANK", "")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_a_run_outlives_the_loss_of_a_process(images, tmp_path):
    folder = order(images, tmp_path, steps=150, checkpoint_seconds=0.3)
    command = torchrun(folder)
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (folder / CHECKPOINT).exists():
        assert started.poll() is None, started.communicate()
        time.sleep(0.05)
    [second] = [process for process in children(started.pid) if rank_of(process) == "1"]
    os.kill(second, signal.SIGKILL)
    _, said = started.communicate(timeout=300)
    assert started.returncode != 0
    assert "has lost another of its 2 processes; see what that one says; the same command goes on" in said
    assert not (folder / RESULT).exists() and not (folder / FAILURE).exists()
    assert "lost another" in (folder / ATTEMPTS).read_text()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("done") == 1  # one process speaks
    assert json.loads((folder / RESULT).read_text())["resumed"] == 1
