"""What the code in a TorchScript archive says of its convolutions: groups, stride and dilation.

The archive has the source of the class of every module. It is searched as text and never run: a call of a convolution
with the module's `weight` has stride, dilation and groups as plain numbers.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from io import FileIO
from typing import Any

from mkfa.storage.budget import Budget

_MOST_CODE = 1 << 24
_CLASS = re.compile(r"^class (\w{1,200})\(Module\):$", re.MULTILINE)
_NUMBERS = r"\[([\d, ]{1,40})\]"
_CALL = re.compile(
    rf"torch\.(conv2d|_convolution|_convolution_mode|conv_transpose2d)\(\w+, weight, \w+, {_NUMBERS}, "
    rf"(?:\[[\d, ]*\]|\"\w+\"), (?:{_NUMBERS}, (?:(True|False), \[[\d, ]*\], )?(\d{{1,9}})|\w+)"
)


def convolutions(f: FileIO, top: str, budget: Budget) -> dict[str, Mapping[str, Any]]:
    """Return class -> stride, dilation, groups and transposed of the classes that call one convolution.

    Parameters
    ----------
    top : what all names of records begin with.
    budget : charged with the code; code beyond 16 MB, or that cannot be unpacked, says nothing.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for package, text in _code(f, f"{top}code/", budget):
        starts = [*_CLASS.finditer(text)]
        ends = [*(match.start() for match in starts[1:]), len(text)]
        for match, end in zip(starts, ends, strict=False):
            calls = {*_CALL.findall(text, match.end(), end)}  # a traced module that is used twice has its call twice
            if len(calls) != 1:
                continue
            kind, stride, dilation, transposed, groups = calls.pop()
            found[f"{package}.{match[1]}"] = {
                "stride": _numbers(stride),
                "dilation": _numbers(dilation or "1, 1"),
                "groups": int(groups or 2),
                "transposed": kind == "conv_transpose2d" or transposed == "True",
            }
    return found


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.replace(" ", "").split(",") if part)


def _code(f: FileIO, folder: str, budget: Budget) -> Iterator[tuple[str, str]]:
    """Yield (package, text) of the code in an archive."""
    left = _MOST_CODE
    try:
        with zipfile.ZipFile(f) as archive:
            for info in archive.infolist():
                if not info.filename.startswith(folder) or not info.filename.endswith(".py"):
                    continue
                with archive.open(info) as member:
                    data = member.read(left)
                left -= len(data)
                budget.step(1000 + len(data) // 16)
                yield info.filename[len(folder) : -3].replace("/", "."), data.decode("utf-8", "replace")
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError):
        return
