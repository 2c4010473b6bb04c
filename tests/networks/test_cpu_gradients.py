"""The quick gradients against PyTorch's own, and where they are taken."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mkfa.networks import cpu_gradients as quick
from mkfa.networks.build import build_network
from mkfa.networks.cpu_gradients import LARGEST_IMAGE, use_cpu_gradients, weight_gradient


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 4),
    c=st.integers(1, 5),
    h=st.integers(1, 9),
    w=st.integers(1, 9),
    size=st.sampled_from([1, 3, 5, 7, 9]),
    last=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_is_the_gradient(n: int, c: int, h: int, w: int, size: int, last: bool, seed: int) -> None:
    torch.manual_seed(seed)
    x, g = torch.randn(2, n, c, h, w, dtype=torch.float64)
    if last:
        x, g = x.contiguous(memory_format=torch.channels_last), g.contiguous(memory_format=torch.channels_last)
    wanted = torch.nn.grad.conv2d_weight(x, (c, 1, size, size), g, padding=size // 2, groups=c)
    torch.testing.assert_close(weight_gradient(x, g, size), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("padding", ["same", 2])
@pytest.mark.parametrize("bias", [True, False])
def test_a_quickened_layer_is_the_same_function_with_the_same_gradients(padding: str | int, bias: bool) -> None:
    conv = nn.Conv2d(6, 6, 5, padding=padding, groups=6, bias=bias).double()
    quick = copy.deepcopy(conv)
    assert use_cpu_gradients(quick) == 1
    assert quick.state_dict().keys() == conv.state_dict().keys()
    x = torch.randn(3, 6, 7, 8, dtype=torch.float64)
    found = []
    for layer in (conv, quick):
        at = x.clone().requires_grad_()
        y = layer(at)
        (y * torch.arange(y.numel(), dtype=y.dtype).view(y.shape).sin()).sum().backward()
        found.append((y.detach(), at.grad, *(p.grad for p in layer.parameters())))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_second_layer_of_a_network_is_reached_through_a_quickened_one() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 7, padding=3, groups=4)).double()
    assert use_cpu_gradients(net) == 1
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: net(t).tanh(), (x,))


def _graph(y: torch.Tensor) -> set[str]:
    seen, stack = set(), [y.grad_fn]
    while stack:
        node = stack.pop()
        if node is not None and node not in seen:
            seen.add(node)
            stack += [after for after, _ in node.next_functions]
    return {type(node).__name__ for node in seen}


def test_large_images_and_evaluation_take_pytorchs_own() -> None:
    conv = nn.Conv2d(2, 2, 7, padding=3, groups=2)
    use_cpu_gradients(conv)
    side = int(LARGEST_IMAGE**0.5)
    small = torch.randn(1, 2, side, side, requires_grad=True)
    large = torch.randn(1, 2, side + 1, side + 1, requires_grad=True)
    assert "ConvolveBackward" in _graph(conv(small))
    assert "ConvolutionBackward0" in _graph(conv(large))
    with torch.no_grad():
        assert conv(small).grad_fn is None


def test_a_frozen_layer_computes_no_weight_gradient_also_where_its_bias_is_trained(monkeypatch) -> None:
    conv = nn.Conv2d(3, 3, 7, padding=3, groups=3).double()
    own = copy.deepcopy(conv)
    use_cpu_gradients(conv)
    conv.weight.requires_grad_(False)
    monkeypatch.setattr(quick, "weight_gradient", lambda *_: pytest.fail("computed"))
    x = torch.randn(2, 3, 20, 20, dtype=torch.float64)
    found = []
    for layer in (conv, own):
        at = x.clone().requires_grad_()
        layer(at).sin().sum().backward()
        found.append((at.grad, layer.bias.grad))
    assert conv.weight.grad is None
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_a_pointwise_layer_is_the_same_function_with_the_same_gradients(bias: bool, frozen: bool, last: bool) -> None:
    conv = nn.Conv2d(5, 4, 1, bias=bias).double()
    quickened = copy.deepcopy(conv)
    assert use_cpu_gradients(quickened) == 1
    x = torch.randn(2, 5, 3, 6, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    found = []
    for layer in (conv, quickened):
        layer.weight.requires_grad_(not frozen)
        at = x.clone().requires_grad_()
        y = layer(at)
        y.sin().sum().backward()
        found.append((y.detach(), at.grad, *(p.grad for p in layer.parameters() if p.requires_grad)))
        assert (layer.weight.grad is None) == frozen
    assert ("ConvolutionBackward0" in _graph(y)) == (not last)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert y.is_contiguous(memory_format=torch.channels_last) or not last


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 7, padding=3, groups=2),
        nn.Conv2d(4, 8, 7, padding=3, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 4, 7, padding=3, groups=4, stride=2),
        nn.Conv2d(4, 4, 7, padding=6, groups=4, dilation=2),
        nn.Conv2d(4, 4, 7, groups=4),
        nn.Conv2d(4, 4, (5, 7), padding=(2, 3), groups=4),
        nn.Conv2d(4, 4, 7, padding=3, groups=4, padding_mode="reflect"),
        nn.Conv2d(4, 4, 1, stride=2),
        nn.Conv2d(4, 4, 1, groups=2),
        nn.Conv2d(4, 4, 1, padding=1),
    ],
)
def test_other_convolutions_are_left_alone(conv: nn.Conv2d) -> None:
    assert use_cpu_gradients(conv) == 0
    assert type(conv) is nn.Conv2d


@pytest.mark.parametrize(("arch", "layers"), [("convmixer_8_3", 3 + 3), ("convnext_atto", 12 + 24)])
def test_all_depthwise_and_pointwise_layers_of_the_networks_at_hand_are_quickened(arch: str, layers: int) -> None:
    model = build_network(arch, classes=3, channels=3, size=32, seed=0)
    assert use_cpu_gradients(model) == layers
