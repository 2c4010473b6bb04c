"""Sizes of networks, against the networks themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mkfa.images.domain import Domain
from mkfa.networks.build import build_network, find_small
from mkfa.training.network_size import bytes_by_name, network_size
from mkfa.training.recipe import load_recipe
from mkfa.training.spec import RunSpec

X, Y = np.zeros((8, 32, 32, 3), np.uint8), np.arange(8) % 4
DOMAIN = Domain("made", tuple("abcd"), X, Y, X, Y, "digest")


def spec_of(arch: str, **options: int) -> RunSpec:
    return RunSpec(arch, "made", "digest", "fast", load_recipe("fast").identity, 0, options=options)


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("resmixer_32_6", {}),
        ("resmixer_16_2", {"kernel": 5, "patch": 8}),
        ("convnext_48_4", {}),
        ("convmixer_64_8", {}),
        ("convnext_atto", {}),
        ("resnet18", {}),
    ],
)
def test_a_name_says_at_most_and_about_what_the_file_takes(tmp_path: Path, arch, options):
    model = build_network(arch, classes=4, channels=3, size=32, seed=0, **options)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    told, filters = bytes_by_name(spec_of(arch, **options), DOMAIN)
    size = network_size(spec_of(arch, **options), DOMAIN)
    true = (tmp_path / "weights.pt").stat().st_size
    classes = 4000 * getattr(model, "num_features", 0)  # those of timm are counted with 1000
    assert true <= told <= 1.5 * true + classes
    assert 0.8 * true <= size.file_bytes <= 1.3 * true
    assert filters == size.filter_bytes


def test_multiply_adds_are_those_of_a_plain_count():
    """Hooks count every convolution and linear layer by its output, its kernel and its groups."""
    model = build_network("convnext_atto", classes=4, channels=3, size=32, seed=0)
    counted = 0

    def count(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal counted
        kernel = layer.weight[0].numel()  # input channels of a group x positions
        counted += kernel * out.numel()

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    model.eval()(torch.zeros(1, 3, 32, 32))
    size = network_size(spec_of("convnext_atto"), DOMAIN)
    assert size.multiply_adds == counted
    assert (size.layers["depthwise"], size.layers["conv"]) == (12, 0) or size.layers["conv"] > 12


@pytest.mark.parametrize("arch", ["convmixer_768_32", "convmixer_8_2", "convmixer_1536_20"])
def test_whose_convmixer_a_name_means_does_not_depend_on_whether_timm_is_imported(arch):
    import timm

    code = f"import sys; from mkfa.networks.build import find_small; print(find_small({arch!r}), 'timm' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == f"{find_small(arch)} False\n"
    assert (find_small(arch) is None) == timm.is_model(arch)
