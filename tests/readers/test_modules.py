"""Networks in memory: a module tells groups, stride, dilation and order; a state dict reads as a checkpoint does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import mkfa
from mkfa.errors import MkfaError, SourceError


class Crossed(nn.Module):
    """Two depthwise layers that run in the opposite order of their definition, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Conv2d(8, 16, 5, groups=8, dilation=2, padding=4)
        self.early = nn.Conv2d(8, 8, 3, groups=8, stride=2, padding=1, bias=False)
        self.stem = nn.Conv2d(3, 8, 1)
        self.grouped = nn.Conv2d(16, 16, 3, groups=4)
        self.up = nn.ConvTranspose2d(16, 16, 3, groups=16)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = self.late(self.early(self.early(self.stem(images))))
        return self.up(self.grouped(x))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Crossed()


def layer_facts(bank: mkfa.FilterBank) -> list[tuple[object, ...]]:
    return [(x.name, x.channels, x.kh, x.stride, x.dilation, x.multiplier, x.has_bias) for x in bank.layers]


CROSSED = [("early.weight", 8, 3, (2, 2), (1, 1), 1, False), ("late.weight", 16, 5, (1, 1), (2, 2), 2, True)]


def test_a_live_module_gives_groups_stride_dilation_and_order_of_execution(model):
    bank = mkfa.harvest(model)
    assert bank.name == "Crossed" and bank.provenance.rule == "graph"
    assert layer_facts(bank) == CROSSED
    np.testing.assert_array_equal(bank.of_layer(1).weight, model.late.weight.detach()[:, 0].numpy())
    assert sum(bank.provenance.skipped.values()) == 2 and not bank.unknown_dilation


def test_harvesting_leaves_the_network_as_it_is(model):
    model.train()
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    bank = mkfa.harvest(model)
    assert model.training and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with torch.no_grad():
        model.late.weight.add_(1)
    np.testing.assert_array_equal(bank.of_layer(1).weight, before["late.weight"][:, 0].numpy())


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda m: torch.compile(nn.DataParallel(m))])
def test_wrappers_are_looked_through(model, wrap):
    plain = mkfa.harvest(model, name="net")
    assert layer_facts(mkfa.harvest(wrap(model), name="net")) == CROSSED
    np.testing.assert_array_equal(mkfa.harvest(wrap(model)).of_layer(0).weight, plain.of_layer(0).weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_float_type_become_float32(model, dtype):
    bank = mkfa.harvest(model.to(dtype))
    assert bank.of_layer(0).weight.dtype == np.float32
    assert bank.layers[0].dtype == str(dtype).removeprefix("torch.")


def test_where_no_pass_is_possible_layers_are_in_order_of_definition_and_a_note_says_so(model):
    model.forward = lambda images: 1 / 0
    bank = mkfa.harvest(model)
    assert [x.name for x in bank.layers] == ["late.weight", "early.weight"]
    assert "order of definition" in " ".join(bank.provenance.notes)


def test_a_weight_of_two_modules_counts_once():
    first, second = (nn.Conv2d(4, 4, 3, groups=4, padding=1) for _ in range(2))
    second.weight = first.weight
    bank = mkfa.harvest(nn.Sequential(first, second))
    assert [x.name for x in bank.layers] == ["0.weight"]
    assert sum(bank.provenance.skipped.values()) == 1


def test_a_timm_network_in_memory_equals_its_state_dict():
    timm = pytest.importorskip("timm")
    net = timm.create_model("mobilenetv3_small_050", pretrained=False)
    live, stored = mkfa.harvest(net), mkfa.harvest(net.state_dict(), arch="mobilenetv3_small_050")
    assert live.name == "mobilenetv3_small_050" and stored.name == "state_dict"
    assert layer_facts(live) == layer_facts(stored)
    for i in range(len(live.layers)):
        np.testing.assert_array_equal(live.of_layer(i).weight, stored.of_layer(i).weight)


def test_a_state_dict_may_lie_in_a_checkpoints_dictionary_and_hold_arrays():
    weight = np.random.default_rng(0).standard_normal((8, 1, 3, 3))
    bank = mkfa.harvest({"epoch": 3, "state_dict": {"module.block.dw.weight": weight}}, name="mine")
    assert len(bank) == 8 and bank.name == "mine"
    np.testing.assert_array_equal(bank.of_layer(0).weight, weight[:, 0].astype(np.float32))


def bad_number(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        net.early.weight[0, 0, 0, 0] = torch.nan
    return net


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda net: net.to("meta"), "Crossed: has weights without values"),
        (lambda net: {k: v.to("meta") for k, v in net.state_dict().items()}, "without values"),
        (lambda net: nn.Sequential(nn.LazyConv2d(8, 3)), "lazy parameters"),
        (lambda net: nn.Linear(3, 3), "Linear: has no depthwise layer"),
        (lambda net: {}, "the state dict: has no tensors"),
        (bad_number, "early.weight"),
        (lambda net: 7, r"cannot be harvested \(int\)"),
        (lambda net: [net], r"cannot be harvested \(list\)"),
    ],
)
def test_what_cannot_be_harvested_is_refused_in_one_sentence(model, wrong, message):
    with pytest.raises(MkfaError, match=message) as refused:
        mkfa.harvest(wrong(model))
    assert "\n" not in str(refused.value) and refused.value.exit_code == 2


def test_non_finite_weights_may_be_kept(model):
    assert len(mkfa.harvest(bad_number(model), allow_nonfinite=True)) == 24
    with pytest.raises(SourceError):
        mkfa.harvest(bad_number(model).state_dict())


@pytest.mark.parametrize("how", ["prune", "weight norm", "spectral norm", "old spectral norm"])
def test_computed_weights_are_those_of_the_network_which_stays_as_it_is(how):
    from torch.nn.utils import parametrizations, prune

    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Conv2d(3 if i == 0 else 8, 8, 3, groups=8 if i else 1) for i in range(5)))
    net(torch.randn(2, 3, 20, 20))
    for layer in net[1:]:
        if how == "prune":
            prune.l1_unstructured(layer, "weight", 0.5)
        elif how == "weight norm":
            parametrizations.weight_norm(layer)
        else:
            (parametrizations if how == "spectral norm" else nn.utils).spectral_norm(layer)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    bank = mkfa.harvest(net.train())
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items()) and net.training
    assert len(bank.layers) == 4 and bank.provenance.notes == ()
    assert not any(getattr(layer.weight, "is_meta", False) for layer in net)
    net.eval()
    net(torch.randn(2, 3, 20, 20))
    if how != "old spectral norm":
        for (_, weight), layer in zip(bank.iter_layers(), net[1:], strict=True):
            np.testing.assert_allclose(weight, layer.weight.detach()[:, 0].numpy(), rtol=1e-5)


class Shared(nn.Module):
    """One depthwise module in three places, and a second module with the same weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.again = nn.ModuleList([nn.Conv2d(8, 8, 3, groups=8, padding=1)] * 3)
        self.tied = nn.Conv2d(8, 8, 3, groups=8)
        self.tied.weight = self.again[0].weight

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.stem(images)
        for module in self.again:
            x = module(x)
        return self.tied(x)


def test_shared_modules_get_their_parameters_back():
    net = Shared()
    kept = dict(net.named_parameters(remove_duplicate=False))
    bank = mkfa.harvest(net)
    assert [x.name for x in bank.layers] == ["again.0.weight"] and bank.provenance.notes == ()
    np.testing.assert_array_equal(bank.of_layer(0).weight, net.tied.weight.detach()[:, 0].numpy())
    assert all(p is kept[name] for name, p in net.named_parameters(remove_duplicate=False))


class Called(nn.Module):
    """A depthwise layer that calls the function, after one that is a module; a fixed smoothing; a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(8, 1, 3, 5))
        self.shift = nn.Parameter(torch.randn(8))
        self.smooth = nn.Parameter(torch.randn(1, 1, 3, 3).repeat(8, 1, 1, 1))
        self.register_buffer("edges", torch.randn(8, 1, 3, 3))
        self.unused = nn.Parameter(torch.randn(8, 1, 3, 3))
        self.first = nn.Conv2d(3, 6, 3, groups=3)
        self.pw = nn.Conv2d(6, 8, 1)
        self.last = nn.Conv2d(8, 8, 3, groups=8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.pw(self.first(images))
        for weight in (self.smooth, self.edges):
            x = nn.functional.conv2d(x, weight, groups=8)
        x = nn.functional.conv2d(x, self.kernel, self.shift, stride=2, dilation=(1, 3), groups=8)
        return self.last(x)


def test_convolutions_that_are_called_as_functions_are_found():
    net = Called()
    bank = mkfa.harvest(net)
    facts = [(x.name, x.kh, x.kw, x.stride, x.dilation, x.multiplier, x.has_bias) for x in bank.layers]
    assert facts == [
        ("first.weight", 3, 3, (1, 1), (1, 1), 2, True),
        ("kernel", 3, 5, (2, 2), (1, 3), 1, True),
        ("last.weight", 3, 3, (1, 1), (1, 1), 1, True),
    ]
    np.testing.assert_array_equal(bank.of_layer(1).weight, net.kernel.detach()[:, 0].numpy())
    np.testing.assert_array_equal(bank.of_layer(1).bias, net.shift.detach().numpy())
    assert bank.provenance.skipped == {"fixed kernel, the same in every channel": 1}
    net.forward = lambda images: 1 / 0
    bank = mkfa.harvest(net)
    assert [x.name for x in bank.layers] == ["first.weight", "last.weight"]
    assert "3 weights shaped like a depthwise layer's are left out" in " ".join(bank.provenance.notes)


@pytest.mark.filterwarnings("ignore")
def test_a_quantised_network_in_memory():
    engines = torch.backends.quantized.supported_engines
    if not {"qnnpack", "fbgemm"} & {*engines}:
        pytest.skip("this torch has no quantised convolutions")
    before, torch.backends.quantized.engine = torch.backends.quantized.engine, engines[-1]
    try:
        layer = torch.ao.nn.quantized.Conv2d(8, 8, 3, groups=8, dilation=2)
        weight = torch.quantize_per_tensor(torch.randn(8, 1, 3, 3), 0.02, 0, torch.qint8)
        layer.set_weight_bias(weight, torch.arange(8.0))
        bank = mkfa.harvest(nn.Sequential(nn.Identity(), layer))
    finally:
        torch.backends.quantized.engine = before
    assert [(x.name, x.dilation, x.dtype, x.has_bias) for x in bank.layers] == [("1.weight", (2, 2), "qint8", True)]
    np.testing.assert_array_equal(bank.of_layer(0).weight, weight.dequantize()[:, 0].numpy())
    np.testing.assert_array_equal(bank.of_layer(0).bias, np.arange(8))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", [torch.jit.script, lambda m: torch.jit.trace(m, torch.zeros(1, 3, 16, 16))])
def test_scripted_and_traced_networks_in_memory_tell_stride_and_dilation(model, how):
    bank = mkfa.harvest(how(model.eval()))
    found = {x.name: (x.stride, x.dilation, x.multiplier) for x in bank.layers}
    assert found == {"early.weight": ((2, 2), (1, 1), 1), "late.weight": ((1, 1), (2, 2), 2)}
    assert bank.provenance.rule == "graph"


def test_weights_that_torch_distributed_holds(model):
    from torch import distributed
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DeviceMesh

    if not distributed.is_available() or distributed.is_initialized():
        pytest.skip("needs torch.distributed")
    plain = mkfa.harvest(model, name="net")
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = DeviceMesh("cpu", [0])
        fully_shard(model, mesh=mesh)
        assert mkfa.harvest(model.state_dict()).of_layer(0).weight.shape == (16, 5, 5)
        sharded = mkfa.harvest(model, name="net")
    finally:
        distributed.destroy_process_group()
    assert {x.name for x in sharded.layers} == {x.name for x in plain.layers}
    for layer, weight in sharded.iter_layers():
        named = next(x.index for x in plain.layers if x.name == layer.name)
        np.testing.assert_array_equal(weight, plain.of_layer(named).weight)
