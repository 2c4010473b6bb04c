"""The layers that a name tells, against those of the network that is built."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mkfa.bundling.network_layers import assemble, record
from mkfa.errors import MkfaError, UnknownNameError
from mkfa.networks.build import build_network
from mkfa.networks.layers import WHAT, followers, spatial_layers
from mkfa.readers.timm import catalogue
from mkfa.training import known_layers as module
from mkfa.training.known_layers import KnownLayer, known_layers


def built_layers(model, what):
    """Return the same from the modules."""

    def known(layer, along=()):
        shape = (*layer.weight.shape, 1, 1)[:4]
        return KnownLayer(shape, layer.bias is not None, tuple(known(one) for _, one in along))

    try:
        layers = spatial_layers(model, what)
    except MkfaError:
        return ()
    along = followers(model, what)
    return tuple(known(layer, along.get(name, ())) for name, layer in layers)


@pytest.mark.parametrize(
    ("arch", "options", "channels", "size"),
    [
        ("resmixer_16_2", {"kernel": 5, "patch": 8}, 1, 32),
        ("convnext_8_3", {}, 3, 32),
        ("convmixer_8_2", {"patch": 1}, 1, 16),
        ("resnet18", {}, 1, 32),
        ("resnet50", {"stem_stride": 1}, 3, 96),
        ("convnext_atto", {}, 1, 32),
        ("convnext_atto", {}, 3, 96),
        ("convnext_atto", {"stem_stride": 3}, 3, 32),
        ("mobilenetv3_small_050", {}, 3, 64),
        ("mobilenetv2_050", {}, 1, 96),
    ],
)
def test_a_name_tells_the_layers_that_the_network_has(arch, options, channels, size):
    model = build_network(arch, classes=4, channels=channels, size=size, seed=0, **options)
    for what in WHAT:
        known = known_layers(arch, options, what, channels=channels, size=size)
        assert known == built_layers(model, what), what


def test_depthwise_layers_of_other_networks_are_in_the_catalogue_of_timm():
    model = build_network("coat_lite_mini", classes=4, channels=3, size=224, seed=0)
    assert "coat_lite_mini" not in module._file()["networks"]
    known = known_layers("coat_lite_mini", {})
    assert known is None or known == built_layers(model, "depthwise")
    assert known_layers("coat_lite_mini", {}, "conv") is None


@pytest.mark.parametrize("arch", ["hornet_tiny", "hornet_tiny_7x7"])
def test_hornets_are_recorded(arch):
    layers = known_layers(arch, {})
    assert [layer.shape[0] for layer in layers[:2]] == [96, 96] and len(layers) == 25  # 64 + 32 channels
    assert {layer.shape[1:] for layer in layers} == {(1, 7, 7)}


@pytest.mark.parametrize(
    ("arch", "options", "told"),
    [
        ("convnext_atto", {"kernel": 5}, "has fixed kernels"),
        ("resnet18", {"stem_stride": 0}, "choose 1 or more"),
        ("resmixer_8_2", {"kernel": 4}, "is even"),
        ("resmixer_8_2", {"stem_stride": 2}, "pass --patch instead"),
        ("resmixer_1_2", {}, "at least two channels"),
        ("convmixer_8_2", {"branch_gain": 0.1}, "has no branches"),
    ],
)
def test_options_that_a_network_cannot_have_are_refused(arch, options, told):
    for make in (known_layers, lambda *_: build_network(arch, classes=2, channels=1, size=32, seed=0, **options)):
        with pytest.raises(MkfaError, match=told):
            make(arch, options)


def test_an_unknown_name_is_refused_as_it_is_when_it_is_built():
    code = """if True:
        import sys
        from mkfa.errors import UnknownNameError
        from mkfa.training.known_layers import known_layers
        try:
            known_layers("convnext_fento", {})
        except UnknownNameError as error:
            print(error)
        print({"timm", "torch"} & sys.modules.keys())
    """
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    with pytest.raises(UnknownNameError) as built:
        build_network("convnext_fento", classes=2, channels=1, size=32, seed=0)
    assert said.splitlines() == [str(built.value), "set()"]


def test_nothing_recorded_is_used_with_another_timm(monkeypatch):
    monkeypatch.setattr(catalogue, "installed_version", lambda: "0.0")
    assert known_layers("resnet18", {}, "conv") is known_layers("convnext_atto", {}) is None
    assert len(known_layers("resmixer_8_2", {})) == 2


@pytest.mark.parametrize("arch", ["resnet18", "mobilenetv3_small_050"])
def test_what_is_recorded_is_what_the_file_has(arch):
    recorded = module._file()
    made = json.loads(json.dumps(assemble({arch: record(arch)}, recorded["timm"])))

    def unpacked(content):
        entry = content["networks"][arch]
        return {what: [[content["specs"][n] for n in group] for group in entry[what]] for what in WHAT}, entry["bytes"]

    assert unpacked(made) == unpacked(recorded)


def test_networks_for_one_size_of_images_are_not_recorded():
    assert record("vit_tiny_patch16_224") == {}
