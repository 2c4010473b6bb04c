"""Read pickles without unpickling: an interpreter that can only build inert values.

Python's unpickler calls the functions that a file names. This interpreter knows PyTorch's and NumPy's builders of
tensors and arrays (`mkfa.readers.tensors.inert_values`) and stands in for every other object with a record of its name
and content; it imports nothing and calls nothing that the file names. It reads the opcodes of all six protocols. The
file's budget is charged for every instruction, every object and every copy. Format: Python's pickletools.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import re
import struct
from typing import IO, Any

from mkfa.readers.tensors.inert_values import (
    BUILDERS,
    Array,
    DamagedPickleError,
    Global,
    Inert,
    NumpyType,
    StorageRef,
    TensorRef,
    checked_key,
    inline_storage,
    is_known,
    set_array,
    storage_dtype,
    tensor,
    whole,
)
from mkfa.storage.budget import Budget

LONGEST_NUMBER = 1 << 12
"""Most bytes of one whole number; the time to read a number in decimal grows with the square of its length."""

_LONGEST_NAME = 1 << 10
_DEEPEST = 4
_COLLECTION, _TEXT, _NOTE, _OBJECT = 88, 60, 100, 200
"""Bytes that an empty collection, a text, an entry of the memo and the result of a call take."""
_SOME, _STEPS_OF_SOME = 1 << 10, 600  # an instruction takes less than half a microsecond
_MOST_NOTES = 1 << 32
_POP = 0x30
_STORAGE_ID = (
    r"\('storage', <class '(?P<kind>[\w.]{1,200})'>, '(?P<key>[^'\\]*)', '(?P<device>[^'\\]*)', (?P<numel>\d{1,19})"
    r"(?:, (?:None|\('(?P<view>[^'\\]*)', (?P<first>\d{1,19}), (?P<size>\d{1,19})\)))?\)"
)
_MODULE_ID = r"\('module', <class '(?P<kind>[\w.]{1,200})'>, "
_FROM_TYPE = "torch._tensor._rebuild_from_type_v2"
MAGIC = 0x1950A86A20F9469CFC6C
"""First value in files of torch.save before PyTorch 1.6."""


class Interpreter:
    """Runs one pickle after another from a stream.

    Parameters
    ----------
    stream : positioned at a pickle.
    left : bytes left in the stream; no read goes beyond.
    budget : of the file.

    Attributes
    ----------
    left : bytes left to read.
    storages : record -> the storage that tensors refer to, for storages outside the pickle.
    built : name outside PyTorch's and NumPy's builders -> number of objects that were stood in for.
    known : values of persistent ids that are numbers (PyTorch's oldest format).
    """

    def __init__(self, stream: IO[bytes], left: int, budget: Budget | None = None, *, depth: int = 0) -> None:
        self._stream, self.left, self._depth = stream, left, depth
        self.budget = Budget(size=left) if budget is None else budget
        self.storages: dict[str, StorageRef] = {}
        self.built: dict[str, int] = {}
        self.known: dict[int, Any] = {}

    def load(self) -> Any:
        """Return the value of the next pickle; raises DamagedPickleError, and SourceError beyond the budget."""
        try:
            return self._run()
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, struct.error) as error:
            raise DamagedPickleError(f"an inconsistent pickle ({type(error).__name__})") from None

    def read(self, count: int) -> bytes:
        """Return the next bytes of the stream; raises DamagedPickleError if there are too few."""
        if count > self.left:
            raise DamagedPickleError("a pickle that ends too early")
        data = self._stream.read(count)
        if len(data) != count:
            raise DamagedPickleError("a pickle that ends too early")
        self.left -= count
        return data

    def skip(self, count: int) -> None:
        """Pass over bytes of the stream; raises DamagedPickleError if there are too few."""
        if count > self.left:
            raise DamagedPickleError("a pickle that ends too early")
        self._stream.seek(count, 1)
        self.left -= count

    def _line(self, limit: int = _LONGEST_NAME) -> bytes:
        line = self._stream.readline(min(limit, self.left))
        self.left -= len(line)
        if not line.endswith(b"\n"):
            raise DamagedPickleError("a name without an end")
        return line[:-1]

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]

    def _global(self, module: Any, name: Any) -> Global:
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > 2 * _LONGEST_NAME:
            raise DamagedPickleError("a name that is not text")
        home = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        full = f"{home}.{name}"
        self.budget.produce(2 * _TEXT + len(full))
        if not is_known(full) and not full.startswith("__torch__."):
            self.built.setdefault(full, 0)
        return Global(full)

    def _charge(self, *values: Any) -> None:
        """Charge a call with these arguments: a pickle can name one collection again and again."""
        self.budget.step(len(values) // 4)
        bytes_, items = 0, len(values)
        for value in values:
            if isinstance(value, str | bytes):
                bytes_ += len(value)
            elif isinstance(value, dict):
                items += 12 * len(value)
            elif isinstance(value, list | tuple):
                items += 4 * len(value)
        self.budget.step(1 + items // 8 + bytes_ // 64)
        self.budget.produce(_OBJECT + 8 * items + bytes_)

    def _persistent(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and pid and pid[0] in ("storage", b"storage"):
            return self._storage(pid)
        if isinstance(pid, tuple) and len(pid) == 4 and pid[0] in ("module", b"module"):  # a class with its source
            return pid[1]
        if isinstance(pid, tuple) and len(pid) == 3 and isinstance(pid[0], Global):  # the same in the oldest format
            return pid[0]
        if isinstance(pid, str | int) and self.known:
            return self.known[int(pid)]
        self.built["persistent id"] = self.built.get("persistent id", 0) + 1
        return Inert("persistent id", pid if isinstance(pid, tuple) else (pid,))

    def _written_id(self, text: str) -> Any:
        """Return a persistent id that protocol 0 writes as the text of a tuple, which not even torch.load reads."""
        self._charge(text)
        if found := re.fullmatch(_STORAGE_ID, text):
            kind = self._global(*found["kind"].rpartition(".")[::2])
            view = (found["view"], int(found["first"]), int(found["size"])) if found["view"] else None
            return ("storage", kind, found["key"], found["device"], int(found["numel"]), view)
        if found := re.match(_MODULE_ID, text):
            return ("module", self._global(*found["kind"].rpartition(".")[::2]), "", "")
        return text

    def _storage(self, pid: tuple[Any, ...]) -> StorageRef:
        if len(pid) not in (5, 6):
            raise DamagedPickleError("a reference to something other than a storage")
        kind, key, numel = pid[1], pid[2], whole(pid[4])
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
            if whole(first) + whole(size) > numel:
                raise DamagedPickleError("a view beyond its storage")
            return StorageRef(name, dtype, size, first)
        return ref

    def _call(self, function: Any, args: Any, named: Any = None) -> Any:
        """Return what stands for the result of a call."""
        if not isinstance(args, tuple) or not isinstance(function, Global | Inert):
            raise DamagedPickleError("a call of something that is not a function")
        if isinstance(function, Inert):  # a class or function that was itself built, as by cloudpickle
            name = next((part for part in function.args[:8] if isinstance(part, str)), function.name)
            self.budget.produce(_LONGEST_NAME)
            return self._inert(name[:_LONGEST_NAME], args, named)
        name = function.name
        builder = BUILDERS.get(name)
        self._charge(*args)
        if builder is not None:
            made = builder(*args)
            if isinstance(made, TensorRef):
                self.budget.produce(16 * len(made.shape))
            return made
        if name == _FROM_TYPE:
            return self._from_type(*args)
        if name == "torch.storage._load_from_bytes" and len(args) == 1 and isinstance(args[0], bytes):
            return self._nested(args[0])
        if name in ("copyreg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__"):
            return self._reconstructed(name, args)
        if name in ("torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer") and args:
            return args[0]
        if name == "torch._utils._rebuild_wrapper_subclass" and len(args) > 2 and isinstance(args[0], Global):
            return self._inert(args[0].name, (), None)
        return self._inert(name, args, named)

    def _inert(self, name: str, args: tuple[Any, ...], named: Any) -> Any:
        """Stand in for an object, or take the tensor that a function unknown here rebuilds from a storage."""
        if name in self.built or not is_known(name):
            self.built[name] = self.built.get(name, 0) + (not name.startswith("__torch__."))
        for i, part in enumerate(args[:3]):
            if isinstance(part, StorageRef) and len(args) >= i + 4:
                with contextlib.suppress(DamagedPickleError):
                    return tensor(*args[i:])
        return Inert(name, args, named)

    def _from_type(self, function: Any, kind: Any, args: Any, state: Any = None) -> Any:
        """Rebuild a tensor with attributes: the tensor alone matters, unless its numbers are in the attributes."""
        if isinstance(function, Global) and function.name == _FROM_TYPE:
            raise DamagedPickleError("a tensor of a subclass that is not built from a tensor")
        made = self._call(function, args)
        if isinstance(made, Inert):
            made.state = state
            if isinstance(kind, Global):
                made.name = kind.name
        return made

    def _reconstructed(self, name: str, args: tuple[Any, ...]) -> Any:
        """Build an object as `copyreg` does; its base's content becomes items or entries."""
        if name == "copyreg.__newobj__":
            return self._new(args[0], args[1:])
        if name == "copyreg.__newobj_ex__":
            return self._new(args[0], args[1], args[2])
        kind, _, content = args
        made = self._new(kind, ())
        if isinstance(made, Inert) and content is not None:
            made.args = (content,)
        elif isinstance(content, dict) and isinstance(made, dict):
            return content
        return list(content) if isinstance(content, list | tuple) and isinstance(made, list) else made

    def _new(self, kind: Any, args: Any, named: Any = None) -> Any:
        if not isinstance(kind, Global | Inert):
            raise DamagedPickleError("an object without a class")
        if isinstance(kind, Global) and kind.name.startswith("__torch__."):
            return Inert(kind.name)
        return self._call(kind, args, named)

    def _nested(self, data: bytes) -> StorageRef:
        """Return the storage in bytes that torch.save wrote, as plain pickles of tensors contain them."""
        if self._depth >= _DEEPEST:
            raise DamagedPickleError("storages nested in storages")
        inner = Interpreter(io.BytesIO(data), len(data), self.budget, depth=self._depth + 1)
        magic, _, _, ref, keys = (inner.load() for _ in range(5))
        if magic != MAGIC or not isinstance(ref, StorageRef) or not ref.dtype or keys != [ref.key]:
            raise DamagedPickleError("a storage in an unknown format")
        numbers = data[len(data) - inner.left + 8 :]  # a count comes first
        return inline_storage(numbers, ref)

    def _run(self) -> Any:
        stack: list[Any] = []
        marks: list[list[Any]] = []
        memo: dict[int, Any] = {}
        read, budget = self.read, self.budget
        count = made = noted = 0  # instructions, bytes, entries of the memo that were charged
        while True:
            op = read(1)[0]
            count += 1
            if not count % _SOME:
                budget.step(_STEPS_OF_SOME)
                budget.produce(made + _NOTE * (len(memo) - noted))
                made, noted = 0, len(memo)
            if op in (0x68, 0x6A):  # BINGET, LONG_BINGET
                stack.append(memo[read(1)[0] if op == 0x68 else struct.unpack("<I", read(4))[0]])
            elif op in (0x71, 0x72):  # BINPUT, LONG_BINPUT
                memo[read(1)[0] if op == 0x71 else struct.unpack("<I", read(4))[0]] = stack[-1]
            elif op == 0x4B:  # BININT1
                stack.append(read(1)[0])
            elif op == 0x58:  # BINUNICODE
                stack.append(read(struct.unpack("<I", read(4))[0]).decode("utf-8", "surrogatepass"))
                made += _TEXT
            elif op == 0x28:  # MARK
                made += _COLLECTION
                marks.append(stack)
                stack = []
            elif op == 0x74:  # TUPLE
                items, stack = stack, marks.pop()
                stack.append(tuple(items))
                made += _COLLECTION
            elif 0x85 <= op <= 0x87:  # TUPLE1, TUPLE2, TUPLE3
                length = op - 0x84
                if len(stack) < length:
                    raise DamagedPickleError("a tuple without items")
                stack[-length:] = [tuple(stack[-length:])]
                made += _COLLECTION
            elif op == 0x52:  # REDUCE
                args, function = stack.pop(), stack.pop()
                stack.append(self._call(function, args))
            elif op == 0x51:  # BINPERSID
                stack.append(self._persistent(stack.pop()))
            elif op in (0x88, 0x89):  # NEWTRUE, NEWFALSE
                stack.append(op == 0x88)
            elif op == 0x4E:  # NONE
                stack.append(None)
            elif op == 0x29:  # EMPTY_TUPLE
                stack.append(())
            elif op in (0x5D, 0x8F):  # EMPTY_LIST, EMPTY_SET
                made += _COLLECTION
                stack.append([])
            elif op == 0x7D:  # EMPTY_DICT
                made += _COLLECTION
                stack.append({})
            elif op == 0x4A:  # BININT
                stack.append(struct.unpack("<i", read(4))[0])
            elif op == 0x4D:  # BININT2
                stack.append(struct.unpack("<H", read(2))[0])
            elif op == 0x47:  # BINFLOAT
                stack.append(struct.unpack(">d", read(8))[0])
            elif op == 0x75:  # SETITEMS
                items, stack = stack, marks.pop()
                made += _NOTE * len(items) // 2
                budget.step(len(items) // 2)
                _set_items(stack[-1], items)
            elif op == 0x73:  # SETITEM
                value, key = stack.pop(), stack.pop()
                made += _NOTE
                budget.step(2)  # a key that is a tuple takes longer than an instruction
                _set_items(stack[-1], [key, value])
            elif op in (0x65, 0x90):  # APPENDS, ADDITEMS
                items, stack = stack, marks.pop()
                _append(stack[-1], items)
            elif op == 0x61:  # APPEND
                item = stack.pop()
                _append(stack[-1], [item])
            elif op == 0x62:  # BUILD
                state = stack.pop()
                self._set_state(stack[-1], state)
            elif op == 0x81:  # NEWOBJ
                args, kind = stack.pop(), stack.pop()
                stack.append(self._new(kind, args))
            elif op == 0x63:  # GLOBAL
                stack.append(self._global(self._line().decode(), self._line().decode()))
            elif op == 0x80:  # PROTO
                read(1)
            elif op == 0x2E:  # STOP
                return stack.pop()
            elif op == 0x8C:  # SHORT_BINUNICODE
                made += _TEXT
                stack.append(read(read(1)[0]).decode("utf-8", "surrogatepass"))
            elif op == 0x94:  # MEMOIZE
                memo[len(memo)] = stack[-1]
            elif op == 0x93:  # STACK_GLOBAL
                name, module = stack.pop(), stack.pop()
                stack.append(self._global(module, name))
            elif op == 0x95:  # FRAME
                read(8)
            else:
                stack = self._rare(op, stack, marks, memo)

    def _rare(self, op: int, stack: list[Any], marks: list[list[Any]], memo: dict[int, Any]) -> list[Any]:
        """Carry out an instruction that PyTorch's own pickles seldom contain; return the stack."""
        read = self.read
        self.budget.produce(_COLLECTION * (op != _POP))
        if op == 0x8A:  # LONG1
            stack.append(int.from_bytes(read(read(1)[0]), "little", signed=True))
        elif op == 0x8B:  # LONG4
            if (size := self._number("<i")) > LONGEST_NUMBER or size < 0:
                raise DamagedPickleError("a number of too many digits")
            stack.append(int.from_bytes(read(size), "little", signed=True))
        elif op in (0x42, 0x8E, 0x96, 0x43):  # BINBYTES, BINBYTES8, BYTEARRAY8, SHORT_BINBYTES
            stack.append(read(read(1)[0] if op == 0x43 else self._number("<I" if op == 0x42 else "<Q")))
        elif op == 0x8D:  # BINUNICODE8
            stack.append(read(self._number("<Q")).decode("utf-8", "surrogatepass"))
        elif op in (0x54, 0x55):  # BINSTRING, SHORT_BINSTRING, of Python 2
            stack.append(read(read(1)[0] if op == 0x55 else self._number("<I")).decode("latin1"))
        elif op == 0x92:  # NEWOBJ_EX
            named, args, kind = stack.pop(), stack.pop(), stack.pop()
            stack.append(self._new(kind, args, named))
        elif op == 0x91:  # FROZENSET
            items, stack = stack, marks.pop()
            stack.append(items)
        elif op in (0x6C, 0x64):  # LIST, DICT
            items, stack = stack, marks.pop()
            stack.append(items if op == 0x6C else {})
            if op == 0x64:
                _set_items(stack[-1], items)
        elif op in (0x69, 0x6F):  # INST, OBJ
            items, stack = stack, marks.pop()
            kind = self._global(self._line().decode(), self._line().decode()) if op == 0x69 else items.pop(0)
            stack.append(self._new(kind, tuple(items)))
        elif op == 0x31:  # POP_MARK
            stack = marks.pop()
        elif op == _POP:
            if stack:
                stack.pop()
            else:
                stack = marks.pop()
        elif op == 0x32:  # DUP
            stack.append(stack[-1])
        elif op in (0x67, 0x70):  # GET, PUT
            index = int(self._line())
            if not 0 <= index < _MOST_NOTES:  # greater numbers can have one hash
                raise DamagedPickleError("a memo without end")
            if op == 0x67:
                stack.append(memo[index])
            else:
                memo[index] = stack[-1]
        elif op == 0x50:  # PERSID
            stack.append(self._persistent(self._written_id(self._line(self.left).decode())))
        elif op in (0x82, 0x83, 0x84):  # EXT1, EXT2, EXT4
            code = self._number({0x82: "<B", 0x83: "<H", 0x84: "<i"}[op])
            stack.append(self._global("copyreg", f"extension {code}"))
        elif op == 0x98:  # READONLY_BUFFER
            pass
        elif op in (0x49, 0x4C, 0x46, 0x53, 0x56):
            stack.append(self._written(op))
        else:
            raise DamagedPickleError(f"the pickle instruction {op:#04x}, which no file can have here")
        return stack

    def _written(self, op: int) -> Any:
        """Return a number or text as protocol 0 writes it: INT, LONG, FLOAT, STRING, UNICODE."""
        line = self._line(self.left)
        if op == 0x49:
            return {b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line)
        if op == 0x4C:
            return int(line.removesuffix(b"L"))
        if op == 0x46:
            return float(line)
        if op == 0x56:
            return line.decode("raw-unicode-escape")
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
            raise DamagedPickleError("text without quotation marks")
        return codecs.escape_decode(line[1:-1])[0].decode("latin1")

    def _set_state(self, target: Any, state: Any) -> None:
        """Give an object its attributes; those of collections and tensors are ignored."""
        if isinstance(target, Inert):
            self.budget.produce(_COLLECTION)
            target.state = state if target.state is None else (target.state, state)
        elif isinstance(target, Array):
            self._charge(*(state[-2:] if isinstance(state, tuple) else (state,)))
            set_array(target, state)
        elif isinstance(target, NumpyType):
            target.big_endian = isinstance(state, tuple) and len(state) > 1 and state[1] in (">", b">")
        elif not isinstance(target, dict | list | TensorRef):
            raise DamagedPickleError("attributes for something that has none")


def _append(target: Any, items: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(items)
    elif isinstance(target, Inert):
        target.items = items if target.items is None else target.items
        if target.items is not items:
            target.items.extend(items)
    else:
        raise DamagedPickleError("items for something that is not a list")


def _set_items(target: Any, items: list[Any]) -> None:
    if isinstance(target, Inert):
        target.entries = {} if target.entries is None else target.entries
        target = target.entries
    if not isinstance(target, dict):
        raise DamagedPickleError("items for something that is not a dictionary")
    for i in range(0, len(items), 2):
        target[checked_key(items[i])] = items[i + 1]
