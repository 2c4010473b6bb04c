"""Names of networks of one resolution, `KIND_C_L` with C channels and L layers, and their options (standard library
only).

One resolution means: patches, then L blocks on a feature map of one size. Nothing but the depthwise layers mixes pixels
after the patches, so that an experiment can see what their filters do. In networks with stages, the stem and the
downsampling convolutions mix pixels too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mkfa.frozen import FrozenDict


@dataclass(frozen=True, slots=True)
class Kind:
    """Defaults of a kind of network: size of kernels and patches, and `branch_gain` (0: it has no such option)."""

    kernel: int
    patch: int
    branch_gain: float


KINDS: Mapping[str, Kind] = FrozenDict(
    {"resmixer": Kind(7, 4, 0.3), "convnext": Kind(7, 4, 1e-6), "convmixer": Kind(7, 2, 0.0)}
)
"""Kinds by name. They are built by `mkfa.networks.residual_mixer`, `mkfa.networks.isotropic_convnext`, and timm."""
FORMS = "resmixer_C_L, convnext_C_L or convmixer_C_L"


@dataclass(frozen=True, slots=True)
class Name:
    """The parts of a name, and the defaults of its kind."""

    kind: str
    width: int
    layers: int

    @property
    def defaults(self) -> Kind:
        """The defaults of its kind."""
        return KINDS[self.kind]


def parse_name(arch: str) -> Name | None:
    """Return the parts of a name; None for a name of any other form.

    Some of timm's networks have names of the form `convmixer_C_L` too; the caller must tell them apart.

    Examples
    --------
    >>> parse_name("resmixer_32_18"), parse_name("convnext_tiny")
    (Name(kind='resmixer', width=32, layers=18), None)
    """
    named = re.fullmatch(rf"({'|'.join(KINDS)})_(\d+)_(\d+)", arch)
    return Name(named[1], int(named[2]), int(named[3])) if named else None


def architecture(arch: str) -> str:
    """Return the family of a network, by which networks that differ in size alone are told from others.

    Examples
    --------
    >>> architecture("resmixer_32_18"), architecture("resmixer_64_6"), architecture("convnext_tiny")
    ('resmixer', 'resmixer', 'convnext')
    """
    return arch.partition("_")[0]


def without_defaults(arch: str, options: Mapping[str, float]) -> dict[str, float]:
    """Return a network's options without those at their defaults, so that stating a default makes no other run.

    Options of a ConvMixer are returned unchanged, since earlier versions recorded its defaults too.

    Examples
    --------
    >>> without_defaults("resmixer_32_18", {"patch": 4, "kernel": 5}), without_defaults("convmixer_8_2", {"patch": 2})
    ({'kernel': 5}, {'patch': 2})
    """
    name = parse_name(arch)
    if name is None or name.kind == "convmixer":
        return dict(options)
    return {key: value for key, value in options.items() if value != getattr(name.defaults, key, None)}
