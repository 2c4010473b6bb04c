"""Averaged weights that are a list without names, as torch_ema and diffusers' EMAModel store them (`shadow_params`).

The list has the parameters of a module in order, without buffers. If a state dict beside it has parameters of the same
shapes in the same order, they give the names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mkfa.array_types import F32
from mkfa.readers.reading import TensorInfo
from mkfa.readers.tensors.roles import is_depthwise_shape, is_optimiser
from mkfa.readers.tensors.view import Made
from mkfa.words import counted

LIST = "shadow_params"
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "n_averaged", "position_ids", "attn_mask")
_LISTS = frozenset([LIST, "collected_params", "temp_stored_params"])


def named_shadows(
    infos: Mapping[str, TensorInfo], metadata: Mapping[str, str]
) -> tuple[dict[str, TensorInfo], dict[str, Made], tuple[str, ...]]:
    """Return the tensors with names for those of lists, how to read these, and a note on each list."""
    lists: dict[str, list[str]] = {}
    for key in infos:
        head, _, number = key.rpartition(".")
        if head.rpartition(".")[2] == LIST and number.isdigit():
            lists.setdefault(head, []).append(key)
    out, made, notes = dict(infos), dict[str, Made](), []
    for head, keys in lists.items():
        shapes = [infos[key].shape for key in keys]
        if not any(map(is_depthwise_shape, shapes)):
            continue
        root, names = _parameters(infos, shapes)
        listed = f"the {counted(len(keys), 'tensor')} of the list '{head}', averaged weights without names,"
        if not names:
            notes.append(f"{listed} fit no state dict beside them in number and shapes; they were left out")
            continue
        place = f"the state dict '{root}'" if root else "the state dict"
        notes.append(f"{listed} were named after the parameters of {place}, which have these shapes in this order")
        for key, name in zip(keys, names, strict=True):
            new = f"{head}.{name}"
            out[new] = replace(out.pop(key), key=new)
            made[new] = Made((key,), _same)
    return out, made, tuple(notes)


def _parameters(infos: Mapping[str, TensorInfo], shapes: Sequence[tuple[int, ...]]) -> tuple[str, list[str]]:
    """Return the path of a state dict with parameters of these shapes, and their names in it, [] if there is none."""
    under: dict[str, list[str]] = {}
    for key in infos:
        parts = key.split(".")
        if _LISTS & set(parts) or is_optimiser(key) or parts[-1] in _BUFFERS:
            continue
        for depth in range(min(len(parts), 4)):
            under.setdefault(".".join(parts[:depth]), []).append(key)
    for root in sorted(under, key=lambda root: root.count(".") + bool(root)):
        if [infos[key].shape for key in under[root]] == list(shapes):
            deeper = [other for other in under if len(under[other]) == len(shapes) and other.startswith(root)]
            inner = max(deeper, key=len)
            return inner, [key[len(inner) + bool(inner) :] for key in under[root]]
    return "", []


def _same(values: Sequence[F32]) -> F32:
    return values[0]
