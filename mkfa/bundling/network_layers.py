"""Record the layers of networks of every kind in a small file (`python -m mkfa.bundling.network_layers`).

So a plan needs neither torch nor timm; `mkfa.training.known_layers` reads the file. Networks that are made for one size
of images are left out, since that size decides the shape of some of their layers.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mkfa.errors import MkfaError
from mkfa.networks.hornet import WIDTHS, register
from mkfa.networks.layers import WHAT, followers, spatial_layers
from mkfa.readers.timm.module_graph import architectures, quiet_timm
from mkfa.storage.atomic import atomic_write
from mkfa.training.network_size import TENSOR

FORMAT = 1
CHANNELS = 5
"""Colour channels of the recorded networks, which no other layer has, so that the first layer is recognised."""


def record(name: str) -> dict[str, Any]:
    """Return what is recorded of one network, {} if it is made for one size of images or cannot be built.

    A kind of layers is left out if another layer than the first convolution depends on the channels of the images.
    """
    import timm
    import torch

    config = timm.get_pretrained_cfg(name)
    if config is None or config.fixed_input_size:
        return {}
    try:
        with quiet_timm(), torch.device("meta"):
            model: Any = timm.create_model(name, in_chans=CHANNELS)
    except (TypeError, ValueError, RuntimeError, AssertionError):
        return {}
    first = config.first_conv
    model.image_shape = (CHANNELS, *config.input_size[1:])
    entry: dict[str, Any] = {}
    for what in WHAT:
        try:
            layers = spatial_layers(model, what)
        except MkfaError:  # it has none
            entry[what] = []
            continue
        except (TypeError, ValueError, RuntimeError, AssertionError):  # its forward pass needs data
            return {}
        along = followers(model, what)
        groups = [((key, layer), *along.get(key, ())) for key, layer in layers]
        named: list[tuple[str, Any]] = [pair for group in groups for pair in group]
        if all(key == first or getattr(layer, "in_channels", 0) != CHANNELS for key, layer in named):
            entry[what] = [[_spec(layer) for _, layer in group] for group in groups]
    entry["bytes"] = sum(t.numel() * t.element_size() + TENSOR for t in model.state_dict().values())
    return entry


def _spec(layer: Any) -> list[int]:
    """Return output and input channels, kernel height and width, and whether it has a bias; of the first layer its
    stride too, and -1 as input channels."""
    shape = [*layer.weight.shape, 1, 1][:4]
    spec = [*shape, int(layer.bias is not None)]
    if getattr(layer, "in_channels", 0) != CHANNELS:
        return spec
    return [shape[0], -1, *spec[2:], int(layer.stride[0])]


def assemble(done: Mapping[str, Mapping[str, Any]], version: str) -> dict[str, Any]:
    """Return the file's content; equal layers share one entry in `specs`."""
    specs: dict[str, int] = {}

    def number(spec: Sequence[int]) -> int:
        return specs.setdefault(json.dumps(spec), len(specs))

    networks = {}
    for name, entry in sorted(done.items()):
        if entry:
            kinds = {w: [[number(spec) for spec in group] for group in entry[w]] for w in WHAT if w in entry}
            networks[name] = {**kinds, "bytes": entry["bytes"]}
    return {"format": FORMAT, "timm": version, "specs": [json.loads(s) for s in specs], "networks": networks}


def main() -> None:
    """Record the networks that match patterns, and write them."""
    import timm

    parser = argparse.ArgumentParser(description="Record the layers of the installed timm's networks.")
    parser.add_argument("--out", type=Path, required=True, help="the file, a .json.gz")
    parser.add_argument("--progress", type=Path, required=True, help="file with a line a network, to resume from")
    parser.add_argument("patterns", nargs="*", default=["*"], help="names of networks, such as 'resnet*'")
    options = parser.parse_args()
    register()
    done = {}
    for line in options.progress.read_text().splitlines() if options.progress.exists() else []:
        done.update(json.loads(line))
    known = [*WIDTHS, *(name for name in architectures() if name not in WIDTHS)]
    with options.progress.open("a") as log:
        for name in dict.fromkeys(n for pattern in options.patterns for n in fnmatch.filter(known, pattern)):
            if name not in done:
                done[name] = record(name)
                log.write(json.dumps({name: done[name]}) + "\n")
                log.flush()
                gc.collect()
    text = json.dumps(assemble(done, timm.__version__), separators=(",", ":"), sort_keys=True)
    atomic_write(options.out, gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
