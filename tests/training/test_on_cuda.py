"""A whole step, augmentation and evaluation on fake CUDA tensors: no mixed devices, no waiting for the GPU.

Fake tensors (`torch._subclasses`) have a device and a shape and no data. An operation that mixes devices raises, and so
does one that needs a value. What neither notices, a copy that makes the host wait, is caught by `NoWaiting`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from mkfa.arms.plant import set_filters
from mkfa.images import augment
from mkfa.networks.build import build_network
from mkfa.networks.drop_path import give_drop_paths
from mkfa.networks.grouped import group_networks
from mkfa.training import step as step_module
from mkfa.training import strategies
from mkfa.training.batches import Resident
from mkfa.training.device import Resolved
from mkfa.training.draws import Draws
from mkfa.training.evaluation import evaluate
from mkfa.training.optimizer import build_optimizer
from mkfa.training.recipe import Recipe, load_recipe
from mkfa.training.step import Step

GPU = torch.device("cuda", 0)
COUNT, BATCH = 1200, 16


class NoWaiting(TorchDispatchMode):
    """Refuses copies from the GPU to the host, and copies to it that are not from pinned memory or not asynchronous."""

    def __init__(self) -> None:
        super().__init__()
        self.pinned: set[int] = set()
        self.uploads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in ("_to_copy", "copy_"):
            source = args[1] if name == "copy_" else args[0]
            target = args[0].device if name == "copy_" else torch.device(kwargs.get("device") or source.device)
            asynchronous = kwargs.get("non_blocking", False) or (name == "copy_" and args[2:3] == (True,))
            if source.device.type == "cuda" and target.type == "cpu":
                raise AssertionError("copies from the GPU to the host")
            if source.device.type == "cpu" and target.type == "cuda":
                self.uploads += 1
                if not (asynchronous and id(source) in self.pinned):
                    raise AssertionError("copies to the GPU without pinned memory, or waits for the copy")
        return func(*args, **kwargs)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[NoWaiting]:
    """Everything inside runs on fake tensors, as if there were a GPU."""
    import torch.cuda.amp.common as cuda_amp

    mode = NoWaiting()
    kept = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        mode.pinned.add(id(tensor))
        return tensor

    monkeypatch.setattr(cuda_amp, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda _: None)
    with FakeTensorMode(allow_non_fake_inputs=True), mode:
        yield mode


def on_gpu(model: torch.nn.Module) -> torch.nn.Module:
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                moved = torch.nn.Parameter(torch.empty(p.shape, device=GPU), requires_grad=p.requires_grad)
                module._parameters[name] = moved
        for name, b in module._buffers.items():
            if b is not None:
                module._buffers[name] = torch.empty(b.shape, dtype=b.dtype, device=GPU)
    return model


def side_of(size: int, classes: int = 10) -> Resident:
    def column() -> torch.Tensor:
        return torch.ones(1, 3, 1, 1, device=GPU)

    return Resident(
        images=torch.empty(COUNT, size, size, 3, dtype=torch.uint8, device=GPU),
        labels=torch.empty(COUNT, dtype=torch.int64, device=GPU),
        mean=column(),
        scale=column(),
        side=size,
        channels_last=True,
    )


def prepared(monkeypatch: pytest.MonkeyPatch, model: torch.nn.Module, recipe: Recipe, size: int) -> Step:
    """Return a step whose backward pass makes empty gradients: the real one asks for a CUDA context."""
    how = Resolved(GPU, threads=1, amp=True, channels_last=True, compile=False, checkpoint_seconds=30.0)
    parameters = list(model.parameters())

    def backward(*_: Any, **__: Any) -> None:
        for p in parameters:
            if p.requires_grad:
                p.grad = torch.empty_like(p)

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    optimizer = build_optimizer(model, recipe)
    return Step(model, optimizer, side_of(size), recipe=recipe, domain="objects", seed=0, steps=100, how=how)


def rows(count: int) -> torch.Tensor:
    return torch.empty(count, dtype=torch.int64, device=GPU)


def ahead(step: Step, number: int) -> tuple[torch.Tensor, Draws]:
    return next(step.draw_ahead(number, [np.arange(BATCH)]))


@pytest.mark.parametrize(
    ("name", "arch", "size", "frozen"),
    [("fast", "convmixer_32_6", 32, 4), ("paper", "convnext_femto", 64, 0), ("paper", "hornet_tiny", 64, 6)],
)
def test_a_step_and_an_evaluation_stay_on_the_gpu(waiting, monkeypatch, name, arch, size, frozen):
    recipe = load_recipe(name)
    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        model = build_network(arch, classes=10, channels=3, size=size, seed=0, drop_path=recipe.drop_path)
        if frozen:
            set_filters(model, "delta", layers=frozen, source=None, seed=0)
        drops = give_drop_paths(model, (3, size, size))  # copies the network, which fake tensors do not allow
    monkeypatch.setattr(step_module, "give_drop_paths", lambda *_: drops)
    model = on_gpu(model)
    step = prepared(monkeypatch, model, recipe, size)
    model.train()
    for number in range(8):
        loss = step(number, rows(BATCH))
        assert (loss.device, loss.dtype, tuple(loss.shape)) == (GPU, torch.float32, ())
    assert waiting.uploads > 0
    read = []
    monkeypatch.setattr(torch.Tensor, "__int__", lambda t: read.append(t) or 1)
    monkeypatch.setattr(torch.Tensor, "__float__", lambda t: read.append(t) or 1.0)
    evaluate(model, side_of(size), amp=True)
    assert [tuple(t.shape) for t in read] == [(), ()]  # both at the end


def drawn_outside(monkeypatch: pytest.MonkeyPatch, models: list[torch.nn.Module], size: int) -> None:
    """Find the stochastic depth of networks before their tensors are fake, which cannot be copied."""
    drops = [give_drop_paths(model, (3, size, size)) for model in models]
    monkeypatch.setattr(step_module, "give_drop_paths", lambda model, _: drops[models.index(model)])


@pytest.mark.parametrize("crop", ["resized", "shift"])
def test_the_draws_of_an_epoch_go_to_the_gpu_in_one_copy(waiting, monkeypatch, crop):
    """Everything that can be drawn; nothing else is copied in its steps, and the host never waits."""
    everything = {"crop": crop, "shift": 0.1, "erasing": 0.9, "mixup": 0.8, "cutmix": 1.0, "drop_path": 0.3}
    recipe = load_recipe("paper", {**everything, "size": 32, "crop_from": 0, "eval_size": 0, "batch": BATCH})
    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        model = build_network("convmixer_8_3", classes=10, channels=3, size=32, seed=0, drop_path=0.3).train()
        drawn_outside(monkeypatch, [model], 32)
    step = prepared(monkeypatch, on_gpu(model), recipe, 32)
    before = waiting.uploads
    for number, drawn in enumerate(step.draw_ahead(0, np.split(np.arange(8 * BATCH), 8))):
        loss = step.compute(step.prepare(number, *drawn))
        assert (loss.device, tuple(loss.shape)) == (GPU, ())
    assert number == 7 and waiting.uploads == before + 1
    monkeypatch.setattr(step_module, "DRAWN_AT_ONCE", 3 * BATCH)  # as an epoch that is too large
    assert len(list(step.draw_ahead(8, np.split(np.arange(8 * BATCH), 8)))) == 8
    assert waiting.uploads == before + 1 + 3


@pytest.mark.parametrize(("name", "arch", "size"), [("fast", "convmixer_32_6", 32), ("paper", "convnext_femto", 64)])
def test_a_captured_step_copies_nothing_and_keeps_its_learning_rate_on_the_gpu(waiting, monkeypatch, name, arch, size):
    recipe = load_recipe(name)
    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        model = build_network(arch, classes=10, channels=3, size=size, seed=0, drop_path=recipe.drop_path).train()
        drawn_outside(monkeypatch, [model], size)
    step = prepared(monkeypatch, on_gpu(model), recipe, size)
    for group in step.optimizer.param_groups:  # the fused update with a rate on the GPU has no fake
        group["fused"], group["foreach"] = False, True
    captured = []

    def capture(compute: Any, device: torch.device) -> Any:
        before = waiting.uploads
        captured.append([compute() for _ in range(2)])
        assert waiting.uploads == before
        return lambda: None, lambda: None, captured[-1][-1]

    monkeypatch.setattr(strategies, "capture", capture)
    graphs = strategies.Graphs()
    graphs.add(step)
    for number in range(4):
        (loss,) = graphs.step([step.prepare(number, *ahead(step, number))])
        assert (loss.device, tuple(loss.shape)) == (GPU, ())
    assert len(captured) == 1
    assert {group["lr"].device for group in step.optimizer.param_groups} == {GPU}


@pytest.mark.parametrize(("name", "arch", "size"), [("fast", "convmixer_32_6", 32), ("paper", "convnext_femto", 64)])
def test_a_stacked_step_stays_on_the_gpu(waiting, monkeypatch, name, arch, size):
    recipe = load_recipe(name)
    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        models = [
            build_network(arch, classes=10, channels=3, size=size, seed=s, drop_path=recipe.drop_path).train()
            for s in range(2)
        ]
        set_filters(models[1], "delta", layers=2, source=None, seed=0)
        drawn_outside(monkeypatch, models, size)
        network = group_networks(models)
    steps = [prepared(monkeypatch, on_gpu(model), recipe, size) for model in models]
    on_gpu(network)

    def backward(*_: Any, **__: Any) -> None:
        for p in network.parameters():
            if p.requires_grad:
                p.grad = torch.empty_like(p)

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    group = strategies.Stacked()
    for step in steps:
        group.add(step)
    group.network = network
    for number in range(4):
        batches = [step.prepare(number, *ahead(step, number)) for step in steps]
        before = waiting.uploads
        losses = group.step(batches)
        assert waiting.uploads == before
        assert [(loss.device, tuple(loss.shape)) for loss in losses] == [(GPU, ())] * 2


def _item(x: torch.Tensor, _: Any) -> torch.Tensor:
    return x * float(x.flatten()[0])


def _mixed(x: torch.Tensor, _: Any) -> torch.Tensor:
    return x + torch.ones(x.shape)


def _copied(x: torch.Tensor, _: Any) -> torch.Tensor:
    return x + torch.ones(x.shape).to(x.device)


def _to_host(x: torch.Tensor, _: Any) -> torch.Tensor:
    x.mean().cpu()
    return x


@pytest.mark.parametrize(
    ("planted", "error"),
    [
        (_item, DataDependentOutputException),
        (_mixed, RuntimeError),
        (_copied, AssertionError),
        (_to_host, AssertionError),
    ],
)
def test_a_planted_fault_is_seen(waiting, monkeypatch, planted, error):
    recipe = load_recipe("fast")
    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        model = build_network("convmixer_8_2", classes=10, channels=3, size=16, seed=0, drop_path=0.0)
    step = prepared(monkeypatch, on_gpu(model), recipe, 16)
    step(0, rows(BATCH))
    monkeypatch.setattr(augment, "mix", planted)
    with pytest.raises(error):
        step(1, rows(BATCH))
