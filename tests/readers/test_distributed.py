"""Distributed checkpoints of PyTorch: slices put together from .distcp files, and what is missing or lies."""

from __future__ import annotations

import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint import metadata as parts
from torch.distributed.checkpoint.filesystem import _StorageInfo

import mkfa
from mkfa.errors import SourceError


def network(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    net = {"stem.weight": torch.randn(9, 3, 3, 3)}
    for i in range(3):
        net |= {f"blocks.{i}.dw.weight": torch.randn(9, 1, 5, 5), f"blocks.{i}.pw.weight": torch.randn(9, 9, 1, 1)}
    return {key: value.to(dtype) for key, value in net.items()}


def is_of(bank: Any, net: dict[str, torch.Tensor]) -> None:
    assert [x.name for x in bank.layers] == [f"model.blocks.{i}.dw.weight" for i in range(3)]
    for layer, weight in bank.iter_layers():
        np.testing.assert_array_equal(weight, net[layer.name.removeprefix("model.")][:, 0].float().numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_pytorch_saves(tmp_path: Path, dtype: torch.dtype) -> None:
    """As Accelerate lays it out: the optimiser's folder beside the network's."""
    net = network(dtype)
    optimiser = {"state": {key: {"exp_avg": value * 2} for key, value in net.items()}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": net, "step": 3, "optim": optimiser}, checkpoint_id=tmp_path / "pytorch_model_fsdp_0")
        dcp.save({"optim": optimiser}, checkpoint_id=tmp_path / "optimizer_0")
    folder = tmp_path / "pytorch_model_fsdp_0"
    banks = [mkfa.harvest(source) for source in (tmp_path, folder, next(folder.glob("*.distcp")))]
    for bank in banks:
        is_of(bank, net)
        assert bank.provenance.skipped == {"optimiser state": 3}
    assert len({bank.provenance.source_sha256 for bank in banks}) == 1 and banks[0].provenance.source_sha256


def sliced(folder: Path, net: dict[str, torch.Tensor], cut: int = 4, **change: Any) -> Path:
    """Write a checkpoint as two processes do, each with a part of the first axis of every tensor."""
    folder.mkdir()
    files = [io.BytesIO(), io.BytesIO()]
    entries: dict[str, Any] = {}
    places: dict[Any, Any] = {}
    for key, value in net.items():
        chunks = []
        for rank, rows in enumerate((slice(0, cut), slice(cut, None))):
            part = value[rows].clone()
            first = torch.Size([rows.start, *[0] * (value.ndim - 1)])
            chunks.append(parts.ChunkStorageMetadata(first, part.shape))
            start = files[rank].tell()
            torch.save(part, files[rank])
            info = _StorageInfo(change.get("path", f"__{rank}_0.distcp"), start, files[rank].tell() - start)
            if not (rank and change.get("lacking")):
                places[parts.MetadataIndex(f"model.{key}", first, rank)] = info
        size = change.get("size", value.shape)
        about = parts.TensorProperties(dtype=value.dtype)
        entries[f"model.{key}"] = parts.TensorStorageMetadata(about, torch.Size(size), chunks)
    (folder / ".metadata").write_bytes(pickle.dumps(parts.Metadata(entries, storage_data=places)))
    for rank, file in enumerate(files):
        (folder / f"__{rank}_0.distcp").write_bytes(file.getvalue())
    return folder


def test_the_slices_of_every_process_are_put_together(tmp_path: Path) -> None:
    net = network()
    is_of(mkfa.harvest(sliced(tmp_path / "x", net)), net)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lacking": True}, "lacks parts of 'model.blocks.0.dw.weight'"),
        ({"path": "../__0_0.distcp"}, "in a file that is not read"),
        ({"path": "gone.distcp"}, r"lacks the file gone\.distcp; fetch the files of every process"),
        ({"size": (5, 1, 5, 5)}, "of another shape"),
        ({"size": (1 << 30, 1, 5, 5)}, "memory"),
    ],
)
def test_what_is_missing_or_lies_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(SourceError, match=said):
        mkfa.harvest(sliced(tmp_path / "x", network(), **change))


def test_damage_is_one_sentence(tmp_path: Path) -> None:
    folder = sliced(tmp_path / "x", network())
    whole, slices = (folder / ".metadata").read_bytes(), (folder / "__0_0.distcp").read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        (folder / ".metadata").write_bytes(whole[:size])
        with pytest.raises(SourceError, match=r"damaged or of a form|is empty"):
            mkfa.harvest(folder)
    (folder / ".metadata").write_bytes(whole)
    (folder / "__0_0.distcp").write_bytes(bytes(len(slices)))
    with pytest.raises(SourceError, match=r"has a damaged part of 'model\.blocks\.0\.dw\.weight'"):
        mkfa.harvest(folder)
    (folder / ".metadata").unlink()
    with pytest.raises(SourceError, match=r"distributed checkpoint .* without its file \.metadata; fetch"):
        mkfa.harvest(next(folder.glob("*.distcp")))
