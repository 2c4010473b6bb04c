"""The residual mixer: a forward pass written again, its start, its options, timm's registry."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as functional

from mkfa.errors import MkfaError
from mkfa.experiments.options import make_setting
from mkfa.experiments.sources import parse_network
from mkfa.networks.build import build_network
from mkfa.networks.layers import norms_after, spatial_layers
from mkfa.networks.registry import register

torch.set_num_threads(1)  # small maps: threads only get into each other's way


def net(arch="resmixer_6_3", **options):
    return build_network(arch, **({"classes": 5, "channels": 3, "size": 16, "seed": 0} | options))


def norm(x, state, name):
    """Batch norm in evaluation mode, by its definition."""
    mean, var, weight, bias = (state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    shape = (1, -1, 1, 1)
    scaled = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
    return scaled * weight.view(shape) + bias.view(shape)


def test_the_forward_pass_is_the_formula():
    model = net(kernel=5, patch=2).eval()
    with torch.no_grad():
        for parameter in model.state_dict().values():
            if parameter.is_floating_point():
                parameter.uniform_(0.1, 1)
    s, image = model.state_dict(), torch.randn(2, 3, 16, 16)
    x = functional.gelu(functional.conv2d(image, s["stem.0.weight"], s["stem.0.bias"], stride=2))
    x = norm(x, s, "stem.2")
    for i in range(3):
        at = f"blocks.{i}"
        w, b = s[f"{at}.depthwise.conv.weight"], s[f"{at}.depthwise.conv.bias"]
        x = x + norm(functional.gelu(functional.conv2d(x, w, b, padding=2, groups=6)), s, f"{at}.depthwise.norm")
        w, b = s[f"{at}.pointwise.conv.weight"], s[f"{at}.pointwise.conv.bias"]
        x = x + norm(functional.gelu(functional.conv2d(x, w, b)), s, f"{at}.pointwise.norm")
    expected = functional.linear(x.mean((2, 3)), s["head.weight"], s["head.bias"])
    with torch.no_grad():
        torch.testing.assert_close(model(image), expected)


@pytest.mark.parametrize(("options", "gain"), [({}, 0.3), ({"branch_gain": 0.7}, 0.7)])
def test_branches_start_at_the_gain_and_the_stem_at_one(options, gain):
    state = net(**options).state_dict()
    for i in range(3):
        for half in ("depthwise", "pointwise"):
            assert torch.equal(state[f"blocks.{i}.{half}.norm.weight"], torch.full((6,), gain))
    assert torch.equal(state["stem.2.weight"], torch.ones(6))


def test_layers_kernels_patches_and_norms_are_what_name_and_options_say():
    model = net("resmixer_6_3", size=32)
    layers = spatial_layers(model)
    assert [name for name, _ in layers] == [f"blocks.{i}.depthwise.conv" for i in range(3)]
    assert {tuple(layer.weight.shape) for _, layer in layers} == {(6, 1, 7, 7)}
    assert [name for name, _ in spatial_layers(model, "pointwise")] == [f"blocks.{i}.pointwise.conv" for i in range(3)]
    assert norms_after(model, [layers[1][0]]) == {layers[1][0]: "blocks.1.depthwise.norm"}
    assert model.stem[0].stride == model.stem[0].kernel_size == (4, 4)
    assert net(kernel=3, patch=2).blocks[0].depthwise.conv.kernel_size == (3, 3)


def test_the_same_seed_gives_the_weights_of_timms_convmixer_with_the_same_shape():
    """Layers are made in the same order, so that the two networks differ by the residual and the gain alone."""
    ours, theirs = net("resmixer_6_3", patch=2), net("convmixer_6_3")
    convolutions = [[m.weight for m in n.modules() if isinstance(m, torch.nn.Conv2d)] for n in (ours, theirs)]
    assert len(convolutions[0]) == 1 + 2 * 3
    assert all(torch.equal(a, b) for a, b in zip(*convolutions, strict=True))


def test_stochastic_depth_rises_in_both_branches_and_has_no_weights():
    plain, dropped = net(), net(drop_path=0.5)
    assert list(plain.state_dict()) == list(dropped.state_dict())
    rates = [getattr(b, h).drop_path for b in dropped.blocks for h in ("depthwise", "pointwise")]
    assert [getattr(rate, "drop_prob", 0) for rate in rates] == [0, 0, 0.25, 0.25, 0.5, 0.5]
    x = torch.randn(8, 3, 16, 16)
    assert torch.equal(plain.eval()(x), dropped.eval()(x))
    assert not torch.equal(plain.train()(x), dropped.train()(x))


def test_timm_knows_it_with_its_options():
    register("resmixer_32_18")
    assert timm.is_model("resmixer_32_18")
    model = timm.create_model("resmixer_32_18", kernel_size=5, patch_size=2, branch_gain=0.5, num_classes=7, in_chans=1)
    assert len(model.blocks) == 18
    assert model.blocks[0].pointwise.norm.weight[0] == 0.5
    assert model(torch.zeros(1, 1, 16, 16)).shape == (1, 7)
    assert model.forward_head(model.forward_features(torch.zeros(1, 1, 16, 16)), pre_logits=True).shape == (1, 32)
    model.reset_classifier(0)
    assert model(torch.zeros(1, 1, 16, 16)).shape == (1, 32)
    assert model.default_cfg["first_conv"] == "stem.0"
    with pytest.raises(ValueError, match="resmixer_C_L"):
        register("convmixer_8_2")


def test_the_registered_network_is_the_built_one():
    made = net("resmixer_6_3", seed=4).state_dict()
    torch.manual_seed(4)
    again = timm.create_model("resmixer_6_3", num_classes=5).state_dict()
    assert all(torch.equal(made[key], again[key]) for key in again)


@pytest.mark.parametrize(
    ("arch", "options", "words"),
    [
        ("resmixer_1_2", {}, "cannot have 1 channel, 2 layers, 7x7 kernels and patches of 4"),
        ("resmixer_8_2", {"kernel": 4}, "--kernel 4: is even"),
        ("resmixer_99999999_2", {}, "would have 20,000,009 billion weights"),
        ("resmixer_8_2", {"patch": 64}, "does not accept images of 3x16x16.*a smaller --patch"),
        ("resmixer_8_2", {"stem_stride": 2}, "pass --patch instead"),
        ("resmixer_8_2", {"branch_gain": 0.0}, "--branch-gain 0: is not an initial weight"),
        ("resmixer_8_2", {"branch_gain": float("nan")}, "--branch-gain nan: "),
        ("convmixer_8_2", {"branch_gain": 0.3}, "convmixer_8_2: has no branches.*resmixer_C_L or convnext_C_L only"),
        ("convnext_atto", {"branch_gain": 0.3}, "convnext_atto: has no branches.*resmixer_C_L or convnext_C_L only"),
        ("resmixer_8", {}, "unknown architecture: neither one of timm's nor of one resolution"),
    ],
)
def test_what_it_cannot_be_is_said(arch, options, words):
    with pytest.raises(MkfaError, match=words):
        net(arch, **options)


def test_a_default_that_is_spelled_out_is_the_same_run():
    asked = {"device": "cpu", "arch": "resmixer_8_2", "patch": 4, "kernel": 7, "branch_gain": 0.3}
    assert make_setting(asked)[0] == make_setting({"device": "cpu", "arch": "resmixer_8_2"})[0]
    assert make_setting({**asked, "branch_gain": 0.5})[0].options == {"branch_gain": 0.5}
    assert make_setting({**asked, "arch": "convmixer_8_2", "branch_gain": None})[0].options == {"kernel": 7, "patch": 4}


def test_another_network_of_a_source_takes_the_options_that_apply():
    target = ("resmixer_8_2", {"kernel": 5, "branch_gain": 0.5})
    assert parse_network("resmixer_6_3", target=target)[1] == {"kernel": 5, "branch_gain": 0.5}
    assert parse_network("convmixer_6_3", target=target)[1] == {"kernel": 5}
    assert parse_network("resmixer_6_3:branch_gain=.3:kernel=3", target=target)[1] == {"kernel": 3}
    with pytest.raises(MkfaError, match="'branch_gain=x' where an option is expected"):
        parse_network("resmixer_6_3:branch_gain=x", target=target)
