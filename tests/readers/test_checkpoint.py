"""Which architecture a local checkpoint is of, and what follows from it."""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from mkfa.banks.bank import UNKNOWN
from mkfa.errors import SourceError, UnknownNameError
from mkfa.readers.harvesting import harvest
from mkfa.readers.tensors.checkpoint import CheckpointInfo, read_checkpoint
from mkfa.readers.tensors.safetensors import open_safetensors
from mkfa.readers.timm.catalogue import graph_of, layers_of

Write = Callable[..., Path]


def write(path: Path, tensors: Mapping[str, np.ndarray], **metadata: str) -> Path:  # type: ignore[type-arg]
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    at, parts = 0, []
    for key in sorted(tensors):
        raw = np.ascontiguousarray(tensors[key], np.float32).tobytes()
        header[key] = {"dtype": "F32", "shape": list(tensors[key].shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        parts.append(raw)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))
    return path


def depthwise(architecture: str, prefix: str = "", seed: int = 0) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    """Random weights for an architecture's depthwise layers, and a dense one for the rest."""
    rng = np.random.default_rng(seed)
    out = {f"{prefix}{x.key}": rng.normal(size=x.shape).astype(np.float32) for x in layers_of(architecture)}
    return out | {f"{prefix}zz_head.weight": rng.normal(size=(2, 3, 1, 1)).astype(np.float32)}


@pytest.mark.parametrize("prefix", ["", "module.", "state_dict.model."])
def test_an_architecture_is_known_by_its_layers(tmp_path: Path, prefix: str) -> None:
    bank = harvest(str(write(tmp_path / "x.safetensors", depthwise("mobilenetv3_large_100", prefix))))
    expected = layers_of("mobilenetv3_large_100")
    assert [layer.name for layer in bank.layers] == [prefix + x.key for x in expected]
    assert [layer.stride for layer in bank.layers] == [x.stride for x in expected]
    assert {layer.multiplier for layer in bank.layers} == {1}
    assert bank.provenance.rule == "catalogue"


def test_multipliers_come_from_the_graph(tmp_path: Path) -> None:
    bank = harvest(str(write(tmp_path / "x.safetensors", depthwise("fastvit_t8"))))
    assert [layer.multiplier for layer in bank.layers] == [x.multiplier for x in layers_of("fastvit_t8")]
    assert 2 in {layer.multiplier for layer in bank.layers}


def test_an_unknown_network_goes_by_shapes(tmp_path: Path) -> None:
    tensors = depthwise("mobilenetv3_large_100")
    tensors["extra.weight"] = np.ones((4, 1, 3, 3), np.float32)
    bank = harvest(str(write(tmp_path / "x.safetensors", tensors)))
    assert bank.provenance.rule == "shape" and bank.provenance.architecture == ""
    assert bank.unknown_dilation and bank.layers[0].stride == (UNKNOWN, UNKNOWN)


def test_the_architecture_that_the_user_names_decides(tmp_path: Path) -> None:
    tensors = depthwise("mobilenetv3_large_100")
    tensors["extra.weight"] = np.ones((4, 1, 3, 3), np.float32)
    path = str(write(tmp_path / "x.safetensors", tensors))
    bank = harvest(path, arch="mobilenetv3_large_100")
    assert (bank.provenance.rule, bank.provenance.architecture) == ("catalogue", "mobilenetv3_large_100")
    assert len(bank.layers) == 15 and bank.provenance.skipped == {"not in the architecture's graph": 1}
    with pytest.raises(SourceError, match=r"x\.safetensors: lacks 12 of the 12 depthwise layers"):
        harvest(path, arch="convnext_femto")
    with pytest.raises(SourceError, match="resnet50: has no depthwise layer"):
        harvest(path, arch="resnet50")
    with pytest.raises(UnknownNameError, match="convnext"):
        harvest(path, arch="convnxt_femto")


def test_what_the_file_says_of_itself_is_tried(tmp_path: Path) -> None:
    tensors = depthwise("mobilenetv3_large_100")
    tensors["extra.weight"] = np.ones((4, 1, 3, 3), np.float32)
    good = write(tmp_path / "good.safetensors", tensors, architecture="mobilenetv3_large_100.ra_in1k")
    assert len(harvest(str(good)).layers) == 15
    for word in ("convnext_femto", "resnet50", "MyNet"):
        wrong = write(tmp_path / "wrong.safetensors", tensors, arch=word)
        assert len(harvest(str(wrong)).layers) == 16


def test_tied_weights_are_taken_once_under_whatever_name_is_kept(tmp_path: Path) -> None:
    layers, aliases = graph_of("coat_lite_mini")
    tensors = depthwise("coat_lite_mini")
    every = dict(tensors)
    for alias, key in aliases.items():
        every[alias] = tensors[key]
    assert len(every) > len(tensors)
    full = harvest(str(write(tmp_path / "full.safetensors", every)))
    assert len(full.layers) == len(layers)
    assert sum(full.provenance.skipped.values()) == len(aliases)
    moved = dict(tensors)
    for alias, key in list(aliases.items())[:1]:
        moved[alias] = moved.pop(key)
    other = harvest(str(write(tmp_path / "moved.safetensors", moved)), arch="coat_lite_mini")
    assert len(other.layers) == len(layers)


def test_the_digest_of_a_file_that_vanished_is_an_error(tmp_path: Path) -> None:
    file = open_safetensors(write(tmp_path / "x.safetensors", {"a.weight": np.ones((2, 1, 3, 3))}))
    with pytest.raises(SourceError, match=r"gone: cannot be read"):
        read_checkpoint(file, CheckpointInfo(tmp_path / "x", hashed=(tmp_path / "gone",)))
