"""The parameters of a comparison, checked; every comparison records them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mkfa.errors import MkfaError
from mkfa.nulls.draws import NULLS, STRICT
from mkfa.similarity.measures.table import DEFAULT_MEASURES, MEASURES, choose

BANDWIDTH = 0.25
"""Kernel width of `mmd`: 1 - cos^2 is at most 1, so a fixed width makes values of different pairs comparable."""


PAIR_NULLS = ("shuffled", "gaussian", "blurred", STRICT)
"""The nulls that banks are compared with unless others are named."""
PRIMARY = "coverage", STRICT
"""Measure and null of the primary test, chosen beforehand: coverage finds planted shared filters most often of all
measures, and covariance-layer keeps everything that the second moments of layers explain. All other tests are
exploratory."""


@dataclass(frozen=True, slots=True)
class CompareSettings:
    """Parameters of a comparison; see `mkfa.compare`. `permutations` is its `draws`, as result files call them."""

    measures: tuple[str, ...]
    nulls: tuple[str, ...]
    permutations: int = 999
    seed: int = 0
    sample: int = 192
    threshold: float = 0.9
    bandwidth: float | None = BANDWIDTH
    kernels: tuple[tuple[int, int], ...] = ()
    splits: int = 8
    ceiling: str = "gaussian"

    def __post_init__(self) -> None:
        counts = (("draws", self.permutations, 19), ("sample", self.sample, 16), ("splits", self.splits, 1))
        for name, count, least in (*counts, ("seed", self.seed, 0)):
            if count < least:
                raise MkfaError(f"{name} {count}", f"is less than {least}", f"give {least} or more")
        if not 0 < self.threshold < 1:
            raise MkfaError(f"threshold {self.threshold}", "is not between 0 and 1", "give a |cos|, e.g. 0.9")
        if self.bandwidth is not None and self.bandwidth <= 0:
            raise MkfaError(f"bandwidth {self.bandwidth}", "is not positive", "give a positive width or None")
        for null in (*self.nulls, self.ceiling):
            NULLS.find(null)


def make_settings(
    *,
    measures: str | Sequence[str] | None = None,
    nulls: str | Sequence[str] | None = None,
    kernel_size: str | Sequence[Any] | None = None,
    draws: int = 999,
    permutations: int | None = None,
    bootstrap: int | None = None,
    **others: Any,
) -> CompareSettings:
    """Return the options of `mkfa.compare` as they are recorded; raises as `mkfa.compare`."""
    if bootstrap is not None:
        text = "bootstrap is no longer used: intervals of a comparison leave out one layer after the other"
        warnings.warn(text, FutureWarning, stacklevel=3)
    chosen = choose(_listed("measures", measures, DEFAULT_MEASURES))
    if all(MEASURES.find(name).whole for name in chosen):  # a value without chance says nothing alone
        chosen = choose((PRIMARY[0], *chosen))
    return CompareSettings(
        measures=chosen,
        nulls=tuple(dict.fromkeys(_listed("nulls", nulls, PAIR_NULLS))),
        kernels=tuple(map(_size, _listed("kernel_size", kernel_size, ()))),
        permutations=draws if permutations is None else permutations,
        **others,
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
