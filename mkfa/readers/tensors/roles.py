"""Separate the weights of a checkpoint's network from optimiser state and from EMA twins.

There is no list of wrappers and prefixes: a key is a path, and subtrees of paths with the same layers are copies of one
network. Words only decide which of two copies is the averaged one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mkfa.readers.reading import TensorInfo
from mkfa.readers.tensors.dtypes import FLOATS

OPTIMISER = "optimiser state"
NOT_AVERAGED = "not averaged (the EMA twin was taken)"
SECOND_COPY = "second averaged copy"

_AVERAGED = frozenset(["ema", "emas", "teacher", "target", "momentum", "averaged", "swa", "shadow"])
_MOMENTS = frozenset(["exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_avg_diff", "exp_avg_slow", "exp_inf"])
_MOMENTS |= {"momentum_buffer", "square_avg", "grad_avg", "acc_delta", "slow_buffer"}

Root = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Roles:
    """`left_out` maps a key to the reason why it is not a weight of the network; all other keys are."""

    left_out: Mapping[str, str]
    notes: tuple[str, ...] = ()


def is_depthwise_shape(shape: tuple[int, ...]) -> bool:
    """True for (C, 1, kh, kw) with C > 1 and kh * kw > 1."""
    return len(shape) == 4 and shape[1] == 1 and shape[0] > 1 and shape[2] * shape[3] > 1


def roles(infos: Mapping[str, TensorInfo]) -> Roles:
    """Separate the network's tensors from optimiser state and, if there are averaged (EMA) weights, from raw ones."""
    left_out = {key: OPTIMISER for key in infos if is_optimiser(key)}
    layers = {
        key: info.shape
        for key, info in infos.items()
        if key not in left_out and is_depthwise_shape(info.shape) and is_weight_name(key) and info.dtype in FLOATS
    }
    notes: list[str] = []
    taken: list[frozenset[tuple[str, tuple[int, ...]]]] = []
    for averaged in _averaged_roots(layers):
        under = {key: shape for key, shape in layers.items() if _is_under(key, averaged)}
        signature = _signature(under)
        if signature in taken:
            left_out.update({key: SECOND_COPY for key in infos if _is_under(key, averaged)})
            continue
        twin = _twin_root({k: s for k, s in layers.items() if k not in under}, signature)
        if twin is None:
            rest = len(layers) - len(under)
            if rest and not taken:
                notes.append(f"'{'.'.join(averaged)}' does not match the {rest} other depthwise layers: all were taken")
            continue
        taken.append(signature)
        left_out.update(
            {k: NOT_AVERAGED for k in infos if k not in left_out and _is_under(k, twin) and not _is_under(k, averaged)}
        )
        plain = f"those under '{'.'.join(twin)}'" if twin else "the plain ones"
        notes.append(f"averaged (EMA) weights under '{'.'.join(averaged)}' were taken rather than {plain}")
    return Roles(left_out, tuple(notes))


def is_optimiser(key: str) -> bool:
    """True for a path through an optimiser (`optimizer.state.0.exp_avg`) or to one of its moments."""
    parts = key.lower().split(".")
    if any("optim" in part or part in _MOMENTS for part in parts):
        return True
    return len(parts) >= 3 and parts[-3] == "state" and parts[-2].isdigit() and parts[-1] not in ("weight", "bias")


def is_weight_name(key: str) -> bool:
    """True if the last component of a path names a convolution's weight, not a buffer such as `filt`."""
    leaf = key.rsplit(".", 1)[-1].lower()
    return ("weight" in leaf or leaf.endswith("kernel")) and "blur" not in leaf and not is_reparametrised(key)


def is_reparametrised(key: str) -> bool:
    """True for the tensors that pruning, weight norm or spectral norm store instead of the weight."""
    parts = key.split(".")
    return "parametrizations" in parts or parts[-1] in ("weight_orig", "weight_g", "weight_v", "weight_mask")


def _averaged_roots(keys: Iterable[str]) -> list[Root]:
    """Return the paths that end in a word for averaged weights, before any numbered component, in order of file."""
    known = list(keys)
    heads = {key.split(".")[i] for key in known for i in range(min(3, key.count(".")))}
    roots: dict[Root, None] = {}
    for key in known:
        parts = key.split(".")[:-1]
        for i, part in enumerate(parts):
            if re.search(r"\d$", part):
                break
            words = set(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", part).lower().split("_"))
            if words & _AVERAGED or "modelema" in words or (part.endswith("_k") and part[:-1] + "q" in heads):
                roots[tuple(parts[: i + 1])] = None
                break
    return list(roots)


def _is_under(key: str, root: Root) -> bool:
    return tuple(key.split(".")[: len(root)]) == root


def _signature(layers: Mapping[str, tuple[int, ...]]) -> frozenset[tuple[str, tuple[int, ...]]]:
    """Return names without their common start, with shapes; copies of a network have the same.

    Dots are removed, as some averagers remove them. A single layer keeps its last two components.
    """
    if len(layers) == 1:
        ((key, shape),) = layers.items()
        return frozenset({("".join(key.split(".")[-2:]), shape)})
    bare = {key.replace(".", ""): shape for key, shape in layers.items()}
    low, high = min(bare), max(bare)  # all names share what these two share
    start = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return frozenset((key[start:], shape) for key, shape in bare.items())


def _twin_root(layers: Mapping[str, tuple[int, ...]], signature: frozenset[tuple[str, tuple[int, ...]]]) -> Root | None:
    """Return the shortest path, before any numbered component, that contains exactly these layers, else None."""
    candidates: dict[Root, None] = {(): None}
    for key in layers:
        parts = key.split(".")[:-1]
        for i, part in enumerate(parts):
            if re.search(r"\d$", part):
                break
            candidates[tuple(parts[: i + 1])] = None
    for root in sorted(candidates, key=len):
        under = {key: shape for key, shape in layers.items() if _is_under(key, root)}
        if len(under) == len(signature) and _signature(under) == signature:
            return root
    return None
