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


class Eesp(nn.Module):
    """ESPNetv2's block, as its published code builds it."""

    def __init__(self, n_in: int, n_out: int, *, limit: int, k: int = 4) -> None:
        super().__init__()
        n = n_out // k
        self.proj_1x1 = nn.Conv2d(n_in, n, 1, groups=k)
        sizes = sorted(size if size <= limit else 3 for size in (3 + 2 * i for i in range(k)))
        rates = [{3: 1, 5: 2, 7: 3, 9: 4}[size] for size in sizes]
        self.spp_dw = nn.ModuleList(
            nn.ModuleDict({"conv": nn.Conv2d(n, n, 3, dilation=rate, groups=n, bias=False)}) for rate in rates
        )
        self.conv_1x1_exp = nn.Conv2d(n_out, n_out, 1, groups=k)


def espnet() -> nn.Module:
    limits = [13, 11, 9, 7, 5]
    net = nn.ModuleDict({"level1": nn.ModuleDict({"conv": nn.Conv2d(3, 16, 3)})})
    for level, limit in zip((2, 3, 4, 5), limits[:4], strict=True):
        net[f"level{level}_0"] = nn.ModuleDict({"eesp": Eesp(16, 16, limit=limit)})
        if level > 2:
            blocks: list[nn.Module] = [Eesp(16, 16, limit=limits[level - 1]) for _ in range(2)]
            if level == 5:
                blocks.append(nn.ModuleDict({"conv": nn.Conv2d(16, 16, 3, groups=16, bias=False)}))
                blocks.append(nn.ModuleDict({"conv": nn.Conv2d(16, 16, 1, groups=4, bias=False)}))
            net[f"level{level}"] = nn.ModuleList(blocks)
    net["classifier"] = nn.Linear(16, 10)
    return net


def rfb_branch(*kernels: Any, rate: int) -> nn.Module:
    """A branch of RFBNet for MobileNet: dense convolutions and a depthwise one."""
    sizes = [*kernels, 3]
    last = len(sizes) - 1
    return nn.Sequential(
        *(
            nn.ModuleDict(
                {
                    "conv": nn.Conv2d(8, 8, size, dilation=rate if i == last else 1, groups=8 if i == last else 1),
                    "bn": nn.BatchNorm2d(8),
                }
            )
            for i, size in enumerate(sizes)
        )
    )


def rfbnet() -> nn.Module:
    line = nn.ModuleDict({"conv": nn.Conv2d(32, 8, 1)})
    wide = {
        "branch0": rfb_branch(1, rate=1),
        "branch1": rfb_branch(1, (3, 1), rate=3),
        "branch2": rfb_branch(1, (1, 3), rate=3),
        "branch3": rfb_branch(1, (1, 3), (3, 1), rate=5),
    }
    plain = {"branch1": rfb_branch(1, (1, 3), (3, 1), rate=3), "branch2": rfb_branch(1, 3, 3, rate=5)}
    base = [nn.Sequential(nn.Conv2d(3, 8, 3))]
    base += [nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1))] * 1
    return nn.ModuleDict(
        {
            "base": nn.ModuleList(base),
            "Norm": nn.ModuleDict({**wide, "ConvLinear": line}),
            "extras": nn.ModuleList(
                [nn.ModuleDict({**plain, "ConvLinear": nn.ModuleDict({"conv": nn.Conv2d(16, 8, 1)})})]
            ),
        }
    )


def networks() -> dict[str, nn.Module]:
    stem = nn.Conv2d(3, 8, 3)
    unirep = nn.ModuleDict({"dwconv": Dilated(8)})
    plain = nn.ModuleDict({"dwconv": nn.Conv2d(8, 8, 3, groups=8)})
    stages = nn.ModuleList([nn.ModuleList([plain]), nn.ModuleList([unirep])])
    attention = nn.ModuleDict({"spatial_gating_unit": LargeKernelAttention(8), "proj": nn.Conv2d(8, 8, 1)})
    return {
        "ESPNetv2": espnet(),
        "RFBNet": rfbnet(),
        "UniRepLKNet": nn.ModuleDict({"stem": stem, "stages": stages}),
        "VAN": nn.ModuleDict({"stem": stem, "block1": nn.ModuleList([nn.ModuleDict({"attn": attention})])}),
        "LSKA": nn.ModuleDict({"stem": stem, "unit": Separable(8), "out": nn.Conv2d(8, 8, 1)}),
        "CGNet": nn.ModuleDict(
            {"stem": stem, "level2_0": Guided(8, 2), "level2": nn.ModuleList([Guided(8, 2)]), "level3_0": Guided(8, 4)}
        ),
    }


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels and max(module.kernel_size) > 1


@pytest.mark.parametrize("name", ["UniRepLKNet", "VAN", "LSKA", "CGNet", "ESPNetv2", "RFBNet"])
def test_families_whose_names_or_code_tell(name: str) -> None:
    net: Any = networks()[name]
    truth = {f"{k}.weight": m.dilation for k, m in net.named_modules() if _is_depthwise(m)}
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


def test_a_dilated_block_that_names_do_not_settle_is_doubtful() -> None:
    """The branches of a decoder, whose limit no name tells, and those of another count."""
    for count in (3, 4, 5):
        state: dict[str, Any] = {"stem.weight": np.ones((8, 3, 3, 3))}
        state |= {f"decoder.spp_dw.{i}.conv.weight": torch.randn(8, 1, 3, 3) for i in range(count)}
        state["plain.dw.weight"] = torch.randn(8, 1, 3, 3)
        bank = mkfa.harvest(state)
        assert len(bank.layers) == count + 1 and len(bank.provenance.doubtful) == count
        assert all("dilation is not known" in why for why in bank.provenance.doubtful.values())
        told = mkfa.harvest(state, dilation="decoder.spp_dw.*=2")
        assert not told.provenance.doubtful
        assert sum(layer.dilation == (2, 2) for layer in told.layers) == count
    five = {f"level3.0.spp_dw.{i}.conv.weight": torch.randn(8, 1, 3, 3) for i in range(3)}
    assert len(mkfa.harvest({"stem.weight": np.ones((8, 3, 3, 3)), **five}).provenance.doubtful) == 3


def test_a_global_filter_is_left_out_with_the_reason() -> None:
    """HorNet with global filters: half of the channels have a kernel, half a weight for each frequency."""
    torch.manual_seed(0)
    state: dict[str, Any] = {"downsample_layers.0.0.weight": torch.randn(16, 3, 4, 4)}
    for i in range(2):
        block = f"stages.2.{i}.gnconv"
        state |= {
            f"{block}.proj_in.weight": torch.randn(32, 16, 1, 1),
            f"{block}.dwconv.complex_weight": torch.randn(8, 14, 8, 2),
            f"{block}.dwconv.dw.weight": torch.randn(8, 1, 3, 3),
            f"{block}.pws.0.weight": torch.randn(8, 4, 1, 1),
        }
    bank = mkfa.harvest(state)
    assert [layer.name for layer in bank.layers] == [f"stages.2.{i}.gnconv.dwconv.dw.weight" for i in range(2)]
    (why,) = bank.provenance.skipped
    assert why.startswith("global filter: complex weights") and bank.provenance.skipped[why] == 2
    with pytest.raises(mkfa.MkfaError, match="2 left out as global filter"):
        mkfa.harvest({key: value for key, value in state.items() if ".dw." not in key})
