"""Stored bytes to float32, against torch."""

import numpy as np
import pytest

from mkfa.readers.tensors.dtypes import BITS, FLOATS, stored_bytes, to_float32


@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]
)
def test_every_code_of_a_short_type_is_as_in_torch(dtype: str) -> None:
    import torch

    bits = BITS[dtype]
    codes = np.arange(1 << bits, dtype=np.uint8 if bits == 8 else np.uint16)
    expected = torch.from_numpy(codes).view(getattr(torch, dtype)).float().numpy()
    np.testing.assert_array_equal(to_float32(codes.tobytes(), dtype), expected)


def test_doubles_are_rounded_and_overflow_to_infinity() -> None:
    values = np.array([1 / 3, -1e300, 1e-300, np.nan])
    got = to_float32(values.tobytes(), "float64")
    np.testing.assert_array_equal(got, np.array([np.float32(1 / 3), -np.inf, 0, np.nan], np.float32))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_big_endian_numbers(dtype: str) -> None:
    little = np.random.default_rng(0).normal(size=50).astype(np.float16)
    raw = {"float64": little.astype("f8"), "float32": little.astype("f4"), "float16": little}.get(dtype)
    data = (little.astype("f4").view("u4") >> 16).astype("u2") if raw is None else raw
    swapped = data.byteswap().tobytes()
    np.testing.assert_array_equal(to_float32(swapped, dtype, big_endian=True), to_float32(data.tobytes(), dtype))


def test_the_result_is_an_own_writable_array() -> None:
    data = np.ones(4, np.float32).tobytes()
    to_float32(data, "float32")[0] = 7
    assert data == np.ones(4, np.float32).tobytes()


def test_bytes_of_packed_tensors() -> None:
    assert stored_bytes((3, 5), "bfloat16") == 30
    assert stored_bytes((2, 4), "float4_e2m1") == 4
    assert stored_bytes((), "float64") == 8
    with pytest.raises(ValueError, match="whole bytes"):
        stored_bytes((3,), "float4_e2m1")
    assert BITS.keys() > FLOATS
