"""A run to train: its specification and the source of its filters."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from mkfa.banks.bank import FilterBank
from mkfa.training.spec import RunSpec


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run to train. Unlike its `RunSpec`, it contains the base run or the bank that provides its filters.

    `source` is its name in results; `source_run` and `bank` are None for arms without a source.
    """

    spec: RunSpec
    source: str
    source_run: RunSpec | None = None
    bank: FilterBank | None = None


def bank_digest(bank: FilterBank) -> str:
    """Return the first 16 digits of the SHA-256 over a bank's filters and biases, layer by layer."""
    digest = hashlib.sha256()
    for (kh, kw), group in bank.groups.items():
        digest.update(f"{kh}x{kw}".encode())
        arrays: list[Any] = [group.weight, group.layer, group.channel, group.bias]
        for array in arrays:
            digest.update(b"" if array is None else array.tobytes())
    return digest.hexdigest()[:16]
