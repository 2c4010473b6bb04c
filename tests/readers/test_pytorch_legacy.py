"""PyTorch's oldest format, a tar file, written here as torch 0.1.1 wrote it and read by torch.load as well."""

import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mkfa.errors import SourceError
from mkfa.readers.harvesting import harvest


class _Pickler(pickle.Pickler):
    """Writes tensors as the numbers of entries, as torch 0.1.1 did."""

    def __init__(self, file: Any, numbers: dict[int, int]) -> None:
        super().__init__(file, protocol=2)
        self.numbers = numbers

    def persistent_id(self, obj: Any) -> Any:
        return self.numbers.get(id(obj)) if isinstance(obj, torch.Tensor) else None


def write_tar(path: Path, content: Any, tensors: list[torch.Tensor], views: list[tuple[int, int, int, int]]) -> None:
    storages, table, main = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pickle.dump(len(tensors), storages, protocol=2)
    pickle.dump(len(tensors), table, protocol=2)
    for i, tensor in enumerate(tensors):
        pickle.dump((100 + i, "cpu", torch.FloatStorage), storages, protocol=2)
        storages.write(struct.pack("<q", tensor.untyped_storage().nbytes() // 4) + bytes(tensor.untyped_storage()))
        pickle.dump((i, views[i][0] if views else 100 + i, torch.FloatTensor), table, protocol=2)
        table.write(struct.pack("<ii", tensor.dim(), 0) + struct.pack(f"<{tensor.dim()}q", *tensor.shape))
        table.write(struct.pack(f"<{tensor.dim()}q", *tensor.stride()))
        table.write(struct.pack("<q", 0 if views else tensor.storage_offset()))
    pickle.dump(views, storages, protocol=2)
    _Pickler(main, {id(tensor): i for i, tensor in enumerate(tensors)}).dump(content)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as out:
        for name, data in (("storages", storages), ("tensors", table), ("pickle", main)):
            info = tarfile.TarInfo(name)
            info.size = len(data.getvalue())
            out.addfile(info, io.BytesIO(data.getvalue()))


@pytest.mark.parametrize("with_views", [False, True])
def test_the_oldest_format(tmp_path: Path, with_views: bool) -> None:
    base = torch.randn(6 * 9 + 5)
    tensors = [base[5:].view(6, 1, 3, 3), torch.randn(4, 1, 5, 5).transpose(2, 3)]
    views = [(200, 100, 5, 54), (201, 101, 0, 100)] if with_views else []
    path = tmp_path / "model.pth.tar"
    write_tar(path, {"net": {"a.weight": tensors[0], "b.weight": tensors[1]}, "epoch": 1}, tensors, views)
    loaded = torch.load(path, weights_only=False)["net"]
    for layer, weight in harvest(str(path)).iter_layers():
        np.testing.assert_array_equal(weight, loaded[layer.name.removeprefix("net.")][:, 0].numpy())


def test_tar_files_that_lie_are_refused(tmp_path: Path) -> None:
    path, tensors = tmp_path / "x.tar", [torch.randn(6, 1, 3, 3)]
    write_tar(path, {"a.weight": tensors[0]}, tensors, [])
    whole = path.read_bytes()
    assert len(harvest(str(path)).layers) == 1
    for size in range(600, len(whole) - 10000, 97):
        path.write_bytes(whole[:size])
        with pytest.raises(SourceError):
            harvest(str(path))
    with tarfile.open(path, "w") as out:
        out.addfile(tarfile.TarInfo("readme"))
    with pytest.raises(SourceError, match="a tar file, but not PyTorch's"):
        harvest(str(path))
    write_tar(path, {"a.weight": tensors[0]}, tensors, [(200, 100, 50, 54)])
    with pytest.raises(SourceError, match="view beyond its storage"):
        harvest(str(path))


def test_a_pickle_that_is_too_long_is_called_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mkfa.readers.tensors import pytorch_legacy

    array = np.ones((400, 1, 5, 5), "f4") * np.arange(400, dtype="f4")[:, None, None, None]
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": array, "b.weight": 2 * array}, protocol=2))
    assert len(harvest(str(tmp_path / "x.pkl")).layers) == 1
    monkeypatch.setattr(pytorch_legacy, "MAX_PICKLE", 60_000)
    with pytest.raises(SourceError, match="a pickle of more than 60000 bytes"):
        harvest(str(tmp_path / "x.pkl"))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", ["state dict", "checkpoint", "module"])
@pytest.mark.parametrize("protocol", [0, 1])
def test_protocols_of_text_are_read(tmp_path: Path, protocol: int, kind: str, zipped: bool) -> None:
    """Protocol 0 writes persistent ids as the text of a tuple, which torch.load cannot read back."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 5, groups=8, dilation=2))
    other = {"lr": 0.1, "name": "n\u00e4me\n\\x", "big": 1 << 80, "b": b"\x00\xff\n", "s": {1}, "np": np.float64(0.5)}
    value = {"state dict": net.state_dict(), "checkpoint": {"state_dict": net.state_dict(), **other}, "module": net}[
        kind
    ]
    path = tmp_path / "m.pth"
    torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    bank = harvest(path)
    np.testing.assert_array_equal(bank.of_layer(0).weight, net[1].weight.detach().numpy()[:, 0])
    assert bank.layers[0].dilation == ((2, 2) if kind == "module" else (-1, -1))


@pytest.mark.parametrize("text", ["x', 'y", "\\'", "a" * 3000, "('storage',)", "<class 'os.system'>"])
def test_written_ids_of_other_forms_are_inert(tmp_path: Path, text: str) -> None:
    pickled = f"(dp0\nVa\np1\nP('storage', <class '{text}'>, '0', 'cpu', 9)\ns.".encode()
    (tmp_path / "m.pkl").write_bytes(pickled)
    with pytest.raises(SourceError):
        harvest(tmp_path / "m.pkl")


def test_a_view_that_protocol_0_writes(tmp_path: Path) -> None:
    weight = torch.arange(72, dtype=torch.float32).reshape(4, 1, 3, 6)
    path = tmp_path / "m.pth"
    torch.save({"a.weight": weight[..., 3:]}, path, pickle_protocol=0, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    whole = data.index(b", 'cpu', 72, None)")
    viewed = data[:whole] + b", 'cpu', 72, ('v', 0, 72))" + data[whole + len(b", 'cpu', 72, None)") :]
    for content in (data, viewed):
        path.write_bytes(content)
        np.testing.assert_array_equal(harvest(path).of_layer(0).weight, weight[:, 0, :, 3:])
    path.write_bytes(viewed.replace(b"('v', 0, 72)", b"('v', 1, 72)"))
    with pytest.raises(SourceError, match="a view beyond its storage"):
        harvest(path)
