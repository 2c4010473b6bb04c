"""Read the pickles of PyTorch files without unpickling: an interpreter that can only build inert values.

Python's unpickler calls the functions that a file names. This interpreter knows a fixed list of names, those of
PyTorch's `weights_only` mode, and builds a plain value for each; it imports nothing and calls nothing that the file
names. It accepts the opcodes that `weights_only` accepts. Work and memory are proportional to the bytes read. Format:
Python's pickletools; names: torch/_weights_only_unpickler.py (PyTorch 2).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from mkfa.readers.tensors.dtypes import BITS


class DamagedPickleError(Exception):
    """Not a pickle that PyTorch writes; the text names the fault."""


class RefusedPickleError(Exception):
    """The pickle names an object outside the list, by dotted `name`; `whole` is True if the file is that object."""

    def __init__(self, name: str, *, whole: bool) -> None:
        self.name, self.whole = name, whole
        super().__init__(name)


@dataclass(frozen=True, slots=True)
class Global:
    """A name in the pickle: a value that is never called."""

    name: str


@dataclass(frozen=True, slots=True)
class StorageRef:
    """Numbers stored elsewhere: record, type ("" for untyped bytes), count, and where a view of it begins."""

    key: str
    dtype: str
    numel: int
    first: int = 0


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor over a storage; offset and strides in numbers, not bytes."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str


@dataclass(slots=True)
class Inert:
    """An object that was not built: the class's name and its attributes."""

    name: str
    state: Any = None


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
}
_DTYPES = frozenset(BITS) - {"float6_e2m3", "float6_e3m2", "float4_e2m1"}
_QUANTISERS = frozenset(
    f"per_{part}" for part in ("tensor_affine", "tensor_symmetric", "channel_affine", "channel_symmetric")
) | {"per_channel_affine_float_qparams"}


def storage_dtype(name: str) -> str | None:
    """Return the type of numbers of a storage class, "" for untyped bytes, None if `name` is not a storage class."""
    module, _, kind = name.rpartition(".")
    if module in ("torch", "torch.cuda") and kind in _STORAGES:
        return _STORAGES[kind]
    return "" if name in ("torch.storage.UntypedStorage", "torch.UntypedStorage") else None


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise DamagedPickleError("a size that is not a whole number")
    return value


def _wholes(value: Any = ()) -> tuple[int, ...]:
    if not isinstance(value, tuple | list) or len(value) > 64:
        raise DamagedPickleError("a malformed shape")
    return tuple(_whole(n) for n in value)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> TensorRef:
    if not isinstance(storage, StorageRef):
        raise DamagedPickleError("a tensor without numbers")
    sizes, steps = _wholes(shape), _wholes(stride)
    if len(sizes) != len(steps):
        raise DamagedPickleError("a tensor whose strides do not go with its shape")
    return TensorRef(storage, _whole(offset), sizes, steps, storage.dtype)


def _tensor_v3(*args: Any) -> TensorRef:
    made, dtype = _tensor(*args[:4]), args[6]
    name = dtype.name.removeprefix("torch.") if isinstance(dtype, Global) else ""
    if name not in _DTYPES:
        raise DamagedPickleError("a tensor without a type")
    return TensorRef(made.storage, made.offset, made.shape, made.stride, name)


def _first(value: Any, *rest: Any) -> Any:
    return value


def _from_type(function: Any, kind: Any, args: Any, state: Any = None) -> Any:
    """Rebuild a tensor with attributes: the tensor is all that matters."""
    if not isinstance(function, Global) or not isinstance(args, tuple) or function.name == _FROM_TYPE:
        raise DamagedPickleError("a tensor of a subclass that is not built from a tensor")
    return _call(function, args)


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


_FROM_TYPE = "torch._tensor._rebuild_from_type_v2"
_BUILDERS: dict[str, Callable[..., Any]] = {
    "argparse.Namespace": _mapping,  # options of a training script; timm declares it safe for weights_only as well
    "collections.OrderedDict": _mapping,
    "collections.Counter": _mapping,
    "builtins.set": _items,
    "builtins.bytearray": _byte_array,
    "builtins.complex": _nothing,
    "_codecs.encode": _text_as_bytes,
    "torch.Size": _wholes,
    "torch.device": _nothing,
    "torch.serialization._get_layout": _nothing,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_qtensor": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_sparse_tensor": _nothing,
    "torch._utils._rebuild_meta_tensor_no_storage": _nothing,
    "torch._utils._rebuild_wrapper_subclass": _nothing,
    "torch._utils._rebuild_device_tensor_from_numpy": _nothing,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
    _FROM_TYPE: _from_type,
}
_SCRIPT_BUILDERS: dict[str, Callable[..., Any]] = {
    "torch.jit._pickle.build_intlist": _items,
    "torch.jit._pickle.build_tensorlist": _items,
    "torch.jit._pickle.build_doublelist": _items,
    "torch.jit._pickle.build_boollist": _items,
    "torch.jit._pickle.restore_type_tag": _first,
}
_VALUES = frozenset(["torch.Tensor", "torch.nn.parameter.Parameter"])


def _call(function: Global, args: tuple[Any, ...]) -> Any:
    builder = _BUILDERS.get(function.name) or _SCRIPT_BUILDERS.get(function.name)
    if builder is None:
        raise DamagedPickleError(f"a call of {function.name}")
    return builder(*args)


def checked_key(key: Any) -> Any:
    """Return a dictionary key if it hashes in bounded time and depth."""
    plain = (str, int, float, bool, bytes, type(None))
    if isinstance(key, plain) or (isinstance(key, tuple) and all(isinstance(part, plain) for part in key)):
        return key
    raise DamagedPickleError("a dictionary with a key that is neither text nor number")


class Interpreter:
    """Runs one pickle after another from a stream; `script` also allows what TorchScript archives name.

    Parameters
    ----------
    stream : positioned at a pickle.
    left : bytes left in the stream; no read goes beyond.
    """

    def __init__(self, stream: IO[bytes], left: int, *, script: bool = False) -> None:
        self._stream, self._left, self._script = stream, left, script
        self.storages: dict[str, StorageRef] = {}

    def load(self) -> Any:
        """Return the value of the next pickle.

        Raises
        ------
        RefusedPickleError
            It names an object outside the list.
        DamagedPickleError
            It has any other fault.
        """
        try:
            return self._run()
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, struct.error) as error:
            raise DamagedPickleError(f"an inconsistent pickle ({type(error).__name__})") from None

    def _read(self, count: int) -> bytes:
        if count > self._left:
            raise DamagedPickleError("a pickle that ends too early")
        data = self._stream.read(count)
        if len(data) != count:
            raise DamagedPickleError("a pickle that ends too early")
        self._left -= count
        return data

    def _line(self) -> str:
        line = self._stream.readline(1024)
        self._left -= len(line)
        if not line.endswith(b"\n"):
            raise DamagedPickleError("a name without an end")
        return line[:-1].decode()

    def _global(self, *, whole: bool) -> Global:
        module, name = self._line(), self._line()
        full = f"{'builtins' if module == '__builtin__' else module}.{name}"
        kind = full.removeprefix("torch.")
        known = full in _BUILDERS or full in _VALUES or storage_dtype(full) is not None
        if known or (kind != full and (kind in _DTYPES or kind in _QUANTISERS)):
            return Global(full)
        if self._script and (full.startswith("__torch__.") or full in _SCRIPT_BUILDERS):
            return Global(full)
        raise RefusedPickleError(full, whole=whole)

    def _storage(self, pid: Any) -> StorageRef:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] not in ("storage", b"storage"):
            raise DamagedPickleError("a reference to something other than a storage")
        kind, key, numel = pid[1], pid[2], _whole(pid[4])
        dtype = storage_dtype(kind.name) if isinstance(kind, Global) else None
        if dtype is None or not isinstance(key, str | int | bytes):
            raise DamagedPickleError("a storage without a type or a name")
        name = key.decode("latin1") if isinstance(key, bytes) else str(key)
        ref = StorageRef(name, dtype, numel)
        known = self.storages.setdefault(name, ref)
        if known != ref:
            raise DamagedPickleError("a storage of two types or sizes")
        view = pid[5] if len(pid) == 6 else None
        if view is not None:
            _, first, size = view
            if _whole(first) + _whole(size) > numel:
                raise DamagedPickleError("a view beyond its storage")
            return StorageRef(name, dtype, size, first)
        return ref

    def _run(self) -> Any:
        stack: list[Any] = []
        marks: list[list[Any]] = []
        memo: dict[int, Any] = {}
        alone = True  # nothing is built yet: an object named now is the whole file
        while True:
            op = self._read(1)[0]
            if op == 0x63:  # GLOBAL
                stack.append(self._global(whole=alone))
                alone = False
            elif op == 0x81:  # NEWOBJ
                args, kind = stack.pop(), stack.pop()
                stack.append(self._new(kind, args))
            elif op == 0x52:  # REDUCE
                args, function = stack.pop(), stack.pop()
                if not isinstance(function, Global) or not isinstance(args, tuple):
                    raise DamagedPickleError("a call of something that is not a function")
                stack.append(_call(function, args))
            elif op == 0x62:  # BUILD: attributes of an OrderedDict are ignored
                state, target = stack.pop(), stack[-1]
                if isinstance(target, Inert):
                    target.state = state
                elif not isinstance(target, dict | TensorRef):
                    raise DamagedPickleError("attributes for something that has none")
            elif op == 0x61:  # APPEND
                item, target = stack.pop(), stack[-1]
                _list(target).append(item)
            elif op == 0x65:  # APPENDS
                items, stack = stack, marks.pop()
                _list(stack[-1]).extend(items)
            elif op == 0x73:  # SETITEM
                value, key = stack.pop(), stack.pop()
                _dict(stack[-1])[checked_key(key)] = value
            elif op == 0x75:  # SETITEMS
                items, stack = stack, marks.pop()
                target = _dict(stack[-1])
                for i in range(0, len(items), 2):
                    target[checked_key(items[i])] = items[i + 1]
            elif op == 0x28:  # MARK
                marks.append(stack)
                stack = []
            elif op == 0x74:  # TUPLE
                items, stack = stack, marks.pop()
                stack.append(tuple(items))
            elif 0x85 <= op <= 0x87:  # TUPLE1, TUPLE2, TUPLE3
                count = op - 0x84
                if len(stack) < count:
                    raise DamagedPickleError("a tuple without items")
                stack[-count:] = [tuple(stack[-count:])]
            elif op == 0x4E:  # NONE
                stack.append(None)
            elif op in (0x88, 0x89):  # NEWTRUE, NEWFALSE
                stack.append(op == 0x88)
            elif op == 0x29:  # EMPTY_TUPLE
                stack.append(())
            elif op in (0x5D, 0x8F):  # EMPTY_LIST, EMPTY_SET
                stack.append([])
                alone = False
            elif op == 0x7D:  # EMPTY_DICT
                stack.append({})
                alone = False
            elif op == 0x4A:  # BININT
                stack.append(struct.unpack("<i", self._read(4))[0])
            elif op == 0x4B:  # BININT1
                stack.append(self._read(1)[0])
            elif op == 0x4D:  # BININT2
                stack.append(struct.unpack("<H", self._read(2))[0])
            elif op == 0x47:  # BINFLOAT
                stack.append(struct.unpack(">d", self._read(8))[0])
            elif op == 0x58:  # BINUNICODE
                stack.append(self._read(struct.unpack("<I", self._read(4))[0]).decode("utf-8", "surrogatepass"))
            elif op == 0x55:  # SHORT_BINSTRING, of Python 2
                stack.append(self._read(self._read(1)[0]).decode("latin1"))
            elif op == 0x8A:  # LONG1
                stack.append(int.from_bytes(self._read(self._read(1)[0]), "little", signed=True))
            elif op == 0x51:  # BINPERSID
                stack.append(self._storage(stack.pop()))
            elif op in (0x68, 0x6A):  # BINGET, LONG_BINGET
                stack.append(memo[self._read(1)[0] if op == 0x68 else struct.unpack("<I", self._read(4))[0]])
            elif op in (0x71, 0x72):  # BINPUT, LONG_BINPUT
                memo[self._read(1)[0] if op == 0x71 else struct.unpack("<I", self._read(4))[0]] = stack[-1]
            elif op == 0x80:  # PROTO
                self._read(1)
            elif op == 0x2E:  # STOP
                return stack.pop()
            else:
                raise DamagedPickleError(f"the pickle instruction {op:#04x}, which weights do not need")

    def _new(self, kind: Any, args: Any) -> Any:
        if not isinstance(kind, Global) or not isinstance(args, tuple):
            raise DamagedPickleError("an object without a class")
        if self._script and kind.name.startswith("__torch__."):
            return Inert(kind.name)
        if kind.name == "torch.nn.parameter.Parameter" and args:
            return args[0]
        return _call(kind, args)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise DamagedPickleError("items for something that is not a list")
    return value


def _dict(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise DamagedPickleError("items for something that is not a dictionary")
    return value
