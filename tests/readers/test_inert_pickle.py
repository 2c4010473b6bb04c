"""The pickle interpreter: what it builds, what it refuses, and that nothing is ever run."""

import contextlib
import io
import os
import pickle
import pickletools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mkfa.readers.tensors.inert_pickle import (
    DamagedPickleError,
    Inert,
    Interpreter,
    RefusedPickleError,
    StorageRef,
    TensorRef,
)


def load(data: bytes, *, script: bool = False) -> Any:
    return Interpreter(io.BytesIO(data), len(data), script=script).load()


def call(module: str, name: str, *args: bytes) -> bytes:
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(args) + b"tR"


STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x09tQ"
TENSOR = call("torch._utils", "_rebuild_tensor_v2", STORAGE, b"K\0", b"K\3K\3\x86", b"K\3K\1\x86", b"\x89", b"N")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text(max_size=5), inner, max_size=4)
            | st.tuples(inner, inner)
        ),
        max_leaves=20,
    )
)
def test_plain_values_are_as_python_reads_them(value: Any) -> None:
    assert load(pickle.dumps(value, protocol=2)) == value


def test_bytes_sets_and_ordered_dictionaries() -> None:
    from collections import Counter, OrderedDict

    assert load(pickle.dumps(b"\x00\xffa", protocol=2)) == b"\x00\xffa"
    assert load(pickle.dumps(bytearray(b"ab"), protocol=2)) == b"ab"
    assert sorted(load(pickle.dumps({1, 2}, protocol=2))) == [1, 2]
    assert load(pickle.dumps(OrderedDict(b=1, a=2), protocol=2)) == {"b": 1, "a": 2}
    assert load(pickle.dumps(Counter("aab"), protocol=2)) == {"a": 2, "b": 1}


def test_a_tensor_is_a_reference() -> None:
    assert load(TENSOR + b".") == TensorRef(StorageRef("0", "float32", 9), 0, (3, 3), (3, 1), "float32")
    parameter = call("torch._utils", "_rebuild_parameter", TENSOR, b"\x88", b"N")
    assert load(parameter + b".") == load(TENSOR + b".")


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("script", [False, True])
def test_nothing_of_a_harmful_pickle_runs(tmp_path: Path, protocol: int, script: bool) -> None:
    canary = tmp_path / "canary"
    data = pickle.dumps({"weight": Harm(canary)}, protocol=protocol)
    with pytest.raises((RefusedPickleError, DamagedPickleError)):
        load(data, script=script)
    assert not canary.exists()
    pickle.loads(data)  # the canary sings when it can
    assert canary.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "exec"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("torch.serialization", "load"),
        ("collections", "namedtuple"),
        ("torch.storage", "_load_from_bytes"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("__torch__", "Net"),
        ("torch", "FloatStorage.__init__"),
        ("torch.jit._pickle", "build_intlist"),
        ("argparse", "ArgumentParser"),
        ("numpy.core.multiarray", "scalar"),
        ("mkfa.readers.tensors.inert_pickle", "_call"),
        ("functools", "partial"),
    ],
)
def test_only_listed_names_pass(module: str, name: str) -> None:
    with pytest.raises(RefusedPickleError) as error:
        load(b"\x80\x02}" + f"c{module}\n{name}\n".encode() + b")R.")
    assert error.value.name.endswith(name) and not error.value.whole


def test_a_pickle_that_is_one_object_is_told() -> None:
    with pytest.raises(RefusedPickleError) as error:
        load(b"\x80\x02cmy.net\nNet\n)\x81}b.")
    assert error.value.whole and error.value.name == "my.net.Net"


def test_torchscript_objects_are_inert() -> None:
    numbers = call("torch.jit._pickle", "build_intlist", b"]K\1a")
    data = b"\x80\x02c__torch__\nNet\n)\x81}X\x01\0\0\0a" + numbers + b"sb."
    made = load(data, script=True)
    assert isinstance(made, Inert) and made.name == "__torch__.Net" and made.state == {"a": [1]}
    assert load(b"\x80\x02c__torch__\nNet\n)\x81(K\1K\2tb.", script=True).state == (1, 2)


def test_a_name_is_no_function() -> None:
    for name in (b"ctorch\nFloatStorage\n)R", b"ctorch\nfloat32\n)R", b"ctorch\nTensor\n)\x81", b"K\1)R", b"K\1)\x81"):
        data = name + b"."
        with pytest.raises(DamagedPickleError):
            load(b"\x80\x02" + data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02K",
        b"}K\1",
        b"X\xff\xff\xff\xffabc.",
        b"X\1\0\0\0\xff.",
        b"h\5.",
        b"a.",
        b"t.",
        b"\x86.",
        b"K\1\x86.",
        b"K\1K\2a.",
        b"K\1K\2K\3s.",
        b"}(K\1u.",
        b"}]]s.",
        b"}K\1\x85\x85Ns.",
        b"K\1Q.",
        b"(X\6\0\0\0moduleK\1K\2K\3K\4tQ.",
        b"K\1}b.",
        b"cos",
        b"c" + b"a" * 5000 + b"\nb\n.",
        b"\x8c\1a.",
        b"I1\n.",
        b"(lp0\n.",
        b"\x94.",
        call("_codecs", "encode", b"X\1\0\0\0a", b"X\5\0\0\0bz2\0\0") + b".",
        call("builtins", "bytearray", b"J\xff\xff\xff\x7f") + b".",
        call("builtins", "set", b"K\5") + b".",
        call("torch", "Size", b"J\xff\xff\xff\xff\x85") + b".",
        call("collections", "OrderedDict", b"]]K\1K\2\x86aa") + b".",
        call("torch._utils", "_rebuild_tensor_v2", b"K\1", b"K\0", b")", b")") + b".",
        call("torch._utils", "_rebuild_tensor_v2", STORAGE, b"K\0", b"K\1\x85", b")") + b".",
        call("torch._utils", "_rebuild_tensor_v2", STORAGE, b"J\xff\xff\xff\xff", b")", b")") + b".",
        call("torch._utils", "_rebuild_tensor_v2", STORAGE) + b".",
        call("torch._utils", "_rebuild_tensor_v3", STORAGE, b"K\0", b")", b")", b"\x89", b"N", b"K\1") + b".",
        call("torch._tensor", "_rebuild_from_type_v2", b"ctorch._tensor\n_rebuild_from_type_v2\n", b"N", b")", b"N")
        + b".",
    ],
)
def test_damage_is_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(DamagedPickleError):
        load(data)


def test_a_storage_of_two_sizes_is_refused() -> None:
    other = STORAGE.replace(b"K\x09", b"K\x0a")
    with pytest.raises(DamagedPickleError, match="two types or sizes"):
        load(b"(" + STORAGE + other + b"t.")


def test_a_key_that_hashes_in_the_depth_of_its_nesting_is_refused() -> None:
    with pytest.raises(DamagedPickleError, match="key"):
        load(b"})" + b"\x85" * 1_000_000 + b"K\1s.")


@settings(max_examples=300)
@given(st.data())
def test_any_change_of_a_pickle_is_read_or_refused(data: st.DataObject) -> None:
    raw = bytearray(b"\x80\x02}q\0(X\1\0\0\0aq\1" + TENSOR + b"X\1\0\0\0b]q\2(K\1h\1eu.")
    for _ in range(data.draw(st.integers(1, 3))):
        op = data.draw(st.sampled_from([o.code.encode("latin1") for o in pickletools.opcodes]) | st.binary(max_size=3))
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 2))] = op
    with contextlib.suppress(DamagedPickleError, RefusedPickleError):
        load(bytes(raw), script=data.draw(st.booleans()))


def test_reads_stay_within_the_bytes_given() -> None:
    stream = io.BytesIO(b"\x80\x02K\1.\x80\x02K\2.rest")
    interpreter = Interpreter(stream, 10)
    assert (interpreter.load(), interpreter.load()) == (1, 2)
    with pytest.raises(DamagedPickleError, match="ends too early"):
        interpreter.load()
    assert stream.read() == b"rest"
