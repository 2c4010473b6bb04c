"""Checkpoints of several files."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from mkfa.errors import SourceError
from mkfa.readers.harvesting import harvest


def shapes(n: int = 12) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    rng = np.random.default_rng(0)
    net = {"stem.weight": rng.normal(size=(4, 3, 3, 3))}
    for i in range(n):
        net[f"blocks.{i}.dw.weight"] = rng.normal(size=(4, 1, 3, 3))
    return {key: value.astype(np.float32) for key, value in net.items()}


def write(path: Path, tensors: dict[str, np.ndarray]) -> None:  # type: ignore[type-arg]
    from safetensors.numpy import save_file

    save_file(tensors, path)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    net = shapes()
    keys = list(net)
    write(tmp_path / "m-1.safetensors", {k: net[k] for k in keys[:6]})
    write(tmp_path / "m-2.safetensors", {k: net[k] for k in keys[6:]})
    places = {k: f"m-{1 + (i >= 6)}.safetensors" for i, k in enumerate(keys)}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("by", ["index", "folder"])
def test_shards_are_one_network(sharded: Path, by: str) -> None:
    bank = harvest(str(sharded if by == "index" else sharded.parent))
    net = shapes()
    assert [layer.name for layer in bank.layers] == [f"blocks.{i}.dw.weight" for i in range(12)]
    for layer, weight in bank.iter_layers():
        np.testing.assert_array_equal(weight, net[layer.name][:, 0])
    names = [sharded.name, "m-1.safetensors", "m-2.safetensors"]
    lines = "".join(f"{hashlib.sha256((sharded.parent / n).read_bytes()).hexdigest()}  {n}\n" for n in names)
    assert bank.provenance.source_sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert "source_sha256" in bank.provenance.notes[-1]


@pytest.mark.parametrize("name", ["../m.safetensors", "/etc/passwd", "a/../../b", "", "..", "a\\b", "a\0b"])
def test_shards_outside_the_folder_are_not_opened(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    write(tmp_path / "m.safetensors", shapes())
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"stem.weight": name}}))
    with pytest.raises(SourceError, match="outside its folder"):
        harvest(str(index))


def test_what_is_wrong_with_shards_is_said(sharded: Path) -> None:
    (sharded.parent / "m-2.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(SourceError, match=r"m-2\.safetensors: is a Git LFS pointer"):
        harvest(str(sharded))
    (sharded.parent / "m-2.safetensors").unlink()
    with pytest.raises(SourceError, match=r"m-2\.safetensors: does not exist"):
        harvest(str(sharded))
    write(sharded.parent / "m-2.safetensors", {"other": np.ones(3, np.float32)})
    with pytest.raises(SourceError, match=r"lists 'blocks\.5\.dw\.weight' in m-2\.safetensors, which lacks it"):
        harvest(str(sharded))


@pytest.mark.parametrize("text", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "no", "{", "[" * 99999])
def test_a_json_file_that_is_no_index_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(SourceError, match="JSON"):
        harvest(str(path))


def test_a_folder_needs_one_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="a folder without a checkpoint"):
        harvest(str(tmp_path))
    write(tmp_path / "last.safetensors", shapes(3))
    assert len(harvest(str(tmp_path)).layers) == 3
    write(tmp_path / "best.safetensors", shapes(4))
    with pytest.raises(SourceError, match=r"has 2 checkpoints \(best\.safetensors, last\.safetensors\); name one"):
        harvest(str(tmp_path))
    write(tmp_path / "model.safetensors", shapes(5))
    assert len(harvest(str(tmp_path)).layers) == 5


def test_a_folder_with_a_pickle_is_read_too(tmp_path: Path) -> None:
    import torch

    torch.save({k: torch.from_numpy(v) for k, v in shapes(2).items()}, tmp_path / "pytorch_model.bin")
    assert len(harvest(str(tmp_path)).layers) == 2


@pytest.mark.parametrize("config", ["broken {", "[]", '{"architecture": 3, "pretrained_cfg": 4}'])
def test_a_config_of_another_form_does_no_harm(tmp_path: Path, config: str) -> None:
    write(tmp_path / "model.safetensors", shapes(3))
    (tmp_path / "config.json").write_text(config)
    bank = harvest(str(tmp_path))
    assert len(bank.layers) == 3 and bank.provenance.architecture == ""


def test_timms_config_names_architecture_training_set_and_licence(tmp_path: Path) -> None:
    from mkfa.readers.timm.catalogue import layers_of

    rng = np.random.default_rng(0)
    net = {x.key: rng.normal(size=x.shape).astype(np.float32) for x in layers_of("convnext_femto")}
    write(tmp_path / "model.safetensors", net)
    cfg = {"tag": "d1_in1k", "license": "apache-2.0"}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "convnext_femto", "pretrained_cfg": cfg}))
    facts = harvest(str(tmp_path)).provenance
    assert (facts.architecture, facts.training_set, facts.licence) == ("convnext_femto", "ImageNet-1k", "apache-2.0")
    assert facts.rule == "catalogue"
