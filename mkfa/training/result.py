"""The result of a finished run (standard library only)."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a run: the fields of result.json that mkfa reads, and the unchanged record.

    Attributes
    ----------
    state : "done", or "diverged": from `step` on, the loss was NaN or infinite.
    top1_last, top1_best : test accuracy (0-1) of the last and the best epoch; NaN if the run diverged.
    chance : accuracy of guessing the most frequent class.
    loss_test, seconds, images_per_second : float or None
    test_images : int
    weights_sha256 : digest of the final weights.
    test_right : which test images the final network classified correctly (`right`); "" for runs of earlier versions.
    record : all fields of result.json.
    """

    state: str
    top1_last: float = math.nan
    top1_best: float = math.nan
    chance: float = math.nan
    loss_test: float | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    test_images: int = 0
    step: int = -1
    weights_sha256: str = ""
    test_right: str = field(default="", repr=False)
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> RunResult:
        """Return the result recorded in a result.json; missing fields get their defaults."""
        return cls(
            **{key: record[key] for key in cls.__dataclass_fields__ if key in record and key != "record"}, record=record
        )

    @property
    def done(self) -> bool:
        """True if the run has an accuracy."""
        return self.state == "done"

    @property
    def right(self) -> tuple[bool, ...]:
        """Whether the final network classified each test image correctly, in order; empty if it is not recorded."""
        return decode_right(self.test_right, self.test_images)


def encode_right(right: Sequence[bool]) -> str:
    """Return booleans as text: bits, the first in the highest place of a byte, in base64.

    Examples
    --------
    >>> encode_right([True, False, True])
    'oA=='
    """
    bits = [*map(bool, right), *[False] * (-len(right) % 8)]
    values = [sum(bit << (7 - i) for i, bit in enumerate(bits[at : at + 8])) for at in range(0, len(bits), 8)]
    return base64.b64encode(bytes(values)).decode("ascii")


def decode_right(text: str, count: int) -> tuple[bool, ...]:
    """Return `count` booleans from text by `encode_right`; empty if the text does not hold as many.

    Examples
    --------
    >>> decode_right("oA==", 3)
    (True, False, True)
    """
    try:
        packed = base64.b64decode(text, validate=True)
    except ValueError:
        return ()
    if len(packed) != -(-count // 8):
        return ()
    return tuple(bool(byte >> (7 - i) & 1) for byte in packed for i in range(8))[:count]


def state_digest(state: dict[str, Any]) -> str:
    """Return the SHA-256 over the names, types, shapes and bytes of a state dict, in order."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
