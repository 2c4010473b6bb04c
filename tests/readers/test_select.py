"""Depthwise layers among named tensors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from mkfa.banks.bank import UNKNOWN
from mkfa.errors import SourceError
from mkfa.readers.reading import GraphLayer, TensorInfo
from mkfa.readers.tensors.depthwise import STEM, TRANSPOSED, UNCOMPUTED
from mkfa.readers.tensors.select import OUTSIDE, TIED, Context, select, take

Shapes = Mapping[str, tuple[int, ...]]


def infos(shapes: Shapes, dtype: str = "float32") -> dict[str, TensorInfo]:
    return {key: TensorInfo(key, shape, dtype, 4 * int(np.prod(shape))) for key, shape in shapes.items()}


def chosen(shapes: Shapes, **options: object) -> list[str]:
    return [layer.key for layer in select(infos(shapes), **options).layers]  # type: ignore[arg-type]


def mobilenet(prefix: str = "", stem: int = 3, blocks: int = 11) -> dict[str, tuple[int, ...]]:
    net: dict[str, tuple[int, ...]] = {"conv_stem.weight": (8, stem, 3, 3)}
    for i in range(blocks):
        net |= {
            f"blocks.{i}.conv_dw.weight": (8, 1, 3 + 2 * (i % 2), 3 + 2 * (i % 2)),
            f"blocks.{i}.bn.weight": (8,),
            f"blocks.{i}.bn.running_mean": (8,),
            f"blocks.{i}.conv_pw.weight": (8, 8, 1, 1),
        }
    net["classifier.weight"] = (10, 8)
    return {prefix + key: shape for key, shape in net.items()}


def convnext(prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Names of the official code, definition order: stem and downsampling first."""
    depths, dims = (2, 2, 11, 2), (8, 16, 32, 64)
    net: dict[str, tuple[int, ...]] = {"downsample_layers.0.0.weight": (8, 3, 4, 4)}
    net |= {f"downsample_layers.{i}.1.weight": (dims[i], dims[i - 1], 2, 2) for i in (1, 2, 3)}
    for s, depth in enumerate(depths):
        for b in range(depth):
            here = f"stages.{s}.{b}"
            net |= {
                f"{here}.gamma": (dims[s],),
                f"{here}.dwconv.weight": (dims[s], 1, 7, 7),
                f"{here}.dwconv.bias": (dims[s],),
                f"{here}.pwconv1.weight": (4 * dims[s], dims[s]),
                f"{here}.pwconv2.weight": (dims[s], 4 * dims[s]),
            }
    return {prefix + key: shape for key, shape in net.items()}


def hornet(filtered: bool) -> dict[str, tuple[int, ...]]:
    """HorNet's blocks; with `filtered`, the last two stages have half their channels in the Fourier domain."""
    net: dict[str, tuple[int, ...]] = {"downsample_layers.0.0.weight": (64, 3, 4, 4)}
    for s, depth in enumerate((2, 3, 18, 2)):
        dim, order = 64 << s, s + 2
        channels = sum(dim >> i for i in range(order))
        for b in range(depth):
            here = f"stages.{s}.{b}.gnconv"
            net[f"{here}.proj_in.weight"] = (2 * dim, dim, 1, 1)
            if filtered and s >= 2:
                net[f"{here}.dwconv.complex_weight"] = (channels // 2, 14, 8, 2)
                net[f"{here}.dwconv.dw.weight"] = (channels // 2, 1, 3, 3)
            else:
                net |= {f"{here}.dwconv.weight": (channels, 1, 7, 7), f"{here}.dwconv.bias": (channels,)}
            for i in range(order - 1):
                net[f"{here}.pws.{i}.weight"] = (dim >> (order - i - 2), dim >> (order - i - 1), 1, 1)
            net[f"stages.{s}.{b}.pwconv1.weight"] = (4 * dim, dim)
    return net


def moganet() -> dict[str, tuple[int, ...]]:
    net: dict[str, tuple[int, ...]] = {}
    for s, (depth, dim) in enumerate(((3, 32), (3, 64), (10, 96), (2, 192)), start=1):
        net[f"patch_embed{s}.projection.weight"] = (dim, 3 if s == 1 else dim // 2, 3, 3)
        for b in range(depth):
            here = f"blocks{s}.{b}"
            net[f"{here}.layer_scale_1"] = (1, dim, 1, 1)
            for i, (k, c) in enumerate(((5, dim), (5, 3 * dim // 8), (7, dim // 2))):
                conv = f"{here}.attn.value.DW_conv{i}"
                net |= {f"{conv}.weight": (c, 1, k, k), f"{conv}.bias": (c,)}
            net[f"{here}.attn.value.PW_conv.weight"] = (dim, dim, 1, 1)
            net |= {f"{here}.mlp.dwconv.weight": (4 * dim, 1, 3, 3), f"{here}.mlp.dwconv.bias": (4 * dim,)}
            net[f"{here}.mlp.decompose.weight"] = (1, 4 * dim, 1, 1)
    net["head.weight"] = (1000, 192)
    return net


@pytest.mark.parametrize(
    "prefix", ["", "state_dict.", "model.module.", "state_dict.model._orig_mod.backbone.encoder.", "x.y."]
)
@pytest.mark.parametrize("order", ["file", "alphabet"])
def test_layers_come_in_order_of_execution_under_any_prefix(prefix: str, order: str) -> None:
    net = mobilenet(prefix)
    if order == "alphabet":
        net = dict(sorted(net.items()))
    assert chosen(net) == [f"{prefix}blocks.{i}.conv_dw.weight" for i in range(11)]


def test_the_files_own_order_counts_where_it_keeps_one() -> None:
    net = {"z.pw.weight": (8, 3, 1, 1), "z.dw.weight": (8, 1, 3, 3), "a.dw.weight": (8, 1, 5, 5)}
    assert chosen(net) == ["z.dw.weight", "a.dw.weight"]
    assert chosen(net, keeps_order=False) == ["a.dw.weight", "z.dw.weight"]


def test_alphabetical_order_is_seen_within_each_type() -> None:
    half = infos({"features.10.weight": (8, 1, 3, 3), "features.9.weight": (8, 1, 3, 3)}, "float16")
    full = infos({"a.weight": (4, 3, 1, 1), "features.11.weight": (8, 1, 3, 3)})
    names = [layer.key for layer in select({**half, **full}).layers]
    assert names == ["features.9.weight", "features.10.weight", "features.11.weight"]


def test_convnext_names_tell_stage_stride_and_dilation() -> None:
    plan = select(infos(dict(sorted(convnext("model.").items()))))
    blocks = [layer.key.removeprefix("model.stages.").removesuffix(".dwconv.weight") for layer in plan.layers]
    assert blocks[3:6] == ["1.1", "2.0", "2.1"] and blocks[-3:] == ["2.10", "3.0", "3.1"]
    assert [layer.stage for layer in plan.layers] == [0] * 2 + [1] * 2 + [2] * 11 + [3] * 2
    assert {(x.stride, x.dilation, x.multiplier) for x in plan.layers} == {((1, 1), (1, 1), 1)}
    assert all(layer.bias_key == layer.key.replace("weight", "bias") for layer in plan.layers)
    assert plan.rule == "shape" and "ConvNeXt" in plan.notes[0] and not plan.skipped


@pytest.mark.parametrize(("filtered", "filters"), [(False, 11_488), (True, 96 * 2 + 224 * 3 + 240 * 18 + 496 * 2)])
def test_hornet_names_work_as_they_are(filtered: bool, filters: int) -> None:
    plan = select(infos(hornet(filtered)))
    assert len(plan.layers) == 25
    assert sum(layer.shape[0] for layer in plan.layers) == filters
    assert {layer.dilation for layer in plan.layers} == {(1, 1)}
    assert [layer.bias_key is None for layer in plan.layers] == [filtered and layer.stage >= 2 for layer in plan.layers]


@pytest.mark.parametrize("order", ["file", "alphabet"])
def test_moganet_names_tell_dilations(order: str) -> None:
    net = moganet() if order == "file" else dict(sorted(moganet().items()))
    plan = select(infos(net))
    assert len(plan.layers) == 18 * 4
    assert [layer.key.split(".", 2)[2] for layer in plan.layers[:4]] == [
        "attn.value.DW_conv0.weight",
        "attn.value.DW_conv1.weight",
        "attn.value.DW_conv2.weight",
        "mlp.dwconv.weight",
    ]
    assert [layer.dilation for layer in plan.layers[-4:]] == [(1, 1), (2, 2), (3, 3), (1, 1)]
    assert [layer.stage for layer in plan.layers] == [0] * 12 + [1] * 12 + [2] * 40 + [3] * 8
    assert any("MogaNet" in note for note in plan.notes)


def test_a_stem_of_one_channel_is_not_depthwise() -> None:
    for net in (mobilenet(stem=1), dict(sorted(mobilenet(stem=1).items()))):
        plan = select(infos(net))
        assert len(plan.layers) == 11 and "conv_stem.weight" not in [layer.key for layer in plan.layers]
        assert plan.skipped == {STEM: 1}


def test_a_sequential_stem_of_one_channel_is_not_depthwise() -> None:
    net: dict[str, tuple[int, ...]] = {"model.0.0.weight": (32, 1, 3, 3)}
    for i in range(1, 12):
        net |= {f"model.{i}.0.weight": (32, 1, 3, 3), f"model.{i}.3.weight": (32, 32, 1, 1)}
    for given in (net, dict(sorted(net.items()))):
        assert chosen(given) == [f"model.{i}.0.weight" for i in range(1, 12)]


@pytest.mark.parametrize(
    "net",
    [
        {"dw.weight": (3, 1, 3, 3), "pw.weight": (8, 3, 1, 1)},  # on the image itself
        {"patch_embed.proj.weight": (8, 48), "zz.0.dw.weight": (8, 1, 3, 3)},  # after a linear embedding
        {"a.dw.weight": (8, 1, 3, 3), "b.dw.weight": (8, 1, 5, 5)},  # layers alone, without the network
        {"blocks.0.dw.weight": (8, 1, 3, 3), "z.conv.weight": (8, 3, 4, 4)},  # the stem sorts last
    ],
)
def test_a_first_depthwise_layer_is_no_stem(net: Shapes) -> None:
    plan = select(infos(net))
    assert STEM not in plan.skipped
    assert [layer.key for layer in plan.layers] == [k for k, s in net.items() if len(s) == 4 and s[1] == 1]


def test_a_known_first_convolution_decides() -> None:
    net = infos(mobilenet(stem=1))
    assert len(select(net, first_conv="conv_stem", gray=True).layers) == 11
    assert len(select(net, first_conv="conv_stem", gray=False).layers) == 12
    assert len(select(net, first_conv="elsewhere", gray=True).layers) == 12


def test_what_is_like_a_depthwise_layer_but_none_is_counted() -> None:
    net = infos(
        {
            "conv.weight": (8, 3, 3, 3),
            "dw.weight": (8, 1, 3, 3),
            "scale.weight": (8, 1, 1, 1),
            "line.weight": (8, 1, 5),
            "cube.weight": (8, 1, 3, 3, 3),
            "pool.filt": (8, 1, 3, 3),
            "up_transpose.weight": (8, 1, 2, 2),
            "mask.weight": (8, 1, 2, 2),
            "mask.bias": (1,),
            "pruned.weight_orig": (8, 1, 3, 3),
            "pruned.weight_mask": (8, 1, 3, 3),
            "optimizer.state.1.exp_avg": (8, 1, 3, 3),
            "one.weight": (1, 1, 3, 3),
            "gamma": (8, 1, 1),
            "empty.weight": (0, 1, 3, 3),
            "wide.weight": (8, 1, 1, 11),
        }
    )
    net["int.weight"] = TensorInfo("int.weight", (8, 1, 3, 3), "int8", 72)
    net["view.weight"] = TensorInfo("view.weight", (8, 1, 3, 3), "expanded float32", 72)
    plan = select(net)
    assert [layer.key for layer in plan.layers] == ["dw.weight", "wide.weight"]
    assert [layer.kernel for layer in plan.layers] == [(3, 3), (1, 11)]
    assert plan.skipped == {
        "1x1 depthwise convolution": 1,
        "1-D depthwise convolution": 1,
        "3-D depthwise convolution": 1,
        "buffer": 1,
        TRANSPOSED: 2,
        UNCOMPUTED: 2,
        "optimiser state": 1,
        "int8 weight without a scale": 1,
        "expanded view of fewer numbers": 1,
    }


def test_what_a_file_without_depthwise_layers_holds_is_said() -> None:
    plan = select(infos({"a.weight": (8, 3, 3, 3), "b.weight": (8, 8, 1, 1), "fc.weight": (10, 8), "fc.bias": (10,)}))
    assert plan.layers == () and plan.contents == "4 tensors, of them 2 dense convolutions and 1 matrix"
    assert select({}).contents == "no tensors"
    assert select(infos({"x": (3,)})).contents == "1 tensor"


GRAPH = (
    GraphLayer("late.weight", (8, 1, 5, 5), (2, 2), (1, 1), 1, True, stage=0, kernel=(5, 5)),
    GraphLayer("early.weight", (8, 1, 3, 3), (1, 1), (2, 2), 2, False, stage=1, kernel=(3, 3)),
)


@pytest.mark.parametrize("prefix", ["", "state_dict.module."])
def test_a_graph_decides_order_stride_dilation_multiplier_and_stage(prefix: str) -> None:
    net = {"early.weight": (8, 1, 3, 3), "late.weight": (8, 1, 5, 5), "late.bias": (8,), "alias.weight": (8, 1, 3, 3)}
    plan = select(infos({prefix + k: s for k, s in net.items()}), graph=GRAPH, rule="catalogue")
    first, second = plan.layers
    assert (first.key, first.bias_key) == (f"{prefix}late.weight", f"{prefix}late.bias")
    assert (first.stride, first.stage) == ((2, 2), 0)
    assert (second.key, second.dilation, second.multiplier, second.stage) == (f"{prefix}early.weight", (2, 2), 2, 1)
    assert plan.rule == "catalogue" and plan.skipped == {OUTSIDE: 1}


def test_a_graph_takes_the_averaged_twin() -> None:
    net = {f"{p}.{layer.key}": layer.shape for p in ("model", "ema") for layer in reversed(GRAPH)}
    plan = select(infos(net), graph=GRAPH)
    assert [layer.key for layer in plan.layers] == ["ema.late.weight", "ema.early.weight"]


def test_a_graph_that_does_not_fit_is_refused() -> None:
    with pytest.raises(SourceError, match=r"file\.pth: lacks 1 of the 2 depthwise layers .* first early\.weight"):
        select(
            infos({"late.weight": (8, 1, 5, 5), "early.weight": (9, 1, 3, 3)}), graph=GRAPH, context=Context("file.pth")
        )
    assert select(infos({"a.weight": (8, 1, 3, 3)}), graph=()).layers == ()


@dataclass
class Memory:
    """A `TensorFile` in memory."""

    arrays: dict[str, np.ndarray]  # type: ignore[type-arg]

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return {k: TensorInfo(k, a.shape, "float32", a.nbytes) for k, a in self.arrays.items()}

    def read(self, keys: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:  # type: ignore[type-arg]
        yield from ((key, self.arrays[key]) for key in reversed(keys))


def draw(shapes: Shapes, seed: int = 0) -> Memory:
    rng = np.random.default_rng(seed)
    return Memory({key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()})


def test_filters_and_biases_are_read_as_stored() -> None:
    file = draw(convnext())
    layers = take(file, select(file.tensors)).layers
    assert len(layers) == 17
    for layer in layers:
        np.testing.assert_array_equal(layer.weight, file.arrays[layer.key][:, 0])
        np.testing.assert_array_equal(layer.bias, file.arrays[layer.key.replace("weight", "bias")])


def test_copies_are_taken_once_and_counted_but_not_constant_layers() -> None:
    file = draw({f"b.{i}.weight": (8, 1, 3, 3) for i in range(6)})
    file.arrays["b.3.weight"] = file.arrays["b.1.weight"].copy()
    file.arrays["b.4.weight"][:] = file.arrays["b.5.weight"][:] = 0
    reading = take(file, select(file.tensors), architecture="a", source_sha256="s")
    assert [layer.key for layer in reading.layers] == [f"b.{i}.weight" for i in (0, 1, 2, 4, 5)]
    assert reading.skipped == {TIED: 1} and (reading.architecture, reading.source_sha256) == ("a", "s")


def test_every_expert_of_a_conditional_convolution_is_taken() -> None:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(4, 6 * 15)), np.arange(24.0).reshape(4, 6)
    file = Memory({"cc.weight": weight.astype(np.float32), "cc.bias": bias.astype(np.float32)})
    graph = (GraphLayer("cc.weight", (4, 90), (1, 1), (1, 1), 1, True, experts=4, kernel=(3, 5)),)
    plan = select(file.tensors, graph=graph)
    (layer,) = take(file, plan).layers
    np.testing.assert_array_equal(layer.weight, file.arrays["cc.weight"].reshape(4, 6, 3, 5).reshape(24, 3, 5))
    np.testing.assert_array_equal(layer.bias, np.arange(24))
    assert "every expert" in plan.notes[0]


def test_a_tensor_of_another_shape_than_its_header_says_is_refused() -> None:
    file = draw({"a.weight": (8, 1, 3, 3)})
    plan = select(file.tensors)
    file.arrays["a.weight"] = file.arrays["a.weight"][:4]
    with pytest.raises(SourceError, match=r"a\.weight as \(4, 1, 3, 3\)"):
        take(file, plan)


def test_unknown_is_unknown() -> None:
    (layer,) = select(infos({"a.weight": (8, 1, 3, 3)})).layers
    assert layer.stride == layer.dilation == (UNKNOWN, UNKNOWN)
    assert layer.multiplier == layer.stage == UNKNOWN
    assert replace(layer, bias_key="b") != layer
