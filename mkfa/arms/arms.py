"""The table of arms: which filters a network gets before training, and whether they stay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mkfa.errors import UnknownNameError, nearest
from mkfa.frozen import FrozenDict


@dataclass(frozen=True, slots=True)
class ArmSpec:
    """Which filters a network gets before training, and whether they stay.

    Attributes
    ----------
    arm : str
        A name of `mkfa.arms.arms.ARMS`.
    layers : int
        The first n layers are set; the others are initialised by the seed and trained.
    what : str
        "depthwise", "pointwise" or "conv".
    with_bias : bool
        Copy (and freeze) biases too.
    fit_kernel : str
        "pad" or "crop": how a source's kernels of another size are fitted; "" refuses them.
    """

    arm: str
    layers: int
    what: str = "depthwise"
    with_bias: bool = False
    fit_kernel: str = ""


Source = Literal["none", "needed", "optional"]


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to set spatial filters.

    Attributes
    ----------
    name : str
    source : str
        "needed", "optional" or "none".
    frozen : bool
    text : str
        What the filters of layers 1..n are.
    control : str
        What it controls for; "" for the baseline.
    depthwise_only : bool
        True where the filters are patterns of single kernels, which a dense layer has no use for.
    """

    name: str
    source: Source
    frozen: bool
    text: str
    control: str = ""
    depthwise_only: bool = False


_ARMS = (
    Arm("baseline", "none", False, "initialised and trained"),
    Arm("transfer", "needed", True, "copied from the source, layer by layer, frozen", "are filters general?"),
    Arm("selffer", "needed", True, "copied from the same domain's base run, frozen", "splitting co-adapted layers"),
    Arm("transfer+", "needed", False, "copied from the source, trained on", "a better start"),
    Arm("selffer+", "needed", False, "copied from the same domain's base run, trained on", "a better start"),
    Arm("shuffle", "needed", True, "the source's, permuted among the channels of each layer, frozen", "position"),
    Arm("shuffle-network", "needed", True, "the source's, permuted among all set layers, frozen", "layer and position"),
    Arm("first-k", "needed", True, "the source's first three layers (first-N: N), repeated, frozen", "depth"),
    Arm("stack", "needed", True, "all of the source's in order, repeated, frozen", "architecture and width"),
    Arm("random", "none", True, "as initialised, frozen", "do learned filters matter?"),
    Arm(
        "covariance",
        "needed",
        True,
        "drawn with the source layers' tap covariance, frozen",
        "second moments against patterns",
    ),
    Arm(
        "basis",
        "none",
        True,
        "random analytic patterns with gain and offset, frozen",
        "are analytic patterns enough?",
        depthwise_only=True,
    ),
    Arm(
        "keys",
        "optional",
        True,
        "eight keys with gain and offset (of the source's filters, if given), frozen",
        "are eight patterns enough?",
        depthwise_only=True,
    ),
    Arm("delta", "none", True, "the identity kernel, frozen", "sensitivity", depthwise_only=True),
    Arm("box", "none", True, "the mean kernel, frozen", "sensitivity", depthwise_only=True),
)


ARMS: Mapping[str, Arm] = FrozenDict({arm.name: arm for arm in _ARMS})


FIRST_K = 3
"""Layers that `first-k` takes; `first-5` takes five."""


def parse_arm(name: str) -> tuple[Arm, int]:
    """Return the arm that a name stands for, and the k of `first-k` (`first-5` is that arm with five layers)."""
    if first := re.fullmatch(r"first-([1-9]\d*)", name):
        return ARMS["first-k"], int(first[1])
    if name not in ARMS:
        raise UnknownNameError(name, "is no arm", nearest(name, ARMS) or f"choose one of {', '.join(ARMS)}")
    return ARMS[name], FIRST_K
