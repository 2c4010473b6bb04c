"""The parameters of a comparison, checked; every comparison records them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mkfa.errors import MkfaError
from mkfa.nulls.draws import DEFAULT_NULLS, NULLS
from mkfa.similarity.measures.table import DEFAULT_MEASURES, choose

BANDWIDTH = 0.25
"""Kernel width of `mmd`: 1 - cos^2 is at most 1, so a fixed width makes values of different pairs comparable."""


@dataclass(frozen=True, slots=True)
class CompareSettings:
    """Parameters of a comparison; see `mkfa.compare`. `kernels` are the kernel sizes, all common ones where empty."""

    measures: tuple[str, ...]
    nulls: tuple[str, ...]
    permutations: int
    seed: int
    sample: int
    threshold: float
    bandwidth: float | None
    kernels: tuple[tuple[int, int], ...]
    bootstrap: int
    splits: int
    ceiling: str


def make_settings(  # noqa: PLR0913 (options are keywords)
    *,
    measures: str | Sequence[str] | None = None,
    nulls: str | Sequence[str] | None = None,
    kernel_size: str | Sequence[Any] | None = None,
    permutations: int = 999,
    sample: int = 192,
    threshold: float = 0.9,
    bandwidth: float | None = BANDWIDTH,
    bootstrap: int = 399,
    splits: int = 8,
    ceiling: str = "gaussian",
    seed: int = 0,
) -> CompareSettings:
    """Check the options of `mkfa.compare` and return them as they are recorded; raises as `mkfa.compare`."""
    bounds = {
        "permutations": (permutations, 19),
        "sample": (sample, 16),
        "bootstrap": (bootstrap, 39),
        "splits": (splits, 1),
        "seed": (seed, 0),
    }
    for name, (value, least) in bounds.items():
        if value < least:
            raise MkfaError(f"{name} {value}", f"is less than {least}", f"give {least} or more")
    if not 0 < threshold < 1:
        raise MkfaError(f"threshold {threshold}", "is not between 0 and 1", "give a |cos|, e.g. 0.9")
    if bandwidth is not None and bandwidth <= 0:
        raise MkfaError(f"bandwidth {bandwidth}", "is not positive", "give a positive width or None")
    chosen = tuple(dict.fromkeys(_listed("nulls", nulls, DEFAULT_NULLS)))
    for null in (*chosen, ceiling):
        NULLS.find(null)
    return CompareSettings(
        measures=choose(_listed("measures", measures, DEFAULT_MEASURES)),
        nulls=chosen,
        permutations=permutations,
        seed=seed,
        sample=sample,
        threshold=threshold,
        bandwidth=bandwidth,
        kernels=tuple(map(_size, _listed("kernel_size", kernel_size, ()))),
        bootstrap=bootstrap,
        splits=splits,
        ceiling=ceiling,
    )


def _listed(option: str, value: str | Sequence[Any] | None, default: tuple[str, ...]) -> tuple[Any, ...]:
    """Return the entries of a list, or of a text that joins them by commas."""
    if value is None:
        return default
    entries = (
        tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else tuple(value)
    )
    if not entries:
        raise MkfaError(option, "names nothing", "name one or several, or leave the option out")
    return entries


def _size(size: Any) -> tuple[int, int]:
    text = "x".join(map(str, size)) if isinstance(size, tuple | list) else str(size)
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise MkfaError(f"kernel size {text}", "is not a kernel size", "write height x width, e.g. '5x5'")
    return int(match[1]), int(match[2])
