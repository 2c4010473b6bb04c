"""Stochastic depth drawn before the forward pass: timm's draws, in its order, for all or some images."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers.drop import DropPath
from torch import nn

from mkfa.networks.build import build_network
from mkfa.networks.drop_path import give_drop_paths


@pytest.mark.parametrize("arch", ["convmixer_8_3", "resmixer_8_3", "convnext_atto", "resnet10t", "hornet_tiny"])
def test_a_forward_pass_is_timms(arch):
    model = build_network(arch, classes=3, channels=3, size=32, seed=0, drop_path=0.4).train()
    ours = copy.deepcopy(model)
    drops = give_drop_paths(ours, (3, 32, 32))
    assert list(ours.state_dict()) == list(model.state_dict())
    x = torch.rand(6, 3, 32, 32)
    torch.manual_seed(1)
    expected = model(x)
    torch.manual_seed(1)
    drops.use(factors := drops.draw(6, x.device))
    assert 0 < float((factors == 0).float().mean()) < 0.6
    assert torch.equal(ours(x), expected)
    assert torch.equal(ours.eval()(x), model.eval()(x))
    assert torch.equal(ours.train()(x), expected)  # every call takes its own factors again


def test_a_network_without_stochastic_depth_needs_no_draw():
    drops = give_drop_paths(build_network("convmixer_8_2", classes=3, channels=3, size=8, seed=0), (3, 8, 8))
    assert drops.draw(4, torch.device("cpu")) is None
    drops.use(None)


class PerPatch(nn.Module):
    """Drops patches, not images."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = DropPath(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(x.flatten(0, 1)).view(x.shape)


class NeedsData(PerPatch):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(x) if x.sum() > 0 else x


@pytest.mark.parametrize("kind", [PerPatch, NeedsData])
def test_stochastic_depth_of_another_kind_is_left_alone(kind):
    model = kind()
    assert give_drop_paths(model, (3, 8, 8)) is None
    assert type(model.drop) is DropPath
