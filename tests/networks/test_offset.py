"""Layers with a trained offset, with quick gradients and without."""

from __future__ import annotations

import copy

import pytest
import torch

from mkfa.errors import MkfaError
from mkfa.networks.cpu_gradients import use_cpu_gradients
from mkfa.networks.offset import add_offset, has_offset


@pytest.mark.parametrize(("kernel", "stride", "quick"), [(5, 1, 1), (7, 1, 1), (3, 1, 0), (5, 2, 0)])
def test_quick_gradients_of_an_offset_are_pytorchs(kernel, stride, quick):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(4, 4, kernel, stride, padding=kernel // 2, groups=4).double()
    conv.weight.requires_grad_(False)
    add_offset("conv", conv)
    with torch.no_grad():
        conv.offset.normal_()
    fast = copy.deepcopy(conv)
    assert use_cpu_gradients(fast) == quick and has_offset(conv) and hasattr(fast, "offset")
    x = torch.randn(3, 4, 8, 8, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_(True)
    (conv(x) ** 3).sum().backward()
    (fast(y) ** 3).sum().backward()
    torch.testing.assert_close(fast.offset.grad, conv.offset.grad)
    torch.testing.assert_close(fast.bias.grad, conv.bias.grad)
    torch.testing.assert_close(y.grad, x.grad)
    assert fast.weight.grad is None
    assert [name for name, _ in fast.named_parameters()] == ["weight", "bias", "offset"]


def test_a_layer_of_ones_own_is_refused():
    class Own(torch.nn.Conv2d):
        pass

    with pytest.raises(MkfaError, match="layer conv: is a Own, which cannot take a trained offset"):
        add_offset("conv", Own(2, 2, 3, groups=2))
