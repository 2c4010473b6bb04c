"""Steps of several runs computed together are those of each run alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from mkfa.arms.plant import set_filters, train_mode
from mkfa.errors import MkfaError
from mkfa.networks.build import build_network
from mkfa.training import strategies
from mkfa.training.batches import Resident
from mkfa.training.device import Resolved
from mkfa.training.optimizer import build_optimizer, load_state
from mkfa.training.recipe import load_recipe
from mkfa.training.step import Batch, Step
from mkfa.training.strategies import GROUPS, Alone, Graphs, Group, Stacked

CPU = torch.device("cpu")
HOW = Resolved(CPU, threads=1, amp=False, channels_last=True, compile=False, checkpoint_seconds=30.0)
RECIPE = load_recipe("smoke", {"equal_steps": 100, "batch": 8, "drop_path": 0.2, "mixup": 0.5, "erasing": 0.3})
COUNT, SIDE, CLASSES = 64, 16, 4


def images(seed: int) -> Resident:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, COUNT)
    pixels = rng.normal(100, 20, (COUNT, SIDE, SIDE, 3)) + 25 * labels[:, None, None, None] * np.eye(SIDE)[..., None]
    return Resident(
        images=torch.from_numpy(pixels.clip(0, 255).astype(np.uint8)),
        labels=torch.from_numpy(labels),
        mean=torch.full((1, 3, 1, 1), 110.0),
        scale=torch.full((1, 3, 1, 1), 0.02),
        side=SIDE,
        channels_last=True,
    )


def made(
    arch: str = "resmixer_8_2", count: int = 3, *, frozen: Sequence[int] = (0, 1, 2), **changes: Any
) -> list[Step]:
    """Return runs of different seeds, images and numbers of frozen layers."""
    recipe = load_recipe("smoke", {**RECIPE.identity, **changes})
    steps = []
    for r in range(count):
        model = build_network(arch, classes=CLASSES, channels=3, size=SIDE, seed=r, drop_path=recipe.drop_path).to(
            memory_format=torch.channels_last
        )
        planted = set_filters(model, "random", layers=frozen[r], seed=r) if frozen[r] else None
        train_mode(model, planted)
        optimizer = build_optimizer(model, recipe)
        run = Step(model, optimizer, images(r), recipe=recipe, domain="objects", seed=r, steps=100, how=HOW)
        steps.append(run)
    return steps


def batch(run: Step, number: int) -> Batch:
    rows = np.random.default_rng([run.seed, number]).permutation(COUNT)[:8]
    return run.prepare(number, *next(run.draw_ahead(number, [rows])))


def train(group: Group, runs: Sequence[Step], numbers: range) -> torch.Tensor:
    """Return the losses, (steps, runs)."""
    losses = [torch.stack(list(group.step([batch(run, n) for run in runs]))) for n in numbers]
    return torch.stack(losses)


def grouped(kind: Callable[[], Group], runs: Sequence[Step]) -> Group:
    group = kind()
    for run in runs:
        group.add(run)
    return group


def distance(weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> float:
    """Return the relative distance of all weights."""
    pairs = [(a.double(), others[name].double()) for name, a in weights.items() if a.is_floating_point()]
    total = sum(float(b.square().sum()) for _, b in pairs)
    return math.sqrt(sum(float((a - b).square().sum()) for a, b in pairs) / total)


@pytest.fixture
def recomputed(monkeypatch):
    """Instead of a CUDA graph, a computation that is done anew at each replay, on the same tensors."""

    def capture(compute: Callable[[], torch.Tensor], _device: torch.device) -> Any:
        for _ in range(strategies.WARM_UP):
            compute()
        result = compute()
        return lambda: result.copy_(compute()), lambda: None, result

    monkeypatch.setattr(strategies, "capture", capture)


@pytest.mark.parametrize("arch", ["resmixer_8_2", "convmixer_8_2", "convnext_8_2"])
def test_gradients_of_one_stacked_step_are_those_of_each_run_alone(arch):
    alone, stacked = made(arch), made(arch)
    (first,) = train(grouped(Alone, alone), alone, range(5, 6))
    (second,) = train(grouped(Stacked, stacked), stacked, range(5, 6))
    assert torch.allclose(first, second, rtol=1e-5)
    for run, other in zip(alone, stacked, strict=True):
        for (name, p), q in zip(run.model.named_parameters(), other.model.parameters(), strict=True):
            assert (p.grad is None) == (q.grad is None) == (not p.requires_grad)
            if p.grad is not None:  # relative to the whole gradient: biases before a batch norm have none
                assert float((p.grad - q.grad).norm()) < 1e-5 * float(norm_of(run)), name


def norm_of(run: Step) -> torch.Tensor:
    return torch.stack([p.grad.norm() for p in run.trained]).norm()


@pytest.mark.parametrize("arch", ["resmixer_8_6", "convmixer_8_6", "convnext_8_6"])
def test_a_hundred_stacked_steps_are_those_of_each_run_alone(arch):
    alone, stacked, untrained = (made(arch, 2, frozen=(0, 4)) for _ in range(3))
    first, second = (
        train(grouped(kind, runs), runs, range(100)) for kind, runs in ((Alone, alone), (Stacked, stacked))
    )
    assert float(first[:5].mean()) > float(first[-5:].mean())  # something was learned
    assert torch.allclose(first, second, atol=1e-4)
    for run, other, fresh in zip(alone, stacked, untrained, strict=True):
        assert distance(other.model.state_dict(), run.model.state_dict()) < 1e-4
        for p, q in zip(other.model.parameters(), fresh.model.parameters(), strict=True):
            assert torch.equal(p, q) == (not q.requires_grad)


def test_deep_stacked_runs_part_no_farther_than_a_nudge_moves_one():
    """At this depth and learning rate, rounding grows a thousandfold: no bar could hold that is not the run's own.

    A nudge changes every weight, also a frozen one, by a random part of the size of its rounding, 1e-7 of it. Of four
    nudges, the one that moves a run farthest moves it farther than stacking, at every one of three moments: by 1.7 to
    4.6 times.
    """
    changes = {"lr": 0.01, "clip": 0.0, "warmup": 0.0, "drop_path": 0.0}
    parts = (range(10), range(10, 20), range(20, 40))
    rng = torch.Generator().manual_seed(0)

    def states(kind: Callable[[], Group], nudge: float = 0.0) -> list[list[dict[str, torch.Tensor]]]:
        """Return the weights of both runs after each part."""
        runs = made("convmixer_8_12", 2, frozen=(0, 4), **changes)
        group, found = grouped(kind, runs), []
        with torch.no_grad():
            for weight in (p for run in runs for p in run.model.parameters()):
                weight.mul_(1 + nudge * torch.randn(weight.shape, generator=rng))
        for numbers in parts:
            train(group, runs, numbers)
            found.append([{name: t.clone() for name, t in run.model.state_dict().items()} for run in runs])
        return found

    alone, stacked, nudged = states(Alone), states(Stacked), [states(Alone, 1e-7) for _ in range(4)]
    apart, moved = (
        [[max(distance(one[part][r], alone[part][r]) for one in ones) for r in range(2)] for part in range(len(parts))]
        for ones in ([stacked], nudged)
    )
    assert all(a < b for one, other in zip(apart, moved, strict=True) for a, b in zip(one, other, strict=True))
    assert moved[-1][0] > 50 * moved[0][0]  # 200, measured


@pytest.mark.parametrize("spoil", ["nan", "rate"])
@pytest.mark.parametrize("name", ["stacked", "graph"])
def test_a_run_that_diverges_leaves_its_neighbours_alone(name, spoil, recomputed):
    healthy, sick = made(), made()
    groups = [grouped(GROUPS[name], runs) for runs in (healthy, sick)]
    for runs, group in zip((healthy, sick), groups, strict=True):
        train(group, runs, range(3))
    if spoil == "nan":
        with torch.no_grad():
            sick[1].trained[0].fill_(float("nan"))
    else:
        sick[1].recipe = load_recipe("smoke", {**RECIPE.identity, "lr": 10.0, "clip": 0.0, "weight_decay": 10.0})
    losses = [train(group, runs, range(3, 8)) for runs, group in zip((healthy, sick), groups, strict=True)]
    if spoil == "nan":
        assert bool(losses[1][:, 1].isnan().all())
    assert not torch.equal(losses[0][:, 1], losses[1][:, 1])
    for r in (0, 2):
        assert torch.equal(losses[0][:, r], losses[1][:, r])
        assert bits(groups[0], r) == bits(groups[1], r)


@pytest.mark.parametrize("name", ["alone", "stacked", "graph"])
def test_a_run_that_is_stopped_leaves_its_neighbours_as_in_a_group_without_it(name, recomputed):
    without, stopped = [made()[r] for r in (0, 2)], made()
    group = grouped(GROUPS[name], stopped)
    train(group, stopped, range(4))
    before = bits(group, 1)
    group.stop(1)
    left = [stopped[0], stopped[2]]
    train(group, left, range(4, 8))
    other = grouped(GROUPS[name], without)
    train(other, without, range(8))
    assert bits(group, 0) == bits(other, 0)
    assert bits(group, 1) == bits(other, 1)
    assert state_bits(stopped[1].model.state_dict()) == before  # nobody trains it any more


def bits(group: Group, r: int) -> bytes:
    return state_bits(group.weights(r))


def state_bits(state: dict[str, torch.Tensor]) -> bytes:
    return b"".join(tensor.contiguous().numpy().tobytes() for tensor in state.values())


@pytest.mark.parametrize("name", ["stacked", "graph"])
def test_a_run_that_comes_later_is_trained_as_alone(name, recomputed):
    alone, together = made(), made()
    for run in alone:
        train(grouped(Alone, [run]), [run], range(10) if run is not alone[2] else range(6))
    group = grouped(GROUPS[name], together[:2])
    train(group, together[:2], range(4))
    group.add(together[2])
    for number in range(6):
        train_each(group, together, [4 + number, 4 + number, number])
    for r, run in enumerate(alone):
        assert distance(group.weights(r), run.model.state_dict()) < 1e-5


def train_each(group: Group, runs: Sequence[Step], numbers: Sequence[int]) -> None:
    group.step([batch(run, n) for run, n in zip(runs, numbers, strict=True)])


@pytest.mark.parametrize("name", ["stacked", "graph"])
def test_an_optimiser_state_goes_on_under_another_strategy(name, recomputed):
    """Fused updates read moments as they lie in memory: those of a checkpoint may lie otherwise."""
    alone, first = made(), made()
    train(grouped(Alone, alone), alone, range(8))
    train(grouped(GROUPS[name], first), first, range(4))
    second = made()
    for run, other in zip(first, second, strict=True):
        other.model.load_state_dict(run.model.state_dict())
        state = copy.deepcopy(run.optimizer.state_dict())
        for moments in state["state"].values():
            for key, value in moments.items():
                moments[key] = value.clone(memory_format=torch.contiguous_format)
        load_state(other.optimizer, state)
    train(grouped(Alone, second), second, range(4, 8))
    for run, other in zip(alone, second, strict=True):
        assert distance(other.model.state_dict(), run.model.state_dict()) < 1e-5


def test_captured_steps_begin_where_the_run_is(recomputed):
    alone, captured = made(), made()
    losses = [train(grouped(kind, runs), runs, range(6)) for kind, runs in ((Alone, alone), (Graphs, captured))]
    assert torch.equal(*losses)
    for run, other in zip(alone, captured, strict=True):
        assert state_bits(run.model.state_dict()) == state_bits(other.model.state_dict())


def test_stochastic_depth_that_draws_by_itself_is_refused():
    (run,) = made(count=1)
    run.drop_paths = None
    for kind in (Stacked, Graphs):
        with pytest.raises(MkfaError, match="cannot be drawn before the forward pass"):
            kind().add(run)
