"""Record timm's depthwise networks in a small file (`python -m mkfa.bundling.timm_catalogue`).

Importing timm takes seconds and most of a gigabyte. `mkfa.readers.timm.catalogue` reads the recorded catalogue instead.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

from mkfa.errors import MkfaError
from mkfa.networks.layers import spatial_layers
from mkfa.readers.timm.module_graph import ModuleGraph, architectures, deprecated_names, module_graph, tags_of
from mkfa.storage.atomic import atomic_write
from mkfa.training.network_size import TENSOR

FORMAT = 1


def build_catalogue(progress: Path) -> dict[str, Any]:
    """Record every architecture and tag of the installed timm.

    Parameters
    ----------
    progress : file with one JSON line an architecture, from which an interrupted build resumes.
    """
    import timm

    done = _read_progress(progress, timm.__version__)
    with progress.open("a") as log:
        for name in architectures():
            if name in done:
                continue
            try:
                graph = module_graph(name)
                entry: dict[str, Any] = {"timm": timm.__version__, "name": name, **_pack(graph)}
                entry["bytes"] = _saved_bytes(name, graph) if graph.layers else 0
            except MkfaError as error:
                entry = {"timm": timm.__version__, "name": name, "failed": error.problem}
            done[name] = entry
            log.write(json.dumps(entry) + "\n")
            log.flush()
            gc.collect()
    return _assemble(done, timm.__version__)


def _read_progress(progress: Path, version: str) -> dict[str, dict[str, Any]]:
    done = {}
    for line in progress.read_text().splitlines() if progress.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:  # a line that was cut off
            continue
        if entry["timm"] == version:
            done[entry["name"]] = entry
    return done


def _pack(graph: ModuleGraph) -> dict[str, Any]:
    layers = [list(astuple(layer)) for layer in graph.layers]
    return {"order": graph.order, "layers": layers, "aliases": dict(graph.aliases), "names": graph.names}


def _saved_bytes(name: str, graph: ModuleGraph) -> int:
    """Return about the bytes of the saved weights; 0 if transfers count other layers than those of the graph."""
    import timm
    import torch

    with torch.device("meta"):
        model: Any = timm.create_model(name)
    model.image_shape = tuple(model.pretrained_cfg["input_size"])
    layers: Any = spatial_layers(model, "depthwise")
    counted = [(f"{key}.weight", tuple(layer.weight.shape)) for key, layer in layers]
    if counted != [(layer.key, layer.shape) for layer in graph.layers]:
        return 0
    return sum(t.numel() * t.element_size() + TENSOR for t in model.state_dict().values())


def _assemble(done: Mapping[str, Mapping[str, Any]], version: str) -> dict[str, Any]:
    """Return the catalogue; equal layers share one entry in `specs`."""
    specs: dict[str, int] = {}
    graphs: dict[str, Any] = {}
    for name, entry in sorted(done.items()):
        if not entry.get("layers"):
            continue
        numbers = [specs.setdefault(json.dumps(_spec(layer)), len(specs)) for layer in entry["layers"]]
        graphs[name] = {
            "order": entry["order"],
            "keys": [layer[0].removesuffix(".weight") for layer in entry["layers"]],
            "specs": numbers,
            "stages": [layer[6] for layer in entry["layers"]],
            "names": entry["names"],
        }
        if entry["bytes"]:
            graphs[name]["bytes"] = entry["bytes"]
        if entry["aliases"]:
            graphs[name]["aliases"] = entry["aliases"]
    return {
        "format": FORMAT,
        "timm": version,
        "specs": [json.loads(spec) for spec in specs],
        "graphs": graphs,
        "plain": sorted(name for name, entry in done.items() if not entry.get("layers") and "failed" not in entry),
        "failed": {name: entry["failed"] for name, entry in sorted(done.items()) if "failed" in entry},
        "deprecated": deprecated_names(),
        "tags": {name: tags_of(name) for name in sorted(graphs)},
    }


def _spec(layer: list[Any]) -> list[Any]:
    _key, shape, stride, dilation, multiplier, has_bias, _stage, experts, kernel = layer
    return [shape, stride, dilation, multiplier, int(has_bias), experts, kernel]


def main() -> None:
    """Build the catalogue and write it."""
    parser = argparse.ArgumentParser(description="Record the installed timm's depthwise networks.")
    parser.add_argument("--out", type=Path, required=True, help="the catalogue, a .json.gz file")
    parser.add_argument("--progress", type=Path, help="file to resume from (default: beside --out)")
    options = parser.parse_args()
    catalogue = build_catalogue(options.progress or options.out.with_suffix(".progress.jsonl"))
    text = json.dumps(catalogue, separators=(",", ":"), sort_keys=True)
    atomic_write(options.out, gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
