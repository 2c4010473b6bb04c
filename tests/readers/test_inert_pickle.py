"""The pickle interpreter: what it builds, what it refuses, and that nothing is ever run."""

import argparse
import contextlib
import datetime as dt
import enum
import functools
import io
import os
import pickle
import pickletools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mkfa.errors import SourceError
from mkfa.readers.tensors.inert_pickle import Interpreter
from mkfa.readers.tensors.inert_values import Array, DamagedPickleError, Global, Inert, StorageRef, TensorRef


def load(data: bytes) -> Any:
    return Interpreter(io.BytesIO(data), len(data)).load()


def built(data: bytes) -> dict[str, int]:
    interpreter = Interpreter(io.BytesIO(data), len(data))
    interpreter.load()
    return interpreter.built


def call(module: str, name: str, *args: bytes) -> bytes:
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(args) + b"tR"


STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x09tQ"
TENSOR = call("torch._utils", "_rebuild_tensor_v2", STORAGE, b"K\0", b"K\3K\3\x86", b"K\3K\1\x86", b"\x89", b"N")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**900), 2**900) | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text(max_size=5), inner, max_size=4)
            | st.tuples(inner, inner)
        ),
        max_leaves=20,
    ),
    st.integers(0, 5),
)
def test_plain_values_are_as_python_reads_them(value: Any, protocol: int) -> None:
    assert load(pickle.dumps(value, protocol=protocol)) == value


@pytest.mark.parametrize("protocol", range(6))
def test_bytes_sets_and_ordered_dictionaries(protocol: int) -> None:
    from collections import Counter, OrderedDict, defaultdict, deque

    def again(value: Any) -> Any:
        return load(pickle.dumps(value, protocol=protocol))

    assert again(b"\x00\xffa") == b"\x00\xffa"
    assert again(bytearray(b"ab")) == b"ab"
    assert sorted(again({1, 2})) == sorted(again(frozenset({1, 2}))) == [1, 2]
    assert again(OrderedDict(b=1, a=2)) == {"b": 1, "a": 2}
    assert again(Counter("aab")) == {"a": 2, "b": 1}
    assert again(defaultdict(list, a=[1])) == {"a": [1]}
    assert again(deque([1, 2])) == [1, 2]


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.Enum):
    RED = 1


class Config(dict):  # type: ignore[type-arg]
    """A dictionary with attributes, as configuration classes are."""


class Slots:
    __slots__ = ("a",)

    def __init__(self) -> None:
        self.a = 5


class Named:
    """Built with named arguments."""

    def __new__(cls, *, size: int) -> "Named":
        return super().__new__(cls)

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, int]]:
        return (), {"size": 3}


def config() -> Config:
    made = Config(lr=0.1)
    made.note = "kept"  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Path("a/b"), "PosixPath"),
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "datetime.datetime"),
        (Colour.RED, "Colour"),
        (functools.partial(sorted, reverse=True), "functools.partial"),
        (Point(1, 2), "Point"),
        (config(), "Config"),
        (Slots(), "Slots"),
        (argparse.Namespace(lr=1), "argparse.Namespace"),
        (ValueError("x"), ".ValueError"),
    ],
)
def test_any_object_becomes_a_record_of_its_name_and_content(value: Any, name: str, protocol: int) -> None:
    if isinstance(value, Slots) and protocol < 2:
        return  # Python cannot write it
    data = pickle.dumps({"before": 1, "object": value, "after": [value]}, protocol=protocol)
    loaded = load(data)
    assert loaded["before"] == 1 and loaded["after"] == [loaded["object"]]
    assert isinstance(loaded["object"], Inert) and loaded["object"].name.endswith(name)
    assert sum(n for called, n in built(data).items() if called.endswith(name)) == 1


def test_the_content_of_an_object_is_kept() -> None:
    for protocol in range(6):
        made = load(pickle.dumps(config(), protocol=protocol))
        assert made.state == {"note": "kept"} and {"lr": 0.1} in (made.entries, *made.args)
        assert load(pickle.dumps(Point(1, 2), protocol=protocol)).args[-2:] in ((1, 2), ((1, 2),))
        assert load(pickle.dumps(argparse.Namespace(lr=1), protocol=protocol)).state == {"lr": 1}
    assert load(pickle.dumps(Slots(), protocol=2)).state == (None, {"a": 5})
    for protocol in (2, 4):
        made = load(pickle.dumps(Named(size=3), protocol=protocol))
        assert isinstance(made, Inert) and made.state in (None, {"size": 3})
    assert load(b"\x80\x02cos\nsystem\n.") == Global("os.system")


def test_keys_of_any_kind_do_not_hash_what_they_hold() -> None:
    loaded = load(pickle.dumps({Path("a"): 1, Point(1, 2): 2, (1, "x"): 3, frozenset({4}): 4, Colour.RED: 5}))
    assert list(loaded.values()) == [1, 2, 3, 4, 5] and loaded["(1, 'x')"] == 3


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["f4", ">f4", "f8", "f2", "i8", "u1", "?"])
def test_a_numpy_array_is_a_tensor_of_the_bytes_in_the_pickle(protocol: int, order: Any, kind: str) -> None:
    array = np.asarray(np.arange(24).reshape(2, 3, 4) % 2, dtype=kind, order=order)
    made = load(pickle.dumps({"a": array}, protocol=protocol))["a"]
    assert isinstance(made, Array) and made.ref is not None and made.ref.storage.data is not None
    flat = np.frombuffer(made.ref.storage.data, kind)
    steps = [step * array.itemsize for step in made.ref.stride]
    np.testing.assert_array_equal(np.lib.stride_tricks.as_strided(flat, made.ref.shape, steps), array)
    assert made.ref.storage.big_endian == (kind[0] == ">")


def test_numpy_scalars_and_arrays_of_objects() -> None:
    assert load(pickle.dumps([np.float64(1.5), np.int32(-3), np.bool_(True)])) == [1.5, -3, True]
    assert load(pickle.dumps({np.int64(7): 1})) == {7: 1}
    assert load(pickle.dumps(np.array(["a", None], dtype=object))).items == ["a", None]
    text = load(pickle.dumps(np.array(["ab", "c"]))).ref
    assert text.without == "NumPy U2" and text.shape == (2,)


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
def test_nothing_of_a_harmful_pickle_runs(tmp_path: Path, protocol: int) -> None:
    canary = tmp_path / "canary"
    data = pickle.dumps({"weight": Harm(canary)}, protocol=protocol)
    made = load(data)["weight"]
    assert (made.name, made.args) == ("posix.system", (f"touch {canary}",)) and built(data) == {"posix.system": 1}
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
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch", "FloatStorage.__init__"),
        ("sys", "modules"),
        ("importlib", "import_module"),
        ("a.module.that.does.not.exist", "Thing"),
        ("argparse", "ArgumentParser"),
        ("mkfa.readers.tensors.inert_pickle", "_call"),
        ("functools", "partial"),
    ],
)
def test_any_name_can_be_called_and_nothing_is(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.__import__", None)
    data = b"\x80\x02}" + f"c{module}\n{name}\n".encode() + b"K\1\x85R."
    made = load(data)
    assert isinstance(made, Inert) and made.name.endswith(name) and made.args == (1,)


def test_what_a_pickle_builds_can_be_called_too() -> None:
    skeleton = call("cloudpickle.cloudpickle", "_make_skeleton_class", b"X\3\0\0\0Net")
    made = load(b"\x80\x02" + skeleton + b")\x81}X\1\0\0\0aK\1sb.")
    assert made.name == "Net" and made.state == {"a": 1}


def test_a_tensor_that_an_unknown_function_rebuilds() -> None:
    arguments = (STORAGE, b"K\0", b"K\3K\3\x86", b"K\3K\1\x86", b"\x89", b"N")
    made = load(call("fastai.torch_core", "_fa_rebuild_tensor", b"cmy\nTensor\n", *arguments) + b".")
    assert made == load(TENSOR + b".")
    assert load(
        call("torch._tensor", "_rebuild_from_type_v2", b"cx\ny\n", b"cmy\nT\n", b"(" + TENSOR + b"t", b"N") + b"."
    )


def test_torchscript_objects_are_inert() -> None:
    numbers = call("torch.jit._pickle", "build_intlist", b"]K\1a")
    data = b"\x80\x02c__torch__\nNet\n)\x81}X\x01\0\0\0a" + numbers + b"sb."
    made = load(data)
    assert isinstance(made, Inert) and made.name == "__torch__.Net" and made.state == {"a": [1]}
    assert load(b"\x80\x02c__torch__\nNet\n)\x81(K\1K\2tb.").state == (1, 2)


def test_a_number_is_no_function() -> None:
    for data in (b"K\1)R", b"K\1)\x81", b"ctorch\nload\nK\1R"):
        with pytest.raises(DamagedPickleError):
            load(b"\x80\x02" + data + b".")


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
        b"K\1}b.",
        b"cos",
        b"c" + b"a" * 5000 + b"\nb\n.",
        b"\x94.",
        b"\x8b\xff\xff\xff\x7f.",
        b"\x8e" + b"\xff" * 8 + b".",
        b"\x96" + b"\xff" * 8 + b".",
        b"\x97.",
        b"\xff.",
        b"I" + b"9" * 5000 + b"\n.",
        b"Sab\n.",
        b"(o.",
        b"1.",
        b"0.",
        b"2.",
        call("_codecs", "encode", b"X\1\0\0\0a", b"X\5\0\0\0bz2\0\0") + b".",
        call("builtins", "bytearray", b"J\xff\xff\xff\x7f") + b".",
        call("builtins", "set", b"K\5") + b".",
        call("torch", "Size", b"J\xff\xff\xff\xff\x85") + b".",
        call("torch._utils", "_rebuild_tensor_v2", b"K\1", b"K\0", b")", b")") + b".",
        call("torch._utils", "_rebuild_tensor_v2", STORAGE, b"K\0", b"K\1\x85", b")") + b".",
        call("torch._utils", "_rebuild_tensor_v2", STORAGE, b"J\xff\xff\xff\xff", b")", b")") + b".",
        call("torch._utils", "_rebuild_tensor_v2", STORAGE) + b".",
        call("torch._tensor", "_rebuild_from_type_v2", b"ctorch._tensor\n_rebuild_from_type_v2\n", b"N", b")", b"N")
        + b".",
    ],
)
def test_damage_is_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(DamagedPickleError):
        load(data)


def test_what_is_not_known_of_a_tensor_does_not_spoil_the_file() -> None:
    shape = (b"K\0", b"K\3\x85", b"K\1\x85")
    odd = call("torch._utils", "_rebuild_tensor_v3", STORAGE, *shape, b"\x89", b"N", b"ctorch\nuint3\n")
    assert load(odd + b".").without == "uint3" and load(odd + b".").shape == (3,)
    bare = load(call("torch._utils", "_rebuild_qtensor", STORAGE, *shape, b"N", b"\x89", b"N") + b".")
    assert bare.scale is None
    assert isinstance(load(call("my", "function", STORAGE, b"K\1", b"K\2", b"K\3") + b"."), Inert)
    array = call("numpy.core.multiarray", "_reconstruct", b"cmy\nArray\n", b"K\0\x85", b"U\1b")
    assert load(array + b"(K\1K\2K\3tb.").items == [(1, 2, 3)]


def test_a_storage_of_two_sizes_is_refused() -> None:
    other = STORAGE.replace(b"K\x09", b"K\x0a")
    with pytest.raises(DamagedPickleError, match="two types or sizes"):
        load(b"(" + STORAGE + other + b"t.")


def test_a_key_that_hashes_in_the_depth_of_its_nesting_is_not_hashed() -> None:
    made = load(b"})" + b"\x85" * 500_000 + b"K\1s.")
    assert list(made.values()) == [1]


def test_copying_one_collection_again_and_again_is_refused() -> None:
    again = b"".join(b"cbuiltins\nlist\nh\0\x85R0" for _ in range(20_000))
    with pytest.raises(SourceError, match=r"would take more than .* of memory"):
        load(b"(" + b"K\1" * 20_000 + b"lq\0" + again + b".")


def test_objects_that_share_their_content_do_not_multiply() -> None:
    doubling = b"cx\nY\nq\0)R" + b"".join(b"q\1h\0h\1h\1\x86R" for _ in range(60))  # 2**60 paths
    assert built(doubling + b".") == {"x.Y": 61}


@settings(max_examples=300)
@given(st.data())
def test_any_change_of_a_pickle_is_read_or_refused(data: st.DataObject) -> None:
    raw = bytearray(b"\x80\x02}q\0(X\1\0\0\0aq\1" + TENSOR + b"X\1\0\0\0b]q\2(K\1h\1eu.")
    for _ in range(data.draw(st.integers(1, 3))):
        op = data.draw(st.sampled_from([o.code.encode("latin1") for o in pickletools.opcodes]) | st.binary(max_size=3))
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 2))] = op
    with contextlib.suppress(DamagedPickleError):
        load(bytes(raw))


def test_reads_stay_within_the_bytes_given() -> None:
    stream = io.BytesIO(b"\x80\x02K\1.\x80\x02K\2.rest")
    interpreter = Interpreter(stream, 10)
    assert (interpreter.load(), interpreter.load()) == (1, 2)
    with pytest.raises(DamagedPickleError, match="ends too early"):
        interpreter.load()
    assert stream.read() == b"rest"
