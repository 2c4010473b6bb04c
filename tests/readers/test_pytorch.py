"""PyTorch files: the same tensors as torch.load, objects stood in for, and no code run."""

import argparse
import datetime as dt
import functools
import io
import os
import pickle
import struct
import tracemalloc
import warnings
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mkfa.errors import SourceError
from mkfa.readers.harvesting import harvest
from mkfa.readers.reading import Why
from mkfa.readers.tensors.pytorch import open_torch, read_torch


def net(seed: int = 0) -> "OrderedDict[str, Any]":
    torch.manual_seed(seed)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        *(
            torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3 + 2 * (i % 2), groups=8), torch.nn.BatchNorm2d(8))
            for i in range(11)
        ),
    )
    return model.state_dict()  # type: ignore[no-any-return]


OLD_TYPES = [
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
    "complex64",
]


def cases() -> dict[str, Callable[[], Any]]:
    def tied() -> Any:
        weight = torch.nn.Parameter(torch.randn(4, 1, 3, 3))
        return {"a.weight": weight, "b.weight": weight, "c.weight": weight.data}

    def views() -> Any:
        base = torch.randn(100)
        return {
            "slice": base[10:20],
            "strided": base.view(10, 10)[:, ::3],
            "transposed": base.view(10, 10).t(),
            "expanded": torch.randn(5).expand(4, 5),
            "empty": torch.empty(0, 3),
            "lastly": torch.randn(4, 1, 3, 3).to(memory_format=torch.channels_last),
            "scalar": torch.tensor(2.5),
            "flipped": base.view(4, 25).permute(1, 0),
        }

    def types() -> Any:
        return {name: torch.ones(2, 3).to(getattr(torch, name)) for name in OLD_TYPES}

    def new_types() -> Any:
        return {name: torch.ones(2, 3).to(getattr(torch, name)) for name in ("uint16", "uint32", "float8_e5m2")}

    def attributes() -> Any:
        weight = torch.nn.Parameter(torch.randn(3))
        weight.note = "kept"
        return {"w": weight}

    return {
        "state dict": net,
        "timm's saver": lambda: {
            "epoch": 3,
            "arch": "x",
            "state_dict": net(),
            "state_dict_ema": net(1),
            "metric": 1.5,
            "optimizer": {
                "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.randn(8, 1, 3, 3)}},
                "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99), "params": [0]}],
            },
        },
        "Lightning": lambda: {
            "epoch": 1,
            "pytorch-lightning_version": "2.4",
            "state_dict": {f"model.{k}": v for k, v in net().items()},
            "optimizer_states": [{"state": {0: {"exp_avg": torch.randn(8, 1, 3, 3)}}, "param_groups": []}],
            "hyper_parameters": OrderedDict(lr=0.1),
            "callbacks": {},
            "loops": None,
        },
        "list": lambda: [net(), (torch.ones(2), [torch.zeros(3)])],
        "tied": tied,
        "views": views,
        "types": types,
        "new types": new_types,
        "attributes": attributes,
        "text and numbers": lambda: {
            "a": "b",
            3: -(2**40),
            "n": None,
            "f": 1e300,
            "t": (1, (2,)),
            "b": b"\xff\x00",
            "s": {1},
            "w": torch.ones(1),
        },
        "device and size": lambda: {"d": torch.device("cpu"), "s": torch.Size([1, 2]), "t": torch.float16},
        "shared containers": lambda: (lambda d: {"a": d, "b": d})(net()),
    }


def flat(value: Any, path: tuple[str, ...] = (), seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """The oracle: tensors of what torch.load returned, each container once."""
    seen = set() if seen is None else seen
    if isinstance(value, torch.Tensor):
        yield ".".join(path), value
    elif isinstance(value, dict | list | tuple) and id(value) not in seen:
        seen.add(id(value))
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(part, (*path, str(key)), seen)


@pytest.mark.parametrize(
    ("name", "zipped"),  # torch itself cannot load the new types from the legacy format
    [(name, zipped) for name in cases() for zipped in (True, False) if zipped or name != "new types"],
)
def test_tensors_are_those_of_weights_only_loading(tmp_path: Path, name: str, zipped: bool) -> None:
    path = tmp_path / "x.pth"
    torch.save(cases()[name](), path, _use_new_zipfile_serialization=zipped)
    expected = dict(flat(torch.load(path, weights_only=True)))
    file = open_torch(path)
    assert list(file.tensors) == list(expected)
    floating = []
    for key, tensor in expected.items():
        info = file.tensors[key]
        assert info.shape == tuple(tensor.shape)
        assert info.dtype == ("expanded float32" if key == "expanded" else str(tensor.dtype).removeprefix("torch."))
        if tensor.is_floating_point() and key != "expanded":
            floating.append(key)
    for key, array in file.read(floating):
        np.testing.assert_array_equal(array, expected[key].detach().float().numpy())


def test_an_expanded_tensor_is_not_blown_up(tmp_path: Path) -> None:
    torch.save({"w.weight": torch.ones(1).expand(1 << 30, 1, 3, 3)}, tmp_path / "x.pth")
    with pytest.raises(SourceError, match="expanded float32"):
        list(open_torch(tmp_path / "x.pth").read(["w.weight"]))
    with pytest.raises(SourceError, match="no depthwise layer"):
        harvest(str(tmp_path / "x.pth"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_training_checkpoint_gives_the_averaged_weights_once(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "last.pth.tar"
    torch.save(cases()["timm's saver"](), path, _use_new_zipfile_serialization=zipped)
    bank = harvest(str(path))
    assert [layer.name for layer in bank.layers] == [f"state_dict_ema.{i}.0.weight" for i in range(1, 12)]
    assert bank.provenance.skipped == {"not averaged (the EMA twin was taken)": 11, "optimiser state": 1}
    expected = net(1)
    for layer, weight in bank.iter_layers():
        np.testing.assert_array_equal(weight, expected[layer.name.removeprefix("state_dict_ema.")][:, 0].numpy())


def test_tied_weights_are_taken_once(tmp_path: Path) -> None:
    torch.save(cases()["tied"](), tmp_path / "x.pt")
    reading = read_torch(tmp_path / "x.pt")
    assert [layer.key for layer in reading.layers] == ["a.weight"] and reading.skipped == {"tied copy": 2}


@pytest.mark.parametrize("zipped", [True, False])
def test_options_that_a_training_script_saved_are_passed_over(tmp_path: Path, zipped: bool) -> None:
    saved = {"arch": "x", "args": argparse.Namespace(lr=1, model="x"), "state_dict": net(), "epoch": 3}
    torch.save(saved, tmp_path / "x.pth.tar", _use_new_zipfile_serialization=zipped)
    with torch.serialization.safe_globals([argparse.Namespace]):  # as timm does
        assert set(torch.load(tmp_path / "x.pth.tar", weights_only=True)) == set(saved)
    torch.save(net(), tmp_path / "plain.pth")
    found, plain = (read_torch(tmp_path / name) for name in ("x.pth.tar", "plain.pth"))
    assert len(found.layers) == len(plain.layers) > 0
    for left, right in zip(found.layers, plain.layers, strict=True):
        np.testing.assert_array_equal(left.weight, right.weight)


class Harm:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


class Options(dict):  # type: ignore[type-arg]
    """An own configuration class."""


def extras() -> dict[str, Callable[[Path], Any]]:
    return {
        "code": Harm,
        "NumPy scalar": lambda _: np.float64(1),
        "path": lambda _: Path("x"),
        "own class": lambda _: Options(lr=0.1),
        "module": lambda _: torch.nn.Linear(2, 2),
        "time": lambda _: dt.datetime(2026, 1, 1),
        "partial": lambda _: functools.partial(sorted, reverse=True),
        "default": lambda _: defaultdict(Options),
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", list(extras()))
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_objects_beside_the_weights_are_stood_in_for(tmp_path: Path, name: str, zipped: bool) -> None:
    canary, path = tmp_path / "canary", tmp_path / "x.pth"
    torch.save({"x": extras()[name](canary), "state_dict": net()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    bank, expected = harvest(str(path)), net()
    assert [layer.name for layer in bank.layers] == [f"state_dict.{i}.0.weight" for i in range(1, 12)]
    for layer, weight in bank.iter_layers():
        np.testing.assert_array_equal(weight, expected[layer.name.removeprefix("state_dict.")][:, 0].numpy())
    assert (len(bank.provenance.stood_in) > 0) == (name != "NumPy scalar")
    assert not canary.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_an_object_without_tensors_is_refused_and_not_built(tmp_path: Path, zipped: bool) -> None:
    canary, path = tmp_path / "canary", tmp_path / "x.pth"
    torch.save(Harm(canary), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(SourceError, match=r"is a pickled object of posix\.mkdir without tensors; it was not built"):
        harvest(str(path))
    assert not canary.exists()


@pytest.mark.filterwarnings("ignore:.*quantize_per")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("scheme", ["tensor", "channel"])
@pytest.mark.parametrize("kind", ["qint8", "quint8", "qint32"])
def test_quantised_weights_are_those_of_dequantize(tmp_path: Path, scheme: str, kind: str, zipped: bool) -> None:
    weight, kind_of = torch.randn(8, 1, 5, 3, generator=torch.Generator().manual_seed(1)), getattr(torch, kind)
    if scheme == "tensor":
        saved = {"a.weight": torch.quantize_per_tensor(weight, 0.03, 3, kind_of)}
        saved["b.weight"] = saved["a.weight"].transpose(2, 3)
    else:
        scales, zeros = torch.rand(8).double() / 10 + 0.01, torch.arange(8)
        saved = {"a.weight": torch.quantize_per_channel(weight, scales, zeros, 0, kind_of)}
    torch.save(saved, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    bank = harvest(str(tmp_path / "x.pth"))
    assert len(bank.layers) == len(saved)
    for layer, found in bank.iter_layers():
        assert layer.dtype == kind
        np.testing.assert_array_equal(found, saved[layer.name].dequantize()[:, 0].numpy())


def test_a_lazy_minus_sign_is_heeded(tmp_path: Path) -> None:
    weight = torch.randn(4, 1, 3, 3)
    torch.save({"w.weight": torch._neg_view(weight), "v.weight": weight}, tmp_path / "x.pth")
    negated, plain = (weight for _, weight in harvest(str(tmp_path / "x.pth")).iter_layers())
    np.testing.assert_array_equal(negated, -plain)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_tensors_without_numbers_say_why(tmp_path: Path) -> None:
    sparse = torch.ones(6, 1, 3, 3).to_sparse_csr()
    meta = torch.empty(6, 1, 3, 3, device="meta")
    torch.save({"a.weight": sparse, "b.weight": meta, "c.weight": torch.randn(6, 1, 3, 3)}, tmp_path / "x.pth")
    bank = harvest(str(tmp_path / "x.pth"))
    assert [layer.name for layer in bank.layers] == ["c.weight"]
    assert bank.provenance.skipped == {"sparse float32 weight": 1, "meta float32 weight": 1}


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("legacy", [False, True])
def test_sparse_tensors_in_coordinates_are_read_as_to_dense_gives_them(tmp_path: Path, legacy: bool) -> None:
    dense, other, last = torch.randn(3, 6, 1, 3, 3).relu()
    index = torch.tensor([[0, 0, 5, 3], [0, 0, 0, 0], [1, 1, 2, 0], [2, 2, 0, 1]])
    twice = torch.sparse_coo_tensor(index, torch.tensor([1.0, 2.0, -4.0, 0.5]), (6, 1, 3, 3))  # two in one place
    tensors = {"a.weight": dense.to_sparse(), "b.weight": other.to_sparse(2), "c.weight": twice}
    tensors |= {
        "d.weight": (dense - other).half().to_sparse().coalesce(),
        "e.weight": torch.nn.Parameter(last.to_sparse()),
    }
    torch.save(tensors, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    file = open_torch(tmp_path / "x.pth")
    found = dict(file.read(list(tensors)))
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor.detach().to_dense().float().numpy())
    bank = harvest(str(tmp_path / "x.pth"), include="*.weight")
    assert {layer.name for layer in bank.layers} == set(tensors) and not bank.provenance.skipped


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_damaged_and_vast_sparse_tensors_are_refused(tmp_path: Path) -> None:
    index = torch.tensor([[0, 5], [0, 0], [1, 2], [2, 0]])
    values = torch.tensor([1.0, 2.0])
    with torch.sparse.check_sparse_tensor_invariants(False):
        far = torch.sparse_coo_tensor(index + 3, values, (6, 1, 3, 3))
    vast = torch.sparse_coo_tensor(index, values, (1 << 30, 1, 7, 7))
    for tensor, said in ((far, "beyond its shape"), (vast, "memory|budget|larger|more")):
        torch.save({"a.weight": tensor}, tmp_path / "x.pth")
        with pytest.raises(SourceError, match=said):
            list(open_torch(tmp_path / "x.pth").read(["a.weight"]))


@pytest.mark.parametrize("protocol", range(6))
def test_a_plain_pickle_of_arrays_or_tensors(tmp_path: Path, protocol: int) -> None:
    array = np.random.default_rng(0).standard_normal((6, 1, 3, 3))
    tensor = torch.randn(6, 1, 5, 5)
    content = {"model": {"a.weight": array, "b.weight": (2 * array).astype(">f4"), "c.weight": tensor}, "author": "x"}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    found = {layer.name: weight for layer, weight in harvest(str(tmp_path / "x.pkl")).iter_layers()}
    np.testing.assert_array_equal(found["model.a.weight"], array[:, 0].astype("f4"))
    np.testing.assert_array_equal(found["model.b.weight"], (2 * array[:, 0]).astype("f4"))
    np.testing.assert_array_equal(found["model.c.weight"], tensor[:, 0].numpy())


@pytest.mark.parametrize("protocol", range(1, 6))  # torch.load cannot read storages in protocol 0 either
@pytest.mark.parametrize("zipped", [True, False])
def test_every_pickle_protocol(tmp_path: Path, protocol: int, zipped: bool) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": Path("x"), "net": net()}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert len(harvest(str(path)).layers) == 11


class Depthwise(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3)
        self.zz = torch.nn.Conv2d(8, 16, 3, groups=8, stride=(2, 1), padding=1)
        self.fuse = torch.nn.ConvTranspose2d(16, 16, 3, groups=16)
        self.few = torch.nn.Conv2d(16, 16, 3, groups=4)
        self.aa = torch.nn.Conv2d(16, 16, (1, 5), groups=16, dilation=(1, 2), padding="same", bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.aa(self.few(self.fuse(self.zz(self.stem(x)))))


@pytest.mark.parametrize("how", ["trace", "script"])
def test_torchscript_is_read_without_being_run(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Depthwise().eval()
    path = tmp_path / "x.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(model, torch.zeros(1, 3, 16, 16)) if how == "trace" else torch.jit.script(model)
        scripted.save(path)
        monkeypatch.setattr(torch.jit, "load", None)
    bank = harvest(str(path))
    assert [(layer.name, layer.kh, layer.kw, layer.has_bias) for layer in bank.layers] == [
        ("zz.weight", 3, 3, True),
        ("aa.weight", 1, 5, False),
    ]
    found = [(layer.stride, layer.dilation, layer.multiplier) for layer in bank.layers]
    assert found == [((2, 1), (1, 1), 2), ((1, 1), (1, 2), 1)]
    assert bank.provenance.rule == "graph" and set(bank.provenance.skipped) == {Why.TRANSPOSED, Why.GROUPED}
    for layer, weight in bank.iter_layers():
        np.testing.assert_array_equal(weight, model.get_parameter(layer.name)[:, 0].detach().numpy())


def test_code_in_an_archive_that_unpacks_to_much_is_left_alone(tmp_path: Path) -> None:
    """Blank lines cost a pattern with nested repetitions gigabytes; a bomb is unpacked up to 16 MB."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Depthwise().eval()).save(tmp_path / "x.pt")
    for body in (b"\n" * 15_000_000, b"  x = torch.conv2d(" * 4_000_000):
        with zipfile.ZipFile(tmp_path / "x.pt") as old, zipfile.ZipFile(tmp_path / "y.pt", "w") as new:
            for info in old.infolist():
                data = old.read(info)
                text = b"class Conv2d(Module):\n" + body + data if info.filename.endswith("conv.py") else data
                kind = zipfile.ZIP_DEFLATED if info.filename.endswith(".py") else zipfile.ZIP_STORED
                new.writestr(info.filename, text, kind)
        tracemalloc.start()
        assert harvest(str(tmp_path / "y.pt")).provenance.rule in ("graph", "shape")
        assert tracemalloc.get_traced_memory()[1] < 200e6
        tracemalloc.stop()


def test_a_frozen_torchscript_module_says_why_it_does_not_work(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.freeze(torch.jit.script(Depthwise().eval())).save(tmp_path / "x.pt")
    with pytest.raises(SourceError, match=r"frozen TorchScript module: 3 depthwise weights .* torch\.jit\.freeze"):
        harvest(str(tmp_path / "x.pt"))


def saved(value: Any, *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, zipped: bool) -> None:
    whole = saved(net(), zipped=zipped)
    path = tmp_path / "x.pth"
    for size in {0, 1, 2, 3, 4, 30, 1000, len(whole) - 1, *np.linspace(5, len(whole) - 2, 60).astype(int)}:
        path.write_bytes(whole[:size])
        with pytest.raises(SourceError):
            harvest(str(path))


def rezip(path: Path, change: Callable[[str, bytes], bytes | None], **options: Any) -> None:
    """Write a copy of an archive in which `change(name, data)` gives each record's data, None to leave it out."""
    records = zipfile.ZipFile(io.BytesIO(saved(net())))
    with zipfile.ZipFile(path, "w", **options) as out:
        for info in records.infolist():
            data = change(info.filename, records.read(info))
            if data is not None:
                out.writestr(info.filename, data)


def test_an_archive_that_lies_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    rezip(path, lambda _, data: data)
    assert len(read_torch(path).layers) == 11
    rezip(path, lambda name, data: None if name.endswith("data/2") else data)
    with pytest.raises(SourceError, match="lacks the data record '2'"):
        harvest(str(path))
    rezip(path, lambda name, data: data[:-4] if name.endswith("data/2") else data)
    with pytest.raises(SourceError, match="284 of 288 bytes of the data record '2'"):
        harvest(str(path))
    rezip(path, lambda name, data: None if name.endswith("data.pkl") else data)
    with pytest.raises(SourceError, match="a zip file, but not PyTorch's"):
        harvest(str(path))
    rezip(path, lambda name, data: b"archive" if name.endswith("version") else data)
    assert len(read_torch(path).layers) == 11
    rezip(path, lambda _, data: data, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(SourceError, match="not PyTorch's"):
        harvest(str(path))


def test_a_tensor_beyond_its_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    rezip(path, lambda name, data: data.replace(b"K\x08K\x01K\x03K\x03t", b"K\x08K\x01K\x03K\x04t"))
    with pytest.raises(SourceError, match=r"claims the tensor '1\.0\.weight' beyond its data"):
        harvest(str(path))


def test_zip_bombs_are_refused_before_they_are_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    raw = saved({"a.weight": torch.randn(400, 1, 5, 5)})
    at = raw.rindex(b"PK\x01\x02", 0, raw.rindex(b"archive/data/0"))
    huge = bytearray(raw)
    struct.pack_into("<II", huge, at + 20, 0xF0000000, 0xF0000000)
    path.write_bytes(huge)
    with pytest.raises(SourceError, match="beyond its end"):
        harvest(str(path))
    directory = [m for m in range(len(raw) - 4) if raw[m : m + 4] == b"PK\x01\x02"]
    same = bytearray(raw)  # every record is the large one: together they are larger than the file
    start, size = struct.unpack_from("<I", raw, at + 42)[0], struct.unpack_from("<II", raw, at + 20)
    for place in directory:
        struct.pack_into("<II", same, place + 20, *size)
        struct.pack_into("<I", same, place + 42, start)
    path.write_bytes(same)
    with pytest.raises(SourceError, match=r"beyond its end|damaged"):
        harvest(str(path))


def test_overlapping_views_do_not_add_up_to_more_than_the_file(tmp_path: Path) -> None:
    base = torch.randn(9 * 5000)
    torch.save({f"{i}.weight": base[9 * i :][: 9 * 4000].view(4000, 1, 3, 3) for i in range(900)}, tmp_path / "x.pth")
    with pytest.raises(SourceError, match=r"would take more than .* of memory"):
        harvest(str(tmp_path / "x.pth"))


def test_containers_nested_too_deep_are_refused(tmp_path: Path) -> None:
    value: Any = {"weight": torch.ones(2, 1, 3, 3)}
    for _ in range(80):
        value = [value]
    torch.save(value, tmp_path / "x.pth")
    with pytest.raises(SourceError, match="nested too deep"):
        harvest(str(tmp_path / "x.pth"))


def test_shared_containers_do_not_multiply(tmp_path: Path) -> None:
    value: Any = {"weight": torch.ones(2, 1, 3, 3)}
    for _ in range(50):
        value = {"a": value, "b": value}
    torch.save(value, tmp_path / "x.pth")  # 2**50 paths
    assert len(open_torch(tmp_path / "x.pth").tensors) == 1


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (pickle.dumps({"weight": 1}), "is a pickle, but not PyTorch's"),
        (pickle.dumps({"weight": 1}, protocol=2), "is a pickle, but not PyTorch's"),
        (pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1002, protocol=2), "unknown PyTorch format"),
        (b"PK\x03\x04" + b"x" * 100, "zip directory"),
        (b"\x80\x02\x80\x02\x80", "damaged"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, data: bytes, problem: str) -> None:
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(SourceError, match=problem):
        harvest(str(tmp_path / "x.pth"))


def test_torch_itself_is_not_loaded(tmp_path: Path) -> None:
    import subprocess
    import sys

    torch.save(net(), tmp_path / "x.pth")
    path = str(tmp_path / "x.pth")
    code = f"import sys; from mkfa.readers.harvesting import harvest; harvest({path!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
