"""ConvNeXt of one resolution: timm's own blocks, the published form, its options."""

from __future__ import annotations

import pytest
import timm
import torch

from mkfa.errors import MkfaError
from mkfa.experiments.options import make_setting
from mkfa.networks.build import build_network
from mkfa.networks.layers import norms_after, spatial_layers
from mkfa.networks.registry import register

torch.set_num_threads(1)  # small maps: threads only get into each other's way


def net(arch="convnext_8_3", **options):
    return build_network(arch, **({"classes": 5, "channels": 3, "size": 16, "seed": 0} | options))


def test_its_blocks_are_a_stage_of_timms_convnext():
    """The third stage of a ConvNeXt with equal widths has no change of width; its blocks are filled with ours."""
    from timm.models.convnext import ConvNeXt

    model = net(branch_gain=0.5).eval()
    theirs = ConvNeXt(depths=(1, 1, 3, 1), dims=(8, 8, 8, 8), ls_init_value=1.0).eval().stages[2].blocks
    theirs.load_state_dict(model.blocks.state_dict())
    x = torch.randn(2, 8, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(model.blocks(x), theirs(x))
        assert not torch.allclose(model.blocks(x), x)


def test_stem_and_head_are_those_of_the_paper():
    model = net(kernel=5, patch=2).eval()
    s, image = model.state_dict(), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        stem = torch.nn.functional.conv2d(image, s["stem.0.weight"], s["stem.0.bias"], stride=2)
        stem = torch.nn.functional.layer_norm(stem.permute(0, 2, 3, 1), (8,), eps=1e-6).permute(0, 3, 1, 2)
        pooled = torch.nn.functional.layer_norm(model.blocks(stem).mean((2, 3)), (8,), eps=1e-6)
        torch.testing.assert_close(model(image), pooled @ s["head.weight"].T + s["head.bias"])
    assert float(s["blocks.0.mlp.fc1.weight"].std()) == pytest.approx((3 * 8) ** -0.5, rel=0.1)  # PyTorch's default


def test_layers_gain_and_norms_are_what_name_and_options_say():
    model = net(size=32)
    assert [name for name, _ in spatial_layers(model)] == [f"blocks.{i}.conv_dw" for i in range(3)]
    assert len(spatial_layers(model, "pointwise")) == 6
    assert norms_after(model, ["blocks.0.conv_dw"]) == {"blocks.0.conv_dw": "blocks.0.norm"}
    assert torch.equal(model.blocks[1].gamma, torch.full((8,), 1e-6))
    assert torch.equal(net(branch_gain=0.5).blocks[2].gamma, torch.full((8,), 0.5))
    assert model.stem[0].kernel_size == model.stem[0].stride == (4, 4)
    assert [block.drop_path.drop_prob for block in net(drop_path=0.4).blocks[1:]] == [0.2, 0.4]


def test_timm_knows_it():
    register("convnext_12_2")
    model = timm.create_model("convnext_12_2", kernel_size=5, patch_size=2, num_classes=7, in_chans=1)
    assert model(torch.zeros(1, 1, 16, 16)).shape == (1, 7)
    with pytest.raises(ValueError, match="convnext_C_L"):
        register("convmixer_8_2")


def test_a_default_that_is_spelled_out_is_the_same_run_and_the_papers_names_stay():
    asked = {"device": "cpu", "arch": "convnext_8_2", "patch": 4, "kernel": 7, "branch_gain": 1e-6}
    assert make_setting(asked)[0] == make_setting({"device": "cpu", "arch": "convnext_8_2"})[0]
    with pytest.raises(MkfaError, match="convnext_atto: has fixed kernels and patches"):
        net("convnext_atto", patch=2)
