"""safetensors: bits as written by the reference library, and every way in which a header can lie."""

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkfa.errors import SourceError
from mkfa.readers.harvesting import harvest
from mkfa.readers.tensors.safetensors import MAX_HEADER, header_size, open_safetensors, parse_header, read_safetensors


def pack(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: object, first: int, last: int, dtype: object = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


GOOD = {"a.weight": entry([2, 1, 3, 3], 0, 72), "b.weight": entry([4], 72, 80, "BF16")}


def test_tensors_are_bit_equal_to_the_reference_library(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    torch.manual_seed(0)
    base = torch.randn(6, 1, 3, 5)
    types = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2]
    tensors = {f"layer.{i}.weight": base.to(dtype) for i, dtype in enumerate(types)}
    path = tmp_path / "x.safetensors"
    save_file({**tensors, "count": torch.arange(3).short(), "flag": torch.tensor([True])}, path, {"arch": "x"})
    file = open_safetensors(path)
    expected = load_file(path)
    assert {k: (i.shape, i.dtype) for k, i in file.tensors.items()} == {
        k: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for k, t in expected.items()
    }
    got = dict(file.read(sorted(tensors)))
    for key in tensors:
        np.testing.assert_array_equal(got[key], expected[key].float().numpy())
    assert file.header.metadata == {"arch": "x"}
    with pytest.raises(SourceError, match="stores count as int16"):
        list(file.read(["count"]))


def test_a_reading_records_types_and_the_digest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    half = rng.normal(size=(4, 1, 3, 3)).astype(np.float16)
    data = half.tobytes() + rng.normal(size=(2, 3, 1, 1)).astype(np.float32).tobytes()
    raw = pack({"z.weight": entry([4, 1, 3, 3], 0, 72, "F16"), "a.weight": entry([2, 3, 1, 1], 72, 96)}, data)
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw)
    reading = read_safetensors(path)
    assert reading.source_sha256 == hashlib.sha256(raw).hexdigest()
    assert [layer.dtype for layer in reading.layers] == ["float16"] and reading.rule == "shape"
    np.testing.assert_array_equal(reading.layers[0].weight, half[:, 0].astype(np.float32))


def bad_headers() -> dict[str, tuple[bytes, str]]:
    data = bytes(80)
    twice = b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}'
    return {
        "seven bytes": (b"1234567", "truncated"),
        "huge length": (pack(GOOD, data, MAX_HEADER + 1), "claims a header of 100,000,001 bytes"),
        "huger length": (pack(GOOD, data, (1 << 64) - 1), "claims a header"),
        "header cut": (pack(GOOD, b"", 10_000), "truncated"),
        "data cut": (pack(GOOD, data[:-1]), "truncated: 79 of 80 bytes of data"),
        "no data": (pack(GOOD), "truncated"),
        "trailing": (pack(GOOD, data + b"!"), "1 byte after its last tensor"),
        "not JSON": (pack(b"{abc}"), "not contain valid JSON"),
        "not UTF-8": (pack(b'{"\xff":1}'), "not contain valid JSON"),
        "deep": (pack(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "not contain valid JSON"),
        "long number": (pack(b'{"a":' + b"9" * 10_000 + b"}"), "not contain valid JSON"),
        "list": (pack([1]), "not an object"),
        "twice": (pack(twice, bytes(4)), "the name 'a' twice"),
        "metadata": (pack({"__metadata__": {"a": 1}}), "metadata that are not text"),
        "metadata list": (pack({"__metadata__": []}), "metadata that are not text"),
        "no dict": (pack({"a": 3}), "'a' incompletely"),
        "no offsets": (pack({"a": {"dtype": "F32", "shape": []}}), "'a' incompletely"),
        "type": (pack({"a": entry([1], 0, 4, "F31")}, bytes(4)), "unknown type 'F31'"),
        "type number": (pack({"a": entry([1], 0, 4, 32)}, bytes(4)), "unknown type"),
        "negative": (pack({"a": entry([-1], 0, 4)}, bytes(4)), "a malformed shape"),
        "fraction": (pack({"a": entry([1.0], 0, 4)}, bytes(4)), "a malformed shape"),
        "boolean": (pack({"a": entry([True], 0, 4)}, bytes(4)), "a malformed shape"),
        "no shape": (pack({"a": entry("11", 0, 4)}, bytes(4)), "a malformed shape"),
        "dimensions": (pack({"a": entry([1] * 65, 0, 4)}, bytes(4)), "a malformed shape"),
        "backwards": (pack({"a": entry([1], 4, 0)}, bytes(4)), "malformed offsets"),
        "three offsets": (pack({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}), "offsets"),
        "too large": (
            pack({"a": entry([1 << 62, 1 << 62], 0, 4)}, bytes(4)),
            "more numbers for 'a' than fit its 4 bytes",
        ),
        "too small": (pack({"a": entry([1], 0, 8)}, bytes(8)), "8 bytes for 'a'"),
        "half bytes": (pack({"a": entry([1], 0, 1, "F4")}, bytes(1)), "1 byte for 'a'"),
        "overlap": (pack({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)), "'b' overlaps"),
        "hole": (pack({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)), "'b' leaves a hole"),
        "late start": (pack({"a": entry([1], 4, 8)}, bytes(8)), "'a' leaves a hole"),
        "beyond": (pack({"a": entry([1 << 40], 0, 1 << 42)}, bytes(8)), "truncated"),
    }


@pytest.mark.parametrize("name", list(bad_headers()))
def test_a_header_that_lies_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    raw, problem = bad_headers()[name]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(raw)
    with pytest.raises(SourceError, match=problem) as error:
        harvest(str(path))
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_a_sound_header_passes() -> None:
    raw = pack(GOOD, bytes(80))
    header = parse_header(raw, len(raw), "x")
    assert header.size == header_size(raw, len(raw), "x") == len(raw) - 80
    assert header.spans == {"a.weight": (header.size, header.size + 72), "b.weight": (header.size + 72, len(raw))}
    assert parse_header(raw[: header.size], len(raw), "x") == header
    with pytest.raises(SourceError, match="truncated"):
        parse_header(raw[: header.size - 1], len(raw), "x")
    empty = pack({"a": entry([0, 3], 0, 0), "b": entry([2], 0, 8), "c": entry([7, 0], 8, 8)}, bytes(8))
    assert parse_header(empty, len(empty), "x").tensors["c"].nbytes == 0


@given(st.data())
def test_a_damaged_header_never_fails_in_another_way(data: st.DataObject) -> None:
    raw = bytearray(pack(GOOD, bytes(80)))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        header = parse_header(cut, len(cut), "x")
    except SourceError:
        return
    assert sum(info.nbytes for info in header.tensors.values()) + header.size == len(cut)


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(pack(GOOD, bytes(80)))
    file = open_safetensors(path)
    os.truncate(path, file.header.size + 20)
    with pytest.raises(SourceError, match=f"ends at byte {file.header.size + 20}"):
        list(file.read(["a.weight"]))
    path.unlink()
    with pytest.raises(SourceError, match="cannot be read"):
        list(file.read(["a.weight"]))


def test_a_disk_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(pack(GOOD, bytes(80)))

    def fail(*_args: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(SourceError, match="Input/output error"):
        open_safetensors(path)


def test_nothing_to_harvest_says_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(pack({"c.weight": entry([2, 2, 3, 3], 0, 144), "fc.weight": entry([2, 2], 144, 160)}, bytes(160)))
    with pytest.raises(SourceError, match="it has 2 tensors, of them 1 dense convolution and 1 matrix"):
        harvest(str(path))


def test_non_finite_weights_need_a_word(tmp_path: Path) -> None:
    weight = np.ones((2, 1, 3, 3), np.float32)
    weight[1, 0, 2, 2] = np.nan
    path = tmp_path / "x.safetensors"
    path.write_bytes(pack({"a.weight": entry([2, 1, 3, 3], 0, 72)}, weight.tobytes()))
    with pytest.raises(SourceError, match=r"NaN .* first a\.weight.*--allow-nonfinite"):
        harvest(str(path))
    assert len(harvest(str(path), allow_nonfinite=True)) == 2
