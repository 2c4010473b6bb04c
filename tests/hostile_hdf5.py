"""HDF5 files that claim much: chunks that nobody wrote, texts that share one place, tables of gigabytes.

Each builder takes a number that scales the file and returns name -> bytes, as those in `hostile_files`. Files called
`bank.h5` are banks, `domain.h5` packed domains, the others Keras files.
"""

from __future__ import annotations

import functools
import io
import json
import re
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Files = dict[str, bytes]
LAYERS = "layers/depthwise_conv2d"


def hdf5_file(name: str, fill: Callable[[Any], None], **options: Any) -> Files:
    import h5py

    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as f:
        fill(f)
    return {name: buffer.getvalue()}


def unwritten_chunks(n: int) -> Files:
    """Layers that claim 10 MB * n each, in chunks of which none is there."""

    def fill(f: Any) -> None:
        for i in range(40):
            f.create_dataset(f"{LAYERS}_{i}/vars/0", (3, 3, 300_000 * n, 1), "f4", chunks=(3, 3, 3000, 1))

    return hdf5_file("m.weights.h5", fill)


def chunks_of_one_number(n: int) -> Files:
    def fill(f: Any) -> None:
        f.create_dataset(f"{LAYERS}/vars/0", (3, 3, 5_000 * n, 1), "f4", chunks=(1, 1, 1, 1))

    return hdf5_file("m.weights.h5", fill)


def packed_zeros(n: int) -> Files:
    """Layers of zeros that gzip packs to a thousandth, and one dataset under many names."""

    def fill(f: Any) -> None:
        zeros = np.zeros((3, 3, 10_000 * n, 1), "f4")
        first = f.create_dataset(f"{LAYERS}/vars/0", data=zeros, compression="gzip", chunks=(3, 3, 10_000, 1))
        for i in range(1, 200):
            f.create_group(f"{LAYERS}_{i}/vars")["0"] = first

    return hdf5_file("m.weights.h5", fill)


def packed_archive(n: int) -> Files:
    """A .keras archive whose configuration unpacks to a thousand times its size."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", '{"class_name": "A", "config": {"layers": [' + "{}," * (100_000 * n) + "{}]}}")
        archive.writestr("model.weights.h5", hdf5_file("x", lambda f: f.create_group("layers"))["x"])
    return {"m.keras": buffer.getvalue()}


def sharing(data: bytes, count: int, size: int) -> bytes:
    """Return the file with all texts of a list, "x" and empty ones, made the one text of "y" that it has.

    A text is stored as its length, the address of a heap ("GCOL") and its number in the heap.
    """
    out = bytearray(data)
    one = out.index(b"y" * min(size, 1000))
    heap = out.rindex(b"GCOL", 0, one)
    index = int.from_bytes(out[one - 16 : one - 14], "little")
    pointer = size.to_bytes(4, "little") + heap.to_bytes(8, "little") + index.to_bytes(4, "little")
    heaps = [found.start().to_bytes(8, "little") for found in re.finditer(b"GCOL", data)]
    begin = max(data.find(b"\1\0\0\0" + address) for address in heaps)
    out[begin : begin + 16 * count] = pointer * count
    return bytes(out)


def texts(at: Any, key: str, size: int) -> None:
    """Write a list of 3,901 texts, and one of `size` letters."""
    import h5py

    at.attrs.create(key, np.array(["x"] + [""] * 3900, object), dtype=h5py.string_dtype())
    at.attrs.create("one", "y" * size, dtype=h5py.string_dtype())


def names_that_share_a_text(n: int) -> Files:
    """A list of layers in which every name is the same text of 100 KB * n."""
    files = hdf5_file("m.h5", lambda f: texts(f, "layer_names", 100_000 * n))
    return {"m.h5": sharing(files["m.h5"], 3901, 100_000 * n)}


def endless_heap(n: int) -> Files:
    """Texts in a heap with an object of no size, from which HDF5 goes to itself for ever, behind n MB of weights."""

    def fill(f: Any) -> None:
        f["weights"] = np.zeros((n << 18, 1), np.float32)
        f.attrs["layer_names"] = ["a"]
        f.attrs["model_config"] = "{}"

    out = bytearray(hdf5_file("m.h5", fill)["m.h5"])
    heap = out.rindex(b"GCOL")
    at = heap + 16
    while number := int.from_bytes(out[at : at + 2], "little"):
        at += 16 + -(-int.from_bytes(out[at + 8 : at + 16], "little") // 8) * 8
    assert number == 0
    out[at + 8 : at + 16] = bytes(8)
    return {"m.h5": bytes(out)}


def one_wide_name(n: int) -> Files:
    """Lists of layers of which one name, of 60 bytes * n, sets the width of all."""
    wide = 60 * min(n, 500)

    def fill(f: Any) -> None:
        for i in range(min(n, 60)):
            f.attrs[f"layer_names{i}"] = np.array([b"x" * wide] + [b"a"] * (60_000 // wide - 1))

    return hdf5_file("m.h5", fill)


def names_without_end(n: int) -> Files:
    """Lists of layers and of weights that name the same group and dataset again and again."""

    def fill(f: Any) -> None:
        for i in range(n):
            f.attrs[f"layer_names{i}"] = np.array([b"a"] * 6000)
        f.create_group("a").attrs["weight_names"] = np.array([b"k"] * 6000)
        f["a/k"] = np.ones((3, 3, 4, 1), "f4")

    return hdf5_file("m.h5", fill)


def many_groups(n: int) -> Files:
    def fill(f: Any) -> None:
        for i in range(100 * n):
            f[f"layers/l{i}/vars/0"] = np.float32(i)

    return hdf5_file("m.weights.h5", fill)


def groups_of_one_layer(n: int) -> Files:
    """Models whose layers are one group, and a configuration with many members for each."""
    parts = [{"class_name": f"Layer{i}", "config": {}} for i in range(50 * n)]
    nested = [{"class_name": "Model", "config": {"name": f"m{i}", "layers": parts}} for i in range(3)]
    config = {"class_name": "Model", "config": {"layers": nested}}

    def fill(f: Any) -> None:
        shared = f.create_group("shared/layers")
        for i in range(50 * n):
            f.create_group(f"layers/model_{i}" if i else "layers/model")["layers"] = shared

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", hdf5_file("x", fill)["x"])
    return {"m.keras": buffer.getvalue()}


def many_names_of_layers(n: int) -> Files:
    """A configuration of many layers, each of which is looked for by its name."""
    parts = [{"class_name": "DepthwiseConv2D", "config": {"name": f"l{i}"}} for i in range(60 * n)]

    def fill(f: Any) -> None:
        f.attrs["model_config"] = json.dumps({"class_name": "Model", "config": {"layers": parts}})
        names = [f"l{i}" for i in range(60 * n)]
        for i in range(0, len(names), 5000):
            f.attrs[f"layer_names{i // 5000}"] = np.array([name.encode() for name in names[i : i + 5000]])
        group = f.create_group("one")
        for name in names:
            f[name] = group

    return hdf5_file("m.h5", fill)


def many_attributes(n: int) -> Files:
    def fill(f: Any) -> None:
        group = f.create_group("layers/l/vars", track_order=True)
        for i in range(min(50 * n, 60_000)):
            group.attrs[f"a{i}"] = 1
        for i in range(50 * n):
            f.create_group(f"layers/l{i}")["vars"] = group

    return hdf5_file("m.weights.h5", fill, libver="latest")


def bank_file() -> bytes:
    return (Path(__file__).parent / "old_files" / "bank.h5").read_bytes()


def changed_bank(change: Callable[[Any], None]) -> Files:
    import h5py

    buffer = io.BytesIO(bank_file())
    with h5py.File(buffer, "r+") as f:
        change(f)
    return {"bank.h5": buffer.getvalue()}


def keras_shards_that_share(n: int) -> Files:
    """An index that lists each file for many groups, and files of many groups whose names share a text."""

    def fill(f: Any) -> None:
        for i in range(20 * n):
            f.create_dataset(f"{LAYERS}_{i}/vars/0", data=np.ones((3, 3, 1, 1), "f4"))

    (image,) = hdf5_file("x", fill).values()
    names = [f"m_{i:05d}.weights.h5" for i in range(min(5 * n, 30))]
    places = {f"/{LAYERS}_{i}/vars": names for i in range(20 * n)}
    index = json.dumps({"weight_map": places}).encode()
    return {"m.weights.json": index, **dict.fromkeys(names, image)}


def bank_of_unwritten_chunks(n: int) -> Files:
    def change(f: Any) -> None:
        f.create_dataset("analysis/a/x", (10_000_000 * n,), "f4", chunks=(1_000_000,), compression="gzip")

    return changed_bank(change)


def bank_with_a_wide_table(n: int) -> Files:
    """A table of layers with rows of 2 GB, unwritten."""

    def change(f: Any) -> None:
        kind = np.dtype([("name", f"S{20_000_000 * min(n, 100)}"), ("index", "<i4")])
        del f["layers"]
        f.create_dataset("layers", (1,), kind, chunks=(1,))

    return changed_bank(change)


def bank_of_many_objects(n: int) -> Files:
    def change(f: Any) -> None:
        for i in range(100 * n):
            f[f"analysis/a/x{i}"] = np.float32(i)

    return changed_bank(change)


def bank_with_texts_that_share(n: int) -> Files:
    """A result whose parameters are a list of names, each the same text."""
    made = changed_bank(lambda f: texts(f.require_group("analysis").create_group("a"), "parameters", 50_000 * n))
    return {"bank.h5": sharing(made["bank.h5"], 3901, 50_000 * n)}


@functools.cache
def domain_file() -> bytes:
    """A packed domain of 24 images."""
    from mkfa.images.domain_file import make_domain, write_domain

    x, y = np.zeros((24, 16, 16, 3), np.uint8), np.arange(24) % 3
    domain = make_domain("d", ("a", "b", "c"), train=(x, y), test=(x[:9], y[:9]))
    with tempfile.TemporaryDirectory() as folder:
        return write_domain(domain, Path(folder) / "d.h5", facts={"source": "made"}).read_bytes()


def packed_images(shape: tuple[int, ...], **options: Any) -> Files:
    """A packed domain with other training images, none of which is written unless `data` is among the options."""
    import h5py

    buffer = io.BytesIO(domain_file())
    with h5py.File(buffer, "r+") as f:
        del f["x_train"], f["y_train"]
        f.create_dataset("x_train", shape, "u1", **{"compression": "gzip", **options})
        f["y_train"] = np.zeros(shape[0], "u1")
    return {"domain.h5": buffer.getvalue()}


def images_of_unwritten_pieces(n: int) -> Files:
    return packed_images((20_000 * n, 16, 16, 3), chunks=(1024, 16, 16, 3))


def images_of_one_piece(n: int) -> Files:
    """Zeros that gzip packs to a thousandth, in one piece, which is unpacked whole for the first image."""
    zeros = np.zeros((2000 * min(n, 500), 32, 32, 3), "u1")
    return packed_images(zeros.shape, chunks=zeros.shape, data=zeros)


def images_of_many_pieces(n: int) -> Files:
    noise = np.arange(1000 * min(n, 200), dtype="u1").reshape(-1, 1, 1, 1)
    return packed_images(noise.shape, chunks=(1, 1, 1, 1), data=noise)


def images_of_parts(n: int) -> Files:
    """Images whose channels are pieces of their own, unwritten and not compressed."""
    return packed_images((20_000 * n, 16, 16, 3), chunks=(1024, 16, 16, 1), compression=None)


HDF5: tuple[Callable[[int], Files], ...] = (
    unwritten_chunks,
    chunks_of_one_number,
    packed_zeros,
    packed_archive,
    names_that_share_a_text,
    endless_heap,
    one_wide_name,
    names_without_end,
    many_groups,
    groups_of_one_layer,
    many_names_of_layers,
    many_attributes,
    keras_shards_that_share,
    bank_of_unwritten_chunks,
    bank_with_a_wide_table,
    bank_of_many_objects,
    bank_with_texts_that_share,
    images_of_unwritten_pieces,
    images_of_one_piece,
    images_of_many_pieces,
    images_of_parts,
)
