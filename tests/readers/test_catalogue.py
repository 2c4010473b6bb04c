"""The recorded catalogue against the installed timm, and the names that it resolves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hub_server import CONVNEXT_BASE

from mkfa.banks.bank import UNKNOWN
from mkfa.bundling import timm_catalogue as timm_record
from mkfa.errors import SourceError, UnknownNameError
from mkfa.readers.modules import stage_of
from mkfa.readers.timm import catalogue as timm_catalogue
from mkfa.readers.timm.catalogue import (
    entry_of_repo,
    expand,
    graph_of,
    layers_of,
    match_layers,
    resolve,
    task_of,
    training_set_of,
)

DIVERSE = (
    "convnext_femto",
    "efficientnet_lite0",
    "mobilenetv3_small_100",
    "tf_efficientnet_cc_b0_4e",
    "coat_lite_mini",
    "edgenext_small_rw",
    "inception_next_atto",
    "mobileone_s0",
    "fastvit_t8",
    "convmixer_768_32",
    "mvitv2_tiny",
)


def shapes_of(architecture: str) -> dict[str, tuple[int, ...]]:
    return {layer.key: layer.shape for layer in layers_of(architecture)}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", DIVERSE)
def test_record_is_the_live_graph(architecture: str) -> None:
    from mkfa.readers.timm.module_graph import module_graph

    live = module_graph(architecture)
    layers, aliases = graph_of(architecture)
    assert layers == live.layers and dict(aliases) == dict(live.aliases)
    assert live.order == "forward"
    assert live.names == timm_catalogue._catalogue()["graphs"][architecture]["names"]


@pytest.mark.slow
def test_names_and_tags_are_those_of_timm() -> None:
    import timm
    from timm.models import get_pretrained_cfg

    for pattern in ("convnext*", "mobilenetv?_small_*", "*vit*.apple*", "fastvit_t8"):
        hub = [
            name
            for name in timm.list_models(pattern, pretrained=True)
            if layers_of(name) and get_pretrained_cfg(name).hf_hub_id
        ]
        assert list(expand(pattern)) == hub
    for name in ("convnext_base", "efficientnet_b0", "mobilenetv3_large_100", "tf_efficientnet_lite0", "fastvit_mci0"):
        cfg = get_pretrained_cfg(name)
        entry = resolve(name)
        assert (entry.tag, entry.repo, entry.licence) == (cfg.tag, cfg.hf_hub_id, cfg.license or "")


def test_filters_of_the_whole_catalogue_add_up() -> None:
    catalogue = timm_catalogue._catalogue()
    layers = [layer for name in catalogue["graphs"] for layer in layers_of(name)]
    filters = sum(
        layer.shape[0] if not layer.experts else layer.shape[1] // (layer.kernel[0] * layer.kernel[1])
        for layer in layers
    )
    assert (len(catalogue["graphs"]), len(layers), filters) == (551, 15_424, 8_941_547)  # counted another way before
    assert {record["order"] for record in catalogue["graphs"].values()} == {"forward"}
    assert sum(layer.multiplier == 2 for layer in layers) == 129
    assert sum(layer.experts > 0 for layer in layers) == 54


def test_execution_order_is_not_definition_order() -> None:
    keys = [layer.key for layer in layers_of("coat_lite_mini")]
    assert keys[:2] == ["cpe1.proj.weight", "crpe1.conv_list.0.weight"]  # defined after cpe2 to cpe4


def test_facts_that_no_shape_tells() -> None:
    multiplied = [layer for layer in layers_of("edgenext_small_rw") if layer.multiplier == 2]
    assert multiplied and all(layer.shape[1] == 1 for layer in multiplied)
    experts = [layer for layer in layers_of("tf_efficientnet_cc_b0_4e") if layer.experts]
    assert {layer.experts for layer in experts} == {4}
    assert all(layer.shape[1] % (layer.kernel[0] * layer.kernel[1]) == 0 for layer in experts)
    wide = {layer.shape[2:] for layer in layers_of("inception_next_atto")}
    assert wide == {(3, 3), (1, 9), (9, 1)}
    assert [layer.stride for layer in layers_of("efficientnet_lite0")][:3] == [(1, 1), (2, 2), (1, 1)]


@pytest.mark.parametrize(
    ("key", "stage"),
    [
        ("stages.2.blocks.3.conv_dw.weight", 2),
        ("stages.2.downsample.conv.weight", 2),
        ("blocks.3.1.conv_dw.weight", 3),
        ("blocks.3.conv_dw.weight", UNKNOWN),
        ("stages_1.0.dw.weight", 1),
        ("patch_embed.backbone.stages.1.0.conv2_kxk.weight", 1),
        ("dense_stages.2.0.a.weight", 2),
        ("stem.1.conv_kxk.0.conv.weight", UNKNOWN),
        ("layers.1.blocks.0.m.weight", 1),
        ("block3.rep.1.conv1.weight", UNKNOWN),
        ("serial_blocks2.0.cpe.weight", 2),
        ("conv.weight", UNKNOWN),
    ],
)
def test_stage_by_name(key: str, stage: int) -> None:
    assert stage_of(key) == stage


def test_isotropic_network_has_one_stage() -> None:
    assert {layer.stage for layer in layers_of("convmixer_768_32")} == {0}


def test_network_without_depthwise_layers() -> None:
    assert layers_of("resnet50.a1_in1k") == ()
    with pytest.raises(SourceError, match="resnet50: has no depthwise layer"):
        resolve("resnet50.a1_in1k")


def test_resolve() -> None:
    entry = resolve("convnext_base")
    assert (entry.name, entry.repo) == ("convnext_base.fb_in22k_ft_in1k", "timm/convnext_base.fb_in22k_ft_in1k")
    assert (entry.training_set, entry.task) == ("ImageNet-22k, then ImageNet-1k", "image classification")
    assert resolve("convnext_base.fb_in22k").repo == "timm/convnext_base.fb_in22k"
    assert resolve("convnext_base_in22k").name == "convnext_base.fb_in22k"  # a former name
    assert resolve("gcvit_tiny").url.endswith(".pth") and not resolve("gcvit_tiny").repo
    assert entry_of_repo("timm/convnext_base.fb_in22k") == resolve("convnext_base.fb_in22k")
    assert entry_of_repo("me/none") is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("convnext_bsae", "did you mean convnext_base"),
        ("convnext_base.fb_in2k", "did you mean fb_in22k"),
        ("convnext_base.zzz", "its tags are fb_in22k_ft_in1k"),
        ("qqqqq", "give a path"),
        ("\u00b2", "give a path"),
        ("coatnet_0_224", "no pretrained weights"),
    ],
)
def test_unknown_names_get_the_nearest(name: str, words: str) -> None:
    with pytest.raises(UnknownNameError, match=words):
        resolve(name)


def test_glob() -> None:
    assert expand("convnext_femto*") == ("convnext_femto.d1_in1k", "convnext_femto_ols.d1_in1k")
    assert expand("convnext_base.fb_in22k*") == (
        "convnext_base.fb_in22k",
        "convnext_base.fb_in22k_ft_in1k",
        "convnext_base.fb_in22k_ft_in1k_384",
    )
    names = expand("*")
    assert len(names) == 715 and not any(name.startswith(("resnet50.", "gcvit")) for name in names)
    assert names.index("convnext_base.fb_in1k") < names.index("convnext_base.fb_in22k")
    with pytest.raises(UnknownNameError, match=r"resnet50\*"):
        expand("resnet50*")


@pytest.mark.parametrize(
    ("tag", "sets", "task"),
    [
        ("fb_in22k_ft_in1k_384", "ImageNet-22k, then ImageNet-1k", "image classification"),
        ("clip_laion2b_augreg", "LAION-2B", "image-text contrast"),
        ("clip_laion2b_soup_ft_in12k_in1k", "LAION-2B, then ImageNet-12k, then ImageNet-1k", "image classification"),
        ("apple_mclip", "", "image-text contrast"),
        ("untagged", "", ""),
        ("", "", ""),
    ],
)
def test_what_a_tag_tells(tag: str, sets: str, task: str) -> None:
    assert (training_set_of(tag), task_of(tag)) == (sets, task)


def test_match_by_layers() -> None:
    assert match_layers(shapes_of("inception_next_atto")) == ("inception_next_atto", layers_of("inception_next_atto"))
    assert match_layers(shapes_of("convnext_base")) == ("", layers_of("convnext_base"))  # convnextv2_base is alike
    assert match_layers({**shapes_of("convnext_base"), "more.weight": (3, 1, 3, 3)}) is None
    assert match_layers({}) is None
    fewer = shapes_of("convnext_base")
    del fewer["stages.0.blocks.0.conv_dw.weight"]
    assert match_layers(fewer) is None
    other = {key: (shape[0], 1, 5, 5) for key, shape in shapes_of("convnext_base").items()}
    assert match_layers(other) is None


def test_match_of_several_names_none_and_hides_what_they_differ_in() -> None:
    name, layers = match_layers(shapes_of("efficientnet_lite0")) or ("?", ())
    assert name == ""
    assert [x.key for x in layers] == [x.key for x in layers_of("efficientnet_lite0")]
    own = [x.stride for x in layers_of("efficientnet_lite0")]
    blurred = [x.stride for x in layers_of("efficientnet_blur_b0")]
    want = [a if a == b else (UNKNOWN, UNKNOWN) for a, b in zip(own, blurred, strict=True)]
    assert [x.stride for x in layers] == want and (UNKNOWN, UNKNOWN) in want


def test_all_names_tell_twins_apart() -> None:
    names = list(CONVNEXT_BASE)
    assert match_layers(shapes_of("convnext_base"), names) == ("convnext_base", layers_of("convnext_base"))
    second = [name for name in names if not name.endswith("gamma")] + [
        f"{name.removesuffix('.gamma')}.mlp.grn.{leaf}"
        for name in names
        if name.endswith("gamma")
        for leaf in ("weight", "bias")
    ]
    assert (match_layers(shapes_of("convnext_base"), second) or ("",))[0] == "convnextv2_base"


def test_match_sees_through_tied_names() -> None:
    layers, aliases = graph_of("coat_lite_mini")
    everything = shapes_of("coat_lite_mini") | {a: shapes_of("coat_lite_mini")[key] for a, key in aliases.items()}
    assert len(everything) == len(layers) + len(aliases) > len(layers)
    match = match_layers(everything)
    assert match is not None and [x.key for x in match[1]] == [x.key for x in layers]


def test_every_architecture_matches_itself() -> None:
    for name in list(timm_catalogue._catalogue()["graphs"])[::7]:
        plain = {x.key: x.shape for x in layers_of(name) if not x.experts}
        match = match_layers(plain)
        assert match is not None and match[0] in (name, ""), name


def test_another_timm_decides_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def live(architecture: str) -> Any:
        asked.append(architecture)
        return layers[1:], {}

    layers = layers_of("convnext_femto")
    monkeypatch.setattr(timm_catalogue, "installed_version", lambda: "99.0")
    monkeypatch.setattr(timm_catalogue, "_live_graph", live)
    assert layers_of("convnext_femto") == layers[1:]
    assert match_layers({x.key: x.shape for x in layers}) is None
    match = match_layers({x.key: x.shape for x in layers[1:]})
    assert match is None, "the catalogue has no candidate for these"
    assert set(asked) >= {"convnext_femto", "convnext_femto_ols"}


@pytest.mark.slow
def test_another_timm_is_really_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    want = layers_of("convnext_femto"), resolve("convnext_femto.d1_in1k"), expand("convnext_femto*")
    monkeypatch.setattr(timm_catalogue, "installed_version", lambda: "99.0")
    got = layers_of("convnext_femto"), resolve("convnext_femto.d1_in1k"), expand("convnext_femto*")
    assert got == want
    assert (match_layers(shapes_of("inception_next_atto")) or ("",))[0] == "inception_next_atto"
    with pytest.raises(UnknownNameError, match="did you mean convnext_base"):
        resolve("convnext_bsae")
    with pytest.raises(SourceError, match="no depthwise layer"):
        resolve("resnet50")


def test_catalogue_is_small_and_needs_no_timm() -> None:
    code = (
        "import sys; from mkfa.readers.timm.catalogue import layers_of;"
        "assert len(layers_of('convnext_base')) == 36; assert not {'timm', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    packed = Path(str(timm_catalogue.importlib.resources.files("mkfa.data") / "timm_catalogue.json.gz"))
    assert packed.stat().st_size < 100_000


@pytest.mark.slow
def test_stopped_recording_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["convnext_atto", "resnet18", "coat_lite_mini", "convnext_femto"]
    monkeypatch.setattr(timm_record, "architectures", lambda: names)
    built = []
    live = timm_record.module_graph

    def counted(name: str) -> Any:
        built.append(name)
        return live(name)

    monkeypatch.setattr(timm_record, "module_graph", counted)
    progress = tmp_path / "progress.jsonl"
    first = timm_record.build_catalogue(progress)
    lines = progress.read_text().splitlines(keepends=True)
    progress.write_text("".join(lines[:2]) + lines[2][:50])  # killed while writing the third
    assert timm_record.build_catalogue(progress) == first
    assert built == [*names, *names[2:]]
    bundled = timm_catalogue._catalogue()
    assert first["plain"] == ["resnet18"]
    assert first["graphs"]["convnext_atto"]["keys"] == bundled["graphs"]["convnext_atto"]["keys"]
    assert first["tags"]["convnext_atto"] == bundled["tags"]["convnext_atto"]
