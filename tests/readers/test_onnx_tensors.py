"""Tensors of an ONNX model beside it, too large to parse, or sparse."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import ONE, RNG, C, F, W, conv, model, reader, stored, taps

from mkfa.errors import SourceError
from mkfa.readers.graphs import onnx_wire
from mkfa.readers.graphs.onnx import read_onnx
from mkfa.readers.reading import Reading


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Any], Reading]:
    return reader(tmp_path)


def external(name: str, shape: Sequence[int], **where: str) -> Any:
    tensor = TensorProto(name=name, data_type=F, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in where.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_external_data_in_the_folder_is_read_at_its_offset(read, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.bin").write_bytes(b"\0" * 12 + W.tobytes())
    (tmp_path / "link.bin").symlink_to("sub/w.bin")
    for place in ("sub/w.bin", "./sub/w.bin", "link.bin"):
        reading = read(model([conv("w")], [external("w", W.shape, location=place, offset="12", length="144")]))
        np.testing.assert_array_equal(reading.layers[0].weight, W[:, 0])
        assert any(place in note and "SHA-256" in note for note in reading.notes)


@pytest.mark.parametrize(
    "place",
    [
        "../w.bin",
        "sub/../../w.bin",
        "/etc/passwd",
        "",
        ".",
        "sub",
        "..\\w.bin",
        "C:\\w.bin",
        "w\0.bin",
        "gone.bin",
        "out.bin",
        "pipe",
        "a" * 5000,
        "loop",
    ],
)
def test_external_data_elsewhere_is_refused(tmp_path, place):
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "out.bin").symlink_to(tmp_path / "w.bin")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    path = folder / "m.onnx"
    path.write_bytes(model([conv("w")], [external("w", W.shape, location=place)]).SerializeToString())
    with pytest.raises(SourceError):
        read_onnx(path)


def test_external_data_is_refused_by_the_form_of_its_path_too(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    path = tmp_path / "m.onnx"
    for place in ("sub/../w.bin", str(tmp_path / "w.bin")):  # both lead to a file of the folder
        path.write_bytes(model([conv("w")], [external("w", W.shape, location=place)]).SerializeToString())
        with pytest.raises(SourceError, match="outside its folder"):
            read_onnx(path)


def cached(tmp_path, **files):
    """Return the snapshot folder of a repository in a hub cache: every file is a link into `blobs`."""
    repository = tmp_path / "hub" / "models--me--net"
    snapshot, blobs = repository / "snapshots" / ("a" * 40) / "onnx", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name, data in files.items():
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        (snapshot / name).symlink_to(f"../../../blobs/{digest}")
    return snapshot


EXTERNAL = model([conv("w")], [external("w", W.shape, location="w.bin")]).SerializeToString()


def test_external_data_in_a_hub_cache_are_links_into_its_blobs(tmp_path):
    snapshot = cached(tmp_path, **{"model.onnx": EXTERNAL, "w.bin": W.tobytes()})
    (tmp_path / "linked").symlink_to(tmp_path / "hub")  # a cache on another disk
    for top in (tmp_path, tmp_path / "linked" / ".."):
        (layer,) = read_onnx(top / snapshot.relative_to(tmp_path) / "model.onnx").layers
        np.testing.assert_array_equal(layer.weight, W[:, 0])
    model_file = snapshot / "model.onnx"
    model_file.unlink()
    model_file.write_bytes(EXTERNAL)  # changed by hand: only the weights are a link
    assert len(read_onnx(model_file).layers) == 1


@pytest.mark.parametrize("place", ["another repository", "the cache's token", "elsewhere"])
def test_links_of_a_hub_cache_that_leave_the_repository_are_refused(tmp_path, place):
    snapshot = cached(tmp_path, **{"model.onnx": EXTERNAL})
    other = {"another repository": "hub/models--me--other/blobs/x", "the cache's token": "hub/token"}.get(
        place, "w.bin"
    )
    (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / other).write_bytes(W.tobytes())
    (snapshot / "w.bin").symlink_to(tmp_path / other)
    with pytest.raises(SourceError, match="behind a link that leaves its folder"):
        read_onnx(snapshot / "model.onnx")


def test_blobs_that_are_a_link_do_not_open_another_folder(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "w").write_bytes(W.tobytes())
    folder = tmp_path / "net" / "snapshots" / "x"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(EXTERNAL)
    (folder.parent.parent / "blobs").symlink_to(tmp_path / "secret")
    (folder / "w.bin").symlink_to("../../blobs/w")
    with pytest.raises(SourceError, match="behind a link that leaves its folder"):
        read_onnx(folder / "model.onnx")


def test_external_data_beside_the_file_that_a_link_leads_to_are_read(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "model.onnx").write_bytes(EXTERNAL)
    (tmp_path / "data" / "w.bin").write_bytes(W.tobytes())
    (tmp_path / "mine.onnx").symlink_to("data/model.onnx")
    assert len(read_onnx(tmp_path / "mine.onnx").layers) == 1
    (tmp_path / "w.bin").symlink_to("data/w.bin")
    assert len(read_onnx(tmp_path / "mine.onnx").layers) == 1
    (tmp_path / "w.bin").unlink()
    (tmp_path / "elsewhere.bin").write_bytes(W.tobytes())
    (tmp_path / "data" / "w.bin").unlink()
    (tmp_path / "data" / "w.bin").symlink_to("../elsewhere.bin")
    assert len(read_onnx(tmp_path / "mine.onnx").layers) == 1  # in the link's own folder
    with pytest.raises(SourceError, match="leaves its folder"):
        read_onnx(tmp_path / "data" / "model.onnx")


@pytest.mark.parametrize(
    "where",
    [
        {"offset": "1"},
        {"offset": "-4"},
        {"length": "143"},
        {"length": "9" * 30},
        {"offset": "9" * 18},
        {"offset": "one"},
    ],
)
def test_external_sizes_are_checked(read, tmp_path, where):
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    with pytest.raises(SourceError):
        read(model([conv("w")], [external("w", W.shape, location="w.bin", **where)]))


def test_large_tensors_are_taken_out_before_the_rest_is_parsed(read, monkeypatch):
    large, small = RNG.standard_normal((256, 256, 1, 1)).astype(np.float32), taps()
    deep = RNG.standard_normal((512, 1, 7, 7)).astype(np.float32)
    half = deep.astype(np.float16)
    nodes = [
        conv("large", y="a", group=1),
        conv("small", y="b"),
        conv("deep", y="c", group=512),
        helper.make_node("Cast", ["half"], ["h"], to=F),
        conv("h", y="d", group=256),
    ]
    tensors = [stored(n, a) for n, a in (("large", large), ("deep", deep), ("small", small))]
    tensors.append(helper.make_tensor("half", TensorProto.FLOAT16, half.shape, half.tobytes(), raw=True))
    data = model(nodes, tensors).SerializeToString()
    trimmed = onnx_wire.trim(data)
    assert set(trimmed.spans) == {"large", "deep"}
    assert len(trimmed.message()) < len(data) - large.nbytes - deep.nbytes + 16
    for kept in (1 << 16, 1 << 30, 8):
        monkeypatch.setattr(onnx_wire, "KEPT", kept)
        first, second, third = read(data).layers
        np.testing.assert_array_equal(first.weight, small[:, 0])
        np.testing.assert_array_equal(second.weight, deep[:, 0])
        np.testing.assert_array_equal(third.weight, half[:, 0].astype(np.float32))
        assert third.multiplier == 2


def test_sparse_tensors_that_claim_much_are_not_allocated(read):
    for dims, at in (([C, 1, 1 << 20, 1 << 20], 0), ([C, 1, 3, 3], 36), ([C, 1, 3, 3], -1)):
        sparse = helper.make_sparse_tensor(stored("w", ONE), stored("", np.array([at])), [C, 1, 3, 3])
        sparse.ClearField("dims")
        sparse.dims.extend(dims)
        with pytest.raises(SourceError, match="sparse"):
            read(model([conv("w")], sparse=[sparse]))
