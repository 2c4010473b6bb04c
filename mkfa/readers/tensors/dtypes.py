"""Number types of checkpoints: sizes, and conversion of stored bytes to float32 (numpy only)."""

from __future__ import annotations

import functools
import math

import numpy as np

from mkfa.array_types import F32
from mkfa.errors import SourceError
from mkfa.readers.reading import TensorInfo

_FLOAT8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
_BY_BITS = {
    128: ("complex128",),
    64: ("float64", "int64", "uint64", "complex64"),
    32: ("float32", "int32", "uint32", "complex32", "qint32"),
    16: ("float16", "bfloat16", "int16", "uint16"),
    8: (*_FLOAT8, "int8", "uint8", "bool", "qint8", "quint8", "quint4x2", "quint2x4"),
    6: ("float6_e2m3", "float6_e3m2"),
    4: ("float4_e2m1",),
}
BITS = {name: bits for bits, names in _BY_BITS.items() for name in names}
"""Bits of one number, by torch's name of its type."""

QUANTISED = ("qint8", "quint8", "qint32")
"""Quantised types of PyTorch, whose tensors carry scale and zero point."""

_SHORT = {"float8_e4m3fn": (4, 7), "float8_e4m3fnuz": (4, 8), "float8_e5m2fnuz": (5, 16)}
"""8-bit types without infinities: bits of the exponent, and its bias."""

FLOATS = frozenset(["float64", "float32", "float16", "bfloat16", "float8_e5m2", *_SHORT, *QUANTISED])
"""Types that weights can be converted from."""

READABLE = FLOATS | {"bool", "int8", "uint8", "int32", "int64"}
"""Types that can be read: those of weights, of masks of pruned ones, and of whole numbers that have a scale."""

_NUMPY = {"float64": "f8", "float32": "f4", "float16": "f2", "qint8": "i1", "quint8": "u1", "qint32": "i4"}
_NUMPY |= {"int64": "i8", "int32": "i4", "int16": "i2", "int8": "i1", "uint8": "u1", "bool": "?"}


def check_float(thing: object, info: TensorInfo) -> None:
    """Refuse a tensor that cannot be converted to float32; raises SourceError."""
    if info.dtype not in READABLE:
        raise SourceError(thing, f"stores {info.key} as {info.dtype}", "save it as float32")


def stored_bytes(shape: tuple[int, ...], dtype: str) -> int:
    """Return the bytes of a packed tensor; raises ValueError if it does not fill whole bytes."""
    size, rest = divmod(math.prod(shape) * BITS[dtype], 8)
    if rest:
        raise ValueError("does not fill whole bytes")
    return size


def to_float32(data: bytes | bytearray | memoryview, dtype: str, *, big_endian: bool = False) -> F32:
    """Return stored numbers as a flat float32 array; `dtype` must be one of `FLOATS`, or whole numbers.

    Quantised types give their integers, without the scale. float64 beyond float32's range becomes infinite. bfloat16 is
    the upper half of a float32, float8_e5m2 that of a float16; the other 8-bit types go through a table of their 256
    values. Source: Micikevicius et al., FP8 formats for deep learning (arXiv 2209.05433), table 1; for "fnuz", Noune et
    al., 8-bit numerical formats for deep neural networks (arXiv 2206.02915).
    """
    end = ">" if big_endian else "<"
    if dtype in _NUMPY:
        with np.errstate(over="ignore"):
            return np.frombuffer(data, end + _NUMPY[dtype]).astype(np.float32)
    if dtype == "bfloat16":
        return (np.frombuffer(data, end + "u2").astype(np.uint32) << 16).view(np.float32)
    codes = np.frombuffer(data, np.uint8)
    if dtype == "float8_e5m2":
        return (codes.astype(np.uint16) << 8).view(np.float16).astype(np.float32)
    return _values(*_SHORT[dtype])[codes]


@functools.cache
def _values(exponent_bits: int, bias: int) -> F32:
    """Return the values of all codes. NaN is the largest magnitude, with a bias above the usual one minus zero."""
    code, bits = np.arange(256), 7 - exponent_bits
    exponent, mantissa = (code & 127) >> bits, (code & ((1 << bits) - 1)) / (1 << bits)
    value = np.where(exponent == 0, mantissa * 2.0 ** (1 - bias), (1 + mantissa) * 2.0 ** (exponent - bias))
    value = np.where(code < 128, value, -value)
    usual = bias == (1 << (exponent_bits - 1)) - 1
    value[(code & 127) == 127 if usual else code == 128] = np.nan
    return value.astype(np.float32)
