"""Dilations from names alone, against networks built with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mkfa
from mkfa.readers.tensors.dilations import named_dilations


def told(*names: str, size: tuple[int, int] = (3, 3), rest: tuple[str, ...] = ()) -> list[tuple[int, int] | None]:
    found, _ = named_dilations(names, [*names, *rest], [size] * len(names))
    return [found.get(name) for name in names]


@pytest.mark.parametrize("name", ["deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"])
def test_torchvisions_segmentation_networks(name: str) -> None:
    from torchvision.models import segmentation

    net = getattr(segmentation, name)(weights=None, weights_backbone=None)
    modules = dict(net.named_modules())
    bank = mkfa.harvest(net.state_dict())
    assert len(bank.layers) == 15
    for layer in bank.layers:
        assert layer.dilation == modules[layer.name.removesuffix(".weight")].dilation
    assert any("torchvision's segmentation" in note for note in bank.provenance.notes)


class Dilated(nn.Module):
    """UniRepLKNet's unmerged block with a 13x13 kernel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lk_origin = nn.Conv2d(dim, dim, 13, padding=6, groups=dim)
        for k, d in zip((5, 7, 3, 3, 3), (1, 2, 3, 4, 5), strict=True):
            self.add_module(f"dil_conv_k{k}_{d}", nn.Conv2d(dim, dim, k, dilation=d, groups=dim, bias=False))


class LargeKernelAttention(nn.Module):
    """VAN's."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv_spatial = nn.Conv2d(dim, dim, 7, padding=9, groups=dim, dilation=3)
        self.conv1 = nn.Conv2d(dim, dim, 1)


class Separable(nn.Module):
    """LSKA with kernels of 23."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv0h = nn.Conv2d(dim, dim, (1, 5), groups=dim)
        self.conv0v = nn.Conv2d(dim, dim, (5, 1), groups=dim)
        self.conv_spatial_h = nn.Conv2d(dim, dim, (1, 7), groups=dim, dilation=3)
        self.conv_spatial_v = nn.Conv2d(dim, dim, (7, 1), groups=dim, dilation=3)


class Guided(nn.Module):
    """CGNet's block."""

    def __init__(self, dim: int, dilation: int) -> None:
        super().__init__()
        self.F_loc = nn.Conv2d(dim, dim, 3, groups=dim, bias=False)
        self.F_sur = nn.Conv2d(dim, dim, 3, groups=dim, dilation=dilation, bias=False)


def networks() -> dict[str, nn.Module]:
    stem = nn.Conv2d(3, 8, 3)
    unirep = nn.ModuleDict({"dwconv": Dilated(8)})
    plain = nn.ModuleDict({"dwconv": nn.Conv2d(8, 8, 3, groups=8)})
    stages = nn.ModuleList([nn.ModuleList([plain]), nn.ModuleList([unirep])])
    attention = nn.ModuleDict({"spatial_gating_unit": LargeKernelAttention(8), "proj": nn.Conv2d(8, 8, 1)})
    return {
        "UniRepLKNet": nn.ModuleDict({"stem": stem, "stages": stages}),
        "VAN": nn.ModuleDict({"stem": stem, "block1": nn.ModuleList([nn.ModuleDict({"attn": attention})])}),
        "LSKA": nn.ModuleDict({"stem": stem, "unit": Separable(8), "out": nn.Conv2d(8, 8, 1)}),
        "CGNet": nn.ModuleDict(
            {"stem": stem, "level2_0": Guided(8, 2), "level2": nn.ModuleList([Guided(8, 2)]), "level3_0": Guided(8, 4)}
        ),
    }


@pytest.mark.parametrize("name", ["UniRepLKNet", "VAN", "LSKA", "CGNet"])
def test_families_whose_names_or_code_tell(name: str) -> None:
    net: Any = networks()[name]
    truth = {f"{k}.weight": m.dilation for k, m in net.named_modules() if getattr(m, "groups", 1) > 1}
    for state in (net.state_dict(), {f"module.{k}": v for k, v in net.state_dict().items()}):
        bank = mkfa.harvest(state)
        assert {layer.name.removeprefix("module."): layer.dilation for layer in bank.layers} == truth
        assert bank.provenance.notes and not bank.unknown_dilation


@pytest.mark.parametrize(
    ("names", "dilations"),
    [
        (("aspp.dilated_conv_6.dw.weight", "aspp.dilated_conv_12.dw.weight"), [6, 12]),
        (("b.conv3x3_d1.weight", "b.conv3x3_d3.weight", "b.conv3x3_d5.weight"), [1, 3, 5]),
        (("x.dil2.weight", "x.dil4.weight"), [2, 4]),
        (("x.atrous_conv_18.weight",), [18]),
        (("x.dilation_rate_2.weight", "x.dilation_rate_5.weight"), [2, 5]),
        (("x.dw_dil3.weight",), [3]),
        # ordinals
        (("x.dilated1.weight", "x.dilated2.weight", "x.dilated3.weight"), [None, None, None]),
        (("x.atrous0.weight", "x.atrous1.weight"), [None, None]),
        (("x.dil1.weight",), [None]),
        # other words
        (("x.conv3.weight", "building2.weight", "rated4.weight"), [None, None, None]),
    ],
)
def test_numbers_that_names_state_unless_they_may_be_ordinals(names: tuple[str, ...], dilations: list[Any]) -> None:
    assert told(*names) == [None if d is None else (d, d) for d in dilations]


def test_a_depthwise_pyramid_has_the_default_rates() -> None:
    for name in ("decode_head.aspp_modules.{}.depthwise_conv.conv.weight", "decoder.aspp.0.convs.{}.0.0.weight"):
        assert told(*(name.format(i) for i in (1, 2, 3))) == [(12, 12), (24, 24), (36, 36)]


def test_a_merged_unireplknet_has_no_dilation() -> None:
    assert told("stages.1.0.dwconv.weight", size=(13, 13), rest=("stages.1.0.se.down.weight",)) == [(1, 1)]


def test_other_names_tell_nothing() -> None:
    assert told("stages.0.0.dwconv.weight", "a.conv_spatial.weight", "level1.0.dw.weight") == [None, None, None]
    state = {"stem.weight": np.ones((8, 3, 3, 3)), "a.dw.weight": torch.randn(8, 1, 3, 3)}
    assert mkfa.harvest(state).unknown_dilation
