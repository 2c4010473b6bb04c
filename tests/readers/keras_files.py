"""Write files as Keras writes them, with h5py: the layouts were compared with files of Keras 2 and 3."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Layers = dict[str, tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]]
"""Name -> (configuration, weights by name)."""


def layer(kind: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": config}


def network(seed: int = 0) -> Layers:
    """A stem, depthwise layers of both kinds, a grouped one, a transposed one and a classifier."""
    rng = np.random.default_rng(seed)

    def random(*shape: int) -> np.ndarray[Any, Any]:
        return rng.standard_normal(shape).astype("f4")

    steps = {"strides": [1, 1], "dilation_rate": [1, 1], "data_format": "channels_last"}
    return {
        "stem": (layer("Conv2D", **steps, groups=1), {"kernel": random(3, 3, 3, 8), "bias": random(8)}),
        "dw": (
            layer("DepthwiseConv2D", **steps | {"strides": [2, 2]}, depth_multiplier=2),
            {"depthwise_kernel": random(5, 5, 8, 2), "bias": random(16)},
        ),
        "bn": (layer("BatchNormalization"), {"gamma": random(16), "beta": random(16)}),
        "sep": (
            layer("SeparableConv2D", **steps | {"dilation_rate": [2, 2]}, depth_multiplier=3),
            {"depthwise_kernel": random(3, 3, 16, 3), "pointwise_kernel": random(1, 1, 48, 4), "bias": random(4)},
        ),
        "up": (layer("Conv2DTranspose", **steps), {"kernel": random(3, 3, 4, 4), "bias": random(4)}),
        "grouped": (layer("Conv2D", **steps, groups=4), {"kernel": random(3, 3, 1, 8)}),
        "few": (layer("Conv2D", **steps, groups=2), {"kernel": random(3, 3, 4, 8)}),
        "last": (layer("DepthwiseConv2D", **steps), {"depthwise_kernel": random(1, 3, 8, 1)}),
        "one": (layer("DepthwiseConv2D", **steps), {"depthwise_kernel": random(1, 1, 8, 1)}),
        "time": (layer("DepthwiseConv1D"), {"depthwise_kernel": random(3, 8, 1)}),
        "classes": (layer("Dense"), {"kernel": random(8, 2)}),
    }


def filters(kernel: np.ndarray[Any, Any], groups: int = 0) -> np.ndarray[Any, Any]:
    """The same filters in a loop: filter c * m + j is the kernel's [:, :, c, j], of grouped ones [:, :, 0, o]."""
    if groups:
        return np.stack([kernel[:, :, 0, o] for o in range(kernel.shape[3])])
    return np.stack([kernel[:, :, c, j] for c in range(kernel.shape[2]) for j in range(kernel.shape[3])])


def model(layers: Layers, name: str = "net", kind: str = "Sequential") -> dict[str, Any]:
    """The configuration of a model."""
    parts = []
    for key, (node, _) in layers.items():
        parts.append({**node, "config": {**node["config"], "name": key}})
    return {"class_name": kind, "config": {"name": name, "layers": parts}}


def write_old(path: Path, layers: Layers, *, config: bool, suffix: str = ":0", chunked: bool = False) -> None:
    """As `model.save("x.h5")` and, without a configuration, `save_weights("x.h5")` of Keras 2."""
    with h5py.File(path, "w") as f:
        root = f.create_group("model_weights") if config else f
        if config:
            f.attrs["model_config"] = json.dumps(model(layers))
            f.create_dataset("optimizer_weights/Adam/m/dw/depthwise_kernel:0", data=np.ones((5, 5, 8, 2), "f4"))
        names = np.array([name.encode() for name in layers])
        if chunked:
            for i in range(0, len(names), 3):
                root.attrs[f"layer_names{i // 3}"] = names[i : i + 3]
        else:
            root.attrs["layer_names"] = names
        for name, (_, weights) in layers.items():
            group = root.create_group(name)
            keys = [f"{name}/{key}{suffix}" for key in weights]
            group.attrs["weight_names"] = np.array([key.encode() for key in keys])
            for key, array in zip(keys, weights.values(), strict=True):
                group.create_dataset(key, data=array)


_NEW = {
    "Conv2D": "conv2d",
    "DepthwiseConv2D": "depthwise_conv2d",
    "SeparableConv2D": "separable_conv2d",
    "BatchNormalization": "batch_normalization",
    "Conv2DTranspose": "conv2d_transpose",
    "DepthwiseConv1D": "depthwise_conv1d",
    "Dense": "dense",
}


def new_image(layers: Layers, *, names: bool = True, prefix: str = "", **options: Any) -> bytes:
    """The weights as Keras 3 writes them: one group a layer, called after its class and numbered."""
    buffer = io.BytesIO()
    seen: dict[str, int] = {}
    with h5py.File(buffer, "w") as f:
        for name, (node, weights) in layers.items():
            base = _NEW[node["class_name"]]
            key = f"{base}_{seen[base]}" if base in seen else base
            seen[base] = seen.get(base, 0) + 1
            group = f.create_group(f"{prefix}layers/{key}/vars")
            if names:
                group.attrs["name"] = name
            for i, array in enumerate(weights.values()):
                group.create_dataset(str(i), data=array, **options)
        f.create_dataset("optimizer/vars/1", data=np.ones((5, 5, 8, 2), "f4"))
    return buffer.getvalue()


def write_keras(path: Path, config: Any, image: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    """As `model.save("x.keras")`."""
    with zipfile.ZipFile(path, "w", compression) as out:
        out.writestr("metadata.json", "{}")
        out.writestr("config.json", json.dumps(config))
        out.writestr("model.weights.h5", image)


def write_shards(folder: Path, layers: Layers, *, count: int, stem: str = "model", divide: str = "") -> Path:
    """As `model.save_weights("STEM.weights.json", max_shard_size=...)` of Keras 3; returns the index.

    The weights of the layer `divide` are in two files, of which only the first has its name.
    """
    places: dict[str, list[str]] = {}
    seen: dict[str, int] = {}
    names = [f"{stem}_{i:05d}.weights.h5" for i in range(count)]
    files = [h5py.File(folder / name, "w") for name in names]
    files[0].create_group("vars").attrs["name"] = "functional"
    for at, (name, (node, weights)) in enumerate(layers.items()):
        base = _NEW[node["class_name"]]
        key = f"layers/{base}_{seen[base]}/vars" if base in seen else f"layers/{base}/vars"
        seen[base] = seen.get(base, 0) + 1
        first = at * count // len(layers)
        for i, array in enumerate(weights.values()):
            shard = min(first + (name == divide and i > 0), count - 1)
            group = files[shard].require_group(key)
            if not i:
                group.attrs["name"] = name
            group.create_dataset(str(i), data=array)
            files_of = places.setdefault("/" + key, [])
            if names[shard] not in files_of:
                files_of.append(names[shard])
    for file in files:
        file.close()
    index = folder / f"{stem}.weights.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1.0}, "weight_map": places}, indent=4))
    return index
