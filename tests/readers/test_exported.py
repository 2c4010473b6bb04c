"""Archives of torch.export: weights, groups, stride, dilation and order from the graph that is saved with them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mkfa
from mkfa.errors import SourceError


class Net(nn.Module):
    """Layers that run in another order than that of their definition, and some that are not depthwise."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Conv2d(16, 32, (3, 5), groups=16, stride=2, padding=2, dilation=2, bias=False)
        self.up = nn.ConvTranspose2d(32, 32, 4, groups=32)
        self.grouped = nn.Conv2d(32, 32, 3, groups=4)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.early = nn.Conv2d(8, 8, 5, groups=8, padding="same")
        self.pw = nn.Conv2d(8, 16, 1)
        self.register_buffer("smooth", torch.ones(3, 1, 3, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = nn.functional.conv2d(images, self.smooth, padding=1, groups=3)
        x = self.pw(self.early(self.stem(x)))
        return self.grouped(self.up(self.late(x)))


IMAGE = torch.zeros(1, 3, 16, 16)


def network(dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    net = Net().eval().to(dtype)
    net.late.weight.data = net.late.weight.data.to(memory_format=torch.channels_last)
    return net


def is_of(bank: Any, net: Any) -> None:
    facts = [(x.name, x.channels, x.kh, x.kw, x.stride, x.dilation, x.multiplier, x.has_bias) for x in bank.layers]
    assert facts == [
        ("early.weight", 8, 5, 5, (1, 1), (1, 1), 1, True),
        ("late.weight", 32, 3, 5, (2, 2), (2, 2), 2, False),
    ]
    for layer, weight in bank.iter_layers():
        np.testing.assert_array_equal(weight, net.get_parameter(layer.name).detach().float()[:, 0].numpy())
    assert bank.provenance.rule == "graph"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("decomposed", [False, True])
def test_an_archive_tells_groups_stride_dilation_and_order(tmp_path: Path, dtype: Any, decomposed: bool) -> None:
    net = network(dtype)
    program = torch.export.export(net, (IMAGE.to(dtype),))
    torch.export.save(program.run_decompositions({}) if decomposed else program, tmp_path / "net.pt2")
    bank = mkfa.harvest(tmp_path / "net.pt2")
    is_of(bank, net)
    assert {layer.dtype for layer in bank.layers} == {str(dtype).removeprefix("torch.")}
    skipped = {"buffer", "grouped convolution with several channels a group", "transposed convolution"}
    assert set(bank.provenance.skipped) == skipped and bank.provenance.source_sha256


def test_exported_programs_and_their_modules_in_memory() -> None:
    net = network()
    program = torch.export.export(net, (IMAGE,))
    is_of(mkfa.harvest(program), net)
    is_of(mkfa.harvest(program.module()), net)


def rewritten(path: Path, change: dict[str, Any]) -> Path:
    """Write an archive again with other records; None leaves one out."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(path.with_name("y.pt2"), "w") as new:
        for info in old.infolist():
            data = change.get(info.filename.partition("/")[2], old.read(info))
            if data is not None:
                new.writestr(info.filename, data if isinstance(data, bytes) else json.dumps(data))
    return path.with_name("y.pt2")


def test_what_lies_is_refused_and_what_is_not_stated_is_left_open(tmp_path: Path) -> None:
    net = network()
    torch.export.save(torch.export.export(net, (IMAGE,)), tmp_path / "net.pt2")
    path, config = tmp_path / "net.pt2", "data/weights/model_weights_config.json"
    with zipfile.ZipFile(path) as archive:
        entries = json.loads(archive.read(f"net/{config}"))
    no_graph = mkfa.harvest(rewritten(path, {"models/model.json": None}))
    assert no_graph.provenance.rule == "shape"
    assert {x.name for x in no_graph.layers} >= {"early.weight", "late.weight"} and no_graph.unknown_dilation
    odd = {"graph_module": {"graph": {"nodes": [3, {"target": "torch.ops.aten.conv2d.default", "inputs": 7}]}}}
    assert mkfa.harvest(rewritten(path, {"models/model.json": odd})).provenance.rule == "shape"
    with pytest.raises(SourceError, match="without weights that can be read"):
        mkfa.harvest(rewritten(path, {config: None}))
    for wrong in ({"as_int": 99999}, {"as_expr": "s0"}):
        entries["config"]["early.weight"]["tensor_meta"]["sizes"][0] = wrong
        if "as_int" in wrong:
            with pytest.raises(SourceError, match=r"early\.weight' beyond its data"):
                mkfa.harvest(rewritten(path, {config: entries}))
        else:
            assert [x.name for x in mkfa.harvest(rewritten(path, {config: entries})).layers] == ["late.weight"]
