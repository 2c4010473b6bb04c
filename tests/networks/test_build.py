"""Networks by name, the stem's stride, and the layers that an arm sets, in order of execution."""

from __future__ import annotations

import pytest
import torch

from mkfa.banks.library import load_bank
from mkfa.errors import MkfaError, UnknownNameError
from mkfa.networks.build import build_network
from mkfa.networks.layers import followers, spatial_layers
from mkfa.nulls.untrained import init_bank

torch.set_num_threads(1)  # nets of a few channels: threads only get into each other's way


def net(arch="convmixer_8_3", **options):
    return build_network(arch, **({"classes": 5, "channels": 3, "size": 16, "seed": 0} | options))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_the_seed_decides_the_weights_and_torch_is_left_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    assert same(net(), net())
    assert not same(net(), net(seed=1))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_small_convmixer_is_what_its_name_says():
    model = net("convmixer_12_4", kernel=5, patch=4, channels=1)
    layers = [module for _, module in spatial_layers(model)]
    assert [tuple(m.weight.shape) for m in layers] == [(12, 1, 5, 5)] * 4
    assert tuple(model.stem[0].weight.shape) == (12, 1, 4, 4)
    assert tuple(net().blocks[0][0].fn[0].weight.shape) == (8, 1, 7, 7)
    assert net().stem[0].stride == (2, 2)
    assert model(torch.zeros(2, 1, 16, 16)).shape == (2, 5)


def test_a_convmixer_gets_stochastic_depth_that_rises_and_has_no_weights():
    plain, dropped = net(), net(drop_path=0.5)
    assert list(plain.state_dict()) == list(dropped.state_dict())
    assert [block[0].fn[-1].drop_prob for block in dropped.blocks] == [0, 0.25, 0.5]
    x = torch.randn(64, 3, 16, 16)
    assert torch.equal(plain.eval()(x), dropped.eval()(x))
    assert not torch.equal(plain.train()(x), dropped.train()(x))


@pytest.mark.parametrize(("size", "asked", "stride"), [(64, None, 2), (96, None, 4), (32, 4, 4)])
def test_the_stem_of_a_convnext_halves_for_small_images(size, asked, stride):
    stem = net("convnext_atto", size=size, stem_stride=asked).stem[0]
    assert (stem.stride, stem.kernel_size, tuple(stem.weight.shape)) == (
        (stride, stride),
        (stride, stride),
        (40, 3, stride, stride),
    )
    assert 0.01 < float(stem.weight.detach().std()) < 0.03


@pytest.mark.parametrize(("size", "stride"), [(64, 1), (96, 2)])
def test_a_first_convolution_that_overlaps_keeps_its_kernel(size, stride):
    first = net("mobilenetv3_small_050", size=size).conv_stem
    assert (first.kernel_size, first.stride[0]) == ((3, 3), stride)


def test_depthwise_layers_of_convnext_in_order():
    names = [name for name, _ in spatial_layers(net("convnext_atto", size=32))]
    assert names == [f"stages.{s}.blocks.{b}.conv_dw" for s, n in enumerate((2, 2, 6, 2)) for b in range(n)]


@pytest.mark.parametrize(("arch", "layers"), [("convnext_femto", 12), ("convnext_tiny", 18), ("hornet_tiny", 25)])
def test_the_papers_networks_have_their_depthwise_layers(arch, layers):
    assert len(spatial_layers(net(arch, size=32))) == layers


def test_pointwise_layers_leave_out_the_classifier_and_squeezing():
    mixer = [name for name, _ in spatial_layers(net(), "pointwise")]
    assert mixer == ["blocks.0.1", "blocks.1.1", "blocks.2.1"]
    mobile = net("mobilenetv3_small_050", size=32)
    names = [name for name, _ in spatial_layers(mobile, "pointwise")]
    assert not [n for n in names if ".se." in n or n in ("conv_head", "classifier")]
    assert names[0] == "blocks.0.0.conv_pw"
    linear = spatial_layers(net("convnext_atto", size=32), "pointwise")
    assert len(linear) == 24  # two in each of twelve blocks


def test_resnet50_has_49_convolutions_on_the_main_path_and_four_that_follow():
    model = net("resnet50", size=32)
    names = [name for name, _ in spatial_layers(model, "conv")]
    assert len(names) == 49
    assert names[:5] == ["conv1", "layer1.0.conv1", "layer1.0.conv2", "layer1.0.conv3", "layer1.1.conv1"]
    along = followers(model, "conv")
    assert {last: [n for n, _ in extra] for last, extra in along.items()} == {
        f"layer{i}.0.conv3": [f"layer{i}.0.downsample.0"] for i in (1, 2, 3, 4)
    }
    assert followers(model) == {}
    with pytest.raises(MkfaError, match=r"has no depthwise layers; .*--what pointwise or conv"):
        spatial_layers(model)


def test_the_order_is_that_of_execution_not_of_definition():
    class Turned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.second = torch.nn.Conv2d(4, 4, 3, groups=4)
            self.first = torch.nn.Conv2d(4, 4, 3, groups=4)
            self.image_shape = (4, 8, 8)

        def forward(self, x):
            return self.second(self.first(x))

    assert [name for name, _ in spatial_layers(Turned())] == ["first", "second"]


def test_looking_at_the_layers_changes_nothing():
    model = net().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    spatial_layers(model)
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not any(m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("arch", "options", "message"),
    [
        ("convnext_fento", {}, r"did you mean .*convnext_femto"),
        ("convnext_atto", {"kernel": 5}, "fixed kernels and patches"),
        ("convmixer_8_2", {"stem_stride": 4}, "--patch"),
        ("convmixer_1_2", {}, "cannot have 1 channel, 2 layers, 7x7 kernels and patches of 2"),
        ("convmixer_8_2", {"kernel": 0}, "0x0 kernels and patches of 2"),
        ("convmixer_99999999_2", {}, "would have 20,000,009 billion weights; choose fewer channels"),
        ("convmixer_8_2", {"patch": 64}, "does not accept images of 3x16x16.*a smaller --patch"),
        ("convnext_atto", {"size": 8}, "does not accept images of 3x8x8.*a smaller --stem-stride"),
        ("convnext_atto", {"stem_stride": 0}, "choose 1 or more"),
        ("resmlp_12_224", {"drop_path": 0.1, "size": 20}, r"cannot be built|does not accept"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_sentence(arch, options, message):
    with pytest.raises(MkfaError, match=message):
        net(arch, **options)


def test_an_unknown_kind_of_layer():
    with pytest.raises(UnknownNameError, match="did you mean depthwise"):
        spatial_layers(net(), "deptwise")


def refuse_devices(monkeypatch):
    """Make every way of torch's to seed another device than the CPU fail."""

    def refuse(*_: object) -> None:
        raise AssertionError("seeded another device")

    for place in (torch.cuda, torch.mps, torch.xpu):
        for name in ("manual_seed", "manual_seed_all"):
            if hasattr(place, name):
                monkeypatch.setattr(place, name, refuse)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: False)
    with pytest.raises(AssertionError, match="another device"):
        torch.manual_seed(0)


def test_building_a_network_leaves_every_generator_as_it_was(monkeypatch):
    refuse_devices(monkeypatch)
    torch.default_generator.manual_seed(3)
    before = torch.get_rng_state()
    state = build_network("convmixer_8_2", classes=3, channels=1, size=16, seed=7).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    again = build_network("convmixer_8_2", classes=3, channels=1, size=16, seed=7).state_dict()
    assert all(torch.equal(state[key], again[key]) for key in state)


def test_a_network_is_built_on_the_cpu_whatever_the_default_device():
    expected = build_network("convmixer_8_2", classes=3, channels=1, size=16, seed=7).state_dict()
    with torch.device("meta"):
        made = build_network("convmixer_8_2", classes=3, channels=1, size=16, seed=7).state_dict()
    assert all(torch.equal(made[key], expected[key]) for key in expected)


def test_an_untrained_bank_leaves_every_generator_as_it_was(monkeypatch):
    bank = load_bank("mobilenet_v2")
    refuse_devices(monkeypatch)
    before = torch.get_rng_state()
    first, again = init_bank(bank, 5), init_bank(bank, 5)
    assert torch.equal(torch.get_rng_state(), before)
    assert (first.groups[3, 3].weight == again.groups[3, 3].weight).all()
