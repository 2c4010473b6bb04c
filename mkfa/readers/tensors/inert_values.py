"""What the pickle interpreter builds: plain data that stand for tensors, arrays and objects, and never run anything.

PyTorch's and NumPy's own functions have builders here, which give references to numbers. Every other name becomes a
`Global`, and what a pickle builds with it an `Inert` record of the name, the arguments and the attributes. Names of the
functions: torch/_utils.py, torch/_weights_only_unpickler.py (PyTorch 2), numpy/_core/multiarray.py (NumPy 2).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mkfa.readers.tensors.dtypes import BITS


class DamagedPickleError(Exception):
    """Not a pickle that Python or PyTorch writes; the text names the fault."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name in the pickle: a value that is never imported or called."""

    name: str


@dataclass(frozen=True, slots=True)
class StorageRef:
    """Numbers stored elsewhere: record, type ("" for untyped bytes), count, and where a view of it begins.

    `data` are the bytes themselves if the pickle contains them; `big_endian` is their order.
    """

    key: str
    dtype: str
    numel: int
    first: int = 0
    data: bytes | None = field(default=None, compare=False, repr=False)
    big_endian: bool = False


@dataclass(frozen=True, slots=True)
class QuantScale:
    """How integers become real numbers, (integer - zero) * scale; `axis` is -1 if one scale serves all.

    `scale` and `zero` are numbers, or one for each index along `axis`: a tensor, or a tuple of numbers.
    """

    scale: float | tuple[float, ...] | TensorRef
    zero: float | tuple[float, ...] | TensorRef
    axis: int = -1


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor over a storage; offset and strides in numbers, not bytes.

    `negated` is torch's lazy minus sign; `scale` belongs to quantised integers. `without` says why there are no
    numbers to read ("sparse", "meta"); then `storage` is empty. `entries` are the indices (D, E) and the values
    (E, ...) of a sparse tensor in coordinates, whose own `storage` is empty too.
    """

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str
    negated: bool = False
    scale: QuantScale | None = None
    without: str = ""
    entries: tuple[TensorRef, TensorRef] | None = None


@dataclass(slots=True, eq=False)
class Inert:
    """An object that was not built: the name of its class or function, and what would have gone into it.

    Attributes
    ----------
    args : arguments of the call.
    state : what `__setstate__` would have got; mostly a dictionary of attributes.
    items, entries : what would have been appended (lists) and set by key (dictionaries).
    """

    name: str
    args: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] | None = None
    entries: dict[Any, Any] | None = None


@dataclass(slots=True, eq=False)
class Array:
    """A NumPy array; `ref` is None until its attributes are known, and stays so for objects, which are in `items`."""

    ref: TensorRef | None = None
    items: list[Any] | None = None


@dataclass(slots=True, eq=False)
class NumpyType:
    """A NumPy type of numbers, such as "f4"."""

    code: str
    big_endian: bool = False


_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
}
_NUMPY = {
    "f8": "float64",
    "f4": "float32",
    "f2": "float16",
    "i8": "int64",
    "i4": "int32",
    "i2": "int16",
    "i1": "int8",
    "u8": "uint64",
    "u4": "uint32",
    "u2": "uint16",
    "u1": "uint8",
    "b1": "bool",
    "c8": "complex64",
    "c16": "complex128",
}
_ENTRIES_OF_A_SHAPE = 64
_GREAT = 1 << 64
_PARTS_OF_A_KEY, _TEXT_OF_A_KEY = 8, 64


def storage_dtype(name: str) -> str | None:
    """Return the type of numbers of a storage class, "" for untyped bytes, None if `name` is not a storage class."""
    module, _, kind = name.rpartition(".")
    if module in ("torch", "torch.cuda", "torch.storage") and kind in _STORAGES:
        return _STORAGES[kind]
    return "" if name in ("torch.storage.UntypedStorage", "torch.UntypedStorage") else None


def dtype_of(value: Any) -> str:
    """Return torch's name of a type of numbers, "" if the value is not one."""
    name = value.name.removeprefix("torch.") if isinstance(value, Global) else ""
    return name if name in BITS else ""


def no_values(kind: str, dtype: str, shape: tuple[int, ...]) -> TensorRef:
    """Return a tensor without numbers; `kind` says why."""
    return TensorRef(StorageRef("", dtype, 0), 0, shape, (), dtype, without=kind)


def checked_key(key: Any) -> Any:
    """Return a dictionary key that hashes in bounded time and depth; other keys become unique objects.

    Great integers and tuples of numbers could be chosen to have one hash: a tuple becomes its text.
    """
    if isinstance(key, str | float | bytes | type(None) | Inert) or (isinstance(key, int) and abs(key) < _GREAT):
        return key
    if isinstance(key, tuple) and len(key) <= _PARTS_OF_A_KEY and all(_is_short(part) for part in key):
        return str(key)
    return Inert(key.name) if isinstance(key, Global) else Inert(type(key).__name__, (key,))


def _is_short(part: Any) -> bool:
    if isinstance(part, str | bytes):
        return len(part) <= _TEXT_OF_A_KEY
    return isinstance(part, float | type(None)) or (isinstance(part, int) and abs(part) < _GREAT)


def whole(value: Any) -> int:
    """Return a size; raises DamagedPickleError for anything else."""
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise DamagedPickleError("a size that is not a whole number")
    return value


def wholes(value: Any = ()) -> tuple[int, ...]:
    """Return a shape; raises DamagedPickleError for anything else."""
    if not isinstance(value, tuple | list) or len(value) > _ENTRIES_OF_A_SHAPE:
        raise DamagedPickleError("a malformed shape")
    return tuple(whole(n) for n in value)


def tensor(*args: Any) -> TensorRef:
    """Return the tensor that torch._utils._rebuild_tensor_v2 would build of these arguments."""
    storage, offset, shape, stride, *rest = args
    if not isinstance(storage, StorageRef):
        raise DamagedPickleError("a tensor without numbers")
    sizes, steps = wholes(shape), wholes(stride)
    if len(sizes) != len(steps):
        raise DamagedPickleError("a tensor whose strides do not go with its shape")
    negated = len(rest) > 2 and isinstance(rest[2], dict) and bool(rest[2].get("neg"))
    return TensorRef(storage, whole(offset), sizes, steps, storage.dtype, negated)


def _tensor_v3(*args: Any) -> TensorRef:
    made, name = tensor(*args[:6], *args[7:8]), dtype_of(args[6])
    if not name:  # of a type that this reader does not know
        kind = args[6].name.removeprefix("torch.") if isinstance(args[6], Global) else "unknown"
        return no_values(kind[:40], "uint8", made.shape)
    return TensorRef(made.storage, made.offset, made.shape, made.stride, name, made.negated)


def _quantised(storage: Any, offset: Any, shape: Any, stride: Any, quantiser: Any, *rest: Any) -> TensorRef:
    made = tensor(storage, offset, shape, stride)
    kind, *params = quantiser if isinstance(quantiser, tuple) else (None,)
    scheme = kind.name.removeprefix("torch.") if isinstance(kind, Global) else ""
    scale: QuantScale | None = None
    if scheme.startswith("per_tensor") and len(params) == 2:
        scale = QuantScale(_numbers(params[0]), _numbers(params[1]))
    elif scheme.startswith("per_channel") and len(params) == 3 and 0 <= whole(params[2]) < max(len(made.shape), 1):
        scale = QuantScale(_numbers(params[0]), _numbers(params[1]), params[2])
    return TensorRef(made.storage, made.offset, made.shape, made.stride, made.dtype, scale=scale)


def _numbers(value: Any) -> Any:
    """Return a scale or zero point: a number, a tuple of numbers, or a one-dimensional tensor of plain numbers."""
    if isinstance(value, TensorRef) and len(value.shape) == 1 and value.scale is None and not value.without:
        span = value.offset + 1 + (value.shape[0] - 1) * value.stride[0] if value.shape[0] else 0
        if span > value.storage.numel or not value.storage.dtype:
            raise DamagedPickleError("scales beyond their data")
        return value
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, list | tuple) and all(isinstance(part, int | float) for part in value):
        return tuple(float(part) for part in value)
    raise DamagedPickleError("a malformed scale")


def _sparse(layout: Any, data: Any, *rest: Any) -> TensorRef | None:
    parts = [part for part in data if isinstance(part, TensorRef)] if isinstance(data, tuple) else []
    size = next((part for part in data[2:] if isinstance(part, tuple | list)), None) if parts else None
    if size is None:
        return None
    shape, (index, *_, values) = wholes(size), (parts[0], *parts)
    plain = all(not part.without and part.entries is None and part.scale is None for part in parts)
    if len(parts) == 2 and plain and index.dtype == "int64" and len(index.shape) == 2:  # not compressed rows
        deep, count = index.shape
        if 0 < deep <= len(shape) and values.shape == (count, *shape[deep:]):
            return TensorRef(StorageRef("", values.dtype, 0), 0, shape, (), values.dtype, entries=(index, values))
    return no_values("sparse", parts[-1].dtype, shape)


def _meta(dtype: Any, shape: Any, *rest: Any) -> TensorRef:
    return no_values("meta", dtype_of(dtype) or "float32", wholes(shape))


def _first(value: Any, *rest: Any) -> Any:
    return value


def _mapping(*args: Any) -> dict[Any, Any]:
    out: dict[Any, Any] = {}
    pairs = args[0].items() if args and isinstance(args[0], dict) else args[0] if args else ()
    for key, value in pairs:
        out[checked_key(key)] = value
    return out


def _items(*args: Any) -> list[Any]:
    if args and not isinstance(args[0], list | tuple):
        raise DamagedPickleError("a malformed collection")
    return list(args[0]) if args else []


def _text_as_bytes(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise DamagedPickleError("malformed bytes")
    return text.encode("latin1")


def _byte_array(data: Any = b"", *rest: Any) -> bytes:
    if isinstance(data, str):
        return _text_as_bytes(data, *rest)
    if not isinstance(data, bytes):  # a number here would ask for that much memory
        raise DamagedPickleError("a malformed bytearray")
    return data


def _nothing(*args: Any) -> None:
    return None


def _empty_dict(*args: Any) -> dict[Any, Any]:
    return {}


_inline = itertools.count()


def inline_array(data: bytes, shape: tuple[int, ...], kind: NumpyType, *, fortran: bool = False) -> TensorRef:
    """Return an array whose bytes are in the pickle."""
    dtype = _NUMPY.get(kind.code)
    if dtype is None:
        return no_values(f"NumPy {kind.code[:20]}", "uint8", shape)
    size = BITS[dtype] // 8
    if math.prod(shape) * size != len(data):
        raise DamagedPickleError("an array whose bytes do not go with its shape")
    storage = StorageRef(f"array {next(_inline)}", dtype, len(data) // size, 0, data, kind.big_endian)
    return TensorRef(storage, 0, shape, _packed_strides(shape, fortran=fortran), dtype)


def inline_storage(data: bytes, ref: StorageRef) -> StorageRef:
    """Return a storage whose bytes are at hand, under a name of its own; raises DamagedPickleError if bytes lack."""
    if len(data) < ref.numel * BITS[ref.dtype] // 8:
        raise DamagedPickleError("a storage that ends too early")
    return StorageRef(f"array {next(_inline)}", ref.dtype, ref.numel, 0, data)


def _packed_strides(shape: tuple[int, ...], *, fortran: bool) -> tuple[int, ...]:
    sizes = shape if fortran else shape[::-1]
    steps = tuple(itertools.accumulate((1, *sizes[:-1]), lambda a, b: a * b)) if sizes else ()
    return steps if fortran else steps[::-1]


def _numpy_type(code: Any = "", *rest: Any) -> NumpyType:
    if isinstance(code, bytes):
        code = code.decode("latin1")
    name = code.name if isinstance(code, Global) else code
    if not isinstance(name, str):
        return NumpyType("structure")
    return NumpyType(name.lstrip("<>=|"), name.startswith(">"))


def _numpy_scalar(kind: Any, data: Any = b"", *rest: Any) -> Any:
    data = data.encode("latin1") if isinstance(data, str) and len(data) <= 16 else data
    if not isinstance(kind, NumpyType) or kind.code not in _NUMPY or not isinstance(data, bytes) or len(data) > 16:
        return Inert("numpy.generic", (data,))
    return np.frombuffer(data, (">" if kind.big_endian else "<") + kind.code)[0].item()


def _numpy_array(*args: Any) -> Array:
    return Array()


def _numpy_buffer(data: Any, kind: Any, shape: Any, order: Any = "C", *rest: Any) -> Array:
    if not isinstance(data, bytes) or not isinstance(kind, NumpyType):
        raise DamagedPickleError("an array without bytes")
    return Array(inline_array(data, wholes(shape), kind, fortran=order == "F"))


def set_array(array: Array, state: Any) -> None:
    """Give an array what its `__setstate__` would get: (version, shape, type, Fortran order, bytes)."""
    parts = state if isinstance(state, tuple) and len(state) in (4, 5) else ()
    shape, kind, fortran, data = parts[-4:] if parts else ((), None, False, state)
    if isinstance(data, list):
        array.items = data
    elif isinstance(data, bytes) and isinstance(kind, NumpyType):
        array.ref = inline_array(data, wholes(shape), kind, fortran=bool(fortran))
    elif isinstance(data, str) and isinstance(kind, NumpyType):  # of Python 2
        array.ref = inline_array(data.encode("latin1"), wholes(shape), kind, fortran=bool(fortran))
    else:  # of a subclass, with a state of its own
        array.items = [state]


def _from_array(data: Any, *rest: Any) -> Any:
    return data.ref if isinstance(data, Array) else data


_NUMPY_HOMES = ("numpy.core", "numpy._core")
BUILDERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _mapping,
    "collections.Counter": _mapping,
    "collections.defaultdict": _empty_dict,
    "collections.deque": _items,
    "builtins.dict": _mapping,
    "builtins.set": _items,
    "builtins.frozenset": _items,
    "builtins.list": _items,
    "builtins.tuple": _items,
    "builtins.bytearray": _byte_array,
    "builtins.bytes": _byte_array,
    "builtins.complex": _nothing,
    "_codecs.encode": _text_as_bytes,
    "torch.Size": wholes,
    "torch.device": _nothing,
    "torch.serialization._get_layout": _nothing,
    "torch._utils._rebuild_tensor": tensor,
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_qtensor": _quantised,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_sparse_csr_tensor": _sparse,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta,
    "torch._utils._rebuild_xla_tensor": _from_array,
    "torch._utils._rebuild_device_tensor_from_numpy": _from_array,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
    "torch.jit._pickle.build_intlist": _items,
    "torch.jit._pickle.build_tensorlist": _items,
    "torch.jit._pickle.build_doublelist": _items,
    "torch.jit._pickle.build_boollist": _items,
    "torch.jit._pickle.restore_type_tag": _first,
    "numpy.dtype": _numpy_type,
    **{f"{home}.multiarray._reconstruct": _numpy_array for home in _NUMPY_HOMES},
    **{f"{home}.multiarray.scalar": _numpy_scalar for home in _NUMPY_HOMES},
    **{f"{home}.numeric._frombuffer": _numpy_buffer for home in _NUMPY_HOMES},
}
_VALUES = frozenset(
    ["torch.Tensor", "torch.nn.parameter.Parameter", "torch._tensor._rebuild_from_type_v2", "numpy.ndarray"]
    + ["torch._utils._rebuild_wrapper_subclass", "torch.storage._load_from_bytes", "torch.nn.parameter.Buffer"]
    + ["torch.storage.TypedStorage", "torch.strided", "torch.sparse_coo", "torch.sparse_csr"]
    + [
        f"builtins.{kind}"
        for kind in ("object", "int", "long", "float", "str", "bool", "slice", "range", "type", "NoneType")
    ]
    + ["copyreg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__"]
)
_QUANTISERS = frozenset(
    f"torch.per_{part}" for part in ("tensor_affine", "tensor_symmetric", "channel_affine", "channel_symmetric")
) | {"torch.per_channel_affine_float_qparams"}


def is_known(name: str) -> bool:
    """True for names of PyTorch, NumPy and Python whose meaning the reader knows: nothing is stood in for."""
    if name in BUILDERS or name in _VALUES or name in _QUANTISERS or storage_dtype(name) is not None:
        return True
    return name.startswith("torch.") and name.removeprefix("torch.") in BITS
