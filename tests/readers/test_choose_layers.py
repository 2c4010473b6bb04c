"""Which tensors of a hub file are an architecture's layers: recorded, asked of timm, renamed, by shape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mkfa.errors import MkfaError
from mkfa.readers.hub.choose_layers import choose
from mkfa.readers.options import ReadOptions
from mkfa.readers.reading import TensorInfo
from mkfa.readers.tensors.select import Context
from mkfa.readers.timm import catalogue as timm_catalogue
from mkfa.readers.timm import module_graph as timm_graph
from mkfa.readers.timm.catalogue import layers_of


def infos(shapes: dict[str, tuple[int, ...]]) -> dict[str, TensorInfo]:
    return {key: TensorInfo(key, shape, "float32", 4) for key, shape in sorted(shapes.items())}


def own_names(architecture: str, prefix: str = "") -> dict[str, TensorInfo]:
    shapes: dict[str, tuple[int, ...]] = {f"{prefix}{layer.key}": layer.shape for layer in layers_of(architecture)}
    return infos(shapes | {f"{prefix}stem.0.weight": (4, 3, 4, 4), f"{prefix}head.fc.weight": (10, 4)})


def facebook_names() -> dict[str, TensorInfo]:
    """The names of the official ConvNeXt files, at the sizes of timm's convnext_atto."""
    shapes: dict[str, tuple[int, ...]] = {
        "downsample_layers.0.0.weight": (40, 3, 4, 4),
        "downsample_layers.0.0.bias": (40,),
        "norm.weight": (320,),
    }
    for stage, (depth, c) in enumerate(zip((2, 2, 6, 2), (40, 80, 160, 320), strict=True)):
        for block in range(depth):
            at = f"stages.{stage}.{block}"
            shapes |= {f"{at}.dwconv.weight": (c, 1, 7, 7), f"{at}.dwconv.bias": (c,), f"{at}.gamma": (c,)}
            shapes |= {f"{at}.pwconv1.weight": (4 * c, c), f"{at}.pwconv2.weight": (c, 4 * c)}
    return infos(shapes)


def no_timm(*args: Any) -> Any:
    pytest.fail("timm was asked")


def test_own_names_need_no_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_graph, "module_graph", no_timm)
    name, found = choose(own_names("convnext_atto"), "convnext_atto")
    assert (name, found.rule) == ("convnext_atto", "catalogue")
    assert [layer.key for layer in found.layers] == [layer.key for layer in layers_of("convnext_atto")]


def test_common_prefix_needs_no_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_graph, "module_graph", no_timm)
    _, found = choose(own_names("convnext_atto", "visual.trunk."), "convnext_atto")
    assert found.rule == "catalogue" and found.layers[0].key == "visual.trunk.stages.0.blocks.0.conv_dw.weight"


def test_tied_weights_are_found_under_any_of_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_graph, "module_graph", no_timm)
    layers, aliases = timm_catalogue.graph_of("coat_lite_mini")
    other = {key: alias for alias, key in aliases.items()}
    shapes = {other.get(layer.key, layer.key): layer.shape for layer in layers}
    _, found = choose(infos(shapes), "coat_lite_mini")
    assert found.rule == "catalogue" and {layer.key for layer in found.layers} == set(shapes)


@pytest.mark.slow
def test_renamed_keys_go_through_the_family_filter() -> None:
    name, found = choose(facebook_names(), "convnext_atto")
    assert (name, found.rule, len(found.layers)) == ("convnext_atto", "renamed", 12)
    assert found.layers[2].key == "stages.1.0.dwconv.weight"
    assert found.layers[2].bias_key == "stages.1.0.dwconv.bias"
    assert (found.layers[2].stride, found.layers[2].stage) == ((1, 1), 1)


@pytest.mark.slow
def test_file_of_another_network_is_read_by_shape_with_a_warning() -> None:
    shapes = {f"trunk.{i}.dw.weight": (6, 1, 5, 5) for i in range(3)}
    name, found = choose(infos(shapes), "convnext_atto")
    assert (name, found.rule, len(found.layers)) == ("", "shape", 3)
    assert any("is not timm's convnext_atto" in note for note in found.notes)
    with pytest.raises(MkfaError, match="lacks 12 of the 12"):
        choose(infos(shapes), "convnext_atto", context=Context("x", ReadOptions("convnext_atto")))


@pytest.mark.slow
def test_installed_timm_decides_where_the_record_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    file = own_names("convnext_atto")
    old = tuple(replace(layer, key=f"old.{layer.key}") for layer in layers_of("convnext_atto"))

    def wrong(architecture: str) -> Any:
        return old, {}

    monkeypatch.setattr(timm_catalogue, "graph_of", wrong)
    name, found = choose(file, "convnext_atto")
    assert (name, found.rule, len(found.layers)) == ("convnext_atto", "graph", 12)


def test_unnamed_file_is_recognised_by_its_layers() -> None:
    name, found = choose(own_names("inception_next_atto"), "")
    assert (name, found.rule) == ("inception_next_atto", "catalogue")


def test_one_channel_stem_is_left_out_of_an_unknown_network() -> None:
    shapes = {"entry.weight": (8, 1, 3, 3), "a.weight": (8, 1, 5, 5), "b.weight": (9, 8, 1, 1)}
    _, found = choose(infos(shapes), "", stem="entry")
    assert [layer.key for layer in found.layers] == ["a.weight"]
    assert dict(found.skipped) == {"one-channel stem": 1}
