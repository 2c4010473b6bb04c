"""Networks computed as one: outputs and gradients are those of each network alone."""

from __future__ import annotations

import copy

import pytest
import torch

from mkfa.errors import MkfaError
from mkfa.networks.build import build_network
from mkfa.networks.cpu_gradients import use_cpu_gradients
from mkfa.networks.grouped import check_grouped, group_networks, hand_out_gradients
from mkfa.networks.offset import add_offset

NETWORKS = {"resmixer_8_2": 16, "convmixer_8_2": 16, "convnext_8_2": 16, "convnext_atto": 32, "convnextv2_atto": 32}


def made(arch: str, count: int = 3, channels: int = 2) -> list[torch.nn.Module]:
    size = NETWORKS.get(arch, 32)
    models = [build_network(arch, classes=3, channels=channels, size=size, seed=s) for s in range(count)]
    with torch.no_grad():
        for s, model in enumerate(models):
            generator = torch.Generator().manual_seed(s)
            for p in model.parameters():
                if p.ndim < 2:
                    p.uniform_(0.2, 1, generator=generator)
    return [model.to(memory_format=torch.channels_last).train() for model in models]


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a - b).norm() / b.norm().clamp(min=1e-3)).detach())


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("arch", NETWORKS)
def test_gradients_and_batch_statistics_are_those_of_each_network_alone(arch, quick):
    models = made(arch)
    models[1].get_submodule("stem")[0].weight.requires_grad_(False)
    alone = [copy.deepcopy(model) for model in models]
    group = group_networks(models)
    if quick:
        assert use_cpu_gradients(group) > 0
    x = torch.randn(6, 3, 2, *models[0].image_shape[1:], generator=torch.Generator().manual_seed(9))
    weights = torch.randn(6, 3, 3, generator=torch.Generator().manual_seed(8))
    together = group(x.flatten(1, 2).contiguous(memory_format=torch.channels_last))
    (together.view(6, 3, 3) * weights).sum().backward()
    hand_out_gradients(group, models)
    for r, (model, own) in enumerate(zip(models, alone, strict=True)):
        out = own(x[:, r].contiguous(memory_format=torch.channels_last))
        (out * weights[:, r]).sum().backward()
        assert gap(together.view(6, 3, 3)[:, r], out) < 1e-5
        for (name, p), (same, q) in zip(model.named_parameters(), own.named_parameters(), strict=True):
            assert name == same
            assert (p.grad is None) == (q.grad is None) == (not p.requires_grad)
            if p.grad is not None:
                assert gap(p.grad, q.grad) < 1e-4, name
        for (name, p), (same, q) in zip(model.state_dict().items(), own.state_dict().items(), strict=True):
            assert (name, p.shape) == (same, q.shape)
            assert torch.allclose(p.double(), q.double(), atol=1e-5), name


def test_models_and_group_share_their_weights():
    models = made("convmixer_8_2")
    group = group_networks(models)
    assert list(dict(group.named_parameters())) == list(dict(models[0].named_parameters()))
    with torch.no_grad():
        models[2].head.weight.fill_(7)
    assert bool((group.head.weight[6:] == 7).all())
    assert not bool((group.head.weight[:6] == 7).any())


def test_offsets_are_grouped_too():
    models = made("convmixer_8_2", 2)
    for model in models:
        conv = model.blocks[0][0].fn[0]
        torch.nn.init.uniform_(add_offset("conv", conv))
    use_cpu_gradients(models[0])
    alone = [model.eval()(torch.ones(2, 2, 16, 16)) for model in models]
    assert gap(group_networks(models)(torch.ones(2, 4, 16, 16)), torch.cat(alone, 1)) < 1e-5


@pytest.mark.parametrize("arch", ["resmixer_8_2", "convmixer_8_2", "convnext_8_2", "convnext_atto", "convnextv2_atto"])
def test_networks_of_the_project_have_a_grouped_form(arch):
    (model,) = made(arch, 1)
    check_grouped(model)


def test_networks_that_mix_channels_by_themselves_are_refused():
    with pytest.raises(MkfaError, match="cannot compute several networks at once"):
        check_grouped(made("hornet_tiny", 1)[0])
    with pytest.raises(MkfaError, match="has layer classifier of class Linear"):
        check_grouped(made("lcnet_035", 1)[0])

    class Mixes(type(made("convmixer_8_2", 1)[0])):
        def forward_features(self, x):
            return super().forward_features(x).roll(1, 1)

    (model,) = made("convmixer_8_2", 1)
    model.__class__ = Mixes
    with pytest.raises(MkfaError, match="mixes channels outside its layers"):
        check_grouped(model)


def test_networks_that_differ_are_no_group():
    with pytest.raises(MkfaError, match="different shapes"):
        group_networks([*made("convmixer_8_2", 1), *made("convmixer_8_2", 1, channels=1)])
