"""Weights that are computed, transposed or renamed before they are chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import mkfa
from mkfa.array_types import F32
from mkfa.errors import SourceError
from mkfa.readers.reading import TensorInfo
from mkfa.readers.tensors.layouts import FLAX, MLX, PYTORCH, layout_of


class Net(nn.Module):
    """Stem, two depthwise layers, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.dw1 = nn.Conv2d(8, 8, 5, groups=8)
        self.pw = nn.Conv2d(8, 12, 1)
        self.dw2 = nn.Conv2d(12, 12, (3, 7), groups=12, bias=False)
        self.head = nn.Conv2d(12, 2, 1)

    def forward(self, images: Any) -> Any:
        return self.head(self.dw2(self.pw(self.dw1(self.stem(images)))))


def changed(how: str) -> Net:
    torch.manual_seed(0)
    net = Net()
    for layer in (net.dw1, net.dw2):
        if how == "pruned":
            prune.l1_unstructured(layer, "weight", amount=0.4)
        elif how == "structured":
            prune.ln_structured(layer, "weight", amount=0.25, n=2, dim=0)
        elif how == "old weight norm":
            with pytest.warns(FutureWarning):
                nn.utils.weight_norm(layer)
        elif how == "old weight norm of the whole":
            with pytest.warns(FutureWarning):
                nn.utils.weight_norm(layer, dim=None)
        elif how == "weight norm":
            parametrizations.weight_norm(layer)
        elif how == "old spectral norm":
            nn.utils.spectral_norm(layer)
        elif how == "spectral norm":
            parametrizations.spectral_norm(layer)
        elif how == "masked parametrisation":
            mask = torch.rand(layer.weight.shape) > 0.5
            nn.utils.parametrize.register_parametrization(layer, "weight", Masked(mask), unsafe=True)
    if "norm" in how:
        with torch.no_grad():
            net(torch.randn(2, 3, 32, 32))
    return net.eval()


class Masked(nn.Module):
    def __init__(self, mask: Any) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Any) -> Any:
        return weight * self.mask


class Cubed(nn.Module):
    def forward(self, weight: Any) -> Any:
        return weight**3


@pytest.mark.parametrize(
    "how",
    [
        "plain",
        "pruned",
        "structured",
        "old weight norm",
        "old weight norm of the whole",
        "weight norm",
        "old spectral norm",
        "spectral norm",
        "masked parametrisation",
    ],
)
def test_the_weight_that_the_network_uses_is_computed(how: str, tmp_path: Path) -> None:
    net = changed(how)
    net(torch.randn(2, 3, 32, 32))  # PyTorch sets the attribute `weight` when it runs
    torch.save({"state_dict": net.state_dict()}, tmp_path / "x.pth")
    bank = mkfa.harvest(tmp_path / "x.pth")
    assert [layer.name for layer in bank.layers] == ["state_dict.dw1.weight", "state_dict.dw2.weight"]
    for (_, weight), layer in zip(bank.iter_layers(), (net.dw1, net.dw2), strict=True):
        np.testing.assert_allclose(weight, layer.weight.detach()[:, 0].numpy(), rtol=2e-6, atol=1e-7)
    assert bank.layers[0].has_bias and not bank.layers[1].has_bias
    assert any("computed from their parts" in note for note in bank.provenance.notes) == (how != "plain")


def test_a_parametrisation_by_unknown_code_is_refused_with_its_reason(tmp_path: Path) -> None:
    net = Net()
    for layer in (net.dw1, net.dw2):
        nn.utils.parametrize.register_parametrization(layer, "weight", Cubed())
    with pytest.raises(SourceError, match=r"parametrised\) that do not suffice .*first dw1\.parametrizations"):
        mkfa.harvest(net.state_dict())


def test_the_kernels_of_a_sparse_network_are_turned() -> None:
    """ConvNeXt V2's `remap_checkpoint_keys`, written out."""
    rng = np.random.default_rng(0)
    state = {"downsample_layers.0.0.weight": rng.standard_normal((8, 3, 4, 4))}
    for b in range(2):
        state |= {
            f"stages.0.{b}.dwconv.kernel": rng.standard_normal((49, 8)),
            f"stages.0.{b}.dwconv.bias": rng.standard_normal((1, 8)),
            f"stages.0.{b}.pwconv1.linear.weight": rng.standard_normal((32, 8)),
            f"stages.0.{b}.pwconv2.linear.weight": rng.standard_normal((8, 32)),
        }
    bank = mkfa.harvest(state)
    for b, (layer, weight) in enumerate(bank.iter_layers()):
        stored = torch.from_numpy(state[f"stages.0.{b}.dwconv.kernel"])
        wanted = stored.permute(1, 0).reshape(8, 1, 7, 7).transpose(3, 2)[:, 0]
        assert layer.name == f"stages.0.{b}.dwconv.weight"
        np.testing.assert_array_equal(weight, wanted.numpy().astype(np.float32))


# Layouts

PLAIN: dict[str, tuple[int, ...]] = {"stem.0.weight": (16, 3, 4, 4)}
for _b in range(2):
    PLAIN |= {
        f"blocks.{_b}.dwconv_hw.weight": (4, 1, 3, 3),
        f"blocks.{_b}.dwconv_w.weight": (4, 1, 1, 11),
        f"blocks.{_b}.dwconv_h.weight": (4, 1, 11, 1),
        f"blocks.{_b}.fc1.weight": (64, 16, 1, 1),
        f"blocks.{_b}.fc2.weight": (16, 64, 1, 1),
    }


def plain_state(shapes: dict[str, tuple[int, ...]] = PLAIN) -> dict[str, F32]:
    rng = np.random.default_rng(0)
    return {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}


def stored_as(state: dict[str, F32], layout: str) -> dict[str, F32]:
    axes = {PYTORCH: (0, 1, 2, 3), MLX: (0, 2, 3, 1), FLAX: (2, 3, 1, 0)}[layout]
    leaf = "kernel" if layout == FLAX else "weight"
    return {
        key.removesuffix("weight") + leaf: np.ascontiguousarray(w.transpose(axes)) if w.ndim == 4 else w.T
        for key, w in state.items()
    }


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("layout", [PYTORCH, MLX, FLAX])
@pytest.mark.parametrize("stem", [True, False])
def test_channels_last_are_transposed(layout: str, stated: bool, stem: bool, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    plain = plain_state()
    if not stem:
        plain.pop("stem.0.weight")
    save_file(
        stored_as(plain, layout), tmp_path / "x.safetensors", {"format": "mlx"} if stated and layout == MLX else None
    )
    bank = mkfa.harvest(tmp_path / "x.safetensors")
    wanted = {key: w for key, w in plain.items() if w.shape[1] == 1}
    assert len(bank.layers) == len(wanted)
    for layer, weight in bank.iter_layers():
        np.testing.assert_array_equal(weight, wanted[layer.name.replace("kernel", "weight")][:, 0])
    assert any(layout in note for note in bank.provenance.notes) == (layout != PYTORCH)


def test_metadata_do_not_turn_weights_that_are_pytorchs(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file(plain_state(), tmp_path / "x.safetensors", {"format": "mlx"})
    bank = mkfa.harvest(tmp_path / "x.safetensors")
    assert sorted({(layer.kh, layer.kw) for layer in bank.layers}) == [(1, 11), (3, 3), (11, 1)]


def test_depthwise_weights_alone_with_channels_last() -> None:
    rng = np.random.default_rng(0)
    state = {f"blocks.{i}.dwconv.weight": rng.standard_normal((24, 7, 7, 1)) for i in range(3)}
    bank = mkfa.harvest(state)
    assert [(layer.channels, layer.kh, layer.kw) for layer in bank.layers] == [(24, 7, 7)] * 3
    np.testing.assert_array_equal(bank.of_layer(1).weight, state["blocks.1.dwconv.weight"][..., 0].astype(np.float32))


def test_flax_parameters_in_a_nested_dictionary() -> None:
    rng = np.random.default_rng(0)
    block = {
        "dwconv": {"kernel": rng.standard_normal((7, 7, 1, 24)), "bias": rng.standard_normal(24)},
        "pwconv1": {"kernel": rng.standard_normal((24, 96))},
        "pwconv2": {"kernel": rng.standard_normal((96, 24))},
    }
    tree = {"params": {"stem": {"kernel": rng.standard_normal((4, 4, 3, 24))}, "stages_0": {"blocks_0": block}}}
    bank = mkfa.harvest(tree)
    (layer,) = bank.layers
    assert (layer.name, layer.channels, layer.has_bias) == ("params.stages_0.blocks_0.dwconv.kernel", 24, True)
    wanted = block["dwconv"]["kernel"].transpose(3, 2, 0, 1)[:, 0].astype(np.float32)  # type: ignore[index]
    np.testing.assert_array_equal(bank.of_layer(0).weight, wanted)


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("leaf", ["depthwise_kernel", "depthwise_kernel:0", "depthwise_weights"])
def test_tensorflows_depthwise_kernels(leaf: str, multiplier: int) -> None:
    """The output channel c * m + j is filter j of channel c, as tf.nn.depthwise_conv2d says."""
    rng = np.random.default_rng(0)
    stored = rng.standard_normal((5, 3, 8, multiplier)).astype(np.float32)
    end = ":0" if leaf.endswith(":0") else ""
    state = {
        f"net/stem/kernel{end}": rng.standard_normal((3, 3, 3, 8)),
        f"net/block1/depthwise/{leaf}": stored,
        f"net/block1/pointwise/kernel{end}": rng.standard_normal((1, 1, 8 * multiplier, 16)),
    }
    bank = mkfa.harvest(state)
    assert [layer.name for layer in bank.layers] == [f"net.block1.depthwise.{leaf.removesuffix(':0')}"]
    weight = bank.of_layer(0).weight
    assert weight.shape == (8 * multiplier, 5, 3)
    for channel in range(8):
        for j in range(multiplier):
            np.testing.assert_array_equal(weight[channel * multiplier + j], stored[:, :, channel, j])


def test_pytorch_layouts_of_strips_and_odd_kernels_stay() -> None:
    shapes = [
        [(64, 1, 1, 11), (64, 1, 11, 1), (64, 64, 1, 1)],
        [(16, 1, 51, 5), (16, 1, 5, 51), (16, 3, 4, 4), (64, 16, 1, 1)],
        [(8, 1, 3, 3)],
        [(8, 1, 5, 3), (8, 1, 3, 5)],
        [(8, 1, 1, 11), (8, 1, 1, 11)],
        [(8, 1, 1, 64), (16, 1, 22, 1), (16, 1, 1, 16), (16, 16, 1, 1)],  # EEGNet
        [(8, 1, 1, 64), (16, 1, 22, 1), (16, 1, 1, 16)],
        [(32, 1, 7, 3), (64, 32, 3, 1), (64, 64, 3, 3), (10, 64, 2, 8)],
    ]
    for each in shapes:
        infos = {f"{i}.weight": TensorInfo(f"{i}.weight", shape, "float32", 0) for i, shape in enumerate(each)}
        assert layout_of(infos, {}) == PYTORCH


def layers_and_doubts(shapes: list[tuple[int, ...]], vectors: tuple[int, ...] = ()) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    state = {f"blocks.{i}.dwconv.weight": rng.standard_normal(shape) for i, shape in enumerate(shapes)}
    bank = mkfa.harvest(state | {f"norms.{i}.weight": np.ones(n) for i, n in enumerate(vectors)})
    return state, bank


@pytest.mark.parametrize("vectors", [(), (64,)])
def test_other_layers_tell_the_layout_of_an_ambiguous_one(vectors: tuple[int, ...]) -> None:
    """(64, 1, 11, 1) is 11x1 in PyTorch and 1x11 in MLX; no layer of PyTorch's has 7 input channels here."""
    state, bank = layers_and_doubts([(64, 1, 11, 1), (64, 7, 7, 1), (64, 11, 1, 1)], vectors)
    assert [(layer.kh, layer.kw) for layer in bank.layers] == [(1, 11), (7, 7), (11, 1)]
    assert not bank.provenance.doubtful
    for layer, weight in bank.iter_layers():
        np.testing.assert_array_equal(weight, state[layer.name][..., 0].astype(np.float32))


@pytest.mark.parametrize(
    ("shapes", "kernel", "words"),
    [
        ([(64, 1, 11, 1)], (11, 1), "may be a weight of shape (64, 1, 1, 11) that is stored as (O, kh, kw, I)"),
        ([(7, 7, 7, 1)] * 3, (7, 7), "may be a weight of shape (7, 7, 7, 1) that is stored as (O, I, kh, kw)"),
    ],
)
def test_layers_of_a_layout_that_nothing_settles_are_doubtful(
    shapes: list[tuple[int, ...]], kernel: tuple[int, int], words: str
) -> None:
    _, bank = layers_and_doubts(shapes)
    assert {(layer.kh, layer.kw) for layer in bank.layers} == {kernel}
    assert set(bank.provenance.doubtful) == {layer.name for layer in bank.layers}
    assert all(words in why for why in bank.provenance.doubtful.values())


def test_plain_weights_of_pytorch_are_not_doubtful() -> None:
    for shapes in ([(64, 1, 1, 11), (64, 1, 11, 1)], [(7, 1, 7, 7)], [(8, 1, 3, 3), (16, 8, 1, 1)]):
        assert not layers_and_doubts(shapes)[1].provenance.doubtful


def test_keras_3_names_a_depthwise_kernel_as_any_other() -> None:
    rng = np.random.default_rng(0)
    depthwise = rng.standard_normal((3, 3, 16, 1)).astype(np.float32)
    state = {
        "conv.kernel": rng.standard_normal((3, 3, 3, 16)),
        "depthwise_conv2d.kernel": depthwise,
        "head.kernel": rng.standard_normal((3, 3, 16, 1)),
    }
    bank = mkfa.harvest(state)
    assert [layer.name for layer in bank.layers] == ["depthwise_conv2d.kernel"]
    np.testing.assert_array_equal(bank.of_layer(0).weight, depthwise[..., 0].transpose(2, 0, 1))


# Wrappers in the middle of keys


def wrapped(key: str, wrapper: str) -> str:
    parts = key.split(".")
    return ".".join([*parts[:3], wrapper, *parts[3:]])


@pytest.mark.parametrize(
    "wrapper",
    [
        "_orig_mod",
        "module",
        "_fsdp_wrapped_module",
        "_checkpoint_wrapped_module",
        "_fsdp_wrapped_module._orig_mod",
        "_forward_module",
        "_original_module",
        "_fpw_module",
        "base_layer",
    ],
)
def test_wrappers_inside_keys_do_not_hide_the_architecture(wrapper: str) -> None:
    from mkfa.readers.timm.catalogue import layers_of

    rng = np.random.default_rng(0)
    state = {wrapped(x.key, wrapper): rng.standard_normal(x.shape) for x in layers_of("mobilenetv3_large_100")}
    bank = mkfa.harvest({"model": state})
    assert bank.provenance.rule == "catalogue"
    assert [layer.dilation for layer in bank.layers] == [x.dilation for x in layers_of("mobilenetv3_large_100")]
    named = mkfa.harvest({"model": state}, arch="mobilenetv3_large_100")
    assert [layer.stride for layer in named.layers] == [x.stride for x in layers_of("mobilenetv3_large_100")]


def test_names_of_a_feature_extractor_are_the_networks() -> None:
    from mkfa.readers.timm.catalogue import layers_of

    rng = np.random.default_rng(0)
    layers = layers_of("convnext_atto")
    state = {x.key.replace("stages.", "stages_"): rng.standard_normal(x.shape) for x in layers}
    assert mkfa.harvest(state).provenance.rule == "catalogue"


def test_wrappers_do_not_hide_a_family() -> None:
    rng = np.random.default_rng(0)
    state = {"downsample_layers.0.0.weight": rng.standard_normal((8, 3, 4, 4))}
    for b in range(2):
        state |= {
            f"stages.0.{b}._checkpoint_wrapped_module.dwconv.weight": rng.standard_normal((8, 1, 7, 7)),
            f"stages.0.{b}._checkpoint_wrapped_module.pwconv1.weight": rng.standard_normal((32, 8)),
        }
    bank = mkfa.harvest(state)
    assert {layer.dilation for layer in bank.layers} == {(1, 1)} and not bank.unknown_dilation


@pytest.mark.parametrize("name", ["optimus.blocks", "net.optim_head", "optimal_transport.enc"])
def test_modules_named_like_an_optimiser_are_the_networks(name: str) -> None:
    rng = np.random.default_rng(0)
    state = {"stem.weight": rng.standard_normal((8, 3, 3, 3)), f"{name}.0.dw.weight": rng.standard_normal((8, 1, 3, 3))}
    assert [layer.name for layer in mkfa.harvest(state).layers] == [f"{name}.0.dw.weight"]


@pytest.mark.parametrize("scale", ["weight_scale", "weight._scale", "weight_scale_inv", "scale_weight"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
@pytest.mark.parametrize("one", [True, False])
def test_numbers_with_a_scale_beside_them(scale: str, dtype: torch.dtype, one: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    step = torch.rand(()) if one else torch.rand(8, 1, 1, 1)
    numbers = (20 * torch.randn(8, 1, 5, 5)).clamp(-100 * (dtype != torch.uint8), 100).to(dtype)
    state = {"stem.weight": torch.randn(8, 3, 3, 3), "pw.weight": torch.randn(4, 8, 1, 1)}
    state |= {f"a.{'weight._data' if '._' in scale else 'weight'}": numbers, f"a.{scale}": step}
    real = numbers.float()
    if dtype == torch.uint8:
        state["a.weight_zero_point"] = torch.tensor(7)
        real = real - 7
    torch.save(state, tmp_path / "x.pth")
    bank = mkfa.harvest(tmp_path / "x.pth")
    assert [layer.name for layer in bank.layers] == ["a.weight"]
    np.testing.assert_allclose(bank.of_layer(0).weight, (real * step)[:, 0].numpy(), rtol=1e-6)
    assert any("times a scale" in note for note in bank.provenance.notes)


@pytest.mark.parametrize("bits", [4, 2])
@pytest.mark.parametrize("channels", [8, 7])
@pytest.mark.parametrize("whole", [True, False])
def test_numbers_that_quanto_packs_into_bytes(bits: int, channels: int, whole: bool, tmp_path: Path) -> None:
    """Byte r has the numbers of the filters r, r + rows, ... from its lowest bits on; (numbers - shift) * scale."""
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 2**bits, (channels, 1, 5, 5))
    scale = rng.uniform(0.5, 2, (channels, 1, 1, 1)).astype(np.float32)
    zero = rng.integers(0, 2**bits, scale.shape)
    rows = -(-channels * bits // 8)
    packed = np.zeros((rows, 1, 5, 5), np.uint8)
    for channel in range(channels):
        packed[channel % rows] |= (numbers[channel] << bits * (channel // rows)).astype(np.uint8)
    shift = zero.astype(np.int8) if whole else (zero * scale).astype(np.float32)
    state = {"a.weight._data._data": packed, "a.weight._scale": scale, "a.weight._shift": shift}
    torch.save({key: torch.from_numpy(value) for key, value in state.items()}, tmp_path / "x.pth")
    bank = mkfa.harvest(tmp_path / "x.pth")
    assert [layer.name for layer in bank.layers] == ["a.weight"]
    np.testing.assert_allclose(bank.of_layer(0).weight, ((numbers - zero) * scale)[:, 0], rtol=1e-5, atol=1e-6)


def test_values_of_flax_nnx() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((7, 7, 1, 8))
    state = {
        "stem.kernel.value": rng.standard_normal((4, 4, 3, 8)),
        "blocks.0.dwconv.kernel.value": weight,
        "blocks.0.dwconv.bias.value": np.ones(8),
        "blocks.0.pwconv.kernel.value": rng.standard_normal((8, 32)),
    }
    bank = mkfa.harvest(state)
    assert [(layer.name, layer.has_bias) for layer in bank.layers] == [("blocks.0.dwconv.kernel", True)]
    np.testing.assert_array_equal(bank.of_layer(0).weight, weight[:, :, 0].transpose(2, 0, 1).astype("f4"))


def test_factors_of_adapters_are_no_filters() -> None:
    """The depthwise layer of a network with LoRA is its base layer; a factor (rank, 1, kh, kw) only looks like one."""
    rng = np.random.default_rng(0)
    at = "base_model.model.blocks.0.dwconv"
    state = {
        "base_model.model.stem.weight": rng.standard_normal((8, 3, 4, 4)),
        f"{at}.base_layer.weight": rng.standard_normal((8, 1, 7, 7)),
        f"{at}.lora_A.default.weight": rng.standard_normal((4, 1, 7, 7)),
        f"{at}.lora_B.default.weight": rng.standard_normal((8, 4, 1, 1)),
    }
    bank = mkfa.harvest(state)
    assert [layer.name for layer in bank.layers] == [f"{at}.base_layer.weight"]
    assert bank.provenance.skipped["factor of a LoRA adapter"] == 1


def test_names_of_haiku() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((5, 5, 1, 8))
    state = {
        "net/~/stem": {"w": rng.standard_normal((3, 3, 3, 8)), "b": np.zeros(8)},
        "net/~/block_0/~/depthwise": {"w": weight, "b": np.ones(8)},
        "net/~/block_0/~/pointwise": {"w": rng.standard_normal((1, 1, 8, 8))},
    }
    bank = mkfa.harvest(state)
    np.testing.assert_array_equal(bank.of_layer(0).weight, weight[:, :, 0].transpose(2, 0, 1).astype("f4"))
    assert bank.layers[0].has_bias and len(bank.layers) == 1
