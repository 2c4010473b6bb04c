"""Pickles of shared parts: a few bytes name one list, key, text or tensor again and again.

Each builder takes a number that scales the file and returns name -> bytes, as those in `hostile_files`.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable

Files = dict[str, bytes]

STORAGE = b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" + b"0X\3\0\0\0cpuM\x90\0tQ"
"""A persistent id: 144 numbers of record 0."""


def zipped(content: bytes) -> Files:
    """Return a PyTorch archive with this pickle and 144 numbers."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/data.pkl", content)
        archive.writestr("m/data/0", struct.pack("<144f", *(i % 7 - 3.0 for i in range(144))))
    return {"m.pth": buffer.getvalue()}


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def tensor(shape: bytes = b"(K\4K\1K\3K\3t", stride: bytes = b"(K\x09K\x09K\3K\1t") -> bytes:
    """Return what rebuilds a tensor of four filters."""
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE[1:] + b"K\0" + shape + stride + b"\x89NtR"


def call(name: str, args: bytes) -> bytes:
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n".encode() + args + b"R"


def list_copied_by_calls(n: int) -> Files:
    """A list in the memo, copied by `set` again and again."""
    copies = b"h\2h\1\x85R" * (100 * n)
    return zipped(b"\x80\2(" + b"K\1" * (50 * n) + b"lq\1cbuiltins\nset\nq\2" + b"(" + copies + b"l.")


def list_copied_by_items(n: int) -> Files:
    """A list in the memo that becomes the items of dictionaries."""
    pairs = b"]q\1(" + b"K\1K\2\x86" * (20 * n) + b"e0"
    copies = b"ccollections\nOrderedDict\nq\2(" + b"h\2h\1\x85R" * (50 * n) + b"l."
    return zipped(b"\x80\2" + pairs + copies)


def text_encoded_again(n: int) -> Files:
    one = text("x" * 1000 * n) + b"q\1" + text("latin1") + b"q\2" + b"c_codecs\nencode\nq\3"
    return zipped(b"\x80\2" + one + b"(" + b"h\3h\1h\2\x86R" * (50 * n) + b"l.")


def one_key_joined_again(n: int) -> Files:
    """One key of megabytes above thousands of tensors."""
    inner = b"}q\1(" + b"".join(text(f"{i}.weight") + tensor() for i in range(10 * n)) + b"u"
    return zipped(b"\x80\2}(" + text("k" * 3000 * n) + inner + b"u.")


def deep_tuple_keys(n: int) -> Files:
    """Keys that are tuples in tuples, doubled: each has 2 ** depth entries."""
    key = b"K\1q\1" + b"h\1h\1\x86q\1" * min(20 * n, 2000)
    return zipped(b"\x80\2}q\2" + key + b"0" + b"h\2h\1K\1s0" * (100 * n) + b"h\2.")


def keys_of_one_hash(n: int) -> Files:
    """Whole numbers that all hash to zero, as keys of a dictionary and of tuples."""
    prime = (1 << 61) - 1
    entries = b"".join(pickle.dumps(prime * (i + 1), 2)[2:-1] + b"K\1" for i in range(500 * n))
    return zipped(b"\x80\2}(" + entries + b"u.")


def places_of_one_hash(n: int) -> Files:
    prime = (1 << 61) - 1
    return zipped(b"\x80\2K\1" + b"".join(b"p%d\n" % (prime * (i + 1)) for i in range(300 * n)) + b".")


def one_dictionary_of_many_objects(n: int) -> Files:
    """Objects that share one dictionary of attributes."""
    shared = b"}q\1(" + b"".join(text(str(i)) + b"K\1" for i in range(50 * n)) + b"u0"
    return zipped(b"\x80\2" + shared + b"cx\nY\nq\2(" + b"h\2)Rh\1b" * (100 * n) + b"l.")


def one_list_of_many_modules(n: int) -> Files:
    """Modules that share one dictionary of parameters."""
    shared = b"}q\1(" + b"".join(text(str(i)) + b"K\1" for i in range(50 * n)) + b"u0"
    state = text("_parameters") + b"q\2" + text("_modules") + b"q\3" + b"00"
    one = b"h\4)R}(h\2h\1h\3h\1ub"
    return zipped(b"\x80\2" + shared + state + b"cx\nY\nq\4(" + one * (50 * n) + b"l.")


def one_tuple_of_arguments(n: int) -> Files:
    """Calls with one tuple of many arguments, and objects of one long name."""
    args = b"(" + b"K\1" * (50 * n) + b"tq\1" + b"0"
    return zipped(
        b"\x80\2" + args + text("y" * 900) + b"q\2" + b"0" + b"ctorch._utils\n_rebuild_parameter\nq\3("
        b"" + b"h\3h\1R" * (50 * n) + b"h\2h\2\x93" * (50 * n) + b"l."
    )


def empty_collections(n: int) -> Files:
    """One byte for each dictionary, note and nothing."""
    return zipped(b"\x80\4(" + b"}" * (5000 * n) + b"\x94" * (5000 * n) + b"](" * (2000 * n) + b".")


def many_instructions(n: int) -> Files:
    return zipped(b"\x80\2}" + b"N0" * (10_000 * n) + b".")


def wide_strides(n: int) -> Files:
    """Tensors of 36 numbers, each from all over one storage."""
    size = 20_000 * n
    buffer = io.BytesIO()
    step = struct.pack("<I", size // 4)
    storage = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuJ" + struct.pack("<i", size) + b"tQ"
    parts = b"".join(
        text(f"b{i}.weight")
        + b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + b"K"
        + bytes([i % 200])
        + b"(K\4K\1K\3K\3t(J"
        + step
        + b"K\x09K\3K\1t\x89NtR"
        for i in range(20 * n)
    )
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\2}(" + parts + b"u.")
        archive.writestr("m/data/0", bytes(range(64, 128)) * (4 * size // 64 + 16))
    return {"m.pth": buffer.getvalue()}


def written_list_copied_by_calls(n: int) -> Files:
    """The same as text, in the instructions of protocol 0."""
    head = b"(" + b"I1\n" * (50 * n) + b"lp1\n0cbuiltins\nset\np2\n0"
    return zipped(head + b"(" + b"g2\n(g1\ntR" * (100 * n) + b"l.")


def written_ids(n: int) -> Files:
    """Long persistent ids as protocol 0 writes them, and tensors that share what one of them names."""
    storage = b"P('storage', <class 'torch.FloatStorage'>, '0', 'cpu', 144)\np1\n0"
    module = b"P('module', <class 'x.Y'>, '" + b"\\n" * (100 * n) + b"')\n0"
    one = b"g2\n(g1\nI0\n(I4\nI1\nI3\nI3\nt(I9\nI9\nI3\nI1\ntI00\nNtR"
    tensors = b"".join(b"Vb%d.weight\n" % i + one for i in range(50 * n))
    return zipped(storage + b"ctorch._utils\n_rebuild_tensor_v2\np2\n0" + module * (20 * n) + b"(" + tensors + b"d.")


PICKLES: tuple[Callable[[int], Files], ...] = (
    list_copied_by_calls,
    written_list_copied_by_calls,
    written_ids,
    list_copied_by_items,
    text_encoded_again,
    one_key_joined_again,
    deep_tuple_keys,
    keys_of_one_hash,
    places_of_one_hash,
    one_dictionary_of_many_objects,
    one_list_of_many_modules,
    one_tuple_of_arguments,
    empty_collections,
    many_instructions,
    wide_strides,
)
