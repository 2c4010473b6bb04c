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


# Shards without an index


def split(
    folder: Path, *, parts: int = 3, pattern: str = "model-{:05d}-of-00003.safetensors", first: int = 1
) -> list[Path]:
    """Write a network in parts, as Hugging Face's `save_pretrained` does, but without an index."""
    import torch

    net = shapes()
    paths = []
    for i in range(parts):
        own = {key: value for at, (key, value) in enumerate(net.items()) if at * parts // len(net) == i}
        paths.append(folder / pattern.format(i + first))
        if paths[-1].suffix == ".safetensors":
            write(paths[-1], own)
        else:
            torch.save({key: torch.from_numpy(value) for key, value in own.items()}, paths[-1])
    return paths


PATTERNS = (
    "model-{:05d}-of-00003.safetensors",
    "model-{:05d}-of-00003.fp16.safetensors",
    "diffusion_pytorch_model.fp16-{:05d}-of-00003.safetensors",
    "pytorch_model-{:05d}-of-00003.bin",
    "net_shard{}of3.pt",
    "net.{}_of_3.pth",
)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_shards_without_an_index_are_read_together(tmp_path: Path, pattern: str, first: int) -> None:
    paths = split(tmp_path, pattern=pattern, first=first)
    net = shapes()
    lines = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths)
    for source in (tmp_path, *paths):
        bank = harvest(source)
        assert [layer.name for layer in bank.layers] == [f"blocks.{i}.dw.weight" for i in range(12)]
        for layer, weight in bank.iter_layers():
            np.testing.assert_array_equal(weight, net[layer.name][:, 0])
        assert bank.provenance.source_sha256 == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_missing_shard_is_named(tmp_path: Path, pattern: str, gone: int) -> None:
    paths = split(tmp_path, pattern=pattern)
    paths[gone].unlink()
    for source in (tmp_path, *(path for path in paths if path.exists())):
        with pytest.raises(SourceError, match=f"is one of 3 shards of a checkpoint, and {paths[gone].name} is not"):
            harvest(source)


def test_an_index_beside_a_shard_is_heeded(sharded: Path, tmp_path: Path) -> None:
    by_index = harvest(sharded)
    for name in ("m-1.safetensors", "m-2.safetensors"):
        (sharded.parent / name).rename(sharded.parent / name.replace("2.", "00002-of-00002."))
    places = json.loads(sharded.read_text())["weight_map"]
    places = {key: name.replace("2.", "00002-of-00002.") for key, name in places.items()}
    sharded.write_text(json.dumps({"weight_map": places}))
    bank = harvest(sharded.parent / "m-00002-of-00002.safetensors")
    assert len(bank.layers) == len(by_index.layers) == 12
    (sharded.parent / "m-1.safetensors").unlink()
    with pytest.raises(SourceError, match=r"m-1\.safetensors: does not exist"):
        harvest(sharded.parent / "m-00002-of-00002.safetensors")


def test_files_of_equal_names_within_are_networks_of_their_own(tmp_path: Path) -> None:
    import torch

    from mkfa.readers.collect import harvest_all

    for i in range(1, 4):
        torch.save(
            {key: torch.from_numpy(value + i) for key, value in shapes().items()}, tmp_path / f"net_{i}_of_3.pth"
        )
    bank = harvest(tmp_path / "net_2_of_3.pth")
    np.testing.assert_array_equal(bank.of_layer(0).weight, shapes()["blocks.0.dw.weight"][:, 0] + np.float32(2))
    with pytest.raises(SourceError, match="has 3 checkpoints"):
        harvest(tmp_path)
    done = harvest_all([str(tmp_path / "net_*_of_3.pth")])
    assert [each.name for each in done] == ["net_1_of_3", "net_2_of_3", "net_3_of_3"]


@pytest.mark.parametrize(
    "name", ["fold_1_of_5.pth", "net-epoch-9-of-10.pt", "step_100_of_1000.bin", "seed_2_of_3.ckpt"]
)
def test_a_number_may_count_networks(tmp_path: Path, name: str) -> None:
    import torch

    torch.save({key: torch.from_numpy(value) for key, value in shapes(2).items()}, tmp_path / name)
    assert len(harvest(tmp_path / name).layers) == len(harvest(tmp_path).layers) == 2


def test_shards_given_by_a_pattern_are_one_bank(tmp_path: Path) -> None:
    from mkfa.readers.collect import harvest_all

    paths = split(tmp_path)
    (done,) = harvest_all([str(tmp_path / "model-*.safetensors")])
    assert (done.name, done.state, done.layers) == ("model", "harvested", 12)
    (again,) = harvest_all([str(paths[2])])
    assert (again.name, again.state) == ("model", "skipped")


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    paths = split(tmp_path)
    write(paths[1], {"stem.weight": np.ones((4, 3, 3, 3), np.float32)})
    with pytest.raises(SourceError, match=r"has 'stem\.weight', as another shard has"):
        harvest(paths[0])


def test_half_a_keras_network_of_transformers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tf_model-00001-of-00002.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))
    with pytest.raises(SourceError, match="is one of 2 shards of a Keras network"):
        harvest(path)


def test_objects_of_every_shard_are_said(tmp_path: Path) -> None:
    import pathlib

    import torch

    paths = split(tmp_path, pattern="pytorch_model-{:05d}-of-00003.bin")
    for path in paths:
        torch.save({"model": torch.load(path), "from": pathlib.PurePosixPath("/data")}, path)
    bank = harvest(tmp_path)
    assert len(bank.layers) == 12
    assert sum(bank.provenance.stood_in.values()) == 3
