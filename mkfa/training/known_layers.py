"""The layers of a network as its name tells them, so that plans need neither torch nor timm.

A name of one resolution says them itself. Those of timm's networks and of HorNets are recorded by
`mkfa.bundling.network_layers`, and depthwise ones in timm's catalogue too. Nothing recorded is used with another
version of timm.
"""

from __future__ import annotations

import functools
import gzip
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from mkfa.networks.build import SMALL, check_options, unknown_network
from mkfa.networks.hornet import WIDTHS, plain_name
from mkfa.networks.names import Name
from mkfa.readers.timm import catalogue
from mkfa.storage.folders import data_file

Shape = tuple[int, int, int, int]
"""Output channels, input channels of a group, height and width of the kernels (1, 1 of a linear layer)."""


@dataclass(frozen=True, slots=True)
class KnownLayer:
    """One layer of a network.

    Attributes
    ----------
    shape : Shape
    along : the layers that are set along with it (`mkfa.networks.layers.followers`).
    """

    shape: Shape
    has_bias: bool
    along: tuple[KnownLayer, ...] = ()


def known_layers(
    arch: str, options: Mapping[str, Any], what: str = "depthwise", *, channels: int = 3, size: int = 224
) -> tuple[KnownLayer, ...] | None:
    """Return the layers that `mkfa.networks.layers.spatial_layers` lists, () if there are none; None if unknown.

    Parameters
    ----------
    options : of `mkfa.networks.build.build_network`.
    channels, size : of the images.

    Raises MkfaError: neither timm nor mkfa has such a network, or it cannot have these options.

    Examples
    --------
    >>> [layer.shape for layer in known_layers("resmixer_32_1", {"kernel": 5}, "conv", channels=1)]
    [(32, 1, 4, 4), (32, 1, 5, 5), (32, 32, 1, 1)]
    >>> known_layers("convnext_tiny", {}, "conv", size=32)[0]
    KnownLayer(shape=(96, 3, 2, 2), has_bias=True, along=())
    """
    name = check_options(arch, **options)
    if name is not None:
        return _of_one_resolution(name, options, what, channels)
    arch = plain_name(arch)
    _check_name(arch)
    if (groups := _recorded(arch).get(what)) is None:
        return _catalogued(arch) if what == "depthwise" else None
    specs, stride = _file()["specs"], options.get("stem_stride")

    def layer(spec: list[int]) -> tuple[Shape, bool]:
        out, into, *kernel, has_bias = spec[:5]
        if into < 0:  # the first layer
            into, usual = channels, spec[5]
            if kernel[0] == usual:  # patches
                kernel = [stride or (max(1, usual // 2) if size <= SMALL else usual)] * 2
        return cast("Shape", (out, into, *kernel)), bool(has_bias)

    made = [[layer(specs[n]) for n in group] for group in groups]
    return tuple(KnownLayer(*first, tuple(KnownLayer(*one) for one in along)) for first, *along in made)


def known_bytes(arch: str) -> int:
    """Return about the bytes of the saved weights of a network of timm, with 1000 classes; 0 if unknown."""
    return int(_recorded(arch := plain_name(arch)).get("bytes", 0)) or catalogue.saved_size(arch)


def _of_one_resolution(name: Name, options: Mapping[str, Any], what: str, channels: int) -> tuple[KnownLayer, ...]:
    w, made = name.width, {key: int(options.get(key, getattr(name.defaults, key))) for key in ("kernel", "patch")}
    stem = KnownLayer((w, channels, made["patch"], made["patch"]), has_bias=True)
    spatial = KnownLayer((w, 1, made["kernel"], made["kernel"]), has_bias=True)
    mixing = [KnownLayer((w, w, 1, 1), has_bias=True)]
    if name.kind == "convnext":  # two linear layers
        mixing = [KnownLayer((4 * w, w, 1, 1), has_bias=True), KnownLayer((w, 4 * w, 1, 1), has_bias=True)]
    convolutions = [spatial] if name.kind == "convnext" else [spatial, *mixing]
    first = [stem] if what == "conv" or (what == "pointwise" and made["patch"] == 1) else []
    return (*first, *({"depthwise": [spatial], "pointwise": mixing, "conv": convolutions}[what] * name.layers))


def _check_name(arch: str) -> None:
    """Refuse a name that timm does not have; timm itself is asked once it is imported, since names can be added."""
    if "timm" in sys.modules or not catalogue.is_recorded_version():
        return
    known = {*catalogue.names(), *WIDTHS}
    if arch.partition(".")[0] not in known:
        raise unknown_network(arch, sorted(known))


def _catalogued(arch: str) -> tuple[KnownLayer, ...] | None:
    """Return the depthwise layers in timm's catalogue, if they are known to be the ones that transfers count."""
    if not catalogue.saved_size(arch):
        return None
    layers = catalogue.layers_of(arch)
    return tuple(KnownLayer((x.shape[0], 1, x.shape[2], x.shape[3]), x.has_bias) for x in layers)


def _recorded(arch: str) -> Mapping[str, Any]:
    """Return what is recorded of a network with the installed version of timm; {} if nothing is."""
    found: dict[str, Any] = _file()["networks"].get(arch, {})
    return found if catalogue.installed_version() == _file()["timm"] else {}


@functools.cache
def _file() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(gzip.decompress(data_file("network_layers.json.gz").read_bytes()))
    return content
