"""Networks by name, with weights from a checkpoint whose names may differ."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from mkfa.errors import MkfaError, SourceError, UnknownNameError, WorkError
from mkfa.grafts import networks
from mkfa.grafts.networks import find_network
from mkfa.grafts.preprocessing import Changes

NAME = "lcnet_035"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return timm.create_model(NAME)


def same(found, network):
    return all(
        torch.equal(v, network.state_dict()[k]) for k, v in found.model.state_dict().items() if v.is_floating_point()
    )


@pytest.mark.parametrize("kind", ["plain", "wrapped", "renamed", "ema"])
def test_weights_are_found_by_name_behind_prefixes_or_in_order(network, tmp_path, kind):
    state = network.state_dict()
    path = tmp_path / "x.pth"
    if kind == "plain":
        path = tmp_path / "x.safetensors"
        save_file(state, path)
    elif kind == "wrapped":
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    elif kind == "renamed":
        torch.save({f"layer_{i}.x{i}": v for i, (k, v) in enumerate(state.items()) if "num_batches" not in k}, path)
    else:
        raw = {k: torch.zeros_like(v) for k, v in state.items()}
        torch.save({"state_dict": raw, "state_dict_ema": state}, path)
    found = find_network(NAME, weights=path)
    assert same(found, network) and not found.model.training
    assert found.labels[0] == "n01440764" and len(found.labels) == 1000 and len(found.sha256) == 64
    said = " ".join(found.notes)
    assert ("matched in order" in said) == (kind == "renamed") and ("state_dict_ema" in said) == (kind == "ema")


def test_another_number_of_classes_is_taken_from_the_checkpoint(tmp_path):
    torch.save(timm.create_model(NAME, num_classes=7).state_dict(), tmp_path / "x.pth")
    found = find_network(NAME, weights=tmp_path / "x.pth")
    assert found.model(torch.zeros(1, 3, 32, 32)).shape == (1, 7) and found.labels == ()


def test_torchvisions_own_files_have_their_own_transforms(tmp_path, monkeypatch):
    from torchvision import models

    state = models.shufflenet_v2_x0_5().state_dict()
    torch.save(state, tmp_path / "shufflenetv2_x0.5-f707e7126e.pth")
    found = find_network("shufflenet_v2_x0_5", weights=tmp_path / "shufflenetv2_x0.5-f707e7126e.pth")
    weights = models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8))
    torch.testing.assert_close(found.preprocessing.make()(picture), weights.transforms()(picture))


@pytest.mark.parametrize("name", ["lcnet_035", "tf_efficientnet_lite0", "convnext_tiny"])
def test_timms_preprocessing_is_timms(name):
    from timm.data import create_transform, resolve_model_data_config

    from mkfa.grafts.preprocessing import of_timm

    with torch.device("meta"):
        model = timm.create_model(name)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 410, 3), dtype=np.uint8))
    expected = create_transform(**resolve_model_data_config(model), is_training=False)(picture)
    torch.testing.assert_close(of_timm(model).make()(picture), expected, rtol=1e-5, atol=1e-5)


def test_preprocessing_is_overridden_and_said(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "x.pth")
    changes = Changes(size=64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    found = find_network(NAME, weights=tmp_path / "x.pth", changes=changes)
    white = Image.new("RGB", (100, 90), "white")
    assert torch.equal(found.preprocessing.make()(white), torch.ones(3, 64, 64))
    assert found.preprocessing.source.endswith("with another size, mean and std")
    given = find_network(NAME, weights=tmp_path / "x.pth", transform=lambda picture: torch.zeros(3, 5, 5))
    assert given.preprocessing.make()(white).shape == (3, 5, 5) and given.preprocessing.facts() == {"source": "given"}
    with pytest.raises(MkfaError, match="replaces the whole preprocessing"):
        find_network(NAME, weights=tmp_path / "x.pth", transform=lambda picture: picture, changes=changes)


def test_what_does_not_fit_is_refused(network, tmp_path, monkeypatch):
    with pytest.raises(UnknownNameError, match="neither in timm nor in torchvision; did you mean"):
        find_network("mobilenet_v22")
    torch.save({"a.weight": torch.zeros(3, 3)}, tmp_path / "x.pth")
    with pytest.raises(SourceError, match=r"lacks .* of the network's"):
        find_network(NAME, weights=tmp_path / "x.pth")
    torch.save(
        {k: v[:1] if k == "conv_stem.weight" else v for k, v in network.state_dict().items()}, tmp_path / "y.pth"
    )
    with pytest.raises(SourceError, match=r"conv_stem\.weight of shape 1x3x3x3, where the network has 8x3x3x3"):
        find_network(NAME, weights=tmp_path / "y.pth")
    with pytest.raises(SourceError, match="is a folder"):
        find_network(NAME, weights=tmp_path)

    def offline(*_, **options):
        if options.get("pretrained"):
            raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WorkError, match=r"could not be downloaded \(no route to host\).*--weights FILE"):
        find_network(NAME)


def test_a_pickle_that_would_run_code_is_read_without_running_it(network, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": network.state_dict(), "evil": Evil()}, tmp_path / "x.pth")
    assert same(find_network(NAME, weights=tmp_path / "x.pth"), network)
    assert not (tmp_path / "ran").exists()
    assert networks.read_tensors(tmp_path / "x.pth")
