"""Weights (C, 1, kh, kw) that are no depthwise layer's: of one-channel inputs, of transposed convolutions."""

from __future__ import annotations

import numpy as np
import pytest

import mkfa
from mkfa.array_types import F32
from mkfa.banks.bank import FilterBank
from mkfa.errors import SourceError
from mkfa.readers.tensors.depthwise import BILINEAR, ONE_CHANNEL, STEM, TRANSPOSED, bilinear_share, is_named_depthwise

Shapes = dict[str, tuple[int, ...]]


def harvest(shapes: Shapes, **options: object) -> FilterBank:
    rng = np.random.default_rng(0)
    state = {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
    return mkfa.harvest(state, **options)  # type: ignore[arg-type]


def names(shapes: Shapes, **options: object) -> list[str]:
    return [layer.name for layer in harvest(shapes, **options).layers]


def mobile(prefix: str = "", dim: int = 32, blocks: int = 4) -> Shapes:
    """A network for RGB images whose depthwise layers have no telling name."""
    net: Shapes = {f"{prefix}features.0.0.weight": (dim, 3, 3, 3)}
    for i in range(1, blocks + 1):
        net |= {
            f"{prefix}features.{i}.conv.0.weight": (dim, dim, 1, 1),
            f"{prefix}features.{i}.conv.3.weight": (dim, 1, 3, 3),
            f"{prefix}features.{i}.conv.6.weight": (dim, dim, 1, 1),
        }
    return net


LAYERS = [f"features.{i}.conv.3.weight" for i in range(1, 5)]

INPUTS: dict[str, tuple[Shapes, Shapes]] = {
    # SAM 2: the memory encoder's mask; the prompt's mask
    "mask downsampler": (
        {"memory_encoder.mask_downsampler.encoder.0.weight": (4, 1, 3, 3)},
        {"memory_encoder.mask_downsampler.encoder.3.weight": (16, 4, 3, 3)},
    ),
    "prompt mask": (
        {"prompt_encoder.mask_downscaling.0.weight": (4, 1, 2, 2)},
        {"prompt_encoder.mask_downscaling.3.weight": (16, 4, 2, 2)},
    ),
    "mask then 1x1": ({"mask_embed.0.weight": (16, 1, 3, 3)}, {"mask_embed.2.weight": (64, 16, 1, 1)}),
    # RGB-D: a second encoder, whose first layer has as many channels as the first of the RGB encoder
    "depth encoder": (
        {"depth_encoder.conv1.weight": (32, 1, 7, 7)},
        {f"depth_encoder.layer{i}.conv.weight": (32, 32, 3, 3) for i in range(1, 4)},
    ),
    "second encoder without a word": (
        {"encoder_b.conv1.weight": (24, 1, 7, 7)},
        {f"encoder_b.layer{i}.conv.weight": (24, 24, 3, 3) for i in range(1, 4)},
    ),
    # stereo: features of the disparity
    "disparity": (
        {"update.encoder.convd1.weight": (48, 1, 7, 7)},
        {"update.encoder.convd2.weight": (48, 48, 3, 3), "update.encoder.conv.weight": (96, 96, 3, 3)},
    ),
    "grey discriminator": (
        {"netD.model.0.weight": (20, 1, 4, 4)},
        {"netD.model.2.weight": (40, 20, 4, 4), "netD.model.5.weight": (1, 40, 4, 4)},
    ),
    "heat map": ({"heatmap_conv.0.weight": (6, 1, 5, 5)}, {"heatmap_conv.1.weight": (12, 6, 3, 3)}),
    "sobel": ({"edge.sobel.weight": (2, 1, 3, 3)}, {"edge.fuse.weight": (8, 2, 3, 3)}),
}


@pytest.mark.parametrize("order", ["file", "alphabet"])
@pytest.mark.parametrize("case", INPUTS)
def test_the_first_layer_of_a_one_channel_input_is_not_depthwise(case: str, order: str) -> None:
    first, rest = INPUTS[case]
    shapes = {**mobile(), **first, **rest}
    bank = harvest(shapes if order == "file" else dict(sorted(shapes.items())))
    assert sorted(layer.name for layer in bank.layers) == LAYERS
    assert bank.provenance.skipped == {ONE_CHANNEL: 1}
    (key,) = first
    assert ONE_CHANNEL in bank.provenance.doubtful[key]
    assert key in names(shapes, include=key)


@pytest.mark.parametrize("case", INPUTS)
def test_depthwise_layers_of_the_same_place_are_taken_by_their_names(case: str) -> None:
    """The same shapes under a name that says depthwise."""
    first, rest = INPUTS[case]
    (key,) = first
    named = key.replace(".weight", ".dwconv.weight")
    if first[key][2] % 2:
        assert named in names({**mobile(), named: first[key], **rest})


def test_large_kernels_inside_a_stage_are_no_stem() -> None:
    """RepLKNet's stages alone, saved as a backbone without its stem."""
    shapes: Shapes = {}
    for s, k in enumerate((31, 29, 27, 13)):
        for b in range(2):
            shapes |= {
                f"stages.{s}.blocks.{b}.large_kernel.lkb_reparam.weight": (16, 1, k, k),
                f"stages.{s}.blocks.{b}.pw.weight": (16, 16, 1, 1),
            }
    bank = harvest(shapes)
    assert len(bank.layers) == 8 and not bank.provenance.skipped
    other = {key.replace("large_kernel.lkb_reparam", "mix"): shape for key, shape in shapes.items()}
    assert len(harvest(other).layers) == 8


def test_the_first_layer_of_a_grey_network_is_its_stem() -> None:
    shapes: Shapes = {"conv1.weight": (32, 1, 3, 3), "conv2.weight": (64, 32, 3, 3), "fc.weight": (10, 64)}
    with pytest.raises(SourceError, match=rf"{STEM} \(first conv1\.weight\)"):
        harvest(shapes)
    grey = mobile()
    grey["features.0.0.weight"] = (32, 1, 3, 3)
    assert names(grey) == LAYERS


@pytest.mark.parametrize("first", ["conv1", "stem.conv1", "backbone.conv1", "stem.0.conv", "intro"])
@pytest.mark.parametrize("stated", ["block{}.rep.0", "blocks.{}.conv"])
def test_the_first_layer_of_a_grey_network_is_found_among_sorted_names(first: str, stated: str) -> None:
    """As Xception's, GC ViT's and LowFormer's are stored by safetensors: other layers come first in the alphabet."""
    grey: Shapes = {f"{first}.weight": (32, 1, 3, 3), "pre_classifier.weight": (64, 32), "conv2.weight": (32, 32, 3, 3)}
    blocks = [stated.format(i) for i in range(1, 5)]
    for block in blocks:
        grey |= {f"{block}.spatial.weight": (32, 1, 3, 3), f"{block}.pointwise.weight": (32, 32, 1, 1)}
    bank = harvest(dict(sorted(grey.items())))
    assert [layer.name for layer in bank.layers] == [f"{block}.spatial.weight" for block in blocks]
    assert bank.provenance.skipped == {STEM: 1}
    colour = {**grey, "stem.image.weight": (32, 4, 3, 3)}
    assert STEM not in harvest(dict(sorted(colour.items()))).provenance.skipped


def test_a_dense_convolution_may_follow_a_depthwise_layer() -> None:
    """YOLO11's `attn.pe`, if its head follows at once."""
    part: Shapes = {"model.10.attn.proj.weight": (48, 32, 1, 1), "model.10.attn.pe.weight": (48, 1, 3, 3)}
    bank = harvest({**mobile(), **part, "head.0.weight": (8, 48, 3, 3)})
    assert [layer.name for layer in bank.layers] == [*LAYERS, "model.10.attn.pe.weight"]
    assert list(bank.provenance.doubtful) == ["model.10.attn.pe.weight"]


def test_a_last_part_that_widens_by_its_depthwise_layer_is_taken() -> None:
    """FastViT's `final_conv`: two filters for each channel, at the start of a part of its own."""
    part: Shapes = {
        "final_conv.kxk.weight": (64, 1, 3, 3),
        "final_conv.scale.weight": (64, 1, 1, 1),
        "final_conv.se.fc1.weight": (4, 64, 1, 1),
        "final_conv.se.fc2.weight": (64, 4, 1, 1),
    }
    assert names(dict(sorted({**mobile(), **part}.items()))) == [*LAYERS, "final_conv.kxk.weight"]


@pytest.mark.parametrize("name", ["patch_embed.proj", "patch_embeddings.0", "stem.conv"])
def test_patches_of_one_channel_are_a_stem_of_any_size(name: str) -> None:
    first: Shapes = {f"{name}.weight": (48, 1, 16, 16)}
    rest: Shapes = {f"blocks.{i}.attn.qkv.weight": (144, 48) for i in range(3)}
    rest |= {f"blocks.{i}.cpe.weight": (48, 1, 3, 3) for i in range(3)}
    assert names({**first, **rest}) == [f"blocks.{i}.cpe.weight" for i in range(3)]


def test_one_kernel_for_every_channel_is_no_layer() -> None:
    """The buffer of a Gaussian smoothing; a layer named depthwise that starts so is kept."""
    rng = np.random.default_rng(0)
    state = {key: rng.standard_normal(shape) for key, shape in mobile().items()}
    kernel = np.repeat(rng.standard_normal((1, 1, 5, 5)), 32, axis=0)
    state |= {"gaussian.weight": kernel, "blur.kernel": 2 * kernel}
    bank = mkfa.harvest(state)
    assert [layer.name for layer in bank.layers] == LAYERS
    assert bank.provenance.skipped == {"fixed kernel, the same in every channel": 2}
    state["a.dwconv.weight"] = 3 * kernel
    assert "a.dwconv.weight" in [layer.name for layer in mkfa.harvest(state).layers]


def test_depthwise_layers_without_the_rest_of_the_network_are_taken() -> None:
    shapes = {key: shape for key, shape in mobile().items() if shape[1] == 1}
    assert names({**shapes, "head.weight": (2, 3, 1, 1)}) == LAYERS


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("dla_up.ida_0.up_1", 4),
        ("dla_up.ida_2.up_1", 16),
        ("ida_up.up_2", 8),
        ("neck.deconv_layers.0", 4),
        ("decoder.refine.2", 4),
        ("head.upsample.0", 2),
        ("head.upsample", 3),
        ("up1", 2),
        ("fpn.conv_transpose", 3),
        ("fpn.ConvTranspose2d_3", 4),
        ("score.upscore8", 16),
        ("seg.bilinear_up", 4),
        ("unet.unpool4", 5),
        ("head.trans_conv.0", 4),
        ("decoder.conv_t1", 3),
        ("dec.convtr", 5),
        ("seg.upproj", 4),
        ("inv_conv", 4),
    ],
)
def test_grouped_transposed_convolutions_are_left_out(name: str, kernel: int) -> None:
    key = f"{name}.weight"
    bank = harvest({**mobile(), key: (32, 1, kernel, kernel), "last.weight": (4, 32, 1, 1)})
    assert [layer.name for layer in bank.layers] == LAYERS
    assert bank.provenance.skipped == {TRANSPOSED: 1}


@pytest.mark.parametrize(
    "name", ["decoder.up1.block.dwconv", "up.0.conv_dw", "decoder.3.depthwise", "upsample.dw", "deconv1.depthwise"]
)
def test_depthwise_layers_of_a_decoder_are_taken(name: str) -> None:
    key = f"{name}.weight"
    assert key in names({**mobile(), key: (32, 1, 3, 3), "last.weight": (4, 32, 1, 1)})


def test_transposed_convolutions_of_odd_size_are_known_or_doubtful() -> None:
    """MedNeXt's `up_1.conv1` is one; nothing tells of `up_blocks.0.conv`."""
    part: Shapes = {"up_1.conv1.weight": (32, 1, 3, 3), "up_1.conv2.weight": (64, 32, 1, 1)}
    part |= {"dec_block_0.0.conv1.weight": (64, 1, 3, 3), "dec_block_0.0.conv2.weight": (64, 64, 1, 1)}
    bank = harvest({**mobile(), **part})
    assert [layer.name for layer in bank.layers] == [*LAYERS, "dec_block_0.0.conv1.weight"]
    assert bank.provenance.skipped == {TRANSPOSED: 1}
    part = {"up_blocks.0.conv.weight": (32, 1, 3, 3), "up_blocks.0.pw.weight": (64, 32, 1, 1)}
    bank = harvest({**mobile(), **part})
    assert [layer.name for layer in bank.layers] == [*LAYERS, "up_blocks.0.conv.weight"]
    assert TRANSPOSED in bank.provenance.doubtful["up_blocks.0.conv.weight"]


def bilinear(channels: int, size: int) -> F32:
    """The kernel that CenterNet's `fill_up_weights` fills in."""
    f = (size + 1) // 2
    c = (2 * f - 1 - f % 2) / (2.0 * f)
    row = np.array([1 - abs(i / f - c) for i in range(size)])
    return np.tile(np.outer(row, row), (channels, 1, 1, 1)).astype(np.float32)


@pytest.mark.parametrize("size", [4, 8, 16])
def test_bilinear_kernels_are_left_out_whatever_their_name(size: int) -> None:
    rng = np.random.default_rng(0)
    state = {key: rng.standard_normal(shape) for key, shape in mobile().items()}
    state["fuse.x.weight"] = bilinear(32, size) + 0.01 * rng.standard_normal((32, 1, size, size))
    state["last.weight"] = rng.standard_normal((4, 32, 1, 1))
    bank = mkfa.harvest(state)
    assert [layer.name for layer in bank.layers] == LAYERS and bank.provenance.skipped == {BILINEAR: 1}
    assert bilinear_share(bilinear(8, size)) == pytest.approx(1)
    state["fuse.x.weight"] = rng.standard_normal((32, 1, size, size))
    kept = mkfa.harvest(state)
    assert "fuse.x.weight" in [layer.name for layer in kept.layers]
    assert "even kernel" in kept.provenance.doubtful["fuse.x.weight"]


def test_names_that_say_depthwise() -> None:
    for key in (
        "a.dwconv.weight",
        "a.conv_dw.weight",
        "a.DepthwiseConv.conv.weight",
        "a.dw_3x3.weight",
        "a.dw.0.weight",
    ):
        assert is_named_depthwise(key), key
    for key in ("depth.conv1.weight", "mask_down.0.weight", "a.downsample.weight"):
        assert not is_named_depthwise(key), key


def test_a_refusal_names_what_came_nearest() -> None:
    shapes: Shapes = {"stem.weight": (16, 3, 3, 3), "up_1.weight": (16, 1, 4, 4), "x.weight": (16, 1, 1, 1)}
    with pytest.raises(SourceError, match=r"transposed convolution \(first up_1\.weight\)"):
        harvest(shapes)
