"""Weights that a file stores in parts: pruned, weight-normalised, spectrally normalised, sparse, with a scale.

PyTorch's pruning keeps `weight_orig` and `weight_mask`, its weight norm `weight_g` and `weight_v`, its spectral norm
`weight_orig`, `weight_u` and `weight_v`; `torch.nn.utils.parametrizations` keeps the same parts under other names. The
weight that the network uses is computed from them as PyTorch does in evaluation mode. Whole numbers and 8-bit floats
have their scale beside them: `weight_scale` (compressed-tensors, ModelOpt), `scale_weight` (ComfyUI), `weight._scale`
(quanto, which packs numbers of 4 and 2 bits into bytes).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mkfa.array_types import F32, F64
from mkfa.readers.reading import TensorInfo
from mkfa.readers.tensors.depthwise import is_named_depthwise
from mkfa.readers.tensors.dtypes import FLOATS
from mkfa.readers.tensors.view import Made

PRUNED = "pruned weights (weight times mask)"
WEIGHT_NORM = "weight-normalised weights (g v / |v|)"
SPECTRAL = "spectrally normalised weights (weight / sigma)"
SPARSE = "weights of a sparse network, (taps, channels)"
SCALED = "quantised weights (whole numbers or 8-bit floats times a scale)"
PACKED = "quantised weights (numbers of 4 or 2 bits, packed into bytes, times a scale)"

_STORED_AS = {"int8": "qint8", "uint8": "quint8"}

Parts = Mapping[str, TensorInfo]


def computed(
    infos: Mapping[str, TensorInfo], metadata: Mapping[str, str]
) -> tuple[dict[str, TensorInfo], dict[str, Made], tuple[str, ...]]:
    """Return the tensors with computed weights in place of their parts, how to compute them, and notes.

    Parts that do not suffice stay as they are.
    """
    out: dict[str, TensorInfo] = {}
    made: dict[str, Made] = {}
    used: set[str] = set()
    counts: Counter[str] = Counter()
    for key, info in infos.items():
        found = _pruned_or_normalised(key, info, infos) or _sparse(key, info, infos)
        found = found or _packed(key, info, infos) or _scaled(key, info, infos)
        if found is None or (found[0] in infos and found[3] not in (SCALED, PACKED)):
            if key not in used:
                out[key] = info
            continue
        name, shape, recipe, kind = found
        out[name] = replace(info, key=name, shape=shape, dtype=_STORED_AS.get(info.dtype, info.dtype))
        made[name] = recipe
        used.update(set(recipe.sources) - {name})
        counts[kind] += 1
    kept = {key: info for key, info in out.items() if key not in used}
    return kept, made, tuple(f"{count} {kind} were computed from their parts" for kind, count in counts.items())


def _pruned_or_normalised(key: str, info: TensorInfo, infos: Parts) -> tuple[str, tuple[int, ...], Made, str] | None:
    """Return name, shape, recipe and kind of the weight whose main part is `key`, else None."""
    head, _, leaf = key.rpartition(".")
    dot = "." if head else ""
    if leaf in ("weight_orig", "weight_bar"):
        name, beside = f"{head}{dot}weight", f"{head}{dot}weight"
        found = _masked_or_spectral(key, info, infos, f"{beside}_mask", f"{beside}_u", f"{beside}_v")
        return None if found is None else (name, info.shape, *found)
    if leaf == "weight_v" and f"{head}{dot}weight_orig" not in infos and f"{head}{dot}weight_bar" not in infos:
        return _weight_norm(f"{head}{dot}weight", f"{head}{dot}weight_g", key, infos)
    if head.endswith("parametrizations.weight"):
        module = head.removesuffix("parametrizations.weight")
        if leaf == "original1":
            return _weight_norm(f"{module}weight", f"{head}.original0", key, infos)
        if leaf == "original":
            inside = [k for k in infos if k.startswith(f"{head}.") and k != key]
            mask = next((k for k in inside if k.rsplit(".", 1)[-1] == "mask"), "")
            u, v = (next((k for k in inside if k.rsplit(".", 1)[-1] == part), "") for part in ("_u", "_v"))
            found = _masked_or_spectral(key, info, infos, mask, u, v)
            return None if found is None else (f"{module}weight", info.shape, *found)
    return None


def _masked_or_spectral(key: str, info: TensorInfo, infos: Parts, mask: str, u: str, v: str) -> tuple[Made, str] | None:
    if mask in infos and infos[mask].shape == info.shape:
        return Made((key, mask), lambda parts: parts[0] * parts[1]), PRUNED
    if u in infos and infos[u].shape == info.shape[:1]:
        if v in infos and infos[v].shape == (math.prod(info.shape[1:]),):
            return Made((key, u, v), _spectral), SPECTRAL
        return Made((key, u), _spectral), SPECTRAL
    return None


def _spectral(parts: Sequence[F32]) -> F32:
    """Return weight / sigma with sigma = u' W v (Miyato et al. 2018); without v, v = W' u / |W' u|."""
    weight, u = np.asarray(parts[0], np.float64), np.asarray(parts[1], np.float64)
    matrix = weight.reshape(len(weight), -1)
    v: F64 = np.asarray(parts[2], np.float64) if len(parts) > 2 else matrix.T @ u / np.linalg.norm(matrix.T @ u)
    return np.asarray(weight / (u @ matrix @ v), np.float32)


def _weight_norm(name: str, g: str, v: str, infos: Parts) -> tuple[str, tuple[int, ...], Made, str] | None:
    """Return the weight g v / |v| (Salimans & Kingma 2016); the norm runs over the axes in which g has length 1."""
    if g not in infos:
        return None
    size, shape = infos[g].shape, infos[v].shape
    if math.prod(size) == 1:
        axes = tuple(range(len(shape)))
    elif len(size) == len(shape) and all(a in (1, b) for a, b in zip(size, shape, strict=True)):
        axes = tuple(i for i, n in enumerate(size) if n == 1)
    else:
        return None

    def compute(parts: Sequence[F32]) -> F32:
        direction = np.asarray(parts[1], np.float64)
        norm = np.sqrt(np.square(direction).sum(axis=axes, keepdims=True))
        length = parts[0].reshape(()) if math.prod(size) == 1 else parts[0]
        return np.asarray(direction * (length / np.where(norm > 0, norm, 1)), np.float32)

    return name, shape, Made((g, v), compute), WEIGHT_NORM


def _sparse(key: str, info: TensorInfo, infos: Parts) -> tuple[str, tuple[int, ...], Made, str] | None:
    """Return the weight of a sparse depthwise convolution, stored as (kh * kw, C) with the columns of the kernel first.

    MinkowskiEngine keeps such kernels; ConvNeXt V2 was pretrained with it, and its `remap_checkpoint_keys` turns them
    into (C, 1, kh, kw) as here.
    """
    head, _, leaf = key.rpartition(".")
    if leaf != "kernel" or len(info.shape) != 2 or not is_named_depthwise(key) or info.dtype not in FLOATS:
        return None
    size = math.isqrt(info.shape[0])
    if size**2 != info.shape[0] or size < 2 or f"{head}.weight" in infos:
        return None

    def compute(parts: Sequence[F32]) -> F32:
        return parts[0].T.reshape(-1, 1, size, size).transpose(0, 1, 3, 2)

    return f"{head}.weight", (info.shape[1], 1, size, size), Made((key,), compute), SPARSE


def _scaled(key: str, info: TensorInfo, infos: Parts) -> tuple[str, tuple[int, ...], Made, str] | None:
    """Return the weight (number - zero) * scale; one scale for all, or one for each first index."""
    if info.dtype not in _STORED_AS and not info.dtype.startswith("float8"):
        return None
    name = key.removesuffix("._data")
    head, dot, _ = name.rpartition(".")
    scales = (f"{name}_scale", f"{name}._scale", f"{name}.scale", f"{name}_scale_inv", f"{head}{dot}scale_weight")
    scale = next((k for k in scales if k in infos and infos[k].dtype in FLOATS), "")
    zero = next((k for k in (f"{name}_zero_point", f"{name}.zero_point") if k in infos), "")
    sizes = {math.prod(infos[part].shape) for part in (scale, zero) if part}
    if not scale or not sizes <= {1, info.shape[:1] and info.shape[0]}:
        return None

    def compute(parts: Sequence[F32]) -> F32:
        step, *shift = (part.reshape(-1, *[1] * (len(info.shape) - 1)) for part in parts[1:])
        return (parts[0] - shift[0] if shift else parts[0]) * step

    return name, info.shape, Made((key, scale, *([zero] if zero else [])), compute), SCALED


def _packed(key: str, info: TensorInfo, infos: Parts) -> tuple[str, tuple[int, ...], Made, str] | None:
    """Return the weight number * scale - shift that quanto packs, the lowest bits of a byte being the first filters.

    A shift of whole numbers is subtracted before the scale is applied. Groups of taps (two axes) are not unpacked.
    """
    name = key.removesuffix("._data._data")
    scale, shift = f"{name}._scale", f"{name}._shift"
    if name == key or info.dtype != "uint8" or scale not in infos or shift not in infos:
        return None
    shapes = {infos[part].shape for part in (scale, shift)}
    out, rows = infos[scale].shape[:1], info.shape[:1]
    if shapes != {(*out, *[1] * (len(info.shape) - 1))} or not out or not rows:
        return None
    values = next((n for n in (2, 4) if -(-out[0] // n) == rows[0]), 0)
    if not values:
        return None
    whole = infos[shift].dtype not in FLOATS

    def compute(parts: Sequence[F32]) -> F32:
        data, bits = parts[0].astype(np.uint8), 8 // values
        numbers = np.concatenate([data >> bits * i & 2**bits - 1 for i in range(values)])[: out[0]].astype(np.float32)
        return (numbers - parts[2]) * parts[1] if whole else numbers * parts[1] - parts[2]

    return name, (out[0], *info.shape[1:]), Made((key, scale, shift), compute), PACKED
