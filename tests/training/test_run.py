"""A run: determinism, resumption from a kill at any step, divergence, the lock, faults of the disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mkfa.errors import MkfaError, WorkError
from mkfa.images.domain import Domain
from mkfa.training import evaluation
from mkfa.training import step as step_module
from mkfa.training.device import Execution
from mkfa.training.evaluation import evaluate
from mkfa.training.folder import ATTEMPTS, CHECKPOINT, METRICS, RESULT, WEIGHTS, RunFolder, RunLocked, load_tensors
from mkfa.training.recipe import Recipe, load_recipe, steps_of
from mkfa.training.result import state_digest
from mkfa.training.run import Report, compute_alone, network_seed, train_run
from mkfa.training.spec import RunSpec
from mkfa.training.stopping import Stop, Stopped

ONE = Execution(device="cpu", threads=1)
OFTEN = replace(ONE, checkpoint_seconds=0.0)
EVERYTHING = {"mixup": 0.8, "cutmix": 1.0, "erasing": 0.5, "drop_path": 0.2, "ema": 0.9}


def stripes(count: int = 48, classes: int = 3, side: int = 16, seed: int = 0) -> Domain:
    """Return a domain of noisy stripes, whose direction is the class."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % classes
    row, column = np.mgrid[:side, :side]
    angle = y[:, None, None] * np.pi / classes
    wave = np.sin(1.5 * (row * np.sin(angle) + column * np.cos(angle)) + rng.uniform(0, 6, (count, 1, 1)))
    x = np.clip(128 + 80 * wave + rng.normal(0, 10, wave.shape), 0, 255).astype(np.uint8)[..., None]
    half = count * 2 // 3
    return Domain("stripes", tuple("abcdefghij"[:classes]), x[:half], y[:half], x[half:], y[half:], "made")


def recipe(**changes: object) -> Recipe:
    return load_recipe("smoke", {"equal_steps": 12, "batch": 8, **changes})


def spec(made: Recipe, seed: int = 0) -> RunSpec:
    return RunSpec("convmixer_8_2", "stripes", "made", made.name, made.identity, seed)


def run(made: Recipe, root: Path, *, execution: Execution = ONE, **more: object) -> dict:
    return compute_alone(train_run(spec(made), stripes(), source=None, root=root, execution=execution, **more)).record


def what_counts(root: Path, made: Recipe) -> tuple[bytes, str]:
    """Return the metrics and the digest of the final weights."""
    folder = RunFolder(root, spec(made)).path
    return (folder / METRICS).read_bytes(), json.loads((folder / RESULT).read_text())["weights_sha256"]


def test_a_run_learns_and_leaves_what_it_promises(tmp_path):
    made = recipe(equal_steps=120, batch=16, flip=0.0)  # a mirrored stripe is another class
    told: list[Report] = []
    result = run(made, tmp_path, tell=told.append)
    folder = RunFolder(tmp_path, spec(made)).path
    assert folder.name == spec(made).hash
    assert {p.name for p in folder.iterdir()} == {"spec.json", METRICS, RESULT, WEIGHTS, ATTEMPTS, "lock"}
    assert result["state"] == "done"
    assert result["top1_last"] > 0.7 > result["chance"] == pytest.approx(1 / 3, abs=0.05)
    assert (told[-1].step, told[-1].steps, len(told)) == (120, 120, 120)
    rows = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    assert [r["epoch"] for r in rows] == list(range(2, 61, 2))  # sixty epochs, at most fifty evaluations
    right = RunFolder(tmp_path, spec(made)).result().right
    assert len(right) == result["test_images"]
    assert sum(right) / len(right) == result["top1_last"]
    assert result["top1_last"] == rows[-1]["top1"]
    assert result["top1_best"] == max(r["top1"] for r in rows)
    assert state_digest(load_tensors(folder / WEIGHTS)) == result["weights_sha256"]
    assert run(made, tmp_path, tell=lambda _: pytest.fail("trained again")) == result


@pytest.mark.parametrize("changes", [{}, EVERYTHING])
def test_the_seed_decides(tmp_path, changes):
    made = recipe(**changes)
    first, again = run(made, tmp_path / "a"), run(made, tmp_path / "b")
    other = compute_alone(train_run(spec(made, 1), stripes(), source=None, root=tmp_path, execution=ONE)).record
    assert first["weights_sha256"] == again["weights_sha256"] != other["weights_sha256"]
    assert what_counts(tmp_path / "a", made) == what_counts(tmp_path / "b", made)


class Killed(BaseException):
    """As a kill: nothing of the run's own gets to run."""


@pytest.mark.parametrize("changes", [{}, EVERYTHING])
def test_killed_at_random_steps_it_ends_as_if_it_never_was(tmp_path, changes):
    made = recipe(equal_steps=15, **changes)
    run(made, tmp_path / "calm")
    rng, kills = np.random.default_rng(0), 0
    for _ in range(100):
        at = int(rng.integers(1, 6))
        count = 0

        def tell(_: Report, at: int = at) -> None:
            nonlocal count
            count += 1
            if count == at:
                raise Killed

        # a checkpoint lies some steps behind the kill, as one on a clock does
        execution = replace(ONE, checkpoint_seconds=0.0 if rng.random() < 0.7 else 30.0)
        try:
            result = run(made, tmp_path / "killed", execution=execution, tell=tell)
            break
        except Killed:
            kills += 1
    assert kills >= 3
    assert result["resumed"] >= 2
    assert what_counts(tmp_path / "killed", made) == what_counts(tmp_path / "calm", made)


def test_an_epoch_is_drawn_at_once_and_its_parts_change_nothing(tmp_path, monkeypatch):
    """Three epochs of four steps; then drawn in parts of three steps and one, and stopped in the middle of an epoch."""
    made, copies = recipe(**EVERYTHING), []

    def counted(drawn: tuple, *more: object, real: Any = step_module.all_to_device) -> Any:
        copies.append(len(drawn))
        return real(drawn, *more)

    monkeypatch.setattr(step_module, "all_to_device", counted)
    run(made, tmp_path / "calm")
    assert copies == [4, 4, 4]
    monkeypatch.setattr(step_module, "DRAWN_AT_ONCE", 3 * made.batch + 1)
    stop = Stop()

    def tell(report: Report) -> None:
        stop.requested = report.step == 5  # heard at the end of step 6

    with pytest.raises(Stopped):
        run(made, tmp_path / "parts", stop=stop, tell=tell)
    stop.requested = False
    assert run(made, tmp_path / "parts")["resumed"] == 1
    assert copies[3:] == [3, 1, 3, 2, 3, 1]
    assert what_counts(tmp_path / "parts", made) == what_counts(tmp_path / "calm", made)


def test_an_arm_with_a_trained_offset_is_resumed_bit_for_bit(tmp_path):
    made = recipe(equal_steps=12, ema=0.9)
    planned = replace(spec(made), arm="keys-3", layers=2)
    count = 0

    def tell(_: Report) -> None:
        nonlocal count
        count += 1
        if count == 5:
            raise Killed

    calm = compute_alone(train_run(planned, stripes(), source=None, root=tmp_path / "calm", execution=ONE)).record
    with pytest.raises(Killed):
        compute_alone(train_run(planned, stripes(), source=None, root=tmp_path / "killed", execution=OFTEN, tell=tell))
    resumed = compute_alone(train_run(planned, stripes(), source=None, root=tmp_path / "killed", execution=ONE)).record
    assert resumed["resumed"] == 1 and calm["planted"] == resumed["planted"]
    assert calm["weights_sha256"] == resumed["weights_sha256"]
    base = run(made, tmp_path / "base")  # frozen: two layers of 49 taps and 8 channels; trained: an offset a channel
    assert base["trained_parameters"] - calm["trained_parameters"] == 2 * 8 * (49 - 1)


def test_asked_to_stop_it_saves_itself_and_goes_on(tmp_path):
    made = recipe()
    run(made, tmp_path / "calm")
    stop = Stop()

    def tell(report: Report) -> None:
        stop.requested = report.step == 4

    with pytest.raises(Stopped):
        run(made, tmp_path / "stopped", stop=stop, tell=tell)
    folder = RunFolder(tmp_path / "stopped", spec(made)).path
    assert load_tensors(folder / CHECKPOINT)["step"] == 5
    stop.requested = False
    seen: list[int] = []
    run(made, tmp_path / "stopped", tell=lambda r: seen.append(r.step))
    assert seen[0] == 6
    assert what_counts(tmp_path / "stopped", made) == what_counts(tmp_path / "calm", made)


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_run import *
Execution
with Stop().listening() as stop:
    run(recipe(equal_steps=400), Path(sys.argv[1]), execution=replace(ONE, checkpoint_seconds=0.05), stop=stop)
"""


@pytest.mark.slow
def test_signals_at_random_moments_leave_no_trace(tmp_path):
    made = recipe(equal_steps=400)
    run(made, tmp_path / "calm")
    folder = RunFolder(tmp_path / "hit", spec(made)).path
    rng = np.random.default_rng(1)
    signals = iter([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    codes = []
    for _ in range(40):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD.format(tests=str(Path(__file__).parent)), str(tmp_path / "hit")],
            stderr=subprocess.DEVNULL,
        )
        number = next(signals, None)
        if number is not None:
            before = (folder / CHECKPOINT).stat().st_mtime_ns if (folder / CHECKPOINT).exists() else 0
            while child.poll() is None and not (
                (folder / CHECKPOINT).exists() and (folder / CHECKPOINT).stat().st_mtime_ns > before
            ):
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.2))
            if child.poll() is None:
                os.kill(child.pid, number)
        codes.append(child.wait(timeout=120))
        if (folder / RESULT).exists():
            break
    assert -signal.SIGKILL in codes
    assert codes[-1] == 0
    assert json.loads((folder / RESULT).read_text())["resumed"] >= 2
    assert what_counts(tmp_path / "hit", made) == what_counts(tmp_path / "calm", made)


def test_a_loss_that_is_no_number_ends_the_run_as_diverged_with_its_step(tmp_path, monkeypatch):
    made = recipe()
    from mkfa.training.step import Step

    real, losses = Step.compute, []

    def spoilt(self: Step, batch: object) -> object:
        losses.append(real(self, batch))
        return losses[-1] * float("nan") if len(losses) == 7 else losses[-1]

    monkeypatch.setattr(Step, "compute", spoilt)
    result = run(made, tmp_path)
    assert (result["state"], result["step"]) == ("diverged", 6)
    assert not {"top1_last", "top1_best"} & set(result)
    assert not (RunFolder(tmp_path, spec(made)).path / WEIGHTS).exists()


def test_a_learning_rate_out_of_all_bounds_is_never_an_accuracy(tmp_path):
    result = run(recipe(lr=10.0, clip=0.0, weight_decay=10.0, warmup=0.0, equal_steps=200), tmp_path)
    assert result["state"] == "diverged"


def test_two_processes_cannot_train_one_run(tmp_path):
    made = recipe()
    folder = RunFolder(tmp_path, spec(made))
    folder.prepare()
    code = (
        f"import fcntl, os, sys, time\nh = os.open({str(folder.path / 'lock')!r}, os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(h, fcntl.LOCK_EX)\nprint('held', flush=True)\ntime.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "held"
        with pytest.raises(RunLocked, match="another process"):
            run(made, tmp_path)
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    assert run(made, tmp_path)["state"] == "done"


def test_a_full_disk_costs_nothing_that_was_written(tmp_path, monkeypatch):
    made = recipe()
    run(made, tmp_path / "calm")
    real, writes = RunFolder.save, []

    def full(self: RunFolder, name: str, state: dict) -> None:
        writes.append(name)
        if len(writes) == 5:
            raise WorkError(self.path / name, "the disk is full and nothing was written", "free some space")
        real(self, name, state)

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "save", full)
        with pytest.raises(WorkError, match="disk is full"):
            run(made, tmp_path / "full", execution=OFTEN)
    folder = RunFolder(tmp_path / "full", spec(made)).path
    assert "disk is full" in json.loads((folder / "failure.json").read_text())["error"]
    assert load_tensors(folder / CHECKPOINT)["step"] == 4
    assert run(made, tmp_path / "full")["resumed"] == 1
    assert what_counts(tmp_path / "full", made) == what_counts(tmp_path / "calm", made)
    assert not (folder / "failure.json").exists()


def test_a_damaged_checkpoint_is_named(tmp_path):
    made = recipe()
    folder = RunFolder(tmp_path, spec(made))
    folder.prepare()
    (folder.path / CHECKPOINT).write_bytes(b"no checkpoint")
    with pytest.raises(WorkError, match=r"checkpoint\.pt: is damaged"):
        run(made, tmp_path)


def test_a_run_begun_elsewhere_is_not_continued_here(tmp_path):
    made = recipe()
    folder = RunFolder(tmp_path, spec(made))
    folder.prepare()
    folder.save(CHECKPOINT, {"device": "cuda", "threads": 1})
    with pytest.raises(MkfaError, match="started on cuda"):
        run(made, tmp_path)


def test_the_identity_is_what_decides_and_nothing_else():
    made = recipe()
    base = spec(made)
    assert base.hash == replace(base, recipe_name="another name").hash
    changed = [
        replace(base, seed=1),
        replace(base, arch="convmixer_8_3"),
        replace(base, domain_digest="x"),
        replace(base, recipe=recipe(lr=1e-3).identity),
        replace(base, options={"kernel": 5}),
        replace(base, arm="random", layers=1),
        replace(base, arm="random", layers=2),
    ]
    assert len({s.hash for s in (base, *changed)}) == len(changed) + 1


def test_an_arm_begins_from_other_weights_than_the_base_run_of_its_seed():
    base = spec(recipe())
    assert network_seed(base) != network_seed(replace(base, arm="selffer", layers=2))
    assert network_seed(replace(base, arm="random")) == network_seed(replace(base, arm="selffer"))


def test_steps_by_epochs_and_equal_steps():
    assert steps_of(recipe(equal_steps=0, epochs=3, batch=10), 35) == (9, 3)
    assert steps_of(recipe(equal_steps=7, batch=10), 35) == (7, 3)
    assert steps_of(recipe(equal_steps=0, epochs=3, batch=100), 35) == (3, 1)


def test_evaluation_counts_every_image_once(monkeypatch):
    import torch

    from mkfa.training.batches import place

    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 5)
    domain = stripes()
    _, test = place(domain, recipe(), device=torch.device("cpu"), channels_last=True)
    fixed = torch.tensor([0.0, 2.0, 0.0])
    top1, loss = evaluate(torch.nn.Sequential(_Constant(fixed)), test, amp=False)
    assert top1 == (domain.y_test == 1).mean()
    log = fixed.log_softmax(0).numpy()
    assert loss == pytest.approx(-log[domain.y_test].mean(), rel=1e-5)


def test_a_compiled_network_is_evaluated_in_batches_of_one_shape_with_the_same_result(monkeypatch, tmp_path):
    import torch

    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 5)  # 16 test images: three batches and one image
    kept: list[tuple[dict, list[tuple[int, ...]]]] = []

    def compiled(model: torch.nn.Module, **options: object) -> object:
        shapes: list[tuple[int, ...]] = []
        kept.append((options, shapes))

        class Wrapped(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                shapes.append(tuple(x.shape))
                return model(x)

            def train(self, mode: bool = True) -> torch.nn.Module:
                model.train(mode)
                return self

        return Wrapped()

    monkeypatch.setattr(torch, "compile", compiled)
    one = run(recipe(), tmp_path / "compiled", execution=replace(ONE, compile=True))
    plain = run(recipe(), tmp_path / "plain", execution=replace(ONE, quick=False))
    assert (one["top1_last"], one["loss_test"]) == (plain["top1_last"], pytest.approx(plain["loss_test"], rel=1e-5))
    assert [options for options, _ in kept] == [{"dynamic": False}] * 2
    (_, evaluated), (_, trained) = kept
    assert set(evaluated) == {(5, 1, 16, 16)}
    assert set(trained) == {(8, 1, 16, 16)}


def test_a_run_that_runs_out_of_device_memory_goes_on_with_streamed_images(monkeypatch, tmp_path):
    import torch

    calm = run(recipe(), tmp_path / "calm", execution=OFTEN)
    real, batches = step_module.Step.augment, []

    def scarce(self: object, index: object, draws: object) -> object:
        batches.append(self.images.kind)
        if self.images.kind == "resident" and len(batches) == 7:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return real(self, index, draws)

    monkeypatch.setattr(step_module.Step, "augment", scarce)
    hit = run(recipe(), tmp_path / "hit", execution=OFTEN)
    assert batches == ["resident"] * 7 + ["streamed"] * 6  # six steps were saved
    assert hit["execution"]["data"] == "streamed"
    assert hit["weights_sha256"] == calm["weights_sha256"]
    assert not (RunFolder(tmp_path / "hit", spec(recipe())).path / "failure.json").exists()


@pytest.mark.parametrize("error", ["CUDA out of memory", "MPS backend out of memory"])
@pytest.mark.parametrize("data", ["auto", "resident", "stream"])
def test_a_run_that_does_not_fit_at_all_says_what_to_do(monkeypatch, tmp_path, error, data):
    import torch

    def scarce(*_: object) -> None:
        raise (torch.OutOfMemoryError if "CUDA" in error else RuntimeError)(error)

    monkeypatch.setattr(step_module.Step, "augment", scarce)
    with pytest.raises(WorkError, match=r"runs out of memory on cpu with batches of 8 images; .*smaller batch"):
        run(recipe(), tmp_path, execution=replace(ONE, data=data))


def test_other_errors_of_a_device_are_not_taken_for_a_lack_of_memory(monkeypatch, tmp_path):
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(step_module.Step, "augment", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        run(recipe(), tmp_path)


def _Constant(logits: object) -> object:
    import torch

    class Constant(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return logits.expand(len(x), -1)

    return Constant()


def test_images_are_normalised_by_the_training_set_and_scaled_where_asked():
    import torch

    from mkfa.training.batches import channel_statistics, place

    domain = stripes()
    train, _ = place(domain, recipe(), device=torch.device("cpu"), channels_last=False)
    x = train.normalise(train.take(torch.arange(len(train))))
    assert x.is_contiguous()
    assert (float(x.mean()), float(x.std())) == pytest.approx((0, 1), abs=1e-3)
    mean, std = channel_statistics(domain.x_train, recipe())
    assert (mean[0], std[0]) == pytest.approx((domain.x_train.mean() / 255, domain.x_train.std() / 255))
    larger, _ = place(domain, recipe(size=24), device=torch.device("cpu"), channels_last=True)
    assert larger.take(torch.arange(2)).shape == (2, 1, 24, 24)


def test_torchs_own_state_is_left_as_it_was(tmp_path):
    import torch

    torch.manual_seed(3)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    run(recipe(), tmp_path)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
