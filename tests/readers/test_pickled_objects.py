"""Networks that were pickled whole: the names of their state dict, and what their own modules say."""

import functools
import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mkfa.errors import SourceError
from mkfa.readers.harvesting import harvest
from mkfa.readers.tensors.inert_values import Inert, StorageRef, TensorRef
from mkfa.readers.tensors.pickled_objects import contents_of
from mkfa.readers.tensors.pytorch import open_torch


class Block(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.mask = torch.nn.Conv2d(1, 8, 3)  # dense: one input channel
        self.stem = torch.nn.Conv2d(3, 8, 3)
        self.zz = torch.nn.Conv2d(8, 16, 5, groups=8, stride=2, dilation=3)
        self.aa = torch.nn.Conv2d(16, 16, (1, 5), groups=16, bias=False)
        self.up = torch.nn.ConvTranspose2d(16, 16, 3, groups=16)
        self.grouped = torch.nn.Conv2d(16, 16, 3, groups=4)
        self.deconv_like = torch.nn.Conv2d(16, 16, 3, groups=16)  # a name that misleads
        self.register_buffer("kernel", torch.ones(16, 1, 3, 3), persistent=False)
        self.names = {0: "cat"}
        self.act = functools.partial(torch.relu)


STATED = [
    ("zz.weight", 16, (5, 5), (2, 2), (3, 3), 2),
    ("aa.weight", 16, (1, 5), (1, 1), (1, 1), 1),
    ("deconv_like.weight", 16, (3, 3), (1, 1), (1, 1), 1),
]


def stated(path: Path, prefix: str = "") -> None:
    bank = harvest(str(path))
    found = [(x.name, x.channels, (x.kh, x.kw), x.stride, x.dilation, x.multiplier) for x in bank.layers]
    assert found == [(prefix + row[0], *row[1:]) for row in STATED]
    assert bank.provenance.rule == "graph"
    assert bank.provenance.skipped == {
        "grouped convolution with several channels a group": 1,
        "one-channel stem": 1,
        "transposed convolution": 1,
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize(
    ("prefix", "wrap"),
    [
        ("", lambda m: m),
        ("module.", torch.nn.DataParallel),
        ("model.", lambda m: {"model": m, "epoch": 3}),
        ("ema.", lambda m: {"model": None, "ema": m, "updates": 3}),
        ("best_model.", lambda m: {"best_model": m}),
        ("0.", lambda m: [m, 1]),
    ],
)
def test_modules_tell_groups_stride_and_dilation(tmp_path: Path, prefix: str, wrap: Any, zipped: bool) -> None:
    block = Block()
    torch.save(wrap(block), tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    stated(tmp_path / "x.pt", prefix)
    file = open_torch(tmp_path / "x.pt")
    assert [key for key in file.tensors if key.startswith(prefix)] == [prefix + key for key in block.state_dict()]
    for key, array in file.read(list(file.tensors)):
        np.testing.assert_array_equal(array, block.state_dict()[key.removeprefix(prefix)].numpy())


class Learner:
    """A trainer that holds its network, as fastai's does."""

    def __init__(self, model: Any) -> None:
        self.path, self.model, self.again = Path(), model, [self]


def test_a_network_inside_a_trainer(tmp_path: Path) -> None:
    torch.save(Learner(Block()), tmp_path / "x.pkl")
    stated(tmp_path / "x.pkl", "model.")


def test_half_precision_and_layouts(tmp_path: Path) -> None:
    block = Block().half().to(memory_format=torch.channels_last)
    torch.save({"ema": block}, tmp_path / "x.pt")
    stated(tmp_path / "x.pt", "ema.")
    for layer, weight in harvest(str(tmp_path / "x.pt")).iter_layers():
        expected = block.get_parameter(layer.name.removeprefix("ema.")).detach().float()
        np.testing.assert_array_equal(weight, expected[:, 0].numpy())
        assert layer.dtype == "float16"


def test_a_traced_graph_module(tmp_path: Path) -> None:
    class Net(torch.nn.Sequential):  # type: ignore[misc,name-defined]
        pass

    torch.save(
        torch.fx.symbolic_trace(torch.nn.Sequential(torch.nn.Conv2d(8, 8, 5, groups=8, dilation=2))), tmp_path / "x.pt"
    )
    (layer,) = harvest(str(tmp_path / "x.pt")).layers
    assert (layer.name, layer.dilation) == ("0.weight", (2, 2))


def test_a_network_that_two_entries_share_is_taken_once(tmp_path: Path) -> None:
    block = Block()
    torch.save({"model": block, "best_model": block}, tmp_path / "x.pt")
    bank = harvest(str(tmp_path / "x.pt"))
    assert [layer.name for layer in bank.layers] == [f"model.{row[0]}" for row in STATED]


def test_averaged_and_raw_networks_side_by_side(tmp_path: Path) -> None:
    """As detection trainers save them while they train."""
    torch.manual_seed(0)
    raw, ema = Block(), Block()
    with torch.no_grad():
        for averaged, parameter in zip(ema.parameters(), raw.parameters(), strict=True):
            averaged.copy_(parameter + 0.01 * torch.randn_like(parameter))
    torch.save({"epoch": 3, "model": raw, "ema": ema, "updates": 100}, tmp_path / "last.pt")
    for weights, network, prefix in (("", ema, "ema."), ("raw", raw, "model.")):
        bank = harvest(str(tmp_path / "last.pt"), weights=weights)
        assert [layer.name for layer in bank.layers] == [prefix + row[0] for row in STATED]
        assert [layer.dilation for layer in bank.layers] == [row[4] for row in STATED]
        for layer, weight in bank.iter_layers():
            np.testing.assert_array_equal(weight, network.get_parameter(layer.name[len(prefix) :])[:, 0].detach())


def test_pairs_of_name_and_tensor(tmp_path: Path) -> None:
    torch.save(list(Block().state_dict().items()), tmp_path / "x.pt")
    assert list(open_torch(tmp_path / "x.pt").tensors) == list(Block().state_dict())


def test_timm_names_its_networks(tmp_path: Path) -> None:
    import timm

    model = timm.create_model("mobilenetv3_small_050")
    torch.save({"epoch": 1, "model": model}, tmp_path / "x.pt")
    bank, live = harvest(str(tmp_path / "x.pt")), harvest(model)
    assert bank.provenance.architecture == live.provenance.architecture == "mobilenetv3_small_050"
    facts = [[(x.name, x.stride, x.dilation, x.multiplier) for x in b.layers] for b in (bank, live)]
    assert facts[0] == [(f"model.{name}", *rest) for name, *rest in facts[1]]


def test_conditional_convolutions(tmp_path: Path) -> None:
    from timm.layers.cond_conv2d import CondConv2d

    torch.save(torch.nn.Sequential(CondConv2d(4, 4, 3, groups=4, num_experts=2)), tmp_path / "x.pt")
    assert len(harvest(str(tmp_path / "x.pt"))) == 8


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor")
def test_a_quantised_state_dict_in_memory() -> None:
    weight = torch.quantize_per_tensor(torch.randn(8, 1, 3, 3), 0.02, 0, torch.qint8)
    ((layer, found),) = harvest({"dw.weight": weight}).iter_layers()
    assert layer.dtype == "qint8"
    np.testing.assert_array_equal(found, weight.dequantize()[:, 0].numpy())


def test_the_bank_keeps_and_prints_what_was_stood_in_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import mkfa
    from mkfa.cli.shared.bank_facts import print_bank

    torch.save({"model": Block(), "where": Path("a")}, tmp_path / "x.pt")
    bank = harvest(str(tmp_path / "x.pt"))
    mkfa.write_bank(bank, tmp_path / "bank.h5")
    again = mkfa.read_bank(tmp_path / "bank.h5")
    assert again == bank and again.provenance.stood_in == bank.provenance.stood_in
    assert bank.provenance.stood_in["torch.nn.modules.conv.Conv2d"] == 6
    assert bank.provenance.stood_in["pathlib.PosixPath"] == 1
    assert next(iter(bank.provenance.stood_in)) == "torch.nn.modules.conv.Conv2d"  # most first
    print_bank(again, tmp_path / "bank.h5", layers=False)
    printed = " ".join(capsys.readouterr().out.split())
    assert "stood in for 6 torch.nn.modules.conv.Conv2d, 1" in printed and "(nothing was imported or run)" in printed
    assert not harvest({"dw.weight": torch.randn(8, 1, 3, 3)}).provenance.stood_in


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor")
@pytest.mark.parametrize("engine", ["qnnpack", "fbgemm"])
def test_quantised_networks_whole_scripted_and_packed(tmp_path: Path, engine: str) -> None:
    if engine not in torch.backends.quantized.supported_engines:
        pytest.skip(f"this torch has no {engine}")
    weight = torch.quantize_per_tensor(torch.randn(8, 1, 3, 3), 0.02, 0, torch.qint8)
    before, torch.backends.quantized.engine = torch.backends.quantized.engine, engine
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layer = torch.ao.nn.quantized.Conv2d(8, 8, 3, groups=8, dilation=2)
            layer.set_weight_bias(weight, torch.randn(8))
            whole = torch.nn.Sequential(layer)
            torch.save(whole, tmp_path / "whole.pt")
            torch.jit.script(whole).save(tmp_path / "scripted.pt")
            torch.jit.script(Packed(weight)).save(tmp_path / "packed.pt")
    finally:
        torch.backends.quantized.engine = before
    for name, key in (("whole", "0.weight"), ("scripted", "0.weight"), ("packed", "weight")):
        bank = harvest(str(tmp_path / f"{name}.pt"))
        ((layer, found),) = bank.iter_layers()
        assert (layer.name, layer.dilation, layer.dtype) == (key, (2, 2), "qint8"), name
        np.testing.assert_array_equal(found, weight.dequantize()[:, 0].numpy())


class Packed(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self._packed_params = torch.ops.quantized.conv2d_prepack(weight, torch.randn(8), [1, 1], [0, 0], [2, 2], 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.quantized.conv2d(x, self._packed_params, 0.1, 0)  # type: ignore[no-any-return]


REF = TensorRef(StorageRef("0", "float32", 18), 0, (2, 1, 3, 3), (9, 9, 3, 1), "float32")


def module(**attributes: Any) -> Inert:
    return Inert("x.Net", state={"_parameters": {"weight": REF}, "_buffers": {}, "_modules": {}, **attributes})


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"in_channels": "2", "out_channels": 2, "groups": 2},
        {"in_channels": 2, "out_channels": 2, "groups": 2, "kernel_size": None},
        {"in_channels": 2, "out_channels": 2, "groups": 1 << 70, "kernel_size": (3, 3)},
        {"in_channels": 2, "out_channels": 2, "groups": 0, "kernel_size": (3, 3), "transposed": False},
    ],
)
def test_attributes_that_are_not_a_convolution_state_nothing(attributes: dict[str, Any]) -> None:
    found = contents_of(module(**attributes))
    assert [key for key, _ in found.tensors] == ["weight"] and not found.facts


def test_objects_in_circles_and_deep_ones_end() -> None:
    first, second = Inert("a.B"), Inert("a.C")
    first.state, second.state = {"next": second, "weight": REF}, {"back": first}
    assert [key for key, _ in contents_of(first).tensors] == ["weight"]
    chain: Any = REF
    for _ in range(5000):
        chain = Inert("a.Link", state={"next": chain})
    assert contents_of({"link": chain, "weight": REF}).tensors == [("weight", REF)]


def test_one_tensor_under_long_names_again_and_again_is_refused() -> None:
    value: Any = [REF] * 100_000
    for _ in range(7):
        value = {"k" * 500: value}
    with pytest.raises(SourceError, match="steps to read"):
        contents_of(value)
    assert contents_of({"k" * 100_000: REF, "weight": REF}).tensors[-1] == ("weight", REF)


def test_a_damaged_module_is_one_sentence(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(Block(), buffer)
    raw = buffer.getvalue()
    for at in range(100, len(raw) - 100, 997):
        (tmp_path / "x.pt").write_bytes(raw[:at] + b"\xff\xff" + raw[at + 2 :])
        try:
            harvest(str(tmp_path / "x.pt"))
        except SourceError as error:
            assert "\n" not in str(error)


def test_arrays_of_paddle_with_their_names_in_the_program(tmp_path: Path) -> None:
    """In a dictionary within another, paddle.save stores a parameter as (name in the program, array)."""
    rng = np.random.default_rng(0)
    weights = {f"blocks.{i}.dw.weight": rng.standard_normal((8, 1, 5, 5)).astype(np.float32) for i in range(2)}
    state = {key: (f"conv2d_{i}.w_0", weight) for i, (key, weight) in enumerate(weights.items())}
    (tmp_path / "net.pdparams").write_bytes(pickle.dumps({"model": state}, protocol=2))
    bank = harvest(str(tmp_path / "net.pdparams"))
    got = {layer.name: weight for layer, weight in bank.iter_layers()}
    assert got.keys() == {f"model.{key}" for key in weights}
    assert all(np.array_equal(got[f"model.{key}"], weight[:, 0]) for key, weight in weights.items())
